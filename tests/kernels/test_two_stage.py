"""Two-stage model: fits against SciPy, draws for clusters against their conditional laws, coverage."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import minimize
from scipy.special import digamma, polygamma
from scipy.stats import kstest, norm

from bayesimp.kernels.families.scalar import LOGIT, POISSON, PROBIT
from bayesimp.kernels.glm.density import NORMAL
from bayesimp.kernels.glmm.rows import GlmmRows
from bayesimp.kernels.two_stage import cluster_fits as cf
from bayesimp.kernels.two_stage import draw as ts
from bayesimp.kernels.two_stage import draw_normal as tn
from bayesimp.kernels.two_stage.meta_analysis import MOMENTS, SINGULAR, MetaAnalysisDraw
from tests.calibration.montecarlo import LEVEL, REJECTED, means, normal, with_products

FAMILIES = [LOGIT, PROBIT, POISSON, NORMAL]


def response(rng, family, eta):
    match family:
        case 0:
            return (rng.random(eta.shape) < 1 / (1 + np.exp(-eta))).astype(float)
        case 1:
            return (rng.normal(size=eta.shape) < eta).astype(float)
        case 2:
            return rng.poisson(np.exp(eta)).astype(float)
    return eta + rng.normal(size=eta.shape)


def make_rows(family, sizes, p=2, seed=0, sd=0.6):
    """GlmmRows and the true coefficients (m, p)."""
    rng, sizes = np.random.default_rng(seed), np.asarray(sizes)
    N, cluster = sizes.sum(), np.repeat(np.arange(len(sizes)), sizes)
    X = np.column_stack([np.ones(N), rng.normal(size=(N, p - 1))])
    b = np.linspace(-0.3, 0.5, p) + sd * rng.normal(size=(len(sizes), p))
    offset, weight = 0.1 * rng.normal(size=N), rng.choice([1.0, 2.0], size=N)
    y = response(rng, family, offset + (X * b[cluster]).sum(1))
    first = np.concatenate([[0], np.cumsum(sizes)])
    return GlmmRows(family, y, np.ones(N), weight, offset, X, np.empty((N, 0)), first), b


def log_density(rows, i, b):
    """log p(y_i | b), written out; of the normal with variance 1."""
    at = slice(rows.first[i], rows.first[i + 1])
    eta, y = rows.offset[at] + rows.X[at] @ b, rows.y[at]
    terms = {
        LOGIT: lambda: y * eta - np.logaddexp(0, eta),
        PROBIT: lambda: norm.logcdf(np.where(y == 1, eta, -eta)),
        POISSON: lambda: y * eta - np.exp(eta),
        NORMAL: lambda: -0.5 * (y - eta) ** 2,
    }[rows.family]()
    return (rows.weight[at] * terms).sum()


def step(rows, rng, state=None, c=0, **options):
    m, p = len(rows.first) - 1, rows.X.shape[1]
    state = ts.initial_state(m, p) if state is None else state
    return ts.two_stage_step(rng, rows, np.empty((m, c)), state, **options)


# -- stage 1 ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_fits_of_clusters(family):
    """Estimate and information of every cluster maximise and bend its own likelihood; warm starts change nothing."""
    rows, _ = make_rows(family, [25, 40, 0, 60], seed=2)
    m, p = 4, 2
    fits, H, status = np.full((m, p), np.nan), np.zeros((m, p, p)), np.empty(m, np.int64)
    if family == NORMAL:
        Xy, s2, yy = np.zeros((m, p)), np.zeros(m), np.zeros(m)
        cf.fit_normal(rows, fits, H, Xy, s2, yy, status)
    else:
        Hb, S = np.full((m, p), np.nan), np.full((m, p, p), np.nan)
        H[:] = np.nan
        cf.fit_clusters(rows, fits, H, Hb, S, status)
        cold = fits.copy()
        cf.fit_clusters(rows, fits, H, Hb, S, status)
        assert_allclose(fits, cold, atol=1e-8)
        assert_allclose(Hb, np.einsum("ixy,iy->ix", H, np.nan_to_num(fits)))  # 0 without a fit
        assert_allclose(H @ S, np.eye(p) * (status == 0)[:, None, None], atol=1e-10)
    assert_array_equal(status, [0, 0, -1, 0])
    for i in (0, 1, 3):
        best = minimize(lambda b, i=i: -log_density(rows, i, b), np.zeros(p), tol=1e-10)
        assert_allclose(fits[i], best.x, atol=1e-5)
        e = 1e-3 * np.eye(p)
        bend = [
            [
                -sum(
                    s * t * log_density(rows, i, fits[i] + s * e[k] + t * e[l])
                    for s in (1, -1)
                    for t in (1, -1)
                )
                for k in range(p)
            ]
            for l in range(p)
        ]
        assert_allclose(H[i], np.array(bend) / 4e-6, rtol=2e-4, atol=1e-4)
        if family == NORMAL:
            at = slice(rows.first[i], rows.first[i + 1])
            residual = rows.y[at] - rows.offset[at] - rows.X[at] @ fits[i]
            assert_allclose(s2[i], (rows.weight[at] * residual**2).sum() / (len(residual) - p))


def test_failed_clusters_are_told_apart():
    rows, _ = make_rows(LOGIT, [30, 30, 30, 30, 1, 0, 30, 30], seed=1)
    y, X, f = rows.y.copy(), rows.X.copy(), rows.first
    y[f[0] : f[1]] = 1.0  # constant
    y[f[1] : f[2]] = X[f[1] : f[2], 1] > 0.2  # separated
    X[f[2] : f[3], 1] = 0.7  # dependent on the intercept
    out = step(rows._replace(y=y, X=X), np.random.default_rng(0))
    expected = [cf.SEPARATED, cf.SEPARATED, cf.DEPENDENT, 0, cf.DEPENDENT, cf.NO_ROWS, 0, 0]
    assert_array_equal(out.status, expected)
    assert set(out.status[out.status > 0]) <= set(cf.FAILED)
    assert np.isfinite(out.coefficients).all()
    assert 0.5 < out.accepted < 1

    rows, _ = make_rows(NORMAL, [30, 6, 7, 30, 30, 0], seed=1)
    y, X, f = rows.y.copy(), rows.X.copy(), rows.first
    y[f[3] : f[4]] = rows.offset[f[3] : f[4]]
    X[f[4] : f[5], 1] = 0.7
    rows = rows._replace(y=y, X=X)
    out = step(rows, np.random.default_rng(0))
    assert_array_equal(out.status, [0, cf.FEW_ROWS, 0, cf.EXACT, cf.DEPENDENT, cf.NO_ROWS])
    assert np.isfinite(out.coefficients).all() and (out.sigma2 > 0).all()


def test_too_few_clusters_to_go_on():
    rows, _ = make_rows(LOGIT, [30, 2, 2], seed=1)
    out = step(rows, np.random.default_rng(0))
    assert out.code == ts.TOO_FEW and np.isnan(out.coefficients).all()
    assert_array_equal(out.status > 0, [False, True, True])


def test_few_clusters_many_predictors():
    """Three clusters, four columns: Psi is singular, draws are finite; both methods, both families of fits."""
    for family in (LOGIT, NORMAL):
        rows, _ = make_rows(family, [80, 90, 100, 0], p=4, seed=3)
        out = step(rows, np.random.default_rng(0))
        assert out.code & SINGULAR
        for method in (0, MOMENTS):
            out = step(rows, np.random.default_rng(0), method=method)
            assert np.isfinite(out.coefficients).all() and np.abs(out.coefficients).max() < 20


# -- stage 3 ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rank", [1, 2])
def test_draws_given_estimates(rank):
    """b_i ~ N((Psi^-1 + S^-1)^-1 (Psi^-1 mu + S^-1 b), ..) and N(mu, Psi) without rows; also where Psi is singular."""
    rng = np.random.default_rng(0)
    L = np.array([[0.8, 0.0], [0.5, 0.6 * (rank - 1)]])
    S, b, mu = np.array([[0.3, 0.1], [0.1, 0.2]]), np.array([1.0, -1.0]), np.array([0.2, 0.4])
    H = np.stack([np.linalg.inv(S), np.zeros((2, 2))])
    Hb, Psi = np.stack([H[0] @ b, np.zeros(2)]), L @ L.T
    z = rng.standard_normal((20_000, 2, 2))
    many = tuple(np.tile(each, (20_000, *[1] * (each.ndim - 1))) for each in (H, Hb, np.stack([mu, mu])))
    draws = tn.gaussian_effects(*many, L, z.reshape(-1, 2)).reshape(z.shape)
    gain = Psi @ np.linalg.inv(Psi + S)
    mean, covariance = mu + gain @ (b - mu), Psi - gain @ Psi
    second = covariance + np.outer(mean, mean)
    moments = np.concatenate([mean, second[np.tril_indices(2)]])
    assert means(with_products(draws[:, 0]), moments) > LEVEL
    assert means(draws[:, 1], mu) > LEVEL
    if rank == 2:
        assert normal(draws[:, 0], mean, covariance) > LEVEL
        assert normal(draws[:, 1], mu, Psi) > LEVEL
        assert normal(draws[:, 1], mean, covariance) < REJECTED


@pytest.mark.parametrize("family", [LOGIT, POISSON])
def test_failed_clusters_use_their_rows(family):
    """Draws of a separated cluster against its conditional law on a grid; the published law is another."""
    rows, _ = make_rows(family, [6], seed=5)
    rows = rows._replace(y=np.zeros(6))
    mu, L = np.array([[0.5, 0.3]]), np.array([[0.9, 0.0], [-0.3, 0.5]])
    rng, effects, b, draws = np.random.default_rng(3), np.full((1, 2), np.nan), np.empty((1, 2)), []
    for _ in range(4000):
        accepted, lost = cf.draw_failed(rng, rows, np.array([0]), mu, L, effects, b)
        draws.append(b[0].copy())
        assert accepted > 3 and lost == 0
    axis = np.linspace(-6, 6, 121)
    v = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    at = mu + v @ L.T
    log = np.array([log_density(rows, 0, each) for each in at]) - 0.5 * (v**2).sum(1)
    weight = np.exp(log - log.max())
    expected = weight @ with_products(at) / weight.sum()
    assert means(with_products(np.array(draws)), expected) > LEVEL
    published = mu + rng.standard_normal((4000, 2)) @ L.T
    assert means(with_products(published), expected) < REJECTED


def test_variance_of_a_failed_cluster():
    """sigma_i^2 and b_i of a normal cluster of four rows against a grid over sigma_i^2."""
    rows, _ = make_rows(NORMAL, [4], seed=6)
    rows = rows._replace(weight=np.ones(4), offset=np.zeros(4))
    XX, Xy, yy = (rows.X.T @ rows.X)[None], (rows.X.T @ rows.y)[None], np.array([rows.y @ rows.y])
    data = tn.NormalFits(XX, Xy, yy, np.zeros(1), np.array([2]), np.array([cf.FEW_ROWS]))
    mean, L, mu, tau = np.array([[0.5, 0.3]]), np.array([[0.9, 0.0], [-0.3, 0.5]]), -0.2, 0.7
    rng, state, draws = np.random.default_rng(3), np.full(1, np.nan), []
    for _ in range(900):
        tn._failed_variances(rng, data, np.array([0]), mean, L, mu, tau, state)
        draws.append(state[0])
    z = np.linspace(-6, 6, 601)
    V = rows.X @ L @ L.T @ rows.X.T + np.exp(mu + tau * z)[:, None, None] * np.eye(4)
    r = rows.y - rows.X @ mean[0]
    log = -0.5 * (np.linalg.slogdet(V)[1] + (r * np.linalg.solve(V, r[:, None])[..., 0]).sum(1) + z**2)
    weight = np.exp(log - log.max())
    expected = weight @ with_products(z[:, None]) / weight.sum()
    thinned = np.array(draws)[::3, None]
    assert means(with_products(thinned), expected) > LEVEL


def test_variances_of_clusters():
    """Moments of log s^2 are exact, so mu_s and tau are found; 2 / (df - 4) leaves less for tau."""
    rng = np.random.default_rng(8)
    df, reps, mu, tau = np.full(60, 8), 60, 0.3, 0.5
    found = {False: [], True: []}
    for _ in range(reps):
        s2 = np.exp(mu + tau * rng.normal(size=60)) * rng.chisquare(8, size=60) / 8
        data = tn.NormalFits(np.ones((60, 1, 1)), np.zeros((60, 1)), s2 * 8, s2, df, np.zeros(60, np.int64))
        meta = MetaAnalysisDraw(np.zeros(1), np.zeros((1, 1)), np.zeros(1), np.zeros((1, 1)), 0.0, 0)
        for published in found:
            out = tn.draw_normal_clusters(
                rng, data, meta, np.zeros((60, 1)), np.zeros((60, 1)), np.full(60, np.nan), 0, published
            )
            found[published].append(out[4])
    right, other = (np.array(found[published]) for published in (False, True))
    assert means(right[:, :1], np.array([mu])) > LEVEL
    assert abs(np.sqrt((right[:, 1] ** 2).mean()) - tau) < 0.06
    assert other[:, 1].mean() < 0.75 * tau and means(other[:, :1], np.array([mu])) < REJECTED


@pytest.mark.parametrize("published", [False, True])
def test_log_variances_of_fitted_clusters_given_their_law(published):
    """log sigma_i^2 ~ N(V (e_i / v_i + mu / tau^2), V), V = 1 / (1 / v_i + 1 / tau^2), at the drawn mu and tau."""
    rng, m = np.random.default_rng(9), 30
    df = rng.integers(6, 20, m)
    s2 = np.exp(0.3 + 0.5 * rng.normal(size=m)) * rng.chisquare(df) / df
    estimate, v = np.log(s2), 2.0 / (df - 4.0)
    if not published:
        estimate, v = estimate - digamma(df / 2) + np.log(df / 2), polygamma(1, df / 2)
    data = tn.NormalFits(np.ones((m, 1, 1)), np.zeros((m, 1)), s2 * df, s2, df, np.zeros(m, np.int64))
    meta = MetaAnalysisDraw(np.zeros(1), np.zeros((1, 1)), np.zeros(1), np.zeros((1, 1)), 0.0, 0)
    right, squared, unshrunk = [], [], []
    for _ in range(100):
        out = tn.draw_normal_clusters(
            rng, data, meta, np.zeros((m, 1)), np.zeros((m, 1)), np.full(m, np.nan), 0, published
        )
        (mu, tau), drawn = out[4], np.log(out[1])
        V = 1.0 / (1.0 / v + 1.0 / tau**2)
        mean = V * (estimate / v + mu / tau**2)
        right.append((drawn - mean) / np.sqrt(V))
        squared.append(
            (drawn - mean) / V
        )  # what draws with variances for standard deviations would agree with
        unshrunk.append((drawn - estimate) / np.sqrt(V))
    p, *spoiled = (kstest(np.ravel(z), "norm").pvalue for z in (right, squared, unshrunk))
    assert p > LEVEL and max(spoiled) < REJECTED


# -- as a whole ----------------------------------------------------------------------------------------------------


def coverage(family, sizes, reps, seed, **options):
    """Share of clusters whose true linear predictor at x = 0.5 is in the 90% interval of its draws: seen, unseen."""
    inside, rng = [], np.random.default_rng(seed)
    for k in range(reps):
        rows, b = make_rows(family, sizes, seed=[seed, k], sd=0.7)
        rows = rows._replace(weight=np.ones_like(rows.weight))
        state, x = ts.initial_state(len(sizes), 2), np.array([1.0, 0.5])
        if family == NORMAL:
            cluster = np.repeat(np.arange(len(sizes)), sizes)
            rows = rows._replace(y=rows.offset + (rows.X * b[cluster]).sum(1) + rng.normal(size=len(cluster)))
        else:
            y = response(
                rng, family, rows.offset + (rows.X * b[np.repeat(np.arange(len(sizes)), sizes)]).sum(1)
            )
            rows = rows._replace(y=y)
        drawn = np.array([step(rows, rng, state, **options).coefficients @ x for _ in range(59)])
        low, high = np.sort(drawn, axis=0)[[2, -3]]  # of 59 draws: 54 of 60 gaps
        inside.append((low < b @ x) & (b @ x < high))
    seen = np.asarray(sizes) > 0
    inside = np.array(inside)
    return inside[:, seen].mean(), inside[:, ~seen].mean()


def test_coverage():
    """90% intervals for clusters with rows (some too few for a fit) and without, of moderate reliability."""
    sizes = [8, 12] + [30] * 11 + [0] * 3
    seen, unseen = coverage(NORMAL, sizes, 25, 1)
    assert 0.85 < seen < 0.95 and 0.75 < unseen < 0.98  # of 150 tables: 0.886, 0.873
    # of binary clusters of 30 rows: 0.84 and 0.81 (150 tables), for their estimates are biased and far from normal
    seen, unseen = coverage(LOGIT, [8, 12] + [100] * 11 + [0] * 3, 25, 2)
    assert 0.84 < seen < 0.96 and 0.75 < unseen < 0.98


def test_predictive_mean_matching_has_its_coefficients():
    """`estimated` is the mean of the coefficients at the estimates; draws scatter about it."""
    rows, b = make_rows(NORMAL, [40] * 15 + [0], seed=4)
    rng, state = np.random.default_rng(0), ts.initial_state(16, 2)
    visits = [step(rows, rng, state) for _ in range(300)]
    drawn = np.mean([visit.coefficients[:15] for visit in visits], axis=0)
    assert_allclose(drawn, visits[0].estimated[:15], atol=0.06)
    assert_allclose(visits[0].estimated, visits[-1].estimated)  # not drawn
    assert np.corrcoef(visits[0].estimated[:15, 0], b[:15, 0])[0, 1] > 0.9


def test_columns_of_clusters():
    """A column constant in clusters goes to stage 2, where it moves the mean of clusters without rows."""
    rng = np.random.default_rng(5)
    T = np.concatenate([rng.normal(size=30), [3.0, -3.0]])[:, None]
    sizes = np.array([40] * 30 + [0, 0])
    rows, _ = make_rows(NORMAL, sizes, seed=7, sd=0.2)
    rows = rows._replace(y=rows.y + np.repeat(T[:, 0], sizes))
    state = ts.initial_state(32, 2)
    drawn = np.mean([ts.two_stage_step(rng, rows, T, state).coefficients for _ in range(100)], axis=0)
    assert_allclose(drawn[30:, 0], [2.7, -3.3], atol=0.35)
