"""Log posterior density of the joint normal model and its gradient, at flat unconstrained points.

    log p(theta | y) = log p(y_obs | beta, Sigma, Psi) + log p(beta) + log p(Sigma) + log p(Psi)
                       + log |d(Sigma, Psi) / dtheta|
    theta = (beta by rows, free parameters of Sigma, free parameters of Psi)

models/joint_normal.py defines the model; this is the same function of the same free parameters, including constants
(tests/joint/test_density.py). It exists because its kernels are cached on disk by numba, so there is nothing to
compile, whereas PyTensor's graph takes half a minute.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bayesimp import priors as pr
from bayesimp.kernels.normal.marginal import log_likelihood, marginal_data
from bayesimp.kernels.normal.statistics import SufficientStatistics
from bayesimp.priors.density import CovarianceDensity

__all__ = ["JointDensity"]

Array = NDArray[np.float64]


class JointDensity:
    """The log posterior density of the module, as a function.

    Parameters
    ----------
    statistics
        Grams of the cells of the table; see `bayesimp.kernels.normal.statistics.collect`.
    priors
        Resolved priors (`bayesimp.priors.resolve`), all proper except that beta may be flat; `takes` says which are
        known.

    Attributes
    ----------
    size
        n, the length of theta.

    A call changes no state, so chains in several threads can share one object.
    """

    def __init__(self, statistics: SufficientStatistics, priors: pr.Priors) -> None:
        data = marginal_data(statistics)
        p, q, r = statistics.p, statistics.q, statistics.r
        self._data = data.observed, data.cells, data.gram, data.total
        self._beta = priors.beta.density(p, r)
        self._Sigma = _covariance(priors.Sigma, r, "Sigma")
        self._Psi = _covariance(priors.Psi, r * q, "Psi")
        self._shape = p, r
        self._cuts = np.cumsum([p * r, self._Sigma.size])
        self.size = int(self._cuts[1]) + self._Psi.size

    @staticmethod
    def takes(priors: pr.Priors, r: int, q: int) -> bool:
        """Whether kernels have the densities of these priors; if not, the PyMC model must be sampled."""
        parts = (priors.Sigma, r, "Sigma"), (priors.Psi, r * q, "Psi")
        return all(prior.density(d, where) is not None for prior, d, where in parts)

    def __call__(self, theta: Array) -> tuple[float, Array]:
        """Log density (-inf where the density is zero to machine precision) and gradient (n,)."""
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
        """theta, which contains only the diagonal of a matrix with a diagonal prior, and nothing of a fixed matrix."""
        return np.concatenate([np.ravel(beta), self._Sigma.free(Sigma), self._Psi.free(Psi)])

    def _split(self, theta: Array) -> tuple[Array, Array, Array]:
        i, j = self._cuts
        return theta[:i], theta[i:j], theta[j:]


def _covariance(prior: pr.CovariancePrior, d: int, where: str) -> CovarianceDensity:
    prior.require_proper(d, where, "NUTS", "Use sampler='gibbs', or a larger nu.")
    density = prior.density(d, where)
    if density is None:
        raise TypeError(f"{type(prior).__name__} has no density by kernels; see JointDensity.takes")
    return density
