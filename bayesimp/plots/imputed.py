"""Observed values beside imputed ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from bayesimp.plots._style import GREY, IMPUTED, OBSERVED, SMALL, chosen, density, label, spaced

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from bayesimp.imputations import Imputations

__all__ = ["plot_imputed"]

LINES = 20  # imputations drawn one by one
LEAST = 20  # imputed cells for a density of each imputation
FEW = 12  # values at most, for shares of each in place of a density
OUTER, INNER = (0.05, 0.95), (0.25, 0.75)


def plot_imputed(
    imp: Imputations,
    responses: Sequence[str] | str | None = None,
    *,
    by_cluster: bool = False,
    clusters: Sequence | None = None,
    at_most: int = 25,
    labels: Mapping[str, str] | None = None,
) -> Figure:
    """Distribution of observed and of imputed values, over all clusters or cluster by cluster.

    They need not agree: rows with missing values may differ from the others, which is why they are imputed
    from a model. Look for values that cannot be, and for clusters in which the model knows nothing.

    Parameters
    ----------
    imp
        Imputations.
    responses
        Names; all imputed ones by default.
    by_cluster
        False: a density of the observed values and one of each imputation, of 20 at most (spread evenly over
        all; together where fewer than 20 cells are imputed), or the share of each value where there are few
        different ones. True: by cluster the median, quartiles, and 5 and
        95 % quantiles, of the observed values and of the imputed ones (all imputations together); clusters
        where nothing is observed are shaded.
    clusters
        With by_cluster: labels of those to show, also where nothing is imputed. None: all with imputed values.
    at_most
        With by_cluster: number of clusters by response. Where more have imputed values, all those without any
        observed value come first, then those with the most imputed values; the title says so.
    labels
        What to call responses, with their unit: ``{"written": "written examination (points)"}``.

    Raises
    ------
    SpecificationError
        Names that are not imputed responses, or not clusters.
    """
    there = [
        name for name in imp.imputed_columns if name in imp.data.variables
    ]  # not those that are derived anew
    names = chosen(responses, there, "an imputed response")
    return _clusters(imp, names, clusters, at_most, labels) if by_cluster else _densities(imp, names, labels)


def _densities(imp: Imputations, names: list[str], labels) -> Figure:
    import matplotlib.pyplot as plt
    from matplotlib.lines import Line2D

    columns = min(len(names), 3)
    width = max(3.2, *(0.1 * len(label(name, labels)) for name in names))
    lines = -(-len(names) // columns)
    figure, axes = plt.subplots(
        lines,
        columns,
        figsize=(max(width * columns, 5), 0.9 + 2.3 * lines),
        layout="constrained",
        squeeze=False,
    )
    shown = np.unique(np.linspace(0, imp.m - 1, min(imp.m, LINES)).round().astype(int))
    for ax in axes.flat[len(names) :]:
        ax.set_axis_off()
    for ax, name in zip(axes.flat, names, strict=False):
        observed = imp.data.numeric(name)
        observed = observed[np.isfinite(observed)]
        imputed = imp.values(name)[shown]
        different = np.unique(np.concatenate([observed, imputed.ravel()]))
        draw = _shares if len(different) <= FEW else _curves
        draw(ax, observed, imputed, different)
        together = ", imputations together" if draw is _curves and imputed.shape[1] < LEAST else ""
        ax.set_title(f"{len(observed):,} observed, {imputed.shape[1]:,} imputed{together}", fontsize=SMALL)
        ax.set_xlabel(label(name, labels))
    handles = [
        Line2D([], [], color=OBSERVED, linewidth=2, label="observed"),
        Line2D([], [], color=IMPUTED, linewidth=0.8, label=f"imputed: {len(shown)} of {imp.m} imputations"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize=SMALL)
    return figure


def _curves(ax: Axes, observed, imputed, different) -> None:
    if imputed.shape[1] < LEAST:
        ax.plot(*density(imputed.ravel()), color=IMPUTED, linewidth=1.5)
    else:
        for x in imputed:
            ax.plot(*density(x), color=IMPUTED, linewidth=0.7, alpha=0.45)
    ax.plot(*density(observed), color=OBSERVED, linewidth=2)
    spaced(ax)
    ax.set_ylim(bottom=0)
    ax.set_yticks([])
    ax.set_ylabel("density", fontsize=SMALL)


def _shares(ax: Axes, observed, imputed, different) -> None:
    place = np.arange(len(different))
    ax.bar(
        place, [(observed == v).mean() for v in different], width=0.6, facecolor="none", edgecolor=OBSERVED
    )
    for x in imputed:
        ax.plot(place, [(x == v).mean() for v in different], "_", color=IMPUTED, markersize=9, alpha=0.45)
    spaced(ax)
    ax.set_xticks(place, [f"{v:g}" for v in different])
    ax.set_ylabel("share of rows", fontsize=SMALL)


def _clusters(imp: Imputations, names: list[str], clusters, at_most: int, labels) -> Figure:
    import matplotlib.pyplot as plt
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    every = [str(c) for c in imp.data.clusters]
    asked = set(chosen(None if clusters is None else [str(c) for c in clusters], every, "a cluster"))
    picks = {
        name: _pick(imp, name, [c in asked for c in every], at_most, clusters is not None) for name in names
    }
    width = max(3.4, *(0.1 * len(label(name, labels)) for name in names))
    tallest = max(len(places) for places, _ in picks.values())
    chosen(None, every[:tallest], "a cluster with imputed values")
    figure, axes = plt.subplots(
        1,
        len(names),
        figsize=(max(width * len(names), 5), 1.5 + 0.27 * tallest),
        layout="constrained",
        squeeze=False,
    )
    systematic = False
    for ax, name in zip(axes.flat, names, strict=True):
        places, possible = picks[name]
        systematic |= _intervals(ax, imp, name, places, every)
        ax.set_title(_how_many(len(places), possible, clusters is not None), fontsize=SMALL)
        ax.set_xlabel(label(name, labels))
        ax.set_ylim(tallest - 0.4, -0.6)
    axes[0, 0].set_ylabel(imp.data.cluster)
    handles: list = [
        Line2D([], [], color=OBSERVED, marker="o", markersize=4, linewidth=2.5, label="observed"),
        Line2D([], [], color=IMPUTED, marker="D", markersize=4, linewidth=2.5, label="imputed"),
    ]
    if systematic:
        handles.append(Patch(facecolor=GREY, alpha=0.25, label="nothing observed (systematically missing)"))
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=SMALL)
    some = any(len(places) < possible for places, possible in picks.values())
    how = ";\nclusters with the most imputed values" if some else ""
    figure.suptitle(f"Median, quartiles, 5 and 95 % quantiles{how}", fontsize="medium")
    return figure


def _how_many(shown: int, possible: int, named: bool) -> str:
    what = "" if named else " with imputed values"
    if shown < possible:
        return f"{shown} of {possible} clusters{what}"
    return f"{shown} cluster{'' if shown == 1 else 's'}{what}"


def _pick(imp: Imputations, name: str, asked, at_most: int, named: bool) -> tuple[list[int], int]:
    """Clusters to show in their own order, and how many there are to choose from.

    Those with imputed values; all that the user named.
    """
    missing = np.bincount(imp.data.codes[imp.rows(name)], minlength=len(asked))
    possible = np.flatnonzero(((missing > 0) | named) & np.array(asked))
    first = np.lexsort((-missing[possible], missing[possible] < imp.data.sizes[possible]))
    return sorted(possible[first[:at_most]]), len(possible)


def _intervals(ax: Axes, imp: Imputations, name: str, places: list[int], every: list[str]) -> bool:
    """Intervals of the clusters, one below the other; whether one of them has nothing observed."""
    observed, codes = imp.data.numeric(name), imp.data.codes
    imputed, where = imp.values(name), imp.data.codes[imp.rows(name)]
    systematic = False
    for line, place in enumerate(places):
        seen = observed[(codes == place) & np.isfinite(observed)]
        _interval(ax, line - 0.17, seen, OBSERVED, "o")
        _interval(ax, line + 0.17, imputed[:, where == place].ravel(), IMPUTED, "D")
        if len(seen) == 0:
            systematic = True
            ax.axhspan(line - 0.5, line + 0.5, color=GREY, alpha=0.25, linewidth=0)
    spaced(ax)
    ax.set_yticks(range(len(places)), [every[k] for k in places])
    ax.tick_params(axis="y", length=0)
    return systematic


def _interval(ax: Axes, height: float, x, colour: str, marker: str) -> None:
    if len(x) == 0:
        return
    ax.plot(np.quantile(x, OUTER), [height] * 2, color=colour, linewidth=0.8)
    ax.plot(np.quantile(x, INNER), [height] * 2, color=colour, linewidth=2.5, solid_capstyle="butt")
    ax.plot(
        np.median(x),
        height,
        marker,
        color=colour,
        markersize=3.5,
        markeredgecolor="white",
        markeredgewidth=0.4,
    )
