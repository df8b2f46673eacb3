"""Coefficients of the joint model that the data do not determine and that therefore keep their values.

Where a flat prior leaves the precision Q of vec(beta) singular, columns D of X are combinations of the others, S. Then
vec(beta)_S is drawn given the current vec(beta)_D, which also leaves the posterior invariant:

    beta_S | beta_D   ~ N(Q_SS^-1 (t_S - Q_SD beta_D), Q_SS^-1)
"""

from __future__ import annotations

import math

import numpy as np

from bayesimp.kernels.compiled import inner
from bayesimp.kernels.linalg import copy_to
from bayesimp.notation import BoolVector, Matrix, Vector

__all__ = ["hold"]

# A column is dependent where elimination leaves less than this share of its diagonal element of Q, or than this share
# (of what round-off leaves) of its element before the clusters are subtracted.
DEPENDENT, ROUND_OFF = 1e-13, 1e-15


@inner
def hold(Q: Matrix, t: Vector, Q0: Matrix, before: Vector, beta: Matrix, fixed: BoolVector) -> None:
    """Q, t <- those of vec(beta)_S given vec(beta)_D; fixed (r p,) <- True in D.

    D holds the columns without a prior that are combinations of earlier columns. before (r p,): the diagonal of Q before
    the clusters are subtracted.
    """
    p, P = beta.shape[0], fixed.size
    L = np.empty((P, P))
    copy_to(L, Q)
    for x in range(P):
        for y in range(x):
            s = L[x, y]
            for k in range(y):
                s -= L[x, k] * L[y, k]
            L[x, y] = 0.0 if fixed[y] else s / L[y, y]
        s = L[x, x]
        for k in range(x):
            s -= L[x, k] * L[x, k]
        fixed[x] = Q0[x, x] == 0.0 and s <= max(DEPENDENT * Q[x, x], ROUND_OFF * before[x])
        L[x, x] = math.sqrt(s) if s > 0.0 else 1.0
    for x in range(P):
        if not fixed[x]:
            continue
        for y in range(P):
            if y != x:
                if not fixed[y]:
                    t[y] -= (Q[x, y] if x > y else Q[y, x]) * beta[x % p, x // p]
                if x > y:
                    Q[x, y] = 0.0
                else:
                    Q[y, x] = 0.0
        Q[x, x] = 1.0
        t[x] = 0.0
