"""Random tables and models, as recipes: plain records that say everything, so that a failing one can be kept."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

NAMES = (
    "y",
    "x",
    "bp mmHg",
    "kg/m²",
    "a b\tc",
    "row",
    "imputation",
    "cluster_y",
    "row_y",
    "C(x)",
    "1",
    "né",
    "x:y",
    "y_2",
    "Y",
    "%",
    "a-b",
    "None",
    "x|g",
    "[a]",
    "{b}",
    "mean",
    "chain",
    "draw",
    "I",
    "np",
    "log",
    "class",
    ".imp",
)
LABELS = (
    "int",
    "negative",
    "text",
    "big",
    "float",
    "category",
    "dates",
    "uint64",
    "mixed",
    "tuple",
    "Int64",
    "bool",
)
INDICES = ("range", "text", "repeated", "dates", "multi", "frequency")
SHAPES = (
    *("normal",) * 10,
    *("skewed",) * 3,
    *("few values",) * 2,
    *("count",) * 3,
    *("cluster",) * 2,
    *("binary",) * 2,
    "constant",
    "two values",
    "nearly constant",
    "huge",
    "large",
    "tiny",
    "collinear",
    "nested",
)
NUMBERS = (
    "float64",
    "float64",
    "float64",
    "float32",
    "Int32",
    "Float64",
    "objects",
    "objects NA",
    "sparse",
    "arrow int",
    "arrow",
    "decimals",
)
TEXTS = (
    "str",
    "string",
    "text objects",
    "category",
    "ordered",
    "intervals",
    "tuples",
    "mixed levels",
    "boolean",
    "bool objects",
    "rare",
    "date category",
    "numeric category",
    "arrow text",
)
OTHERS = ("datetime", "zoned", "timedelta", "period", "lists", "interval", "bytes")
MISSING = (
    *("sporadic",) * 16,
    *("systematic",) * 6,
    *("both",) * 6,
    *("heavy",) * 3,
    "first clusters",
    "all but one",
    "all",
)
METHODS = ("bayes", "iw", "ml", "mlmi", "2stage", "sti", "2lonly", "norm", "pmm", "glm", "2l.norm", "2l.pan")
FAMILIES = (
    "poisson",
    "negative_binomial",
    "gamma",
    "ordinal",
    "categorical",
    "normal",
    "bernoulli",
    "inverse_gaussian",
)
KINDS = ("pandas", "polars", "arrow")
LATER = ("latent", "latent by cluster", "glmm", "levels", "analysis")
ORDERS = ("monotone", "revmonotone", "roman", "arabic")
POSTS = ("as drawn", "all the smallest", "all the largest")
SUITED = {  # methods and families that a column can have; now and then it is asked for another
    "number": (("bayes", "iw", "ml", "norm", "pmm", "2stage", "sti", "2l.norm", "2l.pan"), ("normal",)),
    "count": (("bayes", "mlmi", "glm", "2stage", "sti", "pmm"), ("poisson", "negative_binomial")),
    "skewed": (("bayes", "mlmi"), ("gamma", "inverse_gaussian")),
    "few values": (("bayes", "mlmi", "glm", "pmm"), ("ordinal", "categorical")),
    "cluster": (("2lonly", "bayes"), ("normal",)),
    "text": (("bayes", "bayes", "mlmi", "glm", "pmm", "2stage"), ("categorical",)),
}


@dataclass(frozen=True)
class Recipe:
    """A table and a model.

    columns: name, dtype, shape, missingness of each; options: of `FCS`, or of `JointNormal` (left, right: names);
    engine: "fcs", "joint", or one of `LATER`, whose models the outcome makes of the variables that they can have;
    kind: of table, where it can be one of polars or Arrow.
    """

    seed: int
    sizes: tuple[int, ...]
    label: str
    index: str
    columns: tuple[tuple[str, str, str, str], ...]
    engine: str = "fcs"
    families: dict[str, str] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    kind: str = "pandas"


def draw(seed: int) -> Recipe:
    """A recipe at random."""
    recipe = _draw(seed)
    rng = np.random.default_rng([seed, 2])  # separate: tables of seeds do not change
    kind = str(rng.choice(KINDS, p=[0.8, 0.12, 0.08]))
    return replace(recipe, kind=kind, options=recipe.options | _visits(rng, recipe))


def _visits(rng, recipe: Recipe) -> dict[str, Any]:
    """The order of visits, and functions that change what was drawn."""
    options: dict[str, Any] = {}
    incomplete = [name for name, _, _, hole in recipe.columns if hole != "none"]
    if recipe.engine != "fcs" or not incomplete:
        return options
    if rng.random() < 0.15:
        options["order"] = str(rng.choice(ORDERS))
    elif rng.random() < 0.1:  # by name, one of them twice; now and then one is left out
        order = [*rng.permutation(incomplete), incomplete[0]]
        options["order"] = [str(name) for name in order[int(rng.random() < 0.1) :]]
    if rng.random() < 0.12:
        options["post"] = {str(rng.choice(incomplete)): str(rng.choice(POSTS))}
    return options


def _draw(seed: int) -> Recipe:
    rng = np.random.default_rng(seed)
    pick = lambda values: values[rng.integers(len(values))]  # noqa: E731
    m = int(rng.choice([1, 2, 3, 5, 8, 20], p=[0.02, 0.08, 0.15, 0.35, 0.3, 0.1]))
    most = int(rng.choice([1, 3, 8, 30], p=[0.05, 0.1, 0.5, 0.35]))
    sizes = tuple(int(rng.integers(1, most + 1)) for _ in range(m))
    label = pick(LABELS) if rng.random() < 0.5 else "int"
    index = pick(INDICES) if rng.random() < 0.4 else "range"
    plain = rng.random() < 0.5
    names = list(
        rng.choice(NAMES[:2] + NAMES if not plain else ("a", "b", "c", "d", "e"), 5, replace=not plain)
    )
    names = [str(name) for name in dict.fromkeys(names)][: int(rng.integers(2, 6))]
    columns = []
    for name in names:
        what = rng.random()
        dtype = pick(NUMBERS) if what < 0.6 else pick(TEXTS) if what < 0.95 else pick(OTHERS)
        hole = pick(MISSING) if rng.random() < 0.6 else "none"
        columns.append((name, dtype, pick(SHAPES), hole))
    numbers = [c[0] for c in columns if c[1] in NUMBERS]
    if rng.random() < 0.25 and numbers:
        share = [
            c[0] for c in columns if c[0] in numbers and (c[2] in ("normal", "skewed") or rng.random() < 0.2)
        ][:3] or numbers[:1]
        right = [c[0] for c in columns if c[3] == "none" and c[0] not in share][:2]
        return Recipe(seed, sizes, label, index, tuple(columns), "joint", {}, {"left": share, "right": right})
    families, methods = {}, {}
    for name, dtype, shape, hole in columns:
        suited = SUITED.get(shape, SUITED["number"]) if dtype in NUMBERS else SUITED["text"]
        if dtype in OTHERS:
            continue
        if rng.random() < (0.6 if shape in ("count", "skewed", "few values") and dtype in NUMBERS else 0.05):
            families[name] = pick(suited[1]) if rng.random() < 0.9 else pick(FAMILIES)
        if hole != "none" and rng.random() < 0.7:
            methods[name] = pick(suited[0]) if rng.random() < 0.9 else pick(METHODS)
    options = _options(rng, columns, numbers, pick)
    if rng.random() < 0.5 and methods:
        options["methods"] = methods
    elif rng.random() < 0.1:
        options["methods"] = pick(METHODS)
    return Recipe(seed, sizes, label, index, tuple(columns), "fcs", families, options)


def _options(rng, columns, numbers, pick) -> dict[str, Any]:
    options: dict[str, Any] = {}
    incomplete = [c[0] for c in columns if c[3] != "none" and c[0] in numbers]
    if incomplete and rng.random() < 0.15:
        options["bounds"] = {pick(incomplete): "observed"}
    if len(incomplete) > 1 and rng.random() < 0.15:
        options["blocks"] = {"both": incomplete[:2]}
    if incomplete and rng.random() < 0.12:
        options["derived"] = {"made": f"`{pick(incomplete)}` * 2"}
    if rng.random() < 0.1:
        options["where"] = pick([c[0] for c in columns])
    if rng.random() < 0.1:
        options["ignore"] = True
    return options


def build(recipe: Recipe) -> pd.DataFrame:
    """The table; its clusters are in the column "the group"."""
    rng = np.random.default_rng([recipe.seed, 1])
    codes = np.repeat(np.arange(len(recipe.sizes)), recipe.sizes)
    n = len(codes)
    latent = rng.normal(size=n)
    frame = pd.DataFrame({"the group": _labels(recipe.label, len(recipe.sizes)).take(codes)})
    last = latent
    for name, dtype, shape, hole in recipe.columns:
        values = _values(rng, shape, codes, latent, last)
        last = values
        column = _typed(rng, dtype, values, _holes(rng, hole, codes))
        frame[name] = column.array if isinstance(column, pd.Series) else column
    frame = frame.iloc[rng.permutation(n)].reset_index(drop=True)
    return frame.set_axis(_index(recipe.index, n))


def _labels(kind: str, m: int) -> Any:
    k = np.arange(m)
    made = {
        "int": k,
        "negative": -k * 7 - 1,
        "text": [f"site {i}" for i in k],
        "big": [2**70 + int(i) for i in k],
        "float": k * 1.0,
        "category": pd.Categorical([f"c{i}" for i in k], [f"c{i}" for i in range(m + 2)][::-1]),
        "dates": pd.date_range("2020", periods=m),
        "uint64": np.uint64(2**64 - 1) - k.astype("u8"),
        "mixed": [int(i) if i % 2 else f"{i}" for i in k],
        "tuple": [(int(i), "a") for i in k],
        "Int64": pd.array(k, dtype="Int64"),
        "bool": [bool(i % 2) for i in k],
    }[kind]
    dtype = object if kind in ("big", "mixed", "tuple") else None
    return pd.Series(made, dtype=dtype).array


def _index(kind: str, n: int) -> pd.Index:
    k = np.arange(n)
    return {
        "range": lambda: pd.RangeIndex(n),
        "text": lambda: pd.Index([f"r{i}" for i in k], name="id"),
        "repeated": lambda: pd.Index(k // 2),
        "dates": lambda: pd.DatetimeIndex(pd.Timestamp("2020") + pd.to_timedelta(k**2, unit="D")),
        "multi": lambda: pd.MultiIndex.from_arrays([k // 2, [f"{i}" for i in k]], names=["a", None]),
        "frequency": lambda: pd.date_range("1990", periods=n, freq="MS", tz="UTC"),
    }[kind]()


def _values(rng, shape: str, codes, latent, last) -> np.ndarray:
    n, e = len(codes), rng.normal(size=len(codes))
    u = rng.normal(size=codes.max() + 1)
    y = latent + u[codes] + e
    return {
        "normal": lambda: y,
        "skewed": lambda: np.exp(y),
        "constant": lambda: np.full(n, 3.0),
        "two values": lambda: np.where(e > 0, 100.0, -1.0),
        "nearly constant": lambda: 1 + 1e-12 * e,
        "huge": lambda: 1e300 * y,
        "large": lambda: 1e15 + y,
        "tiny": lambda: 1e-300 * y,
        "few values": lambda: rng.integers(0, 4, n) * 1.0,
        "cluster": lambda: u[codes],
        "collinear": lambda: 2 * last,
        "count": lambda: rng.poisson(3, n) * 1.0,
        "binary": lambda: (e > 0) * 1.0,
        "nested": lambda: np.where(codes == 0, e, 0.0),
    }[shape]()


def _holes(rng, kind: str, codes) -> np.ndarray:
    n, m = len(codes), codes.max() + 1
    sporadic, systematic = rng.random(n) < 0.2, (rng.random(m) < 0.35)[codes]
    one = np.ones(n, bool)
    one[rng.integers(n)] = False
    return {
        "none": np.zeros(n, bool),
        "sporadic": sporadic,
        "systematic": systematic,
        "both": sporadic | systematic,
        "heavy": rng.random(n) < 0.7,
        "all but one": one,
        "all": np.ones(n, bool),
        "first clusters": codes < (m + 1) // 2,
    }[kind]


def _typed(rng, dtype: str, values: np.ndarray, holes: np.ndarray) -> Any:
    """A column of the dtype; texts and levels are made of the order of the values."""
    numbers = pd.Series(values).where(~holes)
    if dtype in ("float64", "Float64"):
        return numbers.astype(dtype)
    if dtype == "float32":
        return numbers.clip(-1e30, 1e30).astype(dtype)
    if dtype in ("Int32", "arrow int"):
        whole = numbers.clip(-1e9, 1e9).round()
        return whole.astype("Int32") if dtype == "Int32" else whole.astype("Int32").astype("int32[pyarrow]")
    if dtype == "arrow":
        return numbers.astype("Float64").astype("double[pyarrow]")
    if dtype == "sparse":
        return numbers.astype(pd.SparseDtype(float, np.nan))
    if dtype in ("objects", "objects NA", "decimals"):
        hole = pd.NA if dtype == "objects NA" else None
        make = Decimal if dtype == "decimals" else float
        return _objects([hole if h else make(v) for v, h in zip(values.tolist(), holes, strict=True)])
    return _levels(rng, dtype, values, holes)


def _levels(rng, dtype: str, values: np.ndarray, holes: np.ndarray) -> Any:
    codes = np.where(
        rng.random(len(values)) < 0.8,
        np.digitize(values, np.quantile(values, [0.4, 0.8])),
        rng.integers(0, 3, len(values)),
    )
    if dtype == "rare":
        codes = np.where(np.arange(len(codes)) == 0, 2, codes % 2)
    dates = list(pd.date_range("2020", periods=3))
    sets = {
        "intervals": pd.IntervalIndex.from_breaks([0, 1, 2, 9]).to_list(),
        "tuples": [(1, "a"), (1, "b"), (2, "a")],
        "mixed levels": [1, "a", 2.5],
        "boolean": [True, False, True],
        "bool objects": [True, False, False],
        "date category": dates,
        "numeric category": [1, 2, 5],
        "datetime": dates,
        "zoned": dates,
        "timedelta": [pd.Timedelta(k, "h") for k in range(3)],
        "period": list(pd.period_range("2020", periods=3, freq="M")),
        "lists": [[1], [1, 2], []],
        "interval": pd.IntervalIndex.from_breaks([0, 1, 2, 9]).to_list(),
        "bytes": [b"a", b"b", b""],
    }
    levels = sets.get(dtype, ["a", "b", "c"])
    cells = _objects([None if h else levels[c] for c, h in zip(codes, holes, strict=True)])
    types = {
        "str": "str",
        "string": "string",
        "arrow text": "string[pyarrow]",
        "boolean": "boolean",
        "datetime": "datetime64[ns]",
        "zoned": "datetime64[ns, Europe/Berlin]",
        "timedelta": "timedelta64[ns]",
        "period": "period[M]",
        "interval": "interval[int64, right]",
    }
    if dtype in types:
        return cells.astype(
            "interval[float64, right]" if dtype == "interval" and holes.any() else types[dtype]
        )
    if dtype in ("text objects", "bool objects", "lists", "bytes"):
        return cells
    unused = {"category": ["z"], "ordered": ["z"]}.get(dtype, [])
    kind = pd.CategoricalDtype([*levels, *unused], ordered=dtype in ("ordered", "intervals"))
    place = {repr(level): k for k, level in enumerate(kind.categories)}
    return pd.Categorical.from_codes(
        [-1 if h else place[repr(levels[c])] for c, h in zip(codes, holes, strict=True)], dtype=kind
    )


def _objects(values: list) -> pd.Series:
    out = np.empty(len(values), dtype=object)
    for k, value in enumerate(values):
        out[k] = value
    return pd.Series(out, dtype=object)
