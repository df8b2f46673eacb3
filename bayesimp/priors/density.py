"""Log densities of priors on a covariance matrix, in terms of the free parameters that NUTS samples.

Each density has a `size`. Called with that many free parameters, it returns S, log p(S) + log |Jacobian|, and a function
that maps d/dS of the rest of the log density to d/dfree of the whole. `free` is the inverse map. The work is done by
kernels (`bayesimp.kernels.covariance`), so nothing is compiled here, and chains in several threads can share a density.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bayesimp.kernels.covariance.density import INVERSE_GAMMA, diagonal
from bayesimp.kernels.covariance.free import from_free, pull_free, to_free

__all__ = ["BetaDensity", "CovarianceDensity", "DiagonalDensity", "KnownDensity", "MatrixDensity"]

Array = NDArray[np.float64]
BetaDensity = Callable[[Array], tuple[float, Array | float]]


class CovarianceDensity(Protocol):
    """Log density of a prior on a covariance matrix (d, d)."""

    @property
    def size(self) -> int:
        """Number of free parameters."""

    def __call__(self, free: Array) -> tuple[Array, float, Callable[[Array], Array]]:
        """S (d, d), the log density with the Jacobian, and the map from d/dS (d, d) of the rest to d/dfree (size,)."""

    def free(self, S: Array) -> Array:
        """The free parameters (size,) of S (d, d)."""

    def log_density(self, S: Array) -> float:
        """log p(s, R) at S = diag(s) R diag(s) (d, d), the density of standard deviations and correlations."""


@dataclass(frozen=True)
class MatrixDensity:
    """Density of a full matrix in the free parameters of its precision or of the matrix itself.

    Parameters
    ----------
    d
        Size of the matrix.
    precision
        Whether the free parameters are those of S^-1.
    density
        Kernel (S, \\*numbers) -> log density, its derivative (d, d).
    numbers
        Parameters of the prior.
    """

    d: int
    precision: bool
    density: Callable[..., tuple[float, Array]]
    numbers: tuple[Any, ...]

    @property
    def size(self) -> int:
        """The number of free parameters, d (d + 1) / 2."""
        return self.d * (self.d + 1) // 2

    def __call__(self, free: Array) -> tuple[Array, float, Callable[[Array], Array]]:
        S, jacobian = from_free(free, self.precision)
        value, dS = self.density(S, *self.numbers)

        def pull(rest: Array) -> Array:
            return pull_free(free, self.precision, S, dS + rest, 1.0)

        return S, value + jacobian, pull

    def free(self, S: Array) -> Array:
        """The free parameters of S (d, d)."""
        return to_free(np.array(S, dtype=float), self.precision)

    def log_density(self, S: Array) -> float:
        """log p(s, R) = log p(S) + d log 2 + d sum_k log s_k; see `CovarianceDensity`."""
        log_p = self.density(np.ascontiguousarray(S), *self.numbers)[0]
        return float(log_p + self.d * (np.log(2) + 0.5 * np.log(np.diagonal(S)).sum()))


@dataclass(frozen=True)
class DiagonalDensity:
    """Density of a diagonal matrix in log standard deviations, or in log variances if these are inverse-gamma.

    Parameters
    ----------
    size
        d.
    nu
        Degrees of freedom, for families that have them.
    scale
        (d,) scales of the standard deviations, or of the inverse-gamma variances.
    family
        Code of `bayesimp.kernels.covariance.density`.
    """

    size: int
    nu: float
    scale: Array
    family: int

    @property
    def power(self) -> int:
        """S_kk = exp(power free_k)."""
        return 1 if self.family == INVERSE_GAMMA else 2

    def __call__(self, free: Array) -> tuple[Array, float, Callable[[Array], Array]]:
        S, value, slopes = diagonal(free, self.nu, self.scale, self.family)

        def pull(rest: Array) -> Array:
            return slopes + self.power * S.diagonal() * rest.diagonal()

        return S, value, pull

    def free(self, S: Array) -> Array:
        """The free parameters (d,) of a diagonal matrix S: logarithms of variances or standard deviations."""
        return np.log(np.diagonal(S)) / self.power

    def log_density(self, S: Array) -> float:
        """log p(s), without the Jacobian of log s, and with the Jacobian 2 s of s^2 if the prior is on variances."""
        free = self.free(S)
        log_p = self(free)[1] - free.sum()
        return float(log_p if self.power == 2 else log_p + (np.log(2) + 0.5 * free).sum())


@dataclass(frozen=True)
class KnownDensity:
    """Density of a known matrix S (d, d), which has no free parameters."""

    S: Array
    size: int = 0

    def __call__(self, free: Array) -> tuple[Array, float, Callable[[Array], Array]]:
        return self.S, 0.0, lambda rest: free

    def free(self, S: Array) -> Array:
        """(0,): a known matrix has no free parameters."""
        return np.zeros(0)

    def log_density(self, S: Array) -> float:
        """0, because nothing is unknown."""
        return 0.0
