"""Analyses given by name, each perhaps with options of its own: {"crude": {"analysis": "y ~ x", "family": "poisson"}}."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bayesimp.analysis.fit import fit_each
from bayesimp.errors import SpecificationError
from bayesimp.kinds import check_keywords

__all__ = ["OWN", "analysis_and_options"]

OWN = ("imputed", "analysis")  # arguments of `fit_each` that are not options


def analysis_and_options(name: str, given: Any) -> tuple[Any, dict[str, Any]]:
    """An analysis, and the options that were given with it.

    Raises
    ------
    SpecificationError
        A mapping has no analysis, or an option that `bayesimp.fit_each` does not have.
    """
    if not isinstance(given, Mapping):
        return given, {}
    if "analysis" not in given:
        raise SpecificationError(
            f"analysis {name!r}: give {{'analysis': formula, ...}}; it has {list(given)}."
        )
    options = {key: value for key, value in given.items() if key != "analysis"}
    check_keywords(options, fit_each, fit_each, OWN)
    return given["analysis"], options
