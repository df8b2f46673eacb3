"""How far pooled estimates move with the power of the prior and of the likelihood."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bayesimp.errors import must_be
from bayesimp.messages import shortened
from bayesimp.plots._style import BLUE, GREY, ORANGE, SMALL, chosen, subplots, titled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from bayesimp.sensitivity_analysis.power_scaling import PowerScaling

__all__ = ["plot_power_scaling"]

LOOK = {"prior": (ORANGE, -0.17), "likelihood": (BLUE, 0.17)}
LONGEST = 32  # most characters shown of a term
COLUMNS = (("moves", "mc.error", "estimate"), ("low.moves", "mc.low", "lower limit"),
           ("high.moves", "mc.high", "upper limit"))  # fmt: skip


def plot_power_scaling(
    result: PowerScaling, terms: Sequence[str] | str | None = None, *, at_most: int = 14
) -> Figure:
    """Plot the changes of the pooled estimate and of both limits of its interval for each doubling of the power.

    Changes are in standard errors, with two Monte Carlo errors on each side. A point within the grey band moves by less
    than 0.05. The prior should move estimates little; the likelihood may move them if the data say more than a normal
    approximation holds. If the two move an estimate in opposite directions, prior and data are in conflict.

    Parameters
    ----------
    result
        From `bayesimp.power_scaling`.
    terms
        Names; all by default.
    at_most
        Number of rows. With more terms, those that move most with the prior are shown, and the title says so.

    Raises
    ------
    SpecificationError
        If the analysis does not have a term.
    """
    from bayesimp.sensitivity_analysis.power_scaling import NOTABLE

    must_be(result, "PowerScaling", "plot_power_scaling")
    table = result.pooled
    names = chosen(terms, list(table["term"].drop_duplicates()), "a term")
    by_prior = table[table["source"] == "prior"].set_index("term")["moves"].abs()
    most = sorted(names, key=lambda name: -np.nan_to_num(by_prior[name]))[:at_most]
    shown = [name for name in names if name in most]
    figure, axes = subplots(
        1,
        3,
        figsize=(9.4, 1.5 + 0.36 * len(shown)),
        layout="constrained",
        squeeze=False,
        sharey=True,
        sharex=True,
    )
    for ax, (column, error, title) in zip(axes[0], COLUMNS, strict=True):
        ax.axvspan(-NOTABLE, NOTABLE, color=GREY, alpha=0.25, linewidth=0, zorder=0)
        ax.axvline(0.0, color=GREY, linewidth=0.8, zorder=0)
        for source, (color, offset) in LOOK.items():
            rows = table[table["source"] == source].set_index("term")
            if len(rows):
                x, width = (rows.loc[shown, name].to_numpy(dtype=float) for name in (column, error))
                ax.errorbar(x, np.arange(len(shown)) + offset, xerr=2 * width, fmt="o", color=color, markersize=4.5,
                            linewidth=1.3, label=source)  # fmt: skip
        ax.spines[["top", "right", "left"]].set_visible(False)
        ax.tick_params(labelsize=SMALL)
        ax.tick_params(axis="y", length=0)
        ax.set_title(title, loc="left", fontsize=SMALL, fontweight="bold")
    axes[0, 0].set_ylim(len(shown) - 0.5, -0.5)
    axes[0, 0].set_yticks(range(len(shown)), shortened(shown, LONGEST))
    axes[0, 1].set_xlabel("change for each doubling, in standard errors", fontsize=SMALL)
    title = f"{result.analysis}\nif the prior, or the likelihood, counted twice ({result.m} imputations)"
    if len(shown) < len(names):
        title += f"; {len(shown)} of {len(names)} terms, those that move most with the prior"
    titled(figure, title)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, fontsize=SMALL)
    return figure
