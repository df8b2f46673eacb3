"""What the figures share: colours, densities, the choice of panels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from bayesimp.errors import SpecificationError

Array = NDArray[np.float64]

# Okabe & Ito: told apart with any colour vision
BLACK, ORANGE, SKY, GREEN, BLUE, VERMILLION, PURPLE = (
    "#000000", "#e69f00", "#56b4e9", "#009e73", "#0072b2", "#d55e00", "#cc79a7",
)  # fmt: skip
CYCLE = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILLION, BLACK)
OBSERVED, IMPUTED = BLACK, VERMILLION
GREY = "#8c8c8c"
SMALL = "small"


def density(x: Array, limits: tuple[float, float] | None = None) -> tuple[Array, Array]:
    """Grid and kernel density, for draws within `limits` and scaled by their share; ends of the range kept.

    Of draws that do not move, an empty curve.
    """
    from arviz_stats.base import array_stats

    x = np.asarray(x, dtype=float)
    x = x[np.isfinite(x)]
    inside = x if limits is None else x[(x >= limits[0]) & (x <= limits[1])]
    if len(inside) < 2 or np.ptp(inside) == 0:
        return np.empty(0), np.empty(0)
    grid, height, _ = array_stats.kde(inside, grid_len=256, custom_lims=limits, bw="silverman")
    return grid, height * (len(inside) / len(x))


def label(name: str, labels: Mapping[str, str] | None) -> str:
    """What a variable is called in the figure: `labels` where given (with its unit), else its name."""
    return name if labels is None else labels.get(name, name)


def chosen(names: Sequence[str] | str | None, known: Sequence[str], what: str) -> list[str]:
    """`names`, all of `known` by default.

    Raises
    ------
    SpecificationError
        A name that is not known, or nothing to show.
    """
    asked = list(known) if names is None else [names] if isinstance(names, str) else list(names)
    for name in asked:
        if name not in known:
            raise SpecificationError(
                f"{name!r} is not {what}; there are {', '.join(map(str, known)) or 'none'}."
            )
    if not asked:
        raise SpecificationError(f"There is no {what.removeprefix('a ').removeprefix('an ')} to show.")
    return asked


def spaced(ax) -> None:
    """Without the box, and with few ticks."""
    from matplotlib.ticker import MaxNLocator

    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize=SMALL)
    ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.yaxis.set_major_locator(MaxNLocator(4))
