"""Priors of a `JointLatent` with several grouping factors on the working scale; those without Gibbs steps are refused."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bayesimp import priors as pr
from bayesimp.errors import SpecificationError
from bayesimp.formulas.design import DesignMatrices
from bayesimp.joint.latent.clusters import EffectsAndVariables
from bayesimp.joint.latent.gibbs import RATE
from bayesimp.joint.latent.levels.gibbs import WorkingPriors
from bayesimp.joint.latent.levels.groups import Groups
from bayesimp.joint.latent.levels.table import LatentLevelsTable
from bayesimp.joint.latent.prior import coefficient_prior, residual_prior
from bayesimp.joint.levels.designs import name_of
from bayesimp.joint.levels.gibbs import psi_priors
from bayesimp.kernels.covariance.density import HALF_T
from bayesimp.kernels.covariance.update import DIAGONAL_HALF_T, FIXED, CovarianceUpdate
from bayesimp.kernels.covariance.update import HUANG_WAND as HUANG_WAND_UPDATE
from bayesimp.kernels.latent.level_records import LevelsPriors, RestrictedPriors
from bayesimp.kernels.latent.residual import HUANG_WAND, SCALES, ResidualPrior
from bayesimp.notation import Array
from bayesimp.priors.gibbs import check_proper, covariance_update

__all__ = ["working_priors"]


def working_priors(
    table: LatentLevelsTable,
    design: DesignMatrices,
    resolved: pr.Priors,
    labels: Sequence[str],
    entries: tuple[Array, tuple[Array, ...]],
    units: Sequence[EffectsAndVariables],
) -> WorkingPriors:
    """Priors as read by the kernel.

    Parameters
    ----------
    table, design
        The table on the working scale; the columns X.
    resolved, labels
        Priors in the units of the data; labels of the factors.
    entries
        Fixed entries of Sigma and of every Psi_s.
    units
        Of the effects of every factor and of the variables of its groups.

    Raises
    ------
    SpecificationError
        A prior has no Gibbs step, or is improper and leaves the posterior improper.
    """
    scale, rows = table.working.scale, int(table.moments.pattern_rows.sum())
    Sigma = pr.rescale(resolved.Sigma, scale.s)
    free_Sigma, restricted_Sigma = residual_prior(Sigma, entries[0])
    if Sigma.is_conjugate:
        check_proper(covariance_update(Sigma, len(scale.s)), rows, len(scale.s), "Sigma", "rows")
    free, restricted, start = [], [], []
    for s, label in enumerate(labels):
        Psi, w = units[s].working_Psi_prior(resolved.of_factor(label)), len(units[s].effects)
        if not Psi.is_conjugate:
            raise SpecificationError(
                f"{type(resolved.of_factor(label)).__name__} on {name_of(label)}: JointLatent is sampled by Gibbs steps, "
                "which take HuangWand, InverseWishart, Diagonal of HalfT or InverseWishart, and Fixed."
            )
        groups = int(table.factors.number[s])
        check_proper(covariance_update(Psi, w), groups, w, name_of(label), "groups")
        one, other = residual_prior(Psi, entries[1][s], name_of(label))
        free.append(one)
        restricted.append(other)
        start.append(entries[1][s] if Psi.known_value is None else Psi.known_value)
    sizes = [len(unit.effects) for unit in units]
    Q0, t0 = coefficient_prior(resolved.beta, scale, design.X, design.terms, table.variables)
    kernel = LevelsPriors(
        free_Sigma, restricted_Sigma, psi_priors(free, sizes), _flat(restricted),
        psi_priors([_moves(*pair) for pair in zip(free, restricted, strict=True)], sizes), Q0, t0,
        *_of_groups(resolved, table.groups), RATE,
    )  # fmt: skip
    known = entries[0] if Sigma.known_value is None else Sigma.known_value
    return WorkingPriors(kernel, known, tuple(start))


def _flat(priors: Sequence[ResidualPrior]) -> RestrictedPriors:
    """The records of all factors as arrays."""
    return RestrictedPriors(
        np.array([p.kind for p in priors], dtype=np.int64), np.array([p.nu for p in priors], dtype=np.float64),
        np.concatenate([np.ravel(p.scale) for p in priors]), np.concatenate([p.sd for p in priors]),
        np.array([p.eta for p in priors], dtype=np.float64), np.array([p.family for p in priors], dtype=np.int64),
        np.concatenate([p.free_sd for p in priors]), np.concatenate([np.ravel(p.free_correlation) for p in priors]),
    )  # fmt: skip


def _moves(free: CovarianceUpdate, restricted: ResidualPrior) -> CovarianceUpdate:
    """The prior with half-t standard deviations by which effects are rescaled, or FIXED if it has none."""
    if free.kind != FIXED:
        return free
    half_ts = (
        restricted.kind == SCALES and restricted.family == HALF_T and not restricted.free_correlation.any()
    )
    kind = DIAGONAL_HALF_T if half_ts else HUANG_WAND_UPDATE if restricted.kind == HUANG_WAND else FIXED
    return CovarianceUpdate(kind, restricted.nu, restricted.scale, restricted.sd)


def _of_groups(priors: pr.Priors, groups: Groups) -> tuple[Array, Array]:
    """Precision (v p_2, v p_2) of vec(gamma), and precision times mean; 1 for coefficients that do not exist."""
    p, v = groups.record.coefficient.shape[0], sum(len(table.labels) for table in groups.tables)
    Q, t = np.eye(v * p), np.zeros(v * p)
    first = 0
    for table in groups.tables:
        n, own = len(table.labels), len(table.fixed)
        if n:
            at = (np.arange(first, first + n)[:, None] * p + np.arange(own)).ravel()
            Q[np.ix_(at, at)], t[at] = coefficient_prior(
                priors.beta, table.scale, table.G, table.terms, table.variables, "beta of variables of groups"
            )
        first += n
    return Q, t
