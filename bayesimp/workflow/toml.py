"""Plain records as TOML 1.0, which `tomllib` reads back exactly: `tomllib.loads(as_toml(record)) == record`.

The standard library reads TOML but does not write it. Keys are bare where TOML allows it and quoted otherwise; texts are
basic strings, in which quotes, backslashes and control characters are escaped. Tables get headings, in the order of the
record, after the plain values of the table above them; tables within lists are written inline.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from bayesimp.errors import SpecificationError

__all__ = ["as_toml"]

BARE = re.compile(r"[A-Za-z0-9_-]+")
SHORT = {"\b": r"\b", "\t": r"\t", "\n": r"\n", "\f": r"\f", "\r": r"\r", '"': r"\"", "\\": r"\\"}
LARGEST = 2**63


def as_toml(record: Mapping[str, Any]) -> str:
    """The record as the text of a TOML file.

    Parameters
    ----------
    record
        Texts, numbers, true and false, lists and mappings of them, with texts as keys. A list of mappings at the top is
        an array of tables, ``[[analysis]]``.

    Raises
    ------
    SpecificationError
        TOML cannot hold a value; the message says which, and where.
    """
    return "\n".join(_table(record, ())).strip("\n") + "\n"


def _table(record: Mapping[str, Any], path: tuple[str, ...]) -> list[str]:
    """Lines of a table: plain values, then the tables within it."""
    within = {key: value for key, value in record.items() if _has_heading(value)}
    lines = [
        f"{_key(key)} = {_value(value, (*path, key))}" for key, value in record.items() if key not in within
    ]
    for key, value in within.items():
        inner = (*path, key)
        name = ".".join(map(_key, inner))
        if isinstance(value, Mapping):
            below = _table(value, inner)
            # a heading is needed unless everything in the table has its own heading
            heading = [] if below and below[0] == "" else [f"[{name}]"]
            lines += ["", *heading, *below] if heading else below
        else:
            for each in value:
                lines += ["", f"[[{name}]]", *_table(each, inner)]
    return lines


def _has_heading(value: Any) -> bool:
    if isinstance(value, Mapping):
        return True
    return isinstance(value, list) and bool(value) and all(isinstance(each, Mapping) for each in value)


def _value(value: Any, path: tuple[str, ...]) -> str:
    match value:
        case str():
            return _text(value, path)
        case bool():
            return "true" if value else "false"
        case int():
            if not -LARGEST <= value < LARGEST:
                raise _refused(value, path, "TOML holds whole numbers of 64 bits")
            return str(value)
        case float():
            return repr(value) if math.isfinite(value) else str(value)  # inf, -inf, nan
        case Mapping():
            pairs = (f"{_key(key)} = {_value(each, (*path, str(key)))}" for key, each in value.items())
            return "{ " + ", ".join(pairs) + " }" if value else "{}"
        case Sequence():
            return "[" + ", ".join(_value(each, path) for each in value) + "]"
    raise _refused(value, path, f"TOML cannot express a {type(value).__name__}")


def _key(key: Any) -> str:
    if not isinstance(key, str):
        raise _refused(key, (), "names in TOML must be text")
    return key if BARE.fullmatch(key) else _text(key, (key,))


def _text(text: str, path: tuple[str, ...]) -> str:
    if any(0xD800 <= ord(sign) <= 0xDFFF for sign in text):
        raise _refused(text, path, "it is not Unicode (half of a surrogate pair)")
    return '"' + "".join(_sign(sign) for sign in text) + '"'


def _sign(sign: str) -> str:
    if sign in SHORT:
        return SHORT[sign]
    return f"\\u{ord(sign):04x}" if ord(sign) < 0x20 or ord(sign) == 0x7F else sign


def _refused(value: Any, path: tuple[str, ...], why: str) -> SpecificationError:
    place = f"{'.'.join(path)}: " if path else ""
    return SpecificationError(f"{place}{value!r} cannot be written into a plan: {why}.")
