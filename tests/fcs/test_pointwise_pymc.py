"""Groups of the tree for variables with PyMC models: the library's under any prior, and the user's own.

The library's are those of method "bayes" at the same parameters, which tests/fcs/test_pointwise.py compares with SciPy.
"""

import arviz as az
import matplotlib.pyplot as plt
import numpy as np
import pymc as pm
import pytest
from scipy import stats
from scipy.special import expit

import bayesimp as bi
from bayesimp import methods
from bayesimp import priors as pr
from bayesimp.errors import StatisticalWarning
from bayesimp.families.registry import family_of
from bayesimp.fcs.blocks.base import Chain, Parameters
from bayesimp.fcs.loop import Cycles
from bayesimp.fcs.pointwise import Visited, _effects, _log_likelihood
from bayesimp.models.conditional_glmm import conditional_glmm
from tests.fcs.test_pointwise import FAMILIES, FORMULA, Z_MAX, draw, frame

OWN = pr.Priors(pr.HuangWand(), pr.Diagonal(pr.HalfT(nu=3.0, scale=1.5)), pr.Weak())


def block_of(method, family, monkeypatch):
    """The block of y, and a chain at its start; nothing is sampled or compiled."""
    monkeypatch.setattr("bayesimp.fcs.blocks.pymc.UserConditional", lambda *_, **__: None)
    monkeypatch.setattr("bayesimp.fcs.model.adapt_all", lambda *_: None)
    data = bi.IncompleteData(frame(family), "g", {"y": family})
    task = Cycles(bi.FCS(data, methods={"y": method}, predictors={"y": FORMULA}), 1)
    block = task.parts[1][0]
    return block, Chain(np.random.default_rng(0), np.nan_to_num(block.table.start), [])


@pytest.mark.parametrize("family", [f for f in FAMILIES if f != "normal"])
def test_the_models_of_the_library_have_the_densities_of_bayes(family, monkeypatch):
    """Densities, effects and priors at one point; at the parameters of another point they differ."""
    bayes, chain = block_of(methods.Bayes(OWN), family, monkeypatch)
    own, _ = block_of(methods.PyMC(OWN), family, monkeypatch)
    _, data, priors = own._declared
    model = conditional_glmm(data, priors)
    values = [model.rvs_to_values[v] for v in model.free_RVs]
    kept = ["beta", "Psi", *(a.sampled for a in family_of(family).auxiliaries)]
    natural = model.compile_fn(
        model.replace_rvs_by_values([model[name] for name in kept]),
        inputs=values,
        point_fn=False,
        mode="FAST_COMPILE",
        on_unused_input="ignore",
    )

    def states(seed):
        rng = np.random.default_rng(seed)
        point = [0.3 * rng.normal(size=np.shape(x)) for x in model.initial_point(0).values()]
        beta, Psi, *sampled = natural(*point)
        theta = Parameters(beta, Psi=Psi, own={"hmc": np.concatenate([np.ravel(x) for x in point])})
        auxiliaries = family_of(family).auxiliaries
        aux = [
            np.ravel((a.to_kernel or a.from_sampled)(x)) for a, x in zip(auxiliaries, sampled, strict=True)
        ]
        theta_bayes = Parameters(
            beta, Psi=Psi, B=own.effects(theta).copy(), own={"aux": np.concatenate([[], *aux])}
        )
        return theta, theta_bayes

    (ours, theirs), (_, other) = states(1), states(2)
    found = _log_likelihood(own, Visited(0, chain, ours, (0, 0), 0), None)[""]
    np.testing.assert_allclose(
        found, _log_likelihood(bayes, Visited(0, chain, theirs, (0, 0), 0), None)[""], atol=1e-8
    )
    assert np.abs(found - _log_likelihood(bayes, Visited(0, chain, other, (0, 0), 0), None)[""]).max() > 0.1
    assert own.log_prior(ours) == pytest.approx(bayes.log_prior(theirs))
    assert abs(own.log_prior(ours)["Psi"] - bayes.log_prior(other)["Psi"]) > 1e-3
    made, names = (
        _effects(own, Visited(0, chain, ours, (0, 0), 0), None)["B"],
        list(bayes.chained.block.random),
    )
    assert made.shape == (8, len(ours.Psi)) and len(names) == 2
    assert not own.no_likelihood and not own.no_effects
    # effects are u L' and those of new clusters have new u, with everything else as it was
    L = np.linalg.cholesky(ours.Psi)
    u = ours.own["hmc"][own.terms.place("u")].reshape(8, -1)
    np.testing.assert_allclose(own.effects(ours).transpose(0, 2, 1).reshape(8, -1), u @ L.T)
    new = own.new_effects(np.random.default_rng(0), ours)
    changed = np.flatnonzero(new.own["hmc"] != ours.own["hmc"])
    place = own.terms.place("u")
    assert list(changed) == list(range(place.start, place.stop))


def student_t(data, priors):
    """A user's own model of a normal variable."""
    with pm.Model() as model:
        beta = pm.Normal("beta", 0, 2, shape=len(data.fixed))
        sd, scale = pm.HalfNormal("sd", 1), pm.HalfNormal("scale", 1)
        b = pm.Normal("b", 0, 1, shape=data.clusters)
        mean = data.X @ beta + sd * b[data.cluster]
        pm.StudentT(data.name, nu=5, mu=mean, sigma=scale, observed=data.y)
    return model


def with_potential(data, priors):
    model = student_t(data, priors)
    with model:
        pm.Potential("more", -model["scale"])
    return model


def test_the_user_s_own_model_in_the_units_of_the_data(monkeypatch):
    """Against SciPy. The table's values are a line in those that the model sees; its slope is the unit."""
    block, chain = block_of(methods.PyMC(model=student_t), "normal", monkeypatch)
    rows = block.rows(chain)[0]
    beta, b = np.array([0.2, -0.4, 0.3]), np.linspace(-1, 1, 8)
    theta = Parameters(own={"hmc": np.concatenate([beta, [np.log(0.7), np.log(1.3)], b])})
    found = _log_likelihood(block, Visited(0, chain, theta, (0, 0), 0), None)[""]
    of_table = frame()["y"].to_numpy()[block.fitted_rows.places()[: len(rows.y)]]
    slope, intercept = np.polyfit(rows.y, of_table, 1)
    np.testing.assert_allclose(slope * rows.y + intercept, of_table)
    assert slope > 3.0
    mean = rows.X @ beta + 0.7 * b[rows.cluster]
    np.testing.assert_allclose(found, stats.t.logpdf(rows.y, 5, mean, 1.3) - np.log(slope))
    assert block.log_prior(theta) == pytest.approx({
        "beta": stats.norm.logpdf(beta, 0, 2).sum(), "sd": stats.halfnorm.logpdf(0.7),
        "scale": stats.halfnorm.logpdf(1.3), "b": stats.norm.logpdf(b).sum(),
    })  # without the Jacobians of log sd and log scale  # fmt: skip
    assert not block.no_likelihood and "your own model" in block.no_effects
    other, _ = block_of(methods.PyMC(model=with_potential), "normal", monkeypatch)
    assert "other terms besides the density of 'y' ('more')" in other.no_likelihood


def test_arviz_reads_them_and_replicates_follow_them(tmp_path):
    """x by the user's own model, y by the library's under any prior; from a file, too."""
    table = frame("bernoulli", x_too=True)
    data = bi.IncompleteData(table, "g", {"y": "bernoulli"})
    model = bi.FCS(
        data, methods={"x": methods.PyMC(model=student_t), "y": methods.PyMC(OWN)},
        predictors={"x": "x ~ w + (1 | g)", "y": "y ~ w + (1 | g)"},
    )  # fmt: skip
    imp = model.impute(m=4, cycles=60, tune=20, seed=1, progress=False)
    tree = imp.tree_with("log_likelihood", "log_prior", "posterior_predictive", seed=2)
    for name, own in (("x", ["beta_x"]), ("y", ["beta_y", "Psi_y"])):
        made = az.loo(tree, var_name=name)
        assert made.n_data_points == int(table[name].notna().sum()) and np.isfinite(made.elpd)
        told = az.psense_summary(tree, var_names=own, prior_var_names=own, likelihood_var_names=[name])
        assert np.isfinite(told[["prior", "likelihood"]].astype(float)).all().all()
    az.plot_ppc_dist(tree, var_names=["x", "y"], num_samples=10).savefig(tmp_path / "ppc.png")
    plt.close("all")
    with pytest.warns(StatisticalWarning, match="left out 'x': .*effects are variables of your own model"):
        effects = imp.tree_with("cluster_effects", thin=4)
    # y: replicates have the probabilities of their draw; x: its own mean and spread in the units of the data
    seen, z = table["y"].notna().to_numpy(), []
    X = np.column_stack([np.ones(seen.sum()), table["w"][seen]])
    replicated = tree["posterior_predictive"]["y"].values[:, 3::4]
    for c, d in np.ndindex(4, 10):
        one = draw(effects, c, d)
        B = one["B_y"].sel(cluster=list(table["g"][seen])).values[:, 0]
        p = expit(X @ np.ravel(one["beta_y"].values) + B)
        z += list((replicated[c, d] - p) / np.sqrt(p * (1 - p)))
    assert abs(np.mean(z)) < Z_MAX * np.std(z) / np.sqrt(len(z))
    x = tree["posterior_predictive"]["x"].values
    assert abs(np.median(x) - table["x"].median()) < 0.3 and 0.7 < x.std() / table["x"].std() < 1.6
    with pytest.warns(StatisticalWarning, match="left out 'x': .*which variables are the effects"):
        new = imp.tree_with("posterior_predictive", new_clusters=True)
    assert set(new["posterior_predictive"].data_vars) == {"y"}
