"""Yeo-Johnson variables from column to stored run: lambda = 1, units, mirror images, refusals, groups.

Comparisons of means over imputations are t-tests, together at .001; densities are compared with SciPy's transformation.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, stats

import bayesimp as bi
from bayesimp import priors as pr
from bayesimp.contract import Shift
from bayesimp.families import family_of
from bayesimp.kernels.factors.density import log_densities
from bayesimp.kernels.families import yeo_johnson as kernel
from bayesimp.kernels.families.codes import YEO_JOHNSON
from bayesimp.kernels.families.responses import dispersed_aux, draw_rows, usual_aux
from tests.families.last_draw import last_draw
from tests.longhand import yeo_johnson

CLUSTERS, ROWS = 10, 14
PRIORS = pr.Priors(pr.HuangWand(scale=1.0), pr.HuangWand(scale=1.0))


def table(unit: float = 1.0, origin: float = 0.0, power: float = 0.3) -> pd.DataFrame:
    """y rises with x, skewed to the right where power is below 1; one cluster lacks it."""
    rng = np.random.default_rng(3)
    g = np.repeat(np.arange(CLUSTERS), ROWS)
    x = rng.normal(size=len(g))
    z = 0.6 * x + 0.4 * rng.normal(size=CLUSTERS)[g] + 0.6 * rng.normal(size=len(g))
    y = yeo_johnson.back(z, power)
    y[(rng.random(len(g)) < 0.2) | (g == 3)] = np.nan
    return pd.DataFrame({"g": g, "x": x, "y": origin + unit * y})


def data(frame: pd.DataFrame | None = None, name: str = "yeo_johnson") -> bi.IncompleteData:
    return bi.IncompleteData(table() if frame is None else frame, "g", {"y": name})


def impute(frame=None, m=4, **options):
    return bi.FCS(data(frame), **options).impute(m=m, cycles=20, seed=1, progress=False)


def densities(y, eta, sigma, power):
    out = np.empty(len(y))
    log_densities(
        YEO_JOHNSON, y, np.ones(len(y)), np.full((len(y), 1), eta), sigma, np.full((1, 2), power), np.int64(0), 0, out
    )  # fmt: skip
    return out


@pytest.mark.parametrize("power", [0.02, 0.4, 1.0, 1.7])
def test_the_density_is_that_of_scipys_transformation(power):
    """The normal density at the transformed value times the slope there, by differences; it integrates to 1."""
    y = np.array([-30.0, -1.2, -1e-3, 0.0, 1e-3, 0.7, 40.0])
    psi = lambda y: stats.yeojohnson(y, power)  # noqa: E731
    h = 1e-6 * (1 + np.abs(y))
    slope = (psi(y + h) - psi(y - h)) / (2 * h)
    expected = stats.norm.logpdf(psi(y), 0.4, 0.8) + np.log(slope)
    np.testing.assert_allclose(densities(y, 0.4, 0.8, power), expected, rtol=1e-7)
    np.testing.assert_allclose(yeo_johnson.log_density(y, 0.4, 0.8, power), expected, rtol=1e-7)
    ends = [float(yeo_johnson.back(z, power)) for z in (-6.0, 0.0, 7.0)]
    of_one = lambda y: float(np.exp(densities(np.array([y]), 0.4, 0.8, power))[0])  # noqa: E731
    total = sum(integrate.quad(of_one, *ends[k : k + 2], limit=200)[0] for k in range(2))
    assert abs(total - 1) < 1e-6


def test_the_inverse_and_draws():
    y = np.array([-50.0, -0.3, 0.0, 2.0, 1e5])
    for power in (1e-6, 0.5, 1.0, 1.999):
        back = [kernel.untransformed.py_func(kernel.transformed.py_func(v, power), power) for v in y]
        np.testing.assert_allclose(back, y, rtol=1e-9)
    n, aux, out = 20_000, np.array([0.7, 0.3]), np.empty(20_000)
    draw_rows(np.random.default_rng(1), YEO_JOHNSON, np.ones(n), np.full((n, 1), 0.5), aux, out)
    assert stats.kstest(stats.yeojohnson(out, 0.3), stats.norm(0.5, 0.7).cdf).pvalue > 1e-3
    assert stats.kstest(stats.yeojohnson(out, 0.6), stats.norm(0.5, 0.7).cdf).pvalue < 1e-6
    assert usual_aux(YEO_JOHNSON).tolist() == [1.0, 1.0]
    half = np.array([dispersed_aux(np.random.default_rng(k), YEO_JOHNSON)[1] for k in range(2000)]) / 2
    assert stats.kstest(half, stats.beta(2, 2).cdf).pvalue > 1e-3


def test_units_of_the_data(tmp_path):
    """T(y) = c + s psi((y - c) / s) has the unit and origin of y, and so have its parameters."""
    one, other = impute(), impute(table(8.0, 4096.0))
    np.testing.assert_allclose(other.values("y"), 4096.0 + 8.0 * one.values("y"), rtol=1e-6)
    a, b = (imp.tree["posterior"] for imp in (one, other))
    for name, factor in (("sigma_y", 8.0), ("lambda_y", 1.0)):
        np.testing.assert_allclose(b[name], factor * a[name], rtol=1e-6)
    np.testing.assert_allclose(b["beta_y"][..., 0], 4096.0 + 8.0 * a["beta_y"][..., 0], rtol=1e-6)
    assert "bayes [yeo_johnson]" in repr(bi.FCS(data()))
    assert data(name="yeo-johnson").families["y"] == data(name="YJ").families["y"] == "yeo_johnson"
    one.save(tmp_path / "run.nc")
    again = bi.load(tmp_path / "run.nc")
    np.testing.assert_array_equal(again.values("y"), one.values("y"))
    assert again.data.families["y"] == "yeo_johnson"
    longer = again.extend(2)
    assert len(longer.values("y")) == 6


def test_a_mirror_image_has_the_other_lambda():
    """-y has lambda' = 2 - lambda: compared in Monte Carlo standard errors of 16 chains, .001 / 3 two-sided."""
    frame = table()
    right, left = (impute(f, 16) for f in (frame, frame.assign(y=-frame["y"])))
    a, b = (imp.tree["posterior"]["lambda_y"].values[..., -5:].mean(-1).ravel() for imp in (right, left))
    means = [imp.values("y").mean(1) for imp in (right, left)]
    p = [stats.ttest_ind(a, 2 - b).pvalue, stats.ttest_ind(means[0], -means[1]).pvalue]
    assert min(p) > 0.001 / 3
    assert a.mean() < 0.8 and b.mean() > 1.2


def test_at_lambda_one_it_is_the_normal_family(monkeypatch):
    """With lambda = 1, imputed values, their slope, and those of the cluster without values are the normal model's."""
    frame = table(power=1.0)
    hole = frame["y"].isna().to_numpy()
    x, alone = frame["x"].to_numpy()[hole], (frame["g"] == 3).to_numpy()[hole]
    from bayesimp.fcs.blocks import glmm as block

    step = block.glmm_step

    def held(rng, rows, updates, prior, beta, aux, *rest):
        for _ in range(updates):
            aux[1] = 1.0
            failed = step(rng, rows, 1, prior, beta, aux, *rest)
            aux[1] = 1.0
        return failed

    def told(values):
        slope = values @ (x - x.mean()) / ((x - x.mean()) ** 2).sum()
        return values.mean(1), slope, values[:, alone].mean(1), values.std(1)

    normal = bi.FCS(bi.IncompleteData(frame, "g"), {"y": bi.methods.Bayes(PRIORS)})
    expected = told(normal.impute(60, cycles=8, seed=2, progress=False).values("y"))
    monkeypatch.setattr(block, "glmm_step", held)
    ours = bi.FCS(data(frame), {"y": bi.methods.Bayes(PRIORS)}).impute(60, cycles=8, seed=1, progress=False)
    p = [stats.ttest_ind(a, b).pvalue for a, b in zip(told(ours.values("y")), expected, strict=True)]
    assert min(p) > 0.001 / 4


def test_skewness_is_imputed_and_the_normal_model_misses_it():
    frame = table(power=0.2)
    ours = impute(frame, 20).values("y")
    normal = bi.FCS(bi.IncompleteData(frame, "g")).impute(20, cycles=20, seed=1, progress=False).values("y")
    seen = stats.skew(frame["y"].dropna())
    assert seen > 1.0
    a, b = (stats.skew(values, axis=1).mean() for values in (ours, normal))
    assert a > 0.6 and b < 0.4


def test_methods_without_the_family_refuse_it_in_words():
    for method in ("mlmi", "glm", "sti", "2stage", "ml", "norm"):
        with pytest.raises(bi.SpecificationError, match="it is yeo_johnson; use 'bayes'"):
            bi.FCS(data(), {"y": method})
    with pytest.raises(bi.SpecificationError, match="bounds are for normal variables, but it is yeo_johnson"):
        bi.FCS(data(), bounds={"y": (0, None)})
    with pytest.raises(bi.SpecificationError, match=r"'y' has family 'yeo_johnson'"):
        bi.JointNormal(data(), "y ~ x + (1 | g)")
    matched = bi.FCS(data(), {"y": "pmm"}).impute(2, cycles=2, seed=1, progress=False)
    assert set(matched.values("y").ravel()) <= set(table()["y"])


def test_a_shift_is_on_the_transformed_scale():
    """It is in the units of the data: T(y) moves by it, so y moves by more in the long tail."""
    frame = table(8.0)
    still, moved = impute(frame), impute(frame, shift=Shift({"y": 8.0}))
    c, s = frame["y"].mean(), frame["y"].std()
    power = [imp.tree["posterior"]["lambda_y"].values[:, -1].reshape(-1, 1) for imp in (still, moved)]
    z = [
        yeo_johnson.transform((imp.values("y") - c) / s, p)
        for imp, p in zip((still, moved), power, strict=True)
    ]
    np.testing.assert_allclose(s * (z[1] - z[0]), 8.0, rtol=1e-6)


def test_the_record():
    family = family_of("yeo_johnson")
    assert family.is_standardised and not family.is_normal and not family.support.is_bounded
    assert [auxiliary.name for auxiliary in family.auxiliaries] == ["sigma", "lambda"]
    variable = bi.studies.SimulatedVariable("y", "yeo_johnson", {"Intercept": 0.5}, sd=0.7, shape=0.3)
    y = bi.studies.Design([variable], 10, 500)(seed=3)["y"].to_numpy(float)
    assert stats.kstest(stats.yeojohnson(y, 0.3), stats.norm(0.5, 0.7).cdf).pvalue > 1e-3


def test_the_joint_model_gives_every_group():
    """Densities of observed values are those of y in its own unit, lambda and sigma have their priors."""
    frame = table(8.0, 4096.0)
    imp = bi.JointGLMM(data(frame), "y ~ x + (1 | g)").impute(
        2, draws=60, chains=1, tune=50, seed=2, keep_effects=True, progress=False
    )
    tree = imp.tree_with("log_likelihood", "posterior_predictive", "log_prior")
    (draw, eta), seen = last_draw(imp, tree), frame["y"].notna().to_numpy()
    c, s = frame["y"].mean(), frame["y"].std(ddof=0)
    power, sigma = float(draw["lambda_y"]), float(draw["sigma_y"])
    expected = yeo_johnson.log_density((frame["y"] - c) / s, (eta - c) / s, sigma / s, power) - np.log(s)
    np.testing.assert_allclose(tree["log_likelihood"]["y"].values[0, -1], expected[seen], rtol=1e-7)
    replicated = tree["posterior_predictive"]["y"].values
    assert abs(np.median(replicated) - frame["y"].median()) < 4.0
    expected = np.log(2) + stats.t(3).logpdf(sigma / s)
    np.testing.assert_allclose(tree["log_prior"]["sigma_y"].values[0, -1], expected, rtol=1e-7)
    expected = stats.beta(2, 2).logpdf(power / 2)
    np.testing.assert_allclose(tree["log_prior"]["lambda_y"].values[0, -1], expected, rtol=1e-7)
