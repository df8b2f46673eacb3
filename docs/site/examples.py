"""The code of pages: read, made small, run; the outputs of the tutorial written below it."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

SMALL = {"m": 4, "chains": 2, "draws": 60, "tune": 30, "cycles": 3}
POSITIONAL = {"extend": 2, "iterate": 3}  # whose first argument is a number of imputations or cycles
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(page: str) -> list[str]:
    """The Python code blocks of a page."""
    return BLOCK.findall(page)


class Smaller(ast.NodeTransformer):
    """Numbers of imputations, draws and cycles that are written out, replaced by small ones."""

    def visit_Call(self, node: ast.Call) -> ast.Call:
        """Replace them in one call, and in those inside it."""
        self.generic_visit(node)
        for keyword in node.keywords:
            if keyword.arg in SMALL and isinstance(keyword.value, ast.Constant):
                keyword.value = ast.Constant(SMALL[keyword.arg])
        name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        if name == "impute" and "m" in {k.arg for k in node.keywords} and not called_bi(node):
            present = {k.arg for k in node.keywords}
            if not {"cycles", "draws"} & present:
                node.keywords.append(ast.keyword("draws", ast.Constant(SMALL["draws"])))
        if name in POSITIONAL and node.args and isinstance(node.args[0], ast.Constant):
            node.args[0] = ast.Constant(POSITIONAL[name])
        return node


def called_bi(node: ast.Call) -> bool:
    """Whether it is bi.impute, whose engine decides whether there are draws or cycles."""
    return isinstance(node.func, ast.Attribute) and ast.unparse(node.func) == "bi.impute"


def run(path: Path, *, small: bool) -> dict[str, Any]:
    """Run the blocks of a page in order, in one namespace, which is returned."""
    names: dict[str, Any] = {"__name__": "__main__"}
    for k, code in enumerate(blocks(path.read_text(encoding="utf-8")), 1):
        tree = ast.parse(code)
        tree = ast.fix_missing_locations(Smaller().visit(tree)) if small else tree
        exec(compile(tree, f"{path.name}, block {k}", "exec"), names)
    return names
