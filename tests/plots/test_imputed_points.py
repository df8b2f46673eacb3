"""Imputed values as points: the right values at the right places, and the probability of being missing."""

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

import bayesimp as bi
from bayesimp.diagnostics import propensity
from bayesimp.diagnostics.propensity import SD, completed_numbers, missing_propensity, penalised_logistic
from bayesimp.errors import SpecificationError


@pytest.fixture(scope="module")
def imp():
    """y tends to be missing where age is high, z is missing at random, grade is complete."""
    rng = np.random.default_rng(1)
    g = np.repeat(range(8), 30)
    age = rng.normal(size=240)
    y = age + rng.normal(size=8)[g] + rng.normal(size=240)
    z = y + rng.normal(size=240)
    frame = pd.DataFrame({
        "study": [f"The {k} randomised trial of something with a long name" for k in g], "age": age,
        "grade": np.array(["a", "b", "c"])[rng.integers(0, 3, 240)], "y": y, "z": z,
    })  # fmt: skip
    frame.loc[rng.random(240) < 1 / (1 + np.exp(-2 * age)), "y"] = np.nan
    frame.loc[rng.random(240) < 0.2, "z"] = np.nan
    data = bi.IncompleteData(frame, cluster="study")
    return bi.JointNormal(data, "y + z ~ age + grade + (1 | study)").impute(
        6, seed=1, chains=2, tune=20, draws=30
    )


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def points(ax):
    return [np.asarray(each.get_offsets()) for each in ax.collections]


def at_the_mode(X, y):
    Z = np.column_stack([np.ones(len(X)), (X - X.mean(0)) / X.std(0)])

    def loss(b):
        return np.logaddexp(0, Z @ b).sum() - y @ (Z @ b) + 0.5 * (b[1:] ** 2).sum() / SD**2

    return 1 / (1 + np.exp(-Z @ minimize(loss, np.zeros(Z.shape[1]), tol=1e-12).x))


@pytest.mark.parametrize("slope", [1.0, 1000.0], ids=["overlap", "separated"])
def test_the_logistic_fit_is_the_posterior_mode(slope):
    rng = np.random.default_rng(2)
    X = rng.normal(size=(80, 2)) * [1, 50] + [0, 1000]
    y = (rng.random(80) < 1 / (1 + np.exp(-np.clip(slope * X[:, 0], -50, 50)))).astype(float)
    found = penalised_logistic(X, y)
    assert np.abs(found - at_the_mode(X, y)).max() < 1e-4
    assert ((found > 0) & (found < 1)).all() and abs(found.sum() - y.sum()) < 1e-4
    assert np.allclose(
        penalised_logistic(np.column_stack([X, np.ones(80)]), y), found
    )  # a constant column says nothing


def test_a_propensity_that_is_not_found_is_refused(monkeypatch):
    monkeypatch.setattr(propensity, "STEPS", 1)
    with pytest.raises(bi.SamplingError, match="not fitted in 1 Newton steps"):
        penalised_logistic(np.arange(20.0)[:, None], (np.arange(20) > 12).astype(float))


def test_the_propensity_is_that_of_the_other_variables(imp):
    """Computed by hand from the completed tables; y is missing where age is high, unlike z, the wrong variable."""
    data = imp.data
    by_hand = []
    for k in range(imp.m):
        full = imp.frame(k)
        X = np.column_stack([full["age"], full["grade"] == "b", full["grade"] == "c", full["z"]]).astype(
            float
        )
        by_hand.append(at_the_mode(X, data.missing("y").astype(float)))
    found = missing_propensity(imp, "y")
    assert np.abs(found - np.mean(by_hand, axis=0)).max() < 1e-4
    age = data.numeric("age")
    assert (
        np.corrcoef(age, found)[0, 1] > 0.9 > 0.75 > abs(np.corrcoef(age, missing_propensity(imp, "z"))[0, 1])
    )


def test_a_scatter_plot_has_the_values_of_the_first_completed_table(imp):
    data, rows = imp.data, imp.rows("y")
    (ax,) = bi.plot_imputed(imp, "y", kind="scatter", against="z").axes
    seen = np.flatnonzero(~data.missing("y"))
    z = imp.frame(0)["z"].to_numpy()
    observed, imputed = points(ax)
    assert np.array_equal(observed, np.column_stack([z[seen], data.numeric("y")[seen]]))
    assert np.array_equal(imputed, np.column_stack([z[rows], imp.values("y")[0]]))
    assert np.array_equal(completed_numbers(imp, "z", 2), imp.frame(2)["z"])
    assert ax.get_xlabel() == "z" and ax.get_ylabel() == "y"


def test_a_propensity_plot_has_values_at_their_probability(imp):
    (ax,) = bi.plot_imputed(imp, "y", kind="propensity", labels={"y": "y (mm)"}).axes
    observed, imputed = points(ax)
    p = missing_propensity(imp, "y")
    assert np.array_equal(imputed, np.column_stack([p[imp.rows("y")], imp.values("y")[0]]))
    assert len(observed) == (~imp.data.missing("y")).sum() and ax.get_ylabel() == "y (mm)"


def test_strips_are_one_for_each_imputation(imp):
    (ax,) = bi.plot_imputed(imp, "z", kind="strip").axes
    drawn = points(ax)
    assert len(drawn) == 6
    for k, each in enumerate(drawn):
        y = imp.data.numeric("z")[~imp.data.missing("z")] if k == 0 else imp.values("z")[k - 1]
        assert np.array_equal(each[:, 1], y) and (np.abs(each[:, 0] - k) <= 0.3).all()
    assert [t.get_text() for t in ax.get_xticklabels()] == ["obs.", "1", "2", "3", "4", "5"]


def test_by_cluster_a_panel_has_the_rows_of_its_cluster(imp):
    names = [str(c) for c in imp.data.clusters]
    figure = bi.plot_imputed(
        imp, "y", kind="scatter", against="age", by_cluster=True, clusters=[names[5], names[2]]
    )
    age = imp.data.numeric("age")
    for ax, place in zip(figure.axes, (2, 5), strict=True):
        of = set(age[imp.data.codes == place])
        assert sum(map(len, points(ax))) == 30 and {x for each in points(ax) for x in each[:, 0]} == of
        assert f"The {place} " in ax.get_title()
    many = bi.plot_imputed(imp, kind="strip", by_cluster=True)
    assert sum(ax.axison for ax in many.axes) == 16
    many.canvas.draw()
    box = many.bbox
    for ax in (ax for ax in many.axes if ax.axison):
        for text in (ax.title, ax.xaxis.label, ax.yaxis.label):
            extent = text.get_window_extent()
            assert (
                extent.x0 >= -1
                and extent.x1 <= box.width + 1
                and extent.y0 >= -1
                and extent.y1 <= box.height + 1
            )


def test_levels_are_named(imp):
    (ax,) = bi.plot_imputed(imp, "y", kind="scatter", against="grade").axes
    assert [t.get_text() for t in ax.get_xticklabels()] == ["a", "b", "c"]


@pytest.mark.parametrize(
    "options, says",
    [
        ({"kind": "violin"}, "kind must be 'density', 'strip', 'scatter' or 'propensity', got 'violin'"),
        ({"kind": "scatter"}, "name it: against='age'"),
        ({"kind": "scatter", "against": "agee"}, "Did you mean 'age'"),
        ({"kind": "scatter", "against": "y", "responses": "y"}, "the variable itself"),
        ({"against": "age"}, "against= is for kind = 'scatter'"),
        ({"kind": "strip", "by_cluster": True, "clusters": ["x"]}, "'x' is not a cluster"),
    ],
)
def test_what_is_refused(imp, options, says):
    with pytest.raises(SpecificationError, match=says):
        bi.plot_imputed(imp, **options)
