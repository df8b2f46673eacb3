"""Kunkel & Kaizar's four figures and the picture of a diagnosis: drawn, nothing overlaps, curves are right."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy import stats

import bayesimp as bi
from bayesimp import plots
from bayesimp.compatibility import diagnose, implied_prior
from bayesimp.errors import SpecificationError
from bayesimp.plots.implied_prior import variance_density
from tests.compatibility.test_diagnose import fitted, table
from tests.plots.test_figures import check


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def test_figure_1_has_kunkel_kaizar_s_curves():
    figure = plots.plot_implied_conditionals()
    check(figure)
    sums, means, variances = ({line.get_label(): line for line in ax.get_lines()} for ax in figure.axes)
    assert len([name for name in variances if not name.startswith("_")]) == 6
    assert np.interp(30, *variances["0.7"].get_data()) == pytest.approx(13.78, abs=0.01)
    assert variances["0.7"].get_linestyle() == "--" and variances["−0.9"].get_linestyle() == "-"
    n, slope = sums["−0.9"].get_data()
    np.testing.assert_allclose(means["−0.9"].get_ydata(), n * slope)
    with pytest.raises(SpecificationError, match="between -1 and 1"):
        plots.plot_implied_conditionals(correlations=[1.0])


@pytest.mark.parametrize(
    "options", [{}, {"r": 4, "k": 2, "joint": bi.priors.default(), "fcs": bi.priors.default()}]
)
def test_figure_2(options):
    check(implied_prior(n=30, draws=2000, **options).plot())


def test_figure_3():
    figure = plots.plot_predictive_qq(((6, 4), (6, 8)), 3, draws=400, seed=1)
    check(figure)
    assert len(figure.axes) == 6


def test_figure_4_is_exact():
    figure = plots.plot_variance_priors()
    check(figure)
    curves = {line.get_label(): line.get_data() for line in figure.axes[0].get_lines()}
    x, height = curves["IW(1.6, 1)"]
    np.testing.assert_allclose(height, stats.invgamma(0.8, scale=0.5).pdf(x))
    several = {"default": bi.priors.HuangWand(), "lkj": bi.priors.LKJ(), "half-normal": bi.priors.Diagonal()}
    check(plots.plot_variance_priors(several, implied=implied_prior(draws=2000)))


def test_variance_density():
    x = 1 / np.random.default_rng(0).gamma(1.0, 2.0, 50_000)  # IW(2, 1)
    at, height = variance_density(x, 3.0)
    np.testing.assert_allclose(height, stats.invgamma(1, scale=0.5).pdf(at), atol=0.06)


@pytest.mark.parametrize("formula", ["y1 + y2 ~ x + (1 | cluster)", "y1 + y2 ~ x + (1 + x | cluster)"])
def test_diagnosis(formula):
    figure = diagnose(fitted(table([3, 5, 9, 40, 40, 12, 7]), formula), ["y1", "y2"]).plot()
    check(figure)
    assert sum(ax.axison for ax in figure.axes) == (4 if "1 |" in formula else 9)
