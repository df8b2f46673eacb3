"""Families defined in this file alone: a record is enough to impute with them through method ``pymc``.

galton       log y = eta + e,    e ~ N(0, sigma^2)              positive numbers, one parameter of its own
geometric    P(y) = p (1 - p)^y,    mean e^eta = (1 - p) / p     counts
tally        the Poisson family under another name and with a density written here, for PyMC's joint model

`bayesimp.studies.Design` simulates what a record can simulate, and PyMC's joint model has the density that a record has.
"""

from dataclasses import replace

import matplotlib
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

import bayesimp as bi
from bayesimp.errors import DataError, SpecificationError, StatisticalWarning
from bayesimp.families import FAMILIES, Auxiliary, Family, family_of, register
from bayesimp.families.counts import POISSON
from bayesimp.families.record import COUNTS, POSITIVE
from bayesimp.studies import Design, SimulatedVariable
from tests.unfolding import unfolded

matplotlib.use("Agg")

CLUSTERS, ROWS = 20, 12
SETTINGS = {"seed": 4, "cycles": 6, "progress": False}
COMPILED = ("bayes", "glm", "mlmi", "2stage", "sti", "2lonly", "ml", "norm")


def galton_node(data, eta):
    import pymc as pm

    pm.LogNormal(data.name, mu=eta[:, 0], sigma=pm.HalfNormal("sd", 2), observed=data.y)


def geometric_node(data, eta):
    import pymc as pm

    # PyMC's geometric counts trials from 1; a negative binomial with alpha = 1 counts failures from 0
    pm.NegativeBinomial(data.name, mu=pm.math.exp(eta[:, 0]), alpha=1.0, observed=data.y)


def galton_draw(variable, eta, rng):
    return np.exp(eta[:, 0] + variable.sd * rng.standard_normal(len(eta)))


def tally_logp(y, eta, given):
    import pymc as pm

    return pm.logp(pm.Poisson.dist(pm.math.exp(eta[0])), y)


GALTON = Family(
    "galton",
    "positive numbers",
    POSITIVE,
    {"log": None},
    ("galtonian",),
    galton_node,
    Auxiliary("residual_sd", "sd", np.asarray, np.asarray),
    as_predictor="log",
    simulate=galton_draw,
)
GEOMETRIC = Family(
    "geometric", "0, 1, 2, ...", COUNTS, {"log": None}, (), geometric_node, as_predictor="log1p"
)


@pytest.fixture(autouse=True)
def families():
    for family in (GALTON, GEOMETRIC):
        register(family)
    yield
    for family in (GALTON, GEOMETRIC):
        FAMILIES.pop(family.name, None)


def table() -> pd.DataFrame:
    """A time of about 50 that doubles with x, a count that halves with it; one cluster lacks both."""
    rng = np.random.default_rng(8)
    g = np.repeat(np.arange(CLUSTERS), ROWS)
    x = rng.normal(size=len(g))
    effect = 0.3 * rng.normal(size=(CLUSTERS, 2))[g]
    time = np.exp(np.log(50) + np.log(2) * x + effect[:, 0] + 0.4 * rng.normal(size=len(g)))
    falls = rng.geometric(1 / (1 + np.exp(0.8 - np.log(2) * x + effect[:, 1]))) - 1.0
    frame = pd.DataFrame({"g": g, "x": x, "time": time, "falls": falls})
    for name in ("time", "falls"):
        frame.loc[(rng.random(len(g)) < 0.25) | (g == 3), name] = np.nan
    return frame


def data(**families: str) -> bi.IncompleteData:
    frame = table()[["g", "x", *families]]
    return bi.IncompleteData(frame, "g", families)


@pytest.fixture(scope="module")
def run():
    """Ten imputations of the variable, and of its logarithm as a normal one."""
    register(GALTON)
    try:
        ours = bi.FCS(data(time="galton")).impute(m=10, **SETTINGS)
    finally:
        FAMILIES.pop("galton")
    logs = table()[["g", "x", "time"]].assign(time=lambda frame: np.log(frame["time"]))
    return ours, bi.FCS(bi.IncompleteData(logs, "g")).impute(m=10, **SETTINGS)


def test_imputations_are_those_of_the_normal_model_for_logarithms(run):
    """The two models are the same except for weak priors; 3 comparisons of 10 with 10 draws, .001 in total."""
    ours, normal = run
    assert (ours.values("time") > 0).all()
    values = [(np.log(ours.values("time")), normal.values("time"))]
    rows = ours.rows("time")
    x, g = table()["x"].to_numpy()[rows], table()["g"].to_numpy()[rows]
    quantities = {
        "mean": lambda v: v.mean(axis=1),
        "slope": lambda v: v @ (x - x.mean()) / ((x - x.mean()) ** 2).sum(),
        "mean where nothing is observed": lambda v: v[:, g == 3].mean(axis=1),
    }
    for name, of in quantities.items():
        a, b = (of(v) for v in values[0])
        z = (a.mean() - b.mean()) / np.sqrt(a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b))
        assert abs(z) < 4.7, (name, z)  # t with 18 degrees of freedom, two-sided .001 / 3, and a little more
    assert np.polyfit(x, np.log(ours.values("time")).mean(axis=0), 1)[0] > 0.4


def test_its_own_parameter_is_in_the_results(run):
    ours, _ = run
    posterior = ours.tree["posterior"]
    sd = posterior["residual_sd_time"].to_numpy()
    assert sd.shape == posterior["beta_time"].shape[:2]
    assert 0.3 < sd[:, -1].mean() < 0.5
    assert "sd_time" not in posterior


def test_it_is_printed_summarised_and_plotted(run):
    ours, _ = run
    assert "galton" in repr(ours.data)
    assert "pymc [galton]" in repr(bi.FCS(data(time="galton")))
    with pytest.warns(StatisticalWarning):  # six cycles are few
        assert "residual_sd_time" in str(ours.summary())
    figure = bi.plots.plot_imputed(ours)
    axis = next(ax for ax in figure.axes if "time" in ax.get_xlabel())
    assert axis.get_xscale() == "log"  # positive values of a wide range


def test_a_saved_run_is_loaded_and_goes_on(run, tmp_path):
    ours, _ = run
    ours.save(tmp_path / "run.nc")
    again = bi.load(tmp_path / "run.nc")
    assert again.data.families["time"] == "galton"
    assert_allclose(again.values("time"), ours.values("time"), rtol=0, atol=0)
    FAMILIES.pop("galton")
    with pytest.raises(SpecificationError, match="'galton' of 'time' is not known"):
        bi.load(tmp_path / "run.nc")


def test_counts_of_a_new_family_are_counts_everywhere():
    imputed = bi.FCS(data(falls="geometric")).impute(m=2, **SETTINGS)
    values = imputed.values("falls")
    assert (values >= 0).all() and (values == np.floor(values)).all() and np.ptp(values) > 2
    assert bi.plots.plot_imputed(imputed).axes[0].get_ylabel() == "share of rows"
    assert imputed.data.variable("falls").distribution.is_count


def test_it_predicts_through_its_logarithm():
    model = bi.FCS(data(time="galton", falls="poisson"), methods={"time": "pymc", "falls": "bayes"})
    text = unfolded(repr(model))
    assert "falls ~ 1 + x + log(time)" in text
    assert "log1p(falls)" in text


def test_a_column_is_checked_against_its_support():
    frame = table()[["g", "x", "time"]]
    frame.loc[5, "time"] = -1.0
    with pytest.raises(
        DataError, match=r"'time' cannot be galton: its values are positive.* Found -1.0 in 1 of"
    ):
        bi.IncompleteData(frame, "g", {"time": "galton"})
    assert bi.IncompleteData(table(), "g", {"time": "Galtonian"}).families["time"] == "galton"


@pytest.mark.parametrize("method", COMPILED)
def test_methods_that_need_a_compiled_density_refuse_it(method):
    with pytest.raises(SpecificationError, match=f"'time': method '{method}' .*galton.*'pymc'"):
        bi.FCS(data(time="galton"), methods={"time": method})


def test_the_joint_normal_model_and_analyses_refuse_it(run):
    with pytest.raises(SpecificationError, match="'time' has family 'galton'"):
        bi.JointNormal(data(time="galton"), "time ~ x + (1 | g)")
    with pytest.raises(SpecificationError, match="galton responses cannot be analysed"):
        run[0].analyse("time ~ x + (1 | g)", family="galton")


def test_a_name_is_registered_once():
    for name, taken in (("galton", "galton"), ("toy", "count")):
        with pytest.raises(SpecificationError, match=f"the name '{taken}' belongs to family"):
            register(Family(name, "", POSITIVE, {"log": None}, (taken,)))
    with pytest.raises(SpecificationError, match="lower case"):
        register(Family("Toy", "", POSITIVE, {"log": None}))
    with pytest.raises(SpecificationError, match="has no link"):
        register(Family("toy", "", POSITIVE, {}))
    with pytest.raises(SpecificationError, match="Did you mean 'poisson'"):
        family_of("poison")
    assert "toy" not in FAMILIES


def test_a_family_without_a_kernel_says_so():
    assert not GALTON.has_kernel and family_of("binomial(n)").has_kernel
    with pytest.raises(KeyError, match="no kernel has the density of family 'galton'"):
        GALTON.code("log")
    others = [f for f in FAMILIES.values() if f.is_imputable and f not in (GALTON, GEOMETRIC)]
    assert len(others) >= 9 and all(family.has_kernel for family in others)


# --- simulated, and in PyMC's joint model ---------------------------------------------------------


def simulated(family: str, **numbers) -> pd.DataFrame:
    time = SimulatedVariable("time", family, {"Intercept": 1.0}, **numbers)
    return Design([time], clusters=40, sizes=20)(seed=1)


def test_a_design_simulates_what_its_record_can():
    """Means and standard deviations of 800 logarithms: 5 standard errors."""
    log = np.log(simulated("galton", sd=0.4)["time"])
    assert abs(log.mean() - 1.0) < 5 * 0.4 / np.sqrt(800)
    assert abs(log.std() - 0.4) < 5 * 0.4 / np.sqrt(1600)
    assert abs(np.log(simulated("galton", sd=0.5)["time"]).std() - 0.4) > 5 * 0.4 / np.sqrt(1600)
    with pytest.raises(SpecificationError, match="'time': variables of family 'geometric' are not simulated"):
        simulated("geometric")


@pytest.fixture
def register_family():
    names = []

    def registered(family: Family) -> None:
        FAMILIES.pop(family.name, None)
        register(family)
        names.append(family.name)

    yield registered
    for name in names:
        FAMILIES.pop(name, None)


def joint_density(family: str) -> float:
    """log p(falls) of the joint model at a point, evaluated by Python so that nothing is compiled."""
    from pytensor.graph.traversal import ancestors

    model = bi.JointGLMM(data(falls=family), "falls ~ x + (1 | g)").pymc_model()
    (node,) = (p for p in model.potentials if p.name == "p(falls)")
    (value,) = model.replace_rvs_by_values([node])
    point = model.initial_point()
    point = {var: np.asarray(point[var.name]) + 0.3 for var in model.value_vars}
    return value.eval({v: x for v, x in point.items() if v in ancestors([value])}, mode="FAST_COMPILE")


def test_the_joint_model_has_the_density_of_the_record(register_family):
    tally = replace(POISSON, name="tally", aliases=(), log_density=tally_logp)
    register_family(tally)
    expected = joint_density("poisson")
    assert_allclose(joint_density("tally"), expected, rtol=1e-12)
    register_family(replace(tally, log_density=lambda y, eta, given: y * eta[0]))
    assert abs(joint_density("tally") - expected) > 1  # another density is detected
    register_family(replace(tally, log_density=None))
    with pytest.raises(SpecificationError, match="'falls': the PyMC model has no density for family 'tally'"):
        joint_density("tally")


def test_the_joint_model_needs_compiled_code():
    with pytest.raises(SpecificationError, match="needs a compiled density of its family, and galton"):
        bi.JointGLMM(data(time="galton"), "time ~ x + (1 | g)")
