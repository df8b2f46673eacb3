"""An exact move between the intercepts of nested grouping factors (docs/mathematics.md, sec. 16).

For a factor s nested in t, what the data see is little more than the sum of both. For each group h of t, with the n_h
groups g of s in h, and one coordinate of their effects each,

    c_th + d,  c_sg - d:    d ~ N( P^-1 (sum_g (Psi_s^-1 c_sg) - (Psi_t^-1 c_th)), P^-1 )
                            P = Psi_t^-1 + n_h Psi_s^-1     in these coordinates

leaves every linear predictor as it is, and the distribution of the effects invariant.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bayesimp.notation import Matrix

__all__ = ["parents", "shift_between"]

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


def parents(child: Ints, parent: Ints, number: int) -> Ints:
    """(number,) the group of `parent` of each group of `child` that occurs, else -1; child, parent (n,): of rows."""
    out = np.full(number, -1)
    out[child] = parent
    return out
