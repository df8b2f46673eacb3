"""The kernel of several grouping factors against dense algebra: deviance, gradient, identifiability, one factor."""

from __future__ import annotations

import numpy as np
import pytest

from bayesimp.errors import DataError, SpecificationError
from bayesimp.kernels.crossed import deviance as crossed_deviance
from bayesimp.kernels.crossed import structure as crossed_structure
from bayesimp.kernels.crossed.deviance import deviance, products_of
from bayesimp.kernels.crossed.fit import RandomEffects, fit_crossed_models, log_likelihood_crossed
from bayesimp.kernels.crossed.identifiability import terms_identified
from bayesimp.kernels.crossed.structure import structure_of
from bayesimp.kernels.lmm.fit import fit_mixed_models


def design(rng, n=60, kind="crossed"):
    """Codes and numbers of levels by term; X orthonormal, y its residual of mean square 1, Z of mean square 1."""
    a, b, c = rng.integers(0, 17, n), rng.integers(0, 9, n), rng.integers(0, 3, n)
    if kind == "nested":
        b, c = a // 2, a // 6
    elif kind == "some":  # blocks of crossed levels, apart from each other
        b = 3 * (a // 6) + rng.integers(0, 3, n)
    codes = [[a, b, c], [c, a], [b, a, a]][int(rng.integers(0, 3))]
    X = np.linalg.qr(np.column_stack([np.ones(n), rng.normal(size=n)]))[0]
    widths = rng.integers(1, 3, len(codes))
    Z = [np.linalg.qr(rng.normal(size=(n, q)))[0] * np.sqrt(n) for q in widths]
    y = rng.normal(size=n)
    y -= X @ (X.T @ y)
    return codes, [int(g.max()) + 1 for g in codes], X, Z, y / np.sqrt(np.mean(y**2))


def dense(codes, Z, X, y, Lambda, reml, held):
    """Deviance, beta and rss with V = I + sum Z_t Lambda_t Lambda_t' Z_t', written out."""
    V = np.eye(len(y))
    for g, z, L in zip(codes, Z, Lambda, strict=True):
        V += np.where(np.equal.outer(g, g), z @ L @ L.T @ z.T, 0.0)
    inverse = np.linalg.inv(V)
    A = X.T @ inverse @ X
    beta = np.linalg.solve(A, X.T @ inverse @ y)
    r = y - X @ beta
    rss, df = r @ inverse @ r, len(y) - reml * X.shape[1]
    sigma2 = held or rss / df
    value = np.linalg.slogdet(V)[1] + df * np.log(2 * np.pi * sigma2) + rss / sigma2
    return value + reml * np.linalg.slogdet(A)[1], beta, rss


def check_deviance(seed, kind, small, monkeypatch):
    rng = np.random.default_rng(seed)
    monkeypatch.setattr(crossed_structure, "SMALL", small)
    codes, levels, X, Z, y = design(rng, kind=kind)
    shape = structure_of(codes, levels, [z.shape[1] for z in Z], 2)
    assert small > 0 or kind == "crossed" or shape.d > 0
    products = products_of(shape, Z, X, y)
    Lambda = [np.tril(rng.normal(size=(z.shape[1],) * 2)) for z in Z]
    reml, held = bool(seed % 2), 0.7 * (seed % 3 == 0)
    at = deviance(products, Lambda, reml, held)
    value, beta, rss = dense(codes, Z, X, y, Lambda, reml, held)
    assert at.value == pytest.approx(value, abs=1e-8)
    assert at.scalars[0] == pytest.approx(rss, rel=1e-9)
    np.testing.assert_allclose(at.beta, beta, atol=1e-9)
    first = 0
    for L in Lambda:
        for a in range(len(L)):
            for b in range(a + 1):
                ends = []
                for step in (1e-5, -2e-5, 1e-5):
                    L[a, b] += step
                    ends.append(dense(codes, Z, X, y, Lambda, reml, held)[0])
                slope = (ends[0] - ends[1]) / 2e-5
                assert at.gradient[first + a, first + b] == pytest.approx(slope, rel=1e-5, abs=1e-5)
        first += len(L)


@pytest.mark.parametrize("small", [0, 3, 48])
@pytest.mark.parametrize("kind", ["crossed", "nested", "some"])
@pytest.mark.parametrize("seed", range(4))
def test_deviance_and_gradient_are_those_of_the_dense_normal(seed, kind, small, monkeypatch):
    """With the effects in a dense corner, and with most of them in sparse columns."""
    check_deviance(seed, kind, small, monkeypatch)


@pytest.mark.parametrize("wrong", ["inverse", "fill", "X"])
def test_wrong_variants_are_noticed(wrong, monkeypatch):
    """Without the corner's part of the inverse; the corner as if nothing were eliminated; REML's gradient without X."""
    if wrong == "inverse":
        right = crossed_deviance.inverse_elements

        def without_corner(starts, rows, diagonal, below, middle, corner, own, others):
            right(starts, rows, diagonal, below, middle, np.zeros_like(corner), own, others)

        monkeypatch.setattr(crossed_deviance, "inverse_elements", without_corner)
    elif wrong == "fill":
        eliminate = crossed_deviance.eliminate
        monkeypatch.setattr(crossed_deviance, "eliminate", lambda *a: eliminate(*a[:4], a[4].copy(), a[5]))
    else:
        inverse = crossed_deviance._inverse
        monkeypatch.setattr(crossed_deviance, "_inverse", lambda *a: inverse(*a[:-1], a[-1] - 2))
    with pytest.raises(AssertionError):
        check_deviance(1, "crossed", 0, monkeypatch)


def longhand(X, Z, codes, correlated):
    """Rank of I and the K' Z E_f Z' K as vectors, against their number."""
    K = np.linalg.svd(X)[0][:, X.shape[1] :]
    matrices, sizes = [np.eye(K.shape[1])], [np.sqrt(K.shape[1])]
    for z, g, together in zip(Z, codes, correlated, strict=True):
        same = np.equal.outer(g, g)
        for b in range(z.shape[1]):
            for a in range(b, z.shape[1] if together else b + 1):
                E = np.zeros((z.shape[1],) * 2)
                E[a, b] = E[b, a] = 1
                matrices.append(K.T @ (z @ E @ z.T * same) @ K)
                sizes.append(np.linalg.norm(z @ E @ z.T * same))
    rows = np.array([m.ravel() / size for m, size in zip(matrices, sizes, strict=True)])
    return np.linalg.matrix_rank(rows, tol=1e-6) == len(matrices)


def test_identified_as_the_rank_of_the_dense_matrices():
    """Designs on the brink: few rows, equal groupings, one row a level, slopes that vary in few levels."""
    found = []
    for seed in range(80):
        rng = np.random.default_rng(seed)
        n = int(rng.integers(8, 16))
        a, b = rng.integers(0, 4, n), rng.integers(0, 3, n)
        other = [b, a, a // 2, np.arange(n), 3 * a + b][int(rng.integers(0, 5))]
        codes = [np.unique(g, return_inverse=True)[1] for g in (a, other)]
        slope = rng.normal(size=n) * (rng.random(n) < 0.5)
        Z = [np.column_stack([np.ones(n), slope])[:, : int(rng.integers(1, 3))], np.ones((n, 1))]
        X = np.column_stack(
            [np.ones(n), rng.normal(size=n), *(np.eye(4)[a].T[1:] if rng.random() < 0.3 else [])]
        )
        X = np.linalg.qr(X)[0][:, np.abs(np.diag(np.linalg.qr(X)[1])) > 1e-8]
        if min(np.linalg.matrix_rank(z) - z.shape[1] for z in Z) < 0:
            continue
        correlated = [bool(rng.integers(0, 2)), True]
        Z = [
            np.linalg.qr(z)[0] if c else z / np.linalg.norm(z, axis=0)
            for z, c in zip(Z, correlated, strict=True)
        ]
        shape = structure_of(codes, [int(g.max()) + 1 for g in codes], [z.shape[1] for z in Z], X.shape[1])
        ours = terms_identified(products_of(shape, Z, X, rng.normal(size=n)), correlated, [0, 1])
        assert ours == longhand(X, Z, codes, correlated), seed
        found.append(ours)
    assert 20 < sum(found) < len(found) - 20


@pytest.mark.parametrize("reml", [True, False])
def test_one_factor_is_that_of_its_own_kernel(reml):
    rng = np.random.default_rng(4)
    n, g = 300, rng.integers(0, 12, 300)
    X = np.column_stack([np.ones(n), rng.normal(size=n)])
    b = rng.normal(size=(12, 2)) * [0.8, 0.5]
    y = X @ [1.0, 0.5] + np.sum(X * b[g], axis=1) + rng.normal(size=n)
    one = fit_mixed_models(y, X, X, g, [0, n], clusters=12, reml=reml, modes=False)
    here = fit_crossed_models(y, X, [RandomEffects(X, g, 12)], [0, n], reml=reml)
    assert here.loglik[0] == pytest.approx(one.loglik[0], abs=1e-9)
    for name, tolerance in (("beta", 1e-7), ("cov", 1e-7), ("Psi", 1e-5), ("components_cov", 1e-5)):
        np.testing.assert_allclose(getattr(here, name), getattr(one, name), atol=tolerance)


def test_many_levels_cost_little():
    """30,000 pupils in 3,000 classes of 600 schools: the factor has hardly more elements than there are levels."""
    rng = np.random.default_rng(5)
    classes = np.repeat(np.arange(3_000), 10)
    schools, years = classes // 5, rng.integers(0, 6, len(classes))
    shape = structure_of([classes, schools, years], [3_000, 600, 6], [1, 1, 1], 2)
    assert shape.size < 80 and len(shape.rows) < 3_600 * 12


def test_so_many_crossed_effects_that_no_matrix_holds_them(monkeypatch):
    monkeypatch.setattr(crossed_structure, "LARGEST", 100)
    rng = np.random.default_rng(6)
    with pytest.raises(SpecificationError, match=r"a matrix of .* rows is needed"):
        structure_of([rng.integers(0, 300, 9_000), rng.integers(0, 200, 9_000)], [300, 200], [1, 1], 2)


def test_refused():
    rng = np.random.default_rng(7)
    n, g, h = 60, np.arange(60) % 10, np.arange(60) // 15
    X, terms = (
        np.column_stack([np.ones(n), rng.normal(size=n)]),
        [RandomEffects(np.ones((n, 1)), c, 10) for c in (g, h)],
    )
    with pytest.raises(DataError, match="reproduce the response exactly"):
        fit_crossed_models(X @ [1, 2], X, terms, [0, n])
    with pytest.raises(SpecificationError, match=r"'column 1 of X'|'column 0 of X'"):
        fit_crossed_models(rng.normal(size=n), X[:, [0, 0]], terms, [0, n])
    with pytest.raises(SpecificationError, match="rows are too few for"):
        fit_crossed_models(rng.normal(size=n), rng.normal(size=(n, 60)), terms, [0, n])
    with pytest.raises(DataError, match="nothing is left for a residual variance"):
        fit_crossed_models(rng.normal(size=10)[g] + rng.normal(size=4)[h], X[:, :1], terms, [0, n])


def test_log_likelihood_at_singular_covariances():
    rng = np.random.default_rng(8)
    codes, levels, X, Z, y = design(rng)
    terms = [RandomEffects(z, g, m) for z, g, m in zip(Z, codes, levels, strict=True)]
    Q = sum(z.shape[1] for z in Z)
    Psi = np.zeros((Q, Q))
    Psi[0, 0] = 0.5
    value = log_likelihood_crossed(y, X, terms, [0.3, 0.1], Psi, 0.8)
    r = y - X @ [0.3, 0.1]
    V = 0.8 * np.eye(len(y)) + 0.5 * np.where(
        np.equal.outer(codes[0], codes[0]), np.outer(Z[0][:, 0], Z[0][:, 0]), 0
    )
    by_hand = -0.5 * (len(y) * np.log(2 * np.pi) + np.linalg.slogdet(V)[1] + r @ np.linalg.solve(V, r))
    assert value == pytest.approx(by_hand, abs=1e-8)
