"""Maximum of the (penalised) Laplace log-likelihood, and its curvature: `maximise_laplace`, arrays in and out.

1. Start: kernels/laplace/start.py, or the end of a fit of similar data.
2. Newton's method with the exact Hessian: kernels/laplace/climb.py.
3. A standard deviation that ends at zero, which is stationary by symmetry, is tried again from a value away from zero; if
   zero fits as well, it becomes zero.
4. The inverse of the negative Hessian is the covariance of (beta, theta), with elements at zero held there. So the
   standard errors of beta allow for the uncertainty of Psi.

Columns of X and Z should have a mean square of about 1 (orthonormal is best: kernels/laplace/record.py).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from bayesimp.kernels.compiled import kernel, merged
from bayesimp.kernels.laplace.climb import LITTLE, RIDGE, Search, climb, covariance_at
from bayesimp.kernels.laplace.criterion import normalisers, penalty_value, put_theta, working
from bayesimp.kernels.laplace.start import pooled_start, variance_start
from bayesimp.kernels.linalg import copy_to, fill, lower_product
from bayesimp.notation import BoolVector, IntMatrix, Matrix, Vector

if TYPE_CHECKING:
    from bayesimp.kernels.glmm.rows import GlmmRows
    from bayesimp.kernels.laplace.criterion import Penalty

__all__ = [
    "EVENTS",
    "GAIN",
    "NOT_CONVERGED",
    "NO_CURVATURE",
    "SEPARATED",
    "SINGULAR",
    "maximise_laplace",
]

SINGULAR, SEPARATED, NOT_CONVERGED, NO_CURVATURE = 1, 2, 4, 8
EVENTS = {
    SINGULAR: ("singular fit", "a variance between clusters is estimated as zero, or a correlation as +-1"),
    SEPARATED: (
        "separated",
        "the data are separated: some linear combination of covariates, or the clusters, predict the response perfectly, "
        "and estimates have no finite value",
    ),
    NOT_CONVERGED: ("not converged", "the search for the maximum of the likelihood did not end"),
    NO_CURVATURE: (
        "no curvature",
        "the Hessian at the maximum is not negative definite; standard errors are those given the variances of effects",
    ),
}  # bit of the return code: (kind of event, message)

GAIN = 1e-8  # the search ends with a step of which twice the expected gain is less than this: 1e-4 standard errors
FINE = 1e-10  # the same near the boundary, where the likelihood is flat
BOUNDARY = 1e-4  # a standard deviation below this counts as zero
NO_GAIN = 1e-8  # one below LITTLE is held at zero unless the log-likelihood loses more than this;
AWAY = 0.3  # it is also tried again from here
FAR = 30.0  # standard errors, or standard deviations of effects, beyond this only come from separated data


@merged
def canonical(x: Vector, p: int, free: IntMatrix, smallest: float, L: Matrix) -> bool:
    """theta in x <- the Cholesky factor of Psi at reduced rank, with a diagonal >= 0.

    Psi is rebuilt from its largest pivots, down to a standard deviation of `smallest`. Returns whether any were left out.
    L is work space.
    """
    q = L.shape[0]
    put_theta(x, p, free, L)
    rest, Psi, v, rank = np.empty((q, q)), np.zeros((q, q)), np.empty(q), 0
    lower_product(L, rest)
    for _ in range(q):
        top = 0
        for a in range(q):
            if rest[a, a] > rest[top, top]:
                top = a
        if not rest[top, top] > smallest**2:
            break
        rank += 1
        for a in range(q):
            v[a] = rest[a, top] / math.sqrt(rest[top, top])
        for a in range(q):
            for b in range(q):
                rest[a, b] -= v[a] * v[b]
                Psi[a, b] += v[a] * v[b]
    for j in range(q):
        pivot = Psi[j, j]
        for c in range(j):
            pivot -= L[j, c] * L[j, c]
        zero = not pivot > 1e-13 * max(1.0, Psi[j, j])
        L[j, j] = 0.0 if zero else math.sqrt(pivot)
        for a in range(j + 1, q):
            s = Psi[a, j]
            for c in range(j):
                s -= L[a, c] * L[j, c]
            L[a, j] = 0.0 if zero else s / L[j, j]
    for l in range(free.shape[0]):
        x[p + l] = L[free[l, 0], free[l, 1]]
    return rank < q


@merged
def away_from_zero(
    best: Vector, p: int, free: IntMatrix, failed: bool, distance: float, trial: Vector
) -> bool:
    """trial <- best with small standard deviations at `distance`, beta = 0 after a failed start; whether any is small."""
    near = False
    for a in range(best.shape[0]):
        trial[a] = 0.0 if failed and a < p else best[a]
    for l in range(free.shape[0]):
        if free[l, 0] == free[l, 1] and abs(best[p + l]) < LITTLE:
            near = True
            trial[p + l] = distance
    return near


@merged
def search(at: Search, gain: float, given: bool) -> tuple[float, bool, int, bool]:
    """at.x <- the best end point of the searches; at.keep <- False for elements at zero.

    Stages 0 to 2: searches; 3: with small columns at zero; 4: once more from the best, unless a search ended there. There
    is only one call of `climb`, because it is slow to compile. Returns the value, whether the search converged, the
    number of evaluations, and whether Psi is singular.
    """
    x, free, keep, L = at.x, at.free, at.keep, at.v.L
    k, d = x.shape[0], free.shape[0]
    p = k - d
    value, converged, evaluations, singular = -math.inf, False, 0, False
    best, stage, worth = x.copy(), 0, gain
    while True:
        after, ended, used = climb(at, worth, given)
        given = False
        evaluations += used
        if stage == 4:
            break
        if stage == 0 or after > value + (NO_GAIN if stage < 3 else -NO_GAIN):
            value, converged = after, ended
            for a in range(k):
                best[a] = x[a]
        failed = not value > -math.inf
        near = away_from_zero(best, p, free, failed, AWAY * (1 + stage), x)
        if stage < 2 and (near or failed):
            stage += 1
            worth = FINE
            continue
        for a in range(k):
            x[a] = best[a]
        there = stage == 0 and not near
        stage = 3 if stage < 3 and near else 4
        singular = canonical(x, p, free, LITTLE if stage == 3 else BOUNDARY, L)
        for l in range(d):
            keep[p + l] = L[free[l, 1], free[l, 1]] > 0.0
        if stage == 3:
            continue
        for a in range(k):
            there = there and abs(x[a] - best[a]) < 1e-12
        after = value
        if there:
            break
        worth = gain
    return after, converged or ended, evaluations, singular


@merged
def final_covariance(hessian: Matrix, keep: BoolVector, information: Matrix, p: int, out: Matrix) -> bool:
    """out <- inverse of -hessian; returns whether it is positive definite. If not, out has the covariance of beta given
    Psi, and that of theta made definite."""
    ridge, definite = RIDGE, True
    while not covariance_at(hessian, keep, 0.0, out) and ridge < 1e30:
        for a in range(hessian.shape[0]):
            for b in range(min(a + 1, p)):
                hessian[a, b] = -information[a, b] if a < p else 0.0
            hessian[a, a] -= ridge if a >= p else 0.0
        ridge *= 4.0
        definite = False
    return definite


@merged
def is_separated(x: Vector, p: int, free: IntMatrix, covariance: Matrix) -> bool:
    """Whether a standard error of beta or a standard deviation of effects is beyond FAR."""
    separated = False
    for a in range(p):
        separated = separated or covariance[a, a] > FAR**2
    for l in range(free.shape[0]):
        separated = separated or (free[l, 0] == free[l, 1] and abs(x[p + l]) > FAR)
    return separated


@kernel(nogil=True)
def maximise_laplace(
    rows: GlmmRows,
    shape: float,
    penalty: Penalty,
    free: IntMatrix,
    warm: bool,
    gain: float,
    x: Vector,
    u: Matrix,
    covariance: Matrix,
    gradient: Vector,
    numbers: Vector,
) -> int:
    """Fit a generalised linear mixed model; all arrays in place.

    Parameters
    ----------
    rows, shape, penalty, free
        `GlmmRows`; shape of the family (1.0 where it has none); `Penalty`; (d, 2) free elements of L.
    warm
        Whether to begin at x, u and, where its diagonal is positive, with the covariance as metric.
    gain
        The search ends after a step of which twice the expected gain in log-likelihood is less than this: GAIN, or more
        where the mode need not be exact.
    x (p + d,)
        <- beta, then theta: the free elements of L, Psi = L L', diagonal >= 0.
    u (m, q)
        <- modes of the standardised effects, b_i = L u_i.
    covariance (p + d, p + d), gradient (p + d,)
        <- inverse of the negative Hessian, with zeros in the rows and columns of elements held at zero; derivatives of
        the criterion. The last step is shorter than sqrt(gain) standard errors: the Hessian is the one before it, and the
        derivatives are extrapolated along it.
    numbers (3,)
        <- penalised log-likelihood; log-likelihood; evaluations.

    Returns
    -------
    0 or bits of `EVENTS`.
    """
    (n, p), (m, q) = rows.X.shape, u.shape
    d, k = free.shape[0], x.shape[0]
    v, inverse, hessian, least = working(m, n, p, q, k), np.empty((k, k)), np.zeros((k, k)), math.inf
    for a in range(k):
        least = min(least, covariance[a, a])
    if not warm:
        fill(u, 0.0)
        pooled_start(rows, shape, penalty, x, v.w.eta0)
        variance_start(rows, shape, free, x, v.L, v.w)
    else:
        for l in range(d):
            if free[l, 0] == free[l, 1] and abs(x[p + l]) < 0.01:
                x[p + l] = AWAY
    given = warm and least > 0.0 and math.isfinite(least)
    copy_to(inverse, covariance)

    keep = np.ones(k, np.bool_)
    at = Search(rows, shape, penalty, free, keep, x, u, gradient, hessian, inverse, v)
    value, converged, evaluations, singular = search(at, gain, given)
    answer = (SINGULAR if singular else 0) | (0 if converged else NOT_CONVERGED)
    if not final_covariance(hessian, keep, v.information, p, covariance):
        answer |= NO_CURVATURE
    if is_separated(x, p, free, covariance):
        answer |= SEPARATED
    put_theta(x, p, free, v.L)
    numbers[0], numbers[2] = value + normalisers(rows, shape), evaluations
    numbers[1] = numbers[0] - penalty_value(penalty, x, v.L, np.zeros(k))
    return answer
