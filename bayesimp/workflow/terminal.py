"""What the command line prints: lines that fit, advice in the words of plans, help and usage errors."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence

from bayesimp.workflow.words import in_plan_words

__all__ = ["Parser", "say", "without_markdown"]

WIDTH = 100  # as in bayesimp/layout.py, which loads NumPy


def say(text: str, *, error: bool = False) -> None:
    """Print text at once, in lines that fit; ``error``: to the standard error."""
    from bayesimp.layout import wrapped

    print(wrapped(in_plan_words(text)), file=sys.stderr if error else sys.stdout, flush=True)


def without_markdown(lines: Sequence[str]) -> str:
    """Lines of Markdown as text for a terminal: tables in columns that fit."""
    import re

    import pandas as pd

    from bayesimp.layout import tabulated

    out: list[str] = []
    rows: list[list[str]] = []
    for line in [*lines, ""]:
        if line.startswith("|"):
            cells = re.split(r"(?<!\\)\|", line.strip()[1:-1])
            rows.append([cell.strip().replace("\\|", "|") for cell in cells])
            continue
        if rows:
            head, _, *body = rows  # the second row of a Markdown table is a rule
            out.append(tabulated(pd.DataFrame(body, columns=head, dtype=object)) if body else "  ".join(head))
            rows = []
        out.append(line)
    return "\n".join(out[:-1])


def _help(prog: str) -> argparse.HelpFormatter:
    return argparse.HelpFormatter(prog, width=min(shutil.get_terminal_size().columns, WIDTH) - 2)


class Parser(argparse.ArgumentParser):
    """A parser whose help and errors fit; its commands are parsed by others of the same class."""

    def __init__(self, **options: object) -> None:
        super().__init__(formatter_class=_help, **options)  # type: ignore[arg-type]

    def error(self, message: str) -> None:  # type: ignore[override]
        """Print the usage and the message, and leave with status 2."""
        from bayesimp.layout import wrapped

        self.print_usage(sys.stderr)
        self.exit(2, wrapped(f"{self.prog}: error: {message}") + "\n")
