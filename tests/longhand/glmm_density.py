"""Log-likelihood of rows of generalised linear models, written out."""

import numpy as np
from scipy import stats
from scipy.special import expit, gammaln, log_expit, log_ndtr, log_softmax, xlogy

from bayesimp.kernels.families import scalar as f
from bayesimp.kernels.families.codes import (
    HURDLE_NEGATIVE_BINOMIAL,
    HURDLE_POISSON,
    STUDENT,
    YEO_JOHNSON,
    ZERO_INFLATED_NEGATIVE_BINOMIAL,
    ZERO_INFLATED_POISSON,
)
from bayesimp.kernels.families.responses import CATEGORICAL, ORDINAL
from tests.longhand import yeo_johnson

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
    if family in (f.LOGIT, f.PROBIT):
        choose = gammaln(trials + 1) - gammaln(y + 1) - gammaln(trials - y + 1)
        low, high = (
            (log_expit(-eta), log_expit(eta)) if family == f.LOGIT else (log_ndtr(-eta), log_ndtr(eta))
        )
        return choose + xlogy(y, np.exp(high)) + xlogy(trials - y, np.exp(low))
    if family == STUDENT:
        return stats.t.logpdf(y, aux[1], eta, aux[0])
    if family == YEO_JOHNSON:
        return yeo_johnson.log_density(y, eta, aux[0], aux[1])
    if family == f.BETA:
        return stats.beta.logpdf(y, aux[0] * expit(eta), aux[0] * expit(-eta))
    mu = np.exp(eta)
    if family in (ZERO_INFLATED_POISSON, ZERO_INFLATED_NEGATIVE_BINOMIAL):
        law = (
            stats.poisson(mu)
            if family == ZERO_INFLATED_POISSON
            else stats.nbinom(aux[0], aux[0] / (aux[0] + mu))
        )
        return np.log(aux[-1] * (np.asarray(y) == 0) + (1 - aux[-1]) * law.pmf(y))
    if family in (HURDLE_POISSON, HURDLE_NEGATIVE_BINOMIAL):
        law = stats.poisson(mu) if family == HURDLE_POISSON else stats.nbinom(aux[0], aux[0] / (aux[0] + mu))
        hu = aux[-1]
        return np.where(np.asarray(y) == 0, np.log(hu), np.log1p(-hu) + law.logpmf(y) - np.log(law.sf(0)))
    if family == f.POISSON:
        return y * eta - mu - gammaln(y + 1)
    k = aux[0]
    if family == f.NEGATIVE_BINOMIAL:
        choose = gammaln(y + k) - gammaln(k) - gammaln(y + 1)
        return choose + xlogy(k, k / (k + mu)) + xlogy(y, mu / (k + mu))
    if family == f.LOGNORMAL:
        return stats.lognorm.logpdf(y, k**-0.5, scale=mu)
    if family == f.GAMMA:
        return k * np.log(k / mu) - gammaln(k) + (k - 1) * np.log(y) - k * y / mu
    return 0.5 * np.log(k / (2 * np.pi * y**3)) - k * (y - mu) ** 2 / (2 * mu**2 * y)
