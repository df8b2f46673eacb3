"""Groups of the tree for variables whose values are drawn given an analysis, `FCS(data, analysis=...)`.

Densities are SciPy's, in the units of the data, in rows whose predictors are observed. |z| < 4.5 for at most ten numbers.
"""

import arviz as az
import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy import stats
from scipy.special import expit

import bayesimp as bi
from bayesimp import priors as pr
from tests.fcs.test_pointwise import Z_MAX, draw, frame

PRIORS = pr.Priors(beta=pr.Normal(1.0, 20.0))


@pytest.fixture(scope="module", params=["normal", "bernoulli", "ordinal"])
def imp(request):
    family = request.param
    data = bi.IncompleteData(frame(family, x_too=True), "g", {"y": family})
    options = {} if family == "ordinal" else {"methods": bi.methods.Bayes(PRIORS)}
    model = bi.FCS(data, analysis="y ~ x * w + (1 + x | g)", predictors={"x": "x ~ w + (1 | g)"}, **options)
    return family, model.impute(m=2, cycles=34, tune=4, seed=1, progress=False)


def parts(one, table, effects=True):
    """Linear predictors of x and of y, (N,)."""
    x, w = table["x"], table["w"]
    assert list(one["effect_y"].values) == ["Intercept", "x"]
    B = {name: one[f"B_{name}"].sel(cluster=list(table["g"])).values * effects for name in "xy"}
    of_x = np.column_stack([np.ones(len(w)), w]) @ one["beta_x"].values + B["x"][:, 0]
    names = list(one[one["beta_y"].dims[0]].values)
    X = np.column_stack([{"Intercept": np.ones(len(w)), "x": x, "w": w}.get(name, x * w) for name in names])
    assert len(names) == 4
    return of_x, X @ one["beta_y"].values + B["y"][:, 0] + B["y"][:, 1] * x.to_numpy()


def log_p(family, y, eta, one):
    if family == "normal":
        return stats.norm.logpdf(y, eta, np.sqrt(float(one["sigma2_y"])))
    if family == "bernoulli":
        return stats.bernoulli.logpmf(y, expit(eta))
    cuts = np.concatenate([[-np.inf, 0.0], np.atleast_1d(one["cutpoints_y"].values)[-2:], [np.inf]])
    return np.log(expit(cuts[y + 1] - eta) - expit(cuts[y] - eta))


def test_densities_and_replicates_are_those_of_their_own_models(imp):
    """Effects left out, or of the other chain, are far away."""
    family, run = imp
    what = "log_likelihood", "cluster_effects", "posterior_predictive"
    tree, table = run.tree_with(*what, seed=3), frame(family, x_too=True)
    seen = {name: table[name].notna().to_numpy() for name in "xy"}
    known = seen["x"] & seen["y"]
    y = table["y"].cat.codes.to_numpy() if family == "ordinal" else table["y"].to_numpy()
    group, replicated = tree["log_likelihood"], tree["posterior_predictive"]
    z = {"x": [], "y": []}
    for c, d in np.ndindex(2, 8):
        one, other = draw(tree, c, d), draw(tree, 1 - c, d)
        of_x, of_y = parts(one, table)
        sd = np.sqrt(float(one["sigma2_x"]))
        found = group["x"].values[c, d]
        np.testing.assert_allclose(found, stats.norm.logpdf(table["x"], of_x, sd)[seen["x"]], atol=1e-8)
        ours = group["y"].isel(chain=c, draw=d).sel(row_y=np.flatnonzero(known)).values
        np.testing.assert_allclose(ours, log_p(family, y[known], of_y[known], one), atol=1e-8)
        for wrong in (parts(one, table, effects=False)[1], parts(other, table)[1]):
            assert np.abs(log_p(family, y[known], wrong[known], one) - ours).max() > 0.02
        z["x"] += list((replicated["x"].values[c, d] - of_x[seen["x"]]) / sd)
        made = replicated["y"].isel(chain=c, draw=d).sel(row_y=np.flatnonzero(known)).values
        if family == "normal":
            z["y"] += list((made - of_y[known]) / np.sqrt(float(one["sigma2_y"])))
        else:
            p = expit(of_y[known]) if family == "bernoulli" else 1 - expit(-of_y[known])
            z["y"].append(((made > 0) - p).sum() / np.sqrt((p * (1 - p)).sum()))
    for name, values in z.items():
        assert abs(np.mean(values)) < Z_MAX / np.sqrt(len(values)), name
        assert abs(np.var(values) - 1) < Z_MAX * np.sqrt(2 / len(values)), name


def test_priors_and_arviz(imp, tmp_path):
    family, run = imp
    tree = run.tree_with("log_likelihood", "log_prior", "posterior_predictive", new_clusters=True)
    prior, post = tree["log_prior"].to_dataset(), tree["posterior"].to_dataset()
    assert {"beta_x", "beta_y", "Psi_x", "Psi_y", "sigma2_x"} <= set(prior.data_vars)
    assert ("sigma2_y" in prior) == (family == "normal") and ("cutpoints_y" in prior) == (family == "ordinal")
    if family != "ordinal":
        for name in ("beta_x", "beta_y"):
            np.testing.assert_allclose(
                prior[name], stats.norm.logpdf(post[name], 1.0, 20.0).sum(axis=2), rtol=1e-6
            )
    for name in "xy":
        assert np.isfinite(az.loo(tree, var_name=name).elpd)
        own = [f"Psi_{name}"]  # the default prior of beta is flat, for which ArviZ has no sensitivity
        told = az.psense_summary(tree, var_names=own, prior_var_names=own, likelihood_var_names=[name])
        assert np.isfinite(told[["prior", "likelihood"]].astype(float)).all().all()
    az.plot_ppc_dist(tree, var_names=["x"], num_samples=10).savefig(tmp_path / "ppc.png")
    plt.close("all")
