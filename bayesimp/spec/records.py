"""Priors as plain dictionaries, for plan files (TOML) and for storage (JSON): data, never code.

    {"type": "LKJ", "eta": 2.0, "sd": {"type": "HalfNormal", "times_sd": 1.0}}
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np

from bayesimp.errors import SpecificationError
from bayesimp.spec import priors as pr

__all__ = ["prior_from_dict", "prior_to_dict", "priors_from_dict", "priors_to_dict"]

TYPES = {
    cls.__name__: cls
    for cls in (
        pr.InverseWishart, pr.HuangWand, pr.LKJ, pr.Diagonal, pr.Fixed, pr.HalfT, pr.HalfNormal, pr.Exponential,
        pr.Flat, pr.Normal,
    )
}  # fmt: skip
PRESETS = {"default": pr.default, "pan": pr.pan, "mice": pr.mice, "jomo": pr.jomo}
COVARIANCE = ("InverseWishart", "HuangWand", "LKJ", "Diagonal", "Fixed")
PARTS = {"beta": ("Flat", "Normal"), "Sigma": COVARIANCE, "Psi": COVARIANCE}


def prior_to_dict(prior: Any) -> dict[str, Any]:
    out: dict[str, Any] = {"type": type(prior).__name__}
    for f in fields(prior):
        value = getattr(prior, f.name)
        if value is not None:
            nested = type(value).__name__ in TYPES
            out[f.name] = prior_to_dict(value) if nested else np.asarray(value).tolist()
    return out


def prior_from_dict(record: dict[str, Any], where: str) -> Any:
    """The prior that a dictionary describes; `where` names it in messages ("priors.Psi")."""
    if not isinstance(record, dict) or "type" not in record:
        raise SpecificationError(f"{where}: expected a table with a 'type' ({', '.join(TYPES)}), got {record!r}.")
    name = record["type"]
    if name not in TYPES:
        raise SpecificationError(f"{where}: unknown type {name!r}; known: {', '.join(TYPES)}.")
    known = [f.name for f in fields(TYPES[name])]
    unknown = [key for key in record if key != "type" and key not in known]
    if unknown:
        raise SpecificationError(f"{where}: {name} has no {unknown[0]!r}; it takes {', '.join(known)}.")
    values = {
        key: prior_from_dict(value, f"{where}.{key}") if isinstance(value, dict) else value
        for key, value in record.items()
        if key != "type"
    }
    try:
        return TYPES[name](**values)
    except TypeError as error:
        raise SpecificationError(f"{where}: {error}") from None


def priors_to_dict(priors: pr.Priors) -> dict[str, Any]:
    return {"name": priors.name, **{part: prior_to_dict(getattr(priors, part)) for part in PARTS}}


def priors_from_dict(record: str | dict[str, Any], where: str = "priors") -> pr.Priors:
    """A preset's name, or a table with any of beta, Sigma, Psi (the rest as in `default`) and a name.

    Raises
    ------
    SpecificationError
        Unknown preset, part, type or parameter; the message names the place.
    """
    if isinstance(record, str):
        if record not in PRESETS:
            raise SpecificationError(f"{where}: unknown preset {record!r}; known: {', '.join(PRESETS)}.")
        return PRESETS[record]()
    unknown = [key for key in record if key not in (*PARTS, "name")]
    if unknown:
        raise SpecificationError(f"{where}: unknown part {unknown[0]!r}; known: {', '.join(PARTS)}, name.")
    parts = {}
    for part, allowed in PARTS.items():
        if part in record:
            prior = prior_from_dict(record[part], f"{where}.{part}")
            if type(prior).__name__ not in allowed:
                raise SpecificationError(
                    f"{where}.{part}: {type(prior).__name__} is not a prior for it; choose {', '.join(allowed)}."
                )
            parts[part] = prior
    return pr.Priors(**parts, name=record.get("name", "custom"))
