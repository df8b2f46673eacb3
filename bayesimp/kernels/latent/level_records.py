"""Records of the joint model on latent normals with several grouping factors, as its kernels read them.

The groups of all factors are the rows of one table, factor after factor, so that what the sampler does with clusters
(kernels/latent/effects.py) it does with the groups of all factors at once. Its w columns are the r q effects, kq + l for
column l of Z (those of all factors side by side, kernels/levels/records.py), then the latent variables of the variables
of groups. Only the columns of factor s belong to a group of this factor; the others count as not observed, and Psi,
block by block (Psi_1, .., Psi_S), has zeros between them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from bayesimp.kernels.covariance.update import CovarianceUpdate
    from bayesimp.kernels.latent.records import LatentLevel
    from bayesimp.kernels.latent.residual import ResidualPrior
    from bayesimp.kernels.levels.records import PsiPriors

__all__ = ["GroupTable", "LevelsKept", "LevelsPriors", "LevelsState", "RestrictedPriors"]


class GroupTable(NamedTuple):
    """The groups of all factors.

    level: groups as rows (M), their columns, their missing cells; factor (A_2,): factor of each of their patterns;
    member, member_at (S + 1,): the columns of factor s, member[member_at[s] : member_at[s + 1]], effects first, in the
    order of Psi_s; first (S + 1,): first group of each factor; coefficient (p_2, w) bool: which gamma are estimated.
    """

    level: LatentLevel
    factor: np.ndarray
    member: np.ndarray
    member_at: np.ndarray
    first: np.ndarray
    coefficient: np.ndarray


class RestrictedPriors(NamedTuple):
    """The fields of `kernels.latent.residual.ResidualPrior` for Psi_1 .. Psi_S, as arrays (`PsiPriors`)."""

    kind: np.ndarray
    nu: np.ndarray
    scale: np.ndarray
    sd: np.ndarray
    eta: np.ndarray
    family: np.ndarray
    free_sd: np.ndarray
    free_correlation: np.ndarray


class LevelsPriors(NamedTuple):
    """All priors on the working scale.

    free_Sigma, restricted_Sigma, free, restricted: for Sigma and every Psi_s without and with fixed entries (see
    `kernels.latent.records.SamplerPriors`); moves: half-t standard deviations, which the rescaling of effects needs, of
    whichever of the two applies. Q0 (r p, r p), t0 (r p,): of vec(beta); Q0_groups (v p_2, v p_2), t0_groups: of
    vec(gamma) of the v latent variables of groups, the identity for coefficients that do not exist. rate: of the
    increments between cutpoints.
    """

    free_Sigma: CovarianceUpdate
    restricted_Sigma: ResidualPrior
    free: PsiPriors
    restricted: RestrictedPriors
    moves: PsiPriors
    Q0: np.ndarray
    t0: np.ndarray
    Q0_groups: np.ndarray
    t0_groups: np.ndarray
    rate: float


class LevelsState(NamedTuple):
    """Current state of a chain.

    Y, cutpoints, beta, Sigma as in `kernels.latent.records.LatentState`; b, Psi: flat (kernels/levels/records.py), Psi
    with the variables of groups; V (M, w), group_cutpoints, gamma (p_2, w): of the table of groups.
    """

    Y: np.ndarray
    cutpoints: np.ndarray
    beta: np.ndarray
    b: np.ndarray
    Sigma: np.ndarray
    Psi: np.ndarray
    V: np.ndarray
    group_cutpoints: np.ndarray
    gamma: np.ndarray


class LevelsKept(NamedTuple):
    """Arrays for D kept states, and for the imputed cells of every `stride`-th of them.

    beta (D, p, r), Sigma (D, r, r), Psi (D, flat), cutpoints, gamma (D, p_2, w), group_cutpoints; mean, sd (D, m, V),
    group_mean, group_sd (D, m, V_2), m: primary clusters; b (D, flat), or (0, flat) if effects are not kept; cells
    (D / stride, cells): those of rows, then of groups.
    """

    beta: np.ndarray
    Sigma: np.ndarray
    Psi: np.ndarray
    cutpoints: np.ndarray
    gamma: np.ndarray
    group_cutpoints: np.ndarray
    mean: np.ndarray
    sd: np.ndarray
    group_mean: np.ndarray
    group_sd: np.ndarray
    b: np.ndarray
    cells: np.ndarray
