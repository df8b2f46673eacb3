"""Simulated collections of studies, after Kunkel & Kaizar (2017), section 4.

y_ij = z_ij b_i + e_ij,   b_i ~ N(0, Psi),   e_ij ~ N(0, Sigma);   z_ij = 1, or z_ij ~ N(0, 1) (random slopes)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from bayesimp.arguments import generator, numbers, whole
from bayesimp.errors import SpecificationError

__all__ = ["simulate_studies"]


def simulate_studies(
    sizes: Sequence[int],
    Sigma: ArrayLike,
    Psi: ArrayLike,
    *,
    missing: Mapping[str, Sequence[int]] | None = None,
    slope: bool = False,
    seed: int,
) -> pd.DataFrame:
    """SIMULATE studies of r variables with mean zero, some of which did not measure some variables.

    The values do not depend on `missing`: without it, the same seed gives the complete table.

    Parameters
    ----------
    sizes
        (m,) number of rows of each study.
    Sigma, Psi
        (r, r) covariances within and between studies; Psi may be singular.
    missing
        Variable -> studies, counted from 0, that lack it: ``{"y1": [1], "y2": [4]}``.
    slope
        Whether there are random slopes on a column ``z`` ~ N(0, 1) instead of random intercepts (simulation 4 of the
        paper).
    seed
        Seed of the random numbers.

    Returns
    -------
    DataFrame with ``study`` (1 .. m), ``y1`` .. ``yr`` and, for slopes, ``z``.

    Raises
    ------
    SpecificationError
        If shapes do not match, a matrix is not a covariance, or a variable or study does not exist.
    """
    Sigma, Psi, rng = numbers(Sigma, "Sigma"), numbers(Psi, "Psi"), generator(seed)
    if Sigma.ndim != 2 or Sigma.shape != Psi.shape or Sigma.shape[0] != Sigma.shape[1]:
        raise SpecificationError(
            f"Sigma and Psi must be square and of the same size, got {Sigma.shape} and {Psi.shape}."
        )
    if not isinstance(sizes, Sequence | np.ndarray) or isinstance(sizes, str) or len(sizes) == 0:
        raise SpecificationError(f"sizes must be the rows of each study, as in [30, 40], got {sizes!r}.")
    sizes = [whole(size, "sizes: rows of a study") for size in sizes]
    m, r, N = len(sizes), len(Sigma), sum(sizes)
    codes = np.repeat(np.arange(m), sizes)
    try:
        b = rng.multivariate_normal(np.zeros(r), Psi, m, check_valid="raise", method="eigh")
        e = rng.multivariate_normal(np.zeros(r), Sigma, N, check_valid="raise", method="eigh")
    except ValueError:
        raise SpecificationError("Sigma and Psi must be symmetric and have no negative eigenvalue.") from None
    z = rng.standard_normal(N) if slope else np.ones(N)
    names = [f"y{k + 1}" for k in range(r)]
    table = pd.DataFrame(z[:, None] * b[codes] + e, columns=names)
    table.insert(0, "study", codes + 1)
    if slope:
        table["z"] = z
    for name, studies in _lacking(missing).items():
        if name not in names or not set(studies) <= set(range(m)):
            raise SpecificationError(
                f"missing: {name!r} in studies {list(studies)}; there are {', '.join(names)} and studies "
                f"0 to {m - 1}."
            )
        table.loc[np.isin(codes, list(studies)), name] = np.nan
    return table


def _lacking(missing: Mapping[str, Sequence[int]] | None) -> Mapping[str, Sequence[int]]:
    """Variable -> studies, checked."""
    found = {} if missing is None else missing
    if not isinstance(found, Mapping) or not all(
        isinstance(s, Sequence | np.ndarray) for s in found.values()
    ):
        raise SpecificationError(f"missing must be {{variable: [studies, from 0]}}, got {missing!r}.")
    return {
        name: [whole(s, f"missing: a study that lacks {name!r}", 0) for s in studies]
        for name, studies in found.items()
    }
