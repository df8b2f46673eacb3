"""Small tables of levels against quadrature: posterior means and mean squares of parameters.

Gibbs: batch means of 4 chains; quadrature is exact at this precision (a grid of twice the order agrees to 1e-3 standard
deviations). Bonferroni over all quantities of a case, level 1e-4.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.special import ndtr
from scipy.stats import norm

import bayesimp as bi
from bayesimp import priors as pr
from tests.calibration.montecarlo import LEVEL, REJECTED, batch_means, bonferroni
from tests.joint.latent.brute_force import both_below, nodes, posterior

CLUSTERS, ROWS = 5, 6
g = np.repeat(np.arange(CLUSTERS), ROWS)
SMALL = pr.Fixed(np.diag([0.3, 0.2]))


def levels(seed: int, cut: list[float], correlation: float = 0.0, columns: int = 1) -> np.ndarray:
    """(n, columns) levels of latent normals with effects of clusters, some missing (NaN), in one cluster all."""
    rng = np.random.default_rng(seed)
    R = np.full((columns, columns), correlation) + (1 - correlation) * np.eye(columns)
    y = (
        0.3
        + 0.6 * rng.normal(size=(CLUSTERS, columns))[g]
        + rng.normal(size=(len(g), columns)) @ np.linalg.cholesky(R).T
    )
    out = np.digitize(y, cut).astype(float)
    out[rng.random(out.shape) < 0.15] = np.nan
    out[g == 1, 0] = np.nan
    return out


def compared(model: bi.JointLatent, expected: dict[str, np.ndarray], pick, draws: int = 6_000) -> float:
    """p-value; pick: posterior (a Dataset) -> quantity (chains, draws) by name."""
    imp = model.impute(m=2, seed=3, chains=4, draws=draws, thin=1, progress=False)
    drawn = pick(imp.tree["posterior"].to_dataset())
    p = []
    for name, moments in expected.items():
        x = drawn[name]
        mean, se = batch_means(np.stack([x, x**2], axis=-1), 25)
        p += list(2 * norm.sf(np.abs(mean - moments) / se))
    return bonferroni(p)


def half_t(sd: np.ndarray, nu: float = 2.0) -> np.ndarray:
    return -0.5 * (nu + 1) * np.log1p(sd**2 / nu)


def weak(beta: np.ndarray) -> np.ndarray:
    return norm.logpdf(beta, 0, 5.0)  # of an intercept


# --- one variable with thresholds, the standard deviation between clusters unknown ----------------------------


def one_variable(cut: list[float]) -> tuple[bi.JointLatent, dict[str, np.ndarray]]:
    y = levels(4, cut)[:, 0]
    K = len(cut) + 1
    steps = 33 if K < 4 else 17
    frame = pd.DataFrame({"g": g, "y": pd.Categorical.from_codes(np.nan_to_num(y, nan=-1).astype(int), list("abcd"[:K]),
                                                                  ordered=True)})  # fmt: skip
    model = bi.JointLatent(
        bi.IncompleteData(frame, "g", {"y": "ordinal" if K > 2 else "bernoulli"}), "y ~ 1 + (1 | g)"
    )
    beta, log_sd = np.linspace(-3.0, 4.5, 3 * steps), np.linspace(-6.5, 3.0, 2 * steps)
    # increments on the log scale
    axes = np.meshgrid(beta, log_sd, *[np.linspace(-4.0, 1.6, steps)] * (K - 2), indexing="ij")
    b0, sd, increments = axes[0], np.exp(axes[1]), np.exp(np.array(axes[2:]))
    c = (
        np.concatenate([np.zeros((1, *b0.shape)), np.cumsum(increments, axis=0)])
        if K > 2
        else np.zeros((1, *b0.shape))
    )
    log_p = weak(b0) + half_t(sd) + axes[1]
    log_p = log_p + (np.log(increments) - increments).sum(axis=0)
    z, w = nodes(1, 40)
    counts = [[np.sum(y[g == i] == l) for l in range(K)] for i in range(CLUSTERS)]
    total = np.zeros((CLUSTERS, *b0.shape))
    for (x,), weight in zip(z, w, strict=True):
        below = [np.zeros(b0.shape), *ndtr(c - b0 - sd * x), np.ones(b0.shape)]
        p = np.diff(below, axis=0)
        for i in range(CLUSTERS):
            total[i] += weight * np.prod([p[l] ** counts[i][l] for l in range(K)], axis=0)
    log_p += np.log(total + 1e-300).sum(axis=0)
    values = {"beta": b0, "sd": np.tanh(sd), **{f"c{l}": c[l] for l in range(1, K - 1)}}
    return model, posterior(log_p, values)


def of_one_variable(post) -> dict[str, np.ndarray]:
    out = {"beta": post.beta.values[..., 0, 0], "sd": np.tanh(np.sqrt(post.Psi.values[..., 0, 0]))}
    if "cutpoints_y" in post:
        out |= {f"c{l}": post.cutpoints_y.values[..., l] for l in range(1, post.cutpoints_y.shape[-1])}
    return out


@pytest.mark.parametrize("cut", [[0.0], [0.0, 0.9], [0.0, 0.5, 1.2]], ids=["binary", "3 levels", "4 levels"])
def test_one_variable_with_effects_of_clusters(cut):
    model, expected = one_variable(cut)
    assert compared(model, expected, of_one_variable, draws=8_000) > LEVEL


# --- two binary variables: their residual correlation -----------------------------------------------------------


def two_binary(steps: int = 17) -> tuple[bi.JointLatent, dict[str, np.ndarray]]:
    y = levels(8, [0.0], 0.6, columns=2)
    frame = pd.DataFrame({"g": g, "y": y[:, 0], "w": y[:, 1]})
    data = bi.IncompleteData(frame, "g", {"y": "bernoulli", "w": "bernoulli"})
    priors = pr.Priors(Sigma=pr.LKJ(1.5, pr.HalfT()), Psi=SMALL, beta=pr.Normal(0.0, 1.5))
    model = bi.JointLatent(data, "y + w ~ 1 + (1 | g)", priors)
    beta, rho = np.linspace(-1.8, 2.6, steps), np.tanh(np.linspace(-4.0, 5.0, 41))
    b0, b1, r = np.meshgrid(beta, beta, rho, indexing="ij")
    log_p = norm.logpdf(b0, 0, 1.5) + norm.logpdf(b1, 0, 1.5) + 1.5 * np.log1p(-(r**2))
    z, w = nodes(2, 9)
    z = z * np.sqrt([0.3, 0.2])
    parts = [np.unique(np.nan_to_num(y[g == i], nan=-1), axis=0, return_counts=True) for i in range(CLUSTERS)]
    total = np.zeros((CLUSTERS, *b0.shape))
    for e, weight in zip(z, w, strict=True):
        h, k = b0 + e[0], b1 + e[1]
        both = both_below(h, k, r)
        p = {
            (1, 1): both,
            (1, 0): ndtr(h) - both,
            (0, 1): ndtr(k) - both,
            (0, 0): 1 - ndtr(h) - ndtr(k) + both,
        }
        p |= {
            (1, -1): ndtr(h),
            (0, -1): ndtr(-h),
            (-1, 1): ndtr(k),
            (-1, 0): ndtr(-k),
            (-1, -1): np.ones(h.shape),
        }
        p = {name: np.maximum(value, 0.0) for name, value in p.items()}  # round-off
        for i, (rows, counts) in enumerate(parts):
            total[i] += weight * np.prod(
                [p[int(a), int(b)] ** n for (a, b), n in zip(rows, counts, strict=True)], axis=0
            )
    log_p += np.log(total + 1e-300).sum(axis=0)
    return model, posterior(log_p, {"beta0": b0, "beta1": b1, "rho": r})


def of_two(post) -> dict[str, np.ndarray]:
    return {
        "beta0": post.beta.values[..., 0, 0],
        "beta1": post.beta.values[..., 0, 1],
        "rho": post.Sigma.values[..., 0, 1],
    }


def test_two_binary_variables():
    model, expected = two_binary()
    assert compared(model, expected, of_two, draws=8_000) > LEVEL


# --- a nominal variable ---------------------------------------------------------------------------------------


def nominal(half: float = 0.5, steps: int = 31) -> tuple[bi.JointLatent, dict[str, np.ndarray]]:
    """Utilities u_1, u_2 with variances 1 and covariance `half`; level 0 where both are negative."""
    rng = np.random.default_rng(12)
    u = np.array([0.4, -0.3]) + rng.normal(size=(CLUSTERS, 2))[g] * np.sqrt([0.3, 0.2])
    u += rng.normal(size=(len(g), 2)) @ np.linalg.cholesky([[1, 0.5], [0.5, 1]]).T
    y = np.where(u.max(axis=1) < 0, 0, u.argmax(axis=1) + 1).astype(float)
    y[rng.random(len(g)) < 0.15] = np.nan
    frame = pd.DataFrame(
        {"g": g, "y": pd.Categorical.from_codes(np.nan_to_num(y, nan=-1).astype(int), list("abc"))}
    )
    priors = pr.Priors(Psi=SMALL, beta=pr.Normal(0.0, 2.0))
    model = bi.JointLatent(bi.IncompleteData(frame, "g"), "y ~ 1 + (1 | g)", priors)
    beta = np.linspace(-2.8, 2.8, steps)
    m1, m2 = np.meshgrid(beta, beta, indexing="ij")
    log_p = norm.logpdf(m1, 0, 2.0) + norm.logpdf(m2, 0, 2.0)
    z, w = nodes(2, 15)
    z = z * np.sqrt([0.3, 0.2])
    root = np.sqrt(2 - 2 * half)  # sd of u_1 - u_2; its correlation with u_1 and -u_2 is (1 - half) / root
    counts = [[np.sum(y[g == i] == l) for l in range(3)] for i in range(CLUSTERS)]
    total = np.zeros((CLUSTERS, *m1.shape))
    for e, weight in zip(z, w, strict=True):
        a, b = m1 + e[0], m2 + e[1]
        p = [both_below(-a, -b, half), both_below(a, (a - b) / root, (1 - half) / root),
             both_below(b, (b - a) / root, (1 - half) / root)]  # fmt: skip
        for i in range(CLUSTERS):
            total[i] += weight * np.prod([p[l] ** counts[i][l] for l in range(3)], axis=0)
    log_p += np.log(total + 1e-300).sum(axis=0)
    return model, posterior(log_p, {"beta0": m1, "beta1": m2, "product": m1 * m2})


def of_nominal(post) -> dict[str, np.ndarray]:
    b = post.beta.values[..., 0, :]
    return {"beta0": b[..., 0], "beta1": b[..., 1], "product": b[..., 0] * b[..., 1]}


def test_a_nominal_variable():
    model, expected = nominal()
    assert compared(model, expected, of_nominal) > LEVEL


def test_utilities_without_covariance_are_told_apart():
    model, _ = nominal()
    assert compared(model, nominal(half=0.0)[1], of_nominal) < REJECTED
