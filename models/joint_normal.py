"""Joint multilevel normal model of several incomplete variables (Schafer & Yucel 2002).

    Y_i = X_i beta + Z_i B_i + E_i,      rows of E_i ~ N(0, Sigma),      vec(B_i) ~ N(0, Psi),      i = 1..m

    beta ~ flat or normal            (p, r)
    Sigma ~ prior                    (r, r)
    Psi ~ prior                      (r q, r q), effect k*q + l: column l of Z on response k
    or, with slopes, Psi = C Psi_c C', Psi_c ~ prior: covariance of the effects at centred columns (priors/centred.py)

Missing values of Y and the random effects B_i are integrated out, so the likelihood is the density of the
observed values,

    y_i,obs ~ N( vec(X_i beta),  kron(Sigma, I) + (I kron Z_i) Psi (I kron Z_i)' )  for the observed cells,

a function of the sufficient statistics of each cluster and missingness pattern, whose cost does not depend on
the number of rows (`bayesimp.kernels.normal.marginal`). Missing values and random effects are drawn exactly
afterwards, from their conditional distribution given a draw of (beta, Sigma, Psi).

With several grouping factors s = 1..S, nested or crossed (school, class), a row has effects of its group in each,

    Y = X beta + sum_s Z_s B_s + E,      vec(B_sg) ~ N(0, Psi_s) for every group g of factor s,      Psi_s ~ prior

The effects of factor 1 are integrated out as above. Those of the other factors are variables, B_sg = u_sg L_s' with
L_s L_s' = Psi_s and u_sg standard normal; given them, their columns of Z act as further columns of X.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.tensor.variable import TensorVariable

from bayesimp import notation as dim
from bayesimp.kernels.normal.marginal import marginal_data
from bayesimp.kernels.normal.statistics import SufficientStatistics, collect
from bayesimp.models.covariance import covariance
from bayesimp.models.ops import effects, marginal
from bayesimp.priors import CoefficientPrior, CovariancePrior, Priors

__all__ = ["FurtherFactor", "fixed_effects", "joint_normal", "joint_normal_several"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class FurtherFactor:
    """A grouping factor after the first.

    Attributes
    ----------
    label
        The label in ``Psi_<label>``.
    Z
        (N, q) columns of the factor.
    codes, groups
        (N,) group of each row, and the number of groups.
    prior
        Resolved prior of Psi_s.
    effects
        (r q,) names of the effects, effect k*q + l.
    """

    label: str
    Z: Array
    codes: NDArray[np.int64]
    groups: int
    prior: CovariancePrior
    effects: tuple[str, ...]

    @property
    def columns(self) -> Array:
        """(N, groups q): the columns of Z in the rows of each group and 0 elsewhere, group by group."""
        N, q = self.Z.shape
        out = np.zeros((N, self.groups, q))
        out[np.arange(N), self.codes] = self.Z
        return out.reshape(N, -1)


def joint_normal(statistics: SufficientStatistics, priors: Priors, coords: dict | None = None) -> pm.Model:
    """The model above.

    Parameters
    ----------
    statistics
        Grams of the cells of the table; see `bayesimp.kernels.normal.statistics.collect`.
    priors
        Resolved priors, in which every number is explicit (`bayesimp.priors.resolve`).
    coords
        Labels of ``fixed`` (p), ``response`` (r) and ``effect`` (r q); numbers if omitted.

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


def joint_normal_several(
    X: Array,
    Z: Array,
    Y: Array,
    codes: NDArray[np.integer],
    clusters: int,
    priors: Priors,
    label: str,
    further: Sequence[FurtherFactor],
    coords: dict[str, list[str]],
) -> pm.Model:
    """The model with several grouping factors, in the units of the data.

    Parameters
    ----------
    X, Z, Y, codes, clusters
        Data with the first factor: (N, p), (N, q), (N, r) with NaN for missing values, (N,), number of groups.
    priors
        Resolved priors; Psi is that of the first factor.
    label
        Label of the first factor.
    further
        The other factors; the model has the effects of their groups as free variables.
    coords
        Labels of ``fixed``, ``response`` and ``effect_<label>`` of every factor, and of their second axes.

    Returns
    -------
    pm.Model with beta, Sigma, ``Psi_<label>`` of every factor, and ``u_<label>`` of the other factors.
    """
    p, q, r = X.shape[1], Z.shape[1], Y.shape[1]
    every = np.hstack([X, *(factor.columns for factor in further)])
    data = marginal_data(collect(every, Z, Y, np.asarray(codes, dtype=np.int64), clusters))
    groups = {f"group_{factor.label}": range(factor.groups) for factor in further}
    with pm.Model(coords=coords | groups) as model:
        beta = fixed_effects(priors.beta, p, r)
        Sigma = covariance("Sigma", priors.Sigma, r, (dim.RESPONSE, dim.RESPONSE_2))
        Psi = covariance(f"Psi_{label}", priors.Psi, r * q, (f"effect_{label}", f"effect_{label}_2"))
        rows = [beta]
        for factor in further:
            dims, d = (f"effect_{factor.label}", f"effect_{factor.label}_2"), len(factor.effects)
            Psi_s = covariance(f"Psi_{factor.label}", factor.prior, d, dims)
            u = pm.Normal(f"u_{factor.label}", dims=(f"group_{factor.label}", dims[0]))
            B = effects(u, Psi_s).reshape((factor.groups, r, d // r))
            rows.append(B.dimshuffle(0, 2, 1).reshape((factor.groups * (d // r), r)))
        arrays = [pm.Data(name, getattr(data, name)) for name in ("observed", "cells", "gram", "total")]
        pm.Potential("y_obs", marginal(pt.concatenate(rows), Sigma, Psi, *arrays))
    return model


def fixed_effects(prior: CoefficientPrior, p: int, r: int) -> TensorVariable:
    """Add the variable "beta" (p, r) to the model whose context is open."""
    return prior.distribution(p, r, (dim.FIXED, dim.RESPONSE))
