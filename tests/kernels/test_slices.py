"""One slice-sampling step leaves its law invariant, and ends whatever the density returns.

Steps start at independent draws from the law, so the places where they end are independent draws from it too: compared by
Kolmogorov-Smirnov, level LEVEL; wrong variants below REJECTED. The law has two modes, so that intervals which step out
too often or too seldom on one side would show.
"""

import numpy as np
import pytest
from numba import njit
from scipy.stats import kstest, norm

from bayesimp.joint.gibbs import failed
from bayesimp.kernels import slices
from bayesimp.kernels.latent.scales import slice_of_log_scale
from tests.calibration.montecarlo import LEVEL, REJECTED

BOUNDS = {"everywhere": (-np.inf, np.inf), "between bounds": (-1.2, 2.0)}
S = 20_000


@njit
def density(x):
    return np.log(0.6 * np.exp(-0.5 * ((x + 1.0) / 0.5) ** 2) / 0.5 + 0.4 * np.exp(-0.5 * (x - 2.0) ** 2))


@njit
def steps(rng, start, width, limit, least, most, lift, from_within, out):
    """lift: added to the density at the start, an error."""
    search = np.empty(slices.ENTRIES)
    for s in range(start.size):
        value = density(start[s]) + lift
        if from_within:
            at = slices.begin_within(rng, value, start[s], least, most, search)
        else:
            at = slices.begin_slice(rng, value, start[s], width, limit, least, most, search)
        while search[slices.PHASE] != slices.DONE:
            at = slices.next_on_slice(rng, at, density(at), search)
        out[s] = at


@njit
def ended(rng, value, limit):
    """Where a step from 3 ends if the density returns one value everywhere, and how often it was evaluated."""
    search = np.empty(slices.ENTRIES)
    at, count = slices.begin_slice(rng, value, 3.0, 1.0, limit, -np.inf, np.inf, search), 0
    while search[slices.PHASE] != slices.DONE:
        at = slices.next_on_slice(rng, at, value, search)
        count += 1
    return at, count


@njit
def log_scale(rng, d, S2, S1):
    return slice_of_log_scale(rng, d, S2, S1)


def cdf(x, least, most):
    def whole(at):
        return 0.6 * norm.cdf((at + 1.0) / 0.5) + 0.4 * norm.cdf(at - 2.0)

    return (whole(x) - whole(least)) / (whole(most) - whole(least))


def from_the_law(rng, least, most):
    x = np.where(rng.random(20 * S) < 0.6, rng.normal(-1.0, 0.5, 20 * S), rng.normal(2.0, 1.0, 20 * S))
    return x[(least < x) & (x < most)][:S]


def p_value(bounds, width=0.8, limit=6.0, lift=0.0, within=False, forgotten=False):
    rng, (least, most) = np.random.default_rng(11), BOUNDS[bounds]
    start, out = from_the_law(rng, least, most), np.empty(S)
    given = (-np.inf, np.inf) if forgotten else (least, most)
    steps(rng, start, width, limit, *given, lift, within, out)
    assert lift > 0.0 or (out != start).mean() > 0.999
    return kstest(out, lambda x: cdf(x, least, most)).pvalue


@pytest.mark.parametrize("bounds", BOUNDS)
@pytest.mark.parametrize("width, limit", [(0.8, np.inf), (0.8, 6.0), (0.3, 3.0), (9.0, 2.0)])
def test_a_step_leaves_the_law_as_it_is(bounds, width, limit):
    assert p_value(bounds, width, limit) > LEVEL


def test_a_step_within_the_bounds_leaves_it_too():
    assert p_value("between bounds", within=True) > LEVEL


@pytest.mark.parametrize("wrong", [{"lift": -1.0}, {"lift": 0.7}, {"forgotten": True}])
def test_wrong_variants_are_noticed(wrong):
    """A slice that is too low or too high; bounds that are forgotten."""
    assert p_value("between bounds", **wrong) < REJECTED


@pytest.mark.parametrize("value", [np.nan, -np.inf, np.inf])
def test_a_search_ends_whatever_the_density_returns(value):
    """At its start if no place is on the slice."""
    at, count = ended(np.random.default_rng(1), value, 40.0)
    assert count < 200 and (at == 3.0 or not np.isnan(value))


def test_no_more_steps_outwards_than_the_limit():
    """A density that falls nowhere: each end is evaluated once more than it moves, then one place between them."""
    counts = [ended(np.random.default_rng(s), 0.0, 10.0)[1] for s in range(50)]
    assert set(counts) == {9 + 2 + 1}


def test_a_scale_without_a_proper_law_is_refused():
    """It used to step outwards without end if S_2 < 0."""
    rng = np.random.default_rng(2)
    for S2, S1 in ((-1e-9, 0.0), (0.0, 1.0), (np.nan, 0.0), (np.inf, 0.0), (1.0, np.nan), (1.0, -np.inf)):
        assert np.isnan(log_scale(rng, 20.0, S2, S1))
    assert np.isfinite([log_scale(rng, 20.0, 20.0, S1) for S1 in (-5.0, 0.0, 5.0)]).all()
    assert "the scale of a latent variable has no proper distribution" in str(failed(6, 1, False, 0, 9))
