"""Gibbs steps of one variable given all others: a normal linear mixed model with one, complete response.

    y_j = x_j' beta + z_j' b_i + e_j,    b_i ~ N(0, Psi),    i = 1..m,  row j in cluster i  (docs/mathematics.md, sec. 3)

Only rows in which y is observed are used; m counts all clusters, m_o those with such rows. One update consists of:

    1. beta, b_1..b_m | sigma, Psi, y         kernels/normal/effects.py, in one block
       b and Psi rescaled together            kernels/normal/rescale.py, for half-t standard deviations
       Psi | b_i of the m_o clusters          ~ IW(nu + m_o, V^-1 + sum_i b_i b_i'), or as the prior has it
       b_i | Psi ~ N(0, Psi)                  in the m - m_o clusters without rows, which step 2 does not see
    2. residual variances | beta, b, y, with R_i the residual sum of squares of the n_i rows of cluster i

`common_step`, e_j ~ N(0, Sigma):                   Sigma ~ IW(nu + N, V^-1 + sum_i R_i), or as the prior has it.

`cluster_step`, e_j ~ N(0, sigma_i^2), with similar variances in the clusters (Kasim & Raudenbush 1998):

    1 / sigma_i^2 ~ Gamma(a/2, rate a s0/2)           s0: typical variance, E(1 / sigma_i^2) = 1/s0; a: similarity
    s0^1/2 ~ half-t(nu, scale),   h = (2/a)^1/2 ~ half-normal(spread)
    s0, a | R: slice sampling of log s0, log h (Neal 2003), the sigma_i^2 integrated out:
        p(R | s0, a) ~ prod_i Gamma((a + n_i)/2) / Gamma(a/2) (a s0)^(a/2) (a s0 + R_i)^-((a + n_i)/2)
    sigma_i^2 | s0, a, R_i ~ InvGamma((a + n_i)/2, (a s0 + R_i)/2),   its population distribution where n_i = 0

h is the standard deviation of log sigma_i^2 between clusters, up to terms of order h^3. Its prior has positive density
at h = 0, where the variances are equal and the model is that of `common_step`, with a half-t residual sd. Because it is
half-normal, it is proper for any number of clusters. With spread = 1/2 its median is .34 (sds of clusters at -1 and +1 sd
differ by a factor of 1.4) and a > 2, without which values imputed in a new cluster have no variance, has
probability .95; more than a handful of rows and clusters outweigh the prior.

A call may be followed by y_mis ~ N(X beta + Z b, sigma^2) with the returned values, because every step leaves
p(beta, b, Psi, sigma | y) invariant, and so does the final draw of the b_i of clusters without rows. Of its initial
state, an update reads only (Sigma, Psi), or (sigma_i^2, Psi), s0 and a.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bayesimp.kernels.compiled import inner, kernel
from bayesimp.kernels.covariance.update import (
    FIXED,
    update_covariance,
)
from bayesimp.kernels.linalg import cholesky, copy_to, fill
from bayesimp.kernels.normal.effects import Moments
from bayesimp.kernels.normal.rescale import draw_and_rescale_effects
from bayesimp.kernels.normal.residuals import residual_products
from bayesimp.kernels.normal.statistics import SufficientStatistics
from bayesimp.kernels.slices import DONE, ENTRIES, PHASE, begin_slice, next_on_slice
from bayesimp.notation import IntVector, Matrix, Stack, Vector

if TYPE_CHECKING:
    from bayesimp.kernels.covariance.update import CovarianceUpdate

__all__ = ["VariancesPrior", "cluster_step", "common_step", "moments_by_cluster"]


class VariancesPrior(NamedTuple):
    """Prior of the cluster variances: s0^1/2 ~ half-t(nu, scale), (2/a)^1/2 ~ half-normal(spread)."""

    scale: float = 1.0
    nu: float = 2.0
    spread: float = 0.5


def moments_by_cluster(statistics: SufficientStatistics) -> Moments:
    """Moments in which each cluster has its own pattern, because `cluster_step` gives each its own W_a = 1/sigma_i^2.

    A = m; patterns (m, 1) all True; pattern_rows (m,) = n_i, rows of cluster i with y observed; XX (m, p, p),
    XY (m, p, 1), YY (m, 1, 1) are sums over these rows, zero where n_i = 0; there is a cell for every cluster with
    n_i > 0, in order of clusters: cell_pattern[c] is its cluster, first[i+1] - first[i] = 1, else 0; ZZ, ZX, ZY
    by cell as usual.

    statistics: those of one response (r = 1).
    """
    s = statistics
    seen = s.patterns[s.cell_pattern].any(1)
    x, z, y = slice(1, 1 + s.p), slice(1 + s.p, 1 + s.p + s.q), slice(1 + s.p + s.q, None)
    gram = np.zeros((s.clusters, *s.gram.shape[1:]))
    rows = np.zeros(s.clusters, dtype=np.int64)
    cluster = s.cell_cluster[seen].astype(np.int64)
    gram[cluster], rows[cluster] = s.gram[seen], s.cell_rows[seen]
    first = np.searchsorted(cluster, np.arange(s.clusters + 1)).astype(np.int64)
    XX, XY, YY = (np.ascontiguousarray(gram[:, a, b]) for a, b in [(x, x), (x, y), (y, y)])
    ZZ, ZX, ZY = (np.ascontiguousarray(gram[cluster][:, z, b]) for b in (z, x, y))
    return Moments(np.ones((s.clusters, 1), dtype=bool), rows, XX, XY, YY, first, cluster, ZZ, ZX, ZY)


@inner
def _step_1(
    rng: np.random.Generator,
    m: Moments,
    W: Stack,
    prior_Psi: CovarianceUpdate,
    Q0: Matrix,
    t0: Vector,
    Psi: Matrix,
    Psi_inverse: Matrix,
    T: Matrix,
    beta: Matrix,
    B: Stack,
    held: IntVector,
) -> int:
    """Step 1 of the module: draw beta, B, Psi in place. T (q, q): work space. Returns 0 or a code of `common_step`."""
    clusters, q, _ = B.shape
    code = draw_and_rescale_effects(rng, W, prior_Psi, m, Q0, t0, Psi, Psi_inverse, beta, B, held)
    if code:
        return code
    seen = np.int64(0)
    if prior_Psi.kind != FIXED:
        fill(T, 0.0)
        for i in range(clusters):
            if m.first[i + 1] > m.first[i]:
                seen += 1
                for l in range(q):
                    for h in range(q):
                        T[l, h] += B[i, l, 0] * B[i, h, 0]
        if not update_covariance(rng, prior_Psi, T, seen, Psi_inverse, Psi):
            return 4
    if seen < clusters:
        copy_to(T, Psi)
        if not cholesky(T, q):
            return 4
        for i in range(clusters):
            if m.first[i + 1] == m.first[i]:
                _times_normals(rng, T, B, i)
    return 0


@inner
def _times_normals(rng: np.random.Generator, L: Matrix, B: Stack, i: int) -> None:
    """B_i (q, 1) <- L z, z standard normal."""
    q = L.shape[0]
    for l in range(q):
        B[i, l, 0] = rng.standard_normal()
    for l in range(q - 1, -1, -1):
        s = 0.0
        for h in range(l + 1):
            s += L[l, h] * B[i, h, 0]
        B[i, l, 0] = s


@kernel(nogil=True)
def common_step(
    rng: np.random.Generator,
    m: Moments,
    updates: int,
    prior_Sigma: CovarianceUpdate,
    prior_Psi: CovarianceUpdate,
    Q0: Matrix,
    t0: Vector,
    Sigma: Matrix,
    Psi: Matrix,
    beta: Matrix,
    B: Stack,
    held: IntVector,
) -> int:
    """Advance the univariate sampler by `updates` updates, in place.

    Parameters
    ----------
    m
        Moments of one response (r = 1) and one pattern, in which it is observed; at most one cell per cluster.
        Standardised: y and the columns of X and Z are of order 1, because sums of squares are computed as differences.
    prior_Sigma, prior_Psi
        CovarianceUpdate of any kind (kernels/covariance/update.py).
    Q0, t0
        (p, p), (p,): precision of the normal prior of beta, and precision times mean; zero if the prior is flat.
    Sigma, Psi
        (1, 1), (q, q): the state of the chain, read and replaced.
    beta, B
        (p, 1), (m, q, 1): written if updates >= 1, including clusters without rows; held coefficients are read.
    held
        (p,) int64: incremented in every update in which a coefficient is not identified and keeps its value
        (kernels/normal/effects.py). With shape (0,), such an update is a failure.

    Returns
    -------
    0, or a code for what failed: 1 Sigma, 2 a cluster's precision, 3 beta not identified, 4 Psi not positive definite.
    """
    q = Psi.shape[0]
    W = np.empty((1, 1, 1))
    RR = np.empty((1, 1, 1))
    Sigma_inverse = np.empty((1, 1))
    Psi_inverse = np.empty((q, q))
    T = np.empty((q, q))
    for _ in range(updates):
        if not (Sigma[0, 0] > 0.0 and Sigma[0, 0] < math.inf):
            return 1
        W[0, 0, 0] = 1.0 / Sigma[0, 0]
        Sigma_inverse[0, 0] = W[0, 0, 0]
        failed = _step_1(rng, m, W, prior_Psi, Q0, t0, Psi, Psi_inverse, T, beta, B, held)
        if failed:
            return failed
        if prior_Sigma.kind != FIXED:
            fill(RR[0], 0.0)
            residual_products(m, beta, B, RR)
            if not update_covariance(rng, prior_Sigma, RR[0], m.pattern_rows[0], Sigma_inverse, Sigma):
                return 1
    if not (Sigma[0, 0] > 0.0 and Sigma[0, 0] < math.inf):
        return 1
    return 0


@kernel(nogil=True)
def cluster_step(
    rng: np.random.Generator,
    m: Moments,
    updates: int,
    prior_Psi: CovarianceUpdate,
    prior: VariancesPrior,
    Q0: Matrix,
    t0: Vector,
    sigma2: Vector,
    s0_a: Vector,
    Psi: Matrix,
    beta: Matrix,
    B: Stack,
    held: IntVector,
) -> int:
    """Advance the sampler with a residual variance for every cluster by `updates` updates, in place.

    Parameters
    ----------
    m
        From `moments_by_cluster`, standardised.
    prior
        VariancesPrior.
    sigma2, s0_a
        (m,), (2,) = (s0, a): the state of the chain, read and replaced.
    prior_Psi, Q0, t0, Psi, beta, B, held
        As in `common_step`.

    Returns
    -------
    0, or a code for what failed: 1 sigma2, s0 or a, 2 a cluster's precision, 3 beta not identified, 4 Psi.
    """
    clusters, q, _ = B.shape
    W = np.empty((clusters, 1, 1))
    RR = np.empty((clusters, 1, 1))
    Psi_inverse = np.empty((q, q))
    T = np.empty((q, q))
    z = np.empty(2)
    for _ in range(updates):
        for i in range(clusters):
            if not (sigma2[i] > 0.0 and sigma2[i] < math.inf):
                return 1
            W[i, 0, 0] = 1.0 / sigma2[i]
            RR[i, 0, 0] = 0.0
        failed = _step_1(rng, m, W, prior_Psi, Q0, t0, Psi, Psi_inverse, T, beta, B, held)
        if failed:
            return failed
        residual_products(m, beta, B, RR)
        z[0] = math.log(s0_a[0])
        z[1] = 0.5 * math.log(2.0 / s0_a[1])
        if not math.isfinite(_log_density(z, RR, m.pattern_rows, prior)):
            return 1
        for e in range(2):
            _slice(rng, z, e, RR, m.pattern_rows, prior)
        s0_a[0] = math.exp(z[0])
        s0_a[1] = 2.0 * math.exp(-2.0 * z[1])
        for i in range(clusters):
            rate = 0.5 * (s0_a[1] * s0_a[0] + RR[i, 0, 0])
            sigma2[i] = rate / rng.standard_gamma(0.5 * (s0_a[1] + m.pattern_rows[i]))
    for i in range(clusters):
        if not (sigma2[i] > 0.0 and sigma2[i] < math.inf):
            return 1
    return 0


@inner
def _slice(
    rng: np.random.Generator, z: Vector, e: int, RR: Stack, rows: IntVector, prior: VariancesPrior
) -> None:
    """z_e <- a draw from its conditional, by slice sampling with width 1, a factor of e (kernels/slices.py)."""
    search = np.empty(ENTRIES)
    now = _log_density(z, RR, rows, prior)
    at = begin_slice(rng, now, z[e], 1.0, math.inf, -math.inf, math.inf, search)
    while search[PHASE] != DONE:
        z[e] = at
        at = next_on_slice(rng, at, _log_density(z, RR, rows, prior), search)
    z[e] = at


@inner
def _log_density(z: Vector, RR: Stack, rows: IntVector, prior: VariancesPrior) -> float:
    """Log density of z = (log s0, log h) given R, up to a constant, with the sigma_i^2 integrated out.

    With x = a/2 = 1/h^2 and k = n_i/2, the term of a cluster is
    log Gamma(x + k) - log Gamma(x) - k log x - k log s0 - (x + k) log(1 + R_i / (2 x s0)).
    """
    s0 = math.exp(z[0])
    h = math.exp(z[1])
    x = math.exp(-2.0 * z[1])
    value = 0.5 * z[0] - 0.5 * (prior.nu + 1.0) * math.log1p(s0 / (prior.nu * prior.scale**2))
    value += z[1] - 0.5 * (h / prior.spread) ** 2
    for i in range(rows.size):
        if rows[i] > 0:
            k = 0.5 * rows[i]
            value += _log_rising(x, k) - k * z[0] - (x + k) * math.log1p(RR[i, 0, 0] / (2.0 * x * s0))
    return value


@inner
def _log_rising(x: float, k: float) -> float:
    """log Gamma(x + k) - log Gamma(x) - k log x; by Stirling's series for large x, where lgamma suffers cancellation."""
    if x < 100.0:
        return math.lgamma(x + k) - math.lgamma(x) - k * math.log(x)
    y = x + k
    series = (1.0 / y - 1.0 / x) / 12.0 - (y**-3.0 - x**-3.0) / 360.0
    return (y - 0.5) * math.log1p(k / x) - k + series
