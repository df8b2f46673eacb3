"""Draws of one residual covariance matrix per cluster, from a common distribution (Yucel 2011; R jomo's "random").

    Sigma_i ~ IW(nu, a S),    nu = a + r - 1,    density  |Sigma_i|^-(nu + r + 1)/2 etr(-a S Sigma_i^-1 / 2)

Every variance then follows kernels/chained/gibbs.py: 1 / Sigma_i,kk ~ Gamma(a/2, rate a S_kk / 2), so S_kk is a typical
variance, E(1 / Sigma_i,kk) = 1 / S_kk, and h = (2/a)^1/2 is about the standard deviation of log Sigma_i,kk between
clusters. S has the prior of a common Sigma; h ~ half-normal(spread), whose density is positive at h = 0, where all
matrices equal S; h is above 1.4e-5, below which rounding errors hide the data.

Latent variables have no scale in any cluster: their block equals that of S in all, and Sigma_i is distributed as an
inverse-Wishart matrix given this block (kernels/latent/given_block.py). The likelihood of S and a, with the Sigma_i
integrated out, is in kernels/latent/residual_likelihood.py; T_i is the cross product of the n_i completed residuals of

cluster i. Under it each standard deviation and partial correlation of S (priors: kernels/latent/residual.py) and log h
takes one slice-sampling step (Neal 2003); then Sigma_i | S, a, T_i has the same distribution with nu + n_i and a S + T_i,
which without latent variables is IW(nu + n_i, a S + T_i).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from bayesimp.kernels.compiled import inner, kernel
from bayesimp.kernels.covariance.update import invert
from bayesimp.kernels.latent.given_block import draw_given_block
from bayesimp.kernels.latent.residual import KNOWN, draw_exponents, log_g
from bayesimp.kernels.latent.residual_likelihood import log_likelihood_of_residuals, ordered_residuals
from bayesimp.kernels.linalg import copy_to
from bayesimp.kernels.slices import DONE, ENTRIES, PHASE, begin_slice, next_on_slice
from bayesimp.notation import Integer, IntVector, Matrix, Stack, Vector

if TYPE_CHECKING:
    from bayesimp.kernels.latent.residual import ResidualPrior
    from bayesimp.kernels.latent.residual_likelihood import Residuals

__all__ = ["cluster_residual_steps", "draw_cluster_residuals"]

SCALE, CORRELATION, LIKENESS = range(3)
# h^2 of at least 2e-10: where a exceeds 1e10, rounding loses T_i in a S + T_i, and nothing would constrain S; matrices
# that agree to five digits are equal for every other purpose
LEAST_SQUARE = 2e-10


@inner
def _log_target(
    move: Integer, x: float, k: Integer, j: Integer, middle: float, size: float, prior: ResidualPrior, nu: float,
    kappa: float, scale: Matrix, spread: float, residuals: Residuals, S: Matrix, a: float, out: Matrix,
) -> float:  # fmt: skip
    """Log density of one number given everything else; out (r, r) <- S at that number.

    SCALE: x in s_k e^x; CORRELATION: partial correlation x of k and j, S_kj = middle + x size; LIKENESS: log h. nu,
    kappa, scale: the density of S as in kernels/latent/residual.py.
    """
    r = S.shape[0]
    if move == LIKENESS:
        h = math.exp(x)
        square = h * h
        if not LEAST_SQUARE < square < math.inf:
            return -math.inf
        return x - 0.5 * square / spread**2 + log_likelihood_of_residuals(residuals, S, 2.0 / square, True)
    copy_to(out, S)
    if move == SCALE:
        factor = math.exp(x)
        for l in range(r):
            out[k, l] *= factor
            out[l, k] *= factor
        log_p = x + log_g(prior, nu, k, math.sqrt(out[k, k]))
    else:
        rest = (1.0 - x) * (1.0 + x)
        if not rest > 0.0:
            return -math.inf
        out[k, j] = middle + x * size
        out[j, k] = out[k, j]
        log_p = kappa * math.log(rest)
    K = np.empty((r, r))
    if not invert(out, K):
        return -math.inf
    for l in range(r):
        for o in range(r):
            log_p -= 0.5 * scale[l, o] * K[l, o]
    return log_p + log_likelihood_of_residuals(residuals, out, a, False)


@inner
def _slice(
    rng: np.random.Generator, move: Integer, k: Integer, j: Integer, prior: ResidualPrior, nu: float, kappa: float,
    scale: Matrix, spread: float, residuals: Residuals, S: Matrix, likeness: Vector,
) -> None:  # fmt: skip
    """One slice-sampling step for the number named by `move`; S or likeness changes in place."""
    r, a = S.shape[0], likeness[0]
    out, K = np.empty((r, r)), np.empty((r, r))
    now = middle = size = 0.0
    width = 3.0 / math.sqrt(residuals.rows + 1)
    if move == LIKENESS:
        now, width = 0.5 * math.log(2.0 / a), 1.0
    elif move == CORRELATION:
        if not invert(S, K):
            return
        det = K[k, k] * K[j, j] - K[k, j] * K[k, j]
        size = math.sqrt(K[k, k] * K[j, j]) / det
        now = -K[k, j] / math.sqrt(K[k, k] * K[j, j])
        middle = S[k, j] - now * size
    common = (move, k, j, middle, size)
    bound = 1.0 if move == CORRELATION else math.inf
    search = np.empty(ENTRIES)
    value = _at(common, now, prior, nu, kappa, scale, spread, residuals, S, a, out)
    x = begin_slice(rng, value, now, width, math.inf, -bound, bound, search)
    while search[PHASE] != DONE:
        value = _at(common, x, prior, nu, kappa, scale, spread, residuals, S, a, out)
        x = next_on_slice(rng, x, value, search)
    if x == now:  # the search ended there, after other places
        return
    if move == LIKENESS:
        likeness[0] = 2.0 * math.exp(-2.0 * x)
    else:
        copy_to(S, out)


@inner
def _at(
    common: tuple, x: float, prior: ResidualPrior, nu: float, kappa: float, scale: Matrix, spread: float,
    residuals: Residuals, S: Matrix, a: float, out: Matrix,
) -> float:  # fmt: skip
    """`_log_target` at x; common: the arguments that do not change within a step."""
    move, k, j, middle, size = common
    return _log_target(move, x, k, j, middle, size, prior, nu, kappa, scale, spread, residuals, S, a, out)


@inner
def draw_cluster_residuals(
    rng: np.random.Generator, prior: ResidualPrior, spread: float, kind: IntVector, n: IntVector, T: Stack, S: Matrix,
    likeness: Vector, Sigma: Stack, given: bool,
) -> bool:  # fmt: skip
    """Draw S (r, r), a (1,) and Sigma (m, r, r) in place, given cross products T (m, r, r) of n (m,) residuals.

    kind (r,): codes of kernels/latent/records.py; given: whether S and a keep their values.
    Returns False if a matrix is not positive definite.
    """
    residuals = ordered_residuals(n, T, kind)
    if not given and not _draw_common(rng, prior, spread, residuals, S, likeness):
        return False
    r, order, a = S.shape[0], residuals.order, likeness[0]
    A, own = np.empty((r, r)), np.empty((r, r))
    for k in range(r):
        for j in range(r):
            own[k, j] = S[order[k], order[j]]
    for i in range(n.size):
        for k in range(r):
            for j in range(r):
                A[k, j] = a * own[k, j] + residuals.T[i, k, j]
        if not draw_given_block(rng, a + r - 1.0 + n[i], A, own, residuals.latent):
            return False
        for k in range(r):
            for j in range(r):
                Sigma[i, order[k], order[j]] = A[k, j]
    return True


@inner
def _draw_common(
    rng: np.random.Generator,
    prior: ResidualPrior,
    spread: float,
    residuals: Residuals,
    S: Matrix,
    likeness: Vector,
) -> bool:
    """Draw S and a in place, with the clusters' matrices integrated out; False if S is not positive definite."""
    r = S.shape[0]
    K, scale = np.empty((r, r)), np.empty((r, r))
    if not invert(S, K):
        return False
    copy_to(scale, prior.scale)
    nu, kappa = draw_exponents(rng, prior, K, scale)
    zero = np.int64(0)
    if prior.kind != KNOWN:
        for k in range(r):
            if prior.free_sd[k]:
                _slice(rng, SCALE, k, zero, prior, nu, kappa, scale, spread, residuals, S, likeness)
        for k in range(r):
            for j in range(k):
                if prior.free_correlation[k, j]:
                    _slice(rng, CORRELATION, k, j, prior, nu, kappa, scale, spread, residuals, S, likeness)
    _slice(rng, LIKENESS, zero, zero, prior, nu, kappa, scale, spread, residuals, S, likeness)
    return True


@kernel(nogil=True)
def cluster_residual_steps(
    rng: np.random.Generator, prior: ResidualPrior, spread: float, kind: IntVector, n: IntVector, T: Stack, S: Matrix,
    likeness: Vector, Sigma: Stack, S_out: Stack, a_out: Vector,
) -> bool:  # fmt: skip
    """S_out (D, r, r), a_out (D,) <- S and a after each of D calls of `draw_cluster_residuals`, for tests."""
    for d in range(a_out.size):
        if not draw_cluster_residuals(rng, prior, spread, kind, n, T, S, likeness, Sigma, False):
            return False
        a_out[d] = likeness[0]
        copy_to(S_out[d], S)
    return True
