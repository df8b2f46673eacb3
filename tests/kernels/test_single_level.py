"""Regression draws against their closed forms, predictive mean matching against every distance computed."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import chi2, invgamma, t

from bayesimp.kernels.chained import regression as single_level
from tests.calibration.montecarlo import LEVEL, REJECTED, distributions, means, with_products

S = 20_000


# -- Bayesian linear regression -------------------------------------------------------------------------------


def products(n=9, p=3, seed=1):
    rng = np.random.default_rng(seed)
    X = np.column_stack([np.ones(n), rng.normal(size=(n, p - 1))])
    y = X @ np.linspace(1, -1, p) + rng.normal(size=n)
    return X, y, X.T @ X, X.T @ y, float(y @ y)


def draws(XX, XY, YY, n, seed=0, count=S):
    rng = np.random.default_rng(seed)
    beta_hat, beta = np.empty(len(XY)), np.empty((count, len(XY)))
    sigma2, held = np.empty(count), np.zeros(len(XY), np.int64)
    for s in range(count):
        sigma2[s], code = single_level.draw_regression(rng, XX, XY, YY, n, beta_hat, beta[s], held)
        assert code == 0
    return beta_hat, beta, sigma2


def test_posterior_of_a_regression():
    """sigma^2 inverse chi-square, each beta_k a t, and beta given sigma^2 of the right covariance."""
    X, y, XX, XY, YY = products()
    n, p = X.shape
    beta_hat, beta, sigma2 = draws(XX, XY, YY, n)
    expected, rss, *_ = np.linalg.lstsq(X, y)
    assert_allclose(beta_hat, expected, rtol=1e-10)
    covariance = np.linalg.inv(XX)
    sd = np.sqrt(rss[0] / (n - p) * np.diag(covariance))
    laws = [(sigma2, invgamma(0.5 * (n - p), scale=0.5 * rss[0]))]
    laws += [(beta[:, k], t(n - p, expected[k], sd[k])) for k in range(p)]
    assert distributions(laws) > LEVEL
    L = np.linalg.cholesky(covariance)
    white = np.linalg.solve(L, (beta - expected).T).T / np.sqrt(sigma2)[:, None]
    i, j = np.tril_indices(p)
    assert means(with_products(white), np.concatenate([np.zeros(p), i == j])) > LEVEL
    # wrong: the estimate of sigma^2 with n degrees of freedom; beta at its estimate
    assert distributions([(sigma2 * (n - p) / n, laws[0][1])]) < REJECTED
    assert distributions([(np.full(S, expected[0]), laws[1][1])]) < REJECTED


def test_predictions_are_t():
    X, y, XX, XY, YY = products(6, 2, seed=4)
    beta_hat, beta, sigma2 = draws(XX, XY, YY, 6)
    x = np.array([1.0, 2.5])
    y_mis = beta @ x + np.sqrt(sigma2) * np.random.default_rng(1).standard_normal(S)
    s2 = ((y - X @ beta_hat) ** 2).sum() / 4
    law = t(4, x @ beta_hat, np.sqrt(s2 * (1 + x @ np.linalg.solve(XX, x))))
    assert distributions([(y_mis, law)]) > LEVEL
    fixed = beta_hat @ x + np.sqrt(s2) * np.random.default_rng(1).standard_normal(S)
    assert distributions([(fixed, law)]) < REJECTED


@pytest.mark.parametrize("column", [lambda X: X[:, 1] - 2 * X[:, 2], lambda X: 0 * X[:, 0]])
def test_coefficients_that_are_not_identified_are_held(column):
    """The others are drawn as those of y less what is held, on as many degrees of freedom as without the column."""
    X, y, *_ = products()
    more = np.insert(X, 2, column(X), axis=1)  # X[:, 2] is then a combination too: of those before it
    late = len(X.T) if more[:, 2].any() else 2
    start, held = np.array([9.0, 9.0, -1.5, 0.8]), np.zeros(4, np.int64)
    beta_hat, beta = np.empty(4), start.copy()
    rng, again = np.random.default_rng(3), np.random.default_rng(3)
    sigma2, code = single_level.draw_regression(
        rng, more.T @ more, more.T @ y, float(y @ y), len(y), beta_hat, beta, held
    )
    kept = [k for k in range(4) if k != late]
    assert code == 0 and held.tolist() == [int(k == late) for k in range(4)]
    assert beta[late] == beta_hat[late] == start[late]
    S, rest = more[:, kept], y - start[late] * more[:, late]
    fit, rss, *_ = np.linalg.lstsq(S, rest)
    assert_allclose(beta_hat[kept], fit, rtol=1e-9)
    assert_allclose(sigma2, 0.5 * rss[0] / again.standard_gamma(0.5 * (len(y) - 3)), rtol=1e-9)
    z = again.standard_normal(4)[kept]
    assert_allclose(
        beta[kept], fit + np.sqrt(sigma2) * np.linalg.solve(np.linalg.cholesky(S.T @ S).T, z), rtol=1e-9
    )


def refused(X, y):
    p = X.shape[1]
    out = np.empty(p), np.zeros(p), np.zeros(p, np.int64)
    sigma2, code = single_level.draw_regression(
        np.random.default_rng(0), X.T @ X, X.T @ y, float(y @ y), len(y), *out
    )
    assert np.isnan(sigma2)
    return code


def test_what_is_not_identified_is_told():
    X, y, *_ = products()
    assert refused(X[:3], y[:3]) == 2
    assert refused(X, X @ [1.0, 2.0, -0.3]) == 3
    assert refused(X, np.zeros(len(y))) == 3


# -- predictive mean matching ---------------------------------------------------------------------------------


def shares(predicted, at, k):
    """Probability of every observed row to be the donor, from all distances."""
    distance = np.abs(predicted - at)
    kth = np.sort(distance)[k - 1]
    nearer, tied = distance < kth, distance == kth
    return nearer / k + tied * (k - nearer.sum()) / k / tied.sum()


def match_naively(rng, predicted, values, missing, k):
    """The same law with the same random numbers: nearer rows first, then tied ones, each by prediction and value."""
    order = np.lexsort([values, predicted])
    predicted, values = predicted[order], values[order]
    out = np.empty(len(missing))
    for j, at in enumerate(missing):
        distance = np.abs(predicted - at)
        kth = np.sort(distance)[k - 1]
        nearer, tied = np.flatnonzero(distance < kth), np.flatnonzero(distance == kth)
        u = int(k * rng.random())
        out[j] = values[nearer[u] if u < len(nearer) else tied[int(len(tied) * rng.random())]]
    return out


def matched(seed, *args):
    out = np.empty(len(args[2]))
    single_level.match(np.random.default_rng(seed), *args, out)
    return out


def cases():
    rng = np.random.default_rng(7)
    for n, M, k in [(1, 3, 1), (5, 20, 5), (40, 60, 5), (200, 100, 1), (300, 80, 7)]:
        yield rng.normal(size=n), rng.normal(size=n), 1.5 * rng.normal(size=M), k
        coarse = rng.integers(-2, 3, n).astype(float)  # ties: on both sides, at distance 0, beyond the ends
        yield coarse, rng.normal(size=n).round(1), rng.integers(-8, 9, M) / 2, k
        yield np.zeros(n), rng.normal(size=n), rng.normal(size=M).round(), k


@pytest.mark.parametrize("case", list(cases()), ids=range(15))
def test_matching_is_the_naive_one_bit_for_bit(case):
    assert_array_equal(matched(3, *case), match_naively(np.random.default_rng(3), *case))


@pytest.mark.parametrize("case", list(cases()), ids=range(15))
def test_matching_does_not_depend_on_the_order_of_the_rows(case):
    predicted, values, missing, k = case
    order = np.random.default_rng(1).permutation(len(values))
    assert_array_equal(matched(3, predicted[order], values[order], missing, k), matched(3, *case))


@pytest.mark.parametrize("k", [1, 2, 3, 4, 6])
def test_donors_have_the_right_shares(k):
    predicted = np.array([0.0, 0.0, 1.0, 2.0, 2.0, 2.0])
    values = np.arange(6.0)
    for at in (-1.0, 0.0, 1.0, 1.4, 1.5, 9.0):
        found = matched(5, predicted, values, np.full(S, at), k)
        expected = S * shares(predicted, at, k)
        counts = np.bincount(found.astype(int), minlength=6)
        possible = expected > 0
        assert not counts[~possible].any()
        statistic = ((counts - expected)[possible] ** 2 / expected[possible]).sum()
        assert chi2.sf(statistic, max(possible.sum() - 1, 1)) > LEVEL / 30


def test_more_donors_than_rows_are_all_rows():
    args = np.array([0.0, 1.0, 5.0]), np.array([1.0, 2.0, 3.0]), np.linspace(-3, 3, 200)
    assert_array_equal(matched(1, *args, 99), matched(1, *args, 3))
    assert set(matched(1, *args, 99)) == {1.0, 2.0, 3.0}


def test_ties_do_not_cost_time():
    """50,000 observed rows with two different predictions: by bisection, not by walking through the ties."""
    n = 50_000
    predicted = (np.arange(n) % 2).astype(float)
    values = np.random.default_rng(0).normal(size=n)
    found = matched(2, predicted, values, np.full(n, 0.3), 5)
    assert np.isin(found, values[predicted == 0]).all()
