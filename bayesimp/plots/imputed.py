"""Observed and imputed values, compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bayesimp.arguments import chosen as one_of
from bayesimp.errors import SpecificationError, must_be
from bayesimp.messages import shortened
from bayesimp.plots._imputed_clusters import by_clusters, picked
from bayesimp.plots._imputed_points import imputed_points
from bayesimp.plots._style import (
    IMPUTED,
    OBSERVED,
    SMALL,
    Array,
    chosen,
    density,
    label,
    legend_below,
    omissions,
    panel_grid,
    spaced,
    titled,
    wrapped,
)
from bayesimp.plots._variable import PlottedVariable, variable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from bayesimp.imputation.result import Imputations

__all__ = ["plot_imputed"]

TURNED = 0.9  # height of names of levels that are turned, in inches

KINDS = ("density", "strip", "scatter", "propensity")
LINES = 20  # imputations drawn separately
LEAST = 20  # imputed cells from which each imputation has a density
FEW = 12  # up to so many different values, their shares are shown instead of a density
BINS = 24  # distinct counts shown; if there are more, neighbouring counts are combined
TAIL = 0.995  # counts from this quantile on share one bin


def plot_imputed(
    imp: Imputations,
    responses: Sequence[str] | str | None = None,
    *,
    kind: str = "density",
    against: str | None = None,
    by_cluster: bool = False,
    clusters: Sequence | None = None,
    at_most: int = 25,
    labels: Mapping[str, str] | None = None,
) -> Figure:
    """Plot the distributions of observed and imputed values, over all clusters or by cluster.

    They need not agree: rows with missing values may differ from the others, which is why they are imputed
    from a model. Look for impossible values, and for clusters about which the model knows nothing.

    Parameters
    ----------
    imp
        Imputations.
    responses
        Names; all imputed ones by default.
    kind
        ``"density"``: as below. ``"strip"``: the values as points, observed ones and those of the first five
        imputations. ``"scatter"``: against another variable, in the first completed table. ``"propensity"``: against the
        probability that the value is missing given the other variables (`bayesimp.diagnostics.propensity`); missing at
        random, observed and imputed values have the same distribution wherever this probability is the same. With
        `by_cluster`, the last three have a panel for each cluster.
    against
        The other variable of a scatter plot.
    by_cluster
        If False, the observed values are compared with those of each imputation (of 20 at most, spread evenly over all
        imputations). Levels, counts and variables with few different values are shown as shares, others as densities
        (of all imputations together if fewer than 20 cells are imputed). Skewed positive variables have a logarithmic
        axis.
        If True, each cluster shows the share of the second of two levels or of each of several, or the mean of counts,
        for the observed cells and for the imputed ones (median, quartiles, 5 and 95 % quantiles over the imputations);
        for other variables it shows these quantiles of the values themselves (all imputations together). Clusters
        without observed values are shaded.
        Cluster-level variables are counted once per cluster.
    clusters
        With by_cluster: labels of the clusters to show, even if nothing is imputed there. None: all with imputed values.
    at_most
        With by_cluster: number of clusters for each response. If more have imputed values, those without any observed
        value are chosen first, then those with the most imputed values; the title says so.
    labels
        What to call the responses, with their units: ``{"written": "written examination (points)"}``.

    Raises
    ------
    SpecificationError
        If a name is not an imputed response or not a cluster, or the kind is not known.
    """
    must_be(imp, "Imputations", "plot_imputed")
    one_of(kind, "kind", KINDS)
    if against is not None and kind != "scatter":
        raise SpecificationError("plot_imputed: against= is for kind = 'scatter'.")
    # columns computed from others are left out
    there = [name for name in imp.imputed_columns if name in imp.data.variables]
    names = chosen(responses, there, "an imputed response")
    if kind != "density":
        places = None
        if by_cluster:
            places = picked(imp, names, clusters, at_most)
        return imputed_points(imp, names, kind, against, places, labels)
    if by_cluster:
        return by_clusters(imp, names, clusters, at_most, labels)
    return _densities(imp, names, labels)


def _densities(imp: Imputations, names: list[str], labels: Mapping[str, str] | None) -> Figure:
    from matplotlib.lines import Line2D

    columns = min(len(names), 3)
    width = 3.4
    lines = -(-len(names) // columns)
    below = TURNED if any(len(imp.data.levels(name)) > 2 for name in names) else 0.0
    figure, axes = panel_grid(
        len(names), lines, columns, (max(width * columns, 5), 1.5 + (2.3 + below) * lines)
    )
    shown = np.unique(np.linspace(0, imp.m - 1, min(imp.m, LINES)).round().astype(int))
    for ax, name in zip(axes.flat, names, strict=False):
        _panel(ax, variable(imp, name), shown, label(name, labels))
    handles = [
        Line2D([], [], color=OBSERVED, linewidth=2, label="observed"),
        Line2D([], [], color=IMPUTED, linewidth=0.8, label=f"imputed: {len(shown)} of {imp.m} imputations"),
    ]
    legend_below(figure, handles)
    titled(
        figure, "Observed and imputed values, a line or dash for each imputation",
        "they may differ if it depends on other variables what is missing" + omissions(figure),
    )  # fmt: skip
    return figure


def _panel(ax: Axes, of: PlottedVariable, shown: np.ndarray, called: str) -> None:
    """Draw one variable: shares of its levels, of counts or of few different values, or else densities."""
    imputed, together, scale = of.imputed[shown], "", ""
    different = np.unique(np.concatenate([of.observed, imputed.ravel()]))
    if of.distribution.is_coded:
        _shares(ax, of.observed, imputed, np.arange(len(of.levels)), [str(name) for name in of.levels])
    elif of.distribution.is_count:
        lower, names, scale = _bins(np.concatenate([of.observed, imputed.ravel()]))
        first, second = (np.searchsorted(lower, x, side="right") - 1 for x in (of.observed, imputed))
        _shares(ax, first, second, np.arange(len(lower)), names)
    elif len(different) <= FEW:
        _shares(ax, of.observed, imputed, different, [f"{v:g}" for v in different])
    else:
        _curves(ax, of.observed, imputed, of.log)
        together = ", imputations together" if imputed.shape[1] < LEAST else ""
        scale = " (log scale)" if of.log else ""
    of_what = f" {of.unit}" if of.unit == "clusters" else ""
    if ax.get_ylabel() == "share":
        ax.set_ylabel(f"share of {of.unit}", fontsize=SMALL)
    ax.set_title(
        f"{len(of.observed):,}{of_what} observed, {imputed.shape[1]:,} imputed{together}", fontsize=SMALL
    )
    ax.set_xlabel(wrapped(called + scale, 3.0, "medium"))


def _curves(ax: Axes, observed: Array, imputed: Array, log: bool = False) -> None:
    def draw(x: Array, **style: Any) -> None:
        grid, height = density(np.log(x) if log else x)
        ax.plot(np.exp(grid) if log else grid, height, **style)

    if imputed.shape[1] < LEAST:
        draw(imputed.ravel(), color=IMPUTED, linewidth=1.5)
    else:
        for x in imputed:
            draw(x, color=IMPUTED, linewidth=0.7, alpha=0.45)
    if len(observed) < LEAST:  # too few for a density: each value is a tick
        ax.plot(observed, np.zeros(len(observed)), "|", color=OBSERVED, markersize=18, markeredgewidth=1.5)
    else:
        draw(observed, color=OBSERVED, linewidth=2)
    spaced(ax)
    if log:
        ax.set_xscale("log")
    ax.set_ylim(bottom=0)
    ax.set_yticks([])
    ax.set_ylabel("density", fontsize=SMALL)


def _bins(counts: Array) -> tuple[np.ndarray, list[str], str]:
    """Smallest value and name of each bin: single counts, or ranges of equal width; the last bin takes the tail."""
    low, high = int(counts.min()), int(counts.max())
    if high - low < BINS:
        lower = np.arange(low, high + 1)
        return lower, [str(k) for k in lower], ""
    end = max(int(np.quantile(counts, TAIL)), low + 1)
    width = -(-(end - low) // (BINS - 1))
    lower = np.arange(low, end + width, width)
    return (
        lower,
        [*(str(k) for k in lower[:-1]), f"{lower[-1]}+"],
        f" (in bins of {width})" if width > 1 else "",
    )


def _shares(
    ax: Axes, observed: np.ndarray, imputed: np.ndarray, values: np.ndarray, names: list[str]
) -> None:
    """Draw bars for the shares among the observed values, and dashes for those among each imputation's values."""
    place = np.arange(len(values))
    there = max(len(observed), 1)
    ax.bar(
        place, [(observed == v).sum() / there for v in values], width=0.62, facecolor="#e6e6e6", edgecolor=OBSERVED
    )  # fmt: skip
    size = float(np.clip(70 / len(values), 4, 16))
    for x in imputed:
        ax.plot(place, [(x == v).mean() for v in values], "_", color=IMPUTED, markersize=size, alpha=0.6)
    spaced(ax)
    _name(ax, names)
    ax.set_ylim(bottom=0)
    ax.set_ylabel("share", fontsize=SMALL)


def _name(ax: Axes, names: list[str]) -> None:
    """Set named ticks: of many numbers, every second, third, ... and the last; long names are turned."""
    names = shortened(names, 20)
    crowded = -(-sum(len(name) + 2 for name in names) // 40)
    step = crowded if all(name[:1].isdigit() for name in names) else 1
    place = [k for k in range(0, len(names), step) if len(names) - 1 - k >= step] + [len(names) - 1]
    ax.set_xticks(place, [names[k] for k in place])
    if step == 1 and crowded > 1:
        ax.tick_params(axis="x", rotation=90)
