"""Two-level selection model of one normal variable missing not at random (Heckman 1979; Munoz et al. 2023).

    y_j = x_j' beta + z_j' b_i + sigma e_j,      b_i ~ N(0, Psi),            row j in cluster i = 1..m
    s_j = w_j' gamma + c_i + d_j,                c_i = lam' b_i + tau v_i,   v_i ~ N(0, 1)
    (e_j, d_j) ~ N(0, [1, rho; rho, 1]),         y_j is observed if s_j > 0

    w: all columns of the formula; x: those that are not excluded. Given w, excluded columns affect whether y is observed
    but not y itself; without one, rho rests on the normal shape of (e, d) alone.

    beta ~ flat or normal        (p, 1)          gamma_k ~ N(0, 2.5^2)       probit scale
    Sigma = sigma^2 ~ prior,  Psi ~ prior        rho ~ U(-1, 1), or fixed
    lam_l ~ N(0, 1),  tau ~ half-N(1)            y, x, w in units of about one standard deviation

Missing y and every s are integrated out, with mu = x' beta + z' b, eta = w' gamma + c, r = (y - mu) / sigma:

    observed    log p = log phi(r) - log sigma + log Phi((eta + rho r) / sqrt(1 - rho^2))
    missing     log p = log Phi(-eta)

A missing value is then y = mu + sigma (rho d + sqrt(1 - rho^2) e),  d ~ N(0, 1) given d < -eta,  e ~ N(0, 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from numpy.typing import NDArray
from pymc.distributions.dist_math import normal_lcdf
from scipy.special import log_ndtr, ndtri_exp

from bayesimp import notation as dim
from bayesimp import priors as pr
from bayesimp.models.conditional_normal import ConditionalData
from bayesimp.models.covariance import covariance
from bayesimp.models.joint_normal import fixed_effects
from bayesimp.models.ops import effects

__all__ = ["SelectionData", "draw_missing", "selection_model"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class SelectionData(ConditionalData):
    """The rows where y is observed, and those where it is missing.

    Attributes
    ----------
    observed
        (n,) 1 where y is observed; y is 0 elsewhere.
    """

    observed: Any = None

    def variables(self) -> SelectionData:
        """The same data with PyTensor shared variables instead of arrays."""
        return cast(SelectionData, super().variables())

    def arrays(self) -> dict[str, np.ndarray]:
        """Those of `ConditionalData`, and `observed`."""
        return super().arrays() | {"observed": np.ascontiguousarray(self.observed, dtype=float)}


def selection_model(
    data: SelectionData,
    priors: pr.Priors,
    outcome: Sequence[int],
    rho: float | None = None,
    normal: tuple[Array, Array] | None = None,
) -> pm.Model:
    """The model above.

    Parameters
    ----------
    data
        Arrays or shared variables, on the working scale.
    priors
        Resolved priors of beta, Sigma and Psi.
    outcome
        The columns of X that affect y, in order.
    rho
        The correlation of the errors, if it is known.
    normal
        Q0 (p, p) and t0 (p,), precision and precision times mean of a normal prior of beta that multiplies the one in
        ``priors``; some coefficients may be flat in it.

    Returns
    -------
    pm.Model with beta, gamma, Sigma, Psi, u (b as Deterministic), lam, tau, v (c as Deterministic) and rho.
    """
    q, m = len(data.random), data.clusters
    labels = {
        dim.FIXED: [data.fixed[k] for k in outcome], "selection": data.fixed, dim.RESPONSE: [data.name],
        dim.RESPONSE_2: [data.name], dim.EFFECT: data.random, dim.EFFECT_2: data.random, dim.CLUSTER: range(m),
    }  # fmt: skip
    with pm.Model(coords=labels) as model:
        beta = fixed_effects(priors.beta, len(outcome), 1)
        if normal is not None:
            Q0, t0 = normal
            pm.Potential("beta_normal", t0 @ beta[:, 0] - 0.5 * beta[:, 0] @ Q0 @ beta[:, 0])
        gamma = pm.Normal("gamma", 0, 2.5, dims="selection")
        sigma = pt.sqrt(covariance("Sigma", priors.Sigma, 1, (dim.RESPONSE, dim.RESPONSE_2))[0, 0])
        Psi = covariance("Psi", priors.Psi, q, (dim.EFFECT, dim.EFFECT_2))
        u = pm.Normal("u", 0, 1, dims=(dim.CLUSTER, dim.EFFECT))
        lam = pm.Normal("lam", 0, 1, dims=dim.EFFECT)
        tau = pm.HalfNormal("tau", 1)
        v = pm.Normal("v", 0, 1, dims=dim.CLUSTER)
        rho = pm.Uniform("rho", -1, 1) if rho is None else pm.Data("rho", float(rho))

        b = pm.Deterministic("b", effects(u, Psi), dims=(dim.CLUSTER, dim.EFFECT))
        c = pm.Deterministic("c", b @ lam + tau * v, dims=dim.CLUSTER)
        mu = (data.X[:, list(outcome)] @ beta)[:, 0] + (b[data.cluster] * data.Z).sum(axis=1)
        eta = data.X @ gamma + c[data.cluster]
        r = (data.y - mu) / sigma
        given_y = normal_lcdf(0, 1, (eta + rho * r) / pt.sqrt(1 - rho**2))
        seen = -(r**2) / 2 - 0.5 * np.log(2 * np.pi) - pt.log(sigma) + given_y
        pm.Potential("rows", pt.switch(pt.eq(data.observed, 1), seen, normal_lcdf(0, 1, -eta)).sum())
    return model


def draw_missing(rng: np.random.Generator, mu: Array, eta: Array, sigma: float, rho: float) -> Array:
    """Draw missing values given the parameters (last line of the module docstring).

    Parameters
    ----------
    mu, eta
        (n,) means of y and s. With ``eta = -inf`` the value is missing whatever it is, so d is unrestricted.
    """
    # d = Phi^-1(v Phi(-eta)), on the log scale: Phi(-eta) underflows where nearly every value is observed
    d = ndtri_exp(log_ndtr(-eta) + np.log1p(-rng.random(len(eta))))
    return mu + sigma * (rho * d + np.sqrt(1 - rho**2) * rng.standard_normal(len(eta)))
