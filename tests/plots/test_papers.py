"""The papers' figures show the right numbers of the summary in the right places."""

from __future__ import annotations

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from bayesimp.plots.papers import FIXED, RANDOM, jolani_figures, kunkel_figures

HETEROGENEITY, STUDIES, METHODS = ("weak", "moderate", "strong"), (6, 10, 30), ("REF", "CCA")


def summary(studies=STUDIES) -> pd.DataFrame:
    """Every cell has a different value."""
    rows = itertools.product(
        ("binary", "continuous"), HETEROGENEITY, studies, (0.1, 0.3), ("MAR", "MCAR"), METHODS, [*FIXED, *RANDOM],
        ("bias", "coverage z", "rmse"),
    )  # fmt: skip
    names = ["outcome", "heterogeneity", "studies", "systematic", "mechanism", "method", "term", "measure"]
    table = pd.DataFrame(list(rows), columns=names)
    scenario = table[names[:5]].astype(str).agg(", ".join, axis=1)
    return table.assign(scenario=scenario, value=np.arange(len(table)) / 7, mcse=0.5, n=200, truth=1.0)


def drawn(figure, panel: int) -> dict[str, list[float]]:
    """Heights of the markers of a panel by method."""
    handles, labels = figure.axes[panel].get_legend_handles_labels()
    return {
        label: list(handle[0].get_ydata())
        for handle, label in zip(handles, labels, strict=True)
        if label != "truth"
    }


@pytest.fixture(scope="module")
def figures():
    out = {}
    for name, figure in jolani_figures(summary()):
        out[name] = figure
        plt.close(figure)
    return out


def test_titles_name_the_scenarios(figures):
    assert (
        figures["figure_A2"]
        .get_suptitle()
        .startswith("binary outcome, 30% systematically missing, MAR: coverage")
    )
    assert (
        figures["figure_S4"]
        .get_suptitle()
        .startswith("continuous outcome, 10% systematically missing, MAR: bias")
    )


def test_jolani_has_the_figures_of_paper_appendix_and_supplement(figures):
    letters = [f"{letter}{k}" for letter in ("", "A", "S") for k in range(1, 6)]
    assert list(figures) == [f"figure_{name}" for name in [*letters, "S6", "S7", "S8", "S9", "S10"]]


@pytest.mark.parametrize(
    ("name", "outcome", "share", "measure", "terms"),
    [
        ("figure_1", "binary", 0.1, "bias", FIXED), ("figure_A2", "binary", 0.3, "coverage z", FIXED),
        ("figure_3", "binary", 0.1, "rmse", FIXED), ("figure_A4", "binary", 0.3, "bias", RANDOM),
        ("figure_S10", "continuous", 0.3, "rmse", RANDOM),
    ],
)  # fmt: skip
def test_each_panel_is_of_one_parameter_and_heterogeneity(figures, name, outcome, share, measure, terms):
    table, figure = summary(), figures[name]
    at = (table["outcome"] == outcome) & (table["systematic"] == share) & (table["mechanism"] == "MAR")
    at &= table["measure"] == measure
    panels = list(itertools.product(terms, HETEROGENEITY))
    assert [axis.get_title() for axis in figure.axes] == [f"parameter {terms[t]}, {h}" for t, h in panels]
    for k, (term, heterogeneity) in enumerate(panels):
        here = table[at & (table["term"] == term) & (table["heterogeneity"] == heterogeneity)]
        for method, heights in drawn(figure, k).items():
            np.testing.assert_allclose(heights, here.loc[here["method"] == method, "value"])


def test_scenarios_that_the_figures_do_not_show_give_none():
    table = summary()
    assert list(jolani_figures(table[table["mechanism"] != "MAR"])) == []


def test_one_number_of_studies_gives_the_bias_of_alpha1():
    ((name, figure),) = jolani_figures(summary((10,)))
    assert name == "figure_bias" and len(figure.axes) == 3
    table = summary((10,)).query(
        "outcome == 'binary' and mechanism == 'MAR' and term == 'x1' and measure == 'bias'"
    )
    here = table[(table["heterogeneity"] == "moderate") & (table["method"] == "CCA")]
    np.testing.assert_allclose(drawn(figure, 1)["CCA"], here["value"])


def test_kunkel_and_kaizar_s_figures():
    rows = [
        (simulation, setting, psi33, method, term)
        for simulation, settings in (("2", (6, 10)), ("4", (6, 10)), ("5a", (np.nan,)), ("5b", (np.nan,)))
        for setting in settings
        for psi33 in ((np.nan, 10.0) if simulation == "2" and setting == 10 else (np.nan,))
        for method in ("Full data", "Joint")
        for term in (
            "y1",
            "y2",
            "var(z | study)" if simulation == "4" else "var(Intercept | study)",
            "var(residual)",
        )
    ]
    ours = pd.DataFrame(rows, columns=["simulation", "setting", "psi33", "method", "term"])
    scenario = ours[["simulation", "setting", "psi33"]].map(str).agg(", ".join, axis=1)
    ours = ours.assign(
        scenario=scenario, measure="mean", value=np.arange(len(ours)) / 3, mcse=0.1, n=200, truth=1.0
    )
    columns = ["table", "simulation", "setting", "method", "term", "psi33", "published"]
    theirs = pd.DataFrame([("V", "2", 6, "Joint", "var(Intercept | study)", np.nan, 9.5)], columns=columns)
    made = dict(kunkel_figures(ours, theirs))
    assert list(made) == ["figure_5", "figure_6", "figure_7"]

    def values(simulation, method, term):
        at = (ours["simulation"] == simulation) & (ours["method"] == method) & (ours["term"] == term)
        return ours.loc[at & ours["psi33"].isna(), "value"]

    np.testing.assert_allclose(
        drawn(made["figure_5"], 0)["Joint"], values("2", "Joint", "var(Intercept | study)")
    )
    np.testing.assert_allclose(drawn(made["figure_5"], 1)["Joint"], values("4", "Joint", "var(z | study)"))
    hollow = [
        line for line in made["figure_5"].axes[0].lines if line.get_marker() == "D" and len(line.get_ydata())
    ]
    assert [list(line.get_ydata()) for line in hollow] == [[9.5]]
    np.testing.assert_allclose(drawn(made["figure_6"], 1)["Full data"], values("4", "Full data", "y2"))
    sevens = [
        *values("5a", "Joint", "var(Intercept | study)"),
        *values("5b", "Joint", "var(Intercept | study)"),
    ]
    np.testing.assert_allclose(drawn(made["figure_7"], 0)["Joint"], sevens)
    plt.close("all")
