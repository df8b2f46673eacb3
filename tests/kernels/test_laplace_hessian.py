"""The exact Hessian of the Laplace criterion against differences of its exact gradient, and wrong ones that must fail."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

from bayesimp.kernels.families.scalar import (
    GAMMA,
    INVERSE_GAUSSIAN,
    LOGIT,
    NEGATIVE_BINOMIAL,
    POISSON,
    PROBIT,
)
from bayesimp.kernels.glmm.rows import GlmmRows
from bayesimp.kernels.laplace.cluster_sums import BLOCK
from bayesimp.kernels.laplace.criterion import Penalty, laplace
from bayesimp.kernels.laplace.record import no_penalty

EXACT = (
    LOGIT,
    PROBIT,
    POISSON,
    NEGATIVE_BINOMIAL,
    GAMMA,
)  # the inverse Gaussian's curvature is the expected one
SHAPE, H = 2.3, 3e-4


def problem(family, p, q, *, seed=0, large=False, pairs=None):
    """Rows with offsets, weights, trials and an empty cluster; free elements; a point (beta, theta)."""
    rng = np.random.default_rng([seed, family, p, q])
    sizes = np.array([0, 25, 1, 7, BLOCK + 40 if large else 12])
    n = sizes.sum()
    X, Z = rng.normal(size=(n, p)), rng.normal(size=(n, q))
    eta, trials = X @ np.full(p, 0.3) + 0.5 * rng.normal(size=n), np.ones(n)
    if family in (LOGIT, PROBIT):
        trials = rng.integers(1, 4, n).astype(float)
        y = rng.binomial(trials.astype(int), special.expit(eta))
    elif family in (POISSON, NEGATIVE_BINOMIAL):
        y = rng.poisson(np.exp(eta))
    else:
        y = np.exp(eta) * rng.gamma(SHAPE, 1 / SHAPE, n)
    first = np.r_[0, np.cumsum(sizes)]
    rows = GlmmRows(
        family, y.astype(float), trials, rng.uniform(0.5, 2, n), 0.3 * rng.normal(size=n), X, Z, first
    )
    if pairs is None:
        pairs = [(a, b) for b in range(q) for a in range(b, q)]
    free = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    theta = 0.4 * rng.normal(size=len(free)) + (free[:, 0] == free[:, 1]) * rng.choice([-0.9, 0.9], len(free))
    return rows, free, np.r_[0.3 * rng.normal(size=p), theta]


def strong(p, q, seed=1):
    """A penalty of which every part is on."""
    rng = np.random.default_rng(seed)
    A, B = rng.normal(size=(p, p)), rng.normal(size=(q, q))
    return Penalty(A @ A.T, rng.normal(size=p), np.arange(q) % 2 + 0.5, B @ B.T)


def at(rows, penalty, free, x):
    """Value, gradient, Hessian."""
    k = len(x)
    u, g, hessian = np.zeros((len(rows.first) - 1, rows.Z.shape[1])), np.empty(k), np.empty((k, k))
    return laplace(rows, SHAPE, penalty, free, x, u, g, hessian), g, hessian


def differences(rows, penalty, free, x):
    """Fourth-order differences of the value and of the gradient."""
    gradient, hessian = [], []
    for step in H * np.eye(len(x)):
        (f2, g2, _), (f1, g1, _), (e1, h1, _), (e2, h2, _) = (
            at(rows, penalty, free, x + c * step) for c in (-2, -1, 1, 2)
        )
        gradient.append((8 * (e1 - f1) - (e2 - f2)) / (12 * H))
        hessian.append((8 * (h1 - g1) - (h2 - g2)) / (12 * H))
    return np.array(gradient), np.array(hessian)


def error(exact, difference):
    return np.abs(exact - difference).max() / np.abs(difference).max()


SIZES = [(p, q) for p in range(4) for q in range(4) if p + q]


@pytest.mark.parametrize("family", EXACT)
def test_gradient_and_hessian_are_exact(family):
    """All sizes, with and without penalty: to 1e-7 of the largest element (what differences have)."""
    for p, q in SIZES:
        for penalty in (no_penalty(p, q), strong(p, q)):
            rows, free, x = problem(family, p, q)
            _, g, hessian = at(rows, penalty, free, x)
            slopes, bends = differences(rows, penalty, free, x)
            assert error(g, slopes) < 1e-7, (p, q)
            assert error(hessian, bends) < 1e-7, (p, q)
            np.testing.assert_array_equal(hessian, hessian.T)


def test_blocks_of_effects_and_clusters_of_several_blocks_of_rows():
    for pairs in ([(0, 0), (1, 1)], [(0, 0), (1, 1), (2, 1), (2, 2)], [(1, 0)]):
        q = 1 + max(a for a, _ in pairs)
        rows, free, x = problem(POISSON, 2, q, large=True, pairs=pairs)
        _, _, hessian = at(rows, strong(2, q), free, x)
        assert error(hessian, differences(rows, strong(2, q), free, x)[1]) < 1e-7


def test_where_effects_are_zero():
    """Psi is singular or zero: nothing is divided by L."""
    for theta in ([0.0, 0.0, 0.0], [0.0, 0.6, 0.0], [0.8, -0.3, 0.0], [0.0, 0.0, 0.5]):
        rows, free, x = problem(LOGIT, 2, 2)
        x[2:] = theta
        penalty = no_penalty(2, 2)
        _, _, hessian = at(rows, penalty, free, x)
        assert error(hessian, differences(rows, penalty, free, x)[1]) < 1e-7


def test_wrong_hessians_are_seen():
    """What is left out where fourth derivatives are (E_j = 0), or modes stand still, is far above the tolerance."""
    rows, free, x = problem(LOGIT, 3, 2)
    penalty = no_penalty(3, 2)
    _, bends = differences(rows, penalty, free, x)
    eta = rows.offset + rows.X @ x[:3]
    u, k = np.zeros((len(rows.first) - 1, 2)), len(x)
    laplace(rows, SHAPE, penalty, free, x, u, np.empty(k), np.empty((k, k)))
    L = np.zeros((2, 2))
    L[free[:, 0], free[:, 1]] = x[3:]
    without, frozen = np.zeros((3, 3)), np.zeros((3, 3))
    for i in range(len(u)):
        part = slice(rows.first[i], rows.first[i + 1])
        X, Z, w, n = rows.X[part], rows.Z[part], rows.weight[part], rows.trials[part]
        m = special.expit(eta[part] + Z @ L @ u[i])
        C = w * n * m * (1 - m)
        E = C * (1 - 6 * m * (1 - m))
        Q = np.linalg.inv(np.eye(2) + L.T @ (C[:, None] * Z).T @ Z @ L)
        v = np.einsum("ja,ab,jb->j", Z @ L, Q, Z @ L)
        c = X - Z @ L @ Q @ L.T @ Z.T @ (C[:, None] * X)  # d eta / d beta, modes moving
        without += 0.5 * (c * (E * v)[:, None]).T @ c
        frozen -= X.T @ (C[:, None] * X)
    _, _, hessian = at(rows, penalty, free, x)
    assert error(hessian[:3, :3], bends[:3, :3]) < 1e-7
    assert error(hessian[:3, :3] + without, bends[:3, :3]) > 1e-3
    assert error(frozen, bends[:3, :3]) > 1e-2


def test_gradient_of_the_inverse_gaussian_is_approximate():
    """Its curvature is the expected one, so that modes do not move as the formulas have it."""
    rows, free, x = problem(INVERSE_GAUSSIAN, 3, 2)
    _, g, _ = at(rows, no_penalty(3, 2), free, x)
    assert 1e-4 < error(g, differences(rows, no_penalty(3, 2), free, x)[0]) < 0.3
