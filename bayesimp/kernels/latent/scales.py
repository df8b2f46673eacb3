"""A move along the scale of a latent variable, which is identified only by its residual variance.

Levels carry no information on the scale: (y*_k, beta_k, B_k, c_k) -> alpha times the same respects every bound. Data
augmentation moves slowly in that direction, so one step is made along it (Liu & Sabatti 2000, generalised Gibbs; Liu & Wu
1999), with t = log alpha drawn by slice sampling from

    log p(t) = d t - S_2 e^(2t) / 2 - S_1 e^t,
    S_2 = sum_a tr(W_GG (E'E)_GG)_a + beta_G' Q_GG beta_G + sum_o tr(W'_GG (A'A)_GG)_o
    S_1 = sum_a tr(W_GH (E'E)_HG)_a + beta_G' (Q_GH beta_H - t_G) + sum_o tr(W'_GH (A'A)_HG)_o + rate c_K-1

G denotes the columns of one variable (all utilities of a nominal one), H the others, N(Q^-1 t, Q^-1) the prior of
vec(beta), and d the number of values that are multiplied: latent values of observed levels, coefficients, effects and
free cutpoints. A holds the clusters' effects and the residuals of cluster-level variables, o runs over the patterns in
which these are observed, and W' is the inverse of Psi there. Latent values of cluster-level variables are rescaled in the
same way, without effects.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from bayesimp.kernels.compiled import inner
from bayesimp.kernels.latent.records import NUMBER
from bayesimp.kernels.slices import DONE, ENTRIES, PHASE, begin_slice, next_on_slice
from bayesimp.notation import Integer, IntVector, Matrix, Stack, Vector

if TYPE_CHECKING:
    from bayesimp.kernels.latent.records import LatentLevel

__all__ = ["move_scales", "slice_of_log_scale"]


@inner
def slice_of_log_scale(rng: np.random.Generator, d: float, S2: float, S1: float) -> float:
    """t after one slice-sampling step from 0 under log p(t) = d t - S2 e^(2t) / 2 - S1 e^t; d > 0.

    Returns nan, without drawing, unless S2 > 0 and both sums are finite: otherwise p has no finite integral.
    """
    if not (0.0 < S2 < math.inf and abs(S1) < math.inf):
        return math.nan
    search = np.empty(ENTRIES)
    width = 2.0 / math.sqrt(d)
    t = begin_slice(rng, -0.5 * S2 - S1, 0.0, width, math.inf, -math.inf, math.inf, search)
    while search[PHASE] != DONE:
        t = next_on_slice(rng, t, d * t - 0.5 * S2 * math.exp(2.0 * t) - S1 * math.exp(t), search)
    return t


@inner
def _cross(W: Stack, R: Stack, k: Integer, l: Integer) -> float:
    """sum_a W_akl R_akl; W is zero where nothing is observed."""
    s = 0.0
    for a in range(W.shape[0]):
        if W[a, k, l] != 0.0:
            s += W[a, k, l] * R[a, k, l]
    return s


@inner
def _sums(
    W: Stack, RR: Stack, Q0: Matrix, t0: Vector, W_effects: Stack, AA: Stack, q: Integer, beta: Matrix, first: Integer,
    last: Integer,
) -> tuple[float, float]:  # fmt: skip
    """S_2 and S_1 of the columns first .. last-1, apart from the cutpoints."""
    p, r = beta.shape
    S2 = S1 = 0.0
    for k in range(first, last):
        for l in range(r):
            s = _cross(W, RR, k, l)
            for x in range(p):
                for y in range(p):
                    s += beta[x, k] * Q0[k * p + x, l * p + y] * beta[y, l]
            if first <= l < last:
                S2 += s
            else:
                S1 += s
        for x in range(p):
            S1 -= beta[x, k] * t0[k * p + x]
        for e in range(k * q, k * q + q):
            for f in range(AA.shape[1]):
                s = _cross(W_effects, AA, e, f)
                if first * q <= f < last * q:
                    S2 += s
                else:
                    S1 += s
    return S2, S1


@inner
def move_scales(
    rng: np.random.Generator, level: LatentLevel, W: Stack, RR: Stack, Q0: Matrix, t0: Vector, W_effects: Stack,
    AA: Stack, rate: float, multiplied: IntVector, beta: Matrix, B: Stack, cutpoints: Vector, Y: Matrix,
) -> bool:  # fmt: skip
    """Move every latent variable once, in place: beta (p, w), B (m, q, w), cutpoints, Y (n, w), RR (A, w, w), AA.

    W (A, w, w), RR: weights and cross products of residuals by pattern; W_effects, AA (A', d, d): the same for effects
    and cluster-level variables, whose first w q rows are the effects; multiplied (w,): free coefficients and effects of
    each column. B has q = 0 where there are none. Returns False if S_2 is not positive or a sum is not finite, which
    happens only if W, W_effects or Q0 is not positive definite to rounding.
    """
    w, q = beta.shape[1], B.shape[1]
    columns = level.columns
    for first in range(w):
        if columns.kind[first] == NUMBER or columns.first[first] != first:
            continue
        last = first + columns.width[first]
        begin, end = columns.cut[first], columns.cut[last]
        S2, S1 = _sums(W, RR, Q0, t0, W_effects, AA, q, beta, first, last)
        free = max(end - begin - 1, 0)
        if free:
            S1 += rate * cutpoints[end - 1]
        observed = 0
        for a in range(level.counts.size):
            if level.patterns[a, first]:
                observed += level.counts[a]
        d = (observed + multiplied[first]) * (last - first) + free
        alpha = math.exp(slice_of_log_scale(rng, float(d), S2, S1))
        if not alpha > 0.0:
            return False
        for h in range(begin, end):
            cutpoints[h] *= alpha
        for k in range(first, last):
            _multiply(k, alpha, beta, B, Y, RR, AA)
    return True


@inner
def _multiply(k: Integer, alpha: float, beta: Matrix, B: Stack, Y: Matrix, RR: Stack, AA: Stack) -> None:
    """Multiply everything that belongs to column k by alpha."""
    clusters, q, _ = B.shape
    for x in range(beta.shape[0]):
        beta[x, k] *= alpha
    for i in range(clusters):
        for l in range(q):
            B[i, l, k] *= alpha
    for j in range(Y.shape[0]):
        Y[j, k] *= alpha
    for a in range(RR.shape[0]):
        for l in range(RR.shape[1]):
            RR[a, k, l] *= alpha
            RR[a, l, k] *= alpha
    for a in range(AA.shape[0]):
        for e in range(k * q, k * q + q):
            for f in range(AA.shape[1]):
                AA[a, e, f] *= alpha
                AA[a, f, e] *= alpha
