"""Check whether Laplace's approximation, or a number of nodes, suffices with one random effect per cluster.

If the approximation were exact, the gradient g of the log-likelihood with more nodes would be zero at its estimates.
Otherwise they move by about V g, one Newton step, where V is their covariance. A 95% interval displaced by 0.25
standard errors covers 94.3%; displaced by 0.5, it covers 92.1%. If a coefficient moves by more than 0.25 standard
errors, or the standard deviation by more than 0.5, a warning says what moves and how far
(tests/calibration/QUADRATURE_RESULTS.md).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from bayesimp.kernels.glmm.rows import GlmmRows
from bayesimp.kernels.laplace.quadrature import quadrature
from bayesimp.kernels.laplace.record import LaplaceFit, fit_laplace, laplace_at
from bayesimp.notation import Vector

__all__ = ["MOST", "ONE_PREDICTOR", "Likelihood", "cure", "doubt", "how_it_moves"]

LEAST, CURE, MOST = 9, 20, 100  # nodes: fewest in the check, recommended after Laplace, most in a fit
COEFFICIENT, COMPONENT = 0.25, 0.5  # moves, in standard errors, above which a warning is given


class Likelihood(NamedTuple):
    """The log-likelihood of the rows of a table, by Laplace's approximation or by quadrature.

    fit: ``(rows, blocks=, start=, nodes=)``, the maximum. at: ``(rows, beta, L, free, nodes)``, the value at parameters.
    slope: ``(rows, fit, nodes)``, the gradient by quadrature at a fit with one effect per cluster.
    """

    fit: Callable[..., LaplaceFit]
    at: Callable[..., float]
    slope: Callable[[GlmmRows, LaplaceFit, int], Vector]


def _slope(rows: GlmmRows, fit: LaplaceFit, nodes: int) -> Vector:
    return quadrature(rows, nodes, np.r_[fit.beta, fit.theta], fit.u[:, 0]).gradient


ONE_PREDICTOR = Likelihood(fit_laplace, lambda rows, *given: laplace_at(rows, 1.0, *given), _slope)


def doubt(rows: GlmmRows, fit: LaplaceFit, nodes: int = 1, of: Likelihood = ONE_PREDICTOR) -> float:
    """The largest move relative to the limit for a warning: above 1, a fit with this many nodes is doubtful.

    nan if it cannot be computed: for several effects, and for fits that are singular, separated or not converged.
    """
    if fit.code or rows.Z.shape[1] != 1:
        return np.nan
    slope = of.slope(rows, fit, max(2 * nodes + 1, LEAST))
    moves = np.abs(fit.covariance @ slope) / np.sqrt(np.diag(fit.covariance))
    return float(max(moves[:-1].max(initial=0.0) / COEFFICIENT, moves[-1] / COMPONENT))


def cure(nodes: int) -> int:
    """The number of nodes to use instead."""
    return max(CURE, min(3 * nodes, MOST))


def how_it_moves(fit: LaplaceFit, better: LaplaceFit, names: tuple[str, ...], component: str) -> str:
    """How the coefficient that moves most, and the standard deviation, change with `cure` nodes, in words."""
    errors = np.sqrt(np.diag(fit.covariance))
    moves = np.abs(better.beta - fit.beta) / errors[:-1]
    a = int(np.argmax(moves))
    return (
        f"{names[a]} goes from {fit.beta[a]:.3g} to {better.beta[a]:.3g} ({moves[a]:.1f} standard errors) and "
        f"{component} from {fit.L[0, 0]:.3g} to {better.L[0, 0]:.3g}"
    )
