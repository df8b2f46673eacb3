"""Rows that a run of `JointLatent` with several grouping factors has not seen, completed from its draws.

    Y* = X beta + sum_s Z_s B_s + E,   rows of E ~ N(0, Sigma),   (vec(B_sg), v*_sg - gamma_s' G_sg) ~ N(0, Psi_s)

At a draw of all parameters given the table of the run, and with the rows of the run that are connected with the new rows
(joint/levels/new_table.py), one sweep draws

    y* | B          the latent values of observed levels of rows        kernels/latent/values.py
    v* | B          those of variables of groups                        the same, with groups as rows
    B | y*, v*      the effects of all groups of all factors at once    joint/levels/effects.py

Missing values are integrated out; they are drawn after the last sweep. Where all variables are numbers a single sweep is
an exact draw (docs/mathematics.md, sec. 13).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bayesimp.errors import SamplingError
from bayesimp.joint.gibbs import TOO_FAR
from bayesimp.joint.latent.cells import values_of
from bayesimp.joint.latent.clusters import ClusterTable
from bayesimp.joint.latent.levels.draws import LatentLevelsParameters, parameters_at
from bayesimp.joint.latent.levels.new_groups import connected_groups, values_of_groups
from bayesimp.joint.latent.new_rows import SWEEPS
from bayesimp.joint.latent.table import levels_of_rows
from bayesimp.joint.latent.variables import LatentVariable
from bayesimp.joint.levels.effects import EffectsGiven, EffectsLaw, weights
from bayesimp.joint.levels.new_rows import filled
from bayesimp.joint.levels.new_table import ConnectedRows, connected
from bayesimp.joint.new_rows import check_shift
from bayesimp.kernels.latent.given_means import draw_given_means
from bayesimp.kernels.latent.records import NUMBER, UTILITY, LatentColumns, LatentRows
from bayesimp.sampling.chains import new_rows_rng
from bayesimp.table.clusters import Clusters
from bayesimp.table.new_rows import NewRows

if TYPE_CHECKING:
    from bayesimp.joint.latent.levels.run import LatentLevelsRun

__all__ = ["complete_new_rows"]

Array = NDArray[np.float64]
Ints = NDArray[np.int64]


def complete_new_rows(run: LatentLevelsRun, new: NewRows, m: int, seed: int) -> dict[str, tuple[Ints, Array]]:
    """See `bayesimp.contract.Run.transform`.

    Raises
    ------
    SpecificationError, DataError
        The new rows lack columns, covariates or ids of groups, or contradict the value of a group in the run's table.
    SamplingError
        A draw of the run is not positive definite.
    """
    new.require(run.model.responses, "response")
    check_shift(run.model, new)
    problem = _connected_table(run, new)
    each = [
        _completed(problem, parameters_at(run, _behind(run, k)), k, new_rows_rng(seed, k)) for k in range(m)
    ]
    return _cells(run, new, problem, each)


@dataclass(frozen=True)
class _ConnectedTable:
    """What all imputations share: connected rows, their levels as the kernel reads them, and groups of every factor.

    of_rows: with `level`; Y (n, r): observed numbers, zeros elsewhere; new (n_new,): which of the rows are new.
    """

    rows: ConnectedRows
    of_rows: LatentRows
    Y: Array
    groups: tuple[ClusterTable, ...]
    values: tuple[dict[str, Array], ...]
    variables: tuple[LatentVariable, ...]
    columns: LatentColumns
    new: Ints

    @property
    def sweeps(self) -> int:
        """How many sweeps are needed: one if all variables are numbers."""
        kinds = [v.kind for table in self.groups for v in table.variables] + [v.kind for v in self.variables]
        return SWEEPS if any(kind != NUMBER for kind in kinds) else 1


def _connected_table(run: LatentLevelsRun, new: NewRows) -> _ConnectedTable:
    several = run.several
    table, variables, both = several.table, several.table.variables, (new.training, new)
    Y = np.vstack([np.hstack([values_of(v, data.numeric(v.name)) for v in variables]) for data in both])
    values, also = [], [Y[:, :0]]
    for s, factor in enumerate(several.factors):
        values.append(values_of_groups(several, s, new))
        codes = new.groups_beside(factor.term.names).codes
        also += [value[codes][:, None] for value in values[s].values()]
    rows = connected(
        run.model.formula, several.designs, several.factors, new, table.working.scale, table.scales, Y, np.hstack(also)
    )  # fmt: skip
    level = np.vstack(
        [np.column_stack([levels_of_rows(d, v) for v in variables for _ in v.labels]) for d in both]
    )
    level = np.ascontiguousarray(level[rows.row])
    nothing, none = np.empty(0, dtype=np.int64), np.empty((0, 0))
    return _ConnectedTable(
        rows, LatentRows(nothing, rows.groups.pattern, nothing, none, none, level),
        np.where(np.isnan(rows.Y) | (level >= 0), 0.0, rows.Y),
        tuple(connected_groups(several, s, new, own, rows) for s, own in enumerate(values)), tuple(values), variables,
        table.columns, np.flatnonzero(rows.row >= len(new.training)),
    )  # fmt: skip


def _behind(run: LatentLevelsRun, k: int) -> tuple[int, int]:
    """Chain and draw of imputation k."""
    chains = run.history.chains
    return k % chains, (k // chains + 1) * run.spacing - 1


def _completed(
    problem: _ConnectedTable, draw: LatentLevelsParameters, k: int, rng: np.random.Generator
) -> list[Array]:
    """Completed latent values, on the working scale: of the new rows, then of the groups of every factor (G, w_s)."""
    try:
        return _sweeps(problem, draw, rng)
    except np.linalg.LinAlgError:
        raise SamplingError(
            f"New rows, imputation {k}: a draw of Sigma or Psi is not positive definite."
        ) from None


def _sweeps(problem: _ConnectedTable, draw: LatentLevelsParameters, rng: np.random.Generator) -> list[Array]:
    rows, tables = problem.rows.groups, problem.groups
    W = weights(draw.Sigma, rows.patterns)
    W_groups = [weights(Psi, table.level.patterns) for Psi, table in zip(draw.Psi, tables, strict=True)]
    fixed = problem.rows.X @ draw.beta
    Y, V = problem.Y.copy(), [table.V.copy() for table in tables]
    means = [_group_mean(table, gamma) for table, gamma in zip(tables, draw.gamma, strict=True)]
    given = [_GivenVariables.of(table, Psi) for table, Psi in zip(tables, draw.Psi, strict=True)]
    effects = EffectsGiven(rows, draw.Sigma, [one.law for one in given])
    B = np.zeros((rows.design.shape[1], len(draw.Sigma)))
    for _ in range(problem.sweeps):
        _renew(rng, problem.of_rows, problem.columns, W, fixed + rows.of_rows(B), draw.cutpoints, Y)
        for s, table in enumerate(tables):
            level = table.level
            _renew(rng, level.rows, level.columns, W_groups[s], means[s], draw.group_cutpoints[s], V[s])
        of_effects = [one.mean(v - mean) for one, v, mean in zip(given, V, means, strict=True)]
        B = effects.draw(rng.standard_normal(effects.normals), Y - fixed, of_effects)
        for s in range(len(tables)):
            own = rows.of_factor(B, s)
            V[s][:, : own.shape[1]] = own
    mean = (fixed + rows.of_rows(B))[problem.new]
    pattern = rows.pattern[problem.new]
    out = [filled(Y[problem.new], mean, draw.Sigma, rows.patterns, pattern, rng.standard_normal(mean.shape))]
    for s, table in enumerate(tables):
        level, z = table.level, rng.standard_normal(V[s].shape)
        out.append(filled(V[s], means[s], draw.Psi[s], level.patterns, level.rows.pattern, z))
    return out


def _renew(
    rng: np.random.Generator,
    rows: LatentRows,
    columns: LatentColumns,
    W: Array,
    mean: Array,
    cutpoints: Array,
    Y: Array,
) -> None:
    """Draw the latent values of observed levels in Y in place."""
    if (columns.kind != NUMBER).any():
        cut = np.ascontiguousarray(cutpoints)
        if not draw_given_means(rng, rows, columns, W, np.ascontiguousarray(mean), cut, Y):
            raise SamplingError(f"New rows: {TOO_FAR}.")


def _group_mean(table: ClusterTable, gamma: Array) -> Array:
    """(G, w) means of the effects, 0, and of the variables of groups."""
    out = np.zeros(table.V.shape)
    if table.variables:
        out[:, table.V.shape[1] - gamma.shape[1] :] = table.level.rows.X @ gamma
    return out


@dataclass(frozen=True)
class _GivenVariables:
    """Effects of the groups of a factor given the observed variables of each.

    With O those of a pattern and K = Psi_bO Psi_OO^-1,   b | v_O ~ N(K e_O, Psi_bb - K Psi_Ob),   e = v - gamma' G.

    law: with means 0; slopes: groups of a pattern, the columns O, and K.
    """

    law: EffectsLaw
    slopes: list[tuple[Ints, Ints, Array]]

    @classmethod
    def of(cls, table: ClusterTable, Psi: Array) -> _GivenVariables:
        n, patterns, which = len(Psi) - len(table.labels), table.level.patterns, table.level.rows.pattern
        covariance, slopes = np.empty((len(patterns), n, n)), []
        for a, seen in enumerate(patterns):
            O = n + np.flatnonzero(seen[n:])
            K = np.linalg.solve(Psi[np.ix_(O, O)], Psi[O, :n]).T
            covariance[a] = Psi[:n, :n] - K @ Psi[O, :n]
            slopes.append((np.flatnonzero(which == a), O, K))
        return cls(EffectsLaw(np.zeros((len(which), n)), covariance, which), slopes)

    def mean(self, e: Array) -> Array:
        """(G, n) means of the effects given e (G, w)."""
        out = np.zeros(self.law.mean.shape)
        for own, O, K in self.slopes:
            if len(O):
                out[own] = e[own][:, O] @ K.T
        return out


def _cells(run: LatentLevelsRun, new: NewRows, problem: _ConnectedTable, each: list[list[Array]]) -> dict:
    """Response -> rows of the new table in which it is missing, and its values there."""
    model, several, found = run.model, run.several, {}
    scale, own = several.table.working.scale, problem.rows.row[problem.new] - len(new.training)
    cut = 0
    for v in problem.variables:
        lacking = np.flatnonzero(new.missing(v.name))
        at = np.argsort(own)[lacking]  # each new row is there once
        unit, moved = scale.s[v.columns], model.shift.rows(v.name, new)[lacking]
        fixed = problem.rows.fixed[problem.new][at, v.first]
        latent = np.array([one[0][at, v.columns] for one in each]) + moved / unit
        found[v.name] = lacking, _decoded(run, v, latent, unit[0], fixed, "cutpoints", cut)
        cut += v.cutpoints
    cut = 0
    for s, table in enumerate(problem.groups):
        beside = new.groups_beside(several.factors[s].term.names)
        codes = beside.codes[len(new.training) :]
        clusters = Clusters(beside.labels, codes, new.frame.index)
        place = np.full(len(beside), -1)
        place[problem.rows.of_factor[s]] = np.arange(len(table.V))
        before = table.V.shape[1] - len(table.labels)
        for v in table.variables:
            model.shift.check_constant(v.name, new, clusters)
            lacking = np.flatnonzero(new.missing(v.name))
            at, unit = place[codes[lacking]], table.scale.s[v.columns]
            moved = model.shift.rows(v.name, new)[lacking]
            columns = slice(before + v.first, before + v.columns.stop)
            fixed = (table.level.rows.X @ table.scale.offset)[at, v.first]
            latent = np.array([one[1 + s][at, columns] for one in each]) + moved / unit
            drawn = _decoded(run, v, latent, unit[0], fixed, "group_cutpoints", cut)
            known = problem.values[s][v.name][codes[lacking]]
            found[v.name] = lacking, np.where(np.isnan(known), drawn, known)
            cut += v.cutpoints
    return {name: found[name] for name in model.responses if len(found[name][0])}


def _decoded(
    run: LatentLevelsRun, v: LatentVariable, latent: Array, unit: float, fixed: Array, name: str, first: int
) -> Array:
    """(m, c) numbers in the units of the data, or positions of levels, of latent values (m, c, columns of v)."""
    if v.kind == NUMBER:
        return unit * (latent[..., 0] + fixed)
    if v.kind == UTILITY:
        return np.where(latent.max(axis=-1) > 0, latent.argmax(axis=-1) + 1.0, 0.0)
    h = run.history
    out = np.empty(latent.shape[:2])
    for k, own in enumerate(latent[..., 0]):
        at = _behind(run, k)
        out[k] = np.searchsorted(getattr(h, name)[at][first : first + v.cutpoints], own)
    return out
