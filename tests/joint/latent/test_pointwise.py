"""Log likelihood, log prior, replicates and effects of JointLatent at posterior draws, and ArviZ's checks of them.

Densities against SciPy row by row, in the units of the data. Monte Carlo comparisons: |z| < 4.5, that is 7e-6
two-sided for each of at most 30 numbers a test.
"""

import warnings

import arviz as az
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytensor
import pytest
from scipy.stats import multivariate_normal as mvn
from scipy.stats import norm

import bayesimp as bi
from bayesimp import priors as pr
from bayesimp.errors import SpecificationError

FORMULA = "y + a + o + k + w + v ~ x + (1 + x | g)"
Z_MAX = 4.5
COLUMNS = {"y": [0], "a": [1], "o": [2], "k": [3, 4]}


def frame(clusters=8, n=12, seed=0):
    """Unsorted rows of a number, three variables with levels and two cluster-level variables; one row without values."""
    rng = np.random.default_rng(seed)
    g = rng.permutation(np.repeat(np.arange(clusters), n))
    N, b = len(g), rng.normal(size=(clusters, 5))
    x = rng.normal(5.0, 2.0, N)
    y = 100 + x + 3 * b[g, 0] + 2 * rng.normal(size=N)
    a = 1.0 * (0.2 * (y - 105) + b[g, 1] + rng.normal(size=N) > 0)
    o = np.digitize(0.2 * (x - 5) + b[g, 2] + rng.normal(size=N), [-0.5, 0.5])
    k = np.argmax(np.column_stack([np.zeros(N), b[g, 3] + rng.normal(size=N), rng.normal(size=N)]), axis=1)
    w, v = 20 + 5 * (b[:, 0] + rng.normal(size=clusters)), 1.0 * (b[:, 1] + rng.normal(size=clusters) > 0)
    v[:2] = 0.0, 1.0
    table = pd.DataFrame({"g": [f"s{9 - i}" for i in g], "x": x, "y": y, "a": a, "w": w[g], "v": v[g]})
    holes = rng.random((N, 4)) < 0.2
    holes[5] = True
    table.loc[holes[:, 0], "y"] = table.loc[holes[:, 1], "a"] = np.nan
    table["o"] = pd.Categorical.from_codes(np.where(holes[:, 2], -1, o), ["lo", "mid", "hi"], ordered=True)
    table["k"] = pd.Categorical.from_codes(np.where(holes[:, 3], -1, k), ["r", "s", "t"])
    table.loc[table.g == "s7", ["y", "a"]] = np.nan
    table.loc[table.g == "s6", "w"] = np.nan
    table.loc[table.g == "s5", "v"] = np.nan
    return table


def model(formula=FORMULA, priors=None, **options):
    families = {"a": "bernoulli", "v": "bernoulli"}
    return bi.JointLatent(bi.IncompleteData(frame(), "g", families), formula, priors, **options)


def imputed(draws=60, keep_effects=True, **options):
    made = model(**options)
    return made.impute(
        2, seed=1, chains=2, draws=draws, thin=1, tune=40, keep_effects=keep_effects, progress=False
    )


@pytest.fixture(scope="module")
def imp():
    return imputed()


# --- longhand -----------------------------------------------------------------------------------------------


def box(mean, cov, low, high):
    """P(low < y < high), by SciPy."""
    low, high = np.clip(np.array(low) - mean, -15, 15), np.clip(np.array(high) - mean, -15, 15)
    if len(mean) == 1:
        return norm.cdf(high[0] / np.sqrt(cov[0, 0])) - norm.cdf(low[0] / np.sqrt(cov[0, 0]))
    return mvn(np.zeros(len(mean)), cov, abseps=1e-5, releps=1e-5, maxpts=5_000).cdf(high, lower_limit=low)


def events(levels, cutpoints):
    """A, lower and upper bounds of latent values: {variable: level} of a, o and k."""
    unit, A, low, high = np.eye(5), [], [], []
    for name, cut in (("a", [0.0]), ("o", list(cutpoints))):
        if name in levels:
            bounds = [-np.inf, *cut, np.inf]
            A.append(unit[COLUMNS[name][0]])
            low.append(bounds[levels[name]])
            high.append(bounds[levels[name] + 1])
    if "k" in levels:
        first, second = unit[3], unit[4]
        pair = {0: (-first, -second), 1: (first, first - second), 2: (second, second - first)}[levels["k"]]
        A, low, high = [*A, *pair], [*low, 0.0, 0.0], [*high, np.inf, np.inf]
    return np.array(A).reshape(-1, 5), low, high


def of_row(y, levels, mu, Sigma, cutpoints):
    """log density of a row: its number y, or nan, and its levels."""
    A, low, high = events(levels, cutpoints)
    out, mean, cov = 0.0, A @ mu, A @ Sigma @ A.T
    if not np.isnan(y):
        out = norm.logpdf(y, mu[0], np.sqrt(Sigma[0, 0]))
        gain = A @ Sigma[:, 0] / Sigma[0, 0]
        mean, cov = mean + gain * (y - mu[0]), cov - np.outer(gain, gain) * Sigma[0, 0]
    return out + (np.log(box(mean, cov, low, high)) if len(A) else 0.0)


def parts(tree, c, d):
    """Parameters of a draw, and X, Z and the cluster of each row of the table."""
    one = tree["posterior"].to_dataset().isel(chain=c, draw=d)
    table = frame()
    X = np.column_stack([np.ones(len(table)), table.x])
    at = {str(label): i for i, label in enumerate(one.cluster.values)}
    return one, X, np.array([at[label] for label in table.g])


def means(one, X, codes):
    b = one["B"].values.reshape(-1, 5, 2)[codes]  # response, column of Z
    return X @ one["beta"].values + np.einsum("nkl,nl->nk", b, X)


def levels_of(row):
    found = {"a": row.a, "o": row.o, "k": row.k}
    numbers = {"o": ["lo", "mid", "hi"].index, "k": ["r", "s", "t"].index}
    return {name: int(numbers.get(name, int)(v)) for name, v in found.items() if not pd.isna(v)}


# --- log likelihood -----------------------------------------------------------------------------------------


def test_rows_have_the_density_of_what_is_observed(imp):
    """Against SciPy, in its own error of the boxes; effects left out, of another chain, residual covariances left out, a
    variable's neighbour and imputed cells are each far away."""
    tree = imp.tree_with("log_likelihood", thin=30)
    group = tree["log_likelihood"]
    assert group.attrs["largest_error"] < 0.02
    value, table = group["y_obs"], frame()
    assert list(value.row.values) == [
        j for j in range(len(table)) if not table.loc[j, list("yaok")].isna().all()
    ]
    completed = imp.to_frame(0)
    rows = value.row.values[::6]
    gaps = {name: [] for name in ("effects", "chain", "covariance", "column", "imputed")}
    for c, d in [(0, 0), (1, 1)]:
        one, X, codes = parts(tree, c, d)
        other, _, _ = parts(tree, 1 - c, d)
        mu, S, cut = means(one, X, codes), one["Sigma"].values, one["cutpoints_o"].values
        found = value.isel(chain=c, draw=d).sel(row=rows).values
        expected = np.array([of_row(table.y[j], levels_of(table.loc[j]), mu[j], S, cut) for j in rows])
        np.testing.assert_allclose(found, expected, atol=0.02)
        two = np.array([len(levels_of(table.loc[j])) < 3 for j in rows])  # three components or fewer
        np.testing.assert_allclose(found[two], expected[two], atol=5e-3)
        nothing, elsewhere = X @ one["beta"].values, means(other, X, codes)
        for j, right in zip(rows, found, strict=True):
            y, levels = table.y[j], levels_of(table.loc[j])
            moved = {**levels, "a": levels.get("o", 0) > 0} if "a" in levels else levels
            wrong = {
                "effects": of_row(y, levels, nothing[j], S, cut),
                "chain": of_row(y, levels, elsewhere[j], other["Sigma"].values, other["cutpoints_o"].values),
                "covariance": of_row(y, levels, mu[j], np.where(np.isin(S, (0.5, 1)), S, np.diag(np.diag(S))), cut),
                "column": of_row(y, moved, mu[j], S, cut),
                "imputed": of_row(completed.y[j], levels_of(completed.loc[j]), mu[j], S, cut),
            }  # fmt: skip
            for name, log_p in wrong.items():
                gaps[name].append(abs(log_p - right))
    assert all(np.mean(gap) > 0.04 for gap in gaps.values()), {k: np.mean(v) for k, v in gaps.items()}


def of_clusters(one):
    """{cluster: mean (2,) of the latent w and v given the ten effects of the cluster}, and their covariance, dense."""
    Psi, B = one["Psi"].values, one["B"]
    gain = Psi[10:, :10] @ np.linalg.inv(Psi[:10, :10])
    means = {
        str(i): one["beta_clusters"].values[0] + gain @ B.sel(cluster=i).values for i in one.cluster.values
    }
    return means, Psi[10:, 10:] - gain @ Psi[:10, 10:]


def test_cluster_level_variables_are_those_given_the_effects(imp):
    """w and v of a cluster given its ten effects: the normal conditional law of (B_i, v_i) ~ N(0, Psi), dense."""
    tree = imp.tree_with("log_likelihood", thin=60)
    value, table = tree["log_likelihood"]["clusters_obs"], frame().groupby("g").first()
    for c in (0, 1):
        one, _, _ = parts(tree, c, 0)
        mean_of, S = of_clusters(one)
        found = {str(i): v for i, v in zip(value.cluster.values, value.values[c, 0], strict=True)}
        for label, own in table.iterrows():
            m = mean_of[label]
            expected, mean, sd = 0.0, m[1], np.sqrt(S[1, 1])
            if not np.isnan(own.w):
                expected = norm.logpdf(own.w, m[0], np.sqrt(S[0, 0]))
                mean = m[1] + S[1, 0] / S[0, 0] * (own.w - m[0])
                sd = np.sqrt(S[1, 1] - S[1, 0] ** 2 / S[0, 0])
            if not np.isnan(own.v):
                expected += norm.logcdf((1 if own.v else -1) * mean / sd)
            assert abs(found[label] - expected) < 1e-6


@pytest.fixture(scope="module")
def normal():
    """A JointLatent of normal variables alone."""
    table = frame().assign(x2=lambda t: t.x, z=lambda t: np.arange(len(t)) % 5 - 1.0)
    table.loc[::3, "x2"] = np.nan
    data = bi.IncompleteData(table[["g", "y", "x2", "z"]], "g")
    made = bi.JointLatent(data, "y + x2 ~ z + (1 + z | g)")
    return made.impute(2, seed=1, chains=2, draws=60, thin=1, tune=40, keep_effects=True, progress=False)


def test_effects_are_those_of_their_draw(normal):
    """(B_i - mean) whitened by p(B_i | beta, Sigma, Psi, y_i,obs), dense, is standard normal; with the parameters of the
    other chain it is not."""
    tree, data = normal.tree_with("cluster_effects"), normal.data
    Y = np.column_stack([data.numeric("y"), data.numeric("x2")])
    X = np.column_stack([np.ones(len(Y)), data.frame["z"]])

    def whitened(swap):
        out = []
        for c, d in np.ndindex(2, 60):
            one = tree["posterior"].to_dataset().isel(chain=c, draw=d)
            by = tree["posterior"].to_dataset().isel(chain=1 - c if swap else c, draw=d)
            beta, Sigma, Psi = (by[name].values for name in ("beta", "Sigma", "Psi"))
            for i in range(len(one.cluster)):
                own = data.codes == i
                y = (Y[own] - X[own] @ beta).ravel(order="F")
                seen = ~np.isnan(y)
                Z = np.kron(np.eye(2), X[own])[seen]
                S = np.kron(Sigma, np.eye(own.sum()))[np.ix_(seen, seen)]
                gain = Psi @ Z.T @ np.linalg.inv(Z @ Psi @ Z.T + S)
                V = Psi - gain @ Z @ Psi
                e = one["B"].values[i] - gain @ y[seen]
                out.append(np.linalg.solve(np.linalg.cholesky((V + V.T) / 2), e))
        z = np.array(out)
        n = len(z)
        second = (z.T @ z / n - np.eye(4)) / np.where(np.eye(4, dtype=bool), np.sqrt(2 / n), np.sqrt(1 / n))
        return max(np.abs(z.mean(axis=0)).max() * np.sqrt(n), np.abs(second).max())

    assert whitened(False) < Z_MAX < 10 < whitened(True)


def test_by_row_is_that_of_the_joint_normal_model(normal):
    """All variables normal: the formula of JointNormal's rows at the same draws."""
    tree = normal.tree_with("log_likelihood", thin=30)
    Y = np.column_stack([normal.data.numeric("y"), normal.data.numeric("x2")])
    X = np.column_stack([np.ones(len(Y)), normal.data.frame["z"]])
    value = tree["log_likelihood"]["y_obs"]
    assert list(value.cluster_of_row.values) == list(normal.data.frame["g"].iloc[value.row.values])
    one = tree["posterior"].to_dataset().isel(chain=1, draw=1)
    b = one["B"].values.reshape(-1, 2, 2)[normal.data.codes]
    mu = X @ one["beta"].values + np.einsum("nkl,nl->nk", b, X)
    for j, log_p in zip(value.row.values, value.values[1, 1], strict=True):
        seen = ~np.isnan(Y[j])
        law = mvn(mu[j][seen], one["Sigma"].values[np.ix_(seen, seen)])
        assert abs(law.logpdf(Y[j][seen]) - log_p) < 1e-8


def test_residual_covariances_of_clusters():
    """residual="cluster": every row by the covariance of its own cluster; those of the next cluster are far away."""
    made = model("y + a ~ x + (1 | g)", residual="cluster")
    run = made.impute(
        2, seed=1, chains=2, draws=20, thin=1, tune=20, progress=False, keep_effects=True, clusters=True
    )
    tree = run.tree_with("log_likelihood", "log_prior", "posterior_predictive", thin=10)
    one, X, codes = parts(tree, 0, 1)
    S, table = one["Sigma_clusters"].values, frame()
    mu = X @ one["beta"].values + one["B"].values[codes]
    value, gaps = tree["log_likelihood"]["y_obs"].isel(chain=0, draw=1), []
    for j in value.row.values:
        y, a = table.y[j], table.a[j]

        def log_p(own, y=y, a=a, j=j):
            mean, sd, out = mu[j, 1], np.sqrt(own[1, 1]), 0.0
            if not np.isnan(y):
                out = norm.logpdf(y, mu[j, 0], np.sqrt(own[0, 0]))
                mean = mean + own[1, 0] / own[0, 0] * (y - mu[j, 0])
                sd = np.sqrt(own[1, 1] - own[1, 0] ** 2 / own[0, 0])
            return out if np.isnan(a) else out + norm.logcdf((1 if a else -1) * mean / sd)

        assert abs(log_p(S[codes[j]]) - float(value.sel(row=j))) < 1e-8
        gaps.append(abs(log_p(S[(codes[j] + 1) % 8]) - float(value.sel(row=j))))
    assert np.max(gaps) > 0.05
    h = np.sqrt(2 / tree["posterior"]["likeness"].values)
    np.testing.assert_allclose(tree["log_prior"]["likeness"], np.log(2) + norm.logpdf(h, 0, 0.5))


# --- log prior ----------------------------------------------------------------------------------------------

PRIORS = {
    "huang-wand": pr.Priors(pr.HuangWand(nu=3.0), pr.HuangWand(), pr.Normal(1.0, 20.0)),
    "lkj": pr.Priors(pr.LKJ(2.0, pr.HalfT(scale=2.0)), pr.InverseWishart(14.0, 0.5), pr.Normal(0.0, 5.0)),
}


@pytest.mark.parametrize("name", PRIORS)
def test_log_prior_is_that_of_the_pymc_model_up_to_a_constant(name):
    """Differences between draws of models/joint_latent.py, with the Jacobian of log sds for Sigma."""
    own = model("y + a + o ~ x + (1 | g)", PRIORS[name])
    imp = own.impute(2, seed=1, chains=2, draws=4, thin=1, tune=30, progress=False)
    tree = imp.tree_with("log_prior")
    compiled, prior = own.pymc_model(), tree["log_prior"].to_dataset()
    posterior = tree["posterior"].to_dataset()
    S = posterior["Sigma"].values
    s = np.sqrt(S[..., 0, 0])
    i, j = np.tril_indices(3, -1)
    scaled = S / np.sqrt(np.einsum("...i,...j->...ij", *[np.diagonal(S, axis1=2, axis2=3)] * 2))
    evaluate = pytensor.function(
        [compiled["Sigma_log_sd"], compiled["Sigma_correlation"]],
        compiled["Sigma_prior"],
        mode="FAST_COMPILE",
    )
    theirs = np.array(
        [[evaluate(np.log(s[c, d])[None], scaled[c, d][i, j]) for d in range(4)] for c in range(2)]
    )
    constant = (theirs - np.log(s) - prior["Sigma"].values).ravel()  # of log s: p(s) s
    np.testing.assert_allclose(constant, constant[0], atol=1e-7)
    assert np.ptp(theirs - prior["Sigma"].values) > 1e-3  # without the Jacobian
    of_beta = pytensor.function([compiled["beta"]], compiled["beta_prior"], mode="FAST_COMPILE")
    theirs = np.array([[of_beta(posterior["beta"].values[c, d]) for d in range(4)] for c in range(2)])
    constant = (theirs - prior["beta"].values).ravel()
    np.testing.assert_allclose(constant, constant[0], atol=1e-7)
    law = norm(PRIORS[name].beta.mean, PRIORS[name].beta.sd)
    np.testing.assert_allclose(prior["beta"], law.logpdf(posterior["beta"]).sum(axis=(2, 3)))
    np.testing.assert_allclose(prior["cutpoints_o"], -posterior["cutpoints_o"].values[..., 1])
    np.testing.assert_allclose(
        prior["Psi"], own.grouping.resolved.Psi.log_density(posterior["Psi"].values, "Psi")
    )


def test_cluster_level_priors_and_improper_ones(imp):
    prior = imp.tree_with("log_prior", thin=20)["log_prior"].to_dataset()
    assert set(prior.data_vars) == {"beta", "Sigma", "Psi", "beta_clusters", "cutpoints_o"}
    assert all(np.isfinite(v).all() and v.shape == (2, 3) for v in prior.data_vars.values())
    # w is a number and has a flat prior; the intercept of v has the weak one, sd 5
    gamma = imp.tree_with("log_prior", thin=20)["posterior"]["beta_clusters"].values[..., 0, 1]
    np.testing.assert_allclose(prior["beta_clusters"], norm.logpdf(gamma, 0, 5.0), rtol=1e-6)
    with pytest.raises(SpecificationError, match=r"prior on \w+ is improper .*needs .*proper prior"):
        imputed(draws=4, formula="y + a ~ x + (1 | g)", priors=pr.jomo()).tree_with("log_prior")


# --- replicates ---------------------------------------------------------------------------------------------


def test_replicates_follow_the_law_of_their_draw(imp):
    """Numbers, shares of levels and products, against their exact means given the draw's effects."""
    tree = imp.tree_with("posterior_predictive", seed=3)
    group, table = tree["posterior_predictive"].to_dataset(), frame()
    both = np.flatnonzero(~table[list("yaok")].isna().any(axis=1))
    z = {name: [] for name in ("y", "a", "ya", "o", "k1", "k2", "w", "w follows", "v", "v follows")}
    first = table.reset_index().groupby("g")["index"].first()
    for c, d in np.ndindex(2, 60):
        one, X, codes = parts(tree, c, d)
        mu, S, cut = means(one, X, codes)[both], one["Sigma"].values, one["cutpoints_o"].values
        y, a, o, k = (group[n].isel(chain=c, draw=d).sel({f"row_{n}": both}).values for n in "yaok")
        e, p = (y - mu[:, 0]) / np.sqrt(S[0, 0]), norm.cdf(mu[:, 1])
        z["y"] += list(e)
        z["a"] += list((a - p) / np.sqrt(p * (1 - p)))
        rho = S[0, 1] / np.sqrt(S[0, 0])  # E e 1(a = 1) = rho phi(mu)
        z["ya"] += list(e * a - rho * norm.pdf(mu[:, 1]))
        p = norm.cdf(cut[1] - mu[:, 2]) - norm.cdf(-mu[:, 2])
        z["o"] += list(((o == 1) - p) / np.sqrt(p * (1 - p)))
        # the first utility is the largest if it is above 0 and the difference, both with variance 1 and correlation 1/2
        for level, (i, j) in ((1, (3, 4)), (2, (4, 3))):
            pair = np.column_stack([mu[:, i], mu[:, i] - mu[:, j]])
            p = mvn(np.zeros(2), [[1, 0.5], [0.5, 1]]).cdf(pair)
            z[f"k{level}"] += list(((k == level) - p) / np.sqrt(p * (1 - p)))
        # w and v: of their own cluster, so that errors do not depend on the means
        mean_of, S = of_clusters(one)
        for name, at in (("w", 0), ("v", 1)):
            seen = first[~table[name][first].isna().to_numpy()]
            drawn = group[name].isel(chain=c, draw=d).sel({f"row_{name}": seen.to_numpy()}).values
            m = np.array([mean_of[label][at] for label in seen.index]) / np.sqrt(S[at, at])
            p = norm.cdf(m)
            e = drawn / np.sqrt(S[at, at]) - m if name == "w" else (drawn - p) / np.sqrt(p * (1 - p))
            z[name] += list(e)
            z[f"{name} follows"] += list(e * (m - m.mean()))
    for name, values in z.items():
        x = np.array(values)
        assert abs(x.mean() / (x.std() / np.sqrt(len(x)))) < Z_MAX, name
    for name in "yw":
        assert abs(np.var(z[name]) - 1) < Z_MAX * np.sqrt(2 / len(z[name]))
    # the data's cells; levels are whole numbers, and a cluster has one value of a cluster-level variable
    seen = tree["observed_data"].to_dataset()
    for name in ("y", "a", "o", "k", "w", "v"):
        rows = np.flatnonzero(~imp.data.missing(name))
        assert list(group[f"row_{name}"].values) == list(rows)
        np.testing.assert_allclose(seen[name], imp.data.numeric(name)[rows])
        assert (group[name].dtype.kind == "i") == (name in "aokv")
    w = pd.Series(group["w"].values[0, 0]).groupby(group["cluster_w"].values).nunique()
    assert (w == 1).all() and group["w"].values[0, 0].std() > 0


def test_new_clusters_need_no_kept_effects_and_have_the_marginal_variance():
    own = imputed(draws=60, keep_effects=False, formula="y + a ~ x + (1 | g)")
    for what in ("log_likelihood", "posterior_predictive", "cluster_effects"):
        with pytest.raises(
            SpecificationError, match=rf"{what}: .*did not keep. Impute with keep_effects=True"
        ):
            own.tree_with(what)
    tree = own.tree_with("posterior_predictive", new_clusters=True, seed=2)
    table, z, within = frame(), [], []
    first = [np.flatnonzero(~table.y.isna() & (table.g == g))[:2] for g in sorted(set(table.g)) if g != "s7"]
    for c, d in np.ndindex(2, 60):
        one = tree["posterior"].to_dataset().isel(chain=c, draw=d)
        y = tree["posterior_predictive"]["y"].isel(chain=c, draw=d)
        for rows in first:
            e = (
                y.sel(row_y=rows).values
                - one["beta"].values[0, 0]
                - one["beta"].values[1, 0] * table.x[rows].values
            )
            total = one["Psi"].values[0, 0] + one["Sigma"].values[0, 0]
            z.append(e[0] ** 2 / total - 1)
            within.append((e[0] * e[1] - one["Psi"].values[0, 0]) / total)
    for x in map(np.array, (z, within)):
        assert abs(x.mean() / (x.std() / np.sqrt(len(x)))) < Z_MAX


# --- files, refusals, ArviZ ---------------------------------------------------------------------------------


def test_saved_extended_and_thinned(imp, tmp_path):
    imp.save(tmp_path / "a.nc")
    back = bi.load(tmp_path / "a.nc")
    what = ["log_prior", "posterior_predictive", "cluster_effects"]
    ours, theirs = imp.tree_with(*what, thin=20), back.tree_with(*what, thin=20)
    for group in ("log_prior", "posterior_predictive", "posterior"):
        for name, values in ours[group].data_vars.items():
            np.testing.assert_array_equal(theirs[group][name].values, values.values)
    longer = back.extend(2).tree_with("cluster_effects")["posterior"]["B"]
    np.testing.assert_array_equal(longer.values[:, :60], imp.tree["posterior"]["B"].values)
    assert np.isfinite(longer).all() and longer.sizes["draw"] > 60


def test_refused():
    own = model("y + a ~ x + (1 | g)", residual="cluster")
    run = own.impute(2, seed=1, chains=2, draws=4, thin=1, tune=4, progress=False)
    with pytest.raises(SpecificationError, match=r"residual covariance.*keep_effects=True, clusters=True\."):
        run.tree_with("log_likelihood")
    with pytest.raises(SpecificationError, match="replicates are of the clusters of the table"):
        run.tree_with("posterior_predictive", new_clusters=True)


@pytest.mark.filterwarnings("ignore:Estimated shape parameter")
def test_arviz_reads_them(tmp_path):
    own = imputed(draws=100, formula="y + a ~ x + (1 | g)")
    tree = own.tree_with("log_likelihood", "log_prior", "posterior_predictive")
    made = az.loo(tree)
    assert made.n_data_points == tree["log_likelihood"].sizes["row"] and np.isfinite(made.elpd)
    told = az.psense_summary(tree, var_names=["beta", "Psi"])
    assert (
        np.isfinite(told["prior"].astype(float)).all() and np.isfinite(told["likelihood"].astype(float)).all()
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        az.plot_ppc_dist(tree, num_samples=20).savefig(tmp_path / "ppc.png")
    plt.close("all")
