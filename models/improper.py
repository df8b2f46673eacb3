"""The improper density p(x) = 1 on the real line, which nothing can be drawn from.

A draw is NaN here. `pymc.Flat` raises an error instead, also where only the shape of a node that depends on it is
evaluated, as `pymc.model_to_graphviz` does.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pymc as pm
from pymc.distributions.continuous import FlatRV

__all__ = ["Improper"]


class _WithoutDraws(FlatRV):
    @classmethod
    def rng_fn(cls, rng: np.random.Generator, size: Any) -> np.ndarray:
        return np.full(() if size is None else size, np.nan)


class Improper(pm.Flat):
    """`pymc.Flat` with draws that are NaN."""

    rv_op = _WithoutDraws()
