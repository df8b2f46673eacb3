"""Draws of a block of coefficients by independence Metropolis from a multivariate t at its conditional mode.

    target      log T(theta) = log-likelihood of the block's rows + log prior          (kernels/glmm/passes.py)
    proposal    theta' = mode + L^-T z,   L L' = H = -d^2 log T at the mode,   z ~ t_nu(0, I) in k of the d dimensions
                at a time, with the others fixed,   nu = 8 + k
    accepted with probability  min(1, T(theta') q(z) / (T(theta) q(z')))                  (Gamerman & Lopes 2006, 6.3.3)

Log-concave targets have tails of exponential order, which are dominated by those of the t: w = T / q is bounded, and with
k = d the move is uniformly ergodic. In many dimensions (the increments of thirty levels, say) few such proposals are
accepted, so at most `TOGETHER` coordinates are proposed at once; in the target they are nearly independent of the rest.
The prior is normal,

    -theta' Q theta / 2 + t' theta

plus, for the increments of an ordinal response, whose logs delta come last,

    h_k ~ Exp(1):   sum_k delta_k - e^delta_k + N_k log(1 - e^-h_k),     N_k rows of level k

Exp(1) is flat near h = 0, as Dirichlet(1) is for the probability of a rare level, and e^-h is uniform: an unobserved
level gets a probability of order 1/n wherever it lies, and that of a level observed once is shifted by about as much.
At the mode in delta, -d^2 (l(h) + delta - h) / d delta^2 = -h^2 l'' + 1 exactly, and H uses this value.

A proposal must not depend on the state, so its centre must not depend on where the search starts. Every target except
those of the inverse Gaussian, the beta and the truncated negative binomial has one stationary point:

    log p(y | eta) is concave in eta, which is linear in theta, and the prior is normal (scales: moves.py)
    with increments  F(theta, h) = log p + log prior - sum h + sum log h  is concave in (theta, h), h > 0, and
    dF / d delta = h dF / dh: as many stationary points in delta as in h

For these the search starts at the present state, which is near, or at zero if that fails. The targets of the three
exceptions may have two modes: there the search always starts at zero, and slices (below) reach where the t does not.
Newton steps, halved until T grows, stop with the step whose decrement g' H^-1 g is under 1e-8: wherever they started, the
mode is then within 1e-8, and H at a point within 1e-4, posterior standard deviations.

With few events, as for a level that is never observed, the target is far from normal (on one side it is flat up to the
prior) and the t sticks: then `slices` slice draws (Neal 2003) follow, each along one random column of L^-T, H = L L'.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from bayesimp.kernels.compiled import inner
from bayesimp.kernels.families.responses import CATEGORICAL
from bayesimp.kernels.families.scalar import is_log_concave
from bayesimp.kernels.glmm.passes import (
    RowWork,
    add_categorical,
    add_ordinal_with_cuts,
    add_scalar,
    row_work,
)
from bayesimp.kernels.linalg import cholesky, copy_to, fill, solve_lower_t
from bayesimp.kernels.newton import newton_step
from bayesimp.kernels.slices import DONE, ENTRIES, PHASE, begin_slice, next_on_slice
from bayesimp.notation import Integer, IntVector, Matrix, Vector

__all__ = ["BlockTarget", "Workspace", "draw_block", "workspace"]

TOLERANCE, ITERATIONS, HALVINGS = 1e-8, 100, 40
TOGETHER = 6  # dimensions proposed at once, at most
WIDTH, STEPS = 4.0, 40.0  # of slices: width in standard deviations at the mode; at most this many steps out


class BlockTarget(NamedTuple):
    """The ingredients of a block's target.

    family, y (n,), trials (n,), base (n, r), D (w, n), shared: as in kernels/glmm/passes.py. Q (d0, d0), t (d0,): prior
    of the d0 coefficients. shape; cuts (K-1,) and counts (K,) of the levels of an ordinal response.
    slices: number of slice draws.
    """

    family: int
    y: np.ndarray
    trials: np.ndarray
    base: np.ndarray
    D: np.ndarray
    shared: bool
    Q: np.ndarray
    t: np.ndarray
    shape: float
    cuts: np.ndarray
    counts: np.ndarray
    slices: Integer


class Workspace(NamedTuple):
    """Work vectors and matrices for a block of d coefficients, and for a block of rows."""

    theta: np.ndarray
    mode: np.ndarray
    trial: np.ndarray
    g: np.ndarray
    step: np.ndarray
    H: np.ndarray
    L: np.ndarray
    rows: RowWork


@inner
def workspace(d: int) -> Workspace:
    """Work space for a block of d coefficients."""
    return Workspace(
        np.zeros(d), np.zeros(d), np.zeros(d), np.zeros(d), np.zeros(d), np.zeros((d, d)), np.zeros((d, d)), row_work()
    )  # fmt: skip


@inner
def _set_cuts(block: BlockTarget, theta: Vector) -> None:
    """Set the cutpoints from the log increments, if theta has them."""
    for k in range(theta.size - block.t.size):
        block.cuts[k + 1] = block.cuts[k] + math.exp(theta[block.t.size + k])


@inner
def _add_increments(block: BlockTarget, theta: Vector, full: bool, g: Vector, H: Matrix) -> float:
    """Add the increments' prior and the third term of log P; the log increments are the last elements of theta."""
    total = 0.0
    at = block.t.size
    for k in range(1, theta.size - at + 1):
        a = at + k - 1
        h = math.exp(theta[a])
        n, growth = block.counts[k], math.expm1(h)
        total += theta[a] - h + n * math.log(-math.expm1(-h))
        if full:
            g[a] += 1.0 - h + (n * h / growth if growth < math.inf else 0.0)
            H[a, a] += 1.0 + (n * (h / growth) ** 2 * (1.0 + growth) if growth < 1e100 else 0.0)
    return total


@inner
def _evaluate(
    block: BlockTarget, start: Integer, stop: int, theta: Vector, full: bool, w: Workspace
) -> float:
    """log T(theta) up to a constant (module docstring); if `full`, w.g and w.H (lower triangle) <- its derivatives."""
    g, H = w.g, w.H
    d0 = block.t.size
    _set_cuts(block, theta)
    if full:
        fill(H, 0.0)
        for a in range(g.size):
            g[a] = 0.0
    if block.family == CATEGORICAL:
        total = add_categorical(block.y, block.base, block.D, block.shared, start, stop, theta, full, g, H)
    elif theta.size > d0:
        total = add_ordinal_with_cuts(
            block.y, block.base, block.D, start, stop, theta, block.cuts, full, g, H
        )
    else:
        total = add_scalar(block.family, block.y, block.trials, block.base, block.D, start, stop, theta, block.shape,
                           block.cuts, full, g, H, w.rows)  # fmt: skip
    for a in range(d0):
        pull = 0.0
        for b in range(d0):
            pull += block.Q[a, b] * theta[b]
        total += theta[a] * (block.t[a] - 0.5 * pull)
        if full:
            g[a] += block.t[a] - pull
            for b in range(a + 1):
                H[a, b] += block.Q[a, b]
    if theta.size > d0:
        total += _add_increments(block, theta, full, g, H)
    return total


@inner
def _find_mode(block: BlockTarget, start: Integer, stop: int, value: float, w: Workspace) -> int:
    """Newton's method from w.mode, where log T is `value` and w.g, w.H are its derivatives; ends with w.L L' = H at the
    mode.

    Returns 0, 1 if it did not converge, 2 if H is not positive definite, 3 if log T is not finite.
    """
    d = w.mode.size
    for _ in range(ITERATIONS):
        if not abs(value) < math.inf:
            return 3
        copy_to(w.L, w.H)
        if not cholesky(w.L, d):
            return 2
        for a in range(d):
            w.step[a] = w.g[a]
        if newton_step(w.L, w.step) < TOLERANCE:
            for a in range(d):
                w.mode[a] += w.step[a]
            return 0
        size = 1.0
        for _ in range(HALVINGS):
            for a in range(d):
                w.trial[a] = w.mode[a] + size * w.step[a]
            reached = _evaluate(block, start, stop, w.trial, True, w)
            if reached >= value - 1e-10 * (1.0 + abs(value)):
                break
            size *= 0.5
        for a in range(d):
            w.mode[a] = w.trial[a]
        value = reached
    return 1


@inner
def _propose(
    rng: np.random.Generator,
    block: BlockTarget,
    start: Integer,
    stop: int,
    w: Workspace,
    first: int,
    last: int,
    now: float,
    tally: IntVector,
) -> float:
    """Move w.theta in the dimensions first..last-1 of z = L'(theta - mode), which is in w.g; returns log T there."""
    d, k = w.theta.size, last - first
    nu = 8.0 + k
    for a in range(d):
        w.step[a] = rng.standard_normal() if first <= a < last else w.g[a]
    stretch = math.sqrt(0.5 * nu / rng.standard_gamma(0.5 * nu))
    before, after = 0.0, 0.0
    for a in range(first, last):
        w.step[a] *= stretch
        before, after = before + w.g[a] ** 2, after + w.step[a] ** 2
    for a in range(d):
        w.trial[a] = w.step[a]
    solve_lower_t(w.L, w.trial, d)
    for a in range(d):
        w.trial[a] += w.mode[a]
    reached = _evaluate(block, start, stop, w.trial, False, w)
    ratio = reached - now + 0.5 * (nu + k) * (math.log1p(after / nu) - math.log1p(before / nu))
    tally[0] += 1
    if not math.log(rng.random()) < ratio:
        return now
    tally[1] += 1
    for a in range(d):
        w.theta[a], w.g[a] = w.trial[a], w.step[a]
    return reached


@inner
def _along(block: BlockTarget, start: Integer, stop: int, w: Workspace, s: float) -> float:
    """log T at theta + s step; that point is left in w.trial."""
    for a in range(w.theta.size):
        w.trial[a] = w.theta[a] + s * w.step[a]
    return _evaluate(block, start, stop, w.trial, False, w)


@inner
def _slice(
    rng: np.random.Generator, block: BlockTarget, start: Integer, stop: int, w: Workspace, now: float
) -> float:
    """Move w.theta along a column of L^-T by slice sampling; `now` is log T before the move, the return value after."""
    d = w.theta.size
    column = int(d * rng.random())
    for a in range(d):
        w.step[a] = 1.0 if a == column else 0.0
    solve_lower_t(w.L, w.step, d)
    search, reached = np.empty(ENTRIES), now
    s = begin_slice(rng, now, 0.0, WIDTH, STEPS, -math.inf, math.inf, search)
    while search[PHASE] != DONE:
        reached = _along(block, start, stop, w, s)
        s = next_on_slice(rng, s, reached, search)
    if s == 0.0:  # the search ended where it began, after other places
        return now
    for a in range(d):
        w.theta[a] = w.trial[a]
    return reached


@inner
def draw_block(
    rng: np.random.Generator,
    block: BlockTarget,
    start: Integer,
    stop: int,
    w: Workspace,
    tally: IntVector,
    modes: IntVector,
) -> Integer:
    """Move w.theta as the module docstring describes, given rows start..stop-1.

    tally (2,): proposed, accepted; modes (2,): sought, found. Returns 0, or 2 or 3 as `_find_mode`. A search from zero
    that does not converge ends at a point that is an equally valid centre, but fewer proposals are accepted (counted in
    `modes`).
    """
    d = w.theta.size
    one_mode = is_log_concave(block.family)
    now = _evaluate(block, start, stop, w.theta, one_mode, w)
    value, ended, search = now, 1, 0 if one_mode else 1
    while ended != 0 and search < 2:
        for a in range(d):
            w.mode[a] = w.theta[a] if search == 0 else 0.0
        if search == 1:
            value = _evaluate(block, start, stop, w.mode, True, w)
        ended = _find_mode(block, start, stop, value, w)
        search += 1
    modes[0] += 1
    modes[1] += ended == 0
    if ended >= 2:
        _set_cuts(block, w.theta)
        return np.int64(ended)
    for a in range(d):
        w.g[a] = 0.0
        for b in range(a, d):
            w.g[a] += w.L[b, a] * (w.theta[b] - w.mode[b])
    parts = (d + TOGETHER - 1) // TOGETHER
    for part in range(parts):
        now = _propose(rng, block, start, stop, w, part * d // parts, (part + 1) * d // parts, now, tally)
    for _ in range(block.slices):
        now = _slice(rng, block, start, stop, w, now)
    _set_cuts(block, w.theta)
    return np.int64(0)
