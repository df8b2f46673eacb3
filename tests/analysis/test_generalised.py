"""Generalised linear (mixed) analyses of completed tables: against glmm, statsmodels and lme4; responses; messages."""

from __future__ import annotations

import sys
import warnings

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from scipy import special

from bayesimp.analysis.compare import compare
from bayesimp.analysis.fit import fit_each
from bayesimp.errors import DataError, SpecificationError, StatisticalWarning
from tests.kernels.glmm_tables import REFERENCE

sys.path.insert(0, str(REFERENCE))
from quadrature_tables import table


def completed(m=3, clusters=20, rows=25, seed=0, slope=0.5):
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(clusters), rows)
    rng.shuffle(g)
    n = len(g)
    x, sex = rng.normal(size=n), rng.choice(["F", "M"], n)
    b = rng.normal(size=(clusters, 2)) * [0.9, slope]
    eta = -0.4 + 0.5 * x + 0.3 * (sex == "M") + b[g, 0] + b[g, 1] * x
    base = pd.DataFrame({
        "school": [f"s{k:02d}" for k in g], "x": x, "sex": sex, "e": rng.normal(size=n), "n": rng.integers(1, 6, n),
        "event": (rng.random(n) < special.expit(eta)).astype(int), "count": rng.poisson(np.exp(eta)),
        "w": rng.integers(1, 3, n),
    })  # fmt: skip
    base["successes"] = rng.binomial(base["n"], special.expit(eta))
    return [base.assign(x=x + (np.arange(n) < 40) * rng.normal(size=n)) for _ in range(m)]


@pytest.mark.parametrize("formula", ["~ x + sex + (1 + x | school)", "~ x + (1 | school)"])
@pytest.mark.parametrize("family, y", [("bernoulli", "event"), ("poisson", "count")])
def test_one_grouping_factor_is_glmm(family, y, formula):
    import glmm

    frames = completed(rows=40, slope=0.9)
    fits = fit_each(frames, y + formula, family=family)
    for k, frame in enumerate(frames):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = glmm.fit(
                frame[["x", "sex", "school", y]],
                y + formula,
                family="poisson" if family == "poisson" else "binomial",
                satterthwaite=False,
                anova_test="Wald",
            )
        assert abs(fits.loglik[k] - theirs.loglik) < 1e-6
        np.testing.assert_allclose(fits.estimates[k], theirs.beta, atol=1e-5)
        np.testing.assert_allclose(fits.covariances[k], theirs.vcov, rtol=3e-3, atol=1e-5)
    assert fits.df_complete == np.inf and fits.converged.all() and not fits.singular.any()
    assert fits.component_names[0] == "sd(Intercept | school)"
    pooled = fits.pool_components("sd").to_frame().select_dtypes("number")
    assert np.isfinite(pooled["estimate"]).all() and np.isfinite(pooled["std.error"]).all()


def test_without_random_terms_it_is_maximum_likelihood():
    frames = completed()
    for family, y, theirs in (("bernoulli", "event", smf.logit), ("poisson", "count", smf.poisson)):
        fits = fit_each(frames, f"{y} ~ x + sex", family=family)
        probit = fit_each(frames, "event ~ x + sex", family="bernoulli", link="probit")
        for k, frame in enumerate(frames):
            fit = theirs(f"{y} ~ x + sex", frame).fit(disp=0)
            np.testing.assert_allclose(
                fits.estimates[k], fit.params[["Intercept", "x", "sex[T.M]"]], atol=1e-6
            )
            assert fits.loglik[k] == pytest.approx(fit.llf, abs=1e-7)
            assert probit.loglik[k] == pytest.approx(
                smf.probit("event ~ x + sex", frame).fit(disp=0).llf, abs=1e-7
            )
        assert fits.component_names == () and fits.components.shape == (3, 0)
        assert len(fits.pool().to_frame()) == 3


def test_any_names_and_order_of_two_levels():
    frames = completed(m=2)
    formula = "{} ~ x + (1 | school)"
    expected = fit_each(frames, formula.format("event"), family="bernoulli").estimates
    ways = {
        "flag": lambda f: f.event == 1,
        "text": lambda f: np.where(f.event == 1, "yes", "no"),  # alphabetical: no, yes
        "category": lambda f: pd.Categorical(np.where(f.event == 1, "alive", "dead"), ["dead", "alive"]),
        "three": lambda f: pd.Categorical(np.where(f.event == 1, "b", "a"), ["a", "unused", "b"]),
    }
    for name, way in ways.items():
        fits = fit_each([f.assign(**{name: way(f)}) for f in frames], formula.format(name), family="binomial")
        np.testing.assert_allclose(fits.estimates, expected, atol=1e-8)


def test_trials_weights_and_offset():
    frames = completed(m=2)
    long = [
        f.loc[f.index.repeat(f.n)].assign(
            one=np.concatenate([np.arange(n) < s for n, s in zip(f.n, f.successes, strict=True)])
        )
        for f in frames
    ]
    summed = fit_each(frames, "successes ~ x + (1 | school)", family="binomial", trials="n")
    singly = fit_each(long, "one ~ x + (1 | school)", family="bernoulli")
    np.testing.assert_allclose(summed.estimates, singly.estimates, atol=1e-6)
    np.testing.assert_allclose(summed.covariances, singly.covariances, atol=1e-5)
    weighted = fit_each(frames, "count ~ x + (1 | school)", family="poisson", weights="w", offset="e")
    tall = [f.loc[f.index.repeat(f.w)] for f in frames]
    copies = fit_each(tall, "count ~ x + (1 | school)", family="poisson", offset="e")
    np.testing.assert_allclose(weighted.estimates, copies.estimates, atol=1e-6)
    plain = fit_each(frames, "count ~ x + (1 | school)", family="poisson")
    assert np.abs(plain.estimates - weighted.estimates).max() > 0.01


def test_tests_of_several_parameters():
    frames = completed()
    larger = fit_each(frames, "event ~ x + sex + e + (1 | school)", family="bernoulli")
    smaller = fit_each(frames, "event ~ x + (1 | school)", family="bernoulli")
    d1, d3 = compare(larger, smaller), compare(larger, smaller, "D3")
    assert d1.df1 == d3.df1 == 2 and abs(d1.statistic - d3.statistic) < 0.3
    np.testing.assert_allclose(larger.likelihood("own"), larger.loglik)
    assert np.all(larger.likelihood("average") <= larger.loglik + 1e-9)


def test_independent_effects_and_warm_starts():
    frames = completed(m=3, rows=40, clusters=25, slope=0.8)
    apart = fit_each(frames, "event ~ x + (1 + x || school)", family="bernoulli")
    assert apart.component_names == ("sd(Intercept | school)", "sd(x | school)")
    for k, frame in enumerate(frames):  # each table alone: from a cold start
        alone = fit_each([frame], "event ~ x + (1 + x || school)", family="bernoulli")
        np.testing.assert_allclose(apart.estimates[k], alone.estimates[0], atol=1e-6)
        np.testing.assert_allclose(apart.covariances[k], alone.covariances[0], rtol=1e-3, atol=1e-6)
    assert np.all(np.linalg.eigvalsh(apart.components_cov) > 0)


def test_separated_and_singular_tables_are_reported():
    frames = completed(m=3)
    frames[1] = frames[1].assign(event=(frames[1].x > 0).astype(int))
    with pytest.warns(StatisticalWarning, match=r"in 1 of 3 tables \(imputations 2\) the data are separated"):
        fits = fit_each(frames, "event ~ x + (1 | school)", family="bernoulli")
    assert np.isfinite(fits.estimates).all() and np.isfinite(fits.covariances).all()
    rng = np.random.default_rng(3)
    flat = [f.assign(event=np.tile([0, 1], len(f) // 2)[rng.permutation(len(f))]) for f in completed(m=2)]
    flat = [f.assign(event=f.groupby("school").cumcount() % 2) for f in flat]
    fits = fit_each(flat, "event ~ x + (1 | school)", family="bernoulli")
    assert fits.singular.all() and np.isnan(fits.components_cov).all() and "singular" in repr(fits)


def test_laplace_says_where_it_is_poor_and_quadrature_cures_it():
    """Cluster sd 4, intercept -1.6, three rows a cluster; lme4 with nAGQ = 20: -2.161 and 3.630."""
    frames = [pd.DataFrame(table(0))[["y", "g"]].rename(columns={"g": "clinic"})] * 2
    moved = r"with 20 nodes Intercept goes from -[3-6].* to -2\.16 .*sd\(Intercept . clinic\) from [4-8].* to 3\.63 in "
    with pytest.warns(
        StatisticalWarning, match="Laplace's approximation is poor in 2 of 2 tables .*" + moved
    ) as caught:
        poor = fit_each(frames, "y ~ (1 | clinic)", family="bernoulli")
    assert (
        len(caught) == 1
        and caught[0].filename == __file__
        and "Give quadrature=20." in str(caught[0].message)
    )
    good = fit_each(frames, "y ~ (1 | clinic)", family="bernoulli", quadrature=20)  # without a warning
    np.testing.assert_allclose(good.estimates, -2.16106554, atol=1e-5)
    np.testing.assert_allclose(np.exp(good.components), 3.62964409, atol=1e-5)
    np.testing.assert_allclose(np.sqrt(good.covariances), 0.574832783, rtol=1e-4)
    assert np.abs(poor.estimates - good.estimates).max() > 1
    with pytest.warns(
        StatisticalWarning, match=r"approximation is poor: with .* to 3\.63\. Give"
    ):  # nothing to number
        fit_each(frames[:1], "y ~ (1 | clinic)", family="bernoulli")
    assert good.quadrature == 20 and good.converged.all()
    with pytest.warns(StatisticalWarning, match=r"quadrature of 2 nodes is coarse .* Give quadrature=20"):
        fit_each(frames, "y ~ (1 | clinic)", family="bernoulli", quadrature=2)


def test_quadrature_of_every_family_and_option():
    frames = completed(m=2, clusters=40, rows=8)
    for family, y, options in (
        ("bernoulli", "event", {}),
        ("bernoulli", "event", {"link": "probit"}),
        ("binomial", "successes", {"trials": "n"}),
        ("poisson", "count", {"weights": "w", "offset": "e"}),
    ):
        for term in ("(1 | school)", "(0 + x | school)"):
            one = fit_each(frames, f"{y} ~ x + {term}", family=family, **options)
            many, most = (
                fit_each(frames, f"{y} ~ x + {term}", family=family, quadrature=n, **options)
                for n in (15, 40)
            )
            gap, moved = np.abs(many.estimates - most.estimates), np.abs(one.estimates - most.estimates)
            assert gap.max() < 1e-4 < moved.max()
            np.testing.assert_allclose(many.covariances, most.covariances, rtol=1e-2, atol=1e-6)
            np.testing.assert_allclose(many.likelihood("own"), many.loglik, atol=1e-7)
            assert (many.likelihood("average") <= many.loglik + 1e-8).all()
    larger = fit_each(frames, "event ~ x + (1 | school)", family="bernoulli", quadrature=9)
    smaller = fit_each(frames, "event ~ 1 + (1 | school)", family="bernoulli", quadrature=9)
    assert abs(compare(larger, smaller, "D3").statistic - compare(larger, smaller).statistic) < 0.3
    with pytest.raises(SpecificationError, match=r"quadrature=9 and 1\. Fit both"):
        compare(larger, fit_each(frames, "event ~ 1 + (1 | school)", family="bernoulli"), "D3")


@pytest.mark.parametrize("formula, options, message", [
    ("event ~ x + (1 + x | school)", {"quadrature": 20}, r"one random effect per cluster, .* has 2 \(Intercept, x\)"),
    ("event ~ x", {"quadrature": 20}, "formula has none"),
    ("event ~ x + (1 | school)", {"quadrature": 0}, "from 1 .Laplace. to 100; got 0"),
    ("event ~ x + (1 | school)", {"quadrature": 2.5}, "got 2.5"),
    ("event ~ x + (1 | school)", {"quadrature": True}, "got True"),
    ("e ~ x + (1 | school)", {"quadrature": 20, "family": "normal"}, "link, trials and quadrature are for families"),
    (lambda frame: ([0.0], [[1.0]]), {"quadrature": 20}, "apply to formulas"),
])  # fmt: skip
def test_quadrature_refused(formula, options, message):
    with pytest.raises(SpecificationError, match=message):
        fit_each(completed(m=1), formula, **{"family": "bernoulli", **options})


def test_messages():
    frames = completed(m=2)
    cases = [
        (dict(analysis="e ~ x", family="bernoulli"), "response 'e' has .* needs 0 or 1"),
        (dict(analysis="e ~ x", family="poisson"), "'e' .* whole numbers from 0"),
        (dict(analysis="sex ~ x", family="poisson"), "'sex' .* needs numbers"),
        (dict(analysis="school ~ x", family="bernoulli"), "'school' has 20 levels .*two"),
        (dict(analysis="count ~ x", family="binomial", trials="n"), "trials in 'n'"),
        (dict(analysis="successes ~ x", family="binomial", trials="e"), "trials 'e'"),
        (dict(analysis="event ~ x", family="bernoulli", weights="e"), "'e' are negative"),
    ]
    for options, message in cases:
        with pytest.raises(DataError, match=message):
            fit_each(frames, **options)
    with pytest.raises(DataError, match="'event' is missing or infinite in 1 rows"):
        fit_each(
            [frames[0].assign(event=frames[0].event.where(frames[0].index != 9))],
            "event ~ x",
            family="bernoulli",
        )
    with pytest.raises(SpecificationError, match="no link 'cloglog'; choose 'logit' or 'probit'"):
        fit_each(frames, "event ~ x", family="bernoulli", link="cloglog")
    with pytest.raises(SpecificationError, match="trials are for binomial"):
        fit_each(frames, "count ~ x", family="poisson", trials="n")
    with pytest.raises(SpecificationError, match="link, trials and quadrature are for"):
        fit_each(frames, "e ~ x", trials="n")
    with pytest.raises(SpecificationError, match="no column 'nn'"):
        fit_each(frames, "successes ~ x", family="binomial", trials="nn")
