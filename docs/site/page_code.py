"""The code of pages: read, made small, run; the outputs of the tutorial written below it."""

from __future__ import annotations

import ast
import contextlib
import io
import re
import tempfile
import textwrap
import warnings
from pathlib import Path
from typing import Any

SMALL = {"m": 5, "chains": 2, "draws": 60, "tune": 30, "cycles": 3}
POSITIONAL = {"extend": 2, "iterate": 3}  # whose first argument is a number of imputations or cycles
BLOCK = re.compile(r"^```python(?P<refused> refused)?\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(page: str) -> list[str]:
    """The Python code blocks of a page."""
    return [match["code"] for match in BLOCK.finditer(page)]


class Smaller(ast.NodeTransformer):
    """Numbers of imputations, draws and cycles that are written out, replaced by small ones."""

    def visit_Call(self, node: ast.Call) -> ast.Call:
        """Replace them in one call, and in those inside it."""
        self.generic_visit(node)
        for keyword in node.keywords:
            if keyword.arg in SMALL and isinstance(keyword.value, ast.Constant):
                keyword.value = ast.Constant(SMALL[keyword.arg])
        name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        given = {keyword.arg for keyword in node.keywords}
        whole = (
            ast.unparse(node.func) != "bi.impute" or "analysis" in given
        )  # else the engine may have cycles
        if name == "impute" and whole and "m" in given and not {"cycles", "draws"} & given:
            node.keywords.append(ast.keyword("draws", ast.Constant(SMALL["draws"])))
        if name in POSITIONAL and node.args and isinstance(node.args[0], ast.Constant):
            node.args[0] = ast.Constant(POSITIONAL[name])
        return node


def run(path: Path, *, small: bool) -> dict[str, Any]:
    """Run the blocks of a page in order, in one namespace, which is returned."""
    names: dict[str, Any] = {"__name__": "__main__"}
    for k, code in enumerate(blocks(path.read_text(encoding="utf-8")), 1):
        tree = ast.parse(code)
        tree = ast.fix_missing_locations(Smaller().visit(tree)) if small else tree
        exec(compile(tree, f"{path.name}, block {k}", "exec"), names)
    return names


OUTPUT = re.compile(r"\n<!-- output -->\n.*?<!-- end -->\n", re.DOTALL)
SHOWN = ("tutorial.md", "limits.md")  # pages with outputs
WIDTH = 100  # characters of a printed table


def without_outputs(page: str) -> str:
    """A page as its author wrote it."""
    return OUTPUT.sub("", page)


def with_outputs(page: str, figures: Path, prefix: str) -> str:
    """The page with the outputs of its blocks below them, figures written into a folder; files of theirs are lost."""
    import matplotlib

    matplotlib.use("agg")
    names: dict[str, Any] = {"__name__": "__main__"}
    number = iter(range(1, 1000))

    def shown(match: re.Match[str]) -> str:
        name = f"{prefix}_{next(number)}"
        if match["refused"]:
            text, drawn = refusal(match["code"], names, name), []
        else:
            text, drawn = executed(match["code"], names, figures, name)
        parts = [f"```text\n{text.rstrip()}\n```\n" if text.strip() else ""]
        parts += [f"![{match['code'].strip().splitlines()[-1]}](figures/{name}.png)\n" for name in drawn]
        inside = "\n".join(part for part in parts if part)
        return match[0] + (f"\n\n<!-- output -->\n{inside}<!-- end -->\n".rstrip("\n") if inside else "")

    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return re.sub(r"\n{3,}", "\n\n", BLOCK.sub(shown, without_outputs(page)))


def executed(code: str, names: dict[str, Any], figures: Path, name: str) -> tuple[str, list[str]]:
    """What a block prints, with the value of its last line, and the names of the figures that it draws."""
    import matplotlib.pyplot as plt
    import pandas as pd

    tree = ast.parse(code)
    last = ast.Expression(tree.body.pop().value) if isinstance(tree.body[-1], ast.Expr) else None
    printed = io.StringIO()
    with (
        contextlib.redirect_stdout(printed),
        pd.option_context("display.width", WIDTH, "display.max_columns", 20),
    ):
        exec(compile(tree, name, "exec"), names)
        value = eval(compile(last, name, "eval"), names) if last else None
        if value is not None and not plt.get_fignums():
            print(value if isinstance(value, str) else repr(value))
    drawn = []
    for k in plt.get_fignums():
        drawn.append(name)
        plt.figure(k).savefig(
            figures / f"{name}.png", dpi=90, bbox_inches="tight", metadata={"Software": None}
        )
        plt.close(k)
    return wrapped(printed.getvalue()), drawn


def refusal(code: str, names: dict[str, Any], name: str) -> str:
    """The message of the error that a block must end in."""
    from bayesimp.errors import BayesimpError

    try:
        exec(compile(code, name, "exec"), names)
    except BayesimpError as error:
        return wrapped(f"{type(error).__name__}: {error}")
    raise ValueError(f"{name}: this is no longer refused; change the page:\n{code}")


def wrapped(text: str) -> str:
    """The same text without lines that are longer than a page is wide; tables are narrower."""
    return "\n".join(
        line
        if len(line) <= WIDTH
        else textwrap.fill(line, WIDTH, subsequent_indent="    ", break_long_words=False)
        for line in map(str.rstrip, text.rstrip().splitlines())
    )


def rewrite(docs: Path) -> int:
    """Write the outputs of the pages that show them into these pages."""
    (docs / "figures").mkdir(exist_ok=True)
    for page in (docs / name for name in SHOWN):
        text = with_outputs(page.read_text(encoding="utf-8"), docs / "figures", page.stem)
        page.write_text(text, encoding="utf-8")
    return 0
