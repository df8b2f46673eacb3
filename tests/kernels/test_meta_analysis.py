"""Multivariate meta-analysis against dense likelihoods, published figures, and the law its draws should have."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import minimize

from bayesimp.kernels.two_stage import meta_analysis as ma
from tests.calibration.montecarlo import LEVEL, REJECTED, normal

BCG = np.array(  # trials of a vaccine, 2 x 2 tables and latitude: Colditz et al. 1994
    [[4, 119, 11, 128, 44], [6, 300, 29, 274, 55], [3, 228, 11, 209, 42], [62, 13536, 248, 12619, 52],
     [33, 5036, 47, 5761, 13], [180, 1361, 372, 1079, 44], [8, 2537, 10, 619, 19], [505, 87886, 499, 87892, 13],
     [29, 7470, 45, 7232, 27], [17, 1699, 65, 1600, 42], [186, 50448, 141, 27197, 18], [5, 2493, 3, 2338, 33],
     [27, 16886, 29, 17825, 33]], dtype=float)  # fmt: skip


def estimates(n=12, p=3, c=1, seed=0):
    rng = np.random.default_rng(seed)
    A = 0.3 * rng.normal(size=(n, p, p + 3))
    S, T = A @ A.transpose(0, 2, 1), rng.normal(size=(n, c))
    Psi = 0.5 * np.eye(p) + 0.3
    b = [rng.multivariate_normal(np.arange(p) + np.eye(p)[0] * T[i].sum(), Psi + S[i]) for i in range(n)]
    return np.array(b), S, T


def designs(T, p):
    return [np.column_stack([np.eye(p), np.eye(p)[:, :1] @ t[None]]) for t in T]


def generalised_least_squares(L, b, S, T):
    W, V = designs(T, b.shape[1]), [L @ L.T + s for s in S]
    precision = sum(w.T @ np.linalg.solve(v, w) for w, v in zip(W, V, strict=True))
    right = sum(w.T @ np.linalg.solve(v, x) for w, v, x in zip(W, V, b, strict=True))
    return np.linalg.solve(precision, right), precision, W, V


def deviance(theta, b, S, T):
    p = b.shape[1]
    L = np.zeros((p, p))
    L[np.tril_indices(p)] = theta
    beta, precision, W, V = generalised_least_squares(L, b, S, T)
    value = np.linalg.slogdet(precision)[1]
    for w, v, x in zip(W, V, b, strict=True):
        value += np.linalg.slogdet(v)[1] + (x - w @ beta) @ np.linalg.solve(v, x - w @ beta)
    return value


@pytest.mark.parametrize(("p", "c"), [(1, 0), (1, 2), (3, 0), (3, 1)])
def test_reml_maximises_the_dense_likelihood(p, c):
    b, S, T = estimates(p=p, c=c)
    fit = ma.meta_analysis(np.random.default_rng(0), b, S, T)
    start = np.eye(p)[np.tril_indices(p)]
    best = minimize(deviance, start, (b, S, T), options={"gtol": 1e-7})
    L = np.zeros((p, p))
    L[np.tril_indices(p)] = best.x
    assert_allclose(fit.deviance, best.fun, rtol=1e-9)
    assert_allclose(fit.L @ fit.L.T, L @ L.T, atol=2e-5)
    assert_allclose(fit.beta, generalised_least_squares(fit.L, b, S, T)[0], rtol=1e-8)
    assert fit.code == 0


@pytest.mark.parametrize("c", [0, 1])
def test_moments_solve_their_equation(c):
    """E Q = Q with the matrices of Jackson, White & Riley 2013 written out."""
    b, S, T = estimates(n=40, c=c)
    n, p = b.shape
    W, K, blocks = np.vstack(designs(T, p)), np.zeros((n * p, n * p)), np.kron(np.eye(n), np.ones((p, p))) > 0
    K[blocks] = np.linalg.inv(S).ravel()
    A = np.eye(n * p) - W @ np.linalg.solve(W.T @ K @ W, W.T @ K)

    def Q_of(covariance):
        product = K @ A @ covariance @ A.T
        return sum(product[i : i + p, i : i + p] for i in range(0, n * p, p))

    units = [np.kron(np.eye(n), e.reshape(p, p)) for e in np.eye(p * p)]
    M = np.array([Q_of(unit).ravel() for unit in units]).T
    right = Q_of(np.outer(b.ravel(), b.ravel())) - Q_of(np.linalg.inv(K))
    Psi = np.linalg.solve(M, right.ravel()).reshape(p, p)
    fit = ma.meta_analysis(np.random.default_rng(0), b, S, T, ma.MOMENTS)
    assert_allclose(fit.L @ fit.L.T, 0.5 * (Psi + Psi.T), atol=1e-10)
    assert_allclose(fit.L_drawn, fit.L)


def test_moments_are_made_positive_semidefinite():
    b, S, T = estimates(n=6, p=3, c=0, seed=3)
    fit = ma.meta_analysis(np.random.default_rng(0), 0.3 * b, S, T, ma.MOMENTS)
    assert fit.code == ma.TRUNCATED + ma.SINGULAR
    assert np.isfinite(fit.beta_drawn).all()


def test_published_figures():
    """Log relative risks of the BCG trials: metafor's rma, method "DL" and "REML", with and without latitude."""
    a, b, c, d, latitude = BCG.T
    y = np.log(a / (a + b) / (c / (c + d)))
    v = 1 / a - 1 / (a + b) + 1 / c - 1 / (c + d)
    none, rng = np.empty((13, 0)), np.random.default_rng(0)
    fits = [
        (ma.MOMENTS, none, 0.3088, [-0.7141]),
        (ma.REML, none, 0.3132, [-0.7145]),
        (ma.REML, latitude[:, None], 0.0764, [0.2515, -0.0291]),
    ]
    for method, T, tau2, beta in fits:
        fit = ma.meta_analysis(rng, y[:, None], v[:, None, None], T, method)
        assert_allclose(fit.L[0, 0] ** 2, tau2, atol=6e-5)
        assert_allclose(fit.beta, beta, atol=6e-5)
    # DerSimonian & Laird by hand
    w = 1 / v
    Q = (w * (y - np.average(y, weights=w)) ** 2).sum()
    by_hand = (Q - 12) / (w.sum() - (w**2).sum() / w.sum())
    fit = ma.meta_analysis(rng, y[:, None], v[:, None, None], none, ma.MOMENTS)
    assert_allclose(fit.L[0, 0] ** 2, by_hand)


def test_draws():
    """L* ~ N(L_hat, 2 H^-1) with H from the dense deviance; beta* | Psi* normal with its own mean and covariance."""
    b, S, T = estimates(n=40, p=2)
    rng = np.random.default_rng(1)
    fits = [ma.meta_analysis(rng, b, S, T) for _ in range(1000)]
    lower, hat, step = np.tril_indices(2), fits[0].L[np.tril_indices(2)], 1e-3
    H, units = np.empty((3, 3)), step * np.eye(3)
    for k in range(3):
        for l in range(3):
            signs = [(1, 1), (1, -1), (-1, 1), (-1, -1)]
            values = [s * t * deviance(hat + s * units[k] + t * units[l], b, S, T) for s, t in signs]
            H[k, l] = sum(values) / (4 * step**2)
    L = np.array([fit.L_drawn[lower] for fit in fits])
    assert normal(L, hat, 2 * np.linalg.inv(H)) > LEVEL
    assert normal(L, hat, np.linalg.inv(H)) < REJECTED
    white = []
    for fit in fits:
        mean, precision, *_ = generalised_least_squares(fit.L_drawn, b, S, T)
        white.append(np.linalg.cholesky(precision).T @ (fit.beta_drawn - mean))
    assert normal(np.array(white), np.zeros(3), np.eye(3)) > LEVEL


@pytest.mark.parametrize(("n", "p"), [(3, 4), (2, 3), (5, 4), (4, 1)])
def test_few_clusters(n, p):
    """Draws are finite and on the scale of the estimates; what is singular or open is said."""
    for seed in range(6):
        b, S, T = estimates(n, p, 0, seed)
        rng = np.random.default_rng(seed)
        fits = [ma.meta_analysis(rng, b, S, T) for _ in range(20)]
        assert all(np.isfinite(fit.beta_drawn).all() for fit in fits)
        assert max(np.abs(fit.L_drawn).max() for fit in fits) < 20 * np.abs(b - b.mean(0)).max() + 5
        assert fits[0].code & ma.NOT_CONVERGED == 0
        if n <= p:
            assert fits[0].code & (ma.SINGULAR + ma.UNDETERMINED)


def test_too_few_clusters():
    b, S, T = estimates(2, 2, 1)
    assert ma.meta_analysis(np.random.default_rng(0), b, S, T) is None
    assert ma.meta_analysis(np.random.default_rng(0), b[:1], S[:1], T[:1, :0]) is None


def test_covariances_of_estimates_come_from_own_rows():
    """Truth .1, 20 studies of 30 rows: S_i from the rows of all studies, as in micemd 1.10.1, gives .23."""
    rng = np.random.default_rng(4)
    own, pooled = [], []
    for _ in range(200):
        X = np.stack([np.ones((20, 30)), rng.normal(size=(20, 30))], axis=-1)
        coefficients = rng.normal(0.0, np.sqrt(0.1), size=(20, 2))
        y = np.einsum("inx,ix->in", X, coefficients) + 2.0 * rng.normal(size=(20, 30))
        XX = X.swapaxes(1, 2) @ X
        b = np.linalg.solve(XX, np.einsum("inx,in->ix", X, y)[..., None])[..., 0]
        s2 = ((y - np.einsum("inx,ix->in", X, b)) ** 2).sum(1) / 28
        for S, out in ((np.linalg.inv(XX), own), (np.tile(np.linalg.inv(XX.sum(0)), (20, 1, 1)), pooled)):
            fit = ma.meta_analysis(rng, b, s2[:, None, None] * S, np.empty((20, 0)), ma.MOMENTS)
            out.append((fit.L @ fit.L.T)[0, 0])
    error = np.std(own) / np.sqrt(200)
    assert abs(np.mean(own) - 0.1) < 4 * error + 0.01  # 0.01: negative estimates are zero
    assert abs(np.mean(pooled) - 0.23) < 0.02


@pytest.mark.parametrize("published", [False, True])
def test_the_mean_is_drawn_given_the_drawn_psi(published):
    """beta* | Psi* ~ N(weighted mean at Psi*, V(Psi*)), whether Psi* is small or large; as published: at Psi_hat."""
    rng = np.random.default_rng(6)
    S = rng.uniform(0.02, 0.06, 8)
    b = rng.normal(0, 0.5, 8) + np.sqrt(S) * rng.normal(size=8)
    draws = [
        ma.meta_analysis(rng, b[:, None], S[:, None, None], np.empty((8, 0)), ma.REML, published)
        for _ in range(3000)
    ]
    psi, beta = np.array([(d.L_drawn[0, 0] ** 2, d.beta_drawn[0]) for d in draws]).T
    w = 1 / (S + psi[:, None])
    z = (beta - (w @ b) / w.sum(axis=1)) * np.sqrt(w.sum(axis=1))
    small = psi < np.median(psi)
    inside = [abs(z[part].var() - 1) < 3.9 * np.sqrt(2 / 1500) for part in (small, ~small)]
    assert all(inside) != published
