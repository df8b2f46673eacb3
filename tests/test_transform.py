"""`imp.transform(new)`: what is read from new rows, what is kept, and what is refused before anything is drawn."""

import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy.interpolate import BSpline

import bayesimp as bi
from bayesimp.formulas.new_rows import new_design
from bayesimp.table.new_rows import NewRows

RNG = np.random.default_rng(0)
G = np.repeat(np.arange(10), 12)
N = len(G)


def _table():
    x, w = RNG.normal(size=N) + 3, RNG.choice(["a", "b", "c"], N)
    u = RNG.normal(size=(10, 2))
    y = 20 + x + u[G, 0] + RNG.normal(size=N)
    z = y - x + u[G, 1] + RNG.normal(size=N)
    frame = pd.DataFrame({"g": G, "x": x, "w": pd.Categorical(w), "y": y, "z": z, "unused": 1.0})
    frame.loc[RNG.random(N) < 0.2, "y"] = np.nan
    frame.loc[RNG.random(N) < 0.2, "z"] = np.nan
    return frame


TABLE = _table()
NEW = pd.DataFrame(
    {
        "z": [np.nan, 17.5, np.nan, 18.0], "g": [1, 99, 99, 5], "w": ["c", "a", "b", "a"], "note": list("pqrs"),
        "y": [np.nan, np.nan, 21.0, np.nan], "x": [2, 3, 4, 5],
    },
    index=["W", "X", "Y", "Z"],
)  # fmt: skip


@pytest.fixture(scope="module")
def imp():
    model = bi.JointNormal(bi.IncompleteData(TABLE, "g"), "y + z ~ x + w + (1 | g)")
    return model.impute(m=3, seed=1, draws=60, progress=False)


def test_everything_but_the_missing_cells_is_kept(imp):
    before = NEW.copy(deep=True)
    done = imp.transform(NEW, seed=3)
    pd.testing.assert_frame_equal(NEW, before)
    assert (done.m, len(done), done.imputed_columns) == (3, 3, ["y", "z"])
    for k, frame in enumerate(done):
        pd.testing.assert_frame_equal(frame, done.frame(k))
        pd.testing.assert_series_equal(frame.dtypes, NEW.dtypes)
        assert list(frame.index) == list(NEW.index) and not frame.isna().any().any()
        pd.testing.assert_frame_equal(frame.where(NEW.notna()), NEW, check_exact=True)
        for name in ("y", "z"):
            np.testing.assert_array_equal(frame[name].to_numpy()[done.rows(name)], done.values(name)[k])
    assert not np.array_equal(done.values("y")[0], done.values("y")[1])
    long = done.to_long()
    assert len(long) == 3 * len(NEW) and set(long[".imp"]) == {1, 2, 3}
    assert done.tree["imputed"]["y"].shape == (3, 3)
    assert list(done.tree["imputed"]["cluster_y"].values) == [1, 99, 5]


def test_levels_are_those_of_their_own_table():
    """In every completed table, the names of the levels that were drawn for it."""
    frame = TABLE.assign(w=np.where(RNG.random(N) < 0.2, None, TABLE["w"].astype(object)))
    model = bi.JointLatent(bi.IncompleteData(frame[["g", "x", "y", "w"]], "g"), "y + w ~ x + (1 | g)")
    made = model.impute(m=8, seed=1, chains=2, tune=5, draws=20, thin=1, progress=False)
    new = NEW[["g", "x", "y", "w"]].assign(w=None)
    done = made.transform(new, seed=3)
    levels, drawn = np.array(list("abc"), dtype=object), done.values("w").astype(int)
    assert drawn.shape == (8, 4) and len(np.unique(drawn, axis=0)) > 1
    for k in range(8):
        assert list(done.frame(k)["w"].iloc[done.rows("w")]) == list(levels[drawn[k]])


def test_seeds(imp):
    ours, again, other = (imp.transform(NEW, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(ours.values("y"), again.values("y"))
    assert not np.isclose(ours.values("y"), other.values("y")).any()
    drawn = imp.transform(NEW)
    repeated = imp.transform(NEW, seed=drawn.attrs["seed"])
    np.testing.assert_array_equal(drawn.values("y"), repeated.values("y"))


@pytest.mark.parametrize("seed", ["a", -1, 1.5, True])
def test_a_seed_is_a_whole_number(imp, seed):
    with pytest.raises(bi.SpecificationError, match="seed must be a whole number"):
        imp.transform(NEW, seed=seed)


def test_events_say_what_was_done(imp):
    events = imp.transform(NEW, seed=3).events.set_index("kind")
    assert events.loc["new clusters", "count"] == 1
    assert "1 of 3 clusters, with 2 rows" in events.loc["new clusters", "message"]
    assert "'note'" in events.loc["not used", "message"]
    known = imp.transform(NEW.drop(columns="note").query("g != 99"), seed=3)
    assert known.events.empty
    same = imp.transform(TABLE, seed=3).events
    assert list(same["kind"]) == ["same rows"] and same["count"].item() == N


def test_far_values_are_judged_by_the_table_of_the_run(imp):
    """Two observed values do not show what is usual; those of the run do."""
    far = imp.transform(NEW.assign(x=[1e4, 3, 4, 5]), seed=3).events.query("kind == 'far outside'")
    assert list(far["where"]) == ["y", "z"]
    assert "far outside" not in set(imp.transform(NEW, seed=3).events["kind"])


def test_a_single_row_and_complete_rows(imp):
    one = imp.transform(NEW.iloc[[1]], seed=3)
    assert len(one.frame(0)) == 1 and "1 new row (0 known and 1 new clusters)" in repr(one)
    whole = imp.transform(NEW.assign(y=1.0, z=2.0), seed=3)
    assert whole.imputed_columns == []
    pd.testing.assert_frame_equal(whole.frame(2), NEW.assign(y=1.0, z=2.0))


def test_other_tables_and_types(imp):
    ours = imp.transform(NEW, seed=3)
    theirs = imp.transform(pl.from_pandas(NEW), seed=3)
    frame = theirs.to_frame(0)
    assert isinstance(frame, pl.DataFrame) and frame.columns == list(NEW.columns)
    np.testing.assert_array_equal(frame["y"].to_numpy(), ours.frame(0)["y"])
    typed = NEW.astype({"w": "category", "x": "Int64", "y": "Float64", "g": "int8"})
    done = imp.transform(typed, seed=3)
    np.testing.assert_array_equal(done.values("z"), ours.values("z"))
    pd.testing.assert_series_equal(done.frame(0).dtypes, typed.dtypes)
    nothing = NEW.assign(y=pd.Series([None] * 4, index=NEW.index, dtype=object))
    events = imp.transform(nothing, seed=3).events
    assert "dtype changed" in set(events["kind"])


def test_columns_that_the_model_does_not_use_may_be_absent(imp):
    assert "unused" not in NEW.columns
    with_it = imp.transform(NEW.assign(unused=np.nan), seed=3)
    np.testing.assert_array_equal(with_it.values("y"), imp.transform(NEW, seed=3).values("y"))
    assert with_it.frame(0)["unused"].isna().all()


def test_results_can_be_pickled(imp):
    done = imp.transform(NEW, seed=3)
    again = pickle.loads(pickle.dumps(done))
    pd.testing.assert_frame_equal(again.frame(1), done.frame(1), check_exact=True)


def test_they_can_be_analysed(imp):
    many = TABLE.drop(columns="unused").assign(y=np.nan)
    done = imp.transform(many, seed=3)
    fits = done.analyse("y ~ x + (1 | g)")
    by_hand = bi.fit_each([frame for frame in done], "y ~ x + (1 | g)", cluster="g")
    np.testing.assert_allclose(
        fits.pool().to_frame()["estimate"], by_hand.pool().to_frame()["estimate"], rtol=1e-8
    )


REFUSED = {
    "text ids": (lambda t: t.assign(g=list("abcd")), r"ids in 'g' are text in the new table .*4 rows.* and numbers"),
    "no id": (lambda t: t.assign(g=[1, np.nan, 2, 3]), r"id 'g' is missing in 1 of 4 rows \(first: 'X'\)"),
    "no clusters": (lambda t: t.drop(columns="g"), r"no column 'g' for the clusters"),
    "no rows": (lambda t: t.iloc[:0], "no rows"),
    "no response": (lambda t: t.drop(columns="z"), r"no column 'z', which the model imputes.*new\['z'\] = numpy\.nan"),
    "no covariates": (lambda t: t.drop(columns=["x", "w"]), r"no columns 'x', 'w', which the model needs in every row"),
    "covariates missing": (
        lambda t: t.assign(x=[np.nan, 3, np.nan, 5], w=["a", None, "b", "b"]),
        r"'x' is missing in 2 of 4 rows.* of 2 clusters \(1, 99\); 'w' is missing in 1 of 4 rows",
    ),
    "an infinite covariate": (lambda t: t.assign(x=[np.inf, 3, 4, 5]), r"'x' is infinite in 1 of 4 rows"),
    "a new level": (lambda t: t.assign(w=list("abcd")), r"'w' has levels .* 'd', in 1 of 4 rows.*'a', 'b', 'c'"),
    "text for a number": (lambda t: t.assign(x=list("abcd")), r"'x' is string.*4 rows\) but a number"),
    "dates for a number": (lambda t: t.assign(x=pd.Timestamp("2020-01-01")), r"'x' is datetime64"),
    "text for a response": (lambda t: t.assign(y=list("abcd")), r"'y' cannot be normal.* in 4 of 4 rows"),
    "a column twice": (lambda t: pd.concat([t, t[["y"]]], axis=1), "more than once: 'y'"),
    "a number": (lambda t: 3, "int is not a table"),
    "the imputations": (lambda t: bi.JointNormal, "is not a table"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused(imp, case):
    change, says = REFUSED[case]
    with pytest.raises(bi.BayesimpError, match=says):
        imp.transform(change(NEW), seed=3)


def test_our_own_objects_are_no_new_rows(imp):
    with pytest.raises(bi.DataError, match=r"imp\.data\.frame"):
        imp.transform(imp, seed=3)
    with pytest.raises(bi.DataError, match=r"model\.data\.frame"):
        imp.transform(imp.model, seed=3)
    data = bi.IncompleteData(pd.concat([NEW, NEW]), "g")
    assert len(imp.transform(data, seed=3).frame(0)) == 8


@pytest.mark.parametrize("term", ["bs(x, df=5)", "poly(x, 3)", "scale(x)"])
def test_functions_of_all_rows_keep_the_knots_and_scale_of_the_table(term):
    model = bi.JointNormal(bi.IncompleteData(TABLE, "g"), f"y + z ~ {term} + (1 | g)")
    made = model.impute(m=1, seed=1, draws=20, progress=False)
    X, _ = new_design(model.formula, model.design, NewRows(made.data, NEW))

    def basis(frame, t):
        x, inner = frame["x"].to_numpy(float), t["x"].quantile([1 / 3, 2 / 3])
        knots = np.r_[[t["x"].min()] * 4, inner, [t["x"].max()] * 4]
        spline = BSpline.design_matrix(x, knots, 3, extrapolate=True).toarray()
        return spline if term.startswith("bs") else np.vander(x, 4)

    def continued(t):
        return basis(NEW, t) @ np.linalg.lstsq(basis(TABLE, t), model.design.X, rcond=None)[0]

    np.testing.assert_allclose(X, continued(TABLE), atol=1e-7)
    if term.startswith("bs"):  # wrong: the knots of all rows together
        assert np.abs(continued(pd.concat([TABLE, NEW])) - X).max() > 1e-3
    assert made.transform(NEW, seed=1).frame(0)[["y", "z"]].notna().all().all()


def test_functions_row_by_row_and_factors_of_numbers():
    formula = "y + z ~ I(x**2) + log(x + 30) + C(k):w + (1 + x | g)"
    table = TABLE.assign(k=np.arange(N) % 3)
    model = bi.JointNormal(bi.IncompleteData(table, "g"), formula.replace("C(k):w", "C(k) + w"))
    made = model.impute(m=1, seed=1, draws=20, progress=False)
    new = bi.table.new_rows.NewRows(made.data, NEW.assign(k=[2, 0, 1.0, 2]))
    X, Z = bi.formulas.new_rows.new_design(model.formula, model.design, new)
    expected = {
        "I(x**2)": NEW["x"] ** 2, "log(x + 30)": np.log(NEW["x"] + 30), "C(k)[1]": [0, 0, 1, 0], "C(k)[2]": [1, 0, 0, 1],
        "w[b]": [0, 0, 1, 0], "w[c]": [1, 0, 0, 0],
    }  # fmt: skip
    names = [name.replace(" ** ", "**") for name in model.design.fixed]
    assert set(expected) <= set(names)
    for name, column in expected.items():
        np.testing.assert_allclose(X[:, names.index(name)], column, rtol=1e-12)
    np.testing.assert_array_equal(Z[:, 1], NEW["x"])
    with pytest.raises(bi.DataError, match="'k' has levels"):
        made.transform(NEW.assign(k=[2, 0, 1, 7]), seed=1)


def test_results_of_new_rows_have_no_chains(imp):
    done = imp.transform(NEW, seed=3)
    for call, says in (
        (done.summary, r"imp\.summary\(\)"), (lambda: done.extend(2), r"imp\.extend"),
        (lambda: done.iterate(2), "extend"),
        (lambda: done.save("x.nc"), r"transform\(new, seed=3\)"), (lambda: done.transform(NEW), "do not carry"),
        (lambda: done.tree_with("log_likelihood"), "do not carry"), (done.with_prior_draws, "do not carry"),
    ):  # fmt: skip
        with pytest.raises(bi.SpecificationError, match=says):
            call()


def test_engines_that_cannot_say_so():
    data = bi.IncompleteData(TABLE.drop(columns=["w", "unused"]), "g")
    made = bi.FCS(data).impute(m=2, cycles=2, seed=1, progress=False)
    with pytest.raises(
        bi.SpecificationError,
        match=r"FCS does not complete new rows.*JointNormal, JointLatent and JointGLMM do",
    ):
        made.transform(NEW, seed=1)
