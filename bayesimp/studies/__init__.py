"""Simulation studies of imputation methods, on published designs and on questions of your own.

    delete      values taken away from any complete table, by cluster and by row; `Systematic`, `Sporadic`

Names are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    "delete": "deletion",
    "Deleted": "deletion",
    "Sporadic": "mechanisms",
    "Systematic": "mechanisms",
}

__all__ = [*_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'bayesimp.studies' has no attribute {name!r}")
    value = getattr(import_module(f"bayesimp.studies.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
