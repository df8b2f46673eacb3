"""The joint GLMM in PyMC against SciPy's distributions, missing levels summed by brute force.

Differences of the log density between random points, where constants and the linear maps between working scale and data
cancel; what does not cancel is the Jacobian of the missing numbers, sigma or the number itself, which is added longhand.
"""

from dataclasses import replace

import numpy as np
import pandas as pd
import pymc as pm
import pytensor
import pytest
from numpy.testing import assert_allclose
from pymc.model_graph import ModelGraph

import bayesimp as bi
from bayesimp import priors as pr
from bayesimp.contract import Shift
from bayesimp.errors import SpecificationError
from bayesimp.joint.glmm.definition import pymc_model
from bayesimp.models import joint_glmm as definition
from bayesimp.models.completed import Completed
from bayesimp.models.improper import Improper
from tests.longhand.joint_glmm import Law, log_posterior

PRIORS = pr.Priors(
    pr.InverseWishart(5.0, 0.3), pr.InverseWishart(8.0, 0.4, centred=False), pr.Normal(0.0, 1.5)
)
CLUSTERS, ROWS = 4, 6
ONE = lambda c: [1.0]  # noqa: E731


def equal(x, level):
    return (x == level).astype(float)


def holes(rng, frame, name, count):
    """NaN in so many rows of a column, spread over clusters."""
    frame.loc[rng.choice(len(frame), count, replace=False), name] = np.nan


def base(seed):
    rng = np.random.default_rng(seed)
    return rng, pd.DataFrame({"g": np.repeat(np.arange(CLUSTERS), ROWS)}), CLUSTERS * ROWS


def product_and_slope():
    """Two incomplete covariates, their product, a random slope on one of them."""
    rng, frame, n = base(1)
    frame["x"], frame["t"] = 3.0 + 2.0 * rng.normal(size=n), rng.integers(0, 2, n).astype(float)
    frame["y"] = frame.x + frame.t + rng.normal(size=n)
    for name, count in (("x", 6), ("t", 8), ("y", 3)):
        holes(rng, frame, name, count)
    laws = [
        Law("x", "normal", ONE, ONE, free=True),
        Law("t", "bernoulli", lambda c: [1.0, c["x"]], ONE, levels=2),
        Law(
            "y",
            "normal",
            lambda c: [1.0, c["x"], c["t"], c["x"] * c["t"]],
            lambda c: [1.0, c["x"]],
            leaf=True,
        ),
    ]
    return frame, {"t": "bernoulli"}, "y ~ x * t + (1 + x | g)", {}, ("x", "t", "y"), laws


def levels():
    """Ordinal and categorical covariates of a binary response; a number that depends on missing levels."""
    rng, frame, n = base(2)
    frame["o"], frame["c"] = rng.integers(0, 4, n).astype(float), rng.integers(0, 3, n).astype(float)
    frame["x"], frame["y"] = rng.normal(size=n) + frame.o, rng.integers(0, 2, n).astype(float)
    for name, count in (("o", 4), ("c", 4), ("x", 7), ("y", 4)):
        holes(rng, frame, name, count)
    o = lambda c: [1.0, *(equal(c["o"], k) for k in (1, 2, 3))]  # noqa: E731
    laws = [
        Law("o", "ordinal", ONE, ONE, levels=4),
        Law("c", "categorical", o, ONE, levels=3),
        Law("x", "normal", o, ONE, free=True),
        Law("y", "bernoulli", lambda c: [*o(c), equal(c["c"], 1), equal(c["c"], 2), c["x"]], ONE, levels=2, leaf=True,
            link="probit"),
    ]  # fmt: skip
    factors = {"o": "o ~ 1 + (1 | g)", "c": "c ~ o + (1 | g)", "x": "x ~ o + (1 | g)"}
    families = {"o": "ordinal", "c": "categorical", "y": "bernoulli"}
    return frame, families, "y ~ o + c + x + (1 | g)", factors, ("o", "c", "x", "y"), laws


def square():
    """A count that depends on a square; successes out of trials as a covariate."""
    rng, frame, n = base(3)
    frame["trials"] = rng.integers(1, 4, n)
    frame["s"] = (rng.random(n) * (frame.trials + 1)).astype(int).astype(float)
    frame["z"], frame["y"] = rng.normal(size=n), rng.poisson(2.0, n).astype(float)
    for name, count in (("z", 7), ("s", 6), ("y", 4)):
        holes(rng, frame, name, count)
    laws = [
        Law("z", "normal", ONE, ONE, free=True),
        Law("s", "binomial", lambda c: [1.0, c["z"]], ONE, trials="trials"),
        Law("y", "poisson", lambda c: [1.0, c["z"], c["z"] ** 2, c["s"]], ONE, leaf=True),
    ]
    factors = {"z": "z ~ 1 + (1 | g)", "s": "s ~ z + (1 | g)"}
    families = {"y": "poisson", "s": "binomial(trials)"}
    return frame, families, "y ~ z + I(z**2) + s + (1 | g)", factors, ("z", "s", "y"), laws


def positive():
    """Positive covariates through their logarithm, and a count with a shape."""
    rng, frame, n = base(4)
    frame["w"], frame["v"] = 5.0 * rng.gamma(2.0, size=n), 0.3 * rng.wald(1.0, 3.0, n)
    frame["y"] = rng.poisson(3.0, n).astype(float)
    for name, count in (("w", 7), ("v", 5), ("y", 3)):
        holes(rng, frame, name, count)
    laws = [
        Law("w", "gamma", ONE, ONE, free=True),
        Law("v", "inverse_gaussian", lambda c: [1.0, np.log(c["w"])], free=True),
        Law("y", "negative_binomial", lambda c: [1.0, np.log(c["w"]), np.sqrt(c["v"])], ONE, leaf=True),
    ]
    factors = {"w": "w ~ 1 + (1 | g)", "v": "v ~ log(w)"}
    families = {"w": "gamma", "v": "inverse_gaussian", "y": "negative_binomial"}
    return frame, families, "y ~ log(w) + sqrt(v) + (1 | g)", factors, ("w", "v", "y"), laws


def proportion():
    """Proportions as a covariate and as the response, with shapes of their own."""
    rng, frame, n = base(6)
    frame["w"], frame["y"] = rng.beta(2.0, 3.0, n), rng.beta(4.0, 1.0, n)
    for name, count in (("w", 7), ("y", 4)):
        holes(rng, frame, name, count)
    laws = [
        Law("w", "beta", ONE, ONE, free=True),
        Law("y", "beta", lambda c: [1.0, c["w"], c["w"] ** 2], ONE, leaf=True),
    ]
    families = {"w": "beta", "y": "beta"}
    return frame, families, "y ~ w + I(w**2) + (1 | g)", {"w": "w ~ 1 + (1 | g)"}, ("w", "y"), laws


def robust():
    """Student-t variables as a covariate and as the response."""
    rng, frame, n = base(7)
    frame["w"], frame["y"] = 3.0 + 2.0 * rng.standard_t(3.0, n), rng.standard_t(2.5, n)
    for name, count in (("w", 7), ("y", 4)):
        holes(rng, frame, name, count)
    laws = [
        Law("w", "student", ONE, ONE, free=True),
        Law("y", "student", lambda c: [1.0, c["w"], c["w"] ** 2], ONE, leaf=True),
    ]
    families = {"w": "student", "y": "student"}
    return frame, families, "y ~ w + I(w**2) + (1 | g)", {"w": "w ~ 1 + (1 | g)"}, ("w", "y"), laws


def skewed():
    """Yeo-Johnson variables as a covariate, with its square, and as the response."""
    rng, frame, n = base(13)
    frame["w"], frame["y"] = 40.0 + 3.0 * rng.gamma(2.0, size=n), 5.0 - np.exp(rng.normal(size=n))
    for name, count in (("w", 7), ("y", 4)):
        holes(rng, frame, name, count)
    scales = {name: {"center": frame[name].mean(), "unit": frame[name].std(ddof=0)} for name in ("w", "y")}
    laws = [
        Law("w", "yeo_johnson", ONE, ONE, free=True, **scales["w"]),
        Law("y", "yeo_johnson", lambda c: [1.0, c["w"], c["w"] ** 2], ONE, leaf=True, **scales["y"]),
    ]
    families = {"w": "yeo_johnson", "y": "yeo_johnson"}
    return frame, families, "y ~ w + I(w**2) + (1 | g)", {"w": "w ~ 1 + (1 | g)"}, ("w", "y"), laws


def inflated():
    """Zero-inflated counts of both kinds given a number; the first is complete, for NUTS cannot sum over counts."""
    rng, frame, n = base(8)
    frame["x"] = rng.normal(size=n)
    frame["k"] = (rng.poisson(3.0, n) * (rng.random(n) < 0.6)).astype(float)
    frame["y"] = (rng.poisson(rng.gamma(2.0, 2.0, n)) * (rng.random(n) < 0.7)).astype(float)
    for name, count in (("x", 7), ("y", 4)):
        holes(rng, frame, name, count)
    laws = [
        Law("x", "normal", ONE, ONE, free=True),
        Law("k", "zero_inflated_poisson", lambda c: [1.0, c["x"], c["x"] ** 2], ONE),
        Law(
            "y", "zero_inflated_negative_binomial", lambda c: [1.0, np.log1p(c["k"]), c["x"]], ONE, leaf=True
        ),
    ]
    families = {"k": "zip", "y": "zinb"}
    factors = {"x": "x ~ 1 + (1 | g)", "k": "k ~ x + I(x**2) + (1 | g)"}
    return frame, families, "y ~ x + log1p(k) + (1 | g)", factors, ("x", "k", "y"), laws


def hurdles():
    """Counts with a hurdle of both kinds given a number, the first complete; a lognormal covariate and its logarithm."""
    rng, frame, n = base(9)
    frame["x"] = 4.0 * np.exp(rng.normal(size=n))
    frame["k"] = ((1 + rng.poisson(2.0, n)) * (rng.random(n) < 0.6)).astype(float)
    frame["y"] = ((1 + rng.poisson(rng.gamma(2.0, 2.0, n))) * (rng.random(n) < 0.7)).astype(float)
    for name, count in (("x", 7), ("y", 4)):
        holes(rng, frame, name, count)
    laws = [
        Law("x", "lognormal", ONE, ONE, free=True),
        Law("k", "hurdle_poisson", lambda c: [1.0, np.log(c["x"]), np.sqrt(c["x"])], ONE),
        Law(
            "y", "hurdle_negative_binomial", lambda c: [1.0, np.log1p(c["k"]), np.log(c["x"])], ONE, leaf=True
        ),
    ]
    families = {"x": "lognormal", "k": "hurdle_poisson", "y": "hurdle_negative_binomial"}
    factors = {"x": "x ~ 1 + (1 | g)", "k": "k ~ log(x) + sqrt(x) + (1 | g)"}
    return frame, families, "y ~ log(x) + log1p(k) + (1 | g)", factors, ("x", "k", "y"), laws


def between():
    """Variables with one value in a cluster, a number and a level; means over clusters, and what is within them."""
    rng, frame, n = base(5)
    g = frame.g.to_numpy()
    frame["h"], frame["k"] = np.array([0.4, -1.0, 0.7, 1.5])[g], np.array([0.0, 1.0, 1.0, 0.0])[g]
    frame["x"] = rng.normal(size=n)
    frame["t"], frame["y"] = rng.integers(0, 2, n).astype(float), rng.normal(size=n)
    frame.loc[g == 2, ["h", "k"]] = np.nan
    for name, count in (("x", 7), ("t", 5), ("y", 3)):
        holes(rng, frame, name, count)
    mean = lambda x: np.full(len(x), np.mean(x))  # noqa: E731
    laws = [
        Law("h", "normal", ONE, free=True, at_cluster=True),
        Law("k", "bernoulli", lambda c: [1.0, c["h"]], levels=2, at_cluster=True),
        Law("x", "normal", lambda c: [1.0, c["k"]], ONE, free=True),
        Law("t", "bernoulli", lambda c: [1.0, c["x"] - mean(c["x"])], ONE, levels=2),
        Law("y", "normal", lambda c: [1.0, c["t"], c["k"], c["x"] - mean(c["x"]), mean(c["x"] * c["k"])], ONE,
            leaf=True),
    ]  # fmt: skip
    factors = {"h": "h ~ 1", "k": "k ~ h", "x": "x ~ k + (1 | g)", "t": "t ~ within(x) + (1 | g)"}
    families = {"k": "bernoulli", "t": "bernoulli"}
    formula = "y ~ t + k + within(x) + cluster_mean(x:k) + (1 | g)"
    return frame, families, formula, factors, ("h", "k", "x", "t", "y"), laws


def limited():
    """Limits of detection of a covariate, with its square, below and above; and of the response, a leaf."""
    rng, frame, n = base(12)
    frame["x"] = 3.0 + 2.0 * rng.normal(size=n)
    frame["y"] = frame.x + rng.normal(size=n)
    for name, low, high in (("x", 2.5, 5.0), ("y", 2.0, 99.0)):
        v = frame[name]
        frame[f"{name}_is"] = np.select([v < low, v > high], ["left", "right"], "none")
        frame[name] = v.clip(low, high)
        holes(rng, frame, name, 4)
    laws = [
        Law("x", "normal", ONE, ONE, free=True),
        Law("y", "normal", lambda c: [1.0, c["x"], c["x"] ** 2], ONE, leaf=True),
    ]
    families = {"x": "censored(x_is)", "y": "censored(y_is)"}
    return frame, families, "y ~ x + I(x**2) + (1 | g)", {"x": "x ~ 1 + (1 | g)"}, ("x", "y"), laws


CASES = {
    case.__name__: case
    for case in (
        product_and_slope,
        levels,
        square,
        positive,
        proportion,
        robust,
        skewed,
        inflated,
        hurdles,
        between,
        limited,
    )
}


def model_of(name, **options):
    frame, families, formula, factors, order, laws = CASES[name]()
    data = bi.IncompleteData(frame, cluster="g", families=families)
    links = {law.response: law.link for law in laws if law.link != "logit"}
    return bi.JointGLMM(data, formula, factors, order, PRIORS, links=links, **options), frame, laws


def evaluator(joint):
    """Points of the free variables, and what gives (log density, variables by name) there."""
    model = joint.model
    values = [model.rvs_to_values[v] for v in model.free_RVs]
    names = [v.name for v in [*model.free_RVs, *model.deterministics]]
    outputs = model.replace_rvs_by_values([model[n] for n in names])
    with pytensor.config.change_flags(mode="FAST_COMPILE"):
        start = model.initial_point(0)
        f = pytensor.function(values, [model.logp(jacobian=False), *outputs], on_unused_input="ignore")
    rng = np.random.default_rng(8)
    points = [
        [start[v.name] + 0.5 * rng.normal(size=np.shape(start[v.name])) for v in values] for _ in range(4)
    ]

    def call(point):
        value, *rest = f(*point)
        return float(value), dict(zip(names, rest, strict=True))

    return points, call


def longhand(model, joint, frame, laws, theta, **options):
    """The same density from the table, with the Jacobian of the missing numbers."""
    own = frame.sort_values("g", kind="stable").copy()
    theta = dict(theta)
    place = [int(label) for label in joint.model.coords["cluster"]]
    B = np.empty_like(theta["B"])
    B[place] = theta["B"]
    theta["B"] = B
    jacobian = 0.0
    for k, rows in joint.cells.items():
        law, values = laws[k], theta[f"imputed_{laws[k].response}"]
        for row, value in zip(model.table.row[rows], values, strict=True):
            at = own.g == frame.g[row] if law.at_cluster else own.index == row
            own.loc[at, law.response] = value
            if frame.get(f"{law.response}_is", {row: "none"})[row] != "none" and not np.isnan(
                frame[law.response][row]
            ):
                jacobian += np.log(abs(value - frame[law.response][row]))  # of limit -+ sigma exp(e)
            elif law.family == "normal":
                jacobian += 0.5 * np.log(theta[f"sigma2_{law.response}"])
            elif law.family in ("student", "yeo_johnson"):
                jacobian += np.log(theta[f"sigma_{law.response}"])
            else:
                jacobian += np.log(value * (1 - value) if law.family == "beta" else value)
    sd = {law.response: 1.5 for law in laws}
    own = own.drop(columns=[name for name in own if name.endswith("_is")])
    return jacobian + log_posterior(own, laws, theta, beta_sd=sd, Sigma=(5.0, 0.3), Psi=(8.0, 0.4), **options)


def differences(name, joint=None, laws=None, change=lambda theta: theta):
    """Log densities less that of the first point, ours and longhand."""
    model, frame, right = model_of(name)
    joint = pymc_model(model) if joint is None else joint
    points, call = evaluator(joint)
    found = [call(point) for point in points]
    ours = np.array([value for value, _ in found])
    theirs = np.array([longhand(model, joint, frame, laws or right, change(theta)) for _, theta in found])
    assert np.isfinite(ours).all() and np.ptp(ours) > 1
    return ours - ours[0], theirs - theirs[0]


@pytest.mark.parametrize("name", CASES)
def test_density_is_longhand(name):
    ours, theirs = differences(name)
    assert_allclose(ours, theirs, rtol=1e-9, atol=1e-8)


def test_shift_is_in_the_predictors_of_missing_cells():
    """Of a number in its unit, of a level on the linear predictor."""
    model, frame, laws = model_of("product_and_slope", shift=Shift({"x": 1.5, "t": -0.7}))
    shifted = [replace(law, shift={"x": 1.5, "t": -0.7}.get(law.response, 0.0)) for law in laws]
    joint = pymc_model(model)
    points, call = evaluator(joint)
    found = [call(point) for point in points]
    ours = np.array([value for value, _ in found])
    marked = frame.assign(**{f"missing_{y}": frame[y].isna().astype(float) for y in ("x", "t")})
    for own, same in ((shifted, True), (laws, False)):
        theirs = np.array([longhand(model, joint, marked, own, theta) for _, theta in found])
        assert np.allclose(ours - ours[0], theirs - theirs[0], rtol=1e-9, atol=1e-8) is same


def without_a_factor(monkeypatch):
    """The factor of the last response is missing from the sum over levels."""
    weights = definition._weights
    monkeypatch.setattr(definition, "_weights", lambda parts, count: weights(parts[:-1], count))


def independent_effects(monkeypatch):
    """Effects of different factors are independent."""
    monkeypatch.setattr(definition, "effects", lambda u, Psi: u * Psi.diagonal() ** 0.5)


def stale_means(monkeypatch):
    """Means over a cluster do not follow the value of its incomplete level."""
    right = Completed._mean

    def stale(self, e, at):
        right(self, e, at)
        return self._means[e][self.data.cluster[self.places.row[at]]]

    monkeypatch.setattr(Completed, "_mean", stale)


def no_jacobian(monkeypatch):
    """Missing numbers change their scale with sigma, but the density lacks the Jacobian."""
    right = definition.pm.Potential
    monkeypatch.setattr(
        definition.pm, "Potential", lambda name, x: right(name, 0.0 * x if name.startswith("Jacobian") else x)
    )


@pytest.mark.parametrize(
    "wrong,name",
    [
        (without_a_factor, "product_and_slope"),
        (without_a_factor, "levels"),
        (independent_effects, "product_and_slope"),
        (stale_means, "between"),
        (no_jacobian, "positive"),
        (no_jacobian, "limited"),
    ],
)
def test_wrong_variants_are_told_apart(monkeypatch, wrong, name):
    model = model_of(name)[0]
    wrong(monkeypatch)
    ours, theirs = differences(name, pymc_model(model))
    assert np.abs(ours - theirs).max() > 1e-2


def test_gradient():
    """Along random directions, where rows are summed over and numbers are free."""
    joint = pymc_model(model_of("between")[0])
    model = joint.model
    values = [model.rvs_to_values[v] for v in model.free_RVs]
    with pytensor.config.change_flags(mode="FAST_COMPILE"):
        density = model.logp()
        f = pytensor.function(values, [density, *pytensor.grad(density, values)], on_unused_input="ignore")
    points, _ = evaluator(joint)
    rng, h = np.random.default_rng(2), 1e-5
    for point in points:
        way = [rng.normal(size=np.shape(x)) for x in point]
        ends = [float(f(*[x + s * h * w for x, w in zip(point, way, strict=True)])[0]) for s in (1, -1)]
        along = sum(float((g * w).sum()) for g, w in zip(f(*point)[1:], way, strict=True))
        assert_allclose((ends[0] - ends[1]) / (2 * h), along, rtol=1e-5)


KINDS = {
    "Huang-Wand": pr.default(),
    "LKJ": pr.Priors(Psi=pr.LKJ(2.0, pr.HalfT())),
    "diagonal": pr.Priors(Psi=pr.Diagonal(pr.HalfNormal())),
    "inverse-Wishart": pr.pan(),
}


@pytest.mark.parametrize("prior", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("effects", ["joint", "separate"])
def test_every_kind_of_prior(prior, effects):
    """The posterior's own names, finite densities; one Psi of all effects or one of each factor."""
    frame, families, formula, factors, order, _ = product_and_slope()
    data = bi.IncompleteData(frame, cluster="g", families=families)
    model = bi.JointGLMM(data, formula, factors, order, prior, effects=effects)
    points, call = evaluator(pymc_model(model))
    value, theta = call(points[0])
    ends = [""] if effects == "joint" else ["_x", "_t", "_y"]
    assert np.isfinite(value)
    assert {f"Psi{end}" for end in ends} | {
        "beta_x",
        "beta_t",
        "beta_y",
        "sigma2_x",
        "sigma2_y",
    } <= theta.keys()
    assert set(model.pymc_model().named_vars) >= theta.keys()


def table(**columns):
    rng, frame, _ = base(9)
    frame["y"] = rng.normal(size=len(frame))
    for name, values in columns.items():
        frame[name] = values
    return frame


def test_the_graph_reads_like_the_equations():
    """Each density depends on its own parameters, the effects, and the variables before its response."""
    graph = ModelGraph(model_of("product_and_slope")[0].pymc_model()).make_compute_graph()
    assert graph["working_B"] == {"u", "working_Psi"}
    assert graph["imputed_x"] == {"e_x", "working_B", "working_beta_x", "working_sigma2_x"}
    assert graph["p(t)"] == {"imputed_x", "working_B", "working_beta_t"}
    assert graph["p(y)"] == {"imputed_x", "working_B", "working_beta_y", "working_sigma2_y"}
    later = {"working_beta_y", "working_sigma2_y", "working_beta_t"}
    assert not later & graph["p(x)"] and later <= graph["missing levels"]


def engines():
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"g": np.repeat(range(6), 5), "x": rng.normal(size=30), "y": rng.normal(size=30)})
    frame.loc[::5, "x"] = np.nan
    data = bi.IncompleteData(frame, "g")
    joint = "y + x ~ 1 + (1 | g)"
    return [bi.JointGLMM(data, "y ~ x + (1 | g)"), bi.JointNormal(data, joint), bi.JointLatent(data, joint)]


@pytest.mark.parametrize("k", range(3))
def test_models_with_improper_densities_can_be_drawn(k):
    """`pymc.model_to_graphviz` evaluates the shape of every node, at which `pymc.Flat` raises an error."""
    assert ModelGraph(engines()[k].pymc_model()).get_plates()


def test_nothing_is_drawn_from_an_improper_density():
    with pm.Model():
        x = Improper("x", shape=3)
    assert np.isnan(pm.draw(x)).all()
    assert_allclose(pm.logp(x, np.array([-1e9, 0.0, 2.0])).eval(), 0.0)


def refused(frame, formula, match, families=None, **options):
    data = bi.IncompleteData(frame, cluster="g", families=families or {})
    model = bi.JointGLMM(data, formula, **options)
    with pytest.raises(SpecificationError, match=match):
        model.pymc_model()


def test_what_nuts_cannot_do_is_refused():
    rng = np.random.default_rng(3)
    n = CLUSTERS * ROWS
    gaps = np.where(rng.random(n) < 0.3, np.nan, 1.0)
    count = table(c=rng.poisson(3.0, n) * gaps)
    refused(count, "y ~ c + (1 | g)", "'c' is a count and a covariate.*sampler='gibbs'", {"c": "poisson"})
    binary = table(t=rng.integers(0, 2, n) * gaps)
    refused(
        binary,
        "y ~ t + cluster_mean(t) + (1 | g)",
        "'t' has .* its mean over the cluster",
        {"t": "bernoulli"},
    )
    many = table(**{f"t{k}": rng.integers(0, 2, n) * gaps for k in range(7)})
    names = [f"t{k}" for k in range(7)]
    formula = f"y ~ {' + '.join(names)} + (1 | g)"
    refused(many, formula, r"more than 64 combinations .*: 128\)", dict.fromkeys(names, "bernoulli"))
    number = table(x=rng.normal(size=n) * gaps)
    refused(number, "y ~ x + (1 | g)", "improper", priors="jomo")
