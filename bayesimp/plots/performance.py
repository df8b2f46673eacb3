"""Performance of methods over the scenarios of a study, as in the papers' figures (plots/papers.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bayesimp.errors import SpecificationError
from bayesimp.messages import suggestion
from bayesimp.plots._style import BLACK, CYCLE, GREY, SMALL, legend_below, subplots, titled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_performance"]

MARKERS = ("o", "s", "^", "v")
SPREAD = 0.7  # width that the methods at one tick take up, in ticks
COLUMNS = 3
NOMINAL = {"bias": 0.0, "coverage": 0.95, "coverage z": 0.95, "se ratio": 1.0}
WORDS = {"mean": "mean estimate", "coverage": "coverage (Barnard-Rubin)", "coverage z": "coverage (1.96 se)"}


def plot_performance(
    summary: pd.DataFrame,
    term: str,
    measure: str = "bias",
    *,
    across: str,
    panels: str | None = None,
    lines: str = "mcse",
    published: pd.DataFrame | None = None,
) -> Figure:
    """Plot one measure of one term by scenario and method.

    Parameters
    ----------
    summary
        ``StudyResult.summary()``.
    term, measure
        The rows of the summary to show.
    across, panels
        Labels of the scenarios: `across` along the axis, `panels` with one panel for each value.
    lines
        "mcse": two Monte Carlo standard errors; "se": two mean standard errors of the method, as in Kunkel & Kaizar's
        figure 5 (of means).
    published
        Published numbers to show next to ours (hollow): columns ``across``, ``panels``, method, estimate.

    Raises
    ------
    SpecificationError
        If a term, measure or label is not in the summary.
    """
    _check(summary, term, measure, across, panels, lines)
    at = summary[(summary["term"] == term) & (summary["measure"] == measure)]
    if at.duplicated(["method", across] + ([] if panels is None else [panels])).any():
        raise SpecificationError(
            f"Several scenarios have the same {across}{'' if panels is None else f' and {panels}'}; choose some first, "
            "summary[summary['...'] == ...]."
        )
    half = at.set_index(["scenario", "method"])["mcse"]
    if lines == "se":
        errors = summary[(summary["term"] == term) & (summary["measure"] == "mean se")]
        half = errors.set_index(["scenario", "method"])["value"]
    groups = [("", at)] if panels is None else list(at.groupby(panels, sort=False))
    columns = min(COLUMNS, len(groups))
    rows = -(-len(groups) // columns)
    figure, axes = subplots(
        rows, columns, figsize=(max(4.6 * columns, 6.5), 0.9 + 3.0 * rows), squeeze=False, layout="constrained"
    )  # fmt: skip
    marks = {name: _mark(k) for k, name in enumerate(dict.fromkeys(at["method"]))}
    for axis, (value, group) in zip(axes.flat, groups, strict=False):
        theirs = published
        if published is not None and panels is not None:
            theirs = published[published[panels] == value]
        _panel(axis, group, half, across, marks, theirs)
        if measure in NOMINAL:
            axis.axhline(NOMINAL[measure], color=GREY, lw=0.8, zorder=0)
        if panels is not None:
            axis.set_title(f"{panels} {value}", fontsize=SMALL)
        axis.set_xlabel(across, fontsize=SMALL)
        axis.tick_params(labelsize=SMALL)
    for axis in axes.flat[len(groups) :]:
        axis.set_visible(False)
    axes[0, 0].set_ylabel(f"{WORDS.get(measure, measure)} of {term}", fontsize=SMALL)
    _legend(figure, axes, list(marks))
    what = "two Monte Carlo standard errors" if lines == "mcse" else "two mean standard errors"
    hollow = "; hollow: published" if published is not None else ""
    n = at["n"].min() if at["n"].min() == at["n"].max() else f"{at['n'].min()} to {at['n'].max()}"
    titled(figure, f"{WORDS.get(measure, measure)} of {term}, {n} data sets; lines: {what}{hollow}")
    return figure


def _legend(figure: Figure, axes: np.ndarray, methods: list[str]) -> None:
    """Add one legend below all panels: the methods, then the truth if it is shown."""
    shown = {
        label: handle
        for axis in axes.flat
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    labels = [*methods, *(["truth"] if "truth" in shown else [])]
    legend_below(figure, [shown[label] for label in labels], labels)


def _panel(
    axis: Axes,
    group: pd.DataFrame,
    half: pd.Series,
    across: str,
    marks: dict[str, tuple[str, str]],
    published: pd.DataFrame | None,
) -> None:
    places = {value: k for k, value in enumerate(dict.fromkeys(group[across]))}
    offsets = dict(zip(marks, np.linspace(-SPREAD / 2, SPREAD / 2, len(marks)), strict=True))
    for method, part in group.groupby("method", sort=False):
        x, (colour, marker) = part[across].map(places) + offsets[method], marks[method]
        keys = pd.MultiIndex.from_arrays([part["scenario"], part["method"]])
        axis.errorbar(
            x, part["value"], yerr=2 * half.reindex(keys).to_numpy(), fmt=marker, ms=3, lw=1, color=colour,
            label=method,
        )  # fmt: skip
        if published is not None:
            theirs = published[(published["method"] == method) & published[across].isin(places)]
            x = theirs[across].map(places) + offsets[method]
            axis.plot(x, theirs["estimate"], "D", ms=4.5, mfc="none", color=colour, lw=0)
    if (group["measure"] == "mean").all():
        truth = group.drop_duplicates(across)
        x = truth[across].map(places)
        axis.hlines(truth["truth"], x - 0.5, x + 0.5, color=GREY, lw=1, zorder=0, label="truth")
    axis.set_xticks(list(places.values()), [str(value) for value in places])


def _mark(k: int) -> tuple[str, str]:
    """Colour and marker of the k-th method; the markers change where the colours begin again."""
    if k == 0:
        return BLACK, MARKERS[0]
    again, colour = divmod(k - 1, len(CYCLE) - 1)
    return CYCLE[colour], MARKERS[again % len(MARKERS)]


def _check(
    summary: pd.DataFrame, term: str, measure: str, across: str, panels: str | None, lines: str
) -> None:
    columns = {"scenario", "method", "term", "measure", "value", "mcse", "n", "truth"}
    if not isinstance(summary, pd.DataFrame) or not columns <= set(summary.columns):
        raise SpecificationError(
            f"summary is the table that result.summary() of a study gives ({', '.join(sorted(columns))}); got "
            f"{type(summary).__name__}."
        )
    for what, value in (("term", term), ("measure", measure)):
        known = list(dict.fromkeys(summary[what]))
        if value not in known:
            raise SpecificationError(f"The summary has no {what} {value!r}. {suggestion(str(value), known)}")
    for label in (across, *(() if panels is None else (panels,))):
        if label not in list(summary.columns):
            raise SpecificationError(
                f"across, panels: the scenarios have no label {label!r}. {suggestion(str(label), list(summary.columns))}"
            )
    if lines not in ("mcse", "se"):
        raise SpecificationError(f"lines is 'mcse' or 'se', got {lines!r}.")
