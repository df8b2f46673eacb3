"""Names as they are written: in letters of any alphabet for which a font is installed, and with dollar signs.

matplotlib draws a box for a letter that its font lacks, and takes what is between two dollar signs for mathematics.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any
from weakref import WeakSet

from bayesimp.errors import PACKAGE, StatisticalWarning
from bayesimp.messages import listing

__all__ = ["as_written", "without_warnings_of_glyphs"]

MATHEMATICS = "\\mathdefault"  # in labels that matplotlib makes itself, such as powers of ten
BOXES = "Last Resort"  # a font whose letters are all boxes
WARNED: WeakSet[Any] = WeakSet()  # figures of which a warning has named the letters


def as_written(figure: Any) -> None:
    """Give texts of a figure the fonts that have their letters, and leave their dollar signs alone.

    Letters that no installed font has are named in a warning.
    """
    from matplotlib.font_manager import FontProperties, findfont
    from matplotlib.text import Text

    lacking: set[str] = set()
    for text in figure.findobj(Text):
        said = text.get_text()
        if said.count("$") > 1 and MATHEMATICS not in said:
            text.set_parse_math(False)
        own = _letters(findfont(FontProperties()))
        foreign = frozenset(c for c in said if ord(c) not in own and not c.isspace())
        if foreign and said.count(MATHEMATICS) == 0:
            fonts, none = _fonts_with(foreign)
            lacking |= none
            text.set_fontfamily([*FontProperties().get_family(), *fonts])
    if lacking and figure not in WARNED:
        WARNED.add(figure)
        warnings.warn(
            f"Boxes in the figure stand for letters that no installed font has: {listing(sorted(lacking), 8)}. Install a "
            "font that has them, such as those of Noto, and delete matplotlib's list of fonts "
            "(matplotlib.get_cachedir()).",
            StatisticalWarning,
            skip_file_prefixes=PACKAGE,
        )


@contextmanager
def without_warnings_of_glyphs() -> Iterator[None]:
    """One warning names all letters that are lacking; matplotlib has one for each, again and again."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .* missing from")
        yield


@cache
def _letters(path: str) -> frozenset[int]:
    from matplotlib.font_manager import get_font

    try:
        return frozenset(get_font(path).get_charmap())
    except (RuntimeError, OSError):  # not a font file after all
        return frozenset()


@cache
def _fonts_with(letters: frozenset[str]) -> tuple[tuple[str, ...], frozenset[str]]:
    """Names of installed fonts that together have these letters, and the letters that none of them has."""
    from matplotlib.font_manager import fontManager

    left, fonts = {ord(c) for c in letters}, []
    plain = (e for e in fontManager.ttflist if e.style == "normal" and e.weight in (400, "normal", "regular"))
    for entry in sorted(plain, key=lambda e: (e.name, e.fname)):
        if not left:
            break
        found = left & _letters(str(entry.fname))
        if found and not entry.name.startswith(BOXES):
            fonts.append(entry.name)
            left -= found
    return tuple(fonts), frozenset(map(chr, left))
