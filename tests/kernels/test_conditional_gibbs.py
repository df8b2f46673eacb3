"""Gibbs steps of one variable: against integration on a grid, the joint sampler with r = 1, and longhand chains.

Chains are compared by bounded functions of the state (tanh), so that heavy tails have standard errors too.
"""

import numpy as np
import pytest
from scipy.stats import norm, t

from bayesimp import priors as pr
from bayesimp.kernels.chained import gibbs as cg
from bayesimp.kernels.normal import gibbs as joint_gibbs
from bayesimp.kernels.normal.effects import moments
from bayesimp.kernels.normal.imputed import incomplete_cells
from bayesimp.kernels.normal.statistics import collect
from bayesimp.priors.gibbs import covariance_update
from tests.calibration.montecarlo import LEVEL, REJECTED, batch_means, bonferroni
from tests.longhand import cluster_variances_gibbs

CHAINS = 4
NONE = np.empty(0, np.int64)  # no coefficient may be held


def table(q, seed=1):
    """Eight clusters of 1 to 8 rows; y is missing in clusters 0 and 7, seen once in 6, and partly missing elsewhere."""
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
            rng,
            m,
            updates,
            prior_Sigma,
            prior_Psi,
            precision * np.eye(p),
            np.zeros(p),
            Sigma,
            Psi,
            beta,
            B,
            NONE,
        )
        assert code == 0
        if d >= draws // 20:
            for store, value in zip(out, (beta[:, 0], B[:, :, 0], Sigma[0, 0], Psi), strict=True):
                store.append(value.copy())
    return tuple(np.array(store) for store in out)


# -- against the joint sampler with r = 1 --------------------------------------------------------------------


def joint_chain(data, priors, draws, thin, seed):
    """beta (D, p), Sigma (D,), Psi (D, q, q), mean of the missing values by cluster (D, m)."""
    p, q, clusters = data[0].shape[1], data[1].shape[1], data[4]
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


def agreement(a, b, batches=20) -> float:
    """p-value that two groups of chains (C, D, K) have the same means; b has `batches` batches a chain."""
    (mean_a, se_a), (mean_b, se_b) = batch_means(a), batch_means(b, batches)
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


# -- a residual variance for every cluster, against a longhand sampler ---------------------------------------

VARIANCES = cg.VariancesPrior(scale=1.0, nu=3.0, spread=0.7)


def cluster_chain(data, prior_Psi, draws, updates, seed, precision=0.0, variances=VARIANCES):
    """beta (D, p), B (D, m, q), sigma2 (D, m), Psi (D, q, q), s0_a (D, 2)."""
    p, q, clusters = data[0].shape[1], data[1].shape[1], data[4]
    m, prior_Psi = cg.moments_by_cluster(collect(*data)), updates_of((pr.Fixed([[1.0]]), prior_Psi), q)[1]
    rng = np.random.default_rng(seed)
    sigma2, s0_a, Psi = rng.gamma(2.0, size=clusters), np.array([1.0, 5.0]), np.eye(q) * rng.gamma(2.0)
    beta, B = np.full((p, 1), np.nan), np.full((clusters, q, 1), np.nan)
    Q0, t0 = precision * np.eye(p), np.zeros(p)
    out = [], [], [], [], []
    for d in range(draws + draws // 20):
        assert (
            cg.cluster_step(rng, m, updates, prior_Psi, variances, Q0, t0, sigma2, s0_a, Psi, beta, B, NONE)
            == 0
        )
        if d >= draws // 20:
            for store, value in zip(out, (beta[:, 0], B[:, :, 0], sigma2, Psi, s0_a), strict=True):
                store.append(value.copy())
    return tuple(np.array(store) for store in out)


def cluster_functions(data, beta, B, sigma2, Psi, s0_a, seed, spoil=None):
    rng = np.random.default_rng([seed, 7])
    used = sigma2
    if spoil == "sigma from the population law":
        a, s0 = s0_a[:, 1:], s0_a[:, :1]
        used = 0.5 * a * s0 / rng.gamma(0.5 * a, size=sigma2.shape)
    mean = imputed_means(rng, data, beta, B, np.sqrt(used))
    return np.column_stack([functions(beta, used, Psi, mean), np.tanh(np.log(s0_a) - [0, 2])])


@pytest.mark.parametrize("q", [1, 2])
def test_cluster_step_has_the_posterior_of_a_longhand_sampler(q):
    X, Z, Y, codes, clusters = data = uneven(table(q))
    seen = ~np.isnan(Y[:, 0])
    theirs = cluster_variances_gibbs.sample(
        X[seen], Z[seen], Y[seen, 0], codes[seen], clusters, VARIANCES, chains=120, iterations=800, seed=3
    )
    theirs = [a[:, 200:] for a in theirs]
    theirs = np.array(
        [
            cluster_functions(data, b, B, s, P, h, c)
            for c, (b, B, P, s, h) in enumerate(zip(*theirs, strict=True))
        ]
    )
    prior = pr.InverseWishart(float(q), 1.0)
    ours = [cluster_chain(data, prior, 2000, 4, seed) for seed in range(CHAINS)]
    right = np.array([cluster_functions(data, *chain, c) for c, chain in enumerate(ours)])
    assert agreement(right, theirs, batches=1) > LEVEL
    spoil = "sigma from the population law"
    wrong = np.array([cluster_functions(data, *chain, c, spoil) for c, chain in enumerate(ours)])
    assert agreement(wrong, theirs, batches=1) < REJECTED


def uneven(data):
    """The residuals of one cluster times 4, of another divided by 4."""
    X, Z, Y, codes, clusters = data
    Y = Y.copy()
    for i, factor in ((1, 4.0), (3, 0.25)):
        Y[codes == i] = np.nanmean(Y[codes == i]) + factor * (Y[codes == i] - np.nanmean(Y[codes == i]))
    return X, Z, Y, codes, clusters


# -- a tiny table, by brute force ----------------------------------------------------------------------------
# y = beta + b_i + e in three clusters of 3, 1 and 0 rows: given the variances all is normal, and these are
# integrated over nodes: a grid (one residual variance) or draws from the prior (one a cluster).

TINY = np.array([0.3, 1.9, 1.2, -0.8]), np.array([0, 0, 0, 1]), 3
BETA_PRECISION = 0.5
CUTS = np.array([-0.7, 0.0, 0.5, 1.3])


def tiny_exact(log_prior, s, Psi):
    """Mean and variance (K, F) of the functions of `tiny_functions`, and weights (K,) of nodes s (K, 3), Psi (K,)."""
    y, codes, m = TINY
    n = np.bincount(codes, minlength=m)
    mean = np.bincount(codes, y, m) / np.maximum(n, 1)
    within = np.bincount(codes, (y - mean[codes]) ** 2, m)
    total = s + n * Psi[:, None]
    w = n / total
    Q = BETA_PRECISION + w.sum(1)
    beta = (w @ mean) / Q
    logdet = (np.maximum(n - 1, 0) * np.log(s) + np.where(n > 0, np.log(total), 0)).sum(1)
    quadratic = (within / s).sum(1) + w @ mean**2 - Q * beta**2
    log_weight = log_prior - 0.5 * (logdet + quadratic + np.log(Q))
    weight = np.exp(log_weight - log_weight.max())
    k = w * Psi[:, None]  # shrinkage: b_i | beta ~ N(k (mean - beta), k s / n), N(0, Psi) without rows
    v = Psi[:, None] * s / total
    locations = [beta, *(beta + (k * (mean - beta[:, None])).T[i] for i in range(m))]
    variances = [1 / Q, *(((1 - k) ** 2 / Q[:, None] + v + s).T)]
    return weight / weight.sum(), np.array(locations).T, np.array(variances).T


def tiny_expectations(weight, location, variance, s, Psi):
    """P(beta < c), P(a new value in cluster i < c), P(variances < e^c), and their standard errors as Monte Carlo."""
    normal = norm.cdf((CUTS - location[:, :, None]) / np.sqrt(variance)[:, :, None]).reshape(len(weight), -1)
    below = np.log(np.column_stack([s, Psi]))[:, :, None] < 2 * CUTS
    f = np.hstack([normal, below.reshape(len(weight), -1)])
    mean = weight @ f
    return mean, np.sqrt(weight**2 @ (f - mean) ** 2)


def tiny_functions(chain, seed):
    beta, B, s, Psi = chain[:4]
    s = np.broadcast_to(s.reshape(len(s), -1), B.shape[:2])
    y = beta + B[:, :, 0] + np.sqrt(s) * np.random.default_rng([seed, 1]).standard_normal(s.shape)
    below = np.column_stack([beta, y])[:, :, None] < CUTS
    small = np.log(np.column_stack([s, Psi[:, 0, 0]]))[:, :, None] < 2 * CUTS
    return np.hstack([below.reshape(len(beta), -1), small.reshape(len(beta), -1)]).astype(float)


def tiny_agreement(chains, expected, error) -> float:
    mean, se = batch_means(np.array([tiny_functions(chain, c) for c, chain in enumerate(chains)]))
    return bonferroni(2 * norm.sf(np.abs(mean - expected) / np.hypot(se, error)))


def tiny_table():
    y, codes, m = TINY
    return np.ones((4, 1)), np.ones((4, 1)), y[:, None], codes, m


def without_empty(chain):
    """b of the last cluster, which has no rows, is omitted."""
    beta, B, *rest = chain
    return beta, B * [[[1.0], [1.0], [0.0]]], *rest


def test_common_step_against_a_grid():
    log_sd = np.linspace(-7, 7, 561)
    log_sigma, log_psi = (g.ravel() for g in np.meshgrid(log_sd, log_sd, indexing="ij"))
    log_prior = sum(t.logpdf(np.exp(g), 2) + g for g in (log_sigma, log_psi))  # half-t(2) sds
    s, Psi = np.repeat(np.exp(2 * log_sigma)[:, None], 3, axis=1), np.exp(2 * log_psi)
    expected, _ = tiny_expectations(*tiny_exact(log_prior, s, Psi), s, Psi)
    priors = PRIORS["Huang-Wand"]
    chains = [common_chain(tiny_table(), priors, 4000, 3, seed, BETA_PRECISION) for seed in range(CHAINS)]
    assert tiny_agreement(chains, expected, 1e-4) > LEVEL
    assert tiny_agreement([without_empty(chain) for chain in chains], expected, 1e-4) < REJECTED


def test_cluster_step_against_draws_from_the_prior():
    rng, K = np.random.default_rng(8), 400_000
    s0 = (VARIANCES.scale * rng.standard_t(VARIANCES.nu, K)) ** 2
    a = 2 / (VARIANCES.spread * rng.standard_normal(K)) ** 2
    with np.errstate(all="ignore"):
        s = (0.5 * a * s0)[:, None] / rng.gamma(0.5 * a[:, None], size=(K, 3))
    Psi = rng.standard_t(2, K) ** 2
    fine = (s > 0).all(1) & (s < 1e200).all(1)
    assert fine.mean() > 0.9999
    s, Psi = s[fine], Psi[fine]
    expected, error = tiny_expectations(*tiny_exact(0.0, s, Psi), s, Psi)
    chains = [cluster_chain(tiny_table(), pr.HuangWand(), 4000, 3, c, BETA_PRECISION) for c in range(CHAINS)]
    assert tiny_agreement(chains, expected, error) > LEVEL
    assert tiny_agreement([without_empty(chain) for chain in chains], expected, error) < REJECTED


# -- the rest ------------------------------------------------------------------------------------------------


def test_moments_by_cluster_add_up_to_those_of_the_table():
    data = table(2)
    ours, whole = cg.moments_by_cluster(collect(*data)), observed_moments(data)
    for name in ("XX", "XY", "YY"):
        np.testing.assert_allclose(getattr(ours, name).sum(0), getattr(whole, name)[0], rtol=1e-12)
    np.testing.assert_array_equal(ours.ZX, whole.ZX)
    np.testing.assert_array_equal(ours.first, whole.first)
    np.testing.assert_array_equal(ours.pattern_rows, np.bincount(data[3], ~np.isnan(data[2][:, 0]), 8))


@pytest.mark.parametrize("what,code", [("Sigma", 1), ("X", 3), ("Psi", 4)])
def test_what_fails_is_told(what, code):
    X, Z, Y, codes, clusters = table(1)
    X = np.zeros_like(X) if what == "X" else X
    m, (prior_Sigma, prior_Psi) = (
        observed_moments((X, Z, Y, codes, clusters)),
        updates_of(PRIORS["Huang-Wand"], 1),
    )
    Sigma, Psi = (
        np.full((1, 1), np.nan if what == "Sigma" else 1.0),
        np.full((1, 1), 0.0 if what == "Psi" else 1.0),
    )
    beta, B, Q0, t0 = np.zeros((2, 1)), np.zeros((clusters, 1, 1)), np.zeros((2, 2)), np.zeros(2)
    rng = np.random.default_rng(0)
    assert cg.common_step(rng, m, 1, prior_Sigma, prior_Psi, Q0, t0, Sigma, Psi, beta, B, NONE) == code
    by_cluster = cg.moments_by_cluster(collect(X, Z, Y, codes, clusters))
    sigma2, s0_a = np.full(clusters, Sigma[0, 0]), np.ones(2)
    assert (
        cg.cluster_step(rng, by_cluster, 1, prior_Psi, VARIANCES, Q0, t0, sigma2, s0_a, Psi, beta, B, NONE)
        == code
    )


def test_equal_variances_give_back_the_common_model():
    """spread near 0: a is so large that lgamma would cancel; s0 is then the common Sigma, half-t(nu, scale)."""
    data = table(1)
    half_t = pr.Diagonal(pr.HalfT(scale=1.0, nu=3.0))
    common = [common_chain(data, (half_t, pr.HuangWand()), 1500, 3, c) for c in range(CHAINS)]
    nearly = VARIANCES._replace(spread=1e-5)
    equal = [cluster_chain(data, pr.HuangWand(), 1500, 3, 50 + c, variances=nearly) for c in range(CHAINS)]
    assert all(np.ptp(np.log(chain[2]), axis=1).max() < 1e-3 for chain in equal)
    a = np.array([as_functions(data, chain, c) for c, chain in enumerate(common)])
    b = np.array(
        [as_functions(data, (*chain[:2], chain[2][:, 3], chain[3]), c) for c, chain in enumerate(equal)]
    )
    assert agreement(a, b) > LEVEL
