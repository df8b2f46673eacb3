"""One pass over rows: their log-likelihood, and its gradient and curvature in a block of coefficients.

    eta_jk = base_jk + sum_l d_jl theta_kl            (`shared`: one design for all predictors, D (n, w))
    eta_jk = base_jk + sum_l d_jkl theta_kl           (otherwise: D (n, r w), entry k w + l)

    g_kl = sum_j s_jk d_jl,     H_kl,gh = sum_j c_jkg d_jl d_jh,     s = d log p / d eta,   c = -d^2 log p / d eta^2

theta is (r w,), entry k w + l. If the block contains the increments of an ordinal response, its last K-2 entries are
their logs, delta_k = log h_k, c_k = sum_{i <= k} exp(delta_i).
Each function returns the log-likelihood of rows start..stop-1, without the terms that lack eta; if `full`, g and the
lower triangle of H, zero on entry, are filled. y (n,), trials (n,), base (n, r); cuts (K-1,) of an ordinal response, in
agreement with theta; shape of the families that have one. D has the columns of the design as its rows, so that sums over
the rows of the table run along memory: of one predictor they are taken `BLOCK` rows at a time, with vector instructions.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from bayesimp.kernels.compiled import inner, reduction
from bayesimp.kernels.exponential import exp_in_place
from bayesimp.kernels.families.codes import STUDENT, TRUNCATED_NEGATIVE_BINOMIAL, TRUNCATED_POISSON
from bayesimp.kernels.families.responses import ORDINAL
from bayesimp.kernels.families.scalar import LOGIT, NEGATIVE_BINOMIAL, POISSON, derivatives, log_likelihood
from bayesimp.kernels.families.truncated import truncated_terms
from bayesimp.notation import Integer, Matrix, Vector

__all__ = ["RowWork", "add_categorical", "add_ordinal_with_cuts", "add_scalar", "row_work"]

BLOCK = 256  # rows at a time, which fit in the nearest cache


@inner
def _logistic_term(x: float) -> tuple[float, float, float]:
    """log F(x), F(-x), F(x) F(-x)."""
    e = math.exp(-abs(x))
    upper = 1.0 / (1.0 + e)
    return min(x, 0.0) - math.log1p(e), e * upper if x >= 0.0 else upper, e * upper * upper


@inner
def _ordinal_terms(level: int, eta: float, cuts: Vector) -> tuple[float, float, float]:
    """Log-likelihood without the increment's term, and its score and curvature in eta."""
    log_p, score, curvature = 0.0, 0.0, 0.0
    if level < cuts.size:
        term, slope, bend = _logistic_term(cuts[level] - eta)
        log_p, score, curvature = term, -slope, bend
    if level > 0:
        term, slope, bend = _logistic_term(eta - cuts[level - 1])
        log_p, score, curvature = log_p + term, score + slope, curvature + bend
    return log_p, score, curvature


class RowWork(NamedTuple):
    """Work space for `BLOCK` rows: predictors, scores, curvatures, products; of `exp_in_place`, 2^k and its bits."""

    eta: np.ndarray
    score: np.ndarray
    curvature: np.ndarray
    product: np.ndarray
    power: np.ndarray
    bits: np.ndarray


@inner
def row_work() -> RowWork:
    """New work space for `BLOCK` rows."""
    power = np.empty(BLOCK)
    return RowWork(
        np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK), power, power.view(np.int64)
    )


@inner
def _predictors(base: Matrix, D: Matrix, start: Integer, stop: Integer, theta: Vector, eta: Vector) -> None:
    """eta <- base + D'theta, rows start..stop-1."""
    n = stop - start
    for j in range(n):
        eta[j] = base[start + j, 0]
    for l in range(D.shape[0]):
        d, coefficient = D[l, start:stop], theta[l]
        for j in range(n):
            eta[j] += coefficient * d[j]


@reduction
def _logistic_sum(y: Vector, size: Vector, w: RowWork) -> float:
    """sum_j y_j eta_j - n_j log(1 + e^eta_j), as the log of a product where n_j = 1; w.curvature = e^-|eta|."""
    n = y.size
    total, product, others = 0.0, 1.0, 0.0
    for j in range(n):
        total += y[j] * w.eta[j] - size[j] * max(w.eta[j], 0.0)
        product *= 1.0 + (w.curvature[j] if size[j] == 1.0 else 0.0)
        others += 0.0 if size[j] == 1.0 else size[j]
    if others > 0.0:
        for j in range(n):
            if size[j] != 1.0:
                total -= size[j] * math.log1p(w.curvature[j])
    return total - math.log(product)


@inner
def _logistic(y: Vector, size: Vector, w: RowWork) -> float:
    """The log-likelihood; w.curvature <- e^-|eta|."""
    n = y.size
    for j in range(n):
        w.curvature[j] = -abs(w.eta[j])
    exp_in_place(n, w.curvature, w.power, w.bits)
    return _logistic_sum(y, size, w)


@inner
def _logistic_derivatives(y: Vector, size: Vector, w: RowWork) -> None:
    """w.score, w.curvature <- y_j - n_j p_j, n_j p_j (1 - p_j), from w.curvature = e^-|eta|."""
    n = y.size
    for j in range(n):
        e = w.curvature[j]
        w.score[j] = (1.0 if w.eta[j] >= 0.0 else e) / (1.0 + e)
    for j in range(n):
        w.curvature[j] = size[j] * w.curvature[j] / (1.0 + w.curvature[j]) ** 2
    for j in range(n):
        w.score[j] = y[j] - size[j] * w.score[j]


@reduction
def _poisson_sum(y: Vector, w: RowWork) -> float:
    """sum_j y_j eta_j - mu_j; w.curvature = mu."""
    total = 0.0
    for j in range(y.size):
        total += y[j] * w.eta[j] - w.curvature[j]
    return total


@inner
def _poisson(y: Vector, trials: Vector, w: RowWork) -> float:
    """The log-likelihood of rows with trials; w.score, w.curvature <- y_j - mu_j, mu_j."""
    n = y.size
    for j in range(n):
        w.curvature[j] = w.eta[j]
    exp_in_place(n, w.curvature, w.power, w.bits)
    for j in range(n):
        w.curvature[j] = w.curvature[j] if trials[j] > 0.0 else 0.0
    for j in range(n):
        w.score[j] = y[j] - w.curvature[j]
    return _poisson_sum(y, w)


@reduction
def _add_sums(D: Matrix, start: Integer, stop: Integer, w: RowWork, g: Vector, H: Matrix) -> None:
    """g += D s, H (lower triangle) += D diag(c) D', rows start..stop-1."""
    n = stop - start
    for l in range(D.shape[0]):
        d, total = D[l, start:stop], 0.0
        for j in range(n):
            total += w.score[j] * d[j]
        g[l] += total
        for j in range(n):
            w.product[j] = w.curvature[j] * d[j]
        for h in range(l + 1):
            e, total = D[h, start:stop], 0.0
            for j in range(n):
                total += w.product[j] * e[j]
            H[l, h] += total


@inner
def _by_row(
    family: int, y: Vector, trials: Vector, shape: float, cuts: Vector, full: bool, w: RowWork
) -> float:
    """The log-likelihood, and w.score and w.curvature, of families whose rows are computed one by one."""
    total = 0.0
    for j in range(y.size):
        eta, score, curvature = w.eta[j], 0.0, 0.0
        if trials[j] == 0.0:  # a structural zero: no information
            pass
        elif family == STUDENT:
            curvature = trials[j]
            score = curvature * (y[j] - eta)
            total -= 0.5 * score * (y[j] - eta)
        elif family == TRUNCATED_POISSON or family == TRUNCATED_NEGATIVE_BINOMIAL:
            log_p, score, curvature = truncated_terms(family, y[j], eta, shape)
            total += log_p
        elif family == ORDINAL:
            log_p, score, curvature = _ordinal_terms(int(y[j]), eta, cuts)
            total += log_p
        else:
            total += log_likelihood(family, y[j], trials[j], eta, shape)
            if full:
                score, curvature = derivatives(family, y[j], trials[j], eta, shape)
        w.score[j], w.curvature[j] = score, curvature
    return total


@inner
def add_scalar(
    family: int,
    y: Vector,
    trials: Vector,
    base: Matrix,
    D: Matrix,
    start: Integer,
    stop: Integer,
    theta: Vector,
    shape: float,
    cuts: Vector,
    full: bool,
    g: Vector,
    H: Matrix,
    w: RowWork,
) -> float:
    """One linear predictor, a block of rows at a time.

    Rows without trials, such as structural zeros, have no information. A negative binomial count is y successes among
    y + shape trials at logit eta - log shape; `trials` of STUDENT are the precisions of its rows, which may be those of
    YEO_JOHNSON, transformed (kernels/families/mixtures.py).
    """
    total = 0.0
    for at in range(start, stop, BLOCK):
        end = min(at + BLOCK, stop)
        seen, size = y[at:end], trials[at:end]
        _predictors(base, D, at, end, theta, w.eta)
        if family == POISSON:
            total += _poisson(seen, size, w)
        elif family == LOGIT or family == NEGATIVE_BINOMIAL:
            if family == NEGATIVE_BINOMIAL:
                log_shape = math.log(shape)
                for j in range(end - at):
                    w.eta[j] -= log_shape
                    w.product[j] = seen[j] + shape if size[j] > 0.0 else 0.0
                size = w.product[: end - at]
            total += _logistic(seen, size, w)
            if full:
                _logistic_derivatives(seen, size, w)
        else:
            total += _by_row(family, seen, size, shape, cuts, full, w)
        if full:
            _add_sums(D, at, end, w, g, H)
    return total


@inner
def add_ordinal_with_cuts(
    y: Vector,
    base: Matrix,
    D: Matrix,
    start: Integer,
    stop: int,
    theta: Vector,
    cuts: Vector,
    full: bool,
    g: Vector,
    H: Matrix,
) -> float:
    """Coefficients and log increments of an ordinal response.

    A term at cut k depends on eta - c_k alone, so the curvature in the cuts is diagonal; then c_k = sum_{i<=k} h_i.
    """
    w = D.shape[0]
    total = 0.0
    slope_c, bend_c, bend_xc = np.zeros(cuts.size), np.zeros(cuts.size), np.zeros((w, cuts.size))
    for j in range(start, stop):
        eta = base[j, 0]
        for l in range(w):
            eta += D[l, j] * theta[l]
        level = int(y[j])
        for k in range(max(level - 1, 0), min(level + 1, cuts.size)):
            sign = 1.0 if k < level else -1.0
            term, slope, bend = _logistic_term(sign * (eta - cuts[k]))
            total += term
            if full:
                slope_c[k] -= sign * slope
                bend_c[k] += bend
                for l in range(w):
                    g[l] += sign * slope * D[l, j]
                    bend_xc[l, k] -= bend * D[l, j]
                    for h in range(l + 1):
                        H[l, h] += bend * D[l, j] * D[h, j]
    if full:
        last = cuts.size - 1
        for k in range(last - 1, 0, -1):  # sums over the cuts k, k + 1, ..
            slope_c[k] += slope_c[k + 1]
            bend_c[k] += bend_c[k + 1]
            for l in range(w):
                bend_xc[l, k] += bend_xc[l, k + 1]
        for k in range(1, cuts.size):
            h_k = cuts[k] - cuts[k - 1]
            a = w + k - 1
            g[a] += h_k * slope_c[k]
            for l in range(w):
                H[a, l] += h_k * bend_xc[l, k]
            for i in range(1, k + 1):
                H[a, w + i - 1] += h_k * (cuts[i] - cuts[i - 1]) * bend_c[k]
    return total


@inner
def add_categorical(
    y: Vector,
    base: Matrix,
    D: Matrix,
    shared: bool,
    start: Integer,
    stop: int,
    theta: Vector,
    full: bool,
    g: Vector,
    H: Matrix,
) -> float:
    """r linear predictors of a categorical response."""
    r = base.shape[1]
    w = theta.size // r
    p = np.empty(r)
    total = 0.0
    for j in range(start, stop):
        level = int(y[j]) - 1
        highest = 0.0
        for k in range(r):
            eta = base[j, k]
            at = 0 if shared else k * w
            for l in range(w):
                eta += D[at + l, j] * theta[k * w + l]
            p[k] = eta
            highest = max(highest, eta)
        if level >= 0:
            total += p[level]
        scale = math.exp(-highest)
        for k in range(r):
            p[k] = math.exp(p[k] - highest)
            scale += p[k]
        total -= highest + math.log(scale)
        if not full:
            continue
        for k in range(r):
            p[k] /= scale
        for k in range(r):
            score = (1.0 if k == level else 0.0) - p[k]
            at_k = 0 if shared else k * w
            for l in range(w):
                g[k * w + l] += score * D[at_k + l, j]
                for i in range(k + 1):
                    weighted = ((p[k] if i == k else 0.0) - p[k] * p[i]) * D[at_k + l, j]
                    at_i = 0 if shared else i * w
                    for h in range(w if i < k else l + 1):
                        H[k * w + l, i * w + h] += weighted * D[at_i + h, j]
    return total
