"""The log posterior that a step of multilevel imputation leaves invariant, in the coordinates of its proposals.

While (beta, theta) moves, e rather than b is held fixed. With mode u^_i and precision H_i = C_i C_i' at (beta, theta),

    u_i = u^_i + C_i^-T e_i,     log target = sum_i { log p(y_i | u_i) - u_i'u_i / 2 - log|C_i| } + log prior

|C_i|^-1 is the Jacobian of u_i in e_i.

Prior: beta is normal with precision Q0 and t0 = Q0 mu0 (flat if zero); Psi ~ Huang-Wand(nu, scale), with half-t standard
deviations (kernels/covariance/free.py). With |dPsi / dL| = 2^q prod_k L_kk^(q-k), k = 0.., and K = Psi^-1,

    log p(L) = sum_k (q - k - nu - 2 q) log|L_kk| - (nu + q)/2 sum_k log(nu K_kk + 1 / scale_k^2)
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bayesimp.kernels.compiled import inner
from bayesimp.kernels.glmm.modes import cluster_log_likelihood, effects_of, find_mode, fixed_part
from bayesimp.kernels.linalg import copy_to, solve_lower, solve_lower_t
from bayesimp.kernels.mlmi.proposal import from_coordinates
from bayesimp.notation import IntMatrix, Matrix, Vector

if TYPE_CHECKING:
    from bayesimp.kernels.glmm.modes import ModeWork
    from bayesimp.kernels.glmm.rows import GlmmRows
    from bayesimp.kernels.mlmi.proposal import Coordinates

__all__ = ["Candidate", "MlmiPrior", "candidate", "copy_candidate", "log_joint", "log_target", "squared"]

NEAR = 1e-8  # Newton decrement at which the search for a mode ends; one more step follows


class MlmiPrior(NamedTuple):
    """Q0 (p, p), t0 (p,) for beta; nu, scale (q,) of the half-t standard deviations: see the module docstring."""

    Q0: np.ndarray
    t0: np.ndarray
    nu: float
    scale: np.ndarray


class Candidate(NamedTuple):
    """(beta, theta) (k,); its coordinates v (k,); modes u^ (m, q) and factors C (m, q, q) of clusters with rows."""

    x: np.ndarray
    v: np.ndarray
    modes: np.ndarray
    C: np.ndarray


@inner
def candidate(k: int, u_fit: Matrix) -> Candidate:
    """A candidate at the origin of the coordinates; searches for its modes start from those of the fit."""
    m, q = u_fit.shape
    return Candidate(np.empty(k), np.zeros(k), u_fit.copy(), np.zeros((m, q, q)))


@inner
def copy_candidate(to: Candidate, new: Candidate) -> None:
    """to <- new."""
    for a in range(new.x.shape[0]):
        to.x[a], to.v[a] = new.x[a], new.v[a]
    copy_to(to.modes, new.modes)
    for i in range(new.C.shape[0]):
        copy_to(to.C[i], new.C[i])


@inner
def squared(v: Vector, n: int) -> float:
    """v'v over the first n elements."""
    s = 0.0
    for a in range(n):
        s += v[a] * v[a]
    return s


@inner
def log_prior(prior: MlmiPrior, x: Vector, L: Matrix) -> float:
    """log p(beta) + log p(L) at x = (beta, theta), up to constants; -inf if L is singular."""
    p, q, value = prior.t0.shape[0], L.shape[0], 0.0
    for a in range(p):
        slope = prior.t0[a]
        for b in range(p):
            slope -= 0.5 * prior.Q0[a, b] * x[b]
        value += slope * x[a]
    column = np.empty(q)
    for k in range(q):
        if L[k, k] == 0.0:
            return -math.inf
        value += (q - k - prior.nu - 2.0 * q) * math.log(abs(L[k, k]))
        for a in range(q):
            column[a] = 1.0 if a == k else 0.0
        solve_lower(L, column, q)  # column k of L^-1
        precision = 0.0
        for a in range(k, q):
            precision += column[a] * column[a]
        value -= 0.5 * (prior.nu + q) * math.log(prior.nu * precision + 1.0 / prior.scale[k] ** 2)
    return value


@inner
def noise_of(L: Matrix, b: Vector, mode: Vector, C: Matrix, u: Vector, e: Vector) -> None:
    """e <- C'(L^-1 b - mode), everything for one cluster; u (q,) is work space."""
    q = b.shape[0]
    for a in range(q):
        u[a] = b[a]
    solve_lower(L, u, q)
    for a in range(q):
        e[a] = 0.0
        for c in range(a, q):
            e[a] += C[c, a] * (u[c] - mode[c])


@inner
def log_joint(
    rows: GlmmRows,
    shape: float,
    i: int,
    mode: Vector,
    C: Matrix,
    e: Vector,
    L: Matrix,
    w: ModeWork,
    u: Vector,
) -> float:
    """log p(y_i | u) - u'u / 2 up to a constant at u <- mode + C^-T e, w.b <- L u, given the fixed part w.eta0."""
    q = e.shape[0]
    for a in range(q):
        u[a] = e[a]
    solve_lower_t(C, u, q)
    for a in range(q):
        u[a] += mode[a]
    effects_of(L, u, w.b)
    return cluster_log_likelihood(rows, shape, i, w.eta0, w.b) - 0.5 * squared(u, q)


@inner
def log_target(
    rows: GlmmRows,
    shape: float,
    prior: MlmiPrior,
    space: Coordinates,
    free: IntMatrix,
    new: Candidate,
    held: bool,
    B: Matrix,
    e: Matrix,
    L: Matrix,
    w: ModeWork,
    u: Vector,
) -> float:
    """Step 2's log target plus log |d(beta, theta) / dv| at the coordinates new.v; sets new.x, new.modes, new.C and L.

    e (m, q): standardised noise of the effects; if `held`, it is set here so that the effects are B (m, q). -inf where
    the target is not defined.
    """
    log_jacobian = -from_coordinates(space, new.v, free, L, w, new.x)
    fixed_part(rows, new.x, w.eta0)
    value = log_prior(prior, new.x, L) + log_jacobian if math.isfinite(log_jacobian) else -math.inf
    for i in range(B.shape[0]):
        if rows.first[i] == rows.first[i + 1] or not value > -math.inf:
            continue
        mode, C = new.modes[i], new.C[i]
        if not find_mode(rows, shape, i, L, mode, w, NEAR):
            value = -math.inf
            continue
        copy_to(C, w.H)
        for a in range(mode.shape[0]):
            mode[a] += w.step[a]
            value -= math.log(C[a, a])
        if held:
            noise_of(L, B[i], mode, C, u, e[i])
        value += log_joint(rows, shape, i, mode, C, e[i], L, w, u)
    return value
