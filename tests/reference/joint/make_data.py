"""Simulated data of the reference cases. Fixed seed: running it again writes the same files.

python tests/reference/joint/make_data.py
"""

from pathlib import Path

import numpy as np

HERE = Path(__file__).parent


def write(name, columns):
    with open(HERE / name, "w", encoding="ascii") as f:
        f.write(",".join(columns) + "\n")
        for row in zip(*columns.values(), strict=True):
            f.write(",".join(_cell(v) for v in row) + "\n")


def _cell(value):
    if isinstance(value, (int, np.integer)):
        return str(int(value))
    return "" if np.isnan(value) else f"{value:.6f}"


def simulate(rng, sizes, beta, Sigma, Psi, q):
    """Y = X beta + Z B_i + E with X = [1, x] (p = 2) or [1] (p = 1), Z the first q columns of X."""
    m, (p, r) = len(sizes), beta.shape
    cluster = np.repeat(np.arange(m), sizes)
    n = len(cluster)
    x = rng.normal(size=n)
    X = np.column_stack([np.ones(n), x])[:, :p]
    # vec(B_i) stacks the columns of the q x r matrix B_i: the random effect runs fast, the variable slow
    b = rng.multivariate_normal(np.zeros(r * q), Psi, size=m).reshape(m, r, q)
    Y = (
        X @ beta
        + np.einsum("nq,nrq->nr", X[:, :q], b[cluster])
        + rng.multivariate_normal(np.zeros(r), Sigma, size=n)
    )
    return cluster, x, Y


def sporadic(rng, Y, probability):
    Y[rng.random(Y.shape) < probability] = np.nan


def case1():
    """r = 2, q = 1, 15 x 30; each variable wholly missing in 5 other clusters, 10 % sporadic (Kunkel & Kaizar)."""
    rng = np.random.default_rng(20170101)
    Sigma = np.array([[122.0, 100.0], [100.0, 147.0]]) / 144
    Psi = np.array([[27.0, 12.0], [12.0, 33.0]]) / 144
    cluster, x, Y = simulate(rng, [30] * 15, np.array([[0.2, -0.1], [0.5, 0.3]]), Sigma, Psi, q=1)
    sporadic(rng, Y, 0.10)
    Y[cluster < 5, 0] = np.nan
    Y[(cluster >= 5) & (cluster < 10), 1] = np.nan
    write("case1.csv", {"cluster": cluster, "x": x, "y1": Y[:, 0], "y2": Y[:, 1]})


def case2():
    """r = 3, q = 2, 20 unbalanced clusters (sizes 1 to 45); 12 % sporadic, y3 wholly missing in 6 clusters."""
    rng = np.random.default_rng(20170202)
    sizes = [1, 2, 2, 4, 5, 6, 8, 9, 10, 12, 12, 14, 15, 18, 20, 22, 25, 30, 35, 45]
    sizes = np.asarray(sizes)[rng.permutation(20)]
    Sigma = np.array([[1.0, 0.5, 0.2], [0.5, 1.2, -0.3], [0.2, -0.3, 0.8]])
    sd = np.array([0.7, 0.4, 0.6, 0.3, 0.5, 0.4])
    corr = 0.25 ** np.abs(np.subtract.outer(np.arange(6), np.arange(6)))
    Psi = corr * np.outer(sd, sd)
    beta = np.array([[0.5, -0.5, 0.0], [0.3, 0.0, -0.4]])
    cluster, x, Y = simulate(rng, sizes, beta, Sigma, Psi, q=2)
    sporadic(rng, Y, 0.12)
    eligible = np.flatnonzero(sizes > 2)
    Y[np.isin(cluster, rng.choice(eligible, 6, replace=False)), 2] = np.nan
    write("case2.csv", {"cluster": cluster, "x": x, "y1": Y[:, 0], "y2": Y[:, 1], "y3": Y[:, 2]})


def case3():
    """r = 1, q = 1, X = [1], 6 x 30, psi = 1, sigma^2 = 5, 20 % missing."""
    rng = np.random.default_rng(20170303)
    cluster, _, Y = simulate(rng, [30] * 6, np.array([[1.0]]), np.array([[5.0]]), np.array([[1.0]]), q=1)
    sporadic(rng, Y, 0.20)
    write("case3.csv", {"cluster": cluster, "y1": Y[:, 0]})


if __name__ == "__main__":
    case1()
    case2()
    case3()
