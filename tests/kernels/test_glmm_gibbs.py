"""The transition of discrete and positive responses: each move against quadrature, all against longhand, NUTS.

Comparisons are in Monte Carlo standard errors, by batch means; LIMIT is that of a two-sided test at 1e-5.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit, log_expit, log_softmax
from scipy.stats import kstest, norm

from bayesimp.kernels.covariance import update
from bayesimp.kernels.families import scalar as f
from bayesimp.kernels.families.codes import (
    HURDLE_NEGATIVE_BINOMIAL,
    HURDLE_POISSON,
    STUDENT,
    ZERO_INFLATED_NEGATIVE_BINOMIAL,
    ZERO_INFLATED_POISSON,
)
from bayesimp.kernels.families.responses import CATEGORICAL, ORDINAL, draw_rows, predictors, usual_aux
from bayesimp.kernels.glmm.gibbs import ALL_MOVES, MOVES, GlmmPrior, glmm_start, glmm_step, new_tallies
from bayesimp.kernels.glmm.moves import centring
from bayesimp.kernels.glmm.rows import GlmmRows
from tests.longhand import glmm_metropolis
from tests.longhand.glmm_density import log_likelihood

LIMIT = 4.5
PROBS = np.array([0.1, 0.3, 0.5, 0.7, 0.9])
CODES = {
    "bernoulli": f.LOGIT, "binomial": f.LOGIT, "poisson": f.POISSON, "negative_binomial": f.NEGATIVE_BINOMIAL,
    "gamma": f.GAMMA, "inverse_gaussian": f.INVERSE_GAUSSIAN, "beta": f.BETA, "ordinal": ORDINAL,
    "categorical": CATEGORICAL,
}  # fmt: skip
REFERENCE = Path(__file__).parents[1] / "reference" / "glmm"


def make_rows(family, y, sizes, X=None, q=1, trials=1.0):
    n = int(np.sum(sizes))
    X = np.ones((n, 1)) if X is None else X
    first = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    Z = np.ascontiguousarray(X[:, :q])
    return GlmmRows(family, np.asarray(y, float), np.full(n, trials), np.ones(n), np.zeros(n), X, Z, first)


def half_t(d, kind=update.HUANG_WAND, nu=2.0):
    return update.CovarianceUpdate(kind, nu, np.eye(d), np.ones(d))


def make_prior(p, r, q, sd=2.0, Psi=None):
    return GlmmPrior(np.eye(p * r) / sd**2, np.zeros(p * r), half_t(r * q) if Psi is None else Psi)


def blank(rows, levels=2):
    p, q, r, m = rows.X.shape[1], rows.Z.shape[1], predictors(rows.family, levels), len(rows.first) - 1
    return np.zeros((p, r)), usual_aux(rows.family, levels), np.eye(r * q), np.zeros((m, q, r))


def run(rows, prior, state, read, draws, updates=1, moves=ALL_MOVES, seed=0, before=lambda: None):
    """(draws, ..) of read() along a chain; `before` each call may reset part of the state."""
    rng, tallies, out = np.random.default_rng(seed), new_tallies(), []
    for _ in range(draws):
        before()
        assert glmm_step(rng, rows, updates, prior, *state, tallies, moves) == 0
        out.append(np.array(read(), dtype=float))
    assert (tallies[3, 0] == tallies[3, 1]).all()
    return np.array(out)


def standard_error(x, batches=40):
    x = x[len(x) % batches :]
    return x.reshape(batches, -1, *x.shape[1:]).mean(1).std(0, ddof=1) / np.sqrt(batches)


def agree(x, expected):
    """Mean of the chain x (draws, ..) against numbers."""
    z = (x.mean(0) - expected) / np.maximum(standard_error(x), 1e-12)
    assert np.abs(z).max() < LIMIT, z


def has_quantiles(x, grid, log_density):
    """The chain x (draws,) against a density on an even grid."""
    weight = np.exp(log_density - log_density.max())
    agree(x[:, None] <= np.interp(PROBS, (np.cumsum(weight) - 0.5 * weight) / weight.sum(), grid), PROBS)


# -- one move at a time --------------------------------------------------------------------------------------

SCALAR = {
    f.LOGIT: ([0, 1, 1, 1], 2.0), f.PROBIT: ([2, 1, 2, 2], 2.0), f.POISSON: ([0, 3, 1, 0], 1.0),
    f.NEGATIVE_BINOMIAL: ([0, 3, 1, 7], 1.0), f.GAMMA: ([0.2, 1.3, 0.4, 2.0], 1.0),
    f.INVERSE_GAUSSIAN: ([0.2, 1.3, 0.4, 2.0], 1.0), f.BETA: ([0.1, 0.6, 0.3, 0.97], 1.0), ORDINAL: ([0, 3, 1, 1], 1.0),
    STUDENT: ([0.2, -1.3, 4.0, 0.4], 1.0), ZERO_INFLATED_POISSON: ([0, 3, 0, 1], 1.0),
    ZERO_INFLATED_NEGATIVE_BINOMIAL: ([0, 3, 0, 7], 1.0), f.LOGNORMAL: ([0.2, 1.3, 0.4, 2.0], 1.0),
    HURDLE_POISSON: ([0, 1, 0, 3], 1.0), HURDLE_NEGATIVE_BINOMIAL: ([0, 1, 7, 1], 1.0),
}  # fmt: skip


@pytest.mark.parametrize("family", SCALAR)
def test_effects_alone(family):
    y, trials = SCALAR[family]
    rows, prior = make_rows(family, y, [4], trials=trials), make_prior(1, 1, 1)
    beta, aux, Psi, B = state = blank(rows, 4)
    beta[:], Psi[:] = 0.4, 1.7
    b = run(rows, prior, state, lambda: B[0, 0, 0], 3000, 1, MOVES["effects"])
    grid = np.linspace(-9, 9, 1001)
    log_p = [log_likelihood(family, rows.y, trials, np.full((4, 1), 0.4 + g), aux).sum() for g in grid]
    has_quantiles(b, grid, np.array(log_p) + norm(0, np.sqrt(1.7)).logpdf(grid))


@pytest.mark.parametrize("family", SCALAR)
def test_fixed_alone(family):
    """With the increments of an ordinal response held by their marginal: they are drawn with beta."""
    y, trials = SCALAR[family]
    rows, prior = make_rows(family, y, [2, 2], trials=trials), make_prior(1, 1, 1)
    beta, aux, _, B = state = blank(rows, 4)
    B[:, 0, 0] = [0.5, -0.3]
    draws = run(rows, prior, state, lambda: beta[0, 0], 3000, 1, MOVES["fixed"])
    grid, offset = np.linspace(-9, 9, 601), np.repeat(B[:, 0], 2, axis=0)
    if family != ORDINAL:
        log_p = np.array([log_likelihood(family, rows.y, trials, g + offset, aux).sum() for g in grid])
    else:
        h = -np.log1p(-(np.arange(60) + 0.5) / 60)  # midpoints of Exp(1)
        eta = grid[:, None] + offset[:, 0]
        one, two = (c.ravel() for c in np.meshgrid(h, h))
        like = np.zeros(len(grid))
        for c1, c2 in zip(one, one + two, strict=True):
            cut = [expit(-eta), expit(c1 - eta), expit(c2 - eta), np.ones_like(eta)]
            p = [cut[0], cut[1] - cut[0], cut[2] - cut[1], cut[3] - cut[2]]
            like += np.prod([p[int(k)][:, j] for j, k in enumerate(rows.y)], axis=0)
        log_p = np.log(like)
    has_quantiles(draws, grid, log_p + norm(0, 2).logpdf(grid))


@pytest.mark.parametrize("family", [f.NEGATIVE_BINOMIAL, f.GAMMA, f.INVERSE_GAUSSIAN, f.BETA])
def test_shape_alone(family):
    y, _ = SCALAR[family]
    rows, prior = make_rows(family, y, [4]), make_prior(1, 1, 1)._replace(shape_scale=0.7)
    _, aux, _, _ = state = blank(rows)
    draws = run(rows, prior, state, lambda: np.log(aux[0]), 3000, 1, MOVES["aux"])
    grid = np.linspace(-8, 18, 1001)
    v = np.exp(-grid / 2)
    log_p = [log_likelihood(family, rows.y, 1, np.zeros((4, 1)), np.exp([g])).sum() for g in grid]
    has_quantiles(draws, grid, np.array(log_p) - 2 * np.log1p(v**2 / (3 * 0.49)) + np.log(v))


@pytest.mark.parametrize("kind", [update.HUANG_WAND, update.DIAGONAL_HALF_T])
def test_scale_alone(kind):
    """One random intercept: sd = sqrt(psi) moves along its orbit."""
    y = [0, 1, 1, 1, 0, 0, 1, 1]
    rows, prior = make_rows(f.LOGIT, y, [4, 4]), make_prior(1, 1, 1, Psi=half_t(1, kind, 3.0))
    _, _, Psi, B = state = blank(rows)
    B[:, 0, 0], Psi[:] = [0.7, -0.4], 0.5
    alpha = run(rows, prior, state, lambda: B[0, 0, 0] / 0.7, 4000, 1, MOVES["scale"])
    np.testing.assert_allclose(Psi[0, 0], 0.5 * (B[0, 0, 0] / 0.7) ** 2, rtol=1e-6)
    grid = np.linspace(-40, 40, 8001)
    eta = grid[:, None] * np.repeat([0.7, -0.4], 4)
    log_p = log_expit((2 * rows.y - 1) * eta).sum(1)
    has_quantiles(alpha, grid, log_p - 2.0 * np.log(3 / 0.5 + grid**2))  # half-t(3) of |alpha| sqrt(psi)


def test_centre_alone():
    """From a fixed state the shift is one normal draw, and the linear predictor stays."""
    rng = np.random.default_rng(5)
    sizes = [3, 0, 1, 4, 6]
    codes = np.repeat(np.arange(5), sizes)
    x, w = rng.normal(size=14), rng.normal(size=5)[codes]
    X = np.column_stack([np.ones(14), x, w, rng.normal(size=14)])
    rows = make_rows(CATEGORICAL, rng.integers(0, 3, 14), sizes, X, 2)
    found = centring(rows)
    assert found.columns.tolist() == [0, 1, 2]
    prior = make_prior(4, 2, 2)
    beta, _, Psi, B = state = blank(rows, 3)
    start_beta, start_B = rng.normal(size=beta.shape), rng.normal(size=B.shape)
    start_B[1] = 0
    Psi[:] = np.cov(rng.normal(size=(4, 9)))
    before_eta = X @ start_beta + np.einsum("jq,jqr->jr", rows.Z, start_B[codes])

    def reset():
        beta[:], B[:] = start_beta, start_B

    draws = run(rows, prior, state, lambda: beta.T.copy(), 3000, 1, MOVES["centre"], before=reset)
    np.testing.assert_allclose(X @ beta + np.einsum("jq,jqr->jr", rows.Z, B[codes]), before_eta, atol=1e-6)
    precision, shift = np.zeros((6, 6)), np.zeros(6)
    for k in range(2):
        for c in range(3):
            precision[3 * k + c, 3 * k + c] = 0.25
            shift[3 * k + c] = -0.25 * start_beta[c, k]
    for i in (0, 2, 3, 4):
        A = np.kron(np.eye(2), found.A[i])
        precision += A.T @ np.linalg.solve(Psi, A)
        shift += A.T @ np.linalg.solve(Psi, start_B[i].T.ravel())
    delta = (draws - start_beta.T)[:, :, :3].reshape(-1, 6)
    assert (draws[:, :, 3] == start_beta.T[:, 3]).all()
    agree(delta, np.linalg.solve(precision, shift))
    centred = delta - np.linalg.solve(precision, shift)
    agree(centred[:, :, None] * centred[:, None], np.linalg.inv(precision))


# -- all moves -----------------------------------------------------------------------------------------------


def test_without_rows_the_prior_is_left():
    rows, prior = make_rows(f.LOGIT, [], [0, 0, 0]), make_prior(1, 1, 1, 1.5)
    beta, _, Psi, B = state = blank(rows)
    draws = run(
        rows,
        prior,
        state,
        lambda: [beta[0, 0], np.sqrt(Psi[0, 0]), *B[:, 0, 0] / np.sqrt(Psi[0, 0])],
        6000,
        3,
    )
    assert kstest(draws[::2, 0], norm(0, 1.5).cdf).pvalue > 1e-4
    sd = np.array([0.2, 0.5, 1.0, 2.0])  # half-t(2, 1): P(sd < s) = s / sqrt(2 + s^2)
    agree(draws[:, 1:2] < sd, sd / np.sqrt(2 + sd**2))
    assert min(kstest(draws[:, k], "norm").pvalue for k in (2, 3, 4)) > 1e-4


def test_posterior_by_quadrature():
    """beta_0, sd and b_1 of a random intercept, a cluster without rows besides."""
    y, sizes = [0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0], [4, 4, 0, 3]
    rows, prior = make_rows(f.LOGIT, y, sizes), make_prior(1, 1, 1)
    beta, _, Psi, B = state = blank(rows)
    draws = run(rows, prior, state, lambda: [beta[0, 0], np.log(Psi[0, 0]) / 2, *B[:, 0, 0]], 5000, 5)
    beta_grid, log_sd = np.linspace(-7, 7, 141), np.linspace(-9, 5, 281)
    nodes, weights = np.polynomial.hermite_e.hermegauss(101)
    log_p = norm(0, 2).logpdf(beta_grid)[:, None] + log_sd - 1.5 * np.log1p(np.exp(2 * log_sd) / 2)
    first = None
    for i in (0, 1, 3):
        own, eta = (
            rows.y[rows.first[i] : rows.first[i + 1]],
            beta_grid[:, None, None] + np.exp(log_sd)[:, None] * nodes,
        )
        like = np.exp(own.sum() * log_expit(eta) + (len(own) - own.sum()) * log_expit(-eta)) * weights
        log_p = log_p + np.log(like.sum(2))
        first = (like * np.exp(log_sd)[:, None] * nodes).sum(2) / like.sum(2) if first is None else first
    p = np.exp(log_p - log_p.max())
    has_quantiles(draws[:, 0], beta_grid, np.log(p.sum(1)))
    has_quantiles(draws[:, 1], log_sd, np.log(p.sum(0)))
    agree(draws[:, 2], (p * first).sum() / p.sum())
    assert kstest(draws[:, 4] / np.exp(draws[:, 1]), "norm").pvalue > 1e-4  # the cluster without rows


def test_categorical_against_longhand():
    rng = np.random.default_rng(8)
    sizes = [9, 7, 10, 8]
    codes = np.repeat(np.arange(4), sizes)
    X = np.column_stack([np.ones(34), rng.normal(size=34)])
    y = rng.integers(0, 3, 34)
    nu, s = 4.0, 2.0

    def log_density(eta):
        full = np.concatenate([np.zeros((*eta.shape[:2], 1)), eta], axis=2)
        return log_softmax(full, axis=2)[:, np.arange(34), y]

    beta, psi, b = glmm_metropolis.sample(rng, log_density, X, codes, 4, 2, 2.0, nu, s, step_beta=0.25)
    expected = np.concatenate([beta.reshape(100, 1500, 4), np.log(psi), b[:, :, 0]], axis=2).mean(1)
    rows = make_rows(CATEGORICAL, y, sizes, X)
    Psi_prior = update.CovarianceUpdate(update.DIAGONAL_INVERSE_GAMMA, nu, s * np.eye(2), np.ones(2))
    beta, _, Psi, B = state = blank(rows, 3)
    draws = run(
        rows,
        make_prior(2, 2, 1, 2.0, Psi_prior),
        state,
        lambda: [*beta.ravel(), *np.log(np.diag(Psi)), *B[0, 0]],
        2500,
        4,
    )
    error = np.hypot(standard_error(draws), expected.std(0, ddof=1) / 10)
    z = (draws.mean(0) - expected.mean(0)) / error
    assert np.abs(z).max() < LIMIT, z


def frozen_runs():
    """Frozen NUTS draws; those of more than 1,000 rows take seconds of sampling."""
    for path in sorted(REFERENCE.glob("nuts_*.json")):
        large = len(json.loads(path.read_text())["data"]["y"]) > 1000
        yield pytest.param(path, id=path.stem, marks=[pytest.mark.slow] if large else [])


@pytest.mark.parametrize("path", frozen_runs())
def test_against_nuts(path):
    """Means and quantiles of frozen NUTS draws (tests/reference/glmm/make_nuts.py)."""
    frozen = json.loads(path.read_text())
    family = f.PROBIT if frozen["link"] == "probit" else CODES[frozen["family"]]
    data = {name: np.array(values) for name, values in frozen["data"].items()}
    m, q, levels, n = frozen["clusters"], frozen["q"], frozen["levels"] or 2, len(data["y"])
    X = np.column_stack([np.ones(n), data["x"]])
    rows = make_rows(family, data["y"], np.bincount(data["cluster"], minlength=m), X, q)
    rows = rows._replace(trials=np.asarray(data.get("trials", np.ones(n)), float))
    r = predictors(family, levels)
    prior = GlmmPrior(np.diag(np.tile([1 / 25, 1 / 2.5**2], r)), np.zeros(2 * r), half_t(r * q))
    beta, aux, Psi, B = state = blank(rows, levels)
    names = [name for name in frozen["posterior"] if not name.startswith("eta")]

    def value(name):
        kind, _, at = name.rstrip("]").partition("[")
        at = [int(a) for a in at.split(",") if a]
        if kind == "beta":
            return beta[at[0], at[1]]
        if kind == "Psi":
            return Psi[at[0], at[1]]
        if kind == "b":
            return B[at[0], at[1] % q, at[1] // q]
        return aux[0] if kind == "shape" else np.cumsum(aux)[at[0] - 1]

    draws = run(rows, prior, state, lambda: [value(name) for name in names], 2500, 4)[100:]
    for k, name in enumerate(names):
        post = frozen["posterior"][name]
        for prob, quantile, error in zip(
            frozen["probs"], post["quantiles"], post["quantiles_mcse"], strict=True
        ):
            below = draws[:, k] <= quantile
            slope = (np.abs(draws[:, k] - quantile) < 0.2 * post["sd"]).mean() / (0.4 * post["sd"])
            z = (below.mean() - prob) / np.hypot(standard_error(below), slope * error)
            assert abs(z) < LIMIT, (name, prob, z)


def test_order_of_clusters_does_not_matter():
    rng = np.random.default_rng(2)
    sizes, X = np.array([3, 6, 4]), np.column_stack([np.ones(13), rng.normal(size=13)])
    y, order = rng.integers(0, 4, 13), [2, 0, 1]
    pick = np.concatenate([np.flatnonzero(np.repeat(np.arange(3), sizes) == i) for i in order])
    means = []
    for rows, at, seed in (
        (make_rows(ORDINAL, y, sizes, X), 0, 1),
        (make_rows(ORDINAL, y[pick], sizes[order], X[pick]), 1, 2),
    ):
        beta, aux, Psi, B = state = blank(rows, 4)
        read = lambda: [*beta[:, 0], *aux, np.log(Psi[0, 0]), B[at, 0, 0]]  # noqa: B023, E731
        means.append(run(rows, make_prior(2, 1, 1), state, read, 2000, 4, seed=seed))
    z = (means[0].mean(0) - means[1].mean(0)) / np.hypot(*map(standard_error, means))
    assert np.abs(z).max() < LIMIT, z


# -- draws, bad data -----------------------------------------------------------------------------------------


def test_draws_of_categories():
    rng, n = np.random.default_rng(0), 40_000
    out, ones = np.empty(n), np.ones(n)
    increments = np.array([0.7, 1.1])
    draw_rows(rng, ORDINAL, ones, np.full((n, 1), 0.6), increments, out)
    below = np.append(expit(np.array([0.0, 0.7, 1.8]) - 0.6), 1)
    agree(out[:, None] == np.arange(4), np.diff(below, prepend=0))
    eta = np.array([0.5, -0.4, 1.0])
    draw_rows(rng, CATEGORICAL, ones, np.tile(eta, (n, 1)), np.zeros(0), out)
    agree(out[:, None] == np.arange(4), np.exp(log_softmax(np.append(0, eta))))


def test_draws_out_of_range_are_nan():
    out = np.zeros(3)
    eta = np.array([[0.0], [40.0], [np.nan]])
    draw_rows(np.random.default_rng(0), f.POISSON, np.ones(3), eta, np.zeros(0), out)
    assert np.isnan(out).tolist() == [False, True, True]


BAD = {
    "zeros": lambda rng, X, codes: np.zeros(len(X)),
    "ones": lambda rng, X, codes: np.ones(len(X)),
    "separated": lambda rng, X, codes: (X[:, 1] > 0) * 1.0,
    "constant in clusters": lambda rng, X, codes: codes % 2,
    "once": lambda rng, X, codes: (np.arange(len(X)) == 3) * 1.0,
}


@pytest.mark.parametrize("family", range(HURDLE_NEGATIVE_BINOMIAL + 1))
@pytest.mark.parametrize("sizes", [[0, 1, 2, 0, 1, 2, 30], [20] * 10, [8, 8]], ids=str)
def test_bad_data_are_survived(family, sizes):
    """With a random slope and a proper prior: the state stays finite, nothing fails."""
    rng = np.random.default_rng(1)
    X = np.column_stack([np.ones(sum(sizes)), rng.normal(size=sum(sizes))])
    codes = np.repeat(np.arange(len(sizes)), sizes)
    for name, make in BAD.items():
        y = make(rng, X, codes) + (1.0 if family in (f.GAMMA, f.INVERSE_GAUSSIAN, f.LOGNORMAL) else 0.0)
        if family == f.BETA:
            y = 0.02 + 0.96 * y
        rows = make_rows(family, y, sizes, X, 2)
        state, prior = blank(rows, 4), make_prior(2, predictors(family, 4), 2, 5.0)
        assert glmm_start(rng, rows, prior, *state) == 0
        assert glmm_step(rng, rows, 30, prior, *state, new_tallies()) == 0
        assert all(np.isfinite(a).all() for a in state), name


def test_large_counts():
    rng = np.random.default_rng(1)
    X, sizes = np.column_stack([np.ones(100), rng.normal(size=100)]), [20] * 5
    for family in (f.POISSON, f.NEGATIVE_BINOMIAL):
        rows = make_rows(family, rng.poisson(np.exp(13.8 + 0.1 * X[:, 1])), sizes, X)
        beta, *_ = state = blank(rows)
        prior, tallies = make_prior(2, 1, 1, 20.0), new_tallies()
        assert glmm_start(rng, rows, prior, *state) == 0
        assert glmm_step(rng, rows, 50, prior, *state, tallies) == 0
        assert abs(beta[1, 0] - 0.1) < 0.01 and (tallies[:3, 1] > 0.7 * tallies[:3, 0]).all()


def test_slices_free_beta_where_nothing_happened():
    """No event and a normal prior: half of the prior is left, which a proposal at the mode alone would hardly roam."""
    rows, prior = (
        make_rows(f.LOGIT, np.zeros(60), [20] * 3),
        make_prior(1, 1, 1, 10.0, half_t(1)._replace(kind=update.FIXED)),
    )
    beta, _, Psi, _ = state = blank(rows)
    Psi[:] = 0.01
    draws = run(rows, prior, state, lambda: beta[0, 0], 3000, 5)
    grid = np.linspace(-60, 10, 8001)
    spread = np.sqrt(0.01) * np.polynomial.hermite_e.hermegauss(15)[0]
    weight = np.polynomial.hermite_e.hermegauss(15)[1]
    one = np.exp(20 * log_expit(-(grid[:, None] + spread))) @ (weight / weight.sum())
    has_quantiles(draws, grid, 3 * np.log(one) + norm(0, 10).logpdf(grid))


def test_improper_posteriors_are_refused():
    rows = make_rows(f.LOGIT, [], [0, 0])
    prior = make_prior(1, 1, 1)._replace(Q0=np.zeros((1, 1)))
    assert glmm_step(np.random.default_rng(0), rows, 1, prior, *blank(rows), new_tallies()) == 3
