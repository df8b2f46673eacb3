"""Every public function, given the wrong object of ours, raises our own error, which says what to give.

A table says what each function takes; every name in ``bi.__all__`` is in it, or in `OTHERS` with the reason.
"""

import re

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import bayesimp as bi
from bayesimp import compatibility as co
from bayesimp import plots
from tests.plots.test_performance import summary

QUESTION = "y ~ x + (1 | g)"
RNG = np.random.default_rng(0)
G, X = np.repeat(np.arange(8), 12), RNG.normal(size=96)
Y = X + np.repeat(RNG.normal(size=8), 12) + RNG.normal(size=96)
FRAME = pd.DataFrame({"g": G, "x": X, "y": np.where(RNG.random(96) < 0.2, np.nan, Y)})


@pytest.fixture(scope="module")
def objects():
    data = bi.IncompleteData(FRAME, "g")
    model = bi.JointNormal(data, "y ~ x + (1 | g)")
    imp = model.impute(m=5, seed=1, draws=50, tune=10, progress=False)
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
    "JointGLMM": (lambda o: bi.JointGLMM(o, "y ~ x + (1 | g)"), "data", r"bi\.IncompleteData\("),
    "JointLatent": (lambda o: bi.JointLatent(o, "y ~ x + (1 | g)"), "data", r"bi\.IncompleteData\("),
    "FromPyMC": (lambda o: bi.FromPyMC(o, o), "", r"bi\.IncompleteData\("),
    "impute": (lambda o: bi.impute(o, cluster="g", **IMPUTE), "table", r"bi\.FCS\(data\)|pandas|no column 'g'"),
    "MultilevelImputer": (lambda o: bi.MultilevelImputer("g", m=2, draws=10).fit(o), "table",
                          r"bi\.FCS\(data\)|pandas|no column 'g'"),
    "arm_by_visit": (lambda o: bi.arm_by_visit(o, "y", arm="x", reference=0, patient="g", visit="g"), "",
                     r"bi\.FCS\(data\)|pandas|no column '|row"),
    "load": (bi.load, "", r"imp\.save\(path\)"),
    "read_imputations": (lambda o: bi.read_imputations(o, "g"), "",
                         r"original=table|which table and row|pandas|bi\.load reads"),
    "fit_each": (lambda o: bi.fit_each(o, QUESTION), "imp", r"imp = model\.impute\(|pandas"),
    "pool": (bi.pool, "fits", r"imp\.analyse\("),
    "pool_components": (bi.pool_components, "fits", r"imp\.analyse\(.*\)\.pool_components\(\)"),
    "complete_cases": (lambda o: bi.complete_cases(o, QUESTION), "table, data", r"pandas|no column 'y'"),
    "pool_by_study": (lambda o: bi.pool_by_study(o, "y ~ x", "g"), "imp", r"imp = model\.impute\(|pandas"),
    "pool_studies": (lambda o: bi.pool_studies(o), "", r"\{'A': fits\.pool\(\), |give fits\.pool\(\)"),
    "stack_posteriors": (bi.stack_posteriors, "", r"a DataTree with a group 'posterior' for each"),
    "side_by_side": (lambda o: bi.side_by_side(QUESTION, {"a": o}), "table, data, imp, fits",
                     r"imputations|pandas|no column 'y'"),
    "side_by_side, no labels": (lambda o: bi.side_by_side(QUESTION, o), "",
                                r"\{'imputed': imp, 'complete cases': data\}|pandas"),
    "compare": (bi.compare, "fits", r"imp\.analyse\("),
    "compare, smaller": (lambda o: bi.compare(FITS["larger"], o), "none", r"imp\.analyse\(|the same fixed effects"),
    "fits.contrasts": (lambda o: FITS["larger"].contrasts(o), "", r"a text such as 'x - z'|no coefficient 'nowhere"),
    "fits.test": (lambda o: FITS["larger"].test(o), "", r"a text such as 'x - z'|no coefficient 'nowhere"),
    "fits.predictions": (lambda o: FITS["larger"].predictions(o), "table, none", r"pandas|no column 'x'"),
    "fits.marginal_means": (lambda o: FITS["larger"].marginal_means(o), "", r"the name of a column|no variable"),
    "fits.marginal_effects": (lambda o: FITS["larger"].marginal_effects(o), "none", r"the name of a column|no variable"),
    "fits.functions": (lambda o: FITS["larger"].functions(o), "", r"a text such as 'x - z'|no coefficient 'nowhere"),
    "sensitivity": (lambda o: bi.sensitivity(o, [bi.priors.default()], analysis=QUESTION, m=2, seed=1, progress=False),
                    "joint, fcs", r"bi\.FCS\(data\)"),
    "power_scaling": (lambda o: bi.power_scaling(o, analysis=QUESTION), "imp", r"imp = model\.impute\("),
    "prior_shares": (bi.prior_shares, "imp", r"imp = model\.impute\("),
    "plot_power_scaling": (bi.plot_power_scaling, "", r"bi\.power_scaling\("),
    "mnar": (lambda o: bi.mnar(o, {"y": [0, -1]}, analysis=QUESTION, m=2, seed=1, progress=False), "joint, fcs",
             r"bi\.FCS\(data\)"),
    "plot_mnar": (bi.plot_mnar, "", r"bi\.mnar\("),
    "plot_mnar_map": (lambda o: bi.plot_mnar_map(o, "x"), "", r"bi\.mnar\("),
    "plot_forest": (bi.plot_forest, "", r"bi\.pool_by_study\("),
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
    "not made by hand": ["Imputations", "PartitionedFCSImputations", "PartitionedImputations"],
    "of tables that are not in memory: tests/partitioned": ["PartitionedData", "PartitionedFCS", "PartitionedNormal"],
    "records of options, refused by the model that takes them": ["ReferenceBased"],
    "modules": ["analysis", "compatibility", "federated", "methods", "models", "plots", "priors", "studies"],
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
        bi.SpecificationError, match=r"JointNormal\.impute have no argument 'draw'; did you mean 'draws'"
    ):
        bi.sensitivity(objects["joint"], analysis=QUESTION, m=2, seed=1, draw=50)
    with pytest.raises(
        bi.SpecificationError, match=r"FCS\.impute have no argument 'draws'; possible: .*'cycles'"
    ):
        bi.sensitivity(objects["fcs"], analysis=QUESTION, m=2, seed=1, draws=50)
    with pytest.raises(
        bi.SpecificationError, match="'bound' is not an option of any engine; did you mean 'bounds'"
    ):
        bi.impute(FRAME, "g", bound={"y": (0, None)})
    with pytest.raises(bi.SpecificationError, match=r"'tune' is not an option of FCS; .*\.impute\(m, tune="):
        bi.impute(FRAME, "g", engine="fcs", tune=3)


# --- functions of plain numbers and arrays: each argument in turn is given what it is not

S2, S3 = np.array([[2.0, 0.5], [0.5, 1.0]]), np.eye(3)
TEXT, OBJECT, RAGGED, NAN = "abc", object(), [[1.0, 2.0], [3.0]], np.array([[np.nan, 0.0], [0.0, 1.0]])
NO_MATRIX = [TEXT, OBJECT, RAGGED, NAN, None, 3, [1.0, 2.0], np.ones((2, 3)), {"a": 1}, 1j * S2]
NO_NUMBER = [TEXT, OBJECT, None, [1, 2], np.nan, np.inf, True, {}]
NO_COUNT = [TEXT, OBJECT, None, [1, 2], np.nan, 0, -1, 2.5, True]
NO_SEED = [TEXT, OBJECT, None, -1, 2.5, True]
NO_PRIOR = [3, [1, 2], OBJECT, S2]
PAIRS = pd.DataFrame(
    {"cluster": np.repeat(np.arange(6), 5), "y1": RNG.normal(size=30), "y2": RNG.normal(size=30)}
)
CONDITIONALS = [co.implied_conditional(S2, S2, k, n=5) for k in (0, 1)]
FEW = {"draws": 40}
NO_MATRIX_GIVEN = [value for value in NO_MATRIX if value is not None]  # where None is the default
IW = bi.priors.InverseWishart(1.0, 1.0)
SUMMARY = summary()
ARRAYS = {
    "implied_conditional": (co.implied_conditional, {"Sigma": S2, "Psi": S2, "k": 0, "n": 5}, {
        "Sigma": [*NO_MATRIX, S3, np.zeros((2, 2))],
        "Psi": [*NO_MATRIX, S3], "k": [TEXT, OBJECT, None, -1, 2, 0.5, [0]], "n": [TEXT, OBJECT, None, RAGGED, np.nan]}),
    "implied_conditional, slopes": (co.implied_conditional, {"Sigma": S2, "Psi": np.eye(4), "ZZ": S2}, {
        "ZZ": [TEXT, None, 3, S3, RAGGED, NAN, np.ones((5, 3, 2))]}),
    "implied_conditional, draws": (co.implied_conditional,
                                   {"Sigma": np.tile(S2, (4, 1, 1)), "Psi": np.tile(S2, (4, 1, 1)), "n": np.ones(4)}, {
        "Sigma": [np.tile(S2, (3, 1, 1))], "Psi": [np.tile(S2, (3, 1, 1))], "n": [np.ones(3), np.ones((4, 5))]}),
    "Conditional.fixed_effects": (CONDITIONALS[0].fixed_effects, {"beta": np.ones((3, 2))}, {
        "beta": [TEXT, None, 3, [1.0, 2.0], np.ones((3, 3)), RAGGED, NAN]}),
    "contextual_bound": (co.contextual_bound, {"effect_variance": 1.0, "sigma": 1.0, "psi": 1.0, "n": [3, 4]}, {
        "effect_variance": [TEXT, None, RAGGED, np.nan, -1, [1, 2, 3]], "sigma": [TEXT, None, 0, -1, [1, 2, 3]],
        "psi": [TEXT, None, -1, [1, 2, 3]], "n": [TEXT, None, 0, -2]}),
    "joint_from_conditionals": (co.joint_from_conditionals, {"conditionals": CONDITIONALS, "tolerance": 1e-6}, {
        "conditionals": [TEXT, None, 3, S2, [S2, S2], CONDITIONALS[0], CONDITIONALS[:1], []],
        "tolerance": [*NO_NUMBER, -1]}),
    "simulate_pair": (co.simulate_pair, {"m": 3, "n": 4, "Sigma": S2, "Psi": S2, "seed": 1}, {
        "m": NO_COUNT, "n": NO_COUNT, "Sigma": [*NO_MATRIX, S3], "Psi": [*NO_MATRIX, S3], "seed": NO_SEED}),
    "predictive_draws": (co.predictive_draws, {"frame": PAIRS, "rows": [0, 7], "response": "y1", "given": "y2",
                                                          "cluster": "cluster", "seed": 1, **FEW}, {
        "frame": [TEXT, None, 3, S2, PAIRS["y1"], PAIRS.assign(y1=np.nan), PAIRS.assign(y2="a"), PAIRS[["y1"]]],
        "rows": [TEXT, None, 3, [], [-1], [30], [0.5], S2, RAGGED], "response": [3, None, "y9", ["y1"], S2],
        "given": [3, None, "y9", S2], "cluster": [3, None, "y9", S2], "draws": NO_COUNT, "seed": NO_SEED,
        "joint": NO_PRIOR, "fcs": NO_PRIOR}),
    "implied_prior": (co.implied_prior, {"n": 5, "r": 2, "k": 1, "sds": 1.0, "seed": 1, **FEW}, {
        "n": NO_COUNT, "r": [*NO_COUNT, 1], "k": [TEXT, OBJECT, None, -1, 2, 0.5], "draws": NO_COUNT, "seed": NO_SEED,
        "sds": [TEXT, OBJECT, None, np.nan, 0, -1, [1, 2, 3], S2, RAGGED], "joint": NO_PRIOR, "fcs": NO_PRIOR}),
    "kunkel_kaizar": (co.kunkel_kaizar, {"rho": 0.5, "sigma_12": 90.0, "scale": 1.0}, {
        "rho": NO_NUMBER, "sigma_12": NO_NUMBER, "scale": [*NO_NUMBER, 0, -1]}),
    "simulate_studies": (bi.simulate_studies, {"sizes": [3, 4], "Sigma": S2, "Psi": S2, "missing": {"y1": [0]},
                                               "seed": 1}, {
        "sizes": [TEXT, OBJECT, None, 3, [], [0], [2.5], ["a"], [[1]], S2], "Sigma": [*NO_MATRIX, S3],
        "Psi": [*NO_MATRIX, S3],
        "missing": [TEXT, 3, ["y1"], {"y1": 0}, {"y9": [0]}, {"y1": [2]}, {"y1": "a"}, {"y1": [0.5]}], "seed": NO_SEED}),
    "simulate_ipd": (bi.simulate_ipd, {"studies": 3, "rows": 5, "heterogeneity": "weak", "outcome": "continuous",
                                       "systematic": 0.1, "sporadic": 0.1, "seed": 1}, {
        "studies": NO_COUNT, "rows": NO_COUNT, "heterogeneity": [TEXT, None, 3, ["weak"], {}], "seed": NO_SEED,
        "outcome": [TEXT, None, 3, ["binary"]], "systematic": [*NO_NUMBER, -0.1, 1], "sporadic": [*NO_NUMBER, 0, 1]}),
    "load_kidney": (bi.load_kidney, {"seed": 1}, {"seed": NO_SEED}),
    "plot_implied_conditionals": (plots.plot_implied_conditionals, {
        "Sigma": S2, "variances": [1, 2], "correlations": [0.5], "sizes": (1, 9), "names": ("a", "b")}, {
        "Sigma": [*NO_MATRIX_GIVEN, S3, -S2], "variances": [TEXT, 3, [1], [1, 2, 3], RAGGED, [-1, 1]],
        "correlations": [TEXT, None, 0.5, [], [1.0], ["a"], S2],
        "sizes": [TEXT, None, 3, (1,), (3, 2), (0, 5), (1.5, 3)], "names": [None, 3, ("a",), "ab"]}),
    "plot_predictive_qq": (plots.plot_predictive_qq, {"designs": [(3, 5)], "persons": 2, "seed": 1, **FEW}, {
        "designs": [TEXT, None, 3, [], [3], [(3,)], [("a", 3)], [(0, 3)], [(3, 2.5)]], "persons": NO_COUNT,
        "draws": NO_COUNT, "Sigma": [*NO_MATRIX_GIVEN, S3], "Psi": [*NO_MATRIX_GIVEN, S3],
        "seed": NO_SEED, "joint": NO_PRIOR, "fcs": NO_PRIOR}),
    "plot_performance": (plots.plot_performance, {
        "summary": SUMMARY, "term": "x", "measure": "bias", "across": "n_studies", "panels": "kind", "lines": "mcse"}, {
        "summary": [TEXT, None, 3, S2], "term": [TEXT, None, 3], "measure": [TEXT, None, 3], "across": [TEXT, None, 3],
        "panels": [TEXT, 3], "lines": [TEXT, None, 3]}),
    "plot_variance_priors": (plots.plot_variance_priors, {"priors": {"IW": IW}, "limit": 4.0, "sd": 1.0}, {
        "priors": [TEXT, 3, [IW], {"a": 3}, bi.priors.default()], "implied": [TEXT, 3, S2],
        "limit": [*NO_NUMBER, 0, -1], "sd": [*NO_NUMBER, 0, -1]}),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::bayesimp.errors.StatisticalWarning")
@pytest.mark.parametrize("name", ARRAYS)
def test_arguments_that_are_no_numbers_or_of_another_shape(name):
    function, good, wrong = ARRAYS[name]
    function(**good)
    plt.close("all")
    for argument, values in wrong.items():
        for value in values:
            with pytest.raises(bi.BayesimpError) as caught:
                function(**{**good, argument: value})
            said = re.search(rf"\b{argument.rstrip('s')}", str(caught.value), flags=re.IGNORECASE)
            assert said or argument in {"joint", "fcs", "implied", "frame", "rows"}, (
                f"{argument}={value!r}: {caught.value}"
            )
    plt.close("all")


def test_every_function_of_plain_arrays_is_there():
    covered = {name.partition(",")[0] for name in (*ARRAYS, *FUNCTIONS)}
    covered |= {name.partition(".")[2] for name in covered}
    for module in (co, plots):
        functions = {name for name in module.__all__ if not name[0].isupper()}
        assert functions <= covered, functions - covered
    assert {"simulate_ipd", "simulate_studies", "load_kidney"} <= covered


def test_options_of_diagnose_and_its_figure(objects):
    joint = bi.JointNormal(objects["data"], "y + x ~ 1 + (1 | g)")
    imp = joint.impute(m=1, seed=1, draws=20, tune=5, chains=2, progress=False)
    for options, message in (
        ({"aggregate": "median"}, "aggregate must be 'mean', 'sum' or 'line', got 'median'"),
        ({"aggregate": 3}, "aggregate must be .* got 3"),
        ({"responses": 3}, "responses must be names, got 3"),
        ({"responses": []}, "responses is empty"),
        ({"seed": "a"}, "seed must be a whole number of at least 0, got 'a'"),
    ):
        with pytest.raises(bi.SpecificationError, match=message):
            co.diagnose(joint if "seed" in options else imp, **options)
