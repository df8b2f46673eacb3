"""Every public function given another of our own objects: the error is ours, and says what to give.

A table of functions with what they take; every name of ``bi.__all__`` is in it or in `OTHERS`, which says why not.
"""

import re

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import bayesimp as bi
from bayesimp import plots

QUESTION = "y ~ x + (1 | g)"
RNG = np.random.default_rng(0)
G, X = np.repeat(np.arange(8), 12), RNG.normal(size=96)
Y = X + np.repeat(RNG.normal(size=8), 12) + RNG.normal(size=96)
FRAME = pd.DataFrame({"g": G, "x": X, "y": np.where(RNG.random(96) < 0.2, np.nan, Y)})


@pytest.fixture(scope="module")
def objects():
    data = bi.IncompleteData(FRAME, "g")
    model = bi.JointNormal(data, "y ~ x + (1 | g)")
    imp = model.impute(m=3, seed=1, draws=50, tune=10, progress=False)
    fits = imp.analyse(QUESTION)
    return {
        "table": FRAME, "data": data, "joint": model, "fcs": bi.FCS(data), "imp": imp, "fits": fits,
        "pooled": fits.pool(), "components": fits.pool_components(), "pooled table": fits.pool().to_frame(),
        "path": "nowhere.nc", "priors": bi.priors.default(), "method": bi.methods.IW(nu=1, v=1),
        "tree": imp.tree, "list of imputations": [imp], "none": None, "number": 3,
    }  # fmt: skip


IMPUTE = dict(m=2, cycles=2, seed=1, progress=False)
# name: how it is called, what it takes, what its error must name
FUNCTIONS = {
    "IncompleteData": (lambda o: bi.IncompleteData(o, "g"), "table", r"bi\.FCS\(data\)|pandas|no column 'g'"),
    "FCS": (bi.FCS, "data", r"bi\.IncompleteData\("),
    "JointNormal": (lambda o: bi.JointNormal(o, "y ~ x + (1 | g)"), "data", r"bi\.IncompleteData\("),
    "impute": (lambda o: bi.impute(o, cluster="g", **IMPUTE), "table", r"bi\.FCS\(data\)|pandas|no column 'g'"),
    "load": (bi.load, "", r"imp\.save\(path\)"),
    "fit_each": (lambda o: bi.fit_each(o, QUESTION), "imp", r"imp = model\.impute\(|pandas"),
    "pool": (bi.pool, "fits", r"imp\.analyse\("),
    "pool_components": (bi.pool_components, "fits", r"imp\.analyse\(.*\)\.pool_components\(\)"),
    "complete_cases": (lambda o: bi.complete_cases(o, QUESTION), "table, data", r"pandas|no column 'y'"),
    "pool_by_study": (lambda o: bi.pool_by_study(o, "y ~ x", "g"), "imp", r"imp = model\.impute\(|pandas"),
    "side_by_side": (lambda o: bi.side_by_side(QUESTION, {"a": o}), "table, data, imp, fits",
                     r"imputations|pandas|no column 'y'"),
    "side_by_side, no labels": (lambda o: bi.side_by_side(QUESTION, o), "",
                                r"\{'imputed': imp, 'complete cases': data\}|pandas"),
    "compare": (bi.compare, "fits", r"imp\.analyse\("),
    "compare, smaller": (lambda o: bi.compare(FITS["larger"], o), "none", r"imp\.analyse\(|the same fixed effects"),
    "sensitivity": (lambda o: bi.sensitivity(o, [bi.priors.default()], analysis=QUESTION, m=2, seed=1, progress=False),
                    "joint, fcs", r"bi\.FCS\(data\)"),
    "plot_imputed": (bi.plot_imputed, "imp", r"imp = model\.impute\("),
    "plot_imputed_trace": (bi.plot_imputed_trace, "imp", r"imp = model\.impute\("),
    "plot_missing": (bi.plot_missing, "data", r"bi\.IncompleteData\("),
    "plot_pooled": (bi.plot_pooled, "pooled, components, pooled table", r"fits\.pool\(\)"),
    "plot_prior_posterior": (bi.plot_prior_posterior, "imp", r"imp = model\.impute\("),
    "plot_sensitivity": (bi.plot_sensitivity, "", r"bi\.sensitivity\("),
    "plot_sensitivity_components": (bi.plot_sensitivity_components, "", r"bi\.sensitivity\("),
    "plot_trace": (bi.plot_trace, "imp", r"imp = model\.impute\("),
    "plots.plot_diagnosis": (plots.plot_diagnosis, "", r"compatibility\.diagnose\(imp\)"),
    "plots.plot_implied_prior": (plots.plot_implied_prior, "", r"compatibility\.implied_prior\("),
    "compatibility.diagnose": (bi.compatibility.diagnose, "", r"bi\.JointNormal\(data"),
}  # fmt: skip
FITS = {}
OTHERS = {
    "exceptions": ["BayesimpError", "DataError", "SamplingError", "SpecificationError", "StatisticalWarning"],
    "take no object": ["load_brain_injury", "load_exam", "load_kidney", "simulate_ipd", "simulate_studies",
                       "default_grid"],
    "not made by hand": ["Imputations"],
    "modules": ["analysis", "compatibility", "methods", "models", "plots", "priors"],
}  # fmt: skip


def test_every_public_name_is_here():
    names = {name.partition(",")[0] for name in FUNCTIONS if "." not in name}
    assert names | {name for some in OTHERS.values() for name in some} == set(bi.__all__)


@pytest.mark.filterwarnings("ignore::bayesimp.errors.StatisticalWarning")
@pytest.mark.parametrize("name", FUNCTIONS)
def test_another_object(name, objects, capsys):
    call, takes, says = FUNCTIONS[name]
    FITS["larger"] = objects["fits"]
    for kind, value in objects.items():
        if kind in takes.split(", "):
            call(value)
            plt.close("all")
        elif (name, kind) == ("load", "path"):
            with pytest.raises(FileNotFoundError, match=says):
                call(value)
        else:
            with pytest.raises(bi.BayesimpError) as caught:
                call(value)
            assert re.search(says, str(caught.value)), f"{kind}: {caught.value}"


def test_what_of_an_object_is_a_table(objects):
    for name, inside in {"imp": r"imp\.data\.frame", "fcs": r"model\.data\.frame"}.items():
        with pytest.raises(bi.DataError, match=inside):
            bi.complete_cases(objects[name], QUESTION)
    with pytest.raises(bi.DataError, match=r"data\.frame"):
        bi.fit_each(objects["data"], QUESTION)


def test_components_are_pooled_from_fits(objects):
    by_function, by_method = (
        bi.pool_components(objects["fits"], scale="sd"),
        objects["fits"].pool_components("sd"),
    )
    np.testing.assert_array_equal(by_function.estimate, by_method.estimate)
    assert by_function.scale == by_method.scale == ("sd", "sd")


def test_options_that_a_run_does_not_have(objects):
    with pytest.raises(
        bi.SpecificationError, match=r"'draw' is no option of JointNormal\.impute; did you mean 'draws'"
    ):
        bi.sensitivity(objects["joint"], analysis=QUESTION, m=2, seed=1, draw=50)
    with pytest.raises(
        bi.SpecificationError, match=r"'draws' is no option of FCS\.impute; possible: 'cycles'"
    ):
        bi.sensitivity(objects["fcs"], analysis=QUESTION, m=2, seed=1, draws=50)
    with pytest.raises(bi.SpecificationError, match="'bound' is no option of FCS; did you mean 'bounds'"):
        bi.impute(FRAME, "g", bound={"y": (0, None)})
    with pytest.raises(bi.SpecificationError, match=r"'tune' is no option of FCS; .*\.impute\(m, tune="):
        bi.impute(FRAME, "g", tune=3)
