"""Exceptions, grouped by who can fix them.

Every message says what is wrong, where (variable, cluster, how many rows) and what to do.
"""

from __future__ import annotations

import os
from typing import Any

__all__ = [
    "PACKAGE", "BayesimpError", "DataError", "SamplingError", "SpecificationError", "StatisticalWarning",
    "UnknownArgument", "instead_of", "must_be",
]  # fmt: skip

PACKAGE = (os.path.dirname(__file__) + os.sep,)  # warnings are shown at the line outside it, that of the user

SHORT = 40  # characters of a warning that still fits behind the place where it was raised

# how to make the objects of this package, for messages about a wrong argument
MADE_BY = {
    "IncompleteData": "data = bi.IncompleteData(table, cluster='...')",
    "PartitionedData": "table = bi.IncompleteData.from_parquet('folder', cluster='...')",
    "FCS": "model = bi.FCS(data)",
    "Imputations": "imp = model.impute(m=20, seed=1), where model = bi.FCS(data)",
    "Fits": "fits = imp.analyse('y ~ x + (1 | cluster)')",
    "Sensitivity": "result = bi.sensitivity(model, analysis='y ~ x + (1 | cluster)')",
    "PowerScaling": "result = bi.power_scaling(imp, analysis='y ~ x + (1 | cluster)')",
    "NotAtRandom": "result = bi.mnar(model, {'y': [0, -1, -2]}, analysis='y ~ x + (1 | cluster)')",
    "Diagnosis": "diagnosis = bi.compatibility.diagnose(imp)",
    "Agreement": "agreement = bi.federated.Agreement('y1 + y2 ~ x + (1 | study)')",
    "SiteRelease": "release = bi.federated.export_site(table, agreement, 'A')",
    "SharedParameters": "parameters = bi.federated.combine(releases, m=20, seed=1).parameters",
    "ImpliedPrior": "prior = bi.compatibility.implied_prior(joint, fcs)",
}
# where an object that was given instead of a table, or of a completed table, has one
INSIDE = {
    "IncompleteData": "its table is data.frame",
    "JointNormal": "its table is model.data.frame",
    "FCS": "its table is model.data.frame",
    "Imputations": "its incomplete table is imp.data.frame, its first completed one imp.frame(0)",
}


class BayesimpError(Exception):
    """Base of all errors raised by the package."""


class DataError(BayesimpError, ValueError):
    """The table cannot be used unchanged: missing cluster ids, infinite values, nothing observed, ..."""


class SpecificationError(BayesimpError, ValueError):
    """The requested model, prior, formula or plan is impossible or not identified."""


class UnknownArgument(SpecificationError, TypeError):
    """A keyword that a function does not take; the message suggests the one that was probably meant."""


class SamplingError(BayesimpError, RuntimeError):
    """A sampler could not continue."""


class StatisticalWarning(UserWarning):
    """The result is valid, but should be read with the stated caution.

    Python shows a warning by formatting it, so that it appears in lines that fit; its text, `str`, is one line.
    """

    def __format__(self, spec: str) -> str:
        from bayesimp.layout import wrapped

        text = str(self)
        return format(text, spec) if spec or len(text) <= SHORT else wrapped(f"\n{text}")


def must_be(value: Any, kind: str, function: str) -> None:
    """Refuse a value that is not of the required class, and say how to make one.

    Parameters
    ----------
    kind
        Name of the class, or of several separated by " or "; names, because this module imports nothing.
    function
        The function that was called, as users write it.

    Raises
    ------
    SpecificationError
        The value is of another class.
    """
    kinds = kind.split(" or ")
    if not {each.__name__ for each in type(value).__mro__} & set(kinds):
        made = MADE_BY[kinds[-1]]
        name = made.partition(" = ")[0]
        raise SpecificationError(
            f"{function} takes {kind}, got {type(value).__name__}: {function}({name}), with {made}."
        )


def instead_of(value: Any) -> str:
    """A last sentence for a message, saying where this object has its table; "" for objects of other packages.

    >>> instead_of(3)
    ''
    """
    inside = INSIDE.get(type(value).__name__)
    return "" if inside is None else f" This is {type(value).__name__}: {inside}."
