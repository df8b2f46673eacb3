"""`NewRows`: rows that a run has not seen, read like its table, with the same families, levels and clusters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesimp.errors import DataError, SpecificationError, instead_of
from bayesimp.events import Event
from bayesimp.messages import listing, suggestion
from bayesimp.table.clusters import Clusters
from bayesimp.table.incomplete import IncompleteData
from bayesimp.table.reading import as_pandas, check_columns
from bayesimp.table.variables import Variable, check_finite

__all__ = ["GroupsBeside", "NewRows"]


@dataclass(frozen=True)
class GroupsBeside:
    """The groups of a grouping factor in the rows of the run's table followed by the new rows.

    Attributes
    ----------
    labels
        (G,) those of the run's table, in its order, then new ones.
    codes
        (N + n,) group of each row.
    known
        The number of groups of the run's table.
    """

    labels: pd.Index
    codes: NDArray[np.int64]
    known: int

    def __len__(self) -> int:
        return len(self.labels)


class NewRows(IncompleteData):
    """A table of new rows, which belong to known or new clusters.

    Parameters
    ----------
    training
        The table that the run was fitted to.
    frame
        pandas, polars or pyarrow table with the columns that the model uses; one row is enough.

    Attributes
    ----------
    training
        As given.
    known
        (m,) position of each cluster of the new rows among the clusters of `training`, -1 if it is new.

    Raises
    ------
    DataError
        Not a table; no rows; cluster ids missing, or of another type than those of `training`.
    SpecificationError
        The cluster column is missing.
    """

    def __init__(self, training: IncompleteData, frame: Any) -> None:
        if isinstance(frame, IncompleteData):
            frame = frame.to_native(frame.frame)
        if instead_of(frame):
            raise DataError(
                f"transform takes a table of new rows, not {type(frame).__name__}.{instead_of(frame)}"
            )
        self.training = training
        self.frame, self.backend = as_pandas(frame)
        self.cluster = training.cluster
        check_columns(self.frame, [self.cluster])
        self.cluster_columns = training.cluster_columns
        self.grouping = Clusters.of(self.frame[self.cluster], least=1)
        self.groupings = {self.cluster: self.grouping}
        self.known: NDArray[np.int64] = self._places(self.grouping, training.grouping)
        self._beside: dict[tuple[str, ...], GroupsBeside] = {}
        self.families = {name: training.families.get(name, "none") for name in self.variables}
        coded = [
            name for name in self.variables if name in training.families and training.variable(name).is_coded
        ]
        self._levels = {name: training.levels(name) for name in coded}
        self._made: dict[str, Variable] = {}

    @property
    def is_new(self) -> NDArray[np.bool_]:
        """(m,) whether each cluster is one that the run has not seen."""
        return self.known < 0

    @property
    def learnt_from(self) -> IncompleteData:
        """The table whose observed values show the usual range of a variable: that of the run."""
        return self.training

    @property
    def codes_beside_table(self) -> NDArray[np.int64]:
        """(N + n,) cluster of each row of the run's table, followed by the new rows; new clusters come after known
        ones."""
        m = len(self.training.clusters)
        own = np.where(self.is_new, m + np.cumsum(self.is_new) - 1, self.known)
        return np.concatenate([self.training.codes, own[self.codes]])

    def groups_beside(self, names: Sequence[str]) -> GroupsBeside:
        """The groups of a grouping factor of the run, one cluster column or a combination of several (school:class).

        Raises
        ------
        SpecificationError
            The new rows lack a cluster column.
        DataError
            Its ids are missing, or of another type than those of `training`.
        """
        key = tuple(names)
        if key not in self._beside:
            self._beside[key] = _combined([self._column_beside(name) for name in key], len(self.training))
        return self._beside[key]

    def _column_beside(self, name: str) -> GroupsBeside:
        """The groups of one cluster column."""
        if name not in self.frame.columns:
            raise SpecificationError(
                f"The new table has no column '{name}', whose groups have effects in the model of the run. Give each new "
                f"row its '{name}'; an id that the run's table does not have is a new group. "
                f"{suggestion(name, self.variables)}"
            )
        theirs = self.training.groupings[name]
        ours = Clusters.of(self.frame[name], least=1)
        places = self._places(ours, theirs)
        number, is_new = len(theirs), places < 0
        own = np.where(is_new, number + np.cumsum(is_new) - 1, places)
        labels = theirs.labels.append(ours.labels[is_new])
        return GroupsBeside(labels, np.concatenate([theirs.codes, own[ours.codes]]), number)

    def _places(self, own: Clusters, known: Clusters) -> NDArray[np.int64]:
        """(m,) positions of groups among those of `training`, -1 for new ones."""
        ours, theirs, name = _kind(own.labels), _kind(known.labels), own.labels.name
        if ours != theirs:
            raise DataError(
                f"The cluster ids in '{name}' are {ours} in the new table ({listing(own.labels, 3)}; "
                f"{len(self.frame):,} rows) and {theirs} in the table that the run was fitted to "
                f"({listing(known.labels, 3)}), so no cluster would be recognised. Give them the same type: "
                f"new[{name!r}].astype(...)."
            )
        return known.labels.get_indexer(own.labels).astype(np.int64)

    def require(self, names: Sequence[str], role: str) -> None:
        """Refuse a table that lacks columns used by the model.

        Parameters
        ----------
        names
            The columns.
        role
            ``"covariate"``, or ``"response"``, which may be entirely missing.

        Raises
        ------
        SpecificationError
            The message names the columns.
        """
        lacking = [name for name in names if name not in self.frame.columns]
        if not lacking:
            return
        what = f"column {listing(lacking)}" if len(lacking) == 1 else f"columns {listing(lacking, 20)}"
        if role == "response":
            text = (
                f"The new table has no {what}, which the model imputes. Unknown values of new rows must be missing, "
                f"not absent: new[{lacking[0]!r}] = numpy.nan."
            )
        else:
            text = f"The new table has no {what}, which the model needs in every row."
        raise SpecificationError(f"{text} {suggestion(lacking[0], self.variables)}")

    def require_complete(self, names: Sequence[str]) -> None:
        """Refuse missing or infinite values of variables that the model does not impute.

        Raises
        ------
        DataError
            The message names the variables, and in how many rows each is missing.
        """
        holes = [(name, self.missing(name)) for name in names if self.missing(name).any()]
        if holes:
            words = "; ".join(f"'{name}' is missing {self.grouping.where(rows)}" for name, rows in holes)
            raise DataError(
                f"The new rows lack values of covariates, which the model does not impute: {words}. Fill them "
                "in, drop these rows, or fit a model that has these variables among its responses (on the left of ~)."
            )
        for name in names:
            if pd.api.types.is_numeric_dtype(self.frame[name].dtype):
                check_finite(self.variable(name))

    def events(self) -> list[Event]:
        """Events about the rows: new clusters, unused columns, rows that are not new."""
        out = []
        if self.is_new.any():
            labels, rows = self.clusters[self.is_new], int(self.sizes[self.is_new].sum())
            text = (
                f"{len(labels):,} of {len(self.clusters):,} clusters, with {rows:,} rows, are not in the table to which "
                "the "
                f"run was fitted ({listing(labels)}): their effects were drawn from the between-cluster distribution, "
                "given the observed values of their rows"
            )
            out.append(Event("new clusters", self.cluster, text, len(labels)))
        out += [
            _new_groups(":".join(names), beside, len(self))
            for names, beside in self._beside.items()
            if names != (self.cluster,) and len(beside) > beside.known
        ]
        extra = [name for name in self.variables if name not in self.training.families]
        if extra:
            text = (
                f"{listing(extra)}: not in the table to which the run was fitted; kept unchanged and not used"
            )
            out.append(Event("not used", "columns", text, len(extra)))
        shared = [name for name in self.training.frame.columns if name in self.frame.columns]
        if len(self) == len(self.training) and self.frame[shared].equals(self.training.frame[shared]):
            text = (
                "the new rows are those to which the run was fitted, but were treated as further rows of their clusters, "
                "so their observed values counted twice; the completed tables of these rows are those of the run itself"
            )
            out.append(Event("same rows", "table", text, len(self)))
        return out


def _kind(labels: pd.Index) -> str:
    """The type of cluster ids, in words."""
    kind = pd.api.types.infer_dtype(labels, skipna=True)
    return {"string": "text", "integer": "numbers", "floating": "numbers"}.get(kind, kind)


def _combined(parts: Sequence[GroupsBeside], rows: int) -> GroupsBeside:
    """Combinations of groups of several columns; those of the run's table, its first `rows`, as `Clusters.combined` has
    them."""
    if len(parts) == 1:
        return parts[0]
    codes = np.column_stack([part.codes for part in parts])
    groups, place = np.unique(codes, axis=0, return_inverse=True)
    place = place.ravel()
    in_run = np.isin(np.arange(len(groups)), place[:rows])
    order = np.concatenate([np.flatnonzero(in_run), np.flatnonzero(~in_run)])
    labels = [
        ":".join(str(part.labels[k]) for part, k in zip(parts, groups[at], strict=True)) for at in order
    ]
    number = np.argsort(order)
    return GroupsBeside(pd.Index(labels), number[place].astype(np.int64), int(in_run.sum()))


def _new_groups(name: str, beside: GroupsBeside, rows: int) -> Event:
    """The event about groups of a further factor that the run has not seen."""
    own = beside.codes[-rows:]
    labels = beside.labels[beside.known :]
    groups, new = len(np.unique(own)), int((own >= beside.known).sum())
    text = (
        f"{len(labels):,} of {groups:,} groups of '{name}', with {new:,} rows, are not in the table to which the run was "
        f"fitted ({listing(labels)}): their effects were drawn from the distribution between groups of '{name}', given "
        "the observed values of their rows"
    )
    return Event("new clusters", name, text, len(labels))
