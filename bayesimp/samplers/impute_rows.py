"""Missing values given a draw of the parameters: exact, row by row, whichever sampler made the draw.

Given (beta, Sigma, Psi) and the observed values, B is drawn with the missing values integrated out
(kernels/effects.py); then, row by row, with mu = x'beta + z'B_i, K = Sigma_OO^-1 Sigma_OM,

    y_M | y_O ~ N( mu_M + (y_O - mu_O) K,  Sigma_MM - Sigma_MO K )                    (models.md, section 1)
"""

from __future__ import annotations

import numpy as np

from bayesimp.data.working import IncompleteRows, Working
from bayesimp.errors import SamplingError
from bayesimp.kernels.effects import Moments, draw_effects, pattern_weights

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
    """
    W, ok = pattern_weights(Sigma, m.patterns)
    B = np.empty((working.statistics.clusters, working.statistics.q, working.statistics.r))
    if not (ok and draw_effects(rng, W, np.linalg.inv(Psi), m, np.ascontiguousarray(beta), B)):
        raise SamplingError("A posterior draw of Sigma or Psi is not positive definite.")
    values = _missing_given_effects(rng, working.rows, m.patterns, Sigma, beta, B)
    return working.scale.s * (values + working.rows.X @ working.scale.offset)


def _missing_given_effects(rng, rows: IncompleteRows, patterns, Sigma, beta, B) -> np.ndarray:
    mu = rows.X @ beta + np.einsum("jq,jqr->jr", rows.Z, B[rows.cluster])
    out = np.full_like(mu, np.nan)
    for a, observed in enumerate(patterns):
        j = np.flatnonzero(rows.pattern == a)
        if not len(j):
            continue
        O, M = np.flatnonzero(observed), np.flatnonzero(~observed)
        K = np.linalg.solve(Sigma[np.ix_(O, O)], Sigma[np.ix_(O, M)])
        A = np.linalg.cholesky(Sigma[np.ix_(M, M)] - Sigma[np.ix_(M, O)] @ K)
        residual = rows.Y[np.ix_(j, O)] - mu[np.ix_(j, O)]
        noise = rng.standard_normal((len(j), len(M)))
        out[np.ix_(j, M)] = mu[np.ix_(j, M)] + residual @ K + noise @ A.T
    return out
