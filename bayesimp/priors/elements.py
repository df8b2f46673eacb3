"""A prior of a covariance matrix S (d, d) given that some entries are fixed, as joint models of latent normals need it.

With s_k = S_kk^1/2 and R the correlations, it is the density of (log s, R) on the free entries, up to a constant, for R
positive definite. A prior provides it twice: as numbers for the element-wise steps of `bayesimp.kernels.latent.residual`
(`CovariancePrior.elements`), and as a PyTensor expression (`CovariancePrior.entries_logp`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Elements"]

Array = NDArray[np.float64]


class Elements(NamedTuple):
    """A prior as read by the element-wise steps; `bayesimp.kernels.latent.residual` has the density of each kind.

    Attributes
    ----------
    kind
        Code of the density there.
    nu
        Degrees of freedom of the matrix or of half-t standard deviations.
    scale
        (d, d) scale matrix as in SciPy; zeros where the kind has none.
    sd
        (d,) scales of standard deviations; ones where the kind has none.
    eta
        Exponent of |R| plus 1, for kind SCALES.
    family
        Code of the distribution of standard deviations (`ScalePrior.family`), for kind SCALES.
    """

    kind: int
    nu: float
    scale: Array
    sd: Array
    eta: float = 1.0
    family: int = 0
