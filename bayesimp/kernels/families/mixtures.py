"""Responses whose density is a mixture: Student-t.

    STUDENT    y ~ t_nu(eta, sigma),      w ~ Gamma(nu / 2, nu / 2),      y | w ~ N(eta, sigma^2 / w)       (Geweke 1993)

log p(y | eta) is not concave in eta: several rows may have two modes in a coefficient. Given the latent w of every row
it is, so an update of the parameters first draws

    w | y, eta, sigma, nu ~ Gamma((nu + 1) / 2, (nu + z^2) / 2),      z = (y - eta) / sigma

and its moves of coefficients and effects are given w: precisions w / sigma^2 of normal rows, which take the place of
`trials` (`latent`). w is not kept: all other moves have it integrated out, and so do missing cells.

Auxiliary parameters are drawn by slices (Neal 2003) of log sigma and log(nu - 2), from the density of the rows:

    sigma ~ half-t(3, scale),  1e-4 < sigma < 1e4,      nu - 2 ~ Gamma(2, 1/10)        (Juarez & Steel 2010, from 2 on)

so that nu > 2 and imputed values have a variance, which Rubin's rules and linear predictors made of them need.
"""

from __future__ import annotations

import math

import numpy as np

from bayesimp.kernels.compiled import inner
from bayesimp.kernels.families.codes import STUDENT
from bayesimp.notation import Matrix, Vector

__all__ = ["draw_mixture", "draw_mixture_aux", "is_mixture", "latent", "mixture_density"]

LARGEST = math.log(1e4)  # of |log sigma|: if all rows fit exactly, no posterior would be proper without
LEAST_DF, DF_SHAPE, DF_RATE = 2.0, 2.0, 0.1
WIDTH, STEPS, SWEEPS = 1.0, 60, 2
SIGMA, DF = range(2)


@inner
def is_mixture(family: int) -> bool:
    """Whether the family is one of the module."""
    return family == STUDENT


@inner
def mixture_density(family: int, y: float, eta: float, first: float, second: float) -> float:
    """log p(y | eta), latent variables integrated out; first, second: auxiliary parameters, sigma and nu of STUDENT."""
    z = (y - eta) / first
    tail = 0.5 * (second + 1.0)
    constant = math.lgamma(tail) - math.lgamma(0.5 * second) - 0.5 * math.log(math.pi * second)
    return constant - math.log(first) - tail * math.log1p(z * z / second)


@inner
def draw_mixture(rng: np.random.Generator, family: int, eta: float, aux: Vector) -> float:
    """A response; not finite where eta is not."""
    return eta + aux[0] * rng.standard_normal() / math.sqrt(rng.standard_gamma(0.5 * aux[1]) / (0.5 * aux[1]))


@inner
def latent(rng: np.random.Generator, family: int, y: Vector, eta: Matrix, aux: Vector, out: Vector) -> None:
    """out (n,) <- latent variables of rows with predictors eta (n, 1), as moves of coefficients read them in `trials`."""
    sigma, nu = aux[0], aux[1]
    for j in range(y.size):
        z = (y[j] - eta[j, 0]) / sigma
        out[j] = 2.0 * rng.standard_gamma(0.5 * (nu + 1.0)) / ((nu + z * z) * sigma * sigma)


@inner
def _log_student(which: int, y: Vector, eta: Matrix, scale: float, at: float, other: float) -> float:
    """log p(at | other, y) up to a constant, at = log sigma or log(nu - 2), other = nu or sigma."""
    if abs(at) > (LARGEST if which == SIGMA else 30.0):
        return -math.inf
    here = math.exp(at)
    sigma, nu = (here, other) if which == SIGMA else (other, LEAST_DF + here)
    total, least = 0.0, nu * sigma * sigma
    for j in range(y.size):
        r = y[j] - eta[j, 0]
        total -= math.log1p(r * r / least)
    total *= 0.5 * (nu + 1.0)
    if which == SIGMA:
        return total - y.size * at - 2.0 * math.log1p((here / scale) ** 2 / 3.0) + at
    constant = math.lgamma(0.5 * (nu + 1.0)) - math.lgamma(0.5 * nu) - 0.5 * math.log(nu)
    return total + y.size * constant + DF_SHAPE * at - DF_RATE * here


@inner
def draw_mixture_aux(
    rng: np.random.Generator, family: int, y: Vector, eta: Matrix, scale: float, aux: Vector
) -> None:
    """aux <- auxiliary parameters given rows with predictors eta (n, 1), latent variables integrated out."""
    for draw in range(2 * SWEEPS):
        which = draw % 2
        now = math.log(aux[0] if which == SIGMA else aux[1] - LEAST_DF)
        other = aux[1 - which]
        height = _log_student(which, y, eta, scale, now, other) - rng.standard_exponential()
        ends = np.empty(2)
        ends[0] = now - WIDTH * rng.random()
        ends[1] = ends[0] + WIDTH
        down = int(STEPS * rng.random())
        for side in range(2):
            steps = down if side == 0 else STEPS - 1 - down
            while steps > 0 and _log_student(which, y, eta, scale, ends[side], other) > height:
                ends[side] += WIDTH if side == 1 else -WIDTH
                steps -= 1
        at = now
        while ends[1] - ends[0] > 1e-12:
            moved = ends[0] + (ends[1] - ends[0]) * rng.random()
            if _log_student(which, y, eta, scale, moved, other) >= height:
                at = moved
                break
            ends[0 if moved < now else 1] = moved
        aux[which] = math.exp(at) if which == SIGMA else LEAST_DF + math.exp(at)
