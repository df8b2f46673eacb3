"""The cells and rows that the sampler of a joint GLMM visits: missing cells, how they are drawn, and rows used by factor.

A variable that appears in no other factor is a leaf: its missing cells are drawn only when tables are completed. Its
censored cells, which inform its own parameters, are part of the chain.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bayesimp.joint.glmm.factors import Factor
from bayesimp.joint.glmm.programs import NONLINEAR, Compiler, degree
from bayesimp.kernels.factors.arrays import COUNT, ENUMERATE, GAUSSIAN, SLICE, Cells
from bayesimp.kernels.factors.together import can_move_together
from bayesimp.kernels.families.codes import NORMAL
from bayesimp.notation import Array

__all__ = ["bare_clusters", "is_censored", "missing_cells", "used_rows"]


def missing_cells(
    factors: Sequence[Factor],
    places: Sequence[int],
    columns: Sequence[Sequence[tuple]],
    compiler: Compiler,
    V: Array,
    limits: Sequence[tuple[Array, Array]],
    first: NDArray[np.int64],
    analyses_only: bool,
) -> tuple[Cells, NDArray[np.bool_]]:
    """The missing cells drawn in the chain, where their variables appear, and which variables are leaves."""
    flat = [tokens for part in columns for tokens in part]
    begin = np.concatenate([[0], np.cumsum([len(part) for part in columns])])
    K, T = len(factors), len(flat)
    rows, start, kind, child, of, wide, straight, active, mean, mean_of = (
        [],
        [0],
        [],
        [0],
        [],
        [],
        [],
        [],
        [0],
        [],
    )
    lower, upper = [np.empty(0)], [np.empty(0)]
    leaf = np.ones(K, dtype=bool)
    for k in range(K):
        of_mean = [degree(tokens, places[k], lambda e: 0) for tokens in compiler.averaged]
        degrees = np.array(
            [degree(tokens, places[k], of_mean.__getitem__) for tokens in flat], dtype=np.int64
        )
        in_mean = np.array(
            [any(c == 2 and of_mean[int(a)] for c, a in tokens) for tokens in flat], dtype=bool
        )
        linear = True
        for l in range(K):
            own = slice(begin[l], begin[l + 1])
            if not degrees[own].any() or (analyses_only and not factors[l].is_analysis):
                continue
            leaf[k] = False
            of.append(l)
            wide.append(bool(in_mean[own].any()))
            mask = np.zeros(T, dtype=bool)
            mask[own] = degrees[own] > 0
            active.append(mask)
            straight.append(not (degrees[own] >= NONLINEAR).any())
            linear &= factors[l].family.has_normal_errors and straight[-1]
        child.append(len(of))
        mean_of += [e for e, d in enumerate(of_mean) if d]
        mean.append(len(mean_of))
        kind.append(_kind(factors[k], linear))
        missing = np.isnan(V[:, places[k]]) & ((not leaf[k]) | is_censored(limits[k]))
        if factors[k].at_cluster:
            missing &= np.isin(np.arange(len(V)), first[:-1])
        rows += np.flatnonzero(missing).tolist()
        lower.append(limits[k][0][missing])
        upper.append(limits[k][1][missing])
        start.append(len(rows))

    def ints(x: list) -> NDArray[np.int64]:
        return np.array(x, dtype=np.int64)

    return Cells(
        ints(start), ints(rows), np.concatenate(lower), np.concatenate(upper), ints(kind), ints(child), ints(of),
        np.array(wide, dtype=bool), np.array(straight, dtype=bool),
        np.array(active, dtype=bool).reshape(len(of), T), ints(mean), ints(mean_of),
    ), leaf  # fmt: skip


def _kind(factor: Factor, linear: bool) -> int:
    """How a missing cell is drawn (kernels/factors/cells.py)."""
    family = factor.family
    if family.is_coded or family.takes_trials:
        return ENUMERATE
    if family.has_normal_errors:
        return GAUSSIAN if linear else SLICE
    return COUNT if family.is_count else SLICE


def is_censored(limits: tuple[Array, Array]) -> NDArray[np.bool_]:
    """(n,) whether a cell holds a limit in place of a value."""
    return np.isfinite(limits[0]) | np.isfinite(limits[1])


def bare_clusters(
    factor: Factor, leaf: bool, known: NDArray[np.bool_], cluster: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Clusters without information on a response on which other factors depend, if it has effects, or is normal with one
    value per cluster.

    known (n,): whether a row has a value of the response, or a limit.
    """
    moves = can_move_together(factor.code) if factor.effects else factor.at_cluster and factor.code == NORMAL
    if leaf or not moves:
        return np.empty(0, dtype=np.int64)
    return np.flatnonzero(np.bincount(cluster, known) == 0).astype(np.int64)


def used_rows(
    factors: Sequence[Factor],
    V: Array,
    places: Sequence[int],
    leaf: NDArray[np.bool_],
    censored: NDArray[np.bool_],
    first: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """(n, K) whether a row counts in a factor: for a leaf, rows where it is observed or censored; for a cluster-level
    variable, one row per cluster."""
    used = ~(np.isnan(V[:, places]) & leaf & ~censored)
    once = np.zeros(len(V), dtype=bool)
    once[first[:-1]] = True
    for k, factor in enumerate(factors):
        if factor.at_cluster:
            used[:, k] &= once
    return used
