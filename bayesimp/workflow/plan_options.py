"""Options of `[model]`, each read by one function: the TOML form of records, tables and mappings in Python.

    [model.shift]                      # numbers added to what is imputed (`bayesimp.contract.Shift`)
    by = { course = -5.0 }             # with group: { course = { drug = -5.0 } }; groups that are numbers: [[1, -5.0]]
    group = "arm"
    where = "missing"                  # or "systematic", "sporadic"

    [model.reference]                  # JointNormal, JointLatent (`bayesimp.ReferenceBased`)
    arm = "arm"
    reference = "placebo"
    visits = ["week4", "week8"]
    how = "jump to reference"          # or "copy increments in reference", "copy reference"

    [model.bounds]                     # FCS: one pair for all rows, a table where only one bound is there
    bsi = [0, 63]
    age = { lower = 0 }

    [model.blocks]                     # FCS: variables that are imputed together, by name of the block
    marks = ["written", "course"]

Methods of FCS, which can be tables too, are in `bayesimp.workflow.plan_methods`. Arrays with a number for each row
(`where`, `ignore`, detection limits) and functions (`post`) are not possible in a plan.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from bayesimp.errors import SpecificationError
from bayesimp.sections import Section
from bayesimp.shift import WHERE, Shift

__all__ = ["READERS"]

# as in bayesimp.joint.reference, which would load the engines; a test compares them
HOW = ("jump to reference", "copy increments in reference", "copy reference")
TEXTS = "must be text, or a list of texts"


def _texts(section: Section, key: str) -> dict[str, str]:
    """A table of texts by variable."""
    table = section.table(key, {})
    for name, value in table.items():
        if not isinstance(value, str):
            section.note(f"{key}.{name}", f"must be text, not {value!r}")
    return {name: value for name, value in table.items() if isinstance(value, str)}


def _text_or_texts(section: Section, key: str) -> Any:
    """Text, or a tuple of texts; None if it is absent or wrong."""
    section.known.append(key)
    value = section.record.get(key)
    if value is None or isinstance(value, str):
        return value
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        section.note(key, f"{TEXTS}, not {value!r}")
        return None
    return tuple(value)


def _order(section: Section, key: str) -> Any:
    return _text_or_texts(section, key) or ()


def _methods(section: Section, key: str) -> Any:
    """A name, a table with a type, or one of these by variable."""
    section.known.append(key)
    value = section.record.get(key)
    if value is None or isinstance(value, str):
        return value
    if not isinstance(value, dict):
        section.note(key, f"must be the name of a method, or a table, not {value!r}")
        return None
    by_variable = {} if "type" in value else value
    for name, each in by_variable.items():
        if not isinstance(each, str) and not (isinstance(each, dict) and isinstance(each.get("type"), str)):
            section.note(f"{key}.{name}", f'must be text, or a table with a type ("bayes"), not {each!r}')
    return value or None


def _predictors(section: Section, key: str) -> Any:
    """A formula, a list of formulas, or formulas by variable; a predictor matrix as columns and the rows of a table."""
    section.known.append(key)
    value = section.record.get(key)
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list) and not all(isinstance(each, str) for each in value):
        section.note(key, f"{TEXTS}, not {value!r}")
        return None
    if not isinstance(value, list | dict):
        section.note(key, f"{TEXTS}, or a table by variable, not {value!r}")
        return None
    return value or None


def _blocks(section: Section, key: str) -> dict[str, tuple[str, ...]]:
    """Lists of variables by name of the block."""
    out = {}
    for name, value in section.table(key, {}).items():
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            section.note(f"{key}.{name}", f"must be a list of variables, not {value!r}")
            continue
        out[name] = tuple(value)
    return out


def _bounds(section: Section, key: str) -> dict[str, tuple[Any, Any]]:
    """(lower, upper) by variable, None where there is no bound."""
    out = {}
    for name, value in section.table(key, {}).items():
        pair = value if isinstance(value, list) and len(value) == 2 else None
        if isinstance(value, dict) and value and set(value) <= {"lower", "upper"}:
            pair = [value.get("lower"), value.get("upper")]
        numbers = [each for each in pair or ["none"] if each is not None]
        if not all(isinstance(each, int | float) and not isinstance(each, bool) for each in numbers):
            section.note(
                f"{key}.{name}", f"must be [lower, upper], or a table with one of them, not {value!r}"
            )
            continue
        assert pair is not None
        out[name] = (pair[0], pair[1])
    return out


def _flag_or_none(section: Section, key: str) -> bool | None:
    section.known.append(key)
    return section.flag(key, True) if key in section.record else None


def _shift(section: Section, key: str) -> Shift | None:
    """The shift; groups that are not text are pairs, [[1, -5.0]]."""
    section.known.append(key)
    if key not in section.record:
        return None
    own = Section(section.record[key], f"{section.path}.{key}", section.problems)
    by = own.table("by", why="state what is shifted: by = { bsi = -2.0 }")
    group = own.text("group", None)
    where = own.text("where", "missing", WHERE)
    own.done()
    numbers = {}
    for name, given in by.items():
        numbers[name] = own.checked(f"by.{name}", partial(_numbers, given))
    return Shift(numbers, group, where)


def _numbers(given: Any) -> Any:
    """A number, or numbers by group or level: a table, or a list of pairs."""
    if isinstance(given, dict):
        return {key: _numbers(each) for key, each in given.items()}
    if isinstance(given, list):
        if not all(isinstance(pair, list) and len(pair) == 2 for pair in given):
            raise SpecificationError("must be pairs of group and number, such as [[1, -5.0]]")
        return {pair[0]: _numbers(pair[1]) for pair in given}
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise SpecificationError(f"must be a number, a table of them, or pairs [[1, -5.0]], not {given!r}")
    return float(given)


def _reference(section: Section, key: str) -> dict[str, Any] | None:
    """The arguments of `bayesimp.ReferenceBased`."""
    section.known.append(key)
    if key not in section.record:
        return None
    own = Section(section.record[key], f"{section.path}.{key}", section.problems)
    out = {
        "arm": own.text("arm", why="the column of the arms"),
        "visits": list(own.list_of_texts("visits")),
        "how": own.text("how", HOW[0], HOW),
        "reference": own.record.get("reference"),
    }
    own.known.append("reference")
    if out["reference"] is None or isinstance(out["reference"], dict | list):
        own.note("reference", 'give the value of the reference arm, such as reference = "placebo"')
    own.done()
    return out


def _choice(default: str, *choices: str) -> Callable[[Section, str], Any]:
    return lambda section, key: section.text(key, default, choices)


def _flag(section: Section, key: str) -> bool:
    return section.flag(key, False)


READERS: dict[str, Callable[[Section, str], Any]] = {
    "residual": _choice("common", "common", "cluster"), "effects": _choice("joint", "joint", "separate"),
    "factors": _texts, "links": _texts, "derived": _texts, "analysis": _text_or_texts, "order": _order,
    "methods": _methods, "predictors": _predictors, "blocks": _blocks, "bounds": _bounds,
    "compatible": _flag_or_none, "congenial": _flag, "shift": _shift, "reference": _reference,
}  # fmt: skip
