"""Priors in words, for printed models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from bayesimp.priors.base import CovariancePrior
    from bayesimp.priors.coefficients import CoefficientPrior

__all__ = ["describe", "labelled", "numbers"]


def describe(prior: CovariancePrior | CoefficientPrior, names: Sequence[str]) -> str:
    """A resolved prior in one line.

    Parameters
    ----------
    prior
        A prior of a covariance matrix (d, d) or of beta (p, r), with every number explicit.
    names
        (d,) or (p,) labels of the components or of the columns of X.
    """
    return prior.describe(names)


def labelled(values: ArrayLike, names: Sequence[str]) -> str:
    """``2 (a), 30 (b)``: numbers (d,) with their labels (d,)."""
    return ", ".join(f"{value:.4g} ({name})" for value, name in zip(np.asarray(values), names, strict=True))


def numbers(values: ArrayLike) -> str:
    """A number, vector or matrix on one line."""
    return np.array2string(np.asarray(values), precision=4, separator=", ").replace("\n", "")
