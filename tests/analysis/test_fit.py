"""Fitting an analysis to every completed table: engines, kinds of analyses, stacking, messages."""

from __future__ import annotations

import sys
import warnings

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import statsmodels.formula.api as smf

from bayesimp.analysis import linear
from bayesimp.analysis.fit import fit_each
from bayesimp.errors import DataError, SpecificationError, StatisticalWarning


def completed(m=4, n=160, seed=0):
    rng = np.random.default_rng(seed)
    g = rng.integers(0, 16, n)
    x, sex = rng.normal(size=n), rng.choice(["F", "M"], n)
    y = 1 + 0.5 * x + 0.3 * (sex == "M") + 0.8 * rng.normal(size=16)[g] + rng.normal(size=n)
    base = pd.DataFrame(
        {"school": [f"s{k:02d}" for k in g], "x": x, "sex": sex, "y": y}, index=np.arange(n) + 7
    )
    return [base.assign(x=x + (np.arange(n) < 40) * rng.normal(size=n)) for _ in range(m)]


class Provider:
    """The part of Imputations used here; it counts the tables made."""

    def __init__(self, frames):
        self.frames, self.m, self.made = frames, len(frames), 0

    def frame(self, k):
        self.made += 1
        return self.frames[k]


def test_least_squares_is_statsmodels():
    frames = completed()
    fits = fit_each(frames, "y ~ x + sex")
    for k, frame in enumerate(frames):
        theirs = smf.ols("y ~ x + sex", frame).fit()
        ours = fits[k]
        np.testing.assert_allclose(
            ours.estimate[["Intercept", "x", "sex[M]"]], theirs.params[["Intercept", "x", "sex[T.M]"]]
        )
        np.testing.assert_allclose(np.diag(ours.covariance), theirs.bse[["Intercept", "x", "sex[T.M]"]] ** 2)
        assert fits.df_complete == theirs.df_resid and fits.loglik[k] == pytest.approx(theirs.llf)


def test_one_grouping_factor_is_glmm():
    import glmm

    frames = completed()
    for formula in ("y ~ x + sex + (1 + x | school)", "y ~ x + (1 | school)"):
        fits = fit_each(frames, formula)
        for k, frame in enumerate(frames):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                theirs = glmm.fit(frame, formula, satterthwaite=False, anova_test="Wald")
            assert fits.loglik[k] >= theirs.loglik - 1e-6
            np.testing.assert_allclose(fits.estimates[k], theirs.beta, atol=1e-4)
            np.testing.assert_allclose(fits.covariances[k], theirs.vcov, rtol=1e-3, atol=1e-6)
    assert fits.df_complete == 160 - 2 - 2
    assert fits.component_names == ("sd(Intercept | school)", "sd(residual)")


def test_stacking_in_chunks_changes_nothing(monkeypatch):
    frames = completed(m=5)
    whole = fit_each(frames, "y ~ x + sex + (1 | school)")
    provider = Provider(frames)
    monkeypatch.setattr(linear, "STACK", 400)
    parts = fit_each(provider, "y ~ x + sex + (1 | school)")
    assert provider.made == 5
    np.testing.assert_allclose(parts.estimates, whole.estimates, atol=1e-7)
    np.testing.assert_allclose(parts.components, whole.components, atol=1e-5)


def test_stateful_terms_are_made_within_a_table():
    """scale(x) uses the mean and sd of each table, not those of the stack."""
    frames = completed()
    fits = fit_each(frames, "y ~ scale(x)")
    by_hand = [frame.assign(z=(frame.x - frame.x.mean()) / frame.x.std(ddof=0)) for frame in frames]
    np.testing.assert_allclose(fits.estimates, fit_each(by_hand, "y ~ z").estimates)


def test_functions_and_statsmodels_results():
    frames = completed()
    formula = fit_each(frames, "y ~ x")
    X = ("Intercept", "x")

    def by_hand(frame):
        fit = smf.ols("y ~ x", frame).fit()
        return fit.params, fit.cov_params(), fit.df_resid

    def shuffled(frame):
        estimate, covariance, _ = by_hand(frame)
        return estimate, covariance.loc[["x", "Intercept"], ["x", "Intercept"]]

    for analysis in (lambda frame: smf.ols("y ~ x", frame).fit(), by_hand, shuffled):
        fits = fit_each(frames, analysis)
        assert fits.names == X
        np.testing.assert_allclose(fits.covariances, formula.covariances)
    assert fits.df_complete == np.inf and fit_each(frames, by_hand).df_complete == 158
    logit = fit_each(frames, lambda f: sm.Logit(f.y > 1, sm.add_constant(f[["x"]])).fit(disp=0))
    assert logit.names == ("const", "x") and logit.pool().to_frame().shape[0] == 2
    plain = fit_each(frames, lambda f: ([f.y.mean()], [[f.y.var() / len(f)]]))
    assert plain.names == ("Q1",)
    named = fit_each(frames, lambda f: ({"mean": f.y.mean()}, [[f.y.var() / len(f)]]))
    assert named.names == ("mean",)
    with pytest.raises(SpecificationError, match="return"):
        fit_each(frames, lambda f: 3.0)
    with pytest.raises(SpecificationError, match="missing or infinite"):
        fit_each(frames, lambda f: ([np.nan], [[1.0]]))


def test_other_models_go_to_glmm():
    frames = [f.assign(room=np.arange(len(f)) % 7, high=(f.y > 1).astype(float)) for f in completed(m=2)]
    crossed = fit_each(frames, "y ~ x + (1 | school) + (1 | room)")
    assert crossed.names == ("Intercept", "x")
    assert crossed.component_names == ("sd(Intercept | school)", "sd(Intercept | room)", "sd(residual)")
    binary = fit_each(frames, "high ~ x + (1 | school)", family="binomial")
    assert binary.df_complete == np.inf and binary.converged.all()
    assert len(binary.pool_components("median").terms) == 1
    assert (fit_each(frames, "high ~ x", family="binomial").covariances > -1).all()


def test_families_of_the_imputation_are_those_of_the_analysis():
    rng = np.random.default_rng(1)
    frames = [
        f.assign(count=rng.poisson(np.exp(0.3 * f.x) * rng.gamma(2, 0.5, len(f)))) for f in completed(m=2)
    ]
    fits = fit_each(frames, "count ~ x + (1 | school)", family="negative_binomial")
    assert fits.names == ("Intercept", "x") and np.isfinite(fits.estimates).all()
    for family in ("nominal", "categorical"):
        with pytest.raises(SpecificationError, match=f"{family} responses cannot be analysed"):
            fit_each(frames, "count ~ x + (1 | school)", family=family)
    with pytest.raises(SpecificationError, match="takes the name of a column"):
        fit_each(frames, "count ~ x", family="poisson", offset=frames[0]["x"])


def test_without_glmm_the_message_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "glmm", None)
    with pytest.raises(SpecificationError, match=r"pip install 'bayesimp\[glmm\]'"):
        frames = [frame.assign(high=frame.y > 1) for frame in completed(m=2)]
        fit_each(frames, "high ~ x + (1 | school) + (1 | sex)", family="bernoulli")


def test_messages():
    frames = completed(m=2)
    with pytest.raises(SpecificationError, match="no column 'age'"):
        fit_each(frames, "y ~ age + (1 | school)")
    with pytest.raises(DataError, match="numbers"):
        fit_each(frames, "sex ~ x")
    with pytest.raises(DataError, match="missing or infinite in 1 rows"):
        fit_each([frames[0], frames[1].assign(y=frames[1].y.where(frames[1].index != 9))], "y ~ x")
    with pytest.raises(SpecificationError, match="one response"):
        fit_each(frames, "y + x ~ sex")
    with pytest.raises(DataError, match="no completed tables"):
        fit_each([], "y ~ x")
    with pytest.warns(StatisticalWarning, match="does not mention 'school'"):
        fit_each(frames, "y ~ x", cluster="school")


def test_to_frame_iteration_and_text():
    fits = fit_each(completed(m=3), "y ~ x + (1 | school)")
    assert len(fits) == 3 and len(list(fits)) == 3
    table = fits.to_frame()
    assert table.shape == (6, 6) and table.imputation.tolist() == [1, 1, 2, 2, 3, 3]
    assert "m=3" in repr(fits) and "Intercept" in repr(fits.pool()) and "<table" in fits.pool()._repr_html_()
