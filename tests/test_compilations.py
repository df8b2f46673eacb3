"""Kernels are compiled once, whatever the number of variables, the order of the rows, the dtypes."""

import importlib
import pkgutil
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from numba.core.dispatcher import Dispatcher

import bayesimp as bi
import bayesimp.kernels
from bayesimp.kernels.covariance import inverse

SLOPE = {"v0": "~ v1 + w + (1 + w | id)"}


def signatures() -> Counter:
    """For how many argument types each kernel has been compiled, or loaded from the disk cache."""
    found: Counter = Counter()
    for place in pkgutil.walk_packages(bayesimp.kernels.__path__, "bayesimp.kernels."):
        module = importlib.import_module(place.name)
        for name, value in vars(module).items():
            if isinstance(value, Dispatcher) and value.__module__ == module.__name__:
                found[f"{place.name}.{name}"] = len(value.signatures)
    return found


def test_every_kernel_is_counted():
    """Kernels are found by folder: those that a run calls are counted, and one more argument type is detected."""
    fcs(table(1))
    assert signatures().total() > 0
    before = signatures()
    inverse.symmetric_inverse(np.eye(2, dtype=np.float32))
    assert signatures() - before


def table(variables: int, discrete: bool = False) -> pd.DataFrame:
    rng = np.random.default_rng(variables)
    rows, codes = 120, np.arange(120) % 8
    z = rng.normal(size=rows)
    columns = {f"v{k}": 0.5 * z + rng.normal(size=8)[codes] + rng.normal(size=rows) for k in range(variables)}
    if discrete:
        columns |= {
            "b": np.where(z + rng.normal(size=rows) > 0, "yes", "no"),
            "n": rng.poisson(np.exp(0.4 * z)),
        }
    frame = pd.DataFrame(columns)
    frame = frame.mask(rng.random(frame.shape) < 0.12)
    return frame.assign(w=rng.integers(-5, 6, rows), id=codes)


def fcs(frame: pd.DataFrame, methods=None, **options) -> bi.Imputations:
    families = {"n": "poisson"} if "n" in frame else {}
    data = bi.IncompleteData(frame, cluster="id", families=families)
    return bi.FCS(data, methods, **options).impute(2, cycles=3, seed=1)


def joint(frame: pd.DataFrame, formula: str, **priors) -> bi.Imputations:
    data = bi.IncompleteData(frame, cluster="id")
    return bi.JointNormal(data, formula, bi.priors.Priors(**priors)).impute(2, draws=10, seed=1)


def loaded(imputations: bi.Imputations, path) -> bi.Imputations:
    imputations.save(path / "run.nc")
    return bi.load(path / "run.nc")


def read_only(frame: pd.DataFrame) -> pd.DataFrame:
    values = np.asfortranarray(frame.to_numpy(float))
    values.flags.writeable = False
    return pd.DataFrame(values, columns=frame.columns, copy=False)


def gibbs(**priors) -> dict:
    return {"v0": bi.methods.Gibbs(priors=bi.priors.Priors(**priors))}


PSI = np.asfortranarray([[0.5, 0.1], [0.1, 0.3]])
CHAINED = {
    "seven variables": lambda _: fcs(table(7)),
    "eleven variables": lambda _: fcs(table(11)),
    "one variable": lambda _: fcs(table(1)),
    "rows in another order": lambda _: fcs(table(3).sample(frac=1, random_state=1)),
    "float32, int8": lambda _: fcs(table(3).astype({"v0": "float32", "w": "int8"})),
    "nullable": lambda _: fcs(table(3).convert_dtypes()),
    "a read-only array by columns": lambda _: fcs(read_only(table(3))),
    "bounds": lambda _: fcs(table(3), bounds={"v0": (-9, None)}),
    "slope": lambda _: fcs(table(3), predictors=SLOPE, compatible=False),
    "Psi fixed, by columns": lambda _: fcs(
        table(3), gibbs(Psi=bi.priors.Fixed(PSI)), predictors=SLOPE, compatible=False
    ),
    "whole degrees of freedom": lambda _: fcs(
        table(3), gibbs(Psi=bi.priors.InverseWishart(4, PSI)), predictors=SLOPE, compatible=False
    ),
    "prior of beta": lambda _: fcs(table(3), gibbs(beta=bi.priors.Normal(0, 2))),
    "a loaded run goes on": lambda path: loaded(fcs(table(3)), path).iterate(2),
}
JOINT = {
    "one response": lambda _: joint(table(1), "v0 ~ 1 + (1 | id)"),
    "three responses, slope": lambda _: joint(table(3), "v0 + v1 + v2 ~ w + (1 + w | id)"),
    "Psi fixed, by columns": lambda _: joint(table(2), "v0 + v1 ~ (1 | id)", Psi=bi.priors.Fixed(PSI)),
    "whole degrees of freedom": lambda _: joint(
        table(2), "v0 + v1 ~ (1 | id)", Sigma=bi.priors.InverseWishart(4, PSI)
    ),
    "a loaded run goes on": lambda path: loaded(joint(table(2), "v0 + v1 ~ (1 | id)"), path).extend(1),
    "a block of three": lambda _: fcs(table(4), blocks={"three": ["v0", "v1", "v2"]}),
}
DISCRETE = {
    "of two normal variables": lambda _: fcs(table(2, discrete=True)),
    "without normal ones": lambda _: fcs(table(0, discrete=True)),
    "rows in another order": lambda _: fcs(table(1, discrete=True).sample(frac=1, random_state=1)),
    "nullable, with a slope": lambda _: fcs(
        table(1, discrete=True).convert_dtypes(),
        predictors={"b": "~ v0 + w + (1 + w | id)"},
        compatible=False,
    ),
    "a loaded run goes on": lambda path: loaded(fcs(table(1, discrete=True)), path).iterate(2),
}


@pytest.fixture(scope="module")
def chained():
    fcs(table(2))
    return signatures()


@pytest.fixture(scope="module")
def several():
    joint(table(2), "v0 + v1 ~ w + (1 | id)")
    joint(table(2), "v0 + v1 ~ w + (1 | id)").extend(1)
    fcs(table(3), blocks={"two": ["v0", "v1"]})
    return signatures()


@pytest.fixture(scope="module")
def discrete():
    """gibbs_step (called for each block) is compiled besides gibbs_cycles."""
    fcs(table(1, discrete=True))
    return signatures()


@pytest.fixture(scope="module")
def analysed():
    tables = fcs(table(2, discrete=True))
    tables.analyse("v0 ~ v1 + (1 | id)")
    tables.analyse("b ~ v0 + (1 | id)", family="bernoulli")
    return tables, signatures()


@pytest.mark.parametrize("case", CHAINED)
def test_normal_variables(case, chained, tmp_path):
    CHAINED[case](tmp_path)
    assert not signatures() - chained


@pytest.mark.parametrize("case", JOINT)
def test_several_normal_variables_at_once(case, several, tmp_path):
    JOINT[case](tmp_path)
    assert not signatures() - several


def test_several_factors_have_the_kernels_of_other_models():
    """Those of the joint model and of one discrete variable; where a variable is not in a compiled cycle, factors of its
    columns are a call of their own."""
    frame = table(2, discrete=True).assign(c=["c" + str(k) for k in np.arange(120) % 5])
    fcs(table(2, discrete=True))
    both = bi.IncompleteData(frame[["v0", "v1", "w", "id", "c"]], ["id", "c"])
    bi.JointNormal(both, "v0 + v1 ~ w + (1 | id) + (1 | c)").impute(2, draws=10, tune=5, seed=1)
    before = signatures()
    bi.FCS(bi.IncompleteData(frame, ["id", "c"], {"n": "poisson"})).impute(2, cycles=3, seed=1)
    assert set(signatures() - before) <= {"bayesimp.kernels.chained.moments.cluster_factors"}


@pytest.mark.parametrize("case", DISCRETE)
def test_discrete_variables(case, discrete, tmp_path):
    DISCRETE[case](tmp_path)
    assert not signatures() - discrete


@pytest.mark.parametrize(
    ("formula", "options"),
    [
        ("v1 ~ v0 + w + (1 + v0 | id)", {}),
        ("v1 ~ v0 * w + (1 + v0 + w | id)", {"reml": False}),
        ("b ~ v0 + w + (1 + w | id)", {"family": "bernoulli"}),
        ("n ~ v0 + (1 | id)", {"family": "poisson"}),
        ("n ~ v0 + (1 | id)", {"family": "poisson", "offset": "offset", "weights": "weight"}),
    ],
)
@pytest.mark.filterwarnings("ignore:.* contains terms that the imputation model lacks")
def test_analyses(formula, options, analysed):
    tables, before = analysed
    if "weights" in options:
        frame = table(1, discrete=True).assign(weight=2, offset=np.float32(0.5))
        tables = fcs(frame, predictors=dict.fromkeys(("v0", "b", "n"), "~ (1 | id)"))
        before |= signatures()
    tables.analyse(formula, **options)
    assert not signatures() - before
