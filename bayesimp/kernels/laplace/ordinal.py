"""Cumulative logit models with cluster effects, as bernoulli models with an additional term in the thresholds.

    P(y_ij <= l) = F(alpha_l - eta_ij),    F logistic,    alpha_0 < .. < alpha_(K-2),    y = 0..K-1
    eta_ij = o_ij + x_ij'beta + z_ij'b_i,    b_i ~ N(0, Psi)                                        McCullagh 1980

For the logistic function a difference is a product, F(a) - F(c) = F(a) F(-c) (1 - e^(c-a)), so that

    log P(y = l) = log F(alpha_l - eta) + log F(eta - alpha_(l-1)) + log(1 - e^-(alpha_l - alpha_(l-1)))

The first two terms are those of bernoulli rows: an event with the linear predictor alpha_l - eta (unless l = K - 1), and
none with alpha_(l-1) - eta (unless l = 0). Their fixed columns are those of the thresholds and -X, their random columns
-Z. The last depends on the thresholds only. With n_l the weight of the rows at level l,

    S(alpha) = sum_(l=1)^(K-2) n_l log(1 - e^-(alpha_l - alpha_(l-1)))

is added to the Laplace or quadrature log-likelihood of the bernoulli rows. S is concave. Each step maximises the sum with
S replaced by its second-order Taylor polynomial at the thresholds of the step before, which is a quadratic penalty; near
the maximum, the error of a step is of the order of the square of the error before. At the end the polynomial has the
gradient and the Hessian of S, so the covariance of the fit is that of the model. The thresholds come first in beta.
Other links have no such product.
"""

from __future__ import annotations

import numpy as np
from scipy.special import logit

from bayesimp.kernels.families.codes import LOGIT
from bayesimp.kernels.glmm.rows import GlmmRows
from bayesimp.kernels.laplace.fit import NOT_CONVERGED
from bayesimp.kernels.laplace.quadrature import quadrature
from bayesimp.kernels.laplace.record import LaplaceFit, fit_laplace, laplace_at, no_penalty
from bayesimp.notation import IntMatrix, Matrix, Vector

__all__ = ["bernoulli_rows", "fit_ordinal", "ordinal_at", "quadrature_slope"]

STEPS = 100
NEAR = 1e-10  # squared length of the last step of the thresholds, in their own standard errors
CLOSEST = 0.1  # a step leaves at least this share of the distance between two thresholds


def bernoulli_rows(rows: GlmmRows) -> GlmmRows:
    """The bernoulli rows of ordinal rows, whose X has no intercept and whose y = 0..K-1 has every level."""
    levels = int(rows.y.max()) + 1
    below, above = np.flatnonzero(rows.y < levels - 1), np.flatnonzero(rows.y > 0)
    of = np.concatenate([below, above])
    cluster = np.repeat(np.arange(len(rows.first) - 1), np.diff(rows.first))
    order = np.argsort(cluster[of], kind="stable")
    of, event = of[order], (np.arange(len(of)) < len(below))[order]
    threshold = rows.y[of].astype(np.int64) - np.where(event, 0, 1)
    indicators = (threshold[:, None] == np.arange(levels - 1)).astype(float)
    first = np.r_[0, np.cumsum(np.bincount(cluster[of], minlength=len(rows.first) - 1))]
    return GlmmRows(
        LOGIT, event.astype(float), np.ones(len(of)), rows.weight[of], -rows.offset[of],
        np.hstack([indicators, -rows.X[of]]), -rows.Z[of], first,
    )  # fmt: skip


def spacing(alpha: Vector, n: Vector) -> tuple[float, Vector, Matrix]:
    """S, its gradient (K - 1,) and Hessian (K - 1, K - 1); n (K - 2,): weights of the inner levels. -inf if unordered."""
    d = np.diff(alpha)
    if (d <= 0).any():
        return -np.inf, np.full(len(alpha), np.nan), np.full((len(alpha),) * 2, np.nan)
    with np.errstate(over="ignore"):  # distances beyond 700, of separated data, where both are zero
        slope = n / np.expm1(d)  # dS / dd_l
        bend = -n / (np.expm1(d) * -np.expm1(-d))
    D = np.diff(np.eye(len(alpha)), axis=0)  # d = D alpha
    return float(n @ np.log(-np.expm1(-d))), D.T @ slope, D.T @ (bend[:, None] * D)


def inner_weights(rows: GlmmRows) -> Vector:
    """(K - 2,) weights of the rows at each level between the lowest and the highest."""
    return np.bincount(rows.y.astype(np.int64), rows.weight)[1:-1]


def fit_ordinal(
    rows: GlmmRows, *, blocks: Vector | None = None, start: LaplaceFit | None = None, nodes: int = 1
) -> LaplaceFit:
    """Fit a cumulative logit model with at most one grouping factor; beta = (alpha, beta), with K - 1 thresholds.

    Parameters
    ----------
    rows
        y = 0..K-1 with every level, K at least 3; X without intercept, linearly independent of it. Family and trials are
        not read.
    blocks, start, nodes
        As for `fit_laplace`.
    """
    events, n = bernoulli_rows(rows), inner_weights(rows)
    p, q, t = events.X.shape[1], events.Z.shape[1], len(n) + 1
    if start is not None:
        alpha = start.beta[:t]
    else:
        share = np.bincount(rows.y.astype(np.int64), rows.weight)
        alpha = logit(np.cumsum(share)[:-1] / share.sum())
    penalty, fit, evaluations = no_penalty(p, q), start, 0
    for _ in range(STEPS):
        _, slope, bend = spacing(alpha, n)
        penalty.Q0[:t, :t], penalty.t0[:t] = -bend, slope - bend @ alpha
        fit = fit_laplace(events, penalty=penalty, blocks=blocks, start=fit, nodes=nodes)
        evaluations += fit.evaluations
        step = fit.beta[:t] - alpha
        if step @ penalty.Q0[:t, :t] @ step < NEAR and (np.diff(fit.beta[:t]) > 0).all():
            break
        alpha = alpha + _length(alpha, step) * step
        if not np.isfinite(fit.criterion):
            fit = None
    else:
        assert fit is not None
        fit = fit._replace(code=fit.code | NOT_CONVERGED)
    value = fit.loglik + spacing(fit.beta[:t], n)[0]
    return fit._replace(loglik=value, criterion=value, evaluations=evaluations)


def _length(alpha: Vector, step: Vector) -> float:
    """The share of a step, at most 1, after which thresholds keep their order, at `CLOSEST` of their distances."""
    with np.errstate(divide="ignore", invalid="ignore"):
        room = (1.0 - CLOSEST) * np.diff(alpha) / -np.diff(step)
    return float(min(1.0, room[np.diff(step) < 0].min(initial=1.0)))


def ordinal_at(rows: GlmmRows, beta: Vector, L: Matrix, free: IntMatrix, nodes: int = 1) -> float:
    """Laplace or quadrature log-likelihood at given parameters, beta = (alpha, beta)."""
    n = inner_weights(rows)
    return laplace_at(bernoulli_rows(rows), 1.0, beta, L, free, nodes) + spacing(beta[: len(n) + 1], n)[0]


def quadrature_slope(rows: GlmmRows, fit: LaplaceFit, nodes: int) -> Vector:
    """Gradient (K - 1 + p + 1,) of the log-likelihood by quadrature at a fit with one effect per cluster."""
    n, events = inner_weights(rows), bernoulli_rows(rows)
    slope = quadrature(events, nodes, np.r_[fit.beta, fit.theta], fit.u[:, 0]).gradient
    slope[: len(n) + 1] += spacing(fit.beta[: len(n) + 1], n)[1]
    return slope
