"""Log posterior of a generalised linear model and its derivatives, with or without a term for every cluster.

Row j of cluster i has columns x, r linear predictors and, optionally, cluster terms alpha_i (r,):

    eta_k = offset + x' beta_k + alpha_ik,     k = 1..r

    codes of kernels/families/scalar.py, NORMAL (sigma^2 = 1)   r = 1
    ORDINAL, K levels        P(y >= 1 + k) = F(eta - c_k),  c_0 = 0,  c_k = d_1 + .. + d_k,  d > 0,  F logistic
    CATEGORICAL, K levels    P(y = k) = e^eta_k / (1 + sum_l e^eta_l),  r = K - 1, against level 0

An ordinal row amounts to two logistic rows and a term without eta, so its log density is concave in (eta, d):

    log P(y = k) = log F(eta - c_{k-1}) + log{1 - F(eta - c_k)} + log(1 - e^{-d_k})

theta = (beta_1, .., beta_r, d). Prior: independent normals for beta and alpha, d ~ Gamma(shape, rate). With

    H = [ D  C ]    D block-diagonal in clusters,     S = G - sum_i C_i' D_i^-1 C_i
        [ C' G ]

the negative second derivatives, elimination (posterior.py) takes time linear in the number of clusters.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bayesimp.kernels.compiled import inner
from bayesimp.kernels.families.codes import CATEGORICAL, LOGIT, NORMAL, ORDINAL
from bayesimp.kernels.families.scalar import all_terms, derivatives, log_likelihood, sum_of_logs
from bayesimp.notation import Integer, IntVector, Matrix, Vector

if TYPE_CHECKING:
    from bayesimp.kernels.glmm.rows import GlmmRows

__all__ = ["CATEGORICAL", "NORMAL", "ORDINAL", "Curvature", "GlmPrior", "curvature", "evaluate", "predictors"]


class GlmPrior(NamedTuple):
    """beta ~ N(mean, 1 / precision), (p r,); d ~ Gamma(shape, rate); alpha_ik ~ N(centre_k, 1 / term_precision)."""

    mean: np.ndarray
    precision: np.ndarray
    shape: float
    rate: float
    centre: np.ndarray
    term_precision: float


class Curvature(NamedTuple):
    """Gradient g (P,), ga (m, r), and H: G (P, P), C (m, r, P), D (m, r, r).

    After `glm.posterior.find_mode`, G and D_i hold the lower Cholesky factors of S and D_i, and C_i holds D_i^-1 C_i.
    """

    g: np.ndarray
    G: np.ndarray
    ga: np.ndarray
    C: np.ndarray
    D: np.ndarray


@inner
def predictors(family: int, levels: Integer) -> Integer:
    """Number r of linear predictors."""
    return levels - 1 if family == CATEGORICAL else 1


@inner
def curvature(P: int, m: int, r: int) -> Curvature:
    """Empty `Curvature`."""
    return Curvature(
        np.zeros(P), np.zeros((P, P)), np.zeros((m, r)), np.zeros((m, r, P)), np.zeros((m, r, r))
    )


# -- log density -------------------------------------------------------------------------------------------------


@inner
def evaluate(
    rows: GlmmRows,
    levels: Integer,
    bounds: IntVector,
    prior: GlmPrior,
    theta: Vector,
    alpha: Matrix,
    h: Curvature,
    derive: bool,
) -> float:
    """Log posterior density up to a constant; if `derive`, h <- its derivatives (lower triangles).

    bounds (m + 1,): row ranges of the clusters; alpha (m, r), or (0, r) without terms. -inf where it is not defined.
    """
    p, r = rows.X.shape[1], alpha.shape[1]
    value = _prior(prior, p * r, theta, alpha, h, derive)
    if value == -math.inf:
        return value
    terms, zero = alpha.shape[0] > 0, np.int64(0)
    eta, product = np.empty(r), 1.0
    for i in range(bounds.size - 1):
        for j in range(bounds[i], bounds[i + 1]):
            for k in range(r):
                eta[k] = rows.offset[j]
                if terms:
                    eta[k] += alpha[i, k]
                for a in range(p):
                    eta[k] += rows.X[j, a] * theta[k * p + a]
            w, y = rows.weight[j], rows.y[j]
            if rows.family == CATEGORICAL:
                value += w * _categorical(rows.X, j, int(y), w, eta, i, terms, h, derive)
            elif rows.family == ORDINAL:
                value += w * _ordinal(rows.X, j, int(y), levels, w, eta[0], theta, i, terms, h, derive)
            elif rows.family == NORMAL:
                value -= 0.5 * w * (y - eta[0]) ** 2
                if derive:
                    _add(rows.X, j, zero, w * (y - eta[0]), w, i, terms, h)
            else:
                l, rest, score, minus, _, _ = all_terms(rows.family, y, rows.trials[j], eta[0], 1.0)
                product, logs = sum_of_logs(product, w * rows.trials[j], rest)
                value += w * l - logs
                if derive:
                    _add(rows.X, j, zero, w * score, w * minus, i, terms, h)
    value -= math.log(product)
    return value if value == value else -math.inf


@inner
def _prior(prior: GlmPrior, n_beta: int, theta: Vector, alpha: Matrix, h: Curvature, derive: bool) -> float:
    """Log prior density; h <- its derivatives."""
    P, value = theta.size, 0.0
    for k in range(n_beta, P):
        if not theta[k] > 0.0:
            return -math.inf
        value += (prior.shape - 1.0) * math.log(theta[k]) - prior.rate * theta[k]
    for k in range(n_beta):
        value -= 0.5 * prior.precision[k] * (theta[k] - prior.mean[k]) ** 2
    for i in range(alpha.shape[0]):
        for k in range(alpha.shape[1]):
            value -= 0.5 * prior.term_precision * (alpha[i, k] - prior.centre[k]) ** 2
    if derive:
        for k in range(P):
            for l in range(P):
                h.G[k, l] = 0.0
            if k < n_beta:
                h.g[k] = -prior.precision[k] * (theta[k] - prior.mean[k])
                h.G[k, k] = prior.precision[k]
            else:
                h.g[k] = (prior.shape - 1.0) / theta[k] - prior.rate
                h.G[k, k] = (prior.shape - 1.0) / theta[k] ** 2
        for i in range(alpha.shape[0]):
            for k in range(alpha.shape[1]):
                h.ga[i, k] = -prior.term_precision * (alpha[i, k] - prior.centre[k])
                for l in range(alpha.shape[1]):
                    h.D[i, k, l] = prior.term_precision if k == l else 0.0
                for l in range(P):
                    h.C[i, k, l] = 0.0
    return value


@inner
def _add(
    X: Matrix, j: int, cuts: Integer, score: float, minus: float, i: int, terms: bool, h: Curvature
) -> None:
    """Add a row's derivatives in eta - c_cuts; its design is x, -1 for the first `cuts` increments, 1 for the term."""
    p = X.shape[1]
    for a in range(p + cuts):
        u = X[j, a] if a < p else -1.0
        h.g[a] += score * u
        for b in range(a + 1):
            h.G[a, b] += minus * u * (X[j, b] if b < p else -1.0)
        if terms:
            h.C[i, 0, a] += minus * u
    if terms:
        h.ga[i, 0] += score
        h.D[i, 0, 0] += minus


@inner
def _ordinal(
    X: Matrix,
    j: int,
    y: int,
    levels: Integer,
    w: float,
    eta: float,
    theta: Vector,
    i: int,
    terms: bool,
    h: Curvature,
    derive: bool,
) -> float:
    """Log probability of level y, from the three terms in the module docstring."""
    p, value, cut = X.shape[1], 0.0, 0.0
    for k in range(y - 1):
        cut += theta[p + k]
    if y > 0:
        value += log_likelihood(LOGIT, 1.0, 1.0, eta - cut, 1.0)
        if derive:
            score, minus = derivatives(LOGIT, 1.0, 1.0, eta - cut, 1.0)
            _add(X, j, y - 1, w * score, w * minus, i, terms, h)
    if 0 < y < levels - 1:
        d = theta[p + y - 1]
        cut += d
        value += math.log(-math.expm1(-d))
        if derive:
            u = 1.0 / math.expm1(d)
            h.g[p + y - 1] += w * u
            h.G[p + y - 1, p + y - 1] += w * u * (1.0 + u)
    if y < levels - 1:
        value += log_likelihood(LOGIT, 0.0, 1.0, eta - cut, 1.0)
        if derive:
            score, minus = derivatives(LOGIT, 0.0, 1.0, eta - cut, 1.0)
            _add(X, j, y, w * score, w * minus, i, terms, h)
    return value


@inner
def _categorical(
    X: Matrix, j: int, y: int, w: float, eta: Vector, i: int, terms: bool, h: Curvature, derive: bool
) -> float:
    """Log probability of level y; eta <- probabilities of levels 1..r."""
    p, r = X.shape[1], eta.size
    highest = 0.0
    for k in range(r):
        highest = max(highest, eta[k])
    total = math.exp(-highest)
    for k in range(r):
        total += math.exp(eta[k] - highest)
    value = (eta[y - 1] if y > 0 else 0.0) - highest - math.log(total)
    if not derive:
        return value
    for k in range(r):
        eta[k] = math.exp(eta[k] - highest) / total
    for k in range(r):
        score = w * ((1.0 if y == k + 1 else 0.0) - eta[k])
        for a in range(p):
            h.g[k * p + a] += score * X[j, a]
        if terms:
            h.ga[i, k] += score
        for l in range(r):
            minus = w * eta[k] * ((1.0 if k == l else 0.0) - eta[l])
            if terms:
                h.D[i, k, l] += minus
            for a in range(p):
                u = minus * X[j, a]
                if terms:
                    h.C[i, l, k * p + a] += u
                if l <= k:
                    for b in range(p):
                        h.G[k * p + a, l * p + b] += u * X[j, b]
    return value
