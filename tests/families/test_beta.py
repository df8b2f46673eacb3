"""Proportions: what is refused, kept inside (0, 1), stored, and advised; draws and polygamma functions against SciPy."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from numba import njit
from scipy import special, stats

import bayesimp as bi
from bayesimp.errors import DataError
from bayesimp.families import family_of
from bayesimp.fcs.blocks import glmm
from bayesimp.imputation.events import imputed_events
from bayesimp.kernels.families import beta as kernel

CLUSTERS, ROWS = 8, 12


def table(seed: int = 3) -> pd.DataFrame:
    """A proportion that rises with x; one cluster lacks it."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(CLUSTERS), ROWS)
    x = rng.normal(size=len(g))
    mean = special.expit(0.8 * x + 0.5 * rng.normal(size=CLUSTERS)[g])
    y = rng.beta(6 * mean, 6 * (1 - mean))
    y[(rng.random(len(g)) < 0.2) | (g == 3)] = np.nan
    return pd.DataFrame({"g": g, "x": x, "y": y})


@njit
def polygammas(x):
    return kernel.polygammas(x)


@njit
def draws(rng, eta, phi, n):
    out = np.empty(n)
    for k in range(n):
        out[k] = kernel.beta_draw(rng, eta, phi)
    return out


def test_polygamma_functions():
    for x in (1e-3, 0.2, 1.0, 4.7, 9.99, 10.01, 3e4):
        expected = [special.digamma(x), *(special.polygamma(n, x) for n in (1, 2, 3))]
        np.testing.assert_allclose(polygammas(x), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("eta, phi", [(0.4, 2.3), (-3.0, 12.0), (2.0, 1.5)])
def test_draws_have_the_distribution(eta, phi):
    """Kolmogorov-Smirnov, level 1e-3 over three; a precision wrong by a quarter is detected."""
    y = draws(np.random.default_rng(1), eta, phi, 5_000)
    law = stats.beta(phi * special.expit(eta), phi * special.expit(-eta))
    assert stats.kstest(law.cdf(y), "uniform").pvalue > 1e-3 / 3
    wrong = stats.beta(1.25 * phi * special.expit(eta), 1.25 * phi * special.expit(-eta))
    assert stats.kstest(wrong.cdf(y), "uniform").pvalue < 1e-3 / 3


def test_what_a_double_cannot_hold_is_refused_not_clipped():
    rng = np.random.default_rng(0)
    assert np.isnan(draws(rng, 800.0, 1.0, 1)[0]) and np.isnan(draws(rng, np.nan, 1.0, 1)[0])
    assert np.isnan(draws(rng, 60.0, 1.0, 1)[0])  # 1 - y is about 1e-26: all draws are 1
    y = draws(rng, 0.0, 0.02, 2_000)  # a third and more of the draws are 0 or 1 to rounding
    assert ((y > 0) & (y < 1)).all()


@pytest.mark.parametrize("bad", [0.0, 1.0, 35.0])
def test_zero_one_and_percentages_are_refused_with_rows_and_cure(bad):
    frame = table()
    frame.loc[[0, 5], "y"] = bad
    with pytest.raises(
        DataError,
        match=rf"'y' cannot be beta: .*no mass at 0 or 1. Found {bad} in 2 of 96 rows.*binomial",
    ):
        bi.IncompleteData(frame, "g", {"y": "beta"})
    assert bi.IncompleteData(frame, "g").families["y"] == "normal"  # unless declared otherwise


def test_a_run_is_inside_described_and_stored(tmp_path):
    data = bi.IncompleteData(table(), "g", {"y": "proportion"})
    assert data.families["y"] == "beta" and family_of("beta").support.is_bounded
    imp = bi.FCS(data).impute(m=3, cycles=4, seed=1, progress=False)
    values = imp.values("y")
    assert ((values > 0) & (values < 1)).all() and np.ptp(values) > 0.2
    assert {"shape_y", "beta_y", "Psi_y"} <= set(imp.tree["posterior"])
    assert "bayes [beta]" in repr(bi.FCS(data))
    imp.save(tmp_path / "run.nc")
    again = bi.load(tmp_path / "run.nc")
    np.testing.assert_array_equal(again.values("y"), values)
    assert again.data.families["y"] == "beta"


@pytest.mark.parametrize("seed", range(3, 9))
def test_values_beside_the_ends_stay_inside_on_the_scale_of_the_data(seed, monkeypatch):
    """The loop stores values less their mean, which loses 1e-20."""

    def beside(rng, family, trials, eta, aux, out):
        out[:] = np.where(np.arange(len(out)) % 2, 1e-20, 1 - 1e-16)

    monkeypatch.setattr(glmm, "draw_rows", beside)
    data = bi.IncompleteData(table(seed), "g", {"y": "beta"})
    imp = bi.FCS(data).impute(m=2, cycles=2, seed=1, progress=False)
    values = imp.values("y")
    assert ((values > 0) & (values < 1)).all()
    assert values.min() < 1e-15 and values.max() > 1 - 1e-15
    events = [event for event in imputed_events(imp) if event.kind == "rounded"]
    assert [event.where for event in events] == ["y"] and events[0].count == values.size


def test_the_event_on_impossible_values_names_the_family():
    rng = np.random.default_rng(5)
    frame = table()
    frame["y"] = np.where(frame["y"].isna(), np.nan, rng.beta(0.4, 1.5, len(frame)))
    imp = bi.FCS(bi.IncompleteData(frame, "g")).impute(m=5, cycles=3, seed=1, progress=False)
    (event,) = [event for event in imputed_events(imp) if event.kind == "impossible values"]
    assert "families={'y': 'beta'}" in event.message and "'gamma'" in event.message
    frame["y"] *= 3
    imp = bi.FCS(bi.IncompleteData(frame, "g")).impute(m=5, cycles=3, seed=1, progress=False)
    (event,) = [event for event in imputed_events(imp) if event.kind == "impossible values"]
    assert "'beta'" not in event.message


def test_replicates_have_the_distribution():
    """Kolmogorov-Smirnov, level 1e-3 over two; a precision of one is detected."""
    rng, phi, eta = np.random.default_rng(2), 7.0, np.repeat([0.4, -1.5], 3_000)[:, None]
    y = family_of("beta").simulate(SimpleNamespace(shape=phi), eta, rng)
    for e in (0.4, -1.5):
        own = y[eta[:, 0] == e]
        assert (
            stats.kstest(own, stats.beta(phi * special.expit(e), phi * special.expit(-e)).cdf).pvalue > 5e-4
        )
        assert stats.kstest(own, stats.beta(special.expit(e), special.expit(-e)).cdf).pvalue < 1e-6
