"""Probabilities of boxes under multivariate normals, P(a_k < y_k < b_k for all k), one component at a time.

With y = t + C z, C the Cholesky factor of the covariance, and z_1, .., z_k-1 inside their bounds (Genz 1992, eq. 2-5),

    a_k' = (a_k - t_k - sum_h<k C_kh z_h) / C_kk,   b_k' likewise,
    z_k = Phi^-1(Phi(a_k') + v_k (Phi(b_k') - Phi(a_k')))
    P = (Phi(b_1') - Phi(a_1'))  integral over v in (0, 1)^(w-1) of  prod_k>1 [Phi(b_k') - Phi(a_k')]

    w = 1       no integral
    w = 2, 3    the tanh-sinh rule in each v (Takahasi & Mori 1974), which the ends of (0, 1) do not disturb
    w > 3       SciPy's scrambled Sobol points, several times; their spread is the error. The components of each row are
                ordered first, the least probable first (Gibson, Glasbey & Elston 1994; Genz & Bretz 2009, sec. 4.1.3)

The points are the same at every call, so that the result is a smooth function of the parameters.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy.special import log_ndtr, logsumexp, ndtr, ndtri, ndtri_exp
from scipy.stats import qmc

from bayesimp.notation import Array, Matrix, Stack, Vector

__all__ = ["log_between", "log_boxes"]

EXACT = 3  # components up to which the rule is deterministic
FINE, COARSE, LAST = (
    0.1,
    0.25,
    3.0,
)  # steps of the tanh-sinh rule, |t| <= LAST; the second for w = 3 if correlations
MODERATE = 0.8  # are at most this in size
SCRAMBLES, POINTS = 8, 128
TINY = 1e-290  # smaller probabilities are kept as logarithms
EDGE = 1e-15
AT_ONCE = 1_000_000  # numbers in one temporary array


def log_boxes(mean: Matrix, S: Matrix, lower: Matrix, upper: Matrix) -> tuple[Vector, Vector]:
    """log P and its standard error.

    Parameters
    ----------
    mean
        (n, w), w >= 1.
    S
        (w, w) covariance.
    lower, upper
        (n, w) bounds, which may be infinite.

    Returns
    -------
    log P (n,), and its standard error (n,), which is 0 for w <= 3: there the rule is accurate to 1e-6 unless a
    correlation is above 0.95 in size.

    Raises
    ------
    numpy.linalg.LinAlgError
        S is not positive definite.
    """
    n, w = mean.shape
    C = np.linalg.cholesky(S)[None]
    if w == 1:
        C = C[:, 0, 0]
        return log_between((lower[:, 0] - mean[:, 0]) / C, (upper[:, 0] - mean[:, 0]) / C), np.zeros(n)
    v, u, log_weight = _tanh_sinh(w - 1, _step(S)) if w <= EXACT else _sobol(w - 1)
    out, error = np.empty(n), np.zeros(n)
    step = max(1, AT_ONCE // len(log_weight))
    for begin in range(0, n, step):
        own = slice(begin, begin + step)
        t, a, b = mean[own], lower[own], upper[own]
        if w <= EXACT:
            out[own] = logsumexp(_terms(t, C, a, b, v, u) + log_weight, axis=1)
            continue
        by_scramble = logsumexp(
            (_terms(*_ordered(t, S, a, b), v, u) + log_weight).reshape(-1, SCRAMBLES, POINTS), axis=2
        )
        out[own] = logsumexp(by_scramble, axis=1)
        share = np.exp(by_scramble - out[own, None]) * SCRAMBLES  # of mean 1
        error[own] = share.std(axis=1, ddof=1) / np.sqrt(SCRAMBLES)
    return out, error


def _terms(mean: Matrix, C: Stack, lower: Matrix, upper: Matrix, v: Matrix, u: Matrix) -> Matrix:
    """(n, points) log of the product of the components' probabilities; C (n or 1, w, w), v, u = 1 - v (points, w - 1)."""
    n, w = mean.shape
    total = np.zeros((n, len(v)))
    z: list[Matrix] = []
    for k in range(w):
        centre, unit = mean[:, k, None], C[:, k, k, None]
        for h in range(k):
            centre = centre + C[:, k, h, None] * z[h]
        a, b = (lower[:, k, None] - centre) / unit, (upper[:, k, None] - centre) / unit
        part = log_between(a, b)
        total += part
        if k < w - 1:
            z.append(_inside(a, b, part, v[:, k], u[:, k]))
    return total


def log_between(a: Array, b: Array) -> Array:
    """log(Phi(b) - Phi(a)), a < b of any shape, accurate in both tails."""
    high = a > 0
    lo, hi = np.where(high, -b, a), np.where(high, -a, b)  # in the lower tail, or around 0
    p = np.where(hi > 0, 1.0 - (ndtr(lo) + ndtr(-hi)), ndtr(hi) - ndtr(lo))
    far = p < TINY
    if not far.any():
        return np.log(p)
    with np.errstate(divide="ignore"):
        out = np.asarray(np.log(p))
        top = log_ndtr(hi[far])
        out[far] = top + np.log(-np.expm1(log_ndtr(lo[far]) - top))
    return out


def _inside(a: Matrix, b: Matrix, log_p: Matrix, v: Vector, u: Vector) -> Matrix:
    """z with (Phi(z) - Phi(a)) / (Phi(b) - Phi(a)) = v, from the nearer tail; u = 1 - v."""
    p = np.exp(log_p)
    below, above = ndtr(a) + v * p, ndtr(-b) + u * p
    lower = below < above
    far = np.broadcast_to(p < TINY, lower.shape)
    with np.errstate(divide="ignore"):
        z = ndtri(np.where(lower, below, above))
    z = np.where(lower, z, -z)
    if far.any():
        lo, hi, log_all, v_all, u_all = (np.broadcast_to(x, z.shape)[far] for x in (a, b, log_p, v, u))
        mirrored = lo > 0
        tail = log_ndtr(np.where(mirrored, -hi, lo))
        x = ndtri_exp(np.logaddexp(tail, np.log(np.where(mirrored, u_all, v_all)) + log_all))
        z[far] = np.where(mirrored, -x, x)
    return z


def _ordered(mean: Matrix, S: Matrix, lower: Matrix, upper: Matrix) -> tuple[Matrix, Stack, Matrix, Matrix]:
    """mean, C (n, w, w), lower, upper with the components of each row in the order of their probabilities, given the
    means of those before them inside their bounds."""
    n, w = mean.shape
    rows, order = np.arange(n), np.tile(np.arange(w), (n, 1))
    C, centre, rest = np.zeros((n, w, w)), mean.copy(), np.tile(np.diagonal(S), (n, 1))
    lower, upper = lower.copy(), upper.copy()
    for k in range(w):
        sd = np.sqrt(rest[:, k:])
        a, b = (lower[:, k:] - centre[:, k:]) / sd, (upper[:, k:] - centre[:, k:]) / sd
        chosen = k + np.argmin(log_between(a, b), axis=1)
        for x in (order, centre, rest, lower, upper, C):
            x[rows, k], x[rows, chosen] = x[rows, chosen].copy(), x[rows, k].copy()
        a, b, log_p = (x[rows, chosen - k] for x in (a, b, log_between(a, b)))
        with np.errstate(invalid="ignore", under="ignore"):
            z = np.exp(-0.5 * a**2 - log_p) - np.exp(-0.5 * b**2 - log_p)
        z = np.clip(z / np.sqrt(2 * np.pi), a, b)
        C[:, k, k] = np.sqrt(rest[:, k])
        later = S[order[:, k, None], order[:, k + 1 :]] - np.einsum(
            "nh,njh->nj", C[:, k, :k], C[:, k + 1 :, :k]
        )
        C[:, k + 1 :, k] = later / C[:, k, k, None]
        centre[:, k + 1 :] += C[:, k + 1 :, k] * z[:, None]
        rest[:, k + 1 :] -= C[:, k + 1 :, k] ** 2
    return np.take_along_axis(mean, order, axis=1), C, lower, upper


def _step(S: Matrix) -> float:
    sd = np.sqrt(np.diagonal(S))
    size = np.abs(S / np.outer(sd, sd) - np.eye(len(S))).max()
    return COARSE if len(S) == EXACT and size <= MODERATE else FINE


@cache
def _tanh_sinh(d: int, step: float) -> tuple[Matrix, Matrix, Vector]:
    """v, 1 - v (points, d) and the logarithms of the weights (points,), the product of rules for each v."""
    half = round(LAST / step)
    t = step * np.arange(-half, half + 1)
    x = np.pi * np.sinh(t)
    log_v, log_u = -np.logaddexp(0.0, -x), -np.logaddexp(0.0, x)
    log_weight = np.log(step * np.pi * np.cosh(t)) + log_v + log_u
    at = np.stack(np.meshgrid(*[np.arange(len(t))] * d, indexing="ij"), axis=-1).reshape(-1, d)
    return np.exp(log_v)[at], np.exp(log_u)[at], log_weight[at].sum(axis=1)


@cache
def _sobol(d: int) -> tuple[Matrix, Matrix, Vector]:
    """v, 1 - v (SCRAMBLES POINTS, d) and the logarithms of equal weights."""
    drawn = np.concatenate([qmc.Sobol(d, rng=seed).random(POINTS) for seed in range(SCRAMBLES)])
    v = np.clip(drawn, EDGE, 1.0 - EDGE)  # where Phi^-1 is finite
    return v, 1.0 - v, np.full(len(v), -np.log(len(v)))
