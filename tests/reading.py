"""The path of a reader from a table to a model: files opened, stays in them, returns.

    python -m tests.reading             # both engines, counted
    python -m tests.reading --path      # and the functions in the order in which they are read

A reader starts at ``__init__``, follows each call the first time it is made, and comes back to the caller. A stay
is uninterrupted reading in one file, and a return is a stay in a file that was left before. Nobody opens what its name
explains: functions of fewer than `STATEMENTS` statements are opened only on the way to a longer one, those below
`DEPTH` longer ones not at all, and properties are read as values. Counted like this, the tree at the start of issue 12
(commit 6b73f21) has 20 files, 71 stays and 51 returns for `FCS`; counted by hand in the issue, it has 18, 69 and 51.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import bayesimp as bi

ROOT = Path(bi.__file__).parent
KINDS = str(ROOT / "kinds.py")
STATEMENTS, DEPTH = 8, 4


@dataclass(frozen=True)
class Step:
    """A function that a reader opens: how many calls deep, its file and its name."""

    depth: int
    file: str
    name: str


@dataclass
class Call:
    """A function when it is first called: its file and name, its number of statements, and what it calls."""

    file: str
    name: str
    length: int
    calls: list[Call] = field(default_factory=list)

    def worth_reading(self, depth: int) -> bool:
        """Whether it is long, or leads to a function that is, with at most `depth` long ones on the way."""
        if depth <= 0 or self.length >= STATEMENTS:
            return depth > 0
        return any(inner.worth_reading(depth) for inner in self.calls)


@dataclass(frozen=True)
class Reading:
    """Functions in the order in which they are opened, and the files in which the reader stays."""

    steps: tuple[Step, ...]
    stays: tuple[str, ...]

    @property
    def files(self) -> int:
        """Number of files opened."""
        return len(set(self.stays))

    @property
    def returns(self) -> int:
        """Stays in a file that was left before."""
        return len(self.stays) - self.files

    def __str__(self) -> str:
        return f"{self.files} files, {len(self.stays)} stays, {self.returns} returns"


@cache
def lengths(file: str) -> dict[int, int]:
    """First line of each function of a file, properties left out -> its number of statements."""
    found = {}
    for node in ast.walk(ast.parse(Path(file).read_text())):
        if isinstance(node, ast.FunctionDef):
            decorators = [ast.unparse(d) for d in node.decorator_list]
            body = node.body[ast.get_docstring(node) is not None :]
            count = sum(isinstance(inner, ast.stmt) for part in body for inner in ast.walk(part))
            first = node.decorator_list[0].lineno if decorators else node.lineno
            if not any("property" in d for d in decorators):
                found[first] = count
    return found


def read(call: Callable[[], Any]) -> Reading:
    """Follow a call; what it needs is imported and computed beforehand, so that only the call itself is counted."""
    seen: set[CodeType] = set()
    root = Call("", "", 0)
    open_: list[Call | None] = [root]  # functions that are running; None for those passed over

    def hook(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event == "return" and len(open_) > 1:
            open_.pop()
        elif event == "call":
            inside = code.co_filename.startswith(f"{ROOT}/") and not code.co_name.startswith("<")
            if not inside:  # of another package, or a comprehension: what it calls belongs to the caller
                open_.append(open_[-1])
                return
            if (
                code.co_filename == KINDS
            ):  # a decorator whose name says what it does; the method that it calls counts
                open_.append(open_[-1] if code.co_name == "checked" else None)
                return
            length = lengths(code.co_filename).get(code.co_firstlineno)
            if open_[-1] is None or code in seen or length is None:
                open_.append(None)
                return
            seen.add(code)
            file = str(Path(code.co_filename).relative_to(ROOT))
            open_[-1].calls.append(Call(file, code.co_qualname, length))
            open_.append(open_[-1].calls[-1])

    sys.setprofile(hook)
    try:
        call()
    finally:
        sys.setprofile(None)
    steps: list[Step] = []
    stays: list[str] = []
    for inner in root.calls:
        _open(inner, 0, steps, stays)
    return Reading(tuple(steps), tuple(stays))


def _open(call: Call, depth: int, steps: list[Step], stays: list[str]) -> None:
    """Read a function and what it calls, if there is something to read."""
    if not call.worth_reading(DEPTH - depth):
        return
    steps.append(Step(depth, call.file, call.name))
    for inner in (None, *call.calls):
        if inner is not None:
            _open(inner, depth + (call.length >= STATEMENTS), steps, stays)
        if stays[-1:] != [call.file]:
            stays.append(call.file)


def joint_normal() -> Reading:
    """`JointNormal.__init__` on the exam data."""
    data = bi.IncompleteData(bi.load_exam(), cluster="school")
    bi.JointNormal(data, "written + course ~ gender + (1 | school)")  # imports
    data = bi.IncompleteData(bi.load_exam(), cluster="school")
    return read(lambda: bi.JointNormal(data, "written + course ~ gender + (1 | school)"))


def fcs() -> Reading:
    """`FCS.__init__` on the brain-injury data."""
    bi.FCS(bi.IncompleteData(bi.load_brain_injury(), cluster="study"))
    data = bi.IncompleteData(bi.load_brain_injury(), cluster="study")
    return read(lambda: bi.FCS(data))


def main() -> None:
    """Print both counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--path", action="store_true", help="print the functions in the order of reading")
    path = parser.parse_args().path
    for name, reading in (("JointNormal", joint_normal()), ("FCS", fcs())):
        print(f"{name}.__init__: {reading}")
        for step in reading.steps if path else ():
            print(f"    {'  ' * step.depth}{step.file}  {step.name}")


if __name__ == "__main__":
    main()
