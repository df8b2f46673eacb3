"""Columns of splines and the like as functions of one value, against those that the package formulae makes."""

import numpy as np
import pandas as pd
import pytest
from formulae import design_matrices

import bayesimp as bi
from bayesimp.errors import SpecificationError
from bayesimp.formulas.base_columns import BaseColumns
from bayesimp.formulas.fixed_basis import fixed_basis
from bayesimp.formulas.nodes import write
from bayesimp.formulas.predictors import predictors
from bayesimp.formulas.syntax import read
from bayesimp.joint.glmm.new_table import new_table
from bayesimp.kernels.factors.columns import all_columns, all_means
from bayesimp.table.new_rows import NewRows

RNG = np.random.default_rng(7)
VALUES = {
    "normal": RNG.normal(size=200),
    "far from zero": 1e5 + 3 * RNG.gamma(1.5, size=150),
    "small": 1e-6 * RNG.normal(size=80),
    "with ties": np.round(RNG.normal(0, 3, 300)) + 0.0,
    "few": np.array([0.3, 1.1, 1.9, 2.0, 4.0, 4.1, 7.0, 9.5]),
}
TERMS = [
    "center(x)", "scale(x)", "standardize(x)", "poly(x, 1)", "poly(x, 3)", "poly(x, degree=2, raw=True)", "bs(x, df=4)",
    "bs(x, df=3)", "bs(x, 5, degree=2)", "bs(x, df=4, degree=1)", "bs(x, df=6, center=False)",
    "cr(x, df=1)", "cr(x, df=4)", "cr(x, df=4, center=False)",
]  # fmt: skip


def by_formulae(term, x, at):
    """The columns at some points, determined by x."""
    common = design_matrices(f"0 + {term}", pd.DataFrame({"x": x})).common
    return common.evaluate_new_data(pd.DataFrame({"x": at})).design_matrix


def columns(term, x, at):
    made = fixed_basis(read(term), x, "y ~ x")
    return np.column_stack([np.broadcast_to(f({"x": at}), len(at)) for _, f in made])


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize("term", TERMS)
def test_columns_are_those_of_formulae(term, kind):
    x = VALUES[kind]
    width = np.ptp(x)
    at = np.concatenate([x, RNG.uniform(x.min() - width, x.max() + width, 100)])
    expected = by_formulae(term, x, at)
    np.testing.assert_allclose(columns(term, x, at), expected, atol=1e-8 * np.abs(expected).max())


@pytest.mark.parametrize(
    "term",
    [
        "cr(x, df=3, lower_bound=-1, upper_bound=0.8)",
        "cr(x, df=5, upper_bound=1)",
        "bs(x, df=5, lower_bound=-5, upper_bound=6)",
    ],
)
def test_values_beyond_given_bounds(term):
    """cr is linear there, also for values that are observed."""
    x = VALUES["normal"]
    at = np.linspace(-4, 4, 50)
    np.testing.assert_allclose(columns(term, x, at), by_formulae(term, x, at), atol=1e-10)


def test_other_observed_values_give_other_columns():
    x, at = VALUES["normal"], np.linspace(-1, 1, 9)
    for term in TERMS:
        if "raw" not in term:
            assert np.abs(columns(term, x, at) - columns(term, x[:100], at)).max() > 1e-3


def test_the_order_of_rows_is_of_no_importance():
    x = VALUES["normal"]
    for term in TERMS:
        assert fixed_basis(read(term), x, "") == fixed_basis(read(term), RNG.permutation(x), "")


def test_names_are_those_of_the_term():
    made = fixed_basis(read("bs(log(`a b`), df=3)"), VALUES["few"], "")
    assert [write(node) for node, _ in made] == [f"bs(log(`a b`), df=3)[{k}]" for k in range(3)]
    assert made[0][1].names == ("a b",)
    assert [write(node) for node, _ in fixed_basis(read("scale(x)"), VALUES["few"], "")] == ["scale(x)"]


@pytest.mark.parametrize(
    ("term", "x", "says"),
    [
        (
            "cc(x, period=3)",
            "normal",
            r"'cc\(x, period=3\)' .* cannot be computed row by row; use poly or bs or cr",
        ),
        ("tp(x)", "normal", "use poly or bs or cr"),
        ("bs(x, df=3, degree=0)", "normal", "its degree is 0"),
        ("bs(x, df=9)", "two values", "knots coincide"),
        ("bs(x, df=2)", "normal", "df=2 is too small"),
        ("cr(x, df=30)", "few", "could not be built"),
        ("scale(x)", "constant", "two different observed values; there are 1"),
        ("scale(x)", "none", "two different observed values; there are 0"),
    ],
)
def test_refused(term, x, says):
    other = {"constant": np.ones(9), "none": np.ones(0), "two values": np.repeat([0.0, 1.0], 20)}
    with pytest.raises(SpecificationError, match=says):
        fixed_basis(read(term), {**VALUES, **other}[x], "y ~ " + term)


# -- from the formula to the columns of a model --------------------------------------------------------------


def table(seed=3, m=12, n=10):
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(m), n)
    x, z = rng.gamma(3.0, size=m * n), rng.normal(size=m * n)
    y = np.sin(x) + 0.3 * z + rng.normal(0, 0.4, m)[g] + rng.normal(0, 0.5, m * n)
    x[rng.random(m * n) < 0.3] = np.nan
    return pd.DataFrame({"g": g, "x": x, "z": z, "y": y})


FRAME = table()
FORMULA = "y ~ bs(x, df=4) * z + cr(log(x + 20), df=3)[1] + (1 + scale(x) | g)"


def columns_of(model, made):
    """Columns of the analysis at the values in a table of the model."""
    M, X = np.empty(made.divisor.shape), np.empty((len(made.V), len(made.programs.start) - 1))
    all_means(made.means, made.divisor, made.V, made.arrays.first, M)
    all_columns(made.programs, made.V, M, made.arrays.cluster, np.arange(len(X)), X)
    k = [f.response for f in model.factors].index("y")
    fixed, random = made.columns_of(k)
    return pd.DataFrame(
        np.column_stack([X[:, fixed], X[:, random]]),
        columns=[c.name for c in model.factors[k].fixed] + ["u:" + c.name for c in model.factors[k].random],
    )


def expected_columns(frame, x, at):
    bs, z = by_formulae("bs(x, df=4)", x, at), frame["z"].to_numpy()
    out = {f"bs(x, df=4)[{k}]": bs[:, k] for k in range(4)}
    out |= {f"bs(x, df=4)[{k}]:z": bs[:, k] * z for k in range(4)}
    logs = by_formulae("cr(x, df=3)", np.log(x + 20), np.log(at + 20))
    scaled = (at - x.mean()) / x.std()
    return out | {"cr(log(x + 20), df=3)[1]": logs[:, 1], "u:scale(x)": scaled}


def test_columns_of_a_joint_glmm():
    data = bi.IncompleteData(FRAME.sample(frac=1.0, random_state=1), "g", {"x": "gamma"})
    model = bi.JointGLMM(data, FORMULA)
    made = columns_of(model, model.table)
    rows, x = data.frame.iloc[model.table.row], FRAME["x"].dropna().to_numpy()
    at = rows["x"].to_numpy()
    there = rows["x"].notna().to_numpy()
    for name, values in expected_columns(rows, x, at).items():
        np.testing.assert_allclose(made[name][there], values[there], atol=1e-8, err_msg=name)


@pytest.mark.parametrize("term", ["bs(z, df=4)", "scale(z)", "poly(z, 2)", "bs(x, df=4)", "scale(x)"])
def test_new_rows_do_not_move_the_columns(term):
    """The knots and means of a model are those of its table, for complete and for imputed variables."""
    model = bi.JointGLMM(bi.IncompleteData(FRAME, "g"), f"y ~ {term} + (1 | g)")
    new = pd.DataFrame({"g": [0, 99], "x": [30.0, 40.0], "z": [9.0, -8.0], "y": [1.0, 0.0]})
    made, place = new_table(model, NewRows(model.data, new))
    found, name, own = columns_of(model, made), "z" if "z" in term else "x", place >= 0
    at, observed = new[name].to_numpy()[place[own]], FRAME[name].dropna().to_numpy()
    expected = by_formulae(term.replace("z", "x"), observed, at).reshape(2, -1)
    columns_ = [column for column in found if column.startswith(term)]
    np.testing.assert_allclose(found.loc[own, columns_], expected, atol=1e-8)


def test_columns_of_fcs():
    base = BaseColumns(bi.IncompleteData(FRAME, "g"), ("x",))
    part = predictors("y ~ bs(x, df=4) + (1 | g)").fixed
    names = [column.base for column in base.columns(part, "")[1:]]
    at = np.linspace(-5, 20, 9)
    made = np.column_stack([base.derived[name].evaluate({"x": at}) for name in names])
    np.testing.assert_allclose(
        made, by_formulae("bs(x, df=4)", FRAME["x"].dropna().to_numpy(), at), atol=1e-9
    )


# -- analyses of completed tables ----------------------------------------------------------------------------


def test_an_analysis_has_the_same_columns_in_every_table():
    imp = bi.JointGLMM(bi.IncompleteData(FRAME, "g"), "y ~ bs(x, df=4) * z").impute(
        m=3, seed=1, draws=50, progress=False
    )
    with pytest.warns(bi.StatisticalWarning, match="does not mention 'g'"):
        fits = imp.analyse("y ~ bs(x, df=4) * z")
    x = FRAME["x"].dropna().to_numpy()
    for k, fit in enumerate(fits):
        frame = imp.frame(k)
        B, z = by_formulae("bs(x, df=4)", x, frame["x"].to_numpy()), frame[["z"]].to_numpy()
        X = np.column_stack([np.ones(len(frame)), B, z, B * z])
        expected = np.linalg.lstsq(X, frame["y"].to_numpy(), rcond=None)[0]
        np.testing.assert_allclose(fit.to_frame()["estimate"], expected, rtol=1e-6)
    assert list(fits.names)[1:6] == [f"bs(x, df=4)[{k}]" for k in range(4)] + ["z"]
    told = [event for event in fits.log if event.kind == "basis of observed values"]
    assert [(event.where, event.count) for event in told] == [("bs(x, df=4)", len(x))]


def test_complete_cases_have_the_columns_of_all_observed_values():
    frame = FRAME.assign(z=FRAME["z"].mask(np.arange(len(FRAME)) % 3 == 0))
    x, rows = frame["x"].dropna().to_numpy(), frame.dropna()
    B = by_formulae("bs(x, df=4)", x, rows["x"].to_numpy())
    X = np.column_stack([np.ones(len(rows)), B, rows["z"]])
    expected = np.linalg.lstsq(X, rows["y"].to_numpy(), rcond=None)[0]
    for given in (frame, bi.IncompleteData(frame, "g")):
        options = {} if given is frame else {"cluster": None}
        fits = bi.complete_cases(given, "y ~ bs(x, df=4) + z", **options)
        np.testing.assert_allclose(fits[0].to_frame()["estimate"], expected, rtol=1e-6)


def test_predictions_have_the_columns_of_the_fit():
    imp = bi.JointGLMM(bi.IncompleteData(FRAME, "g"), "y ~ cr(x, df=3) + z + (1 | g)").impute(
        m=3, seed=1, draws=50, progress=False
    )
    fits = imp.analyse("y ~ cr(x, df=3) + z + (1 | g)")
    at = np.array([-1.0, 2.0, 12.0])
    new = pd.DataFrame({"x": at, "z": 0.5})
    X, _, _ = fits.rows.matrices(1, new.assign(g=0), fits.names)
    np.testing.assert_allclose(X[:, 1:4], by_formulae("cr(x, df=3)", FRAME["x"].dropna().to_numpy(), at))


def test_what_is_not_computed_row_by_row_is_reported():
    imp = bi.JointNormal(bi.IncompleteData(FRAME, "g"), "x ~ z + y + (1 | g)").impute(
        m=2, seed=1, progress=False
    )
    with pytest.warns(bi.StatisticalWarning, match="not linear in 'x'"):
        fits = imp.analyse("y ~ tp(x, df=3) + (1 | g)")
    told = [event for event in fits.log if event.kind == "basis of each table"]
    assert len(told) == 1 and "differ between completed tables" in told[0].message


def test_columns_of_complete_variables_are_as_before():
    imp = bi.JointNormal(bi.IncompleteData(FRAME, "g"), "x ~ z + y + (1 | g)").impute(
        m=2, seed=1, progress=False
    )
    with pytest.warns(bi.StatisticalWarning, match=r"has no bs\(z, df=4\)"):
        fits = imp.analyse("y ~ bs(z, df=4) + x + (1 | g)")
    assert not [event for event in fits.log if event.kind.startswith("basis")]


def test_polynomials_have_one_posterior_however_they_are_written():
    """Orthogonal polynomials are another basis of the same functions, and coefficients have flat priors."""
    data, found = bi.IncompleteData(FRAME, "g"), []
    for text in ("y ~ x + I(x**2) + z + (1 | g)", "y ~ poly(x, 2) + z + (1 | g)"):
        imp = bi.JointGLMM(data, text).impute(m=4, seed=2, draws=1500, progress=False)
        beta = imp.tree["posterior"]["beta_y"]
        labels = [str(v) for v in beta[beta.dims[-1]].values]
        beta = beta.values.reshape(-1, len(labels))
        rows = []
        for v in (1.0, 3.0, 6.0):
            orthogonal = by_formulae("poly(x, 2)", FRAME["x"].dropna().to_numpy(), np.array([v]))[0]
            own = {"Intercept": 1.0, "x": v, "I(x ** 2)": v**2, "z": 0.0}
            own |= {f"poly(x, 2)[{k}]": orthogonal[k] for k in (0, 1)}
            rows.append([own[label] for label in labels])
        curve = beta @ np.array(rows).T
        blocks = curve.reshape(40, -1, 3).mean(axis=1)
        found.append((curve.mean(axis=0), blocks.std(axis=0, ddof=1) / np.sqrt(40)))
    (a, se), (b, other) = found
    assert np.all(np.abs(a - b) < 4.5 * np.hypot(se, other)), (a, b, se, other)
