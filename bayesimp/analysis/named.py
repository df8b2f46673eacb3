"""Analyses given by name, each perhaps with options of its own: {"crude": {"analysis": "y ~ x", "family": "poisson"}}."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bayesimp.analysis.fit import fit_each
from bayesimp.errors import SpecificationError
from bayesimp.kinds import check_keywords
from bayesimp.messages import listing

__all__ = ["OWN", "analysis_and_options", "check_options"]

OWN = ("imputed", "analysis")  # arguments of `fit_each` that are not options


def check_options(
    options: Mapping[str, Any], function: Callable, analysis: Any = "given", own: tuple[str, ...] = OWN
) -> None:
    """Refuse options of an analysis that `bayesimp.fit_each` does not have, and options without an analysis.

    function: the one that the user has called; analysis: None if there is none; own: arguments that it gives itself.

    Raises
    ------
    SpecificationError
    """
    check_keywords(options, function, fit_each, own)
    if options and analysis is None:
        raise SpecificationError(
            f"{function.__name__}: {listing(options)} would be ignored: give analysis= as well."
        )


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
    check_options(options, fit_each)
    return given["analysis"], options
