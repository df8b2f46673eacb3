"""log p(y_obs | beta, Sigma, Psi) against the dense multivariate normal, its gradient against differences."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import multivariate_normal

from bayesimp.kernels.normal.marginal import log_likelihood, log_likelihood_by_cluster, marginal_data
from bayesimp.kernels.normal.statistics import collect

CASES = [(1, 1, 1), (1, 1, 2), (2, 1, 2), (3, 2, 2), (2, 2, 1), (3, 1, 3), (1, 2, 3)]  # p, q, r


def table(p, q, r, seed, clusters=5, rows=40):
    """Columns at random; rows with nothing observed, cluster 0 without the last response, cluster 4 empty."""
    rng = np.random.default_rng(seed)
    X = np.column_stack([np.ones(rows), rng.normal(size=(rows, p - 1))])
    Z = np.column_stack([np.ones(rows), rng.normal(size=(rows, q - 1))])
    Y = 3 * rng.normal(size=(rows, r)) + 1
    codes = rng.integers(0, clusters - 1, rows)
    Y[rng.random((rows, r)) < 0.3] = np.nan
    Y[:3] = np.nan
    Y[codes == 0, -1] = np.nan
    return X, Z, Y, codes, clusters


def parameters(p, q, r, seed):
    rng = np.random.default_rng(seed)
    A, C = rng.normal(size=(r, r + 2)), rng.normal(size=(r * q, r * q + 2))
    return rng.normal(size=(p, r)), A @ A.T, C @ C.T


def dense_by_cluster(X, Z, Y, codes, clusters, beta, Sigma, Psi):
    """Cluster by cluster: y_obs ~ N(vec(X beta), kron(Sigma, I) + (I kron Z) Psi (I kron Z)')."""
    out = np.zeros(clusters)
    for i in range(clusters):
        x, z, y = X[codes == i], Z[codes == i], Y[codes == i].ravel(order="F")
        seen = ~np.isnan(y)
        if seen.any():
            mean = (x @ beta).ravel(order="F")
            I = np.eye(Y.shape[1])
            cov = np.kron(Sigma, np.eye(len(x))) + np.kron(I, z) @ Psi @ np.kron(I, z).T
            out[i] = multivariate_normal(mean[seen], cov[np.ix_(seen, seen)]).logpdf(y[seen])
    return out


def arrays(statistics):
    data = marginal_data(statistics)
    return data.observed, data.cells, data.gram, data.total


@pytest.mark.parametrize("p,q,r", CASES)
def test_value_is_the_dense_normal(p, q, r):
    data, theta = table(p, q, r, seed=p + 10 * q + 100 * r), parameters(p, q, r, seed=1)
    statistics = collect(*data)
    expected = dense_by_cluster(*data, *theta)
    assert_allclose(log_likelihood(*theta, *arrays(statistics))[0], expected.sum(), rtol=1e-11)
    assert_allclose(log_likelihood_by_cluster(*theta, statistics), expected, rtol=1e-10)


@pytest.mark.parametrize("p,q,r", CASES)
def test_gradient_is_the_slope(p, q, r):
    theta = parameters(p, q, r, seed=2)
    args = arrays(collect(*table(p, q, r, seed=p + 10 * q + 100 * r)))
    gradients = log_likelihood(*theta, *args)[1:]
    rng = np.random.default_rng(3)
    for k, (value, gradient) in enumerate(zip(theta, gradients, strict=True)):
        direction = rng.normal(size=value.shape)
        if k > 0:
            direction = direction + direction.T
            assert_allclose(gradient, gradient.T, atol=1e-9 * abs(gradient).max())

        def f(step, k=k, value=value, direction=direction):
            moved = [*theta[:k], value + step * direction, *theta[k + 1 :]]
            return log_likelihood(*moved, *args)[0]

        e = 1e-4  # Richardson: error e^4
        slope = (8 * (f(e) - f(-e)) - (f(2 * e) - f(-2 * e))) / (12 * e)
        assert_allclose((gradient * direction).sum(), slope, rtol=1e-7, atol=1e-7)


def test_draws_in_front_and_clusters_behind():
    statistics = collect(*table(2, 1, 2, seed=0))
    draws = [parameters(2, 1, 2, seed) for seed in range(6)]
    beta, Sigma, Psi = (np.stack(x).reshape(2, 3, *x[0].shape) for x in zip(*draws, strict=True))
    out = log_likelihood_by_cluster(beta, Sigma, Psi, statistics)
    assert out.shape == (2, 3, 5)
    assert np.all(out[..., 4] == 0)  # nothing observed
    single = [log_likelihood(*draw, *arrays(statistics))[0] for draw in draws]
    assert_allclose(out.sum(-1).ravel(), single)


def test_outside_the_support_is_minus_infinity_without_exception():
    statistics = collect(*table(2, 1, 2, seed=0))
    beta, Sigma, Psi = parameters(2, 1, 2, 0)
    bad = np.array([[1.0, 2.0], [2.0, 1.0]])
    for S, P in [(bad, Psi), (Sigma, bad), (np.full((2, 2), np.nan), Psi), (Sigma, np.full((2, 2), np.inf))]:
        value, *gradients = log_likelihood(beta, S, P, *arrays(statistics))
        assert value == -np.inf
        assert all(np.all(g == 0) for g in gradients)
        assert np.all(log_likelihood_by_cluster(beta, S, P, statistics) == -np.inf)


def test_nearly_singular_Psi_keeps_its_precision():
    data, (beta, Sigma, _) = table(2, 2, 2, seed=5), parameters(2, 2, 2, seed=5)
    u = np.random.default_rng(0).normal(size=(4, 2))
    Psi = u @ u.T + 1e-9 * np.eye(4)
    value, *_, dPsi = log_likelihood(beta, Sigma, Psi, *arrays(collect(*data)))
    assert_allclose(value, dense_by_cluster(*data, beta, Sigma, Psi).sum(), rtol=1e-10)
    # at Psi -> 0 the gradient has the finite limit 1/2 sum (h h' - P)
    limit = log_likelihood(beta, Sigma, 1e-14 * np.eye(4), *arrays(collect(*data)))[3]
    assert np.all(np.isfinite(limit)) and np.all(np.isfinite(dPsi))


def test_nothing_observed_anywhere():
    X, Z, Y, codes, m = table(2, 1, 2, seed=0)
    statistics = collect(X, Z, np.full_like(Y, np.nan), codes, m)
    value, *gradients = log_likelihood(*parameters(2, 1, 2, 0), *arrays(statistics))
    assert value == 0 and all(np.all(g == 0) for g in gradients)
