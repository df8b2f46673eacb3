"""Joint moves of the effects of one factor and the values of its response, in clusters that lack it altogether.

The effects b_k of factor k move by d, its values y follow (`kernels/factors/together.py`), and the effects b_l of later
factors l in the same cluster take up as much as they can of what this does to their predictors:

    b_k' = b_k + d,    y' coupled with y,    b_l' = b_l - P_l (eta_l(y') - eta_l(y)),    P_l = (Z_l'Z_l)^-1 Z_l'

Z_l: the columns with effects of factor l that do not depend on y_k. With an intercept in Z_l, the level of y and that of
the later response in the cluster move against each other, which either alone could do only in steps of
sd / sqrt(rows): all rows of the cluster determine y given b_l, and b_l given y. P_l does not depend on anything
that moves, so (y, b_l) -> (y', b_l') has Jacobian 1. If factor l is linear in y_k and its change is in the span of Z_l,
its likelihood stays the same.

d is proposed along V = (I, -C), where C d is what P_l subtracts if y' = y + Z_k d and all is linear (C = 0 for other
children and families). Along V the prior N(0, Psi) of all effects of the cluster, of precision R, is normal, and

    d = (1 - rho) d* + sqrt(1 - rho^2) w,    w ~ N(0, H^-1),    H = V'RV,    d* = -H^-1 V'R b

leaves it invariant. The ratio has the likelihoods of later factors, and prior and proposal, which cancel if all is
linear. rho is tuned in warm-up; if the move is accepted always it is 0, and d an exact draw. A normal variable with one
value per cluster moves likewise: its residual is an effect with variance sigma^2.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bayesimp.errors import SamplingError
from bayesimp.kernels.factors.together import (
    coupled_responses,
    follow_columns,
    later_factors,
    predictor_changes,
)
from bayesimp.kernels.families.codes import NORMAL, STUDENT
from bayesimp.kernels.glmm.gibbs import FAILURES

if TYPE_CHECKING:
    from bayesimp.joint.glmm.sampler import Sampler

__all__ = ["JointMove"]

Array = NDArray[np.float64]
Ints = NDArray[np.int64]


class Taker(NamedTuple):
    """Effects of a later factor that take up changes of its predictors.

    Attributes
    ----------
    child, of
        Number of the factor among the children of factor k, and among all factors.
    block, at
        The block of the effects, and their positions in it (q, r).
    columns, C
        The table's columns with effects of the factor, and the working columns that do not depend on y_k as
        combinations of these (., q).
    still
        Whether these columns never change.
    """

    child: int
    of: int
    block: int
    at: Ints
    columns: Ints
    C: Array
    still: bool


class JointMove:
    """The joint move of factor k in the chain of a sampler.

    A cluster-level variable has no effects in its cluster; its residual, of precision 1 / sigma^2, takes their place.
    """

    def __init__(self, sampler: Sampler, k: int) -> None:
        self.sampler, self.k = sampler, k
        self.factor = sampler.table.factors[k]
        self.block, first = sampler.priors.place[k]
        self.own = slice(first, first + self.factor.effects)
        self.takers = self._takers()
        self.blocks = sorted({self.block, *(taker.block for taker in self.takers)})
        self.translates = self.factor.code in (NORMAL, STUDENT)
        cells, straight = sampler.table.cells, True
        for taker in self.takers:
            straight &= bool(cells.linear[cells.child[k] + taker.child])
        self.exact = self.translates and straight  # V is where the effects move
        self._still: dict[tuple[int, int], tuple[Ints, Array]] = {}

    def _takers(self) -> list[Taker]:
        table, priors, k = self.sampler.table, self.sampler.priors, self.k
        cells, out = table.cells, []
        for a, child in enumerate(range(cells.child[k], cells.child[k + 1])):
            l = int(cells.of[child])
            columns, scale = table.columns_at(l, 0), table.scales[l].levels[0].random
            (free,) = np.nonzero(~scale[cells.active[child, columns]].any(axis=0))
            if len(free):
                block, first = priors.place[l]
                predictors = np.arange(table.factors[l].predictors)
                at = first + predictors * len(columns) + free[:, None]
                read = scale[:, free].any(axis=1)
                still = not cells.active[:, columns[read]].any()
                out.append(Taker(a, l, block, at, columns[read], scale[np.ix_(read, free)], still))
        return out

    def in_clusters(self, clusters: list[int]) -> int:
        """Make the move in each of these clusters; returns how often it was accepted."""
        try:
            R = {b: np.linalg.inv(self.sampler.chain.Psi[b]) for b in self.blocks}
        except np.linalg.LinAlgError:
            raise SamplingError(f"{self.sampler.label}: {FAILURES[1]}.") from None
        return sum(self._accept(i, R) for i in clusters)

    def _accept(self, i: int, R: dict[int, Array]) -> bool:
        """Whether the effects and values of cluster i move."""
        sampler, chain, k = self.sampler, self.sampler.chain, self.k
        rows = np.arange(*sampler.table.arrays.first[i : i + 2])
        before, y, now = {b: chain.B[b][i].copy() for b in self.blocks}, chain.Y[rows, k], self._later(i)
        eta, Z = self._predictors(rows)
        takes = [self._least_squares(taker, i, rows) for taker in self.takers]
        V, C = self._directions(i, rows, y, Z, takes)
        e, own = (y[0] - eta[0, 0], sampler.state.shape[k] ** -2) if self.factor.at_cluster else (0.0, 0.0)
        L, step = np.linalg.cholesky(sum(V[b].T @ R[b] @ V[b] for b in self.blocks) + own), chain.step[k]
        prior = 0.0 if self.exact else self._log_prior(i, R, e, own)

        rho, z = np.sqrt(1.0 - step**2), chain.rng.standard_normal(len(L))
        d = (1.0 - rho) * self._center(i, R, V, L, e * own) + step * np.linalg.solve(L.T, z)
        self._move(rows, y, eta, Z, i, d)
        self._take_up(i, len(rows), takes, C, d)
        ratio = self._later(i) - now
        if not self.exact:
            e += d[0] if self.factor.at_cluster else 0.0
            back = L.T @ (-d - (1.0 - rho) * self._center(i, R, V, L, e * own)) / step
            ratio += self._log_prior(i, R, e, own) - prior + 0.5 * (z @ z - back @ back)
        if np.log(chain.rng.random()) < ratio:
            sampler.refresh_effects(k, i)
            a, cells, programs, _, _, state, work = self._fixed
            follow_columns(np.int64(k), np.int64(i), a, cells, programs, state, work)
            return True
        chain.Y[rows, k] = y
        for b, effects in before.items():
            chain.B[b][i] = effects
        for taker in self.takers:
            sampler.refresh_effects(taker.of, i)
        self._later(i)  # restores V and means
        return False

    def _predictors(self, rows: Ints) -> tuple[Array, Array]:
        """Predictors (n, r) of factor k, and its columns with working effects (n, q)."""
        sampler, k = self.sampler, self.k
        if self.factor.at_cluster:
            return sampler.predictors(k, rows[:1]), np.ones((len(rows), 1))
        Z = sampler.state.X[np.ix_(rows, sampler.table.columns_at(k, 0))]
        return sampler.predictors(k, rows), Z @ sampler.table.scales[k].levels[0].random

    def _least_squares(self, taker: Taker, i: int, rows: Ints) -> tuple[Ints, Array]:
        """The rows (n,) in which a later factor is used, as positions in the cluster, and P_l (q, n); zero if the rank of
        Z_l is not full."""
        if (taker.of, i) in self._still:
            return self._still[taker.of, i]
        (used,) = np.nonzero(self.sampler.table.arrays.used[rows, taker.of])
        Z = self.sampler.state.X[np.ix_(rows[used], taker.columns)] @ taker.C
        try:
            out = used, np.linalg.solve(Z.T @ Z, Z.T)
        except np.linalg.LinAlgError:
            out = used, np.zeros(Z.T.shape)
        if taker.still:
            self._still[taker.of, i] = out
        return out

    def _directions(
        self, i: int, rows: Ints, y: Array, Z: Array, takes: list[tuple[Ints, Array]]
    ) -> tuple[dict[int, Array], list[Array]]:
        """V by block (D, d), and C by later factor (q, r, d)."""
        chain, cells, size = self.sampler.chain, self.sampler.table.cells, self.factor.effects
        d = max(size, 1)
        V = {b: np.zeros((chain.B[b].shape[1], d)) for b in self.blocks}
        C = [np.zeros((*taker.at.shape, d)) for taker in self.takers]
        V[self.block][self.own] = np.eye(size, d)
        for h in range(d if self.translates else 0):
            chain.Y[rows, self.k] = y + Z[:, h]
            change = self._changes(i, len(rows))
            for taker, (used, P), own in zip(self.takers, takes, C, strict=True):
                if cells.linear[cells.child[self.k] + taker.child]:
                    own[:, :, h] = P @ change[taker.child][used, : taker.at.shape[1]]
                    V[taker.block][taker.at, h] = -own[:, :, h]
        return V, C

    def _center(self, i: int, R: dict[int, Array], V: dict[int, Array], L: Array, own: float) -> Array:
        """d*; own: what the residual of a cluster-level variable adds to V'R b."""
        slope = sum(V[b].T @ (R[b] @ self.sampler.chain.B[b][i]) for b in self.blocks)
        return -np.linalg.solve(L.T, np.linalg.solve(L, slope + own))

    def _log_prior(self, i: int, R: dict[int, Array], e: float, own: float) -> float:
        """Of all effects of cluster i that can move, and of the residual e of precision `own`."""
        B = self.sampler.chain.B
        return -0.5 * (sum(float(B[b][i] @ R[b] @ B[b][i]) for b in self.blocks) + own * e * e)

    def _move(self, rows: Ints, y: Array, eta: Array, Z: Array, i: int, d: Array) -> None:
        """Move the effects of factor k by d, and its values with them."""
        sampler, chain, k, factor = self.sampler, self.sampler.chain, self.k, self.factor
        if factor.effects:
            chain.B[self.block][i, self.own] += d
        if self.translates:
            chain.Y[rows, k] = y + Z @ d
            return
        a, after = sampler.table.arrays, eta + Z @ d.reshape(factor.predictors, -1).T
        last, proposed = np.int64(a.level[k + 1] - a.level[k] - 1), np.empty(len(rows))
        coupled_responses(
            chain.rng, a.family[k], y, np.ascontiguousarray(a.trials[rows, k]), eta, np.ascontiguousarray(after),
            sampler.state.shape[k], sampler.state.cuts, np.int64(k), last, proposed,
        )  # fmt: skip
        chain.Y[rows, k] = proposed

    def _take_up(self, i: int, n: int, takes: list[tuple[Ints, Array]], C: list[Array], d: Array) -> None:
        """Let the effects of later factors take up the change of their predictors."""
        change = None if self.exact else self._changes(i, n)
        for taker, (used, P), own in zip(self.takers, takes, C, strict=True):
            taken = own @ d if change is None else P @ change[taker.child][used, : taker.at.shape[1]]
            self.sampler.chain.B[taker.block][i, taker.at] -= taken
            self.sampler.refresh_effects(taker.of, i)

    @cached_property
    def _fixed(self) -> tuple[Any, ...]:
        """Arguments of kernels/factors/together.py."""
        table, sampler = self.sampler.table, self.sampler
        return (
            table.arrays,
            table.cells,
            table.programs,
            table.means,
            table.divisor,
            sampler.state,
            sampler.work[self.k],
        )

    def _changes(self, i: int, n: int) -> Array:
        """(children, n, r) changes of the predictors of later factors, from the columns of the state to those at Y."""
        a, cells, programs, means, divisor, state, work = self._fixed
        out = np.empty((cells.child[self.k + 1] - cells.child[self.k], n, a.predictors.max()))
        predictor_changes(np.int64(self.k), np.int64(i), a, cells, programs, means, divisor, state, work, out)
        return out

    def _later(self, i: int) -> float:
        """Log-likelihood of later factors in cluster i."""
        return float(later_factors(np.int64(self.k), np.int64(i), *self._fixed))
