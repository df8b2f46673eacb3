"""What can go wrong, by who can mend it.

Every message says what is wrong, where (variable, cluster, how many rows) and what to do.
"""

from __future__ import annotations

__all__ = ["BayesimpError", "DataError", "SpecificationError", "SamplingError", "StatisticalWarning"]


class BayesimpError(Exception):
    """Base of all errors raised by the package."""


class DataError(BayesimpError, ValueError):
    """The table cannot be used as it is: missing cluster ids, infinite values, nothing observed, ..."""


class SpecificationError(BayesimpError, ValueError):
    """The model, prior, formula or plan asked for is not possible or not identified."""


class SamplingError(BayesimpError, RuntimeError):
    """A sampler could not go on."""


class StatisticalWarning(UserWarning):
    """The result stands, but should be read with the stated caution."""
