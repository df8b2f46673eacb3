"""beta and the cluster effects against the dense normal of the observed values."""

import numpy as np
import pytest
from numba import njit
from numpy.testing import assert_allclose

from bayesimp.kernels.normal import effects
from bayesimp.kernels.normal.statistics import collect
from tests.calibration.montecarlo import LEVEL, REJECTED, normal
from tests.kernels import dense

CASES = [(1, 1, 1), (2, 1, 2), (2, 2, 2), (1, 2, 1), (3, 1, 3), (2, 2, 3)]  # p, q, r
S = 20_000


@njit
def joint_draws(rng, W, Psi_inverse, m, Q0, t0, beta, B, held):
    code = 0
    for s in range(beta.shape[0]):
        code = max(code, effects.draw_beta_and_effects(rng, W, Psi_inverse, m, Q0, t0, beta[s], B[s], held))
    return code


def setting(p, q, r, proper):
    data = dense.table(p, q, r, seed=p + 10 * q + 100 * r)
    Sigma, Psi = dense.covariance(r, 1), dense.covariance(r * q, 2)
    Q0 = dense.covariance(r * p, 3) if proper else np.zeros((r * p, r * p))
    return data, Sigma, Psi, Q0, Q0 @ np.linspace(-3, 3, r * p)


def sample(data, Sigma, Psi, Q0, t0, seed, count=S):
    m = effects.moments(collect(*data))
    p, q, r, clusters = data[0].shape[1], data[1].shape[1], data[2].shape[1], data[4]
    W, ok = effects.pattern_weights(Sigma, m.patterns)
    assert ok
    beta, B = np.empty((count, p, r)), np.empty((count, clusters, q, r))
    code = joint_draws(
        np.random.default_rng(seed), W, np.linalg.inv(Psi), m, Q0, t0, beta, B, np.empty(0, np.int64)
    )
    return code, beta, B


@pytest.mark.parametrize("proper", [True, False])
@pytest.mark.parametrize("p,q,r", CASES)
def test_beta_and_effects_are_the_dense_normal(p, q, r, proper):
    data, *theta = setting(p, q, r, proper)
    code, beta, B = sample(data, *theta, seed=1)
    assert code == 0
    assert normal(dense.stacked(beta, B), *dense.posterior(data, *theta)) > LEVEL


def test_wrong_references_are_rejected():
    """Prior of beta left out; incomplete rows left out; Psi a fifth too large; clusters' effects ignored."""
    data, Sigma, Psi, Q0, t0 = setting(2, 2, 2, True)
    _, beta, B = sample(data, Sigma, Psi, Q0, t0, seed=1)
    X, Z, Y, codes, clusters = data
    whole = np.where(np.isnan(Y).any(1, keepdims=True), np.nan, Y)
    draws = dense.stacked(beta, B)
    for wrong in [
        (data, Sigma, Psi, 0 * Q0, 0 * t0),
        ((X, Z, whole, codes, clusters), Sigma, Psi, Q0, t0),
        (data, Sigma, 1.2 * Psi, Q0, t0),
        (data, 1.2 * Sigma, Psi, Q0, t0),
    ]:
        assert normal(draws, *dense.posterior(*wrong)) < REJECTED


@pytest.mark.parametrize("p,q,r", CASES)
def test_effects_given_beta(p, q, r):
    """The conditional of the dense normal at beta: precision block, and mean shifted by beta's departure."""
    data, Sigma, Psi, Q0, t0 = setting(p, q, r, False)
    mean, covariance = dense.posterior(data, Sigma, Psi, Q0, t0)
    P = r * p
    beta = np.linspace(-1, 2, P)
    precision = np.linalg.inv(covariance)
    given = np.linalg.inv(precision[P:, P:])
    expected = mean[P:] - given @ precision[P:, :P] @ (beta - mean[:P])
    m = effects.moments(collect(*data))
    W, _ = effects.pattern_weights(Sigma, m.patterns)
    rng, B = np.random.default_rng(2), np.empty((S, data[4], q, r))
    beta_matrix = np.ascontiguousarray(beta.reshape(r, p).T)
    for s in range(S):
        assert effects.draw_effects(rng, W, np.linalg.inv(Psi), m, beta_matrix, B[s])
    draws = B.transpose(0, 1, 3, 2).reshape(S, -1)
    assert normal(draws, expected, given) > LEVEL
    assert normal(draws, mean[P:], given) < REJECTED


def test_pattern_weights_invert_the_observed_block():
    Sigma = dense.covariance(3, 1)
    patterns = np.array([[True, True, True], [True, False, True], [False, True, False], [False] * 3])
    W, ok = effects.pattern_weights(Sigma, patterns)
    assert ok
    for a, seen in enumerate(patterns):
        assert_allclose(W[a][np.ix_(seen, seen)], np.linalg.inv(Sigma[np.ix_(seen, seen)]), rtol=1e-10)
        assert not W[a][~seen].any() and not W[a][:, ~seen].any()
    assert not effects.pattern_weights(np.array([[1.0, 2.0], [2.0, 1.0]]), np.array([[True, True]]))[1]


def test_a_cluster_without_observed_rows_draws_from_the_prior():
    data, Sigma, Psi, Q0, t0 = setting(2, 2, 2, True)
    _, _, B = sample(data, Sigma, Psi, Q0, t0, seed=3)
    last = B[:, -1].transpose(0, 2, 1).reshape(S, -1)
    assert normal(last, np.zeros(4), Psi) > LEVEL


def test_failures_are_told_apart():
    data, Sigma, Psi, Q0, t0 = setting(2, 1, 2, False)
    X = data[0].copy()
    X[:, 1] = X[:, 0]  # beta not identified
    exact = (X, *data[1:])
    assert sample(exact, Sigma, Psi, Q0, t0, seed=1, count=1)[0] == 2
    assert sample(data, Sigma, -1e-3 * Psi, Q0, t0, seed=1, count=1)[0] == 1


@pytest.mark.parametrize("r", [1, 2])
@pytest.mark.parametrize("off", [0.0, 1e-9])  # a column equal to another, exactly and up to round-off
def test_coefficients_that_are_not_identified_are_held(r, off):
    """The others are drawn as those of the values less what is held; the effects given all of them."""
    (X, Z, Y, codes, m), Sigma, Psi, *_ = setting(2, 1, r, False)
    twice = np.column_stack([X, X[:, 1] + off * np.cos(np.arange(len(X)))])
    held, P = np.zeros(3 * r, np.int64), 3 * r
    start = np.linspace(-2, 3, P).reshape(3, r)
    inverse = np.linalg.inv(Psi)
    flat = np.zeros((P, P)), np.zeros(P)

    def moments_and_weights(X, Y):
        statistics = effects.moments(collect(X, Z, Y, codes, m))
        return statistics, effects.pattern_weights(Sigma, statistics.patterns)[0]

    statistics, W = moments_and_weights(twice, Y)
    beta, B = start.copy()[None], np.empty((1, m, 1, r))
    rng = np.random.default_rng(5)
    assert joint_draws(rng, W, inverse, statistics, *flat, beta, B, held) == 0
    assert_allclose(beta[0, 2], start[2])
    assert held.tolist() == [0, 0, 1] * r

    less, W = moments_and_weights(X, Y - twice[:, 2:] * start[2])
    normals = (
        np.random.default_rng(5).standard_normal(P).reshape(r, 3)[:, :2]
    )  # of the columns that are drawn
    mean, root = dense_law(less, W, inverse, X.shape[1], r)
    expected = mean + np.linalg.solve(root.T, normals.ravel())
    assert_allclose(beta[0, :2].T.ravel(), expected, rtol=1e-6)
    again, rng = np.empty((m, 1, r)), np.random.default_rng(5)
    rng.standard_normal(P)
    assert effects.draw_effects(rng, W, inverse, statistics, beta[0], again)
    assert_allclose(B[0], again, rtol=1e-10)


def dense_law(m, W, Psi_inverse, p, r):
    """Mean of vec(beta), and the lower factor of its precision, one effect a response: the module's Q and t in NumPy."""
    Q = sum(np.kron(w, XX) for w, XX in zip(W, m.XX, strict=True))
    t = sum((XY @ w).T.ravel() for w, XY in zip(W, m.XY, strict=True))
    for i in range(len(m.first) - 1):
        M, C, g = Psi_inverse.copy(), np.zeros((r, r * p)), np.zeros(r)
        for c in range(m.first[i], m.first[i + 1]):
            w = W[m.cell_pattern[c]]
            M, C, g = M + np.kron(w, m.ZZ[c]), C + np.kron(w, m.ZX[c]), g + (m.ZY[c] @ w).ravel()
        Q, t = Q - C.T @ np.linalg.solve(M, C), t - C.T @ np.linalg.solve(M, g)
    return np.linalg.solve(Q, t), np.linalg.cholesky(Q)


def test_moments_are_sums_over_observed_rows():
    X, Z, Y, codes, clusters = data = dense.table(2, 2, 3, seed=4)
    m = effects.moments(collect(*data))
    filled = np.where(np.isnan(Y), 0.0, Y)
    for a, pattern in enumerate(m.patterns):
        rows = ((~np.isnan(Y)) == pattern).all(1) & pattern.any()
        assert m.pattern_rows[a] == rows.sum()
        assert_allclose(m.XX[a], X[rows].T @ X[rows], atol=1e-12)
        assert_allclose(m.XY[a], X[rows].T @ filled[rows], atol=1e-12)
        assert_allclose(m.YY[a], filled[rows].T @ filled[rows], atol=1e-12)
        for i in range(clusters):
            for c in range(m.first[i], m.first[i + 1]):
                if m.cell_pattern[c] == a:
                    cell = rows & (codes == i)
                    assert_allclose(m.ZZ[c], Z[cell].T @ Z[cell], atol=1e-12)
                    assert_allclose(m.ZX[c], Z[cell].T @ X[cell], atol=1e-12)
                    assert_allclose(m.ZY[c], Z[cell].T @ filled[cell], atol=1e-12)
    assert m.first[0] == 0 and m.first[-1] == len(m.cell_pattern)
