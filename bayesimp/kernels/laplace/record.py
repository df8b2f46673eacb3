"""Laplace fits of generalised linear mixed models on any scale: on orthonormal columns, then transformed back.

X = X_u T,  X_u'X_u = n I;   Z = Z_u S within blocks, Z_u'Z_u = n I, S lower triangular
beta = T^-1 beta_u,   L = S^-1 L_u,   so that S^-1 keeps L lower triangular; modes u_i of b_i = L u_i are the same
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from bayesimp.kernels.glmm.rows import GlmmRows
from bayesimp.kernels.laplace.criterion import Penalty, laplace
from bayesimp.kernels.laplace.fit import (
    GAIN,
    NOT_CONVERGED,
    SEPARATED,
    SINGULAR,
    maximise_laplace,
)
from bayesimp.kernels.laplace.quadrature import quadrature
from bayesimp.kernels.laplace.quadrature_fit import maximise_quadrature
from bayesimp.notation import IntMatrix, Matrix

__all__ = ["LaplaceFit", "fit_laplace", "free_elements", "laplace_at", "no_penalty"]

INDEPENDENT = 1e-6  # Cholesky will do if more than this share of a column's squares lies outside the span of earlier ones


class LaplaceFit(NamedTuple):
    """A generalised linear mixed model at the maximum of its (penalised) Laplace or quadrature log-likelihood.

    Attributes
    ----------
    beta, L
        (p,) fixed effects; (q, q) lower triangular, diagonal >= 0, Psi = L L'.
    free
        (d, 2) rows and columns of the elements of L that are parameters (theta), by columns.
    u, modes
        (m, q) modes of the standardised effects and of the effects b_i = L u_i.
    loglik, criterion
        Log-likelihood by that approximation, without and with the penalty.
    covariance, gradient
        (p + d, p + d) inverse of the negative Hessian in (beta, theta), zero for elements held at zero; (p + d,).
    evaluations, code
        Evaluations of the criterion in the search; bits of `bayesimp.kernels.laplace.fit.EVENTS`.
    """

    beta: np.ndarray
    L: np.ndarray
    free: np.ndarray
    u: np.ndarray
    modes: np.ndarray
    loglik: float
    criterion: float
    covariance: np.ndarray
    gradient: np.ndarray
    evaluations: int
    code: int

    @property
    def Psi(self) -> np.ndarray:
        """(q, q) covariance of the effects."""
        return self.L @ self.L.T

    @property
    def theta(self) -> np.ndarray:
        """(d,) free elements of L."""
        return self.L[self.free[:, 0], self.free[:, 1]]

    @property
    def singular(self) -> bool:
        """Whether a standard deviation of effects is zero, or a correlation +-1."""
        return bool(self.code & SINGULAR)

    @property
    def separated(self) -> bool:
        """Whether estimates run to infinity."""
        return bool(self.code & SEPARATED)

    @property
    def converged(self) -> bool:
        """Whether the search ended at a stationary point."""
        return not self.code & NOT_CONVERGED


def free_elements(q: int, blocks: ArrayLike | None = None) -> np.ndarray:
    """(d, 2) rows and columns of the lower triangle within blocks, by columns; the blocks of (1 + x || g) are [0, 1]."""
    block = np.zeros(q, int) if blocks is None else np.asarray(blocks)
    pairs = [(a, b) for b in range(q) for a in range(b, q) if block[a] == block[b]]
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def no_penalty(p: int, q: int) -> Penalty:
    """The penalty of maximum likelihood, zero."""
    return Penalty(np.zeros((p, p)), np.zeros(p), np.zeros(q), np.zeros((q, q)))


def fit_laplace(rows: GlmmRows, shape: float = 1.0, *, penalty: Penalty | None = None, blocks: ArrayLike | None = None,
                start: LaplaceFit | None = None, nodes: int = 1) -> LaplaceFit:  # fmt: skip
    """Fit a generalised linear mixed model with one grouping factor; q = 0: a generalised linear model.

    Parameters
    ----------
    rows
        Columns on any scale, linearly independent; one cluster with all rows where q = 0.
    shape
        The known shape of a negative binomial, gamma or inverse Gaussian family.
    penalty
        Weak prior; None: maximum likelihood.
    blocks
        (q,) block of every column of Z; effects of different blocks are uncorrelated. None: one block.
    start
        A fit of similar rows with the same clusters.
    nodes
        Nodes of adaptive Gauss-Hermite quadrature (kernels/laplace/quadrature.py), for q = 1, families without a shape,
        and no penalty of Psi; 1: Laplace.
    """
    of_Psi = penalty is not None and (np.any(penalty.power) or np.any(penalty.P0))
    if nodes > 1 and (rows.Z.shape[1] != 1 or of_Psi or shape != 1.0):
        raise ValueError(
            "quadrature supports one random effect per cluster, without a shape parameter or a penalty of its variance"
        )
    p, q, m = rows.X.shape[1], rows.Z.shape[1], len(rows.first) - 1
    free = free_elements(q, blocks)
    block = np.zeros(q, int) if blocks is None else np.asarray(blocks)
    T, S = _triangle(rows.X), np.zeros((q, q))
    for k in set(block.tolist()):
        at = np.flatnonzero(block == k)[::-1]  # in reverse, so that S is lower triangular in their order
        S[np.ix_(at, at)] = _triangle(rows.Z[:, at])
    T_inverse, S_inverse = np.linalg.inv(T), np.linalg.inv(S)
    J = np.zeros((p + len(free),) * 2)  # d (beta, theta) / d (beta_u, theta_u)
    J[:p, :p] = T_inverse
    for l, (a, b) in enumerate(free):
        for h, (c, e) in enumerate(free):
            J[p + l, p + h] = S_inverse[a, c] if b == e else 0.0
    inside = no_penalty(p, q)
    if penalty is not None:
        inside = Penalty(
            T_inverse.T @ penalty.Q0 @ T_inverse,
            T_inverse.T @ penalty.t0,
            np.asarray(penalty.power, float),
            np.ascontiguousarray(S_inverse.T @ penalty.P0 @ S_inverse),
        )
    J_inverse = np.linalg.inv(J)
    x, u, covariance = np.zeros(len(J)), np.zeros((m, q)), np.zeros(J.shape)
    if start is not None:
        x[:p], theta = T @ start.beta, S @ start.L
        x[p:] = theta[free[:, 0], free[:, 1]]
        u[:] = start.u
        covariance[:] = J_inverse @ start.covariance @ J_inverse.T
    gradient, numbers = np.zeros(len(x)), np.zeros(3)
    # einsum, because the threads of a BLAS would keep spinning and slow down the following fit
    X, Z = (np.einsum("ja,ab->jb", W, inverse) for W, inverse in ((rows.X, T_inverse), (rows.Z, S_inverse)))
    inner_rows = rows._replace(X=X, Z=Z)
    code = 0
    if nodes == 1 or start is None:
        code = maximise_laplace(
            inner_rows, shape, inside, free, start is not None, GAIN, x, u, covariance, gradient, numbers
        )
    if nodes > 1:
        code = maximise_quadrature(inner_rows, nodes, inside, code, x, u, covariance, gradient, numbers)
    L = np.zeros((q, q))
    L[free[:, 0], free[:, 1]] = x[p:]
    L = S_inverse @ L
    criterion = numbers[0]
    if penalty is not None:  # log|L_kk| on the scale of the data
        criterion += float(np.sum(inside.power * np.log(np.abs(np.diag(S_inverse)))))
    return LaplaceFit(
        T_inverse @ x[:p], L, free, u, u @ L.T, numbers[1], criterion, J @ covariance @ J.T,
        J_inverse.T @ gradient, int(numbers[2]), int(code),
    )  # fmt: skip


def laplace_at(
    rows: GlmmRows, shape: float, beta: ArrayLike, L: ArrayLike, free: IntMatrix, nodes: int = 1
) -> float:
    """Laplace or quadrature log-likelihood at given parameters."""
    x = np.concatenate([np.asarray(beta, float), np.asarray(L)[free[:, 0], free[:, 1]]])
    p, q = rows.X.shape[1], rows.Z.shape[1]
    if nodes > 1:
        return quadrature(rows, nodes, x, np.zeros(len(rows.first) - 1)).value
    return laplace(
        rows, shape, no_penalty(p, q), free, x, np.zeros((len(rows.first) - 1, q)), np.empty(len(x)),
        np.empty((len(x), len(x))),
    )  # fmt: skip


def _triangle(W: Matrix) -> Matrix:
    """T of W = Q T, Q'Q = n I: upper triangular with a positive diagonal."""
    G = np.einsum("ja,jb->ab", W, W) / len(W)
    try:
        T = np.linalg.cholesky(G).T
        if np.all(np.diag(T) ** 2 > INDEPENDENT * np.diag(G)):
            return T
    except np.linalg.LinAlgError:
        pass
    R = np.linalg.qr(W, mode="r") / np.sqrt(len(W))  # nearly dependent columns
    return R * np.where(np.diag(R) < 0, -1.0, 1.0)[:, None]
