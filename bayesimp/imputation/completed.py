"""Completed tables: the user's table with the values of one imputation in its missing cells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bayesimp.errors import DataError, SpecificationError
from bayesimp.families.record import Family
from bayesimp.families.registry import family_of
from bayesimp.imputation.columns import filled_column, floats
from bayesimp.kinds import checks_arguments
from bayesimp.messages import suggestion
from bayesimp.table.incomplete import IncompleteData

__all__ = ["CompletedTables", "check_long_names"]


@checks_arguments
class CompletedTables:
    """m completed tables of one incomplete table, created on request.

    Attributes
    ----------
    data
        The incomplete table.
    """

    def __init__(
        self, data: IncompleteData, cells: Mapping[str, tuple[np.ndarray, np.ndarray]], m: int
    ) -> None:
        """cells: response -> (rows (c,), values (m, c))."""
        self.data = data
        self._cells = dict(cells)
        self._m = int(m)

    @property
    def m(self) -> int:
        """Number of completed tables."""
        return self._m

    @property
    def imputed_columns(self) -> list[str]:
        """Responses with at least one imputed cell."""
        return list(self._cells)

    @property
    def columns(self) -> list[str]:
        """Columns of the completed tables: those of the data, and columns derived during imputation."""
        own = list(self.data.frame.columns)
        return own + [name for name in self._cells if name not in own]

    def __len__(self) -> int:
        return self.m

    def __iter__(self) -> Iterator[Any]:
        return (self.to_frame(k) for k in range(self.m))

    def frame(self, k: int) -> pd.DataFrame:
        """Completed table k (0 .. m-1) as pandas, with index, columns, order and dtypes as in the data.

        Observed cells are unchanged, bit for bit; imputed ones are levels of a category, counts or numbers. A column
        that cannot hold its imputed values (integers imputed as normal) becomes floating point, which `events` records.
        """
        if not 0 <= k < self.m:
            raise IndexError(f"imputation {k} of {self.m}: numbers run from 0 to {self.m - 1}")
        frame = self.data.frame.copy(deep=False)
        for name, (rows, _) in self._cells.items():
            frame[name] = self._filled(name, rows, k)
        return frame

    def _filled(self, name: str, rows: np.ndarray, k: int) -> pd.Series:
        """A column with the imputed values of table k."""
        column, family = self._column(name), self._family(name)
        if family.is_coded:
            return column.take(self._cells_like(name, rows, k)).set_axis(column.index)
        whole = (family.is_count or name in self._matched) and self._fit(name)
        return filled_column(column, rows, self._cells[name][1][k], whole)

    def _fit(self, name: str) -> bool:
        """Whether the imputed values of all tables are in the range of a column's type, if it is an integer type."""
        dtype = getattr(self._column(name).dtype, "numpy_dtype", self._column(name).dtype)
        if isinstance(dtype, pd.SparseDtype):
            dtype = dtype.subtype
        if not pd.api.types.is_integer_dtype(dtype):
            return True
        range_, values = np.iinfo(dtype), self.values(name)
        return bool(((values >= range_.min) & (values <= range_.max)).all())

    def _cells_like(self, name: str, rows: np.ndarray, k: int) -> np.ndarray:
        """For each row of completed table k, a row of the table that has its cell, (n,).

        An imputed level is taken from the first row that has it, so it has the same type, whatever that is.
        """
        codes = self.data.numeric(name)
        seen = np.flatnonzero(~np.isnan(codes))
        first = seen[np.unique(codes[seen], return_index=True)[1]]
        places = np.arange(len(codes))
        places[rows] = first[self._cells[name][1][k].astype(np.int64)]
        return places

    @cached_property
    def _matched(self) -> frozenset[str]:
        """Integer columns whose imputed values are all whole, as with matching."""
        integers = [n for n in self._cells if pd.api.types.is_integer_dtype(self._column(n).dtype)]
        return frozenset(n for n in integers if (self.values(n) == np.floor(self.values(n))).all())

    def _family(self, name: str) -> Family:
        """The family of a column; columns created by the imputation are numeric."""
        return family_of(self.data.families.get(name, "normal"))

    def decoded(self, name: str, k: int) -> np.ndarray:
        """Imputed values (cells,) of table k as in the table, with levels instead of their codes."""
        values = self._cells[name][1][k]
        if not self._family(name).is_coded:
            return values
        levels = np.empty(len(self.data.levels(name)), dtype=object)
        levels[:] = self.data.levels(name)
        return levels[values.astype(np.int64)]

    def _column(self, name: str) -> pd.Series:
        """A column of the table; all missing if the imputation creates it."""
        if name in self.data.frame.columns:
            return self.data.frame[name]
        return pd.Series(np.nan, index=self.data.frame.index, name=name)

    def stacked(self, names: list[str], first: int, stop: int) -> pd.DataFrame:
        """Columns of tables first .. stop-1, one below the other, without building each table."""
        count, n = stop - first, len(self.data.frame)
        again = np.tile(np.arange(n), count)
        out = {}
        for name in names:
            if name not in self._cells:
                out[name] = self._column(name).array.take(again)
                continue
            rows, values = self._cells[name]
            if self._family(name).is_coded:
                places = [self._cells_like(name, rows, k) for k in range(first, stop)]
                out[name] = self._column(name).array.take(np.concatenate(places))
            else:
                base = np.tile(floats(self._filled(name, rows, first)), (count, 1))
                base[:, rows] = values[first:stop]
                out[name] = base.ravel()
        return pd.DataFrame(out)

    def to_frame(self, k: int) -> Any:
        """Completed table k (0 .. m-1), of the same kind as the user's data (pandas, polars, Arrow)."""
        return self.data.to_native(self.frame(k))

    def rows(self, name: str) -> np.ndarray:
        """Row positions of the imputed cells of a response."""
        return self._cells_of(name)[0]

    def values(self, name: str) -> np.ndarray:
        """Imputed values (m, cells) of a response; for one with levels, positions in ``data.levels(name)``."""
        return self._cells_of(name)[1]

    def _cells_of(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Rows and values of the imputed cells of a response.

        Raises
        ------
        SpecificationError
            No imputed variable has this name.
        """
        if name not in self._cells:
            raise SpecificationError(
                f"No variable with imputed cells is called {name!r}. {suggestion(name, self._cells)}"
            )
        return self._cells[name]

    def to_long(self, include_original: bool = False) -> pd.DataFrame:
        """All completed tables, one below the other, as mice's ``complete(action="long")``.

        ``.imp`` counts from 1 (0: the incomplete table, if requested); ``.id`` is the row's index label (its number
        from 1 if the index has several levels).

        Raises
        ------
        DataError
            The table has a column with one of these names.
        """
        check_long_names(self.data.frame, "take the tables one by one: imp.to_frame(k)")
        frames = ([self.data.frame] if include_original else []) + [self.frame(k) for k in range(self.m)]
        index = self.data.frame.index
        n = len(index)
        long = pd.concat(frames, ignore_index=True)
        ids = np.arange(1, n + 1) if index.nlevels > 1 else index.to_numpy()
        first = 0 if include_original else 1
        long.insert(0, ".id", np.tile(ids, len(frames)))
        long.insert(0, ".imp", np.repeat(np.arange(first, first + len(frames)), n))
        return long

    def export(
        self,
        path: str | PathLike[str],
        *,
        names: Mapping[str, str] | None = None,
        partitioned: bool = False,
    ) -> Path:
        """Write the incomplete and all completed tables for other software; the suffix of the file chooses the format.

        Parameters
        ----------
        path
            ``.csv``, ``.parquet``: mice's long format; ``.dta``: Stata, for ``mi import flong, m(imp_m) id(imp_id)``;
            ``.sav``: SPSS, which pools over ``Imputation_`` (extra ``spss``). See `bayesimp.imputation.export`.
        names
            New names for columns whose names the software does not allow.
        partitioned
            Whether to write Parquet as a folder with a part for each table.

        Returns
        -------
        The path.

        Raises
        ------
        SpecificationError
            The suffix is unknown, or the software does not allow some names; the message suggests others.
        DataError
            The format cannot hold a column.
        """
        from bayesimp.imputation.export import export

        return export(self, path, names, partitioned)


def check_long_names(frame: pd.DataFrame, otherwise: str) -> None:
    """Refuse a table with columns that have the names of the two columns that number tables and rows.

    Raises
    ------
    DataError
    """
    both = [name for name in (".imp", ".id") if name in frame.columns]
    if both:
        raise DataError(
            f"The table has a column {' and '.join(repr(name) for name in both)}, which is the name of a column of "
            f"numbers in a long table. Rename it in the table, or {otherwise}."
        )
