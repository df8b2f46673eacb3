"""What models/joint_glmm.py makes its model from: factors, blocks of effects, the table, all on the working scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bayesimp.families.record import Family
from bayesimp.families.registry import family_of
from bayesimp.kernels.factors.columns import Programs
from bayesimp.priors.base import CovariancePrior

__all__ = ["EffectBlock", "GLMMFactor", "JointData"]

Array = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class GLMMFactor:
    """One factor: p_k(y_k | y_1 .. y_k-1, b_k).

    Attributes
    ----------
    name
        Of the response, as the names of parameters end.
    family, link, levels
        Of the response; levels: labels of its values, or empty.
    fixed, random
        Names of the columns of x and z; their programs are ``first``, ``first + 1``, ..
    first
        Number of its first column.
    T, s, c
        (p, p), (r,), (r,): beta = T beta_w diag(s), + c in the row `intercept` (-1: none).
    R
        (q, q): effects of the columns z are R b_w.
    beta_mean, beta_precision
        (r p,), (r p, r p) of vec(beta_w); precision 0: flat.
    variance
        Prior of the residual variance on the working scale, of normal responses.
    block, at
        The block of its effects, and where they begin in it.
    variable
        Its number among the variables.
    center, unit
        y = (v - center) / unit for a variable v of numbers.
    values
        Numbers that formulas compute with, level by level.
    used
        (n,) whether a row counts in the factor.
    trials, offset
        (n,) trials of binomials, else 1; known part of the linear predictor.
    lower, upper
        (n,) limits of censored values on the scale of y, infinite where there is none.
    at_cluster
        Whether the response has one value in a cluster; then the first row of each cluster counts.
    """

    name: str
    family: str
    link: str
    levels: tuple[str, ...]
    fixed: tuple[str, ...]
    random: tuple[str, ...]
    first: int
    T: Array
    s: Array
    c: Array
    intercept: int
    R: Array
    beta_mean: Array
    beta_precision: Array
    variance: CovariancePrior | None
    block: int
    at: int
    variable: int
    center: float
    unit: float
    values: Array
    used: NDArray[np.bool_]
    trials: Array
    offset: Array
    lower: Array
    upper: Array
    at_cluster: bool

    @property
    def distribution(self) -> Family:
        """The record of its family."""
        return family_of(self.family)

    @property
    def predictors(self) -> int:
        """r."""
        return self.distribution.predictors(len(self.levels))

    @property
    def is_summed(self) -> bool:
        """Whether missing cells are summed out: of levels, and of successes out of trials."""
        return self.distribution.is_coded or self.distribution.takes_trials


@dataclass(frozen=True)
class EffectBlock:
    """Effects with one covariance matrix.

    Attributes
    ----------
    end
        How the names of its variables end; empty where there is one block.
    labels
        (d,) names of the effects.
    prior
        Of Psi_w, resolved.
    E
        (d, d): Psi = E Psi_w E', b = E b_w.
    """

    end: str
    labels: tuple[str, ...]
    prior: CovariancePrior
    E: Array


@dataclass(frozen=True)
class JointData:
    """All that the model needs.

    Attributes
    ----------
    factors, blocks
        In order.
    V, Y
        (n, v), (n, K) variables and responses, rows sorted by cluster, NaN where missing.
    cluster
        (n,) from 0.
    programs, means, divisor
        Columns, and means over clusters: their programs, and the numbers (m, e) by which sums over a cluster are divided.
    labels
        (m,) of the clusters.
    row
        (n,) place of each row in the table, a label.
    """

    factors: Sequence[GLMMFactor]
    blocks: Sequence[EffectBlock]
    V: Array
    Y: Array
    cluster: Ints
    programs: Programs
    means: Programs
    divisor: Array
    labels: Sequence
    row: Ints
