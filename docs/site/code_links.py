"""Links from pages to the reference: code in the text that names something public leads to its description."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx

CALL = re.compile(r"(?:bi|bayesimp)\.([A-Za-z_][\w.]*)(?:\(.*\))?", re.DOTALL)


def link_code(app: Sphinx, doctree: nodes.document) -> None:
    """Wrap inline code such as ``bi.impute(...)`` in a reference to what it calls.

    References of docstrings lead to names of their own class or module only, not to an attribute of the same name.
    """
    for reference in doctree.findall(pending_xref):
        reference.attributes.pop("refspecific", None)
    for literal in list(doctree.findall(nodes.literal)):
        found = CALL.fullmatch(literal.astext())
        inside = literal.parent
        if found is None or isinstance(inside, pending_xref | nodes.reference | nodes.title):
            continue
        target = f"bayesimp.{found[1]}"
        reference = pending_xref(
            "", literal.deepcopy(), refdomain="py", reftype="obj", reftarget=target, refexplicit=True, refwarn=False,
        )  # fmt: skip
        reference["refdoc"] = app.env.docname
        literal.replace_self(reference)


def by_last_name(app: Sphinx, env: Any, node: pending_xref, content: nodes.Element) -> nodes.reference | None:
    """Where the only object of that name is described: names of classes are unique in the package."""
    if node.get("refdomain") != "py":
        return None
    last = node["reftarget"].split(".")[-1]
    domain = env.domains["py"]
    found = [(name, entry) for name, entry in domain.objects.items() if name.split(".")[-1] == last]
    top = [pair for pair in found if pair[1].objtype in ("class", "function", "exception", "data")]
    if len(top) != 1 or (node["reftarget"].count(".") and not node["reftarget"].startswith("bayesimp.")):
        return None
    name, entry = top[0]
    uri = app.builder.get_relative_uri(node["refdoc"], entry.docname) + f"#{entry.node_id}"
    return nodes.reference("", "", content, internal=True, refuri=uri, reftitle=name)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("doctree-read", link_code)
    app.connect("missing-reference", by_last_name)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
