"""The Yeo-Johnson transformation (Yeo & Johnson 2000, eq. 2.1) by SciPy's Box-Cox transformations, and its density."""

import numpy as np
from scipy import stats
from scipy.special import boxcox1p, inv_boxcox1p, ndtr


def transform(y, power):
    """psi(y); arrays broadcast."""
    y, power = np.asarray(y, float), np.asarray(power, float)
    up, down = np.maximum(y, 0.0), np.maximum(-y, 0.0)
    return np.where(y >= 0, boxcox1p(up, power), -boxcox1p(down, 2.0 - power))


def back(z, power):
    """y with psi(y) = z."""
    z, power = np.asarray(z, float), np.asarray(power, float)
    up, down = np.maximum(z, 0.0), np.maximum(-z, 0.0)
    return np.where(z >= 0, inv_boxcox1p(up, power), -inv_boxcox1p(down, 2.0 - power))


def log_density(y, eta, sigma, power):
    """log p(y | eta): that of psi(y), and the logarithm of psi'(y) = (1 + |y|)^(lambda - 1) or ^(1 - lambda)."""
    slope = np.where(np.asarray(y) >= 0, power - 1, 1 - np.asarray(power)) * np.log1p(np.abs(y))
    return stats.norm.logpdf(transform(y, power), eta, sigma) + slope


def cumulative(t, eta, sigma, power):
    """P(y <= t | eta)."""
    return ndtr((transform(t, power) - eta) / sigma)
