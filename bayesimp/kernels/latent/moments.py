"""Moments that involve latent values, recomputed over rows after these have changed.

Only entries with a latent column change: Y'Y and X'Y by pattern, Z'Y by cell. Moments of numeric columns do not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bayesimp.kernels.compiled import inner
from bayesimp.kernels.latent.records import NUMBER
from bayesimp.notation import Matrix

if TYPE_CHECKING:
    from bayesimp.kernels.latent.records import LatentColumns, LatentRows
    from bayesimp.kernels.normal.effects import Moments

__all__ = ["renew_moments"]


@inner
def renew_moments(rows: LatentRows, columns: LatentColumns, Y: Matrix, m: Moments) -> None:
    """m <- the moments of Y (N, r), which is zero where nothing is observed; in place."""
    (A, p, r), q = m.XY.shape, m.ZY.shape[1]
    for k in range(r):
        if columns.kind[k] == NUMBER:
            continue
        for a in range(A):
            for x in range(p):
                m.XY[a, x, k] = 0.0
            for l in range(r):
                m.YY[a, k, l] = 0.0
                m.YY[a, l, k] = 0.0
        for c in range(m.ZY.shape[0]):
            for l in range(q):
                m.ZY[c, l, k] = 0.0
    for j in range(Y.shape[0]):
        a, c = rows.pattern[j], rows.cell[j]
        for k in range(r):
            if rows.level[j, k] < 0:
                continue
            y = Y[j, k]
            for x in range(p):
                m.XY[a, x, k] += rows.X[j, x] * y
            for l in range(q):
                m.ZY[c, l, k] += rows.Z[j, l] * y
            for l in range(r):
                if l > k and columns.kind[l] != NUMBER:
                    continue  # each pair is counted once, at the later of the two
                m.YY[a, k, l] += y * Y[j, l]
    for a in range(A):
        for k in range(r):
            if columns.kind[k] == NUMBER:
                continue
            for l in range(r):
                if l < k or columns.kind[l] == NUMBER:
                    m.YY[a, l, k] = m.YY[a, k, l]
