"""Priors of a `JointLatent` on the working scale; those that its sampler cannot take are refused."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from bayesimp import priors as pr
from bayesimp.errors import SpecificationError
from bayesimp.joint.latent.gibbs import LatentPriors
from bayesimp.joint.latent.prior import coefficient_prior, residual_prior
from bayesimp.notation import Array
from bayesimp.priors.gibbs import check_proper, covariance_update

if TYPE_CHECKING:
    from bayesimp.joint.latent.model import JointLatent

__all__ = ["working_priors"]

# prior scale of the sd of log variances between clusters, as in methods.Gibbs(residual="cluster")
SPREAD = 0.5


def working_priors(model: JointLatent) -> LatentPriors:
    """Priors as read by the kernel.

    Raises
    ------
    SpecificationError
        A prior has no Gibbs step, or is improper and leaves the posterior improper.
    """
    table, resolved = model.table, model.resolved
    scale, st = table.working.scale, table.working.statistics
    random = model.residual == "cluster"
    Sigma = pr.rescale(resolved.Sigma, scale.s)
    free, restricted = residual_prior(Sigma, model.entries, by_element=random)
    Psi = model.effect_scale.working_Psi_prior(resolved.Psi)
    if not Psi.is_conjugate:
        raise SpecificationError(
            f"{type(resolved.Psi).__name__} on Psi: JointLatent is sampled by Gibbs steps, which take HuangWand, "
            "InverseWishart, Diagonal of HalfT or InverseWishart, and Fixed. bi.JointGLMM(...).impute(sampler='nuts') "
            "takes every proper prior."
        )
    w = len(model.effects)
    check_proper(covariance_update(Psi, w), st.clusters, w, "Psi", "clusters")
    if Sigma.is_conjugate:
        rows = int(table.moments.pattern_rows.sum())
        check_proper(covariance_update(Sigma, st.r), rows, st.r, "Sigma", "rows")
    free_Psi, restricted_Psi = residual_prior(Psi, model.effect_entries, "Psi")
    design, beta = model.design, model.priors.beta
    Q0, t0 = coefficient_prior(beta, scale, design.X, design.terms, table.variables)
    Sigma_start = model.entries if Sigma.known_value is None else Sigma.known_value
    Psi_start = model.effect_entries if Psi.known_value is None else Psi.known_value
    return LatentPriors(
        Q0, t0, *_of_clusters(model, w), free, restricted, free_Psi, restricted_Psi, Sigma_start, Psi_start,
        SPREAD if random else math.nan,
    )  # fmt: skip


def _of_clusters(model: JointLatent, w: int) -> tuple[Array, Array]:
    """Precision (w p_2, w p_2) of vec(gamma), and precision times mean: zero for effects."""
    clusters = model.table.of_clusters
    p, s = len(clusters.fixed), len(clusters.labels)
    Q, t = np.zeros((w * p, w * p)), np.zeros(w * p)
    if s:
        own = (w - s) * p
        Q[own:, own:], t[own:] = coefficient_prior(
            model.priors.beta, clusters.scale, clusters.G, clusters.terms, clusters.variables,
            "beta of cluster-level variables",
        )  # fmt: skip
    return Q, t
