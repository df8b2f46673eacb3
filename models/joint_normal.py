"""Joint multilevel normal model of several incomplete variables (Schafer & Yucel 2002).

    Y_i = X_i beta + Z_i B_i + E_i,      rows of E_i ~ N(0, Sigma),      vec(B_i) ~ N(0, Psi),      i = 1..m

    beta ~ flat or normal            (p, r)
    Sigma ~ prior                    (r, r)
    Psi ~ prior                      (r q, r q), effect k*q + l: column l of Z on response k
    or, beside slopes, Psi = C Psi_c C' with Psi_c ~ prior, of the effects at centred columns (priors/centred.py)

Missing values of Y and the random effects B_i are integrated out, so that the likelihood is the density of
the observed values,

    y_i,obs ~ N( vec(X_i beta),  kron(Sigma, I) + (I kron Z_i) Psi (I kron Z_i)' )  at the observed places,

a function of the sufficient statistics of each cluster and missingness pattern: its cost does not depend on
the number of rows (`bayesimp.kernels.normal.marginal`). Missing values and random effects are drawn afterwards,
exactly, from their conditional given a draw of (beta, Sigma, Psi).
"""

from __future__ import annotations

import pymc as pm
from pytensor.tensor.variable import TensorVariable

from bayesimp import notation as dim
from bayesimp.kernels.normal.marginal import marginal_data
from bayesimp.kernels.normal.statistics import SufficientStatistics
from bayesimp.models.covariance import covariance
from bayesimp.models.ops import marginal
from bayesimp.priors import CoefficientPrior, Priors

__all__ = ["fixed_effects", "joint_normal"]


def joint_normal(statistics: SufficientStatistics, priors: Priors, coords: dict | None = None) -> pm.Model:
    """The model above.

    Parameters
    ----------
    statistics
        Grams of the cells of the table; see `bayesimp.kernels.normal.statistics.collect`.
    priors
        Resolved: every number explicit (`bayesimp.priors.resolve`).
    coords
        Labels of ``fixed`` (p), ``response`` (r) and ``effect`` (r q); numbers where left out.

    Returns
    -------
    pm.Model with beta, Sigma, Psi. The data and the scales of the priors are `pm.Data`: another table with
    the same columns and kinds of prior needs no new compilation.
    """
    p, q, r = statistics.p, statistics.q, statistics.r
    labels = {dim.FIXED: range(p), dim.RESPONSE: range(r), dim.EFFECT: range(r * q), **(coords or {})}
    labels |= {dim.RESPONSE_2: labels[dim.RESPONSE], dim.EFFECT_2: labels[dim.EFFECT]}
    data = marginal_data(statistics)
    with pm.Model(coords=labels) as model:
        beta = fixed_effects(priors.beta, p, r)
        Sigma = covariance("Sigma", priors.Sigma, r, (dim.RESPONSE, dim.RESPONSE_2))
        Psi = covariance("Psi", priors.Psi, r * q, (dim.EFFECT, dim.EFFECT_2))
        arrays = [pm.Data(name, getattr(data, name)) for name in ("observed", "cells", "gram", "total")]
        pm.Potential("y_obs", marginal(beta, Sigma, Psi, *arrays))
    return model


def fixed_effects(prior: CoefficientPrior, p: int, r: int) -> TensorVariable:
    """Variable "beta" (p, r) in the model whose context is open."""
    return prior.distribution(p, r, (dim.FIXED, dim.RESPONSE))
