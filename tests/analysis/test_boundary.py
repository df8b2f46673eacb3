"""Pooling at the boundary, equal tables, weights, results from other packages, and printed output."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from scipy import stats

import bayesimp as bi
from bayesimp.analysis.compare import compare
from bayesimp.errors import DataError, SpecificationError, StatisticalWarning


def slopes(seed, m=15, n=6):
    r = np.random.default_rng(seed)
    g, x = np.repeat(np.arange(m), n), r.normal(size=m * n)
    b = r.multivariate_normal([0, 0], [[1, 0.3], [0.3, 0.25]], m)
    return pd.DataFrame({"g": g, "x": x, "y": x + b[g, 0] + b[g, 1] * x + r.normal(size=m * n)})


@pytest.fixture(scope="module")
def bound():
    """Ten tables, in two of which the correlation is 1."""
    return bi.fit_each([slopes(100 + k) for k in range(10)], "y ~ x + (1 + x | g)")


@pytest.mark.parametrize("scale", ["log", "sd", "variance"])
def test_a_correlation_at_its_bound_costs_its_own_value_only(bound, scale):
    assert bound.singular.sum() == 2
    with pytest.warns(StatisticalWarning) as caught:
        pooled = bound.pool_components(scale)
    assert [w.category for w in caught] == [StatisticalWarning]  # and no NumPy warning
    assert str(caught[0].message).startswith(
        "cor(Intercept, x | g): at its bound (-1 or 1) in 2 of 10 tables"
    )
    table = pooled.to_frame().set_index("term")
    cor = "cor(Intercept, x | g)"
    assert table.loc[cor, ["value", "value.low", "value.high"]].isna().all()
    rest = table.drop(index=cor)
    assert rest[["value", "value.low", "value.high"]].notna().all().all()
    unfolded = " ".join(repr(pooled).split())
    assert cor in pooled.notes and all(note in unfolded for note in pooled.notes.values())
    below = [term for term, why in pooled.notes.items() if "below zero" in why]
    assert below == list(rest.index[rest["value.low"] <= 0])
    # the others are pooled as if there were no correlation
    sd = np.exp(bound.components[:, 0])
    value = {"log": np.exp(np.log(sd).mean()), "sd": sd.mean(), "variance": np.sqrt((sd**2).mean())}[scale]
    assert table.at["sd(Intercept | g)", "value"] == pytest.approx(value)


def test_the_uncertainty_of_the_others_at_the_bound_is_that_of_the_model_without_it(bound):
    """With a correlation of 1 the model has sd, slope sd and residual: information by differences of its likelihood."""
    k = int(np.flatnonzero(bound.singular)[0])
    frame = slopes(100 + k)
    g, x, y = frame.g.to_numpy(), frame.x.to_numpy(), frame.y.to_numpy()
    X, same = np.column_stack([np.ones(len(x)), x]), np.equal.outer(g, g)

    def deviance(p):
        z = np.exp(p[0]) + np.exp(p[1]) * x
        V = same * np.outer(z, z) + np.exp(2 * p[2]) * np.eye(len(x))
        inverse = np.linalg.inv(V)
        A = X.T @ inverse @ X
        e = y - X @ np.linalg.solve(A, X.T @ inverse @ y)
        return np.linalg.slogdet(V)[1] + np.linalg.slogdet(A)[1] + e @ inverse @ e

    at, h = bound.components[k][[0, 1, 3]], 1e-3
    e = h * np.eye(3)
    H = np.array([[(deviance(at + e[i] + e[j]) - deviance(at + e[i] - e[j]) - deviance(at - e[i] + e[j])
                    + deviance(at - e[i] - e[j])) / (4 * h * h) for j in range(3)] for i in range(3)])  # fmt: skip
    found = bound.components_cov[k][np.ix_([0, 1, 3], [0, 1, 3])]
    np.testing.assert_allclose(found, np.linalg.inv(H / 2), rtol=2e-3, atol=1e-5)


def no_variance(seed):
    r = np.random.default_rng(seed)
    return pd.DataFrame({"g": np.repeat(np.arange(12), 5), "y": r.normal(size=60), "c": r.poisson(3, 60)})


@pytest.mark.parametrize("family, response", [("normal", "y"), ("poisson", "c")])
def test_a_variance_of_zero_in_some_tables(family, response):
    fits = bi.fit_each([no_variance(k) for k in range(6)], f"{response} ~ 1 + (1 | g)", family=family)
    zero = np.isneginf(fits.components[:, 0])
    assert 0 < zero.sum() < 6
    for scale, value in (("log", np.nan), ("sd", np.exp(fits.components[:, 0]).mean())):
        with pytest.warns(StatisticalWarning, match=f"a variance of zero in {zero.sum()} of 6 tables"):
            table = fits.pool_components(scale).to_frame().set_index("term")
        assert table.at["sd(Intercept | g)", "value"] == pytest.approx(value, nan_ok=True)
        assert np.isnan(table.at["sd(Intercept | g)", "value.low"])
        if family == "normal":
            assert table.loc["sd(residual)", ["value.low", "value.high"]].notna().all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        median = fits.pool_components("median").to_frame().set_index("term")
    assert median.at["sd(Intercept | g)", "value"] == pytest.approx(np.median(np.exp(fits.components[:, 0])))


@pytest.mark.parametrize("seed", [10, 18])
def test_equal_tables_converge(seed):
    """A search that starts at the optimum of an equal table cannot improve, and has converged."""
    r = np.random.default_rng(seed)
    m, n = int(r.integers(5, 30)), int(r.integers(4, 40))
    g, x = np.repeat(np.arange(m), n), r.normal(size=m * n) * 10 ** r.uniform(-3, 3)
    y = 0.5 * x / x.std() + r.normal(0, r.uniform(0, 2), m)[g] + r.normal(size=m * n)
    fits = bi.fit_each([pd.DataFrame({"g": g, "x": x, "y": y})] * 4, "y ~ x + (1 + x | g)")
    assert fits.converged.all() and np.ptp(fits.estimates, axis=0).max() < 1e-4 * np.abs(fits.estimates).max()


def test_the_order_of_factors_is_no_difference_between_models():
    frames = [slopes(k).assign(z=np.random.default_rng(50 + k).normal(size=90)) for k in range(3)]
    larger = bi.fit_each(frames, "y ~ x * z + (1 | g)")
    smaller = bi.fit_each(frames, "y ~ z * x - x + (1 | g)")
    assert larger.names[-1] == "x:z" and smaller.names[-1] == "z:x"
    assert compare(larger, smaller).terms == ("x",)
    with pytest.raises(SpecificationError, match=r"other terms .*g"):
        compare(smaller, bi.fit_each(frames, "y ~ z + g"))


def test_weights_and_offset_of_normal_models():
    """Least squares agree with statsmodels' WLS, mixed models with the dense likelihood, variances sigma^2 / w."""
    r = np.random.default_rng(1)
    d = slopes(1).assign(w=r.uniform(0.2, 3, 90), o=r.normal(size=90))
    ours = bi.fit_each([d], "y ~ x", weights="w", offset="o")
    theirs = smf.wls("I(y - o) ~ x", d, weights=d.w).fit()
    np.testing.assert_allclose(ours.estimates[0], theirs.params)
    np.testing.assert_allclose(np.sqrt(np.diag(ours.covariances[0])), theirs.bse)
    assert ours.loglik[0] == pytest.approx(theirs.llf)
    mixed = bi.fit_each([d], "y ~ x + (1 | g)", weights="w", reml=False)
    sd, sigma = np.exp(mixed.components[0])
    V = sd**2 * np.equal.outer(d.g.to_numpy(), d.g.to_numpy()) + np.diag(sigma**2 / d.w)
    e = d.y - np.column_stack([np.ones(90), d.x]) @ mixed.estimates[0]
    dense = -0.5 * (90 * np.log(2 * np.pi) + np.linalg.slogdet(V)[1] + e @ np.linalg.solve(V, e))
    assert mixed.loglik[0] == pytest.approx(dense)
    assert mixed.likelihood("average")[0] == pytest.approx(dense)
    with pytest.raises(DataError, match="'w' are not positive in 1 rows"):
        bi.fit_each([d.assign(w=[0.0, *d.w[1:]])], "y ~ x", weights="w")


def test_variances_of_statsmodels_are_named_as_what_they_are():
    frame = slopes(2, m=30)
    fits = bi.fit_each([frame, frame], lambda t: smf.mixedlm("y ~ x", t, groups="g").fit())
    assert fits.names == ("Intercept", "x", "g Var / residual Var")
    ours = bi.fit_each([frame], "y ~ x + (1 | g)")
    sd, sigma = np.exp(ours.components[0])
    assert fits.estimates[0][2] == pytest.approx(sd**2 / sigma**2, rel=1e-3)


def test_a_response_of_several_levels_by_statsmodels():
    frame = slopes(3).assign(k=np.random.default_rng(3).integers(0, 3, 90))
    theirs = smf.mnlogit("k ~ x", frame).fit(disp=0)
    fits = bi.fit_each([frame, frame], lambda t: smf.mnlogit("k ~ x", t).fit(disp=0))
    assert fits.names == ("1: Intercept", "1: x", "2: Intercept", "2: x")
    np.testing.assert_allclose(fits.estimates[0], theirs.params.to_numpy().T.ravel())
    np.testing.assert_allclose(np.sqrt(np.diag(fits.covariances[0])), theirs.bse.to_numpy().T.ravel())


def test_words_instead_of_python_errors():
    frame = slopes(4).assign(one="A", item=np.random.default_rng(4).normal(4, 1, 90))
    with pytest.raises(SpecificationError, match=r"imp.analyse\(.*\).pool\(\)"):
        bi.pool([1])
    with pytest.raises(DataError, match=r"'one' has one level \(A\) in all 90 rows"):
        bi.fit_each([frame], "y ~ x + one")
    with pytest.raises(DataError, match=r"'item' as a factor has 90 levels.*families=\{'item': 'ordinal'\}"):
        bi.fit_each([frame], "y ~ C(item)")
    for option in ("weights", "offset", "trials"):
        with pytest.raises(
            SpecificationError, match=rf"{option} takes the name of a column.*got ndarray.*assign"
        ):
            bi.fit_each([frame], "y ~ x", **{option: np.ones(len(frame))})
    fits = bi.fit_each([frame, frame], "y ~ x")
    np.testing.assert_array_equal(bi.pool(fits).estimate, fits.pool().estimate)


def test_what_is_printed_fits_a_hundred_columns(bound):
    with pytest.warns(StatisticalWarning):
        components = bound.pool_components()
    for text in (repr(bound.pool()), repr(components)):
        rows = [line for line in text.splitlines() if not line.startswith("cor(Intercept, x | g): ")]
        assert max(map(len, rows)) <= 100 and "2.5%" in text
    long = {"x": "a_covariate_whose_name_has_far_more_than_forty_characters_in_it"}
    renamed = bi.fit_each(
        [slopes(k).rename(columns=long) for k in (1, 2)], f"y ~ {long['x']} + (1 | g)"
    ).pool()
    assert max(map(len, repr(renamed).splitlines())) <= 100
    assert (
        "a_covariate_whose" in repr(renamed) and "p.value" in repr(renamed) and renamed.terms[1] == long["x"]
    )
    complete = bi.complete_cases(slopes(5).assign(x=lambda t: t.x.where(t.x < 1)), "y ~ x + (1 | g)")
    assert "std.error" in repr(complete) and "sd(residual)" in repr(complete)
    table = complete[0].to_frame()
    assert table["std.error"].tolist() == pytest.approx(np.sqrt(np.diag(complete.covariances[0])).tolist())
    for level, shown in ((0.95, table), (0.8, complete[0].to_frame(0.8))):
        half = stats.t(complete[0].df_residual).ppf(0.5 + level / 2) * table["std.error"]
        np.testing.assert_allclose(shown["conf.high"] - shown["estimate"], half)
        np.testing.assert_allclose(shown["estimate"] - shown["conf.low"], half)


def test_meta_analysis_of_other_families():
    rng = np.random.default_rng(6)
    base = pd.DataFrame({"s": np.repeat(list("abcde"), 120), "x": rng.normal(size=600)})
    frames = [base.assign(b=(base.x + rng.logistic(size=600) > 0) * 1) for _ in range(4)]
    result = bi.pool_by_study(frames, "b ~ x", "s", family="bernoulli", terms=["x"])
    part = [f[f.s == "c"] for f in frames]
    own = bi.fit_each(part, "b ~ x", family="bernoulli").pool().to_frame().set_index("term")
    row = result.studies.set_index("study").loc["c"]
    assert (row["estimate"], row["std.error"]) == pytest.approx(
        tuple(own.loc["x", ["estimate", "std.error"]])
    )


def test_a_correlation_at_its_bound_but_for_rounding():
    """With three effects the bound is reached up to 1e-15; Fisher's z is then 17, not infinity."""
    frames = [slopes(k).assign(z=np.random.default_rng(1000 + k).normal(size=90)) for k in range(6)]
    fits = bi.fit_each(frames, "y ~ x + z + (1 + x + z | g)")
    rho = np.array([name.startswith("cor(") for name in fits.component_names])
    z = fits.components[:, rho]
    assert np.isinf(z).sum() >= 6 and np.abs(z[np.isfinite(z)]).max() < 9.5  # atanh(1 - 1e-8)
    assert np.isnan(np.diagonal(fits.components_cov, axis1=1, axis2=2)[:, rho][np.isinf(z)]).all()
    with pytest.warns(StatisticalWarning, match="at its bound"):
        table = fits.pool_components().to_frame().set_index("term")
    assert (table.loc[table.index[rho], "value"].isna().to_numpy() == ~np.isfinite(z).all(axis=0)).all()
    assert table["value.low"].notna().sum() >= 3  # at least three sds: that of z may be zero


@pytest.mark.parametrize("unit", [1e6, 1e-6])
def test_standard_errors_of_components_do_not_depend_on_units(unit):
    frame = slopes(1, m=30)
    ours, theirs = (
        bi.fit_each([t], "y ~ x + (1 + x | g)")
        for t in (frame, frame.assign(x=frame.x * unit, y=frame.y * 1e5))
    )
    assert np.isfinite(ours.components_cov).all()
    np.testing.assert_allclose(theirs.components_cov, ours.components_cov, rtol=1e-4, atol=1e-7)


def test_clusters_much_further_apart_than_their_rows():
    """Ten means known without error: the variance of their log sd is 1 / 2 (10 - 1), of the residual 1 / 2 (100 - 10)."""
    r = np.random.default_rng(1)
    g, e = np.repeat(np.arange(10), 10), r.normal(size=100)
    frames = [pd.DataFrame({"g": g, "y": r.normal(size=10)[g] + ratio * e}) for ratio in (1e-3, 1e-4)]
    for frame in frames:
        fits = bi.fit_each([frame], "y ~ 1 + (1 | g)")
        assert fits.converged.all() and not fits.singular.any()
        between, residual = np.diag(fits.components_cov[0])
        assert between == pytest.approx(1 / 18, rel=0.01) and residual == pytest.approx(1 / 180, rel=0.01)


def test_nothing_left_for_a_residual():
    r = np.random.default_rng(2)
    d = slopes(2).assign(
        of_cluster=lambda t: r.normal(size=15)[t.g], line=lambda t: t.x * t.of_cluster + 1, one=1.0
    )
    for formula in ("of_cluster ~ x + (1 | g)", "line ~ x + (1 + x | g)"):
        with pytest.raises(DataError, match="random effects of 'g' reproduce the response exactly"):
            bi.fit_each([d] * 2, formula)
    for formula in ("one ~ 1", "one ~ x", "one ~ x + (1 | g)"):
        with pytest.raises(DataError, match="reproduce the response exactly"), warnings.catch_warnings():
            warnings.simplefilter("error")
            bi.fit_each([d] * 2, formula)


def test_models_that_are_not_nested():
    frames = [
        slopes(k).assign(z=np.random.default_rng(50 + k).normal(size=90), h=np.tile(range(9), 10))
        for k in range(3)
    ]
    frames = [frame.assign(x=np.exp(frame.x), y2=frame.y + 1) for frame in frames]

    def fit(formula, **options):
        return bi.fit_each(frames, formula, **options)

    assert compare(fit("y ~ log(x) + z"), fit("y ~ np.log(x)")).terms == ("z",)
    slopes_of_both = fit("y ~ x + z + (x + z | g)", reml=False)  # cor(z, x | g) here, cor(x, z | g) there
    assert compare(slopes_of_both, fit("y ~ x + (z + x | g)", reml=False), "D3").df1 == 1
    for larger, smaller, message in (
        (fit("y ~ x + z"), fit("y2 ~ x"), "its response is 'y2', that of the larger one 'y'"),
        (
            fit("y ~ x + (1 + x | g)", reml=False),
            fit("y ~ x + (1 | h)", reml=False),
            r"components \(sd\(Intercept \| h\)\)",
        ),
        (fit("y ~ x + z", weights="x"), fit("y ~ x"), "same rows, weights and offset"),
    ):
        with pytest.raises(SpecificationError, match=message):
            compare(larger, smaller, "D3")
    with pytest.raises(SpecificationError, match="compare takes fits of two models, got str"):
        compare(slopes_of_both, "y ~ x")


@pytest.mark.parametrize(
    "formula, family",
    [("y ~ C(item)", "normal"), ("y ~ C(item) + (1 | g)", "normal"), ("yes ~ C(item)", "bernoulli")],
)
def test_a_scale_imputed_as_continuous_has_no_levels(formula, family):
    """Four missing cells of 90 are enough, which the number of levels would not show."""
    r = np.random.default_rng(7)
    scale = r.integers(1, 6, 90).astype(float)
    frames = []
    for k in range(3):
        scale[:4] = r.normal(3, 1, 4)
        frames.append(slopes(k).assign(item=scale, yes=lambda t: (t.y > 0) * 1))
    with pytest.raises(
        DataError, match=r"8 of its values.*levels differ between tables.*families=\{'item': 'ordinal'\}"
    ):
        bi.fit_each(frames, formula, family=family)
    dose = [frame.assign(item=np.random.default_rng(8).choice([0.5, 1.0, 2.5], 90)) for frame in frames]
    assert len(bi.fit_each(dose, formula, family=family).names) == 3


def test_a_level_that_one_table_lacks():
    frame = slopes(9).assign(two=np.tile(["a", "b"], 45), one="a", yes=lambda t: (t.y > 0) * 1)
    frames = [frame, frame.assign(two="a")]
    with pytest.raises(SpecificationError, match=r"all zero or depend on others \('two\[b\]'\)"):
        bi.fit_each(frames, "y ~ two")
    with pytest.raises(DataError, match=r"completed table 2: column 'two\[b\]' is 0 in all 90 rows"):
        bi.fit_each(frames, "yes ~ two", family="bernoulli")
    with pytest.raises(DataError, match="'one' has one level"):
        bi.fit_each([frame], "y ~ x * one")


def test_d3_warns_of_components_at_their_boundary_and_of_nothing_else():
    frames = [slopes(100 + k) for k in range(10)]
    fit = lambda formula: bi.fit_each(frames, formula, reml=False)  # noqa: E731
    larger = fit("y ~ x + (1 + x | g)")
    count = int(larger.singular.sum())
    assert 0 < count < 10
    sds, correlations = np.exp(larger.components[:, :2]), np.tanh(larger.components[:, 2])
    at_bound = (sds < 1e-4).any(axis=1) | (np.abs(correlations) > 1 - 1e-6)
    assert (at_bound == larger.singular).all()
    with pytest.warns(
        StatisticalWarning, match=rf"D3 tests sd\(x \| g\), .*, and {count} of 10 fits .* singular"
    ):
        compare(larger, fit("y ~ x + (1 | g)"), "D3")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compare(larger, fit("y ~ 1 + (1 + x | g)"), "D3")  # of a fixed effect
