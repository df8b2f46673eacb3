"""Log likelihood, log prior and replicates of JointGLMM at posterior draws, against SciPy's distributions row by row.

Tables, formulas and laws are those of tests/models/test_joint_glmm.py, where the PyMC model is compared with the same
longhand densities. Monte Carlo comparisons: |z| < 4.5, that is 7e-6 two-sided for each of at most 30 numbers a test.
"""

from functools import cache

import arviz as az
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from scipy import stats
from scipy.special import expit

import bayesimp as bi
from bayesimp import priors as pr
from bayesimp.errors import SpecificationError
from tests.longhand.joint_glmm import log_density
from tests.models.test_joint_glmm import CASES, model_of

Z_MAX = 4.5


@cache
def imputed(name, draws=6, keep=True, **options):
    model, frame, laws = model_of(name, **options)
    return (
        model.impute(m=2, seed=1, chains=2, tune=50, draws=draws, keep_effects=keep, progress=False),
        frame,
        laws,
    )


def of_draw(tree, c, d):
    """Parameters by name, as the longhand model reads them; B in the order of the table's clusters."""
    theta = {str(k): v.values[c, d] for k, v in tree["posterior"].data_vars.items()}
    for name in [k for k in theta if k.startswith("cutpoints")]:
        theta[name] = np.r_[0.0, theta[name]]
    return theta


def by_row(completed, frame, law, first, theta):
    """log p of every row at which the response is observed (of every cluster, for a variable of clusters)."""
    y, out = law.response, {}
    for i, own in completed.groupby("g"):
        columns = {name: own[name].to_numpy(float) for name in own if not name.endswith("_is")}
        n = len(own)
        X = np.column_stack([np.broadcast_to(x, n) for x in law.fixed(columns)])
        Z = (
            np.column_stack([np.broadcast_to(z, n) for z in law.random(columns)])
            if law.random
            else np.zeros((n, 0))
        )
        beta = theta[f"beta_{y}"].reshape(X.shape[1], -1)
        r, q = beta.shape[1], Z.shape[1]
        eta = X @ beta + Z @ theta["B"][int(i)][first : first + r * q].reshape(r, q).T
        extra = {
            "shape": theta.get(f"shape_{y}"),
            "cuts": theta.get(f"cutpoints_{y}"),
            "sigma2": theta.get(f"sigma2_{y}"),
            "sigma": theta.get(f"sigma_{y}"),
            "nu": theta.get(f"nu_{y}"),
            "zi": theta.get(f"zi_{y}"),
            "hu": theta.get(f"hu_{y}"),
            "power": theta.get(f"lambda_{y}"),
        }
        for j, row in enumerate(own.index):
            if np.isnan(frame[y][row]):
                continue
            how = frame[f"{y}_is"][row] if f"{y}_is" in frame else "none"
            if how != "none":  # a limit is given in place of the value
                z = (frame[y][row] - eta[j, 0]) / np.sqrt(extra["sigma2"])
                out[row] = float(np.squeeze(stats.norm.logcdf(z if how == "left" else -z)))
                continue
            trials = columns[law.trials][j] if law.trials else 1
            out.setdefault(
                i if law.at_cluster else row, log_density(law, columns[y][j], eta[j], trials=trials, **extra)
            )
    return out, first + r * q


@pytest.mark.parametrize("name", CASES)
def test_log_likelihood_is_longhand(name):
    imp, frame, laws = imputed(name)
    tree = imp.tree_with("log_likelihood", thin=3)
    # imputation 1 is from the last draw of chain 1: its completed table has the missing cells of that draw
    completed, theta, first = imp.frame(1), of_draw(tree, 1, -1), 0
    assert set(tree["log_likelihood"].data_vars) == {law.response for law in laws}
    for law in laws:
        expected, first = by_row(completed, frame, law, first, theta)
        ours = tree["log_likelihood"][law.response].isel(chain=1, draw=-1)
        labels = [int(label) for label in ours[ours.dims[0]].values]
        assert labels == sorted(expected), law.response
        assert_allclose(
            ours.values, [expected[label] for label in labels], rtol=1e-8, atol=1e-9, err_msg=law.response
        )


@pytest.mark.parametrize("name", CASES)
def test_log_prior_is_longhand(name):
    imp, frame, laws = imputed(name)
    tree = imp.tree_with("log_prior")
    theta = of_draw(tree, 1, 3)
    S = theta["Psi"]
    d = len(S)
    expected = {
        "Psi": stats.invwishart(8.0, np.eye(d) / 0.4).logpdf(S)
        + d * np.log(2)
        + d / 2 * np.log(np.diag(S)).sum()
    }
    for law in laws:
        y = law.response
        expected[f"beta_{y}"] = stats.norm(0, 1.5).logpdf(theta[f"beta_{y}"]).sum()
        if f"sigma2_{y}" in theta:
            v = theta[f"sigma2_{y}"]
            expected[f"sigma2_{y}"] = stats.invwishart(5.0, 1 / 0.3).logpdf(v) + np.log(2 * np.sqrt(v))
        if f"shape_{y}" in theta:
            unit = frame[y].mean() if law.family == "inverse_gaussian" else 1.0
            expected[f"shape_{y}"] = np.log(2) + stats.t(3).logpdf((theta[f"shape_{y}"] / unit) ** -0.5)
        expected |= {f"{p}_{y}": 0.0 for p in ("zi", "hu") if f"{p}_{y}" in theta}
        if law.family == "lognormal":
            expected[f"sigma_{y}"] = np.log(2) + stats.t(3).logpdf(theta[f"sigma_{y}"])
        if law.family == "student":
            sigma = theta[f"sigma_{y}"] / frame[y].std(ddof=0)
            expected[f"sigma_{y}"] = np.log(2) + stats.t(3).logpdf(sigma)
            expected[f"nu_{y}"] = stats.gamma(2, scale=10).logpdf(theta[f"nu_{y}"] - 2)
        if law.family == "yeo_johnson":
            sigma = theta[f"sigma_{y}"] / frame[y].std(ddof=0)
            expected[f"sigma_{y}"] = np.log(2) + stats.t(3).logpdf(sigma)
            expected[f"lambda_{y}"] = stats.beta(2, 2).logpdf(theta[f"lambda_{y}"] / 2)
        if f"cutpoints_{y}" in theta:
            expected[f"cutpoints_{y}"] = stats.expon.logpdf(np.diff(theta[f"cutpoints_{y}"])).sum()
    assert set(tree["log_prior"].data_vars) == set(expected)
    for part, value in expected.items():
        assert_allclose(tree["log_prior"][part].values[1, 3], value, rtol=1e-8, err_msg=part)


def test_a_flat_prior_counts_nothing_and_blocks_have_their_own():
    frame, families, formula, factors, order, _ = CASES["product_and_slope"]()
    data = bi.IncompleteData(frame, cluster="g", families=families)
    model = bi.JointGLMM(data, formula, factors, order, effects="separate")
    tree = model.impute(m=2, seed=1, chains=2, tune=20, draws=4, progress=False).tree_with("log_prior")
    assert {"Psi_x", "Psi_t", "Psi_y"} < set(tree["log_prior"].data_vars)
    assert (tree["log_prior"]["beta_x"] == 0).all() and (tree["log_prior"]["beta_t"] != 0).all()


def check_standard_normal(z):
    """(n, k) independent: means and second moments."""
    n, k = z.shape
    assert np.abs(z.mean(axis=0) * np.sqrt(n)).max() < Z_MAX
    error = np.where(np.eye(k, dtype=bool), np.sqrt(2), 1.0) / np.sqrt(n)
    assert np.abs((z.T @ z / n - np.eye(k)) / error).max() < Z_MAX


def test_replicates_follow_the_factors():
    """x, then t given x, then y given both, in clusters with the effects of the draw."""
    imp, frame, _ = imputed("product_and_slope", 300)
    tree = imp.tree_with("posterior_predictive", seed=2)
    rows = np.flatnonzero(frame[["x", "t", "y"]].notna().all(axis=1))
    g = frame.g.to_numpy()[rows]
    y = {k: tree["posterior_predictive"][k].sel({f"row_{k}": rows}).values for k in ("x", "t", "y")}
    assert list(tree["observed_data"]["t"]["row_t"].values) == list(np.flatnonzero(frame.t.notna()))
    z = []
    for c, d in np.ndindex(2, 300):
        theta = of_draw(tree, c, d)
        b = theta["B"][g]
        x, t = y["x"][c, d], y["t"][c, d]
        p = expit(theta["beta_t"][0] + theta["beta_t"][1] * x + b[:, 1])
        mean = np.column_stack([np.ones(len(x)), x, t, x * t]) @ theta["beta_y"] + b[:, 2] + b[:, 3] * x
        of_x = (x - theta["beta_x"][0] - b[:, 0]) / np.sqrt(theta["sigma2_x"])
        of_y = (y["y"][c, d] - mean) / np.sqrt(theta["sigma2_y"])
        z.append(np.column_stack([of_x, of_y, t - p, np.sqrt(p * (1 - p))]))
    z = np.array(z)
    check_standard_normal(z[..., :2].reshape(-1, 2))
    error = z[..., 2].sum() / np.sqrt((z[..., 3] ** 2).sum())
    assert abs(error) < Z_MAX
    for i in np.unique(g):  # in each cluster too
        own = z[:, g == i]
        for part in (own[..., 0], own[..., 1]):
            assert abs(part.sum() / np.sqrt(part.size)) < Z_MAX


def test_replicates_in_new_clusters_have_the_variance_between_them():
    imp, frame, _ = imputed("product_and_slope", 300)
    tree = imp.tree_with("posterior_predictive", new_clusters=True, seed=2)
    z = []
    for i in range(4):
        rows = np.flatnonzero(frame.x.notna() & (frame.g == i))[:2]
        x = tree["posterior_predictive"]["x"].sel(row_x=rows).values
        for c, d in np.ndindex(2, 300):
            theta = of_draw(tree, c, d)
            S = theta["Psi"][0, 0] + theta["sigma2_x"] * np.eye(2)
            z.append(np.linalg.solve(np.linalg.cholesky(S), x[c, d] - theta["beta_x"][0]))
    check_standard_normal(np.array(z))


@pytest.mark.parametrize("name", [name for name in CASES if name not in ("product_and_slope", "limited")])
def test_replicates_of_every_family_are_possible_values(name):
    imp, frame, laws = imputed(name)
    tree = imp.tree_with("posterior_predictive")
    for law in laws:
        y, seen = tree["posterior_predictive"][law.response], frame[law.response].dropna()
        assert y.shape == (2, 6, len(seen)) and np.isfinite(y).all()
        assert_allclose(tree["observed_data"][law.response], seen)
        whole = bool(law.levels or law.trials) or "poisson" in law.family or "binomial" in law.family
        assert (y.dtype == np.int64) is (tree["observed_data"][law.response].dtype == np.int64) is whole
        if law.levels:
            assert set(np.unique(y)) <= set(range(law.levels))
        if law.trials:
            assert (y.values <= frame[law.trials][seen.index].to_numpy()).all()
        if law.at_cluster:
            of_cluster = pd.DataFrame(y.values.reshape(12, -1).T).groupby(frame.g[seen.index].to_numpy())
            assert (of_cluster.nunique() == 1).all().all()


def test_refused_without_effects_or_cells():
    imp, _, _ = imputed("product_and_slope", keep=False)
    for what in ("log_likelihood", "posterior_predictive", "cluster_effects"):
        with pytest.raises(
            SpecificationError,
            match=f"{what}: .*cluster effects, which the run did not keep.*keep_effects=True",
        ):
            imp.tree_with(what)
    assert "y" in imp.tree_with("posterior_predictive", new_clusters=True)["posterior_predictive"]
    assert "beta_y" in imp.tree_with("log_prior")["log_prior"]


def test_cells_of_some_draws_only(monkeypatch, tmp_path):
    monkeypatch.setattr("bayesimp.joint.strided_run.MOST_CELLS", 10)
    model, _, _ = model_of("product_and_slope")
    options = dict(seed=1, chains=2, tune=50, draws=6, keep_effects=True, progress=False)
    imp = model.impute(m=4, **options)
    with pytest.raises(SpecificationError, match=r"only one in 3 draws, .* Use thin=3"):
        imp.tree_with("log_likelihood")
    monkeypatch.undo()
    whole = model.impute(m=4, **options).tree_with("log_likelihood", "cluster_effects")
    imp.save(tmp_path / "a.nc")
    for some in (imp, bi.load(tmp_path / "a.nc")):
        tree = some.tree_with("log_likelihood", "cluster_effects", thin=3)
        for y in ("x", "t", "y"):
            assert_allclose(tree["log_likelihood"][y].values, whole["log_likelihood"][y].values[:, 2::3])
        assert_allclose(tree["posterior"]["B"].values, whole["posterior"]["B"].values[:, 2::3])


def test_cells_of_some_draws_only_in_a_run_that_is_extended(monkeypatch):
    """10 draws for 3 imputations of each chain, and cells of every third: the continuation keeps those of draw 12."""
    model, _, _ = model_of("product_and_slope")
    options = dict(m=6, seed=1, chains=2, tune=50, draws=10, progress=False)
    whole = model.impute(**options).extend(8)
    monkeypatch.setattr("bayesimp.joint.strided_run.MOST_CELLS", 10)
    some = model.impute(**options)
    assert some.run.stride == 3 and some.run.history.draws == 12
    told = some.events.set_index("kind")["message"]["more draws"]
    assert told == "12 per chain instead of 10: missing cells are kept for one in 3"
    for k in range(8):
        pd.testing.assert_frame_equal(some.extend(8).to_frame(k), whole.to_frame(k))


def simulated():
    rng = np.random.default_rng(3)
    g = np.repeat(np.arange(12), 10)
    x = rng.normal(size=len(g))
    y = x + rng.normal(size=12)[g] + rng.normal(size=len(g))
    x[rng.random(len(g)) < 0.2] = np.nan
    return bi.IncompleteData(pd.DataFrame({"g": g, "x": x, "y": y}), "g")


@pytest.mark.filterwarnings("ignore:Estimated shape parameter")
def test_arviz_reads_them_and_flags_a_prior_that_moves_the_answer(tmp_path):
    said = {}
    for sd in (0.1, 100.0):
        priors = pr.Priors(pr.HuangWand(), pr.HuangWand(), pr.Normal(0.0, sd))
        model = bi.JointGLMM(simulated(), "y ~ x + (1 | g)", priors=priors)
        imp = model.impute(m=2, seed=1, chains=2, draws=1500, keep_effects=True, progress=False)
        tree = imp.tree_with(
            "log_likelihood", "log_prior", "posterior_predictive", "standard_deviations", thin=3
        )
        said[sd] = az.psense_summary(tree, var_names=["beta_y"]).loc["beta_y[x]"]
        assert az.loo(tree, var_name="y").n_data_points == 120
        assert {"Psi_sd", "sigma_y"} < set(tree["posterior"].data_vars)
    az.plot_ppc_dist(tree, num_samples=20).savefig(tmp_path / "ppc.png")
    plt.close("all")
    assert said[0.1]["diagnosis"] == "potential prior-data conflict", said
    assert said[100.0]["diagnosis"] == "✓" and said[100.0]["prior"] < 0.03, said


@pytest.mark.filterwarnings("ignore:Estimated shape parameter")
def test_power_scaling_takes_rows_and_clusters_together():
    imp, _, _ = imputed("between", 60)
    tree = imp.tree_with("log_likelihood", "log_prior")
    assert tree["log_likelihood"]["h"].dims == ("chain", "draw", "cluster_h")
    table = az.psense_summary(tree, var_names=["beta_y", "beta_h"])
    assert np.isfinite(table[["prior", "likelihood"]].astype(float)).all().all()
