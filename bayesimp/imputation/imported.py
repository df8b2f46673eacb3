"""Imputations made by other software, to be analysed, pooled and plotted like those of this package.

    long tables         a column with the number of the table, 0 for the incomplete one, and a column with the row:
                        `.imp`, `.id` (mice), `_mi_m`, `_mi_id` (Stata), `imp_m`, `imp_id`, `Imputation_`, `Row_` (ours)
    lists of tables     the completed tables, and the incomplete one as ``original=``

Cells that are missing in the incomplete table are imputed; all other cells must be the same in every table.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from bayesimp.errors import DataError, SpecificationError
from bayesimp.events import Event, counted_events
from bayesimp.imputation.export_checks import SPSS, STATA
from bayesimp.imputation.result import Imputations
from bayesimp.imputation.tree import cells_and_observed
from bayesimp.kinds import checks_arguments
from bayesimp.messages import listing, where
from bayesimp.table.files import Type, read_table
from bayesimp.table.incomplete import IncompleteData
from bayesimp.table.reading import as_pandas

__all__ = ["ImportedImputations", "read_imputations"]

NUMBERS = ((".imp", ".id"), ("_mi_m", "_mi_id"), STATA, SPSS)
FILES = (".csv", ".parquet", ".feather", ".dta", ".sav")
FURTHER = ("_mi_miss",)  # columns that Stata adds, without new information
EXACT = 1e-12  # relative difference between numbers that text files may cause


@checks_arguments
class ImportedImputations(Imputations):
    """Imputations made by other software: completed tables without a model and chains.

    They are accessed like others (`frame`, `to_long`, iteration), analysed (`analyse`), plotted
    (`bayesimp.plot_imputed`) and exported; methods that need chains refuse with a message.
    """

    def summary(self, var_names: list[str] | None = None) -> Any:
        """Refuse: there are no chains to check."""
        raise SpecificationError(
            f"These imputations are from {self.attrs['source']}, without chains to check."
        )

    def save(self, path: Any) -> None:
        """Refuse: there are only the tables, which `export` writes."""
        raise SpecificationError(
            "These imputations have no run to save; imp.export('tables.parquet') writes the tables."
        )

    def _said(self) -> str:
        cells = sum(len(self.rows(name)) for name in self.imputed_columns)
        events = f"\n  {counted_events(len(self.log))}" if self.log else ""
        return (
            f"Imputations: m = {self.m}, {cells:,} cells of {', '.join(self.imputed_columns) or 'no variable'}\n"
            f"  read from {self.attrs['source']}, without model and chains{events}"
        )

    def _repr_html_(self) -> str:
        from bayesimp.markup import framed, paragraph

        first, *rest = self._said().split("\n")
        return framed(first, [paragraph(line.strip()) for line in rest])


def read_imputations(
    source: Any,
    cluster: str | Sequence[str],
    families: Mapping[str, str] | None = None,
    *,
    original: Any = None,
    types: Mapping[str, Type] | None = None,
) -> ImportedImputations:
    """Read imputations made by mice, Stata, SPSS or any other software.

    Parameters
    ----------
    source
        A file (.csv, .parquet, .feather, .dta, .sav) or table in the long format, with the incomplete table as number 0;
        or a list of completed tables.
    cluster, families
        As for `bayesimp.IncompleteData`.
    original
        The incomplete table, for a list.
    types
        Types of columns of a .csv file, as in `bayesimp.table.files.read_table`: ``{"school": "string"}``, or the
        categories in order.

    Returns
    -------
    Imputations without a run.

    Raises
    ------
    DataError
        The incomplete table is absent, tables have different rows, observed cells differ, or cells are imputed in some
        tables only; the message says which table, column and rows.

    Examples
    --------
    >>> imp = bi.read_imputations("from_mice.csv", cluster="school")                # doctest: +SKIP
    >>> imp.analyse("written ~ course + (1 | school)").pool()                       # doctest: +SKIP
    """
    frame, tables, what, partly = _tables(source, original, dict(types or {}))
    if not tables:
        raise DataError(f"{what}: there are no imputations, only the incomplete table.")
    for k, table in enumerate(tables, 1):
        _check_table(frame, table, k)
    data = IncompleteData(frame, cluster, families)
    text = "only some of its values have labels in the file: read as numbers, without labels"
    cells, events = {}, [Event("labels left out", str(name), text, 1) for name in partly]
    for name in data.frame.columns:
        found, left = _cells(data, name, tables)
        if left:
            text = "missing in the incomplete table and in all others, so not imputed"
            events.append(Event("not imputed", str(name), text, left))
        if found is not None:
            cells[str(name)] = found
    attrs = {"m": len(tables), "responses": list(cells), "source": what}
    tree = partial(_tree, data, cells, attrs)
    return ImportedImputations(data, cells, attrs, tree, events)


def _tree(data: IncompleteData, cells: Mapping[str, Any], attrs: Mapping[str, Any]) -> xr.DataTree:
    groups = cells_and_observed(data, cells, {name: data.numeric(name) for name in cells})
    tree = xr.DataTree.from_dict({f"/{name}": group for name, group in groups.items()})
    tree.attrs.update(attrs)
    return tree


def _tables(
    source: Any, original: Any, types: dict[str, Type]
) -> tuple[pd.DataFrame, list[pd.DataFrame], str, list[str]]:
    """The incomplete table, the completed ones with rows in the same order, the name of their source, columns of which
    some values have labels."""
    if isinstance(source, str | os.PathLike):
        long, partly = _read(Path(source), types)
        return *_split(long, Path(source).name), Path(source).name, partly
    if types:
        raise SpecificationError(
            "read_imputations: types= is for files; the columns of a table have their types."
        )
    if isinstance(source, list | tuple):
        if original is None:
            raise DataError(
                "read_imputations: a list of completed tables does not show what was imputed; give the incomplete "
                "table, original=table. Without it bi.fit_each(tables, analysis) analyses them."
            )
        frame = as_pandas(original)[0]
        return frame, [as_pandas(table)[0] for table in source], "a list of tables", []
    return *_split(as_pandas(source)[0], "the table"), "a long table", []


def _read(path: Path, types: dict[str, Type]) -> tuple[pd.DataFrame, list[str]]:
    ending = path.suffix.lower()
    if ending not in FILES:
        own = " bi.load reads what imp.save(path) wrote." if ending in (".nc", ".zarr") else ""
        raise SpecificationError(f"read_imputations: {path.name} is not one of {', '.join(FILES)}.{own}")
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file.")
    if ending in (".dta", ".sav") and types:
        raise SpecificationError(
            f"read_imputations: types= is for .csv files; {path.name} has its own types."
        )
    if ending == ".dta":
        return _from_stata(path)
    if ending == ".sav":
        return _from_spss(path)
    return read_table(path, types), []


def _from_stata(path: Path) -> tuple[pd.DataFrame, list[str]]:
    """Labelled columns as categories; as numbers where some values have no label."""
    # labels do not say whether levels are ordered; families={"grade": "ordinal"} does
    try:
        labelled = pd.read_stata(path, convert_missing=False, order_categoricals=False)
    except ValueError as error:
        if found := re.search(r"Value labels for column (.+) are not unique", str(error)):
            raise _same_labels(path, found[1]) from None
        raise
    part = [
        name
        for name in labelled.select_dtypes("category")
        if not labelled[name].cat.categories.map(type).isin([str]).all()
    ]
    if not part:
        return labelled, []
    numbers = pd.read_stata(path, convert_missing=False, convert_categoricals=False, columns=part)
    return labelled.assign(**{name: numbers[name] for name in part}), part


def _from_spss(path: Path) -> tuple[pd.DataFrame, list[str]]:
    """Labelled columns as categories in the order of their numbers, ordered if SPSS says so; as numbers where some
    values have no label."""
    try:
        import pyreadstat
    except ModuleNotFoundError:
        raise SpecificationError(
            "read_imputations: .sav files need pyreadstat, which is not installed: pip install "
            "'bayesimp[spss]'."
        ) from None
    frame, meta = pyreadstat.read_sav(str(path))
    out, part = {}, []
    for name, labels in meta.variable_value_labels.items():
        if not frame[name].dropna().isin(labels).all():
            part.append(name)
            continue
        codes = sorted(labels)
        levels = [labels[code] for code in codes]
        if len(set(levels)) < len(levels):
            raise _same_labels(path, name)
        ordered = meta.variable_measure.get(name) == "ordinal"
        place = frame[name].map({code: k for k, code in enumerate(codes)}).fillna(-1).astype(int)
        out[name] = pd.Series(pd.Categorical.from_codes(place, levels, ordered=ordered), index=frame.index)
    return frame.assign(**out), part


def _same_labels(path: Path, name: str) -> DataError:
    return DataError(
        f"read_imputations: {path.name}: two values of '{name}' have the same label, so that they could not be told "
        "apart. Give them different labels, or remove the labels, there."
    )


def _split(long: pd.DataFrame, what: str) -> tuple[pd.DataFrame, list[pd.DataFrame]]:
    """The tables in a long one, each with rows in the order of the incomplete one."""
    pairs = [pair for pair in NUMBERS if set(pair) <= set(long.columns)]
    if len(pairs) != 1:
        known = "; ".join(f"{number} and {row}" for number, row in NUMBERS)
        raise DataError(
            f"{what} does not say which table and row a line belongs to; it needs one pair of columns ({known})."
        )
    number, row = pairs[0]
    k = pd.to_numeric(long[number].astype(object), errors="coerce").to_numpy(float)
    m = int(np.nanmax(k)) if len(k) and not np.isnan(k).all() else 0
    if np.isnan(k).any() or set(k) != set(range(m + 1)):
        raise DataError(
            f'{what}: {number} must be 0, 1, .., m, with 0 for the incomplete table (in mice, complete(imp, "long", '
            f"include = TRUE)); it has {listing(sorted(set(k[~np.isnan(k)].astype(int))))}."
        )
    rest = long.drop(columns=[number, *(name for name in FURTHER if name in long.columns)]).set_index(row)
    parts = [rest[k == each] for each in range(m + 1)]
    first = parts[0]
    if first.index.has_duplicates:
        raise DataError(
            f"{what}: {row} occurs more than once in the incomplete table; it must number its rows."
        )
    for each, part in enumerate(parts[1:], 1):
        if len(part) != len(first) or part.index.has_duplicates or not part.index.isin(first.index).all():
            raise DataError(
                f"{what}: table {each} does not have the rows of the incomplete one ({len(part):,}, not "
                f"{len(first):,}). In Stata, mi convert flong, clear makes all tables complete."
            )
    return first, [part.reindex(first.index) for part in parts[1:]]


def _check_table(frame: pd.DataFrame, table: pd.DataFrame, k: int) -> None:
    if lacks := [name for name in frame.columns if name not in table.columns]:
        raise DataError(f"imputation {k} lacks the column {listing(lacks)} of the incomplete table.")
    if len(table) != len(frame):
        raise DataError(f"imputation {k} has {len(table):,} rows, but the incomplete table {len(frame):,}.")


def _cells(
    data: IncompleteData, name: str, tables: Sequence[pd.DataFrame]
) -> tuple[tuple[np.ndarray, np.ndarray] | None, int]:
    """(rows (c,), values (m, c)) of a column, None if nothing is imputed; and the number of cells still missing."""
    column = data.frame[name]
    missing = column.isna().to_numpy()
    filled = None
    for k, table in enumerate(tables, 1):
        own = table[name]
        other = ~missing & ~_same(column, own)
        if other.any():
            raise DataError(
                f"imputation {k}: observed cells of '{name}' differ from the incomplete table "
                f"{where(other, index=data.frame.index)}. Imputed cells must be missing there."
            )
        now = missing & own.notna().to_numpy()
        if filled is not None and (now != filled).any():
            raise DataError(
                f"imputation {k}: '{name}' is imputed in other cells than in imputation 1, "
                f"{where(now != filled, index=data.frame.index)}."
            )
        filled = now
    assert filled is not None
    rows = np.flatnonzero(filled)
    if not len(rows):
        return None, int(missing.sum())
    values = np.stack([_numbers(data, name, table[name].iloc[rows]) for table in tables])
    return (rows, values), int(missing.sum() - len(rows))


def _same(a: pd.Series, b: pd.Series) -> np.ndarray:
    """Whether cells agree, (n,): numbers up to the rounding of text files, anything else exactly."""
    if all(
        pd.api.types.is_numeric_dtype(each.dtype) and not pd.api.types.is_bool_dtype(each.dtype)
        for each in (a, b)
    ):
        x, y = (each.to_numpy(float, na_value=np.nan) for each in (a, b))
        return np.isclose(x, y, rtol=EXACT, atol=0)
    x, y = (each.astype(object).where(each.notna(), None).to_numpy() for each in (a, b))
    return np.array([p is q or p == q for p, q in zip(x, y, strict=True)], dtype=bool)


def _numbers(data: IncompleteData, name: str, values: pd.Series) -> np.ndarray:
    """Imputed values as numbers: levels as their positions."""
    variable = data.variable(name) if name in data.families else None
    if variable is None or data.families[name] == "none":
        raise DataError(
            f"'{name}' is imputed, but is neither numeric, text nor category (or is the cluster column). Declare its "
            "family, or leave the column out."
        )
    if not variable.is_coded:
        return values.to_numpy(float)
    place = {level: k for k, level in enumerate(data.levels(name))}
    found = [place.get(value, -1) for value in values.astype(object)]
    if min(found) < 0:
        unknown = dict.fromkeys(value for value, k in zip(values.astype(object), found, strict=True) if k < 0)
        raise DataError(
            f"'{name}' is read as {data.families[name]}, but {listing(list(unknown), most=3)} is imputed, which is "
            f"never observed. If it can be any number, declare it: families={{'{name}': 'normal'}}."
        )
    return np.array(found, dtype=float)
