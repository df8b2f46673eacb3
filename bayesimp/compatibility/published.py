"""Covariance matrices of Kunkel & Kaizar (2017) for figures 1 and 3."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bayesimp.arguments import number

__all__ = ["kunkel_kaizar"]

Array = NDArray[np.float64]


def kunkel_kaizar(rho: float = 0.7, sigma_12: float = 100.0, scale: float = 1.0) -> tuple[Array, Array]:
    """(Sigma, Psi), (2, 2) each, of their figure 1, similar to those of two symptom scores in the brain-injury data.

    Parameters
    ----------
    rho
        Correlation in Psi, between clusters.
    sigma_12
        Covariance within clusters. The printed 100 is a correlation of 0.75; their text says 0.65, which would be a
        covariance of 87.
    scale
        Factor of Sigma (figure 3: 1/1.75).
    """
    rho, sigma_12 = number(rho, "rho"), number(sigma_12, "sigma_12")
    scale = number(scale, "scale", low=0)
    psi_12 = rho * np.sqrt(27.0 * 33.0)
    return scale * np.array([[122.0, sigma_12], [sigma_12, 147.0]]), np.array(
        [[27.0, psi_12], [psi_12, 33.0]]
    )
