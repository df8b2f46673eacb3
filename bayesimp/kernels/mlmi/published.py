"""One draw of multilevel imputation exactly as published by Jolani (2025), sec. 2.4 and example 2.1, for comparison.

1. beta^, Psi^, b^: the penalised fit of his code (kernels/mlmi/penalised_fit.py: glmer of lme4 with nAGQ = 0)
2. Lambda = sum b^_i b^_i' over the m_obs clusters with rows
3. beta*    ~ N(beta^, F^-1), F of that fit (lme4's RX'RX)
4. Psi*^-1  ~ Wishart(m_obs, Lambda^-1)
5. clusters with rows: b ~ N(0, Psi*) is accepted if U <= p(y_i | beta*, b) / p(y_i | beta^, b^_i); after 250 rejections
   the next draw is taken unconditionally. Clusters without rows: b ~ N(0, Psi*)

This is not a draw from a posterior: modes are shrunken, and so is Lambda; the ratio in step 5 can exceed 1; the 251st
draw ignores the data, mostly in the largest clusters. All of this is counted. If Lambda is singular, his code inverts
Psi* by mistake; here RIDGE is added to the diagonal of Lambda, which is counted too.

If rows are separated, his fit stops at a large estimate with a larger standard error, as does this one (counted). If
lme4 stops with an error, his code keeps the current values, as does this one (`FAILURES`).

A draw of step 5 is abandoned once the rows so far could not reach U even with the best possible others; this does not
change the distribution.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bayesimp.kernels.compiled import inner, kernel
from bayesimp.kernels.draws import draw_inverse_wishart, noise_by_factor
from bayesimp.kernels.families.scalar import POISSON, split_log_likelihood, sum_of_logs
from bayesimp.kernels.glmm.modes import cluster_log_likelihood, dot, effects_of, fixed_part
from bayesimp.kernels.laplace.criterion import put_theta
from bayesimp.kernels.laplace.record import free_elements
from bayesimp.kernels.linalg import cholesky, cholesky_log_det, copy_to
from bayesimp.kernels.mlmi.penalised_fit import FAILED, FITTED, LARGE, penalised_fit
from bayesimp.kernels.mlmi.penalised_mode import highest
from bayesimp.notation import BoolVector, IntMatrix, IntVector, Matrix, Vector

if TYPE_CHECKING:
    from bayesimp.kernels.glmm.rows import GlmmRows

__all__ = [
    "EVENTS",
    "FAILED",
    "FAILURES",
    "PUBLISHED_TALLIES",
    "PublishedState",
    "SingleRows",
    "new_state",
    "published_step",
    "single_rows",
]

PUBLISHED_TALLIES = (
    "visits", "clusters drawn", "tries", "ratios above 1", "unconditional draws", "Lambda singular", "separated",
)  # fmt: skip
VISITS, DRAWN, TRIED, ABOVE, UNCONDITIONAL, SINGULAR, SEPARATED = range(7)
FAILURES = {
    FAILED: (
        "failed",
        "the published algorithm has no estimate (as where lme4 stops with an error): the variable is constant, or seen "
        "in fewer than two clusters or fewer than there are random effects; covariates are collinear; or all values "
        "are predicted perfectly",
    )
}
EVENTS = {
    "ratios above 1": (
        "tries",
        "accept-reject ratios above 1: the bound of the published algorithm did not hold",
    ),
    "unconditional draws": (
        "clusters drawn",
        "clusters whose effects were drawn without their data, after 250 rejections",
    ),
    "Lambda singular": ("visits", "draws of Psi from a singular sum of squared modes, with a ridge"),
    "separated": (
        "visits",
        "fits not converged: the data are separated, and the search stopped at a large estimate with a larger standard "
        "error",
    ),
}  # tally: (the tally that includes it, message)

LIMIT = 250  # rejections in accept-reject
RIDGE = 1e-4
CHUNK = 16  # rows between checks of whether a draw can still be accepted
# a standard deviation below SMALL is retried from START, because V is stationary at zero
SMALL, START = 0.05, 0.2


class PublishedState(NamedTuple):
    """The last estimates, from which the next fit starts: theta (d,), metric (d, d), beta (p,), u (m, q); cold (1,):
    whether there are none."""

    theta: np.ndarray
    metric: np.ndarray
    beta: np.ndarray
    u: np.ndarray
    cold: np.ndarray


class SingleRows(NamedTuple):
    """What the fit needs to know about the rows before merging (kernels/glmm/merge.py).

    top: f_max of kernels/mlmi/penalised_mode.py, without the contribution of Poisson offsets; constant: whether all
    responses are equal.
    """

    top: float
    constant: bool


def single_rows(rows: GlmmRows) -> SingleRows:
    """`SingleRows` of rows that are not merged."""
    best = np.empty(len(rows.y))
    highest(rows, best)
    constant = len(rows.y) == 0 or bool(np.ptp(rows.y) == 0.0 and np.ptp(rows.trials) == 0.0)
    return SingleRows(float(best.sum()) - _offset_terms(rows), constant)


def _offset_terms(rows: GlmmRows) -> float:
    """Sum of y times offset for a Poisson response, because merged rows have the logs of their numbers in the offset."""
    return float(rows.y @ rows.offset) if rows.family == POISSON else 0.0


def new_state(m: int, p: int, q: int) -> PublishedState:
    """State without estimates."""
    d = q * (q + 1) // 2
    return PublishedState(np.zeros(d), np.zeros((d, d)), np.zeros(p), np.zeros((m, q)), np.ones(1, bool))


@inner
def reaches(
    rows: GlmmRows, shape: float, i: int, eta0: Vector, b: Vector, best: Vector, threshold: float
) -> float:
    """log p(y_i | eta0, b), or -inf as soon as it cannot reach the threshold. best (n,): from `highest`."""
    value, product, rest_best = 0.0, 1.0, 0.0
    for j in range(rows.first[i], rows.first[i + 1]):
        rest_best += best[j]
    for j in range(rows.first[i], rows.first[i + 1]):
        eta, weight, trials = eta0[j] + dot(rows.Z, j, b), rows.weight[j], rows.trials[j]
        l, rest = split_log_likelihood(rows.family, rows.y[j], trials, eta, shape)
        product, logs = sum_of_logs(product, weight * trials, rest)
        value += weight * l - logs
        rest_best -= best[j]
        if (j - rows.first[i]) % CHUNK == CHUNK - 1 and value - math.log(
            product
        ) + rest_best < threshold - 1e-6:
            return -math.inf
    return value - math.log(product)


@inner
def squared_modes(rows: GlmmRows, B: Matrix, Lambda: Matrix, tallies: IntVector) -> int:
    """Step 2: Lambda <- sum b_i b_i' over the clusters with rows, with a ridge if singular; returns their number."""
    (m, q), observed = B.shape, 0
    for i in range(m):
        if rows.first[i] < rows.first[i + 1]:
            observed += 1
            for a in range(q):
                for c in range(q):
                    Lambda[a, c] += B[i, a] * B[i, c]
    if not cholesky_log_det(Lambda.copy(), q) > -12.0 * q:
        tallies[SINGULAR] += 1
        for a in range(q):
            Lambda[a, a] += RIDGE
    return observed


@inner
def draw_beta(rng: np.random.Generator, beta_hat: Vector, F: Matrix, beta: Vector) -> bool:
    """Step 3: beta ~ N(beta_hat, F^-1); False if F is not positive definite."""
    p, root, z = beta.shape[0], F.copy(), np.empty(beta.shape[0])
    if not cholesky(root, p):
        return False
    noise_by_factor(rng, root, z, p)
    for x in range(p):
        beta[x] = beta_hat[x] + z[x]
    return True


@inner
def normal_effects(rng: np.random.Generator, L: Matrix, b: Vector) -> None:
    """Draw b (q,) ~ N(0, L L')."""
    v = np.empty(b.shape[0])
    for a in range(b.shape[0]):
        v[a] = rng.standard_normal()
    effects_of(L, v, b)


@inner
def accept_reject(
    rng: np.random.Generator,
    rows: GlmmRows,
    shape: float,
    i: int,
    eta0: Vector,
    best: Vector,
    bound: float,
    L: Matrix,
    b: Vector,
    tallies: IntVector,
) -> None:
    """Step 5 in cluster i, which has rows. bound: log p(y_i | beta^, b^_i)."""
    tallies[DRAWN] += 1
    for _ in range(LIMIT):
        normal_effects(rng, L, b)
        tallies[TRIED] += 1
        log_u = math.log(rng.random())
        log_ratio = reaches(rows, shape, i, eta0, b, best, bound + log_u) - bound
        tallies[ABOVE] += log_ratio > 0.0
        if log_u <= log_ratio:
            return
    normal_effects(rng, L, b)
    tallies[UNCONDITIONAL] += 1


@kernel(nogil=True)
def published_draw(
    rng: np.random.Generator,
    rows: GlmmRows,
    shape: float,
    free: IntMatrix,
    best: Vector,
    theta: Vector,
    beta_hat: Vector,
    u: Matrix,
    F: Matrix,
    incomplete: BoolVector,
    beta: Vector,
    Psi: Matrix,
    B: Matrix,
    tallies: IntVector,
) -> int:
    """Steps 2 to 5; returns 0 or `FAILED`."""
    (m, q), n = u.shape, rows.y.shape[0]
    L, Lambda, at_hat, at_star = np.zeros((q, q)), np.zeros((q, q)), np.empty(n), np.empty(n)
    put_theta(theta, 0, free, L)
    for i in range(m):
        effects_of(L, u[i], B[i])
    observed = squared_modes(rows, B, Lambda, tallies)
    if observed < q or not draw_beta(rng, beta_hat, F, beta):
        return FAILED
    if not draw_inverse_wishart(rng, float(observed), Lambda, Psi, q):
        return FAILED
    copy_to(L, Psi)
    if not cholesky(L, q):
        return FAILED
    fixed_part(rows, beta_hat, at_hat)
    fixed_part(rows, beta, at_star)
    for i in range(m):
        if rows.first[i] == rows.first[i + 1]:
            normal_effects(rng, L, B[i])
        elif incomplete[i]:
            bound = cluster_log_likelihood(rows, shape, i, at_hat, B[i])
            accept_reject(rng, rows, shape, i, at_star, best, bound, L, B[i], tallies)
    return 0


def published_step(
    rng: np.random.Generator,
    rows: GlmmRows,
    shape: float,
    single: SingleRows,
    incomplete: BoolVector,
    state: PublishedState,
    beta: Vector,
    Psi: Matrix,
    B: Matrix,
    tallies: IntVector,
) -> int:
    """One visit of the published algorithm; arrays belong to the chain and are updated in place.

    Parameters
    ----------
    rng, rows, shape
        As in `bayesimp.kernels.mlmi.draw.mlmi_step`.
    single
        `single_rows` of the rows before any merging.
    incomplete (m,) bool
        Clusters with values to impute; if they also have rows, effects are drawn by accept-reject. Complete clusters
        keep their modes.
    state
        `PublishedState`, updated.
    beta (p,), Psi (q, q), B (m, q)
        <- the draw.
    tallies (7,) int64
        Counts, incremented: `PUBLISHED_TALLIES`.

    Returns
    -------
    0, or `FAILED` if nothing was drawn, see `FAILURES`.
    """
    p, q = len(beta), len(Psi)
    tallies[VISITS] += 1
    sizes = np.diff(rows.first)
    observed = int((sizes > 0).sum())
    if single.constant or observed < max(2, q):
        return FAILED
    free = free_elements(q)
    diagonal = free[:, 0] == free[:, 1]
    if state.cold[0]:
        state.theta[:], state.beta[:], state.u[:] = diagonal, 0.0, 0.0
    small = diagonal & (np.abs(state.theta) < SMALL)
    state.theta[small] = START
    if state.cold[0] or small.any():
        state.metric[:] = np.eye(len(free)) / (1.0 + 2.0 * observed)
    F, best = np.empty((p, p)), np.empty(len(rows.y))
    highest(rows, best)
    estimates = (state.theta, state.metric, state.beta, state.u)
    code = penalised_fit(
        rows, shape, free, single.top + _offset_terms(rows), *estimates, bool(state.cold[0]), F
    )
    state.cold[0] = code != FITTED
    if code == FAILED:
        return FAILED
    tallies[SEPARATED] += code == LARGE
    return published_draw(
        rng, rows, shape, free, best, state.theta, state.beta, state.u, F, incomplete, beta, Psi, B, tallies
    )
