"""Grouping factors as kernels read them: combinations of groups, chains of nested factors, flat arrays of effects.

A *combination* is a set of rows that share the group of every factor s = 1..S. Its columns of Z are those of all factors,
side by side, q in all, so that a cell (combination by pattern) has the moments of `kernels.normal.effects.Moments`, and

    Z B_c,   B_c (q, r): the effects of its groups, stacked in the order of the factors,

is everything that clusters add to the mean of its rows.

A *chain* is a factor with the factors in which it is nested: class, school. Its effects are drawn together with beta
(kernels/levels/tree.py). What this needs of the moments is summed by *leaf*, a group of the finest factor by pattern.

Effects of factor s are in one flat vector b: those of group g begin at effect_at[s] + g n_s, n_s = r q_s, effect k q_s +
l as in Psi_s. Psi_1, .., Psi_S (n_s, n_s) are in another, from psi_at[s].
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = ["NestedChains", "Factors", "PsiPriors", "RowsToFill"]


class Factors(NamedTuple):
    """Where the columns, effects and covariances of every factor are.

    Attributes
    ----------
    group
        (K, S) int64: the group of each combination in each factor.
    column
        (S + 1,) int64: factor s has columns column[s] .. column[s + 1] - 1 of Z.
    number
        (S,) int64: how many groups there are.
    effect_at, psi_at
        (S + 1,) int64: see the module.
    """

    group: np.ndarray
    column: np.ndarray
    number: np.ndarray
    effect_at: np.ndarray
    psi_at: np.ndarray


class NestedChains(NamedTuple):
    """Chains of nested factors, each with its leaves.

    Attributes
    ----------
    first, factor
        Chain t has factors factor[first[t]] .. factor[first[t + 1] - 1] (int64), from the finest to the coarsest.
    parent_at, parent
        The group of the next coarser factor of the chain to which group g of factor s belongs: parent[parent_at[s] + g],
        int64. Nothing is read for the coarsest.
    leaf
        (T, C) int64: the leaf of each cell.
    leaf_first
        (T + 1,) int64: chain t has leaves leaf_first[t] .. leaf_first[t + 1] - 1 of the next two.
    leaf_group, leaf_pattern
        int64: group of the finest factor; pattern.
    zz_at, ZZ
        (T + 1,), flat: sums (q_t, q_t) of Z'Z by leaf; q_t columns, those of the finest factor first.
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
    """Priors of Psi_1 .. Psi_S: `kernels.covariance.update.CovarianceUpdate`, taken apart.

    kind (S,) int64, nu (S,); scale: flat (n_s, n_s), from psi_at[s]; sd: flat (n_s,), from sd_at[s], (S + 1,) int64.
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
        (R,) int64; cluster: group of the first factor, by which means and standard deviations are reported.
    fixed
        (R, r): what was subtracted from Y.
    """

    X: np.ndarray
    Z: np.ndarray
    Y: np.ndarray
    combination: np.ndarray
    cluster: np.ndarray
    pattern: np.ndarray
    fixed: np.ndarray
