"""Sphinx: no extension or theme loads anything from elsewhere when a page is viewed."""

import sys
from importlib.metadata import version as version_of
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import docstring_markup

project = "bayesimp"
author = "The bayesimp developers"
version = release = version_of("bayesimp")
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "code_links", "mathml"]
default_role = "py:obj"

html_theme = "furo"
html_math_renderer = "docutils"
html_title = f"bayesimp {release}"
html_static_path = [str(Path(__file__).parent / "static")]
html_css_files = ["site.css"]
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False
pygments_style = "friendly"

myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_class_signature = "mixed"
napoleon_google_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False


def setup(app):
    app.connect("autodoc-process-docstring", docstring_markup.before, priority=100)  # napoleon has 500
    app.connect("autodoc-process-docstring", docstring_markup.after, priority=900)
