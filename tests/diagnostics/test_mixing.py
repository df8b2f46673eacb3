"""The limit of R-hat and the verdict on a run, for chains constructed to mix, to mix slowly, and not to mix.

Autoregressive chains x_t = phi x_{t-1} + e have tau = (1 + phi) / (1 - phi). The limit is to refuse one of all quantities
with probability .01; refusals of 10 sets of 100 quantities that mix: more than 2 have probability 1e-4.
"""

import numpy as np
import pandas as pd
import pytest
from arviz_stats.base import array_stats

from bayesimp.diagnostics import mixing
from bayesimp.diagnostics.chain_statistics import normal_scores, split
from bayesimp.diagnostics.convergence import Summary, diagnose
from bayesimp.diagnostics.mixing import autocorrelation_time
from bayesimp.workflow.words import in_plan_words


def chains(rng, C, N, k, tau):
    phi = (tau - 1) / (tau + 1)
    x = np.empty((C, N, k))
    x[:, 0] = rng.normal(size=(C, k))
    for t in range(1, N):
        x[:, t] = phi * x[:, t - 1] + np.sqrt(1 - phi**2) * rng.normal(size=(C, k))
    return x


def r_hat(x):
    return array_stats.rhat(x, chain_axis=0, draw_axis=1, method="rank")


def first(x):
    """Quantities first."""
    return np.moveaxis(x, -1, 0)


def r_hat_limit(x):
    halves = split(first(x))
    folded = np.abs(halves - np.median(halves, axis=(1, 2), keepdims=True))
    return mixing.r_hat_limit(normal_scores(halves), normal_scores(folded))


@pytest.mark.parametrize("C, N, tau", [(5, 200, 4), (20, 50, 2), (20, 200, 4), (4, 1000, 8)])
def test_chains_that_mix_are_seldom_refused(C, N, tau):
    rng = np.random.default_rng(1)
    refused = 0
    for _ in range(10):
        x = chains(rng, C, N, 100, tau)
        refused += bool((r_hat(x) > r_hat_limit(x)).any())
    assert refused <= 2


@pytest.mark.parametrize("C, N", [(5, 200), (20, 50), (60, 50), (4, 1000)])
def test_chains_that_do_not_mix_are_refused(C, N):
    """Chains with tau = N; and chains that move quickly, each around its own value."""
    rng = np.random.default_rng(2)
    slow = chains(rng, C, N, 100, 2.0 * N)
    apart = chains(rng, C, N, 100, 1) + rng.normal(size=(C, 1, 100))
    for x in (slow, apart):
        assert (r_hat(x) > r_hat_limit(x)).mean() > (0.8 if C > 5 else 0.5), (
            r_hat(x) > r_hat_limit(x)
        ).mean()


@pytest.mark.parametrize("tau", [1, 2, 4, 8])
def test_autocorrelation_time(tau):
    """Within 15 %, from long chains, and from chains of 12 tau with the correction for their means."""
    rng = np.random.default_rng(3)
    long = autocorrelation_time(first(chains(rng, 4, 4000, 40, tau))).mean()
    short = autocorrelation_time(normal_scores(first(chains(rng, 40, max(12 * tau, 24), 200, tau)))).mean()
    assert long == pytest.approx(tau, rel=0.05) and short == pytest.approx(tau, rel=0.15)


def test_limit_tightens_with_length():
    """To the published 1.01 for long chains; by its Monte Carlo error for short ones."""
    rng = np.random.default_rng(4)
    limits = [r_hat_limit(chains(rng, 4, N, 3, 1)).max() for N in (40, 400, 40_000)]
    assert (
        limits[0] > 1.05 and limits[0] > limits[1] > limits[2] and limits[2] == pytest.approx(1.01, abs=5e-4)
    )


def test_an_ess_of_800_with_the_r_hat_it_explains_is_no_failure():
    """20 chains of 200 cycles, tau = 5: R-hat of about 1.02 is Monte Carlo error."""
    rng = np.random.default_rng(5)
    table = pd.DataFrame(statistics(chains(rng, 20, 200, 60, 5)))
    assert table["ess_bulk"].median() == pytest.approx(800, rel=0.15) and table["r_hat"].max() > 1.02
    assert Summary(table, table.iloc[:0], EVENTS, 20, 200, True).converged


EVENTS = pd.DataFrame(columns=["kind", "where", "message", "count"])


def statistics(x):
    import xarray as xr

    names = [f"x{j}" for j in range(x.shape[2])]
    return diagnose(xr.Dataset({name: (("chain", "draw"), x[:, :, j]) for j, name in enumerate(names)}))


@pytest.mark.parametrize("chained", [False, True])
def test_verdicts(chained):
    rng = np.random.default_rng(6)

    def verdict(x, **more):
        table = statistics(x)
        return Summary(
            table, table.iloc[:0], EVENTS, x.shape[0], x.shape[1], chained, chains=x.shape[0], **more
        )

    good = verdict(chains(rng, 20, 200, 5, 1))
    assert good.converged and good.verdict.startswith("Converged")
    few = verdict(chains(rng, 5, 50, 5, 1))  # 250 draws have no ESS of 400
    assert few.mixes and not few.converged and few.verdict.startswith("Mixes, but too few draws")
    assert ("`extend(" in few.verdict and "`iterate(" in few.verdict) == chained
    assert ("`extend_until()`" in few.verdict) == (not chained)
    assert "draws under [impute]" in in_plan_words(few.verdict) or chained
    crawling = verdict(chains(np.random.default_rng(6), 4, 1_000, 1, 300))
    assert crawling.mixes and crawling.smallest_ess < 48 and not (crawling.told or crawling.converged)
    assert crawling.verdict.startswith("NOT known to mix: R-hat 1.177") and few.told
    stuck = verdict(chains(rng, 5, 50, 5, 1) + 5.0 * np.arange(5)[:, None, None])
    assert not stuck.mixes and stuck.verdict.startswith("Does NOT mix") and "of x" in stuck.verdict
    cured = verdict(chains(rng, 5, 50, 5, 500), together={"together": ["a", "b"]})
    assert "blocks={'together': ['a', 'b']}" in cured.verdict
    short = verdict(chains(rng, 5, 10, 5, 1) + 5.0 * np.arange(5)[:, None, None])
    assert short.verdict.startswith("NOT known to have converged: too few draws to judge by")


def test_r_hat_is_split_and_rank_normalised():
    """Chains that drift alike agree with each other but not with themselves; rank-normalisation removes outliers."""
    rng = np.random.default_rng(7)
    x = rng.normal(size=(4, 200, 1))
    drifting = x + np.linspace(0, 3, 200)[:, None]
    assert statistics(drifting)["r_hat"].iloc[0] > 1.2  # unsplit: below 1.01
    heavy = rng.standard_cauchy(size=(4, 200, 1)) * np.array([1, 1, 1, 1000.0])[:, None, None]
    assert statistics(heavy)["r_hat"].iloc[0] > 1.2  # of the values themselves: about 1
    monotone = statistics(np.exp(5 * x))["r_hat"].iloc[0]
    assert monotone == pytest.approx(statistics(x)["r_hat"].iloc[0], abs=5e-3)


def test_imputed_values_are_judged_beside_parameters():
    rng = np.random.default_rng(8)
    good, bad = statistics(chains(rng, 20, 200, 3, 1)), statistics(chains(rng, 20, 200, 3, 1000))
    assert Summary(good, good, EVENTS, 20, 200).converged
    assert (
        not Summary(good, bad, EVENTS, 20, 200).converged
        and not Summary(bad, good, EVENTS, 20, 200).converged
    )
