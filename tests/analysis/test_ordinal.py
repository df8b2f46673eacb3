"""Ordinal analyses of completed tables: against R's ordinal and integrals, with wrong variants; their probabilities."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, special, stats

import bayesimp as bi
from bayesimp.analysis.compare import compare
from bayesimp.analysis.fit import fit_each
from bayesimp.errors import DataError, SpecificationError, StatisticalWarning
from bayesimp.kernels.families.codes import ORDINAL
from bayesimp.kernels.glmm.rows import GlmmRows
from bayesimp.kernels.laplace.fit import SEPARATED
from bayesimp.kernels.laplace.ordinal import bernoulli_rows, fit_ordinal, ordinal_at, quadrature_slope
from bayesimp.kernels.laplace.record import fit_laplace, free_elements
from tests.kernels.glmm_tables import REFERENCE

LEVELS = ["none", "mild", "moderate", "severe"]
CASES = {  # key of ordinal_fits.json: formula, options
    "fixed": ("rating ~ x + arm", {}),
    "laplace": ("rating ~ x + arm + (1 | g)", {}),
    "quadrature": ("rating ~ x + arm + (1 | g)", {"quadrature": 10}),
    "slopes": ("rating ~ x + arm + (1 + x | g)", {}),
    "weighted": ("rating ~ x + arm + (1 | g)", {"weights": "w"}),
}


@cache
def tables() -> list[pd.DataFrame]:
    long = pd.read_csv(REFERENCE / "ordinal_tables.csv")
    long["rating"] = pd.Categorical(long["rating"], LEVELS, ordered=True)
    return [table.drop(columns="k").reset_index(drop=True) for _, table in long.groupby("k")]


@cache
def fitted(case: str):
    formula, options = CASES[case]
    return fit_each(tables(), formula, family="ordinal", **options)


def rows(formula: str = "", weights: bool = False) -> GlmmRows:
    """The rows of the first table, with x and arm; formula: its random part."""
    table = tables()[0].sort_values("g", kind="stable")
    n = len(table)
    X = np.column_stack([table["x"], table["arm"] == "b"]).astype(float)
    Z = np.column_stack([np.ones(n), table["x"]])[:, : {"": 0, "1": 1, "1 + x": 2}[formula]]
    first = np.r_[0, np.cumsum(table.groupby("g").size())] if formula else np.array([0, n])
    y = table["rating"].cat.codes.to_numpy(float)
    w = table["w"].to_numpy(float) if weights else np.ones(n)
    return GlmmRows(ORDINAL, y, np.ones(n), w, np.zeros(n), X, Z, first)


@pytest.mark.parametrize("case", CASES)
def test_fits_are_those_of_r(case):
    """In standard errors; R's searches end at a gradient of 1e-6, and its modes less precisely."""
    ours, theirs = fitted(case), json.loads((REFERENCE / "ordinal_fits.json").read_text())[case]
    assert ours.names == ("none|mild", "mild|moderate", "moderate|severe", "x", "arm[b]")
    for k, one in enumerate(theirs):
        V = np.array(one["vcov"], float)[:5, :5]
        error = np.sqrt(np.diag(V))
        assert np.abs((ours.estimates[k] - list(one["coef"].values())) / error).max() < 2e-4
        np.testing.assert_allclose(ours.covariances[k], V, atol=2.5e-3 * error.max() ** 2)
        assert ours.loglik[k] == pytest.approx(one["loglik"], abs=1e-4)
        if case != "fixed":
            sds = np.atleast_1d(one["sd"])
            np.testing.assert_allclose(np.exp(ours.components[k][: len(sds)]), sds, rtol=2e-4)
        if case == "slopes":
            assert np.tanh(ours.components[k][2]) == pytest.approx(one["cor"][0][1], abs=1e-4)


@pytest.mark.parametrize("wrong", ["no term in the thresholds", "no Hessian of that term", "levels reversed"])
def test_wrong_models_are_told_apart(wrong):
    """They miss R's numbers by more than 100 times the tolerance above."""
    own = rows("1")
    (one, *_) = json.loads((REFERENCE / "ordinal_fits.json").read_text())["laplace"]
    theirs, error = np.array(list(one["coef"].values())), np.sqrt(np.diag(np.array(one["vcov"], float))[:5])
    if wrong == "no term in the thresholds":
        fit = fit_laplace(bernoulli_rows(own))
    elif wrong == "levels reversed":
        fit = fit_ordinal(own._replace(y=3 - own.y))
    else:
        right = fit_ordinal(own)
        H = np.linalg.inv(right.covariance)
        H[:3, :3] -= _term_information(right.beta[:3], own)
        fit = right._replace(covariance=np.linalg.inv(H))
        assert np.abs(np.sqrt(np.diag(fit.covariance)[:5]) / error - 1).max() > 0.02
        return
    assert np.abs((fit.beta - theirs) / error).max() > 0.02


def _term_information(alpha, own):
    """Minus the second differences of sum n_l log(1 - exp(-(alpha_l - alpha_(l-1))))."""
    n = np.bincount(own.y.astype(int))[1:-1]

    def value(a):
        return n @ np.log1p(-np.exp(-np.diff(a)))

    h, eye = 1e-4, np.eye(3)
    return -np.array([[(value(alpha + h * (a + b)) - value(alpha + h * (a - b)) - value(alpha - h * (a - b))
                        + value(alpha - h * (a + b))) / (4 * h * h) for b in eye] for a in eye])  # fmt: skip


def longhand(own: GlmmRows, alpha, beta, sd) -> float:
    """The log-likelihood with one effect per cluster by SciPy's integrals of the definition."""
    cut, total = np.r_[-np.inf, alpha, np.inf], 0.0
    for first, stop in zip(own.first[:-1], own.first[1:], strict=True):
        y, eta = own.y[first:stop].astype(int), own.X[first:stop] @ beta + own.offset[first:stop]

        def density(b, y=y, eta=eta, w=own.weight[first:stop]):
            p = special.expit(cut[y + 1] - eta - b) - special.expit(cut[y] - eta - b)
            return np.prod(p**w) * stats.norm.pdf(b, scale=sd)

        total += np.log(integrate.quad(density, -8 * sd, 8 * sd, epsabs=1e-30, epsrel=1e-9, limit=200)[0])
    return total


def test_log_likelihood_is_that_of_the_definition():
    own = rows("1", weights=True)
    own = own._replace(offset=0.3 * own.X[:, 0], first=own.first[:4])
    kept = slice(0, own.first[-1])
    own = own._replace(
        **{name: getattr(own, name)[kept] for name in ("y", "trials", "weight", "offset", "X", "Z")}
    )
    alpha, beta, sd = np.array([-0.8, 0.4, 2.0]), np.array([0.3, -0.5]), 1.1
    assert set(own.y) == {0, 1, 2, 3}
    exact = longhand(own, alpha, beta, sd)
    at = np.r_[alpha, beta], np.array([[sd]]), free_elements(1)
    assert ordinal_at(own, *at, nodes=40) == pytest.approx(exact, abs=1e-8)
    assert abs(ordinal_at(own, *at) - exact) > 1e-3  # Laplace
    assert abs(ordinal_at(own, np.r_[alpha, -beta], *at[1:], nodes=40) - exact) > 0.1
    fit = fit_ordinal(own)
    moved = fit._replace(beta=at[0], L=at[1], u=np.zeros((3, 1)))
    h, slope = 1e-5, quadrature_slope(own, moved, 40)
    for a in range(5):
        ends = [ordinal_at(own, at[0] + t * np.eye(5)[a], *at[1:], nodes=40) for t in (-h, h)]
        assert slope[a] == pytest.approx((ends[1] - ends[0]) / (2 * h), abs=1e-5)


@pytest.mark.parametrize("nodes, formula", [(1, ""), (1, "1 + x"), (7, "1")])
def test_neither_start_nor_units_matter(nodes, formula):
    own = rows(formula)
    cold = fit_ordinal(own, nodes=nodes)
    other = fit_ordinal(own._replace(y=3 - own.y), nodes=nodes)
    warm = fit_ordinal(own, nodes=nodes, start=other)
    units = np.array([1e4, 0.01])
    scaled = fit_ordinal(own._replace(X=own.X * units, Z=own.Z * 50), nodes=nodes)
    error = np.sqrt(np.diag(cold.covariance)[:5])
    for fit, by in ((warm, 1.0), (scaled, np.r_[1.0, 1.0, 1.0, units])):
        assert fit.code == cold.code == 0
        assert np.abs((fit.beta * by - cold.beta) / error).max() < 1e-3
        np.testing.assert_allclose(np.sqrt(np.diag(fit.covariance)[:5]) * by, error, rtol=1e-3)
        assert fit.loglik == pytest.approx(cold.loglik, abs=1e-6)


def test_separated_data_are_said_to_be():
    table = tables()[0].assign(rating=lambda t: np.digitize(t["x"], [1.0, 4.0]))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fits = fit_each([table], "rating ~ x + (1 | g)", family="ordinal")
    assert [each.category for each in caught] == [StatisticalWarning] and "separated" in str(
        caught[0].message
    )
    assert fits.codes[0] & SEPARATED


def test_a_poor_approximation_is_said_to_be():
    """Few rows in each cluster and large effects: with 20 nodes the standard deviation is as the warning says."""
    rng = np.random.default_rng(4)
    g, x = np.repeat(np.arange(60), 2), rng.normal(size=120)
    y = np.digitize(0.5 * x + 3 * rng.normal(size=60)[g] + rng.logistic(size=120), [0.0, 0.3])
    table = pd.DataFrame({"g": g, "x": x, "y": y})
    with pytest.warns(StatisticalWarning, match="Give quadrature=20") as caught:
        fit_each([table], "y ~ x + (1 | g)", family="ordinal")
    better = fit_each([table], "y ~ x + (1 | g)", family="ordinal", quadrature=20)
    assert f"to {np.exp(better.components[0, 0]):.3g}" in str(caught[0].message)


def test_likelihoods_of_nested_models():
    large, small = fitted("laplace"), fit_each(tables(), "rating ~ arm + (1 | g)", family="ordinal")
    np.testing.assert_allclose(large.likelihood("own"), large.loglik)
    assert (large.likelihood("average") <= large.loglik).all() and (
        large.likelihood("average") > large.loglik - 1
    ).all()
    D1, D3 = (compare(large, small, method=name) for name in ("D1", "D3"))
    assert compare(large).terms == ("x", "arm[b]")  # without thresholds
    assert D3.df1 == 1 and D3.statistic == pytest.approx(D1.statistic, rel=0.2)


# probabilities of levels -------------------------------------------------------------------------------------------

NEW = pd.DataFrame({"x": [1.0, 4.0], "arm": ["a", "b"]})


def test_probabilities_and_their_errors_are_those_of_r():
    got, theirs = (
        fitted("fixed").predictions(NEW),
        json.loads((REFERENCE / "ordinal_fits.json").read_text())["fixed"],
    )
    assert list(got.at.columns) == ["x", "arm", "rating"] and list(got.at["rating"]) == LEVELS * 2
    for k, one in enumerate(theirs):
        G = got.gradients[k]
        np.testing.assert_allclose(got.values[k].reshape(2, 4), one["fit"], atol=1e-7)
        errors = np.sqrt(np.diag(G @ got.covariance[k] @ G.T)).reshape(2, 4)
        np.testing.assert_allclose(errors, one["se"], atol=1e-7)


def averaged(estimates, components, x, b):
    """Probabilities of levels at x and arm, averaged over normal effects of (1, x): 60^2 Gauss-Hermite nodes."""
    sd, rho = np.exp(components[:2]), np.tanh(components[2])
    z, w = np.polynomial.hermite_e.hermegauss(60)
    u = np.array(np.meshgrid(z, z)).reshape(2, -1)
    weight = np.outer(w, w).ravel() / (2 * np.pi)
    effect = sd[0] * u[0] + x * sd[1] * (rho * u[0] + np.sqrt(1 - rho**2) * u[1])
    at_most = special.expit(estimates[:3, None] - x * estimates[3] - b * estimates[4] - effect) @ weight
    return np.diff(np.r_[0.0, at_most, 1.0])


def test_averages_over_effects_are_integrals():
    """Values, and derivatives by every parameter by differences of the integral; those at effects of zero are others."""
    made = fitted("slopes")
    got = made.predictions(NEW)
    for j, (x, b) in enumerate(((1.0, 0.0), (4.0, 1.0))):
        at = slice(4 * j, 4 * j + 4)
        for k in range(3):
            theta = np.r_[made.estimates[k], made.components[k]]
            np.testing.assert_allclose(got.values[k, at], averaged(theta[:5], theta[5:], x, b), atol=1e-8)
            for a in range(8 if k == 0 else 0):
                low, high = (
                    averaged((theta + t * np.eye(8)[a])[:5], (theta + t * np.eye(8)[a])[5:], x, b)
                    for t in (-1e-5, 1e-5)
                )
                np.testing.assert_allclose(got.gradients[k, at, a], (high - low) / 2e-5, atol=1e-7)
    zero = made.predictions(NEW, random_effects="zero")
    assert np.abs(zero.values - got.values).max() > 0.02


def test_means_effects_and_their_comparisons():
    made = fitted("laplace")
    means = made.marginal_means("arm", weights="observed")
    np.testing.assert_allclose(means.values.reshape(3, 2, 4).sum(axis=2), 1.0)
    by_hand = np.array(
        [made.predictions(tables()[0].assign(arm=arm)).values[0].reshape(-1, 4).mean(axis=0) for arm in "ab"]
    )
    np.testing.assert_allclose(means.values[0].reshape(2, 4), by_hand)
    difference = means.contrasts(by="rating")
    np.testing.assert_allclose(difference.values[0], by_hand[1] - by_hand[0])
    effect = made.marginal_effects("arm")
    np.testing.assert_allclose(effect.values, difference.values)
    assert list(effect.at["rating"]) == LEVELS and (effect.at["change"] == "b - a").all()
    slope = made.marginal_effects("x", by="arm")
    ends = [
        made.predictions(tables()[0].assign(x=lambda t, h=h: t["x"] + h)).values[0].reshape(-1, 4)
        for h in (-1e-4, 1e-4)
    ]
    in_b = (tables()[0]["arm"] == "b").to_numpy()
    np.testing.assert_allclose(
        slope.values[0][4:], ((ends[1] - ends[0]) / 2e-4)[in_b].mean(axis=0), atol=1e-7
    )
    ratio = made.marginal_effects("arm", compare="odds ratio")
    odds = by_hand / (1 - by_hand)
    np.testing.assert_allclose(ratio.values[0], odds[1] / odds[0])
    assert "arm = b, rating = severe" in str(means)


def test_latent_scale_and_variance_explained():
    made = fitted("laplace")
    latent = made.predictions(NEW, scale="link")
    np.testing.assert_allclose(latent.values, made.estimates[:, 3:] @ np.array([[1.0, 4.0], [0.0, 1.0]]))
    icc = made.explained().values[:, 0]
    u = np.exp(2 * made.components[:, 0])
    np.testing.assert_allclose(icc, u / (u + np.pi**2 / 3))
    shifted = replace(made, estimates=made.estimates + np.r_[1.0, 1.0, 1.0, 0.0, 0.0])
    np.testing.assert_allclose(
        shifted.explained().values, made.explained().values
    )  # thresholds are no part of x'beta


def test_a_response_named_as_a_label_of_estimates():
    named = [table.rename(columns={"rating": "level"}) for table in tables()[:1]]
    made = fit_each(named, "level ~ x + arm", family="ordinal").marginal_effects("arm")
    assert list(made.at.columns) == ["variable", "change", "response"]
    np.testing.assert_allclose(made.values[0], fitted("fixed").marginal_effects("arm").values[0])


def test_whole_numbers_are_their_own_order():
    numbers = [table.assign(rating=table["rating"].cat.codes * 5) for table in tables()[:1]]
    made = fit_each(numbers, "rating ~ x + arm", family="ordinal")
    assert made.names[:3] == ("0|5", "5|10", "10|15")
    np.testing.assert_allclose(made.estimates[0], fitted("fixed").estimates[0])


@pytest.mark.parametrize("change, formula, options, says", [
    ({}, "rating ~ 0 + x", {}, "take the place of the intercept"),
    ({}, "rating ~ x + (1 | g) + (1 | w)", {}, "at most one grouping factor"),
    ({}, "rating ~ x", {"link": "probit"}, "no link 'probit'; choose 'logit'"),
    ({}, "rating ~ x", {"trials": "w"}, "trials are for binomial models"),
    ({}, "x ~ arm", {}, "whole numbers"),
    ({}, "arm ~ x", {}, r"without an order .*Categorical\(table\['arm'\], \['a', 'b'\], ordered=True\)"),
    ({"rating": lambda t: t["rating"].cat.codes > 1}, "rating ~ x", {}, "has 2 levels .*family='bernoulli'"),
    ({"rating": lambda t: t.index}, "rating ~ x", {}, r"levels, and an ordinal model .*family='normal'"),
    ({"w": lambda t: t["w"].where(t["rating"] != "mild", 0)}, "rating ~ x", {"weights": "w"},
     "completed table 1 has no row of positive weight at level 'mild'"),
    ({"rating": lambda t: t["rating"].where(t.index != 3)}, "rating ~ x", {},
     "'rating' is missing or infinite in 1 rows"),
    ({"rating": lambda t: t["rating"].cat.codes.where(t.index != 3, np.inf)}, "rating ~ x", {},
     "'rating' is missing or infinite in 1 rows"),
])  # fmt: skip
def test_what_is_refused(change, formula, options, says):
    with pytest.raises((SpecificationError, DataError), match=says) as refused:
        fit_each([tables()[0].assign(**change)], formula, family="ordinal", **options)
    assert "\n" not in str(refused.value)


def test_what_is_refused_of_estimands():
    made = fitted("laplace")
    with pytest.raises(SpecificationError, match="clusters of the table are not available"):
        made.predictions(random_effects="cluster")
    with pytest.raises(SpecificationError, match="Give scale='response'"):
        made.marginal_means("arm", scale="back-transformed", random_effects="zero")


@pytest.mark.parametrize("response, says", [
    (lambda t: t["rating"], r"fit_each\(tables, 'rating ~ x \+ \(1 \| g\)', family='ordinal'\)"),
    (lambda t: t["rating"].astype(str), "If they have an order, declare it"),
    (lambda t: t["arm"], "family='bernoulli'"),
])  # fmt: skip
def test_a_response_of_levels_without_a_family_is_told_the_call(response, says):
    with pytest.raises(DataError, match=says):
        fit_each([tables()[0].assign(rating=response)], "rating ~ x + (1 | g)")


def test_imputations_are_analysed_and_compared_with_their_model():
    rng = np.random.default_rng(5)
    table = tables()[0].drop(columns="w")
    table = table.assign(
        rating=table["rating"].where(rng.random(len(table)) > 0.2),
        x=table["x"].where(rng.random(len(table)) > 0.2),
    )
    model = bi.JointLatent(bi.IncompleteData(table, cluster="g"), "rating + x ~ arm + (1 | g)")
    imp = model.impute(3, seed=1, tune=20, draws=30, chains=1, progress=False)
    fits = imp.analyse("rating ~ x + arm + (1 | g)", family="ordinal")
    assert fits.names[0] == "none|mild" and not fits.log
    with pytest.warns(StatisticalWarning, match="no random slope of x"):
        fits = imp.analyse("rating ~ x + arm + (1 + x | g)", family="ordinal")
    assert "not congenial" in str(fits)
