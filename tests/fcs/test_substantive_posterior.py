"""Values drawn given an analysis, where their posterior is known.

One incomplete binary covariate, all of whose values are enumerated; one incomplete covariate, where the models are a
joint GLMM; all linear and normal, where plain chained equations are right too. Level LEVEL after Bonferroni over the
quantities of a comparison; wrong variants are below REJECTED. Seeds fixed.
"""

from functools import cache
from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import expit, logsumexp

import bayesimp as bi
from bayesimp import priors as pr
from bayesimp.joint.glmm import sampler
from bayesimp.kernels.factors.cells import draw_cells
from bayesimp.kernels.families.codes import NORMAL
from bayesimp.methods import Bayes
from tests.calibration import montecarlo as mc
from tests.calibration.montecarlo import LEVEL, REJECTED

RUN = dict(seed=5, progress=False, executor="serial")
ANALYSIS = "y ~ x * w + (1 + x | g)"
BATCHES = 25

# -- one binary covariate, enumerated ------------------------------------------------------------------------------

CLUSTERS, ROWS, SD = 8, 4, 1.5
S2, PSI_Y, PSI_X = 0.6, np.array([[0.5, 0.2], [0.2, 0.4]]), 0.8
HOLES = [0, 4, 8, 9, 13, 19, 22, 24]  # cluster 2 has two


@cache
def table() -> pd.DataFrame:
    """y from the analysis with a strong interaction; eight values of x are missing."""
    rng = np.random.default_rng(12)
    g = np.repeat(np.arange(CLUSTERS), ROWS)
    w = rng.normal(size=len(g))
    x = (rng.random(len(g)) < expit(0.4 * w + rng.normal(0, np.sqrt(PSI_X), CLUSTERS)[g])).astype(float)
    u = rng.multivariate_normal([0, 0], PSI_Y, CLUSTERS)[g]
    y = 0.5 * x + 0.3 * w + 1.2 * x * w + u[:, 0] + u[:, 1] * x + rng.normal(0, np.sqrt(S2), len(g))
    x[HOLES] = np.nan
    return pd.DataFrame({"g": g, "w": w, "x": x, "y": y})


def log_analysis(x, w, y, g):
    """log p(y | x): normal, beta and effects integrated out."""
    X = np.column_stack([np.ones(len(x)), x, w, x * w])
    Z = X[:, :2]
    V = S2 * np.eye(len(x)) + SD**2 * X @ X.T + (Z @ PSI_Y @ Z.T) * (g[:, None] == g)
    return stats.multivariate_normal(np.zeros(len(x)), V).logpdf(y)


def log_covariate(every, w, g):
    """log p(x) of each completion (S, n): beta on a grid, the effect of each cluster by Gauss-Hermite."""
    node, weight = np.polynomial.hermite_e.hermegauss(31)
    weight = np.log(weight / weight.sum())
    one = np.linspace(-4 * SD, 4 * SD, 61)
    beta = np.array(list(product(one, one)))
    prior = stats.norm(0, SD).logpdf(beta).sum(axis=1)
    prior -= logsumexp(prior)
    total = np.zeros((len(every), len(beta)))
    for i in range(CLUSTERS):
        own = g == i
        distinct, back = np.unique(every[:, own], axis=0, return_inverse=True)
        eta = beta[:, :1] + beta[:, 1:] * w[own]
        eta = eta[:, :, None] + np.sqrt(PSI_X) * node  # (beta, rows, nodes)
        chance = -np.logaddexp(0, -eta), -np.logaddexp(0, eta)
        for s, x in enumerate(distinct):
            log = sum(chance[0 if x[j] else 1][:, j] for j in range(own.sum()))
            total[back.ravel() == s] += logsumexp(log + weight, axis=1)
    return logsumexp(total + prior, axis=1)


@cache
def enumerated() -> np.ndarray:
    """(clusters with missing values,) posterior means of the mean of the missing values of each cluster."""
    t = table()
    w, y, g = (t[name].to_numpy() for name in ("w", "y", "g"))
    levels = np.array(list(product([0.0, 1.0], repeat=len(HOLES))))
    every = np.tile(t.x.to_numpy(), (len(levels), 1))
    every[:, HOLES] = levels
    log = log_covariate(every, w, g) + np.array([log_analysis(x, w, y, g) for x in every])
    p = np.exp(log - logsumexp(log))
    where = g[HOLES]
    return np.array([p @ levels[:, where == i].mean(axis=1) for i in np.unique(where)])


def fixed(Psi) -> Bayes:
    return Bayes(pr.Priors(pr.Fixed([[S2]]), pr.Fixed(Psi), pr.Normal(0.0, SD)))


def binary(draws=500) -> np.ndarray:
    """(chains, draws, clusters with missing values) means of imputed values, by the package."""
    data = bi.IncompleteData(table(), "g", {"x": "bernoulli"})
    model = bi.FCS(
        data, {"y": fixed(PSI_Y), "x": fixed([[PSI_X]])}, {"x": "~ w + (1 | g)"}, analysis=ANALYSIS
    )
    imp = model.impute(4, cycles=draws + 50, tune=50, **RUN)
    mean = imp.tree["imputed_stats"]["mean"].sel(response="x").transpose("chain", "draw", "cluster").values
    return mean[:, :, np.unique(table().g[HOLES])]


def p_of(values, expected) -> float:
    mean, se = mc.batch_means(values, BATCHES)
    return mc.bonferroni(2 * stats.t(BATCHES - 1).sf(np.abs(mean - expected) / se))


def test_a_binary_covariate_has_the_enumerated_posterior():
    assert p_of(binary(), enumerated()) > LEVEL


def without_analysis(monkeypatch):
    """The analysis left out of the density of a cell."""

    def draw(rng, k, arrays, cells, *rest):
        return draw_cells(rng, k, arrays, cells._replace(child=np.zeros_like(cells.child)), *rest)

    monkeypatch.setattr(sampler, "draw_cells", draw)


def without_effects(monkeypatch):
    """The effects of the analysis left out of the density of a cell."""

    def draw(rng, k, arrays, cells, programs, means, divisor, state, work):
        B = state.B.copy()
        for l in np.flatnonzero(arrays.predictors * (arrays.family == NORMAL)):  # the analysis
            B[:, arrays.effect[l] : arrays.effect[l + 1]] = 0.0
        return draw_cells(rng, k, arrays, cells, programs, means, divisor, state._replace(B=B), work)

    monkeypatch.setattr(sampler, "draw_cells", draw)


def stale(monkeypatch):
    """The parameters of the analysis drawn in the first cycles only."""
    right, seen = sampler.Sampler.update_parameters, [0]

    def update(self, k):
        if self.table.factors[k].is_analysis:
            seen[0] += 1
            if seen[0] > 50:
                return 0
        return right(self, k)

    monkeypatch.setattr(sampler.Sampler, "update_parameters", update)


@pytest.mark.parametrize("spoil", [without_analysis, without_effects, stale])
def test_wrong_draws_of_a_binary_covariate_are_told_apart(spoil, monkeypatch):
    spoil(monkeypatch)
    assert p_of(binary(), enumerated()) < REJECTED


# -- one incomplete covariate: a joint GLMM ------------------------------------------------------------------------

IW = pr.Priors(pr.InverseWishart(5.0, 0.3), pr.InverseWishart(6.0, 0.25, centred=False), pr.Normal(0.0, 3.0))
OWN = {"x": "x ~ w + (1 | g)"}


def one_covariate(binary: bool) -> bi.IncompleteData:
    """x and y are incomplete; x lacks in two clusters."""
    rng = np.random.default_rng(21)
    g = np.repeat(np.arange(16), 7)
    n = len(g)
    w = rng.normal(size=n)
    x = 0.4 * w + rng.normal(0, 0.6, 16)[g] + rng.normal(size=n)
    u = rng.multivariate_normal([0, 0], [[0.5, 0.1], [0.1, 0.3]], 16)[g]
    eta = 0.3 + 0.6 * x + 0.3 * w + 0.7 * x * w + u[:, 0] + u[:, 1] * x
    y = (rng.random(n) < expit(eta)).astype(float) if binary else eta + rng.normal(size=n)
    frame = pd.DataFrame(
        {"g": g, "w": w, "x": np.where((rng.random(n) < 0.25) | (g % 8 == 3), np.nan, x), "y": y}
    )
    frame.loc[rng.random(n) < 0.15, "y"] = np.nan
    return bi.IncompleteData(frame, "g", {"y": "bernoulli"} if binary else None)


def quantities(imp) -> np.ndarray:
    """(chains, draws, .): parameters, variances by their logarithms, and means of imputed values of every cluster."""
    tree = imp.tree["posterior"]
    names = [name for name in ("beta_x", "beta_y", "sigma2_x", "sigma2_y", "Psi_x", "Psi_y") if name in tree]
    parts = [tree[name].values.reshape(*tree[name].shape[:2], -1) for name in names]
    parts = [np.log(part) if "sigma2" in name else part for name, part in zip(names, parts, strict=True)]
    mean = imp.tree["imputed_stats"]["mean"].sel(response=["x", "y"]).transpose("chain", "draw", ...).values
    made = np.concatenate([*parts, mean.reshape(*mean.shape[:2], -1)], axis=-1)
    return made[:, :, np.isfinite(made).all(axis=(0, 1))]


def p_of_means(a, b) -> float:
    (mean_a, se_a), (mean_b, se_b) = mc.batch_means(a, BATCHES), mc.batch_means(b, BATCHES)
    return mc.bonferroni(2 * stats.t(2 * BATCHES).sf(np.abs(mean_a - mean_b) / np.hypot(se_a, se_b)))


@cache
def of_joint(binary: bool) -> np.ndarray:
    model = bi.JointGLMM(one_covariate(binary), ANALYSIS, OWN, priors=IW, effects="separate")
    return quantities(model.impute(4, chains=4, tune=100, draws=400, **RUN))


def of_fcs(binary: bool, cycles: int = 400) -> np.ndarray:
    model = bi.FCS(one_covariate(binary), Bayes(IW), OWN, analysis=ANALYSIS)
    return quantities(model.impute(4, cycles=cycles, tune=100, **RUN))


@pytest.mark.parametrize("binary", [False, True])
def test_with_one_incomplete_covariate_it_is_the_joint_model(binary):
    assert p_of_means(of_fcs(binary), of_joint(binary)) > LEVEL


@pytest.mark.parametrize("spoil", [without_analysis, without_effects, stale])
def test_wrong_draws_of_a_normal_covariate_are_told_apart(spoil, monkeypatch):
    expected = of_joint(False)
    spoil(monkeypatch)
    assert p_of_means(of_fcs(False, 150), expected) < REJECTED


# -- an incomplete response alone: its conditional model ------------------------------------------------------------


def response(family) -> bi.IncompleteData:
    rng = np.random.default_rng(14)
    g = np.repeat(np.arange(12), 10)
    w = rng.normal(size=120)
    eta = 0.4 + 0.5 * w + 0.4 * rng.normal(size=12)[g]
    y = {
        "gamma": lambda: rng.gamma(3.0, 20 * np.exp(eta)), "poisson": lambda: rng.poisson(4 * np.exp(eta)) * 1.0,
        "beta": lambda: rng.beta(3 * np.exp(eta), 3.0), "normal": lambda: 100 + 7 * (eta + rng.normal(size=120)),
        "student": lambda: 100 + 7 * (eta + 0.7 * rng.standard_t(3, 120)),
        "yeo_johnson": lambda: 100 + 7 * rng.gamma(2.0, np.exp(eta)),
        "zero_inflated_poisson": lambda: rng.poisson(4 * np.exp(eta)) * (rng.random(120) < 0.7) * 1.0,
        "categorical": lambda: np.array(["b", "a", "c"], dtype=object)[np.digitize(eta + rng.normal(size=120), [0, 1])],
    }[family]()  # fmt: skip
    frame = pd.DataFrame({"g": g, "w": w, "y": y})
    frame["y"] = frame["y"].mask(rng.random(120) < 0.2)
    return bi.IncompleteData(frame, "g", {"y": family})


@pytest.mark.parametrize(
    "family",
    ["normal", "gamma", "poisson", "beta", "categorical", "student", "yeo_johnson", "zero_inflated_poisson"],
)
def test_the_model_of_a_response_is_what_an_ordinary_block_has(family):
    data, formula = response(family), "y ~ w + (1 | g)"
    pair = []
    for model in (bi.FCS(data, "bayes", formula), bi.FCS(data, analysis=formula)):
        tree = model.impute(8, cycles=225, tune=50, **RUN).tree["posterior"]
        names = [
            n
            for n in ("beta_y", "sigma2_y", "shape_y", "sigma_y", "nu_y", "lambda_y", "zi_y", "Psi_y")
            if n in tree
        ]
        parts = [tree[n].values.reshape(*tree[n].shape[:2], -1) for n in names]
        parts = [
            part if n == "beta_y" or part.shape[-1] > 1 else np.log(part)
            for n, part in zip(names, parts, strict=True)
        ]
        pair.append(np.concatenate(parts, axis=-1))
    assert p_of_means(*pair) > LEVEL


# -- all linear and normal: plain chained equations ----------------------------------------------------------------


def imputed(model, cycles) -> np.ndarray:
    """(chains, quantities) means over cycles of the mean and the standard deviation of imputed values, by cluster."""
    imp = model.impute(40, cycles=cycles, tune=cycles // 3, **RUN)
    parts = [
        imp.tree["imputed_stats"][what].sel(response="x").transpose("chain", ...) for what in ("mean", "sd")
    ]
    made = np.concatenate([part.mean("draw").values for part in parts], axis=-1)
    return made[:, np.isfinite(made).all(axis=0)]


def test_where_all_is_linear_and_normal_plain_chained_equations_are_the_same():
    """The cluster means give the analysis what the model of x given y has; 60 clusters make priors of variances small."""
    rng = np.random.default_rng(5)
    g = np.repeat(np.arange(60), 8)
    n = len(g)
    w = rng.normal(size=n) + rng.normal(size=60)[g]
    x = 0.5 * w + rng.normal(0, 0.7, 60)[g] + rng.normal(size=n)
    y = x - 0.5 * w + rng.normal(0, 0.8, 60)[g] + rng.normal(size=n)
    data = bi.IncompleteData(
        pd.DataFrame({"g": g, "w": w, "x": np.where(rng.random(n) < 0.4, np.nan, x), "y": y}), "g"
    )
    analysis = "y ~ x + w + cluster_mean(x) + cluster_mean(w) + (1 | g)"
    a, b = imputed(bi.FCS(data, analysis=analysis), 45), imputed(bi.FCS(data), 45)
    assert p_of_chains(a, b) > LEVEL
    without = bi.FCS(data, analysis="y ~ x + (1 | g)")  # not what plain chained equations have
    assert p_of_chains(imputed(without, 30), b) < REJECTED


def p_of_chains(a, b) -> float:
    """Means of independent chains (chains, quantities)."""
    se = np.hypot(a.std(axis=0, ddof=1) / np.sqrt(len(a)), b.std(axis=0, ddof=1) / np.sqrt(len(b)))
    return mc.bonferroni(2 * stats.t(len(a) + len(b) - 2).sf(np.abs(a.mean(axis=0) - b.mean(axis=0)) / se))
