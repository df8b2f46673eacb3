"""Methods of chained equations in plans: a name, or a table of a name and what differs from its defaults.

[model.methods]
bsi = "iw"
age = { type = "bayes", residual = "cluster", inner = 10 }
sex = { type = "bayes", priors = "jomo" }        # or tables [model.methods.sex.priors.Psi]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, cast

from bayesimp.errors import SpecificationError
from bayesimp.methods.base import Method
from bayesimp.methods.names import NAMES, read
from bayesimp.priors import Priors
from bayesimp.priors.records import PRESETS, priors_from_dict, priors_to_dict
from bayesimp.sections import possible

__all__ = ["method_from_plan", "method_to_plan", "methods_from_plan", "priors_to_plan"]

KEPT_OUT = ("name", "model")  # given by `type`, and the user's own code


def methods_from_plan(given: Any) -> Any:
    """The methods as `bayesimp.FCS` takes them, from a plan.

    Raises
    ------
    SpecificationError
        A name or an option is not known; the message names the place.
    """
    if isinstance(given, Mapping) and "type" not in given:
        return {name: method_from_plan(each, f"model.methods.{name}") for name, each in given.items()}
    return given if given is None else method_from_plan(given, "model.methods")


def method_from_plan(given: str | Mapping[str, Any], where: str) -> Any:
    """One method; names are checked by `FCS`, which knows the families."""
    if isinstance(given, str):
        return given
    name, options = given["type"], {key: value for key, value in given.items() if key != "type"}
    try:
        method = read(name)
    except SpecificationError as error:
        raise SpecificationError(f"{where}.type: {error}") from None
    known = _options(method)
    for key in options:
        if key not in known:
            takes = possible(key, known) if known else "it has none"
            raise SpecificationError(f"{where}.{key}: method '{name}' has no such option; {takes}.")
    if "priors" in options:
        options["priors"] = priors_from_dict(options["priors"], f"{where}.priors")
    try:
        return replace(cast(Any, method), **options)
    except (SpecificationError, TypeError) as error:
        raise SpecificationError(f"{where}: {error}") from None


def method_to_plan(method: str | Method, where: str) -> Any:
    """The method as written in a plan: the nearest name and the options that differ from it.

    Raises
    ------
    SpecificationError
        The method, its model or a prior is the user's own code.
    """
    own = read(method)
    if getattr(own, "model", None) is not None:
        raise SpecificationError(f"{where}: a user-defined PyMC model is code, which a plan does not hold.")
    found = [
        (name, changes)
        for name, make in NAMES.items()
        if type(base := make()) is type(own) and (changes := _differences(own, base)) is not None
    ]
    if not found:
        raise SpecificationError(
            f"{where}: {type(own).__name__} is a user-defined method, which is code; a plan does not hold it."
        )
    name, changes = min(found, key=lambda pair: len(pair[1]))
    if "priors" in changes:
        changes["priors"] = priors_to_plan(changes["priors"], f"{where}.priors")
    return {"type": name, **changes} if changes else name


def priors_to_plan(priors: Priors, where: str, contextual: bool = True) -> Any:
    """The name of the preset that gives these priors, or their record.

    Parameters
    ----------
    contextual
        Whether priors of contextual effects are kept; joint models, which have no such effects, leave them out.

    Raises
    ------
    SpecificationError
        A prior is of a user-defined class.
    """
    record = priors_to_dict(priors)
    for name, make in PRESETS.items():
        if record == priors_to_dict(make() if contextual else make().without_contextual()):
            return name
    _refuse_own(record, where)
    return record


def _refuse_own(record: Mapping[str, Any], where: str) -> None:
    if "module" in record:
        raise SpecificationError(
            f"{where}: {record['type']} is a user-defined prior (module '{record['module']}'), which is code; a plan "
            "does not hold it."
        )
    for key, value in record.items():
        if isinstance(value, Mapping):
            _refuse_own(value, f"{where}.{key}")


def _options(method: Method) -> list[str]:
    return [f.name for f in fields(cast(Any, method)) if f.name not in KEPT_OUT]


def _differences(own: Method, base: Method) -> dict[str, Any] | None:
    """Options of `own` that differ from `base`; None if a plan cannot express one, because TOML has no None."""
    if own.name != base.name:
        return None
    changes = {
        name: value for name in _options(own) if not _same(value := getattr(own, name), getattr(base, name))
    }
    return None if any(value is None for value in changes.values()) else changes


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, Priors) and isinstance(b, Priors):  # dataclasses with arrays do not compare
        return priors_to_dict(a) == priors_to_dict(b)
    return a is b if isinstance(a, Priors) or isinstance(b, Priors) else bool(a == b)
