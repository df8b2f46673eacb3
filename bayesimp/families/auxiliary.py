"""Parameters of responses besides their linear predictors: shapes, scales and cutpoints, with their priors.

1 / sqrt(k) ~ half-t(3, 1)      for a shape k; for a gamma variable this is the coefficient of variation
increments ~ exponential(1)     between cutpoints, of which the first is 0
sigma ~ half-t(3, sd of y)      the scale of Student-t errors
nu - 2 ~ Gamma(2, 1/10)         their degrees of freedom
sigma ~ half-t(3, 1)            the residual standard deviation of the logarithm of a lognormal variable
lambda / 2 ~ Beta(2, 2)         the parameter of the Yeo-Johnson transformation
zi, hu ~ Beta(1, 1)             the probability of a structural zero, and of not crossing a hurdle
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bayesimp.families.record import Auxiliary

__all__ = [
    "CUTPOINTS", "DEGREES_OF_FREEDOM", "HURDLE", "LOG_SCALE", "POWER", "SCALE", "SHAPE", "SHAPE_WITH_UNIT",
    "ZERO_INFLATION", "df_node", "hu_node", "power_node", "scale_node", "shape_node", "zi_node",
]  # fmt: skip

Array = NDArray[np.float64]
LEAST_DF = 2.0
DF_PRIOR = 2.0, 0.1  # shape and rate
POWER_PRIOR = 2.0, 2.0


def shape_node(response: str = "", unit: float = 1.0) -> Any:
    """Add the shape k with its prior to the PyMC model in context; returns its node.

    response: suffix of its names in a model of several responses; unit: factor of the reported shape.
    """
    variation = _half_t(f"{SHAPE.sampled}{_end(response)}")
    return _reported(f"{SHAPE.name}{_end(response)}", variation**-2, unit)


def scale_node(response: str = "", unit: float = 1.0) -> Any:
    """The scale sigma of Student-t errors in units of the response, or of its log; arguments as for `shape_node`."""
    spread = _half_t(f"{SCALE.sampled}{_end(response)}")
    return _reported(f"{SCALE.name}{_end(response)}", spread, unit)


def df_node(response: str = "", unit: float = 1.0) -> Any:
    """The degrees of freedom nu of Student-t errors; arguments as for `shape_node`, with the unit unused."""
    import pymc as pm

    excess = pm.Gamma(f"{DEGREES_OF_FREEDOM.sampled}{_end(response)}", *DF_PRIOR)
    return _reported(f"{DEGREES_OF_FREEDOM.name}{_end(response)}", LEAST_DF + excess, 1.0)


def power_node(response: str = "", unit: float = 1.0) -> Any:
    """The parameter lambda of the Yeo-Johnson transformation; arguments as for `shape_node`, with the unit unused."""
    import pymc as pm
    import pytensor.tensor as pt

    # as in `_half_t`: PyTensor treats bare numbers as single precision
    both = (pt.constant(number, dtype="float64") for number in POWER_PRIOR)
    half = pm.Beta(f"{POWER.sampled}{_end(response)}", *both)
    return _reported(f"{POWER.name}{_end(response)}", 2.0 * half, 1.0)


def zi_node(response: str = "", unit: float = 1.0) -> Any:
    """The probability zi of a structural zero; arguments as for `shape_node`, with the unit unused."""
    import pymc as pm

    return pm.Beta(f"{ZERO_INFLATION.name}{_end(response)}", 1.0, 1.0)


def hu_node(response: str = "", unit: float = 1.0) -> Any:
    """The probability hu of a zero, a count not above the hurdle; arguments as for `shape_node`, with the unit unused."""
    import pymc as pm

    return pm.Beta(f"{HURDLE.name}{_end(response)}", 1.0, 1.0)


def _end(response: str) -> str:
    return f"_{response}" if response else ""


def _half_t(name: str) -> Any:
    import pymc as pm
    import pytensor.tensor as pt

    # PyTensor treats a bare 3, and then its log gamma function, as single precision
    return pm.HalfStudentT(name, nu=pt.constant(3.0, dtype="float64"), sigma=1)


def _reported(name: str, value: Any, unit: float) -> Any:
    import pymc as pm

    if unit == 1.0:
        return pm.Deterministic(name, value)
    pm.Deterministic(name, value * unit)
    return value


def _log_half_t(x: Array) -> Array:
    # SciPy is imported only when a prior is evaluated
    from scipy import stats

    return np.log(2.0) + stats.t(3).logpdf(x)


def _log_increments(aux: Array) -> Array:
    from scipy import stats

    return stats.expon.logpdf(aux).sum(axis=-1)


def _log_excess(aux: Array) -> Array:
    from scipy import stats

    shape, rate = DF_PRIOR
    return stats.gamma(shape, scale=1.0 / rate).logpdf(aux[..., 1] - LEAST_DF)


def _log_half_power(aux: Array) -> Array:
    from scipy import stats

    return stats.beta(*POWER_PRIOR).logpdf(0.5 * aux[..., 1])


SHAPE = Auxiliary(
    "shape", "variation", lambda variation: np.asarray(variation) ** -2.0, lambda aux: np.array(aux[0]),
    lambda aux: _log_half_t(aux[..., 0] ** -0.5), shape_node,
)  # fmt: skip
SHAPE_WITH_UNIT = replace(SHAPE, has_unit=True)
CUTPOINTS = Auxiliary("cutpoints", "increments", np.cumsum, np.cumsum, _log_increments, to_kernel=np.asarray)
SCALE = Auxiliary(
    "sigma", "spread", np.asarray, lambda aux: np.array(aux[0]), lambda aux: _log_half_t(aux[..., 0]), scale_node,
    has_unit=True,
)  # fmt: skip
LOG_SCALE = replace(  # kernels have the precision 1 / sigma^2
    SCALE, from_kernel=lambda aux: np.array(aux[0]) ** -0.5, log_prior=lambda aux: _log_half_t(aux[..., 0] ** -0.5),
    to_kernel=lambda spread: np.asarray(spread) ** -2.0, has_unit=False,
)  # fmt: skip
DEGREES_OF_FREEDOM = Auxiliary(
    "nu",
    "excess",
    lambda excess: LEAST_DF + np.asarray(excess),
    lambda aux: np.array(aux[1]),
    _log_excess,
    df_node,
)
POWER = Auxiliary(
    "lambda", "half_lambda", lambda half: 2.0 * np.asarray(half), lambda aux: np.array(aux[1]), _log_half_power,
    power_node,
)  # fmt: skip
ZERO_INFLATION = Auxiliary(
    "zi", "zi", np.asarray, lambda aux: np.array(aux[-1]), lambda aux: np.zeros(aux.shape[:-1]), zi_node
)
HURDLE = replace(ZERO_INFLATION, name="hu", sampled="hu", node=hu_node)
