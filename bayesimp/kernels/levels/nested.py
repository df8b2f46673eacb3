"""Exact moves between the intercepts of two grouping factors (docs/mathematics.md, sec. 16).

For a factor s nested in t, what the data see is little more than the sum of both. For each group h of t, with the n_h
groups g of s in h, and one coordinate of their effects each,

    c_th + d,  c_sg - d:    d ~ N( P^-1 (sum_g (Psi_s^-1 c_sg) - (Psi_t^-1 c_th)), P^-1 )
                            P = Psi_t^-1 + n_h Psi_s^-1     in these coordinates

changes no linear predictor and leaves the distribution of the effects invariant.

The same holds for crossed factors and all groups that are connected through rows: with the groups of both in a part of
the table that shares no group with the rest,

    c_th + d,  c_sg - d for all of them,     P = n_t Psi_t^-1 + n_s Psi_s^-1
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bayesimp.notation import Matrix

__all__ = ["parents", "shift_between", "shift_connected"]

Ints = NDArray[np.int64]


def shift_between(
    rng: np.random.Generator,
    Psi: tuple[Matrix, Matrix],
    effects: tuple[Matrix, Matrix],
    at: tuple[int, int],
    parent: Ints,
) -> None:
    """Make the move in place.

    Parameters
    ----------
    Psi
        Psi_s and Psi_t.
    effects
        Effects (groups, d) of s and of t; changed.
    at
        The coordinate of each that moves.
    parent
        For each group of s, the group of t in which it lies; -1: the group is left out of the move.
    """
    (child, coarser), (s, t) = effects, at
    fine, coarse = np.linalg.inv(Psi[0])[s], np.linalg.inv(Psi[1])[t]
    there, number = parent >= 0, len(coarser)
    of = parent[there]
    children = np.bincount(of, minlength=number)
    has = children > 0
    precision = coarse[t] + children * fine[s]
    pull = np.bincount(of, child[there] @ fine, number) - coarser @ coarse
    d = np.where(has, pull / precision + rng.standard_normal(number) / np.sqrt(precision), 0.0)
    coarser[:, t] += d
    child[there, s] -= d[of]


def shift_connected(
    rng: np.random.Generator,
    Psi: tuple[Matrix, Matrix],
    effects: tuple[Matrix, Matrix],
    at: tuple[int, int],
    part: tuple[Ints, Ints],
) -> None:
    """Make the move of crossed factors in place; arguments as for `shift_between`.

    part: for each group of s, and of t, the number of its part of the table, from 0.
    """
    (one, other), (s, t), (of_one, of_other) = effects, at, part
    first, second = np.linalg.inv(Psi[0])[s], np.linalg.inv(Psi[1])[t]
    number = int(of_other.max()) + 1
    precision = first[s] * np.bincount(of_one, minlength=number) + second[t] * np.bincount(of_other)
    pull = np.bincount(of_one, one @ first, number) - np.bincount(of_other, other @ second)
    d = pull / precision + rng.standard_normal(number) / np.sqrt(precision)
    other[:, t] += d[of_other]
    one[:, s] -= d[of_one]


def parents(child: Ints, parent: Ints, number: int) -> Ints:
    """(number,) the group of `parent` of each group of `child` that occurs, else -1; child, parent (n,): of rows."""
    out = np.full(number, -1)
    out[child] = parent
    return out
