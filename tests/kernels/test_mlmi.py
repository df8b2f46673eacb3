"""Draws of mlmi: the exact posterior, whatever the cluster sizes."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.interpolate import RectBivariateSpline

from bayesimp.kernels.covariance.update import HUANG_WAND, CovarianceUpdate
from bayesimp.kernels.families.scalar import LOGIT, POISSON
from bayesimp.kernels.glmm.gibbs import ALL_MOVES, GlmmPrior, glmm_step, new_tallies
from bayesimp.kernels.glmm.rows import GlmmRows
from bayesimp.kernels.mlmi.draw import TALLIES, mlmi_step
from tests.kernels.glmm_tables import FAMILIES, REFERENCE, make_rows
from tests.longhand import laplace as longhand

NU, SCALE, PRECISION = 2.0, 2.5, 0.01


def draws(rows, n, seed=0, burn=20, prior=None):
    """Parameters (n, p + q (q+1) / 2), effects (n, m, q), tallies by name."""
    m, p, q = len(rows.first) - 1, rows.X.shape[1], rows.Z.shape[1]
    d, rng = q * (q + 1) // 2, np.random.default_rng(seed)
    beta, Psi, B, u = np.zeros(p), np.zeros((q, q)), np.zeros((m, q)), np.zeros((m, q))
    parameters, effects = [], []
    tallies, fit, covariance = np.zeros(len(TALLIES), np.int64), np.zeros(p + d), np.zeros((p + d, p + d))
    prior = prior or (PRECISION * np.eye(p), np.zeros(p), NU, np.full(q, SCALE))
    arguments = (*prior, fit, u, covariance, beta, Psi, B, tallies)
    for k in range(n + burn):
        assert mlmi_step(rng, rows, 1.0, *arguments) == 0
        if k >= burn:
            parameters.append(np.concatenate([beta, Psi[np.tril_indices(q)]]))
            effects.append(B.copy())
    return np.array(parameters), np.array(effects), dict(zip(TALLIES, tallies.tolist(), strict=True))


def on_a_grid(rows):
    """Posterior of (beta0, sd) of a model with an intercept only, by quadrature: values, weights."""
    b, s = np.linspace(-2.5, 1.5, 31), np.exp(np.linspace(-4, 2, 40))
    log = np.array([[longhand.marginal(rows, np.array([x]), np.array([[y]]), 20) for y in s] for x in b])
    spline = RectBivariateSpline(b, np.log(s), log)  # a tenfold finer grid than quadrature has time for
    b, s = np.linspace(-2.5, 1.5, 301), np.exp(np.linspace(-4, 2, 400))
    log = spline(b, np.log(s))
    log += -0.5 * PRECISION * b[:, None] ** 2 - 0.5 * (NU + 1) * np.log1p((s / SCALE) ** 2 / NU) + np.log(s)
    w = np.exp(log - log.max())
    return b, s**2, w / w.sum()


def effective(x):
    """Effective sample size by batch means."""
    batches = x[: len(x) // 40 * 40].reshape(40, -1).mean(axis=1)
    return min(len(x), x.var() / batches.var(ddof=1) * 40)


@pytest.mark.parametrize("family", FAMILIES)
def test_parameters_are_draws_of_the_exact_posterior(family):
    """30 clusters x 5 rows, psi = 1 (logit: reliability about 0.33), against Gauss-Hermite quadrature on a grid."""
    rows = make_rows(family, [5] * 30, p=1, q=1, seed=3, sd=1.0)
    parameters, _, tallies = draws(rows, 2_000)
    b, psi, w = on_a_grid(rows)
    for x, values, weights in ((parameters[:, 0], b, w.sum(1)), (parameters[:, 1], psi, w.sum(0))):
        x = np.log(x) if values is psi else x
        values = np.log(values) if values is psi else values
        middle = np.cumsum(weights) - weights / 2
        n = effective(x)
        for level in (0.1, 0.25, 0.5, 0.75, 0.9):
            below = np.mean(x < np.interp(level, middle, values))
            assert abs(below - level) < 4.5 * np.sqrt(level * (1 - level) / n)
        assert n > 300
    assert tallies["accepted"] > 0.5 * tallies["proposals"]
    assert tallies["effects accepted"] > 0.8 * tallies["effect proposals"]


def test_linear_predictor_of_a_large_cluster():
    """15 clusters x 200 rows: its sd is that of the Gibbs kernel under the same prior."""
    rows = make_rows(LOGIT, [200] * 15, p=1, q=1, seed=1, sd=1.0)
    parameters, effects, tallies = draws(rows, 1_500)
    predictor = parameters[:, 0, None] + effects[:, :, 0]
    rng, counts = np.random.default_rng(1), new_tallies()
    half_t = CovarianceUpdate(HUANG_WAND, NU, np.eye(1), np.full(1, SCALE))
    prior = GlmmPrior(PRECISION * np.eye(1), np.zeros(1), half_t)
    beta, aux, Psi, B = np.zeros((1, 1)), np.ones(0), np.eye(1), np.zeros((15, 1, 1))
    exact = []
    for _ in range(2_000):
        assert glmm_step(rng, rows, 1, prior, beta, aux, Psi, B, counts, ALL_MOVES) == 0
        exact.append(beta[0, 0] + B[:, 0, 0])
    expected = np.array(exact)[100:].std(axis=0)
    ratio = predictor.std(axis=0) / expected
    assert np.all(np.abs(ratio - 1) < 0.1) and abs(ratio.mean() - 1) < 0.03
    error = np.sqrt(
        1 / min(effective(x) for x in predictor.T) + 1 / min(effective(x) for x in np.array(exact).T)
    )
    assert np.abs((predictor.mean(0) - np.array(exact)[100:].mean(0)) / expected).max() < 4.5 * error
    assert tallies["effects accepted"] > 0.85 * tallies["effect proposals"]


@pytest.mark.parametrize("name", ["sporadic", "bernoulli", "poisson"])
def test_against_nuts(name):
    """Quantiles of frozen NUTS draws (tests/reference/glmm/make_nuts.py), a covariate; sporadic: 15 large clusters, an
    intercept and a slope, among what is compared effects and linear predictors of missing rows."""
    frozen = json.loads((REFERENCE / f"nuts_{name}.json").read_text())
    data, m, q = frozen["data"], frozen["clusters"], frozen["q"]
    y, n = np.array(data["y"], float), len(data["y"])
    X = np.column_stack([np.ones(n), data["x"]])
    first = np.r_[0, np.cumsum(np.bincount(data["cluster"], minlength=m))]
    family, one = POISSON if name == "poisson" else LOGIT, np.ones(n)
    rows = GlmmRows(family, y, one, one, np.zeros(n), X, np.ascontiguousarray(X[:, :q]), first)
    prior = (np.diag([1 / 25, 1 / 2.5**2]), np.zeros(2), 2.0, np.ones(q))
    parameters, effects, _ = draws(rows, 1_500, prior=prior)
    lower = dict(zip(zip(*np.tril_indices(q), strict=True), parameters[:, 2:].T, strict=True))
    for name, reference in frozen["posterior"].items():
        kind, _, at = name.rstrip("]").partition("[")
        if kind.startswith("mean"):
            continue
        at = [int(a) for a in at.split(",")]
        if kind == "beta":
            x = parameters[:, at[0]]
        elif kind == "Psi":
            x = lower[max(at), min(at)]
        elif kind == "b":
            x = effects[:, at[0], at[1]]
        else:
            i, row = data["cluster_missing"][at[0]], np.array([1.0, data["x_missing"][at[0]]])
            x = parameters[:, :2] @ row + effects[:, i] @ row[:q]
        for level, quantile, error in zip(
            frozen["probs"], reference["quantiles"], reference["quantiles_mcse"], strict=True
        ):
            slope = (np.abs(x - quantile) < 0.2 * reference["sd"]).mean() / (0.4 * reference["sd"])
            below = x <= quantile
            own = np.sqrt(level * (1 - level) / min(effective(x), effective(below.astype(float))))
            assert abs(below.mean() - level) < 4.5 * np.hypot(own, slope * error), (name, level)


def test_effects_given_all_are_their_exact_conditional():
    """Small clusters, all events: a law far from normal. Each draw of b_i has its own beta, Psi; its probability under
    that conditional, by quadrature, is uniform."""
    rows = make_rows(LOGIT, [4] * 12, p=1, q=1, seed=2, sd=1.0)
    rows.y[:4], rows.y[4:8] = 1.0, 0.0
    parameters, effects, _ = draws(rows, 1_200)
    z = np.linspace(-7, 7, 400)
    for i, y in ((0, 1.0), (1, 0.0)):
        ranks = []
        for (beta, psi), b in zip(parameters, effects[:, i, 0], strict=True):
            v = np.sqrt(psi) * z
            sign = 1 if y else -1
            log = -4 * np.logaddexp(0, -sign * (beta + v)) - 0.5 * z**2
            w = np.exp(log - log.max())
            ranks.append(w[v < b].sum() / w.sum())
        ranks = np.array(ranks)
        n = effective(ranks)
        assert abs(ranks.mean() - 0.5) < 4.5 * np.sqrt(1 / 12 / n)
        assert abs((ranks**2).mean() - 1 / 3) < 4.5 * np.sqrt(4 / 45 / n)


def test_random_slopes_and_clusters_without_rows():
    rows = make_rows(LOGIT, [0, 40, 40, 0] + [40] * 12, q=2, seed=1, sd=1.0)
    parameters, effects, tallies = draws(rows, 400)
    assert tallies["accepted"] > 0.35 * tallies["proposals"]
    ratio = effects[:, [0, 3], 0].ravel() / np.sqrt(np.repeat(parameters[:, 3], 2))
    assert abs(ratio.mean()) < 0.2 and abs(ratio.std() - 1) < 0.15
    assert np.all(parameters[:, 3] * parameters[:, 5] > parameters[:, 4] ** 2)


@pytest.mark.parametrize("family", [LOGIT, POISSON])
@pytest.mark.parametrize("events", ["none", "all", "by cluster", "one"])
def test_separated_and_singular_data_give_finite_draws(family, events):
    for q in (1, 2):
        rows = make_rows(family, [10] * 6, p=2, q=q)
        y = np.zeros(60)
        if events == "all":
            y[:] = 1.0
        elif events == "by cluster":
            y[:30] = 1.0
        elif events == "one":
            y[0] = 1.0
        parameters, effects, tallies = draws(rows._replace(y=y), 60)
        assert np.isfinite(parameters).all() and np.isfinite(effects).all()
        assert tallies["accepted"] > 0.05 * tallies["proposals"]


def test_effects_of_large_clusters_are_accepted():
    """Jolani's design, strong heterogeneity: 6 studies x 300, an intercept and a slope."""
    rows = make_rows(LOGIT, [300] * 6, q=2, seed=4, sd=1.2)
    _, _, tallies = draws(rows, 200)
    assert tallies["effects accepted"] > 0.8 * tallies["effect proposals"]
