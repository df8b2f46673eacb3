"""Variables of groups in the joint model on latent normals with several grouping factors.

Group g of factor s has a_g = (vec(B_sg), e_g) ~ N(0, Psi_s), e_g = v_g - gamma_s' G_g. With O its observed variables and
K = (Psi_s)_(b,O),(b,O)^-1, missing variables integrated out,

    vec(B_sg) | v_gO            ~ N(K_bb^-1 l_g, K_bb^-1),      l_g = -K_bO e_gO
    vec(gamma) | all B, v_O     ~ N(Q^-1 t, Q^-1),      Q = Q_0 + sum_g G_gO' K_OO G_gO,
                                                        t = t_0 + sum_g G_gO' (K_OO v_gO + K_Ob vec(B_sg))

The first is what `EffectNormals` says of the effects before rows are seen. The groups are rows of one table
(kernels/latent/level_records.py); K is zero outside the columns of the group's factor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bayesimp.kernels.compiled import inner
from bayesimp.kernels.draws import draw_by_precision
from bayesimp.kernels.linalg import fill
from bayesimp.notation import Integer, IntMatrix, Matrix, Stack, Vector

if TYPE_CHECKING:
    from bayesimp.kernels.latent.level_records import GroupTable, LevelsPriors
    from bayesimp.kernels.levels.records import EffectNormals, Factors

__all__ = ["copy_effects", "draw_group_coefficients", "joined", "precision_places", "renew_normals"]


@inner
def joined(groups: GroupTable, factors: Factors, Psi: Vector, out: Matrix) -> None:
    """out (w, w) <- Psi_1 .. Psi_S from their flat array, in the columns of the table of groups; 0 between factors."""
    fill(out, 0.0)
    for s in range(factors.number.size):
        first = groups.member_at[s]
        n = groups.member_at[s + 1] - first
        for e in range(n):
            for f in range(n):
                out[groups.member[first + e], groups.member[first + f]] = Psi[factors.psi_at[s] + e * n + f]


@inner
def copy_effects(groups: GroupTable, factors: Factors, r: Integer, b: Vector, V: Matrix) -> None:
    """The effects in V (M, w) <- the flat vector b."""
    for s in range(factors.number.size):
        n = r * (factors.column[s + 1] - factors.column[s])
        for g in range(factors.number[s]):
            for e in range(n):
                V[groups.first[s] + g, groups.member[groups.member_at[s] + e]] = b[
                    factors.effect_at[s] + g * n + e
                ]


@inner
def precision_places(groups: GroupTable, factors: Factors, r: Integer) -> IntMatrix:
    """(A_2, 2): where K_bb of each pattern begins in `EffectNormals.precision`; the number of its effects."""
    A = groups.factor.size
    out = np.empty((A, 2), np.int64)
    at = np.int64(0)
    for a in range(A):
        s = groups.factor[a]
        out[a, 0], out[a, 1] = at, r * (factors.column[s + 1] - factors.column[s])
        at += out[a, 1] ** 2
    return out


@inner
def renew_normals(
    groups: GroupTable, factors: Factors, places: IntMatrix, K: Stack, gamma: Matrix, V: Matrix, before: Integer,
    given: EffectNormals,
) -> None:  # fmt: skip
    """given <- K_bb and l of every group, at the current K (A_2, w, w), gamma and V (M, w); before: r q effects."""
    rows = groups.level.rows
    for a in range(places.shape[0]):
        first, n = groups.member_at[groups.factor[a]], places[a, 1]
        for e in range(n):
            for f in range(n):
                given.precision[places[a, 0] + e * n + f] = K[
                    a, groups.member[first + e], groups.member[first + f]
                ]
    e_g = np.zeros(V.shape[1])
    for s in range(factors.number.size):
        for g in range(factors.number[s]):
            i = groups.first[s] + g
            a = rows.pattern[i]
            given.at[i] = places[a, 0]
            for k in range(before, V.shape[1]):
                e_g[k] = V[i, k]
                for x in range(gamma.shape[0]):
                    e_g[k] -= rows.X[i, x] * gamma[x, k]
            for e in range(places[a, 1]):
                column = groups.member[groups.member_at[s] + e]
                l = 0.0
                for k in range(before, V.shape[1]):  # K is zero where nothing is observed
                    l -= K[a, column, k] * e_g[k]
                given.linear[factors.effect_at[s] + g * places[a, 1] + e] = l


@inner
def draw_group_coefficients(
    rng: np.random.Generator, groups: GroupTable, priors: LevelsPriors, K: Stack, V: Matrix, before: Integer,
    gamma: Matrix,
) -> bool:  # fmt: skip
    """Draw gamma (p_2, w) in place given the effects in V (M, w); False if Q is not positive definite."""
    rows, (p, w) = groups.level.rows, gamma.shape
    size = (w - before) * p
    if size == 0:
        return True
    Q, t = priors.Q0_groups.copy(), priors.t0_groups.copy()
    for i in range(V.shape[0]):
        a = rows.pattern[i]
        for k in range(before, w):
            if K[a, k, k] == 0.0:
                continue
            h = 0.0
            for j in range(w):  # V is zero where nothing is observed, and so is K
                h += K[a, k, j] * V[i, j]
            for x in range(p):
                at = (k - before) * p + x
                t[at] += rows.X[i, x] * h
                for j in range(before, w):
                    weight = K[a, k, j] * rows.X[i, x]
                    if weight != 0.0:
                        for y in range(p):
                            Q[at, (j - before) * p + y] += weight * rows.X[i, y]
    if not draw_by_precision(rng, Q, t, size):
        return False
    for e in range(size):
        x, k = e % p, before + e // p
        gamma[x, k] = t[e] if groups.coefficient[x, k] else 0.0
    return True
