"""Densities of a user's PyMC model at draws of its free variables, term by term.

    log p(y_j | free variables, x_j, ..)     of every observed row j
    log p(v | ..)                            of every free variable v, on its own scale, without Jacobians

The terms are those of `pymc.Model.logp`, which a run has only as their sum (sampling/compiled_model.py). They are
computed on request, once for each draw, and so not compiled to machine code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pytensor

from bayesimp.fcs.blocks.check_model import PLAIN, fill_variables
from bayesimp.models.conditional_normal import ConditionalData
from bayesimp.notation import Array, Vector

if TYPE_CHECKING:
    from bayesimp.priors import Priors

__all__ = ["ModelTerms"]


class ModelTerms:
    """The terms of one model.

    Parameters
    ----------
    function, data, priors
        As for `bayesimp.fcs.blocks.pymc_user.UserConditional`.
    """

    def __init__(self, function: Callable, data: ConditionalData, priors: Priors | None) -> None:
        self.variables = data.variables()
        model = function(self.variables, priors)
        self.free = [v.name for v in model.free_RVs]
        values = [model.rvs_to_values[v] for v in model.free_RVs]
        others = [v.name for v in (*model.observed_RVs, *model.potentials) if v.name != data.name]
        self.refusal = (
            f"its model has other terms besides the density of '{data.name}' ({', '.join(map(repr, others))}), which "
            "belong to no row"
            if others
            else ""
        )
        with pytensor.config.change_flags(mode="FAST_COMPILE"):
            point = model.initial_point(0)
        self.shapes = [np.shape(point[str(v.name)]) for v in values]
        terms = model.logp([model[data.name], *model.free_RVs], sum=False, jacobian=False)
        self._terms = pytensor.function(values, terms, **PLAIN)

    def _split(self, theta: Vector) -> list[Array]:
        """The unconstrained value of every free variable."""
        ends = np.cumsum([int(np.prod(shape)) for shape in self.shapes])
        return [
            part.reshape(shape) for part, shape in zip(np.split(theta, ends[:-1]), self.shapes, strict=True)
        ]

    def place(self, name: str) -> slice:
        """Where the values of a free variable are in theta."""
        ends = np.cumsum([0, *(int(np.prod(shape)) for shape in self.shapes)])
        k = self.free.index(name)
        return slice(int(ends[k]), int(ends[k + 1]))

    def __call__(self, theta: Vector, rows: ConditionalData) -> tuple[Vector, dict[str, float]]:
        """Log densities (n,) of the responses of these rows, and of every free variable, at the unconstrained theta."""
        fill_variables(self.variables, rows)
        of_rows, *priors = self._terms(*self._split(theta))
        of_rows = np.broadcast_to(np.asarray(of_rows, dtype=float), (len(rows.X),))
        return of_rows, {name: float(np.sum(x)) for name, x in zip(self.free, priors, strict=True)}
