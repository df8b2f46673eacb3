"""Mathematics as MathML, which browsers draw without a script: docutils converts it, nothing is fetched."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging

LOGGER = logging.getLogger(__name__)


def draw(self: Any, node: nodes.math | nodes.math_block) -> None:
    """Write an equation, in the text or below it; what cannot be converted is a warning, and stops the build."""
    inline = isinstance(node, nodes.math)
    try:
        text = tex2mathml(
            re.sub(r"\\textstyle\s*", "", node.astext()), as_block=not inline
        )  # a matter of size
    except MathError as error:
        LOGGER.warning("%s: %s", node.astext(), error, location=node)
        text = f"<code>{self.encode(node.astext())}</code>"
    self.body.append(text if inline else f'<div class="math">{text}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.add_html_math_renderer("docutils", (draw, None), (draw, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
