"""Monte Carlo errors of pooled numbers, and how many imputations are needed.

Compared with leaving out each imputation by hand, and with repeated runs: Q_l ~ N(q, b) independently, U_l constant, so
that 1,500 runs of M imputations show the true spread (its standard error is 1.8 %; 8 % is more than 4 of these).
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from scipy.special import expit, logit

import bayesimp as bi
from bayesimp.analysis.monte_carlo import enough_imputations, monte_carlo_errors
from bayesimp.analysis.pool import pool
from bayesimp.analysis.pooled_components import pool_components
from bayesimp.errors import SpecificationError

RNG = np.random.default_rng(20)
Q = RNG.normal([1.0, 2.0, 0.1], [0.2, 1.0, 0.01], size=(17, 3))
U = RNG.gamma(40, 1 / 40, size=(17, 3)) * [0.5, 0.3, 0.2]
NUMBERS = ("estimate", "std.error", "df", "p.value", "conf.low", "conf.high", "fmi")


def by_hand(Q, U, dfcom):
    """The jackknife over imputations: `pool` with each table left out in turn."""
    M = len(Q)
    left = [pool(np.delete(Q, k, 0), np.delete(U, k, 0), dfcom).to_frame(0.9) for k in range(M)]
    return {
        name: np.sqrt((M - 1) ** 2 / M * np.var([table[name] for table in left], axis=0, ddof=1))
        for name in NUMBERS
    }


@pytest.mark.parametrize("dfcom", [np.inf, 30.0, [12.0, 50.0, np.inf]])
def test_jackknife_is_leaving_each_table_out(dfcom):
    ours, theirs = monte_carlo_errors(Q, U, dfcom, 0.9), by_hand(Q, U, dfcom)
    for name in NUMBERS:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-9, err_msg=name)


def test_error_of_the_estimate_is_that_of_a_mean():
    pooled = pool(Q, U, 30.0)
    np.testing.assert_allclose(pooled.mc_error, Q.std(axis=0, ddof=1) / np.sqrt(17))
    np.testing.assert_allclose(pooled.monte_carlo()["estimate"], pooled.mc_error)
    np.testing.assert_allclose(pooled.to_frame()["mc.error"], pooled.mc_error)
    assert "mc.error" in repr(pooled) and "mc.error" in pooled._repr_html_()
    wrong = np.sqrt(
        (1 + 1 / 17) * pooled.b / 17
    )  # the share of it in the total variance, mistaken for the error
    assert not np.allclose(pooled.mc_error, wrong, rtol=1e-2)


@cache
def runs(M, b, ubar, many=1_500):
    """Numbers from many runs, and jackknife errors of the first 100."""
    rng = np.random.default_rng(3)
    q = rng.normal(0.0, np.sqrt(b), size=(many, M))
    parts = [pool(part.T, np.full((M, 100), ubar), 200.0) for part in np.split(q, many // 100)]
    numbers = {"estimate": q.mean(axis=1), "std.error": np.concatenate([p.std_error for p in parts])}
    numbers["fmi"] = np.concatenate([p.fmi for p in parts])
    numbers["conf.low"] = np.concatenate([p.interval()[:, 0] for p in parts])
    errors = monte_carlo_errors(q[:100].T, np.full((M, 100), ubar), 200.0)
    return numbers, errors


@pytest.mark.parametrize("name", ["estimate", "std.error", "conf.low", "fmi"])
def test_errors_are_the_spread_of_other_runs(name):
    table, errors = runs(40, 0.4, 1.0)
    spread = table[name].std()
    assert np.sqrt(np.mean(errors[name] ** 2)) == pytest.approx(spread, rel=0.09)


def test_so_many_imputations_give_the_wanted_errors():
    """With gamma known, the recommended number gives the wanted coefficient of variation within 4 standard errors."""
    gamma, cv, share = 0.4, 0.05, 0.1
    M = int(np.ceil(1 + (gamma / cv) ** 2 / 2))
    b, ubar = gamma, 1 - gamma
    table, _ = runs(M, b, ubar)
    found = table["std.error"].std() / table["std.error"].mean()
    assert found == pytest.approx(cv, rel=0.08)
    half, _ = runs(M // 2, b, ubar)
    assert half["std.error"].std() / half["std.error"].mean() > 1.3 * cv  # half as many do not
    of_estimate = enough_imputations([b], [1.0], [gamma], 1_000_000, share=share)["for.estimate"].item()
    table, _ = runs(int(of_estimate), b, ubar)
    assert table["estimate"].std() == pytest.approx(share, rel=0.08)


def test_rule_of_two_stages_by_hand():
    """von Hippel 2020: the upper limit of logit gamma, which shrinks as the pilot grows."""
    for m in (5, 20, 100):
        high = expit(logit(0.5) + 1.959964 * np.sqrt(2 / m))
        row = enough_imputations([0.5], [1.0], [0.5], m).iloc[0]
        assert row["fmi.high"] == pytest.approx(high) and row["for.std.error"] == np.ceil(
            1 + (high / 0.05) ** 2 / 2
        )
        assert row["for.estimate"] == 50 and row["needed"] == max(50, row["for.std.error"])
    with pytest.raises(SpecificationError, match=r"cv = 0"):
        enough_imputations([0.5], [1.0], [0.5], 5, cv=0)


def test_edges():
    two = pool(Q[:2], U[:2])
    assert np.isnan(two.monte_carlo()).all().all() and np.isfinite(two.mc_error).all()
    same = pool(np.tile(Q[0], (5, 1)), np.tile(U[0], (5, 1)), 40.0)  # nothing is missing
    assert (same.mc_error < 1e-12).all() and (same.monte_carlo()["std.error"] < 1e-12).all()
    needed = same.imputations_needed()
    assert (needed["for.estimate"] == 2).all() and np.isfinite(needed["needed"]).all()
    with pytest.raises(SpecificationError, match="does not keep the estimates"):
        replace(two, replicates=None).monte_carlo()


@pytest.mark.parametrize("scale", ["log", "sd", "variance"])
def test_components_have_errors_in_their_own_units(scale):
    """Errors of sds and correlations are the same to first order on every pooling scale."""
    rng = np.random.default_rng(8)
    phi = np.column_stack([rng.normal(np.log(3.0), 0.02, 12), rng.normal(0.4, 0.02, 12)])
    V = np.tile(np.diag([0.01, 0.02]), (12, 1, 1))
    found = pool_components(phi, V, ("sd(x)", "cor(x, y)"), [False, True], scale).to_frame()
    values = np.column_stack([np.exp(phi[:, 0]), np.tanh(phi[:, 1])])
    np.testing.assert_allclose(found["mc.error"], values.std(axis=0, ddof=1) / np.sqrt(12), rtol=0.02)
    median = pool_components(phi, V, ("sd(x)", "cor(x, y)"), [False, True], "median")
    assert median.replicates is None and np.isnan(median.to_frame()["mc.error"]).all()


def test_from_the_kernel_to_the_printed_number():
    """Monte Carlo errors of an analysis equal those computed from its estimates by table."""
    data = bi.IncompleteData(bi.load_exam(), cluster="school")
    imp = bi.JointNormal(data, "written + course ~ gender + (1 | school)").impute(
        m=6, seed=1, draws=30, progress=False
    )
    fits = imp.analyse("written ~ course + gender + (1 | school)")
    slope = fits.estimates[:, fits.names.index("course")]
    error = slope.std(ddof=1) / np.sqrt(6)
    assert f"{error:.4g}" in repr(fits.pool())
    contrast = fits.contrasts("2 * course").mc_error.item()
    assert contrast == pytest.approx(2 * error)
    needed = fits.pool().imputations_needed(share=0.01).loc["course"]
    assert needed["for.estimate"] == pytest.approx(6 * (needed["mc.share"] / 0.01) ** 2, abs=1)
