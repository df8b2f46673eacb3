"""Counts with a hurdle from column to stored run: recovery, refusals, whole numbers, groups of the tree."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import bayesimp as bi
from bayesimp.families import family_of
from tests.families.last_draw import last_draw

NAMES = "hurdle_poisson", "hurdle_negative_binomial"


def table(seed: int = 3) -> pd.DataFrame:
    """A count of mean 6 or so above zero, of which four in ten are zero; one cluster lacks it."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(10), 20)
    x = rng.normal(size=len(g))
    mu = np.exp(1.7 + 0.4 * x + 0.2 * rng.normal(size=10)[g])
    y = np.maximum(rng.poisson(mu), 1.0) * (rng.random(len(g)) < 0.6)
    y[(rng.random(len(g)) < 0.2) | (g == 3)] = np.nan
    return pd.DataFrame({"g": g, "x": x, "y": y})


@pytest.mark.parametrize("name", NAMES)
def test_a_run_is_whole_described_and_stored(name, tmp_path):
    data = bi.IncompleteData(table(), "g", {"y": name})
    assert f"bayes [{name}]" in repr(bi.FCS(data))
    imp = bi.FCS(data).impute(m=4, cycles=30, seed=1, progress=False)
    values, post = imp.values("y"), imp.tree["posterior"]
    assert (values == np.floor(values)).all() and (values >= 0).all()
    assert 0.3 < float(post["hu_y"].mean()) < 0.5 and ("shape_y" in post) == (name == NAMES[1])
    assert abs(float(post["beta_y"].values[:, 10:, 0].mean()) - 1.7) < 0.4
    assert abs((values == 0).mean() - (table()["y"].dropna() == 0).mean()) < 0.15
    imp.save(tmp_path / "run.nc")
    np.testing.assert_array_equal(bi.load(tmp_path / "run.nc").values("y"), values)


def test_the_plain_count_has_other_zeros():
    """The purpose of the family: the mean of the counts above zero."""
    data = {name: bi.IncompleteData(table(), "g", {"y": name}) for name in (NAMES[0], "poisson")}
    hurdle, poisson = (
        bi.FCS(own).impute(m=20, cycles=10, seed=1, progress=False).values("y") for own in data.values()
    )
    seen = table()["y"].dropna()
    assert abs((hurdle == 0).mean() - (seen == 0).mean()) < 0.1 < (seen == 0).mean() - (poisson == 0).mean()


@pytest.mark.parametrize("bad", [-1.0, 2.5])
def test_what_is_no_count_is_refused(bad):
    frame = table()
    frame.loc[[0, 5], "y"] = bad
    with pytest.raises(bi.DataError, match=r"'y' cannot be hurdle_poisson: .*a count is 0, 1, 2"):
        bi.IncompleteData(frame, "g", {"y": NAMES[0]})
    with pytest.raises(bi.SpecificationError, match="hurdle_poisson"):
        bi.IncompleteData(table(), "g", {"y": "hurdle_poison"})


def test_methods_without_the_family_refuse_it_in_words():
    data = bi.IncompleteData(table(), "g", {"y": NAMES[1]})
    for method in ("mlmi", "glm", "sti", "2stage", "ml", "norm"):
        with pytest.raises(bi.SpecificationError, match="it is hurdle_negative_binomial; use 'bayes'"):
            bi.FCS(data, {"y": method})
    imp = bi.FCS(data, {"y": "pmm"}).impute(2, cycles=2, seed=1, progress=False)
    assert set(imp.values("y").ravel()) <= set(table()["y"])


def test_nuts_refuses_missing_counts_that_are_covariates_and_gibbs_takes_them():
    frame = table()
    frame["z"] = np.random.default_rng(1).normal(size=len(frame))
    data = bi.IncompleteData(frame, "g", {"y": NAMES[0]})
    model = bi.JointGLMM(data, "z ~ log1p(y) + (1 | g)")
    with pytest.raises(bi.SpecificationError, match="is a count and a covariate with"):
        model.pymc_model()
    imp = model.impute(2, draws=20, chains=1, tune=20, seed=1, progress=False)
    assert (imp.values("y") == np.floor(imp.values("y"))).all()


@pytest.mark.parametrize("name", NAMES)
def test_the_joint_model_gives_every_group(name):
    """Densities of observed values are SciPy's at a kept draw; replicates have as many zeros."""
    data = bi.IncompleteData(table(), "g", {"y": name})
    imp = bi.JointGLMM(data, "y ~ x + (1 | g)").impute(
        2, draws=60, chains=1, tune=50, seed=2, keep_effects=True, progress=False
    )
    tree = imp.tree_with("log_likelihood", "posterior_predictive", "log_prior")
    (draw, eta), frame = last_draw(imp, tree), imp.data.frame
    seen = frame["y"].notna().to_numpy()
    mu = np.exp(eta)
    k = float(draw["shape_y"]) if name == NAMES[1] else None
    law = stats.poisson(mu) if k is None else stats.nbinom(k, k / (k + mu))
    pmf = law.pmf(frame["y"])
    hu, above = float(draw["hu_y"]), (1 - float(draw["hu_y"])) * pmf / law.sf(0)
    expected = np.log(np.where(frame["y"] == 0, hu, above))[seen]
    np.testing.assert_allclose(tree["log_likelihood"]["y"].values[0, -1], expected, rtol=1e-7)
    replicated = tree["posterior_predictive"]["y"].values
    assert (
        replicated.dtype.kind == "i" and abs((replicated == 0).mean() - (frame["y"][seen] == 0).mean()) < 0.1
    )
    assert (tree["log_prior"]["hu_y"] == 0).all()


def test_the_record():
    for name in NAMES:
        family = family_of(name)
        assert family.is_count and family.has_log_mean_intercept and family.as_predictor == "log1p"
        assert family.auxiliaries[-1].name == "hu"
