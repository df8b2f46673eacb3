"""Lognormal variables from column to stored run: the normal model of their logarithm, in the units of the data.

Comparisons of means over imputations are t-tests, three of them at .001 together.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import bayesimp as bi
from bayesimp.families import family_of
from bayesimp.imputation.events import imputed_events
from tests.families.last_draw import last_draw

PRIORS = bi.priors.Priors(bi.priors.HuangWand(scale=1.0), bi.priors.HuangWand(scale=1.0))


def table(unit: float = 1.0, seed: int = 3) -> pd.DataFrame:
    """A concentration of median 40 that grows with x; one cluster lacks it."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(10), 12)
    x = rng.normal(size=len(g))
    y = unit * 40 * np.exp(0.7 * x + 0.4 * rng.normal(size=10)[g] + 0.8 * rng.normal(size=len(g)))
    y[(rng.random(len(g)) < 0.2) | (g == 3)] = np.nan
    return pd.DataFrame({"g": g, "x": x, "y": y})


def data(unit: float = 1.0) -> bi.IncompleteData:
    return bi.IncompleteData(table(unit), "g", {"y": "log_normal"})


def logs(values):
    """Mean of each imputation, its slope on x, and the mean in the cluster without values."""
    frame = table()
    hole = frame["y"].isna().to_numpy()
    x, alone = frame["x"].to_numpy()[hole], (frame["g"] == 3).to_numpy()[hole]
    slope = values @ (x - x.mean()) / ((x - x.mean()) ** 2).sum()
    return values.mean(1), slope, values[:, alone].mean(1)


def test_imputed_logarithms_are_those_of_the_normal_model():
    method = bi.methods.Bayes(PRIORS)
    ours = bi.FCS(data(), {"y": method}).impute(60, cycles=8, seed=1, progress=False)
    frame = table().assign(y=lambda table: np.log(table["y"]))
    normal = bi.FCS(bi.IncompleteData(frame, "g"), {"y": method}).impute(60, cycles=8, seed=2, progress=False)
    assert (ours.values("y") > 0).all()
    found, expected = logs(np.log(ours.values("y"))), logs(normal.values("y"))
    p = [stats.ttest_ind(a, b).pvalue for a, b in zip(found, expected, strict=True)]
    assert min(p) > 0.001 / 3
    # adding half the variance to the mean, as if e^eta were the mean and not the median, would be detected
    off = stats.ttest_ind(found[0] - 0.5 * float(ours.tree["posterior"]["sigma_y"].mean()) ** 2, expected[0])
    assert off.pvalue < 1e-6
    sigma = float(ours.tree["posterior"]["sigma_y"][:, -1].mean())
    variance = float(normal.tree["posterior"]["Sigma_y"][:, -1].mean()) if "Sigma_y" in normal.tree["posterior"] else (
        float(normal.tree["posterior"]["sigma2_y"][:, -1].mean())
    )  # fmt: skip
    assert abs(sigma / np.sqrt(variance) - 1) < 0.1


def test_the_unit_shifts_the_intercept_and_nothing_else(tmp_path):
    one, other = (
        bi.FCS(data(unit)).impute(3, cycles=4, seed=1, progress=False) for unit in (1.0, 1e-3)
    )  # fmt: skip
    np.testing.assert_allclose(other.values("y"), one.values("y") * 1e-3, rtol=1e-7)
    a, b = one.tree["posterior"], other.tree["posterior"]
    np.testing.assert_allclose(b["sigma_y"], a["sigma_y"], rtol=1e-9)
    np.testing.assert_allclose(b["beta_y"][..., 0], a["beta_y"][..., 0] + np.log(1e-3), rtol=1e-6)
    np.testing.assert_allclose(b["beta_y"][..., 1:], a["beta_y"][..., 1:], rtol=1e-6, atol=1e-9)
    assert "bayes [lognormal]" in repr(bi.FCS(data()))
    one.save(tmp_path / "run.nc")
    np.testing.assert_array_equal(bi.load(tmp_path / "run.nc").values("y"), one.values("y"))


def test_the_joint_model_gives_every_group():
    """Densities are those of y, not of its logarithm; replicates are positive; sigma has its half-t prior."""
    imp = bi.JointGLMM(data(), "y ~ x + (1 | g)").impute(
        2, draws=60, chains=1, tune=50, seed=2, keep_effects=True, progress=False
    )
    tree = imp.tree_with("log_likelihood", "posterior_predictive", "log_prior")
    (draw, eta), frame = last_draw(imp, tree), imp.data.frame
    seen = frame["y"].notna().to_numpy()
    sigma = float(draw["sigma_y"])
    expected = stats.lognorm(sigma, scale=np.exp(eta)).logpdf(frame["y"])[seen]
    np.testing.assert_allclose(tree["log_likelihood"]["y"].values[0, -1], expected, rtol=1e-7)
    replicated = np.log(tree["posterior_predictive"]["y"].values)
    assert abs(replicated.mean() - np.log(frame["y"][seen]).mean()) < 0.2
    prior = np.log(2) + stats.t(3).logpdf(sigma)
    np.testing.assert_allclose(tree["log_prior"]["sigma_y"].values[0, -1], prior, rtol=1e-9)


def test_it_is_a_covariate_through_its_logarithm():
    frame = table()
    frame["z"] = np.random.default_rng(1).normal(size=len(frame)) + np.log(frame["y"].fillna(40.0))
    frame.loc[::7, "z"] = np.nan
    own = bi.IncompleteData(frame, "g", {"y": "lognormal"})
    assert "log(y)" in repr(bi.FCS(own))
    model = bi.JointGLMM(own, "z ~ log(y) + (1 | g)")
    imp = model.impute(2, draws=20, chains=1, tune=20, seed=1, progress=False)
    assert (imp.values("y") > 0).all() and model.pymc_model() is not None


def test_what_is_not_positive_is_refused_and_other_methods_refuse_it_in_words():
    frame = table()
    frame.loc[[0, 5], "y"] = 0.0
    with pytest.raises(
        bi.DataError, match=r"'y' cannot be lognormal: its values are positive.* Found 0.0 in 2"
    ):
        bi.IncompleteData(frame, "g", {"y": "lognormal"})
    for method in ("mlmi", "glm", "sti", "2stage", "ml", "norm"):
        with pytest.raises(bi.SpecificationError, match="it is lognormal; use 'bayes'"):
            bi.FCS(data(), {"y": method})
    with pytest.raises(bi.SpecificationError, match="'y' has family 'lognormal'"):
        bi.JointNormal(data(), "y ~ x + (1 | g)")
    matched = bi.FCS(data(), {"y": "pmm"}).impute(2, cycles=2, seed=1, progress=False)
    assert set(matched.values("y").ravel()) <= set(table()["y"].dropna())


def test_the_event_on_impossible_values_names_it():
    imp = bi.FCS(bi.IncompleteData(table(), "g")).impute(5, cycles=3, seed=1, progress=False)
    (event,) = [event for event in imputed_events(imp) if event.kind == "impossible values"]
    assert "families={'y': 'lognormal'} or 'gamma'" in event.message
    imp = bi.FCS(data()).impute(5, cycles=3, seed=1, progress=False)
    assert not [event for event in imputed_events(imp) if event.kind == "impossible values"]


def test_the_record():
    family = family_of("lognormal")
    assert family.is_divided_by_mean and family.support.is_positive and family.as_predictor == "log"
    (sigma,) = family.auxiliaries
    assert sigma.name == "sigma" and not sigma.has_unit
    assert sigma.from_kernel(np.array([4.0])) == 0.5 and sigma.to_kernel(np.array(0.5)) == 4.0


@pytest.mark.parametrize("name, cure", [
    ("interval_censored", "detection_limit"), ("tobit", "censored"), ("box_cox", "yeo_johnson"),
    ("weibull", "is not known"),
])  # fmt: skip
def test_families_that_do_not_exist_name_what_to_use_instead(name, cure):
    with pytest.raises(bi.SpecificationError, match=f"'{name}' of 'y'.*{cure}"):
        bi.IncompleteData(table(), "g", {"y": name})
