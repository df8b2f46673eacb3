"""Adaptive quadrature: the marginal likelihood by SciPy, derivatives by differences, lme4 with nAGQ = 1 and 20."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from scipy.integrate import quad

from bayesimp.analysis.laplace_check import doubt
from bayesimp.kernels.families.scalar import LOGIT, POISSON, PROBIT
from bayesimp.kernels.glmm.rows import GlmmRows
from bayesimp.kernels.laplace.criterion import laplace
from bayesimp.kernels.laplace.quadrature import quadrature
from bayesimp.kernels.laplace.record import fit_laplace, free_elements, laplace_at, no_penalty
from tests.kernels.glmm_tables import FAMILIES, REFERENCE, make_rows
from tests.longhand.laplace import log_density

sys.path.insert(0, str(REFERENCE))
from quadrature_tables import CASES, table

BETA = np.array([-0.3, 0.2, 0.5])


def rows_with_everything(family):
    """Trials, weights, an offset, a slope as the one effect, a cluster without rows."""
    rows, rng = (
        make_rows(family, [8, 1, 0, 12, 5], q=1, trials=1 if family == POISSON else 3),
        np.random.default_rng(1),
    )
    n = len(rows.y)
    return rows._replace(
        offset=rng.normal(size=n), weight=rng.uniform(0.5, 2, n), Z=rng.uniform(0.5, 1.5, (n, 1)) * rows.Z
    )


def marginal(rows, beta, l):
    """Log-likelihood, cluster by cluster."""
    total = 0.0
    for start, stop in zip(rows.first[:-1], rows.first[1:], strict=True):
        own = rows._replace(y=rows.y[start:stop], trials=rows.trials[start:stop])
        eta, z, w = (a[start:stop] for a in (rows.offset + rows.X @ beta, rows.Z[:, 0], rows.weight))

        def density(u, own=own, eta=eta, z=z, w=w):
            return np.exp(np.sum(w * log_density(own, eta + l * z * u)) - u**2 / 2) / np.sqrt(2 * np.pi)

        total += np.log(quad(density, -12, 12, epsabs=0, epsrel=1e-10, limit=400, points=[-2, 0, 2])[0])
    return total


@pytest.mark.parametrize("family", FAMILIES)
def test_value_is_the_marginal_likelihood(family):
    rows = rows_with_everything(family)
    for l, tolerance in ((0.8, 1e-7), (3.0, 3e-2)):
        exact = marginal(rows, BETA, l)
        errors = [quadrature(rows, nodes, np.r_[BETA, l], np.zeros(5)).value - exact for nodes in (1, 5, 25)]
        assert abs(errors[2]) < tolerance
        assert abs(errors[2]) < abs(errors[1]) < abs(errors[0])


@pytest.mark.parametrize("family", FAMILIES)
def test_one_node_is_laplace(family):
    rows, x = rows_with_everything(family), np.r_[BETA, 0.8]
    gradient, hessian = np.empty(4), np.empty((4, 4))
    value = laplace(rows, 1.0, no_penalty(3, 1), free_elements(1), x, np.zeros((5, 1)), gradient, hessian)
    ours = quadrature(rows, 1, x, np.zeros(5))
    assert ours.value == pytest.approx(value, abs=1e-6)
    np.testing.assert_allclose(ours.gradient, gradient, atol=1e-5)
    np.testing.assert_allclose(ours.hessian, hessian, atol=1e-5)


@pytest.mark.parametrize("nodes", [2, 5, 20])
@pytest.mark.parametrize("family", FAMILIES)
def test_derivatives_are_those_of_the_criterion(family, nodes):
    """Of the criterion itself, with few nodes too: nodes move with the parameters."""
    rows, h = rows_with_everything(family), 1e-5
    for l in (0.7, -2.0, 0.0):
        x = np.r_[BETA, l]
        ours = quadrature(rows, nodes, x, np.zeros(5))
        steps = [[quadrature(rows, nodes, x + s * e, np.zeros(5)) for s in (h, -h)] for e in np.eye(4)]
        slope = [(up.value - down.value) / (2 * h) for up, down in steps]
        bend = [(up.gradient - down.gradient) / (2 * h) for up, down in steps]
        np.testing.assert_allclose(ours.gradient, slope, atol=2e-6)
        np.testing.assert_allclose(ours.hessian, bend, atol=2e-6)


def rows_of(k):
    t = table(k)
    n, formula = len(t["y"]), t["formula"]
    X = np.column_stack(
        [np.ones(n), *([t["x"]] if " x " in formula else []), *([t["w"]] if "w" in formula else [])]
    )
    Z = t["x"][:, None] if "0 + x" in formula else np.ones((n, 1))
    family = {"poisson": POISSON, "probit": PROBIT}.get(t["family"], LOGIT)
    first = np.r_[0, np.cumsum(np.bincount(t["g"]))]
    return GlmmRows(family, t["y"], t["trials"], np.ones(n), np.zeros(n), X, np.ascontiguousarray(Z), first)


def lme4(k, nodes):
    entries = json.loads((REFERENCE / "quadrature_fits.json").read_text())
    return next(e for e in entries if (e.get("table"), e.get("nodes")) == (k, nodes))


@pytest.mark.parametrize("k", range(len(CASES)))
def test_against_lme4(k):
    """Its log-likelihood by quadrature lacks that of the saturated model, which is 0 of single trials."""
    rows, theirs = rows_of(k), lme4(k, 20)
    fit = fit_laplace(rows, nodes=20)
    assert fit.converged and not fit.separated
    np.testing.assert_allclose(fit.beta, theirs["beta"], atol=1e-5)
    assert fit.L[0, 0] == pytest.approx(theirs["sd"], abs=1e-5)
    assert fit.singular == (theirs["sd"] < 1e-6)
    np.testing.assert_allclose(np.sqrt(np.diag(fit.covariance))[:-1], theirs["se"], rtol=1e-3)
    saturated = 0.0
    if CASES[k][0] in ("trials", "poisson"):
        with np.errstate(divide="ignore"):
            mean = rows.y if rows.family == POISSON else np.log(rows.y) - np.log(rows.trials - rows.y)
            eta = np.clip(np.log(mean) if rows.family == POISSON else mean, -40, 40)
        saturated = log_density(rows, eta).sum()
    assert fit.loglik - saturated == pytest.approx(theirs["loglik"], abs=1e-5)
    assert np.abs(fit.gradient).max() < 1e-4


def test_where_laplace_runs_away():
    """Cluster sd 4, intercept -1.6, three rows a cluster: Laplace by lme4 says -5.9 and 7.9."""
    rows, theirs = rows_of(0), lme4(0, 1)
    assert theirs["beta"][0] < -5.5 and theirs["sd"] > 7.5
    ours = fit_laplace(rows, nodes=20)
    assert abs(ours.beta[0] + 1.6) < 1.2 and abs(ours.L[0, 0] - 4) < 1
    there = laplace_at(rows, 1.0, theirs["beta"], np.array([[theirs["sd"]]]), free_elements(1))
    assert there == pytest.approx(theirs["loglik"], abs=1e-4)
    assert laplace_at(rows, 1.0, ours.beta, ours.L, ours.free, 20) == pytest.approx(ours.loglik, abs=1e-9)


def test_doubt_is_how_far_estimates_move():
    doubted = []
    for k in range(len(CASES)):
        rows = rows_of(k)
        one, many = fit_laplace(rows), fit_laplace(rows, nodes=40)
        if one.singular:
            assert np.isnan(doubt(rows, one))
            continue
        moves = np.abs(np.r_[many.beta - one.beta, many.L[0, 0] - one.L[0, 0]]) / np.sqrt(
            np.diag(one.covariance)
        )
        expected = max(4 * moves[:-1].max(), 2 * moves[-1])
        if expected < 1:
            assert doubt(rows, one) == pytest.approx(expected, rel=0.25, abs=0.02)
        else:
            assert doubt(rows, one) > 0.8
            doubted.append(k)
        assert doubt(rows, fit_laplace(rows, nodes=20), 20) < 1
    assert doubted == [0, 1]


def test_warm_and_scaled_fits_are_the_same():
    rows = rows_of(2)
    cold, other = fit_laplace(rows, nodes=7), fit_laplace(rows._replace(y=1 - rows.y), nodes=7)
    warm = fit_laplace(rows, nodes=7, start=other)
    np.testing.assert_allclose(warm.beta, cold.beta, atol=1e-6)
    np.testing.assert_allclose(warm.covariance, cold.covariance, rtol=1e-4, atol=1e-8)
    np.testing.assert_allclose(warm.modes, cold.modes, atol=1e-4)
    units = np.array([1.0, 1000.0, 1e-3])
    scaled = fit_laplace(rows._replace(X=rows.X * units, Z=50 * rows.Z), nodes=7)
    np.testing.assert_allclose(scaled.beta * units, cold.beta, atol=1e-6)
    assert 50 * scaled.L[0, 0] == pytest.approx(cold.L[0, 0], abs=1e-6)


def test_no_maximum_and_no_variance():
    rng = np.random.default_rng(3)
    x, one, first = rng.normal(size=60), np.ones(60), np.arange(0, 61, 6)
    X = np.column_stack([one, x])
    rows = GlmmRows(LOGIT, (x > 0).astype(float), one, one, 0 * one, X, one[:, None], first)
    fit = fit_laplace(rows, nodes=10)
    assert fit.separated and np.isfinite(fit.beta).all() and np.isfinite(fit.covariance).all()
    rows = rows._replace(y=np.tile([0.0, 1.0], 30))  # the same number of events in every cluster
    fit = fit_laplace(rows, nodes=10)
    assert fit.singular and fit.converged and fit.L[0, 0] == 0.0
    plain = fit_laplace(rows._replace(Z=np.empty((60, 0)), first=np.array([0, 60])))
    np.testing.assert_allclose(fit.beta, plain.beta, atol=1e-6)
    np.testing.assert_allclose(fit.covariance[:2, :2], plain.covariance, rtol=1e-4)
    assert fit.loglik == pytest.approx(plain.loglik, abs=1e-8)
