"""Mode, normal approximation and Metropolis draws of the posterior in density.py.

Newton's method with H = -(second derivatives), in blocks D (cluster terms), C and G:

    S = G - sum_i C_i' D_i^-1 C_i,      step_theta = S^-1 (g - sum_i C_i' D_i^-1 g_i),
                                        step_alpha_i = D_i^-1 (g_i - C_i step_theta)

Draws from N(mode, H^-1) use the same factors. The posterior itself is sampled by independence Metropolis, with proposals
from a multivariate t centred at the mode, with inverse scale H.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from bayesimp.kernels.compiled import inner
from bayesimp.kernels.glm.density import evaluate, predictors
from bayesimp.kernels.linalg import semidefinite_cholesky, solve_lower, solve_lower_t
from bayesimp.notation import Integer, IntVector, Matrix, Vector

if TYPE_CHECKING:
    from bayesimp.kernels.glm.density import Curvature, GlmPrior
    from bayesimp.kernels.glmm.rows import GlmmRows

__all__ = ["draw_normal", "find_mode", "metropolis", "variances"]

DEPENDENT = 1e-10  # H is singular if elimination leaves less than this share of a diagonal element
EVALUATIONS = 100  # per search, at most
DECREMENT = 1e-9  # convergence: twice the log density still to gain
LONG = 1e-3  # a step this long that gains nothing: the mode is infinite
T_DF = 5.0  # of the proposal


@inner
def _factor(h: Curvature) -> bool:
    """h <- its factors; returns False if H is singular."""
    P, (m, r) = h.g.size, h.ga.shape
    column = np.empty(r)
    for i in range(m):
        if semidefinite_cholesky(h.D[i], r, DEPENDENT, r) < r:
            return False
        for a in range(P):  # C_i <- D_i^-1 C_i
            for k in range(r):
                column[k] = h.C[i, k, a]
            solve_lower(h.D[i], column, r)
            for b in range(a + 1):  # G <- G - C_i' D_i^-1 C_i; column b <= a is already D^-1/2 C_i
                for k in range(r):
                    h.G[a, b] -= column[k] * (column[k] if a == b else h.C[i, k, b])
            for k in range(r):
                h.C[i, k, a] = column[k]
        for a in range(P):
            for k in range(r):
                column[k] = h.C[i, k, a]
            solve_lower_t(h.D[i], column, r)
            for k in range(r):
                h.C[i, k, a] = column[k]
    return semidefinite_cholesky(h.G, P, DEPENDENT, P) == P


@inner
def _newton_step(h: Curvature, step: Vector, step_alpha: Matrix, ga: Vector) -> tuple[float, float]:
    """(step, step_alpha) <- H^-1 gradient, from the factors of H; returns step'gradient and the largest step element.

    ga (r,): work space.
    """
    P, (m, r) = step.size, step_alpha.shape
    gain, longest = 0.0, 0.0
    for k in range(P):
        step[k] = h.g[k]
        for i in range(m):
            for l in range(r):
                step[k] -= h.C[i, l, k] * h.ga[i, l]
    solve_lower(h.G, step, P)
    solve_lower_t(h.G, step, P)
    for k in range(P):
        gain += step[k] * h.g[k]
        longest = max(longest, abs(step[k]))
    for i in range(m):
        for l in range(r):
            ga[l] = h.ga[i, l]
        solve_lower(h.D[i], ga, r)
        solve_lower_t(h.D[i], ga, r)
        for l in range(r):
            step_alpha[i, l] = ga[l]
            for k in range(P):
                step_alpha[i, l] -= h.C[i, l, k] * step[k]
            gain += step_alpha[i, l] * h.ga[i, l]
            longest = max(longest, abs(step_alpha[i, l]))
    return gain, longest


@inner
def find_mode(
    rows: GlmmRows,
    levels: Integer,
    bounds: IntVector,
    prior: GlmPrior,
    theta: Vector,
    alpha: Matrix,
    h: Curvature,
) -> int:
    """(theta, alpha) <- the mode, by Newton's method from their current values; h <- factors of H there.

    Returns 0 on success, 1 if H is singular at the start (dependent columns), 2 if there is no finite mode (separation),
    3 without convergence.
    """
    P, (m, r) = theta.size, alpha.shape
    step, step_alpha, new, new_alpha = np.zeros(P), np.zeros((m, r)), np.empty(P), np.empty((m, r))
    value, t, ga = -math.inf, 1.0, np.empty(r)
    derive = P >= 0  # True, but not a literal, for which `evaluate` would be compiled separately
    for evaluation in range(EVALUATIONS):  # a single call of evaluate, which is slow to compile
        for k in range(P):
            new[k] = theta[k] + t * step[k]
        for i in range(m):
            for l in range(r):
                new_alpha[i, l] = alpha[i, l] + t * step_alpha[i, l]
        after = evaluate(rows, levels, bounds, prior, new, new_alpha, h, derive)
        if evaluation > 0 and not after >= value - 1e-12 * abs(value):
            t *= 0.5
            if t < 1e-8:
                return 3
            continue
        value, t = after, 1.0
        for k in range(P):
            theta[k] = new[k]
        for i in range(m):
            for l in range(r):
                alpha[i, l] = new_alpha[i, l]
        if not _factor(h):
            return 1 if evaluation == 0 else 2
        gain, longest = _newton_step(h, step, step_alpha, ga)
        if gain < DECREMENT:
            return 0 if longest < LONG else 2
    return 3


@inner
def draw_normal(
    rng: np.random.Generator,
    scale: float,
    n_beta: int,
    theta: Vector,
    alpha: Matrix,
    h: Curvature,
    new: Vector,
    new_alpha: Matrix,
) -> int:
    """(new, new_alpha) ~ N((theta, alpha), scale^2 H^-1) with d > 0, by rejection; returns the number of rejections."""
    P, (m, r) = theta.size, alpha.shape
    z, rejected = np.empty(r), -1
    positive = False
    while not positive:
        rejected += 1
        positive = True
        for k in range(P):
            new[k] = scale * rng.standard_normal()
        solve_lower_t(h.G, new, P)
        for k in range(n_beta, P):
            positive = positive and theta[k] + new[k] > 0.0
    for i in range(m):
        for l in range(r):
            z[l] = scale * rng.standard_normal()
        solve_lower_t(h.D[i], z, r)
        for l in range(r):
            new_alpha[i, l] = alpha[i, l] + z[l]
            for k in range(P):
                new_alpha[i, l] -= h.C[i, l, k] * new[k]
    for k in range(P):
        new[k] += theta[k]
    return rejected


@inner
def variances(h: Curvature, out: Vector, out_alpha: Matrix) -> None:
    """out (P,), out_alpha (m, r) <- the diagonal of H^-1."""
    P, (m, r) = h.g.size, h.ga.shape
    u, v = np.empty(P), np.empty(r)
    for k in range(P):
        for a in range(P):
            u[a] = 1.0 if a == k else 0.0
        solve_lower(h.G, u, P)
        out[k] = 0.0
        for a in range(P):
            out[k] += u[a] * u[a]
    for i in range(m):
        for l in range(r):
            for k in range(r):
                v[k] = 1.0 if k == l else 0.0
            for a in range(P):
                u[a] = h.C[i, l, a]
            solve_lower(h.D[i], v, r)
            solve_lower(h.G, u, P)
            out_alpha[i, l] = 0.0
            for k in range(r):
                out_alpha[i, l] += v[k] * v[k]
            for a in range(P):
                out_alpha[i, l] += u[a] * u[a]


@inner
def metropolis(
    rng: np.random.Generator,
    rows: GlmmRows,
    levels: Integer,
    bounds: IntVector,
    prior: GlmPrior,
    steps: int,
    mode: Vector,
    h: Curvature,
    theta: Vector,
) -> int:
    """theta <- the state after `steps` steps of independence Metropolis, in a model without cluster terms.

    h is as `find_mode` leaves it at the mode. If theta is nan, the chain starts at the mode. Returns the number of
    accepted steps.
    """
    P, none = mode.size, np.empty((0, predictors(rows.family, levels)))
    if theta[0] != theta[0]:
        for k in range(P):
            theta[k] = mode[k]
    new, accepted, value = np.empty(P), 0, -math.inf
    for s in range(steps + 1):  # the first evaluates the start
        for k in range(P):
            new[k] = theta[k] if s == 0 else rng.standard_normal()
        if s > 0:
            stretch = math.sqrt(0.5 * T_DF / rng.standard_gamma(0.5 * T_DF))
            solve_lower_t(h.G, new, P)
            for k in range(P):
                new[k] = mode[k] + stretch * new[k]
        after = evaluate(rows, levels, bounds, prior, new, none, h, P < 0)
        if after > -math.inf:
            after -= _log_t(new, mode, h.G)
        if s == 0:
            value = after
        elif after > -math.inf and (value == -math.inf or math.log(rng.random()) < after - value):
            accepted += 1
            value = after
            for k in range(P):
                theta[k] = new[k]
    return accepted


@inner
def _log_t(theta: Vector, mode: Vector, L: Matrix) -> float:
    """Log density of the proposal up to a constant, a function of |L'(theta - mode)|^2."""
    P, square = mode.size, 0.0
    for a in range(P):
        u = 0.0
        for k in range(a, P):
            u += L[k, a] * (theta[k] - mode[k])
        square += u * u
    return -0.5 * (T_DF + P) * math.log1p(square / T_DF)
