"""Log likelihood, log prior, replicates and effects of JointNormal at posterior draws, and ArviZ's checks of them.

Against dense normals (tests/longhand/joint_normal_rows.py), the PyMC model, and the moments that theory gives. Monte
Carlo comparisons: |z| < 4.5, that is 7e-6 two-sided for each of at most 40 numbers a test.
"""

import warnings

import arviz as az
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pymc as pm
import pytest
from numpy.testing import assert_allclose
from scipy import stats

import bayesimp as bi
from bayesimp import priors as pr
from bayesimp.errors import SpecificationError
from tests.longhand import joint_normal_rows as longhand

FORMULA = "y + z ~ x + (1 + x | g)"
NAMES = ["y", "z"]
Z_MAX = 4.5


def frame(clusters=8, n=12, seed=0):
    """Unsorted rows, a cluster without y, one with nothing observed, and rows with nothing observed."""
    rng = np.random.default_rng(seed)
    g = rng.permutation(np.repeat(np.arange(clusters), n))
    x = rng.normal(5.0, 2.0, len(g))
    b = rng.normal(size=(clusters, 2))
    y = 100 + x + 3 * b[g, 0] + 2 * rng.normal(size=len(g))
    z = 0.1 * (y - 100) + b[g, 1] + rng.normal(size=len(g))
    table = pd.DataFrame({"g": [f"s{9 - k}" for k in g], "x": x, "y": y, "z": z})
    table.loc[rng.random(len(g)) < 0.25, "y"] = np.nan
    table.loc[rng.random(len(g)) < 0.25, "z"] = np.nan
    table.loc[table.g == "s6", "y"] = np.nan
    table.loc[table.g == "s7", NAMES] = np.nan
    return table


def model(priors=None, table=None):
    return bi.JointNormal(bi.IncompleteData(frame() if table is None else table, "g"), FORMULA, priors)


def imputed(priors=None, draws=20, **options):
    return model(priors).impute(m=2, seed=1, chains=2, draws=draws, tune=50, progress=False, **options)


@pytest.fixture(scope="module")
def imp():
    return imputed(pr.Priors(pr.HuangWand(nu=3.0), pr.HuangWand(), pr.Normal(1.0, 50.0)))


def parameters(tree, c, d):
    one = tree["posterior"].to_dataset().isel(chain=c, draw=d)
    return tuple(one[name].values for name in ("beta", "Sigma", "Psi"))


def arrays(m):
    Y = np.column_stack([m.data.numeric(name) for name in NAMES])
    return m.design.X, m.design.Z, Y, m.data.codes


def test_by_cluster_is_the_dense_normal(imp):
    tree = imp.tree_with("log_likelihood", thin=7)
    value = tree["log_likelihood"]["y_obs"]
    assert "s7" not in value.cluster.values and len(value.cluster) == 7
    labels = [str(label) for label in imp.data.clusters]
    for c, d in [(0, 0), (1, 1)]:
        expected = dict(
            zip(labels, longhand.log_likelihood(*arrays(imp.model), *parameters(tree, c, d)), strict=True)
        )
        one = value.isel(chain=c, draw=d)
        assert_allclose(one, [expected[label] for label in one.cluster.values], rtol=1e-9)


def test_by_row_is_the_dense_normal_given_effects(imp):
    tree = imp.tree_with("log_likelihood", "cluster_effects", by="row", thin=10, seed=3)
    X, Z, Y, codes = arrays(imp.model)
    value = tree["log_likelihood"]["y_obs"]
    assert list(value.row.values) == list(np.flatnonzero(~np.isnan(Y).all(axis=1)))
    assert list(value.cluster_of_row.values) == list(imp.data.frame["g"].iloc[value.row.values])
    beta, Sigma, _ = parameters(tree, 1, 1)
    B = tree["posterior"]["B"].isel(chain=1, draw=1)
    assert list(B.cluster.values) == [str(label) for label in imp.data.clusters]
    for j, one in zip(value.row.values, value.isel(chain=1, draw=1).values, strict=True):
        seen = ~np.isnan(Y[j])
        b = B.values[codes[j]].reshape(2, 2)  # response, column of Z
        mean = X[j] @ beta + b @ Z[j]
        law = stats.multivariate_normal(mean[seen], Sigma[np.ix_(seen, seen)])
        assert_allclose(one, law.logpdf(Y[j][seen]), rtol=1e-9)


PRIORS = {
    "huang-wand": pr.Priors(pr.HuangWand(nu=3.0), pr.HuangWand(), pr.Normal(1.0, 50.0)),
    "inverse-wishart": pr.Priors(pr.InverseWishart(5.0, 0.3), pr.InverseWishart(6.0, 0.5, centred=False)),
    "diagonal": pr.Priors(pr.Diagonal(pr.HalfT(nu=4.0)), pr.Diagonal(pr.InverseWishart(3.0, 0.2))),
    "lkj": pr.Priors(pr.LKJ(2.0), pr.LKJ(1.5, pr.Exponential()), pr.Normal(0.0, 9.0)),
}


@pytest.mark.parametrize("name", PRIORS)
def test_log_prior_is_that_of_standard_deviations_and_correlations(name):
    """Longhand densities of matrices, with the Jacobian of (s, R) -> S; and p(y) p(theta) is the PyMC model's density."""
    tree = imputed(PRIORS[name], draws=6).tree_with("log_prior", "log_likelihood", thin=3)
    own = model(PRIORS[name])
    given, C = own.grouping.only.resolved, own.grouping.only.working.scale
    for c, d in [(0, 0), (1, 1)]:
        beta, Sigma, Psi = parameters(tree, c, d)
        inner = getattr(given.Psi, "prior", given.Psi)
        Psi_c = C.at_centre(Psi) if inner is not given.Psi else Psi
        expected = {"beta": 0.0, "Sigma": of_sds(Sigma, given.Sigma), "Psi": of_sds(Psi_c, inner)}
        if isinstance(given.beta, pr.Normal):
            expected["beta"] = stats.norm(given.beta.mean, given.beta.sd).logpdf(beta).sum()
        for part, value in expected.items():
            assert_allclose(tree["log_prior"][part].values[c, d], value, rtol=1e-7, atol=1e-9, err_msg=part)


def of_sds(S, prior):
    """log p(s, R): `longhand.log_prior` is of S, or of standard deviations, or of variances."""
    s = np.sqrt(np.diag(S))
    match prior:
        case pr.Diagonal(pr.InverseWishart()):
            jacobian = np.log(2 * s).sum()
        case pr.Diagonal():
            jacobian = 0.0
        case _:
            jacobian = len(s) * (np.log(2) + np.log(s).sum())
    return longhand.log_prior(S, prior) + jacobian


@pytest.mark.parametrize("name", ["huang-wand", "lkj"])
def test_prior_and_likelihood_are_those_of_the_pymc_model(name):
    tree = imputed(PRIORS[name], draws=4).tree_with("log_prior", "log_likelihood", "standard_deviations")
    pymc_model = model(PRIORS[name]).pymc_model()
    posterior = tree["posterior"].to_dataset()
    C = model(PRIORS[name]).grouping.only.working.scale
    posterior["Psi_centred"] = (posterior["Psi"].dims, C.at_centre(posterior["Psi"].values))
    names = [v.name for v in pymc_model.free_RVs]
    draws = az.from_dict({"posterior": {n: posterior[n].values for n in names}})
    theirs = pm.stats.compute_log_prior(
        draws, model=pymc_model, var_names=names, progressbar=False, extend_inferencedata=False
    )
    for ours, free in zip(["beta", "Sigma", "Psi"], names, strict=True):
        their = theirs[free].values.reshape(2, 4, -1).sum(axis=-1)
        if ours != "beta":
            S = posterior[free].values
            s = np.sqrt(np.diagonal(S, axis1=2, axis2=3))
            their = their + s.shape[-1] * (np.log(2) + np.log(s).sum(axis=-1))
        assert_allclose(tree["log_prior"][ours], their, rtol=1e-8, atol=1e-8, err_msg=ours)
    inputs = [v for v in pymc_model.free_RVs]
    potential = pm.pytensorf.compile(
        inputs, pymc_model.potentials[0], mode="FAST_COMPILE", on_unused_input="ignore"
    )
    for c, d in [(0, 0), (1, 3)]:
        value = potential(*(posterior[n].values[c, d] for n in names))
        assert_allclose(tree["log_likelihood"]["y_obs"].values[c, d].sum(), value, rtol=1e-9)


def whitened(B, beta, Sigma, Psi, m):
    """(clusters, rq) independent standard normals if B_i ~ p(B_i | beta, Sigma, Psi, y_obs): dense, by cluster."""
    X, Z, Y, codes = arrays(m)
    out = np.empty_like(B)
    for i in range(len(B)):
        own = codes == i
        y = (Y[own] - X[own] @ beta).ravel(order="F")
        seen = ~np.isnan(y)
        design = np.kron(np.eye(2), Z[own])[seen]
        S = np.kron(Sigma, np.eye(own.sum()))[np.ix_(seen, seen)]
        gain = Psi @ design.T @ np.linalg.inv(design @ Psi @ design.T + S)
        V = Psi - gain @ design @ Psi
        out[i] = np.linalg.solve(np.linalg.cholesky((V + V.T) / 2), B[i] - gain @ y[seen])
    return out


def test_effects_are_drawn_from_their_conditional():
    imp = imputed(draws=150)
    tree = imp.tree_with("cluster_effects", seed=4)
    B = tree["posterior"]["B"]
    z = np.array([
        whitened(B.values[c, d], *parameters(tree, c, d), imp.model) for c, d in np.ndindex(2, 150)
    ])  # fmt: skip
    check_standard_normal(z)


def check_standard_normal(z):
    """(draws, ..., k) independent: means and second moments."""
    z = z.reshape(len(z), -1, z.shape[-1])
    n, k = z.shape[0] * z.shape[1], z.shape[-1]
    flat = z.reshape(n, k)
    assert np.abs(flat.mean(axis=0) * np.sqrt(n)).max() < Z_MAX
    error = np.where(np.eye(k, dtype=bool), np.sqrt(2), 1.0) / np.sqrt(n)
    assert np.abs((flat.T @ flat / n - np.eye(k)) / error).max() < Z_MAX
    by_cluster = z.mean(axis=0) * np.sqrt(len(z))
    assert np.abs(by_cluster).max() < Z_MAX


def test_replicates_in_the_same_clusters():
    imp = imputed(draws=150)
    tree = imp.tree_with("posterior_predictive", "cluster_effects", seed=4)
    X, Z, Y, codes = arrays(imp.model)
    both = np.flatnonzero(~np.isnan(Y).any(axis=1))
    replicated = tree["posterior_predictive"].to_dataset()
    y = np.stack([replicated[k].sel({f"row_{k}": both}).values for k in NAMES], axis=-1)
    residuals = np.empty((300, len(both), 2))
    for t, (c, d) in enumerate(np.ndindex(2, 150)):
        beta, Sigma, _ = parameters(tree, c, d)
        b = tree["posterior"]["B"].values[c, d].reshape(-1, 2, 2)[codes]
        mean = X @ beta + np.einsum("nkl,nl->nk", b, Z)
        residuals[t] = np.linalg.solve(np.linalg.cholesky(Sigma), (y[c, d] - mean[both]).T).T
    check_standard_normal(residuals)
    observed = tree["observed_data"].to_dataset()
    for name in NAMES:
        rows = np.flatnonzero(~imp.data.missing(name))
        assert list(observed[f"row_{name}"].values) == list(rows) == list(replicated[f"row_{name}"].values)
        assert_allclose(observed[name], imp.data.numeric(name)[rows])
        assert list(observed[f"cluster_{name}"].values) == list(imp.data.frame["g"].iloc[rows])


def test_replicates_in_new_clusters():
    """Within a cluster y_rep ~ N(vec(X beta), kron(Sigma, I) + (I kron Z) Psi (I kron Z)')."""
    imp = imputed(draws=300)
    tree = imp.tree_with("posterior_predictive", new_clusters=True, seed=4)
    X, Z, Y, codes = arrays(imp.model)
    out = []
    for c, d in np.ndindex(2, 300):
        beta, Sigma, Psi = parameters(tree, c, d)
        for i in (0, 1):
            own = np.flatnonzero(~np.isnan(Y).any(axis=1) & (codes == i))[:2]
            if len(own) < 2:
                continue
            y = np.concatenate([
                tree["posterior_predictive"][k].isel(chain=c, draw=d).sel({f"row_{k}": own}).values for k in NAMES
            ])  # fmt: skip
            blocks = np.kron(np.eye(2), Z[own])
            S = np.kron(Sigma, np.eye(2)) + blocks @ Psi @ blocks.T
            out.append(np.linalg.solve(np.linalg.cholesky(S), y - (X[own] @ beta).ravel(order="F")))
    check_standard_normal(np.array(out)[:, None])


def test_thinned_draws_are_those_of_all(imp):
    everything = ["log_likelihood", "log_prior", "posterior_predictive", "cluster_effects", "correlations"]
    whole, part = imp.tree_with(*everything), imp.tree_with(*everything, thin=4)
    assert list(part["posterior"]["draw"].values) == [3, 7, 11, 15, 19]
    for group in ("posterior", "log_likelihood", "log_prior", "posterior_predictive"):
        for name, values in part[group].data_vars.items():
            assert_allclose(values.values, whole[group][name].values[:, 3::4], err_msg=f"{group} {name}")
    assert "log_likelihood" not in imp.tree.children  # not computed on the default path
    assert imp.tree["posterior"].sizes["draw"] == 20


def test_standard_deviations_and_correlations(imp):
    tree = imp.tree_with("standard_deviations", "correlations")
    p = tree["posterior"].to_dataset()
    Psi = p["Psi"].values
    assert_allclose(p["Psi_sd"].sel(effect="z:x"), np.sqrt(Psi[..., 3, 3]))
    pair = p["Psi_correlation"].sel(effect_pair="y:x, z:Intercept")
    assert_allclose(pair, Psi[..., 1, 2] / np.sqrt(Psi[..., 1, 1] * Psi[..., 2, 2]))
    assert p["Sigma_correlation"].shape == (2, 20, 1)
    assert np.isfinite(az.summary(p, var_names=["Psi_correlation"])["mean"].astype(float)).all()


def test_saved_and_loaded(imp, tmp_path):
    imp.save(tmp_path / "a.nc")
    what = ["log_likelihood", "log_prior", "posterior_predictive"]
    ours, theirs = imp.tree_with(*what), bi.load(tmp_path / "a.nc").tree_with(*what)
    for group in what:
        for name, values in ours[group].data_vars.items():
            assert_allclose(theirs[group][name].values, values.values)


def test_refused(imp):
    with pytest.raises(SpecificationError, match="'likelihood' is not one of log_likelihood"):
        imp.tree_with("likelihood")
    with pytest.raises(SpecificationError, match="name what"):
        imp.tree_with()
    with pytest.raises(SpecificationError, match="thin = 21, but a chain has 20 draws"):
        imp.tree_with("log_prior", thin=21)
    with pytest.raises(SpecificationError, match="thin must be a whole number of at least 1, got 0"):
        imp.tree_with("log_prior", thin=0)
    with pytest.raises(SpecificationError, match="by must be 'cluster' or 'row'"):
        imp.tree_with("log_likelihood", by="cell")
    improper = imputed(pr.jomo())
    with pytest.raises(SpecificationError, match=r"prior on \w+ is improper .*needs .*proper prior"):
        improper.tree_with("log_prior")


def test_too_many_replicates_are_refused_first(imp, monkeypatch):
    monkeypatch.setattr("bayesimp.imputation.further.MOST_NUMBERS", 1000)
    cells = sum(int((~imp.data.missing(name)).sum()) for name in NAMES)
    thin = -(-cells * 40 // 1000)
    with pytest.raises(
        SpecificationError, match=f"40 draws of {cells} observed cells .* thin={thin} or more"
    ):
        imp.tree_with("posterior_predictive")
    with pytest.raises(
        SpecificationError, match=f"log_likelihood: 40 draws of {cells} .* thin={thin} or more\\.$"
    ):
        imp.tree_with("log_likelihood", by="row")
    assert "y_obs" in imp.tree_with("log_likelihood")["log_likelihood"]


@pytest.mark.filterwarnings("ignore:Estimated shape parameter")
def test_arviz_reads_them(tmp_path):
    imp = imputed(draws=300)
    tree = imp.tree_with("log_likelihood", "log_prior", "posterior_predictive")
    total = az.loo(tree)
    assert total.n_data_points == 7 and np.isfinite(total.elpd)
    assert az.loo(imp.tree_with("log_likelihood", by="row")).n_data_points > 60
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        az.plot_ppc_dist(tree, num_samples=20).savefig(tmp_path / "ppc.png")
    plt.close("all")


def test_a_prior_that_moves_the_answer_is_flagged_and_another_is_not():
    """The slope of y, 1 in the data, under N(0, 0.1^2) and under N(0, 100^2), of y alone."""
    table = frame(clusters=12, n=10, seed=2)
    said = {}
    for sd in (0.1, 100.0):
        sds = np.array([[1000.0, 1000.0], [sd, 1000.0]])
        own = model(pr.Priors(pr.HuangWand(), pr.HuangWand(), pr.Normal(0.0, sds)), table)
        tree = own.impute(m=2, seed=1, chains=2, draws=1500, progress=False).tree_with(
            "log_likelihood", "log_prior"
        )
        said[sd] = az.psense_summary(tree, var_names=["beta"]).loc["beta[x, y]"]
    assert said[0.1]["diagnosis"] == "potential prior-data conflict", said
    assert said[100.0]["diagnosis"] == "✓" and said[100.0]["prior"] < 0.03, said


def test_default_priors_are_flagged_as_densities_of_matrices_and_not_of_standard_deviations():
    """Which density is power-scaled matters; the default prior is flat in standard deviations and correlations."""
    own = model(table=frame(clusters=20, n=15))
    imp = own.impute(m=2, seed=1, chains=4, draws=500, progress=False)
    tree = imp.tree_with("log_likelihood", "log_prior", "standard_deviations")
    right = az.psense_summary(tree, var_names=["Psi_sd"])
    assert right["prior"].max() < 0.05 and (right["diagnosis"] == "✓").all()
    Psi_c = own.grouping.only.working.scale.at_centre(tree["posterior"]["Psi"].values)
    s = np.sqrt(np.diagonal(Psi_c, axis1=2, axis2=3))
    of_matrix = tree["log_prior"]["Psi"].values - 4 * (np.log(2) + np.log(s).sum(axis=-1))
    tree["log_prior"] = tree["log_prior"].to_dataset().assign(Psi=(("chain", "draw"), of_matrix))
    wrong = az.psense_summary(tree, var_names=["Psi_sd"])
    assert wrong["prior"].min() > 0.08 and wrong["prior"].max() > 0.8
