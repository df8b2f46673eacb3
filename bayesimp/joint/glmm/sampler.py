"""One sweep of the Gibbs sampler of a joint GLMM, factor by factor in order.

    beta_k, dispersion, scales of effects | completed variables, effects       kernels/factors/normal.py, factors/glmm.py
    b_ki | b_-ki, completed variables
    missing cells of y_k | everything else                                     kernels/factors/cells.py
    effects and missing cells of clusters without observed values, together    kernels/factors/together.py
    effects in clusters that mostly lack a discrete variable, summed out       kernels/factors/summed.py, before its cells

and then Psi of each grouping factor given all effects. With several grouping factors the first two lines are made for
each in turn (joint/glmm/levels.py). All this, and Psi, is repeated for factors that are not normal (`ROUNDS`). Missing
cells of leaves are drawn only when a draw is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from bayesimp.errors import SamplingError
from bayesimp.joint.glmm.chain import ChainState
from bayesimp.joint.glmm.levels import FurtherEffects
from bayesimp.joint.glmm.prior import FactorPriors
from bayesimp.joint.glmm.summed import Summed, summed_out
from bayesimp.joint.glmm.table import FactorTable
from bayesimp.joint.glmm.together import JointMove
from bayesimp.joint.glmm.working import WorkingRows
from bayesimp.kernels.covariance.update import FIXED
from bayesimp.kernels.factors.arrays import State, Work, workspace
from bayesimp.kernels.factors.cells import draw_cells, propose_counts
from bayesimp.kernels.factors.columns import all_columns, all_means
from bayesimp.kernels.factors.effects import conditional_law, draw_covariance
from bayesimp.kernels.factors.glmm import glmm_factor_step
from bayesimp.kernels.factors.normal import normal_step
from bayesimp.kernels.factors.summed import draw_effects_summed, read_values
from bayesimp.kernels.families.codes import CATEGORICAL, NORMAL, ORDINAL
from bayesimp.kernels.families.responses import EXTRA_ZEROS, draw_rows
from bayesimp.kernels.families.shape import counts_above
from bayesimp.kernels.glmm.gibbs import FAILURES, OVERDISPERSED, RARE, rare_events

__all__ = ["Sampler"]

Array = NDArray[np.float64]
ROUNDS = 2  # updates of the parameters of a factor that is not normal, and of Psi, in one sweep
TARGET, GAIN = (
    0.3,
    0.2,
)  # target acceptance of the joint move of effects and cells, and how fast its step is tuned


class Sampler:
    """A chain with quantities derived from its state: columns, coefficients of the table's columns, cutpoints."""

    rounds = ROUNDS

    def __init__(
        self,
        table: FactorTable,
        priors: FactorPriors,
        chain: ChainState,
        label: str,
        work: Sequence[Work] | None = None,
    ) -> None:
        self.table, self.priors, self.chain, self.label = table, priors, chain, label
        self.further = FurtherEffects(table, priors, chain)
        a = table.arrays
        n, K = chain.Y.shape
        M, X = np.zeros(table.divisor.shape), np.empty((n, a.column[-1]))
        all_means(table.means, table.divisor, chain.V, a.first, M)
        all_columns(table.programs, chain.V, M, a.cluster, np.arange(n), X)
        most = max((len(aux) for aux in chain.aux), default=0) + 1
        self.state = State(
            chain.V, chain.Y, M, X, np.zeros(a.coefficient[-1]), np.zeros((len(table.combinations), a.effect[-1])),
            np.ones(K), np.zeros((K, most)),
        )  # fmt: skip
        self.rows = WorkingRows(table, self.state)
        self.work = [workspace(a, table.cells, k) for k in range(K)] if work is None else list(work)
        self.summed: dict[int, list[Summed]] = {}
        self.moves: dict[int, JointMove] = {}
        for k in range(K):
            self._refresh(k)

    def sweep(self, tune: bool = False) -> None:
        """One update of everything; `tune`: whether steps are tuned, as in warm-up."""
        self._factors(tune)
        self._covariances(range(len(self.chain.Psi)))

    def _covariances(self, blocks: Iterable[int]) -> None:
        for b in blocks:
            if not self.update_covariance(b):
                raise SamplingError(f"{self.label}: {FAILURES[1]}.")

    def _factors(self, tune: bool) -> None:
        """Update everything factor by factor, but Psi only between two rounds of a factor's parameters.

        Effects of few clusters and their covariance matrix change slowly given each other, and a second round costs less
        than the cells (``python -m benchmarks joint_glmm_rounds``).
        """
        for k, factor in enumerate(self.table.factors):
            blocks = [place[k][0] for s, place in enumerate(self.priors.places) if factor.has_level(s)]
            for turn in range(1 if factor.code == NORMAL or not blocks else self.rounds):
                if turn:
                    self._covariances(blocks)
                failed = self.update_parameters(k)
                if failed:
                    raise SamplingError(f"{self.label}, factor '{factor.formula}': {FAILURES[failed]}.")
            self.update_cells(k, tune)

    def update_parameters(self, k: int) -> int:
        """Update coefficients, effects and dispersion of factor k; returns 0 or a key of `FAILURES`."""
        update = self._normal if self.table.factors[k].code == NORMAL else self._generalised
        for level in self.further.levels(k):
            failed = update(k, level)
            if failed:
                return failed
        self.further.shift_between(k)
        self._refresh(k)
        return 0

    def update_cells(self, k: int, tune: bool = False) -> None:
        """Update missing cells of factor k on which other factors depend."""
        table, chain = self.table, self.chain
        if table.cells.start[k] == table.cells.start[k + 1]:
            return
        for group in self.groups(k):
            self._summed_out(k, group)
        if table.factors[k].code in EXTRA_ZEROS:
            propose_counts(chain.rng, np.int64(k), table.arrays, table.cells, self.state, self.work[k])
        chain.failed += draw_cells(
            chain.rng, np.int64(k), table.arrays, table.cells, table.programs, table.means, table.divisor, self.state,
            self.work[k],
        )  # fmt: skip
        self._together(k, tune)

    def update_covariance(self, b: int) -> bool:
        """Update block b of Psi given all its effects; returns whether all was positive definite."""
        prior, Psi, B = self.priors.updates[b], self.chain.Psi[b], self.chain.B[b]
        if prior.kind == FIXED or not len(Psi):
            return True
        return bool(draw_covariance(self.chain.rng, prior, np.int64(0), np.int64(len(Psi)), B, Psi))

    def groups(self, k: int) -> list[Summed]:
        """Where the missing values of factor k are summed out for effects of later factors."""
        if k not in self.summed:
            self.summed[k] = summed_out(self.table, k)
        return self.summed[k]

    def _summed_out(self, k: int, group: Summed) -> None:
        """Effects of one factor in a cluster that mostly lacks y_k, whose cells there are drawn next."""
        table, chain, l = self.table, self.chain, group.of
        factor, (block, at) = table.factors[l], self.priors.place[l]
        B, stop, C = chain.B[block], at + factor.effects, table.scales[l].levels[0].random
        i, b, work = group.cluster, B[group.cluster, at:stop].copy(), self.work[k]
        mean, L, fine = conditional_law(chain.Psi[block], B[i : i + 1], np.int64(at), np.int64(stop))
        if not fine:
            raise SamplingError(f"{self.label}: {FAILURES[1]}.")
        rows, times = group.alike(table, self.state, k)
        mixture = group.mixture(table, self.state, rows, times, mean[0], L)
        read_values(
            np.int64(k), group.child, i, table.arrays, table.cells, table.programs, self.state, work, group.missing,
            rows, C, b, mixture,
        )  # fmt: skip
        chain.failed += not draw_effects_summed(chain.rng, mixture, work.search, work.weight, b)
        B[i, at:stop] = b
        self.refresh_effects(l, int(i))

    def _together(self, k: int, tune: bool) -> None:
        """Update effects and cells of factor k together in clusters in which it is never observed, except those whose
        cells are summed out for these effects."""
        chain = self.chain
        summed = {int(group.cluster) for group in self.groups(k) if group.of == k}
        clusters = [i for i in self.table.bare[k].tolist() if i not in summed]
        if not clusters:
            return
        if k not in self.moves:
            self.moves[k] = JointMove(self, k)
        accepted = self.moves[k].in_clusters(clusters)
        if tune:
            share = accepted / len(clusters)
            chain.step[k] = min(chain.step[k] * np.exp(GAIN * (share - TARGET)), 1.0)
        else:
            chain.moved[k] += len(clusters), accepted

    def completed(self) -> list[Array]:
        """By factor: the imputed responses as models see them; those of leaves are drawn here."""
        out = []
        for k, (rows, free) in enumerate(zip(self.table.missing, self.table.free, strict=True)):
            drawn = self.leaf(k) if self.table.leaf[k] and len(free) else np.zeros(0)
            out.append(drawn if len(drawn) == len(rows) else self.chain.Y[rows, k])
        return out

    def _normal(self, k: int, level: int) -> int:
        chain, own = self.chain, self.further.rows(k, level, self.state)
        X, Z = self.rows.design(k, own.rows, level)
        y, block = self.rows.remainder(k, own, level), own.block
        beta = np.ascontiguousarray(chain.beta[k][:, 0])
        failed = normal_step(
            chain.rng, X, Z, y, own.first, *self.priors.beta[k], self.priors.variance[k],
            self.priors.updates[block], own.at, beta, chain.sd[k : k + 1], chain.Psi[block], chain.B[block],
        )  # fmt: skip
        chain.beta[k][:, 0] = beta
        return int(failed)

    def _generalised(self, k: int, level: int) -> int:
        chain, factor = self.chain, self.table.factors[k]
        own = self.further.rows(k, level, self.state)
        glmm, block = self.rows.merged(k, own, level), own.block
        levels = len(factor.levels) if factor.code in (ORDINAL, CATEGORICAL) else 1
        counts = (
            np.bincount(glmm.y.astype(np.int64), minlength=levels).astype(float)
            if levels > 1
            else np.zeros(1)
        )
        above = counts_above(glmm.y) if factor.code in OVERDISPERSED else np.zeros(0)
        p, r = chain.beta[k].shape
        slices = 1 + p * r // 4 if rare_events(glmm, counts) < 10 * p else 0
        if factor.code == ORDINAL:
            slices += int((counts < RARE).sum())
        return int(glmm_factor_step(
            chain.rng, glmm, counts, above, np.int64(slices), *self.priors.beta[k], self.priors.updates[block], 1.0,
            own.at, chain.beta[k], chain.aux[k], chain.Psi[block], chain.B[block], chain.tallies[k],
        ))  # fmt: skip

    def _refresh(self, k: int) -> None:
        """Update coefficients and effects of the table's columns, dispersion and cutpoints of factor k.

        Moving the scales of one factor's effects does not change those of other factors.
        """
        chain, a, scale = self.chain, self.table.arrays, self.table.scales[k]
        factor = self.table.factors[k]
        self.state.beta[a.coefficient[k] : a.coefficient[k + 1]] = (scale.T @ chain.beta[k]).T.ravel()
        self.refresh_effects(k)
        if factor.code == NORMAL:
            self.state.shape[k] = chain.sd[k]
        elif factor.code == ORDINAL:
            self.state.cuts[k, 1 : 1 + len(chain.aux[k])] = np.cumsum(chain.aux[k])
        elif len(chain.aux[k]):
            self.state.shape[k] = chain.aux[k][0]
            if len(chain.aux[k]) > 1:
                self.state.cuts[k, 0] = chain.aux[k][1]

    def refresh_effects(self, k: int, cluster: int | None = None) -> None:
        """Update what the effects of factor k amount to in every combination of groups, or in those of one cluster."""
        a = self.table.arrays
        at = slice(None) if cluster is None else self.further.places(cluster)
        self.state.B[at, a.effect[k] : a.effect[k + 1]] = self.further.combined(k, cluster)

    def leaf(self, k: int) -> Array:
        """Draws of the missing cells, except censored ones, of a variable that appears in no other factor.

        A log mean can be out of range if the effects of a cluster have heavy tails (kernels/families/scalar.py); then
        the cell keeps its value from the previous draw (an observed one at first) and is counted.
        """
        table, chain, rows = self.table, self.chain, self.table.free[k]
        factor, a = table.factors[k], table.arrays
        once = rows
        if factor.at_cluster:
            once = rows[np.isin(rows, a.first[:-1])]
        eta = self.predictors(k, once)
        if factor.code == NORMAL:
            y = eta[:, 0] + chain.sd[k] * chain.rng.standard_normal(len(once))
        else:
            y = np.empty(len(once))
            trials = np.ascontiguousarray(a.trials[once, k])
            draw_rows(chain.rng, factor.code, trials, eta, chain.aux[k], y)
        out = ~np.isfinite(y)
        if out.any():
            before = chain.Y[once[out], k]
            y[out] = np.where(np.isnan(before), chain.rng.choice(table.observed[k], int(out.sum())), before)
            chain.failed += int(out.sum())
        chain.Y[once, k] = y
        if not factor.at_cluster:
            return y
        of_cluster = np.empty(table.clusters)
        of_cluster[a.cluster[once]] = y
        return of_cluster[a.cluster[rows]]

    def predictors(self, k: int, rows: NDArray[np.int64]) -> Array:
        """(rows, r) linear predictors of factor k."""
        table, a = self.table, self.table.arrays
        fixed, random = table.columns_of(k)
        X, Z = self.state.X[rows, fixed], self.state.X[rows, random]
        q, factor = Z.shape[1], table.factors[k]
        eta = np.empty((len(rows), factor.predictors))
        beta = self.state.beta[a.coefficient[k] : a.coefficient[k + 1]].reshape(factor.predictors, -1)
        for c in range(factor.predictors):
            first = a.effect[k] + c * q
            B = self.state.B[a.combination[rows], first : first + q]
            eta[:, c] = a.offset[rows, k] + X @ beta[c] + (Z * B).sum(axis=1)
        return eta
