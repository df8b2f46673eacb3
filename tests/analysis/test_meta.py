"""Random-effects meta-analysis against direct maximisation and statsmodels, after Rubin's rules within studies."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.optimize import minimize
from statsmodels.stats.meta_analysis import combine_effects

from bayesimp.analysis.fit import fit_each
from bayesimp.analysis.meta import meta_analyse, pool_by_study, pool_studies, tau2_dl, tau2_limits, tau2_reml
from bayesimp.errors import SpecificationError, StatisticalWarning


def studies(seed, S=9, tau=0.4):
    rng = np.random.default_rng(seed)
    v = rng.uniform(0.01, 0.3, S)
    return 0.5 + tau * rng.normal(size=S) + np.sqrt(v) * rng.normal(size=S), v


@pytest.mark.parametrize("seed", range(6))
def test_tau2(seed):
    y, v = studies(seed, tau=0.4 if seed else 0.0)

    def deviance(x):  # the restricted likelihood, as the normal density of error contrasts
        C = np.linalg.svd(np.ones((1, len(y))))[2][1:]
        return -2 * stats.multivariate_normal(np.zeros(len(y) - 1), C @ np.diag(v + x) @ C.T).logpdf(C @ y)

    best = min(
        minimize(lambda z: deviance(z[0] ** 2), [s], method="Nelder-Mead", tol=1e-12).fun
        for s in (0.02, 0.3, 1)
    )
    assert deviance(tau2_reml(y, v)) <= best + 1e-8
    with np.errstate(invalid="ignore"):
        theirs = combine_effects(y, v, method_re="dl", use_t=True)
    assert tau2_dl(y, v) == pytest.approx(max(theirs.tau2, 0), abs=1e-12)
    ours = meta_analyse(y, v, method="DL", interval="Wald")
    if theirs.tau2 > 0:
        assert (ours.estimate, ours.std_error) == pytest.approx((theirs.mean_effect_re, theirs.sd_eff_w_re))
        hk = meta_analyse(y, v, method="DL", interval="HK")
        assert hk.std_error == pytest.approx(theirs.sd_eff_w_re_hksj)


METAFOR = json.loads((Path(__file__).parents[1] / "reference" / "meta" / "meta.json").read_text())["cases"]


def check_metafor(y, v, case, limits=tau2_limits):
    meta = meta_analyse(y, v)
    got = meta.tau2, meta.estimate, meta.Q, meta.Q_p, tau2_dl(y, v)
    wanted = [case[name] for name in ("tau2", "estimate", "Q", "Q_p", "tau2_dl")]
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-6)
    # metafor's search for limits ends within 1e-4
    np.testing.assert_allclose(limits(y, v), [case["tau2_low"], case["tau2_high"]], rtol=1e-4, atol=1e-4)
    if case["se_hk"] > 0:
        np.testing.assert_allclose([meta.std_error, meta.low], [case["se_hk"], case["low_hk"]], rtol=1e-4)


@pytest.mark.parametrize("case", METAFOR, ids=lambda case: f"{len(case['y'])} studies")
def test_heterogeneity_is_that_of_metafor(case):
    y, v = np.array(case["y"]), np.array(case["v"])
    check_metafor(y, v, case)

    def of_dl(y, v):  # wrong: a multiple of the estimate, as for a chi-squared variance
        S = len(y)
        return tuple(tau2_dl(y, v) * (S - 1) / stats.chi2(S - 1).ppf(q) for q in (0.975, 0.025))

    with pytest.raises(AssertionError):
        check_metafor(y, v, case, of_dl)


def test_units_and_homogeneous_studies():
    y, v = studies(3)
    one, other = meta_analyse(y, v), meta_analyse(1e3 * y + 7, 1e6 * v)
    assert other.tau2 == pytest.approx(1e6 * one.tau2, rel=1e-4) and other.low == pytest.approx(
        1e3 * one.low + 7, rel=1e-5
    )
    same = meta_analyse([1.0, 1.0, 1.0], [0.1, 0.2, 0.3], interval="Wald")
    assert (
        same.tau2 == 0
        and same.I2 == 0
        and same.std_error == pytest.approx(1 / np.sqrt(1 / 0.1 + 1 / 0.2 + 1 / 0.3))
    )
    assert np.isnan(meta_analyse([1.0, 2.0], [0.1, 0.1]).new_low)
    for bad in (([1.0], [0.1]), ([1.0, 2.0], [0.1, 0.0])):
        with pytest.raises(SpecificationError, match=r"at least two studies|positive and finite"):
            meta_analyse(*bad)


def completed(sizes=(40, 60, 30, 80, 50), m=5):
    rng = np.random.default_rng(1)
    study = np.repeat(np.arange(len(sizes)), sizes)
    x = rng.normal(size=len(study))
    y = 1 + (0.5 + 0.3 * rng.normal(size=len(sizes)))[study] * x + rng.normal(size=len(study))
    base = pd.DataFrame({"study": [f"S{k}" for k in study], "x": x, "y": y})
    return [base.assign(x=x + (np.arange(len(x)) % 3 == 0) * rng.normal(size=len(x)) * 0.5) for _ in range(m)]


def test_rubin_within_study_first():
    frames = completed()
    result = pool_by_study(frames, "y ~ x", "study", terms=["x"], method="DL")
    assert len(result.studies) == 5 and result.studies.weight.sum() == pytest.approx(100)
    estimate, variance = [], []
    for name in sorted(frames[0].study.unique()):
        p = fit_each([f[f.study == name] for f in frames], "y ~ x").pool()
        estimate.append(p.estimate[1])
        variance.append(p.t[1])
    by_hand = meta_analyse(estimate, variance, method="DL")
    row = result.overall.iloc[0]
    assert (row.estimate, row["std.error"], row.tau2) == pytest.approx(
        (by_hand.estimate, by_hand.std_error, by_hand.tau2)
    )
    # the other order, meta-analysis before Rubin's rules, gives another number
    each = [fit_each([f[f.study == s] for f in frames], "y ~ x") for s in sorted(frames[0].study.unique())]
    other = np.mean([meta_analyse([e.estimates[k, 1] for e in each], [e.covariances[k, 1, 1] for e in each],
                                  method="DL").estimate for k in range(5)])  # fmt: skip
    assert abs(other - row.estimate) > 1e-5


def test_intervals_of_studies_have_the_level():
    frames = completed()
    own = {
        s: fit_each([f[f.study == s] for f in frames], "y ~ x").pool()
        for s in sorted(frames[0].study.unique())
    }
    for result in (
        pool_by_study(frames, "y ~ x", "study", terms=["x"], level=0.8), pool_studies(own, terms=["x"], level=0.8)
    ):  # fmt: skip
        for row in result.studies.to_dict("records"):
            alone = own[row["study"]].to_frame(0.8).set_index("term").loc["x"]
            assert (row["conf.low"], row["conf.high"]) == pytest.approx(
                (alone["conf.low"], alone["conf.high"])
            )


def test_studies_that_pool_by_themselves_give_the_same_numbers():
    """Results, or tables of them as in files; a misnamed column, a single study and an unknown term are refused."""
    frames = completed()
    whole = pool_by_study(frames, "y ~ x", "study", terms=["x"])
    own = {
        s: fit_each([f[f.study == s] for f in frames], "y ~ x").pool()
        for s in sorted(frames[0].study.unique())
    }
    for pooled in (own, {s: p.to_frame() for s, p in own.items()}):
        again = pool_studies(pooled, terms=["x"])
        pd.testing.assert_frame_equal(again.overall, whole.overall)
        pd.testing.assert_frame_equal(again.studies, whole.studies)
    named = pool_studies({s: p.to_frame()[["term", "estimate", "std.error"]] for s, p in own.items()})
    pd.testing.assert_frame_equal(
        named.overall[named.overall.term == "x"].reset_index(drop=True), whole.overall
    )
    for pooled, words in [
        ({"S0": own["S0"]}, "1 studies"),
        (
            {s: p.to_frame().rename(columns={"estimate": "b"}) for s, p in own.items()},
            "columns term, estimate",
        ),
        ({"S0": own["S0"], "S1": 3}, "study 'S1'.*got int"),
        ([own["S0"]], "by study.*got list"),
    ]:
        with pytest.raises(SpecificationError, match=words):
            pool_studies(pooled)
    with pytest.raises(SpecificationError, match="No study has the term 'z'"):
        pool_studies(own, terms=["z"])


def test_a_study_that_cannot_be_fitted_is_named():
    frames = completed(sizes=(40, 60, 2))
    with pytest.warns(StatisticalWarning, match="1 of 3 studies are left out.*S2"):
        result = pool_by_study(frames, "y ~ x", "study")
    assert list(result.left_out) == ["S2"] and result.overall.studies.tolist() == [2, 2]
    with pytest.raises(SpecificationError, match="no column 'trial'"):
        pool_by_study(frames, "y ~ x", "trial")


@pytest.mark.parametrize(
    "options, why",
    [
        ({"family": "gausian"}, "In 3 of the 3 without one: .*gaussian"),
        ({"family": "student"}, "In 3 of the 3 without one: .*student"),
        ({"family": "bernoulli"}, "In 1 of the 3 without one: the response 'y' has"),
        ({}, "In 3 of the 3 without one: .*study"),
    ],
)
def test_why_no_study_has_an_estimate(options, why):
    """What is wrong with the call is said, not only that no study is left."""
    formula = "y ~ x" if options else "y ~ x + (1 | study)"
    with pytest.raises(SpecificationError, match=f"0 of 3 studies have an estimate.*{why}"):
        pool_by_study(completed(sizes=(40, 60, 50)), formula, "study", **options)
    one = [f[f["study"] == "S0"] for f in completed(sizes=(40, 60))]
    with pytest.raises(
        SpecificationError, match=r"1 of 1 studies have an estimate; .* needs at least two\.$"
    ):
        pool_by_study(one, "y ~ x", "study")


def test_prediction_interval_heterogeneity_and_weights_by_hand():
    """t(S - 2) for a new study (Higgins et al. 2009, sec. 4.2), I^2 on S - 1, weights with tau^2."""
    y, v = np.array([0.1, 0.9, 0.3, 1.2, -0.4]), np.array([0.02, 0.05, 0.03, 0.08, 0.04])
    meta = meta_analyse(y, v, method="DL", interval="Wald")
    u = 1 / v
    Q = np.sum(u * (y - np.sum(u * y) / u.sum()) ** 2)
    tau2 = (Q - 4) / (u.sum() - np.sum(u**2) / u.sum())
    w = 1 / (v + tau2)
    mu, se = np.sum(w * y) / w.sum(), 1 / np.sqrt(w.sum())
    half = stats.t(3).ppf(0.975) * np.sqrt(tau2 + se**2)
    assert tau2 > 0.1
    found = meta.tau2, meta.estimate, meta.std_error, meta.new_low, meta.new_high, meta.I2
    assert found == pytest.approx((tau2, mu, se, mu - half, mu + half, (Q - 4) / Q))


def test_weights_of_studies_have_the_variance_between_them():
    result = pool_by_study(completed(), "y ~ x", "study", method="DL")
    for term, part in result.studies.groupby("term"):
        tau2 = result.overall.set_index("term").at[term, "tau2"]
        w = 1 / (part["std.error"] ** 2 + tau2)
        np.testing.assert_allclose(part["weight"], 100 * w / w.sum())
        estimate = np.sum(w * part["estimate"]) / w.sum()
        assert result.overall.set_index("term").at[term, "estimate"] == pytest.approx(estimate)
    assert (result.overall["tau2"] > 0.01).any()


def test_a_separated_study_has_no_estimate():
    rng = np.random.default_rng(5)
    frame = pd.DataFrame({"s": np.repeat(list("abcd"), 30), "x": rng.normal(size=120)})
    frame["yes"] = (frame.x + rng.logistic(size=120) > 0) * 1
    frame.loc[frame.s == "b", "yes"] = (frame.x > 0) * 1
    with pytest.warns(
        StatisticalWarning, match="1 of 4 studies are left out.*'b': in 2 of 2 tables the data are separated"
    ):
        result = pool_by_study([frame, frame], "yes ~ x", "s", family="bernoulli")
    without = pool_by_study([frame[frame.s != "b"]] * 2, "yes ~ x", "s", family="bernoulli")
    pd.testing.assert_frame_equal(result.overall, without.overall)
