"""Cross products of the observed rows' residuals, from the table's moments."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bayesimp.kernels.compiled import inner
from bayesimp.kernels.linalg import copy_to
from bayesimp.notation import Matrix, Stack

if TYPE_CHECKING:
    from bayesimp.kernels.normal.effects import Moments

__all__ = ["residual_products"]


@inner
def residual_products(m: Moments, beta: Matrix, B: Stack, RR: Stack) -> None:
    """RR (A, r, r) <- (Y - X beta - Z B)'(Y - X beta - Z B) by pattern; only observed entries are meaningful.

    R'R = Y'Y - beta'X'Y - Y'X beta + beta'X'X beta - sum_i [B_i'T_i + T_i'B_i - B_i'Z'Z B_i],
    T_i = Z'Y - Z'X beta.
    """
    A, p, r = m.XY.shape
    q = B.shape[1]
    for a in range(A):
        if m.pattern_rows[a] == 0:
            continue
        copy_to(RR[a], m.YY[a])
        for x in range(p):
            for j in range(r):
                s = -m.XY[a, x, j]
                for h in range(p):
                    s += m.XX[a, x, h] * beta[h, j]
                for k in range(r):
                    RR[a, k, j] += beta[x, k] * s - m.XY[a, x, k] * beta[x, j]
    T = np.empty((q, r))
    for i in range(B.shape[0]):
        for c in range(m.first[i], m.first[i + 1]):
            R = RR[m.cell_pattern[c]]
            for l in range(q):
                for k in range(r):
                    s = m.ZY[c, l, k]
                    for x in range(p):
                        s -= m.ZX[c, l, x] * beta[x, k]
                    # half of the quadratic term goes with each of the two cross terms
                    for h in range(q):
                        s -= 0.5 * m.ZZ[c, l, h] * B[i, h, k]
                    T[l, k] = s
            for k in range(r):
                for j in range(r):
                    s = 0.0
                    for l in range(q):
                        s += B[i, l, k] * T[l, j] + T[l, k] * B[i, l, j]
                    R[k, j] -= s
