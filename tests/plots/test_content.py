"""Figures draw what their labels say: every row, every curve, every marker."""

from __future__ import annotations

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import bayesimp as bi
from bayesimp import plots
from bayesimp.plots._style import IMPUTED, OBSERVED, density
from bayesimp.plots.trace import scalars
from tests.plots.test_figures import check


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def imp():
    rng = np.random.default_rng(0)
    g = np.repeat(np.arange(8), 25)
    Y = rng.normal(size=(8, 2))[g] + rng.normal(size=(200, 2)) + [50, -3]
    Y[:80, 0] = np.nan  # imputed values lie away from the observed ones
    frame = pd.DataFrame(Y, columns=["a", "b"]).assign(school=g, x=np.r_[np.full(80, 4.0), np.zeros(120)])
    frame["x"] += rng.normal(size=200)
    frame["a"] += 3 * frame["x"]
    data = bi.IncompleteData(frame, "school")
    return bi.JointNormal(data, "a + b ~ x + (1 | school)").impute(m=8, seed=1, draws=60, tune=20, chains=2)


def test_every_row_of_a_trace_shows_its_own_parameter(imp):
    figure = plots.plot_trace(imp, at_most=30)
    draws = scalars(imp.tree["posterior"].to_dataset())
    titles = [ax.get_title(loc="left").split("     ")[0] for ax in figure.axes[::2]]
    assert len(titles) == len(set(titles)) == 4 + 3 + 3
    for title, left, right in zip(titles, figure.axes[::2], figure.axes[1::2], strict=True):
        values = draws[title.removesuffix(" (log scale)")]
        for chain in range(2):
            np.testing.assert_array_equal(right.lines[chain].get_ydata(), values[chain])
        low, high = left.get_xlim()
        assert low <= np.median(values) <= high


def test_rows_of_an_imputed_trace_show_their_own_clusters(imp):
    figure = plots.plot_imputed_trace(imp)
    stats = imp.tree["imputed_stats"]
    lines = [
        ax.lines[0].get_ydata() for ax in figure.axes if len(ax.lines) and len(ax.lines[0].get_ydata()) == 60
    ]
    drawn = {np.asarray(line).tobytes() for line in lines}
    assert len(drawn) == len(lines) > 1
    known = np.concatenate([stats[name].values[0].reshape(60, -1).T for name in ("mean", "sd")])
    assert drawn <= {np.ascontiguousarray(row).tobytes() for row in known}


def test_the_observed_curve_is_of_observed_values(imp):
    ax = plots.plot_imputed(imp, "a").axes[0]
    observed = imp.data.frame["a"].dropna().to_numpy()
    by_color = {
        color: [line for line in ax.lines if line.get_color() == color] for color in (OBSERVED, IMPUTED)
    }
    (curve,) = by_color[OBSERVED]
    grid, height = density(observed)
    np.testing.assert_allclose(curve.get_xdata(), grid)
    np.testing.assert_allclose(curve.get_ydata(), height)
    for line, values in zip(by_color[IMPUTED], imp.values("a"), strict=True):
        np.testing.assert_allclose(line.get_ydata(), density(values)[1])
    assert abs(observed.mean() - imp.values("a").mean()) > 5


def test_markers_of_pooled_are_estimates_between_their_limits(imp):
    pooled = imp.analyse("a ~ x + b + (1 | school)").pool()
    table = pooled.to_frame().set_index("term")
    figure = plots.plot_pooled({"imputed": pooled, "moved": table.assign(estimate=table["conf.high"])})
    axes = {ax.get_title(loc="left"): ax for ax in figure.axes if ax.get_title(loc="left")}
    assert set(axes) == set(table.index)
    for term, row in table.iterrows():
        bar, marker, _, moved, *_ = axes[term].lines
        np.testing.assert_allclose(bar.get_xdata(), [row["conf.low"], row["conf.high"]])
        np.testing.assert_allclose(marker.get_xdata(), row["estimate"])
        np.testing.assert_allclose(moved.get_xdata(), row["conf.high"])
        assert row["conf.low"] < row["estimate"] < row["conf.high"]


def long_names(studies=10):
    rng = np.random.default_rng(0)
    g = np.repeat(np.arange(studies), 15)
    levels = [f"A level of this variable that is described in words, number {k}" for k in range(4)]
    names = [
        "Systolic blood pressure at the first visit (mmHg)",
        "Highest educational qualification obtained",
    ]
    frame = pd.DataFrame({"study": [f"Randomised trial of something {k} (Somewhere {k})" for k in g]})
    frame[names[0]] = rng.normal(size=len(g)) + g
    frame[names[1]] = pd.Categorical(np.array(levels)[rng.integers(0, 4, len(g))])
    for name in names:
        frame.loc[rng.random(len(g)) < 0.2, name] = np.nan
    return bi.impute(frame, "study", m=3, cycles=6, seed=1, show=False)


@pytest.fixture(scope="module")
def long():
    return long_names()


@pytest.mark.parametrize(
    "draw",
    [plots.plot_trace, plots.plot_imputed_trace, plots.plot_imputed, lambda x: plots.plot_imputed(x, by_cluster=True)],
    ids=["trace", "imputed_trace", "imputed", "by_cluster"],
)  # fmt: skip
def test_long_names_are_neither_clipped_nor_on_each_other(long, draw):
    figure = draw(long)
    check(figure)
    assert figure.get_figwidth() <= 16


@pytest.mark.parametrize("studies", [2, 40, 60])
def test_every_study_is_named_on_the_map_of_what_is_missing(studies):
    frame = pd.DataFrame({"g": np.repeat(np.arange(studies), 4), "y": 1.0})
    frame["study"] = [f"Randomised trial of something {k} (Somewhere)" for k in frame.pop("g")]
    frame.loc[::3, "y"] = np.nan
    figure = plots.plot_missing(bi.IncompleteData(frame, "study")).figure
    check(figure)
    named = [t.get_text() for t in figure.axes[0].get_xticklabels()]
    assert len(set(named)) == studies and all(0 < len(name) <= 28 for name in named)


def test_what_has_no_interval_is_not_drawn_as_one():
    table = pd.DataFrame({"term": ["sd", "cor", "x"], "estimate": [1.0, np.nan, 2.0], "conf.low": [np.nan, np.nan, 1],
                          "conf.high": [np.nan, np.nan, 3]})  # fmt: skip
    figure = plots.plot_pooled({"a": table})
    axes = {ax.get_title(loc="left"): ax for ax in figure.axes}
    words = {term: [t.get_text() for t in ax.texts] for term, ax in axes.items()}
    assert words == {"sd": ["no interval"], "cor": ["no pooled value"], "x": []}
    markers = {
        term: sum(len(line.get_xdata()) == 1 and line.get_marker() == "o" for line in ax.lines)
        for term, ax in axes.items()
    }
    assert markers == {"sd": 1, "cor": 0, "x": 1}


def test_a_notebook_shows_a_figure_once():
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    setup = (
        "import numpy as np, pandas as pd, bayesimp as bi\n"
        "frame = pd.DataFrame({'g': np.arange(40) % 4, 'y': np.arange(40.0) ** 2})\nframe.loc[::3, 'y'] = np.nan\n"
        "imp = bi.impute(frame, 'g', m=2, cycles=4, seed=1, show=False)"
    )
    cells = [setup, "figure = bi.plot_imputed(imp)", "bi.plot_imputed(imp)", "figure", "figure, 1"]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    nbclient.NotebookClient(book, timeout=120).execute()
    pictures = [sum("image/png" in out.get("data", {}) for out in cell.outputs) for cell in book.cells]
    assert pictures == [0, 1, 1, 1, 0]


def by_study(S=5, names=str, family="normal", seed=3):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=60 * S)
    study = np.repeat(np.arange(S), 60)
    y = (0.5 + 0.4 * rng.normal(size=S))[study] * x + rng.normal(size=60 * S)
    frame = pd.DataFrame({"study": [names(s) for s in study], "x": x, "y": y, "s": (y > 0) * 1})
    frames = [frame.assign(x=x + 0.1 * rng.normal(size=60 * S)) for _ in range(3)]
    return bi.pool_by_study(frames, f"{'y' if family == 'normal' else 's'} ~ x", "study", family=family)


def forest_shows(figure, result, order="study"):
    """Every study's interval, estimate and weight in its row, the mean and the interval of a new study below."""
    ax, text = figure.axes
    studies = result.studies[result.studies["term"] == "x"]
    if order == "estimate":
        studies = studies.sort_values("estimate")
    overall = result.overall.set_index("term").loc["x"]
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels == [*map(str, studies["study"]), "overall", "new study"]
    for row, (_, study) in enumerate(studies.iterrows()):
        (line,) = [one for one in ax.lines if list(one.get_ydata()) == [row, row]]
        np.testing.assert_allclose(line.get_xdata(), study[["conf.low", "conf.high"]].to_numpy(float))
    np.testing.assert_allclose(ax.collections[0].get_offsets()[:, 0], studies["estimate"])
    sizes = ax.collections[0].get_sizes()
    np.testing.assert_allclose(sizes / sizes.sum(), studies["weight"] / studies["weight"].sum())
    np.testing.assert_allclose(ax.patches[0].get_xy()[:4, 0], overall[["conf.low", "estimate", "conf.high", "estimate"]]
                               .to_numpy(float))  # fmt: skip
    (new,) = [one for one in ax.lines if list(one.get_ydata()) == [len(studies) + 1.5] * 2]
    np.testing.assert_allclose(new.get_xdata(), overall[["pred.low", "pred.high"]].to_numpy(float))
    written = [one.get_text() for one in text.texts]
    assert [w for w in written if w.endswith(" %")] == [f"{w:.1f} %" for w in studies["weight"]] + ["100 %"]
    assert f"I\N{SUPERSCRIPT TWO} = {overall['I2']:.0%}" in figure._suptitle.get_text()


def test_a_forest_plot_shows_every_study_in_its_row():
    result = by_study()
    for order in ("study", "estimate"):
        figure = plots.plot_forest(result, "x", order=order)
        check(figure)
        forest_shows(figure, result, order)
    with pytest.raises(AssertionError):
        forest_shows(plots.plot_forest(result, "Intercept"), result)
    other = by_study(seed=4)
    with pytest.raises(AssertionError):
        forest_shows(plots.plot_forest(other, "x"), result)


def test_forest_plots_of_few_and_many_studies_with_long_names():
    few, many = by_study(2), by_study(60, lambda s: f"The study of hospital number {s:02} in the north")
    for result in (few, many):
        check(plots.plot_forest(result))
    assert plots.plot_forest(many).get_figheight() <= 20
    odds = plots.plot_forest(by_study(4, family="bernoulli"), exponentiate=True)
    check(odds)
    ticks = odds.axes[0].get_xticks()
    np.testing.assert_allclose([float(t.get_text()) for t in odds.axes[0].get_xticklabels()], np.exp(ticks))
    texts = [t.get_text() for t in plots.plot_forest(few).axes[1].texts]
    assert "three studies needed" in texts
