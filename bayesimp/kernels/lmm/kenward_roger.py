"""Kenward & Roger's (1997, Biometrics 53) adjusted covariance of fixed effects, and the parts of their df.

With one grouping factor V = sum_i omega_i V_i, omega = (elements of Psi, sigma^2), V_ab = Z E_ab Z', V_0 = I.

    Phi = (X'V^-1 X)^-1,    P_i = X'V^-1 V_i V^-1 X,    Q_ij = X'V^-1 V_i V^-1 V_j V^-1 X
    W^-1 = the expected REML information,  ( tr(V^-1 V_i V^-1 V_j) - 2 tr(Phi Q_ij) + tr(Phi P_i Phi P_j) ) / 2
    Phi_A = Phi + 2 Phi { sum_ij W_ij (Q_ij - P_i Phi P_j) } Phi                                             their (5)
    df of l'beta = 2 (l'Phi l)^2 / sum_ij W_ij (l'Phi P_i Phi l)(l'Phi P_j Phi l)

For one combination their formulas for df reduce to the last line (E* and V* with A_1 = A_2), which is Satterthwaite's
with the expected in place of the observed information. Per cluster, with S = Z'Z, C = Z'X, M = (sigma^2 Psi^-1 + S)^-1,

    V^-1 = (I - Z M Z') / sigma^2,   T = (I - M S) / sigma^2,   V^-1 Z = Z T,   V^-1 X = (X - Z M C) / sigma^2
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bayesimp.notation import Array, IntVector, Matrix, Stack

__all__ = ["KenwardRoger", "kenward_roger"]


class KenwardRoger(NamedTuple):
    """Phi, Phi_A (p, p); spread (d, p, p), with df = 2 (l'Phi l)^2 / sum_k (l'spread_k l)^2."""

    covariance: Matrix
    adjusted: Matrix
    spread: Stack


def kenward_roger(
    X: Matrix, Z: Matrix, codes: IntVector, Psi: Matrix, sigma2: float, *, correlated: bool = True
) -> KenwardRoger:
    """Phi, Phi_A and spread of one REML fit; X (n, p), Z (n, q), codes (n,) from 0; Psi > 0, diagonal unless correlated.

    Raises
    ------
    numpy.linalg.LinAlgError
        Psi or the information is singular.
    """
    (n, p), q = X.shape, Z.shape[1]
    S, C = _by_cluster(Z, Z, codes), _by_cluster(Z, X, codes)
    M = np.linalg.inv(sigma2 * np.linalg.inv(Psi) + S)  # (m, q, q)
    MS = M @ S
    T = (np.eye(q) - MS) / sigma2
    a, c = S @ T, np.swapaxes(T, 1, 2) @ C  # Z'V^-1 Z, Z'V^-1 X
    d, e = np.swapaxes(T, 1, 2) @ a, np.swapaxes(T, 1, 2) @ c  # Z'V^-2 Z, Z'V^-2 X
    MC = M @ C
    X1 = (X.T @ X - np.einsum("mqa,mqb->ab", C, MC)) / sigma2  # X'V^-1 X
    X2 = (X1 - np.einsum("mqa,mqb->ab", MC, c)) / sigma2  # X'V^-2 X
    X3 = (X2 - np.einsum("mqa,mqb->ab", MC, e)) / sigma2  # X'V^-3 X
    Phi = np.linalg.inv(X1)
    trace = (n - 2 * np.einsum("mqq->", MS) + np.einsum("mab,mba->", MS, MS)) / sigma2**2  # tr V^-2
    E = _directions(q, correlated)
    k = len(E)
    P, Q, I = np.empty((k + 1, p, p)), np.empty((k + 1, k + 1, p, p)), np.empty((k + 1, k + 1))
    P[k], Q[k, k], I[k, k] = X2, X3, trace
    for i in range(k):
        P[i] = np.einsum("mqa,qr,mrb->ab", c, E[i], c)
        Q[i, k] = np.einsum("mqa,qr,mrb->ab", c, E[i], e)
        Q[k, i] = Q[i, k].T
        I[i, k] = I[k, i] = np.einsum("qr,mrq->", E[i], d)
        for j in range(k):
            Q[i, j] = np.einsum("mqa,qr,mrs,st,mtb->ab", c, E[i], a, E[j], c, optimize=True)
            I[i, j] = np.einsum("qr,mrs,st,mtq->", E[i], a, E[j], a, optimize=True)
    PP = np.einsum("iab,bc,jcd->ijad", P, Phi, P)
    I = (I - 2 * np.einsum("ab,ijba->ij", Phi, Q) + np.einsum("ab,ijba->ij", Phi, PP)) / 2
    W = np.linalg.inv(I)
    adjusted = Phi + 2 * Phi @ np.einsum("ij,ijab->ab", W, Q - PP) @ Phi
    root = np.linalg.cholesky(W)
    spread = np.einsum("ik,iab->kab", root, Phi @ P @ Phi)
    return KenwardRoger(Phi, (adjusted + adjusted.T) / 2, spread)


def _by_cluster(A: Matrix, B: Matrix, codes: IntVector) -> Stack:
    """(m, a, b) A'B over the rows of each cluster."""
    out = np.zeros((int(codes.max()) + 1, A.shape[1], B.shape[1]))
    np.add.at(out, codes, A[:, :, None] * B[:, None])
    return out


def _directions(q: int, correlated: bool) -> Array:
    """(k, q, q) derivatives of Psi by its free elements."""
    pairs = [(a, b) for a in range(q) for b in range(a + 1) if correlated or a == b]
    E = np.zeros((len(pairs), q, q))
    for each, (a, b) in zip(E, pairs, strict=True):
        each[a, b] = each[b, a] = 1.0
    return E
