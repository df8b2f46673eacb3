"""Priors of a `JointLatent` with one grouping factor on the working scale; those without Gibbs steps are refused."""

from __future__ import annotations

import math

import numpy as np

from bayesimp import priors as pr
from bayesimp.errors import SpecificationError
from bayesimp.formulas.design import DesignMatrices
from bayesimp.joint.latent.clusters import ClusterTable, EffectsAndVariables
from bayesimp.joint.latent.gibbs import LatentPriors
from bayesimp.joint.latent.prior import coefficient_prior, residual_prior
from bayesimp.joint.latent.table import LatentTable
from bayesimp.notation import Array
from bayesimp.priors.gibbs import check_proper, covariance_update

__all__ = ["working_priors"]

# prior scale of the sd of log variances between clusters, as in methods.Gibbs(residual="cluster")
SPREAD = 0.5


def working_priors(
    table: LatentTable,
    design: DesignMatrices,
    resolved: pr.Priors,
    entries: tuple[Array, tuple[Array, ...]],
    units: EffectsAndVariables,
    *,
    by_cluster: bool,
) -> LatentPriors:
    """Priors as read by the kernel.

    Parameters
    ----------
    table, design
        The table on the working scale; the columns X.
    resolved
        Priors in the units of the data.
    entries
        Fixed entries of Sigma, and of Psi.
    units
        Of the effects and of the cluster-level variables.
    by_cluster
        Whether every cluster has its own residual covariance.

    Raises
    ------
    SpecificationError
        A prior has no Gibbs step, or is improper and leaves the posterior improper.
    """
    scale, st = table.working.scale, table.working.statistics
    of_rows, (of_effects,) = entries
    Sigma = pr.rescale(resolved.Sigma, scale.s)
    free, restricted = residual_prior(Sigma, of_rows, by_element=by_cluster)
    Psi = units.working_Psi_prior(resolved.Psi)
    if not Psi.is_conjugate:
        raise SpecificationError(
            f"{type(resolved.Psi).__name__} on Psi: JointLatent is sampled by Gibbs steps, which take HuangWand, "
            "InverseWishart, Diagonal of HalfT or InverseWishart, and Fixed. bi.JointGLMM(...).impute(sampler='nuts') "
            "takes every proper prior."
        )
    w = len(units.effects)
    check_proper(covariance_update(Psi, w), st.clusters, w, "Psi", "clusters")
    if Sigma.is_conjugate:
        rows = int(table.moments.pattern_rows.sum())
        check_proper(covariance_update(Sigma, st.r), rows, st.r, "Sigma", "rows")
    free_Psi, restricted_Psi = residual_prior(Psi, of_effects, "Psi")
    Q0, t0 = coefficient_prior(resolved.beta, scale, design.X, design.terms, table.variables)
    Sigma_start = of_rows if Sigma.known_value is None else Sigma.known_value
    Psi_start = of_effects if Psi.known_value is None else Psi.known_value
    return LatentPriors(
        Q0, t0, *_of_clusters(table.of_clusters, resolved.beta, w), free, restricted, free_Psi, restricted_Psi,
        Sigma_start, Psi_start, SPREAD if by_cluster else math.nan,
    )  # fmt: skip


def _of_clusters(clusters: ClusterTable, beta: pr.CoefficientPrior, w: int) -> tuple[Array, Array]:
    """Precision (w p_2, w p_2) of vec(gamma), and precision times mean: zero for effects."""
    p, s = len(clusters.fixed), len(clusters.labels)
    Q, t = np.zeros((w * p, w * p)), np.zeros(w * p)
    if s:
        own = (w - s) * p
        Q[own:, own:], t[own:] = coefficient_prior(
            beta, clusters.scale, clusters.G, clusters.terms, clusters.variables,
            "beta of cluster-level variables",
        )  # fmt: skip
    return Q, t
