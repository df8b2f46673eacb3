"""The joint normal model written out row by row, in NumPy and SciPy only; slow, but easy to check.

    Y_i = X_i beta + Z_i B_i + E_i,   rows of E_i ~ N(0, Sigma),   vec(B_i) ~ N(0, Psi)
    Sigma, Psi ~ prior,   beta ~ flat or normal

Cluster by cluster the observed values are multivariate normal: mean vec(X_i beta), covariance
kron(Sigma, I) + (I kron Z_i) Psi (I kron Z_i)', rows and columns of missing values deleted.
"""

import numpy as np
from scipy import stats
from scipy.integrate import quad
from scipy.special import gammaln

from bayesimp import priors


def log_posterior(X, Z, Y, codes, beta, Sigma, Psi, prior: priors.Priors) -> float:
    """log p(y_obs | beta, Sigma, Psi) + log p(beta) + log p(Sigma) + log p(Psi), priors resolved."""
    value = sum(log_likelihood(X, Z, Y, codes, beta, Sigma, Psi))
    if isinstance(prior.beta, priors.Normal):
        value += stats.norm(prior.beta.mean, prior.beta.sd).logpdf(beta).sum()
    return value + log_prior(Sigma, prior.Sigma) + log_prior(Psi, prior.Psi)


def log_likelihood(X, Z, Y, codes, beta, Sigma, Psi) -> list[float]:
    """By cluster."""
    r = Y.shape[1]
    out = []
    for i in np.unique(codes):
        x, z, y = X[codes == i], Z[codes == i], Y[codes == i].ravel(order="F")
        blocks = np.kron(np.eye(r), z)
        covariance = np.kron(Sigma, np.eye(len(x))) + blocks @ Psi @ blocks.T
        seen = ~np.isnan(y)
        if seen.any():
            normal = stats.multivariate_normal(
                (x @ beta).ravel(order="F")[seen], covariance[np.ix_(seen, seen)]
            )
            out.append(normal.logpdf(y[seen]))
        else:
            out.append(0.0)
    return out


def log_prior(S, prior) -> float:
    """Density of S; of its standard deviations (its variances, under an inverse-Wishart) for Diagonal."""
    s = np.sqrt(np.diag(S))
    match prior:
        case priors.InverseWishart(nu, V):
            return stats.invwishart(nu, np.linalg.inv(V)).logpdf(S)
        case priors.HuangWand():
            return _huang_wand(S, prior.nu, prior.scale)
        case priors.LKJ(eta, sd):
            # change of variables (s, R) -> S: 2^d prod_k s_k^d
            R = S / np.outer(s, s)
            return _lkj(R, eta) + _sd(sd, s) - len(s) * np.log(2) - len(s) * np.log(s).sum()
        case priors.Diagonal(priors.InverseWishart(nu, V)):
            return stats.invgamma(nu / 2, scale=1 / (2 * np.asarray(V))).logpdf(s**2).sum()
        case priors.Diagonal(sd):
            return _sd(sd, s)
        case priors.Fixed():
            return 0.0
    raise TypeError(prior)


def _sd(prior, s):
    match prior:
        case priors.HalfT():
            return (np.log(2) + stats.t(prior.nu, scale=prior.scale).logpdf(s)).sum()
        case priors.HalfNormal():
            return stats.halfnorm(scale=prior.scale).logpdf(s).sum()
        case priors.Exponential():
            return stats.expon(scale=prior.scale).logpdf(s).sum()


def _huang_wand(S, nu, scale):
    """By quadrature over the latent a_k = e^t: p(S | a) is a product over k, except for |S|."""
    K, n = np.linalg.inv(S), nu + len(S) - 1
    value = stats.invwishart(n, np.eye(len(S))).logpdf(S) + 0.5 * np.trace(K)
    for k, c in enumerate(scale):
        centre = np.log(nu * K[k, k] + c**-2)

        def integrand(t, k=k, c=c):
            log_p = n / 2 * (np.log(2 * nu) - t) - nu * K[k, k] * np.exp(-t)
            inverse_gamma = -np.log(c) - gammaln(0.5) - 1.5 * t - c**-2 * np.exp(-t)  # of a_k, (1/2, c^-2)
            return np.exp(log_p + t + inverse_gamma)

        value += np.log(quad(integrand, centre - 8, centre + 40, limit=400, epsabs=0, epsrel=1e-12)[0])
    return value


def _lkj(R, eta):
    """Lewandowski et al. 2009: partial correlations of the vine are independent Beta on (-1, 1)."""
    d = len(R)
    k = np.arange(1, d)
    log_c = -(k / 2 * np.log(np.pi) + gammaln(eta + (d - 1 - k) / 2) - gammaln(eta + (d - 1) / 2)).sum()
    return log_c + (eta - 1) * np.linalg.slogdet(R)[1]
