"""Versions of the software on which the numbers depend."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

__all__ = ["versions"]

PACKAGES = (
    "numpy",
    "scipy",
    "pandas",
    "numba",
    "xarray",
    "arviz-stats",
    "pymc",
    "nutpie",
    "matplotlib",
    "glmm",
)


def versions() -> dict[str, str]:
    """Versions of Python, the platform and the packages on which the numbers depend."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
