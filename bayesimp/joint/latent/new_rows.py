"""Rows that a run of `JointLatent` has not seen, completed from its draws.

At a draw of all parameters given the table of the run, the Gibbs sampler of kernels/latent/gibbs.py, with the
parameters fixed, draws latent values, effects and, if each cluster has its own, residual covariances of the clusters of
the new rows, given the rows of the run and the new rows in them (docs/mathematics.md, sec. 13); then missing cells.
Clusters are independent given the parameters, so other clusters are not needed. Without latent values and with one
residual covariance a single sweep is an exact draw, as in joint/new_rows.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bayesimp.errors import DataError, SamplingError
from bayesimp.formulas.new_rows import new_design
from bayesimp.joint.gibbs import FAILURES, TOO_FAR
from bayesimp.joint.latent.cells import values_of
from bayesimp.joint.latent.clusters import cluster_shift, cluster_values, of_new_clusters
from bayesimp.joint.latent.table import LatentTable, assembled, levels_of_rows
from bayesimp.joint.latent.variables import LatentVariable
from bayesimp.joint.new_rows import check_shift
from bayesimp.joint.reference import refuse_new_rows
from bayesimp.joint.scale import Working, canonical_rows
from bayesimp.kernels.latent.gibbs import latent_gibbs
from bayesimp.kernels.latent.records import NUMBER, Kept, LatentState
from bayesimp.kernels.normal.statistics import collect
from bayesimp.messages import listing
from bayesimp.sampling.chains import new_rows_rng
from bayesimp.scale.order import cluster_order
from bayesimp.table.clusters import varies_within
from bayesimp.table.incomplete import IncompleteData
from bayesimp.table.new_rows import NewRows

if TYPE_CHECKING:
    from bayesimp.joint.latent.model import JointLatent
    from bayesimp.joint.latent.run import LatentRun

__all__ = ["SWEEPS", "complete_new_rows"]

Array = NDArray[np.float64]
SWEEPS = 100  # per imputation, if there are latent values or covariances of clusters


def complete_new_rows(
    run: LatentRun, new: NewRows, m: int, seed: int
) -> dict[str, tuple[NDArray[np.int64], Array]]:
    """See `bayesimp.contract.Run.transform`.

    Raises
    ------
    SpecificationError, DataError
        The new rows lack columns or covariates, or contradict the value of a cluster in the run's table.
    SamplingError
        A draw of the run is not positive definite.
    """
    model = run.model
    refuse_new_rows(model.reference)
    new.require(model.responses, "response")
    check_shift(model, new)
    values = _values_of_clusters(model, new)
    table = _table(model, new, values)
    drawn = _draws(run, table, m, seed)
    cells, first = {}, 0
    for variable, rows in table.incomplete:
        own = rows - (len(table.rows.cluster) - len(new))
        cells[variable.name] = own, drawn[:, first : first + len(rows)]
        first += len(rows)
    lacking = {v.name: own for v, own in table.of_clusters.incomplete}
    for variable in table.of_clusters.variables:
        own = lacking.get(variable.name, np.empty(0, dtype=np.int64))
        all_values = np.tile(values[variable.name], (m, 1))
        all_values[:, own] = drawn[:, first : first + len(own)]
        first += len(own)
        rows = np.flatnonzero(new.missing(variable.name))
        if len(rows):
            cells[variable.name] = rows, all_values[:, new.codes[rows]]
    return {name: cells[name] for name in model.responses if name in cells}


def _values_of_clusters(model: JointLatent, new: NewRows) -> dict[str, Array]:
    """Cluster-level variable -> (k,) its value in each cluster of the new rows, from the run's table or the new rows."""
    out = {}
    for variable in model.table.of_clusters.variables:
        own, known = cluster_values(new, variable.name), cluster_values(model.data, variable.name)
        before = np.where(new.known >= 0, known[new.known], np.nan)
        differ = varies_within(new.numeric(variable.name), new.codes) | (own != before) & ~np.isnan(
            own + before
        )
        _refuse_several(variable.name, differ, new, "Correct it or set it to missing.")
        out[variable.name] = np.where(np.isnan(own), before, own)
    return out


def _refuse_several(name: str, differ: NDArray[np.bool_], new: NewRows, cure: str) -> None:
    if differ.any():
        raise DataError(
            f"'{name}' has a single value in every cluster of the run's table, but with the new rows several in "
            f"{int(differ.sum()):,} clusters ({listing(new.clusters[differ])}). {cure}"
        )


def _table(model: JointLatent, new: NewRows, values: dict[str, Array]) -> LatentTable:
    """The rows of the run in the clusters of the new rows, then the new rows, on the scale of the run."""
    table, known, scale = model.table, new.training, model.table.working.scale
    number = np.full(len(known.clusters), -1)
    number[new.known[new.known >= 0]] = np.flatnonzero(new.known >= 0)
    old = np.flatnonzero(number[known.codes] >= 0)
    codes, K = np.concatenate([number[known.codes[old]], new.codes]), len(new.clusters)
    X_new, Z_new = new_design(model.formula, model.design, new)
    X, Z = np.vstack([model.design.X[old], X_new]), np.vstack([model.design.Z[old], Z_new])
    variables = table.variables
    Y, level = (
        np.vstack([
            np.hstack([of(data, v) for v in variables])[rows] for data, rows in ((known, old), (new, slice(None)))
        ])
        for of in (_numbers, _levels)
    )  # fmt: skip
    X_w, Z_w = X @ scale.T, (Z @ scale.C) / scale.u
    Y_w = Y / scale.s - X_w @ scale.offset
    keys = np.column_stack([Y, *(of_clusters[codes] for of_clusters in values.values())])
    order = cluster_order(keys, [X_w, Z_w], codes, K)
    codes_w = np.argsort(order)[codes]
    statistics = collect(X_w, Z_w, Y_w, codes_w, K)
    rows = canonical_rows(np.arange(len(Y)), X_w, Z_w, Y_w, Y, codes_w, np.isnan(Y), statistics, scale.offset)
    lacking = [(v, len(old) + np.flatnonzero(new.missing(v.name))) for v in variables]
    constant = [list(model.design.fixed).index(name) for name in table.of_clusters.fixed]
    for name, column in zip(table.of_clusters.fixed, constant, strict=True):
        _refuse_several(name, varies_within(X[:, column], codes), new, "Correct the new rows.")
    G = np.empty((K, len(constant)))
    G[codes] = X[:, constant]
    shift, by_cluster = model.shift, [v.name for v in table.of_clusters.variables]
    shifts = {v.name: np.vstack([shift.rows(v.name, known)[old], shift.rows(v.name, new)]) for v in variables}
    clusters = of_new_clusters(
        table.of_clusters, G, values, order, statistics.r * statistics.q,
        {name: cluster_shift(shift, new, name) for name in by_cluster},
    )  # fmt: skip
    return assembled(
        Working(statistics, rows, scale, order, table.working.start), variables, level.astype(np.int64),
        tuple((v, cells) for v, cells in lacking if len(cells)), clusters, shifts,
        by_cluster=model.residual == "cluster",
    )  # fmt: skip


def _numbers(data: IncompleteData, variable: LatentVariable) -> Array:
    """(n, w) values of a variable, used to order rows."""
    return values_of(variable, data.numeric(variable.name))


def _levels(data: IncompleteData, variable: LatentVariable) -> Array:
    """(n, w) observed levels, in every column of a variable."""
    return np.repeat(levels_of_rows(data, variable)[:, None], len(variable.labels), axis=1).astype(float)


def _draws(run: LatentRun, table: LatentTable, m: int, seed: int) -> Array:
    """(m, c) missing cells of rows, then those of clusters."""
    kept, random = run.history, run.model.residual == "cluster"
    clusters, st = table.of_clusters, table.working.statistics
    latent = any(v.kind != NUMBER for v in (*table.variables, *clusters.variables))
    sweeps = SWEEPS if latent or random else 1
    cells = np.empty((m, table.counted))
    for k in range(m):
        at = k % kept.chains, (k // kept.chains + 1) * run.spacing - 1
        Sigma = kept.Sigma[at].copy()
        state = LatentState(
            table.Y.copy(), kept.cutpoints[at].copy(), kept.beta[at].copy(), np.zeros((st.clusters, st.q, st.r)), Sigma,
            kept.Psi[at].copy(), clusters.V.copy(), kept.cluster_cutpoints[at].copy(), kept.gamma[at].copy(),
            np.repeat(Sigma[None], st.clusters if random else 1, axis=0), kept.likeness[at].copy(),
        )  # fmt: skip
        own = table.moments._replace(**{
            name: getattr(table.moments, name).copy() for name in ("XY", "YY", "ZY")
        })  # fmt: skip
        slots = Kept(*_room(state, table, cells[k : k + 1]))
        code = latent_gibbs(
            new_rows_rng(seed, k), sweeps, sweeps, 1, True, own, table.level, table.group, clusters.level,
            run.factor.priors.for_kernel, state, slots,
        )  # fmt: skip
        if code:
            what = FAILURES.get(int(code), TOO_FAR)
            raise SamplingError(f"New rows, imputation {k}: {what}.")
    return cells


def _room(state: LatentState, table: LatentTable, cells: Array) -> list[Array]:
    """Arrays for one kept state, whose cells are these."""
    clusters, k = table.of_clusters, table.clusters
    V, V2 = len(table.incomplete), len(clusters.incomplete)
    same = (
        state.beta, state.Sigma, state.Psi, state.cutpoints, state.gamma, state.cluster_cutpoints, state.likeness
    )  # fmt: skip
    stats = (np.empty((1, k, width)) for width in (V, V, V2, V2))
    return [
        *(np.empty((1, *a.shape)) for a in same),
        np.empty((0, *state.residuals.shape)),
        np.empty((0, *state.B.shape)),
        *stats,
        cells,
    ]
