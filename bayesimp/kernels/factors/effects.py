"""Cluster effects of one factor given those of the others, b_i = (b_1i .. b_Ki) ~ N(0, Psi).

With R = Psi^-1, and k the effects of the factor, k' those of all others,

    b_ki | b_k'i  ~  N(R_kk^-1 t_i, R_kk^-1),     t_i = -R_kk' b_k'i
"""

from __future__ import annotations

import numpy as np

from bayesimp.kernels.compiled import inner, kernel
from bayesimp.kernels.covariance.update import HUANG_WAND, CovarianceUpdate, invert, update_covariance
from bayesimp.kernels.linalg import cholesky, copy_to, fill, solve_lower, solve_lower_t
from bayesimp.notation import Integer, Matrix, Vector

__all__ = [
    "conditional_law",
    "conditional_means",
    "conditional_prior",
    "draw_covariance",
    "mixing_precision",
    "scaled",
]


@inner
def conditional_prior(R: Matrix, B: Matrix, start: Integer, stop: Integer, Q: Matrix, t: Matrix) -> None:
    """Q (d, d) <- R_kk, t (m, d) <- t_i; the factor's effects are columns start .. stop - 1 of B (m, D)."""
    for e in range(start, stop):
        for f in range(start, stop):
            Q[e - start, f - start] = R[e, f]
    for i in range(B.shape[0]):
        for e in range(start, stop):
            s = 0.0
            for f in range(B.shape[1]):
                if f < start or f >= stop:
                    s -= R[e, f] * B[i, f]
            t[i, e - start] = s


@inner
def conditional_means(Q: Matrix, t: Matrix, L: Matrix, mean: Matrix) -> bool:
    """mean (m, d) <- Q^-1 t_i; L (d, d) <- Cholesky factor of Q. Returns False if Q is not positive definite."""
    d = Q.shape[0]
    copy_to(L, Q)
    if not cholesky(L, d):
        return False
    for i in range(t.shape[0]):
        for e in range(d):
            mean[i, e] = t[i, e]
        solve_lower(L, mean[i], d)
        solve_lower_t(L, mean[i], d)
    return True


@inner
def mixing_precision(
    rng: np.random.Generator, prior: CovarianceUpdate, R: Matrix, start: Integer, stop: Integer, out: Matrix
) -> None:
    """out (d, d) <- diagonal precisions of the scales alpha of the factor's effects (kernels/glmm/moves.py, Scales).

    b_e -> alpha_e b_e, Psi -> A Psi A has density  L(alpha) prod_e (nu R_ee s_e^2 + alpha_e^2)^-(nu + D)/2  for standard
    deviations with half-t priors, D the size of Psi (1 where variances are independent).
    """
    power = prior.nu + (R.shape[0] if prior.kind == HUANG_WAND else 1)
    fill(out, 0.0)
    for e in range(start, stop):
        spread = prior.nu * R[e, e] * prior.sd[e] ** 2
        out[e - start, e - start] = 2.0 * rng.standard_gamma(0.5 * power) / (spread + 1.0)


@inner
def scaled(alpha: Vector, start: Integer, B: Matrix, Psi: Matrix, R: Matrix) -> None:
    """Rescale B, Psi and R = Psi^-1 in place by the drawn scales alpha of the effects from `start` on."""
    for a in range(alpha.size):
        e = start + a
        for i in range(B.shape[0]):
            B[i, e] *= alpha[a]
        for f in range(Psi.shape[0]):
            Psi[e, f] *= alpha[a]
            Psi[f, e] *= alpha[a]
            R[e, f] /= alpha[a]
            R[f, e] /= alpha[a]


@kernel(nogil=True)
def conditional_law(Psi: Matrix, B: Matrix, start: Integer, stop: Integer) -> tuple[Matrix, Matrix, bool]:
    """Means (m, d) of the effects start .. stop - 1 given the others, the Cholesky factor (d, d) of their precision, and
    whether both could be computed."""
    d, m = stop - start, B.shape[0]
    R, Q, t = np.empty(Psi.shape), np.empty((d, d)), np.empty((m, d))
    mean, L = np.zeros((m, d)), np.zeros((d, d))
    if not invert(Psi, R):
        return mean, L, False
    conditional_prior(R, B, start, stop, Q, t)
    return mean, L, conditional_means(Q, t, L, mean)


@kernel(nogil=True)
def draw_covariance(
    rng: np.random.Generator, prior: CovarianceUpdate, start: Integer, stop: Integer, B: Matrix, Psi: Matrix
) -> bool:
    """Draw the block of Psi of effects start .. stop - 1 given B (m, D). Returns whether all was positive definite."""
    d = stop - start
    S, old, inverse = np.zeros((d, d)), np.empty((d, d)), np.empty((d, d))
    for e in range(d):
        for f in range(d):
            old[e, f] = Psi[start + e, start + f]
            for i in range(B.shape[0]):
                S[e, f] += B[i, start + e] * B[i, start + f]
    if not invert(old, inverse):
        return False
    if not update_covariance(rng, prior, S, B.shape[0], inverse, old):
        return False
    for e in range(d):
        for f in range(d):
            Psi[start + e, start + f] = old[e, f]
    return True
