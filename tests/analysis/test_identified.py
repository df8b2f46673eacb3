"""Variance components that the rows cannot distinguish are refused; others are not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

import bayesimp as bi
from bayesimp.errors import SpecificationError
from bayesimp.kernels.lmm import identifiability as ident


def longhand(X, Z, codes, free):
    """Whether I and the K' Z E_f Z' K, as vectors, have full rank."""
    n, q = len(X), Z.shape[1]
    K = np.linalg.svd(X)[0][:, np.linalg.matrix_rank(X) :]
    same = np.equal.outer(codes, codes)
    matrices, sizes = [np.eye(n - X.shape[1])], [np.sqrt(n - X.shape[1])]
    for a, b in free:
        E = np.zeros((q, q))
        E[a, b] = E[b, a] = 1
        matrices.append(K.T @ (Z @ E @ Z.T * same) @ K)
        sizes.append(np.linalg.norm(Z @ E @ Z.T * same))
    rows = np.array([m.ravel() / size for m, size in zip(matrices, sizes, strict=True)])
    return np.linalg.matrix_rank(rows, tol=1e-6) == len(matrices)


def longhand_of_trials(X, Z, codes, free, single):
    """The same without sigma^2: rank of the M Z E_f Z' M, and of the Z E_f Z' without what single trials say alone."""
    q, n = Z.shape[1], len(X)
    M = np.eye(n) - X @ np.linalg.pinv(X)
    same = np.equal.outer(codes, codes)
    matrices = []
    for a, b in free:
        E = np.zeros((q, q))
        E[a, b] = E[b, a] = 1
        matrices.append(Z @ E @ Z.T * same)
    sizes = [np.linalg.norm(m) for m in matrices]
    projected = [(M @ m @ M).ravel() / size for m, size in zip(matrices, sizes, strict=True)]
    apart = [(m * ~np.diag(single)).ravel() / size for m, size in zip(matrices, sizes, strict=True)]
    return all(np.linalg.matrix_rank(np.array(rows), tol=1e-6) == len(free) for rows in (projected, apart))


def products(X, Z, codes):
    Q = np.linalg.qr(X)[0]
    Z = np.linalg.qr(Z)[0]
    A, B = (np.stack([Z[codes == i].T @ W[codes == i] for i in range(codes.max() + 1)]) for W in (Z, Q))
    return A, B


@pytest.mark.parametrize("seed", range(60))
def test_as_the_rank_of_the_dense_matrices(seed):
    """Random designs, many borderline: few rows per cluster, cluster-level columns, slopes that vary in few clusters."""
    rng = np.random.default_rng(seed)
    m, q = int(rng.integers(1, 6)), int(rng.integers(1, 3))
    codes = np.repeat(np.arange(m), rng.integers(1, 4, m))
    n = len(codes)
    z = rng.normal(size=n) if rng.random() < 0.7 else (rng.random(n) < 0.3) * 1.0
    Z = np.column_stack([np.ones(n), z])[:, :q]
    X = np.column_stack([Z, rng.normal(size=(m, int(rng.integers(0, m + 1))))[codes]])
    X = X[:, np.abs(np.diag(np.linalg.qr(X)[1])) > 1e-8] if n > X.shape[1] else X[:, :1]
    if np.linalg.matrix_rank(X) < X.shape[1] or np.linalg.matrix_rank(Z) < q or n <= X.shape[1]:
        pytest.skip("no design")
    free = np.array([(a, b) for b in range(q) for a in range(b, q)])
    A, B = products(X, Z, codes)
    assert ident.identified(A, B, n, free) == longhand(X, Z, codes, free)
    single = rng.random(n) < 0.7
    found = ident.identified(A, B, n, free, np.linalg.qr(Z)[0][single])
    assert found == longhand_of_trials(X, Z, codes, free, single)
    # as one of several terms
    assert ident.identified_together(X, [ident.Term(Z, codes, free)]) == longhand(X, Z, codes, free)
    together = ident.identified_together(X, [ident.Term(Z, codes, free)], single)
    assert together == longhand_of_trials(X, Z, codes, free, single)


def table(m=8, n=30, seed=3):
    r = np.random.default_rng(seed)
    g, x = np.repeat(np.arange(m), n), r.normal(size=m * n)
    y = 1 + 0.5 * x + r.normal(0, 0.8, m)[g] + r.normal(0, 0.4, m)[g] * x + r.normal(size=m * n)
    return pd.DataFrame(
        {"s": [f"s{k}" for k in g], "x": x, "y": y, "yes": (y > 1) * 1, "n": np.round(np.exp(y))}
    )


@pytest.mark.parametrize("family", ["normal", "bernoulli", "poisson"])
@pytest.mark.parametrize(
    "right, names",
    [("x + s + (1 + x | s)", "'Intercept'"), ("x + s + (1 | s)", "'Intercept'"), ("x + x:s + (1 + x | s)", "'x'"),
     ("x + (1 | one)", r"'Intercept' by 'one' \(all rows are in one cluster\)"),
     ("s * x + (1 + x | s)", "'Intercept', 'x'")],
)  # fmt: skip
def test_fixed_effects_that_leave_nothing_of_random_ones(right, names, family):
    response = {"normal": "y", "bernoulli": "yes", "poisson": "n"}[family]
    frame = table().assign(one="A")
    with pytest.raises(SpecificationError, match=f"absorb the random effects of {names}"):
        bi.fit_each([frame] * 2, f"{response} ~ {right}", family=family)


def test_columns_of_clusters_as_many_as_clusters():
    rng = np.random.default_rng(0)
    frame = table()
    for k in range(7):
        frame[f"w{k}"] = rng.normal(size=8)[np.repeat(np.arange(8), 30)]
    columns = " + ".join(f"w{k}" for k in range(7))
    with pytest.raises(SpecificationError, match="absorb the random effects of 'Intercept'"):
        bi.fit_each([frame] * 2, f"y ~ x + {columns} + (1 | s)")
    fits = bi.fit_each([frame] * 2, f"y ~ x + {columns.removesuffix(' + w6')} + (1 | s)")  # one is left
    assert fits.converged.all()


def test_too_few_rows_in_clusters():
    frame = table(m=50, n=2)
    one = frame.iloc[::2]
    with pytest.raises(
        SpecificationError, match="50 rows in 50 clusters of 's' cannot distinguish the variances"
    ):
        bi.fit_each([one] * 2, "y ~ x + (1 | s)")
    binary = frame.assign(T=np.tile([0.0, 1.0], 50))
    with pytest.raises(
        SpecificationError, match=r"cannot distinguish the variances .* Write \(\.\.\. \|\| s\)"
    ):
        bi.fit_each([binary] * 2, "y ~ T + (1 + T | s)")
    with pytest.raises(
        SpecificationError,
        match=r"one binary value each.*Remove the random",
    ):
        bi.fit_each([one] * 2, "yes ~ x + (1 | s)", family="bernoulli")
    for term in ("(1 + T | s)", "(1 + T || s)"):  # pairs of answers have only one covariance
        with pytest.raises(SpecificationError, match=r"one binary value each.* Remove 'T' from"):
            bi.fit_each([binary] * 2, f"yes ~ T + {term}", family="bernoulli")
    assert bi.fit_each([binary], "yes ~ T + (1 | s)", family="bernoulli").converged.all()
    # one cluster with two rows is enough, as is a count, whose variance is known, or a known weight
    assert np.isfinite(bi.fit_each([pd.concat([one, frame.iloc[[1]]])], "y ~ x + (1 | s)").estimates).all()
    assert bi.fit_each([one], "n ~ x + (1 | s)", family="poisson").converged.all()
    weights = one.assign(w=np.random.default_rng(1).uniform(1, 9, 50))
    assert np.isfinite(bi.fit_each([weights], "y ~ x + (1 | s)", weights="w").estimates).all()


def test_an_origin_far_away_is_no_reason_to_refuse():
    frame = table().assign(year=2015.0 + np.tile(np.arange(10), 24))
    assert bi.fit_each([frame], "y ~ year + (1 + year | s)").converged.all()


def test_uncorrelated_effects_of_columns_that_are_nearly_one():
    """x is 1000 up to 1e-3: uncorrelated intercepts and slopes cannot be told apart, correlated ones can."""
    frame = table()
    frame["far"] = 1000 + 1e-3 * frame.x
    assert bi.fit_each([frame], "y ~ far + (1 + far | s)").converged.all()
    with pytest.raises(SpecificationError, match=r"differ too little\. Remove 'far' from"):
        bi.fit_each([frame], "y ~ far + (1 + far || s)")


def test_slopes_alone_beside_a_mean_for_every_study():
    """The standard error of the intercept is that of generalised least squares with the slope variance alone."""
    d = table()
    g, x, y = np.repeat(np.arange(8), 30), d.x.to_numpy(), d.y.to_numpy()
    X = np.column_stack([np.ones(240), x] + [(g == k) * 1.0 for k in range(1, 8)])

    rows = [np.flatnonzero(g == k) for k in range(8)]

    def V(p, own):  # of one study; different studies are independent
        return np.exp(2 * p[1]) * np.eye(30) + np.exp(2 * p[0]) * np.outer(x[own], x[own])

    def information(p):
        return sum(X[own].T @ np.linalg.solve(V(p, own), X[own]) for own in rows)

    def reml(p):
        A, solved = information(p), np.concatenate([np.linalg.solve(V(p, own), y[own]) for own in rows])
        beta = np.linalg.solve(A, X.T @ solved)
        log_det = sum(np.linalg.slogdet(V(p, own))[1] for own in rows)
        return log_det + np.linalg.slogdet(A)[1] + y @ solved - beta @ A @ beta

    best = minimize(reml, [-1.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-5, "fatol": 1e-7})
    se = np.sqrt(np.linalg.inv(information(best.x))[0, 0])
    fits = bi.fit_each([d], "y ~ x + s + (0 + x | s)")
    assert np.sqrt(fits.covariances[0][0, 0]) == pytest.approx(se, rel=1e-4)


def test_crossed_terms():
    frame = table(m=8, n=12).assign(t=np.tile(np.arange(12), 8), same=lambda d: d.s + "!", row=range(96))
    assert bi.fit_each([frame], "y ~ x + (1 | s) + (1 | t)").converged.all()
    for formula, cure in (
        ("y ~ x + (1 | s) + (1 | same)", r"Remove \(1 \| s\) or \(1 \| same\)"),
        ("y ~ x + s + (1 | s) + (1 | t)", "absorb the random effects of 'Intercept' by 's'"),
        ("y ~ x + (1 | s) + (1 | row)", r"the residual.*Remove \(1 \| row\)"),
        ("y ~ x + (1 | s / t)", r"the residual.*Remove \(1 \| s:t\)"),
    ):
        with pytest.raises(SpecificationError, match=cure):
            bi.fit_each([frame] * 2, formula)
