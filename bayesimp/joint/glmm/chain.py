"""A chain of the joint GLMM: its start, and everything needed to continue it exactly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bayesimp.joint.glmm.prior import FactorPriors
from bayesimp.joint.glmm.table import FactorTable
from bayesimp.kernels.families.codes import NORMAL
from bayesimp.kernels.families.responses import dispersed_aux
from bayesimp.kernels.glmm.gibbs import TALLIES
from bayesimp.sampling.chains import chain_rng

__all__ = ["ChainState", "fill_censored", "filled", "no_effects", "numbers", "start_chain"]

Array = NDArray[np.float64]


@dataclass
class ChainState:
    """The state of a chain, sufficient to continue it exactly; parameters on the working scale.

    Attributes
    ----------
    V, Y
        (n, v), (n, K) completed variables and responses, rows in the sampler's order; NaN in the cells of leaves.
    beta, aux
        By factor: (p, r), (a,).
    sd
        (K,) residual standard deviations of normal responses.
    Psi, B
        By block of effects: (D, D), (m, D), m being the number of clusters or groups.
    tallies
        (K, 5, 2), as in `bayesimp.kernels.glmm.gibbs.TALLIES`.
    step, moved
        (K,) sqrt(1 - rho^2) of the move of effects and cells together (kernels/factors/together.py), tuned in warm-up;
        (K, 2) numbers of proposals and acceptances.
    failed
        Draws of cells, or of effects with cells summed out, without a finite value: these kept their current value.
    """

    V: Array
    Y: Array
    beta: list[Array]
    aux: list[Array]
    sd: Array
    Psi: list[Array]
    B: list[Array]
    rng: np.random.Generator
    tallies: NDArray[np.int64]
    step: Array
    moved: NDArray[np.int64]
    failed: int = 0


def start_chain(table: FactorTable, priors: FactorPriors, seed: int, chain: int) -> ChainState:
    """A dispersed start: missing values drawn from observed ones, random scales, no effects."""
    rng = chain_rng(seed, chain)
    V, Y = filled(table, rng)
    aux = [dispersed_aux(rng, f.code, len(f.levels)) for f in table.factors]
    Psi = [
        np.diag(np.exp(rng.normal(-1.5, 1.0, block.size))) if known is None else known.copy()
        for block, known in zip(priors.blocks, priors.known, strict=True)
    ]
    sd = np.array([np.exp(rng.normal(0.0, 0.3)) if f.code == NORMAL else 1.0 for f in table.factors])
    return ChainState(
        V, Y, [np.zeros((len(f.fixed), f.predictors)) for f in table.factors], aux,
        np.where(np.isnan(priors.known_sd), sd, priors.known_sd), Psi,
        no_effects(table, priors), rng,
        np.zeros((len(table.factors), len(TALLIES), 2), dtype=np.int64), np.full(len(table.factors), 0.5),
        np.zeros((len(table.factors), 2), dtype=np.int64),
    )  # fmt: skip


def no_effects(table: FactorTable, priors: FactorPriors) -> list[Array]:
    """Effects of zero, by block."""
    return [np.zeros((table.number(block.level), block.size)) for block in priors.blocks]


def filled(table: FactorTable, rng: np.random.Generator) -> tuple[Array, Array]:
    """V and Y with missing values drawn from observed ones, except in leaves; censored ones near their limits."""
    V, Y, arrays = table.V.copy(), table.Y.copy(), table.arrays
    for k, factor in enumerate(table.factors):
        if len(table.missing[k]) > len(table.free[k]):
            fill_censored(table, k, rng, V, Y)
        rows = table.free[k]
        if table.leaf[k] or not len(rows):
            continue
        drawn = rng.choice(table.observed[k], len(rows))
        if factor.at_cluster:
            drawn = rng.choice(table.observed[k], table.clusters)[arrays.cluster[rows]]
        if factor.family.takes_trials:
            drawn = np.minimum(drawn, arrays.trials[rows, k])  # another row may have had more trials
        Y[rows, k] = drawn
        V[rows, arrays.variable[k]] = numbers(table, k, drawn)
    return V, Y


def fill_censored(table: FactorTable, k: int, rng: np.random.Generator, V: Array, Y: Array) -> None:
    """Fill in censored values of factor k, on average half a standard deviation beyond their limits."""
    a, (lower, upper) = table.arrays, table.limits[k]
    away = np.abs(rng.standard_normal(len(upper))) * a.unit[k]
    for rows, values in (
        (np.flatnonzero(np.isfinite(upper)), upper - away),
        (np.flatnonzero(np.isfinite(lower)), lower + away),
    ):
        V[rows, a.variable[k]] = values[rows]
        Y[rows, k] = (values[rows] - a.center[k]) / a.unit[k]


def numbers(table: FactorTable, k: int, y: Array) -> Array:
    """The numbers that formulas use for values y as seen by the model of factor k."""
    a = table.arrays
    first, last = a.level[k], a.level[k + 1]
    if last > first:
        return a.value[first:last][y.astype(np.int64)]
    return a.center[k] + a.unit[k] * y
