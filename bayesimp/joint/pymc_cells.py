"""The variables of a user's PyMC model that contain the missing cells of each column, checked against the table.

A variable of length n is the completed column: its values equal the table's in observed rows, whatever the parameters,
and vary with the free variables in missing rows. PyMC's automatic imputation creates such a variable (``x`` from
``x_observed`` and ``x_unobserved``). A variable as long as the number of missing cells contains these in the order of the
rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bayesimp.errors import SpecificationError
from bayesimp.families.registry import family_of
from bayesimp.sections import possible
from bayesimp.table.incomplete import IncompleteData

if TYPE_CHECKING:
    import pymc as pm

__all__ = ["CellsOfColumn", "cells_of_columns"]

RTOL = 1e-6  # of observed values: models in single precision keep seven digits


@dataclass(frozen=True)
class CellsOfColumn:
    """The missing cells of a column in the draws of a model.

    Attributes
    ----------
    column, variable
        Names in the table and in the model.
    rows
        (c,) positions of the missing cells in the table.
    is_whole
        Whether the variable is the completed column, (n,), instead of the missing cells alone, (c,).
    """

    column: str
    variable: str
    rows: NDArray[np.int64]
    is_whole: bool

    def of(self, draws: NDArray[np.float64]) -> NDArray[np.float64]:
        """The cells (..., c) of draws of the variable (..., n) or (..., c)."""
        return draws[..., self.rows] if self.is_whole else draws


def cells_of_columns(
    model: pm.Model, data: IncompleteData, columns: Mapping[str, str] | None
) -> tuple[CellsOfColumn, ...]:
    """The incomplete columns that the model imputes.

    Parameters
    ----------
    columns
        Column -> variable; None: every incomplete column for which the model has a variable with its name.

    Raises
    ------
    SpecificationError
        No column matches; a name does not exist; a variable is discrete, differs in length or observed values from
        its column, or holds a missing cell constant.
    """
    named = model.named_vars
    incomplete = [name for name in data.frame.columns if data.frame[name].isna().any()]
    if columns is None:
        pairs = {name: name for name in incomplete if name in named}
        if not pairs:
            raise SpecificationError(
                f"The model has no variable with the name of an incomplete column ({_list(incomplete)}); its "
                f"variables are {_list(named)}. Match them by columns={{'column': 'variable'}}."
            )
    else:
        pairs = _read(columns, data, incomplete, named)
    _refuse_discrete(model, pairs)
    for column in pairs:
        _check_family(data, column)
    values = _values(model, list(pairs.values()))
    return tuple(_checked(data, column, name, values[name]) for column, name in pairs.items())


def _list(names: Any) -> str:
    return ", ".join(map(repr, names)) or "none"


def _read(
    columns: Any, data: IncompleteData, incomplete: list[str], named: Mapping[str, Any]
) -> dict[str, str]:
    if not isinstance(columns, Mapping) or not columns:
        raise SpecificationError(f"columns takes {{'column': 'variable'}}, got {columns!r}.")
    for column, variable in columns.items():
        if column not in data.frame.columns:
            raise SpecificationError(
                f"columns: the table has no column {column!r}; {possible(column, incomplete)}"
            )
        if column not in incomplete:
            raise SpecificationError(f"columns: '{column}' has no missing cells: leave it out.")
        if variable not in named:
            raise SpecificationError(
                f"columns: the model has no variable {variable!r} for '{column}'; {possible(variable, named)}"
            )
    if len(set(columns.values())) < len(columns):
        raise SpecificationError("columns: a variable is given for two columns; each needs its own.")
    return dict(columns)


def _refuse_discrete(model: pm.Model, pairs: Mapping[str, str]) -> None:
    names = [v.name for v in model.discrete_value_vars]
    if not names:
        return
    own = [c for c, v in pairs.items() if {v, f"{v}_unobserved"} & set(names)]
    raise SpecificationError(
        f"NUTS cannot sample the discrete variables {_list(names)}"
        + (f" (missing cells of {_list(own)})" if own else "")
        + ". Sum them out of the model (pm.Mixture, or a pm.Potential of logsumexp over their values), or impute these "
        "columns with bi.JointGLMM or bi.FCS, which draw missing levels and counts exactly."
    )


def _check_family(data: IncompleteData, column: str) -> None:
    family = data.families.get(column, "none")
    if not family_of(family).is_continuous:
        raise SpecificationError(
            f"'{column}' is {family} in the table, but its variable in the model is continuous. If it is a number, "
            f"declare it: bi.IncompleteData(table, cluster='{data.cluster}', families={{{column!r}: 'normal'}})."
        )


def _values(model: pm.Model, names: list[str]) -> dict[str, NDArray[np.float64]]:
    """Each variable at two points of the parameter space, (2, ...)."""
    from pymc.initial_point import make_initial_point_fn

    first = make_initial_point_fn(model=model, jitter_rvs=set(model.free_RVs), return_transformed=True)
    outputs = model.replace_rvs_by_values([model[name] for name in names])
    at = model.compile_fn(
        outputs, inputs=model.value_vars, mode="FAST_COMPILE", on_unused_input="ignore", point_fn=False
    )
    points = [first(seed) for seed in (1, 2)]
    values = [at(*(point[v.name] for v in model.value_vars)) for point in points]
    return {name: np.array([v[k] for v in values], dtype=float) for k, name in enumerate(names)}


def _checked(data: IncompleteData, column: str, variable: str, values: NDArray[np.float64]) -> CellsOfColumn:
    """The cells, after checks of length, observed values and free variables."""
    y = data.numeric(column)
    rows, n = np.flatnonzero(np.isnan(y)), len(y)
    if values.shape[1:] not in ((n,), (len(rows),)):
        raise SpecificationError(
            f"Variable '{variable}' of the model has shape {values.shape[1:]}; column '{column}' needs ({n},), the whole "
            f"column, or ({len(rows)},), its missing cells in the order of the rows."
        )
    is_whole = values.shape[1:] == (n,)
    if is_whole:
        seen = np.flatnonzero(~np.isnan(y))
        wrong = seen[~np.isclose(values[:, seen], y[seen], rtol=RTOL, atol=RTOL * np.std(y[seen])).all(0)]
        if len(wrong):
            k = wrong[0]
            raise SpecificationError(
                f"Variable '{variable}' differs from column '{column}' in {len(wrong):,} of {len(seen):,} observed "
                f"rows (row {k}: {y[k]:.6g} in the table, {values[0, k]:.6g} in the model). Build the model from this "
                "table, with its rows in their order and in its units; if it uses another scale, add the column in "
                f"the units of the table, such as pm.Deterministic('{column}', mean + sd * z)."
            )
    cells = CellsOfColumn(column, variable, rows, is_whole)
    drawn = cells.of(values)
    fixed = rows[~np.isfinite(drawn).all(0) | (drawn[0] == drawn[1])]
    if len(fixed):
        shown = ", ".join(map(str, fixed[:5])) + ", ..." * (len(fixed) > 5)
        raise SpecificationError(
            f"The model does not impute {len(fixed):,} of {len(rows):,} missing cells of '{column}' (rows {shown}): "
            f"there, '{variable}' is constant or not finite whatever the free variables are. Pass a masked array as "
            "observed=, or put a free variable into these cells."
        )
    return cells
