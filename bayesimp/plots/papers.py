"""The figures of the two papers' simulation studies, from the summaries of `bayesimp reproduce`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pandas as pd

from bayesimp.plots._style import titled
from bayesimp.plots.performance import plot_performance

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["jolani_figures", "kunkel_figures"]

FIXED = {"Intercept": "alpha0", "x1": "alpha1", "x2": "alpha2"}
RANDOM = {"sd(Intercept | study)": "omega0", "sd(x1 | study)": "omega1"}
# Jolani's figures 1 to 5: measures and parameters
NUMBERED = (("bias", FIXED), ("coverage z", FIXED), ("rmse", FIXED), ("bias", RANDOM), ("rmse", RANDOM))
# and their scenarios: 1 to 5 and A1 to A5 have binary outcomes; S1 to S10 (in the supplement), continuous ones
PAGES = (
    ("binary", 0.1, "", 0),
    ("binary", 0.3, "A", 0),
    ("continuous", 0.1, "S", 0),
    ("continuous", 0.3, "S", 5),
)


def _named(summary: pd.DataFrame, terms: dict[str, str], what: str, by: str) -> pd.DataFrame:
    """The rows of these terms as one term called `what`, with a label "parameter" for each term and value of `by`."""
    rows = summary[summary["term"].isin(terms)]
    order = pd.Categorical(rows["term"], categories=list(terms), ordered=True)
    rows = rows.assign(order=order).sort_values("order", kind="stable")
    panel = rows["term"].map(terms) + (", " + rows[by].astype(str) if by else "")
    return rows.assign(parameter=panel, scenario=rows["scenario"] + ", " + rows["term"], term=what)


def jolani_figures(summary: pd.DataFrame) -> Iterator[tuple[str, Figure]]:
    """Yield figures 1 to 5 and A1 to A5 (S1 to S10 for continuous outcomes) of the scenarios that were run.

    They show bias, coverage and root mean squared error by number of studies, with a row for each parameter and a column
    for each heterogeneity. Values are missing at random; without such scenarios there is no figure. With a single number
    of studies, the bias of alpha1 is shown.

    Parameters
    ----------
    summary
        ``StudyResult.summary()`` of scenarios from `bayesimp.studies.jolani2025`.
    """
    at_random = summary[summary["mechanism"] == "MAR"]
    if at_random.empty:
        return
    if at_random["studies"].nunique() < 2:
        first = at_random[at_random["outcome"] == at_random["outcome"].iloc[0]]
        figure = plot_performance(first, "x1", "bias", across="systematic", panels="heterogeneity")
        yield "figure_bias", figure
        return
    for outcome, share, letter, more in PAGES:
        page = at_random[(at_random["outcome"] == outcome) & (at_random["systematic"] == share)]
        for number, (measure, terms) in enumerate(NUMBERED, 1 + more):
            if len(page):
                what = "fixed effects" if terms is FIXED else "standard deviations of random effects"
                rows = _named(page, terms, what, "heterogeneity")
                figure = plot_performance(rows, what, measure, across="studies", panels="parameter")
                which = f"{outcome} outcome, {share:.0%} systematically missing, MAR"
                titled(figure, f"{which}: {figure.get_suptitle()}")
                yield f"figure_{letter}{number}", figure


def kunkel_figures(summary: pd.DataFrame, table: pd.DataFrame) -> Iterator[tuple[str, Figure]]:
    """Yield figures 5 (psi in simulations 1 to 4, with the published numbers), 6 (beta_1, beta_2 in simulation 4) and 7
    (psi in simulation 5), with their names, of the simulations that were run.

    Parameters
    ----------
    summary
        ``StudyResult.summary()`` of scenarios from `bayesimp.studies.kunkel2017`, all simulations together.
    table
        The published numbers, from `bayesimp.studies.reproduce.beside`.
    """
    of_psi = summary["term"].str.fullmatch(r"var\((Intercept|z) \| study\)") & summary["psi33"].isna()
    psi = summary[of_psi].assign(term="psi")
    fifth = psi["simulation"].astype(str).str.startswith("5")
    if not fifth.all():
        theirs = table[table["term"].str.startswith("var(") & (table["term"] != "var(residual)")]
        theirs = theirs[theirs["psi33"].isna()].rename(columns={"published": "estimate"})
        ours = psi[~fifth].assign(setting=lambda frame: frame["setting"].astype(int))
        yield (
            "figure_5",
            plot_performance(ours, "psi", "mean", across="setting", panels="simulation", published=theirs),
        )
    fourth = summary[(summary["simulation"].astype(str) == "4") & summary["psi33"].isna()]
    if len(fourth):
        coefficients = {"y1": "beta_1", "y2": "beta_2"}
        rows = _named(fourth.assign(setting=fourth["setting"].astype(int)), coefficients, "coefficients", "")
        yield "figure_6", plot_performance(rows, "coefficients", "mean", across="setting", panels="parameter")
    if fifth.any():
        yield "figure_7", plot_performance(psi[fifth], "psi", "mean", across="simulation")
