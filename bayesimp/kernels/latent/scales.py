"""A move along the scale of a latent variable, which its residual variance alone identifies.

Levels say nothing of the scale: (y*_k, beta_k, B_k, c_k) -> alpha times the same leaves every bound kept. Data
augmentation follows that direction slowly, so one step is made in it (Liu & Sabatti 2000, generalised Gibbs; Liu & Wu
1999), with t = log alpha drawn by slice sampling from

    log p(t) = d t - S_2 e^(2t) / 2 - S_1 e^t,
    S_2 = sum_a tr(W_GG (E'E)_GG)_a + beta_G' Q_GG beta_G + sum_i b_iG' (Psi^-1)_GG b_iG
    S_1 = sum_a tr(W_GH (E'E)_HG)_a + beta_G' (Q_GH beta_H - t_G) + sum_i b_iG' (Psi^-1)_GH b_iH + rate c_K-1

G are the columns of one variable (all utilities of a nominal one), H the others, N(Q^-1 t, Q^-1) the prior of vec(beta),
and d the number of values that are multiplied: latent values observed, coefficients, effects and free cutpoints.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from bayesimp.kernels.compiled import inner
from bayesimp.kernels.latent.records import NUMBER
from bayesimp.notation import Integer, Matrix, Stack, Vector

if TYPE_CHECKING:
    from bayesimp.kernels.latent.records import LatentColumns, LatentRows
    from bayesimp.kernels.normal.effects import Moments

__all__ = ["move_scales", "slice_of_log_scale"]


@inner
def slice_of_log_scale(rng: np.random.Generator, d: float, S2: float, S1: float) -> float:
    """t after one step of slice sampling from 0 of log p(t) = d t - S2 e^(2t) / 2 - S1 e^t; d, S2 > 0."""
    width = 2.0 / math.sqrt(d)
    height = -0.5 * S2 - S1 - rng.standard_exponential()
    low = -width * rng.random()
    high = low + width
    while d * low - 0.5 * S2 * math.exp(2.0 * low) - S1 * math.exp(low) > height:
        low -= width
    while d * high - 0.5 * S2 * math.exp(2.0 * high) - S1 * math.exp(high) > height:
        high += width
    while True:
        t = low + (high - low) * rng.random()
        if t == 0.0 or d * t - 0.5 * S2 * math.exp(2.0 * t) - S1 * math.exp(t) >= height:
            return t
        if t < 0.0:
            low = t
        else:
            high = t


@inner
def _sums(
    m: Moments, W: Stack, RR: Stack, Q0: Matrix, t0: Vector, Psi_inverse: Matrix, beta: Matrix, B: Stack,
    first: Integer, last: Integer,
) -> tuple[float, float]:  # fmt: skip
    """S_2 and S_1 of the columns first .. last-1, but for the cutpoints."""
    p, r = beta.shape
    clusters, q, _ = B.shape
    S2 = S1 = 0.0
    for k in range(first, last):
        for l in range(r):
            s = 0.0
            for a in range(W.shape[0]):
                if m.pattern_rows[a] > 0 and W[a, k, l] != 0.0:
                    s += W[a, k, l] * RR[a, k, l]
            for x in range(p):
                for y in range(p):
                    s += beta[x, k] * Q0[k * p + x, l * p + y] * beta[y, l]
            for e in range(q):
                for f in range(q):
                    w = Psi_inverse[k * q + e, l * q + f]
                    for i in range(clusters):
                        s += B[i, e, k] * w * B[i, f, l]
            if first <= l < last:
                S2 += s
            else:
                S1 += s
        for x in range(p):
            S1 -= beta[x, k] * t0[k * p + x]
    return S2, S1


@inner
def move_scales(
    rng: np.random.Generator, rows: LatentRows, columns: LatentColumns, m: Moments, W: Stack, RR: Stack, Q0: Matrix,
    t0: Vector, Psi_inverse: Matrix, rate: float, beta: Matrix, B: Stack, cutpoints: Vector, Y: Matrix,
) -> None:  # fmt: skip
    """One step for every latent variable; beta, B, cutpoints, Y and RR (A, r, r), products of residuals, in place."""
    p, r = beta.shape
    clusters, q, _ = B.shape
    for first in range(r):
        if columns.kind[first] == NUMBER or columns.first[first] != first:
            continue
        last = first + columns.width[first]
        begin, end = columns.cut[first], columns.cut[last]
        S2, S1 = _sums(m, W, RR, Q0, t0, Psi_inverse, beta, B, first, last)
        free = max(end - begin - 1, 0)
        if free:
            S1 += rate * cutpoints[end - 1]
        observed = 0
        for a in range(m.patterns.shape[0]):
            if m.patterns[a, first]:
                observed += m.pattern_rows[a]
        d = (observed + p + clusters * q) * (last - first) + free
        alpha = math.exp(slice_of_log_scale(rng, float(d), S2, S1))
        for h in range(begin, end):
            cutpoints[h] *= alpha
        for k in range(first, last):
            for x in range(p):
                beta[x, k] *= alpha
            for i in range(clusters):
                for l in range(q):
                    B[i, l, k] *= alpha
            for j in range(Y.shape[0]):
                Y[j, k] *= alpha
            for a in range(RR.shape[0]):
                for l in range(r):
                    RR[a, k, l] *= alpha
                    RR[a, l, k] *= alpha
