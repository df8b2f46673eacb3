"""Figures show what they claim to show, drop nothing silently, and their texts do not overlap."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import bayesimp as bi
from bayesimp import plots
from bayesimp.errors import SpecificationError
from bayesimp.plots._style import IMPUTED, OBSERVED, density
from bayesimp.plots.trace import scalars


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def table(m, r, rows=6, seed=0):
    """r responses in m clusters, missing sporadically, and the first in the whole first cluster."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(m), rows)
    Y = rng.normal(size=(m, r))[g] + rng.normal(size=(m * rows, r)) + 50
    Y[rng.random(Y.shape) < 0.1] = np.nan
    Y[g == 0, 0] = np.nan
    frame = pd.DataFrame(Y, columns=[f"a_response_of_some_length_{k}" for k in range(r)])
    return bi.IncompleteData(frame.assign(hospital=[f"hospital {k}" for k in g]), "hospital")


def impute(m, r):
    data = table(m, r)
    responses = " + ".join(name for name in data.variables)
    return bi.JointNormal(data, f"{responses} ~ 1 + (1 | hospital)").impute(
        m=8, seed=1, draws=60, tune=20, chains=2
    )


@pytest.fixture(scope="module")
def small():
    return impute(8, 2)


@pytest.fixture(scope="module")
def large():
    return impute(60, 5)


def texts(figure):
    figure.draw_without_rendering()  # places every text, as drawing does
    out = [*figure.texts, *([figure._suptitle] if figure._suptitle else [])]
    for legend in figure.legends:
        out += legend.get_texts()
    for ax in figure.axes:
        if ax.axison:
            out += [*shown(ax.xaxis), *shown(ax.yaxis), ax.xaxis.label, ax.yaxis.label]
        out += [ax.title, ax._left_title, ax._right_title, *ax.texts]
    boxes = [
        (t.get_text(), t.get_window_extent()) for t in dict.fromkeys(out) if t.get_text() and t.get_visible()
    ]
    return [(text, box) for text, box in boxes if box.width > 1]


def shown(axis):
    """Labels of the ticks within view."""
    low, high = sorted(axis.get_view_interval())
    return [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]


def check(figure):
    """No text over another, none outside the figure."""
    boxes = texts(figure)
    inside = figure.bbox.padded(3)
    assert len(boxes) > 4
    for text, b in boxes:
        assert inside.x0 <= b.x0 and b.x1 <= inside.x1 and inside.y0 <= b.y0 and b.y1 <= inside.y1, text
    pairs = [(s, t) for i, (s, a) in enumerate(boxes) for t, b in boxes[:i] if _overlap(a, b)]
    assert not pairs


def _overlap(a, b, slack=1.0):
    return min(a.x1, b.x1) - max(a.x0, b.x0) > slack and min(a.y1, b.y1) - max(a.y0, b.y0) > slack


def pooled_of(k):
    terms = [f"term {j}" for j in range(k)]
    low = np.linspace(-1, 1, k)
    columns = {"term": terms, "estimate": low + 1, "conf.low": low, "conf.high": low + 2}
    full = pd.DataFrame(columns)
    return {"imputed": full.assign(fmi=0.5), "complete cases": full, "another method": full.iloc[:1]}


DRAWN = {
    "trace": plots.plot_trace,
    "imputed_trace": plots.plot_imputed_trace,
    "imputed": plots.plot_imputed,
    "by_cluster": lambda imp: plots.plot_imputed(imp, by_cluster=True),
    "prior": plots.plot_prior_posterior,
}


@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.parametrize("size", ["small", "large"])
def test_texts(name, size, request):
    check(DRAWN[name](request.getfixturevalue(size)))


@pytest.mark.parametrize("k", [1, 3, 20])
def test_texts_of_pooled(k):
    check(plots.plot_pooled(pooled_of(k)))


def test_nothing_is_dropped_silently(large):
    title = plots.plot_trace(large, at_most=4)._suptitle.get_text()
    total = 5 + 15 + 15
    assert title.startswith(f"4 of {total} parameters")
    assert "5 of " in plots.plot_imputed_trace(large)._suptitle.get_text()
    by = plots.plot_imputed(large, by_cluster=True, at_most=7)
    possible = len(np.unique(large.data.codes[large.rows(large.responses[0])]))
    assert by.axes[0].get_title() == f"7 of {possible} clusters with imputed values"
    assert "12 of 30 quantities" in plots.plot_prior_posterior(large)._suptitle.get_text()
    assert "the first 12 of 20 terms" in plots.plot_pooled(pooled_of(20))._suptitle.get_text()


def test_trace_shows_the_draws(small):
    figure = plots.plot_trace(small, "Psi")
    psi = small.tree["posterior"]["Psi"].values
    assert len(figure.axes) == 2 * 3
    course = figure.axes[1].lines
    assert len(course) == 2
    np.testing.assert_array_equal(course[1].get_ydata(), psi[1, :, 0, 0])
    name = f"beta[Intercept, {small.responses[0]}]"
    assert plots.plot_trace(small, name).axes[0].get_title(loc="left").startswith(name)


def test_scalars_are_named_as_in_the_summary(small):
    from bayesimp.diagnostics.convergence import diagnose

    posterior = small.tree["posterior"].to_dataset()
    assert set(diagnose(posterior).index) <= set(scalars(posterior))


def test_fixed_parameters_are_left_out():
    data = table(8, 2)
    priors = bi.priors.Priors(Psi=bi.priors.Fixed(np.eye(2)))
    formula = " + ".join(data.variables) + " ~ 1 + (1 | hospital)"
    imp = bi.JointNormal(data, formula, priors).impute(m=4, seed=1, draws=20, tune=5, chains=2)
    assert len(plots.plot_trace(imp).axes) == 2 * (2 + 3)
    with pytest.raises(SpecificationError, match="no standard deviation or correlation that is not fixed"):
        plots.plot_prior_posterior(imp, "Psi")


def test_improper_priors_have_no_density():
    data = table(8, 2)
    formula = " + ".join(data.variables) + " ~ 1 + (1 | hospital)"
    imp = bi.JointNormal(data, formula, bi.priors.jomo()).impute(m=4, seed=1, draws=20, tune=5, chains=2)
    figure = plots.plot_prior_posterior(imp)
    notes = [ax.get_xlabel() for ax in figure.axes if ax.axison]
    assert notes.count("the prior is improper") == 3
    check(figure)


def test_imputed_trace_of_one_cluster(small):
    figure = plots.plot_imputed_trace(small, small.responses[0], ["hospital 0"])
    heading = figure.axes[0].get_title(loc="left")
    assert "hospital 0: all 6 missing" in heading and "R-hat of the mean" in heading
    stats = small.tree["imputed_stats"]["mean"].sel(response=small.responses[0], cluster="hospital 0").values
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_ydata(), stats[0])


def test_imputed_densities(small):
    name = small.responses[0]
    ax = plots.plot_imputed(small, name, labels={name: "score (points)"}).axes[0]
    assert ax.get_xlabel() == "score (points)"
    colours = [line.get_color() for line in ax.lines]
    assert colours.count(OBSERVED) == 1 and set(colours) == {OBSERVED, IMPUTED}
    assert ax.get_title().startswith(f"{np.isfinite(small.data.numeric(name)).sum()} observed")


def test_imputed_by_cluster_shows_quantiles_and_marks_systematic(small):
    name = small.responses[0]
    ax = plots.plot_imputed(small, name, by_cluster=True).axes[0]
    assert ax.get_yticklabels()[0].get_text() == "hospital 0"
    bands = [p for p in ax.patches if p.get_height() == 1]
    assert len(bands) == 1 and bands[0].get_y() == -0.5
    imputed = small.values(name)[:, small.data.codes[small.rows(name)] == 0]
    np.testing.assert_allclose(ax.lines[0].get_xdata(), np.quantile(imputed, [0.05, 0.95]))


def test_named_clusters_are_shown_with_or_without_imputed_values(small):
    name = small.responses[0]
    every = [str(c) for c in small.data.clusters]
    missing = np.bincount(small.data.codes[small.rows(name)], minlength=len(every))
    complete = [c for c, count in zip(every, missing, strict=True) if count == 0]
    asked = ["hospital 0", *complete[:1]]
    ax = plots.plot_imputed(small, name, by_cluster=True, clusters=asked).axes[0]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == asked and len(asked) == 2
    assert ax.get_title() == "2 clusters"


def test_few_values_are_shown_as_shares():
    from bayesimp.plots.imputed import _shares

    _, ax = plt.subplots()
    _shares(ax, np.array([0, 0, 1, 1.0]), np.array([[0, 1.0], [1, 1]]), np.array([0.0, 1.0]), ["0", "1"])
    assert [bar.get_height() for bar in ax.patches] == [0.5, 0.5]
    np.testing.assert_array_equal(ax.lines[1].get_ydata(), [0, 1])


def test_pooled_and_fit():
    frames = [table(8, 2, seed=k).frame.dropna() for k in range(3)]
    formula = "a_response_of_some_length_0 ~ a_response_of_some_length_1 + (1 | hospital)"
    fits = bi.fit_each(frames, formula)
    pooled = fits.pool()
    figure = plots.plot_pooled({"pooled": pooled, "one": fits[0]}, "Intercept")
    ax = figure.axes[0]
    np.testing.assert_allclose(ax.lines[0].get_xdata(), pooled.interval()[0])
    np.testing.assert_allclose(ax.lines[2].get_xdata().mean(), fits[0].estimate["Intercept"])
    assert f"{pooled.fmi[0]:.0%}" in [t.get_text() for t in ax.texts]
    sds = plots.plot_pooled(fits.pool_components())
    table_ = fits.pool_components().to_frame()
    np.testing.assert_allclose(
        sds.axes[0].lines[0].get_xdata(), table_.loc[0, ["value.low", "value.high"]].tolist()
    )


def test_density_is_scaled_by_the_share_within_limits():
    x = np.random.default_rng(0).exponential(size=20_000)
    grid, height = density(x, (0.0, 1.0))
    assert abs(np.trapezoid(height, grid) - (1 - np.exp(-1))) < 0.02
    assert abs(height[0] - 1) < 0.1  # the end at 0 is kept
    assert density(np.ones(5))[0].size == 0


@pytest.mark.parametrize("draw", ["plot_trace", "plot_imputed", "plot_imputed_trace", "plot_prior_posterior"])
def test_unknown_names(draw, small):
    with pytest.raises(SpecificationError, match="'nothing' is not"):
        getattr(plots, draw)(small, "nothing")


def test_unreadable_results():
    with pytest.raises(SpecificationError, match="expected a Pooled"):
        plots.plot_pooled({"x": 3})
    with pytest.raises(SpecificationError, match="'nothing' is not a term"):
        plots.plot_pooled(pooled_of(2), "nothing")


@pytest.mark.parametrize(("m", "r"), [(8, 2), (15, 4)])
def test_sensitivity_figures_with_long_names(m, r):
    data = table(m, r)
    first, *others = data.variables
    model = bi.JointNormal(data, f"{' + '.join(data.variables)} ~ 1 + (1 | hospital)")
    priors = {
        f"a rather long name of {p.name}": p
        for p in (bi.priors.default(), bi.priors.iw(5.0), bi.priors.jomo())
    }
    analysis = f"{first} ~ {' + '.join(others)} + (1 | hospital)"
    result = bi.sensitivity(model, priors, analysis=analysis, m=5, seed=1, draws=60, tune=20)
    check(plots.plot_sensitivity(result))
    check(plots.plot_sensitivity_components(result))
    check(plots.plot_power_scaling(result.power_scaling()))


def test_derived_columns_are_left_to_tables():
    """They are computed: nothing observed is shown next to imputed values, and no chain draws them."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {"study": np.repeat(list("abcdef"), 10), "y1": rng.normal(size=60), "y2": rng.normal(size=60)}
    )
    table["half"] = table["y1"] / 2
    table.loc[::4, ["y1", "half"]] = np.nan
    table.loc[1::4, "y2"] = np.nan
    model = bi.FCS(
        bi.IncompleteData(table, "study"), derived={"half": "y1 / 2", "product": "y1 * y2"}, compatible=False
    )
    imp = model.impute(m=2, cycles=8, seed=1, progress=False)
    assert [ax.get_xlabel() for ax in bi.plots.plot_imputed(imp).axes] == ["y1", "y2", "half"]
    assert bi.plots.plot_imputed_trace(imp).axes
    with pytest.raises(bi.SpecificationError, match="product"):
        bi.plots.plot_imputed(imp, "product")


def test_a_notebook_shows_a_figure_once(monkeypatch):
    """The inline backend shows figures open at the end of a cell; one that is the cell's value is closed before that."""
    figure = bi.plot_missing(table(4, 2)).figure
    assert figure.number in plt.get_fignums()
    monkeypatch.setattr(plt, "get_backend", lambda: "module://matplotlib_inline.backend_inline")
    with pytest.raises(NotImplementedError):  # so that IPython's own formatters draw it
        figure._ipython_display_()
    assert figure.number not in plt.get_fignums()


def test_names_are_drawn_as_they_are_written(recwarn):
    """Two dollar signs are not a formula; letters are taken from any font, and those that no font has are named once."""
    from matplotlib import font_manager
    from matplotlib.text import Text

    from bayesimp.plots import _letters
    from bayesimp.plots._style import subplots

    figure, ax = subplots()
    ax.set_title("from $ 5_000 to $ 9^000")
    ax.set_xlabel(
        "Москва, Αθήνα, \U0001d400, \U00012000"
    )  # a mathematical letter; a cuneiform sign, which no font has
    ax.set_yscale("log")
    ax.plot([1, 2], [1e-3, 1e3])
    figure.canvas.draw()
    figure.canvas.draw()
    assert not ax.title.get_parse_math()
    ticks = [t for t in figure.findobj(Text) if "mathdefault" in t.get_text()]
    assert ticks and all(t.get_parse_math() for t in ticks)
    said = [str(w.message) for w in recwarn if "Boxes in the figure" in str(w.message)]
    assert len(said) == 1 and "\U00012000" in said[0] and "\U0001d400" not in said[0] and "М" not in said[0]
    assert not [w for w in recwarn if "Glyph" in str(w.message)]
    names = ax.xaxis.label.get_fontfamily()
    assert len(names) > 1
    fonts = [e for e in font_manager.fontManager.ttflist if e.name in names[1:]]
    assert any(0x1D400 in _letters._letters(str(e.fname)) for e in fonts)
    plt.close(figure)
