"""Simulated designs: every family has its moments, effects their covariance, sizes their mean; 4 standard errors each."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import expit, ndtr

import bayesimp as bi
from bayesimp.errors import SpecificationError
from bayesimp.formulas.syntax import Name, write
from bayesimp.methods.base import all_families
from bayesimp.studies import ClusterSizes, Design, Sporadic, delete
from bayesimp.studies import SimulatedVariable as Variable

N = 40_000
MU = np.exp(0.3)
poisson, overdispersed = stats.poisson(MU), stats.nbinom(4.0, 4.0 / (4.0 + MU))


def mixed(count, zeros: float, hurdle: bool = False) -> tuple[float, float]:
    """Mean and variance of zeros with this probability, and else of a count (above zero)."""
    y = np.arange(1, 200)
    p = (1 - zeros) * count.pmf(y) / (count.sf(0) if hurdle else 1.0)
    return p @ y, p @ y**2 - (p @ y) ** 2


def transformed_moments(power: float, mean: float, sd: float) -> tuple[float, float]:
    """Mean and variance of what has a normal Yeo-Johnson transformation; SciPy's density, on a grid."""
    y = np.linspace(-15, 60, 200_001)
    slope = (np.abs(y) + 1) ** np.where(y >= 0, power - 1, 1 - power)
    p = stats.norm.pdf(stats.yeojohnson(y, power), mean, sd) * slope
    p /= p.sum()
    return p @ y, p @ y**2 - (p @ y) ** 2


# family: variable, mean and variance of a value with eta = 0.3
MOMENTS = {
    "normal": (Variable("v", "normal", {"Intercept": 0.3}, sd=2.0), 0.3, 4.0),
    "bernoulli": (Variable("v", "bernoulli", {"Intercept": 0.3}), expit(0.3), expit(0.3) * expit(-0.3)),
    "probit": (Variable("v", "bernoulli", {"Intercept": 0.3}, link="probit"), ndtr(0.3), ndtr(0.3) * ndtr(-0.3)),
    "binomial": (Variable("v", "binomial", {"Intercept": 0.3}, trials=5), 5 * expit(0.3), 5 * expit(0.3) * expit(-0.3)),
    "poisson": (Variable("v", "poisson", {"Intercept": 0.3}), np.exp(0.3), np.exp(0.3)),
    "negative_binomial": (
        Variable("v", "negative_binomial", {"Intercept": 0.3}, shape=4.0), np.exp(0.3), np.exp(0.3) + np.exp(0.6) / 4
    ),
    "gamma": (Variable("v", "gamma", {"Intercept": 0.3}, shape=4.0), np.exp(0.3), np.exp(0.6) / 4),
    "inverse_gaussian": (Variable("v", "inverse_gaussian", {"Intercept": 0.3}, shape=4.0), np.exp(0.3), np.exp(0.9) / 4),
    "lognormal": (Variable("v", "lognormal", {"Intercept": 0.3}, sd=0.5), *stats.lognorm(0.5, scale=np.exp(0.3)).stats()),
    "student": (Variable("v", "student", {"Intercept": 0.3}, sd=2.0, shape=9.0), *stats.t(9, 0.3, 2.0).stats()),
    "beta": (Variable("v", "beta", {"Intercept": 0.3}, shape=4.0), *stats.beta(4 * expit(0.3), 4 * expit(-0.3)).stats()),
    "zero_inflated_poisson": (
        Variable("v", "zero_inflated_poisson", {"Intercept": 0.3}, zeros=0.3), *mixed(poisson, 0.3)
    ),
    "zero_inflated_negative_binomial": (
        Variable("v", "zero_inflated_negative_binomial", {"Intercept": 0.3}, shape=4.0, zeros=0.3),
        *mixed(overdispersed, 0.3),
    ),
    "hurdle_poisson": (Variable("v", "hurdle_poisson", {"Intercept": 0.3}, zeros=0.6), *mixed(poisson, 0.6, hurdle=True)),
    "hurdle_negative_binomial": (
        Variable("v", "hurdle_negative_binomial", {"Intercept": 0.3}, shape=4.0, zeros=0.1),
        *mixed(overdispersed, 0.1, hurdle=True),
    ),
    "yeo_johnson": (
        Variable("v", "yeo_johnson", {"Intercept": 0.3}, sd=0.8, shape=0.6), *transformed_moments(0.6, 0.3, 0.8)
    ),
    "censored": (Variable("v", "censored", {"Intercept": 0.3}, sd=2.0), 0.3, 4.0),
}  # fmt: skip


def test_every_family_is_tried():
    tried = {variable.family for variable, *_ in MOMENTS.values()} | {"ordinal", "categorical"}
    assert tried == set(all_families())


@pytest.mark.parametrize("case", MOMENTS)
def test_moments_of_every_family(case):
    variable, mean, variance = MOMENTS[case]
    x = Design([variable], 10, N // 10)(seed=3)["v"].to_numpy(float)
    assert abs(x.mean() - mean) < 4 * np.sqrt(variance / N)
    fourth = ((x - x.mean()) ** 4).mean()
    assert abs(x.var() - variance) < 4 * np.sqrt((fourth - variance**2) / N)


def test_probabilities_of_levels():
    """P(y <= l) = logistic(c_l - eta), c = 0, 1.2; P(y = l) ~ e^eta_l: the conventions of the imputation models."""
    grade = Variable("g", "ordinal", {"Intercept": 0.4}, levels=list("abc"), increments=[1.2])
    kind = Variable("k", "categorical", [{"Intercept": 0.5}, {"Intercept": -0.7}], levels=list("uvw"))
    table = Design([grade, kind], 10, N // 10)(seed=4)
    below = expit(np.array([0.0, 1.2]) - 0.4)
    for name, p in (
        ("g", np.diff([0, *below, 1])),
        ("k", np.exp([0, 0.5, -0.7]) / np.exp([0, 0.5, -0.7]).sum()),
    ):
        share = table[name].value_counts(sort=False, normalize=True).to_numpy()
        assert (np.abs(share - p) < 4 * np.sqrt(p * (1 - p) / N)).all()
    assert table["g"].cat.ordered and not table["k"].cat.ordered


def test_values_beyond_limits_are_limits_and_what_depends_on_them_does_not_know_it():
    y = Variable("y", "censored", {"Intercept": 0.3}, sd=2.0, limits=(-1.0, 2.5))
    design = Design([y, Variable("z", "normal", {"y": 1.0}, sd=1e-9)], 10, N // 10)
    table = design(seed=5)
    assert design.families == {"y": "censored(y_censored)", "z": "normal"}
    latent, law = table["z"].to_numpy(), stats.norm(0.3, 2.0)
    words = np.where(latent < -1.0, "left", np.where(latent > 2.5, "right", "none"))
    assert (table["y_censored"] == words).all()
    np.testing.assert_allclose(table["y"], np.clip(latent, -1.0, 2.5), atol=1e-7)
    for word, p in (("left", law.cdf(-1.0)), ("right", law.sf(2.5))):
        assert abs((words == word).mean() - p) < 4 * np.sqrt(p * (1 - p) / N)
    with pytest.raises(SpecificationError, match="limits are two numbers in order"):
        Variable("y", "censored", limits=(2.0, 1.0))
    with pytest.raises(SpecificationError, match="zeros is a probability below 1"):
        Variable("y", "hurdle_poisson", zeros=1.0)


def test_every_family_is_one_that_is_imputed():
    variables = [variable for name, (variable, *_) in MOMENTS.items() if name != "probit"]
    variables = [replace(v, name=f"v{k}", trials=1) for k, v in enumerate(variables)]
    design = Design(variables, 6, 20)
    data = bi.IncompleteData(
        design(seed=1),
        cluster="cluster",
        families={n: f for n, f in design.families.items() if f != "binomial"},
    )
    assert data is not None


def test_slopes_interactions_and_effects():
    """y = 1 + 2x - z + 0.5 xz + (b0 + b1 x), b correlated with the effect of x: cluster by cluster least squares."""
    Psi = np.array([[0.5, 0.2, 0.1], [0.2, 1.0, -0.3], [0.1, -0.3, 0.6]])
    design = Design(
        [
            Variable("x", effects=["Intercept"]), Variable("z", "bernoulli"),
            Variable("y", "normal", {"Intercept": 1.0, "x": 2.0, "z": -1.0, "x:z": 0.5}, ["Intercept", "x"], sd=0.1),
        ],
        1500, 60, Psi,
    )  # fmt: skip
    assert design.effect_names == ["x.Intercept", "y.Intercept", "y.x"]
    table = design(seed=8)
    fits = []
    for _, t in table.groupby("cluster"):
        X = np.column_stack([np.ones(60), t["x"], t["z"], t["x"] * t["z"]])
        fits.append([t["x"].mean(), *np.linalg.lstsq(X, t["y"], rcond=None)[0]])
    each = np.array(fits)
    mean, spread = each.mean(0), each.std(0, ddof=1) / np.sqrt(len(each))
    assert (np.abs(mean - [0, 1, 2, -1, 0.5]) < 4 * spread).all()
    found = np.cov(each[:, :3].T)
    expected = Psi + np.diag([1 / 60, 0, 0])
    error = np.sqrt((np.outer(np.diag(expected), np.diag(expected)) + expected**2) / 1500)
    assert (np.abs(found - expected) / error < 4.5).all()


def test_variables_of_clusters_and_contextual_terms():
    design = Design(
        [
            Variable("size", "bernoulli", level="cluster"),
            Variable("x", "normal", {"size": 2.0}),
            Variable("climate", "normal", {"cluster_mean(x)": 1.0}, level="cluster", sd=0.0),
            Variable("y", "normal", {"within(x)": 3.0, "climate": -1.0}, sd=0.0),
        ],
        30, 7,
    )  # fmt: skip
    table = design(seed=5)
    by = table.groupby("cluster")
    assert (by["size"].nunique() == 1).all() and table["size"].nunique() == 2
    mean = by["x"].transform("mean")
    np.testing.assert_allclose(table["climate"], mean, atol=1e-12)
    np.testing.assert_allclose(table["y"], 3 * (table["x"] - mean) - mean, atol=1e-12)


ODD_NAMES = {"x": "blood pressure (mm)", "g": "1st `visit`: grade", "y": "größe", "climate": "a:b"}


def quoted(name):
    return write(Name(ODD_NAMES[name]))


def test_names_are_quoted_as_in_formulas():
    """The same numbers whatever the variables are called; a term that is a column needs no backticks."""

    def made(x, g, y, climate, named):
        terms = {f"within({x})": 3.0, f"{x}:{g}[b c]": 0.5, f"{g}[d]": -1.0, f"{climate}:{x}": 0.2}
        variables = [
            Variable(named["x"], effects=["Intercept"]),
            Variable(named["g"], "ordinal", levels=["a", "b c", "d"], increments=[1.0]),
            Variable(named["climate"], "normal", {f"cluster_mean({x})": 1.0}, level="cluster"),
            Variable(named["y"], "normal", terms | {named["climate"]: 2.0}, ["Intercept", named["x"]]),
        ]
        return Design(variables, 8, 6, np.eye(3))

    plain = dict(zip(ODD_NAMES, ODD_NAMES, strict=True))
    expected = made(**plain, named=plain)(seed=3)
    design = made(**{name: quoted(name) for name in ODD_NAMES}, named=ODD_NAMES)
    assert design.effect_names[-1] == "größe.blood pressure (mm)"
    pd.testing.assert_frame_equal(design(seed=3), expected.rename(columns=ODD_NAMES))
    unquoted = Design(
        [Variable("blood pressure"), Variable("y", "normal", {"within(blood pressure)": 1.0})], 3, 4
    )
    with pytest.raises(
        SpecificationError, match=r"'y': Formula 'within.blood pressure.*in backticks: `blood pressure`"
    ):
        unquoted(seed=1)
    with pytest.raises(
        SpecificationError, match="'`body mass`' is not among the columns before it: `blood pressure`"
    ):
        Design([Variable("blood pressure"), Variable("y", "normal", {"`body mass`": 1.0})], 3, 4)(seed=1)


def test_strengths_of_missingness_take_names_in_backticks():
    frame = Design([Variable("y"), Variable("blood pressure")], 9, 30)(seed=2)
    missing = [
        delete(frame, cluster="cluster", sporadic={"y": Sporadic(0.3, {driver: 1.0})}, seed=4)[0]["y"].isna()
        for driver in ("within(blood pressure)", "within(`blood pressure`)", "`blood pressure`")
    ]
    assert (missing[0] == missing[1]).all() and (missing[0] != missing[2]).any()


@pytest.mark.parametrize("strength", [0.0, 0.8])
def test_informative_sizes_keep_their_mean(strength):
    sizes = ClusterSizes(40, least=5, on={"y.Intercept": strength})
    design = Design([Variable("y", effects=["Intercept"], sd=0.01)], 3000, sizes, [[4.0]])
    table = design(seed=6)
    by = table.groupby("cluster")["y"].agg(["mean", "size"])
    n = by["size"]
    assert n.min() >= 5 and abs(n.mean() - 40) < 4 * n.std() / np.sqrt(3000)
    rho = np.corrcoef(by["mean"], np.log(n))[0, 1]
    assert rho > 0.9 if strength else abs(rho) < 4 / np.sqrt(3000)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Variable("v", "cauchy"), "family is one of"),
        (lambda: Variable("v", level="cluster", effects=["Intercept"]), "cannot have random effects"),
        (lambda: Variable("v", "ordinal", levels=list("ab"), increments=[1.0]), "K - 2"),
        (lambda: Variable("v", "categorical", {"Intercept": 1.0}, levels=list("abc")), "K - 1"),
        (lambda: Design([Variable("v", effects=["Intercept"])], 3, 4, np.eye(2)), "covariance of the 1 effects"),
        (lambda: Design([Variable("v", effects=["Intercept"])], 3, 4, [[-1.0]]), "covariance"),
        (lambda: Design([Variable("v")], 3, [1, 2]), "3 numbers"),
        (lambda: Design([Variable("v")], 3, ClusterSizes(5, on={"v.x": 1.0})), "depend on 'v.x'"),
        (lambda: ClusterSizes(5, least=9), "least"),
        (lambda: Design([Variable("v", "normal", {"w": 1.0})], 3, 4)(seed=1), "'w' is not among"),
        (
            lambda: Design([Variable("x"), Variable("v", "normal", {"x": 1.0}, level="cluster")], 3, 4)(seed=1),
            "varies within",
        ),
    ],
)  # fmt: skip
def test_designs_that_are_none_are_refused(make, match):
    with pytest.raises(SpecificationError, match=match):
        make()
