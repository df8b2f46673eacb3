"""The table of a joint GLMM, completed factor by factor: known values, the model's missing numbers, columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.graph.basic import Variable
from pytensor.tensor.variable import TensorVariable

from bayesimp.models.columns import Column, column
from bayesimp.models.joint_data import FactorEffects, GLMMFactor, JointData
from bayesimp.models.levels import ExpandedRows

__all__ = ["Completed"]

Array = NDArray[np.float64]
Ints = NDArray[np.int64]


class Completed:
    """Variables completed so far.

    Parameters
    ----------
    data
        The table.
    places
        Rows of the table, expanded over missing levels.
    B
        Effects (m, d) of each block on the working scale, m being the number of its clusters or groups.

    Attributes
    ----------
    cells
        Factor -> rows (c,) of its missing numbers.
    """

    def __init__(self, data: JointData, places: ExpandedRows, B: Sequence[TensorVariable | None]) -> None:
        self.data, self.places, self.B = data, places, B
        self.cells: dict[int, Ints] = {}
        self._response: dict[
            int, TensorVariable
        ] = {}  # factor -> its missing numbers, as its model uses them
        self._free: dict[
            int, tuple[Ints, TensorVariable]
        ] = {}  # variable -> cell of each row or -1, its numbers
        self._means: dict[int, Column] = {}

    def fill(self, k: int, f: GLMMFactor, rows: Ints, y: TensorVariable, v: TensorVariable) -> None:
        """Set the missing numbers of factor k to y, as its model uses them, and to v, as formulas do."""
        cell = np.full(len(f.used), -1)
        cell[rows] = np.arange(len(rows))
        if f.at_cluster:
            of_cluster = np.full(len(self.data.labels), -1)
            of_cluster[self.data.cluster[rows]] = np.arange(len(rows))
            missing = np.isnan(self.data.Y[:, k])
            cell[missing] = of_cluster[self.data.cluster[missing]]
        self._free[f.variable] = cell, v
        self._response[k], self.cells[k] = y, rows

    def responses(self, k: int, at: Ints) -> Column:
        """The responses of factor k at some places."""
        known = self.places.Y[at, k]
        if k not in self._response:
            return known
        cell, _ = self._free[self.data.factors[k].variable]
        return _filled(known, cell[self.places.row[at]], self._response[k])

    def predictors(self, f: GLMMFactor, beta: TensorVariable, at: Ints) -> list[TensorVariable]:
        """The r linear predictors of a factor at some places; beta (p, r)."""
        p, q = len(f.fixed), len(f.random)
        columns = [
            column(
                self.data.programs, f.first + t, lambda v: self._variable(v, at), lambda e: self._mean(e, at)
            )
            for t in range(p + q)
        ]
        known = [not isinstance(x, Variable) for x in columns]
        X = np.zeros((len(at), p))
        for t in range(p):
            if known[t]:
                X[:, t] = columns[t]
        coefficients = pt.dot(f.T, beta)
        grouped = [(effects, self._effects(effects, f.predictors, at)) for effects in f.effects]
        out = []
        for c in range(f.predictors):
            eta = pt.dot(X @ f.T, beta[:, c]) + f.offset[self.places.row[at]]
            for t in range(p):
                if not known[t]:
                    eta = eta + columns[t] * coefficients[t, c]
            for own, B in grouped:
                w = len(own.columns)
                for l in range(w):
                    z: Any = sum(
                        columns[p + t] * R for t, R in zip(own.columns, own.R[:, l], strict=True) if R
                    )
                    eta = eta + z * B[:, c * w + l]
            out.append(eta)
        return out

    def _effects(self, own: FactorEffects, predictors: int, at: Ints) -> TensorVariable:
        """(places, r q) the effects of a grouping factor in a factor, at some places."""
        effects, codes = self.B[own.block], self.data.codes[self.data.blocks[own.block].level]
        assert effects is not None  # a block without effects is named by no factor
        size = predictors * len(own.columns)
        return effects[:, own.at : own.at + size][codes[self.places.row[at]]]

    def _variable(self, v: int, at: Ints) -> Column:
        known = self.places.V[at, v]
        if v not in self._free:
            return known
        cell, values = self._free[v]
        return _filled(known, cell[self.places.row[at]], values)

    def _mean(self, e: int, at: Ints) -> Column:
        """Mean e over the clusters of some places, given the levels at these places."""
        if e not in self._means:
            base, G = self.places.base, len(self.places.cluster)
            inner = column(self.data.means, e, lambda v: self._variable(v, base), lambda _: np.nan)
            divisor, group = self.data.divisor[self.places.cluster, e], self.places.group[base]
            if isinstance(inner, Variable):
                self._means[e] = pt.inc_subtensor(pt.zeros(G)[group], inner) / divisor
            else:
                self._means[e] = np.bincount(group, np.broadcast_to(inner, group.shape), G) / divisor
        return self._means[e][self.places.group[at]]


def _filled(known: Array, cell: Ints, values: TensorVariable) -> Column:
    """The known numbers, with values[cell] inserted unless cell is -1."""
    if (cell < 0).all():
        return known
    if (cell >= 0).all():
        return values[cell]
    index = np.where(cell < 0, np.arange(len(known)), len(known) + cell)
    return pt.concatenate([np.where(cell < 0, known, 0.0), values])[index]
