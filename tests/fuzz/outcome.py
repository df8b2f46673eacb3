"""What may come of a table: a result that is checked, or our own error before sampling. All else is a failure."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

import bayesimp as bi
from bayesimp.families import family_of
from tests.fuzz.tables import Recipe, build

M, CYCLES, DRAWS = 2, 2, 4


def outcome(recipe: Recipe, folder: Path | None = None) -> str:
    """ "completed", or "refused: ..."; with a folder, also saved and loaded there.

    Raises
    ------
    Exception
        Anything else: an inner error, a warning of NumPy or pandas, a completed table that is wrong.
    """
    frame = build(recipe)
    before = frame.copy(deep=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", bi.StatisticalWarning)
        try:
            data = bi.IncompleteData(frame, "the group", recipe.families)
            repr(data)
            model, options = _model(recipe, data)
            repr(model)
            imp = model.impute(M, seed=recipe.seed % 1000, progress=False, **options)
        except (bi.DataError, bi.SpecificationError) as error:
            return f"refused: {error}"
        _check(imp, recipe, before)
        _check_copies(imp, folder)
    pd.testing.assert_frame_equal(frame, before, check_exact=True)
    return "completed"


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
    n = len(data.frame)
    if "bounds" in options:
        options["bounds"] = {name: _range(data.numeric(name)) for name in options["bounds"]}
    if "where" in options:
        options["where"] = {options["where"]: np.arange(n) % 3 == 0}
    if "ignore" in options:
        options["ignore"] = np.arange(n) % 4 == 1
    return bi.FCS(data, **options), {"cycles": CYCLES, "workers": 1}


def _range(y: np.ndarray) -> tuple[float, float]:
    seen = y[~np.isnan(y)]
    return (float(seen.min()) - 1.0, float(seen.max()) + 1.0) if len(seen) else (0.0, 1.0)


def _check(imp, recipe: Recipe, before: pd.DataFrame) -> None:
    filled = recipe.options.get("where")
    for k in range(imp.m):
        completed = imp.to_frame(k)
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
    assert imp.m == M and len(imp.events) == len(imp._events) and repr(imp)
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


def _check_copies(imp, folder: Path | None) -> None:
    copies = [pickle.loads(pickle.dumps(imp))]
    if folder is not None:
        imp.save(folder / "run.nc")
        copies.append(bi.load(folder / "run.nc"))
    longer = imp.extend(1)
    for k in range(M):
        pd.testing.assert_frame_equal(longer.frame(k), imp.frame(k), check_exact=True)
    for other in copies:
        assert other._events == imp._events and other.attrs == imp.attrs
        pd.testing.assert_frame_equal(other.data.frame, imp.data.frame, check_exact=True)
        pd.testing.assert_frame_equal(other.frame(M - 1), imp.frame(M - 1), check_exact=True)
        pd.testing.assert_frame_equal(other.extend(1).frame(M), longer.frame(M), check_exact=True)
