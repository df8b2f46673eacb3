"""Regressions of every family: modes and curvature against SciPy and R, draws against their law."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import minimize
from scipy.special import expit, ndtr

from bayesimp.kernels.families import codes as f
from bayesimp.kernels.families.scalar import LOGIT, POISSON, PROBIT
from bayesimp.kernels.glm import regression as st
from bayesimp.kernels.glm.density import CATEGORICAL, NORMAL, ORDINAL
from bayesimp.kernels.glmm.rows import GlmmRows
from tests.calibration.montecarlo import LEVEL, REJECTED, normal

FOLDER = Path(__file__).parents[1] / "reference" / "glmm"
SIZES = np.array([12, 20, 0, 30, 25])
FAMILIES = [(NORMAL, 2), (LOGIT, 2), (PROBIT, 2), (POISSON, 2), (ORDINAL, 4), (ORDINAL, 2), (CATEGORICAL, 3)]
FLAT = {"slope_sd": 1e4, "term_sd": 1e4}


@pytest.fixture
def flat_increments(monkeypatch):
    monkeypatch.setattr(st, "INCREMENTS", (1.0, 0.0))


def make_rows(family, levels=2, seed=0, sizes=SIZES):
    rng, N = np.random.default_rng(seed), sizes.sum()
    X = np.column_stack([np.ones(N), rng.normal(size=(N, 2))])
    eta = X @ [0.2, 0.7, -0.4] + rng.normal(size=len(sizes))[np.repeat(np.arange(len(sizes)), sizes)]
    match family:
        case f.NORMAL:
            y = eta + rng.normal(size=N)
        case 0 | 1:
            y = rng.random(N) < expit(eta)
        case f.POISSON:
            y = rng.poisson(np.exp(0.5 * eta))
        case _:
            y = np.digitize(eta + rng.logistic(size=N), [-1.0, 0.5, 1.5][: levels - 1])
    weight = rng.choice([1.0, 2.0], size=N)
    first = np.concatenate([[0], np.cumsum(sizes)])
    return GlmmRows(family, y.astype(float), np.ones(N), weight, 0.1 * X[:, 1], X, np.empty((N, 0)), first)


def log_posterior(rows, levels, theta, alpha, slope_sd, term_sd, centre):
    """Written out; alpha (m, r), or (0, r) for no terms."""
    r, (N, p) = alpha.shape[1], rows.X.shape
    slopes = rows.X if len(alpha) == 0 else rows.X[:, 1:]
    p = slopes.shape[1]
    beta, y = theta[: p * r].reshape(r, p), rows.y.astype(int)
    eta = rows.offset[:, None] + slopes @ beta.T
    value = -0.5 * (beta**2).sum() / slope_sd**2
    if len(alpha):
        eta = eta + alpha[np.repeat(np.arange(len(alpha)), np.diff(rows.first))]
        value -= 0.5 * ((alpha - centre) ** 2).sum() / term_sd**2
    else:
        value -= 0.5 * (((beta[:, 0] - centre) / term_sd) ** 2 - (beta[:, 0] / slope_sd) ** 2).sum()
    match rows.family:
        case -1:
            each = -0.5 * (rows.y - eta[:, 0]) ** 2
        case f.LOGIT:
            each = np.log(np.where(y, expit(eta[:, 0]), expit(-eta[:, 0])))
        case f.PROBIT:
            each = np.log(np.where(y, ndtr(eta[:, 0]), ndtr(-eta[:, 0])))
        case 2:
            each = y * eta[:, 0] - np.exp(eta[:, 0])
        case f.ORDINAL:
            d = theta[p * r :]
            if (d <= 0).any():
                return -np.inf
            cuts = np.concatenate([[0.0], np.cumsum(d)])
            above = np.column_stack([np.ones(N), expit(eta - cuts), np.zeros(N)])
            each = np.log(above[range(N), y] - above[range(N), y + 1])
            value += ((st.INCREMENTS[0] - 1) * np.log(d) - st.INCREMENTS[1] * d).sum()
        case f.CATEGORICAL:
            full = np.column_stack([np.zeros(N), eta])
            each = full[range(N), y] - np.log(np.exp(full).sum(1))
    return value + (rows.weight * each).sum()


def fit(rows, levels, terms, rng=None, **options):
    m = len(rows.first) - 1 if terms else 0
    state = st.initial_regression_state(rows.family, rows.X.shape[1], levels, m)
    step = st.stratified_step if terms else st.single_level_glm
    return step(np.random.default_rng(0) if rng is None else rng, rows, levels, state, **options), state


@pytest.mark.parametrize("terms", [True, False])
@pytest.mark.parametrize(("family", "levels"), [f for f in FAMILIES if f[0] != NORMAL])
def test_mode_and_law_of_draws(family, levels, terms):
    """The mode maximises the posterior written out; draws are normal with its inverse curvature."""
    rows = make_rows(family, levels)
    _, state = fit(rows, levels, terms)
    shape, P = state.terms.shape, len(state.mode)
    sds, centre = (st.SLOPE_SD, st.TERM_SD), st.centre(rows, levels)

    def target(x):
        return -log_posterior(rows, levels, x[:P], x[P:].reshape(shape), *sds, centre)

    mode = np.concatenate([state.mode, state.terms.ravel()])
    with np.errstate(all="ignore"):
        best = minimize(target, mode + 0.01, method="BFGS", options={"gtol": 1e-5})
    assert_allclose(mode, best.x, atol=2e-4)

    rng, draw = np.random.default_rng(1), st.single_level_glm
    if terms:
        draw = st.stratified_step
    draws = []
    for _ in range(1500):
        out = draw(rng, rows, levels, state)
        B = out.B[:, 0] + out.beta[0] if terms else np.empty(shape)
        draws.append(np.concatenate([out.beta[terms:].T.ravel(), out.aux, B.ravel()]))
        assert out.drawn
    e, d = 1e-3 * np.eye(len(mode)), len(mode)
    H = np.empty((d, d))
    for k in range(d):
        for l in range(k + 1):
            signs = [(1, 1), (1, -1), (-1, 1), (-1, -1)]
            H[k, l] = H[l, k] = sum(s * t * target(mode + s * e[k] + t * e[l]) for s, t in signs) / 4e-6
    seen = np.ones(d, dtype=bool)
    if terms:
        seen[P:] = np.repeat(SIZES > 0, shape[1])
    draws = np.array(draws)
    assert normal(draws[:, seen], mode[seen], np.linalg.inv(H)[np.ix_(seen, seen)]) > LEVEL
    assert normal(draws[:, seen], mode[seen], 1.3 * np.linalg.inv(H)[np.ix_(seen, seen)]) < REJECTED
    if terms:
        assert_array_equal(out.B[SIZES == 0], 0.0)
        assert_allclose(out.B[SIZES > 0].mean(0), 0.0, atol=1e-12)


@pytest.mark.parametrize("family", ["logit", "probit", "poisson", "ordinal"])
def test_against_r(family, flat_increments):
    """glm and MASS::polr with and without a factor of clusters: tests/reference/glmm/stratified.R."""
    code = {"logit": LOGIT, "probit": PROBIT, "poisson": POISSON, "ordinal": ORDINAL}[family]
    g, x1, x2, binary, count, ordinal = np.loadtxt(
        FOLDER / "stratified.csv", delimiter=",", skiprows=1
    ).T.copy()
    y = {POISSON: count, ORDINAL: ordinal}.get(code, binary)
    N, levels = len(y), 4 if code == ORDINAL else 2
    X, first = np.column_stack([np.ones(N), x1, x2]), np.searchsorted(g, np.arange(7))
    rows = GlmmRows(code, y, np.ones(N), np.ones(N), np.zeros(N), X, np.empty((N, 0)), first)
    reference = json.loads((FOLDER / "stratified.json").read_text())[family]
    for terms in (True, False):
        _, state = fit(rows, levels, terms, **FLAT)
        r = reference["stratified" if terms else "single"]
        coefficients, tolerance = np.array(r["coef"]), 1e-5
        if code == ORDINAL:
            zeta, tolerance = np.array(r["zeta"]), 2e-4
            assert_allclose(state.mode[-2:], np.diff(zeta), atol=tolerance)
            shift = np.concatenate([[0.0], coefficients[2:]]) - zeta[0]
            coefficients = np.concatenate([coefficients[:2], shift])
        ours = np.concatenate([state.mode[:2], state.terms[:, 0]]) if terms else state.mode[[1, 2, 0]]
        if not terms and code != ORDINAL:
            ours = state.mode
        assert_allclose(ours, coefficients, atol=tolerance)
        if code != ORDINAL:
            rng = np.random.default_rng(2)
            drawn = [fit(rows, levels, terms, rng, **FLAT)[0] for _ in range(1000)]
            k = 1 - terms  # the slopes' place in R's coefficients
            slopes = np.array([out.beta[1:, 0] for out in drawn])
            assert normal(slopes, coefficients[k : k + 2], np.array(r["vcov"])[k : k + 2, k : k + 2]) > LEVEL


def normal_posterior(rows, slope_sd, term_sd, terms):
    """Longhand: log sigma^2 on a grid, coefficients given it normal; p(sigma^2) ~ 1 / sigma^2. Mean and sd of each."""
    dummies = np.eye(5)[np.repeat(np.arange(5), SIZES)][:, SIZES > 0]
    W = np.column_stack([rows.X[:, 1:], dummies]) if terms else rows.X
    sds = np.array([slope_sd] * 2 + [term_sd] * 4) if terms else np.array([term_sd] + [slope_sd] * 2)
    centre = np.where(sds == term_sd, st.centre(rows, 2), 0.0)
    y, Q = rows.y, np.diag(sds**-2.0)
    grid, laws = np.linspace(np.log(1e-5), np.log(4.0), 2001), []
    for s2 in np.exp(grid):
        A = W.T @ W / s2 + Q
        b = np.linalg.solve(A, W.T @ y / s2 + Q @ centre)
        log = -0.5 * (len(y) * np.log(s2) + np.linalg.slogdet(A)[1] + np.sum((y - W @ b) ** 2) / s2)
        laws.append((log - 0.5 * (b - centre) @ Q @ (b - centre), b, np.diag(np.linalg.inv(A))))
    log, b, v = (np.array(x) for x in zip(*laws, strict=True))
    w = np.exp(log - log.max())
    w /= w.sum()
    means = np.append(w @ b, w @ grid)
    return means, np.sqrt(np.append(w @ (v + b**2), w @ grid**2) - means**2)


@pytest.mark.parametrize("terms", [True, False])
@pytest.mark.parametrize("sd", [1.0, 0.02])
def test_normal_posterior_under_the_weak_priors(terms, sd):
    """Also where columns explain nearly everything, and priors in units of sigma^2 would inflate it."""
    rows = make_rows(NORMAL)._replace(weight=np.ones(SIZES.sum()), offset=np.zeros(SIZES.sum()))
    rng, far = np.random.default_rng(4), np.array([-1.5, 1.0, 0.0, 0.2, 2.0]) * terms
    rows = rows._replace(y=rows.X @ [0.2, 0.7, -0.4] + np.repeat(far, SIZES) + rng.normal(0, sd, SIZES.sum()))
    means, sds = normal_posterior(rows, st.SLOPE_SD, st.TERM_SD, terms)
    state = st.initial_regression_state(NORMAL, 3, 2, 5 if terms else 0)
    step, n = st.stratified_step if terms else st.single_level_glm, 4000
    draws = np.empty((n, len(means)))
    for k in range(n):
        out = step(rng, rows, 2, state)
        B = out.B[SIZES > 0, 0, 0] + out.beta[0, 0] if terms else []
        draws[k] = [*out.beta[terms:, 0], *B, np.log(out.sigma2)]
    # autocorrelation of log sigma^2 is about p / n = .07; fourteen comparisons at 1e-4
    z = (draws.mean(0) - means) / (sds / np.sqrt(0.85 * n))
    assert np.abs(z).max() < 4.5
    assert_allclose(draws.std(0, ddof=1), sds, rtol=4.5 / np.sqrt(2 * 0.85 * n))


def test_normal_is_bayesian_regression():
    """Flat priors: RSS / chi2(n - p - m), least squares with dummies; dependent columns change nothing."""
    rows = make_rows(NORMAL)._replace(weight=np.ones(SIZES.sum()), offset=np.zeros(SIZES.sum()))
    dummies = np.eye(5)[np.repeat(np.arange(5), SIZES)][:, SIZES > 0]
    W = np.column_stack([rows.X[:, 1:], dummies])
    b, rss, *_ = np.linalg.lstsq(W, rows.y)
    constant = np.repeat([0.3, -1.0, 0.0, 0.5, 1.5], SIZES)
    for X in (rows.X, np.column_stack([rows.X, constant])):
        options = FLAT if X.shape[1] == 3 else {"slope_sd": 30.0, "term_sd": 300.0}
        rng, of = np.random.default_rng(0), rows._replace(X=np.ascontiguousarray(X))
        state = st.initial_regression_state(NORMAL, X.shape[1], 2, 5)
        outs = [st.stratified_step(rng, of, 2, state, **options) for _ in range(1500)]
        assert_allclose(outs[0].estimated_beta[1:3, 0], b[:2], atol=2e-3)
        precision = np.array([[rss[0] / out.sigma2] for out in outs])
        df = len(rows.y) - 6
        z = (precision - df) / np.sqrt(2 * df)
        assert normal(z, np.zeros(1), np.eye(1)) > LEVEL
        assert outs[0].code == (st.WEAK if X.shape[1] == 4 else 0)


def test_separated_clusters_stay_proper_and_are_counted():
    sizes = np.array([80, 60, 0, 90, 70])
    rows = make_rows(LOGIT, seed=2, sizes=sizes)
    plain, _ = fit(rows, 2, True)
    assert plain.weak == 0 and plain.code == 0
    y = rows.y.copy()
    y[rows.first[1] : rows.first[2]] = 0.0
    rng, state = np.random.default_rng(0), st.initial_regression_state(LOGIT, 3, 2, 5)
    outs = [st.stratified_step(rng, rows._replace(y=y), 2, state) for _ in range(300)]
    assert {(out.weak, out.code) for out in outs} == {(1, st.WEAK)}
    terms = np.array([out.B[1, 0, 0] for out in outs])
    assert np.isfinite(terms).all() and -10 < terms.mean() < -2
    out, _ = fit(rows._replace(y=(rows.X[:, 1] > 0).astype(float)), 2, False)
    assert out.code == st.WEAK and out.drawn and 1 < out.beta[1, 0] < 20


def test_levels_without_rows_and_what_is_refused():
    rows = make_rows(ORDINAL, 4)
    for family, levels in ((ORDINAL, 5), (CATEGORICAL, 5)):
        out, _ = fit(rows._replace(family=family), levels, True)
        assert out.code & st.EMPTY_LEVEL and np.isfinite(out.beta).all() and (out.aux > 0).all()
    few = make_rows(NORMAL, sizes=np.array([1, 1, 1]))
    out, _ = fit(few, 2, True, **FLAT)
    assert out.code & st.FEW_ROWS and not out.drawn
    exact = make_rows(NORMAL)
    out, _ = fit(exact._replace(y=exact.offset.copy()), 2, True)
    assert out.code & st.EXACT and not out.drawn
    assert {st.WEAK, st.EMPTY_LEVEL, st.NO_MODE, st.FEW_ROWS, st.EXACT} == set(st.WORDS)


@pytest.mark.parametrize(("family", "levels"), FAMILIES)
def test_intercept_alone_and_bad_starts(family, levels):
    """No slopes; a warm start from a bad point ends where a cold one does."""
    rows = make_rows(family, levels)
    for terms in (True, False):
        out, state = fit(rows._replace(X=np.ones((len(rows.y), 1))), levels, terms)
        assert out.drawn and np.isfinite(out.beta).all() and out.beta.shape[0] == 1
        _, state = fit(rows, levels, terms)
        mode = state.mode.copy()
        state.mode[:] *= 300.0
        step = st.stratified_step if terms else st.single_level_glm
        assert step(np.random.default_rng(0), rows, levels, state).drawn
        # the mode of a normal follows the sigma^2 that was drawn before
        assert_allclose(state.mode, mode, atol=2e-3 if family == NORMAL else 1e-4)
