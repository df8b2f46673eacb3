"""Conditional normal model of one incomplete variable given all others (Kunkel & Kaizar 2017, sec. 2.3).

    y_j = x_j' beta + z_j' b_i + e_j,      e_j ~ N(0, Sigma),      b_i ~ N(0, Psi),      row j in cluster i = 1..m

    beta ~ flat or normal            (p, 1)
    Sigma ~ prior                    (1, 1), the residual variance
    Psi ~ prior                      (q, q)

This is the joint model with one response, for the rows in which y is observed. `conditional_normal` has the b_i
integrated out, so the likelihood is a function of cross products (`bayesimp.kernels.normal.marginal`) and its cost does
not depend on the number of rows; beta and the b_i are drawn exactly afterwards, given (Sigma, Psi).

A user's own submodel is a function ``(data, priors) -> pm.Model`` of rows, where `data` is a `ConditionalData`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pymc as pm
import pytensor

from bayesimp import notation as dim
from bayesimp.kernels.normal.marginal import MarginalData
from bayesimp.models.covariance import covariance
from bayesimp.models.joint_normal import fixed_effects
from bayesimp.models.ops import marginal
from bayesimp.priors import Priors

__all__ = ["ConditionalData", "conditional_normal"]


def conditional_normal(
    data: MarginalData, priors: Priors, p: int, q: int, coords: dict | None = None
) -> pm.Model:
    """The model above, with cluster effects integrated out.

    Parameters
    ----------
    data
        Grams of [1 | X | Z | y] by cluster, over the rows with y observed; see `bayesimp.kernels.normal.marginal`.
    priors
        Resolved priors, in which every number is explicit (`bayesimp.priors.resolve`).
    coords
        Labels of ``fixed`` (p), ``response`` (1) and ``effect`` (q); numbers if omitted.

    Returns
    -------
    pm.Model with beta, Sigma, Psi. The data and the scales of the priors are `pm.Data`: another variable with
    the same q and kinds of prior, or the same one with other predictors' values, needs no new compilation.
    """
    labels = {dim.FIXED: range(p), dim.RESPONSE: range(1), dim.EFFECT: range(q), **(coords or {})}
    labels |= {dim.RESPONSE_2: labels[dim.RESPONSE], dim.EFFECT_2: labels[dim.EFFECT]}
    with pm.Model(coords=labels) as model:
        beta = fixed_effects(priors.beta, p, 1)
        Sigma = covariance("Sigma", priors.Sigma, 1, (dim.RESPONSE, dim.RESPONSE_2))
        Psi = covariance("Psi", priors.Psi, q, (dim.EFFECT, dim.EFFECT_2))
        arrays = [pm.Data(name, getattr(data, name)) for name in ("observed", "cells", "gram", "total")]
        pm.Potential("y_obs", marginal(beta, Sigma, Psi, *arrays))
    return model


@dataclass(frozen=True)
class ConditionalData:
    """What a submodel sees of the table: the rows of one variable.

    In the function that you write, these are PyMC variables, which can be used like arrays. In every cycle they are
    filled with the rows in which the variable is observed, and, to draw values, with the rows in which it is missing.
    Your function does not notice this: it uses ``data.X`` and so on unchanged, and must not read numbers from them.
    For example, Student-t errors and random intercepts::

        def my_model(data, priors):
            with pm.Model(coords={"fixed": data.fixed, "cluster": range(data.clusters)}) as model:
                beta = pm.Normal("beta", 0, 10, dims="fixed")
                tau = pm.HalfNormal("tau", 1)
                b = pm.Normal("b", 0, tau, dims="cluster")
                sigma = pm.HalfNormal("sigma", 1)
                nu = pm.Gamma("nu", 2, 0.1)
                mean = data.X @ beta + b[data.cluster]
                pm.StudentT(data.name, nu=nu, mu=mean, sigma=sigma, observed=data.y)
            return model

    A discrete variable is given as numbers, float64 like all others: 0 and 1, counts, or the codes 0..levels-1 of its
    levels in their order; PyMC's discrete distributions accept them. For 0 and 1::

        pm.Bernoulli(data.name, logit_p=data.X @ beta + b[data.cluster], observed=data.y)

    All free variables must be continuous. None may have a value for each row, since the rows change; integrate such a
    variable out. A cluster in which the variable is systematically missing has no row in ``data``, and its effect is
    drawn from the distribution in the model.

    Attributes
    ----------
    name
        Name of the variable; the node with this name is imputed.
    y, X, Z
        (n,), (n, p), (n, q): the variable, fixed and random-effects columns of its formula, on the working scale.
    cluster
        (n,) integers 0..clusters-1.
    clusters
        m, the number of all clusters, whether or not the variable is observed there; not a PyMC variable.
    fixed, random
        Names of the columns of X and Z.
    family, link
        ``"normal"``, ``"identity"``; ``"bernoulli"``, ``"binomial"`` (``"logit"``, ``"probit"``); ``"poisson"``,
        ``"negative_binomial"``, the same after ``"zero_inflated_"`` or ``"hurdle_"``,
        ``"gamma"``, ``"inverse_gaussian"``, ``"lognormal"`` (``"log"``); ``"beta"``, ``"ordinal"``,
        ``"categorical"`` (``"logit"``); ``"student"``, ``"yeo_johnson"`` (``"identity"``). Observed and drawn values
        must be possible values of the family.
    levels
        K of an ordinal or categorical variable, whether or not all levels are observed; not a PyMC variable.
    trials
        (n,) for a binomial variable, else None.
    """

    name: str
    y: Any
    X: Any
    Z: Any
    cluster: Any
    clusters: int
    fixed: tuple[str, ...]
    random: tuple[str, ...]
    family: str = "normal"
    link: str = "identity"
    levels: int = 0
    trials: Any = None

    def variables(self) -> ConditionalData:
        """The same data with PyTensor shared variables instead of arrays."""
        columns = {
            "y": (None,),
            "trials": (None,),
            "X": (None, len(self.fixed)),
            "Z": (None, len(self.random)),
            "cluster": (None,),
        }
        return replace(
            self,
            **{
                k: pytensor.shared(x, name=f"data.{k}", shape=columns.get(k, (None,)))
                for k, x in self.arrays().items()
            },
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """y, X, Z (float), cluster (int), and trials (int) if there are any; contiguous."""
        kinds = {"y": float, "X": float, "Z": float, "cluster": np.int64, "trials": np.int64}
        held = {k: (getattr(self, k), kind) for k, kind in kinds.items()}
        return {k: np.ascontiguousarray(x, dtype=kind) for k, (x, kind) in held.items() if x is not None}
