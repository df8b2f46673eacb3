"""Step 2 of the Gibbs kernel: completed cross products against completing row by row, covariance updates."""

import numpy as np
import pytest
from numba import njit
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import invgamma, t, uniform

from bayesimp import priors as pr
from bayesimp.kernels.covariance.update import update_covariance
from bayesimp.kernels.normal import complete, effects
from bayesimp.kernels.normal.residuals import residual_products
from bayesimp.kernels.normal.statistics import collect
from bayesimp.priors.gibbs import covariance_update
from tests.calibration.montecarlo import LEVEL, REJECTED, distributions, two_samples, with_products
from tests.kernels import dense
from tests.kernels.test_draws import inverse_functionals

S = 20_000


@njit
def completed(rng, rows, observed, W, Sigma, R, out):
    ok = True
    for s in range(out.shape[0]):
        ok &= complete.complete(rng, rows, observed, W, Sigma, R, out[s])
    return ok


@njit
def products(m, beta, B, out):
    residual_products(m, beta, B, out)


@njit
def updated(rng, prior, cross, n, inverse, out):
    ok = True
    for s in range(out.shape[0]):
        ok &= update_covariance(rng, prior, cross[s], n, inverse[s], out[s])
    return ok


# -- E'E of the completed rows ----------------------------------------------------------------------------


def completed_by_row(rng, E, observed, Sigma, count):
    """E'E with the missing residuals of every row drawn from their conditional normal."""
    O, M = np.flatnonzero(observed), np.flatnonzero(~observed)
    K = np.linalg.solve(Sigma[np.ix_(O, O)], Sigma[np.ix_(O, M)])
    A = np.linalg.cholesky(Sigma[np.ix_(M, M)] - Sigma[np.ix_(M, O)] @ K)
    full = np.repeat(E[None], count, axis=0)
    full[:, :, M] = E[:, O] @ K + rng.standard_normal((count, len(E), len(M))) @ A.T
    return np.einsum("sji,sjk->sik", full, full)


def vech(draws):
    i, j = np.tril_indices(draws.shape[1])
    return draws[:, i, j]


def completion(E, observed, Sigma, count=S, rows=None, seed=5):
    O = np.flatnonzero(observed)
    W = np.zeros_like(Sigma)
    W[np.ix_(O, O)] = np.linalg.inv(Sigma[np.ix_(O, O)])
    R = np.where(observed[:, None] & observed, E.T @ E, np.nan)  # unobserved elements must not be read
    out = np.zeros((count, len(Sigma), len(Sigma)))
    assert completed(np.random.default_rng(seed), rows or len(E), observed, W, Sigma, R, out)
    return out


PATTERNS = [(1, 0), (0, 1), (0, 0), (1, 0, 1), (0, 1, 0), (0, 1, 1), (1, 0, 0, 1), (1, 1, 1, 0)]


@pytest.mark.parametrize("rows", [1, 2, 3, 12])
@pytest.mark.parametrize("observed", PATTERNS)
def test_completion_is_that_of_the_rows(observed, rows):
    observed = np.array(observed, dtype=bool)
    Sigma = dense.covariance(len(observed), 1)
    rng = np.random.default_rng([rows, len(observed)])
    E = rng.normal(size=(rows, len(observed)))
    ours = completion(E, observed, Sigma)
    rowwise = completed_by_row(rng, E, observed, Sigma, S)
    assert two_samples(with_products(vech(ours)), with_products(vech(rowwise))) > LEVEL
    assert_array_equal(ours, ours.transpose(0, 2, 1))
    seen = np.ix_(observed, observed)
    assert_allclose(ours[0][seen], (E.T @ E)[seen], rtol=1e-12)


def test_completion_with_duplicate_rows_and_dependent_residuals():
    observed, Sigma = np.array([True, True, False, False]), dense.covariance(4, 2)
    rng = np.random.default_rng(8)
    e = rng.normal(size=(1, 4))
    for E in [np.repeat(e, 5, axis=0), np.vstack([e, e, 2 * e]), np.zeros((4, 4))]:
        ours, rowwise = completion(E, observed, Sigma), completed_by_row(rng, E, observed, Sigma, S)
        assert two_samples(with_products(vech(ours)), with_products(vech(rowwise))) > LEVEL


def test_completion_with_round_off_in_the_rank():
    """One row of which the cross product came out of rank 2 (by 1e-14): as exact, and the same generator."""
    observed, Sigma = np.array([True, True, False]), dense.covariance(3, 2)
    E = np.array([[1e-3, 1.0, 0.0]])
    noisy = np.vstack([E, [[1e-7, 0.0, 0.0]]])
    exact = completion(E, observed, Sigma)
    assert_allclose(completion(noisy, observed, Sigma, rows=1), exact, rtol=1e-4, atol=1e-6)


def test_a_wrong_number_of_rows_is_noticed():
    observed, Sigma = np.array([True, False]), dense.covariance(2, 1)
    rng = np.random.default_rng(1)
    E = rng.normal(size=(12, 2))
    rowwise = with_products(vech(completed_by_row(rng, E, observed, Sigma, S)))
    ours = with_products(vech(completion(E, observed, Sigma, rows=11)))
    assert two_samples(ours, rowwise) < REJECTED


def test_completion_adds_to_what_is_there():
    observed, Sigma, E = np.array([True, False]), np.eye(2), np.ones((3, 2))
    once = completion(E, observed, Sigma, count=1)
    out = np.full((1, 2, 2), 7.0)
    completed(np.random.default_rng(5), 3, observed, np.diag([1.0, 0.0]), Sigma, E.T @ E, out)
    assert_allclose(out - 7, once, rtol=1e-12)


@pytest.mark.parametrize("p,q,r", [(1, 1, 1), (2, 1, 2), (3, 2, 3)])
def test_residual_products_are_those_of_the_rows(p, q, r):
    X, Z, Y, codes, clusters = data = dense.table(p, q, r, seed=3)
    rng = np.random.default_rng(4)
    beta, B = rng.normal(size=(p, r)), rng.normal(size=(clusters, q, r))
    m = effects.moments(collect(*data))
    out = np.full((len(m.patterns), r, r), np.nan)
    products(m, beta, B, out)
    E = Y - X @ beta - np.einsum("jq,jqr->jr", Z, B[codes])
    for a, pattern in enumerate(m.patterns):
        rows = ((~np.isnan(Y)) == pattern).all(1)
        if pattern.any():
            seen = np.ix_(pattern, pattern)
            assert_allclose(out[a][seen], (E[rows].T @ E[rows])[seen], rtol=1e-10, atol=1e-12)


# -- covariance updates -----------------------------------------------------------------------------------
# Draw S from its prior and x_1..x_n ~ N(0, S); one update of S given the x's and S must leave S with its
# prior law, whichever auxiliary variables the update uses (Geweke 2004; exact, without autocorrelation).


def prior_draws(rng, prior, d, count):
    match prior:
        case pr.InverseWishart():
            L = np.linalg.cholesky(np.linalg.inv(prior.V))
            return L @ inverse_wishart_identity(rng, np.full(count, prior.nu), d) @ L.T
        case pr.HuangWand():
            a = 1 / rng.gamma(0.5, prior.scale**2, size=(count, d))
            root = np.sqrt(2 * prior.nu / a)
            unit = inverse_wishart_identity(rng, np.full(count, prior.nu + d - 1), d)
            return root[:, :, None] * unit * root[:, None]
        case pr.Diagonal(variances=pr.HalfT() as sd):
            s = sd.scale * np.abs(rng.standard_t(sd.nu, size=(count, d)))
            return s[:, :, None] ** 2 * np.eye(d)
        case pr.Diagonal(variances=pr.InverseWishart() as ig):
            v = 0.5 / np.asarray(ig.V) / rng.gamma(0.5 * ig.nu, size=(count, d))
            return v[:, :, None] * np.eye(d)


def inverse_wishart_identity(rng, df, d):
    """Bartlett in NumPy, by inversion."""
    A = np.tril(rng.normal(size=(len(df), d, d)), -1)
    for k in range(d):
        A[:, k, k] = np.sqrt(rng.chisquare(df - k))
    inverse = np.linalg.inv(A)
    return inverse.transpose(0, 2, 1) @ inverse


def marginals(prior, draws):
    d = draws.shape[1]
    sd = np.sqrt(np.einsum("skk->sk", draws))
    match prior:
        case pr.InverseWishart():
            H = np.linalg.cholesky(prior.V).T
            return inverse_functionals(H @ draws @ H.T, prior.nu)
        case pr.HuangWand():
            pairs = [(sd[:, k], half_t(prior.nu, prior.scale[k])) for k in range(d)]
            if prior.nu == 2:
                pairs += [
                    (draws[:, i, j] / sd[:, i] / sd[:, j], uniform(-1, 2)) for i in range(d) for j in range(i)
                ]
            return pairs
        case pr.Diagonal(variances=pr.HalfT() as inner):
            return [(sd[:, k], half_t(inner.nu, inner.scale[k])) for k in range(d)]
        case pr.Diagonal(variances=inner):
            return [(sd[:, k] ** 2, invgamma(0.5 * inner.nu, scale=0.5 / inner.V[k])) for k in range(d)]


class half_t:
    def __init__(self, nu, scale):
        self.nu, self.scale = nu, scale

    def cdf(self, x):
        return 2 * t.cdf(x / self.scale, self.nu) - 1


def after_update(prior, d, n, update=None, updated_n=None):
    rng = np.random.default_rng([d, n])
    S_ = prior_draws(rng, prior, d, S)
    x = np.linalg.cholesky(S_) @ rng.standard_normal((S, d, n))
    cross = x @ x.transpose(0, 2, 1)
    out = S_.copy()
    record = update or covariance_update(prior, d)
    assert updated(rng, record, cross, n if updated_n is None else updated_n, np.linalg.inv(S_), out)
    return S_, out


def resolved(prior, d):
    return pr.resolve(prior, np.linspace(0.5, 2.0, d), "Psi")


PRIORS = [
    (pr.InverseWishart(1.7, 2.0), 1), (pr.InverseWishart(3.5, [[2.0, 0.7], [0.7, 0.5]]), 2),
    (pr.InverseWishart(None, 0.3), 3), (pr.HuangWand(), 1), (pr.HuangWand(), 2), (pr.HuangWand(), 3),
    (pr.HuangWand(scale=[0.3, 5.0], nu=4.0), 2), (pr.Diagonal(), 2), (pr.Diagonal(pr.HalfT(nu=1.0)), 1),
    (pr.Diagonal(pr.InverseWishart(3.0, [0.5, 4.0])), 2),
]  # fmt: skip
NAMES = [f"{type(prior).__name__}-{d}" for prior, d in PRIORS]


@pytest.mark.parametrize("n", [0, 1, 4])
@pytest.mark.parametrize("prior,d", PRIORS, ids=NAMES)
def test_covariance_update_keeps_the_prior(prior, d, n):
    prior = resolved(prior, d)
    before, after = after_update(prior, d, n)
    assert distributions(marginals(prior, before)) > LEVEL  # the reference itself
    assert distributions(marginals(prior, after)) > LEVEL
    assert_array_equal(after, after.transpose(0, 2, 1))
    if isinstance(prior, pr.Diagonal):
        assert (after[:, ~np.eye(d, dtype=bool)] == 0).all()


@pytest.mark.parametrize("prior,d", PRIORS, ids=NAMES)
def test_wrong_degrees_of_freedom_are_noticed(prior, d):
    prior = resolved(prior, d)
    assert distributions(marginals(prior, after_update(prior, d, 4, updated_n=5)[1])) < REJECTED


def test_fixed_stays():
    value = dense.covariance(2, 1)
    update = covariance_update(pr.Fixed(value), 2)
    out = value[None].copy()
    assert updated(np.random.default_rng(0), update, np.eye(2)[None], 9, np.eye(2)[None], out)
    assert_array_equal(out[0], value)
