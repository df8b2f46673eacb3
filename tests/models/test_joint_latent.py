"""The PyMC model on latent normals against SciPy, row by row: numbers, and levels as integrals."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytensor
import pytensor.tensor as pt
import pytest
from pytensor.graph.replace import vectorize_graph
from scipy.stats import invwishart, norm
from scipy.stats import multivariate_normal as mvn

import bayesimp as bi
from bayesimp import priors as pr
from bayesimp.joint.latent.definition import latent_data
from bayesimp.kernels.covariance.density import huang_wand, lkj
from bayesimp.models.joint_latent import _groups

g = np.repeat(np.arange(4), 5)
BETA = np.array([[0.4, 0.2, -0.3, 0.1, -0.2], [0.3, -0.5, 0.2, 0.4, 0.1]])
ROOT = np.random.default_rng(2).normal(size=(5, 5)) * 0.4
R = np.array([[1, 0.3, 0.2, -0.1, 0.1], [0.3, 1, 0.4, 0.2, 0.1], [0.2, 0.4, 1, -0.3, 0.1], [-0.1, 0.2, -0.3, 1, 0.5],
              [0.1, 0.1, 0.1, 0.5, 1]])  # fmt: skip
SIGMA = R * np.outer([1.7, 1, 1, 1, 1], [1.7, 1, 1, 1, 1])
CUT = 0.8
U = np.random.default_rng(5).normal(size=(4, 5))


def table() -> pd.DataFrame:
    """Rows of many patterns: a number, a binary, an ordinal and a nominal variable."""
    rng = np.random.default_rng(11)
    frame = pd.DataFrame(
        {"g": g, "x": rng.normal(size=20), "y": rng.normal(size=20), "b": np.arange(20) % 2 * 1.0}
    )
    frame["o"] = pd.Categorical.from_codes(np.arange(20) % 3, ["lo", "mid", "hi"], ordered=True)
    frame["c"] = pd.Categorical.from_codes(np.arange(20) // 2 % 3, ["p", "q", "r"])
    patterns = list(itertools.product([True, False], repeat=4))
    for j in range(20):
        for name, seen in zip("yboc", patterns[j % 16], strict=True):
            if not seen:
                frame.loc[j, name] = np.nan if name in "yb" else None
    return frame


def model(Sigma: pr.CovariancePrior | None = None) -> bi.JointLatent:
    data = bi.IncompleteData(table(), "g", {"b": "bernoulli"})
    Sigma = pr.LKJ(2.0, pr.HalfT(scale=1.5)) if Sigma is None else Sigma
    return bi.JointLatent(data, "y + b + o + c ~ x + (1 | g)", pr.Priors(Sigma, beta=pr.Normal(0.0, 2.0)))


def probability(made: bi.JointLatent, j: int, mu: np.ndarray, Sigma: np.ndarray) -> float:
    """p of what is observed in row j, levels by SciPy's probability of a box of latent values."""
    record = latent_data(made)
    seen = np.flatnonzero(~np.isnan(record.Y[j]))
    A, low, high = [], [], []
    unit = np.eye(5)
    for k, cut in ((1, [0.0]), (2, [0.0, CUT])):
        if record.level[j, k] >= 0:
            bounds = [-np.inf, *cut, np.inf]
            A.append(unit[k])
            low.append(bounds[record.level[j, k]])
            high.append(bounds[record.level[j, k] + 1])
    level = record.level[j, 3]
    if level == 0:
        A, low, high = [*A, unit[3], unit[4]], [*low, -np.inf, -np.inf], [*high, 0.0, 0.0]
    elif level > 0:
        A += [unit[2 + level], unit[2 + level] - unit[5 - level]]
        low, high = [*low, 0.0, 0.0], [*high, np.inf, np.inf]
    A = np.array(A).reshape(-1, 5)
    mean, cov = A @ mu, A @ Sigma @ A.T
    p = 1.0
    if len(seen):
        p = norm.pdf(record.Y[j, 0], mu[0], np.sqrt(Sigma[0, 0]))
        K = A @ Sigma[:, 0] / Sigma[0, 0]
        mean, cov = mean + K * (record.Y[j, 0] - mu[0]), cov - np.outer(K, K) * Sigma[0, 0]
    if len(A):
        low, high = np.clip(low - mean, -12, 12), np.clip(high - mean, -12, 12)
        law = mvn(np.zeros(len(A)), cov, abseps=1e-10, releps=1e-9, maxpts=100_000)  # errors near 1e-6
        p *= law.cdf(high, lower_limit=low)
    return p


def at_many_nodes(fixed, v, potentials):
    """A function of the parameters and of v at many nodes: the potentials at all of them, (nodes,) where v matters."""
    many = {rv: pt.tensor(f"{name}s", shape=(None, *rv.type.shape)) for name, rv in v.items()}
    return pytensor.function(
        [*fixed, *many.values()],
        vectorize_graph(list(potentials.values()), replace=many),
        on_unused_input="ignore",
        mode="FAST_COMPILE",
    )


def test_rows_have_the_density_of_what_is_observed():
    """Uniform v are integrated by Gauss-Legendre nodes, up to three of them; agreement to 0.2 % of the probability."""
    made = model()
    compiled = made.pymc_model()
    v = {rv.name: rv for rv in compiled.free_RVs if rv.name.startswith("v_")}
    potentials = {p.name: p for p in compiled.potentials if p.name.startswith("rows_")}
    fixed = [compiled["beta"], compiled["Sigma"], compiled["Psi"], compiled["u"], compiled["increments_o"]]
    evaluate = at_many_nodes(fixed, v, potentials)
    Psi = ROOT @ ROOT.T + 0.3 * np.eye(5)
    B = U @ np.linalg.cholesky(Psi).T
    record = latent_data(made)
    mu = record.X @ BETA + B[g]
    groups = dict(zip(potentials, _groups(record), strict=True))
    x, w = np.polynomial.legendre.leggauss(10)
    x, w = 0.5 * (x + 1), 0.5 * w
    shapes = {name: rv.eval().shape for name, rv in v.items()}
    most = max(shape[1] for shape in shapes.values())
    total = {name: np.zeros(len(rows)) for name, rows in groups.items()}
    assert most == 3 and any(f"v_{name.partition('_')[2]}" not in v for name in potentials)
    nodes = np.array(list(itertools.product(range(len(x)), repeat=most)))  # (nodes, 3)
    weight = w[nodes].prod(axis=1)
    points = [
        np.broadcast_to(x[nodes[:, None, : shape[1]]], (len(nodes), *shape)) for shape in shapes.values()
    ]
    found = evaluate(BETA, SIGMA, Psi, U, np.array([CUT]), *points)
    for (name, rows), values in zip(groups.items(), found, strict=True):
        values = np.broadcast_to(
            values, len(nodes)
        )  # rows without v: the same at all nodes, a sum of logarithms
        total[name] = total[name] + weight @ (np.exp(values) if len(rows) == 1 else values)
    gaps = []
    for name, rows in groups.items():
        expected = np.array([probability(made, j, mu[j], SIGMA) for j in rows])
        if len(rows) == 1:
            assert total[name][0] == pytest.approx(expected[0], rel=2e-3)
        elif f"v_{name.partition('_')[2]}" not in v:
            assert total[name][0] == pytest.approx(np.log(expected).sum(), rel=1e-6)
        wrong = probability(made, rows[0], mu[rows[0]], np.diag(np.diag(SIGMA)))
        gaps.append(abs(wrong / expected[0] - 1))
    assert max(gaps) > 0.1  # without covariances of residuals


V = np.diag([0.4, 1.0, 1.0, 1.0, 1.0])
PRIORS = {
    "LKJ": (pr.LKJ(3.0, pr.HalfT(scale=1.5)), lambda S: lkj(S, 3.0, np.full(5, 1.5), 3.0, 0)[0]),
    "Huang-Wand": (pr.HuangWand(scale=1.5), lambda S: huang_wand(S, 2.0, np.full(5, 1.5))[0]),
    "inverse-Wishart": (pr.InverseWishart(8.0, V), lambda S: invwishart.logpdf(S, 8.0, np.linalg.inv(V))),
}


@pytest.mark.parametrize("name", PRIORS)
def test_the_prior_of_sigma_is_that_of_the_whole_matrix_on_its_free_entries(name):
    """Differences of the log density between two matrices, with the Jacobian of (log s, correlations)."""
    prior, log_p = PRIORS[name]
    compiled = model(prior).pymc_model()
    evaluate = pytensor.function(
        [compiled["Sigma_log_sd"], compiled["Sigma_correlation"]],
        compiled["Sigma_prior"],
        mode="FAST_COMPILE",
    )
    i, j = np.tril_indices(5, -1)
    free = ~((i == 4) & (j == 3))

    def both(S: np.ndarray) -> tuple[float, float]:
        s = np.sqrt(np.diag(S))
        rho = (S / np.outer(s, s))[i, j][free]
        # d Sigma / d(log s, rho) = 2 s^2 s^4, and s = 1 except for the first
        return float(evaluate(np.log(s[:1]), rho)), log_p(S) + 6 * np.log(s[0])

    a, b = (
        both(SIGMA),
        both(np.where(np.eye(5) + (R == 0.5), R, 0.3 * R) * np.outer([0.6, 1, 1, 1, 1], [0.6, 1, 1, 1, 1])),
    )
    assert a[0] - b[0] == pytest.approx(a[1] - b[1], abs=1e-8)
    outside = np.full(9, -0.9)
    assert evaluate(np.zeros(1), outside) == -np.inf
