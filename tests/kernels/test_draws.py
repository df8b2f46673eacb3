"""Wishart and inverse-Wishart draws against the laws of their functionals (and these against scipy).

W ~ Wishart(df, I_d): a'Wa / a'a ~ chi2(df);  1 / (W^-1)_kk ~ chi2(df - d + 1);  trace ~ chi2(df d).
S ~ IW(df, scale) is W^-1 transformed: S^-1 ~ Wishart(df, scale^-1). Every functional below uses all of S.
"""

import numpy as np
import pytest
from numba import njit
from scipy.stats import chi2, invwishart

from bayesimp.kernels import draws
from tests.calibration.montecarlo import LEVEL, REJECTED, distributions, means

SCALES = {
    1: np.array([[0.7]]),
    2: np.array([[2.0, -1.2], [-1.2, 1.5]]),
    3: np.array([[1.0, 0.9, 0.2], [0.9, 1.4, 0.0], [0.2, 0.0, 5.0]]),
}
S = 20_000


@njit
def inverse_wisharts(rng, df, scale, out):
    ok = True
    for s in range(out.shape[0]):
        ok &= draws.draw_inverse_wishart(rng, df, scale, out[s], scale.shape[0])
    return ok


@njit
def wisharts(rng, df, out):
    for s in range(out.shape[0]):
        draws.draw_wishart_identity(rng, df, out[s], out.shape[1])


def chi2_functionals(W, df):
    """Functionals of Wishart(df, I_d) draws W (S, d, d) with their laws; singular when df < d."""
    d = W.shape[1]
    pairs = [(np.einsum("sij,i,j->s", W, v, v), chi2(df)) for v in directions(d)]
    pairs.append((np.einsum("sii->s", W), chi2(df * d)))
    return pairs + inverse_functionals(np.linalg.inv(W), df) if df > d - 1 else pairs


def directions(d):
    a, b = np.arange(1.0, d + 1), np.array([(-1.0) ** k for k in range(d)])
    return a / np.linalg.norm(a), b / np.linalg.norm(b)


def inverse_functionals(inverse, df):
    """The same of draws of W^-1, without inverting: with few degrees of freedom it is nearly singular."""
    d = inverse.shape[1]
    return [(1 / np.einsum("sij,i,j->s", inverse, v, v), chi2(df - d + 1)) for v in directions(d)]


def standardised(draws_, scale):
    """S ~ IW(df, L L')  ->  L' S^-1 L ~ Wishart(df, I)."""
    L = np.linalg.cholesky(scale)
    return L.T @ np.linalg.inv(draws_) @ L


@pytest.mark.parametrize("d,df", [(1, 0.3), (1, 5.0), (2, 1.2), (2, 7.5), (3, 3.0), (3, 40.25)])
def test_inverse_wishart(d, df):
    out = np.empty((S, d, d))
    assert inverse_wisharts(np.random.default_rng([d, int(10 * df)]), df, SCALES[d], out)
    H = np.linalg.inv(np.linalg.cholesky(SCALES[d]))
    assert distributions(inverse_functionals(H @ out @ H.T, df)) > LEVEL
    assert distributions(inverse_functionals(H @ out @ H.T, df + 1)) < REJECTED
    if df >= d:
        assert distributions(chi2_functionals(standardised(out, SCALES[d]), df)) > LEVEL
        assert distributions(chi2_functionals(standardised(out, SCALES[d]), 1.1 * df)) < REJECTED
    if df > d + 3:
        assert means(out, SCALES[d] / (df - d - 1)) > LEVEL
        assert means(out, SCALES[d] / (df - d)) < REJECTED


def test_the_functionals_hold_for_scipy_too():
    """Otherwise the test above could share a mistake with the code."""
    out = invwishart(df=7.5, scale=SCALES[3]).rvs(S, random_state=1)
    assert distributions(chi2_functionals(standardised(out, SCALES[3]), 7.5)) > LEVEL


def test_inverse_wishart_refuses_a_scale_that_is_not_positive_definite():
    out = np.empty((1, 2, 2))
    assert not inverse_wisharts(np.random.default_rng(0), 5.0, np.array([[1.0, 2.0], [2.0, 1.0]]), out)


@pytest.mark.parametrize("d,df", [(1, 1), (2, 2), (3, 3), (3, 20), (3, 1), (3, 2), (2, 1)])
def test_wishart_identity_is_added(d, df):
    start = np.arange(float(d * d)).reshape(d, d)
    out = np.repeat(start[None], S, axis=0)
    wisharts(np.random.default_rng([d, df]), df, out)
    W = out - start
    assert distributions(chi2_functionals(W, df)) > LEVEL
    assert distributions([(draws_, chi2(df + 1)) for draws_, _ in chi2_functionals(W, df)[:2]]) < REJECTED
    assert means(W, df * np.eye(d)) > LEVEL
    if df < d:
        assert (np.abs(np.linalg.det(W)) < 1e-10).all()


def test_no_degrees_of_freedom_add_nothing():
    out = np.ones((2, 3, 3))
    wisharts(np.random.default_rng(0), 0, out)
    assert (out == 1).all()


@njit
def normal_by_precision(rng, H, t):
    return draws.draw_by_precision(rng, H, t, t.size)


@njit
def normals_by_factor(rng, L, t, noise):
    draws.draw_by_factor(rng, L, t, t.size)
    draws.noise_by_factor(rng, L, noise, noise.size)


def test_normals_given_a_precision():
    """H^-1 t + L^-T z with H = L L', by NumPy with the same z; the transpose of L would differ."""
    H, t = np.linalg.inv(SCALES[3]), np.array([1.0, -2.0, 0.5])
    L = np.linalg.cholesky(H)
    z = np.random.default_rng(8).standard_normal((2, 3))
    right = np.linalg.solve(H, t) + np.linalg.solve(L.T, z[0])
    drawn, by_factor, noise = t.copy(), t.copy(), np.empty(3)
    assert normal_by_precision(np.random.default_rng(8), H.copy(), drawn)
    np.testing.assert_allclose(drawn, right, rtol=1e-12)
    assert np.abs(drawn - np.linalg.solve(H, t) - np.linalg.solve(L, z[0])).max() > 0.1
    normals_by_factor(np.random.default_rng(8), np.tril(L), by_factor, noise)
    np.testing.assert_allclose(by_factor, right, rtol=1e-12)
    np.testing.assert_allclose(noise, np.linalg.solve(L.T, z[1]), rtol=1e-12)
    assert not normal_by_precision(np.random.default_rng(8), -H, t.copy())
