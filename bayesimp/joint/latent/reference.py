"""Reference-based imputation on latent normals: the rows that are not imputed at random, given draws of all else.

Given the parameters and the cluster effects, rows are independent, and y* of a row is N(mu + a, Sigma), with
mu = x'beta + z'B_i and a as in joint/reference.py. Its observed part is known where it is a number, and within bounds
where it is a level:

    y*_O | numbers, levels    under the mean mu_O + a_O, by Gibbs sweeps over the latent values of levels
    y*_M | y*_O               ~ N(mu_M + a_M + (y*_O - mu_O - a_O) K, C),   K = Sigma_OO^-1 Sigma_OM
    y_M                       cut at thresholds that are common to all arms

a_O = 0 except for "copy reference": there the mean of the reference arm also says which latent values the observed
levels have. All other rows keep the values of the chain. K is applied to a draw z of N(0, Sigma) (Matheron's rule):
y*_M = mu_M + a_M + z_M + (y*_O - mu_O - a_O - z_O) K.

The sweeps forget where they start at the rate of Gibbs sampling of the same normal without bounds, the largest
eigenvalue of (D + L)^-1 L', where W = Sigma_OO^-1 = D + L + L' (Roberts & Sahu 1997, J. Royal Statistical Society B 59,
291, Theorem 1); there are as many as make its power smaller than `FORGOTTEN`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bayesimp.errors import SamplingError, SpecificationError
from bayesimp.joint.latent.variables import LatentVariable
from bayesimp.joint.reference import ReferenceBased, reference_means
from bayesimp.kernels.draws import truncated_normals
from bayesimp.kernels.latent.records import NUMBER, THRESHOLD
from bayesimp.notation import Array, BoolMatrix, IntVector
from bayesimp.sampling.chains import imputation_rng

if TYPE_CHECKING:
    from bayesimp.joint.latent.run import LatentRun
    from bayesimp.joint.latent.table import LatentTable
    from bayesimp.kernels.latent.records import LatentColumns, MissingCells

__all__ = ["by_reference", "check_visits"]

FORGOTTEN = 1e-6
FEWEST, MOST = 10, 5_000  # sweeps


def check_visits(own: ReferenceBased, variables: Sequence[LatentVariable]) -> None:
    """Refuse visits whose latent normals do not have what the reference needs.

    Raises
    ------
    SpecificationError
        A visit is a cluster-level variable, or increments are to be copied between variables of different families.
    """
    visits = [next(v for v in variables if v.name == name) for name in own.visits]
    for visit in visits:
        if visit.of_clusters:
            raise SpecificationError(
                f"reference: visit '{visit.name}' has a single value in every cluster, but visits are those of the "
                "patients, one per row. Take it out of visits=."
            )
    kinds = {(v.family.name, v.levels if v.kind != THRESHOLD else len(v.levels)) for v in visits}
    if own.how == "copy increments in reference" and len(kinds) > 1:
        said = ", ".join(
            f"{v.name} ({v.family.name}, {len(v.levels)} levels)" if v.levels else f"{v.name} (normal)"
            for v in visits
        )
        raise SpecificationError(
            f"reference: increments are differences between arms carried from one visit to the next, in the same units, "
            f'but the visits have different families or levels: {said}. Use how="jump to reference" or "copy reference".'
        )


def by_reference(run: LatentRun, drawn: Array) -> Array:
    """The cells of imputations 0 .. m-1 with those of patients who dropped out drawn by reference; drawn (m, c).

    Raises
    ------
    SamplingError
        A latent value is too far from its bounds, or the latent values of visits are almost the same.
    """
    model, h, table = run.model, run.history, run.model.table
    columns = {v.name: range(v.columns.start, v.columns.stop) for v in table.variables}
    cells = table.cells
    means = reference_means(model, table.working.rows.row[cells.row], columns)
    at = np.flatnonzero(means.moved)
    means, rows, out = means.at(at), cells.row[at], drawn.copy()
    for number in range(len(drawn) if len(rows) else 0):
        k = number % h.chains, (number // h.chains + 1) * run.spacing - 1
        scale = table.working.scale
        added = means.added(scale.beta(h.beta[k])[None])[0] / scale.s
        cluster = table.rows.cluster[rows]
        Z = table.rows.Z[rows]
        mean = table.rows.X[rows] @ h.beta[k] + np.einsum("jl,jlk->jk", Z, h.B[k][cluster]) + added
        own = model.residual == "cluster"
        Sigma = (
            h.residuals[k][cluster] if own else np.broadcast_to(h.Sigma[k], (len(rows), *h.Sigma[k].shape))
        )
        rng = imputation_rng(run.seed, number)
        y = _completed(rng, table, rows, ~means.missing, mean, Sigma, h.cutpoints[k], number)
        _store(cells, table.columns, at, y + cells.shift[at], h.cutpoints[k], out[number])
    return out


def _completed(
    rng: np.random.Generator, table: LatentTable, rows: IntVector, seen: BoolMatrix, mean: Array, Sigma: Array,
    cutpoints: Array, number: int,
) -> Array:  # fmt: skip
    """(R, r) latent values of rows, the observed ones given their numbers and levels; mean (R, r), Sigma (R, r, r)."""
    r = mean.shape[1]
    both = seen[:, :, None] & seen[:, None, :]
    W = np.where(both, np.linalg.inv(np.where(both, Sigma, np.eye(r))), 0.0)  # Sigma_OO^-1, zero elsewhere
    levels = seen & (table.columns.kind != NUMBER)
    e = np.where(seen & ~levels, table.Y[rows] - mean, 0.0)  # y* - mean
    columns = [
        _column(
            table.columns, int(k), np.flatnonzero(levels[:, k]), table.rows.level[rows], W, mean, cutpoints
        )
        for k in np.flatnonzero(levels.any(axis=0))
    ]
    for _ in range(_sweeps(W, levels, number)):
        for column in columns:
            column.draw(rng, e)
    if not np.isfinite(e).all():
        raise SamplingError(
            f"Reference-based imputation {number}: a latent value is too far from the bounds of its observed level."
        )
    z = np.einsum("jkl,jl->jk", np.linalg.cholesky(Sigma), rng.standard_normal(mean.shape))
    carried = np.where(seen, e - z, 0.0)[:, None] @ W @ Sigma
    return mean + z + carried[:, 0]


class ObservedColumn(NamedTuple):
    """Latent values of observed levels in column k, given the other values of their rows.

    rows (n,): where it is observed; slopes (n, r), sd (n,): of y*_k - mean_k on that of the others; lower, upper (n,):
    bounds of y*_k - mean_k of binary and ordinal levels; mean (n, w), level (n,): those of the variable, for utilities,
    whose bounds are the other utilities of the row; first: the first of these columns.
    """

    k: int
    rows: IntVector
    slopes: Array
    sd: Array
    lower: Array
    upper: Array
    mean: Array
    level: IntVector
    first: int

    def draw(self, rng: np.random.Generator, e: Array) -> None:
        """Draw e (R, r) in this column."""
        near, lower, upper = e[self.rows], self.lower, self.upper
        if not len(lower):
            lower, upper = self._between_utilities(near)
        out = np.empty(len(near))
        truncated_normals(rng, (self.slopes * near).sum(axis=1), self.sd, lower, upper, out)
        e[self.rows, self.k] = out

    def _between_utilities(self, e: Array) -> tuple[Array, Array]:
        own, w = self.k - self.first, self.mean.shape[1]
        utilities = np.column_stack([np.zeros(len(e)), e[:, self.first : self.first + w] + self.mean])
        largest = np.delete(utilities, own + 1, axis=1).max(axis=1)
        chosen, here = utilities[np.arange(len(e)), self.level], self.level == own + 1
        lower, upper = np.where(here, largest, -np.inf), np.where(here, np.inf, chosen)
        return lower - self.mean[:, own], upper - self.mean[:, own]


def _column(
    columns: LatentColumns, k: int, own: IntVector, level: NDArray[np.int64], W: Array, mean: Array, cutpoints: Array
) -> ObservedColumn:  # fmt: skip
    """Column k, observed in rows `own`; level (R, r), W (R, r, r), mean (R, r)."""
    precision, first = W[own, k, k], int(columns.first[k])
    slopes = -W[own, k] / precision[:, None]
    slopes[:, k] = 0.0
    level, none = level[own, k], np.empty(0)
    if columns.kind[k] == THRESHOLD:
        c = np.concatenate([[-np.inf], cutpoints[columns.cut[k] : columns.cut[k + 1]], [np.inf]])
        bounds = c[level] - mean[own, k], c[level + 1] - mean[own, k]
    else:
        bounds = none, none
    utilities = mean[own, first : first + columns.width[k]]
    return ObservedColumn(k, own, slopes, 1.0 / np.sqrt(precision), *bounds, utilities, level, first)


def _sweeps(W: Array, levels: BoolMatrix, number: int) -> int:
    """The number of sweeps over latent values of levels (R, r); 0 if none is observed."""
    if not levels.any():
        return 0
    both = levels[:, :, None] & levels[:, None, :]
    lower = np.tril(np.where(both, W, 0.0)) + np.where(levels, 0.0, 1.0)[:, :, None] * np.eye(W.shape[1])
    rate = np.abs(np.linalg.eigvals(np.linalg.solve(lower, np.triu(np.where(both, W, 0.0), 1)))).max()
    sweeps = max(FEWEST, math.ceil(math.log(FORGOTTEN) / math.log(rate))) if 0.0 < rate < 1.0 else FEWEST
    if rate >= 1.0 or sweeps > MOST:
        raise SamplingError(
            f"Reference-based imputation {number}: at this draw latent values of different visits are almost the same "
            f"({sweeps:,} Gibbs sweeps would be needed). A visit that repeats another one tells nothing more; remove it."
        )
    return sweeps


def _store(
    cells: MissingCells, columns: LatentColumns, at: NDArray[np.int64], y: Array, cutpoints: Array, out: Array
) -> None:
    """out (c,) <- missing cells of rows `at` of the incomplete ones: numbers in data units, or positions of levels."""
    for v, k in enumerate(cells.column):
        lacking = cells.place[at, v] >= 0
        if columns.kind[k] == NUMBER:
            values = cells.unit[v] * (y[:, k] + cells.fixed[at, v])
        elif columns.kind[k] == THRESHOLD:
            values = (y[:, k, None] > cutpoints[columns.cut[k] : columns.cut[k + 1]]).sum(axis=1)
        else:
            values = np.column_stack([np.zeros(len(y)), y[:, k : k + columns.width[k]]]).argmax(axis=1)
        out[cells.place[at[lacking], v]] = values[lacking]
