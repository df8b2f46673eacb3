"""The penalised fit against lme4 with nAGQ = 0 (tests/reference/glmm/penalised_fits.R), separated tables included."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import special, stats

from bayesimp.kernels.families.scalar import LOGIT, POISSON, PROBIT
from bayesimp.kernels.laplace.record import free_elements
from bayesimp.kernels.mlmi.penalised_fit import FAILED, FITTED, LARGE, penalised_fit
from bayesimp.kernels.mlmi.penalised_mode import highest
from tests.kernels.glmm_tables import REFERENCE, make_rows, rows_of

from penalised_tables import cases  # isort: skip  (its folder is put on the path by glmm_tables)

CASES = cases()
FROZEN = {d["table"]: d for d in json.loads((REFERENCE / "penalised_fits.json").read_text())[1:]}
ERRORS = ("constant", "complete", "one cluster")  # where lme4 stops


def fit(rows, start=None):
    """Code, theta, beta, u, standard errors of beta."""
    m, p, q = len(rows.first) - 1, rows.X.shape[1], rows.Z.shape[1]
    free, best, F = free_elements(q), np.empty(len(rows.y)), np.zeros((p, p))
    highest(rows, best)
    cold = start is None
    theta, beta, u = start or ((free[:, 0] == free[:, 1]).astype(float), np.zeros(p), np.zeros((m, q)))
    metric = np.eye(len(free)) / (1 + 2 * m)
    code = penalised_fit(rows, 1.0, free, best.sum(), theta, metric, beta, u, cold, F)
    se = np.full(p, np.nan)
    if code != FAILED:
        se = np.sqrt(np.diag(np.linalg.inv(np.tril(F) + np.tril(F, -1).T)))
    return code, theta, beta, u, se


def lower(theta, q):
    L, free = np.zeros((q, q)), free_elements(q)
    L[free[:, 0], free[:, 1]] = theta
    return L


def criterion(rows, theta, beta, u):
    """V with all constants, longhand, and the slopes of f in beta and u."""
    q = rows.Z.shape[1]
    L, g = lower(theta, q), np.repeat(np.arange(len(rows.first) - 1), np.diff(rows.first))
    eta = rows.offset + rows.X @ beta + np.sum(rows.Z * (u @ L.T)[g], axis=1)
    n, y = rows.trials, rows.y
    if rows.family == POISSON:
        log_p, s, C = stats.poisson.logpmf(y, np.exp(eta)), y - np.exp(eta), np.exp(eta)
    elif rows.family == LOGIT:
        p = special.expit(eta)
        log_p = y * special.log_expit(eta) + (n - y) * special.log_expit(-eta)
        log_p += special.gammaln(n + 1) - special.gammaln(y + 1) - special.gammaln(n - y + 1)
        s, C = y - n * p, n * p * (1 - p)
    else:
        sign = 2 * y - 1
        log_p, ratio = stats.norm.logcdf(sign * eta), stats.norm.pdf(eta) / stats.norm.cdf(sign * eta)
        s, C = sign * ratio, ratio * (sign * eta + ratio)
    ZL = rows.Z @ L
    value, slope_u = log_p.sum() - 0.5 * np.sum(u**2), -u.copy()
    for i in range(len(u)):
        own = g == i
        value -= 0.5 * np.linalg.slogdet(np.eye(q) + (ZL[own].T * C[own]) @ ZL[own])[1]
        slope_u[i] += ZL[own].T @ s[own]
    return value, rows.X.T @ s, slope_u


@pytest.mark.parametrize("name", CASES)
def test_against_lme4(name):
    """V never below lme4's; where its search ended at the same place, estimates and standard errors."""
    t, theirs = CASES[name], FROZEN[name]
    rows = rows_of(t)
    code, theta, beta, u, se = fit(rows)
    change = name.partition("-")[2]
    if change == "one cluster":
        assert "error" in theirs  # refused by `published_step`
        return
    if "error" in theirs or theirs["dropped"]:
        assert change in (*ERRORS, "collinear") and code == FAILED
        return
    assert code == (LARGE if change in ("quasi", "one event", "by cluster") else FITTED)
    value, slope, slope_u = criterion(rows, theta, beta, u)
    assert value > theirs["loglik"] - 5e-5
    finite = np.array(theirs["se"]) < 100
    assert np.array_equal(se < 100, finite)
    if value < theirs["loglik"] + 0.005:
        near = np.abs(beta - theirs["beta"]) / theirs["se"]
        assert near[finite].max() < 0.02
        assert np.abs(se / theirs["se"] - 1)[finite].max() < 0.01
        L, R = lower(theta, rows.Z.shape[1]), lower(theirs["theta"], rows.Z.shape[1])
        assert np.abs(L @ L.T - R @ R.T).max() < 0.02 * np.abs(R @ R.T).max() + 0.01
    # separated: as far out, up to some steps of 1 in a linear predictor
    assert np.abs(beta - theirs["beta"])[~finite].max(initial=0) < 4.0
    if code == FITTED:
        assert max(np.abs(slope * se).max(), np.abs(slope_u).max()) < 5e-3


@pytest.mark.parametrize("family", [LOGIT, PROBIT, POISSON])
def test_estimates_do_not_depend_on_the_start(family):
    """From an estimate of other rows as from none; V is stationary in theta, by differences."""
    rows = make_rows(family, [0, 30, 5, 1, 60] * 4, seed=2)
    code, theta, beta, u, se = fit(rows)
    start = fit(make_rows(family, [0, 30, 5, 1, 60] * 4, seed=3))[1:4]
    warm = fit(rows, start)
    assert code == warm[0] == FITTED
    L, M = lower(theta, 2), lower(warm[1], 2)
    assert np.abs((beta - warm[2]) / se).max() < 1e-3 and np.abs(se / warm[4] - 1).max() < 1e-3
    assert np.abs(L @ L.T - M @ M.T).max() < 2e-3
    value = criterion(rows, theta, beta, u)[0]
    for l in range(3):
        for h in (-0.01, 0.01):
            moved = theta.copy()
            moved[l] += h
            assert profile(rows, moved, beta, u) < value + 1e-6


def profile(rows, theta, beta, u):
    """V at theta: the joint mode by Newton's steps with a dense K, from (beta, u)."""
    (m, q), p = u.shape, len(beta)
    g = np.repeat(np.arange(m), np.diff(rows.first))
    J = np.zeros((len(g), p + m * q))
    J[:, :p] = rows.X
    ZL = rows.Z @ lower(theta, q)
    for c in range(q):
        J[np.arange(len(g)), p + g * q + c] = ZL[:, c]
    x = np.r_[beta, u.ravel()]
    ridge = np.r_[np.zeros(p), np.ones(m * q)]
    for _ in range(8):
        eps = 1e-5
        s, after = scores(rows, J @ x), scores(rows, J @ x + eps)
        K = (J.T * ((s - after) / eps)) @ J + np.diag(ridge)
        x = x + np.linalg.solve(K, J.T @ s - ridge * x)
    return criterion(rows, theta, x[:p], x[p:].reshape(m, q))[0]


def scores(rows, eta):
    if rows.family == POISSON:
        return rows.y - np.exp(eta)
    if rows.family == LOGIT:
        return rows.y - rows.trials * special.expit(eta)
    sign = 2 * rows.y - 1
    return sign * np.exp(stats.norm.logpdf(eta) - stats.norm.logcdf(sign * eta))


def test_a_separated_estimate_does_not_move_on():
    """A start where the search has stopped is where it stops; lme4's is 19 from zero."""
    rows = rows_of(CASES["001-quasi"])
    out = fit(rows)
    first = out[2].copy()
    for _ in range(5):
        out = fit(rows, out[1:4])
    assert out[0] == LARGE and np.abs(out[2] - first).max() < 2.5
