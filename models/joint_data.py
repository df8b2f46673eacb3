"""Input of models/joint_glmm.py: factors, blocks of effects and the table, all on the working scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bayesimp import notation as dim
from bayesimp.families.record import Family
from bayesimp.families.registry import family_of
from bayesimp.kernels.factors.columns import Programs
from bayesimp.priors.base import CovariancePrior

__all__ = ["EffectBlock", "FactorEffects", "FurtherGroups", "GLMMFactor", "JointData"]

Array = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class FactorEffects:
    """The effects of one grouping factor in a factor.

    Attributes
    ----------
    block, at
        Block that has them, and the position of the first one in it.
    columns
        (q,) positions of their columns among the columns z of the factor.
    R
        (q, q): the effects of these columns are R b_w, for each predictor.
    """

    block: int
    at: int
    columns: tuple[int, ...]
    R: Array


@dataclass(frozen=True)
class GLMMFactor:
    """One factor: p_k(y_k | y_1 .. y_k-1, b_k).

    Attributes
    ----------
    name
        Name of the response, with which the names of parameters end.
    family, link, levels
        Family and link of the response; labels of its values, or empty.
    fixed, random
        Names of the columns of x and z, whose programs are ``first``, ``first + 1``, ...
    first
        Number of the first column.
    T, s, c
        (p, p), (r,), (r,): beta = T beta_w diag(s), + c in the row `intercept` (-1: none).
    beta_mean, beta_precision
        (r p,), (r p, r p) prior mean and precision of vec(beta_w); precision 0 is flat.
    variance
        Prior of the residual variance of a normal response on the working scale.
    effects
        Its effects of the clusters and of further grouping factors.
    variable
        Number of the response among the variables.
    center, unit
        y = (v - center) / unit for a numeric variable v.
    values
        Numbers that formulas use for each level.
    used
        (n,) whether a row counts in the factor.
    trials, offset
        (n,) trials of binomial responses, else 1; known part of the linear predictor.
    lower, upper
        (n,) limits of censored values on the scale of y; infinite if there is none.
    at_cluster
        Whether the response is at the cluster level, in which case only the first row of each cluster counts.
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
    beta_mean: Array
    beta_precision: Array
    variance: CovariancePrior | None
    effects: tuple[FactorEffects, ...]
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
        """The record of the response's family."""
        return family_of(self.family)

    @property
    def predictors(self) -> int:
        """r."""
        return self.distribution.predictors(len(self.levels))

    @property
    def is_summed(self) -> bool:
        """Whether missing cells are summed out, as are levels and successes out of trials."""
        return self.distribution.is_coded or self.distribution.takes_trials


@dataclass(frozen=True)
class EffectBlock:
    """Effects with one covariance matrix.

    Attributes
    ----------
    end
        Ending of the names of the block's variables; empty if there is only one block.
    labels
        (d,) names of the effects.
    prior
        Resolved prior of Psi_w.
    E
        (d, d): Psi = E Psi_w E', b = E b_w.
    level
        0 for effects of clusters, s for those of the groups of the s-th further grouping factor.
    """

    end: str
    labels: tuple[str, ...]
    prior: CovariancePrior
    E: Array
    level: int = 0


@dataclass(frozen=True)
class FurtherGroups:
    """A grouping factor besides the clusters.

    Attributes
    ----------
    dim
        Name of its dimension.
    labels
        Labels of its groups.
    codes
        (n,) group of each row, from 0.
    """

    dim: str
    labels: Sequence
    codes: Ints


@dataclass(frozen=True)
class JointData:
    """Everything that the model needs.

    Attributes
    ----------
    factors, blocks
        Factors and blocks, in order.
    V, Y
        (n, v), (n, K) variables and responses, with rows sorted by cluster and NaN for missing values.
    cluster
        (n,) cluster of each row, from 0.
    programs, means, divisor
        Programs of columns, and means over clusters: their programs, and the divisors (m, e) of sums over a cluster.
    labels
        (m,) labels of the clusters.
    row
        (n,) position of each row in the table, used as a label.
    further
        Grouping factors besides the clusters.
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
    further: Sequence[FurtherGroups] = field(default_factory=tuple)

    @property
    def dims(self) -> list[str]:
        """Names of the dimensions of clusters, and of the groups of further grouping factors."""
        return [dim.CLUSTER, *(groups.dim for groups in self.further)]

    @property
    def codes(self) -> list[Ints]:
        """(n,) cluster of each row, and its group in every further grouping factor."""
        return [self.cluster, *(groups.codes for groups in self.further)]
