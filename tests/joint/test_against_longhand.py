"""The sampler against a textbook Gibbs sampler on rows, in Monte Carlo standard errors."""

import numpy as np
import pytest
from scipy.stats import t as student

from bayesimp import priors as pr
from tests.calibration.montecarlo import LEVEL, REJECTED, batch_means, bonferroni
from tests.fcs.driven import drive, table
from tests.longhand import joint_normal_gibbs

TABLE = table(seed=1, clusters=8, rows=6, r=2, q=2)
NU, V = (4.0, 6.0), (0.5 * np.eye(2), 0.5 * np.eye(4) + 0.1)
PRIORS = pr.Priors(pr.InverseWishart(NU[0], V[0]), pr.InverseWishart(NU[1], V[1]))
ITERATIONS, BURN = 2200, 200


@pytest.fixture(scope="module")
def longhand():
    """One chain, as chains (1, D, ...): beta, Sigma, Psi, mean of the missing values by cluster."""
    t = TABLE
    draws = joint_normal_gibbs.sample(t.X, t.Z, t.Y, t.codes, NU, V, ITERATIONS, seed=7)
    beta, Sigma, Psi, values = (d[None, BURN:] for d in draws)
    return summaries(beta, Sigma, Psi, cluster_means(values))


def cluster_means(values):
    lost = np.isnan(TABLE.Y)
    means = []
    for i in range(TABLE.clusters):
        for k in range(2):
            rows = (TABLE.codes == i) & lost[:, k]
            if rows.any():
                means.append(values[:, :, rows, k].mean(-1))
    return np.stack(means, axis=-1)


def summaries(beta, Sigma, Psi, means):
    """(C, D, K): parameters, logarithms of variances, correlations, imputed means."""
    r, q = np.tril_indices(2, -1), np.tril_indices(4, -1)
    parts = [beta.reshape(*beta.shape[:2], -1), means]
    for S, lower in ((Sigma, r), (Psi, q)):
        sd = np.sqrt(np.diagonal(S, axis1=2, axis2=3))
        parts += [np.log(sd), (S / (sd[..., None] * sd[..., None, :]))[..., lower[0], lower[1]]]
    return np.concatenate(parts, axis=-1)


def ours(priors):
    draws, _ = drive(TABLE, priors, chains=4, draws=10_000, tune=500)
    means = np.stack([
        draws.mean[:, :, i, k] for i in range(TABLE.clusters) for k in range(2)
        if np.isnan(TABLE.Y[TABLE.codes == i, k]).any()
    ], axis=-1)  # fmt: skip
    return summaries(draws.beta, draws.Sigma, draws.Psi, means)


def compare(a, b) -> float:
    """Means, second moments, shares below the quartiles of b; 20 batches, so Student t."""
    centre, spread = b.mean((0, 1)), b.std((0, 1))
    quartiles = np.quantile(b, [0.25, 0.75], axis=(0, 1))

    def functions(x):
        z = (x - centre) / spread
        return np.concatenate([z, z**2, *(x < quartile for quartile in quartiles)], axis=-1)

    (x, se), (y, se_b) = batch_means(functions(a)), batch_means(functions(b))
    return bonferroni(2 * student.sf(np.abs(x - y) / np.hypot(se, se_b), 19))


def test_two_implementations_agree(longhand):
    assert compare(ours(PRIORS), longhand) > LEVEL


def test_another_prior_is_noticed(longhand):
    """Psi has r q more degrees of freedom."""
    other = pr.Priors(PRIORS.Sigma, pr.InverseWishart(NU[1] + 4, V[1]))
    assert compare(ours(other), longhand) < REJECTED
