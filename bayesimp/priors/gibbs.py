"""Priors as read by Gibbs samplers: precision of beta, conjugate updates of covariance matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bayesimp.errors import SpecificationError
from bayesimp.priors.base import CovariancePrior
from bayesimp.priors.coefficients import CoefficientPrior

if TYPE_CHECKING:
    from bayesimp.kernels.covariance.update import CovarianceUpdate

__all__ = ["beta_prior", "check_proper", "covariance_update", "is_conjugate", "require_conjugate"]

Array = NDArray[np.float64]


def is_conjugate(prior: CovariancePrior) -> bool:
    """Whether the Gibbs kernels have an update for this prior, resolved or not."""
    return isinstance(prior, CovariancePrior) and prior.is_conjugate


def require_conjugate(
    block: str,
    *priors: CovariancePrior,
    otherwise: str = "; use methods.PyMC(priors=...), which takes every prior.",
) -> None:
    """Refuse priors of a conditional model for which there is no Gibbs update; otherwise: what to do instead.

    Raises
    ------
    SpecificationError
    """
    for prior in priors:
        if not is_conjugate(prior):
            raise SpecificationError(
                f"'{block}': the Gibbs sampler has no update for {type(prior).__name__}{otherwise}"
            )


def covariance_update(prior: CovariancePrior, d: int) -> CovarianceUpdate:
    """A prior as read by the kernels.

    Parameters
    ----------
    prior
        Resolved, on the working scale.
    d
        Size of the matrix.

    Raises
    ------
    SpecificationError
        The prior has no conjugate update.
    """
    update = prior.update(d)
    if update is None:
        raise SpecificationError(
            f"The Gibbs sampler has no update for {prior!r}; use sampler='nuts', which takes every prior."
        )
    return update


def check_proper(update: CovarianceUpdate, n: int, d: int, where: str, what: str) -> None:
    """Refuse an improper prior if the posterior is improper too.

    Parameters
    ----------
    update
        The prior of a (d, d) matrix.
    n
        Number of rows or clusters (`what`) that inform the matrix.
    where
        Name of the matrix for the message.

    Raises
    ------
    SpecificationError
        The posterior is improper: nu + n <= d - 1.
    """
    from bayesimp.kernels.covariance.update import INVERSE_WISHART

    if update.kind == INVERSE_WISHART and not update.nu + n > d - 1:
        raise SpecificationError(
            f"The improper prior on {where} (nu = {update.nu:g}) with {n} {what} leaves an improper posterior: "
            f"nu + {n} must exceed {d - 1}. Use a larger nu."
        )


def beta_prior(prior: CoefficientPrior, scale: Any, r: int, where: str = "beta") -> tuple[Array, Array]:
    """Precision Q0 (r p, r p) of vec(beta_w), and Q0 mu0 (r p,), for a prior stated in the units of the data.

    See `bayesimp.priors.coefficients.CoefficientPrior.precision`.
    """
    return prior.precision(scale, r, where)
