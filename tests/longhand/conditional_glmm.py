"""The conditional generalised linear mixed model row by row, with SciPy's distributions.

eta = X beta + Z b_i,   b_i ~ N(0, Psi);   densities of beta, u (b_i = L u_i), Psi, shape and cutpoints with it
"""

import numpy as np
from scipy import stats
from scipy.special import expit, ndtr

from tests.longhand import yeo_johnson
from tests.longhand.joint_normal_rows import log_prior


def log_posterior(
    data,
    beta,
    b,
    Psi,
    prior,
    variation=None,
    increments=None,
    spread=None,
    excess=None,
    zi=None,
    hu=None,
    half_lambda=None,
) -> float:
    """Of beta, u, Psi (as `log_prior` has it), 1/sqrt(shape) and the increments, constants included."""
    value = sum(
        log_likelihood(
            data,
            beta,
            b,
            shape=variation and variation**-2,
            increments=increments,
            spread=spread,
            excess=excess,
            zi=zi,
            hu=hu,
            half_lambda=half_lambda,
        )
    )
    # u and not b is free: the density of b times |L| per cluster
    normal = stats.multivariate_normal(np.zeros(len(Psi)), Psi)
    value += normal.logpdf(b).sum() + len(b) * 0.5 * np.linalg.slogdet(Psi)[1]
    if hasattr(prior.beta, "sd"):
        value += stats.norm(prior.beta.mean, prior.beta.sd).logpdf(beta).sum()
    if variation is not None:
        value += np.log(2) + stats.t(3).logpdf(variation)
    if spread is not None:
        value += np.log(2) + stats.t(3).logpdf(spread)
    if excess is not None:
        value += stats.gamma(2, scale=10).logpdf(excess)
    if half_lambda is not None:
        value += stats.beta(2, 2).logpdf(half_lambda)
    value += sum(stats.beta(1, 1).logpdf(p) for p in (zi, hu) if p is not None)
    if increments is not None:
        value += stats.expon.logpdf(increments).sum()
    return value + log_prior(Psi, prior.Psi)


def log_likelihood(
    data, beta, b, shape=None, increments=None, spread=None, excess=None, zi=None, hu=None, half_lambda=None
) -> list[float]:
    """By row."""
    q = data.Z.shape[1]
    out = []
    for j, (x, z, i, y) in enumerate(zip(data.X, data.Z, data.cluster, data.y, strict=True)):
        eta = [x @ beta[:, k] + z @ b[i, k * q : (k + 1) * q] for k in range(beta.shape[1])]
        p = ndtr(eta[0]) if data.link == "probit" else expit(eta[0])
        mu = np.exp(eta[0])
        match data.family:
            case "bernoulli":
                law = stats.bernoulli(p)
            case "binomial":
                law = stats.binom(data.trials[j], p)
            case "poisson":
                law = stats.poisson(mu)
            case "negative_binomial":
                law = stats.nbinom(shape, shape / (shape + mu))
            case "gamma":
                law = stats.gamma(shape, scale=mu / shape)
            case "inverse_gaussian":
                law = stats.invgauss(mu / shape, scale=shape)
            case "beta":
                law = stats.beta(shape * p, shape * (1 - p))
            case "zero_inflated_poisson" | "zero_inflated_negative_binomial":
                poisson = data.family == "zero_inflated_poisson"
                law = stats.poisson(mu) if poisson else stats.nbinom(shape, shape / (shape + mu))
                out.append(np.log(zi * (y == 0) + (1 - zi) * law.pmf(y)))
                continue
            case "hurdle_poisson" | "hurdle_negative_binomial":
                poisson = data.family == "hurdle_poisson"
                law = stats.poisson(mu) if poisson else stats.nbinom(shape, shape / (shape + mu))
                out.append(np.log(hu) if y == 0 else np.log((1 - hu) * law.pmf(y) / law.sf(0)))
                continue
            case "lognormal":
                law = stats.lognorm(spread, scale=mu)
            case "student":
                law = stats.t(2 + excess, eta[0], spread)
            case "yeo_johnson":
                out.append(yeo_johnson.log_density(y, eta[0], spread, 2 * half_lambda))
                continue
            case "ordinal":
                cutpoints = np.r_[-np.inf, 0, np.cumsum(increments), np.inf]
                law = stats.rv_discrete(values=(range(data.levels), np.diff(expit(cutpoints - eta[0]))))
            case "categorical":
                weights = np.exp([0.0, *eta])
                law = stats.rv_discrete(values=(range(data.levels), weights / weights.sum()))
        continuous = "gamma", "inverse_gaussian", "lognormal", "beta", "student"
        out.append(law.logpdf(y) if data.family in continuous else law.logpmf(y))
    return out
