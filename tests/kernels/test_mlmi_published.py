"""The published algorithm of Jolani (2025) against his code (tests/reference/glmm/jolani.R), with its known faults.

jolani.json: of 400 draws of his code, by cluster, mean, sd and quartiles of the linear predictors of two missing rows,
mean log tries of accept-reject; shares of unconditional draws and, of what was accepted, of ratios above 1. "large" has
15 clusters x 200 rows, "slope" 8 x 60 with a random slope, "small" 30 x 5.
"""

from __future__ import annotations

import functools
import json

import numpy as np
import pytest
from numba import njit
from scipy import special

from bayesimp.kernels.families.scalar import LOGIT, POISSON
from bayesimp.kernels.glmm.modes import cluster_log_likelihood
from bayesimp.kernels.glmm.rows import GlmmRows
from bayesimp.kernels.laplace.record import free_elements
from bayesimp.kernels.mlmi.penalised_mode import highest
from bayesimp.kernels.mlmi.published import (
    FAILED,
    PUBLISHED_TALLIES,
    new_state,
    published_step,
    reaches,
    single_rows,
)
from tests.kernels.glmm_tables import REFERENCE, make_rows

from jolani_tables import DESIGNS, table  # isort: skip  (its folder is put on the path by glmm_tables)

FROZEN = json.loads((REFERENCE / "jolani.json").read_text())
SEEDS = (1, 2, 3)
DRAWS = 400
LIMIT = 4.5  # standard errors; some hundred comparisons a seed


def draws(rows, n=DRAWS, seed=0, incomplete=None):
    """beta (n, p), Psi (n, q, q), effects (n, m, q), state, tallies by name."""
    m, p, q = len(rows.first) - 1, rows.X.shape[1], rows.Z.shape[1]
    state, rng = new_state(m, p, q), np.random.default_rng(seed)
    beta, Psi, B, tallies = np.zeros(p), np.zeros((q, q)), np.zeros((m, q)), np.zeros(7, np.int64)
    incomplete = np.ones(m, bool) if incomplete is None else incomplete
    out = []
    for _ in range(n):
        assert (
            published_step(rng, rows, 1.0, single_rows(rows), incomplete, state, beta, Psi, B, tallies) == 0
        )
        out.append((beta.copy(), Psi.copy(), B.copy()))
    return (
        *(np.array(x) for x in zip(*out, strict=True)),
        state,
        dict(zip(PUBLISHED_TALLIES, tallies.tolist(), strict=True)),
    )


@functools.cache
def rows_of(name):
    t = table(name)
    n = len(t["y"])
    one, X = np.ones(n), np.column_stack([np.ones(n), t["x"]])
    first = np.r_[0, np.cumsum(np.bincount(t["g"]))]
    Z = np.ascontiguousarray(X[:, : 1 + t["slope"]])
    return GlmmRows(LOGIT, t["y"], one, one, np.zeros(n), X, Z, first)


def distances(name, seed, variant=None):
    """What his code drew and what ours did, in standard errors of the differences, by kind. variant: a wrong law."""
    rows, theirs = rows_of(name), FROZEN[name]
    beta, Psi, B, state, tallies = draws(rows, seed=seed)
    rng, q = np.random.default_rng(seed), rows.Z.shape[1]
    if variant == "unconditional":
        B = np.einsum("kab,kib->kia", np.linalg.cholesky(Psi), rng.normal(size=B.shape))
    elif variant == "modes":
        L = np.zeros((q, q))
        L[tuple(free_elements(q).T)] = state.theta
        B = np.broadcast_to(state.u @ L.T, B.shape)
    elif variant == "beta not drawn":
        beta = np.broadcast_to(state.beta, beta.shape)
    out = {}
    for side, x in ((1, -1.0), (2, 1.0)):
        row = np.array([1.0, x])
        eta = (beta @ row)[:, None] + B @ row[:q]
        for k in ("mean", "q25", "q75"):  # not sds: a few unconditional draws make the whole of them
            out[f"{k}_{side}"] = compare(eta, k, np.array(theirs[f"{k}_{side}"]))
    n = DRAWS * DESIGNS[name][0]
    mine = (
        tallies["unconditional draws"] / n,
        tallies["ratios above 1"] / (n - tallies["unconditional draws"]),
    )
    for k, share in zip(("unconditional", "above_1"), mine, strict=True):
        # clusters of one draw share beta*, Psi*: as if there were a quarter as many
        out[k] = np.array([(share - theirs[k]) / np.sqrt(((share + theirs[k]) / 2 + 1 / n) * 8 / n)])
    return {k: np.abs(v).max(initial=0) for k, v in out.items()}


def compare(x, kind, theirs):
    n = len(x)
    q25, q75 = np.quantile(x, [0.25, 0.75], axis=0)
    spread = np.maximum(q75 - q25, 1e-9) / 1.349
    if kind == "mean":
        heavy = x.std(0) > 1.3 * spread
        return ((x.mean(0) - theirs) / (spread * np.sqrt(2 / n)))[~heavy]
    own = q25 if kind == "q25" else q75
    return (own - theirs) / (1.3625 * spread * np.sqrt(2 / n))  # sqrt(p (1 - p)) / phi(0.674)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", DESIGNS)
def test_draws_are_those_of_his_code(name, seed):
    z = distances(name, seed)
    assert max(z.values()) < LIMIT, z


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("variant", "name"),
    [("unconditional", "large"), ("modes", "slope"), ("modes", "small"), ("beta not drawn", "small")],
)
def test_wrong_laws_are_told_apart(variant, name, seed):
    assert max(distances(name, seed, variant).values()) > 1.5 * LIMIT


def test_psi_is_shrunken():
    """30 clusters x 5 rows, psi = 1, reliability about 1/3; the posterior's median is near 1, this one is not."""
    medians = [
        np.median(draws(make_rows(LOGIT, [5] * 30, p=1, q=1, seed=seed, sd=1.0), 100)[1])
        for seed in range(24)
    ]
    assert np.mean(medians) + 3 * np.std(medians, ddof=1) / np.sqrt(24) < 0.75


def joint_sd(rows, state):
    """sd of beta0 + b_i by the curvature of the joint density at the estimate, of an intercept and nothing else; u."""
    m, L = len(rows.first) - 1, state.theta[0]
    g = np.repeat(np.arange(m), np.diff(rows.first))
    p = special.expit(state.beta[0] + L * state.u[g, 0])
    J = np.column_stack([np.ones(len(g)), g[:, None] == np.arange(m)]).astype(float)
    K = (J.T * (p * (1 - p))) @ J + np.diag(np.r_[0.0, np.full(m, L**-2)])
    V = np.linalg.inv(K)
    return np.sqrt(V[0, 0] + 2 * V[0, 1:] + np.diag(V)[1:]), state.u[:, 0]


def test_linear_predictors_of_large_clusters():
    """15 clusters x 200 rows, sd 1, six tables: the sd of the linear predictor is right in clusters near the middle, and
    too large, by the unconditional draws, the further out a cluster is. The middle half of the draws is right.

    In one cluster of one such table it has been reported as 1.3 times what it should be, from 40 draws.
    """
    near, far, middle = [], [], []
    for seed in range(100, 106):
        rows = make_rows(LOGIT, [200] * 15, p=1, q=1, seed=seed, sd=1.0)
        beta, _, B, state, _ = draws(rows, 300, seed)
        eta = beta[:, :1] + B[:, :, 0]
        sd, u = joint_sd(rows, state)
        ratio = eta.std(0, ddof=1) / sd
        near.append(ratio[np.abs(u) < 1].mean())
        far.append(ratio[np.abs(u) > 1].mean())
        middle.append((np.subtract(*np.quantile(eta, [0.75, 0.25], axis=0)) / 1.349 / sd).mean())
    error = {k: np.std(v, ddof=1) / np.sqrt(6) for k, v in (("near", near), ("far", far), ("middle", middle))}
    assert max(error["near"], error["middle"]) < 0.03
    assert (
        abs(np.mean(near) - 1) < 0.03 + 3 * error["near"]
        and abs(np.mean(middle) - 1) < 0.03 + 3 * error["middle"]
    )
    assert np.mean(far) > 1.1


@pytest.mark.parametrize("seed", [4, 5, 6])
def test_unconditional_draws_where_clusters_are_large(seed):
    """6 studies x 300, an intercept and a slope, sd 1.2."""
    rows = make_rows(LOGIT, [300] * 6, q=2, seed=seed, sd=1.2)
    tallies = draws(rows, 60)[-1]
    assert 0.02 < tallies["unconditional draws"] / tallies["clusters drawn"] < 0.8


@njit
def sums(rows, i, eta0, b, best, threshold):
    whole = cluster_log_likelihood(rows, 1.0, i, eta0, b)
    return whole, reaches(rows, 1.0, i, eta0, b, best, whole + threshold)


def test_a_try_is_given_up_only_where_it_cannot_be_accepted():
    """`reaches` against the whole sum, at thresholds around it."""
    rng = np.random.default_rng(1)
    for family in (LOGIT, POISSON):
        rows = make_rows(family, [300, 3], p=1, q=1, seed=1)
        best = np.empty(303)
        highest(rows, best)
        for i in (0, 1):
            for _ in range(50):
                b, eta0 = rng.normal(size=1), np.full(303, rng.normal())
                whole, given = sums(rows, i, eta0, b, best, -1e-3)
                assert given == pytest.approx(whole)
                whole, given = sums(rows, i, eta0, b, best, rng.exponential(20.0))
                assert given == -np.inf or given == pytest.approx(whole)


def test_separated_rows_are_fitted_and_counted():
    rows = make_rows(LOGIT, [40] * 6, p=2, q=1, seed=1)
    X = np.column_stack([rows.X[:, 0], rows.X[:, 1] > 1])
    y = np.where(X[:, 1] == 1, 0.0, rows.y)
    beta, Psi, B, state, tallies = draws(rows._replace(X=X, y=y), 50)
    assert tallies["separated"] == tallies["visits"] == 50
    assert np.isfinite(beta).all() and np.isfinite(Psi).all() and np.isfinite(B).all()
    assert -25 < state.beta[1] < -12 and beta[:, 1].std() > 50


@pytest.mark.parametrize("what", ["constant", "one cluster", "collinear", "predicted perfectly", "no rows"])
def test_no_estimate_where_lme4_stops(what):
    rows = make_rows(LOGIT, [40] * 6, p=2, q=1, seed=1)
    if what == "constant":
        rows = rows._replace(y=np.ones(240))
    elif what == "one cluster":
        rows = rows._replace(first=np.array([0, 240, 240, 240]))
    elif what == "collinear":
        rows = rows._replace(X=np.column_stack([rows.X, 2 * rows.X[:, 1] - 1]))
    elif what == "predicted perfectly":
        rows = rows._replace(y=(rows.X[:, 1] > 0).astype(float))
    else:
        rows = make_rows(LOGIT, [0] * 6, p=2, q=1)
    m, p = len(rows.first) - 1, rows.X.shape[1]
    beta, Psi, B = np.full(p, 3.0), np.eye(1), np.zeros((m, 1))
    arguments = (np.ones(m, bool), new_state(m, p, 1), beta, Psi, B, np.zeros(7, np.int64))
    for _ in range(2):
        assert published_step(np.random.default_rng(1), rows, 1.0, single_rows(rows), *arguments) == FAILED
    assert np.all(beta == 3.0)  # the previous value is kept
