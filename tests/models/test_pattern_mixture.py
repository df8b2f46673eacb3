"""A variable missing not at random: the density longhand, the shift by delta, the prior on delta."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import bayesimp as bi
from bayesimp.models.pattern_mixture import pattern_mixture

CLUSTER = np.repeat(np.arange(5), 10)
OPTIONS = {"m": 100, "seed": 3, "chains": 2, "tune": 300, "draws": 400, "progress": False}


def values():
    rng = np.random.default_rng(4)
    x = rng.normal(size=50)
    y = 2 + x + 0.5 * rng.normal(size=5)[CLUSTER] + rng.normal(size=50)
    y[rng.random(50) < 0.3] = np.nan
    return y, x


def run(**options):
    y, x = values()
    data = bi.IncompleteData(pd.DataFrame({"g": CLUSTER, "x": x, "score": y}), "g")
    model = pattern_mixture(y, data.codes, x[:, None], **options)
    return bi.FromPyMC(model, data, {"score": "y"}).impute(**OPTIONS)


def test_density():
    y, x = values()
    model = pattern_mixture(y, CLUSTER, x[:, None], delta=-1.0, delta_sd=0.5)
    density, rng = model.compile_logp(mode="FAST_COMPILE"), np.random.default_rng(1)
    completed = model.compile_fn(
        model.replace_rvs_by_values([model["y"]]),
        inputs=model.value_vars,
        mode="FAST_COMPILE",
        point_fn=False,
    )
    c, s, seen = np.nanmean(y), np.nanstd(y), ~np.isnan(y)
    for _ in range(3):
        p = {name: rng.normal(size=np.shape(v)) for name, v in model.initial_point(0).items()}
        tau, sigma = np.exp(p["tau_log__"]), np.exp(p["sigma_log__"])
        eta = p["mu"] + x * p["beta"] + tau * p["u"][CLUSTER]
        imputed = eta[~seen] + p["delta"] + sigma * p["z"]
        wanted = (
            stats.norm.logpdf(y[seen], eta[seen], sigma).sum()
            + stats.norm.logpdf(imputed, eta[~seen] + p["delta"], sigma).sum() + (~seen).sum() * np.log(sigma)
            + stats.norm.logpdf(p["mu"], c, 10 * s) + stats.norm.logpdf(p["beta"], 0, 10 * s / x.std()).sum()
            + stats.norm.logpdf(p["delta"], -1.0, 0.5) + stats.norm.logpdf(p["u"]).sum()
            + sum(stats.halfnorm.logpdf(v, scale=2 * s) + np.log(v) for v in (tau, sigma))
        )  # fmt: skip
        np.testing.assert_allclose(density(p), wanted, rtol=1e-10)
        (y_all,) = completed(*(p[v.name] for v in model.value_vars))
        np.testing.assert_allclose(y_all[~seen], imputed)
        np.testing.assert_array_equal(y_all[seen], y[seen])


def test_delta_moves_every_imputed_value_and_nothing_else():
    """The same seed: (theta, z) do not depend on delta, so that the shift is exact; its law is tested by the density."""
    still, moved = run(), run(delta=2.5)
    np.testing.assert_allclose(moved.values("score"), still.values("score") + 2.5, rtol=0, atol=1e-8)
    np.testing.assert_allclose(moved.tree["posterior"]["mu"], still.tree["posterior"]["mu"], atol=1e-10)


@pytest.mark.filterwarnings("ignore::bayesimp.errors.StatisticalWarning")  # of few draws
def test_the_posterior_of_delta_is_its_prior_and_widens_what_is_imputed():
    imp = run(delta=-3.0, delta_sd=2.0)
    delta = imp.tree["posterior"]["delta"].values
    ess = imp.summary().parameters.loc["delta", "ess_bulk"]
    assert abs(delta.mean() + 3.0) < 4 * 2.0 / np.sqrt(ess)  # at 4 Monte Carlo standard errors
    # sd of a mean over tables and cells: at least that of delta, 2, within 4 standard errors of a sd
    means = imp.values("score").mean(1)
    assert means.std() > 2.0 * (1 - 4 / np.sqrt(2 * min(ess, 100)))


def test_refused():
    with pytest.raises(bi.DataError, match="needs missing values"):
        pattern_mixture([1.0, 2.0], [0, 0])
