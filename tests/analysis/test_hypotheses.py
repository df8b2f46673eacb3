"""Satterthwaite's degrees of freedom against lmerTest and exact values; contrasts and tests of linear hypotheses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf

import bayesimp as bi
from bayesimp.analysis.compare import d1
from bayesimp.analysis.hypotheses import joint_satterthwaite, satterthwaite
from bayesimp.errors import SpecificationError

REFERENCE = Path(__file__).parents[1] / "reference" / "crossed"
CASES = json.loads((REFERENCE / "satterthwaite.json").read_text())["fits"]


def fitted(case, m=1):
    return bi.fit_each([pd.read_csv(REFERENCE / case["file"])] * m, case["formula"], reml=case["reml"])


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c['formula']} {'REML' if c['reml'] else 'ML'}")
def test_degrees_of_freedom_are_those_of_lmertest(case):
    """lmerTest uses Richardson differences of the deviance; ours are differences of its exact gradient."""
    fits = fitted(case)
    np.testing.assert_allclose(fits.satterthwaite()[0], case["df"], rtol=2e-3)
    if "L" in case:
        L = np.array(case["L"], dtype=float)
        joint = joint_satterthwaite(fits.covariances, fits.covariance_spread, L)
        assert joint[0] == pytest.approx(case["denominator"], rel=2e-3)
        one = satterthwaite(fits.covariances, fits.covariance_spread, L[:1])
        assert one[0, 0] == pytest.approx(case["df_one"], rel=2e-3)
        assert fits.estimates[0] @ L[0] / np.sqrt(L[0] @ fits.covariances[0] @ L[0]) == pytest.approx(
            case["t"], rel=1e-4
        )


def balanced(m=10, n=6, seed=3):
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(m), n)
    x, w = np.tile(np.arange(n) - (n - 1) / 2, m), (g % 2) * 1.0
    y = 1 + 0.3 * x + 0.4 * w + rng.normal(size=m)[g] + rng.normal(size=m * n)
    return pd.DataFrame({"y": y, "x": x, "w": w, "g": g})


def check_balanced(fits):
    np.testing.assert_allclose(fits.satterthwaite()[0], [8, 8, 49], rtol=1e-4)


def test_exact_ones_of_a_balanced_table():
    """They are m - 2 between and N - m - 1 within clusters, where variances are multiples of chi-squareds."""
    fits = bi.fit_each([balanced()], "y ~ w + x + (1 | g)")
    check_balanced(fits)
    # wrong: n - p - (variance parameters), or a fit without the uncertainty of the variance ratio
    wrong = replace(fits, covariance_spread=fits.covariance_spread[:, -1:])
    with pytest.raises(AssertionError):
        check_balanced(wrong)
    # a variance of zero: those of least squares
    flat = balanced().assign(y=lambda d: d.y - d.groupby("g").y.transform("mean"))
    singular = bi.fit_each([flat], "y ~ w + x + (1 | g)")
    assert singular.singular.all()
    np.testing.assert_allclose(singular.satterthwaite()[0], 57, rtol=1e-4)


def tables(m=5, seed=1):
    rng, base = np.random.default_rng(seed), balanced()
    return [
        base.assign(x=base.x + (rng.random(len(base)) < 0.3) * rng.normal(size=len(base))) for _ in range(m)
    ]


def test_pooled_with_satterthwaite():
    fits = bi.fit_each(tables(), "y ~ w + x + (1 | g)")
    pooled = fits.pool(df_complete="satterthwaite")
    np.testing.assert_allclose(pooled.dfcom, fits.satterthwaite().mean(axis=0))
    assert pooled.df[1] < 8.1 < fits.pool().df[1]
    np.testing.assert_array_equal(bi.pool(fits, df_complete="satterthwaite").df, pooled.df)
    with pytest.raises(SpecificationError, match="For arrays give numbers"):
        bi.pool(fits.estimates, fits.covariances, "satterthwaite")
    with pytest.raises(SpecificationError, match="give 'satterthwaite', 'kenward-roger' or numbers"):
        fits.pool("kenward")
    spread = fits.covariance_spread.copy()
    spread[2] = np.nan
    with pytest.raises(
        SpecificationError, match="in 1 of 5 tables the likelihood of the variances has no proper max"
    ):
        replace(fits, covariance_spread=spread).pool("satterthwaite")
    with pytest.raises(SpecificationError, match="for linear mixed models"):
        bi.fit_each(tables(), "y ~ w + x").pool("satterthwaite")


def test_contrasts_are_combinations_of_what_is_pooled():
    fits = bi.fit_each(tables(), "y ~ w * x + (1 | g)")
    pooled = fits.contrasts({"slope, w = 1": "x + w:x", "half": "(w - x) / 2", "other": "-2*x + 0*w"})
    assert pooled.terms == ("slope, w = 1", "half", "other")
    whole = fits.pool()
    at = dict(zip(whole.terms, whole.estimate, strict=True))
    np.testing.assert_allclose(pooled.estimate, [at["x"] + at["w:x"], (at["w"] - at["x"]) / 2, -2 * at["x"]])
    L = np.array([0, 0, 1, 1])
    assert pooled.t[0] == pytest.approx(L @ whole.covariance @ L)
    assert fits.contrasts("x").df[0] == pytest.approx(whole.df[2])
    by_term = fits.contrasts(["x", "w:x"], df_complete="satterthwaite")
    np.testing.assert_allclose(by_term.df, fits.pool("satterthwaite").df[2:])


def test_hypotheses():
    frames = [frame.assign(sex=np.where(frame.g % 3 == 0, "F", "M")) for frame in tables()]
    fits = bi.fit_each(frames, "y ~ w + x + sex + (1 | g)")
    term = fits.pool().to_frame().set_index("term")
    one = fits.test("x = 0")
    assert one.p_value == pytest.approx(term.loc["x", "p.value"]) and one.df1 == 1
    assert fits.test("x").statistic == one.statistic
    equal = fits.test("w + 1 = sex[M] + x*2 + 1")
    contrast = fits.contrasts("w - sex[M] - 2*x").to_frame()
    assert equal.p_value == pytest.approx(contrast["p.value"][0])
    both = fits.test(["w = 0", "x = 0.3"])
    again = d1(fits.estimates[:, 1:3], fits.covariances[:, 1:3, 1:3], fits.df_complete, null=[0, 0.3])
    assert (both.statistic, both.df2, both.df1) == (again.statistic, again.df2, 2)
    # the same hypotheses in other words
    turned = fits.test(["w - x = -0.3", "x + w = 0.3"])
    assert turned.statistic == pytest.approx(both.statistic)
    fewer = fits.test(["w = 0", "sex[M] = 0"], df_complete="satterthwaite")
    assert fewer.df2 < fits.test(["w = 0", "sex[M] = 0"]).df2


def test_hypotheses_of_functions_are_statsmodels():
    frames = tables()
    fits = bi.fit_each([frames[0]] * 4, lambda frame: smf.ols("y ~ w + x", frame).fit())
    theirs = smf.ols("y ~ w + x", frames[0]).fit().f_test("w + x = 0.5, w = 0")
    assert fits.test(["w + x = 0.5", "w = 0"]).statistic == pytest.approx(float(theirs.fvalue))
    assert fits.test("w + 2 * x = 1").statistic == pytest.approx(
        float(smf.ols("y ~ w + x", frames[0]).fit().t_test("w + 2 * x = 1").tvalue[0, 0]) ** 2
    )


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda f: f.test("x = z"), "no coefficient 'z'. There are: 'Intercept'"),
        (lambda f: f.test("x * w = 0"), "'x \\* w' is not linear"),
        (lambda f: f.test("1 / x"), "not linear"),
        (lambda f: f.test("x = w = 0"), "one '='"),
        (lambda f: f.test("x = x"), "not independent"),
        (lambda f: f.test(["x = 0", "2*x = 1"]), "not independent"),
        (lambda f: f.test([]), "not independent"),
        (lambda f: f.contrasts("x = 0"), r"is a hypothesis: use fits.test\('x = 0'\)"),
        (lambda f: f.contrasts("x + 1"), "has no constant"),
        (lambda f: f.contrasts({"a": 3}), "is a text"),
        (lambda f: f.contrasts(3), "is a text.*got int"),
        (lambda f: f.test(None), "is a text.*got NoneType"),
        (lambda f: f.test(f), "is a text"),
        (lambda f: f.contrasts([]), "no combination"),
    ],
)
def test_messages(call, message):
    with pytest.raises(SpecificationError, match=message):
        call(bi.fit_each(tables(), "y ~ w + x + (1 | g)"))
