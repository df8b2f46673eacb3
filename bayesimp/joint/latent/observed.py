"""The density of observed numbers and levels, in rows or in groups, given the means and covariances of latent normals.

    log p(row) = log N(numbers | mu, Sigma) + log P(levels | numbers)

The second is the probability of a box of the latent normals given the numbers (kernels/normal/boxes.py); for a nominal
variable at level l, a box of the contrasts y*_l, y*_l - y*_k, or -y*_k if l is the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from bayesimp.joint.latent.clusters import ClusterTable
from bayesimp.joint.latent.variables import LatentVariable
from bayesimp.joint.pointwise import LOG_2PI
from bayesimp.joint.scale import Scale
from bayesimp.kernels.latent.records import NUMBER, UTILITY
from bayesimp.kernels.normal.boxes import log_boxes
from bayesimp.notation import Array, BoolMatrix, IntMatrix, IntVector

__all__ = ["Draw", "LevelDraw", "Side", "side_of_groups", "side_of_rows"]


class Group(NamedTuple):
    """Rows with the same observed cells and levels of nominal variables, in the same group of covariances.

    rows (n,); numbers: their columns; A (w, r): y* -> latent components; lower, upper (n, w): positions of the bounds in
    [-inf, cutpoints, inf, 0], of all variables; group: index of the covariance.
    """

    rows: IntVector
    numbers: IntVector
    A: Array
    lower: IntMatrix
    upper: IntMatrix
    group: int


@dataclass(frozen=True)
class Side:
    """The rows of the table, or its clusters, as their density reads them.

    Attributes
    ----------
    variables, first
        Variables, and the first cutpoint of each.
    level
        (n, r) observed levels, -1 where there is none.
    Y
        (n, r) numbers on the working scale.
    fixed, s
        (n, r), (r,): a number is s (y* + fixed).
    seen
        (n, r) which cells are observed.
    """

    variables: Sequence[LatentVariable]
    first: Sequence[int]
    level: IntMatrix
    Y: Array
    fixed: Array
    s: Array
    seen: BoolMatrix

    def groups(self, group: IntVector) -> list[Group]:
        """The rows in which anything is observed; group (n,): index of the covariance of each."""
        nominal = [self.level[:, v.first] for v in self.variables if v.kind == UTILITY]
        key = np.column_stack([group, self.seen, *nominal])
        _, of = np.unique(key, axis=0, return_inverse=True)
        of = of.ravel()
        every = (np.flatnonzero(of == k) for k in range(of.max() + 1))
        return [self._group(rows, int(group[rows[0]])) for rows in every if self.seen[rows[0]].any()]

    def _group(self, rows: IntVector, group: int) -> Group:
        r, seen, last = self.Y.shape[1], self.seen[rows[0]], self._cuts
        unit = np.eye(r)
        numbers = [v.first for v in self.variables if v.kind == NUMBER and seen[v.first]]
        A, lower, upper = [], [], []
        for v, start in zip(self.variables, self.first, strict=True):
            level = self.level[rows, v.first]
            if v.kind == NUMBER or not seen[v.first]:
                continue
            if v.kind == UTILITY:
                made = _contrasts(unit[v.columns], int(level[0]))
                A += list(made)
                lower += [np.full(len(rows), last + 2)] * len(made)
                upper += [np.full(len(rows), last + 1)] * len(made)
                continue
            A.append(unit[v.first])
            lower.append(np.where(level > 0, start + level, 0))
            upper.append(np.where(level < v.cutpoints, start + level + 1, last + 1))
        n = len(rows)
        low, high = (np.array(x, dtype=np.int64).reshape(-1, n).T for x in (lower, upper))
        return Group(rows, np.array(numbers, dtype=np.int64), np.array(A).reshape(-1, r), low, high, group)

    @property
    def _cuts(self) -> int:
        return sum(v.cutpoints for v in self.variables)

    def log_density(
        self, groups: list[Group], mu: Array, covariances: Array, cutpoints: Array
    ) -> tuple[Array, float]:
        """(n,) log density of what is observed, and the largest error; mu (n, r), covariances (G, r, r)."""
        out, error = np.zeros(len(mu)), 0.0
        bounds = np.concatenate([[-np.inf], cutpoints, [np.inf, 0.0]])
        for g in groups:
            S, o, A = covariances[g.group], g.numbers, g.A
            mean, cov = mu[g.rows] @ A.T, A @ S @ A.T
            if len(o):
                L = np.linalg.cholesky(S[np.ix_(o, o)])
                e = np.linalg.solve(L, (self.Y[np.ix_(g.rows, o)] - mu[np.ix_(g.rows, o)]).T)
                constant = np.log(np.diagonal(L)).sum() + np.log(self.s[o]).sum() + 0.5 * len(o) * LOG_2PI
                out[g.rows] = -0.5 * (e**2).sum(axis=0) - constant
                G = np.linalg.solve(L, S[o] @ A.T)
                mean, cov = mean + e.T @ G, cov - G.T @ G
            if len(A):
                log_p, errors = log_boxes(mean, cov, bounds[g.lower], bounds[g.upper])
                out[g.rows] += log_p
                error = max(error, float(errors.max()))
        return out, error

    def values(self, y: Array, cutpoints: Array) -> dict[str, Array]:
        """Variable -> (n,) numbers in the units of the data, or levels from 0, of latent values y (n, r)."""
        out = {}
        for v, start in zip(self.variables, self.first, strict=True):
            own = y[:, v.columns]
            if v.kind == NUMBER:
                out[v.name] = self.s[v.first] * (own[:, 0] + self.fixed[:, v.first])
            elif v.kind == UTILITY:
                out[v.name] = np.where(own.max(axis=1) > 0, own.argmax(axis=1) + 1, 0)
            else:
                out[v.name] = np.searchsorted(cutpoints[start : start + v.cutpoints], own[:, 0])
        return out


def _contrasts(unit: Array, level: int) -> Array:
    """(K - 1, r) combinations of utilities, unit (K - 1, r), that are positive if the variable has this level."""
    if not level:
        return -unit
    chosen = unit[level - 1]
    return np.array([one if k == level - 1 else chosen - one for k, one in enumerate(unit)])


def side_of_rows(
    variables: Sequence[LatentVariable], level: IntMatrix, Y: Array, fixed: Array, scale: Scale
) -> Side:
    """Rows: level (N, r), Y (N, r) on the working scale, NaN where missing, fixed (N, r)."""
    number = np.array([v.kind == NUMBER for v in variables for _ in v.labels])
    return _side(variables, level, Y, fixed, scale, np.where(number, ~np.isnan(Y), level >= 0))


def side_of_groups(table: ClusterTable) -> Side:
    """The groups of a factor in the sampler's order, with their variables."""
    n = table.V.shape[1] - len(table.labels)
    level = table.level
    G, patterns = level.rows.X, level.patterns[level.rows.pattern]
    fixed = G @ table.scale.offset if table.variables else np.empty((len(G), 0))
    return _side(
        table.variables, level.rows.level[:, n:], table.V[:, n:], fixed, table.scale, patterns[:, n:]
    )


def _side(
    variables: Sequence[LatentVariable],
    level: IntMatrix,
    Y: Array,
    fixed: Array,
    scale: Scale,
    seen: BoolMatrix,
) -> Side:
    first = np.cumsum([0, *(v.cutpoints for v in variables)])[:-1]
    return Side(variables, [int(k) for k in first], level, Y, fixed, scale.s, seen)


class LevelDraw(NamedTuple):
    """One draw on the working scale, for rows or for groups: means (n, r) given the effects, covariances (G, r, r),
    cutpoints."""

    mu: Array
    Sigma: Array
    cutpoints: Array


class Draw(NamedTuple):
    """One draw: of rows, and of the groups of every factor.

    place: (chain, position) in the result; number: of the draw in its chain.
    """

    place: tuple[int, int]
    number: int
    rows: LevelDraw
    groups: tuple[LevelDraw, ...]
