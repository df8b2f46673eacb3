"""Maximum of the (penalised) Laplace log-likelihood, and its curvature: `maximise_laplace`, arrays in and out.

1. Start: kernels/laplace/start.py, or where a fit of similar data ended.
2. Newton's method with the exact Hessian (kernels/laplace/hessian.py), bent for steps in L (`bend`); a ridge where it is
   not negative definite. Modes of effects are carried along to first order.
3. A standard deviation that ends at zero, stationary by symmetry, is tried again from away; if zero serves as well it
   becomes zero.
4. The inverse of the Hessian is the covariance of (beta, theta), elements at zero held there. So standard errors of beta
   allow for the uncertainty of Psi.

Columns of X and Z are supposed to be of mean square about 1 (orthonormal is best: kernels/laplace/record.py).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from bayesimp.kernels.compiled import inner, kernel, merged
from bayesimp.kernels.laplace.criterion import evaluate, normalisers, penalty_value, put_theta, working
from bayesimp.kernels.laplace.start import CAP, pooled_start, variance_start
from bayesimp.kernels.linalg import cholesky, copy_to, fill, inverse_from_cholesky
from bayesimp.notation import BoolVector, IntMatrix, Matrix, Vector

if TYPE_CHECKING:
    from bayesimp.kernels.glmm.rows import GlmmRows
    from bayesimp.kernels.laplace.criterion import Evaluation, Penalty

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
}  # bit of the answer: (kind of event, message)

GAIN = 1e-8  # twice the log-likelihood expected from a step after which the search ends: 1e-4 standard errors
FINE = 1e-10  # near the boundary, where the likelihood is flat
EVALUATIONS = 300
RIDGE = 1e-3  # least that is added to a Hessian that is not definite
BOUNDARY = 1e-4  # a standard deviation below this counts as zero
LITTLE = 0.02  # one below this is held at zero if the likelihood is no worse for it,
NO_GAIN = 1e-8  # by this much,
AWAY = 0.3  # and is tried again from here
FAR = 30.0  # standard errors, or standard deviations of effects, that only separated data have


@inner
def factor_kept(hessian: Matrix, keep: BoolVector, ridge: float, F: Matrix) -> bool:
    """F <- Cholesky factor of the kept rows and columns of ridge I - hessian, else of I; False if there is none."""
    for a in range(keep.shape[0]):
        for b in range(a):
            F[a, b] = -hessian[a, b] if keep[a] and keep[b] else 0.0
        F[a, a] = ridge - hessian[a, a] if keep[a] else 1.0
    return cholesky(F, keep.shape[0])


@inner
def covariance_at(hessian: Matrix, keep: BoolVector, least: float, out: Matrix) -> bool:
    """out <- inverse of the kept rows and columns of -hessian, zero elsewhere; returns if they are positive definite.

    If not, and least > 0: inverse of ridge I - hessian, ridge >= least twice what is needed.
    """
    k, ridge = hessian.shape[0], 0.0
    F = np.empty((k, k))
    while not factor_kept(hessian, keep, ridge, F):
        if least == 0.0 or ridge > 1e30:
            return False
        ridge = max(4.0 * ridge, least)
    if ridge > 0.0:
        factor_kept(hessian, keep, 2.0 * ridge, F)
    inverse_from_cholesky(F, out, k)
    for a in range(k):
        if not keep[a]:
            out[a, a] = 0.0
    return ridge == 0.0


@merged
def bend(hessian: Matrix, g: Vector, free: IntMatrix, clusters: float, v: Evaluation) -> None:
    """hessian <- that of a function whose Newton steps in L are right to second order, if effects are well determined.

    Of one normal effect, observed with variance tau, the log-likelihood is -m log(L^2 + tau) / 2 - const / (L^2 + tau),
    far from a parabola. With alpha f' / L added to f'', the error of a step from L to the maximum is of third order for
    alpha = 4 L^2 / (L^2 + tau) - 3/2. Here f' dL^2 / L is g'(dL L^-1 dL), and tau / (L^2 + tau) the largest mean of Q_kk.
    """
    q = v.L.shape[0]
    p, W, G = g.shape[0] - free.shape[0], v.Q, v.M
    alpha = 2.5
    for a in range(q):
        alpha = min(alpha, 2.5 - 4.0 * v.shrinkage[a] / clusters if abs(v.L[a, a]) > LITTLE else 0.0)
    if not alpha > 0.0:
        return
    fill(G, 0.0)
    for a in range(q):
        for b in range(q):
            W[b, a] = 1.0 if a == b else 0.0
        for b in range(a, q):
            for c in range(a, b):
                W[b, a] -= v.L[b, c] * W[c, a]
            W[b, a] /= v.L[b, b]
    for l in range(free.shape[0]):
        G[free[l, 0], free[l, 1]] = g[p + l]
    for l in range(free.shape[0]):
        for h in range(free.shape[0]):
            a, b, c, d = free[l, 0], free[l, 1], free[h, 0], free[h, 1]
            hessian[p + l, p + h] += 0.5 * alpha * (G[a, d] * W[b, c] + G[c, b] * W[d, a])


@merged
def climb(
    rows: GlmmRows,
    shape: float,
    penalty: Penalty,
    free: IntMatrix,
    gain: float,
    given: bool,
    keep: BoolVector,
    x: Vector,
    u: Matrix,
    v: Evaluation,
    inverse: Matrix,
    g: Vector,
    hessian: Matrix,
) -> tuple[float, bool, int]:
    """x <- where the search from x ends; returns the value, whether it converged, evaluations.

    gain: expected from a step that is not worth an evaluation: u, g and the value are carried along it. hessian <- before
    it. given: whether the first step is to be by the inverse as it comes: after a fit of similar data the expected
    curvature, which serves better far off than the observed one. Elements that are not kept are held.
    """
    k, (m, q) = x.shape[0], u.shape
    s, trial, g_trial = np.zeros(k), x.copy(), np.empty(k)
    h_trial, modes, lean = np.empty((k, k)), np.zeros((m, q)), np.zeros((m, q))
    value, slope, t, newton, clusters = -math.inf, 0.0, 1.0, False, 0.0
    for i in range(m):
        clusters += rows.first[i + 1] > rows.first[i]
    for evaluation in range(1, EVALUATIONS + 1):
        after = evaluate(rows, shape, penalty, free, trial, u, v, g_trial, h_trial)
        if evaluation == 1:
            if not math.isfinite(after):
                return -math.inf, False, evaluation
        else:
            steep = 0.0
            for a in range(k):
                steep += s[a] * g_trial[a]
            good = math.isfinite(after) and after >= value + 1e-4 * t * slope  # Armijo
            # values that differ by rounding only: slopes still tell
            good = good or (after >= value - 1e-10 * (1.0 + abs(value)) and abs(steep) <= 0.9 * slope)
            if not good:
                if t < 1e-9:
                    return value, slope < 1e-5, evaluation
                shrink = 0.1
                if math.isfinite(after):
                    shrink = max(0.1, min(0.5, 0.5 * slope * t / (slope * t - (after - value))))
                t *= shrink
                for a in range(k):
                    trial[a] = x[a] + t * s[a]
                for i in range(m):
                    for a in range(q):
                        u[i, a] = modes[i, a] + t * lean[i, a]
                continue
        copy_to(hessian, h_trial)
        for a in range(k):
            x[a], g[a] = trial[a], g_trial[a]
        if evaluation > 1 or not given:
            bend(h_trial, g, free, clusters, v)
            newton = covariance_at(h_trial, keep, 0.0, inverse) or covariance_at(
                hessian, keep, RIDGE, inverse
            )
        value, slope, largest = after, 0.0, 0.0
        for a in range(k):
            s[a] = 0.0
            for b in range(k):
                s[a] += inverse[a, b] * g[b]
            slope += s[a] * g[a]
            largest = max(largest, abs(s[a]))
        done = not slope >= gain
        if done and not newton:
            return value, slope >= 0.0, evaluation
        t = min(1.0, CAP / largest)
        for a in range(k):
            trial[a] = x[a] + t * s[a]
        copy_to(modes, u)
        for i in range(m):
            for a in range(q):
                lean[i, a] = 0.0
                for e in range(k):
                    lean[i, a] += s[e] * v.rates[i, e, a]
                u[i, a] += t * lean[i, a]
        if done:
            for a in range(k):
                x[a] = trial[a]
                for b in range(k):
                    g[a] += t * hessian[a, b] * s[b]
            return value + 0.5 * slope, True, evaluation
    return value, False, EVALUATIONS


@merged
def canonical(x: Vector, p: int, free: IntMatrix, smallest: float, L: Matrix) -> bool:
    """theta in x <- the Cholesky factor with a diagonal >= 0 of Psi, rank reduced.

    Psi is made up again from its largest pivots down to standard deviations of `smallest`. Returns whether any were
    left out. L is work space.
    """
    q = L.shape[0]
    put_theta(x, p, free, L)
    rest, Psi, v, rank = np.zeros((q, q)), np.zeros((q, q)), np.empty(q), 0
    for a in range(q):
        for b in range(q):
            for c in range(min(a, b) + 1):
                rest[a, b] += L[a, c] * L[b, c]
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
        Of log-likelihood expected from a step, after which the search ends: GAIN, or more where the mode need not be
        exact.
    x (p + d,)
        <- beta, then theta: the free elements of L, Psi = L L', diagonal >= 0.
    u (m, q)
        <- modes of the standardised effects, b_i = L u_i.
    covariance (p + d, p + d), gradient (p + d,)
        <- inverse of the negative Hessian, rows of elements held at zero zero; derivatives of the criterion. The last
        step is shorter than sqrt(gain) standard errors: the one is that before it, the other is carried along.
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

    # One place that climbs, for the time it takes to compile. Stages 0..2: searches; 3: with columns near zero at zero;
    # 4: from the best once more, if it is not where a search ended.
    value, converged, evaluations, singular = -math.inf, False, 0, False
    best, trial, keep = x.copy(), x.copy(), np.ones(k, np.bool_)
    stage, worth, answer = 0, gain, 0
    while True:
        after, ended, used = climb(
            rows, shape, penalty, free, worth, given, keep, trial, u, v, inverse, gradient, hessian
        )
        given = False
        evaluations += used
        if stage == 4:
            break
        if stage == 0 or after > value + (NO_GAIN if stage < 3 else -NO_GAIN):
            value, converged = after, ended
            for a in range(k):
                best[a] = trial[a]
        failed, near = not value > -math.inf, False
        for a in range(k):  # from a pooled start that failed, or away from zero
            trial[a] = 0.0 if failed and a < p else best[a]
        for l in range(d):
            if free[l, 0] == free[l, 1] and abs(best[p + l]) < LITTLE:
                near = True
                trial[p + l] = AWAY * (1 + stage)
        if stage < 2 and (near or failed):
            stage += 1
            worth = FINE
            continue
        for a in range(k):
            trial[a] = best[a]
        there = stage == 0 and not near
        stage = 3 if stage < 3 and near else 4
        singular = canonical(trial, p, free, LITTLE if stage == 3 else BOUNDARY, v.L)
        for l in range(d):
            keep[p + l] = v.L[free[l, 1], free[l, 1]] > 0.0
        if stage == 3:
            continue
        for a in range(k):
            there = there and abs(trial[a] - best[a]) < 1e-12
        after = value
        if there:
            break
        worth = gain
    converged = converged or ended
    ridge = RIDGE
    while not covariance_at(hessian, keep, 0.0, covariance) and ridge < 1e30:
        for a in range(k):  # beta given Psi, and theta made definite
            for b in range(min(a + 1, p)):
                hessian[a, b] = -v.information[a, b] if a < p else 0.0
            hessian[a, a] -= ridge if a >= p else 0.0
        ridge *= 4.0
        answer |= NO_CURVATURE
    for a in range(k):
        x[a] = trial[a]
    for l in range(d):
        keep[p + l] = free[l, 0] == free[l, 1]
    for a in range(k):
        if (a < p and covariance[a, a] > FAR**2) or (a >= p and keep[a] and abs(x[a]) > FAR):
            answer |= SEPARATED
            break
    answer |= (SINGULAR if singular else 0) | (0 if converged else NOT_CONVERGED)
    numbers[0], numbers[2] = after + normalisers(rows, shape), evaluations
    put_theta(x, p, free, v.L)
    numbers[1] = numbers[0] - penalty_value(penalty, x, v.L, np.zeros(k))
    return answer
