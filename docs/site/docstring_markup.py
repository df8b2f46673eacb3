"""From docstrings as they are written here to reStructuredText.

Equations and small tables are indented in our docstrings, without the "::" of reStructuredText, which would print
them as prose; and results are described in whole sentences, which the numpydoc parser would take for types.
"""

from __future__ import annotations

import re

SENTENCES = ("Returns", "Yields")


def indent(line: str) -> int:
    """Number of spaces before the text."""
    return len(line) - len(line.lstrip())


def is_section(lines: list[str], k: int) -> bool:
    """Whether a numpydoc section begins at line k."""
    return (
        k + 1 < len(lines)
        and bool(lines[k].strip())
        and re.fullmatch(r"-{3,}", lines[k + 1].strip()) is not None
    )


def literal_blocks(lines: list[str]) -> list[str]:
    """With "::" before every block that is indented below a paragraph, up to the first section."""
    end = next((k for k in range(len(lines)) if is_section(lines, k)), len(lines))
    made: list[str] = []
    inside = False
    for k, line in enumerate(lines[:end]):
        deep = bool(line.strip()) and indent(line) >= 4
        if line.strip() and not deep:
            inside = False
        if deep and not inside and (k == 0 or not lines[k - 1].strip()):
            above = next((text for text in reversed(made) if text.strip()), "")
            inside = True
            if not above.rstrip().endswith("::") and not above.lstrip().startswith((".. ", ":", ">>>")):
                made += ["::", ""]
        made.append(line)
    return made + lines[end:]


def joined_results(lines: list[str]) -> list[str]:
    """With the sentences that describe a result on one line, so that they are read as one description."""
    made: list[str] = []
    k = 0
    while k < len(lines):
        if lines[k].strip() in SENTENCES and is_section(lines, k):
            stop = next(
                (j for j in range(k + 2, len(lines)) if not lines[j].strip() or is_section(lines, j)),
                len(lines),
            )
            body = lines[k + 2 : stop]
            if all(indent(line) == indent(lines[k]) for line in body):
                made += [*lines[k : k + 2], " ".join(line.strip() for line in body)]
                k = stop
                continue
        made.append(lines[k])
        k += 1
    return made


KEPT = re.compile(r"(``.*?``|`.*?`|(?<![\w*])\*\w[\w ,'-]*\*(?![\w*]))")  # code, and words in *emphasis*
MARKUP = re.compile(r"(?<=\w)_(?!\w)|\*|\|")


def escaped(lines: list[str]) -> list[str]:
    """With what reStructuredText would read as markup escaped: |C|, b_, X*; code, examples and literal blocks stay."""
    made: list[str] = []
    literal: int | None = None  # indentation above which a literal block goes on
    for line in lines:
        if literal is not None and line.strip() and indent(line) <= literal:
            literal = None
        code = literal is not None or line.lstrip().startswith((">>>", "... "))
        made.append(line if code else "".join(map(plain, KEPT.split(line))))
        if line.strip().endswith("::"):
            literal = indent(line)
    return made


def plain(part: str) -> str:
    """One piece of a line with its markup escaped, unless it is code or emphasis."""
    return part if KEPT.fullmatch(part) else MARKUP.sub(r"\\\g<0>", part)


_SAVED: dict[str, list[str]] = {}


def before(app: object, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """A listener to autodoc, before the numpydoc parser."""
    lines[:] = escaped(joined_results(literal_blocks(lines)))
    _SAVED[name] = list(lines)


def after(app: object, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """A listener after it: a property is a sentence, whose first words before a colon are not a type."""
    if what in ("property", "attribute"):
        lines[:] = _SAVED[name]
    lines[:] = [plain(line) if line.startswith(":vartype") else line for line in lines]
