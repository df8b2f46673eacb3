"""Log posterior density of the joint normal model and its gradient, at flat unconstrained points.

    log p(theta | y) = log p(y_obs | beta, Sigma, Psi) + log p(beta) + log p(Sigma) + log p(Psi)
                       + log |d(Sigma, Psi) / dtheta|
    theta = (beta by rows, free parameters of Sigma, free parameters of Psi)

models/joint_normal.py is the definition of the model; this is the same function, constants included, of the
same free parameters (tests/joint/test_density.py). It is here because it calls kernels that numba
keeps on disk: nothing is left to compile, where PyTensor's graph takes half a minute.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bayesimp import priors as pr
from bayesimp.errors import SpecificationError
from bayesimp.kernels.covariance import density as kernels
from bayesimp.kernels.normal.marginal import log_likelihood, marginal_data
from bayesimp.kernels.normal.statistics import SufficientStatistics

__all__ = ["JointDensity"]

Array = NDArray[np.float64]

FAMILIES = {
    pr.HalfT: kernels.HALF_T,
    pr.HalfNormal: kernels.HALF_NORMAL,
    pr.Exponential: kernels.EXPONENTIAL,
    pr.InverseWishart: kernels.INVERSE_GAMMA,
}
LOG_2PI = np.log(2 * np.pi)


class JointDensity:
    """The function above.

    Parameters
    ----------
    statistics
        Grams of the cells of the table; see `bayesimp.kernels.normal.statistics.collect`.
    priors
        Resolved: every number explicit (`bayesimp.priors.resolve`), and proper but for a flat beta.

    Attributes
    ----------
    size
        n, the length of theta.

    It holds no state that a call changes: chains in threads share one.
    """

    def __init__(self, statistics: SufficientStatistics, priors: pr.Priors) -> None:
        data = marginal_data(statistics)
        p, q, r = statistics.p, statistics.q, statistics.r
        self._data = data.observed, data.cells, data.gram, data.total
        self._beta = _fixed_effects(priors.beta, p, r)
        self._Sigma = _covariance(priors.Sigma, r, "Sigma")
        self._Psi = _covariance(priors.Psi, r * q, "Psi")
        self._shape = p, r
        self._cuts = np.cumsum([p * r, self._Sigma.size])
        self.size = int(self._cuts[1]) + self._Psi.size

    def __call__(self, theta: Array) -> tuple[float, Array]:
        """Log density, -inf where it is zero to machine precision, and gradient (n,)."""
        b, free_Sigma, free_Psi = self._split(theta)
        beta = b.reshape(self._shape)
        Sigma, log_Sigma, to_Sigma = self._Sigma(free_Sigma)
        Psi, log_Psi, to_Psi = self._Psi(free_Psi)
        log_beta, slope_beta = self._beta(beta)
        log_y, dbeta, dSigma, dPsi = log_likelihood(beta, Sigma, Psi, *self._data)
        gradient = np.empty(self.size)
        i, j = self._cuts
        gradient[:i] = (dbeta + slope_beta).ravel()
        gradient[i:j] = to_Sigma(dSigma)
        gradient[j:] = to_Psi(dPsi)
        return log_y + log_beta + log_Sigma + log_Psi, gradient

    def expand(self, theta: Array) -> dict[str, Array]:
        """beta (p, r), Sigma (r, r), Psi (r q, r q)."""
        b, free_Sigma, free_Psi = self._split(theta)
        Sigma, Psi = self._Sigma(free_Sigma)[0], self._Psi(free_Psi)[0]
        return {"beta": b.reshape(self._shape).copy(), "Sigma": Sigma.copy(), "Psi": Psi.copy()}

    def flatten(self, beta: Array, Sigma: Array, Psi: Array) -> Array:
        """theta; of a matrix with a diagonal prior its diagonal, of a fixed one nothing."""
        return np.concatenate([np.ravel(beta), self._Sigma.free(Sigma), self._Psi.free(Psi)])

    def _split(self, theta):
        i, j = self._cuts
        return theta[:i], theta[i:j], theta[j:]


# Each prior on a matrix S has a `size`; called with that many free parameters it returns S, log p(S) + log
# |Jacobian|, and the function from d/dS of the rest of the log density to d/dfree of all. `free` undoes it.


@dataclass(frozen=True)
class _Matrix:
    """InverseWishart, HuangWand (free parameters of the precision) or LKJ (of S itself)."""

    d: int
    precision: bool
    density: object
    numbers: tuple

    @property
    def size(self) -> int:
        return self.d * (self.d + 1) // 2

    def __call__(self, free):
        S, jacobian = kernels.from_free(free, self.precision)
        value, dS = self.density(S, *self.numbers)

        def pull(rest):
            return kernels.pull_free(free, self.precision, S, dS + rest, 1.0)

        return S, value + jacobian, pull

    def free(self, S):
        return kernels.to_free(np.array(S, dtype=float), self.precision)


@dataclass(frozen=True)
class _Diagonal:
    """free: log standard deviations, or log variances if these are inverse-gamma."""

    size: int
    nu: float
    scale: Array
    family: int

    @property
    def power(self) -> int:
        return 1 if self.family == kernels.INVERSE_GAMMA else 2  # S_kk = exp(power free_k)

    def __call__(self, free):
        S, value, slopes = kernels.diagonal(free, self.nu, self.scale, self.family)

        def pull(rest):
            return slopes + self.power * S.diagonal() * rest.diagonal()

        return S, value, pull

    def free(self, S):
        return np.log(np.diagonal(S)) / self.power


@dataclass(frozen=True)
class _Fixed:
    S: Array
    size: int = 0

    def __call__(self, free):
        return self.S, 0.0, lambda rest: free

    def free(self, S):
        return np.zeros(0)


def _covariance(prior: pr.CovariancePrior, d: int, where: str):
    match prior:
        case pr.InverseWishart():
            nu, V = prior.numbers
            if nu <= d - 1:
                raise SpecificationError(
                    f"The prior on {where} is improper (nu = {nu:g}, d = {d}): NUTS needs nu > {d - 1}. "
                    "Use sampler='gibbs', or a larger nu."
                )
            inverse = np.linalg.inv(V)
            return _Matrix(d, True, kernels.inverse_wishart, (nu, (inverse + inverse.T) / 2))
        case pr.HuangWand():
            return _Matrix(d, True, kernels.huang_wand, (float(prior.nu), _vector(prior.scale, d)))
        case pr.LKJ(eta, sd):
            nu = float(getattr(sd, "nu", 1.0))
            numbers = (float(eta), _vector(sd.scale, d), nu, FAMILIES[type(sd)])
            return _Matrix(d, False, kernels.lkj, numbers)
        case pr.Diagonal(pr.InverseWishart() as inner):
            nu, v = inner.numbers
            return _Diagonal(d, nu, 1 / (2 * _vector(v, d)), kernels.INVERSE_GAMMA)
        case pr.Diagonal(pr.HalfT() | pr.HalfNormal() | pr.Exponential() as sd):
            return _Diagonal(d, float(getattr(sd, "nu", 1.0)), _vector(sd.scale, d), FAMILIES[type(sd)])
        case pr.Fixed(value):
            return _Fixed(np.array(value, dtype=float))
    raise TypeError(prior)


def _vector(value, d: int) -> Array:
    return np.broadcast_to(np.asarray(value, dtype=float), (d,)).copy()


def _fixed_effects(prior, p: int, r: int):
    """beta -> log p(beta), its derivative."""
    if not isinstance(prior, pr.Normal):
        return lambda beta: (0.0, 0.0)
    mean, sd = (np.broadcast_to(np.asarray(x, dtype=float), (p, r)).copy() for x in (prior.mean, prior.sd))
    constant = -float(np.log(sd).sum()) - 0.5 * p * r * LOG_2PI

    def normal(beta):
        z = (beta - mean) / sd
        return constant - 0.5 * float((z * z).sum()), -z / sd

    return normal
