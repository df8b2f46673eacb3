"""Priors of a joint GLMM as read by its kernels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bayesimp import priors as pr
from bayesimp.errors import SpecificationError
from bayesimp.joint.glmm.blocks import EffectsBlock, blocks_of, places_of
from bayesimp.joint.glmm.factors import Factor
from bayesimp.joint.glmm.scale import JointScale, joint_scale
from bayesimp.joint.glmm.table import FactorTable
from bayesimp.kernels.covariance.update import CovarianceUpdate
from bayesimp.priors import CovariancePrior
from bayesimp.priors.coefficients import CoefficientPrior
from bayesimp.priors.gibbs import beta_prior, check_proper, covariance_update

__all__ = [
    "FactorPriors",
    "beta_of",
    "block_scale",
    "blocks_in",
    "factor_beta",
    "factor_priors",
    "layout_of",
    "resolved_Psi",
    "resolved_variance",
]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class FactorPriors:
    """Priors on the working scale.

    Attributes
    ----------
    beta
        By factor: precision (r p, r p) of vec(beta), and precision times mean.
    variance
        By factor: prior of the residual variance, used for normal responses only.
    blocks
        The blocks of effects.
    updates, known
        By block: the conjugate update of Psi, and Psi itself if it is known.
    known_sd
        (K,) residual standard deviations that are known, else NaN.
    """

    beta: list[tuple[Array, Array]]
    variance: list[CovarianceUpdate]
    blocks: list[EffectsBlock]
    updates: list[CovarianceUpdate]
    known: list[Array | None]
    known_sd: Array

    @cached_property
    def places(self) -> list[dict[int, tuple[int, int]]]:
        """By level and factor: the block of its effects, and their first position in it."""
        return places_of(self.blocks)

    @property
    def place(self) -> dict[int, tuple[int, int]]:
        """The same of the effects of clusters."""
        return self.places[0]


def layout_of(table: FactorTable, separate: bool) -> FactorPriors:
    """The layout of effects without priors, which suffices for a `Sampler` that draws no parameters."""
    return FactorPriors([], [], blocks_in(table, separate), [], [], np.zeros(0))


def blocks_in(table: FactorTable, separate: bool) -> list[EffectsBlock]:
    """The blocks of effects of a table, without the label of the clusters."""
    return blocks_of(table.factors, separate, "", [groups.label for groups in table.further])


def factor_beta(prior: CoefficientPrior, factor: Factor) -> CoefficientPrior:
    """The prior of a factor's coefficients: weak if the stated one is flat and the likelihood may have no maximum."""
    return prior if factor.family.has_normal_errors else prior.for_generalised()


def beta_of(table: FactorTable, priors: pr.Priors, k: int) -> tuple[Array, Array]:
    """Precision (r p, r p) of vec(beta_w) of factor k, and precision times mean."""
    factor, scale = table.factors[k], table.scales[k]
    own = factor_beta(priors.beta, factor)
    Q0, t0 = beta_prior(own, scale, factor.predictors, f"beta of '{factor.response}'")
    if own.follows_mean and factor.family.has_log_mean_intercept and scale.intercept >= 0:
        t0[scale.intercept] = Q0[scale.intercept, scale.intercept] * np.log(table.observed[k].mean())
    return Q0, t0


def resolved_variance(priors: pr.Priors, table: FactorTable, k: int) -> CovariancePrior:
    """The prior of a residual variance with every number explicit, in the units of the data."""
    return pr.resolve(priors.Sigma, table.scales[k].s, f"sigma2 of '{table.factors[k].response}'")


def block_scale(table: FactorTable, block: EffectsBlock) -> JointScale:
    """The scale of the effects of a block."""
    return joint_scale([table.scales[k] for k in block.factors], block.level)


def resolved_Psi(
    priors: pr.Priors, table: FactorTable, block: EffectsBlock, cluster: str
) -> tuple[CovariancePrior, JointScale]:
    """The prior of a block of Psi in the units of the data, and the scale of its effects; cluster: label of level 0."""
    scale = block_scale(table, block)
    names = ", ".join(f"'{table.factors[k].response}'" for k in block.factors)
    label = table.further[block.level - 1].label if block.level else cluster
    where = f"Psi_{label}" if table.further else "Psi"
    return scale.Psi_prior(priors.of_factor(label), f"{where} of {names}"), scale


def factor_priors(
    table: FactorTable, priors: pr.Priors, separate: bool, only: int | None = None, cluster: str = ""
) -> FactorPriors:
    """Priors of all factors.

    only: of one factor with separate effects, with placeholders for the others. cluster: label of the clusters.

    Raises
    ------
    SpecificationError
        A prior has no conjugate update, or is improper and leaves the posterior improper.
    """
    blocks = blocks_in(table, separate)
    updates: list[CovarianceUpdate] = []
    known: list[Array | None] = []
    for block in blocks:
        d, where = block.size, f"Psi{block.end}"
        if d == 0 or only not in (None, block.factors[0]):
            updates.append(CovarianceUpdate(4, 0.0, np.zeros((0, 0)), np.zeros(0)))
            known.append(None)
            continue
        prior, scale = resolved_Psi(priors, table, block, cluster)
        working = scale.working_Psi_prior(prior)
        updates.append(_update(working, d, "Psi" if block.level == 0 else where))
        check_proper(
            updates[-1],
            table.number(block.level),
            d,
            "Psi" if block.level == 0 else where,
            "groups" if block.level else "clusters",
        )
        known.append(working.known_value)
    beta, variance, known_sd = [], [], np.full(len(table.factors), np.nan)
    for k, factor in enumerate(table.factors):
        scale_k = table.scales[k]
        Q0, t0 = beta_of(table, priors, k)
        beta.append((np.ascontiguousarray(Q0), np.ascontiguousarray(t0)))
        if not factor.family.has_normal_errors or only not in (None, k):
            variance.append(CovarianceUpdate(4, 0.0, np.zeros((1, 1)), np.zeros(1)))
            continue
        Sigma = pr.rescale(resolved_variance(priors, table, k), scale_k.s)
        update = _update(Sigma, 1, f"sigma2 of '{factor.response}'")
        check_proper(update, len(table.rows[k]), 1, f"sigma2 of '{factor.response}'", "rows")
        variance.append(update)
        if Sigma.known_value is not None:
            known_sd[k] = np.sqrt(Sigma.known_value[0, 0])
    return FactorPriors(beta, variance, blocks, updates, known, known_sd)


def _update(prior: CovariancePrior, d: int, where: str) -> CovarianceUpdate:
    if not prior.is_conjugate:
        raise SpecificationError(
            f"{where}: the Gibbs sampler of the joint GLMM has no update for {type(prior).__name__}; use HuangWand, "
            "InverseWishart or Diagonal, or sampler='nuts'."
        )
    return covariance_update(prior, d)
