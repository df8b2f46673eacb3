"""One quantity on two scales: the density longhand, and what is imputed given the other scale."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import bayesimp as bi
from bayesimp.models.two_scales import two_scales

STUDY = np.repeat(np.arange(6), 10)


def values():
    rng = np.random.default_rng(8)
    a = 3 + 0.5 * rng.normal(size=6)[STUDY] + rng.normal(size=60)
    b = 10 + 5 * a + 0.8 * rng.normal(size=60)
    a[STUDY < 2] = np.nan  # b only
    b[STUDY > 3] = np.nan  # a only
    return a, b


def test_density():
    a, b = values()
    model = two_scales(a, b, STUDY)
    density, rng = model.compile_logp(mode="FAST_COMPILE"), np.random.default_rng(1)
    c_a, s_a, c_b, s_b = np.nanmean(a), np.nanstd(a), np.nanmean(b), np.nanstd(b)
    for _ in range(3):
        p = {name: rng.normal(size=np.shape(v)) for name, v in model.initial_point(0).items()}
        full_a, full_b = a.copy(), b.copy()
        full_a[np.isnan(a)], full_b[np.isnan(b)] = p["a_unobserved"], p["b_unobserved"]
        tau, sigma, omega = (np.exp(p[f"{name}_log__"]) for name in ("tau", "sigma", "omega"))
        wanted = (
            stats.norm.logpdf(full_a, p["mu"] + tau * p["u"][STUDY], sigma).sum()
            + stats.norm.logpdf(full_b, p["alpha"] + p["lambda"] * (full_a - c_a), omega).sum()
            + stats.norm.logpdf(p["mu"], c_a, 10 * s_a) + stats.norm.logpdf(p["u"]).sum()
            + stats.norm.logpdf(p["alpha"], c_b, 10 * s_b) + stats.norm.logpdf(p["lambda"], 0, 10 * s_b / s_a)
            + sum(stats.halfnorm.logpdf(v, scale=w) + np.log(v)
                  for v, w in ((tau, 2 * s_a), (sigma, 2 * s_a), (omega, s_b)))
        )  # fmt: skip
        np.testing.assert_allclose(density(p), wanted, rtol=1e-10)


def test_imputed_values_follow_the_conditional_normal():
    """Given the parameters of its draw, a | b is normal with the moments of the bivariate normal; so is b | a."""
    a, b = values()
    data = bi.IncompleteData(pd.DataFrame({"study": STUDY, "scale_a": a, "scale_b": b}), "study")
    imp = bi.FromPyMC(two_scales(a, b, data.codes), data, {"scale_a": "a", "scale_b": "b"}).impute(
        m=300, seed=3, chains=2, tune=400, draws=600, progress=False
    )
    p, k, c_a = imp.tree["posterior"].to_dataset(), np.arange(300), np.nanmean(a)
    names = ("mu", "tau", "u", "sigma", "alpha", "lambda", "omega")
    t = {name: p[name].values[k % 2, (k // 2 + 1) * 4 - 1] for name in names}
    mu, tau, sigma, alpha, slope, omega = (t[name][:, None] for name in names if name != "u")
    only_b, only_a = np.isnan(a), np.isnan(b)
    prior = mu + tau * t["u"][:, STUDY[only_b]]
    precision = 1 / sigma**2 + slope**2 / omega**2
    mean = (prior / sigma**2 + slope * (b[only_b] - alpha + slope * c_a) / omega**2) / precision
    z_a = (imp.values("scale_a") - mean) * np.sqrt(precision)
    z_b = (imp.values("scale_b") - alpha - slope * (a[only_a] - c_a)) / omega
    for z in (z_a, z_b):  # two tests of means and two of squares, each at 4 Monte Carlo standard errors
        for statistic, wanted in ((z.mean(1), 0.0), ((z**2).mean(1), 1.0)):
            assert abs(statistic.mean() - wanted) < 4 * statistic.std() / np.sqrt(300)


def test_too_few_rows_with_both():
    with pytest.raises(bi.DataError, match="2 rows have both"):
        two_scales([1, 2, 3, np.nan], [1, 2, np.nan, 4], [0, 0, 1, 1])
