"""One pass over rows: their log-likelihood, and its gradient and curvature in a block of coefficients.

    eta_jk = base_jk + sum_l d_jl theta_kl            (`shared`: one design for all predictors, D (n, w))
    eta_jk = base_jk + sum_l d_jkl theta_kl           (otherwise: D (n, r w), entry k w + l)

    g_kl = sum_j s_jk d_jl,     H_kl,gh = sum_j c_jkg d_jl d_jh,     s = d log p / d eta,   c = -d^2 log p / d eta^2

theta is (r w,), entry k w + l. If the block contains the increments of an ordinal response, its last K-2 entries are
their logs, delta_k = log h_k, c_k = sum_{i <= k} exp(delta_i).
Each function returns the log-likelihood of rows start..stop-1, without the terms that lack eta; if `full`, g and the
lower triangle of H, zero on entry, are filled. y (n,), trials (n,), base (n, r); cuts (K-1,) of an ordinal response, in
agreement with theta; shape of the families that have one.
"""

from __future__ import annotations

import math

import numpy as np

from bayesimp.kernels.compiled import inner
from bayesimp.kernels.families.codes import STUDENT, TRUNCATED_NEGATIVE_BINOMIAL, TRUNCATED_POISSON
from bayesimp.kernels.families.responses import ORDINAL
from bayesimp.kernels.families.scalar import LOGIT, NEGATIVE_BINOMIAL, POISSON, derivatives, log_likelihood
from bayesimp.kernels.families.truncated import truncated_terms
from bayesimp.notation import Integer, Matrix, Vector

__all__ = ["add_categorical", "add_ordinal_with_cuts", "add_scalar"]


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


@inner
def add_scalar(
    family: int,
    y: Vector,
    trials: Vector,
    base: Matrix,
    D: Matrix,
    start: Integer,
    stop: int,
    theta: Vector,
    shape: float,
    cuts: Vector,
    full: bool,
    g: Vector,
    H: Matrix,
) -> float:
    """One linear predictor. For logits, sum log(1 + e_j) is computed as the log of products, in half the time.

    A negative binomial count is y successes among y + shape trials at logit eta - log shape; `trials` of STUDENT are the
    precisions of its rows, which may be transformed ones of YEO_JOHNSON (kernels/families/mixtures.py).
    """
    w = D.shape[1]
    total, product = 0.0, 1.0
    log_shape = math.log(shape)
    for j in range(start, stop):
        if trials[j] == 0.0:  # a structural zero, or a binomial without trials: no information
            continue
        eta = base[j, 0]
        for l in range(w):
            eta += D[j, l] * theta[l]
        score, curvature = 0.0, 0.0
        if family == LOGIT or family == NEGATIVE_BINOMIAL:
            size = trials[j]
            if family == NEGATIVE_BINOMIAL:
                eta -= log_shape
                size = y[j] + shape
            e = math.exp(-abs(eta))
            total += y[j] * eta - size * max(eta, 0.0)
            if size == 1.0:
                product *= 1.0 + e
                if product > 1e100:
                    total -= math.log(product)
                    product = 1.0
            else:
                total -= size * math.log1p(e)
            if full:
                upper = 1.0 / (1.0 + e)
                score = y[j] - size * (upper if eta >= 0.0 else e * upper)
                curvature = size * e * upper * upper
        elif family == POISSON:
            mu = math.exp(eta)
            total += y[j] * eta - mu
            score, curvature = y[j] - mu, mu
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
        if full:
            for l in range(w):
                g[l] += score * D[j, l]
                weighted = curvature * D[j, l]
                for h in range(l + 1):
                    H[l, h] += weighted * D[j, h]
    return total - math.log(product)


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
    w = D.shape[1]
    total = 0.0
    slope_c, bend_c, bend_xc = np.zeros(cuts.size), np.zeros(cuts.size), np.zeros((w, cuts.size))
    for j in range(start, stop):
        eta = base[j, 0]
        for l in range(w):
            eta += D[j, l] * theta[l]
        level = int(y[j])
        for k in range(max(level - 1, 0), min(level + 1, cuts.size)):
            sign = 1.0 if k < level else -1.0
            term, slope, bend = _logistic_term(sign * (eta - cuts[k]))
            total += term
            if full:
                slope_c[k] -= sign * slope
                bend_c[k] += bend
                for l in range(w):
                    g[l] += sign * slope * D[j, l]
                    bend_xc[l, k] -= bend * D[j, l]
                    for h in range(l + 1):
                        H[l, h] += bend * D[j, l] * D[j, h]
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
                eta += D[j, at + l] * theta[k * w + l]
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
                g[k * w + l] += score * D[j, at_k + l]
                for i in range(k + 1):
                    weighted = ((p[k] if i == k else 0.0) - p[k] * p[i]) * D[j, at_k + l]
                    at_i = 0 if shared else i * w
                    for h in range(w if i < k else l + 1):
                        H[k * w + l, i * w + h] += weighted * D[j, at_i + h]
    return total
