"""Log density of one response of a factor given its linear predictors, for every family."""

from __future__ import annotations

import math

import numpy as np

from bayesimp.kernels.compiled import inner, kernel
from bayesimp.kernels.families.codes import CATEGORICAL, NORMAL, ORDINAL
from bayesimp.kernels.families.mixtures import is_mixture, mixture_density
from bayesimp.kernels.families.scalar import log_likelihood, log_normaliser
from bayesimp.notation import Integer, Matrix, Vector

__all__ = ["log_densities", "log_density"]


@inner
def _log_logistic(x: float) -> float:
    """log 1 / (1 + e^-x)."""
    return min(x, 0.0) - math.log1p(math.exp(-abs(x)))


@inner
def _log_ordinal(level: int, eta: float, cuts: Matrix, k: Integer, last: Integer) -> float:
    """log P(y = level) for levels 0 .. last (kernels/families/responses.py)."""
    total = 0.0
    if level < last:
        total += _log_logistic(cuts[k, level] - eta)
    if level > 0:
        total += _log_logistic(eta - cuts[k, level - 1])
        if level < last:
            total += math.log(-math.expm1(cuts[k, level - 1] - cuts[k, level]))
    return total


@inner
def _log_categorical(level: int, eta: Vector, r: int) -> float:
    """log P(y = level) for levels 0 .. r."""
    highest, total = 0.0, 0.0
    for c in range(r):
        highest = max(highest, eta[c])
    for c in range(r):
        total += math.exp(eta[c] - highest)
    own = eta[level - 1] if level > 0 else 0.0
    return own - highest - math.log(total + math.exp(-highest))


@inner
def log_density(
    family: int,
    y: float,
    trials: float,
    eta: Vector,
    r: int,
    shape: float,
    cuts: Matrix,
    k: Integer,
    last: Integer,
    full: bool,
) -> float:
    """log p(y | eta) up to a constant; terms that do not depend on eta are included only if `full`.

    y: number, or position of a level; eta (r,) or longer; shape: the residual standard deviation of NORMAL, the shape of
    families that have one; cuts (K, c): row k has the cutpoints of ORDINAL, whose levels are 0 .. last, or begins with
    the second parameter of a mixture, whose density always has all terms.
    """
    if family == NORMAL:
        z = (y - eta[0]) / shape
        return -0.5 * z * z
    if family == ORDINAL:
        return _log_ordinal(int(y), eta[0], cuts, k, last)
    if family == CATEGORICAL:
        return _log_categorical(int(y), eta, r)
    if is_mixture(family):
        return mixture_density(family, y, eta[0], shape, cuts[k, 0])
    value = log_likelihood(family, y, trials, eta[0], shape)
    return value + log_normaliser(family, y, trials, shape) if full else value


@kernel(nogil=True)
def log_densities(
    family: int,
    y: Vector,
    trials: Vector,
    eta: Matrix,
    shape: float,
    cuts: Matrix,
    k: Integer,
    last: Integer,
    out: Vector,
) -> None:
    """out (n,) <- log p(y_j | eta_j) with every constant; eta (n, r), other arguments as in `log_density`."""
    constant = -math.log(shape) - 0.5 * math.log(2.0 * math.pi) if family == NORMAL else 0.0
    own = np.empty(eta.shape[1])
    for j in range(y.size):
        for c in range(own.size):
            own[c] = eta[j, c]
        value = log_density(family, y[j], trials[j], own, own.size, shape, cuts, k, last, True)
        out[j] = value + constant
