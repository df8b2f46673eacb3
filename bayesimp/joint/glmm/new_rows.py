"""Rows that a run of the joint GLMM has not seen, completed from its draws.

At a draw theta of all parameters given the table of the run, a Gibbs sampler that keeps the parameters fixed draws

    B_i | theta, rows of the run and new rows of cluster i       and       missing cells of these rows | everything else

in the clusters of the new rows, including missing cells of the run's own rows (docs/mathematics.md, sec. 13). With fixed
parameters, effects and cells of different clusters are independent, and the chain forgets its start within a few
sweeps; `SWEEPS` is many times that (tests/joint/glmm/test_new_rows.py). With several grouping factors the rows are all
those of the run that are connected with the new rows through their groups, and what the effects of crossed factors have
in common is drawn at once (joint/glmm/levels.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bayesimp.errors import SamplingError
from bayesimp.joint.glmm.chain import ChainState, filled, no_effects
from bayesimp.joint.glmm.new_table import new_table
from bayesimp.joint.glmm.prior import FactorPriors, layout_of
from bayesimp.joint.glmm.sampler import Sampler
from bayesimp.joint.glmm.table import FactorTable
from bayesimp.kernels.factors.given import glmm_effects, normal_effects
from bayesimp.kernels.families.codes import CATEGORICAL, ORDINAL
from bayesimp.kernels.glmm.gibbs import TALLIES
from bayesimp.kernels.glmm.rows import GlmmRows
from bayesimp.notation import Array
from bayesimp.sampling.chains import new_rows_rng
from bayesimp.table.new_rows import NewRows

if TYPE_CHECKING:
    from bayesimp.joint.glmm.run import GLMMRun

__all__ = ["SWEEPS", "GivenSampler", "complete_new_rows"]

SWEEPS = 100  # per imputation; steps are tuned in the first half


class GivenSampler(Sampler):
    """A chain of effects and missing cells at fixed parameters."""

    rounds = 1

    def sweep(self, tune: bool = False) -> None:
        """One update of effects and cells; `tune`: whether steps are tuned."""
        self._factors(tune)

    def update_parameters(self, k: int) -> int:
        """Update the effects of factor k; returns 0 or a key of `FAILURES`."""
        failed = super().update_parameters(k)
        if self.table.further and not failed:
            self.further.shift_connected(k)
            self._refresh(k)
        return failed

    def _normal(self, k: int, level: int) -> int:
        chain, own = self.chain, self.further.rows(k, level, self.state)
        X, Z = self.rows.design(k, own.rows, level)
        return int(normal_effects(
            chain.rng, X, Z, chain.Y[own.rows, k] - own.offset, own.first,
            np.ascontiguousarray(chain.beta[k][:, 0]), float(chain.sd[k] ** 2), own.at, chain.Psi[own.block],
            chain.B[own.block],
        ))  # fmt: skip

    def _generalised(self, k: int, level: int) -> int:
        chain, own = self.chain, self.further.rows(k, level, self.state)
        rows, (X, Z) = own.rows, self.rows.design(k, own.rows, level)
        factor, trials = self.table.factors[k], self.table.arrays.trials
        glmm = GlmmRows(
            factor.code, np.ascontiguousarray(chain.Y[rows, k]), np.ascontiguousarray(trials[rows, k]),
            np.ones(len(rows)), own.offset, X, Z, own.first,
        )  # fmt: skip
        counts = np.zeros(len(factor.levels) if factor.code in (ORDINAL, CATEGORICAL) else 1)
        return int(glmm_effects(
            chain.rng, glmm, counts, own.at, chain.beta[k], chain.aux[k], chain.Psi[own.block], chain.B[own.block],
            chain.tallies[k],
        ))  # fmt: skip


def complete_new_rows(
    run: GLMMRun, new: NewRows, m: int, seed: int
) -> dict[str, tuple[NDArray[np.int64], Array]]:
    """See `bayesimp.contract.Run.transform`."""
    model = run.model
    table, place = new_table(model, new)
    layout = layout_of(table, model.separate)
    cells = {f.response: np.flatnonzero(new.missing(f.response)) for f in model.factors}
    values = {name: np.empty((m, len(rows))) for name, rows in cells.items() if len(rows)}
    for k in range(m if values else 0):
        chain = given_chain(run, table, layout, k, seed)
        sampler = GivenSampler(table, layout, chain, f"New rows, imputation {k}")
        for sweep in range(SWEEPS):
            sampler.sweep(tune=sweep < SWEEPS // 2)
        drawn = sampler.completed()
        if chain.failed:
            raise SamplingError(
                f"New rows, imputation {k}: {chain.failed:,} draws of missing cells had no finite value. Look for rows "
                "whose covariates are far from those of the run's table."
            )
        for f, name in enumerate(cells):
            if name in values:
                values[name][k] = _of_new_rows(run, table, place, f, drawn[f])[cells[name]]
    return {name: (cells[name], array) for name, array in values.items()}


def given_chain(
    run: GLMMRun, table: FactorTable, layout: FactorPriors, imputation: int, seed: int
) -> ChainState:
    """A chain at the parameters behind an imputation of the run, with cells drawn from observed values and effects 0."""
    h, K, rng = run.history, len(table.factors), new_rows_rng(seed, imputation)
    at = imputation % h.chains, (imputation // h.chains + 1) * run.spacing - 1
    beta, aux, Psi = ([np.ascontiguousarray(part[at]) for part in parts] for parts in (h.beta, h.aux, h.Psi))
    V, Y = filled(table, rng)
    return ChainState(
        V, Y, beta, aux, h.sd[at].copy(), Psi, no_effects(table, layout), rng,
        np.zeros((K, len(TALLIES), 2), dtype=np.int64), np.full(K, 0.5), np.zeros((K, 2), dtype=np.int64),
    )  # fmt: skip


def _of_new_rows(run: GLMMRun, table: FactorTable, place: NDArray[np.int64], f: int, drawn: Array) -> Array:
    """(n,) completed responses of factor f in the new rows, in the units of the data (positions for levels)."""
    y = table.Y[:, f].copy()
    y[table.missing[f]] = drawn
    own = place >= 0
    out = np.empty(int(own.sum()))
    out[place[own]] = run.in_units(f, y[own])
    return out
