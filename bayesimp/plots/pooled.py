"""Pooled estimates, compared with others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import stats

from bayesimp.errors import SpecificationError
from bayesimp.messages import shortened
from bayesimp.plots._style import CYCLE, GREY, SMALL, chosen, headings, spaced, subplots, titled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_pooled"]

MARKERS = "osD^vP*"
HEADING = "information\nmissing"
WIDTH, BESIDE = 6.4, 1.0  # of the figure, and of the column of missing information, in inches


def plot_pooled(
    results: Any, terms: Sequence[str] | str | None = None, *, level: float = 0.95, at_most: int = 12
) -> Figure:
    """Plot estimates with intervals, a panel for each term, and the fraction of missing information on the right.

    Each panel has its own scale; a dotted line marks zero if it is in view.

    Parameters
    ----------
    results
        Pooled estimates, or several results by name: ``{"imputed": fits.pool(), "complete cases": fit}``. A
        result is a `Pooled`, a single `Fit`, or a table with columns term, estimate, conf.low, conf.high and
        (if there is one) fmi. Variance components are shown as standard deviations and correlations.
    terms
        Names; by default all, in the order of the first result.
    level
        Level of the intervals; tables have their own intervals.
    at_most
        Number of panels. With more terms, the first are shown, and the title says so.

    Raises
    ------
    SpecificationError
        If a result cannot be read, or no result has a term.
    """
    if not isinstance(results, Mapping):
        results = {"pooled": results}
    tables = {str(name): _table(result, level, str(name)) for name, result in results.items()}
    known = list(dict.fromkeys(term for table in tables.values() for term in table.index))
    names = chosen(terms, known, "a term")
    shown = names[:at_most]
    margin = 0.08 * max(map(len, shortened(list(tables))))
    titles = headings(shown, WIDTH - margin - BESIDE)
    height = 0.22 * len(tables) + 0.38 + 0.15 * (1 + max(title.count("\n") for title in titles))
    figure, axes = subplots(
        len(shown), 1, figsize=(WIDTH, 1.0 + height * len(shown)), layout="constrained", squeeze=False
    )
    for ax, term, title in zip(axes[:, 0], shown, titles, strict=True):
        _panel(ax, term, tables)
        ax.set_title(title, loc="left", fontsize=SMALL, fontweight="bold")
    if any(np.isfinite(table["fmi"]).any() for table in tables.values()):
        corner = axes[0, 0]
        corner.text(1.02, 1.02, HEADING, transform=corner.transAxes, ha="left", va="bottom", fontsize=SMALL)
    title = f"Estimates and {level:.0%} intervals"
    if len(shown) < len(names):
        title += f": the first {len(shown)} of {len(names)} terms"
    titled(figure, title, "on the right, the fraction of missing information")
    return figure


def _panel(ax: Axes, term: str, tables: Mapping[str, pd.DataFrame]) -> None:
    right = ax.get_yaxis_transform()
    for line, table in enumerate(tables.values()):
        if term not in table.index:
            continue
        row = table.loc[term]
        style: dict[str, Any] = {"color": CYCLE[line % len(CYCLE)], "linewidth": 1.6}
        if np.isfinite(row[["conf.low", "conf.high"]].to_numpy(float)).all():
            ax.plot([row["conf.low"], row["conf.high"]], [line, line], **style)
        elif np.isfinite(row["estimate"]):
            _say(ax, line, "no interval")
        else:
            _say(ax, line, "no pooled value")
            continue
        ax.plot(row["estimate"], line, MARKERS[line % len(MARKERS)], color=style["color"], markersize=5)
        if np.isfinite(row["fmi"]):
            ax.text(1.02, line, f"{row['fmi']:.0%}", transform=right, va="center", ha="left", fontsize=SMALL)
    spaced(ax)
    ax.margins(x=0.06)
    low, high = ax.get_xlim()
    if low < 0 < high:
        ax.axvline(0, color=GREY, linestyle=":", linewidth=1, zorder=0)
    ax.set_ylim(len(tables) - 0.5, -0.5)
    ax.set_yticks(range(len(tables)), shortened(list(tables)))
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)


def _say(ax: Axes, line: int, text: str) -> None:
    at: dict[str, Any] = {"transform": ax.get_yaxis_transform(), "ha": "right", "va": "bottom"}
    ax.text(0.99, line - 0.12, text, fontsize=SMALL, color=GREY, **at)


def _table(result: Any, level: float, name: str) -> pd.DataFrame:
    """estimate, conf.low, conf.high, fmi by term."""
    if hasattr(result, "covariance") and isinstance(getattr(result, "estimate", None), pd.Series):
        half = stats.t(result.df_residual).ppf(0.5 + level / 2) * np.sqrt(np.diag(result.covariance))
        e = result.estimate.to_numpy()
        columns = {"estimate": e, "conf.low": e - half, "conf.high": e + half, "fmi": np.nan}
        return pd.DataFrame(columns, index=result.estimate.index)
    table = result.to_frame(level) if hasattr(result, "to_frame") and hasattr(result, "fmi") else result
    if isinstance(table, pd.DataFrame):
        table = table.set_index("term") if "term" in table else table
        if "value" in table:
            table = table.drop(columns=["estimate", "conf.low", "conf.high"]).rename(
                columns={"value": "estimate", "value.low": "conf.low", "value.high": "conf.high"}
            )
        if {"estimate", "conf.low", "conf.high"} <= set(table):
            return table.assign(fmi=table["fmi"] if "fmi" in table else np.nan)[
                ["estimate", "conf.low", "conf.high", "fmi"]
            ].astype(float)
    raise SpecificationError(
        f"result {name!r}: expected a Pooled, a Fit, or a table with term, estimate, conf.low and conf.high, "
        f"got {type(result).__name__}. Give pooled estimates: fits.pool(), with "
        "fits = imp.analyse('y ~ x + (1 | cluster)')."
    )
