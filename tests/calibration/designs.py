"""Small tables with every kind of missing value, under every prior that the Gibbs sampler takes."""

from dataclasses import replace

import numpy as np

from bayesimp import priors as pr
from tests.calibration.sbc import Design


def design(priors: pr.Priors, q: int, clusters: int, rows: int, lost: int = 1) -> Design:
    """Two responses; the first `lost` clusters lack the second, the next one the first, the last one both.

    There are sporadic missing values too, and a row in which nothing is observed.

    Values have a size far from 1, and the covariate is far from 0.
    """
    rng = np.random.default_rng(5)
    codes = np.repeat(np.arange(clusters), rows)
    x = 3.0 + 0.5 * rng.normal(size=len(codes))
    X = np.column_stack([np.ones(len(codes)), x])
    missing = rng.random((len(codes), 2)) < 0.15
    missing[codes < lost, 1] = True
    missing[codes == lost, 0] = True
    missing[codes == clusters - 1] = True
    missing[(clusters - 2) * rows] = True  # a row in which nothing is observed
    return Design(X, X[:, :q].copy(), codes, missing, priors)


BETA = pr.Normal(mean=[[10.0, -200.0], [1.0, 0.0]], sd=[[4.0, 60.0], [2.0, 20.0]])
UNITS = np.array([2.0, 30.0])  # of the two responses


def inverse_wishart(nu: float, units) -> pr.InverseWishart:
    """Correlated, with mean scale/(nu - d - 1) about units^2."""
    d = len(units)
    scale = np.outer(units, units) * (0.6 * np.eye(d) + 0.4) * (nu - d + 1)
    return pr.InverseWishart(nu, np.linalg.inv(scale))


TWICE = np.repeat(UNITS, 2)
HUANG_WAND = pr.HuangWand(scale=UNITS)
INVERSE_GAMMA = pr.Diagonal(pr.InverseWishart(4.0, 0.5 / UNITS**2))
HALF_T = pr.Diagonal(pr.HalfT(scale=UNITS))
VAGUE = replace(BETA, sd=[[40.0, 600.0], [20.0, 200.0]])
IW = inverse_wishart(6.0, UNITS)

DESIGNS = {
    "inverse-Wishart": design(pr.Priors(IW, inverse_wishart(5.0, UNITS), BETA), 1, 6, 6),
    "Huang-Wand": design(pr.Priors(HUANG_WAND, HUANG_WAND, BETA), 1, 6, 6),
    "diagonal": design(pr.Priors(HALF_T, INVERSE_GAMMA, BETA), 1, 6, 6),
    "Sigma fixed": design(pr.Priors(pr.Fixed([[4.0, 30.0], [30.0, 900.0]]), HALF_T, BETA), 1, 6, 6),
    "Psi fixed": design(pr.Priors(HUANG_WAND, pr.Fixed([[4.0, 30.0], [30.0, 900.0]]), BETA), 1, 6, 6),
    "slopes, inverse-Wishart": design(pr.Priors(IW, inverse_wishart(8.0, TWICE), BETA), 2, 8, 7),
    "slopes, Huang-Wand": design(pr.Priors(HUANG_WAND, pr.HuangWand(scale=TWICE), BETA), 2, 8, 7),
}

# little is known about the second response, so that the effect of parameter uncertainty shows
SCARCE = design(pr.Priors(HUANG_WAND, HUANG_WAND, VAGUE), 1, 6, 6, lost=3)
