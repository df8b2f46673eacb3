"""Checks of methods' options, with errors that list the allowed values."""

from __future__ import annotations

from typing import Any, Literal

from bayesimp.errors import SpecificationError

__all__ = ["Link", "check_choice", "check_compatible", "check_count", "check_link", "check_true_or_false"]

Link = Literal["logit", "probit"]


def check_compatible(value: Any, where: str) -> None:
    """Refuse a ``compatible`` that is not True, False or None."""
    if not (value is None or isinstance(value, bool)):
        raise SpecificationError(f"{where}: compatible must be True, False or None, got {value!r}.")


def check_link(value: Any) -> None:
    """Refuse a link other than ``"logit"`` and ``"probit"``."""
    check_choice(value, "link", ("logit", "probit"))


def check_choice(value: Any, what: str, choices: tuple[str, ...]) -> None:
    """Refuse a value that is not among the choices; ``what`` names the option."""
    if not isinstance(value, str) or value not in choices:
        raise SpecificationError(f"{what} must be {' or '.join(map(repr, choices))}, got {value!r}.")


def check_true_or_false(value: Any, what: str) -> None:
    """Refuse a value that is not True or False."""
    if not isinstance(value, bool):
        raise SpecificationError(f"{what} must be True or False, got {value!r}.")


def check_count(value: Any, what: str) -> None:
    """Refuse a value that is not a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise SpecificationError(f"{what} must be an integer of at least 1, got {value!r}.")
