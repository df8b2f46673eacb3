"""Quantiles of the predictions of the joint model against those of the conditional model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from bayesimp import priors as pr
from bayesimp.arguments import generator, numbers, pair, whole
from bayesimp.compatibility.predictive import predictive_draws, simulate_pair
from bayesimp.compatibility.published import kunkel_kaizar
from bayesimp.errors import SpecificationError
from bayesimp.plots._style import BLUE, GREY, SMALL, VERMILLION, subplots, titled, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_predictive_qq"]

DESIGNS = ((10, 5), (30, 5), (10, 30), (30, 30))
LEVELS = np.concatenate([[0.0025, 0.005, 0.01, 0.02], np.arange(0.04, 0.5, 0.04)])
LEVELS = np.concatenate([LEVELS, [0.5], 1 - LEVELS[::-1]])


def plot_predictive_qq(
    designs: Sequence[tuple[int, int]] = DESIGNS,
    persons: int = 4,
    *,
    Sigma: ArrayLike | None = None,
    Psi: ArrayLike | None = None,
    joint: pr.Priors | None = None,
    fcs: pr.Priors | None = None,
    draws: int = 10_000,
    seed: int = 0,
) -> Figure:
    """Plot quantiles of the predictions of a new y1 given y2: joint model against conditional model (MICE-IW).

    For each design one complete table is simulated, and `persons` rows are drawn from different clusters of it. Points
    run from the 0.25 % to the 99.75 % quantile; on the line the two predictions agree. Vermillion points differ by more
    than Monte Carlo error: they lie outside the grey band, which covers 95 % at each point for independent draws.
    Without arguments this is Kunkel & Kaizar's figure 3: `pan` against `mice` priors.

    Parameters
    ----------
    designs
        (rows per cluster, clusters) of each simulated table; each has one row of panels.
    persons
        Number of panels in a row.
    Sigma, Psi
        (2, 2) covariances of the simulated tables; by default those of Kunkel & Kaizar's figure 3.
    joint, fcs
        Priors, see `bayesimp.compatibility.predictive_draws`.
    draws, seed
        Number of posterior draws of each model; seed of data, persons and draws.

    Raises
    ------
    SpecificationError
        If a design, number or matrix is invalid.
    """
    published = kunkel_kaizar(0.85, 0.65 * np.sqrt(122 * 147), 1 / 1.75)
    Sigma, Psi = (b if a is None else a for a, b in zip((Sigma, Psi), published, strict=True))
    if not isinstance(designs, Sequence) or isinstance(designs, str) or not len(designs):
        raise SpecificationError(f"designs must be pairs (rows per cluster, clusters), got {designs!r}.")
    pairs = [pair(design, "designs: rows per cluster and clusters") for design in designs]
    designs = [(whole(n, "designs: rows per cluster"), whole(m, "designs: clusters", 2)) for n, m in pairs]
    Sigma, Psi = numbers(Sigma, "Sigma", (2, 2)), numbers(Psi, "Psi", (2, 2))
    joint, fcs = pr.read("pan" if joint is None else joint), pr.read("mice" if fcs is None else fcs)
    rng, persons, draws = generator(seed), whole(persons, "persons"), whole(draws, "draws")
    figure, axes = subplots(
        len(designs),
        persons,
        figsize=(2.1 * persons, 0.9 + 2.0 * len(designs)),
        layout="constrained",
        squeeze=False,
    )
    for line, (n, m) in zip(axes, designs, strict=True):
        frame = simulate_pair(m, n, Sigma, Psi, seed=int(rng.integers(2**31)))
        clusters = rng.choice(m, persons, replace=persons > m)
        rows = clusters * n + rng.integers(n, size=persons)
        both = predictive_draws(frame, rows, joint=joint, fcs=fcs, draws=draws, seed=int(rng.integers(2**31)))
        for ax, row, a, b in zip(line, both.rows, both.joint, both.fcs, strict=True):
            _panel(ax, a, b)
            ax.set_title(f"cluster {row // n + 1}, row {row % n + 1}", fontsize="x-small")
        line[-1].annotate(
            f"{m} clusters of {n} rows",
            (1.06, 0.5),
            xycoords="axes fraction",
            rotation=270,
            va="center",
            fontsize=SMALL,
        )
    width, height = figure.get_size_inches()
    across = f"quantiles of y1 under the joint model, prior '{both.names[0]}'"
    up = f"quantiles of y1 under the conditional model, prior '{both.names[1]}'"
    figure.supxlabel(wrapped(across, width - 0.6), fontsize=SMALL)
    figure.supylabel(wrapped(up, height - 0.9), fontsize=SMALL)
    titled(
        figure,
        "Predictions of y1 given y2, with the same complete data",
        "orange: further apart than chance explains",
    )
    return figure


def _panel(ax: Axes, joint: np.ndarray, fcs: np.ndarray) -> None:
    from matplotlib.ticker import MaxNLocator

    x, y = (np.quantile(v, LEVELS) for v in (joint, fcs))
    # the difference of two estimated quantiles, by the sd of the share of draws below
    off = 1.96 * np.sqrt(LEVELS * (1 - LEVELS) * (1 / len(joint) + 1 / len(fcs)))
    low, high = (np.quantile(joint, np.clip(LEVELS + sign * off, 0, 1)) for sign in (-1, 1))
    limits = min(x[0], y[0], low[0]), max(x[-1], y[-1], high[-1])
    room = 0.04 * (limits[1] - limits[0])
    limits = limits[0] - room, limits[1] + room
    ax.fill_between(x, low, high, color=GREY, alpha=0.35, linewidth=0)
    ax.plot(limits, limits, color=GREY, linewidth=0.8)
    outside = (y < low) | (y > high)
    ax.plot(x[~outside], y[~outside], "o", color=BLUE, markersize=2.6)
    ax.plot(x[outside], y[outside], "o", color=VERMILLION, markersize=2.6)
    ax.set(xlim=limits, ylim=limits, aspect="equal")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(3))
    ax.tick_params(labelsize="x-small")
    ax.spines[["top", "right"]].set_visible(False)
