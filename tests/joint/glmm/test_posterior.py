"""The posterior of a joint GLMM where it is known: the joint normal model, one factor alone, the same in other units.

Monte Carlo comparisons of means of independent chains, in batches; level LEVEL after Bonferroni over quantities.
"""

from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import softmax

import bayesimp as bi
from bayesimp import priors as pr
from tests.calibration import montecarlo as mc
from tests.calibration.montecarlo import LEVEL, REJECTED

RUN = dict(seed=3, progress=False, executor="serial")


def p_of_means(a, b, batches=25):
    """Means of draws a and b (chains, D, quantities), from batches."""
    (mean_a, se_a), (mean_b, se_b) = mc.batch_means(a, batches), mc.batch_means(b, batches)
    z = np.abs(mean_a - mean_b) / np.hypot(se_a, se_b)
    return mc.bonferroni(2 * stats.t(2 * batches).sf(z))


# -- all factors normal: the joint normal model ------------------------------------------------------------------

NU, V, NU_PSI, V_PSI, SD = 5.0, 0.3, 6.0, 0.25, 3.0
IW = pr.Priors(pr.InverseWishart(NU, V), pr.InverseWishart(NU_PSI, V_PSI, centred=False), pr.Normal(0.0, SD))


def two_variables() -> bi.IncompleteData:
    """Effects of x and y are correlated differently from residuals; each variable is missing in one cluster of six."""
    rng = np.random.default_rng(8)
    g = np.repeat(np.arange(18), 5)
    b = rng.multivariate_normal([0, 0], [[1.0, -0.8], [-0.8, 1.0]], 18)[g]
    e = rng.multivariate_normal([0, 0], [[0.8, 0.5], [0.5, 0.8]], 90)
    frame = pd.DataFrame({"g": g, "x": 0.5 + b[:, 0] + e[:, 0], "y": -0.5 + b[:, 1] + e[:, 1]})
    for k, name in enumerate("xy"):
        frame.loc[(g % 6 == k) | (rng.random(90) < 0.2), name] = np.nan
    return bi.IncompleteData(frame, "g")


def quantities(beta, Sigma, Psi, imputed):
    """(chains, D, .): means, logarithms of sds, correlations on Fisher's scale, and means of imputed values."""
    parts = [beta, imputed]
    for S in (Sigma, Psi):
        sd = np.sqrt(np.einsum("cdii->cdi", S))
        parts += [np.log(sd), np.arctanh(S[..., 0, 1] / sd.prod(axis=-1))[..., None]]
    return np.concatenate(parts, axis=-1)


def imputed_means(imp):
    """(chains, D, .) means of imputed values of four clusters, two of which lack a variable."""
    mean = imp.tree["imputed_stats"]["mean"].transpose("chain", "draw", "cluster", "response")
    mean = mean.sel(response=["x", "y"]).values[:, :, :4].reshape(*mean.shape[:2], -1)
    return mean[:, :, np.isfinite(mean).all(axis=(0, 1))]


def as_joint(imp, separate=False):
    """beta, Sigma, Psi of (x, y) that the factors imply, and the logarithm of the ratio of the two priors.

    x = a + b_x + e_x and y = c + G x + b_y + e_y give means (a, c + G a), effects L b and residuals L e, L = [1 0; G 1].
    The Jacobians are 1, but d(Sigma) = s_x d(s_x) d(s_y) dG.
    """
    tree = imp.tree["posterior"]
    a, (c, G) = tree["beta_x"].values[..., 0], np.moveaxis(tree["beta_y"].values, -1, 0)
    s = np.stack([tree["sigma2_x"].values, tree["sigma2_y"].values], axis=-1)
    if separate:
        Psi_own = np.zeros((*a.shape, 2, 2))
        Psi_own[..., 0, 0], Psi_own[..., 1, 1] = (tree[f"Psi_{name}"].values[..., 0, 0] for name in "xy")
    else:
        Psi_own = tree["Psi"].values
    L = np.zeros((*a.shape, 2, 2))
    L[..., 0, 0] = L[..., 1, 1] = 1.0
    L[..., 1, 0] = G
    turned = np.swapaxes(L, -1, -2)
    Sigma, Psi = L @ (s[..., None] * turned), L @ Psi_own @ turned
    beta = np.stack([a, c + G * a], axis=-1)

    def log_iw(S, nu, scale):
        flat = np.moveaxis(S.reshape(-1, 2, 2), 0, -1)
        return stats.invwishart(nu, np.eye(2) / scale).logpdf(flat).reshape(a.shape)

    target = stats.norm.logpdf(beta, 0, SD).sum(axis=-1) + log_iw(Sigma, NU, V) + log_iw(Psi, NU_PSI, V_PSI)
    own = stats.norm.logpdf(a, 0, SD) + stats.norm.logpdf(c, 0, SD) + stats.norm.logpdf(G, 0, SD)
    own = own + stats.invgamma(NU / 2, scale=0.5 / V).logpdf(s).sum(axis=-1) + log_iw(Psi_own, NU_PSI, V_PSI)
    return beta, Sigma, Psi, target + np.log(s[..., 0]) - own


@cache
def of_joint_normal():
    imp = bi.JointNormal(two_variables(), "x + y ~ 1 + (1 | g)", IW).impute(
        4, chains=4, tune=200, draws=4000, **RUN
    )
    tree = imp.tree["posterior"]
    return quantities(
        tree["beta"].values[:, :, 0], tree["Sigma"].values, tree["Psi"].values, imputed_means(imp)
    )


def of_factors(effects="joint", draws=2000):
    """Quantities, and weights that turn the priors of the factors into those of the joint model."""
    model = bi.JointGLMM(two_variables(), "y ~ x + (1 | g)", priors=IW, effects=effects)
    imp = model.impute(4, chains=4, tune=200, draws=draws, **RUN)
    beta, Sigma, Psi, log_weight = as_joint(imp, effects == "separate")
    return quantities(beta, Sigma, Psi, imputed_means(imp)), log_weight


def p_weighted(values, log_weight, expected, batches=25):
    """Self-normalised weighted means by batch, whose spread gives the standard error (delta method)."""
    w = softmax(log_weight.ravel()).reshape(log_weight.shape)
    assert 1 / (w**2).sum() > 0.1 * w.size  # the priors are close enough
    mean = (w[..., None] * values).sum(axis=(0, 1))
    influence = w[..., None] * (values - mean) * w.size
    _, se = mc.batch_means(influence, batches)
    mean_b, se_b = mc.batch_means(expected, batches)
    return mc.bonferroni(2 * stats.t(2 * batches).sf(np.abs(mean - mean_b) / np.hypot(se, se_b)))


def test_all_normal_factors_are_the_joint_normal_model():
    values, log_weight = of_factors()
    assert p_weighted(values, log_weight, of_joint_normal()) > LEVEL
    assert p_weighted(values, 0 * log_weight + 1e-9, of_joint_normal()) < 0.05  # the weights matter


def test_effects_that_are_independent_across_factors_are_another_model():
    values, log_weight = of_factors("separate", 1000)
    assert p_weighted(values, 0 * log_weight, of_joint_normal()) < REJECTED


# -- one factor alone ----------------------------------------------------------------------------------------------


def one_response(binary: bool) -> bi.IncompleteData:
    rng = np.random.default_rng(4)
    g = np.repeat(np.arange(15), 8)
    a = rng.normal(size=120)
    eta = 0.5 + a + (1.2 * rng.normal(size=15))[g]
    y = (
        (rng.random(120) < 1 / (1 + np.exp(-eta))).astype(float)
        if binary
        else 3.0 * eta + rng.normal(size=120)
    )
    y[rng.random(120) < 0.25] = np.nan
    return bi.IncompleteData(
        pd.DataFrame({"g": g, "a": a, "y": y}), "g", {"y": "bernoulli"} if binary else None
    )


def test_one_normal_factor_is_the_joint_model_of_one_response():
    data, formula = one_response(False), "y ~ a + (1 | g)"
    run = dict(chains=4, tune=200, draws=2000, **RUN)
    own, other = (
        made.impute(4, **run).tree["posterior"]
        for made in (bi.JointGLMM(data, formula), bi.JointNormal(data, formula))
    )
    pairs = [
        np.concatenate([beta, np.log(sigma2)[..., None], np.log(Psi)[..., None]], axis=-1)
        for beta, sigma2, Psi in (
            (own["beta_y"].values, own["sigma2_y"].values, own["Psi"].values[..., 0, 0]),
            (other["beta"].values[..., 0], other["Sigma"].values[..., 0, 0], other["Psi"].values[..., 0, 0]),
        )
    ]
    assert p_of_means(*pairs) > LEVEL
    assert p_of_means(pairs[0], pairs[1] + 0.3 * pairs[1].std(axis=(0, 1))) < REJECTED


def test_one_binary_factor_is_what_chained_equations_draw_from():
    """With one incomplete variable FCS has a single conditional model, whose cycles form a chain."""
    data, formula = one_response(True), "y ~ a + (1 | g)"
    own = bi.JointGLMM(data, formula).impute(4, chains=4, tune=150, draws=1200, **RUN).tree["posterior"]
    chained = bi.FCS(data, "bayes", formula).impute(8, cycles=700, tune=150, **RUN).tree["posterior"]
    log = lambda Psi: np.log(Psi.reshape(*Psi.shape[:2], -1)[..., :1])  # noqa: E731
    pair = [
        np.concatenate(
            [tree["beta_y"].values.reshape(*tree["beta_y"].shape[:2], -1), log(tree[name].values)], axis=-1
        )
        for tree, name in ((own, "Psi"), (chained, "Psi_y"))
    ]
    assert p_of_means(*pair) > LEVEL


@pytest.mark.parametrize("family", ["normal", "gamma"])
def test_without_an_intercept_nothing_stands_for_it(family):
    """The variance of cluster effects includes the mean, as in the conditional model of the same formula."""
    frame = one_response(False).frame.copy()
    frame["y"] = frame["y"] + 8.0 if family == "normal" else np.exp(1.0 + 0.2 * frame["y"])
    data, formula = bi.IncompleteData(frame, "g", {"y": family}), "y ~ 0 + a + (1 | g)"
    priors = pr.Priors(pr.InverseWishart(5.0, 0.3), pr.InverseWishart(6.0, 0.25), pr.Normal(0.0, 3.0))
    own = bi.JointGLMM(data, formula, priors=priors).impute(4, chains=4, tune=150, draws=800, **RUN)
    chained = bi.FCS(data, bi.methods.Bayes(priors), formula).impute(8, cycles=500, tune=100, **RUN)
    pair = [
        np.stack(
            [
                imp.tree["posterior"]["beta_y"].values[..., 0],
                np.log(imp.tree["posterior"][name].values[..., 0, 0]),
            ],
            -1,
        )
        for imp, name in ((own, "Psi"), (chained, "Psi_y"))
    ]
    assert p_of_means(*pair) > LEVEL


# -- origin, unit, order, labels -----------------------------------------------------------------------------------

FAMILIES = {"w": "bernoulli", "s": "gamma"}


def mixed() -> pd.DataFrame:
    rng = np.random.default_rng(6)
    g = np.repeat(np.arange(9), 7)
    frame = pd.DataFrame({"g": g, "x": rng.normal(size=63) + rng.normal(size=9)[g], "a": rng.normal(size=63)})
    frame["w"] = (rng.random(63) < 0.5).astype(float)
    frame["s"] = rng.gamma(2, 1, 63)
    frame["y"] = frame.x + frame.w + frame.x * frame.w + rng.normal(size=63)
    for name in ("x", "w", "s", "y"):
        frame.loc[(rng.random(63) < 0.15) | ((g == 2) & (name == "x")), name] = np.nan
    return frame


def drawn(frame, analysis, **options):
    model = bi.JointGLMM(bi.IncompleteData(frame, "g", FAMILIES), analysis, **options)
    return model.impute(2, chains=2, tune=10, draws=12, **RUN)


def parameters(imp):
    tree = imp.tree["posterior"]
    return {str(name): tree[name].values for name in tree.data_vars}


def same(a, b, rtol=1e-6):
    np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-8)


@pytest.mark.parametrize(
    "analysis", ["y ~ x + w + a + log(s) + (x | g)", "y ~ within(x) + cluster_mean(x) + w + (within(x) | g)"]
)
def test_origin_of_a_predictor_moves_intercepts_only(analysis):
    """x and the complete a, each plus a constant: every slope stays; the intercept absorbs it; priors are flat."""
    here = drawn(mixed(), analysis)
    moved = mixed()
    moved["x"] += 40.0
    moved["a"] -= 7.0
    there = drawn(moved, analysis)
    one, two = parameters(here), parameters(there)
    names = [str(v) for v in here.tree["posterior"]["fixed_y"].values]
    same(one["beta_y"][..., 1:], two["beta_y"][..., 1:])
    lift = sum(
        np.where(name == "a", -7.0, 40.0 * (name in ("x", "cluster_mean(x)"))) * one["beta_y"][..., k]
        for k, name in enumerate(names)
    )
    same(one["beta_y"][..., 0] - lift, two["beta_y"][..., 0])
    same(one["sigma2_y"], two["sigma2_y"])
    same(one["beta_w"][..., 1:], two["beta_w"][..., 1:])
    for k in range(2):
        for name, constant in (("x", 40.0), ("y", 0.0), ("w", 0.0), ("s", 0.0)):
            same(here.frame(k)[name] + constant, there.frame(k)[name])


def test_units():
    analysis = "y ~ x * w + (x | g)"
    here, scaled = drawn(mixed(), analysis), mixed()
    scaled["x"] *= 1e3
    scaled["y"] *= 1e-2
    scaled["s"] *= 50.0
    there = drawn(scaled, analysis)
    one, two = parameters(here), parameters(there)
    names = [str(v) for v in here.tree["posterior"]["fixed_y"].values]
    unit = np.array([1e-2 / (1e3 if "x" in name else 1.0) for name in names])
    same(one["beta_y"] * unit, two["beta_y"])
    same(one["sigma2_x"] * 1e6, two["sigma2_x"])
    same(one["shape_s"] * (50.0 if "inverse" in FAMILIES["s"] else 1.0), two["shape_s"])
    effects = {"w:Intercept": 1.0, "x:Intercept": 1e3, "y:Intercept": 1e-2, "y:x": 1e-5, "s:Intercept": 1.0}
    e = np.array([effects[str(name)] for name in here.tree["posterior"]["effect"].values])
    same(one["Psi"] * np.outer(e, e), two["Psi"])
    for name, factor in (("x", 1e3), ("y", 1e-2), ("s", 50.0), ("w", 1.0)):
        same(here.frame(1)[name] * factor, there.frame(1)[name])


def test_rows_and_labels():
    analysis = "y ~ x * w + cluster_mean(x) + (1 | g)"
    frame = mixed()
    here = drawn(frame, analysis)
    order = np.random.default_rng(1).permutation(len(frame))
    shuffled = frame.iloc[order].assign(g=lambda f: f.g.map(lambda i: f"study {(i * 5) % 9}"))
    there = drawn(shuffled, analysis)
    one, two = parameters(here), parameters(there)
    for name in one:
        same(one[name], two[name])
    same(
        here.frame(1)[["x", "w", "s", "y"]].to_numpy()[order], there.frame(1)[["x", "w", "s", "y"]].to_numpy()
    )


def test_a_prior_in_other_units_would_be_noticed():
    """An explicit prior is in the units of the data: it does not follow them."""
    tight = replace(pr.default(), beta=pr.Normal(0.0, 0.1))
    here, scaled = drawn(mixed(), "y ~ x * w + (1 | g)", priors=tight), mixed()
    scaled["y"] *= 1e2
    there = drawn(scaled, "y ~ x * w + (1 | g)", priors=tight)
    assert np.abs(parameters(here)["beta_y"] * 1e2 / parameters(there)["beta_y"] - 1).max() > 0.1
