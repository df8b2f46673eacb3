"""Priors on fixed effects and covariance matrices, as records.

A covariance matrix S (d x d; ``Sigma``: d = r, ``Psi``: d = r q) takes one of

    InverseWishart(nu, V)    |S|^-(nu+d+1)/2 exp(-tr(V^-1 S^-1)/2)              Kunkel & Kaizar 2017, sec. 2.2
    HuangWand(nu, scale)     S | a ~ IW(nu+d-1, scale matrix 2 nu diag(1/a)),   Huang & Wand 2013, eq. 2
                             a_k ~ InvGamma(1/2, 1/scale_k^2)
                             => sd_k ~ half-t(nu, scale_k); nu = 2: every correlation uniform on (-1, 1)
    LKJ(eta, sd)             S = diag(s) R diag(s), R ~ LKJ(eta), s_k ~ sd      Lewandowski et al. 2009
    Diagonal(variances)      no correlations; each variance has its own prior
    Fixed(value)             known

The scale of a prior is either given on the scale of the data (``scale=``) or in multiples of the standard
deviation of the variable (``times_sd=``), in which case it changes with the unit of the data.

With random slopes, priors of Psi refer to the effects at centred columns of Z: with Z C the columns of Z minus their
means, Psi = (I kron C) Psi_c (I kron C)' and Psi_c ~ prior (`bayesimp.priors.centred`). "Years 2015..2024" and "years
since 2015" therefore have the same prior; Psi is reported at the table's origin. Only `Fixed` and
``InverseWishart(centred=False)`` are priors of Psi itself.

To write your own prior, subclass `CovariancePrior` (`bayesimp.priors.base`); it does not have to be added to any list.
"""

from __future__ import annotations

from bayesimp.priors.base import CovariancePrior
from bayesimp.priors.coefficients import CoefficientPrior, Flat, Normal, Weak
from bayesimp.priors.components import ComponentPrior
from bayesimp.priors.contextual import Contextual
from bayesimp.priors.diagonal import Diagonal
from bayesimp.priors.elicit import elicit, from_preliz
from bayesimp.priors.fixed import Fixed
from bayesimp.priors.huang_wand import HuangWand
from bayesimp.priors.inverse_wishart import InverseWishart
from bayesimp.priors.lkj import LKJ
from bayesimp.priors.powered import Powered, powered
from bayesimp.priors.presets import (
    PRESETS,
    Priors,
    default,
    iw,
    jomo,
    mice,
    pan,
    read,
    rescale,
    resolve,
)
from bayesimp.priors.scales import Exponential, HalfNormal, HalfT, ScalePrior

__all__ = [
    "CoefficientPrior",
    "ComponentPrior",
    "Contextual",
    "CovariancePrior",
    "Diagonal",
    "Exponential",
    "Fixed",
    "Flat",
    "HalfNormal",
    "HalfT",
    "HuangWand",
    "InverseWishart",
    "LKJ",
    "Normal",
    "PRESETS",
    "Powered",
    "Priors",
    "ScalePrior",
    "Weak",
    "default",
    "elicit",
    "from_preliz",
    "iw",
    "jomo",
    "mice",
    "pan",
    "powered",
    "read",
    "rescale",
    "resolve",
]


def __dir__() -> list[str]:
    return __all__
