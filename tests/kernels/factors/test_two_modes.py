"""A joint GLMM where the target has two modes: scales of effects given those of other factors, and missing cells.

Parameters: with coefficients held by their prior, the residual variance known and effects b_2 of another factor given,

    p(Psi | y, b_2)  ~  HW(Psi) prod_i N(b_2i; 0, Psi_22) int N(b_1; mean, variance given b_2i) p(y_i | b_1) db_1

is a sum over grids of standard deviations, correlation and nodes of b_1. With a scale near zero in the prior and effects
far from zero in the data, the standard deviation of b_1 has a mode near zero and one far away. Cells: `OneCell.log_law`.

A step from the mode to which a search from the present state leads (`from_the_state`) must fail on the same grid.
z-scores by batch means; LIMIT is that of a two-sided test at 1e-5, and there are eight of them.
"""

import numpy as np
import pytest
from scipy.special import expit, log_expit, softmax
from scipy.stats import norm

from bayesimp.kernels.covariance.update import FIXED, HUANG_WAND, CovarianceUpdate
from bayesimp.kernels.factors.effects import draw_covariance
from bayesimp.kernels.factors.glmm import glmm_factor_step
from bayesimp.kernels.factors.normal import normal_step
from bayesimp.kernels.families.codes import CATEGORICAL, LOGIT, NORMAL
from bayesimp.kernels.glmm.rows import GlmmRows
from tests.kernels.factors.one_cell import OneCell
from tests.kernels.factors.test_cells import case, f
from tests.kernels.test_invariance import LIMIT, from_the_state, z_score

# -- parameters ----------------------------------------------------------------------------------------------

NU, FAR, M = 2.0, -1.25, 5  # FAR lies halfway between two points of every grid of log sd
LOG_SD, OTHER_SD, RHO = np.linspace(-8, 3, 67), np.linspace(-5, 4, 37), np.tanh(np.linspace(-4.5, 4.5, 37))
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(25)
SCALES, OTHERS = np.array([0.02, 1.0]), np.array([-0.9, 0.7, 0.2, 1.3, -0.4])
TRIALS, SUCCESSES = 12.0, np.array([2.0, 9.0, 6.0, 10.0, 3.0])
ROWS, SD, MEANS = 12, 1.7, np.array([-1.3, 1.2, 0.6, 1.0, -1.1])
COUNTS = np.array([[5, 17, 2], [6, 2, 16], [3, 10, 7], [15, 7, 2], [4, 4, 12]])
KNOWN = CovarianceUpdate(FIXED, 0.0, np.zeros((1, 1)), np.zeros(1))


def log_huang_wand(sd1, sd2, rho, scales):
    """log p(log sd_1, log sd_2, atanh rho) (Huang & Wand 2013, eq. 2), with the Jacobian."""
    rest = 1 - rho**2
    log_p = (3 - NU - 4) * np.log(sd1 * sd2) + (1 - NU / 2 - 2) * np.log(rest)
    for sd, s in ((sd1, scales[0]), (sd2, scales[1])):
        log_p = log_p - 0.5 * (NU + 2) * np.log(NU / (sd**2 * rest) + 1 / s**2)
    return log_p


def log_likelihood(family, i, b):
    """log p(y_i | b) of a cluster with intercept b, up to a constant."""
    if family == LOGIT:
        return SUCCESSES[i] * log_expit(b) + (TRIALS - SUCCESSES[i]) * log_expit(-b)
    return norm.logpdf(MEANS[i], b, SD / np.sqrt(ROWS))


def beside_another(family):
    """log p of LOG_SD, that of b_1."""
    sd1, sd2, rho = np.meshgrid(np.exp(LOG_SD), np.exp(OTHER_SD), RHO, indexing="ij")
    log_p = log_huang_wand(sd1, sd2, rho, SCALES)
    for i, b2 in enumerate(OTHERS):
        mean, sd = rho * sd1 / sd2 * b2, sd1 * np.sqrt(1 - rho**2)
        total = sum(
            w * np.exp(log_likelihood(family, i, mean + sd * x)) for x, w in zip(NODES, WEIGHTS, strict=True)
        )
        log_p += norm.logpdf(b2, 0, sd2) + np.log(total + 1e-300)
    return np.logaddexp.reduce(log_p, axis=(1, 2))


def sds(family, count, spoil=None, seed=3):
    """(count, 2) sds along a chain of factor steps and draws of Psi, the factor's first; spoil: prior -> wrong prior.

    The other factor comes first in Psi, so that the factor's effects are not the first ones.
    """
    rng, Psi, B, none = np.random.default_rng(seed), np.eye(2), np.zeros((M, 2)), np.int64(0)
    at = np.int64(family != CATEGORICAL)
    scales = np.array([0.02, 0.02]) if family == CATEGORICAL else SCALES[::-1].copy()
    prior = CovarianceUpdate(HUANG_WAND, NU, np.eye(2), scales)
    r, each = (2, COUNTS.sum(axis=1)) if family == CATEGORICAL else (1, [ROWS if family == NORMAL else 1] * M)
    first = np.concatenate([[0], np.cumsum(each)]).astype(np.int64)
    y, trials = SUCCESSES, np.full(first[-1], TRIALS)
    if family == CATEGORICAL:
        y = np.concatenate([np.repeat([0.0, 1.0, 2.0], k) for k in COUNTS])
    elif family == NORMAL:
        within = SD * norm.ppf((np.arange(ROWS) + 0.5) / ROWS)
        y = np.concatenate([mean + within for mean in MEANS])
    if r == 1:
        B[:, 0] = OTHERS
    one, n = np.ones((first[-1], 1)), first[-1]
    rows = GlmmRows(family, y, trials, np.ones(n), np.zeros(n), one, one, first)
    beta, aux, sd, tallies = np.zeros((1, r)), np.zeros(0), np.array([SD]), np.zeros((5, 2), np.int64)
    held, out = (1e10 * np.eye(r), np.zeros(r)), np.empty((count, 2))
    step_prior = prior if spoil is None else spoil(prior)
    for d in range(count):
        if family == NORMAL:
            failed = normal_step(
                rng, one, one, y, first, *held, KNOWN, step_prior, at, np.zeros(1), sd, Psi, B
            )
        else:
            failed = glmm_factor_step(rng, rows, np.zeros(1), np.zeros(0), none, *held, step_prior, 1.0, at, beta, aux,
                                      Psi, B, tallies)  # fmt: skip
        assert failed == 0 and draw_covariance(rng, prior, none, np.int64(2), B, Psi)
        out[d] = np.sqrt(np.diag(Psi))[[at, 1 - at]]
    assert r == 2 or (B[:, 0] == OTHERS).all()
    return out


@pytest.mark.parametrize("family", [LOGIT, NORMAL])
def test_sd_of_two_modes_beside_another_factor(family):
    log_p = beside_another(family)
    far = softmax(log_p)[LOG_SD > FAR].sum()
    assert 0.1 < far < 0.9
    ours = np.log(sds(family, 10_000)[:, 0])
    assert abs(z_score(ours > FAR, far)) < LIMIT
    assert (np.diff(ours > FAR) != 0).sum() > 100
    assert abs(z_score(from_the_state(LOG_SD, log_p, 0.0, 40_000) > FAR, far)) > 2 * LIMIT


def test_a_move_with_the_scale_of_another_effect_is_noticed():
    far = softmax(beside_another(NORMAL))[LOG_SD > FAR].sum()
    wrong = np.log(sds(NORMAL, 10_000, lambda prior: prior._replace(sd=prior.sd[::-1].copy()))[:, 0])
    assert abs(z_score(wrong > FAR, far)) > 2 * LIMIT


def nominal():
    """log sd and log p of (log sd_1, log sd_2), those of the intercepts of a nominal response."""
    log_sd = np.linspace(-8.125, 2.375, 43)
    sd1, sd2, rho = np.meshgrid(np.exp(log_sd), np.exp(log_sd), RHO[::2], indexing="ij")
    log_p = log_huang_wand(sd1, sd2, rho, (0.02, 0.02))
    total = np.zeros((M, *sd1.shape))
    for x1, w1 in zip(NODES, WEIGHTS, strict=True):
        for x2, w2 in zip(NODES, WEIGHTS, strict=True):
            b1, b2 = sd1 * x1, sd2 * (rho * x1 + np.sqrt(1 - rho**2) * x2)
            rest = np.logaddexp(0, np.logaddexp(b1, b2))
            for i, (_, n1, n2) in enumerate(COUNTS):
                total[i] += w1 * w2 * np.exp(n1 * b1 + n2 * b2 - COUNTS[i].sum() * rest)
    log_p += np.log(total).sum(axis=0)
    return log_sd, np.logaddexp.reduce(log_p, axis=2)


def test_sds_of_a_nominal_response():
    """Both sds together; their joint move has the power of a matrix of two."""
    log_sd, log_p = nominal()
    p, far = softmax(log_p), log_sd > FAR
    expected = [p[far].sum(), p[:, far].sum(), p[np.ix_(far, far)].sum()]
    assert 0.1 < min(expected) and max(expected) < 0.95
    ours = np.log(sds(CATEGORICAL, 10_000)) > FAR
    found = ours[:, 0], ours[:, 1], ours.all(axis=1)
    assert max(abs(z_score(x, e)) for x, e in zip(found, expected, strict=True)) < LIMIT
    second = np.logaddexp.reduce(log_p, axis=0)
    assert abs(z_score(from_the_state(log_sd, second, 0.0, 40_000) > FAR, expected[1])) > 2 * LIMIT


# -- cells ---------------------------------------------------------------------------------------------------

# target: its functions in the child; coefficients and sd of the child; intercept and shape of the target; values and log
# derivative at places of the search, and the end of their grid
CELLS = {
    "x": (("x", "I(x**2)"), lambda v: (v, v**2), (-1.0, 0.1, 0.35, 0.9), 0.0, 1.3, lambda a: a, lambda a: 0.0 * a, 6.0),
    "p": (("p", "I(p**2)"), lambda v: (v, v**2), (1.0, -7.0, 7.0, 0.6), -0.6, 2.0, expit,
          lambda a: log_expit(a) + log_expit(-a), 9.0),
    "s": (("log(s)", "I(log(s)**2)"), lambda v: (np.log(v), np.log(v) ** 2), (1.0, -2.4, 0.75, 0.9), 0.0, 0.8, np.exp,
          lambda a: a, 7.0),
}  # fmt: skip


@pytest.mark.parametrize("name", CELLS)
def test_a_missing_number_of_two_modes(name):
    """Its child is quadratic: the values on both sides of the turning point are as good."""
    terms, columns, coefficients, intercept, shape, inverse, log_slope, end = CELLS[name]
    text = " + ".join((*terms, "(1 | g)"))
    cell = OneCell(case(name, y=f(text, lambda d: (1, *columns(getattr(d, name))))))
    a, child, state = cell.arrays, cell.names.index("y"), cell.state
    *state.beta[a.coefficient[child] : a.coefficient[child + 1]], state.shape[child] = coefficients
    state.beta[a.coefficient[cell.k]], state.shape[cell.k], state.Y[cell.rows[0], child] = (
        intercept,
        shape,
        1.0,
    )
    grid = np.linspace(-end, end, 901)
    log_p = cell.log_law(inverse(grid)) + log_slope(grid)
    inner = log_p[1:-1]
    (valley,) = 1 + np.flatnonzero((inner < log_p[:-2]) & (inner < log_p[2:]))
    far = softmax(log_p)[valley:].sum()
    assert 0.1 < far < 0.9
    ours = cell.draws(10_000) > inverse(grid[valley])
    assert abs(z_score(ours, far)) < LIMIT
    assert (np.diff(ours) != 0).sum() > 100
    wrong = from_the_state(grid, log_p, grid[valley] + 1.0, 10_000) > grid[valley]
    assert abs(z_score(wrong, far)) > 2 * LIMIT
