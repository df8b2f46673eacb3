"""Missing values given a draw of the parameters: exact, row by row, whichever sampler made the draw.

Given (beta, Sigma, Psi) and the observed values, B is drawn with the missing values integrated out
(kernels/effects.py); then, row by row, with mu = x'beta + z'B_i, K = Sigma_OO^-1 Sigma_OM,

    y_M | y_O ~ N( mu_M + (y_O - mu_O) K,  Sigma_MM - Sigma_MO K )                    (models.md, section 1)
"""

from __future__ import annotations

import numpy as np

from bayesimp.data.working import Working
from bayesimp.errors import SamplingError
from bayesimp.kernels.effects import Moments
from bayesimp.kernels.rows import draw_missing

__all__ = ["impute_rows"]


def impute_rows(rng, working: Working, m: Moments, beta, Sigma, Psi) -> np.ndarray:
    """One completed set of the incomplete rows.

    Parameters
    ----------
    beta (p, r), Sigma (r, r), Psi (rq, rq)
        On the working scale.

    Returns
    -------
    (R, r) values of the incomplete rows on the scale of the data; nan where the cell is observed.

    Raises
    ------
    SamplingError
        Sigma or Psi is not positive definite.
    """
    rows = working.rows
    out = np.empty_like(rows.Y)
    theta = [np.ascontiguousarray(a) for a in (beta, Sigma, Psi)]
    if not draw_missing(rng, m, rows.X, rows.Z, rows.Y, rows.cluster, rows.pattern, *theta, out):
        raise SamplingError("A posterior draw of Sigma or Psi is not positive definite.")
    return working.scale.s * (out + rows.fixed)
