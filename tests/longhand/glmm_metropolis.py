"""Random-walk Metropolis for a generalised linear mixed model with random intercepts, many chains side by side.

    beta (p, r) ~ N(0, sd^2) each,   b_ik ~ N(0, psi_k), k = 1..r independent,   1 / psi_k ~ Gamma(nu/2, rate s/2)

No derivatives and no conditional modes: one proposal for beta, one per cluster for the b_i, psi from its conditional.
"""

import numpy as np

__all__ = ["sample"]


def sample(
    rng, log_density, X, codes, m, r, sd, nu, s, chains=100, tune=1500, draws=1500, step_beta=0.12, step_b=0.8
):
    """beta (chains, draws, p, r), psi (chains, draws, r), b (chains, draws, m, r).

    log_density: (chains, n, r) linear predictors -> (chains, n) log p(y_j | eta_j).
    """
    p = X.shape[1]
    beta, b, psi = np.zeros((chains, p, r)), np.zeros((chains, m, r)), np.ones((chains, r))
    kept = [np.empty((chains, draws, *a.shape[1:])) for a in (beta, psi, b)]
    now = log_density(X @ beta + b[:, codes])
    by_cluster = np.zeros((len(codes), m))
    by_cluster[np.arange(len(codes)), codes] = 1
    for t in range(tune + draws):
        moved = beta + step_beta * rng.standard_normal(beta.shape)
        then = log_density(X @ moved + b[:, codes])
        ratio = (then - now).sum(1) - 0.5 * ((moved**2 - beta**2) / sd**2).sum((1, 2))
        yes = np.log(rng.random(chains)) < ratio
        beta[yes], now[yes] = moved[yes], then[yes]

        moved = b + step_b * np.sqrt(psi)[:, None] * rng.standard_normal(b.shape)
        then = log_density(X @ beta + moved[:, codes])
        ratio = (then - now) @ by_cluster - 0.5 * ((moved**2 - b**2) / psi[:, None]).sum(2)
        yes = np.log(rng.random((chains, m))) < ratio
        b[yes] = moved[yes]
        now = np.where(yes[:, codes], then, now)

        # beta_0 + delta, b - delta: the likelihood stays
        delta = 0.3 * rng.standard_normal((chains, r))
        ratio = -0.5 * (((beta[:, 0] + delta) ** 2 - beta[:, 0] ** 2) / sd**2).sum(1)
        ratio -= 0.5 * (((b - delta[:, None]) ** 2 - b**2) / psi[:, None]).sum((1, 2))
        yes = np.log(rng.random(chains)) < ratio
        beta[yes, 0] += delta[yes]
        b[yes] -= delta[yes, None]

        psi = 0.5 * (s + (b**2).sum(1)) / rng.gamma(0.5 * (nu + m), size=(chains, r))
        if t >= tune:
            for store, value in zip(kept, (beta, psi, b), strict=True):
                store[:, t - tune] = value
    return kept
