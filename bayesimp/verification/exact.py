"""Draws against known distributions: posteriors by quadrature, imputed values by one dense normal.

Differences are in Monte Carlo standard errors. For k comparisons with a joint level of 1e-6, the limit is the normal
quantile of 1e-6 / (2 k): a correct sampler fails with one seed in a million.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.special import expit
from scipy.stats import norm

from bayesimp import priors as pr
from bayesimp.diagnostics.convergence import diagnose
from bayesimp.fcs.model import FCS
from bayesimp.joint.normal import JointNormal
from bayesimp.notation import Array
from bayesimp.table.incomplete import IncompleteData
from bayesimp.verification.records import Outcome

__all__ = ["binary_posterior", "completed_law", "limit", "normal_posterior"]

LEVEL = 1e-6
SD = 1.5  # standard deviation of the normal prior of an intercept
NU, V = 4.0, 0.5  # inverse-Wishart priors of a variance s: density s^-(nu + 2)/2 exp(-1 / (2 V s))


def limit(comparisons: int) -> float:
    """The limit for differences in standard errors, given the number of comparisons."""
    return float(norm.isf(LEVEL / 2 / comparisons))


# a normal variable with random intercepts ---------------------------------------------------------


def _normal_table() -> pd.DataFrame:
    rng = np.random.default_rng(20261130)
    g = np.repeat(np.arange(9), 7)
    y = 3.0 + 0.8 * rng.normal(size=9)[g] + rng.normal(size=63)
    y[rng.random(63) < 0.3] = np.nan
    y[g == 4] = np.nan  # a cluster without values
    return pd.DataFrame({"g": g, "y": y})


def _normal_grid(table: pd.DataFrame, V_Psi: float) -> dict[str, float]:
    """Posterior means by quadrature over (log sigma^2, log psi), with the mean integrated out in closed form given both.

    Given both, mu | y ~ N(sum w ybar / sum w, 1 / sum w), w_i = 1 / (psi + sigma^2 / n_i), and the mean of the missing
    values of cluster i is mu + psi w_i (ybar_i - mu).
    """
    s, t = np.meshgrid(np.linspace(-2.5, 2.5, 240), np.linspace(-7.0, 5.0, 320), indexing="ij")
    s2, psi = np.exp(s), np.exp(t)
    seen = table.dropna().groupby("g")["y"]
    n, mean, squares = (
        seen.agg(f).to_numpy(float) for f in ("size", "mean", lambda y: ((y - y.mean()) ** 2).sum())
    )
    w = 1 / (psi[..., None] + s2[..., None] / n)
    W = w.sum(axis=-1)
    mu = (w * mean).sum(axis=-1) / W
    log = -(n - 1).sum() / 2 * s - squares.sum() / 2 / s2 + 0.5 * np.log(w).sum(axis=-1)
    log += -0.5 * np.log(W) - 0.5 * (w * (mean - mu[..., None]) ** 2).sum(axis=-1)
    log += -(NU + 2) / 2 * s - 1 / (2 * V * s2) + s  # priors, and the Jacobian of the logarithms
    log += -(NU + 2) / 2 * t - 1 / (2 * V_Psi * psi) + t
    p = np.exp(log - log.max())
    p /= p.sum()
    known = list(seen.groups)
    means = [
        (p * (mu + (psi * w[..., known.index(i)] * (mean[known.index(i)] - mu) if i in known else 0.0))).sum()
        for i in sorted(set(table["g"]))
    ]
    out = {"mu": (p * mu).sum(), "log sigma2": (p * s).sum(), "log psi": (p * t).sum()}
    return out | {f"imputed mean, cluster {i}": value for i, value in enumerate(means)}


def normal_posterior(full: bool) -> Sequence[Outcome]:
    """Check `JointNormal` with one variable: parameters and means of imputed values."""
    table = _normal_table()
    priors = pr.Priors(Sigma=pr.InverseWishart(NU, V), Psi=pr.InverseWishart(NU, V))
    model = JointNormal(IncompleteData(table, "g"), "y ~ 1 + (1 | g)", priors)
    imp = model.impute(m=4, seed=1, draws=40_000 if full else 6_000, progress=False)
    post = imp.tree["posterior"].to_dataset()
    drawn = {
        "mu": post["beta"][..., 0, 0], "log sigma2": np.log(post["Sigma"][..., 0, 0]),
        "log psi": np.log(post["Psi"][..., 0, 0]),
    }  # fmt: skip
    stats = imp.tree["imputed_stats"].to_dataset()["mean"]
    drawn |= {f"imputed mean, cluster {i}": stats[:, :, 0, i] for i in range(9)}
    found = {name: _mean(np.asarray(values)) for name, values in drawn.items()}
    found = {
        name: pair for name, pair in found.items() if np.isfinite(pair[0])
    }  # clusters without missing values

    def worst(expected: dict[str, float]) -> float:
        return max(abs(mean - expected[name]) / error for name, (mean, error) in found.items())

    right, wrong = worst(_normal_grid(table, V)), worst(_normal_grid(table, 4 * V))
    what = f"{len(found)} posterior means against quadrature, largest difference in standard errors"
    return [
        Outcome(what, right, limit(len(found))),
        Outcome(
            "wrong variant: the quadrature uses another prior of psi", wrong, limit(len(found)), at_least=True
        ),
    ]


def _mean(values: Array) -> tuple[float, float]:
    """The mean of draws (chain, draw) and its Monte Carlo standard error."""
    import xarray as xr

    if not np.isfinite(values).all():
        return np.nan, np.nan
    row = diagnose(xr.Dataset({"x": (("chain", "draw"), values)})).iloc[0]
    return float(row["mean"]), float(row["mcse_mean"])


# completed cells of two variables -----------------------------------------------------------------


SIGMA, PSI = np.array([[1.0, 0.5], [0.5, 2.0]]), np.array([[0.8, -0.3], [-0.3, 0.6]])


def _dense(table: pd.DataFrame, Psi: Array) -> tuple[Array, Array]:
    """Mean and covariance of the missing cells, y then z, given Sigma, Psi and a flat prior of beta (kriging)."""
    n = len(table)
    X = np.kron(np.eye(2), np.column_stack([np.ones(n), table["x"]]))
    same = (table["g"].to_numpy()[:, None] == table["g"].to_numpy()).astype(float)
    C = np.kron(SIGMA, np.eye(n)) + np.kron(Psi, same)
    y = table[["y", "z"]].to_numpy().T.ravel()
    M, O = np.isnan(y), ~np.isnan(y)
    inverse = np.linalg.inv(C[np.ix_(O, O)])
    K = inverse @ C[np.ix_(O, M)]
    A = np.linalg.inv(X[O].T @ inverse @ X[O])
    beta, R = A @ X[O].T @ inverse @ y[O], X[M] - K.T @ X[O]
    return X[M] @ beta + (y[O] - X[O] @ beta) @ K, C[np.ix_(M, M)] - C[np.ix_(M, O)] @ K + R @ A @ R.T


def completed_law(full: bool) -> Sequence[Outcome]:
    """Check completed tables of `JointNormal` at known covariances: all means and (co)variances of missing cells."""
    rng = np.random.default_rng(7)
    g = np.repeat(np.arange(6), 5)
    x = rng.normal(size=30)
    table = pd.DataFrame(
        {"g": g, "x": x, "y": x + rng.normal(size=6)[g] + rng.normal(size=30), "z": rng.normal(size=30)}
    )
    for name in ("y", "z"):
        table.loc[rng.random(30) < 0.25, name] = np.nan
    table.loc[g == 3, "z"] = np.nan
    priors = pr.Priors(Sigma=pr.Fixed(SIGMA), Psi=pr.Fixed(PSI))
    model = JointNormal(IncompleteData(table, "g"), "y + z ~ x + (1 | g)", priors)
    m = 20_000 if full else 4_000
    imp = model.impute(m=m, seed=2, draws=m // 4, progress=False)
    cells = np.hstack([imp.values(name) for name in ("y", "z")])

    def worst(Psi: Array) -> float:
        mean, covariance = _dense(table, Psi)
        w = np.linalg.solve(np.linalg.cholesky(covariance), (cells - mean).T).T
        i, j = np.tril_indices(w.shape[1])
        moments = np.column_stack([w, w[:, i] * w[:, j] - (i == j)])
        return float(np.abs(moments.mean(axis=0) / (moments.std(axis=0) / np.sqrt(m))).max())

    k = cells.shape[1]
    comparisons = k + k * (k + 1) // 2
    what = f"{comparisons} moments of {k} cells in {m:,} tables against one dense normal, in standard errors"
    return [
        Outcome(what, worst(PSI), limit(comparisons)),
        Outcome(
            "wrong variant: the normal has no cluster effects",
            worst(1e-6 * PSI),
            limit(comparisons),
            at_least=True,
        ),
    ]


# a binary variable with random intercepts ---------------------------------------------------------


def _binary_shares(table: pd.DataFrame) -> Array:
    """(m,) posterior probability that a missing value in each cluster is 1, by a grid of b and log psi and Gauss-Hermite
    quadrature over each cluster effect."""
    b, t = np.linspace(-3.5, 3.5, 90), np.linspace(-6.0, 4.0, 110)
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    weights = weights / weights.sum()
    p = expit(b[:, None, None] + np.exp(t / 2)[None, :, None] * nodes)
    log = -0.5 * (b[:, None] / SD) ** 2 - (NU + 2) / 2 * t - 1 / (2 * V * np.exp(t)) + t
    shares = []
    for _, y in table.groupby("g")["y"]:
        ones, zeros = int((y == 1).sum()), int((y == 0).sum())
        likelihood = p**ones * (1 - p) ** zeros
        total = (likelihood * weights).sum(axis=-1)
        shares.append((likelihood * p * weights).sum(axis=-1) / total)
        log = log + np.log(total)
    posterior = np.exp(log - log.max())
    posterior /= posterior.sum()
    return np.array([(posterior * share).sum() for share in shares])


def binary_posterior(full: bool) -> Sequence[Outcome]:
    """Check chained equations with method bayes for a binary variable: imputed shares in every cluster."""
    rng = np.random.default_rng(11)
    g = np.repeat(np.arange(8), 9)
    y = (rng.random(72) < expit(0.4 + 1.2 * rng.normal(size=8)[g])).astype(float)
    y[rng.random(72) < 0.3] = np.nan
    y[g == 5] = np.nan
    table = pd.DataFrame({"g": g, "y": y})
    data = IncompleteData(table, "g", {"y": "bernoulli"})
    priors = pr.Priors(beta=pr.Normal(0.0, SD), Psi=pr.InverseWishart(NU, V))
    model = FCS(data, "bayes", predictors={"y": "~ 1 + (1 | g)"}).with_priors(priors)
    m = 4_000 if full else 800
    imp = model.impute(m=m, cycles=25, seed=3, progress=False)
    cluster = g[imp.rows("y")]
    shares = np.column_stack([imp.values("y")[:, cluster == i].mean(axis=1) for i in np.unique(cluster)])
    found, error = shares.mean(axis=0), shares.std(axis=0, ddof=1) / np.sqrt(m)
    worst = float((np.abs(found - _binary_shares(table)[np.unique(cluster)]) / error).max())
    k = len(found)
    what = f"shares of ones imputed in {k} clusters by {m:,} chains against quadrature, in standard errors"
    everywhere = float((np.abs(found - table["y"].mean()) / error).max())
    return [
        Outcome(what, worst, limit(k)),
        Outcome("wrong variant: one share of ones for all clusters", everywhere, limit(k), at_least=True),
    ]
