"""Priors as plain dictionaries, for plan files (TOML) and for storage (JSON): data, never code.

{"type": "LKJ", "eta": 2.0, "sd": {"type": "HalfNormal", "times_sd": 1.0}}
"""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any

import numpy as np

from bayesimp import priors as pr
from bayesimp.errors import SpecificationError
from bayesimp.sections import possible

__all__ = ["prior_from_dict", "prior_to_dict", "priors_from_dict", "priors_to_dict"]

TYPES = {
    cls.__name__: cls
    for cls in (
        pr.InverseWishart, pr.HuangWand, pr.LKJ, pr.Diagonal, pr.Fixed, pr.HalfT, pr.HalfNormal,
        pr.Exponential, pr.Flat, pr.Normal, pr.Weak,
    )
}  # fmt: skip
PRESETS = pr.PRESETS
COVARIANCE = ("InverseWishart", "HuangWand", "LKJ", "Diagonal", "Fixed")
PARTS = {"beta": ("Flat", "Normal", "Weak"), "Sigma": COVARIANCE, "Psi": COVARIANCE}
SDS = ("HalfT", "HalfNormal", "Exponential")
INNER = {("LKJ", "sd"): SDS, ("Diagonal", "variances"): (*SDS, "InverseWishart")}  # priors inside priors
ARRAYS = {"scale", "V", "value", "mean", "sd"}  # numbers, vectors or matrices
FLAGS = {"improper", "marginal", "centred"}  # all others are numbers


def prior_to_dict(prior: Any) -> dict[str, Any]:
    out: dict[str, Any] = {"type": type(prior).__name__}
    for f in fields(prior):
        value = getattr(prior, f.name)
        if value is not None:
            nested = type(value).__name__ in TYPES
            out[f.name] = prior_to_dict(value) if nested else np.asarray(value).tolist()
    return out


def prior_from_dict(record: Any, where: str, allowed: tuple[str, ...] = tuple(TYPES)) -> Any:
    """The prior that a dictionary describes, of an `allowed` type; `where` ("priors.Psi") is for messages.

    Raises
    ------
    SpecificationError
        Unknown, unsuited or missing type or parameter, or a value that is none; the message names the place.
    """
    if not isinstance(record, dict) or "type" not in record:
        raise SpecificationError(
            f"{where}: expected a table with a type ({', '.join(allowed)}), got {_shown(record)}."
        )
    name = record["type"]
    if not isinstance(name, str) or name not in TYPES:
        raise SpecificationError(f"{where}.type: {_shown(name)} is not known; {possible(name, allowed)}.")
    if name not in allowed:
        raise SpecificationError(f"{where}.type: {name} is not a prior for it; choose {', '.join(allowed)}.")
    known = [f.name for f in fields(TYPES[name])]
    values = {key: value for key, value in record.items() if key != "type"}
    for key in values:
        if key not in known:
            takes = possible(key, known) if known else "it takes nothing"
            raise SpecificationError(f"{where}.{key}: {name} does not have it; {takes}.")
    absent = [f.name for f in fields(TYPES[name]) if _required(f) and f.name not in values]
    if absent:
        raise SpecificationError(f"{where}.{absent[0]}: is missing; {name} needs it.")
    values = {key: _value(name, key, value, f"{where}.{key}") for key, value in values.items()}
    try:
        return TYPES[name](**values)
    except SpecificationError as error:
        raise SpecificationError(f"{where}: {error}") from None


def priors_to_dict(priors: pr.Priors) -> dict[str, Any]:
    return {"name": priors.name, **{part: prior_to_dict(getattr(priors, part)) for part in PARTS}}


def priors_from_dict(record: Any, where: str = "priors") -> pr.Priors:
    """A preset's name, or a table with any of beta, Sigma, Psi (the rest as in `default`) and a name.

    Raises
    ------
    SpecificationError
        Unknown preset, part, type or parameter; the message names the place.
    """
    if isinstance(record, str):
        if record not in PRESETS:
            raise SpecificationError(f"{where}: unknown preset {record!r}; {possible(record, PRESETS)}.")
        return PRESETS[record]()
    if not isinstance(record, dict):
        raise SpecificationError(
            f"{where}: expected a preset ({', '.join(PRESETS)}) or a table with any of {', '.join(PARTS)}, "
            f"got {_shown(record)}."
        )
    for key in record:
        if key not in (*PARTS, "name"):
            raise SpecificationError(f"{where}.{key}: is not known; {possible(key, (*PARTS, 'name'))}.")
    name = record.get("name", "custom")
    if not isinstance(name, str):
        raise SpecificationError(f"{where}.name: must be text, not {_shown(name)}.")
    parts = {
        part: prior_from_dict(record[part], f"{where}.{part}", allowed)
        for part, allowed in PARTS.items()
        if part in record
    }
    return pr.Priors(**parts, name=name)


def _required(f) -> bool:
    return f.default is MISSING and f.default_factory is MISSING


def _value(prior: str, key: str, value: Any, where: str) -> Any:
    """A parameter of a prior: a prior inside it, a flag, or numbers."""
    if (prior, key) in INNER:
        return prior_from_dict(value, where, INNER[prior, key])
    if key in FLAGS:
        if not isinstance(value, bool):
            raise SpecificationError(f"{where}: must be true or false, not {_shown(value)}.")
        return value
    return _number(value, where, key in ARRAYS)


def _number(value: Any, where: str, array: bool) -> Any:
    """The value, if it is a finite number or, where `array`, a vector or matrix of them."""
    try:
        numbers = np.asarray(value)
    except ValueError:  # rows of different lengths
        numbers = np.asarray(None)
    if numbers.dtype.kind not in "iuf" or numbers.ndim > (2 if array else 0) or numbers.size == 0:
        wanted = "a number, or a list or table of numbers" if array else "a number"
        raise SpecificationError(f"{where}: must be {wanted}, not {_shown(value)}.")
    if not np.isfinite(numbers).all():
        raise SpecificationError(f"{where}: must be finite, not {_shown(value)}.")
    return value


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
