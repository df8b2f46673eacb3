"""Exceptions, grouped by who can fix them.

Every message says what is wrong, where (variable, cluster, how many rows) and what to do.
"""

from __future__ import annotations

__all__ = ["BayesimpError", "DataError", "SpecificationError", "SamplingError", "StatisticalWarning"]


class BayesimpError(Exception):
    """Base of all errors raised by the package."""


class DataError(BayesimpError, ValueError):
    """The table cannot be used unchanged: missing cluster ids, infinite values, nothing observed, ..."""


class SpecificationError(BayesimpError, ValueError):
    """The requested model, prior, formula or plan is impossible or not identified."""


class SamplingError(BayesimpError, RuntimeError):
    """A sampler could not go on."""


class StatisticalWarning(UserWarning):
    """The result is valid, but should be read with the stated caution."""
