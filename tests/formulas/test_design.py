"""Design matrices: columns as formulae makes them, and errors that name column, rows, clusters and remedy."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bayesimp.errors import DataError, SpecificationError
from bayesimp.formulas import design as module
from bayesimp.formulas.design import check_rank, design
from bayesimp.formulas.formula import parse
from bayesimp.table.clusters import Clusters

N = 60
LABELS = ["A", "B", "C", "D", "E"]


@pytest.fixture
def frame():
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "y": 0.0, "school": np.arange(N) % 5,
            "x": rng.normal(size=N), "z": rng.normal(size=N), "a b": rng.normal(size=N), "_p": rng.random(N),
            "year": 2000 + np.arange(N) % 7, "flag": rng.random(N) > 0.5,
            "sex": rng.choice(["M", "F"], N), "g": rng.choice(list("abc"), N), "h": rng.choice(list("pq"), N),
            "order": pd.Categorical(rng.choice(["low", "high"], N), ["low", "never", "high"], ordered=True),
        }
    )  # fmt: skip


def build(text, frame):
    return design(
        parse(text), frame, clusters=Clusters(pd.Index(LABELS), frame["school"].to_numpy(), frame.index)
    )


def test_columns(frame):
    made = build("y ~ x * sex + log(year) + (1 + x | school)", frame)
    male = (frame["sex"] == "M").to_numpy(float)
    assert made.fixed == ("Intercept", "x", "sex[M]", "x:sex[M]", "log(year)")
    assert made.random == ("Intercept", "x")
    x = frame["x"].to_numpy()
    np.testing.assert_array_equal(
        made.X, np.column_stack([np.ones(N), x, male, x * male, np.log(frame["year"])])
    )
    np.testing.assert_array_equal(made.Z, np.column_stack([np.ones(N), x]))


@pytest.mark.parametrize(
    "text, fixed",
    [
        ("y ~ 0 + g", ("g[a]", "g[b]", "g[c]")),
        ("y ~ C(g, Treatment('b'))", ("Intercept", 'C(g, Treatment("b"))[a]', 'C(g, Treatment("b"))[c]')),
        ("y ~ order", ("Intercept", "order[high]")),
        ("y ~ flag", ("Intercept", "flag")),
        ("y ~ `a b` + _p", ("Intercept", "a b", "_p")),
        ("y ~ I(sex == 'M')", ("Intercept", 'I(sex == "M")')),
        ("y ~ poly(x, 2)", ("Intercept", "poly(x, 2)[0]", "poly(x, 2)[1]")),
        ("y ~ bs(x, df=4) - 1", tuple(f"bs(x, df=4)[{j}]" for j in range(4))),
        ("y ~ C(year) - 1", tuple(f"C(year)[{year}]" for year in range(2000, 2007))),
        ("y ~ 0 + (1 | school)", ()),
    ],
)
def test_names(text, fixed, frame):
    made = build(text, frame)
    assert made.fixed == fixed
    assert made.X.shape == (N, len(fixed)) and made.X.dtype == np.float64


@pytest.mark.parametrize(
    "text, column",
    [
        ("I(-x**2)", lambda f: -(f["x"] ** 2)),
        ("I((x + z) * 2)", lambda f: (f["x"] + f["z"]) * 2),
        ("I(2e-3 * x / z)", lambda f: 2e-3 * f["x"] / f["z"]),
        ("I(x > 0)", lambda f: f["x"] > 0),
        ("log(`_p`)", lambda f: np.log(f["_p"])),
        ("np.log1p(_p)", lambda f: np.log1p(f["_p"])),
        ("I(year**10)", lambda f: f["year"].astype(float) ** 10),  # beyond int64
        ("scale(x)", lambda f: (f["x"] - f["x"].mean()) / f["x"].std(ddof=0)),
        ("abs(flag - x)", lambda f: np.abs(f["flag"] - f["x"])),
    ],
)
def test_transformations(text, column, frame):
    np.testing.assert_allclose(
        build(f"y ~ 0 + {text}", frame).X[:, 0], column(frame).astype(float), rtol=1e-12
    )


PLAIN = ["1", "0 + x", "x + z + year", "x - 1 + _p + flag", "`a b` + x + x"]
FACTORS = ["sex", "x + g + order + sex", "order + z", "g + h"]


@pytest.mark.parametrize("part", PLAIN + FACTORS)
def test_fast_path_is_formulae(part, frame, monkeypatch):
    fast = build(f"y ~ {part} + ({part} | school)", frame)
    monkeypatch.setattr(module, "plain_terms", lambda text: None)
    slow = build(f"y ~ {part} + ({part} | school)", frame)
    assert (fast.fixed, fast.random) == (slow.fixed, slow.random)
    np.testing.assert_array_equal(fast.X, slow.X)
    np.testing.assert_array_equal(fast.Z, slow.Z)


@pytest.mark.parametrize("dtype", ["float32", "int8", "Int64", "Float64", "object", "int64[pyarrow]"])
def test_numeric_dtypes_agree(dtype, frame):
    frame["k"] = pd.Series(np.arange(N) % 11).astype(dtype)
    expected = np.column_stack([np.ones(N), np.arange(N) % 11])
    np.testing.assert_array_equal(build("y ~ k", frame).X, expected)
    frame["k"] = frame["k"] + 1
    np.testing.assert_allclose(build("y ~ log(k)", frame).X[:, 1], np.log(expected[:, 1] + 1), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["bool", "boolean", "object"])
def test_boolean_dtypes_agree(dtype, frame):
    frame["k"] = frame["flag"].astype(dtype)
    np.testing.assert_array_equal(build("y ~ 0 + k", frame).X[:, 0], frame["flag"])


@pytest.mark.parametrize("dtype", ["str", "object", "category", "string[pyarrow]"])
def test_text_dtypes_agree(dtype, frame):
    frame["k"] = frame["g"].astype(dtype)
    made = build("y ~ k", frame)
    assert made.fixed == ("Intercept", "k[b]", "k[c]")
    np.testing.assert_array_equal(made.X[:, 2], frame["g"] == "c")


def test_row_order(frame):
    order = np.random.default_rng(1).permutation(N)
    text = "y ~ x + g * h + log(_p) + (1 + x | school)"
    np.testing.assert_array_equal(build(text, frame).X[order], build(text, frame.iloc[order]).X)


def test_nothing_is_looked_up_outside_the_table(frame):
    outside = frame["x"] * 2  # a name of this function
    assert len(outside)
    with pytest.raises(SpecificationError, match="no column 'outside'"):
        build("y ~ outside", frame)


def refused(error, text, frame, *words):
    with pytest.raises(error) as caught:
        build(text, frame)
    for word in words:
        assert word in str(caught.value)


def test_unknown_name(frame):
    refused(SpecificationError, "y ~ x + yaer", frame, "'yaer'", "Did you mean 'year'", "'school'")
    refused(SpecificationError, "y ~ SEX", frame, "Did you mean 'sex'")


def test_missing_covariate(frame):
    frame.loc[[0, 1, 6], "x"] = np.nan
    words = ("'x' is missing in 3 of 60 rows", "2 clusters ('A', 'B')", "left side of ~", "y + x ~")
    refused(DataError, "y ~ log(x) + z", frame, *words)
    refused(DataError, "y ~ z + (1 + x | school)", frame, "'x' is missing")
    frame["g"] = frame["g"].astype(object).where(frame.index != 3, None)
    refused(DataError, "y ~ g", frame, "'g' is missing in 1 of 60 rows (first: 3) of 1 cluster ('D')")


def test_infinite_covariate(frame):
    frame.loc[[4, 9], "x"] = [np.inf, -np.inf]
    refused(DataError, "y ~ x", frame, "'x' is infinite in 2 of 60 rows", "('E')", "set them to missing")


def test_transformation_without_value(frame):
    frame.loc[5, "_p"] = 0.0
    refused(
        DataError,
        "y ~ x + log(_p)",
        frame,
        "'log(_p)' has no finite value in 1 of 60 rows (first: 5)",
        "('A')",
    )
    refused(DataError, "y ~ I(x / _p)", frame, "'I(x / _p)'", "Correct these values")


def test_constant_column(frame):
    frame["k"] = 3.0
    refused(DataError, "y ~ x + k", frame, "'k' is constant (3 in all 60 rows)", "remove it")
    refused(DataError, "y ~ x + (1 + k | school)", frame, "random part", "'k' is constant")
    assert build("y ~ 0 + k + x", frame).fixed == ("k", "x")
    frame["k"] = 1e9 + frame["x"]
    refused(DataError, "y ~ k", frame, "'k' is constant except for", "subtract its mean")
    frame["k"] = 0
    refused(DataError, "y ~ 0 + k", frame, "'k' is 0 in all 60 rows")


@pytest.mark.parametrize("ordered", [False, True])
def test_levels_of_a_category_have_its_order(ordered, frame):
    """As in R, and as for incomplete columns that are imputed; also by formulae."""
    arm = pd.Categorical(
        np.where(frame["x"] > 0, "active", "placebo"), ["placebo", "active", "none"], ordered=ordered
    )
    frame["arm"] = arm
    assert build("y ~ arm", frame).fixed == ("Intercept", "arm[active]")
    assert build("y ~ arm * z", frame).fixed == ("Intercept", "arm[active]", "z", "arm[active]:z")
    frame["arm"] = arm.astype(str)
    assert build("y ~ arm", frame).fixed == ("Intercept", "arm[placebo]")


def test_collinear_columns(frame):
    frame["w"] = 2 * frame["x"] - 1e3 * frame["z"]
    refused(
        DataError,
        "y ~ x + g + z + w",
        frame,
        "'w' is a combination of 'x', 'z' (rank 5 of 6 columns",
        "remove one",
    )
    refused(DataError, "y ~ x + I(-x)", frame, "'I(-x)' is a combination of 'x'")
    refused(
        DataError,
        "y ~ x + year + I(year + 5)",
        frame,
        "'I(year + 5)' is a combination of 'Intercept', 'year'",
    )


def test_fewer_rows_than_columns(frame):
    refused(DataError, "y ~ x + z + year", frame.head(3), "4 columns but only 3 rows", "remove terms from")


def test_wrong_types(frame):
    frame["when"] = pd.Timestamp("2026-01-01")
    frame["mixed"] = [1, "a"] * (N // 2)
    refused(DataError, "y ~ when", frame, "'when'", "datetime64", "numbers or a category")
    refused(DataError, "y ~ mixed", frame, "'mixed'", "numbers or a category")
    refused(DataError, "y ~ log(g)", frame, "'g' is text")
    refused(DataError, "y ~ log(order)", frame, "'order' is a category")


def test_what_formulae_cannot_build(frame):
    refused(SpecificationError, "y ~ bs(x, df=1)", frame, "bs(x, df=1)", "too small")
    refused(SpecificationError, "y ~ g:h:sex", frame, "g * h * sex")
    refused(SpecificationError, "y ~ (1 | school) + (0 + x | school)", frame, "2 random terms")


@pytest.mark.parametrize(
    "text", ["g*h*sex", "g:h", "g + g:h", "g*x", "g:x", "x:g:h", "(g + h)**2 + x", "0 + g:h + x"]
)
def test_interactions_span_what_they_should(text, frame):
    """The cell means that a formula describes, from dummies of all cells."""

    def cells(*names):
        return pd.get_dummies(frame[list(names)].agg("-".join, axis=1)).to_numpy(float)

    x, one = frame[["x"]].to_numpy(), np.ones((N, 1))
    spans = {
        "g*h*sex": [cells("g", "h", "sex")], "g:h": [cells("g", "h")], "g + g:h": [cells("g", "h")],
        "g*x": [cells("g"), cells("g") * x], "g:x": [one, cells("g") * x],
        "x:g:h": [one, cells("g", "h") * x],
        "(g + h)**2 + x": [cells("g", "h"), x], "0 + g:h + x": [cells("g", "h"), x],
    }  # fmt: skip
    X, expected = build(f"y ~ {text}", frame).X, np.hstack(spans[text])
    rank = np.linalg.matrix_rank(expected)
    assert X.shape[1] == rank == np.linalg.matrix_rank(np.hstack([X, expected]))


@given(st.integers(0, 10_000), st.floats(1e-8, 1e8), st.booleans())
@settings(max_examples=60, deadline=None)
def test_rank_does_not_depend_on_units(seed, unit, dependent):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(30, 4))
    if dependent:
        X[:, 2] = X[:, 0] - 3 * X[:, 1]
    X[:, 1] *= unit
    names = ["a", "b", "c", "d"]
    if not dependent:
        return check_rank(X, names)
    with pytest.raises(DataError, match="'c' is a combination of 'a', 'b' "):
        check_rank(X, names)


@pytest.mark.parametrize("left, refused", [(1e-5, False), (1e-9, True)])
def test_rank_tolerance(left, refused):
    """A column of length 1 of which the others leave ``left`` unexplained, on both sides of 1e-7."""
    Q = np.linalg.qr(np.random.default_rng(0).normal(size=(50, 3)))[0]
    X = np.column_stack([Q[:, 0], Q[:, 1], Q[:, 0] + left * Q[:, 2]])
    if not refused:
        return check_rank(X, ["a", "b", "c"])
    with pytest.raises(DataError, match="'c' is a combination of 'a' "):
        check_rank(X, ["a", "b", "c"])


@pytest.mark.parametrize("power,what", [(3, "large"), (-3, "small")])
def test_numbers_whose_squares_cannot_be_held_are_refused_by_name(power, what):
    """z itself can be computed with, its third power not: NumPy's overflow, or a column that looks like zeros."""
    f = pd.DataFrame({"g": [0, 0, 1, 1], "y": [1.0, 2.0, 3.0, 5.0], "z": [1e60, 2e60, 4e60, 3e60]})
    with pytest.raises(
        DataError,
        match=rf"'I\(z \*\* {power}\)' has numbers so {what} .*squares overflow or underflow, in 4 of 4",
    ):
        design(parse(f"y ~ I(z ** {power}) + (1 | g)"), f)
    design(parse("y ~ I(z ** 2) + (1 | g)"), f)
