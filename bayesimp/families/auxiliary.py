"""Parameters that responses have besides their linear predictors: shapes and cutpoints.

1 / sqrt(k) ~ half-t(3, 1)     of a shape k; of a gamma variable this is the coefficient of variation
increments ~ exponential(1)    between cutpoints, of which the first is 0
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from bayesimp.families.record import Auxiliary

__all__ = ["CUTPOINTS", "SHAPE", "SHAPE_WITH_UNIT", "shape_node"]

SHAPE = Auxiliary(
    "shape", "variation", lambda variation: np.asarray(variation) ** -2.0, lambda aux: np.array(aux[0])
)
SHAPE_WITH_UNIT = replace(SHAPE, has_unit=True)
CUTPOINTS = Auxiliary("cutpoints", "increments", np.cumsum, np.cumsum)


def shape_node(response: str = "", unit: float = 1.0) -> Any:
    """The shape k as a node of the PyMC model that is open, with its prior.

    response: how its names end, in a model of several responses; unit: what the shape that is reported is multiplied by.
    """
    import pymc as pm
    import pytensor.tensor as pt

    # PyTensor takes a bare 3 for single precision, and its log gamma function with it
    end = f"_{response}" if response else ""
    variation = pm.HalfStudentT(f"{SHAPE.sampled}{end}", nu=pt.constant(3.0, dtype="float64"), sigma=1)
    shape = variation**-2
    if unit == 1.0:
        return pm.Deterministic(f"{SHAPE.name}{end}", shape)
    pm.Deterministic(f"{SHAPE.name}{end}", shape * unit)
    return shape
