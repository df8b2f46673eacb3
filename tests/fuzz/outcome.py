"""Possible outcomes of a table: a checked result, or our own error before sampling. Anything else is a failure."""

from __future__ import annotations

import pickle
import warnings
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

import bayesimp as bi
from bayesimp.families import family_of
from bayesimp.formulas.syntax import Name, write
from tests.fuzz.tables import LATER, Recipe, build
from tests.storing import stored_and_loaded

M, CYCLES, DRAWS = 2, 2, 4


def outcome(recipe: Recipe, folder: Path | None = None) -> str:
    """ "completed", or "refused: ..."; with a folder, also saved and loaded there.

    Raises
    ------
    Exception
        Anything else: an inner error, a warning of NumPy or pandas, a completed table that is wrong.
    """
    frame = build(recipe)
    table = _of_kind(recipe, frame)
    before = frame.copy(deep=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", bi.StatisticalWarning)
        try:
            data = bi.IncompleteData(table, "the group", recipe.families)
            repr(data)
            model, options = _model(recipe, data)
            repr(model)
            imp = model.impute(M, seed=recipe.seed % 1000, progress=False, **options)
        except (bi.DataError, bi.SpecificationError) as error:
            return f"refused: {error}"
        _check(imp, recipe, before if table is frame else data.frame)
        if table is not frame:
            _check_kind(imp, table, recipe.options.get("where"))
        _check_copies(imp, recipe, folder)
    pd.testing.assert_frame_equal(frame, before, check_exact=True)
    return "completed"


def _of_kind(recipe: Recipe, frame: pd.DataFrame) -> Any:
    """The table in polars or Arrow; unchanged if these lack such columns."""
    without = find_spec("polars") is None or any(dtype == "decimals" for _, dtype, _, _ in recipe.columns)
    if recipe.kind == "pandas" or (recipe.kind == "polars" and without):
        return frame
    try:
        table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata()
        return table if recipe.kind == "arrow" else import_module("polars").from_arrow(table)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return frame
    except Exception as error:  # of polars, which is optional
        if type(error).__module__.startswith("polars"):
            return frame
        raise


def _check_kind(imp, table, filled: str | None) -> None:
    """Completed tables are of the kind that was given, and so are the columns that were complete."""
    made = imp.to_frame(0)
    assert type(made) is type(table), type(made)
    for name in set(imp.data.frame.columns) - set(imp.imputed_columns):
        old, new = table[name], made[name]
        assert _cells(old) == _cells(new), name
    for name in set(imp.imputed_columns) - {filled}:
        assert made[name].null_count == 0 if isinstance(table, pa.Table) else made[name].null_count() == 0, (
            name
        )


def _cells(column) -> list:
    """Cells in Python; a missing interval is one whose ends are, to polars."""
    cells = column.to_pylist() if isinstance(column, pa.ChunkedArray) else column.to_list()
    return [None if isinstance(c, dict) and set(c.values()) == {None} else c for c in cells]


def _smallest(values: np.ndarray) -> np.ndarray:
    return np.full_like(values, values.min())


def _largest(values: np.ndarray) -> np.ndarray:
    return np.full_like(values, values.max())


def _as_drawn(values: np.ndarray) -> np.ndarray:
    return values


POSTS = {"as drawn": _as_drawn, "all the smallest": _smallest, "all the largest": _largest}


def _model(recipe: Recipe, data):
    options = dict(recipe.options)
    if recipe.engine == "joint":
        left, right = (" + ".join(f"`{name}`" for name in options[side]) for side in ("left", "right"))
        return bi.JointNormal(data, f"{left} ~ {right or 1} + (1 | `the group`)"), {
            "chains": 2,
            "tune": 2,
            "draws": DRAWS,
            "workers": 1,
        }
    if recipe.engine in LATER:
        return _later(recipe, data)
    n = len(data.frame)
    if "bounds" in options:
        options["bounds"] = {name: _range(data.numeric(name)) for name in options["bounds"]}
    if "where" in options:
        options["where"] = {options["where"]: np.arange(n) % 3 == 0}
    if "ignore" in options:
        options["ignore"] = np.arange(n) % 4 == 1
    if "post" in options:
        options["post"] = {name: POSTS[kind] for name, kind in options["post"].items()}
    return bi.FCS(data, **options), {"cycles": CYCLES, "workers": 1}


GIBBS = {"chains": 2, "tune": 2, "draws": DRAWS, "workers": 1}


def _later(recipe: Recipe, data):
    """A model of the variables that are missing somewhere and observed in a few rows, and a complete one or two."""
    latent, levels = recipe.engine.startswith("latent"), recipe.engine == "levels"
    taken = ("normal", *(("bernoulli", "ordinal", "categorical") * latent))
    names = [n for n in data.variables if data.families[n] != "none"]
    names = [n for n in names if not (latent or levels) or data.families[n] in taken]
    holes = [n for n in names if data.missing(n).any() and data.frame[n].notna().sum() > 3]
    whole = [n for n in names if not data.missing(n).any()]
    if not holes:
        raise bi.DataError("nothing that this engine imputes")
    several, one = " + ".join(write(Name(n)) for n in holes), write(Name(holes[0]))
    right = " + ".join(write(Name(n)) for n in whole[:2]) or "1"
    if latent:
        residual = "cluster" if recipe.engine.endswith("cluster") else "common"
        return bi.JointLatent(data, f"{several} ~ {right} + (1 | `the group`)", residual=residual), GIBBS
    if levels:
        second = min((n for n in data.frame if n != "the group" and data.frame[n].notna().all()), default="none",
                     key=lambda n: abs(data.frame[n].map(repr).nunique() - 4))  # fmt: skip
        families = {name: family for name, family in recipe.families.items() if name != second}
        several = " + ".join(write(Name(n)) for n in holes if n != second)
        both = bi.IncompleteData(data.to_native(data.frame), ["the group", second], families)
        return bi.JointNormal(both, f"{several} ~ 1 + (1 | `the group`) + (1 | {write(Name(second))})"), GIBBS
    others = " + ".join(write(Name(n)) for n in [*holes[1:3], *whole[:1]]) or "1"
    question = f"{one} ~ {others} + (1 | `the group`)"
    if recipe.engine == "glmm":
        return bi.JointGLMM(data, question), GIBBS
    return bi.FCS(data, analysis=question), {"cycles": CYCLES, "workers": 1}


def _range(y: np.ndarray) -> tuple[float, float]:
    seen = y[~np.isnan(y)]
    return (float(seen.min()) - 1.0, float(seen.max()) + 1.0) if len(seen) else (0.0, 1.0)


def _check(imp, recipe: Recipe, before: pd.DataFrame) -> None:
    filled = recipe.options.get("where")
    for k in range(imp.m):
        completed = imp.frame(k)
        assert list(completed.columns[: before.shape[1]]) == list(before.columns), "columns"
        pd.testing.assert_index_equal(completed.index, before.index, exact=True)
        assert getattr(completed.index, "freq", None) == getattr(before.index, "freq", None), "frequency"
        for name in before.columns:
            if name not in imp.imputed_columns:
                pd.testing.assert_series_equal(completed[name], before[name])
                continue
            rows = imp.rows(name)
            kept = np.setdiff1d(np.arange(len(before)), rows)
            _same_cells(completed[name].iloc[kept], before[name].iloc[kept])
            assert completed[name].iloc[rows].notna().all(), f"holes in {name}"
            if name != filled:
                assert completed[name].notna().all(), f"holes in {name}"
            _check_values(imp, recipe, name, k, before[name].dtype, completed[name].dtype)
    assert imp.m == M and len(imp.events) == len(imp.log) and repr(imp)
    if not {".imp", ".id"} & set(before.columns):
        assert len(imp.to_long()) == M * len(before)


def _check_values(imp, recipe: Recipe, name: str, k: int, before, after) -> None:
    values, family = imp.values(name)[k], family_of(imp.data.families[name])
    assert np.isfinite(values).all(), f"infinite {name}"
    if family.is_coded:
        assert after == before, f"dtype of {name}: {before} became {after}"
        assert set(imp.decoded(name, k)) <= set(imp.data.levels(name)), f"levels of {name}"
        return
    floating = pd.api.types.is_float_dtype(after)
    assert after == before or floating, f"dtype of {name}: {before} became {after}"
    if family.support.is_positive:
        assert (values > 0).all(), f"{name} is not positive"
    if family.is_count:
        assert (values >= 0).all() and (values == np.floor(values)).all(), f"counts of {name}"
    if name in recipe.options.get("bounds", {}):
        low, high = _range(imp.data.numeric(name))
        assert ((values >= low) & (values <= high)).all(), f"bounds of {name}"


def _same_cells(a: pd.Series, b: pd.Series) -> None:
    assert (a.isna() == b.isna()).all()
    there = a.notna().to_numpy()
    for x, y in zip(a[there], b[there], strict=True):
        assert x == y or float(x) == float(y), f"{a.name}: {y!r} became {x!r}"


def _check_copies(imp, recipe: Recipe, folder: Path | None) -> None:
    copies = [pickle.loads(pickle.dumps(imp))]
    if folder is not None:
        post = {name: POSTS[kind] for name, kind in recipe.options.get("post", {}).items()}
        copies.append(stored_and_loaded(imp, folder, post or None))
    longer = imp.extend(1)
    for k in range(M):
        pd.testing.assert_frame_equal(longer.frame(k), imp.frame(k), check_exact=True)
    for other in copies:
        assert other.log == imp.log and other.attrs == imp.attrs
        pd.testing.assert_frame_equal(other.data.frame, imp.data.frame, check_exact=True)
        pd.testing.assert_frame_equal(other.frame(M - 1), imp.frame(M - 1), check_exact=True)
        pd.testing.assert_frame_equal(other.extend(1).frame(M), longer.frame(M), check_exact=True)
