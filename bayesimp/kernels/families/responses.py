"""GLMM responses that kernels/families/scalar.py does not have, ordered and nominal levels; draws of missing rows.

    ORDINAL      levels 0..K-1 in order,   P(y <= k) = F(c_k - eta),   F(x) = 1 / (1 + e^-x)         (McCullagh 1980)
                 c_0 = 0 (the intercept is in eta),   c_k = h_1 + .. + h_k,   increments h_k > 0,   k = 1..K-2
    CATEGORICAL  levels 0..K-1,   P(y = k) = e^eta_k / (1 + e^eta_1 + .. + e^eta_K-1),   eta_0 = 0,   r = K - 1

As F(u) - F(l) = F(u) F(-l) (1 - e^(l-u)), a level of an ordinal response has two logistic terms and one without eta:

    log P(y = k) = log F(c_k - eta) + log F(eta - c_k-1) + log(1 - e^-h_k)

(the first is absent for k = K-1, the second for k = 0, the third for both). It is concave in eta, c and h together.

`aux` of a family: increments (K-2,) of ORDINAL, the shape (1,) of NEGATIVE_BINOMIAL, GAMMA, INVERSE_GAUSSIAN, BETA
and LOGNORMAL; of mixtures (kernels/families/mixtures.py) sigma and nu (2,) of STUDENT, sigma and lambda (2,) of
YEO_JOHNSON, zi or hu (1,) of ZERO_INFLATED_POISSON and HURDLE_POISSON, the shape before it (2,) of
ZERO_INFLATED_NEGATIVE_BINOMIAL and HURDLE_NEGATIVE_BINOMIAL; else (0,).
"""

from __future__ import annotations

import math

import numpy as np

from bayesimp.kernels.compiled import inner, kernel
from bayesimp.kernels.families.codes import (
    CATEGORICAL,
    HURDLE_NEGATIVE_BINOMIAL,
    HURDLE_POISSON,
    NEGATIVE_BINOMIAL,
    ORDINAL,
    STUDENT,
    YEO_JOHNSON,
    ZERO_INFLATED_NEGATIVE_BINOMIAL,
    ZERO_INFLATED_POISSON,
)
from bayesimp.kernels.families.mixtures import (
    DF_RATE,
    DF_SHAPE,
    LEAST_DF,
    draw_mixture,
    is_mixture,
)
from bayesimp.kernels.families.scalar import draw_response
from bayesimp.kernels.families.yeo_johnson import PRIOR as POWER_PRIOR
from bayesimp.notation import Matrix, Vector

__all__ = [
    "CATEGORICAL",
    "EXTRA_ZEROS",
    "ORDINAL",
    "aux_size",
    "cutpoints",
    "dispersed_aux",
    "draw_rows",
    "predictors",
    "usual_aux",
]


EXTRA_ZEROS = ZERO_INFLATED_POISSON, ZERO_INFLATED_NEGATIVE_BINOMIAL, HURDLE_POISSON, HURDLE_NEGATIVE_BINOMIAL


def predictors(family: int, levels: int = 2) -> int:
    """r, the number of linear predictors."""
    return levels - 1 if family == CATEGORICAL else 1


def aux_size(family: int, levels: int = 2) -> int:
    """Number of auxiliary parameters."""
    if family == ORDINAL:
        return levels - 2
    if family in (ZERO_INFLATED_POISSON, HURDLE_POISSON):
        return 1
    if family in (STUDENT, YEO_JOHNSON, ZERO_INFLATED_NEGATIVE_BINOMIAL, HURDLE_NEGATIVE_BINOMIAL):
        return 2
    return 1 if NEGATIVE_BINOMIAL <= family < ORDINAL else 0


def usual_aux(family: int, levels: int = 2) -> Vector:
    """Initial auxiliary parameters: ones; nu, zi and hu start at the means of their priors."""
    aux = np.ones(aux_size(family, levels))
    if family == STUDENT:
        aux[1] = LEAST_DF + DF_SHAPE / DF_RATE
    elif family in EXTRA_ZEROS:
        aux[-1] = 0.5
    return aux


def dispersed_aux(rng: np.random.Generator, family: int, levels: int = 2) -> Vector:
    """Random auxiliary parameters: increments of one, exp N(0, 1/2) for shapes; others drawn from their priors."""
    aux = np.ones(aux_size(family, levels))
    if family == ORDINAL:
        return aux
    aux[:] = np.exp(rng.normal(0.0, 0.5, len(aux)))
    if family == STUDENT:
        aux[1] = LEAST_DF + rng.gamma(DF_SHAPE, 1.0 / DF_RATE)
    elif family == YEO_JOHNSON:
        aux[1] = 2.0 * rng.beta(POWER_PRIOR, POWER_PRIOR)
    elif family in EXTRA_ZEROS:
        aux[-1] = rng.beta(1.0, 1.0)
    return aux


@inner
def cutpoints(increments: Vector, cuts: Vector) -> None:
    """cuts (K-1,) <- c_0 = 0, c_k = c_{k-1} + h_k; `increments` (K-2,)."""
    cuts[0] = 0.0
    for k in range(increments.size):
        cuts[k + 1] = cuts[k] + increments[k]


@kernel(nogil=True)
def draw_rows(
    rng: np.random.Generator, family: int, trials: Vector, eta: Matrix, aux: Vector, out: Vector
) -> None:
    """Draw the responses of rows from their linear predictors.

    Parameters
    ----------
    family, trials (n,), eta (n, r), aux
        Code, trials of the binomial (1 for others), linear predictors with all their terms, auxiliary parameters.
    out (n,)
        The draws: successes, counts, numbers, proportions or levels 0..K-1. nan where a log mean is out of range
        (kernels/families/scalar.py, LARGEST_LOG_MEAN), a proportion rounds to 0 or 1 (kernels/families/beta.py) or a
        predictor is not finite: the caller refuses these by name.
    """
    n, r = eta.shape
    cuts = np.zeros(aux.size + 1)
    if family == ORDINAL:
        cutpoints(aux, cuts)
    shape = aux[0] if aux.size > 0 else 1.0
    for j in range(n):
        finite = True
        for k in range(r):
            finite = finite and abs(eta[j, k]) < math.inf
        if not finite:
            out[j] = math.nan
        elif family == ORDINAL:
            u = rng.random()
            latent = eta[j, 0] + math.log(u / (1.0 - u)) if u > 0.0 else -math.inf
            level = 0
            while level < cuts.size and latent > cuts[level]:
                level += 1
            out[j] = level
        elif family == CATEGORICAL:
            highest, total = 0.0, 0.0
            for k in range(r):
                highest = max(highest, eta[j, k])
            for k in range(r):
                total += math.exp(eta[j, k] - highest)
            u = rng.random() * (total + math.exp(-highest))
            level = 0
            for k in range(r):
                u -= math.exp(eta[j, k] - highest)
                if u < 0.0:
                    level = k + 1
                    break
            out[j] = level
        elif is_mixture(family):
            out[j] = draw_mixture(rng, family, eta[j, 0], aux)
        else:
            out[j] = draw_response(rng, family, trials[j], eta[j, 0], shape)
