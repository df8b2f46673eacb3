"""Maximum of the (penalised) Laplace log-likelihood, and its curvature: `maximise_laplace`, arrays in and out.

1. Start: beta of the pooled model by iteratively reweighted least squares, steps capped; Psi diagonal by moments of the
   scores at b = 0, E g_a^2 = A_aa + A_aa^2 Psi_aa. Or where a fit of similar data ended.
2. BFGS with exact gradients (kernels/laplace.py). The first metric is `information`, or the last fit's covariance.
3. A standard deviation that ends at zero, stationary by symmetry, is tried again from away; if zero serves as well it
   becomes zero.
4. Hessian by differences of the gradient; a Newton step with it; its inverse is the covariance of (beta, theta),
   elements at zero held there. So standard errors of beta allow for the uncertainty of Psi.

Columns of X and Z are supposed to be of mean square about 1 (orthonormal is best: kernels/laplace_record.py).
"""

from __future__ import annotations

import math

import numpy as np

from bayesimp.kernels.compiled import inner, kernel
from bayesimp.kernels.families import LOGIT, PROBIT, derivatives
from bayesimp.kernels.glmm_modes import at_effects, fixed_part, workspace
from bayesimp.kernels.laplace import (
    information,
    laplace_with_gradient,
    normalisers,
    penalty_value,
    put_theta,
)
from bayesimp.kernels.linalg import cholesky, copy_to, inverse_from_cholesky, solve_lower, solve_lower_t

__all__ = [
    "EVENTS",
    "GAIN",
    "HESSIAN",
    "INFORMATION",
    "NONE",
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

NONE, HESSIAN, INFORMATION = 0, 1, 2
GAIN = 1e-8  # of log-likelihood, expected from a step, at which the search ends; a Newton step follows
FINE = 1e-12  # near the boundary, where the likelihood is flat
EVALUATIONS = 300
CAP = 5.0  # largest step in a parameter
BOUNDARY = 1e-4  # a standard deviation below this counts as zero
LITTLE = 0.02  # one below this is held at zero if the likelihood is no worse for it,
NO_GAIN = 1e-8  # by this much,
AWAY = 0.3  # and is tried again from here
OFF = 3e-5  # step of differences of the gradient, in standard errors: modes are found again in one step
FAR = 30.0  # standard errors, or standard deviations of effects, that only separated data have


@inner
def _solve(A, b, k):
    """b <- A^-1 b, A (k, k) overwritten; False if A is not positive definite."""
    if not cholesky(A, k):
        return False
    solve_lower(A, b, k)
    solve_lower_t(A, b, k)
    return True


@inner
def _guess(family, y, trials):
    """A linear predictor near one response, as R's mustart."""
    if family == LOGIT or family == PROBIT:
        eta = math.log((y + 0.5) / (trials - y + 0.5))
        return eta if family == LOGIT else 0.6 * eta
    return math.log(y + 0.1)


@inner
def pooled_start(rows, shape, penalty, x, eta0):
    """x[:p] <- about the mode of the model without effects; eta0 (n,) <- its linear predictors."""
    n, p = rows.X.shape
    F, step = np.empty((p, p)), np.empty(p)
    for a in range(p):
        x[a] = 0.0
    for iteration in range(12):
        for a in range(p):
            step[a] = penalty.t0[a]
            for b in range(p):
                step[a] -= penalty.Q0[a, b] * x[b]
                F[a, b] = penalty.Q0[a, b]
        for j in range(n):
            if iteration == 0:
                eta0[j] = _guess(rows.family, rows.y[j], rows.trials[j])
            s, curvature = derivatives(rows.family, rows.y[j], rows.trials[j], eta0[j], shape)
            s, curvature = s * rows.weight[j], curvature * rows.weight[j]
            if iteration == 0:
                s += curvature * (eta0[j] - rows.offset[j])
            for a in range(p):
                step[a] += s * rows.X[j, a]
                for b in range(a + 1):
                    F[a, b] += curvature * rows.X[j, a] * rows.X[j, b]
        decrement = 0.0
        for a in range(p):
            F[a, a] += 1e-9 * (1.0 + F[a, a])
            decrement -= step[a]
        gradient = step.copy()
        if not _solve(F, step, p):
            return
        decrement, largest = 0.0, 0.0
        for a in range(p):
            decrement += step[a] * gradient[a]
            largest = max(largest, abs(step[a]))
        shrink = 1.0 if iteration == 0 else min(1.0, CAP / (largest + 1e-300))
        for a in range(p):
            x[a] += shrink * step[a]
        fixed_part(rows, x, eta0)
        if iteration > 0 and decrement < 0.01:
            return


@inner
def variance_start(rows, shape, free, x, L, w):
    """theta in x <- diagonal, by moments of the scores at b = 0; w.eta0 holds the linear predictors without effects."""
    q, p = L.shape[0], rows.X.shape[1]
    zero, excess, squares = np.zeros(q), np.zeros(q), np.full(q, 1e-300)
    for a in range(q):
        for b in range(q):
            L[a, b] = 0.0
    for i in range(rows.first.shape[0] - 1):
        at_effects(rows, shape, i, L, zero, w)
        for a in range(q):
            excess[a] += w.g[a] ** 2 - w.A[a, a]
            squares[a] += w.A[a, a] ** 2
    for l in range(free.shape[0]):
        a = free[l, 0]
        psi = excess[a] / squares[a]
        x[p + l] = math.sqrt(min(max(psi, 0.04), 4.0)) if a == free[l, 1] else 0.0


@inner
def metric(rows, shape, penalty, free, x, u, L, w, out):
    """out <- inverse of an approximate negative Hessian at x."""
    p, k = rows.X.shape[1], x.shape[0]
    F = np.empty((k, k))
    information(rows, shape, free, x, u, L, w, F)
    for a in range(p):
        for b in range(p):
            F[a, b] += penalty.Q0[a, b]
        F[a, a] += 1e-9 * (1.0 + F[a, a])
    for l in range(free.shape[0]):
        a = free[l, 0]
        F[p + l, p + l] += 1.0 + penalty.P0[a, a]
        if a == free[l, 1] and penalty.power[a] > 0.0:
            F[p + l, p + l] += penalty.power[a] / L[a, a] ** 2
    if not cholesky(F, k):
        for a in range(k):
            for b in range(k):
                F[a, b] = 1.0 if a == b else 0.0
    inverse_from_cholesky(F, out, k)


@inner
def hold(inverse, keep):
    """inverse <- zero in rows and columns that are not kept."""
    for a in range(keep.shape[0]):
        for b in range(keep.shape[0]):
            if not (keep[a] and keep[b]):
                inverse[a, b] = 0.0


@inner
def climb(rows, shape, penalty, free, limit, gain, renew, keep, x, u, L, w, slopes, inverse, g):
    """x <- where BFGS from x ends, g <- gradient there; returns the value, whether it converged, evaluations.

    limit: of evaluations; one does not move, and is an evaluation. gain: expected from a step, not worth it. renew:
    whether to begin with `metric`, elements that are not kept held.
    """
    k = x.shape[0]
    if renew:
        metric(rows, shape, penalty, free, x, u, L, w, inverse)
        hold(inverse, keep)
    s, y, trial, g_trial, Hy = np.zeros(k), np.empty(k), x.copy(), np.empty(k), np.empty(k)
    value, slope, t = -math.inf, 0.0, 1.0
    for evaluation in range(1, limit + 1):
        after = laplace_with_gradient(rows, shape, penalty, free, trial, u, L, w, slopes, g_trial)
        if evaluation == 1 and not math.isfinite(after):
            return -math.inf, False, evaluation
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
            continue
        if evaluation > 1:
            sy, yHy = 0.0, 0.0
            for a in range(k):
                s[a], y[a] = trial[a] - x[a], g[a] - g_trial[a]
                sy += s[a] * y[a]
            for a in range(k):
                Hy[a] = 0.0
                for b in range(k):
                    Hy[a] += inverse[a, b] * y[b]
                yHy += y[a] * Hy[a]
            if sy > 1e-4 * t * slope:  # BFGS, Nocedal & Wright 2006, eq. 6.17
                for a in range(k):
                    for b in range(k):
                        inverse[a, b] += (1.0 + yHy / sy) * s[a] * s[b] / sy - (
                            Hy[a] * s[b] + s[a] * Hy[b]
                        ) / sy
        value, slope, largest = after, 0.0, 0.0
        for a in range(k):
            x[a], g[a] = trial[a], g_trial[a]
        for a in range(k):
            s[a] = 0.0
            for b in range(k):
                s[a] += inverse[a, b] * g[b]
            slope += s[a] * g[a]
            largest = max(largest, abs(s[a]))
        if not slope >= gain:
            return value, slope >= 0.0, evaluation
        t = min(1.0, CAP / largest)
        for a in range(k):
            trial[a] = x[a] + t * s[a]
    return value, False, limit


@inner
def canonical(x, p, free, smallest, L):
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


@inner
def covariance_at(hessian, keep, out):
    """out <- inverse of the kept rows and columns, zero elsewhere; False if they are not positive definite."""
    k = hessian.shape[0]
    F = np.zeros((k, k))
    for a in range(k):
        for b in range(k):
            F[a, b] = hessian[a, b] if keep[a] and keep[b] else 0.0
        if not keep[a]:
            F[a, a] = 1.0
    if not cholesky(F, k):
        return False
    inverse_from_cholesky(F, out, k)
    for a in range(k):
        if not keep[a]:
            out[a, a] = 0.0
    return True


@kernel(nogil=True)
def maximise_laplace(rows, shape, penalty, free, warm, curvature, gain, x, u, covariance, gradient, numbers):
    """Fit a generalised linear mixed model; all arrays in place.

    Parameters
    ----------
    rows, shape, penalty, free
        `GlmmRows`; shape of the family (1.0 where it has none); `Penalty`; (d, 2) free elements of L.
    warm
        Whether to begin at x, u and, where its diagonal is positive, with the covariance as metric.
    curvature
        HESSIAN, one evaluation a parameter; INFORMATION, approximate, one pass; NONE: the covariance is left as it came.
    gain
        Of log-likelihood expected from a step, at which the search ends: GAIN, or more where the mode need not be exact.
    x (p + d,)
        <- beta, then theta: the free elements of L, Psi = L L', diagonal >= 0.
    u (m, q)
        <- modes of the standardised effects, b_i = L u_i.
    covariance (p + d, p + d), gradient (p + d,)
        <- inverse of the negative Hessian, rows of elements held at zero zero; derivatives of the criterion.
    numbers (3,)
        <- penalised log-likelihood; log-likelihood; evaluations.

    Returns
    -------
    0 or bits of `EVENTS`.
    """
    n, p = rows.X.shape
    q, d, k = u.shape[1], free.shape[0], x.shape[0]
    L, w, slopes, inverse = np.zeros((q, q)), workspace(n, q), np.empty(n), np.empty((k, k))
    least = math.inf
    for a in range(k):
        least = min(least, covariance[a, a])
    if not warm:
        for i in range(u.shape[0]):
            for a in range(q):
                u[i, a] = 0.0
        pooled_start(rows, shape, penalty, x, w.eta0)
        variance_start(rows, shape, free, x, L, w)
    else:
        for l in range(d):
            if free[l, 0] == free[l, 1] and abs(x[p + l]) < 0.01:
                x[p + l] = AWAY
    renew = not (warm and least > 0.0 and math.isfinite(least))
    copy_to(inverse, covariance)

    # One place that climbs, for the time it takes to compile. Stages 0..2: searches; 3: with columns near zero at zero;
    # 4: evaluation at the best, if it is not where a search ended; 5: off it in each element, for the Hessian; 6: a last
    # search with that.
    value, converged, evaluations, singular = -math.inf, False, 0, False
    best, trial, modes, keep = x.copy(), x.copy(), u.copy(), np.ones(k, np.bool_)
    hessian, base, h = np.empty((k, k)), np.empty(k), 0.0
    stage, element, limit, worth, answer = 0, 0, np.int64(EVALUATIONS), gain, 0
    while True:
        after, ended, used = climb(
            rows, shape, penalty, free, limit, worth, renew, keep, trial, u, L, w, slopes, inverse, gradient
        )
        renew = stage < 3
        if stage < 4:
            evaluations += used
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
            singular = canonical(trial, p, free, LITTLE if stage == 3 else BOUNDARY, L)
            for l in range(d):
                keep[p + l] = L[free[l, 1], free[l, 1]] > 0.0
            if stage == 3:
                continue
            for a in range(k):
                there = there and abs(trial[a] - best[a]) < 1e-12
                best[a] = trial[a]
            limit, renew = np.int64(1), False
            if not there:
                continue
            after = value
        if stage == 4 and curvature != HESSIAN:
            ended = converged
            if curvature == INFORMATION:
                metric(rows, shape, penalty, free, best, u, L, w, covariance)
                hold(covariance, keep)
            break
        if stage == 4:
            value = after
            copy_to(modes, u)
            for b in range(k):
                base[b] = gradient[b]
            stage = 5
        elif stage == 5:
            for b in range(k):
                hessian[element, b] = (base[b] - gradient[b]) / h
            copy_to(u, modes)
            element += 1
        else:
            break
        for a in range(k):
            trial[a] = best[a]
        if element < k:
            h = OFF * min(1.0, max(1e-3, math.sqrt(max(inverse[element, element], 0.0))))
            trial[element] = best[element] + h
            continue
        for a in range(k):
            for b in range(a):
                hessian[a, b] = 0.5 * (hessian[a, b] + hessian[b, a])
                hessian[b, a] = hessian[a, b]
        if not covariance_at(hessian, keep, covariance):
            answer |= NO_CURVATURE
            put_theta(best, p, free, L)
            metric(rows, shape, penalty, free, best, u, L, w, covariance)
            hold(covariance, keep)
        copy_to(inverse, covariance)
        limit, worth, stage = np.int64(30), 1e-14, 6
    converged = converged or ended
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
    put_theta(x, p, free, L)
    numbers[1] = numbers[0] - penalty_value(penalty, x, L, np.zeros(k))
    return answer
