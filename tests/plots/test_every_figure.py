"""Every figure, with 3 and with 60 studies, names of 40 characters and 12 levels: legible, no larger than a page.

Figures are found, not listed: a function of `bayesimp.plots`, or a method that returns a figure, without a line in
`drawn` fails the first test. `python -m tests.plots.test_every_figure FOLDER` writes all of them as PNG, to be looked at.
"""

from __future__ import annotations

import inspect
import re
import sys
import warnings
from collections.abc import Callable

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

import bayesimp as bi
from bayesimp import compatibility as co
from bayesimp import plots
from bayesimp.diagnostics.components import components, covariance_names, view
from bayesimp.plots._style import density
from bayesimp.plots.implied_prior import variance_density
from bayesimp.studies.calibration import Calibration
from tests.plots.test_figures import check
from tests.plots.test_performance import summary
from tests.test_width import ANALYSIS, ARM, FORMULA, LEVELS, SHORT, G, X, Y, Z, classes, long

pytestmark = pytest.mark.filterwarnings("ignore::bayesimp.errors.StatisticalWarning")
KIND = long("highest qualification obtained")
LARGEST = 20.0  # inches
HELD: dict = {}  # what the figures of 3 studies are made from
SIZES = (3, 60)
QUICK = {"m": 2, "seed": 1, "chains": 2, **SHORT}


def table(studies: int, rows: int = 480) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    g, arm = np.arange(rows) % studies, rng.integers(0, 12, rows)
    x = rng.normal(size=rows)
    y = x + rng.normal(size=studies)[g] + rng.normal(size=rows)
    z = y + rng.normal(size=rows)
    y[rng.random(rows) < 0.15], z[(g == 0) | (rng.random(rows) < 0.1)] = np.nan, np.nan
    names = [long(f"study {k:02}") for k in g]
    return pd.DataFrame({Y: y, Z: z, X: x, G: names, ARM: pd.Categorical([LEVELS[k] for k in arm], LEVELS)})


def discrete(studies: int) -> bi.Imputations:
    """Imputations of a variable with 12 levels and of a count, made elsewhere."""
    rng = np.random.default_rng(1)
    frame = table(studies)[[G, X]]
    kind = pd.Categorical([LEVELS[k] for k in rng.integers(0, 12, len(frame))], LEVELS)
    full = frame.assign(**{KIND: kind, "falls": rng.poisson(3.0, len(frame)).astype(float)})
    holes, falls = rng.random((2, len(frame))) < 0.2
    original = full.assign(**{KIND: full[KIND].mask(holes), "falls": full["falls"].mask(falls)})
    made = []
    for _ in range(3):
        again = pd.Categorical([LEVELS[k] for k in rng.integers(0, 12, len(frame))], LEVELS)
        fill = pd.Series(again, index=full.index)
        counts = rng.poisson(3.0, len(frame)).astype(float)
        made.append(
            full.assign(**{KIND: full[KIND].where(~holes, fill), "falls": full["falls"].mask(falls, counts)})
        )
    families = {KIND: "categorical", "falls": "poisson"}
    return bi.read_imputations(made, G, families, original=original)


def drawn(studies: int) -> dict[str, Callable[[], object]]:
    """Every figure as users draw it, by name, or name and remark; with many studies those whose size depends on them."""
    frame = table(studies)
    data = bi.IncompleteData(frame, G)
    joint = bi.JointNormal(data, FORMULA)
    imp, other = joint.impute(m=5, seed=1, chains=2, **SHORT), discrete(studies)
    some = sorted(set(frame[G][frame[Y].isna()]))[:12]
    deltas = {Y: {name: [0, -1] for name in some}}
    each = bi.mnar(joint, deltas, by=G, analysis=ANALYSIS, combine="one at a time", **QUICK)
    rng = np.random.default_rng(2)
    ranks = pd.DataFrame(
        {f"{name} {k}": rng.integers(0, 20, 40) for name in (X, Y) for k in range(studies // 3)}
    )
    calibration = Calibration(ranks, pd.DataFrame({"quantity": list(ranks), "p": 1.0, "p.adjusted": 1.0}))
    if studies < 12:
        HELD["ranks"] = ranks
    forest = bi.pool_by_study(imp, f"`{Y}` ~ `{X}`", G)
    diagnosis, against = co.diagnose(imp), {"kind": "scatter", "against": X}
    of_studies = {
        "plot_missing": lambda: plots.plot_missing(data),
        "plot_imputed": lambda: plots.plot_imputed(imp), "plot_imputed, levels": lambda: plots.plot_imputed(other),
        "plot_imputed, clusters": lambda: plots.plot_imputed(imp, by_cluster=True),
        "plot_imputed, levels and clusters": lambda: plots.plot_imputed(other, by_cluster=True),
        "plot_imputed, clusters, scatter": lambda: plots.plot_imputed(imp, Y, by_cluster=True, **against),
        "plot_imputed_trace": lambda: plots.plot_imputed_trace(imp),
        "plot_forest": lambda: plots.plot_forest(forest), "NotAtRandom.plot": each.plot,
        "plot_diagnosis": lambda: plots.plot_diagnosis(diagnosis), "Calibration.plot": calibration.plot,
    }  # fmt: skip
    return of_studies if studies > 12 else of_studies | others(joint, imp, diagnosis)


def others(
    joint: bi.JointNormal, imp: bi.Imputations, diagnosis: co.Diagnosis
) -> dict[str, Callable[[], object]]:
    """Figures whose size depends on names, terms and levels, not on the number of studies."""
    priors = {long(f"prior {k}"): prior for k, prior in enumerate((bi.priors.default(), bi.priors.pan()))}
    sensitivity = bi.sensitivity(joint, priors, analysis=ANALYSIS, **QUICK)
    both = bi.mnar(joint, {Y: [0, -1, 1], Z: [0, -1, 1]}, analysis=ANALYSIS, combine="product", **QUICK)
    fits, S = imp.analyse(ANALYSIS), np.array([[2.0, 0.5], [0.5, 1.0]])
    compared = {long("imputed"): fits.pool(), long("the same again"): fits.pool()}
    scaled = bi.power_scaling(imp, analysis=ANALYSIS)
    lines = {"term": "x", "measure": "bias", "across": "n_studies", "panels": "kind"}
    methods = summary().assign(method=lambda t: [long(str(name)) for name in t["method"]])
    few = {"draws": 40, "seed": 1}
    implied = co.implied_prior(n=5, r=2, k=1, sds=1.0, **few)
    HELD.update(sensitivity=sensitivity, imp=imp, diagnosis=diagnosis, implied=implied)
    variances = {long("a"): bi.priors.InverseWishart(1.0, 1.0), long("b"): bi.priors.InverseWishart(5.0, 1.0)}
    return {
        "plot_imputed, strip": lambda: plots.plot_imputed(imp, kind="strip"),
        "plot_imputed, scatter": lambda: plots.plot_imputed(imp, Y, kind="scatter", against=X),
        "plot_imputed, propensity": lambda: plots.plot_imputed(imp, kind="propensity"),
        "plot_trace": lambda: plots.plot_trace(imp), "plot_prior_posterior": lambda: plots.plot_prior_posterior(imp),
        "plot_pooled": lambda: plots.plot_pooled(compared),
        "plot_pooled, components": lambda: plots.plot_pooled(fits.pool_components()),
        "plot_sensitivity": lambda: plots.plot_sensitivity(sensitivity), "Sensitivity.plot": sensitivity.plot,
        "plot_sensitivity_components": lambda: plots.plot_sensitivity_components(sensitivity),
        "Sensitivity.plot_components": sensitivity.plot_components,
        "plot_mnar": lambda: plots.plot_mnar(both), "plot_mnar_map": lambda: plots.plot_mnar_map(both, X),
        "NotAtRandom.plot_map": lambda: both.plot_map(X),
        "plot_power_scaling": lambda: plots.plot_power_scaling(scaled), "PowerScaling.plot": scaled.plot,
        "Diagnosis.plot": diagnosis.plot, "ImpliedPrior.plot": implied.plot,
        "plot_implied_prior": lambda: plots.plot_implied_prior(implied),
        "plot_implied_conditionals": lambda: plots.plot_implied_conditionals(S, names=(Y, Z)),
        "plot_predictive_qq": lambda: plots.plot_predictive_qq([(3, 5)], persons=2, **few),
        "plot_performance": lambda: plots.plot_performance(methods, **lines),
        "plot_variance_priors": lambda: plots.plot_variance_priors(variances, limit=4.0),
    }  # fmt: skip


@pytest.fixture(scope="module", params=SIZES, ids=[f"{k} studies" for k in SIZES])
def figures(request) -> dict[str, plt.Figure]:
    """All figures of a setting; each function opens one."""
    out = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, draw in drawn(request.param).items():
            before = set(plt.get_fignums())
            figure = draw()
            figure = getattr(figure, "figure", figure)
            assert set(plt.get_fignums()) - before == {figure.number}, f"{name} opens other figures"
            out[name] = figure
    yield out
    plt.close("all")


def test_every_figure_is_here(figures, request):
    if "60 studies" in request.node.callspec.id:
        return
    found = set(plots.__all__)
    for one in classes().values():
        methods = [(name, value) for name, value in vars(one).items() if inspect.isfunction(value)]
        found |= {
            f"{one.__name__}.{name}"
            for name, value in methods
            if "Figure" in str(value.__annotations__.get("return"))
        }
    found = {name for name in found if "._" not in name}
    assert len(found) > 24
    assert found == {name.partition(",")[0] for name in figures}


SAME = {
    "Sensitivity.plot",
    "Sensitivity.plot_components",
    "NotAtRandom.plot_map",
    "PowerScaling.plot",
    "Diagnosis.plot",
    "ImpliedPrior.plot",
}  # methods that call a function which is drawn as well


def test_texts_lie_inside_and_apart(figures):
    wrong = {}
    for name in figures.keys() - SAME:
        figure = figures[name]
        try:
            check(figure)
        except AssertionError as problem:
            wrong[name] = str(problem).split("\n")[0][:200]
    assert not wrong


def test_texts_that_lie_outside_or_overlap_are_noticed():
    for place, words in (
        ((0.9, 0.5), "a long text that leaves the figure " * 3),
        ((0.2, 0.98), "over the title " * 9),
    ):
        figure, ax = plt.subplots()
        ax.set_title("a title that is long enough to be overlapped by another text")
        figure.text(*place, words)
        with pytest.raises(AssertionError):
            check(figure)
        plt.close(figure)


def test_no_figure_is_larger_than_a_page(figures):
    sizes = {name: tuple(figure.get_size_inches()) for name, figure in figures.items()}
    assert not {name: size for name, size in sizes.items() if max(size) > LARGEST}


def test_a_notebook_shows_each_once(figures):
    assert all(hasattr(figure, "_ipython_display_") for figure in figures.values())


def test_what_is_left_out_is_counted(figures, request):
    if "60 studies" in request.node.callspec.id:
        said = {name: figure._suptitle.get_text() for name, figure in figures.items()}
        assert "the first 24 of 40 quantities" in said["Calibration.plot"]
        assert "the first 18 of " in said["plot_imputed, clusters, scatter"]
        assert "9 of 156 panels" in " ".join(said["NotAtRandom.plot"].split())
        for name in ("plot_imputed, clusters", "plot_imputed, levels and clusters"):
            assert all(
                re.match(r"\d+ of \d+ clusters", ax.get_title()) for ax in figures[name].axes if ax.axison
            )


@pytest.fixture(scope="module")
def tree():
    """A run as ArviZ takes it, with draws from the prior."""
    data = bi.IncompleteData(table(3, 60), G)
    imp = bi.JointNormal(data, f"`{Y}` ~ `{X}` + (1 | `{G}`)").impute(m=2, seed=1, chains=2, **SHORT)
    return imp.with_prior_draws(20).tree


BACKENDS = ("none", "matplotlib", "bokeh", "plotly")
OF_ARVIZ = ("plot_forest", "plot_trace_dist", "plot_dist", "plot_rank", "plot_prior_posterior")


@pytest.mark.parametrize("backend", BACKENDS)
def test_figures_of_arviz_take_the_tree_with_any_backend(backend, tree, tmp_path):
    """The figures of `bayesimp.plots` are drawn by matplotlib; those of ArviZ by whatever is installed."""
    import arviz as az

    for needed in {"bokeh": ["bokeh"], "plotly": ["plotly", "webcolors"]}.get(backend, []):
        pytest.importorskip(needed, reason="the extra figures is not installed")
    for name in OF_ARVIZ:
        drawn_ = getattr(az, name)(tree, var_names=["Sigma", "Psi"], backend=backend)
        figure = drawn_.viz.ds["figure"].item() if "figure" in drawn_.viz.ds else drawn_.viz["figure"].item()
        assert backend == "none" or type(figure).__module__.startswith(backend), (
            name,
            type(figure),
        )
        if backend in ("bokeh", "plotly"):
            drawn_.savefig(tmp_path / f"{name}.html")
            text = (tmp_path / f"{name}.html").read_text()
            # wrong: an empty page; each names what it shows
            assert "Psi" in text and len(text) > 5_000
    plt.close("all")


def test_shortened_names_are_explained(figures):
    """Titles of plot_imputed say that names are shortened where they are, and only there."""
    said = {}
    for name, figure in figures.items():
        if name.startswith("plot_imputed") and "trace" not in name:
            figure.canvas.draw()
            title = " ".join(figure._suptitle.get_text().split())
            labels = [t.get_text() for t in figure.findobj(Text) if t is not figure._suptitle]
            said[name] = "… in a name: a part left out" in title
            assert said[name] == any("…" in label for label in labels), name
    assert any(said.values()) and not all(said.values())


def test_each_says_how_it_is_read(figures):
    """A title of more than a name: what is drawn, and what its marks mean; or a legend."""
    silent = []
    for name, figure in figures.items():
        title = "" if figure._suptitle is None else figure._suptitle.get_text()
        if len(title.split()) < 8:
            silent.append((name, title))
    assert not silent


def panels(figure):
    return [ax for ax in figure.axes if ax.axison and ax.lines]


def rolled(names, by):
    return [*names[by:], *names[:by]]


def of_prior_posterior(figure, by):
    quantities = components(HELD["imp"], covariance_names(HELD["imp"]), correlations=True, seed=0)
    for ax, name in zip(panels(figure), rolled(list(quantities), by), strict=True):
        low, high = view(quantities[name])
        for line, x in zip(
            ax.lines, (quantities[name].prior, quantities[name].posterior.ravel()), strict=True
        ):
            np.testing.assert_allclose(line.get_ydata(), density(x, (low, high))[1])


def of_sensitivity(figure, by):
    result = HELD["sensitivity"]
    terms = list(result.table["term"].drop_duplicates())
    for ax, term in zip(panels(figure), rolled(terms, by), strict=False):
        rows = result.table[result.table["term"] == term].set_index("prior").loc[result.priors]
        marks = [line for line in ax.lines if line.get_marker() == "o"]
        bars = [line for line in ax.lines if line.get_marker() == "None" and len(set(line.get_ydata())) == 1]
        np.testing.assert_allclose([line.get_xdata()[0] for line in marks], rows["estimate"])
        np.testing.assert_allclose([line.get_xdata() for line in bars], rows[["conf.low", "conf.high"]])


def of_sensitivity_components(figure, by):
    result = HELD["sensitivity"]
    found = {prior: components(imp, seed=0) for prior, imp in result.imputations.items()}
    for ax, name in zip(panels(figure), rolled(list(found[result.priors[0]]), by), strict=True):
        marks = [line.get_xdata()[0] for line in ax.lines if line.get_marker() == "|"]
        np.testing.assert_allclose(marks, [each[name].posterior.mean() for each in found.values()])


def of_diagnosis(figure, by):
    table_ = HELD["diagnosis"].table
    for ax, k in zip(panels(figure), rolled(list(table_.index), by), strict=True):
        clusters, row = HELD["diagnosis"].clusters, table_.loc[k]
        own = clusters[(clusters.response == row.response) & (clusters.parameter == row.parameter)]
        np.testing.assert_allclose(ax.lines[1].get_ydata(), own["value"])
        np.testing.assert_allclose(ax.lines[0].get_ydata(), row["one_value"])


def of_implied_prior(figure, by):
    prior = HELD["implied"]
    for ax, name in zip(panels(figure), rolled(list(prior.joint), by), strict=True):
        low, high = ax.get_xlim()
        x = prior.joint[name]
        height = variance_density(x, high)[1] if "variance" in name else density(x, (low, high))[1]
        np.testing.assert_allclose(ax.lines[0].get_ydata(), height)


def of_calibration(figure, by):
    ranks = HELD["ranks"]
    for ax, name in zip(panels(figure), rolled(list(ranks), by), strict=True):
        share = np.cumsum(np.bincount(ranks[name], minlength=20))[:-1] / len(ranks)
        np.testing.assert_allclose(ax.lines[1].get_ydata(), share - np.arange(1, 20) / 20)


CONTENT = {
    "plot_prior_posterior": of_prior_posterior, "plot_sensitivity": of_sensitivity,
    "plot_sensitivity_components": of_sensitivity_components, "plot_diagnosis": of_diagnosis,
    "plot_implied_prior": of_implied_prior, "Calibration.plot": of_calibration,
}  # fmt: skip


def test_panels_show_what_their_titles_say(figures, request):
    """The numbers of each panel; wrong: those of the next panel. Other figures: test_content.py and the like."""
    if "60 studies" in request.node.callspec.id:
        return
    for name, content in CONTENT.items():
        content(figures[name], 0)
        with pytest.raises(AssertionError):
            content(figures[name], 1)


if __name__ == "__main__":
    from pathlib import Path

    folder = Path(sys.argv[1])
    folder.mkdir(exist_ok=True)
    warnings.simplefilter("ignore")
    for studies_ in map(int, sys.argv[3:]) if len(sys.argv) > 3 else SIZES:
        for name_, draw_ in drawn(studies_).items():
            if len(sys.argv) > 2 and sys.argv[2] not in name_:
                continue
            figure_ = draw_()
            figure_ = getattr(figure_, "figure", figure_)
            try:
                check(figure_)
                print("ok  ", studies_, name_, figure_.get_size_inches())
            except AssertionError as problem_:
                print("FAIL", studies_, name_, figure_.get_size_inches(), str(problem_).split("\n")[0][:300])
            figure_.savefig(folder / f"{name_.replace(', ', '_').replace(' ', '_')}_{studies_}.png", dpi=60)
            plt.close(figure_)
