"""Probabilities of boxes: quadrature and SciPy; the stated error; far tails."""

import itertools

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import log_ndtr
from scipy.stats import multivariate_normal, norm

from bayesimp.kernels.normal.boxes import log_between, log_boxes

INF = np.inf


@pytest.mark.parametrize("rho", [-0.95, 0.0, 0.5, 0.99])
@pytest.mark.parametrize("box", [(-INF, 1.5, -INF, 0.7), (6.0, INF, -1.0, 0.4), (-0.5, 1.0, 0.0, INF)])
def test_two_components_against_quadrature(rho, box):
    """P = int phi(z) P(the second between its bounds | z) dz, SciPy's adaptive rule around the largest value."""
    S, m = np.array([[1.0, rho * 1.2], [rho * 1.2, 1.44]]), np.array([0.3, -0.4])
    sd = 1.2 * np.sqrt(1 - rho**2)

    def density(z):
        centre = m[1] + 1.2 * rho * z
        a, b = (box[2] - centre) / sd, (box[3] - centre) / sd
        return norm.pdf(z) * np.exp(log_between(np.array([a]), np.array([b])))[0]

    low, high = max(box[0] - m[0], -12.0), min(box[1] - m[0], 12.0)
    grid = np.linspace(low, high, 400)
    top = grid[np.argmax([density(z) for z in grid])]
    edges = np.unique(np.clip(top + np.array([-30, -3, -1, -0.3, -0.1, 0, 0.1, 0.3, 1, 3, 30]), low, high))
    total = sum(
        quad(density, *pair, epsabs=0, epsrel=1e-11, limit=200)[0] for pair in itertools.pairwise(edges)
    )
    bounds = np.array([[box[0], box[2]]]), np.array([[box[1], box[3]]])
    made, error = log_boxes(m[None], S, *bounds)
    assert abs(made[0] - np.log(total)) < 2e-7 and error[0] == 0
    if rho:
        opposite = log_boxes(m[None], S * [[1, -1], [-1, 1]], *bounds)[0]
        assert abs(made[0] - opposite[0]) > 1e-3


@pytest.mark.parametrize("w", [3, 5])
def test_more_components_against_scipy_in_stated_errors(w):
    """15 boxes each; the limit is that of a t with 7 degrees of freedom, 15 numbers, 1e-4."""
    rng = np.random.default_rng(w)
    A = rng.normal(size=(w, w + 2))
    S, m = A @ A.T / w, rng.normal(size=(15, w))
    lower = np.where(rng.random((15, w)) < 0.5, -INF, -0.3)
    upper = np.where(np.isinf(lower), 0.5, INF)
    made, error = log_boxes(m, S, lower, upper)
    law = [multivariate_normal(mean, S, abseps=1e-8, releps=1e-6, maxpts=200_000) for mean in m]
    their = np.log([p.cdf(b, lower_limit=a) for p, a, b in zip(law, lower, upper, strict=True)])
    if w == 3:
        assert np.abs(made - their).max() < 2e-4 and not error.any()  # SciPy's own error
    else:
        assert np.all(error < 0.02) and (np.abs(made - their) / np.hypot(error, 2e-4)).max() < 9.0
    wrong = log_boxes(m, np.diag(np.diag(S)), lower, upper)[0]
    assert np.abs(wrong - their).max() > 0.1


def test_far_from_the_box():
    """Probabilities of independent components multiply, even where Phi underflows."""
    m = np.array([[50.0, -45.0, 2.0], [-60.0, 40.0, -50.0]])
    lower, upper = np.zeros((2, 3)), np.full((2, 3), INF)
    np.testing.assert_allclose(log_boxes(m, np.eye(3), lower, upper)[0], log_ndtr(m).sum(axis=1), rtol=1e-9)
    np.testing.assert_allclose(
        log_between(np.array([40.0, -41.0]), np.array([41.0, -40.0])), log_ndtr(-40.0), rtol=1e-12
    )
