"""Draws of the latent values of observed levels, and of cutpoints.

Given (beta, B, Sigma) and the other values observed in its row, the latent value of column k is normal,

    y*_k | y*_O-k  ~  N( mu_k - sum_{l != k} W_kl (y*_l - mu_l) / W_kk,  1 / W_kk ),     mu = x'beta + z'B_i

with W = Sigma_OO^-1 (missing values are integrated out), restricted to the bounds of its level. Cutpoints of an ordinal
variable are drawn with its latent values integrated out, and the latent values immediately afterwards: given these, a
cutpoint could only move between the nearest two of them (Cowles 1996). Cutpoints are drawn one by one; with eta_j and s_j
the mean and standard deviation above,

    p(c_l | rest)  ~  prior  prod_{y_j = l} [Phi_j(c_l) - Phi_j(c_l-1)]  prod_{y_j = l+1} [Phi_j(c_l+1) - Phi_j(c_l)]
    Phi_j(c) = Phi((c - eta_j) / s_j),     c_l - c_l-1 ~ exponential(rate)
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from bayesimp.kernels.compiled import inner
from bayesimp.kernels.draws import truncated_normal
from bayesimp.kernels.latent.intervals import ROOT_HALF, log_between
from bayesimp.kernels.latent.records import NUMBER, THRESHOLD
from bayesimp.kernels.linalg import row_mean
from bayesimp.kernels.slices import DONE, ENTRIES, PHASE, begin_slice, next_on_slice
from bayesimp.notation import Integer, Matrix, Stack, Vector

if TYPE_CHECKING:
    from bayesimp.kernels.latent.records import LatentColumns, LatentRows

__all__ = ["draw_latent_values", "predictors"]

PLAIN = 1e-4  # a difference of two Phi above this is accurate to twelve digits
SMALL = 1e-280  # below this a product of probabilities above PLAIN may soon underflow


@inner
def predictors(rows: LatentRows, beta: Matrix, B: Stack, mu: Matrix) -> None:
    """mu (N, r) <- x'beta + z'B_i for every row."""
    for j in range(mu.shape[0]):
        for k in range(mu.shape[1]):
            mu[j, k] = row_mean(rows.X, rows.Z, j, rows.cluster[j], k, beta, B)


@inner
def draw_latent_values(
    rng: np.random.Generator,
    rows: LatentRows,
    columns: LatentColumns,
    W: Stack,
    mu: Matrix,
    rate: float,
    cutpoints: Vector,
    Y: Matrix,
) -> bool:
    """Draw Y (N, r) and cutpoints in place, column by column; Y is zero where nothing is observed.

    rate: of the increments between cutpoints; negative if cutpoints are known.

    Returns False if the distribution of a latent value is numerically indistinguishable from its bound.
    """
    eta, sd = np.empty(Y.shape[0]), np.empty(Y.shape[0])
    for k in range(Y.shape[1]):
        if columns.kind[k] == NUMBER:
            continue
        _conditional(rows, W, mu, Y, k, eta, sd)
        c = cutpoints[columns.cut[k] : columns.cut[k + 1]]
        if c.size > 1 and rate >= 0.0:
            _draw_cutpoints(rng, rows, k, eta, sd, rate, c)
        for j in range(Y.shape[0]):
            y = rows.level[j, k]
            if y < 0:
                continue
            lower, upper = -math.inf, math.inf
            if columns.kind[k] == THRESHOLD:
                if y > 0:
                    lower = c[y - 1]
                if y < c.size:
                    upper = c[y]
            else:
                lower, upper = _utility_bounds(Y[j], columns.first[k], columns.width[k], y, k)
            drawn = truncated_normal(rng, eta[j], sd[j], lower, upper)
            if math.isnan(drawn):
                return False
            Y[j, k] = drawn
    return True


@inner
def _conditional(
    rows: LatentRows, W: Stack, mu: Matrix, Y: Matrix, k: Integer, eta: Vector, sd: Vector
) -> None:
    """eta, sd (N,) <- mean and standard deviation of y*_k given the other observed values of its row."""
    for j in range(Y.shape[0]):
        if rows.level[j, k] < 0:
            continue
        a = rows.pattern[j]
        s = 0.0
        for l in range(Y.shape[1]):
            if l != k:
                s += W[a, k, l] * (Y[j, l] - mu[j, l])
        eta[j] = mu[j, k] - s / W[a, k, k]
        sd[j] = 1.0 / math.sqrt(W[a, k, k])


@inner
def _utility_bounds(
    y: Vector, first: Integer, count: Integer, level: Integer, k: Integer
) -> tuple[float, float]:
    """Bounds of the utility in column k, given that `level` has the largest of 0 and the utilities in y (r,)."""
    chosen = first + level - 1
    if level > 0 and k != chosen:
        return -math.inf, y[chosen]
    if level == 0:
        return -math.inf, 0.0
    lower = 0.0
    for u in range(first, first + count):
        if u != k:
            lower = max(lower, y[u])
    return lower, math.inf


@inner
def _neighbours(
    rows: LatentRows, k: Integer, eta: Vector, sd: Vector, c: Vector, l: Integer, bound: Vector, phi: Vector
) -> None:
    """bound, phi (N,) <- the standardised other bound of rows of levels l and l + 1, and Phi of it.

    They stay fixed while c_l moves, so each density evaluation costs one Phi per row instead of two.
    """
    below = c[l - 1]
    above = c[l + 1] if l + 1 < c.size else math.inf
    for j in range(eta.size):
        y = rows.level[j, k]
        if y == l or y == l + 1:
            bound[j] = ((below if y == l else above) - eta[j]) / sd[j]
            phi[j] = 0.5 * math.erfc(-bound[j] * ROOT_HALF)


@inner
def _log_target(
    rows: LatentRows, k: Integer, eta: Vector, sd: Vector, rate: float, c: Vector, l: Integer, bound: Vector,
    phi: Vector, at: float,
) -> float:  # fmt: skip
    """log p(c_l | rest) up to a constant, at a number between the neighbouring cutpoints.

    Probabilities are multiplied, and the logarithm is taken before they underflow. Differences of Phi that lose digits
    are computed on the log scale.
    """
    # between two cutpoints the prior is flat, because one increment gains what the other loses
    total = 0.0 if l + 1 < c.size else -rate * (at - c[l - 1])
    product = 1.0
    for j in range(eta.size):
        y = rows.level[j, k]
        if y != l and y != l + 1:
            continue
        x = (at - eta[j]) / sd[j]
        own = 0.5 * math.erfc(-x * ROOT_HALF)
        p = own - phi[j] if y == l else phi[j] - own
        if p > PLAIN:
            product *= p
            if product < SMALL:
                total += math.log(product)
                product = 1.0
        else:
            total += log_between(bound[j], x) if y == l else log_between(x, bound[j])
    return total + math.log(product)


@inner
def _draw_cutpoints(
    rng: np.random.Generator, rows: LatentRows, k: Integer, eta: Vector, sd: Vector, rate: float, c: Vector
) -> None:
    """Draw c (K - 1,), except the first, in place, with one slice-sampling step each (Neal 2003)."""
    bound, phi, search = np.empty(eta.size), np.empty(eta.size), np.empty(ENTRIES)
    for l in range(1, c.size):
        _neighbours(rows, k, eta, sd, c, l, bound, phi)
        n = 1
        for j in range(eta.size):
            n += rows.level[j, k] == l or rows.level[j, k] == l + 1
        width = 4.0 / math.sqrt(n)
        least, most = c[l - 1], c[l + 1] if l + 1 < c.size else math.inf
        now = _log_target(rows, k, eta, sd, rate, c, l, bound, phi, c[l])
        at = begin_slice(rng, now, c[l], width, math.inf, least, most, search)
        while search[PHASE] != DONE:
            at = next_on_slice(rng, at, _log_target(rows, k, eta, sd, rate, c, l, bound, phi, at), search)
        c[l] = at
