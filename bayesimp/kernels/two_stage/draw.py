"""Two-stage model of one variable: a fit per cluster, a meta-analysis of the fits, and a draw for every cluster.

    eta_ij = offset_ij + x_ij' b_i,    b_i ~ N(W_i beta, Psi),    W_i as in meta_analysis.py

1. For each cluster alone: b_i_hat and its information H_i = S_i^-1 from its rows (maximum likelihood; least squares).
2. beta*, Psi* = L L' from the meta-analysis of the b_i_hat (Resche-Rigon & White 2018; Audigier et al. 2018, sec. 3.3).
3. b_i* = mu_i + L v_i, mu_i = W_i beta*, which needs no inverse of Psi*:

    with rows       v_i ~ N(A^-1 L'H_i (b_i_hat - mu_i), A^-1),   A = I + L'H_i L
    without         v_i ~ N(0, I)
    fit failed      v_i ~ exp(-|v|^2 / 2) p(y_i | mu_i + L v): the exact conditional, log-concave, by independence
                    Metropolis from a t at its mode; separation, dependent columns and few rows do no harm here.
                    `published`: v_i ~ N(0, I), as if the cluster had no rows

For the normal family, with one variance per cluster, see draw_normal.py.

Stage 2 treats estimates as normal and S_i as known, and omits failed clusters, which are not a random sample: with binary
data and 30 rows per cluster, 90% intervals of linear predictors cover 84% (REML), with 60 rows or more 87 to 92%
(tests/kernels/test_two_stage.py).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bayesimp.kernels.glm.density import NORMAL
from bayesimp.kernels.two_stage.cluster_fits import (
    FAILED,
    FITTED,
    NO_ROWS,
    STEPS,
    draw_failed,
    fit_clusters,
    fit_normal,
)
from bayesimp.kernels.two_stage.draw_normal import NormalFits, draw_normal_clusters, gaussian_effects
from bayesimp.kernels.two_stage.meta_analysis import REML, meta_analysis
from bayesimp.kernels.two_stage.meta_analysis import WORDS as META_WORDS
from bayesimp.notation import Matrix, Vector

if TYPE_CHECKING:
    from bayesimp.kernels.glmm.rows import GlmmRows

__all__ = [
    "FAILED",
    "NO_ROWS",
    "TOO_FEW",
    "WORDS",
    "TwoStageDraw",
    "TwoStageState",
    "initial_state",
    "two_stage_step",
]

TOO_FEW, UNCONDITIONAL = 16, 512
VARIANCES = 32  # factor on the codes of the meta-analysis of log variances
WORDS = META_WORDS | {
    TOO_FEW: "too few clusters can be fitted on their own, or cluster-level columns are dependent; nothing was drawn"
}
WORDS |= {UNCONDITIONAL: "no mode was found for a cluster whose own fit failed: drawn as if it had no rows"}
WORDS |= {VARIANCES * key: f"residual variances: {words}" for key, words in META_WORDS.items()}


class TwoStageState(NamedTuple):
    """State carried from one visit to the next and updated in place; nan at first.

    fits (m, p): b_i_hat, where Newton's method starts; effects (m, p), log_sigma2 (m,): v_i and standardised
    log sigma_i^2 of failed clusters.
    """

    fits: np.ndarray
    effects: np.ndarray
    log_sigma2: np.ndarray


def initial_state(m: int, p: int) -> TwoStageState:
    """State before the first visit."""
    return TwoStageState(np.full((m, p), np.nan), np.full((m, p), np.nan), np.full(m, np.nan))


class TwoStageDraw(NamedTuple):
    """Draws of one visit.

    coefficients (m, p): b_i*; sigma2 (m,): for the normal family, else empty. estimated (m, p): for the normal family,
    the posterior mean of b_i at the estimates of beta, Psi, sigma_i^2, used for observed rows in predictive mean
    matching. status (m,): NO_ROWS, FITTED, or a key of FAILED. accepted: share of accepted Metropolis steps in failed
    clusters, nan without any. beta, L: beta*, root of Psi*. log_sigma2 (2,): mu_s*, tau*. code: sum of keys of WORDS;
    with TOO_FEW, coefficients are nan.
    """

    coefficients: np.ndarray
    sigma2: np.ndarray
    estimated: np.ndarray
    status: np.ndarray
    accepted: float
    beta: np.ndarray
    L: np.ndarray
    log_sigma2: np.ndarray
    code: int


def two_stage_step(
    rng: np.random.Generator,
    rows: GlmmRows,
    T: Matrix,
    state: TwoStageState,
    method: int = REML,
    published: bool = False,
) -> TwoStageDraw:
    """One visit: draw the coefficients of every cluster.

    Parameters
    ----------
    rng
        numpy.random.Generator.
    rows
        GlmmRows, family LOGIT, PROBIT, POISSON or glm.NORMAL (y with mean 0, sd 1). The coefficients of all columns of
        X, the intercept first, vary between clusters; Z is not used. Columns constant in clusters belong to T.
    T
        (m, c): cluster-level columns, c = 0 for none; the coefficients of cluster i include its W_i beta*.
    state
        `initial_state`, updated in place.
    method
        meta_analysis.REML or MOMENTS.
    published
        As published: failed clusters are treated as if without rows, log s_i^2 has variance 2 / (df_i - 4), and beta* and
        H_i are those at the estimates.
    """
    m, p = len(rows.first) - 1, rows.X.shape[1]
    H, Hb, status = np.zeros((m, p, p)), np.zeros((m, p)), np.empty(m, dtype=np.int64)
    if rows.family == NORMAL:
        s2, total, df = np.zeros(m), np.zeros(m), np.diff(rows.first) - p
        fit_normal(rows, state.fits, H, Hb, s2, total, status)
        good = status == FITTED
        S = np.linalg.inv(H[good]) * s2[good, None, None]
    else:
        S = np.zeros((m, p, p))
        fit_clusters(rows, state.fits, H, Hb, S, status)
        good = status == FITTED
        S = S[good]
    meta = meta_analysis(rng, state.fits[good], S, T[good], method, published)
    if meta is None:
        nan = np.full((m, p), np.nan)
        return TwoStageDraw(nan, nan[:0, 0], nan[:0], status, math.nan, nan[0], nan[:0], nan[0, :0], TOO_FEW)
    means, L = _means(meta.beta_drawn, T, p), meta.L_drawn
    if rows.family == NORMAL:
        data = NormalFits(H, Hb, total, s2, df, status)
        coefficients, sigma2, estimated, accepted, law, code = draw_normal_clusters(
            rng, data, meta, means, _means(meta.beta, T, p), state.log_sigma2, method, published
        )
        code = meta.code + VARIANCES * code
        return TwoStageDraw(coefficients, sigma2, estimated, status, accepted, meta.beta_drawn, L, law, code)
    coefficients = gaussian_effects(H, Hb, means, L, rng.standard_normal((m, p)))
    code, share, failed = meta.code, math.nan, np.flatnonzero(status > FITTED)
    if not published and len(failed):
        accepted, lost = draw_failed(rng, rows, failed, means, L, state.effects, coefficients)
        code, share = code + UNCONDITIONAL * (lost > 0), accepted / (STEPS * len(failed))
    none = np.empty((0, p))
    return TwoStageDraw(coefficients, none[:, 0], none, status, share, meta.beta_drawn, L, np.empty(0), code)


def _means(beta: Vector, T: Matrix, p: int) -> Matrix:
    """W_i beta, (m, p)."""
    means = np.empty((len(T), p))
    means[:] = beta[:p]
    if T.shape[1]:
        means[:, 0] += T @ beta[p:]
    return means
