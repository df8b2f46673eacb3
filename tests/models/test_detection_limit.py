"""A biomarker below its limit of detection: the density longhand, its integral, and what is imputed."""

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, stats

import bayesimp as bi
from bayesimp.models.detection_limit import detection_limit

CLUSTER = np.repeat(np.arange(5), 12)
LIMIT = np.where(CLUSTER % 2 == 0, 0.0, 0.4)


def values():
    rng = np.random.default_rng(5)
    x = rng.normal(size=60)
    y = 0.5 + 0.8 * x + 0.6 * rng.normal(size=5)[CLUSTER] + rng.normal(size=60)
    return np.where(y < LIMIT, np.nan, y), x


def longhand(point, y, limit, cluster, x):
    """log p(y, theta) at free variables as PyMC transforms them: log of scales, log(limit - y)."""
    c, s = np.nanmean(y), np.nanstd(y)
    tau, sigma = np.exp(point["tau_log__"]), np.exp(point["sigma_log__"])
    eta = point["mu"] + x @ point["beta"] + tau * point["u"][cluster]
    missing = np.isnan(y)
    below = limit[missing] - np.exp(point["y_below_interval__"])
    complete = y.copy()
    complete[missing] = below
    return (
        stats.norm.logpdf(complete, eta, sigma).sum() + point["y_below_interval__"].sum()
        + stats.norm.logpdf(point["mu"], c, 10 * s) + stats.norm.logpdf(point["u"]).sum()
        + stats.norm.logpdf(point["beta"], 0, 10 * s / x.std(0)).sum()
        + stats.halfnorm.logpdf(tau, scale=s) + np.log(tau) + stats.halfnorm.logpdf(sigma, scale=s) + np.log(sigma)
    )  # fmt: skip


def test_density():
    y, x = values()
    model = detection_limit(y, LIMIT, CLUSTER, x[:, None])
    density, rng = model.compile_logp(mode="FAST_COMPILE"), np.random.default_rng(1)
    for _ in range(3):
        point = {name: rng.normal(size=np.shape(v)) for name, v in model.initial_point(0).items()}
        np.testing.assert_allclose(density(point), longhand(point, y, LIMIT, CLUSTER, x[:, None]), rtol=1e-10)


def test_a_cell_integrates_to_the_probability_of_lying_below():
    """The evidence of a censored value: Phi((L - mu) / sigma), which pm.Truncated would leave out."""
    y = np.array([1.0, 2.0, np.nan])
    model = detection_limit(y, 0.5, np.zeros(3, int))
    density = model.compile_logp(mode="FAST_COMPILE")
    ratio = []
    for mu in (0.0, 1.5):
        point = model.initial_point(0) | {"mu": np.array(mu)}
        tau, sigma = np.exp(point["tau_log__"]), np.exp(point["sigma_log__"])
        mean = mu + tau * point["u"][0]

        def at(v, point=point):
            return np.exp(density(point | {"y_below_interval__": np.array([v])}))

        rest = stats.norm.pdf([1.0, 2.0], mean, sigma).prod() * stats.norm.pdf(mu, 1.5, 5.0)
        ratio.append(integrate.quad(at, -12, 5)[0] / rest / stats.norm.cdf(0.5, mean, sigma))
    np.testing.assert_allclose(ratio[0], ratio[1], rtol=1e-4)


def test_imputed_values_lie_below_and_follow_the_truncated_normal():
    y, x = values()
    data = bi.IncompleteData(pd.DataFrame({"site": CLUSTER, "x": x, "marker": y}), "site")
    model = detection_limit(y, LIMIT, data.codes, x[:, None])
    imp = bi.FromPyMC(model, data, {"marker": "y"}).impute(
        m=300, seed=3, chains=2, tune=400, draws=600, progress=False
    )
    drawn, rows = imp.values("marker"), np.flatnonzero(np.isnan(y))
    assert drawn.shape == (300, len(rows)) and (drawn < LIMIT[rows]).all()
    p = imp.tree["posterior"].to_dataset()
    k = np.arange(300)
    theta = {
        name: p[name].values[k % 2, (k // 2 + 1) * 4 - 1] for name in ("mu", "beta", "tau", "u", "sigma")
    }
    eta = (
        theta["mu"][:, None] + theta["beta"] * x[rows] + theta["tau"][:, None] * theta["u"][:, CLUSTER[rows]]
    )
    sigma = theta["sigma"][:, None]
    uniform = stats.norm.cdf((drawn - eta) / sigma) / stats.norm.cdf((LIMIT[rows] - eta) / sigma)
    # one test, at 4 Monte Carlo standard errors, of the mean of 300 table means (sd of table means: their own)
    means = uniform.mean(1)
    assert abs(means.mean() - 0.5) < 4 * means.std() / np.sqrt(300)


@pytest.mark.parametrize(
    ("y", "limit", "message"),
    [([1.0, 2.0, np.nan], np.inf, "no finite limit"), ([1.0, 2.0, np.nan], 1.5, "below their limit"),
     ([1.0, np.nan, np.nan], 0.0, "two different")],
)  # fmt: skip
def test_refused(y, limit, message):
    with pytest.raises(bi.DataError, match=message):
        detection_limit(y, limit, [0, 0, 0])
