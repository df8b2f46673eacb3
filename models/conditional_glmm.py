"""Conditional generalised linear mixed model of one incomplete variable given all others (Jolani 2025, sec. 2).

    eta_j = x_j' beta + z_j' b_i,      b_i ~ N(0, Psi),      row j in cluster i = 1..m

    bernoulli          P(y = 1) = h(eta)                  h logistic, or Phi (link probit)
    binomial           y ~ Binomial(trials, h(eta))
    poisson            y ~ Poisson(mu),                   mu = e^eta here and below
    negative_binomial  y ~ NB(mu, k),      var y = mu + mu^2 / k
    zero_inflated_..   y = 0 with probability zi, else as without
    hurdle_..          y = 0 with probability hu, else as without, given y > 0
    gamma              y ~ Gamma(k, k / mu),      var y = mu^2 / k
    inverse_gaussian   y ~ IG(mu, k),      var y = mu^3 / k
    lognormal          log y ~ N(eta, sigma^2)
    beta               y ~ Beta(k h(eta), k (1 - h(eta))),   h logistic;   var y = h (1 - h) / (1 + k)
    student            y ~ t_nu(eta, sigma),             y minus its mean, divided by its standard deviation
    yeo_johnson        psi(y) ~ N(eta, sigma^2),         likewise; psi: families/transformed.py
    ordinal            P(y <= l) = logistic(c_l - eta),   c_0 = 0, c_l = c_(l-1) + increment_l;   y = 0..K-1
    categorical        P(y = l) ~ e^eta_l,                eta_0 = 0, eta_1..eta_(K-1) each with its own effects

    beta ~ flat or normal          (p, r)      r = K - 1 predictors in the categorical model, 1 elsewhere
    Psi ~ prior                    (r q, r q), effect k*q + l: column l of Z on predictor k
    1 / sqrt(k) ~ half-t(3, 1)     roughly the coefficient of variation of gamma variables
    increments ~ exponential(1)
    sigma ~ half-t(3, 1),  nu - 2 ~ Gamma(2, 1/10),  lambda / 2 ~ Beta(2, 2),  zi, hu ~ Beta(1, 1)

b_i = L u_i with L L' = Psi and u_i ~ N(0, I) (non-centred), since Psi may be near zero, and clusters small or empty.
"""

from __future__ import annotations

import numpy as np
import pymc as pm

from bayesimp import notation as dim
from bayesimp import priors as pr
from bayesimp.errors import SpecificationError
from bayesimp.families.registry import FAMILIES
from bayesimp.models.conditional_normal import ConditionalData
from bayesimp.models.covariance import covariance
from bayesimp.models.joint_normal import fixed_effects
from bayesimp.models.ops import effects

__all__ = ["WEAK", "conditional_glmm"]

WEAK = pr.Priors(beta=pr.Normal(0.0, 2.5), name="weak")  # proper, so that separated data have a posterior


def conditional_glmm(data: ConditionalData, priors: pr.Priors | None = None) -> pm.Model:
    """The model above, in the form that `methods.PyMC(model=...)` accepts.

    Parameters
    ----------
    data
        `family`, `link`, `levels` and `trials` select the model; y is 0 and 1, counts, positive numbers,
        proportions or 0..levels-1.
    priors
        Priors of beta and Psi on the scale of eta (Sigma is not used); ``times_sd`` is a multiple of 1. Default: `WEAK`.

    Returns
    -------
    pm.Model with beta, Psi, u; b, and shape or cutpoints, as Deterministic.
    """
    priors = WEAK if priors is None else priors
    p, q, m = len(data.fixed), len(data.random), data.clusters
    family = FAMILIES.get(data.family)
    if family is None or family.response is None or data.link not in family.links:
        raise SpecificationError(
            f"'{data.name}': there is no model for family {data.family!r} with link {data.link!r}."
        )
    r = family.predictors(data.levels)
    labels = {
        dim.FIXED: data.fixed, dim.RESPONSE: range(r), dim.EFFECT: range(r * q), dim.EFFECT_2: range(r * q),
        dim.CLUSTER: range(m),
    }  # fmt: skip
    with pm.Model(coords=labels) as model:
        beta = fixed_effects(priors.beta, p, r)
        eta = data.X @ beta
        if q:
            prior = pr.resolve(priors.Psi, np.ones(r * q), "Psi")
            Psi = covariance("Psi", prior, r * q, (dim.EFFECT, dim.EFFECT_2))
            u = pm.Normal("u", 0, 1, dims=(dim.CLUSTER, dim.EFFECT))
            b = pm.Deterministic("b", effects(u, Psi), dims=(dim.CLUSTER, dim.EFFECT))
            eta += (b[data.cluster].reshape((-1, r, q)) * data.Z[:, None, :]).sum(axis=2)
        family.response(data, eta)
    return model
