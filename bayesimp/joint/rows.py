"""Exact draws of missing values given draws of the parameters from any sampler, row by row.

Given (beta, Sigma, Psi) and the observed values, B is drawn with the missing values integrated out
(kernels/normal/effects.py); then, row by row, with mu = x'beta + z'B_i, K = Sigma_OO^-1 Sigma_OM,

    y_M | y_O ~ N( mu_M + (y_O - mu_O) K,  Sigma_MM - Sigma_MO K )                    (docs/mathematics.md, sec. 1)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bayesimp.errors import SamplingError
from bayesimp.joint.scale import IncompleteRows, Working
from bayesimp.kernels.normal.effects import Moments
from bayesimp.kernels.normal.rows import missing_from_normals

__all__ = ["impute_rows", "rows_from_normals"]

AT_ONCE = 4_000_000  # random numbers held at a time


def impute_rows(
    rngs: Sequence, working: Working, m: Moments, beta: np.ndarray, Sigma: np.ndarray, Psi: np.ndarray
) -> np.ndarray:
    """Draw the missing values of the incomplete rows, once for each draw of the parameters.

    Parameters
    ----------
    rngs
        (M,) generators, one for each draw, so that a draw does not depend on M.
    beta (M, p, r), Sigma (M, r, r), Psi (M, rq, rq)
        On the working scale.

    Returns
    -------
    (M, R, r) values of the incomplete rows on the scale of the data; nan where the cell is observed.

    Raises
    ------
    SamplingError
        A draw of Sigma or Psi is not positive definite.
    """
    rows, st = working.rows, working.statistics
    out = np.empty((len(rngs), *rows.Y.shape))
    numbers = st.clusters * st.r * st.q + int((~st.patterns).sum(1)[rows.pattern].sum())
    b, S, P = (np.ascontiguousarray(a) for a in (beta, Sigma, Psi))
    step = max(AT_ONCE // max(numbers, 1), 1)
    for first in range(0, len(rngs), step):
        part = slice(first, first + step)
        z = np.array([rng.standard_normal(numbers) for rng in rngs[part]])
        out[part] = rows_from_normals(z, rows, working.scale.s, m, b[part], S[part], P[part])
    return out


def rows_from_normals(
    z: np.ndarray,
    rows: IncompleteRows,
    s: np.ndarray,
    m: Moments,
    beta: np.ndarray,
    Sigma: np.ndarray,
    Psi: np.ndarray,
) -> np.ndarray:
    """The same from standard normals.

    Parameters
    ----------
    z
        (M, m r q + number of missing cells): those of the cluster effects, then one for each missing cell, row by row.
    rows
        Rows on the working scale, in any order; clusters are numbered as in `m`.
    s
        (r,) units of the responses.

    Returns
    -------
    (M, R, r), as `impute_rows`.

    Raises
    ------
    SamplingError
        A draw of Sigma or Psi is not positive definite.
    """
    out = np.empty((len(z), *rows.Y.shape))
    if not missing_from_normals(
        z, m, rows.X, rows.Z, rows.Y, rows.cluster, rows.pattern, beta, Sigma, Psi, out
    ):
        raise SamplingError("A posterior draw of Sigma or Psi is not positive definite.")
    out += rows.fixed
    out *= s
    return out
