"""NUTS on the joint GLMM: missing levels given a draw, the same posterior as Gibbs, continued runs.

Gibbs against NUTS: means and quantiles of parameters and of imputed means, in units of sqrt(mcse_gibbs^2 + mcse_nuts^2);
the largest |z| of K stays below the two-sided quantile at level 0.001 / K (Bonferroni) of Student's t with 98 degrees of
freedom (50 batches). Seeds are fixed: the outcome does not vary.
"""

from functools import cache

import numpy as np
import pandas as pd
import pytest
from scipy.special import logsumexp
from scipy.stats import chi2
from scipy.stats import t as student

import bayesimp as bi
from bayesimp import priors as pr
from bayesimp.errors import SpecificationError
from bayesimp.joint.glmm.definition import pymc_model
from bayesimp.joint.glmm.nuts import draw_places
from tests.joint.test_against_r import mcse
from tests.models.test_joint_glmm import CASES, model_of

LEVEL, BATCHES = 0.001, 50
PROBS = (0.1, 0.5, 0.9)


@pytest.mark.parametrize("name", ["levels", "between"])
def test_missing_levels_are_drawn_with_their_probability(name):
    """One cluster at a time against the probabilities of all assignments; level 0.001 / number of clusters."""
    places = pymc_model(model_of(name)[0]).places
    rng = np.random.default_rng(1)
    weights = rng.normal(size=len(places.row) - places.single)
    draws = np.array([np.sort(draw_places(rng, weights, places)) for _ in range(4000)])
    tested = 0
    rows = [row[row >= 0] for row in places.sums]
    of_cluster = places.cluster[places.sum_group]
    for i in np.unique(of_cluster):
        groups = {g: [r for r, own in zip(rows, places.sum_group, strict=True) if own == g]
                  for g in np.unique(places.sum_group[of_cluster == i])}  # fmt: skip
        by_group = {g: sum(logsumexp(weights[r - places.single]) for r in own) for g, own in groups.items()}
        total = logsumexp(list(by_group.values()))
        # probability of each place, given nothing
        for g, own in groups.items():
            r = own[0]
            w = weights[r - places.single]
            p = np.exp(by_group[g] - total + w - logsumexp(w))
            seen = np.array([(draws == place).any(axis=1).sum() for place in r])
            p, seen = np.append(p, 1 - p.sum()), np.append(seen, len(draws) - seen.sum())
            there = p > 1e-9
            assert seen[~there].sum() == 0
            statistic = ((seen - len(draws) * p)[there] ** 2 / (len(draws) * p[there])).sum()
            assert statistic < chi2.isf(LEVEL / 20, there.sum() - 1)
            tested += 1
    assert 1 < tested <= 20


def shared():
    """Effects of x and y that are nearly the same; x is never observed in two clusters."""
    rng = np.random.default_rng(12)
    g = np.repeat(np.arange(10), 6)
    n, u = len(g), 2.0 * rng.normal(size=10)
    x = u[g] + rng.normal(size=n)
    t = (rng.random(n) < 1 / (1 + np.exp(-0.5 * x))).astype(float)
    y = 0.5 * x + t + 0.5 * x * t + u[g] + rng.normal(size=n)
    x[(rng.random(n) < 0.15) | (g < 2)] = np.nan
    t[rng.random(n) < 0.2] = np.nan
    frame = pd.DataFrame({"g": g, "x": x, "t": t, "y": y})
    return frame, {"t": "bernoulli"}, "y ~ x * t + (1 | g)", {}, ("x", "t", "y"), ()


def summary(many):
    """Summaries of draws: their mean, and quantiles of quantities with many values."""
    return lambda x: np.append(x.mean(), np.quantile(x, PROBS) if many else [])


def largest(a, b):
    """The largest |z| and its limit."""
    assert a.keys() == b.keys() and len(a) > 15
    z = []
    for k in a:
        of = summary(min(len(np.unique(a[k])), len(np.unique(b[k]))) > 1000)
        z.append((of(a[k]) - of(b[k])) / np.hypot(mcse(a[k], of, BATCHES), mcse(b[k], of, BATCHES)))
    z = np.concatenate(z)
    return np.abs(z).max(), student.isf(LEVEL / z.size / 2, 2 * BATCHES - 2)


@cache
def run(name, sampler, effects="joint"):
    frame, families, formula, factors, order, laws = (CASES | {"shared": shared})[name]()
    data = bi.IncompleteData(frame, cluster="g", families=families)
    links = {law.response: law.link for law in laws if law.link != "logit"}
    priors = pr.Priors(pr.HuangWand(nu=4.0), pr.HuangWand(nu=4.0), pr.Normal(0.0, 1.5))
    model = bi.JointGLMM(data, formula, factors, order, priors, links=links, effects=effects)
    kept = 20_000 if sampler == "gibbs" else 4_000
    return model.impute(m=4, seed=7, chains=2, tune=1000, draws=kept, sampler=sampler, workers=1)


def quantities(imp):
    """Name -> (chains, draws): coefficients, log variances, correlations, imputed means."""
    post, stats = imp.tree["posterior"], imp.tree["imputed_stats"]
    out = {}
    for name, variable in post.data_vars.items():
        x = variable.values
        if str(name).startswith("Psi"):
            sd = np.sqrt(np.einsum("...ii->...i", x))
            d = x.shape[-1]
            out |= {f"{name}[{i}]": np.log(sd[..., i]) for i in range(d)}
            out |= {
                f"{name}[{i},{j}]": x[..., i, j] / (sd[..., i] * sd[..., j])
                for i in range(d)
                for j in range(i)
            }
        else:
            x = x if str(name).startswith("beta") else np.log(np.where(x > 0, x, 1.0))
            out |= {f"{name}{i}": x[:, :, *i] for i in np.ndindex(x.shape[2:])}
    x = stats["mean"].values
    out |= {f"imputed mean{i}": x[:, :, *i] for i in np.ndindex(x.shape[2:])}
    return {k: x for k, x in out.items() if np.isfinite(x).all() and np.ptp(x) > 0}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["shared", "between", "levels", "proportion", "robust", "inflated"])
def test_same_posterior_as_gibbs(name):
    z, limit = largest(quantities(run(name, "gibbs")), quantities(run(name, "nuts")))
    assert z < limit


@pytest.mark.slow
def test_independent_effects_have_another_posterior():
    """Without the correlations of Psi, the values of a cluster that lacks x do not follow the effects of y."""
    joint, separate = quantities(run("shared", "nuts")), quantities(run("shared", "gibbs", "separate"))
    joint, separate = ({k: x for k, x in a.items() if not k.startswith("Psi")} for a in (joint, separate))
    z, limit = largest(joint, separate)
    assert z > limit


@pytest.mark.slow
def test_a_run_is_stored_and_goes_on(tmp_path):
    model = model_of("product_and_slope")[0]
    imp = model.impute(m=2, seed=3, chains=2, tune=200, draws=20, sampler="nuts", keep_effects=True)
    assert imp.tree.attrs["sampler"] == "nuts" and imp.tree["sample_stats"].sizes["draw"] == 20
    assert imp.tree["posterior"]["B"].sizes["draw"] == 20
    assert not any(table[["x", "t", "y"]].isna().any().any() for table in imp)
    imp.save(tmp_path / "run.nc")
    again = bi.load(tmp_path / "run.nc")
    longer, from_file = imp.extend(2), again.extend(2)
    for group in ("posterior", "imputed", "sample_stats"):
        assert longer.tree[group].to_dataset().equals(from_file.tree[group].to_dataset())
    assert longer.tree["posterior"].sizes["draw"] == 40
    assert "warmed up again" in str(longer.events)
    assert longer.frame(0).equals(imp.frame(0))


def test_samplers_by_name():
    model = model_of("product_and_slope")[0]
    with pytest.raises(SpecificationError, match="sampler must be"):
        model.impute(sampler="hmc")
    lkj = model.with_priors(pr.Priors(Psi=pr.LKJ(2.0, pr.HalfT())))
    with pytest.raises(SpecificationError, match="no update for LKJ"):
        lkj.impute(sampler="gibbs")
    assert lkj._sampler("auto") == "nuts" and model._sampler("auto") == "gibbs"
