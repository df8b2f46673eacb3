"""Results come back from files, pickles and copies: every dtype, name and engine that `impute` accepts."""

import copy
import pickle
import re
import warnings

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import bayesimp as bi
from bayesimp.families.registry import FAMILIES
from bayesimp.imputation.storage import to_tree
from tests.mnar_runs import QUESTION, model, run
from tests.storing import is_plain, stored_and_loaded
from tests.table.test_exact import INDICES, N, columns

pytestmark = [
    pytest.mark.filterwarnings("ignore:Consolidated metadata"),
    pytest.mark.filterwarnings("ignore::bayesimp.errors.StatisticalWarning"),
]
ENGINES = ("fcs", "joint")


def table(seed=0, clusters=6, rows=N) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(clusters), rows)
    u = rng.normal(size=clusters)[g]
    x = rng.normal(size=len(g))
    frame = pd.DataFrame(
        {"g": g, "x": x, "y": x + u + rng.normal(size=len(g)), "z": u + rng.normal(size=len(g))}
    )
    frame.loc[::5, "y"] = np.nan
    frame.loc[1::7, "z"] = np.nan
    return frame


def impute(frame, engine, names=("y", "z"), families=None, m=2, **options):
    data = bi.IncompleteData(frame, "g", families)
    if engine == "joint":
        left = " + ".join(f"`{name}`" for name in names)
        return bi.JointNormal(data, f"{left} ~ x + (1 | g)").impute(m, seed=1, chains=2, tune=5, draws=10)
    return bi.FCS(data, **options).impute(m, seed=1, cycles=4)


def check_round_trips(imp, folder, suffixes=()):
    """Stored, pickled and copied, it is the same and continues in the same way; in these kinds of files, or as needed."""
    others = [pickle.loads(pickle.dumps(imp)), copy.deepcopy(imp)]
    if not suffixes:
        back = stored_and_loaded(imp, folder)
        others += [back, pickle.loads(pickle.dumps(back))]
    for suffix in suffixes:
        imp.save(folder / f"run.{suffix}")
        back = bi.load(folder / f"run.{suffix}")
        others += [back, pickle.loads(pickle.dumps(back))]
    longer = imp.extend(1)
    for other in others:
        assert other.attrs == imp.attrs and other.imputed_columns == imp.imputed_columns
        assert other.log == imp.log
        pd.testing.assert_frame_equal(other.data.frame, imp.data.frame, check_exact=True)
        assert other.data.frame.dtypes.equals(imp.data.frame.dtypes)
        pd.testing.assert_index_equal(other.data.frame.index, imp.data.frame.index, exact=True)
        for k in range(imp.m):
            pd.testing.assert_frame_equal(other.frame(k), imp.frame(k), check_exact=True)
        for name, group in imp.tree.children.items():
            xr.testing.assert_identical(other.tree[name].to_dataset(), group.to_dataset())
        pd.testing.assert_frame_equal(other.extend(1).frame(imp.m), longer.frame(imp.m), check_exact=True)


@pytest.mark.parametrize("engine", ENGINES)
def test_tables_with_every_dtype(engine, tmp_path):
    """None of these columns is imputed; all of them are in the table."""
    frame = table()
    again = np.tile(np.arange(N), len(frame) // N)
    made = columns()
    del made["big-endian"]  # whose byte order pandas itself changes when copying
    more = {name: column.array.take(again) for name, column in made.items()}
    frame = pd.concat([frame, pd.DataFrame(more, index=frame.index)], axis=1)
    imp = impute(frame, engine, families=dict.fromkeys(more, "none"))
    check_round_trips(imp, tmp_path, ("nc", "zarr"))
    for name in more:
        pd.testing.assert_series_equal(imp.frame(1)[name], frame[name])


@pytest.mark.parametrize("name", INDICES)
def test_tables_with_every_index(name, tmp_path):
    frame = table(rows=1, clusters=N).drop(columns="z")
    frame["g"] = np.arange(N) // 2
    frame.index = INDICES[name]
    check_round_trips(impute(frame, "fcs", methods="norm"), tmp_path)


def holes(values, dtype=None) -> pd.Series:
    out = pd.Series(values, dtype=dtype)
    out[::6] = None
    return out


def imputable(rng=None) -> dict:
    """Incomplete columns, and the dtype that they have when they are completed (None: their own)."""
    rng = rng or np.random.default_rng(3)
    n = len(table())
    number, whole, two, three = (
        rng.normal(size=n),
        rng.integers(0, 40, n),
        rng.integers(0, 2, n),
        rng.integers(0, 3, n),
    )

    def of(*levels):
        out = np.empty(len(levels), dtype=object)
        out[:] = levels
        return out[three % len(levels)]

    some = np.where(np.arange(n) % 6 == 0, None, number).astype(object)
    return {
        "float64": (holes(number), None),
        "float32": (holes(number, "float32"), None),
        "float16": (holes(number, "float16"), None),
        "Float64": (holes(number, "Float64"), None),
        "double[pyarrow]": (holes(number, "double[pyarrow]"), None),
        "float[pyarrow]": (holes(number, "float[pyarrow]"), None),
        "Int16": (holes(whole, "Int16"), "Float64"),
        "int16[pyarrow]": (holes(whole, "int16[pyarrow]"), "double[pyarrow]"),
        "objects with None": (pd.Series(some, dtype=object), "float64"),
        "objects with NA": (pd.Series(some, dtype=object).where(lambda s: s.notna(), pd.NA), "float64"),
        "whole objects": (pd.Series(np.where(np.arange(n) % 6 == 0, pd.NA, whole), dtype=object), "float64"),
        "numeric category": (holes(pd.Series(whole)).astype("category"), None),
        "sparse": (holes(number).astype(pd.SparseDtype(float)), None),
        "sparse filled": (holes(number).round(0).astype(pd.SparseDtype(float, 0.0)), None),
        "boolean": (holes(two == 1, "boolean"), None),
        "bool[pyarrow]": (holes(two == 1, "bool[pyarrow]"), None),
        "bool objects": (pd.Series(np.where(np.arange(n) % 6 == 0, None, two == 1), dtype=object), None),
        "str": (holes(of("a", "b", "c"), "str"), None),
        "string": (holes(of("a", "b"), "string"), None),
        "arrow text": (holes(of("a", "b", ""), "string[pyarrow]"), None),
        "text objects": (
            pd.Series(np.where(np.arange(n) % 6 == 0, pd.NA, of("a", "b", "c")), dtype=object),
            None,
        ),
        "category": (holes(of("a", "b", "c")).astype(pd.CategoricalDtype(["c", "unused", "a", "b"])), None),
        "ordered": (
            holes(of("a", "b", "c")).astype(pd.CategoricalDtype(["c", "a", "b"], ordered=True)),
            None,
        ),
        "intervals": (pd.cut(holes(whole).astype(float), [-1, 10, 25, 50]), None),
        "tuples": (
            holes(of((1, "a"), (2, "b"), (1, "b")), pd.CategoricalDtype([(1, "a"), (1, "b"), (2, "b")])),
            None,
        ),
        "mixed": (holes(of(1, "a"), pd.CategoricalDtype([1, "a"])), None),
        "date category": (
            holes(
                of(*pd.date_range("2020", periods=3)), pd.CategoricalDtype(pd.date_range("2020", periods=3))
            ),
            None,
        ),
    }


@pytest.mark.parametrize("name", imputable())
def test_imputed_columns_of_every_dtype(name, tmp_path):
    column, dtype = imputable()[name]
    frame = table()[["g", "x"]].assign(v=column)
    seen = frame["v"].notna()
    method = {"normal": "norm"}.get(bi.IncompleteData(frame, "g").families["v"], "glm")
    imp = impute(frame, "fcs", methods=method)
    for k in range(imp.m):
        completed = imp.frame(k)["v"]
        assert completed.dtype == (column.dtype if dtype is None else dtype) and completed.notna().all()
        pd.testing.assert_series_equal(
            completed[seen], frame["v"][seen].astype(completed.dtype), check_exact=True
        )
    assert imp.to_long()["v"].notna().all() and imp.stacked(["v"], 0, 2)["v"].notna().all()
    check_round_trips(imp, tmp_path)


def complete() -> dict:
    """Complete columns, and the dtype that they have when cells were held out and imputed (None: their own)."""
    rng, n = np.random.default_rng(4), len(table())
    whole, two, text = rng.integers(0, 50, n), rng.random(n) > 0.5, rng.choice(list("abc"), n)
    return {
        "bool": (two, None),
        "int64": (whole, "float64"),
        "uint8": (whole.astype("u1"), "float64"),
        "Int64": (pd.array(whole, dtype="Int64"), "Float64"),
        "boolean": (pd.array(two, dtype="boolean"), None),
        "sparse int": (pd.arrays.SparseArray(whole), pd.SparseDtype(float, 0)),
        "sparse bool": (pd.arrays.SparseArray(two), None),
        "arrow bool": (pd.array(two, dtype="bool[pyarrow]"), None),
        "arrow int": (pd.array(whole, dtype="int8[pyarrow]"), "double[pyarrow]"),
        "whole objects": (pd.Series(whole.tolist(), dtype=object), "float64"),
        "bool objects": (pd.Series(two.tolist(), dtype=object), None),
        "str": (pd.array(text, dtype="str"), None),
        "category": (pd.Categorical(text), None),
    }


@pytest.mark.parametrize("name", complete())
def test_cells_held_out_of_columns_of_every_dtype(name, tmp_path):
    column, dtype = complete()[name]
    frame = table()[["g", "x"]].assign(v=column)
    method = {"normal": "norm"}.get(bi.IncompleteData(frame, "g").families["v"], "glm")
    held = np.arange(len(frame)) % 4 == 0
    imp = impute(frame, "fcs", methods=method, where={"v": held})
    completed = imp.frame(1)["v"]
    assert completed.notna().all() and completed.dtype == (frame["v"].dtype if dtype is None else dtype)
    assert all(a == b for a, b in zip(completed[~held], frame["v"][~held], strict=True))
    check_round_trips(imp, tmp_path)


LABELS = {
    "large": [2**70 + k for k in range(6)],
    "negative": [-(10**18) - k for k in range(6)],
    "uint64": np.arange(2**64 - 6, 2**64, dtype="u8"),
    "floats": np.arange(6.0),
    "empty text": ["", " ", "\n", "é", "e\u0301", "\0"],
    "numbers and text": [1, "1", 2, "2", 3, "3"],
    "dates": pd.date_range("2020", periods=6),
    "zoned": pd.date_range("2020", periods=6, tz="Asia/Tokyo"),
    "unused": pd.Categorical(list("abcdef"), list("zfedcba")),
    "intervals": pd.interval_range(0, 6),
    "periods": pd.period_range("2020", periods=6, freq="M"),
    "tuples": pd.Series([(k, "a") for k in range(6)]),
    "bools": [True, False] * 3,
    "Int64": pd.array(range(6), dtype="Int64"),
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", LABELS)
def test_every_label_of_clusters(name, engine, tmp_path):
    frame = table()
    frame["g"] = pd.Series(LABELS[name]).array.take(frame["g"])
    check_round_trips(impute(frame, engine), tmp_path, ("nc",) if engine == "joint" else ())


NAMES = [
    "imputation",
    "row",
    "cluster",
    "cluster_of_row",
    "row_z",
    "cluster_z",
    "chain",
    "response",
    "column",
    "mean",
    "beta",
    "a/b",
    "kg/m²",
    "Systolic BP",
    " ",
    "bp ",
    "bp\tmmHg",
    "two\nlines",
    "_x",
    "%20",
    "zarr.json",
    "..",
    "Ä",
    "A\u0308",
    "Z",
    "1",
    "a\"'",
    "x" * 300,
    "血" * 90,
    "posterior",
]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("some", [NAMES[k : k + 6] for k in range(0, len(NAMES), 6)], ids=range(5))
def test_every_name(some, engine, tmp_path):
    rng, frame = np.random.default_rng(2), table()[["g", "x", "z"]]
    for k, name in enumerate(some):
        frame[name] = frame["x"] + rng.normal(size=len(frame))
        frame.loc[k :: 5 + k, name] = np.nan
    imp = impute(frame, engine, names=(*some, "z"), **({"methods": "norm"} if engine == "fcs" else {}))
    stored = imp.tree["imputed"].to_dataset().data_vars
    assert {a.attrs["column"] for a in stored.values()} == {*some, "z"}
    assert all(np.isfinite(a.values).all() for a in stored.values())
    check_round_trips(imp, tmp_path, ("nc", "zarr"))


def test_names_stay_in_the_tree_but_for_those_it_needs():
    frame = table().rename(columns={"y": "row_z", "x": "a/b"})
    frame.loc[2::9, "a/b"] = np.nan
    imp = impute(frame, "fcs")
    assert set(imp.tree["imputed"].data_vars) == {"row_z_", "z", "a∕b"}
    assert set(imp.tree["observed_data"].data_vars) == {"row_z_", "z", "a∕b"}
    assert {"beta_row_z", "beta_z", "beta_a∕b"} <= set(imp.tree["posterior"].data_vars)


def test_names_that_a_disk_cannot_tell_apart(tmp_path):
    frame = table().rename(columns={"y": "Z"})
    imp = impute(frame, "fcs")
    imp.save(tmp_path / "run.zarr")
    for group in (path for path in (tmp_path / "run.zarr").iterdir() if path.is_dir()):
        names = [path.name.lower() for path in group.iterdir()]
        assert len(set(names)) == len(names)


def test_arguments_in_numbers_of_numpy(tmp_path):
    imp = impute(
        table(),
        "fcs",
        bounds={"y": (np.float32(-50), np.int64(50))},
        order=np.array(["z", "y"]),
        where={"y": np.arange(36) % 3 == 0},
    )
    check_round_trips(imp, tmp_path, ("nc",))


@pytest.mark.parametrize("engine", ENGINES)
def test_prior_draws_can_be_pickled_and_saved(engine, tmp_path):
    imp = impute(table().rename(columns={"y": "a/b"}), engine, names=("a/b", "z")).with_prior_draws(20)
    assert engine == "joint" or "Psi_a∕b" in imp.tree["prior"].data_vars
    imp.save(tmp_path / "run.nc")
    for other in (bi.load(tmp_path / "run.nc"), pickle.loads(pickle.dumps(imp))):
        xr.testing.assert_identical(other.tree["prior"].to_dataset(), imp.tree["prior"].to_dataset())


@pytest.mark.parametrize("name", [".id", ".imp"])
def test_long_tables_refuse_columns_of_their_own(name, tmp_path):
    imp = impute(table().rename(columns={"x": name}), "fcs")
    with pytest.raises(bi.DataError, match=rf"column '\{name}'.*Rename it"):
        imp.to_long()
    check_round_trips(imp, tmp_path)


def test_only_plain_results_are_compared_without_a_file():
    """What another test compares in memory is what files keep: see tests/storing.py."""
    assert is_plain(to_tree(impute(table(), "joint")))
    odd = table()
    odd["g"] = pd.Series(["a", "b", "c", "é", "\0", "f"]).to_numpy()[odd["g"]]
    assert not is_plain(to_tree(impute(odd, "joint")))


@pytest.mark.parametrize("suffix", ["nc", "zarr"])
def test_a_file_of_another_kind(suffix, tmp_path):
    tree = xr.DataTree.from_dict({"/posterior": xr.Dataset({"beta": ("draw", [1.0])})})
    path = tmp_path / f"other.{suffix}"
    tree.to_netcdf(path, engine="h5netcdf") if suffix == "nc" else tree.to_zarr(path)
    with pytest.raises(bi.DataError, match="is not a result saved by this version"):
        bi.load(path)


def test_no_warning_is_left_to_the_user(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        imp = impute(table(), "fcs")
        imp.save(tmp_path / "run.nc")
        bi.load(tmp_path / "run.nc").to_long()


# functions of the user's own -----------------------------------------------------


def rounded(y):
    return np.round(y)


def with_post(post):
    table = pd.DataFrame({"g": np.repeat(np.arange(6), 10), "x": np.arange(60) % 7 / 7})
    table["y"] = np.where(np.arange(60) % 5 == 0, np.nan, 3 * table["x"] + np.sin(np.arange(60)))
    return bi.FCS(bi.IncompleteData(table, "g"), predictors={"y": "y ~ x + (1 | g)"}, post={"y": post})


def small_run(post):
    return with_post(post).impute(m=2, cycles=4, seed=1, progress=False)


def test_functions_are_given_again_to_continue(tmp_path):
    imp = small_run(lambda y: np.round(y))
    imp.save(tmp_path / "a.nc")
    alone = bi.load(tmp_path / "a.nc")
    np.testing.assert_array_equal(alone.values("y"), imp.values("y"))
    for go_on in (lambda: alone.extend(1), lambda: alone.iterate(1)):
        with pytest.raises(
            bi.SpecificationError, match=r"no chains to continue: .*load\(path, post=\{'y': function\}\)"
        ):
            go_on()
    again = bi.load(tmp_path / "a.nc", post={"y": rounded})
    np.testing.assert_array_equal(again.extend(1).values("y"), imp.extend(1).values("y"))


@pytest.mark.parametrize(
    ("post", "message"),
    [
        ({"z": rounded}, "no post function of 'z'; possible: 'y'"),
        (rounded, "post takes {variable: function}, got function"),
    ],
)
def test_functions_that_the_run_did_not_have(post, message, tmp_path):
    small_run(rounded).save(tmp_path / "a.nc")
    with pytest.raises(bi.SpecificationError, match=re.escape(message)):
        bi.load(tmp_path / "a.nc", post=post)


def test_functions_of_a_run_without_any(tmp_path):
    data = with_post(rounded).data
    bi.JointNormal(data, "y ~ x + (1 | g)").impute(2, seed=1, draws=20, tune=5).save(tmp_path / "a.nc")
    with pytest.raises(bi.SpecificationError, match="no post function of 'y'; the run had none"):
        bi.load(tmp_path / "a.nc", post={"y": rounded})


def test_pickles_go_on():
    imp = pickle.loads(pickle.dumps(small_run(rounded)))
    np.testing.assert_array_equal(imp.extend(1).values("y"), small_run(rounded).extend(1).values("y"))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_is_pickled_by_its_name(name):
    """Its functions, lambdas among them, are those of the registry; models and tasks hold families."""
    assert pickle.loads(pickle.dumps(FAMILIES[name])) is copy.deepcopy(FAMILIES[name]) is FAMILIES[name]


def test_latent_variables_of_every_kind(tmp_path):
    frame = table()
    yes = frame["x"] + frame["z"].fillna(0.0)
    frame["two"] = pd.Series(np.where(yes > 0, "yes", "no")).where(np.arange(len(frame)) % 6 > 0)
    frame["three"] = pd.Series(pd.cut(yes, [-99, -1, 1, 99])).where(np.arange(len(frame)) % 7 > 0)
    frame["names"] = pd.Series(np.array(["a", "b", "c"])[frame.index % 3]).where(frame.index % 8 > 0)
    of_clusters = np.array([1.0, 2.5, np.nan, 0.5, -1.0, 3.0])[frame["g"]]
    data = bi.IncompleteData(frame.assign(v=of_clusters), "g")
    latent = bi.JointLatent(data, "y + two + three + names + v ~ x + (1 | g)")
    check_round_trips(latent.impute(2, seed=1, chains=2, tune=3, draws=6, progress=False), tmp_path)


@pytest.mark.parametrize("engine", ["JointNormal", "JointLatent"])
def test_results_of_several_runs_can_be_pickled(engine):
    moved = run(engine, {"y": [0, -1]}, m=2)
    options = {"m": 2, "seed": 1, "tune": 4, "draws": 8, "progress": False}
    priors = bi.sensitivity(model(engine), ["default", "jomo"], analysis=QUESTION, **options)
    for result in (moved, priors):
        back = pickle.loads(pickle.dumps(result))
        assert repr(back) == repr(result) and list(back.fits) == list(result.fits)
        for name, imp in result.imputations.items():
            pd.testing.assert_frame_equal(back.imputations[name].frame(1), imp.frame(1))
