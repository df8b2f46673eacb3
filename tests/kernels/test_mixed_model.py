"""The mixed-model kernel against the dense normal, finite differences, lme4; changes of unit and order."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bayesimp.errors import DataError, SpecificationError
from bayesimp.kernels.lmm.fit import fit_mixed_model, fit_mixed_models, log_likelihood
from bayesimp.kernels.lmm.search import PreparedTables

REFERENCE = Path(__file__).parents[1] / "reference"


def table(rng, n=120, m=9, q=2, sd=(0.7, 0.4), sigma=1.0, empty=True):
    """A table with unequal clusters: one without rows, one with a single row."""
    codes = rng.integers(2 if empty else 0, m, n)
    codes[0] = 1 if empty else codes[0]
    X = np.column_stack([np.ones(n), rng.normal(size=n) + 0.3 * codes, rng.uniform(size=n)])
    Z = X[:, :q]
    b = rng.normal(size=(m, q)) * np.asarray(sd)[:q]
    y = X @ [1.0, 0.5, -0.3] + np.sum(Z * b[codes], axis=1) + sigma * rng.normal(size=n)
    return y, X, Z, codes, m


def dense(y, X, Z, codes, Psi, sigma2):
    """V = Z Psi Z' within clusters + sigma^2 I, written out."""
    same = codes[:, None] == codes[None, :]
    return np.where(same, Z @ Psi @ Z.T, 0.0) + sigma2 * np.eye(len(y))


def dense_loglik(y, X, Z, codes, beta, Psi, sigma2, reml):
    V = dense(y, X, Z, codes, Psi, sigma2)
    r = y - X @ beta
    value = -0.5 * (len(y) * np.log(2 * np.pi) + np.linalg.slogdet(V)[1] + r @ np.linalg.solve(V, r))
    if reml:
        logdet = np.linalg.slogdet(X.T @ np.linalg.solve(V, X))[1]
        value += 0.5 * X.shape[1] * np.log(2 * np.pi) - 0.5 * logdet
    return value


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("q", [1, 2])
def test_log_likelihood_covariance_and_modes_are_those_of_the_dense_normal(q, reml):
    y, X, Z, codes, m = table(np.random.default_rng(q), q=q)
    fit = fit_mixed_model(y, X, Z, codes, clusters=m, reml=reml)
    assert fit.loglik == pytest.approx(
        dense_loglik(y, X, Z, codes, fit.beta, fit.Psi, fit.sigma2, reml), abs=1e-8
    )
    V = dense(y, X, Z, codes, fit.Psi, fit.sigma2)
    information = X.T @ np.linalg.solve(V, X)
    np.testing.assert_allclose(fit.cov, np.linalg.inv(information), rtol=1e-8)
    np.testing.assert_allclose(fit.beta, np.linalg.solve(information, X.T @ np.linalg.solve(V, y)), rtol=1e-8)
    for i in range(m):
        rows = codes == i
        Zi, Vi = Z[rows], V[np.ix_(rows, rows)]
        gain = fit.Psi @ Zi.T @ np.linalg.inv(Vi)
        np.testing.assert_allclose(fit.modes[i], gain @ (y[rows] - X[rows] @ fit.beta), atol=1e-8)
        np.testing.assert_allclose(fit.mode_cov[i], fit.Psi - gain @ Zi @ fit.Psi, atol=1e-8)
    assert (fit.n, fit.clusters) == (len(y), m - 1)


@pytest.mark.parametrize("reml", [True, False])
def test_gradient_is_the_derivative(reml):
    rng = np.random.default_rng(3)
    y, X, Z, codes, m = table(rng, q=2)
    X, Z = np.linalg.qr(X)[0], np.linalg.qr(Z)[0] * np.sqrt(len(y))
    y = y - X @ (X.T @ y)
    y /= np.sqrt(np.mean(y**2))
    A, B, c = np.zeros((m, 2, 2)), np.zeros((m, 2, 3)), np.zeros((m, 2))
    np.add.at(A, codes, Z[:, :, None] * Z[:, None, :])
    np.add.at(B, codes, Z[:, :, None] * X[:, None, :])
    np.add.at(c, codes, Z * y[:, None])
    free = np.array([[0, 0], [1, 0], [1, 1]])
    prepared = PreparedTables(A[None], B[None], c[None], np.array([len(y)]), free, reml)
    for theta in rng.normal(size=(4, 1, 3)):
        exact = prepared.descend(theta, evaluations=1).gradient[0]
        for k in range(3):
            h = np.eye(3)[k] * 1e-5
            up, down = (prepared.descend(theta + s * h, evaluations=1).value[0] for s in (1, -1))
            assert exact[k] == pytest.approx((up - down) / 2e-5, rel=1e-6, abs=1e-6)


def test_no_neighbour_is_better():
    """The optimum, by the dense likelihood: moving any parameter lowers it (REML)."""
    y, X, Z, codes, m = table(np.random.default_rng(5))
    fit = fit_mixed_model(y, X, Z, codes, clusters=m)
    best = dense_loglik(y, X, Z, codes, fit.beta, fit.Psi, fit.sigma2, True)
    for sign in (-1e-3, 1e-3):
        assert dense_loglik(y, X, Z, codes, fit.beta, fit.Psi, fit.sigma2 * (1 + sign), True) < best
        for factor in (np.diag([1 + sign, 1]), np.diag([1, 1 + sign]), np.array([[1, 0], [sign, 1]])):
            Psi = factor @ fit.Psi @ factor.T
            assert dense_loglik(y, X, Z, codes, fit.beta, Psi, fit.sigma2, True) < best


def test_components_covariance_is_the_inverse_information():
    """Against second differences of the dense log-likelihood, beta profiled."""
    y, X, Z, codes, m = table(np.random.default_rng(8), m=12, empty=False)
    fit = fit_mixed_model(y, X, Z, codes, clusters=m)

    def value(phi):
        s, rho = np.exp(phi[:2]), np.tanh(phi[2])
        Psi = np.array([[s[0] ** 2, rho * s[0] * s[1]], [rho * s[0] * s[1], s[1] ** 2]])
        V = dense(y, X, Z, codes, Psi, np.exp(2 * phi[3]))
        beta = np.linalg.solve(X.T @ np.linalg.solve(V, X), X.T @ np.linalg.solve(V, y))
        return dense_loglik(y, X, Z, codes, beta, Psi, np.exp(2 * phi[3]), True)

    phi, h, I = fit.components, 1e-3, np.eye(4)
    hessian = [
        [
            (value(phi + h * (I[a] + I[b])) - value(phi + h * (I[a] - I[b])) - value(phi - h * (I[a] - I[b]))
             + value(phi - h * (I[a] + I[b]))) / (4 * h * h)
            for b in range(4)
        ]
        for a in range(4)
    ]  # fmt: skip
    np.testing.assert_allclose(fit.components_cov, np.linalg.inv(-np.array(hessian)), rtol=2e-3, atol=1e-5)
    assert fit.components[0] == pytest.approx(0.5 * np.log(fit.Psi[0, 0]))
    assert fit.components[3] == pytest.approx(0.5 * np.log(fit.sigma2))


@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_units_change_nothing_but_units(unit):
    y, X, Z, codes, m = table(np.random.default_rng(11))
    one = fit_mixed_model(y, X, Z, codes, clusters=m)
    d = np.array([1.0, unit, 1 / unit])
    other = fit_mixed_model(y * 100 + 1e5, X * d, Z * d[:2], codes, clusters=m)
    shift = np.array([1e5, 0, 0])
    np.testing.assert_allclose((other.beta - shift) * d / 100, one.beta, rtol=1e-6)
    np.testing.assert_allclose(other.cov * np.outer(d, d) / 1e4, one.cov, rtol=1e-6)
    np.testing.assert_allclose(other.Psi * np.outer(d[:2], d[:2]) / 1e4, one.Psi, rtol=1e-5)
    assert other.singular == one.singular
    assert other.gradient_norm < 1e-3


def test_a_covariate_far_from_zero_keeps_its_digits():
    """(1 + year | g), year near 2000: the same fit as with year - 2000, its intercept moved."""
    y, X, Z, codes, m = table(np.random.default_rng(12))
    one = fit_mixed_model(y, X, Z, codes, clusters=m)
    move = np.array([[1.0, 2000.0], [0.0, 1.0]])  # new columns = old @ move
    far = fit_mixed_model(y, np.column_stack([Z @ move, X[:, 2]]), Z @ move, codes, clusters=m)
    assert far.loglik == pytest.approx(one.loglik, abs=1e-7)  # |det move| = 1
    np.testing.assert_allclose(move @ far.Psi @ move.T, one.Psi, atol=1e-4)
    np.testing.assert_allclose(far.beta[1:], one.beta[1:], rtol=1e-6)


def test_rows_in_any_order_and_clusters_under_any_code():
    rng = np.random.default_rng(13)
    y, X, Z, codes, m = table(rng)
    one = fit_mixed_model(y, X, Z, codes, clusters=m)
    rows, labels = rng.permutation(len(y)), rng.permutation(m)
    other = fit_mixed_model(y[rows], X[rows], Z[rows], labels[codes][rows], clusters=m)
    np.testing.assert_allclose(other.beta, one.beta, rtol=1e-7)
    np.testing.assert_allclose(other.modes[labels], one.modes, rtol=1e-5, atol=1e-7)


def test_uncorrelated_random_effects():
    y, X, Z, codes, m = table(np.random.default_rng(14), n=300)
    both = fit_mixed_model(y, X, Z, codes, clusters=m, reml=False)
    apart = fit_mixed_model(y, X, Z, codes, clusters=m, reml=False, blocks=[0, 1])
    assert apart.Psi[0, 1] == 0 and len(apart.theta) == 2 and len(apart.components) == 3
    assert apart.loglik <= both.loglik + 1e-9
    assert apart.loglik == pytest.approx(
        dense_loglik(y, X, Z, codes, apart.beta, apart.Psi, apart.sigma2, False), abs=1e-8
    )


def test_a_variance_of_zero_is_found_and_said():
    rng = np.random.default_rng(15)
    codes = np.repeat(np.arange(10), 20)
    X = np.ones((200, 1))
    y = rng.normal(size=200)
    y -= (np.bincount(codes, y) / 20)[codes]  # cluster means all equal: less spread than chance
    fit = fit_mixed_model(y, X, X, codes)
    assert fit.singular and fit.converged and fit.Psi[0, 0] == 0
    assert np.isneginf(fit.components[0])
    # the residual keeps its uncertainty: log sigma is half a log chi-squared of n - p degrees of freedom
    np.testing.assert_allclose(fit.components_cov, [[np.nan, np.nan], [np.nan, 1 / (2 * 199)]], rtol=1e-4)
    assert fit.sigma2 == pytest.approx(y.var(ddof=1))
    assert np.all(fit.modes == 0)


def test_many_tables_are_fitted_as_one_by_one():
    rng = np.random.default_rng(16)
    tables = [table(rng, n=90 + 10 * k, sd=(0.0 if k == 2 else 0.7, 0.4)) for k in range(4)]
    y, X, Z, codes = (np.concatenate([t[j] for t in tables]) for j in range(4))
    starts = np.cumsum([0, *(len(t[0]) for t in tables)])
    fits = fit_mixed_models(y, X, Z, codes, starts, clusters=9)
    assert len(fits) == 4
    for k, (yk, Xk, Zk, ck, m) in enumerate(tables):
        alone = fit_mixed_model(yk, Xk, Zk, ck, clusters=m)
        assert fits.loglik[k] == pytest.approx(alone.loglik, abs=1e-8)
        np.testing.assert_allclose(fits[k].beta, alone.beta, atol=1e-6)
        np.testing.assert_allclose(fits.components_cov[k], alone.components_cov, rtol=1e-3, atol=1e-6)


def test_start_reaches_the_same_point():
    y, X, Z, codes, m = table(np.random.default_rng(17))
    cold = fit_mixed_model(y, X, Z, codes, clusters=m)
    warm = fit_mixed_model(y, X, Z, codes, clusters=m, start=cold.theta)
    assert warm.loglik == pytest.approx(cold.loglik, abs=1e-9)


def test_marginal_log_likelihood_also_where_Psi_is_singular():
    y, X, Z, codes, m = table(np.random.default_rng(18), n=60)
    for Psi in (np.array([[0.5, 0.2], [0.2, 0.3]]), np.array([[0.4, 0.0], [0.0, 0.0]]), np.zeros((2, 2))):
        got = log_likelihood(y, X, Z, codes, m, [1.0, 0.4, 0.1], Psi, 0.8)
        expected = dense_loglik(y, X, Z, codes, np.array([1.0, 0.4, 0.1]), Psi, 0.8, False)
        assert got == pytest.approx(expected, abs=1e-8)


def test_what_cannot_be_fitted_is_refused():
    y, X, Z, codes, _ = table(np.random.default_rng(19))
    with pytest.raises(SpecificationError, match="fixed-effects"):
        fit_mixed_model(y, np.column_stack([X, X[:, 1] - 2 * X[:, 2]]), Z, codes)
    with pytest.raises(SpecificationError, match="random-effects"):
        fit_mixed_model(y, X, Z[:, [1, 1]], codes)
    with pytest.raises(DataError, match="exactly"):
        fit_mixed_model(X @ [1.0, 2.0, 3.0], X, Z, codes)
    with pytest.raises(DataError, match="missing or infinite"):
        fit_mixed_model(np.where(np.arange(len(y)) == 3, np.nan, y), X, Z, codes)
    with pytest.raises(DataError, match="no cluster"):
        fit_mixed_model(y, X, Z, np.where(np.arange(len(y)) == 3, -1, codes))


LME4 = (
    json.loads((REFERENCE / "lme4_fits.json").read_text()) if (REFERENCE / "lme4_fits.json").exists() else {}
)


@pytest.mark.parametrize("case", [k for k in LME4 if k != "session"])
def test_never_below_lme4(case):
    """One-sided in log-likelihood, both by the dense normal; two-sided in beta where lme4 got there too."""
    reference = LME4[case]
    frame = pd.read_csv(REFERENCE / f"{reference['data']}.csv")
    X = np.column_stack([np.ones(len(frame)), frame.x1, frame.x2])
    q, reml = reference["q"], reference["reml"]
    codes = frame.g.to_numpy() - 1
    y, Z = frame.y.to_numpy(), X[:, :q]
    fit = fit_mixed_model(y, X, Z, codes, reml=reml, blocks=reference.get("blocks"))
    theirs = dense_loglik(y, X, Z, codes, np.array(reference["beta"]), np.reshape(reference["Psi"], (q, q)),
                          reference["sigma"] ** 2, reml)  # fmt: skip
    assert theirs == pytest.approx(reference["loglik"], abs=1e-6)  # the conventions are the same
    ours = dense_loglik(y, X, Z, codes, fit.beta, fit.Psi, fit.sigma2, reml)
    assert ours >= theirs - 1e-6
    assert fit.converged and fit.gradient_norm < 1e-3
    if ours - theirs < 1e-4:
        se = np.sqrt(np.diag(fit.cov))
        assert np.max(np.abs(fit.beta - reference["beta"]) / se) < (1e-3 if fit.singular else 1e-4)
        np.testing.assert_allclose(se, reference["se"], rtol=1e-3)
        np.testing.assert_allclose(fit.modes.ravel(), np.ravel(reference["modes"]), atol=2e-3)
        assert fit.singular == reference["singular"]


def test_random_tables_reach_the_optimum_of_glmm():
    """40 tables like imputed ones, heterogeneity from strong to none; another engine, same optimum."""
    import glmm

    singular = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        m = rng.integers(5, 30)
        codes = np.repeat(np.arange(m), 1 + rng.poisson(20 * rng.gamma(2, 0.5, m)))
        n = len(codes)
        x1, x2 = rng.normal(size=n) + 0.5 * rng.normal(size=m)[codes], rng.integers(0, 4, n).astype(float)
        strength = [1, 0.5, 0.15, 0][seed % 4]
        b = rng.multivariate_normal([0, 0], strength * np.array([[0.4, -0.28], [-0.28, 0.68]]), m)
        y = -1.8 + x1 - 0.05 * x2 + b[codes, 0] + b[codes, 1] * x1 + rng.normal(size=n)
        fit = fit_mixed_model(
            y, np.column_stack([np.ones(n), x1, x2]), np.column_stack([np.ones(n), x1]), codes
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = glmm.fit(
                {"y": y, "x1": x1, "x2": x2, "g": codes.astype(str)},
                "y ~ x1 + x2 + (1 + x1 | g)",
                satterthwaite=False,
                anova_test="Wald",
            )
        assert fit.converged and fit.loglik == pytest.approx(theirs.loglik, abs=1e-6), seed
        singular += bool(fit.singular)
    assert singular > 5  # otherwise the boundary was not tested
