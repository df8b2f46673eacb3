"""Log-likelihood of rows of generalised linear models, by SciPy's distributions."""

import numpy as np
from scipy import stats
from scipy.special import expit, log_softmax

from bayesimp.kernels import families as f
from bayesimp.kernels.glmm_responses import CATEGORICAL, ORDINAL

__all__ = ["log_likelihood"]


def log_likelihood(family, y, trials, eta, aux):
    """log p(y_j | eta_j, aux) for y (n,), eta (n, r)."""
    if family == CATEGORICAL:
        full = np.column_stack([np.zeros(len(y)), eta])
        return log_softmax(full, axis=1)[np.arange(len(y)), y.astype(int)]
    eta = eta[:, 0]
    if family == ORDINAL:
        cuts = np.concatenate([[-np.inf, 0.0], np.cumsum(aux), [np.inf]])
        upper, lower = cuts[y.astype(int) + 1], cuts[y.astype(int)]
        # the difference of two distribution functions in whichever tail is not near one
        high = lower - eta > 0
        return np.log(
            np.where(high, expit(eta - lower) - expit(eta - upper), expit(upper - eta) - expit(lower - eta))
        )
    if family == f.LOGIT:
        return stats.binom(trials, expit(eta)).logpmf(y)
    if family == f.PROBIT:
        return stats.binom(trials, stats.norm.cdf(eta)).logpmf(y)
    mu = np.exp(eta)
    if family == f.POISSON:
        return stats.poisson(mu).logpmf(y)
    if family == f.NEGATIVE_BINOMIAL:
        return stats.nbinom(aux[0], aux[0] / (aux[0] + mu)).logpmf(y)
    if family == f.GAMMA:
        return stats.gamma(aux[0], scale=mu / aux[0]).logpdf(y)
    return stats.invgauss(mu / aux[0], scale=aux[0]).logpdf(y)
