"""Grouping factors as kernels read them: combinations of groups, chains of nested factors, flat arrays of effects.

A *combination* is a set of rows that share the group of every factor s = 1..S. Its columns of Z are those of all factors
side by side, q in total, so that a cell (combination by pattern) has the moments of `kernels.normal.effects.Moments`, and

    Z B_c,   B_c (q, r): the effects of its groups, stacked in factor order,

is the clusters' whole contribution to the mean of its rows.

A *chain* is a factor with the factors in which it is nested, such as class, school. Its effects are drawn together with
beta (kernels/levels/tree.py). The moments needed for this are summed by *leaf*, a group of the finest factor by pattern.

The effects of all factors are in one flat vector b: those of group g of factor s begin at effect_at[s] + g n_s, with
n_s = r q_s and effect k q_s + l as in Psi_s. Psi_1, .., Psi_S (n_s, n_s) are in another, starting at psi_at[s].
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = ["EffectNormals", "NestedChains", "Factors", "PsiPriors", "RowsToFill"]


class Factors(NamedTuple):
    """Positions of the columns, effects and covariances of every factor.

    Attributes
    ----------
    group
        (K, S) int64: the group of each combination in each factor.
    column
        (S + 1,) int64: factor s has columns column[s] .. column[s + 1] - 1 of Z.
    number
        (S,) int64: number of groups.
    effect_at, psi_at
        (S + 1,) int64: see the module docstring. A Psi_s may be larger than n_s: then the rows of variables of the
        groups follow those of the effects (kernels/latent/levels.py).
    """

    group: np.ndarray
    column: np.ndarray
    number: np.ndarray
    effect_at: np.ndarray
    psi_at: np.ndarray


class EffectNormals(NamedTuple):
    """What is known of the effects of every group before its rows are seen, N(P^-1 l, P^-1): mostly N(0, Psi_s).

    Attributes
    ----------
    precision
        Flat: every P (n_s, n_s).
    at
        int64: where that of group g of factor s begins, at[parent_at[s] + g] (`NestedChains`).
    linear
        l, flat, in the order of b.
    """

    precision: np.ndarray
    at: np.ndarray
    linear: np.ndarray


class NestedChains(NamedTuple):
    """Chains of nested factors, each with its leaves.

    Attributes
    ----------
    first, factor
        Chain t has factors factor[first[t]] .. factor[first[t + 1] - 1] (int64), from the finest to the coarsest.
    parent_at, parent
        Group g of factor s belongs to group parent[parent_at[s] + g] (int64) of the chain's next coarser factor. Not read
        for the coarsest.
    leaf
        (T, C) int64: the leaf of each cell.
    leaf_first
        (T + 1,) int64: chain t has leaves leaf_first[t] .. leaf_first[t + 1] - 1 of the next two.
    leaf_group, leaf_pattern
        int64: the leaf's group of the finest factor; its pattern.
    zz_at, ZZ
        (T + 1,), flat: sums (q_t, q_t) of Z'Z by leaf; q_t columns, starting with those of the finest factor.
    zx_at, ZX
        (T + 1,), flat: sums (q_t, p) of Z'X by leaf.
    """

    first: np.ndarray
    factor: np.ndarray
    parent_at: np.ndarray
    parent: np.ndarray
    leaf: np.ndarray
    leaf_first: np.ndarray
    leaf_group: np.ndarray
    leaf_pattern: np.ndarray
    zz_at: np.ndarray
    ZZ: np.ndarray
    zx_at: np.ndarray
    ZX: np.ndarray


class PsiPriors(NamedTuple):
    """Priors of Psi_1 .. Psi_S: the fields of `kernels.covariance.update.CovarianceUpdate` as arrays.

    kind (S,) int64, nu (S,); scale: flat (n_s, n_s), starting at psi_at[s]; sd: flat (n_s,), starting at sd_at[s],
    (S + 1,) int64.
    """

    kind: np.ndarray
    nu: np.ndarray
    scale: np.ndarray
    sd: np.ndarray
    sd_at: np.ndarray


class RowsToFill(NamedTuple):
    """Rows with something missing, on the working scale.

    Attributes
    ----------
    X, Z, Y
        (R, p), (R, q), (R, r); Y with nan where missing.
    combination, cluster, pattern
        (R,) int64; cluster: group of the first factor, for which means and standard deviations are reported.
    fixed
        (R, r): the part that was subtracted from Y.
    """

    X: np.ndarray
    Z: np.ndarray
    Y: np.ndarray
    combination: np.ndarray
    cluster: np.ndarray
    pattern: np.ndarray
    fixed: np.ndarray
