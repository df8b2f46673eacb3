"""What the figures share: colours, densities, the choice of panels."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bayesimp.errors import SpecificationError
from bayesimp.messages import ELLIPSIS, shortened
from bayesimp.plots._letters import as_written, without_warnings_of_glyphs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]

# Okabe & Ito's palette, which can be told apart with any colour vision
BLACK, ORANGE, SKY, GREEN, BLUE, VERMILLION, PURPLE = (
    "#000000", "#e69f00", "#56b4e9", "#009e73", "#0072b2", "#d55e00", "#cc79a7",
)  # fmt: skip
CYCLE = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILLION, BLACK)
OBSERVED, IMPUTED = BLACK, VERMILLION
GREY = "#8c8c8c"
SMALL = "small"
PER_INCH = {"small": 13.5, "medium": 11.5}  # characters per inch, a conservative estimate
WIDEST = 15.0  # greatest width of a figure, in inches
BOLD, LONGEST_HEADING = (
    0.85,
    72,
)  # width of bold type relative to `PER_INCH`; characters of the title of a panel
KEY = 0.6  # inches of a legend next to a label


@cache
def _figure_class() -> type:
    """A figure that a notebook shows only once, and that draws names as they are written.

    The inline backend shows every open figure at the end of a cell, so one that is also the value of the cell would
    appear twice. A figure that has been shown is closed.
    """
    import matplotlib.pyplot as plt
    from matplotlib.figure import Figure

    class Drawing(Figure):
        def _ipython_display_(self) -> None:
            if "inline" in plt.get_backend():
                plt.close(self)
            raise NotImplementedError  # IPython's own formatters take over

        def draw(self, renderer: Any) -> None:
            as_written(self)
            with without_warnings_of_glyphs():
                super().draw(renderer)

    return Drawing


def subplots(*args: Any, **options: Any) -> tuple[Any, Any]:
    """``plt.subplots`` with a figure that notebooks show only once."""
    import matplotlib.pyplot as plt

    return plt.subplots(*args, FigureClass=_figure_class(), **options)


def panel_grid(
    number: int, lines: int, columns: int, size: tuple[float, float], **options: Any
) -> tuple[Any, Any]:
    """A figure with a grid of axes (lines, columns), of which the first `number` are used and the others left out."""
    figure, axes = subplots(lines, columns, figsize=size, layout="constrained", squeeze=False, **options)
    for ax in axes.flat[number:]:
        ax.set_axis_off()
    return figure, axes


def titled(figure: Any, text: str, read: str = "") -> None:
    """Put a title above the figure, in as many lines as its width needs; `read`: how to read it, in a line of its own."""
    lines = f"{text}\n{read}" if read else text
    figure.suptitle(wrapped(lines, figure.get_figwidth() - 0.3, "medium"), fontsize="medium")


def omissions(figure: Any) -> str:
    """What the title adds where names have been shortened."""
    from matplotlib.text import Text

    return (
        "; … in a name: a part left out"
        if any(ELLIPSIS in t.get_text() for t in figure.findobj(Text))
        else ""
    )


def headings(names: Sequence[str], inches: float) -> list[str]:
    """Titles of panels of this width, in bold type: long names in several lines, very long ones without their middle."""
    return [wrapped(name, inches * BOLD) for name in shortened(names, LONGEST_HEADING)]


def legend_below(figure: Figure, handles: Sequence[Any], labels: Sequence[str] | None = None) -> None:
    """Add a legend below the panels, in as many columns as its labels leave room for."""
    texts = [handle.get_label() for handle in handles] if labels is None else list(labels)
    each = max(map(len, texts)) / PER_INCH[SMALL] + KEY
    columns = max(min(int(figure.get_figwidth() / each), len(texts)), 1)
    lines = [wrapped(text, figure.get_figwidth() - KEY) for text in texts]
    figure.legend(handles, lines, loc="outside lower center", ncols=columns, frameon=False, fontsize=SMALL)


def wrapped(text: str, inches: float, size: str = SMALL) -> str:
    """The text in lines no wider than so many inches; its own line breaks stay."""
    width = max(int(inches * PER_INCH[size]), 12)
    return "\n".join(textwrap.fill(line, width) for line in text.split("\n"))


def density(x: Array, limits: tuple[float, float] | None = None) -> tuple[Array, Array]:
    """Grid and kernel density of the draws within `limits`, scaled by their share; the ends of the range are kept.

    The curve is empty if the draws do not move.
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
    """What a variable is called in the figure: its entry in `labels` (with a unit) if there is one, else its name."""
    return name if labels is None else labels.get(name, name)


def chosen(names: Sequence[str] | str | None, known: Sequence[str], what: str) -> list[str]:
    """`names`, by default all of `known`.

    Raises
    ------
    SpecificationError
        If a name is not known, or there is nothing to show.
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


def spaced(ax: Axes) -> None:
    """Remove the upper and right frame, and keep few ticks."""
    from matplotlib.ticker import MaxNLocator

    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize=SMALL)
    ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.yaxis.set_major_locator(MaxNLocator(4))
