"""Priors as plain dictionaries, for plan files (TOML) and storage (JSON): data, never code.

{"type": "LKJ", "eta": 2.0, "sd": {"type": "HalfNormal", "times_sd": 1.0}}
"""

from __future__ import annotations

from dataclasses import MISSING, Field, fields
from typing import Any

import numpy as np

from bayesimp.contract import CodeNotInFile
from bayesimp.errors import SpecificationError
from bayesimp.messages import shown
from bayesimp.priors.base import REGISTRY, CovariancePrior, Prior, names_of
from bayesimp.priors.coefficients import CoefficientPrior
from bayesimp.priors.presets import PRESETS, Priors
from bayesimp.sections import possible

__all__ = ["PRESETS", "TYPES", "prior_from_dict", "prior_to_dict", "priors_from_dict", "priors_to_dict"]

TYPES = REGISTRY
PARTS: dict[str, type[Prior]] = {"beta": CoefficientPrior, "Sigma": CovariancePrior, "Psi": CovariancePrior}


def prior_to_dict(prior: Prior) -> dict[str, Any]:
    """The prior as plain values; see `bayesimp.priors.base.Prior.to_dict`."""
    return prior.to_dict()


def prior_from_dict(record: Any, where: str, *kinds: type[Prior]) -> Any:
    """The prior that a dictionary describes.

    Parameters
    ----------
    record
        The result of `prior_to_dict`, or the content of a plan file.
    where
        Place of the record for messages: ``"priors.Psi"``.
    kinds
        Base classes of the priors that are allowed here; all priors by default.

    Raises
    ------
    SpecificationError
        A type or parameter is unknown, unsuitable or missing, or a value is invalid; the message names the place.
    CodeNotInFile
        The class is user-defined, and this session has not defined it.
    """
    allowed = names_of(*(kinds or (Prior,)))
    if not isinstance(record, dict) or "type" not in record:
        raise SpecificationError(
            f"{where}: expected a table with a type ({', '.join(allowed)}), got {shown(record)}."
        )
    name = record["type"]
    if isinstance(name, str) and name not in TYPES and isinstance(record.get("module"), str):
        raise CodeNotInFile(_own(name, record["module"], where))
    if not isinstance(name, str) or name not in TYPES:
        raise SpecificationError(f"{where}.type: {shown(name)} is not known; {possible(name, allowed)}.")
    if name not in allowed:
        raise SpecificationError(f"{where}.type: {name} cannot be used here; choose {', '.join(allowed)}.")
    known = [f.name for f in fields(TYPES[name])]
    values = {key: value for key, value in record.items() if key not in ("type", "module")}
    for key in values:
        if key not in known:
            takes = possible(key, known) if known else "it takes no parameters"
            raise SpecificationError(f"{where}.{key}: {name} does not have it; {takes}.")
    absent = [f.name for f in fields(TYPES[name]) if _required(f) and f.name not in values]
    if absent:
        raise SpecificationError(f"{where}.{absent[0]}: is missing; {name} needs it.")
    values = {key: _value(TYPES[name], key, value, f"{where}.{key}") for key, value in values.items()}
    try:
        return TYPES[name](**values)
    except SpecificationError as error:
        raise SpecificationError(f"{where}: {error}") from None


def priors_to_dict(priors: Priors) -> dict[str, Any]:
    """All priors of a model as plain values, with their name."""
    out = {"name": priors.name, **{part: prior_to_dict(getattr(priors, part)) for part in PARTS}}
    if priors.Psi_of:
        out["Psi_of"] = {label: prior_to_dict(prior) for label, prior in priors.Psi_of.items()}
    return out


def priors_from_dict(record: Any, where: str = "priors") -> Priors:
    """A preset's name, or a table with any of beta, Sigma, Psi (the rest as in `default`) and a name.

    Raises
    ------
    SpecificationError
        A preset, part, type or parameter is unknown; the message names the place.
    """
    if isinstance(record, str):
        if record not in PRESETS:
            raise SpecificationError(f"{where}: unknown preset {record!r}; {possible(record, PRESETS)}.")
        return PRESETS[record]()
    if not isinstance(record, dict):
        raise SpecificationError(
            f"{where}: expected a preset ({', '.join(PRESETS)}) or a table with any of {', '.join(PARTS)}, "
            f"got {shown(record)}."
        )
    for key in record:
        if key not in (*PARTS, "name", "Psi_of"):
            raise SpecificationError(
                f"{where}.{key}: is not known; {possible(key, (*PARTS, 'name', 'Psi_of'))}."
            )
    by_factor = record.get("Psi_of", {})
    if not isinstance(by_factor, dict):
        raise SpecificationError(
            f"{where}.Psi_of: expected a table, grouping factor by prior, got {shown(by_factor)}."
        )
    name = record.get("name", "custom")
    if not isinstance(name, str):
        raise SpecificationError(f"{where}.name: must be text, not {shown(name)}.")
    parts = {
        part: prior_from_dict(record[part], f"{where}.{part}", kind)
        for part, kind in PARTS.items()
        if part in record
    }
    Psi_of = {
        label: prior_from_dict(own, f"{where}.Psi_of.{label}", CovariancePrior)
        for label, own in by_factor.items()
    }
    return Priors(**parts, name=name, Psi_of=Psi_of)


def _own(name: str, module: str, where: str) -> str:
    """Advice about a prior whose class this session does not know."""
    first = (
        "Define the class, as the script that saved it did" if module == "__main__" else f"Import '{module}'"
    )
    return (
        f"{where}: prior {name} of the module '{module}' is not known in this session. {first}, then load the file "
        "again; loading a file never imports code that the file names"
    )


def _required(f: Field[Any]) -> bool:
    return f.default is MISSING and f.default_factory is MISSING


def _value(prior: type[Prior], key: str, value: Any, where: str) -> Any:
    """A parameter of a prior: a prior inside it, a flag, or numbers."""
    if key in prior.INNER:
        return prior_from_dict(value, where, *prior.INNER[key])
    if isinstance(next(f.default for f in fields(prior) if f.name == key), bool):
        if not isinstance(value, bool):
            raise SpecificationError(f"{where}: must be true or false, not {shown(value)}.")
        return value
    return _number(value, where, key in prior.ARRAYS)


def _number(value: Any, where: str, array: bool) -> Any:
    """The value, if it is a finite number or, where `array`, a vector or matrix of them."""
    try:
        numbers = np.asarray(value)
    except ValueError:  # rows of different lengths
        numbers = np.asarray(None)
    if numbers.dtype.kind not in "iuf" or numbers.ndim > (2 if array else 0) or numbers.size == 0:
        wanted = "a number, or a list or table of numbers" if array else "a number"
        raise SpecificationError(f"{where}: must be {wanted}, not {shown(value)}.")
    if not np.isfinite(numbers).all():
        raise SpecificationError(f"{where}: must be finite, not {shown(value)}.")
    return value
