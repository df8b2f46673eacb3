"""Check whether Laplace's approximation, or a number of nodes, suffices with one random effect per cluster.

If the approximation were exact, the gradient g of the log-likelihood with more nodes would be zero at its estimates.
Otherwise they move by about V g, one Newton step, where V is their covariance. A 95% interval displaced by 0.25
standard errors covers 94.3%; displaced by 0.5, it covers 92.1%. If a coefficient moves by more than 0.25 standard
errors, or the standard deviation by more than 0.5, a warning says what moves and how far
(tests/calibration/QUADRATURE_RESULTS.md).
"""

from __future__ import annotations

import numpy as np

from bayesimp.kernels.glmm.rows import GlmmRows
from bayesimp.kernels.laplace.quadrature import quadrature
from bayesimp.kernels.laplace.record import LaplaceFit, fit_laplace

__all__ = ["MOST", "cure", "doubt", "how_it_moves"]

LEAST, CURE, MOST = 9, 20, 100  # nodes: fewest in the check, recommended after Laplace, most in a fit
COEFFICIENT, COMPONENT = 0.25, 0.5  # moves, in standard errors, above which a warning is given


def doubt(rows: GlmmRows, fit: LaplaceFit, nodes: int = 1) -> float:
    """The largest move relative to the limit for a warning: above 1, a fit with this many nodes is doubtful.

    nan if it cannot be computed: for several effects, and for fits that are singular, separated or not converged.
    """
    if fit.code or rows.Z.shape[1] != 1:
        return np.nan
    at = quadrature(rows, max(2 * nodes + 1, LEAST), np.r_[fit.beta, fit.theta], fit.u[:, 0])
    moves = np.abs(fit.covariance @ at.gradient) / np.sqrt(np.diag(fit.covariance))
    return float(max(moves[:-1].max(initial=0.0) / COEFFICIENT, moves[-1] / COMPONENT))


def cure(nodes: int) -> int:
    """The number of nodes to use instead."""
    return max(CURE, min(3 * nodes, MOST))


def how_it_moves(rows: GlmmRows, fit: LaplaceFit, nodes: int, names: tuple[str, ...], component: str) -> str:
    """How the coefficient that moves most, and the standard deviation, change with `cure` nodes, in words."""
    better = fit_laplace(rows, nodes=cure(nodes))
    errors = np.sqrt(np.diag(fit.covariance))
    moves = np.abs(better.beta - fit.beta) / errors[:-1]
    a = int(np.argmax(moves))
    return (
        f"{names[a]} goes from {fit.beta[a]:.3g} to {better.beta[a]:.3g} ({moves[a]:.1f} standard errors) and "
        f"{component} from {fit.L[0, 0]:.3g} to {better.L[0, 0]:.3g}"
    )
