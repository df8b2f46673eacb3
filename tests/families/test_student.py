"""Student-t variables: robust to outliers, units of the data, refusals, storage, further groups of the tree."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import bayesimp as bi
from bayesimp.contract import Shift
from bayesimp.families import family_of
from tests.families.last_draw import last_draw

CLUSTERS, ROWS = 10, 14


def table(unit: float = 1.0, origin: float = 0.0) -> pd.DataFrame:
    """y rises with x, except for some outliers; one cluster lacks it."""
    rng = np.random.default_rng(3)
    g = np.repeat(np.arange(CLUSTERS), ROWS)
    x = rng.normal(size=len(g))
    y = x + 0.5 * rng.normal(size=CLUSTERS)[g] + 0.3 * rng.normal(size=len(g))
    y[rng.random(len(g)) < 0.08] += 12.0
    y[(rng.random(len(g)) < 0.2) | (g == 3)] = np.nan
    return pd.DataFrame({"g": g, "x": x, "y": origin + unit * y})


def data(unit: float = 1.0, origin: float = 0.0, name: str = "student") -> bi.IncompleteData:
    return bi.IncompleteData(table(unit, origin), "g", {"y": name})


def impute(*args, **options):
    return bi.FCS(data(*args), predictors=options.pop("predictors", None), **options).impute(
        m=4, cycles=30, seed=1, progress=False
    )


def test_a_run_is_described_and_stored(tmp_path):
    assert data(name="t").families["y"] == data(name="student_t").families["y"] == "student"
    assert "bayes [student]" in repr(bi.FCS(data()))
    imp = impute()
    post = imp.tree["posterior"]
    assert {"sigma_y", "nu_y", "beta_y", "Psi_y"} <= set(post) and (post["nu_y"] > 2).all()
    imp.save(tmp_path / "run.nc")
    again = bi.load(tmp_path / "run.nc")
    np.testing.assert_array_equal(again.values("y"), imp.values("y"))
    assert again.data.families["y"] == "student"


def test_outliers_do_not_carry_the_slope():
    """The sd about the line is 0.3, a tenth of the values lie 12 above: the normal model sees noise everywhere."""
    post, normal = impute().tree["posterior"], impute(1.0, 0.0, "normal").tree["posterior"]
    assert float(post["sigma_y"].mean()) < 1.0 and float(post["nu_y"].mean()) < 4.0
    slope, spread = (float(np.std(p["beta_y"].values[..., 1])) for p in (post, normal))
    assert slope < 0.5 * spread


@pytest.mark.parametrize("predictors", [None, {"y": "~ x + (1 | g)"}])
def test_units_of_the_data(predictors):
    one, other = impute(predictors=predictors), impute(8.0, 4096.0, predictors=predictors)
    np.testing.assert_allclose(other.values("y"), 4096.0 + 8.0 * one.values("y"), rtol=1e-6)
    for name, factor in (("sigma_y", 8.0), ("nu_y", 1.0)):
        a, b = (imp.tree["posterior"][name].values for imp in (one, other))
        np.testing.assert_allclose(b, factor * a, rtol=1e-6)


def test_without_an_intercept_the_origin_is_that_of_the_data():
    """y is about 5 x, never 5 x plus its mean: by kernels, and by the formula alone (a line through the origin)."""
    rng = np.random.default_rng(4)
    n = 200
    frame = pd.DataFrame({"g": np.arange(n) % 8, "x": rng.uniform(2.0, 4.0, n)})
    frame["y"] = 5.0 * frame["x"] + 0.1 * rng.standard_t(3, n)
    frame.loc[rng.random(n) < 0.2, "y"] = np.nan
    imp = bi.FCS(
        bi.IncompleteData(frame, "g", {"y": "student"}), predictors={"y": "~ 0 + x + (1 | g)"}
    ).impute(m=3, cycles=30, seed=1, progress=False)
    rows = frame["y"].isna().to_numpy()
    ratio = imp.values("y") / frame["x"].to_numpy()[rows]
    assert abs(np.median(ratio) - 5.0) < 0.05
    assert abs(float(imp.tree["posterior"]["beta_y"].values[:, 10:].mean()) - 5.0) < 0.1


def test_a_shift_is_in_the_units_of_the_data():
    moved = bi.FCS(data(8.0), shift=Shift({"y": 100.0})).impute(m=4, cycles=30, seed=1, progress=False)
    np.testing.assert_allclose(moved.values("y"), impute(8.0).values("y") + 100.0, rtol=1e-6)


def test_methods_without_the_family_refuse_it_in_words():
    for method in ("mlmi", "glm", "sti", "2stage", "ml", "norm"):
        with pytest.raises(bi.SpecificationError, match="it is student; use 'bayes'"):
            bi.FCS(data(), {"y": method})
    with pytest.raises(bi.SpecificationError, match="bounds are for normal variables, but it is student"):
        bi.FCS(data(), bounds={"y": (0, None)})
    with pytest.raises(bi.SpecificationError, match=r"[Dd]id you mean 'student'"):
        data(name="studant")
    assert set(bi.FCS(data(), {"y": "pmm"}).impute(2, cycles=2, seed=1).values("y").ravel()) <= set(
        table()["y"]
    )


def test_support_is_that_of_all_numbers():
    family = family_of("student")
    assert family.is_standardised and not family.is_normal and not family.support.is_bounded
    assert [auxiliary.name for auxiliary in family.auxiliaries] == ["sigma", "nu"]


def test_the_joint_model_gives_every_group():
    """Densities of observed values are SciPy's at the kept draws; replicates have the scale of the data."""
    from scipy import stats

    model = bi.JointGLMM(data(8.0, 4096.0), "y ~ x + (1 | g)")
    imp = model.impute(2, draws=60, chains=1, tune=50, seed=2, keep_effects=True, progress=False)
    tree = imp.tree_with("log_likelihood", "posterior_predictive", "log_prior")
    (draw, eta), frame = last_draw(imp, tree), imp.data.frame
    seen = frame["y"].notna().to_numpy()
    expected = stats.t.logpdf(frame["y"], float(draw["nu_y"]), eta, float(draw["sigma_y"]))[seen]
    np.testing.assert_allclose(tree["log_likelihood"]["y"].values[0, -1], expected, rtol=1e-7)
    replicated = tree["posterior_predictive"]["y"].values
    assert abs(np.median(replicated) - 4096.0) < 8.0
    unit = frame["y"].std(ddof=0)
    expected = np.log(2) + stats.t(3).logpdf(float(draw["sigma_y"]) / unit)
    np.testing.assert_allclose(tree["log_prior"]["sigma_y"].values[0, -1], expected, rtol=1e-7)
    expected = stats.gamma(2, scale=10).logpdf(float(draw["nu_y"]) - 2)
    np.testing.assert_allclose(tree["log_prior"]["nu_y"].values[0, -1], expected, rtol=1e-7)
