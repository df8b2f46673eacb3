"""NUTS on any PyMC model: right posterior, reproducible, interruptible, with events instead of prints."""

import numpy as np
import pymc as pm
import pytest
from scipy import stats

from bayesimp.errors import SamplingError
from bayesimp.sampling import density
from bayesimp.sampling.nuts import sample_nuts

SETTINGS = {"chains": 2, "tune": 300, "draws": 500}


@pytest.fixture(scope="module")
def normal():
    """mu ~ N(0, 2^2), y ~ N(mu, 1): the posterior is normal in closed form."""
    y = np.array([0.3, 1.4, 0.8, 2.0])
    with pm.Model() as model:
        mu = pm.Normal("mu", 0, 2)
        pm.HalfNormal("sd", 1)  # untouched by the data, and transformed
        pm.Deterministic("twice", 2 * mu)
        pm.Normal("y", mu, 1, observed=y)
    precision = 1 / 4 + len(y)
    return model, y.sum() / precision, precision**-0.5


@pytest.mark.parametrize("evaluate", ["pytensor", "nutpie"])
def test_posterior_in_closed_form(normal, evaluate):
    model, mean, sd = normal
    stages = []
    out = sample_nuts(
        model,
        **{**SETTINGS, "draws": 4000},
        seed=3,
        evaluate=evaluate,
        report=lambda *args: stages.append(args),
    )
    assert set(out.draws) == {"mu", "sd", "twice"}
    assert out.draws["mu"].shape == (2, 4000) == out.stats["diverging"].shape
    np.testing.assert_allclose(out.draws["twice"], 2 * out.draws["mu"])
    thinned = out.draws["mu"][:, ::8].ravel()
    assert stats.kstest(thinned, stats.norm(mean, sd).cdf).pvalue > 1e-3
    assert stats.kstest(out.draws["sd"][:, ::8].ravel(), stats.halfnorm.cdf).pvalue > 1e-3
    assert (
        stats.kstest(thinned, stats.norm(mean + 0.3 * sd, sd).cdf).pvalue < 1e-3
    )  # a wrong posterior is seen
    assert out.evaluate == evaluate and not out.interrupted and out.seconds["compile"] > 0
    assert stages[0] == ("compiling", 0, 1) and stages[-1] == ("sampling", 8600, 8600)
    done = [d for stage, d, _ in stages if stage == "sampling"]
    assert done == sorted(done)


def test_nothing_compiled(normal):
    model, mean, sd = normal
    out = sample_nuts(model, chains=2, tune=200, draws=200, seed=3, evaluate="python")
    assert abs(out.draws["mu"].mean() - mean) < 5 * sd / np.sqrt(100)  # of 400 draws at least 100 effective


def test_same_seed_same_draws_whatever_the_cores(normal):
    model = normal[0]
    one, two, other = (
        sample_nuts(model, **SETTINGS, seed=seed, cores=cores) for seed, cores in ((5, 1), (5, 2), (6, 1))
    )
    assert np.array_equal(one.draws["mu"], two.draws["mu"])
    assert not np.array_equal(one.draws["mu"], other.draws["mu"])
    assert not np.array_equal(one.draws["mu"][0], one.draws["mu"][1])


def test_starting_values_are_used(normal, monkeypatch):
    seen = []
    monkeypatch.setattr(density, "_run", lambda compiled, *args: seen.append(compiled) or _stop())
    with pytest.raises(KeyboardInterrupt):
        sample_nuts(normal[0], **SETTINGS, seed=1, initial={"mu": 50.0})
    start = seen[0]._make_initial_points(1)
    assert abs(start[0] - 50) <= 1


def _stop():
    raise KeyboardInterrupt


def test_interruption_keeps_what_there_is(normal):
    def interrupt(stage, done, total):
        if stage == "sampling" and done > 2000:
            raise KeyboardInterrupt

    out = sample_nuts(
        normal[0], chains=2, tune=200, draws=200_000, seed=1, report=interrupt, evaluate="pytensor", cores=2
    )
    # a chain that the machine left far behind is dropped (`_kept`), so one chain or two come back
    chains, kept = out.draws["mu"].shape[:2]
    assert out.interrupted and chains in (1, 2) and 0 < kept < 200_000
    assert all(np.all(np.isfinite(x)) for x in out.draws.values())
    assert all(x.shape[:2] == (chains, kept) for x in [*out.draws.values(), *out.stats.values()])
    assert out.events[0]["kind"] == "interrupted" and out.events[0]["count"] == kept
    assert f"{kept} of 200000 draws per chain were kept, for {chains} chains" in out.events[0]["message"]


def test_funnel_and_separate_modes_are_reported():
    with pm.Model() as funnel:
        scale = pm.Normal("scale", 0, 3)
        pm.Normal("x", 0, pm.math.exp(scale), shape=5)
    out = sample_nuts(funnel, **SETTINGS, seed=1)
    kinds = {e["kind"]: e for e in out.events}
    assert kinds["divergence"]["count"] == out.stats["diverging"].sum() > 0
    assert all(set(e) == {"kind", "where", "message", "count"} for e in out.events)
    chains = {"mu": np.random.default_rng(0).normal(size=(2, 500)) + np.array([[0], [3]])}
    quiet = {"diverging": np.zeros((2, 500))}
    assert [e["kind"] for e in density._events(chains, quiet, False, 500)] == ["rhat"]


def test_discrete_variables_are_refused():
    with pm.Model() as model:
        pm.Poisson("count", 3)
    with pytest.raises(SamplingError, match="count"):
        sample_nuts(model, seed=1)


def test_unknown_way_of_evaluating(normal):
    with pytest.raises(ValueError, match="pytensor"):
        sample_nuts(normal[0], seed=1, evaluate="fast")
