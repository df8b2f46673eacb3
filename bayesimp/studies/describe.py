"""Steps of a study as text, from which a continued run knows that it is the same study."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Any
from zlib import crc32

import numpy as np

__all__ = ["described", "key_of"]


def described(value: Any) -> Any:
    """Plain JSON: records by their fields, functions by their name and a checksum of their source."""
    if is_dataclass(value) and not isinstance(value, type):
        inside = {f.name: described(getattr(value, f.name)) for f in fields(value)}
        return {"record": type(value).__qualname__, **inside}
    if isinstance(value, partial):
        return {
            "function": described(value.func),
            "arguments": described(value.args),
            "options": described(value.keywords),
        }
    if isinstance(value, Mapping):
        return {str(name): described(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [
            described(inner) for inner in (sorted(value) if isinstance(value, set | frozenset) else value)
        ]
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if callable(value):
        return _function(value)
    return value if value is None or isinstance(value, str | int | float | bool) else repr(value)


def _function(function: Any) -> str:
    """Name and checksum; a callable object is described by its type and attributes."""
    name = getattr(function, "__qualname__", None)
    if name is None:
        return f"{type(function).__qualname__}({described(vars(function))})"
    module = getattr(function, "__module__", "")
    if module.startswith("bayesimp."):
        return f"{module}.{name}"
    try:  # without the module, which is "__main__" in a script and differs when the script is imported
        return f"{name} {crc32(inspect.getsource(function).encode()):08x}"
    except (OSError, TypeError):  # typed at a prompt
        return name


def key_of(name: str) -> int:
    """The number that represents a name in spawn keys."""
    return crc32(name.encode())
