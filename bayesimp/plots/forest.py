"""Forest plot of a meta-analysis: studies with their intervals and weights, the overall estimate, a new study."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bayesimp.analysis.meta import StudyPooling
from bayesimp.errors import SpecificationError
from bayesimp.messages import shortened
from bayesimp.plots._style import BLUE, GREY, SMALL, VERMILLION, chosen, subplots, titled, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_forest"]

LARGEST = 90.0  # area of the heaviest study's marker, in square points
ROW = 0.24  # height of a row, in inches
TALLEST = 20.0  # height of the figure, in inches; with more studies the rows are closer together


def plot_forest(
    result: Any,
    term: str | None = None,
    *,
    exponentiate: bool = False,
    label: str | None = None,
    order: str = "study",
) -> Figure:
    """Plot the estimates of the studies, their mean and the interval for a new study.

    The areas of the squares are proportional to the weights; the diamond is the interval of the mean, and the line below
    it that of a new study. The text on the right gives estimate, interval and weight.

    Parameters
    ----------
    result
        From `bayesimp.pool_by_study`.
    term
        The coefficient; by default the last one (the intercept is the first).
    exponentiate
        Whether to label the axis with exponentials (odds ratios, rate ratios), on a logarithmic scale.
    label
        Label of the axis; the term by default.
    order
        ``"study"``, as in the table, or ``"estimate"``.

    Raises
    ------
    SpecificationError
        If `result` is not the result of `pool_by_study`, or a term or order is not known.
    """
    if not isinstance(result, StudyPooling):
        raise SpecificationError(
            f"plot_forest takes the result of bi.pool_by_study(imp, 'y ~ x', 'study'); got {type(result).__name__}."
        )
    known = list(result.overall["term"])
    name = chosen(known[-1:] if term is None else term, known, "a term")[0]
    if order not in ("study", "estimate"):
        raise SpecificationError(f"order = {order!r} is not known; choose 'study' or 'estimate'.")
    studies = result.studies[result.studies["term"] == name]
    if order == "estimate":
        studies = studies.sort_values("estimate")
    overall = result.overall.set_index("term").loc[name]
    S = len(studies)
    height = min(ROW * (S + 3) + 1.1, TALLEST)
    figure, (ax, text) = subplots(
        1, 2, figsize=(8.4, height), layout="constrained", sharey=True, width_ratios=(3, 1.35)
    )
    _studies(ax, studies)
    _summary(ax, overall, S)
    _axis(ax, studies, overall, exponentiate)
    ax.set_xlabel(wrapped(label or (f"exp({name})" if exponentiate else name), 3.4, "medium"))
    _numbers(text, studies, overall, exponentiate, result.level)
    titled(
        figure,
        _heterogeneity(overall, len(result.left_out)),
        "squares: weights; diamond: interval of the mean",
    )
    return figure


def _studies(ax: Axes, studies: pd.DataFrame) -> None:
    rows = np.arange(len(studies))
    for row, (_, study) in zip(rows, studies.iterrows(), strict=True):
        ax.plot([study["conf.low"], study["conf.high"]], [row, row], color=BLUE, linewidth=1.3, zorder=2)
    size = LARGEST * studies["weight"] / studies["weight"].max()
    ax.scatter(studies["estimate"], rows, s=size.clip(lower=3), marker="s", color=BLUE, zorder=3)


def _summary(ax: Axes, overall: pd.Series, S: int) -> None:
    at, low, high = overall["estimate"], overall["conf.low"], overall["conf.high"]
    ax.fill([low, at, high, at], [S + 0.5, S + 0.2, S + 0.5, S + 0.8], color=VERMILLION, zorder=3)
    ax.axvline(at, color=VERMILLION, linestyle="--", linewidth=0.8, zorder=0)
    if np.isfinite(overall["pred.low"]):
        ax.plot(
            [overall["pred.low"], overall["pred.high"]],
            [S + 1.5] * 2,
            color=VERMILLION,
            linewidth=3,
            alpha=0.6,
        )


def _axis(ax: Axes, studies: pd.DataFrame, overall: pd.Series, exponentiate: bool) -> None:
    S = len(studies)
    named = [*shortened([str(study) for study in studies["study"]]), "overall", "new study"]
    ax.set_yticks([*range(S), S + 0.5, S + 1.5], named, fontsize=SMALL)
    ax.set_ylim(S + 2.1, -0.9)
    ax.axhline(S - 0.25, color=GREY, linewidth=0.6)
    ax.tick_params(axis="y", length=0)
    for side in ("left", "right", "top"):
        ax.spines[side].set_visible(False)
    low, high = ax.get_xlim()
    if low < 0 < high:
        ax.axvline(0, color=GREY, linestyle=":", linewidth=1, zorder=0)
    if exponentiate:
        ticks = _round_ratios(low, high)
        ax.set_xticks(np.log(ticks), [f"{tick:g}" for tick in ticks])
        ax.set_xlim(low, high)


def _round_ratios(low: float, high: float) -> list[float]:
    """Round numbers between exp(low) and exp(high), at least three if there are so many."""
    for digits in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7), tuple(np.arange(1, 10, 0.2).round(1))):
        ticks = [
            float(f"{d}e{e}")
            for e in range(-12, 12)
            for d in digits
            if low <= np.log(float(f"{d}e{e}")) <= high
        ]
        if len(ticks) >= 3:
            return ticks
    return [float(f"{np.exp(x):.3g}") for x in np.linspace(low, high, 4)]


def _numbers(ax: Axes, studies: pd.DataFrame, overall: pd.Series, exponentiate: bool, level: float) -> None:
    """Write estimate, interval and weight on the right of every row."""
    S = len(studies)
    ax.axis("off")
    back = np.exp if exponentiate else (lambda x: x)
    style: dict[str, Any] = {
        "transform": ax.get_yaxis_transform(),
        "va": "center",
        "ha": "right",
        "fontsize": SMALL,
    }

    def write(row: float, values: Any, weight: str = "") -> None:
        numbers = [f"{back(value):.3g}" for value in values]
        text = (
            f"{numbers[0]} ({numbers[1]}, {numbers[2]})"
            if len(numbers) == 3
            else f"({numbers[0]}, {numbers[1]})"
        )
        ax.text(0.74, row, text, **style)
        ax.text(1.0, row, weight, **style)

    ax.text(0.74, -0.9, f"estimate ({level:.0%})", **style)
    ax.text(1.0, -0.9, "weight", **style)
    limits = ["estimate", "conf.low", "conf.high"]
    for row, (_, study) in enumerate(studies.iterrows()):
        write(row, study[limits], f"{study['weight']:.1f} %")
    write(S + 0.5, overall[limits], "100 %")
    if np.isfinite(overall["pred.low"]):
        write(S + 1.5, overall[["pred.low", "pred.high"]])
    else:
        ax.text(0.74, S + 1.5, "three studies needed", **style)


def _heterogeneity(overall: pd.Series, left_out: int) -> str:
    p = overall["Q.p.value"]
    shown = "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
    text = (
        f"Heterogeneity: \N{GREEK SMALL LETTER TAU}\N{SUPERSCRIPT TWO} = {overall['tau2']:.3g} "
        f"({overall['tau2.low']:.3g} to {overall['tau2.high']:.3g}), I\N{SUPERSCRIPT TWO} = {overall['I2']:.0%}\n"
        f"Q = {overall['Q']:.3g} on {overall['studies'] - 1} df, {shown}"
    )
    return text + (f"; {left_out} studies left out" if left_out else "")
