"""Pooled estimands against emmeans and marginaleffects, derivatives by differences; wrong variants are detected."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from scipy import integrate, stats
from scipy.interpolate import BSpline
from statsmodels.miscmodels.ordinal_model import OrderedModel

import bayesimp as bi
from bayesimp.analysis.comparisons import max_t
from bayesimp.analysis.estimates import Estimates
from bayesimp.analysis.generalised_tables import stack_tables
from bayesimp.analysis.links import mean_at, mean_over
from bayesimp.errors import DataError, SpecificationError
from bayesimp.kernels.families.codes import LOGIT
from bayesimp.kernels.laplace.record import free_elements, laplace_at
from bayesimp.kernels.lmm.kenward_roger import kenward_roger
from tests.unfolding import unfolded

REFERENCE = Path(__file__).parents[1] / "reference" / "estimands"
R = json.loads((REFERENCE / "estimands.json").read_text())
PYTHON = json.loads((REFERENCE / "marginaleffects.json").read_text())
LINEAR, LOGISTIC = "y ~ arm*sex + x + site + (1 | g)", "s ~ arm*sex + x + site + (1 | g)"


@cache
def tables() -> tuple[pd.DataFrame, ...]:
    long = pd.read_csv(REFERENCE / "tables.csv")
    return tuple(part.drop(columns=".imp").reset_index(drop=True) for _, part in long.groupby(".imp"))


@cache
def fits(formula=LINEAR, family="normal"):
    return bi.fit_each(tables(), formula, family=family)


def logistic(formula=LOGISTIC):
    return fits(formula, "bernoulli")


def by_table(estimates: Estimates):
    """Estimates and standard errors by table, on the scale of the estimates."""
    U = estimates.gradients @ estimates.covariance @ np.swapaxes(estimates.gradients, 1, 2)
    return estimates.values, np.sqrt(np.einsum("mrr->mr", U))


def check(estimates: Estimates, each: list, names=("emmean", "SE"), rtol=2e-4, atol=1e-6):
    """Compare with the rows of a reference, table by table."""
    values, errors = by_table(estimates)
    wanted, wanted_errors = (np.array([[row[name] for row in rows] for rows in each]) for name in names)
    np.testing.assert_allclose(values, wanted, rtol=rtol, atol=atol)
    np.testing.assert_allclose(errors, wanted_errors, rtol=rtol)


def check_df(estimates: Estimates, each: list):
    np.testing.assert_allclose(
        estimates.pooled.dfcom, np.mean([[row["df"] for row in rows] for rows in each], axis=0), rtol=2e-3
    )


def must_fail(*arguments, by=check, **options):
    with pytest.raises(AssertionError):
        by(*arguments, **options)


# linear mixed models ----------------------------------------------------


def test_marginal_means_and_contrasts_are_those_of_emmeans():
    reference = R["linear"]["satterthwaite"]
    means = fits().marginal_means("arm", at={"x": 2}, df_complete="satterthwaite")
    pairs = means.contrasts()
    check(means, [each["means"] for each in reference])
    check_df(means, [each["means"] for each in reference])
    check(pairs, [each["pairs"] for each in reference], ("estimate", "SE"))
    check_df(pairs, [each["pairs"] for each in reference])
    assert list(pairs.at["contrast"]) == ["b - a", "c - a", "c - b"]


def test_wrong_variants_of_means_are_told_apart():
    reference = [each["means"] for each in R["linear"]["satterthwaite"]]
    means = fits().marginal_means("arm", at={"x": 2}, df_complete="satterthwaite")
    diagonal = means.covariance * np.eye(means.covariance.shape[1])
    must_fail(replace(means, gradients=np.roll(means.gradients, 1, axis=1)), reference)  # of the next row
    must_fail(replace(means, covariance=diagonal), reference)  # without covariances of coefficients
    must_fail(fits().marginal_means("arm", at={"x": 2}, weights="proportional"), reference)  # other weights
    must_fail(fits().marginal_means("arm", at={"x": 1.9}), reference)  # another grid
    wrong = replace(means, gradients=np.roll(means.gradients, 1, axis=1))  # df of another term
    must_fail(wrong, reference, by=check_df)


def test_proportional_weights_and_a_factor_of_clusters():
    means = fits().marginal_means("arm", at={"x": 2}, weights="proportional")
    check(replace(means, values=means.values[:1], gradients=means.gradients[:1], covariance=means.covariance[:1]),
          [R["linear"]["proportional"]])  # fmt: skip
    site = fits().marginal_means("site", at={"x": 2})
    check(replace(site, values=site.values[:1], gradients=site.gradients[:1], covariance=site.covariance[:1]),
          [R["linear"]["site"]])  # fmt: skip


@pytest.mark.parametrize("key, formula", [("linear", LINEAR), ("slopes", "y ~ arm + x + (1 + x | g)")])
def test_kenward_rogers_are_those_of_pbkrtest(key, formula):
    reference = R[key]["kenward"]
    made = fits(formula)
    means = made.marginal_means("arm", at={"x": 2}, df_complete="kenward-roger")
    for each, name in ((means, "means"), (means.contrasts(), "pairs")):
        rows = [of[name] for of in reference]
        check(each, rows, ("emmean" if name == "means" else "estimate", "SE"))
        check_df(each, rows)
    plain = made.marginal_means("arm", at={"x": 2}, df_complete="satterthwaite")
    wrong = replace(means, covariance=plain.covariance)  # without the adjustment
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(by_table(wrong)[1], by_table(means)[1], rtol=2e-5)
    must_fail(plain, [of["means"] for of in reference], by=check_df)
    pooled = made.pool("kenward-roger")
    assert pooled.t[0] > made.pool().t[0] and pooled.df[0] < made.pool().df[0]
    one, same = made.test("x = 0", "kenward-roger"), made.contrasts("x", "kenward-roger").to_frame()
    assert one.p_value == pytest.approx(same["p.value"][0])


def test_kenward_roger_of_a_balanced_table_and_by_dense_matrices():
    """Exact degrees of freedom if variances are multiples of chi-squareds; all sums by dense matrices."""
    rng = np.random.default_rng(4)
    g, x = np.repeat(np.arange(8), 5), rng.normal(size=40)
    X, Z = np.column_stack([np.ones(40), g % 2, x]), np.column_stack([np.ones(40), rng.normal(size=40)])
    Psi, sigma2 = np.array([[1.0, 0.3], [0.3, 0.5]]), 0.8
    got = kenward_roger(X, Z, g, Psi, sigma2)
    W = np.zeros((40, 16))
    for row, cluster in enumerate(g):
        W[row, 2 * cluster : 2 * cluster + 2] = Z[row]
    V = [
        W @ np.kron(np.eye(8), E) @ W.T
        for E in (np.diag([1, 0]), np.array([[0, 1], [1, 0]]), np.diag([0, 1]))
    ]
    V.append(np.eye(40))
    Vi = np.linalg.inv(W @ np.kron(np.eye(8), Psi) @ W.T + sigma2 * np.eye(40))
    Phi = np.linalg.inv(X.T @ Vi @ X)
    H = Vi - Vi @ X @ Phi @ X.T @ Vi  # the REML information is tr(H V_i H V_j) / 2
    info = np.array([[np.trace(H @ a @ H @ b) / 2 for a in V] for b in V])
    spread = [Phi @ X.T @ Vi @ a @ Vi @ X @ Phi for a in V]
    cov = np.linalg.inv(info)
    inner = sum(cov[i, j] * X.T @ Vi @ V[i] @ H @ V[j] @ Vi @ X for i in range(4) for j in range(4))
    np.testing.assert_allclose(got.covariance, Phi)
    np.testing.assert_allclose(got.adjusted, Phi + 2 * Phi @ inner @ Phi)
    square = sum(cov[i, j] * spread[i][1, 1] * spread[j][1, 1] for i in range(4) for j in range(4))
    assert np.sum(got.spread[:, 1, 1] ** 2) == pytest.approx(square)
    balanced = pd.DataFrame({"g": np.repeat(np.arange(10), 6), "x": np.tile(np.arange(6) - 2.5, 10)})
    balanced["w"] = balanced.g % 2
    balanced["y"] = rng.normal(size=10)[balanced.g] + rng.normal(size=60)
    made = bi.fit_each([balanced], "y ~ w + x + (1 | g)").kenward_roger()
    np.testing.assert_allclose(made.satterthwaite()[0], [8, 8, 49], rtol=1e-6)


def test_what_has_no_kenward_roger():
    flat = [t.assign(y=t.y - t.groupby("g").y.transform("mean")) for t in tables()]
    for ask, says in (
        (lambda: logistic().pool("kenward-roger"), "for linear mixed models fitted by REML"),
        (
            lambda: bi.fit_each(tables(), LINEAR, reml=False).pool("kenward-roger"),
            "for linear mixed models fitted by REML",
        ),
        (
            lambda: bi.fit_each(flat, "y ~ x + (1 | g)").pool("kenward-roger"),
            "in 4 of 4 tables a variance is zero",
        ),
        (lambda: fits().test(["x = 0", "arm[b] = 0"], "kenward-roger"), "its own scale factor"),
    ):
        with pytest.raises(SpecificationError, match=says):
            ask()


def test_pooled_by_rubins_rules():
    """Estimates and standard errors as by emmeans for a mids, which uses Kenward & Roger's.

    Its degrees of freedom are those of the first table, as if nothing were missing; ours are Barnard & Rubin's.
    """
    means = fits().marginal_means("arm", at={"x": 2}, df_complete="kenward-roger")
    table, reference = means.to_frame(), R["linear"]["pooled"]["means"]
    np.testing.assert_allclose(table["estimate"], [row["emmean"] for row in reference], rtol=1e-5)
    np.testing.assert_allclose(table["std.error"], [row["SE"] for row in reference], rtol=1e-4)
    assert (table["df"] < [row["df"] for row in reference]).all()
    Q, error = by_table(means)
    total = np.mean(error**2, axis=0) + 1.25 * Q.var(axis=0, ddof=1)
    np.testing.assert_allclose(table["std.error"], np.sqrt(total), rtol=1e-12)
    share = 1.25 * Q.var(axis=0, ddof=1) / total
    dfcom = np.mean([[row["df"] for row in each["means"]] for each in R["linear"]["kenward"]], axis=0)
    df = 1 / (share**2 / 3 + (dfcom + 3) / (dfcom * (dfcom + 1) * (1 - share)))  # Barnard & Rubin (1999)
    np.testing.assert_allclose(table["df"], df, rtol=1e-3)
    with pytest.raises(AssertionError):  # of another term
        np.testing.assert_allclose(table["df"], np.roll(df, 1), rtol=1e-3)
    half = stats.t(table["df"]).ppf(0.975) * table["std.error"]
    np.testing.assert_allclose(table["conf.high"], table["estimate"] + half)


def test_grid_is_the_same_in_all_tables():
    """Numeric variables are at their mean over rows and imputations, so that all tables estimate the same quantity."""
    mean = np.mean([table.x.mean() for table in tables()])
    asked, given = fits().marginal_means("arm"), fits().marginal_means("arm", at={"x": mean})
    np.testing.assert_allclose(asked.values, given.values)
    own = [
        fits().marginal_means("arm", at={"x": table.x.mean()}).values[k] for k, table in enumerate(tables())
    ]
    assert np.abs(asked.values - own).max() > 1e-3


def test_adjustments_are_those_of_emmeans():
    means = bi.fit_each(tables()[:1] * 2, LINEAR).marginal_means(
        "arm", at={"x": 2}, df_complete="satterthwaite"
    )
    pairs = means.contrasts(adjust="holm")
    for adjust in ("holm", "mvt"):
        wanted = [row["p.value"] for row in R["linear"][adjust]]
        df = np.array([row["df"] for row in R["linear"][adjust]])
        t = np.array([row["t.ratio"] for row in R["linear"][adjust]])
        if adjust == "mvt":
            np.testing.assert_allclose(
                max_t(t, pairs.pooled.covariance, df.min(), 0.95)[0], wanted, atol=3e-3
            )
            uncorrelated = np.diag(np.diag(pairs.pooled.covariance))
            assert np.abs(max_t(t, uncorrelated, df.min(), 0.95)[0] - wanted).max() > 3e-3
        else:  # the df of two equal tables are not quite those of one
            np.testing.assert_allclose(pairs.to_frame()["p.value"], wanted, atol=2e-3)
    plain = means.contrasts().to_frame()
    bonferroni = means.contrasts(adjust="bonferroni").to_frame()
    np.testing.assert_allclose(bonferroni["p.value"], np.minimum(1, 3 * plain["p.value"]))
    low = plain["estimate"] - stats.t(plain["df"]).ppf(1 - 0.05 / 6) * plain["std.error"]
    np.testing.assert_allclose(bonferroni["conf.low"], low)


def test_predictions_for_clusters_are_those_of_lme4():
    asked = R["linear"]["cluster"]
    new = pd.DataFrame({name: asked[name] for name in ("g", "x", "arm", "sex", "site")})
    np.testing.assert_allclose(
        fits().predictions(new, random_effects="cluster").values[0], asked["fit"], rtol=1e-5
    )
    asked = R["logistic"]["cluster"]
    eta = logistic().predictions(new, random_effects="cluster", scale="link").values[0]
    np.testing.assert_allclose(eta, asked["fit"], atol=2e-4)


def test_variance_of_predictions_for_clusters_by_dense_normals():
    """Var(x'beta_hat + z'b_hat - x'beta - z'b) of best linear unbiased prediction, for all rows at once."""
    formula = "y ~ arm + x + (1 + x | g)"
    made, table = fits(formula), tables()[0]
    new = table.iloc[[0, 3, 40, 200]]
    got = made.predictions(new, random_effects="cluster")
    sd0, sd1, rho, sigma = np.r_[np.exp(made.components[0, :2]), np.tanh(made.components[0, 2]),
                                 np.exp(made.components[0, 3])]  # fmt: skip
    Psi = np.array([[sd0**2, rho * sd0 * sd1], [rho * sd0 * sd1, sd1**2]])
    m, n = table.g.nunique(), len(table)

    def matrices(t):
        X = np.column_stack([np.ones(len(t)), t.arm == "b", t.arm == "c", t.x]).astype(float)
        Z = np.zeros((len(t), 2 * m))
        for row, (g, x) in enumerate(zip(t.g, t.x, strict=True)):
            Z[row, 2 * (g - 1) : 2 * g] = 1, x
        return X, Z

    X, Z = matrices(table)
    Xn, Zn = matrices(new)
    D = np.kron(np.eye(m), Psi)
    V = Z @ D @ Z.T + sigma**2 * np.eye(n)
    Vi = np.linalg.inv(V)
    cov = np.linalg.inv(X.T @ Vi @ X)
    beta = cov @ X.T @ Vi @ table.y
    np.testing.assert_allclose(got.values[0], Xn @ beta + Zn @ D @ Z.T @ Vi @ (table.y - X @ beta), rtol=1e-6)
    A = Xn - Zn @ D @ Z.T @ Vi @ X
    error = A @ cov @ A.T + Zn @ (D - D @ Z.T @ Vi @ Z @ D) @ Zn.T
    ours = got.gradients[0] @ got.covariance[0] @ got.gradients[0].T + got.extra[0]
    np.testing.assert_allclose(ours, error, rtol=1e-6, atol=1e-9)
    assert np.abs(ours - got.extra[0] - error).max() > 1e-3  # wrong: without the variance of the effects


# generalised mixed models ------------------------------------------------


def test_logistic_means_at_effects_of_zero_are_those_of_emmeans():
    made, reference = logistic(), R["logistic"]
    link = made.marginal_means("arm", at={"x": 2}, scale="link")
    loose = {"rtol": 1e-3, "atol": 1e-4}  # glmer stops early, and its Hessian is by differences
    check(link, [each["means"] for each in reference["link"]], **loose)
    check(link.contrasts(), [each["pairs"] for each in reference["link"]], ("estimate", "SE"), **loose)
    back = made.marginal_means("arm", at={"x": 2}, scale="back-transformed")
    check(back, reference["response"], ("prob", "SE"), **loose)
    mean = made.marginal_means("arm", at={"x": 2}, random_effects="zero")
    check(mean, reference["fullgrid"], ("prob", "SE"), **loose)
    must_fail(back, reference["fullgrid"], ("prob", "SE"), **loose)
    must_fail(made.marginal_means("arm", at={"x": 2}), reference["fullgrid"], ("prob", "SE"), **loose)
    pooled = reference["pooled"]["means"]
    np.testing.assert_allclose(link.to_frame()["std.error"], [row["SE"] for row in pooled], rtol=2e-3)


def test_counts_are_those_of_emmeans():
    made = fits("k ~ arm + x + (1 | g)", "poisson")
    check(
        made.marginal_means("arm", at={"x": 2}, random_effects="zero"),
        R["counts"]["response"],
        ("rate", "SE"),
        2e-3,
    )
    both = [made.marginal_means("arm", at={"x": 2}, random_effects=e) for e in ("zero", "integrated")]
    ratio = [each.contrasts(compare="ratio").values for each in both]
    np.testing.assert_allclose(*ratio)  # for a log link averaging multiplies all means by one factor
    np.testing.assert_allclose(
        both[1].values / both[0].values, np.exp(np.exp(2 * made.components) / 2) * np.ones((1, 3))
    )


@pytest.mark.parametrize("link", ["logit", "probit", "log", "identity"])
def test_means_over_effects_by_quadrature(link):
    for eta, s2 in ((-2.0, 0.3), (0.5, 4.0), (3.0, 100.0), (0.7, 0.0)):
        if link == "log" and s2 > 10:
            continue

        def mean(eta, s2, link=link):
            f = lambda e: mean_at(link, np.array([eta + np.sqrt(s2) * e]))[0][0] * stats.norm.pdf(e)  # noqa: E731
            return integrate.quad(
                f, -14, 14, epsabs=1e-13, epsrel=1e-12, limit=400, points=[-eta / max(s2, 0.05) ** 0.5]
            )[0]

        got = [each[0] for each in mean_over(link, np.array([eta]), np.array([s2]))]
        assert got[0] == pytest.approx(mean(eta, s2), rel=1e-8)
        assert got[1] == pytest.approx(
            (mean(eta + 1e-4, s2) - mean(eta - 1e-4, s2)) / 2e-4, rel=1e-5, abs=1e-9
        )
        if s2 > 0:
            h = 1e-4 * s2
            assert got[2] == pytest.approx(
                (mean(eta, s2 + h) - mean(eta, s2 - h)) / (2 * h), rel=1e-4, abs=1e-8
            )


def test_mean_over_effects_by_simulation():
    """4 million draws of two correlated effects, within 4 Monte Carlo standard errors; not the mean at zero."""
    made, new = logistic("s ~ x + (1 + x | g)"), pd.DataFrame({"x": [-1.0, 2.0, 5.0]})
    got = made.predictions(new).values[0]
    sd, rho = np.exp(made.components[0, :2]), np.tanh(made.components[0, 2])
    z = np.random.default_rng(1).standard_normal((400_000, 2))
    b = np.column_stack([sd[0] * z[:, 0], sd[1] * (rho * z[:, 0] + np.sqrt(1 - rho**2) * z[:, 1])])
    eta = (
        made.estimates[0, 0]
        + made.estimates[0, 1] * new["x"].to_numpy()
        + b[:, :1]
        + b[:, 1:] * new["x"].to_numpy()
    )
    p = 1 / (1 + np.exp(-eta))
    mcse = p.std(axis=0) / np.sqrt(len(p))
    assert (np.abs(got - p.mean(axis=0)) < 4 * mcse).all()
    zero = made.predictions(new, random_effects="zero").values[0]
    assert (np.abs(zero - p.mean(axis=0)) > 4 * mcse).any()


@pytest.mark.parametrize("effects", ["zero", "integrated", "cluster"])
def test_gradients_by_differences(effects):
    """Derivatives of means, effects and predictions by coefficients and components, through the whole computation."""
    made = replace_rows(logistic("s ~ arm + x + (1 + x | g)"))
    new = tables()[0].iloc[[1, 50, 120]]

    def asked(f):
        if effects == "cluster":
            return f.predictions(new, random_effects="cluster")
        return f.marginal_effects(["x", "arm"], by="sex", random_effects=effects)

    got, k = asked(made), made.estimates.shape[1]
    for j in range(got.gradients.shape[2]):
        moved = []
        for sign in (1, -1):
            if j < k:
                moved.append(replace(made, estimates=made.estimates + sign * 1e-5 * np.eye(k)[j]))
            else:
                c = made.components.shape[1]
                moved.append(replace(made, components=made.components + sign * 1e-5 * np.eye(c)[j - k]))
        by_differences = (asked(moved[0]).values - asked(moved[1]).values) / 2e-5
        np.testing.assert_allclose(got.gradients[:, :, j], by_differences, rtol=1e-4, atol=2e-7)


def replace_rows(f):
    """The fit of one table only, for speed."""
    cut = {
        name: getattr(f, name)[:1]
        for name in ("estimates", "covariances", "components", "components_cov", "cross")
    }
    return replace(f, **cut)


def test_joint_covariance_of_coefficients_and_components():
    """The covariance with the components matters: without it, standard errors of averages over effects differ."""
    made = logistic()
    got = made.predictions(by="arm")
    assert got.covariance.shape[1] == 9
    apart = replace(made, cross=np.zeros_like(made.cross)).predictions(by="arm")
    assert np.abs(by_table(got)[1] / by_table(apart)[1] - 1).max() > 1e-3
    rows = next(
        stack_tables(tables()[0], [216], made.rows.formula, "bernoulli", made.rows.columns).tables(LOGIT)
    )
    at = np.r_[made.estimates[0], made.components[0]]

    def loglik(t):
        return laplace_at(rows, 1.0, t[:8], np.exp(t[8:])[None], free_elements(1))

    h, eye = 2e-3, np.eye(9)
    H = np.array([[(loglik(at + h * (a + b)) - loglik(at + h * (a - b)) - loglik(at - h * (a - b))
                    + loglik(at - h * (a + b))) / (4 * h**2) for a in eye] for b in eye])  # fmt: skip
    expected = np.linalg.inv(-H)
    np.testing.assert_allclose(made.cross[0, :, 0], expected[:8, 8], rtol=5e-3, atol=2e-4)
    assert expected[0, 0] == pytest.approx(made.covariances[0, 0, 0], rel=1e-3)


# marginal effects ---------------------------------------------------------


OURS = {
    "slopes": lambda f: f.marginal_effects(["arm", "sex", "site", "x"]),
    "slopes_by_sex": lambda f: f.marginal_effects("x", by="sex"),
    "ratio": lambda f: f.marginal_effects("arm", compare="ratio"),
    "average": lambda f: f.predictions(by=[]),
    "average_by_arm": lambda f: f.predictions(by="arm"),
    "predictions": lambda f: f.predictions(
        pd.DataFrame({"arm": list("abc"), "x": 2.0, "sex": "F", "site": "r"})
    ),
}
FLAT = {
    "logit": ("s ~ arm*sex + x + I(x**2) + site", "bernoulli"),
    "ols": ("y ~ arm*sex + x + I(x**2) + site", "normal"),
}


@pytest.mark.parametrize("kind", FLAT)
def test_effects_are_those_of_marginaleffects(kind):
    made = bi.fit_each(tables()[:2], FLAT[kind][0], family=FLAT[kind][1])  # two, for speed
    for name, ours in OURS.items():
        check(ours(made), [each[name] for each in PYTHON[kind][:2]], ("estimate", "std_error"), rtol=2e-4)
    # centred on x there: from x - 1 to x + 1
    other = made.marginal_effects({"x": 2})
    assert (
        other.terms == ("x: +2",) and made.marginal_effects("arm", by="sex").terms[0] == "arm: b - a, sex = F"
    )
    must_fail(made.marginal_effects(["sex", "arm", "site", "x"]), [each["slopes"] for each in PYTHON[kind][:2]],
              ("estimate", "std_error"))  # fmt: skip


@pytest.mark.parametrize("kind", FLAT)
def test_results_of_statsmodels_have_the_same(kind):
    formula = FLAT[kind][0]

    def fit(table):
        return smf.logit(formula, table).fit(disp=0) if kind == "logit" else smf.ols(formula, table).fit()

    own, theirs = bi.fit_each(tables()[:2], formula, family=FLAT[kind][1]), bi.fit_each(tables()[:2], fit)
    for ask in (lambda f: f.marginal_means("arm"), lambda f: f.marginal_effects(["x", "arm"]),
                lambda f: f.predictions(by="sex"), lambda f: f.marginal_means("arm", weights="observed")):  # fmt: skip
        for a, b in zip(by_table(ask(own)), by_table(ask(theirs)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4)
    assert theirs.marginal_means("arm").scale == ("logit" if kind == "logit" else "identity")


def test_effects_hold_means_of_clusters():
    """Within and between effects are separate: changing x leaves cluster_mean(x) unchanged."""
    made = fits("y ~ x + cluster_mean(x) + (1 | g)")
    np.testing.assert_allclose(made.marginal_effects("x").values[:, 0], made.estimates[:, 1], rtol=1e-8)
    with pytest.raises(SpecificationError, match="the clusters of the new rows are unknown"):
        made.marginal_means("x", at={"x": [1, 2]})
    unknown = pd.DataFrame({"x": [1.0], "g": [99]})
    with pytest.raises(DataError, match="1 new rows belong to clusters that are not in the tables"):
        made.predictions(unknown)


# functions of parameters, variance explained -------------------------------


def test_icc_and_r2_are_those_of_performance():
    for key, made in (
        ("linear", fits()),
        ("logistic", logistic()),
        ("slopes", fits("y ~ arm + x + (1 + x | g)")),
    ):
        wanted = [[each["icc"], each["marginal"], each["conditional"]] for each in R[key]["r2"].values()]
        np.testing.assert_allclose(made.explained().values, wanted, rtol=2e-4 if key != "logistic" else 2e-3)
    icc = "`sd(Intercept | g)`**2 / (`sd(Intercept | g)`**2 + `sd(residual)`**2)"
    by_text = fits().functions({"icc": icc}, pooled_as="logit", null=None)
    np.testing.assert_allclose(by_text.values[:, 0], fits().explained().values[:, 0])
    np.testing.assert_allclose(by_text.std_error, fits().explained().std_error[:1])
    low, high = fits().explained().to_frame().loc[0, ["conf.low", "conf.high"]]
    assert 0 < low < fits().explained().estimate[0] < high < 1


def test_r2_without_random_effects():
    """1 - sigma^2 / (f + sigma^2), and on the latent scale of a logistic model; derivatives by simulation."""
    made = fits("y ~ arm*sex + x")
    for k, table in enumerate(tables()):
        fit = smf.ols("y ~ arm*sex + x", table).fit()
        explained = fit.fittedvalues.var()
        assert made.explained().values[k, 0] == pytest.approx(explained / (explained + fit.scale))
        assert abs(made.explained().values[k, 0] - fit.rsquared) > 1e-4  # wrong: with the biased variance
    single = logistic("s ~ arm*sex + x")
    got = single.explained()
    for k, table in enumerate(tables()):
        eta = smf.logit("s ~ arm*sex + x", table).fit(disp=0).model.exog @ single.estimates[k]
        assert got.values[k, 0] == pytest.approx(eta.var(ddof=1) / (eta.var(ddof=1) + np.pi**2 / 3))
    assert list(made.explained().at["term"]) == ["R2"] and (got.std_error > 0).all()
    rng, k = np.random.default_rng(1), 0
    beta = rng.multivariate_normal(made.estimates[k], made.covariances[k], 20_000)
    sd = np.exp(made.components[k, 0] + np.sqrt(made.components_cov[k, 0, 0]) * rng.normal(size=20_000))
    X = smf.ols("y ~ arm*sex + x", tables()[k]).exog
    f = (beta @ X.T).var(axis=1, ddof=1)
    assert by_table(made.explained())[1][k, 0] == pytest.approx((f / (f + sd**2)).std(), rel=0.05)


SMOOTH = {  # the space of columns of each formula, with parameters from a table, at any x
    "y ~ bs(x, df=5) + arm": lambda x, t: BSpline.design_matrix(
        x, np.r_[[t.x.min()] * 4, np.quantile(t.x, [1 / 3, 2 / 3]), [t.x.max()] * 4], 3, extrapolate=True
    ).toarray(),
    "y ~ poly(x, 3) + arm": lambda x, _: np.vander(x, 4),
    "y ~ scale(x) + I(center(x)**2) + arm": lambda x, _: np.vander(x, 3),
}


@pytest.mark.parametrize("formula", SMOOTH)
def test_predictions_and_slopes_of_splines_and_polynomials(formula):
    """By least squares on a basis written out; the knots are those of each table, not of the rows predicted."""
    made, h = fits(formula), 1e-5
    new = tables()[0].head(5).assign(x=[-0.8, 0.1, 0.4, 1.0, tables()[0].x.max() + 0.2])
    got, slopes = made.predictions(new), made.marginal_effects("x")
    wrong = []
    for k, table in enumerate(tables()):
        levels = sorted(table.arm.unique())[1:]

        def basis(frame, t=table, levels=levels):
            x = frame.x.to_numpy(float)
            return np.column_stack([SMOOTH[formula](x, t), *(frame.arm == level for level in levels)])

        beta = np.linalg.lstsq(basis(table), table.y, rcond=None)[0]
        np.testing.assert_allclose(got.values[k], basis(new) @ beta, rtol=1e-6)
        up, down = (basis(table.assign(x=table.x + step)) @ beta for step in (h, -h))
        assert slopes.values[k, 0] == pytest.approx(((up - down) / (2 * h)).mean(), rel=1e-4)
        own = np.column_stack(
            [SMOOTH[formula](new.x.to_numpy(), new), *(new.arm == level for level in levels)]
        )
        wrong.append(np.abs(own @ beta - got.values[k]).max())
    if "bs" in formula:
        assert min(wrong) > 1e-3


def test_variance_explained_with_several_grouping_factors():
    frames = [t.assign(item=np.arange(216) % 7) for t in tables()]
    frames = [t.assign(y=t.y + np.sin(3 * t.item)) for t in frames]
    made = bi.fit_each(frames, "y ~ x + (1 | g) + (1 | item)")
    above = "`sd(Intercept | g)`**2 + `sd(Intercept | item)`**2"
    by_text = made.functions(f"({above}) / ({above} + `sd(residual)`**2)", pooled_as="logit", null=None)
    got = made.explained()
    np.testing.assert_allclose(got.values[:, 0], by_text.values[:, 0])
    assert got.std_error[0] == pytest.approx(by_text.std_error[0])
    with pytest.raises(SpecificationError, match="need exactly one grouping factor"):
        made.predictions(frames[0].head(2), random_effects="cluster")
    assert np.isfinite(made.marginal_effects("x", df_complete="satterthwaite").std_error).all()
    with pytest.raises(SpecificationError, match="with one grouping factor"):
        made.pool("kenward-roger")
    binary = bi.fit_each(
        frames[:2], "s ~ x + (1 | g) + (1 | item)", family="bernoulli"
    )  # by the package glmm
    with pytest.raises(SpecificationError, match=r"have no standard errors.* Give random_effects='zero'"):
        binary.marginal_effects("x")
    assert np.isfinite(binary.marginal_effects("x", random_effects="zero").std_error).all()


def test_gradients_of_functions_by_differences():
    made = fits("y ~ arm + x + (1 + x | g)")
    text = (
        "exp(x / 2) * `arm[b]` ** 2 - log(`sd(Intercept | g)`) / (1 + `cor(Intercept, x | g)` ** 2)"
        " + sqrt(`sd(residual)`) ** x"
    )
    got = made.functions(text)
    for j, (field, column) in enumerate(
        (name, c) for name, n in (("estimates", 4), ("components", 4)) for c in range(n)
    ):
        step = 1e-6 * np.eye(4)[column]
        up, down = (made_with(made, field, sign * step).functions(text).values for sign in (1, -1))
        full = np.zeros(8)
        used = [1, 3, 4, 6, 7]  # Intercept, arm[c] and sd(x | g) are not named
        full[used] = got.gradients[0, 0]
        assert full[j] == pytest.approx((up - down)[0, 0] / 2e-6, rel=1e-4, abs=1e-6)
    for data, rtol in ((made, 1e-10),):
        ratio, linear = data.functions("x"), data.contrasts("x")
        np.testing.assert_allclose(ratio.to_frame()["std.error"], linear.to_frame()["std.error"], rtol=rtol)
        np.testing.assert_allclose(ratio.to_frame()["p.value"], linear.to_frame()["p.value"], rtol=1e-8)


def made_with(f, field, step):
    return replace(f, **{field: getattr(f, field) + step})


def test_components_at_their_bound():
    flat = [t.assign(y=t.y - t.groupby("g").y.transform("mean")) for t in tables()]
    made = bi.fit_each(flat, "y ~ x + (1 | g)")
    assert made.singular.all()
    table = made.explained("identity").to_frame()
    assert table["estimate"].notna().all() and table["conf.low"].isna().all()
    assert "a variance component is at its bound" in unfolded(repr(made.explained("identity")))
    assert np.isnan(made.explained().to_frame()["estimate"][0])
    with pytest.raises(
        SpecificationError, match="in 4 of 4 tables there is no finite value, or no standard error"
    ):
        made.functions("`sd(Intercept | g)` + x")
    assert np.isfinite(made.functions("x / sqrt(2)").std_error).all()
    binary = [t.assign(s=np.tile([0, 1, 1], len(t) // 3)) for t in tables()]
    zero = bi.fit_each(binary, "s ~ x + (1 | g)", family="bernoulli")
    assert zero.singular.all()
    both = [zero.predictions(by=[], random_effects=e).to_frame() for e in ("zero", "integrated")]
    # the tables differ by round-off only, so these degrees of freedom are any number beyond 1e30
    both = [table.drop(columns="term").assign(df=table["df"].clip(upper=1e30)) for table in both]
    pd.testing.assert_frame_equal(*both)


def test_joint_test_of_contrasts():
    """For equal means without interaction it is D1 of the coefficients; for one contrast, the square of its t."""
    made = fits("y ~ arm + x + (1 | g)")
    contrasts = made.marginal_means("arm").contrasts("treatment")
    ours, by_names = contrasts.test(), made.test(["arm[b] = 0", "arm[c] = 0"])
    assert ours.statistic == pytest.approx(by_names.statistic) and ours.p_value == pytest.approx(
        by_names.p_value
    )
    assert (
        made.marginal_means("arm", df_complete="satterthwaite").contrasts("treatment").test().df2 < ours.df2
    )
    with pytest.raises(SpecificationError, match=r"Take contrasts\('treatment'\)"):
        made.marginal_means("arm").contrasts().test()
    with pytest.raises(SpecificationError, match="there is no value to test"):
        made.marginal_means("arm").test()
    odds = logistic("s ~ arm + x + (1 | g)").marginal_means("arm", scale="back-transformed")
    joint = odds.contrasts("treatment", compare="odds ratio").test()
    wanted = logistic("s ~ arm + x + (1 | g)").test(["arm[b] = 0", "arm[c] = 0"])
    assert joint.statistic == pytest.approx(wanted.statistic)


# the table ------------------------------------------------------------------


def test_scales_of_pooling():
    made = logistic().marginal_means("arm")
    table = made.to_frame()
    eta = np.log(made.values / (1 - made.values))
    np.testing.assert_allclose(table["estimate"], 1 / (1 + np.exp(-eta.mean(axis=0))))
    assert ((table["conf.low"] > 0) & (table["conf.high"] < 1)).all() and table["p.value"].isna().all()
    odds = made.contrasts("treatment", compare="odds ratio")
    np.testing.assert_allclose(odds.estimate, np.exp(eta.mean(axis=0)[1:] - eta.mean(axis=0)[0]))
    row = odds.to_frame().loc[0]
    assert row["statistic"] == pytest.approx(np.log(row["estimate"]) / odds.pooled.std_error[0])
    with pytest.raises(AssertionError):  # pooled untransformed
        np.testing.assert_allclose(replace(made, scale="identity").estimate, made.estimate, rtol=1e-6)


def test_tidy_tables():
    columns = ["term", "estimate", "std_error", "statistic", "df", "p_value", "conf_low", "conf_high"]
    tidy = fits().pool().tidy()
    assert list(tidy)[:8] == columns
    logits = logistic().pool()
    odds = logits.tidy(exponentiate=True)
    np.testing.assert_allclose(odds["conf_low"], np.exp(logits.to_frame()["conf.low"]))
    np.testing.assert_allclose(odds["p_value"], logits.to_frame()["p.value"])
    with pytest.raises(SpecificationError, match="variance components"):
        fits().pool_components().tidy(exponentiate=True)
    pairs = fits().marginal_means(["arm", "sex"]).contrasts(by="sex").tidy()
    assert {*columns, "contrast", "sex"} <= set(pairs) and pairs["term"].is_unique


def test_many_rows_have_variances_only():
    each = fits().predictions()
    assert len(each) == 216 and np.isfinite(each.std_error).all()
    twice = fits().predictions(pd.concat([tables()[0]] * 2, ignore_index=True))
    np.testing.assert_allclose(twice.std_error[:216], twice.std_error[216:])
    once = fits().predictions(tables()[0])
    np.testing.assert_allclose(twice.to_frame()["conf.low"][:216], once.to_frame()["conf.low"])
    assert twice.pooled.covariance.size == 0 and len(twice.terms) == 432
    with pytest.raises(SpecificationError, match="432 estimates are too many"):
        twice.contrasts()


def test_offsets_and_categories():
    frames = [
        t.assign(log_time=np.log(1 + t.g % 4), arm=pd.Categorical(t.arm, list("cba"))) for t in tables()
    ]
    made = bi.fit_each(frames, "k ~ arm + x + (1 | g)", family="poisson", offset="log_time")
    at_two = made.marginal_means("arm", at={"x": 2, "log_time": np.log(2)}, random_effects="zero")
    assert list(at_two.at["arm"]) == list("cba")
    beta = made.estimates
    np.testing.assert_allclose(at_two.values[:, 1], 2 * np.exp(beta[:, 0] + beta[:, 1] + 2 * beta[:, 3]))


@pytest.mark.parametrize(
    "ask, error, says",
    [
        (lambda f: f.marginal_means("arms"), SpecificationError, "no variable 'arms'. Did you mean 'arm'"),
        (lambda f: f.marginal_means("x"), SpecificationError, "say at which values"),
        (lambda f: f.marginal_means("arm", at={"sex": ["F", "M"]}), SpecificationError, "several values of a column"),
        (lambda f: f.marginal_means("arm", at={"sex": "X"}), DataError, "'sex' has no level 'X'"),
        (lambda f: f.marginal_means("arm", weights="cells"), SpecificationError, "weights = 'cells' is not known"),
        (lambda f: f.predictions(pd.DataFrame({"x": [1.0]})), SpecificationError, "the new rows have no column 'arm'"),
        (lambda f: f.predictions(scale="odds"), SpecificationError, "scale = 'odds' is not known"),
        (lambda f: f.predictions(by="area"), SpecificationError, "by = 'area' is not a column"),
        (lambda f: f.predictions(random_effects="mean"), SpecificationError, "random_effects = 'mean' is not known"),
        (lambda f: f.predictions(by=[], df_complete="kenward"), SpecificationError, "give 'satterthwaite', "
                                                                                    "'kenward-roger' or numbers"),
        (lambda f: f.marginal_effects("x", compare="ratio"), SpecificationError, "give a step or two values"),
        (lambda f: f.marginal_means("arm").contrasts("dunnett"), SpecificationError, "kind = 'dunnett' is not known"),
        (lambda f: f.marginal_means("arm").contrasts(adjust="tukey"), SpecificationError, "its general form is 'mvt'"),
        (lambda f: f.marginal_means("arm").contrasts(by="sex"), SpecificationError, "not a column of these estimates"),
        (lambda f: f.functions("z / x"), SpecificationError, "there is no coefficient 'z'"),
        (lambda f: f.functions("sin(x)"), SpecificationError, "sin is not one of the functions of one argument"),
        (lambda f: f.functions("x", pooled_as="cube"), SpecificationError, "pooled_as = 'cube' is not known"),
        (lambda f: f.functions(3), SpecificationError, "a text such as 'x - z'"),
        (lambda f: f.explained("fisher"), SpecificationError, "choose 'logit' or 'identity'"),
    ],
)  # fmt: skip
def test_what_is_refused(ask, error, says):
    with pytest.raises(error, match=says):
        ask(fits())


def test_what_other_analyses_do_not_have():
    array = bi.fit_each(tables(), lambda table: ([table.y.mean()], [[table.y.var() / len(table)]]))
    with pytest.raises(SpecificationError, match="the function returned tuple, which cannot predict rows"):
        array.predictions()
    with pytest.raises(SpecificationError, match="ICC and R2 need a model given as a formula"):
        array.explained()
    with pytest.raises(
        SpecificationError, match=r"exist only for fixed effects of|exist for linear mixed models"
    ):
        logistic().predictions(by=[], df_complete="satterthwaite")


def test_results_of_statsmodels_that_cannot_predict_so_are_refused_in_words():
    """A spline by patsy has no values beyond its knots; an ordinal model has a probability for each level."""
    spline = bi.fit_each(tables()[:2], lambda t: smf.ols("y ~ bs(x, df=4) + sex", t).fit())
    assert np.isfinite(spline.marginal_means("sex", at={"x": 0.1}).std_error).all()
    with pytest.raises(SpecificationError, match=r"new rows: .* outermost knots.*continues it"):
        spline.marginal_effects("x")
    by_formula = bi.fit_each(tables()[:2], "y ~ bs(x, df=4) + sex")
    means = (each.marginal_means("sex", at={"x": 0.1}).values for each in (by_formula, spline))
    np.testing.assert_allclose(*means, rtol=1e-6)

    def ordinal(table):
        level = pd.qcut(table.y, 3, labels=False)
        return OrderedModel.from_formula("level ~ x", table.assign(level=level), distr="logit").fit(disp=0)

    with pytest.raises(SpecificationError, match="OrderedModel predicts several numbers for a row"):
        bi.fit_each(tables()[:2], ordinal).predictions(tables()[0].head(2))


def test_calls_of_the_document_are_those_of_the_example():
    root = Path(bi.__file__).parents[1]
    calls = [
        line[4:]
        for line in (root / "docs" / "estimands.md").read_text().splitlines()
        if line.startswith(">>> ")
    ]
    example = (root / "examples" / "estimands.py").read_text()
    assert len(calls) >= 8 and not [call for call in calls if call not in example]
