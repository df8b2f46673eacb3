"""Gibbs steps of one variable: against integration on a grid, the joint sampler with r = 1, and longhand chains.

Chains are compared by bounded functions of the state (tanh), so that heavy tails have standard errors too.
"""

import numpy as np
import pytest
from scipy.stats import norm

from bayesimp.kernels import conditional_gibbs as cg
from bayesimp.kernels import joint_gibbs
from bayesimp.kernels.effects import moments
from bayesimp.kernels.imputed import incomplete_cells
from bayesimp.kernels.statistics import collect
from bayesimp.samplers.joint_gibbs import covariance_update
from bayesimp.spec import priors as pr
from tests.calibration.montecarlo import LEVEL, REJECTED, batch_means, bonferroni

CHAINS = 4


def table(q, seed=1):
    """Eight clusters of 1 to 8 rows; y is missing in clusters 0 and 7, seen once in 6, and has holes elsewhere."""
    rng = np.random.default_rng(seed)
    sizes = np.array([3, 7, 6, 8, 5, 1, 6, 4])
    codes = np.repeat(np.arange(8), sizes)
    x = rng.normal(size=len(codes))
    X, Z = np.column_stack([np.ones_like(x), x]), np.column_stack([np.ones_like(x), x])[:, :q]
    B = rng.normal(size=(8, q)) * [0.8, 0.5][:q]
    y = X @ [0.2, 0.6] + (Z * B[codes]).sum(1) + 0.7 * rng.normal(size=len(codes))
    y[(codes == 0) | (codes == 7) | (rng.random(len(codes)) < 0.2)] = np.nan
    y[codes == 5] = 0.4
    y[np.flatnonzero(codes == 6)[1:]] = np.nan
    return X, Z, y[:, None], codes, 8


def observed_moments(data):
    """As the caller makes them: rows with y observed, so one pattern."""
    X, Z, Y, codes, clusters = data
    seen = ~np.isnan(Y[:, 0])
    return moments(collect(X[seen], Z[seen], Y[seen], codes[seen], clusters))


def updates_of(priors, q):
    return covariance_update(pr.resolve(priors[0], np.ones(1), "Sigma"), 1), covariance_update(
        pr.resolve(priors[1], np.ones(q), "Psi"), q
    )


def common_chain(data, priors, draws, updates, seed, precision=0.0):
    """Arrays by draw: beta (D, p), B (D, m, q), Sigma (D,), Psi (D, q, q)."""
    q, p = data[1].shape[1], data[0].shape[1]
    m, (prior_Sigma, prior_Psi) = observed_moments(data), updates_of(priors, q)
    rng = np.random.default_rng(seed)
    Sigma, Psi = np.full((1, 1), rng.gamma(2.0)), np.eye(q) * rng.gamma(2.0)
    beta, B = np.full((p, 1), np.nan), np.full((data[4], q, 1), np.nan)
    out = [], [], [], []
    for d in range(draws + draws // 20):
        code = cg.common_step(
            rng, m, updates, prior_Sigma, prior_Psi, precision * np.eye(p), np.zeros(p), Sigma, Psi, beta, B
        )
        assert code == 0
        if d >= draws // 20:
            for store, value in zip(out, (beta[:, 0], B[:, :, 0], Sigma[0, 0], Psi), strict=True):
                store.append(value.copy())
    return tuple(np.array(store) for store in out)


# -- against the joint sampler with r = 1 --------------------------------------------------------------------


def joint_chain(data, priors, draws, thin, seed):
    """beta (D, p), Sigma (D,), Psi (D, q, q), mean of the missing values by cluster (D, m)."""
    X, Z, Y, codes, clusters = data
    p, q = X.shape[1], Z.shape[1]
    statistics = collect(*data)
    shapes = [(p, 1), (1, 1), (q, q), (clusters, 1), (clusters, 1)]
    kept = [np.empty((draws + draws // 20, *shape)) for shape in shapes]
    code = joint_gibbs.gibbs(
        np.random.default_rng(seed), len(kept[0]) * thin, thin, moments(statistics), *updates_of(priors, q),
        np.zeros((p, p)), np.zeros(p), incomplete_cells(statistics), np.zeros((p, 1)), np.eye(1), np.eye(q), *kept,
    )  # fmt: skip
    assert code == 0
    beta, Sigma, Psi, mean = (a[draws // 20 :] for a in kept[:4])
    return beta[:, :, 0], Sigma[:, 0, 0], Psi, mean[:, :, 0]


def imputed_means(rng, data, beta, B, sd):
    """(D, m): mean of y_mis ~ N(X beta + Z B, sd^2) by cluster; sd (D, 1) or (D, m)."""
    X, Z, Y, codes, clusters = data
    lost = np.isnan(Y[:, 0])
    sd = np.broadcast_to(sd, (len(beta), clusters))
    mu = beta @ X[lost].T + np.einsum("jq,djq->dj", Z[lost], B[:, codes[lost]])
    y = mu + sd[:, codes[lost]] * rng.standard_normal(mu.shape)
    out = np.full((len(beta), clusters), np.nan)
    for i in np.unique(codes[lost]):
        out[:, i] = y[:, codes[lost] == i].mean(1)
    return out


def functions(beta, Sigma, Psi, mean):
    """Bounded functions (D, K) of the state; Sigma (D,) or (D, k)."""
    sd = np.sqrt(np.einsum("dkk->dk", Psi))
    parts = [beta, np.log(Sigma).reshape(len(beta), -1), np.log(sd), mean, 2 * mean**2]
    if Psi.shape[1] > 1 and Psi[:, 1, 0].any():
        parts.append((Psi[:, 1, 0] / sd.prod(1))[:, None])
    columns = np.column_stack(parts)
    return np.tanh(columns[:, ~np.isnan(columns).any(0)])


def agreement(a, b) -> float:
    """p-value that two groups of chains (C, D, K) have the same means."""
    (mean_a, se_a), (mean_b, se_b) = batch_means(a), batch_means(b)
    return bonferroni(2 * norm.sf(np.abs(mean_a - mean_b) / np.hypot(se_a, se_b)))


PRIORS = {
    "inverse-Wishart": (pr.InverseWishart(None, 1.0), pr.InverseWishart(None, 1.0)),
    "Huang-Wand": (pr.HuangWand(), pr.HuangWand()),
    "diagonal half-t": (pr.Diagonal(pr.HalfT(nu=3.0)), pr.Diagonal(pr.HalfT(nu=3.0))),
}


def as_functions(data, chain, seed, spoil=None):
    beta, B, Sigma, Psi = chain
    rng = np.random.default_rng([seed, 7])
    used = beta, B, np.sqrt(Sigma)[:, None]
    if spoil == "no parameter draw":
        used = np.broadcast_to(beta.mean(0), beta.shape), B, np.broadcast_to(used[2].mean(), used[2].shape)
    if spoil == "b from the prior":
        L = np.linalg.cholesky(Psi)
        used = beta, np.einsum("dkl,dil->dik", L, rng.standard_normal(B.shape)), used[2]
    return functions(beta, Sigma, Psi, imputed_means(rng, data, *used))


@pytest.mark.parametrize("name", PRIORS)
@pytest.mark.parametrize("q", [1, 2])
def test_common_step_has_the_posterior_of_the_joint_sampler(name, q):
    data, priors = table(q), PRIORS[name]
    ours = [common_chain(data, priors, 1500, 4, seed) for seed in range(CHAINS)]
    theirs = np.array([functions(*joint_chain(data, priors, 6000, 2, 90 + c)) for c in range(CHAINS)])
    right = np.array([as_functions(data, chain, c) for c, chain in enumerate(ours)])
    assert agreement(right, theirs) > LEVEL
    for spoil in ("no parameter draw", "b from the prior"):
        wrong = np.array([as_functions(data, chain, c, spoil) for c, chain in enumerate(ours)])
        assert agreement(wrong, theirs) < REJECTED, spoil
