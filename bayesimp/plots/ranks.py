"""Cumulated ranks of a calibration study, minus their expectation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesimp.messages import shortened
from bayesimp.plots._style import BLUE, GREY, SMALL, VERMILLION, subplots, titled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_ranks"]

COLUMNS, MOST = 4, 24


def plot_ranks(ranks: pd.DataFrame, band: NDArray[np.float64], title: str) -> Figure:
    """Plot one panel for each of the first 24 quantities.

    Parameters
    ----------
    ranks
        (replications, quantities), from 0.
    band
        (2, highest rank) limits of the cumulated counts of uniform ranks.
    """
    highest = band.shape[1]
    names = list(ranks.columns)[:MOST]
    rows = -(-len(names) // COLUMNS)
    figure, axes = subplots(
        rows, COLUMNS, figsize=(11, 1.2 + 1.6 * rows), sharex=True, sharey=True, squeeze=False, layout="constrained"
    )  # fmt: skip
    n = len(ranks)
    places = np.arange(1, highest + 1) / (highest + 1)
    low, high = band / n - places
    for axis, name, label in zip(axes.flat, names, shortened(names), strict=False):
        share = np.cumsum(np.bincount(ranks[name], minlength=highest + 1))[:-1] / n
        outside = ((share - places < low - 1e-9) | (share - places > high + 1e-9)).any()
        axis.fill_between(places, low, high, color="0.88", step="mid")
        axis.axhline(0, color=GREY, lw=0.8)
        axis.step(places, share - places, where="mid", color=VERMILLION if outside else BLUE, lw=1.3)
        axis.set_title(label, fontsize=SMALL)
        axis.tick_params(labelsize=SMALL)
    for axis in axes.flat[len(names) :]:
        axis.set_visible(False)
    figure.supxlabel("rank of the truth, as a share", fontsize=SMALL)
    figure.supylabel("share below, less expected", fontsize=SMALL)
    few = f"\nthe first {len(names)} of {ranks.shape[1]} quantities" if len(names) < ranks.shape[1] else ""
    titled(figure, title + few, "a line that leaves the grey area departs from uniform ranks")
    return figure
