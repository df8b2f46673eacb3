"""A visit of a chain of nested factors: beta and its effects drawn given all others, then rescaled with their Psi_s."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bayesimp.kernels.compiled import inner
from bayesimp.kernels.covariance.update import invert
from bayesimp.kernels.levels.scales import rescale_factor
from bayesimp.kernels.levels.sums import gather, own_columns, pack, subtract_others, unpack
from bayesimp.kernels.levels.tree import draw_chain
from bayesimp.notation import Integer, IntVector, Matrix, Stack, Vector

if TYPE_CHECKING:
    from bayesimp.kernels.levels.records import EffectNormals, Factors, NestedChains, PsiPriors
    from bayesimp.kernels.normal.effects import Moments

__all__ = ["common_blocks", "invert_factors", "visit_chain"]


@inner
def common_blocks(factors: Factors) -> IntVector:
    """`EffectNormals.at` where the effects of factor s have precision Psi_s^-1 in every group."""
    at = np.empty(factors.number.sum(), np.int64)
    i = 0
    for s in range(factors.number.size):
        for _ in range(factors.number[s]):
            at[i] = factors.psi_at[s]
            i += 1
    return at


@inner
def invert_factors(factors: Factors, priors: PsiPriors, Psi: Vector, Psi_inverse: Vector) -> bool:
    """Psi_inverse, flat, <- the inverses of all Psi_s; False if one is not positive definite."""
    for s in range(factors.number.size):
        n = priors.sd_at[s + 1] - priors.sd_at[s]
        Psi_s, inverse = np.empty((n, n)), np.empty((n, n))
        unpack(Psi, factors.psi_at[s], Psi_s)
        if not invert(Psi_s, inverse):
            return False
        pack(inverse, Psi_inverse, factors.psi_at[s])
    return True


@inner
def visit_chain(
    rng: np.random.Generator, W: Stack, m: Moments, factors: Factors, chains: NestedChains, t: Integer,
    given: EffectNormals, priors: PsiPriors, Q0: Matrix, t0: Vector, Psi: Vector, Psi_inverse: Vector, beta: Matrix,
    b: Vector, B: Stack, XY: Stack, ZY: Vector, work: Vector,
) -> Integer:  # fmt: skip
    """Visit chain t: beta (p, r), b, B (K, q, r), Psi and Psi_inverse change in place; XY, ZY, work are overwritten.

    Returns 0, or a code of `draw_chain`.
    """
    q = m.ZZ.shape[1]
    own, order = np.empty(q, np.bool_), np.empty(q, np.int64)
    columns = own_columns(factors, chains, t, own, order)
    subtract_others(m, chains, t, own, order, columns, B, XY, ZY)
    failed = draw_chain(rng, W, m, factors, chains, t, given, Q0, t0, XY, ZY, beta, b, work)
    if failed:
        return failed
    for at in range(chains.first[t], chains.first[t + 1]):
        gather(factors, chains.factor[at], b, B)
    for at in range(chains.first[t], chains.first[t + 1]):
        rescale_factor(rng, factors, chains.factor[at], priors, W, m, beta, b, B, Psi, Psi_inverse)
    return np.int64(0)
