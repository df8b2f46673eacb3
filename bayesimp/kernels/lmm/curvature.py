"""Second derivatives of the deviance at the end of a search, and derivatives of the covariance of beta there."""

from __future__ import annotations

import numpy as np

from bayesimp.kernels.lmm.search import Descent, SearchableTables

__all__ = ["second_derivatives"]

STEP = 1e-4  # for differences of the gradient; relative to theta where that is above 1


def second_derivatives(prepared: SearchableTables, end: Descent) -> tuple[np.ndarray, np.ndarray]:
    """(M, d+1, d+1) Hessian of the deviance in (theta, log sigma^2), from differences of the exact gradient.

    Also returns (M, d, p, p), the derivatives by theta of (R R')^-1, the covariance of beta for orthonormal columns of X
    and sigma^2 = 1.
    """
    (M, d), p = end.theta.shape, end.R.shape[1]
    sigma2, hessian = end.scalars[:, 1], np.zeros((M, d + 1, d + 1))
    slopes = np.zeros((M, d, p, p))
    step = np.append(STEP * np.maximum(1.0, np.abs(end.theta)), np.full((M, 1), STEP), axis=1)
    for k, unit in enumerate(np.eye(d + 1)):
        shift = step[:, k, None] * unit
        up, down = (
            prepared.descend(end.theta + sign * shift[:, :d], sigma2 * np.exp(sign * shift[:, d]), 1)
            for sign in (1, -1)
        )
        hessian[:, :d, k] = (up.gradient - down.gradient) / (2 * step[:, k, None])
        if k < d:
            slopes[:, k] = (up.inverse() - down.inverse()) / (2 * step[:, k, None, None])
    hessian[:, d, :d] = hessian[:, :d, d]
    hessian[:, d, d] = end.scalars[:, 0] / sigma2  # of df log sigma^2 + rss / sigma^2 at sigma^2 = rss / df
    return hessian, slopes
