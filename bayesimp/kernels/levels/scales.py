"""The move of kernels/normal/rescale.py for one of several factors, given the effects of the others.

lambda = sum over cells of b * vec( Z_s'(Y - X beta - sum of Z_u B_u over u other than s) W_a )
Lambda = sum over cells of diag(b) (W_a kron Z_s'Z_s) diag(b)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bayesimp.kernels.compiled import inner
from bayesimp.kernels.covariance.update import DIAGONAL_HALF_T, HUANG_WAND
from bayesimp.kernels.levels.sums import gather, pack, unpack
from bayesimp.kernels.linalg import fill
from bayesimp.kernels.normal.rescale import propose_scales
from bayesimp.notation import Integer, Matrix, Stack, Vector

if TYPE_CHECKING:
    from bayesimp.kernels.levels.records import Factors, PsiPriors
    from bayesimp.kernels.normal.effects import Moments

__all__ = ["rescale_factor"]


@inner
def _likelihood_of_scales(
    factors: Factors, s: Integer, W: Stack, m: Moments, beta: Matrix, B: Stack, Lambda: Matrix, lam: Vector
) -> None:
    """Lambda (n, n), lam (n,) of the module's equations <- their values at the current B (K, q, r)."""
    K, q, r = B.shape
    p, first = beta.shape[0], factors.column[s]
    width = factors.column[s + 1] - first
    fill(Lambda, 0.0)
    for e in range(lam.size):
        lam[e] = 0.0
    for c in range(K):
        for cell in range(m.first[c], m.first[c + 1]):
            a = m.cell_pattern[cell]
            for l in range(width):
                for j in range(r):
                    T = m.ZY[cell, first + l, j]
                    for x in range(p):
                        T -= m.ZX[cell, first + l, x] * beta[x, j]
                    for h in range(q):
                        if h < first or h >= first + width:
                            T -= m.ZZ[cell, first + l, h] * B[c, h, j]
                    for k in range(r):
                        wb = W[a, k, j] * B[c, first + l, k]
                        lam[k * width + l] += wb * T
                        for h in range(width):
                            Lambda[k * width + l, j * width + h] += (
                                wb * m.ZZ[cell, first + l, first + h] * B[c, first + h, j]
                            )


@inner
def rescale_factor(
    rng: np.random.Generator, factors: Factors, s: Integer, priors: PsiPriors, W: Stack, m: Moments, beta: Matrix,
    b: Vector, B: Stack, Psi: Vector, Psi_inverse: Vector,
) -> None:  # fmt: skip
    """Rescale the effects of factor s, Psi_s and its inverse together if its prior has half-t standard deviations.

    Both copies of the effects change: b by group, B (K, q, r) by combination. Psi, Psi_inverse: flat. Rows of Psi_s after
    those of the effects belong to variables of the groups, which keep their values; d counts all rows.
    """
    kind = priors.kind[s]
    if kind != HUANG_WAND and kind != DIAGONAL_HALF_T:
        return
    w, n = priors.sd_at[s + 1] - priors.sd_at[s], W.shape[1] * (factors.column[s + 1] - factors.column[s])
    Psi_s, inverse, sd = np.empty((w, w)), np.empty((w, w)), np.empty(w)
    unpack(Psi, factors.psi_at[s], Psi_s)
    unpack(Psi_inverse, factors.psi_at[s], inverse)
    for e in range(w):
        sd[e] = priors.sd[priors.sd_at[s] + e]
    Lambda, lam, alphas = np.empty((n, n)), np.empty(n), np.empty(n)
    _likelihood_of_scales(factors, s, W, m, beta, B, Lambda, lam)
    d = w if kind == HUANG_WAND else np.int64(1)
    if propose_scales(rng, priors.nu[s], sd, d, Lambda, lam, Psi_s, inverse, alphas) == 0:
        return
    pack(Psi_s, Psi, factors.psi_at[s])
    pack(inverse, Psi_inverse, factors.psi_at[s])
    for g in range(factors.number[s]):
        for e in range(n):
            b[factors.effect_at[s] + g * n + e] *= alphas[e]
    gather(factors, s, b, B)
