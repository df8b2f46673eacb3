"""MICE-ML's step: estimates against lme4 and the mixed-model kernel, everything else against dense matrices."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from scipy.integrate import quad
from scipy.stats import norm

from bayesimp.kernels.lmm import draw as ml
from bayesimp.kernels.lmm import variances as ml_variances
from bayesimp.kernels.lmm.fit import fit_mixed_model
from bayesimp.kernels.normal.effects import moments
from bayesimp.kernels.normal.statistics import collect
from tests.calibration.montecarlo import LEVEL, REJECTED, means, normal, two_samples, with_products

REFERENCE = Path(__file__).parents[1] / "reference"
LME4 = json.loads((REFERENCE / "lme4_fits.json").read_text())


def table(rng, sizes, q, Psi, sigma2=1.0):
    """y (n,), X (n, 3), Z (n, q), codes, clusters; clusters of size 0 have no rows."""
    codes = np.repeat(np.arange(len(sizes)), sizes)
    n = len(codes)
    X = np.column_stack([np.ones(n), rng.normal(size=n), rng.uniform(size=n)])
    b = rng.multivariate_normal(np.zeros(q), np.reshape(Psi, (q, q)), len(sizes))
    y = X @ [1.0, 0.5, -0.3] + np.sum(X[:, :q] * b[codes], axis=1) + np.sqrt(sigma2) * rng.normal(size=n)
    return y, X, X[:, :q], codes, len(sizes)


def lower(q):
    return np.array([(a, b) for b in range(q) for a in range(b, q)])


def draws(data, rng, count=1, theta=np.nan):
    """Codes (count,), beta (count, p), sigma (count,), Psi (count, q, q), B (count, m, q) and the estimated theta."""
    y, X, Z, codes, m = data
    p, q = X.shape[1], Z.shape[1]
    mo = moments(collect(X, Z, y[:, None], codes, m))
    theta = np.full(len(lower(q)), theta)
    beta, Sigma, Psi, B = np.zeros((p, 1)), np.zeros((1, 1)), np.zeros((q, q)), np.zeros((m, q, 1))
    out = []
    for _ in range(count):
        code = ml.ml_step(rng, mo, theta, beta, Sigma, Psi, B)
        out.append((code, beta[:, 0].copy(), Sigma[0, 0], Psi.copy(), B[:, :, 0].copy()))
    return *map(np.array, zip(*out, strict=True)), theta


def variances(sigma, Psi):
    """(count, 1 + d): sigma and the lower triangle of Psi by columns."""
    i, j = lower(Psi.shape[-1]).T
    return np.column_stack([sigma, Psi[:, i, j]])


# -- the estimate --------------------------------------------------------------------------------------------


def profile(data, theta):
    """Log-likelihood at Psi = sigma Lambda Lambda', beta and sigma at their best, by dense matrices."""
    y, X, Z, codes, _ = data
    n, q = len(y), Z.shape[1]
    Lambda = np.zeros((q, q))
    Lambda[tuple(lower(q).T)] = theta
    V = np.where(codes[:, None] == codes, Z @ Lambda @ Lambda.T @ Z.T, 0) + np.eye(n)
    W = np.linalg.inv(V)
    r = y - X @ np.linalg.solve(X.T @ W @ X, X.T @ W @ y)
    return -0.5 * (n * np.log(2 * np.pi * (r @ W @ r) / n) + np.linalg.slogdet(V)[1] + n)


@pytest.mark.parametrize("case", [k for k in LME4 if k.endswith(" ML") and "independent" not in k])
def test_estimate_is_lme4s(case):
    reference = LME4[case]
    frame = pd.read_csv(REFERENCE / f"{reference['data']}.csv")
    X = np.column_stack([np.ones(len(frame)), frame.x1, frame.x2])
    codes, q = frame.g.to_numpy() - 1, reference["q"]
    data = frame.y.to_numpy(), X, X[:, :q], codes, codes.max() + 1
    code, *_, theta = draws(data, np.random.default_rng(0))
    assert profile(data, theta) == pytest.approx(reference["loglik"], abs=1e-5)
    assert bool(code[0] & ml.SINGULAR) == reference["singular"]


@pytest.mark.parametrize("seed", range(24))
def test_estimate_is_the_mixed_model_kernels_from_any_start(seed):
    rng = np.random.default_rng([1, seed])
    q = 1 + seed % 3
    sd = np.exp(rng.normal(-1, 1, q)) * (rng.random(q) > 0.3)  # some of them zero
    data = table(rng, rng.integers(1, 20, rng.integers(5, 16)), q, np.diag(sd**2))
    fit = fit_mixed_model(*data[:4], reml=False)
    code, *_, theta = draws(data, rng)
    assert code[0] >= 0 and profile(data, theta) == pytest.approx(fit.loglik, abs=1e-6)
    assert bool(code[0] & ml.SINGULAR) == fit.singular
    for start in (0.0, 1e-6, 7.0):
        assert_allclose(draws(data, rng, theta=start)[-1], theta, rtol=0, atol=0)


# -- the information -----------------------------------------------------------------------------------------


def dense_information(data, Psi, sigma):
    """I_ab = 1/2 tr(V^-1 dV_a V^-1 dV_b), V (n, n)."""
    y, _, Z, codes, _ = data
    same = codes[:, None] == codes
    W = np.linalg.inv(np.where(same, Z @ Psi @ Z.T, 0) + sigma * np.eye(len(y)))
    D = [W]
    for a, b in lower(len(Psi)):
        E = np.zeros_like(Psi)
        E[a, b] = E[b, a] = 1
        D.append(W @ np.where(same, Z @ E @ Z.T, 0))
    return np.array([[0.5 * np.sum(a * b.T) for b in D] for a in D])


@pytest.mark.parametrize("rank", [0, 1, 3])
@pytest.mark.parametrize("q", [1, 2, 3])
def test_information_is_the_dense_one(q, rank):
    rng = np.random.default_rng(q)
    data = table(rng, [3, 1, 0, 12, 7, 1, 0, 5, 2], q, np.eye(q))
    Lambda = np.tril(rng.normal(size=(q, q)))
    Lambda[:, rank:] = 0
    A = moments(collect(data[1], data[2], data[0][:, None], *data[3:])).ZZ
    free, out = lower(q), np.empty((1 + q * (q + 1) // 2,) * 2)
    ml_variances.fisher_information(free, A, len(data[0]), Lambda, 0.7, out)
    assert_allclose(out, dense_information(data, 0.7 * Lambda @ Lambda.T, 0.7), rtol=1e-9)


# -- the law of the draw -------------------------------------------------------------------------------------


@pytest.mark.parametrize("q", [1, 2])
def test_parameters_have_the_asymptotic_law(q):
    """Many clusters, so that truncation is out of reach: beta, sigma, Psi are one normal, beta independent."""
    rng = np.random.default_rng(3)
    data = table(rng, rng.integers(3, 9, 60), q, [[2.0, 0.3], [0.3, 1.5]] if q == 2 else 2.0)
    fit = fit_mixed_model(*data[:4], reml=False)
    code, beta, sigma, Psi, _, _ = draws(data, rng, 4000)
    assert not code.any()
    covariance = np.zeros((3 + 1 + len(lower(q)),) * 2)
    covariance[:3, :3] = fit.cov
    covariance[3:, 3:] = np.linalg.inv(dense_information(data, fit.Psi, fit.sigma2))
    mean = np.concatenate([fit.beta, variances([fit.sigma2], fit.Psi[None])[0]])
    drawn = np.column_stack([beta, variances(sigma, Psi)])
    assert normal(drawn, mean, covariance) > LEVEL
    for wrong in (
        normal(
            drawn, mean, np.where(np.arange(len(mean)) < 3, 1.0, 0.5) * covariance
        ),  # of the deviance: twice I
        normal(drawn, mean + 0.1 * np.sqrt(np.diag(covariance)), covariance),
        normal(0 * drawn + mean, mean, covariance),  # no parameter drawn
    ):
        assert wrong < REJECTED


def simple_rejection(rng, mean, information, q, count):
    """The truncated normal, by NumPy: whole vectors thrown away."""
    kept = np.empty((0, len(mean)))
    while len(kept) < count:
        x = rng.multivariate_normal(mean, np.linalg.inv(information), 100_000)
        Psi = np.zeros((len(x), q, q))
        for k, (a, b) in enumerate(lower(q)):
            Psi[:, a, b] = Psi[:, b, a] = x[:, k + 1]
        kept = np.vstack([kept, x[(x[:, 0] > 0) & (np.linalg.eigvalsh(Psi)[:, 0] > 0)]])
    return kept[:count]


@pytest.mark.parametrize(
    "q,Psi_hat,admissible", [(1, 0, 1 / 2), (2, 0, 1 / 7), (3, 0, 1 / 40), (2, 0.04, None)]
)
def test_truncated_draws_are_those_of_simple_rejection(q, Psi_hat, admissible):
    """Estimates of zero, and of rank one."""
    rng = np.random.default_rng(4)
    data = table(rng, [5] * 8, q, np.zeros((q, q)))
    Psi = Psi_hat * np.ones((q, q))
    information = dense_information(data, Psi, 1.0)
    mean = variances([1.0], Psi[None])[0]
    mine, bits = np.empty((20_000, len(mean))), np.empty(20_000, int)
    for s in range(len(mine)):
        bits[s] = ml_variances.draw_variances(rng, lower(q), mean, information, mine[s])
    theirs = simple_rejection(rng, mean, information, q, 20_000)
    assert set(bits) == {0, ml.REDRAWN}
    if admissible:
        assert np.mean(bits == 0) == pytest.approx(admissible, rel=0.5)  # it depends on the design
    sd = theirs.std(0)
    assert two_samples(with_products(mine / sd), with_products(theirs / sd)) > LEVEL
    untruncated = rng.multivariate_normal(mean, np.linalg.inv(information), 20_000)
    assert two_samples(with_products(untruncated / sd), with_products(theirs / sd)) < REJECTED


@pytest.mark.parametrize(
    "k,s,a", [(1.0, 2.0, 0.5), (0.3, 0.5, 0.0), (40.0, 0.02, 0.0), (1e4, 1e-3, 1e-5), (3, 30, 0)]
)
def test_draw_in_the_wedge(k, s, a):
    """z_2 with density phi(t) Phi(s - k t) on t > -a, z_1 | z_2 N(0, 1) above k z_2 - s: by quadrature."""
    rng = np.random.default_rng(5)
    z1, z2 = np.array([ml_variances.in_wedge(rng, k, s, a) for _ in range(20_000)]).T
    assert np.all(z2 >= -a) and np.all(z1 >= k * z2 - s)

    def integral(f):
        edge = s / k
        bounds = [
            -a,
            *(x for x in (edge - 8 / k, edge, edge + 8 / k) if x > -a),
            max(edge, 0) + 12 / max(k, 1),
        ]
        pieces = zip(sorted(bounds)[:-1], sorted(bounds)[1:], strict=True)
        return sum(quad(lambda t: f(t) * norm.pdf(t) * norm.cdf(s - k * t), *b, epsabs=0)[0] for b in pieces)

    mass = integral(lambda t: 1.0)
    expected = [integral(f) / mass for f in (lambda t: t, lambda t: t * t)]
    z1_mean = integral(lambda t: np.exp(norm.logpdf(k * t - s) - norm.logcdf(s - k * t))) / mass
    unit = np.sqrt(expected[1])
    got = np.column_stack([z2 / unit, (z2 / unit) ** 2, z1])
    assert means(got, np.array([expected[0] / unit, 1.0, z1_mean])) > LEVEL


def test_a_region_with_hardly_any_mass_is_drawn_from_exactly():
    """Two millionths of the normal are admissible; in units of sd(sigma | psi), sigma + psi has mean sqrt(pi / 2)."""
    information = np.array([[1.0, 1 - 6e-11], [1 - 6e-11, 1.0]])
    rng, estimate, out = np.random.default_rng(6), np.array([1e-6, 1e-6]), np.empty((200, 2))
    bits = [ml_variances.draw_variances(rng, lower(1), estimate, information, x) for x in out]
    assert set(bits) == {ml.REDRAWN, ml.REDRAWN | ml.RARE} and np.mean(np.array(bits) & ml.RARE > 0) > 0.8
    total = out.sum(1)  # density t exp(-t^2 / 2): N(0, 1) times the length of the line sigma + psi = t
    assert np.all(out > 0)
    assert means(np.column_stack([total, total**2]), np.array([np.sqrt(np.pi / 2), 2.0])) > LEVEL


def test_without_information_the_estimate_is_the_draw():
    rng, estimate, out = np.random.default_rng(7), np.array([1.0, 0.5]), np.empty(2)
    assert ml_variances.draw_variances(rng, lower(1), estimate, np.ones((2, 2)), out) == ml.NO_INFORMATION
    assert_allclose(out, estimate)


# -- cluster effects -----------------------------------------------------------------------------------------


def conditional(data, i, beta, sigma, Psi):
    """Mean and covariance of b_i given y_i, from the joint normal of (b_i, y_i)."""
    y, X, Z, codes, _ = data
    rows = codes == i
    gain = Psi @ Z[rows].T @ np.linalg.inv(Z[rows] @ Psi @ Z[rows].T + sigma * np.eye(rows.sum()))
    return gain @ (y[rows] - X[rows] @ beta), Psi - gain @ Z[rows] @ Psi


@pytest.mark.parametrize("q", [1, 2])
def test_effects_given_the_parameters_drawn(q):
    """Each draw whitened by the dense conditional at its own parameters; cluster 2 has no rows."""
    rng = np.random.default_rng(8)
    data = table(rng, [6, 1, 0, 15, 3, 8, 2, 9], q, 0.6 * np.eye(q))
    _, beta, sigma, Psi, B, _ = draws(data, rng, 1200)

    def whitened(effects):
        out = np.empty((len(beta), 4, q))
        for s in range(len(beta)):
            for i in range(4):
                mean, covariance = conditional(data, i, beta[s], sigma[s], Psi[s])
                out[s, i] = np.linalg.solve(np.linalg.cholesky(covariance), effects[s, i] - mean)
        return out.reshape(len(beta), -1)

    zero, one = np.zeros(4 * q), np.eye(4 * q)
    assert normal(whitened(B), zero, one) > LEVEL
    from_prior = B.copy()
    for s in range(len(B)):
        from_prior[s] = rng.multivariate_normal(np.zeros(q), Psi[s], B.shape[1])
    assert normal(whitened(from_prior), zero, one) < REJECTED


def test_effects_of_a_singular_covariance_stay_in_its_range():
    rng = np.random.default_rng(9)
    data = table(rng, [6, 1, 0, 15], 2, np.eye(2))
    m = moments(collect(data[1], data[2], data[0][:, None], *data[3:]))
    beta, b = np.array([1.0, 0.5, -0.3]), np.empty((5000, 4, 2))
    direction = np.array([1.0, -0.5])
    Psi = 0.8 * np.outer(direction, direction)
    for s in range(len(b)):
        ml.draw_effects_given(rng, m.first, m.ZZ, m.ZX, m.ZY[:, :, 0], beta, Psi, 0.7, b[s])
    along = b[:, :, 0]
    assert_allclose(b[:, :, 1], -0.5 * along, atol=1e-12)
    expected = [conditional(data, i, beta, 0.7, Psi) for i in range(4)]
    mean, covariance = np.array([e[0][0] for e in expected]), np.diag([e[1][0, 0] for e in expected])
    assert normal(along, mean, covariance) > LEVEL
    ml.draw_effects_given(rng, m.first, m.ZZ, m.ZX, m.ZY[:, :, 0], beta, 0 * Psi, 0.7, b[0])
    assert not b[0].any()


# -- invariance, hard cases, refusals ------------------------------------------------------------------------


@pytest.mark.parametrize("unit", [1e-3, 1e3])
@pytest.mark.parametrize("sd", [0.0, 0.8])
def test_units_change_nothing_but_units(unit, sd):
    y, X, Z, codes, m = table(np.random.default_rng(10), [9] * 9, 2, sd**2 * np.eye(2))
    d = np.array([1.0, unit, 1 / unit])
    code, beta, sigma, Psi, B, _ = draws((y, X, Z, codes, m), np.random.default_rng(0), 5)
    other = draws((y * 50, X * d, Z * d[:2], codes, m), np.random.default_rng(0), 5)
    for mine, theirs in zip(
        (code, beta * 50 / d, sigma * 2500, Psi * 2500 / np.outer(d[:2], d[:2]), B * 50 / d[:2]),
        other,
        strict=False,
    ):
        assert_allclose(theirs, mine, rtol=1e-4, atol=1e-6 * np.abs(mine).max())


def test_correlation_of_one_is_singular_and_its_draws_are_not():
    rng = np.random.default_rng(11)
    y, X, Z, codes, m = table(rng, [8] * 15, 2, np.zeros((2, 2)))
    y = y + (Z @ [0.5, -0.5]) * rng.normal(size=m)[codes]
    code, _, _, Psi, B, theta = draws((y, X, Z, codes, m), rng, 300)
    assert np.all(code & ml.SINGULAR) and not np.any(code & (ml.NO_INFORMATION | ml.NOT_CONVERGED))
    assert theta[2] == 0 and theta[0] > 0 > theta[1]
    assert np.linalg.eigvalsh(Psi).min() > 0 and np.isfinite(B).all()


@pytest.mark.parametrize("sizes", [[1] * 30 + [2], [1] * 20 + [30], [3] * 5, [0, 0, 4, 4, 4]])
@pytest.mark.parametrize("q", [1, 2])
def test_few_rows_and_few_clusters(sizes, q):
    rng = np.random.default_rng(12)
    for sd in (0.0, 2.0):
        code, beta, sigma, Psi, B, _ = draws(table(rng, sizes, q, sd**2 * np.eye(q)), rng, 50)
        if q == 2 and max(sizes) == 2:
            assert np.all(code == -4)
            continue
        assert np.all(code >= 0) and np.all(sigma > 0) and np.linalg.eigvalsh(Psi).min() >= 0
        assert all(np.isfinite(a).all() for a in (beta, sigma, Psi, B))


@pytest.mark.parametrize("sd", [0.0, 1.0])
def test_a_hundred_thousand_rows_converge(sd):
    """Where rounding of the deviance exceeds the steps that small tables take."""
    data = table(np.random.default_rng(14), [100] * 1000, 2, sd**2 * np.eye(2))
    code, *_ = draws(data, np.random.default_rng(0))
    assert not code[0] & ml.NOT_CONVERGED


def test_what_is_not_identified_is_refused():
    rng = np.random.default_rng(13)
    y, X, Z, codes, _ = table(rng, [6] * 8, 2, np.eye(2))

    def code(y=y, X=X, Z=Z, codes=codes):
        return draws((y, X, Z, codes, int(codes.max()) + 1), rng)[0][0]

    assert code() >= 0
    assert code(X=np.column_stack([X, X[:, 1] - 2 * X[:, 2]])) == code(y[:3], X[:3], Z[:3], codes[:3]) == -1
    assert code(Z=Z[:, [1, 1]]) == -2
    assert code(y=X @ [1.0, 2.0, 3.0]) == code(y=np.where(codes == 2, np.inf, y)) == -3
    assert code(Z=Z[:, :1], codes=np.arange(len(y))) == code(codes=np.arange(len(y)) // 2) == -4
    assert set(ml.FAILURES) == {-1, -2, -3, -4}


def test_every_bit_has_words():
    bits = ml.SINGULAR, ml.NO_INFORMATION, ml.REDRAWN, ml.NOT_CONVERGED, ml.RARE, ml.EXHAUSTED
    assert tuple(sorted(ml.EVENTS)) == bits == (1, 2, 4, 8, 16, 32)
