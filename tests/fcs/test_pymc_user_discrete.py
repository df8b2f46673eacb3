"""Models of discrete variables as blocks of chained equations: against NUTS, the support of draws, refusals."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest

from bayesimp import priors as pr
from bayesimp.errors import SamplingError, SpecificationError
from bayesimp.fcs.blocks.check_model import build, check_draws, wrong_values
from bayesimp.fcs.blocks.pymc_user import UserConditional
from bayesimp.models.conditional_glmm import conditional_glmm
from bayesimp.models.conditional_normal import ConditionalData
from bayesimp.sampling.compiled_model import _graph, _plain
from tests.calibration.montecarlo import batch_means, bonferroni
from tests.models.test_conditional_glmm import MODELS, rows

REFERENCE = Path(__file__).parents[1] / "reference" / "glmm"


def reference(name: str) -> tuple[dict, ConditionalData, pr.Priors]:
    """Posterior by NUTS, its data and its priors (tests/reference/glmm/make_nuts.py)."""
    record = json.loads((REFERENCE / f"nuts_{name}.json").read_text())
    d = {k: np.array(v) for k, v in record["data"].items()}
    X, q = np.column_stack([np.ones(len(d["x"])), d["x"]]), record["q"]
    names, levels = ("1", "x"), record["levels"]
    data = ConditionalData("v", d["y"].astype(float), X, X[:, :q], d["cluster"], record["clusters"], names, names[:q],
                           record["family"], record["link"], levels, d.get("trials"))  # fmt: skip
    priors = pr.Priors(Psi=pr.HuangWand(scale=1.0), beta=pr.Normal(0.0, [[5.0], [2.5]]))
    return record["posterior"], data, priors


def features(values: dict[str, np.ndarray], posterior: dict) -> np.ndarray:
    """Of draws by name, or of one: tails cut off, as moments of Psi converge slowly; shares below NUTS's quantiles."""
    return np.column_stack([values[k][:, None] < posterior[k]["quantiles"] for k in values]).astype(float)


def agreement(values: dict[str, np.ndarray], posterior: dict) -> float:
    """Smallest p-value over quantiles, corrected for their number; NUTS's own error is about a tenth of ours."""
    from scipy.stats import t as student

    mean, se = batch_means(features(values, posterior)[None], batches=50)
    right = np.tile([0.05, 0.25, 0.5, 0.75, 0.95], len(values))
    return bonferroni(2 * student.sf(np.abs(mean - right) / np.hypot(se, 0.006), 49))


def draws(block: UserConditional, data: ConditionalData, count: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(4)
    block.adapt(rng, data)
    state, out = block.start(rng, data), []
    arrays = block._arrays(data)
    for t in range(-100, count):
        block.transition(rng, state, arrays, 4)
        if t >= 0:
            out.append(block.parameters(state, data))
    beta, Psi = np.array([o["beta"] for o in out]), np.array([o["Psi"] for o in out])
    b = np.array([(o["u"] @ np.linalg.cholesky(o["Psi"]).T) for o in out])
    named = {"beta[0,0]": beta[:, 0, 0], "beta[1,0]": beta[:, 1, 0], "Psi[0,0]": Psi[:, 0, 0]}
    return named | {f"b[{i},0]": b[:, i, 0] for i in range(3)}


@pytest.fixture(scope="module")
def bernoulli():
    posterior, data, priors = reference("bernoulli")
    return posterior, data, UserConditional(conditional_glmm, data, priors)


def test_reliability_a_third_against_nuts(bernoulli):
    posterior, data, block = bernoulli
    assert agreement(draws(block, data, 2000), posterior) > 1e-3
    wrong = replace(data, y=data.y[::-1].copy())  # the same share of ones, in other clusters and at other x
    assert agreement(draws(block, wrong, 1000), posterior) < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["poisson", "ordinal", "categorical", "negative_binomial", "gamma", "inverse_gaussian"]
)
def test_families_against_nuts(name):
    """A minute or two each, for compiling: pytest -m slow tests/fcs/test_pymc_user_discrete.py."""
    posterior, data, priors = reference(name)
    assert agreement(draws(UserConditional(conditional_glmm, data, priors), data, 8000), posterior) > 1e-3


def test_a_step_draws_zeros_and_ones(bernoulli):
    _, data, block = bernoulli
    rng = np.random.default_rng(0)
    block.adapt(rng, data)
    state = block.start(rng, data)
    missing = replace(data, y=None, X=data.X[:6], Z=data.Z[:6], cluster=data.cluster[:6])
    drawn = np.array([block.step_rows(rng, state, data, missing) for _ in range(50)])
    assert drawn.dtype == float and set(np.unique(drawn)) == {0.0, 1.0}


@pytest.mark.parametrize("family,link", MODELS)
def test_every_family_goes_through_the_checks_and_draws_its_values(family, link):
    data = rows(family, link, 2)
    model, probe = build(conditional_glmm, data, None)
    # the draw as UserConditional makes it, with nothing compiled
    graph, shared = _graph(model, (), (), data.name)
    draw, rng = _plain(graph, graph.outputs[-1]), np.random.default_rng(1)
    free = [rng.normal(0.3, 0.3, np.shape(v)) for v in plain_start(model)]
    free = [
        np.abs(x) if name in ("variation", "increments") else x
        for x, name in zip(free, names(model), strict=True)
    ]
    free = [np.eye(len(x)) if name == "Psi" else x for x, name in zip(free, names(model), strict=True)]
    filled = replace(probe, y=np.full(len(probe.X), np.nan))
    held = {f"data.{k}": x for k, x in filled.arrays().items()}
    arrays = [np.require(held.get(k, x), x.dtype) for k, x in shared.items()]
    drawn = np.array(
        [draw(*free, *[np.random.default_rng(s)] * len(graph.generators), *arrays) for s in range(40)]
    )
    assert drawn.shape[1] == len(probe.X) and drawn.std() > 0
    for values in drawn:
        check_draws(values, probe)
    if data.levels:
        assert set(np.unique(drawn)) == set(range(data.levels))


def names(model):
    return [v.name for v in model.free_RVs]


def plain_start(model):
    with pm.pytensorf.pytensor.config.change_flags(mode="FAST_COMPILE"):
        return [v.eval() for v in model.free_RVs]


WRONG = {
    "bernoulli": ("logit", [0.0, 1.0, 2.0], "1 of 3 values (such as 2) that are not 0 and 1"),
    "poisson": ("log", [0.0, -1.0, 2.5], "2 of 3 values (such as -1) that are not 0, 1, 2, .."),
    "gamma": ("log", [0.0, 1.0, 2.0], "1 of 3 values (such as 0) that are not positive numbers"),
    "categorical": ("logit", [0.0, 3.0, 2.0], "1 of 3 values (such as 3) that are not the codes 0..2"),
    "binomial": ("logit", [0.0, 9.0, 1.0], "1 of 3 values (such as 9) that are not 0..trials"),
}


@pytest.mark.parametrize("family", WRONG)
def test_values_that_are_none_of_the_family_are_refused(family):
    link, y, message = WRONG[family]
    data = rows(family, link)
    few = {k: x[:3] for k, x in data.arrays().items()} | {"y": np.array(y)}
    with pytest.raises(SpecificationError, match=f"the family is {family}") as caught:
        build(conditional_glmm, replace(data, **few), None)
    assert message in str(caught.value)
    assert wrong_values(data.y, data) == ""


def test_families_that_do_not_fit_are_refused():
    count, order = rows("poisson", "log"), rows("ordinal", "logit")
    for data, message in [
        (replace(count, family="zip"), "family 'zip' is not one of normal, student, yeo_johnson, bernoulli"),
        (replace(order, levels=2), "ordinal with 2 levels needs at least 3"),
        (
            replace(rows("binomial", "logit"), trials=None),
            "binomial variables, and only these, must have trials",
        ),
        (replace(count, trials=np.ones(12)), "binomial variables, and only these, must have trials"),
    ]:
        with pytest.raises(SpecificationError, match=message):
            build(conditional_glmm, data, None)


def own(node):
    """A model of a user's own with one node or another."""

    def model_function(data, priors):
        with pm.Model() as model:
            beta = pm.Normal("beta", 0, 2, shape=2)
            node(data, data.X @ beta)
        return model

    return model_function


OWN = {
    "bernoulli": own(lambda d, eta: pm.Bernoulli(d.name, logit_p=eta, observed=d.y)),
    "poisson": own(lambda d, eta: pm.ZeroInflatedPoisson(d.name, psi=0.7, mu=pt.exp(eta), observed=d.y)),
    "ordinal": own(
        lambda d, eta: pm.OrderedProbit(d.name, eta=eta, cutpoints=[-1.0, 0.0, 1.0], observed=d.y)
    ),
    "categorical": own(
        lambda d, eta: pm.Categorical(d.name, logit_p=eta[:, None] * np.arange(3.0), observed=d.y)
    ),
}


@pytest.mark.parametrize("family", OWN)
def test_a_users_own_model_takes_numbers_as_they_are(family):
    data = rows(family, dict(MODELS)[family])
    model, _ = build(OWN[family], data, None)
    assert model[data.name].dtype.startswith("int")


def test_draws_outside_the_family_are_refused():
    data = rows("bernoulli", "logit")
    build(own(lambda d, eta: pm.Normal(d.name, eta, 1, observed=d.y)), data, None)
    with pytest.raises(
        SpecificationError, match=r"draws 12 of 12 values \(such as 0.37\) that are not 0 and 1"
    ):
        check_draws(np.full(12, 0.37), data)
    with pytest.raises(SpecificationError, match="one value per row"):
        check_draws(np.ones((12, 3)), rows("categorical", "logit"))


def test_a_mean_out_of_range_is_said():
    data = rows("poisson", "log")
    block = UserConditional.__new__(UserConditional)
    block.name = "v"

    class Compiled:
        generators = 0
        natural = staticmethod(lambda *a: [])
        draw = staticmethod(lambda *a: np.random.default_rng(0).poisson([1e30]))

    class Structure:
        compiled, free = Compiled, 0
        filled = staticmethod(lambda **a: ())

    block.structure = Structure
    state = type("State", (), {"theta": None})
    with pytest.raises(SamplingError, match=r"could not draw \(lam value too large"):
        block._draw(np.random.default_rng(0), state, data, data)
