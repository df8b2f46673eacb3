"""Variables of groups in the groups that new rows are connected with, from the run's table and the new rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bayesimp.errors import DataError
from bayesimp.joint.latent.clusters import ClusterTable, of_new_clusters
from bayesimp.joint.levels.new_table import ConnectedRows
from bayesimp.messages import listing
from bayesimp.table.clusters import varies_within
from bayesimp.table.new_rows import NewRows

if TYPE_CHECKING:
    from bayesimp.joint.latent.levels.model import SeveralLatentFactors

__all__ = ["connected_groups", "values_of_groups"]

Array = NDArray[np.float64]


def values_of_groups(several: SeveralLatentFactors, s: int, new: NewRows) -> dict[str, Array]:
    """Variable of factor s -> (G,) its value in each group of `NewRows.groups_beside`, nan where no row has one.

    Raises
    ------
    DataError
        A group has several values in the run's table and the new rows.
    """
    beside, out = new.groups_beside(several.factors[s].term.names), {}
    for variable in several.table.groups.tables[s].variables:
        y = np.concatenate([new.training.numeric(variable.name), new.numeric(variable.name)])
        _check_constant(variable.name, y, several, s, new)
        out[variable.name] = np.full(len(beside), np.nan)
        seen = np.flatnonzero(~np.isnan(y))
        out[variable.name][beside.codes[seen]] = y[seen]
    return out


def connected_groups(
    several: SeveralLatentFactors, s: int, new: NewRows, values: dict[str, Array], rows: ConnectedRows
) -> ClusterTable:
    """The groups of factor s among connected rows, in their order, on the scale of the run.

    Raises
    ------
    DataError
        A column of the means of the variables of groups differs between rows of a group.
    """
    known, group = several.table.groups.tables[s], rows.of_factor[s]
    codes = new.groups_beside(several.factors[s].term.names).codes
    names = list(several.designs[0].fixed)
    G = np.empty((codes.max() + 1, len(known.fixed)))
    for k, name in enumerate(known.fixed):
        column = rows.columns[:, names.index(name)]
        _check_constant(name, column, several, s, new)
        G[codes, k] = column
    effects = len(several.table.scales[s].effects)
    own = {name: value[group] for name, value in values.items()}
    no_shift = {v.name: np.zeros((len(group), len(v.labels))) for v in known.variables}
    return of_new_clusters(known, G[group], own, np.arange(len(group)), effects, no_shift)


def _check_constant(name: str, y: Array, several: SeveralLatentFactors, s: int, new: NewRows) -> None:
    beside, label = new.groups_beside(several.factors[s].term.names), several.labels[s]
    varying = varies_within(y, beside.codes)
    if varying.any():
        raise DataError(
            f"'{name}' has a single value in every group of '{label}' of the run's table, but with the new rows several "
            f"in {int(varying.sum()):,} groups ({listing(beside.labels[varying])}). Correct the new rows."
        )
