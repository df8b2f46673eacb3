"""The Yeo-Johnson transformation in its four published cases (Yeo & Johnson 2000, eq. 2.1), and the density it gives."""

import numpy as np
from scipy import stats
from scipy.special import ndtr


def transform(y, power):
    """psi(y); arrays broadcast. Cases lambda = 0 and 2 are not needed: no prior has them."""
    y, power = np.broadcast_arrays(np.asarray(y, float), np.asarray(power, float))
    up, down = np.maximum(y, 0.0), np.maximum(-y, 0.0)
    return np.where(y >= 0, ((up + 1) ** power - 1) / power, -((down + 1) ** (2 - power) - 1) / (2 - power))


def back(z, power):
    """y with psi(y) = z."""
    z, power = np.broadcast_arrays(np.asarray(z, float), np.asarray(power, float))
    up, down = np.maximum(z, 0.0), np.maximum(-z, 0.0)
    return np.where(
        z >= 0, (power * up + 1) ** (1 / power) - 1, 1 - ((2 - power) * down + 1) ** (1 / (2 - power))
    )


def log_density(y, eta, sigma, power):
    """log p(y | eta): that of psi(y), and the logarithm of psi'(y) = (1 + |y|)^(lambda - 1) or ^(1 - lambda)."""
    slope = np.where(np.asarray(y) >= 0, power - 1, 1 - np.asarray(power)) * np.log1p(np.abs(y))
    return stats.norm.logpdf(transform(y, power), eta, sigma) + slope


def cumulative(t, eta, sigma, power):
    """P(y <= t | eta)."""
    return ndtr((transform(t, power) - eta) / sigma)
