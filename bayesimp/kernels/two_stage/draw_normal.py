"""Normal two-stage model: cluster variances from their own meta-analysis, then coefficients given the variances.

    y_ij ~ N(x_ij' b_i, sigma_i^2 / w_ij),    b_i ~ N(W_i beta, Psi),    log sigma_i^2 ~ N(mu_s, tau^2)

With s_i^2 on df_i degrees of freedom and psi the digamma function,

    log s_i^2 - log sigma_i^2   has mean  psi(df_i/2) - log(df_i/2)  and variance  psi'(df_i/2):

log sigma_i^2 is drawn from the normal implied by these moments, mu_s* and tau*; then b_i exactly given sigma_i^2.
`published`: mean 0 and variance 2 / (df_i - 4), the relative variance of an inverse chi-square, which is half as large
again at df = 10; b_i given s_i^2.

A cluster with df <= 4, dependent columns or an exact fit has no usable s_i^2. Its sigma_i^2 is drawn by random-walk
Metropolis given its rows, with b_i integrated out; the draw of b_i given it is exact whatever the rank of X_i.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.special import digamma, polygamma

from bayesimp.kernels.compiled import kernel
from bayesimp.kernels.linalg import cholesky, solve_lower, solve_lower_t
from bayesimp.kernels.two_stage.cluster_fits import FITTED, STEPS
from bayesimp.kernels.two_stage.meta_analysis import meta_analysis
from bayesimp.notation import IntVector, Matrix, Stack, Vector

if TYPE_CHECKING:
    from bayesimp.kernels.two_stage.meta_analysis import MetaAnalysisDraw

__all__ = ["NormalFits", "draw_normal_clusters", "gaussian_effects"]


def gaussian_effects(H: Stack, Hb: Matrix, means: Matrix, L: Matrix, z: Matrix) -> Matrix:
    """b_i = mu_i + L v_i, v_i ~ N(A^-1 L'(Hb_i - H_i mu_i), A^-1), with standard normal z (m, p); z = 0: the mean."""
    out = np.empty_like(means)
    if not _effects(H, Hb, means, L, z, out):
        raise np.linalg.LinAlgError("I + L'H L is not positive definite: H or L is not finite")
    return out


@kernel(nogil=True)
def _effects(H: Stack, Hb: Matrix, means: Matrix, L: Matrix, z: Matrix, out: Matrix) -> bool:
    """out <- b_i; False if an A has no Cholesky factor."""
    m, p = means.shape
    A, HL, v = np.empty((p, p)), np.empty((p, p)), np.empty(p)
    for i in range(m):
        for x in range(p):
            v[x] = Hb[i, x]
            for y in range(p):
                v[x] -= H[i, x, y] * means[i, y]
                HL[x, y] = 0.0
                for l in range(y, p):
                    HL[x, y] += H[i, x, l] * L[l, y]
        for x in range(p):
            v[x] *= L[x, x]
            for l in range(x + 1, p):
                v[x] += L[l, x] * v[l]
            for y in range(x + 1):
                A[x, y] = 1.0 if x == y else 0.0
                for l in range(x, p):
                    A[x, y] += L[l, x] * HL[l, y]
        if not cholesky(A, p):
            return False
        solve_lower(A, v, p)
        for x in range(p):
            v[x] += z[i, x]
        solve_lower_t(A, v, p)
        for x in range(p):
            out[i, x] = means[i, x]
            for l in range(x + 1):
                out[i, x] += L[x, l] * v[l]
    return True


class NormalFits(NamedTuple):
    """X_i'WX_i, X_i'Wy_i, y_i'Wy_i, s_i^2, df and status by cluster."""

    XX: np.ndarray
    Xy: np.ndarray
    yy: np.ndarray
    s2: np.ndarray
    df: np.ndarray
    status: np.ndarray


def draw_normal_clusters(
    rng: np.random.Generator,
    data: NormalFits,
    meta: MetaAnalysisDraw,
    means: Matrix,
    means_hat: Matrix,
    state: Vector,
    method: int,
    published: bool,
) -> tuple[Matrix, Vector, Matrix, float, Vector, int]:
    """Draw sigma_i^2, then coefficients. means (m, p): W_i beta*; means_hat: W_i beta_hat; state (m,) is updated.

    Returns coefficients, sigma2, estimated, accepted, log_sigma2, code as in `draw.TwoStageDraw`.
    """
    m, p = means.shape
    good = data.status == FITTED
    variance: Vector
    half = 0.5 * data.df[good]
    estimate, variance = np.log(data.s2[good]), 2.0 / (data.df[good] - 4.0)
    if not published:
        estimate, variance = estimate - digamma(half) + np.log(half), polygamma(1, half)
    logs = meta_analysis(
        rng, estimate[:, None], variance[:, None, None], np.empty((len(half), 0)), method, published
    )
    assert logs is not None, "there are fewer fitted clusters than two"
    mu, tau = logs.beta_drawn[0], abs(logs.L_drawn[0, 0])
    z: Vector = rng.standard_normal((m,))
    shrunk = tau**2 / (tau**2 + variance)
    log_sigma2 = mu + tau * z
    log_sigma2[good] = mu + shrunk * (estimate - mu) + np.sqrt(shrunk * variance) * z[good]
    accepted, failed = math.nan, np.flatnonzero(data.status > FITTED)
    if not published and len(failed):
        accepted = _failed_variances(rng, data, failed, means, meta.L_drawn, mu, tau, state)
        log_sigma2[failed] = mu + tau * state[failed]
    sigma2 = np.exp(log_sigma2)
    used = data.status >= FITTED if not published else good
    weight = np.where(used, 1.0 / np.where(published & good, data.s2, sigma2), 0.0)
    hat = np.where(
        data.status >= FITTED, np.where(good, 1.0 / np.where(good, data.s2, 1.0), np.exp(-logs.beta[0])), 0.0
    )
    coefficients, estimated = (
        gaussian_effects(w[:, None, None] * data.XX, w[:, None] * data.Xy, centre, L, noise)
        for w, centre, L, noise in (
            (weight, means, meta.L_drawn, rng.standard_normal((m, p))),
            (hat, means_hat, meta.L, np.zeros((m, p))),
        )
    )
    return coefficients, sigma2, estimated, accepted, np.array([mu, tau]), logs.code


def _failed_variances(
    rng: np.random.Generator,
    data: NormalFits,
    failed: IntVector,
    means: Matrix,
    L: Matrix,
    mu: float,
    tau: float,
    state: Vector,
) -> float:
    """state <- standardised log sigma_i^2 of failed clusters after random-walk Metropolis; returns the share accepted."""
    XX, mean, n = data.XX[failed], means[failed], data.df[failed] + means.shape[1]
    residual = data.Xy[failed] - np.einsum("ixy,iy->ix", XX, mean)
    squares = data.yy[failed] - ((data.Xy[failed] + residual) * mean).sum(1)  # of y - X mu
    LXXL, Lr = L.T @ XX @ L, residual @ L

    def log_density(z: Vector) -> Vector:
        s2 = np.exp(mu + tau * z)
        A = np.eye(len(L)) + LXXL / s2[:, None, None]
        explained = (Lr * np.linalg.solve(A, Lr[..., None])[..., 0]).sum(1) / s2
        return -0.5 * (n * np.log(s2) + np.linalg.slogdet(A)[1] + (squares - explained) / s2 + z * z)

    z = np.where(np.isnan(state[failed]), 0.0, state[failed])
    length, value, accepted = 2.4 / np.sqrt(1.0 + 0.5 * n * tau**2), log_density(z), 0
    for _ in range(STEPS):
        new = z + length * rng.standard_normal(len(z))
        after = log_density(new)
        taken = np.log(rng.random(len(z))) < after - value
        z, value, accepted = (
            np.where(taken, new, z),
            np.where(taken, after, value),
            accepted + int(taken.sum()),
        )
    state[failed] = z
    return accepted / (STEPS * len(z))
