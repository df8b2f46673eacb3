"""Cluster-level variables in `JointLatent`: exact normal posteriors, probabilities of levels, tables, files, refusals.

With Sigma and Psi known and a normal prior of coefficients the posterior of coefficients, effects and missing values of
a table of numbers is normal: its mean and covariance are computed from dense matrices of all cells, and draws compared by
first and second moments, in standard errors of batch means; Bonferroni, level 1e-4.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

import bayesimp as bi
from bayesimp import priors as pr
from bayesimp.contract import Shift
from bayesimp.errors import DataError, SpecificationError
from tests.calibration.montecarlo import LEVEL, REJECTED, batch_means, bonferroni, with_products
from tests.unfolding import unfolded

M, ROWS = 7, 4
g = np.repeat(np.arange(M), ROWS)
SIGMA = np.array([[1.0, 0.4], [0.4, 0.8]])
ROOT = np.random.default_rng(4).normal(size=(6, 6))
PSI = ROOT @ ROOT.T / 6 + 0.2 * np.eye(6)  # effects of (1, t) on y and on w, then v and u
FORMULA = "y + w + v + u ~ t + z + (1 + t | g)"
SHORT = {"m": 4, "seed": 1, "chains": 2, "draws": 40, "thin": 1, "tune": 20, "progress": False}


def table() -> pd.DataFrame:
    """t, z of clusters complete; y, w of rows and v, u of clusters incomplete; cluster 3 lacks w, 2 v and u."""
    rng = np.random.default_rng(8)
    t, z = rng.normal(size=len(g)), rng.normal(size=M)
    a = rng.normal(size=(M, 6)) @ np.linalg.cholesky(PSI).T
    E = rng.normal(size=(len(g), 2)) @ np.linalg.cholesky(SIGMA).T
    frame = pd.DataFrame({"g": g, "t": t, "z": z[g]})
    frame["y"] = 1 + 0.5 * t + a[g, 0] + a[g, 1] * t + E[:, 0]
    frame["w"] = -0.5 * t + 0.3 * z[g] + a[g, 2] + a[g, 3] * t + E[:, 1]
    frame["v"] = (2 - z + a[:, 4])[g]
    frame["u"] = (0.5 * z + a[:, 5])[g]
    frame.loc[rng.random(len(g)) < 0.2, "y"] = np.nan
    frame.loc[(rng.random(len(g)) < 0.2) | (g == 3), "w"] = np.nan
    frame.loc[np.isin(g, [0, 2]), "v"] = np.nan
    frame.loc[np.isin(g, [2, 5]), "u"] = np.nan
    return frame


def exact(
    frame: pd.DataFrame, sd: float, Psi: np.ndarray, cell: tuple[str, int] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of beta (6,), gamma (4,), v of clusters 0 and 2, u of 2 and 5, and one cell
    of rows, the first that is missing if none is named.

    The prior covariance of every cell and of these is that of linear forms of (beta, gamma, effects, residuals).
    """
    X = np.column_stack([np.ones(len(g)), frame["t"], frame["z"]])
    Z, G = X[:, :2], X[::ROWS, [0, 2]]
    N, k = len(g), 10
    sources = k + 6 * M + 2 * N  # coefficients; elements of clusters; residuals
    prior = np.zeros((sources, sources))
    prior[:k, :k] = sd**2 * np.eye(k)
    for i in range(M):
        part = slice(k + 6 * i, k + 6 * i + 6)
        prior[part, part] = Psi
    prior[k + 6 * M :, k + 6 * M :] = np.kron(np.eye(N), SIGMA)
    forms, values, names = [], [], []
    for j in range(N):
        for r, name in enumerate(("y", "w")):
            form = np.zeros(sources)
            form[3 * r : 3 * r + 3] = X[j]
            form[k + 6 * g[j] + 2 * r : k + 6 * g[j] + 2 * r + 2] = Z[j]
            form[k + 6 * M + 2 * j + r] = 1.0
            forms.append(form), values.append(frame[name][j]), names.append((name, j))
    for i in range(M):
        for r, name in enumerate(("v", "u")):
            form = np.zeros(sources)
            form[6 + 2 * r : 8 + 2 * r] = G[i]
            form[k + 6 * i + 4 + r] = 1.0
            forms.append(form), values.append(frame[name][i * ROWS]), names.append((name, i))
    A, y = np.array(forms), np.array(values)
    wanted = [names.index(cell) for cell in [("v", 0), ("v", 2), ("u", 2), ("u", 5)]]
    wanted.append(int(np.flatnonzero(np.isnan(y))[0]) if cell is None else names.index(cell))
    W = np.vstack([np.eye(sources)[:k], A[wanted]])
    seen = ~np.isnan(y)
    V = A[seen] @ prior @ A[seen].T
    C = W @ prior @ A[seen].T
    gain = np.linalg.solve(V, C.T).T
    return gain @ y[seen], W @ prior @ W.T - gain @ C.T


def drawn(model: bi.JointLatent, draws: int = 4_000) -> np.ndarray:
    """(chains, draws, 15) of what `exact` describes."""
    imp = model.impute(m=2 * draws, seed=3, chains=2, draws=draws, thin=1, progress=False)
    post = imp.tree["posterior"]
    parts = [np.swapaxes(post[name].values, 2, 3).reshape(2, draws, -1) for name in ("beta", "beta_clusters")]
    cells = [("v", 0), ("v", 2 * ROWS), ("u", 2 * ROWS), ("u", 5 * ROWS)]
    frame = table()
    cells.append(next((n, j) for j in range(len(g)) for n in ("y", "w") if np.isnan(frame[n][j])))
    for name, row in cells:
        column = imp.values(name)[:, list(imp.rows(name)).index(row)]
        parts.append(column.reshape(draws, 2).T[..., None])
    return np.concatenate(parts, axis=-1)


def p_value(x: np.ndarray, mean: np.ndarray, covariance: np.ndarray) -> float:
    w = np.linalg.solve(np.linalg.cholesky(covariance), (x - mean).reshape(-1, len(mean)).T).T
    d = len(mean)
    i, j = np.tril_indices(d)
    found, error = batch_means(with_products(w).reshape(*x.shape[:2], -1), 40)
    return bonferroni(2 * norm.sf(np.abs(found - np.concatenate([np.zeros(d), i == j])) / error))


def model(**options) -> bi.JointLatent:
    priors = pr.Priors(pr.Fixed(SIGMA), pr.Fixed(PSI), pr.Normal(0.0, 2.0))
    return bi.JointLatent(bi.IncompleteData(table(), "g"), FORMULA, priors, **options)


def test_numbers_have_the_exact_posterior_and_other_covariances_do_not():
    x = drawn(model())
    assert p_value(x, *exact(table(), 2.0, PSI)) > LEVEL
    apart = PSI.copy()
    apart[:4, 4:] = apart[4:, :4] = 0.0  # cluster-level variables independent of the effects
    assert p_value(x, *exact(table(), 2.0, apart)) < REJECTED
    known = PSI.copy()
    known[4, 5] = known[5, 4] = 0.0
    assert p_value(x, *exact(table(), 2.0, known)) < REJECTED
    assert p_value(x, *exact(table(), 1.0, PSI)) < REJECTED


def test_levels_have_the_probabilities_of_their_latent_normals():
    """k, two levels of clusters, given one row of y in each: P(k = 1) at every kept draw against the imputed level."""
    rng = np.random.default_rng(5)
    m = 40
    codes = np.repeat(np.arange(m), 2)
    y = rng.normal(size=m)[codes] + 0.3 * rng.normal(size=2 * m)
    k = np.where(np.arange(m) % 4 == 0, None, np.where(y[::2] > 0.3, "yes", "no"))
    frame = pd.DataFrame({"g": codes, "y": y, "k": pd.Series(k[codes], dtype=object)})
    data = bi.IncompleteData(frame, "g", {"k": "bernoulli"})
    made = bi.JointLatent(data, "y + k ~ 1 + (1 | g)")
    draws = 6_000
    imp = made.impute(m=2 * draws, seed=2, chains=2, draws=draws, thin=1, progress=False)
    post = imp.tree["posterior"]
    levels = imp.values("k").reshape(draws, 2, -1).swapaxes(0, 1)
    gaps, wrong = [], []
    for i in range(0, m, 4):
        column = levels[..., list(imp.rows("k")).index(2 * i)]
        assert np.array_equal(
            column, levels[..., list(imp.rows("k")).index(2 * i + 1)]
        )  # one value per cluster
        e = y[2 * i : 2 * i + 2].mean() - post.beta.values[..., 0, 0]
        S, P = post.Sigma.values[..., 0, 0], post.Psi.values
        total = P[..., 0, 0] + S / 2
        eta = post.beta_clusters.values[..., 0, 0] + P[..., 0, 1] / total * e
        gaps.append(column - norm.cdf(eta / np.sqrt(1 - P[..., 0, 1] ** 2 / total)))
        wrong.append(column - norm.cdf(post.beta_clusters.values[..., 0, 0]))
    for each, least, most in ((gaps, LEVEL, 1.0), (wrong, -1.0, REJECTED)):
        mean, error = batch_means(np.stack(each, axis=-1), 30)
        assert least < bonferroni(2 * norm.sf(np.abs(mean) / error)) <= most


# -- from the table to the completed table ----------------------------------------------------------------------


def mixed() -> tuple[pd.DataFrame, dict[str, str]]:
    """Numbers and levels of rows and of clusters; n has single rows without the value that its cluster has."""
    frame = table().assign(b=np.where(table()["t"] > 0, "in", "out").astype(object))
    frame.loc[3:6, "b"] = None
    wide = pd.concat([frame, frame.assign(g=frame["g"] + M, y=frame["y"] + 1)], ignore_index=True)
    codes = wide["g"].to_numpy()
    rng = np.random.default_rng(1)
    wide["o"] = pd.Categorical.from_codes(rng.integers(0, 3, 2 * M)[codes], ["lo", "mid", "hi"], ordered=True)
    wide["c"] = pd.Categorical.from_codes(np.arange(2 * M)[codes] % 3, ["red", "green", "blue"])
    wide["n"] = np.round(rng.normal(size=2 * M), 2)[codes]
    wide.loc[np.isin(codes, [0, 9]), "o"] = None
    wide.loc[np.isin(codes, [1, 9]), "c"] = None
    wide.loc[[0, 1, *np.flatnonzero(codes == 4)], "n"] = np.nan
    return wide, {"b": "bernoulli"}


MIXED = "y + b + o + c + n ~ z + (1 | g)"


def mixed_model(**options) -> bi.JointLatent:
    frame, families = mixed()
    return bi.JointLatent(bi.IncompleteData(frame, "g", families), MIXED, **options)


def test_completed_tables_have_one_value_in_each_cluster():
    imp, (frame, _) = mixed_model().impute(**SHORT), mixed()
    assert list(imp.imputed_columns) == ["y", "b", "o", "c", "n"]
    for k in range(imp.m):
        done = imp.frame(k)
        assert not done[list("ybocn")].isna().any().any()
        assert (done.groupby("g")[["o", "c", "n"]].nunique() == 1).all().all()
        assert (done["n"][:2] == frame["n"][2]).all()  # known from its cluster
        assert done["o"].dtype == frame["o"].dtype
    varied = imp.values("n")[:, [list(imp.rows("n")).index(4 * ROWS)]]
    assert len(np.unique(varied)) == imp.m
    stats = imp.tree["imputed_stats"]
    assert list(stats.coords["response"].values) == ["y", "b", "o", "c", "n"]
    at = imp.values("n")[2, list(imp.rows("n")).index(4 * ROWS)]
    assert stats["mean"].sel(response="n", cluster=4).values[0, 39] == pytest.approx(at)


def test_the_posterior_names_variables_of_clusters():
    imp = mixed_model().impute(**SHORT)
    post = imp.tree["posterior"]
    names = ["o", "c[green]", "c[blue]", "n"]
    assert list(post.coords["effect"].values) == ["y:Intercept", "b:Intercept", *names]
    assert list(post.coords["latent_clusters"].values) == names
    assert list(post.coords["fixed_clusters"].values) == ["Intercept", "z"]
    P = post.Psi.values
    assert (
        (P[..., [2, 3, 4], [2, 3, 4]] == 1).all() and (P[..., 3, 4] == 0.5).all() and P[..., 5, 5].std() > 0
    )
    assert (post.cutpoints_o.values[..., 0] == 0).all() and (post.cutpoints_o.values[..., 1] > 0).all()
    assert "n" in unfolded(repr(mixed_model())) and "given variances of 1 (o, c[green], c[blue])" in unfolded(
        repr(mixed_model())
    )


def test_units_and_labels_change_nothing_else():
    frame, families = mixed()
    a = mixed_model().impute(**SHORT)
    other = frame.assign(
        n=300 + 20 * frame["n"], z=5 - 2 * frame["z"], g=frame["g"].map(lambda i: f"{97 - i}")
    )
    b = bi.JointLatent(bi.IncompleteData(other, "g", families), MIXED).impute(**SHORT)
    for name in "boc":
        np.testing.assert_array_equal(a.values(name), b.values(name))
    np.testing.assert_allclose(b.values("n"), 300 + 20 * a.values("n"), rtol=1e-7)


def test_a_shift_moves_what_is_imputed_alone():
    a = mixed_model().impute(**SHORT)
    b = mixed_model(shift=Shift({"n": 2.0})).impute(**SHORT)
    rows = list(a.rows("n"))
    drawn = [k for k, row in enumerate(rows) if row >= 2]
    np.testing.assert_allclose(b.values("n")[:, drawn], a.values("n")[:, drawn] + 2.0)
    np.testing.assert_array_equal(b.values("n")[:, :2], a.values("n")[:, :2])


def test_saved_loaded_and_continued(tmp_path):
    first = mixed_model().impute(**SHORT)
    longer = first.extend(6)
    first.save(tmp_path / "run.nc")
    back = bi.load(tmp_path / "run.nc")
    for name in "ybocn":
        np.testing.assert_array_equal(back.values(name), first.values(name))
        np.testing.assert_array_equal(back.extend(6).values(name), longer.values(name))


def test_what_the_model_contains():
    from bayesimp.analysis.congenial import congeniality
    from bayesimp.formulas.formula import parse

    model = mixed_model()
    assert model.contents()["n"].clusters == "of clusters" and model.contents()["y"].clusters == "random"
    assert not congeniality(model, parse("y ~ n + z + (1 | g)")).gaps
    assert congeniality(model, parse("y ~ n * b + z + (1 | g)")).gaps


def test_analyses_of_completed_tables_and_the_prior_of_psi():
    from bayesimp.diagnostics.components import components

    imp = mixed_model().impute(**SHORT)
    assert np.isfinite(imp.analyse("y ~ n + z + (1 | g)").pool().estimate).all()
    found = components(imp, size=300)
    assert "sd between\nn" in found and "correlation between\ny, n" in found and "sd between\no" not in found


# -- what is refused ----------------------------------------------------------------------------------------------


def test_what_is_refused():
    data = bi.IncompleteData(table(), "g")
    with pytest.raises(SpecificationError, match="are all cluster-level variables"):
        bi.JointLatent(data, "v + u ~ 1 + (1 | g)")
    with pytest.raises(
        SpecificationError, match="'v' has a single value in each cluster, but no column of the fixed part"
    ):
        bi.JointLatent(data, "y + v ~ 0 + t + (1 | g)")
    frame = table()
    frame.loc[g > 0, "v"] = np.nan
    frame.loc[g == 1, "v"] = 1.37
    frame.loc[g == 0, "v"] = 2.41
    with pytest.raises(SpecificationError, match="not identified"):
        bi.JointLatent(bi.IncompleteData(frame, "g"), "y + v ~ z + t + I(z**2) + (1 | g)")
    with pytest.raises(SpecificationError, match="Fixed Psi: latent variables have residual variance 1"):
        mixed_model(priors=pr.Priors(Psi=pr.Fixed(2 * np.eye(6))))
    with pytest.raises(SpecificationError, match=r"has no cluster-level variables \(o, c, n\)"):
        mixed_model().pymc_model()
    with pytest.raises(SpecificationError, match="has no residual='cluster'"):
        bi.JointLatent(data, "y + w ~ t + (1 | g)", residual="cluster").pymc_model()
    with pytest.raises(
        DataError,
        match=r"'v' has a single value in each of the 5 clusters.*JointLatent imputes cluster-level variables",
    ):
        bi.JointNormal(data, "y + v ~ t + (1 | g)")
