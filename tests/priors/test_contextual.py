"""`Contextual`: the prior of added cluster means, from the table to the posterior; against longhand algebra."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import bayesimp as bi
from bayesimp import methods as me
from bayesimp import priors as pr
from bayesimp.errors import SpecificationError
from bayesimp.fcs.blocks.normal import GibbsBlock
from bayesimp.priors.records import priors_from_dict, priors_to_dict
from tests.unfolding import unfolded

SIGMA2, PSI = 1.7, 0.6
LEVEL = 1e-4


def table(m=6, n=9, shift=0.0, unit=1.0, seed=3) -> pd.DataFrame:
    """y depends on x within clusters, and differently between them; y is missing in a quarter of the rows."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(m), n)
    x = rng.normal(size=m)[g] + rng.normal(size=m * n)
    mean = np.bincount(g, x)[g] / n
    y = 2.0 + 1.0 * (x - mean) - 2.0 * mean + rng.normal(0, 0.8, m)[g] + rng.normal(0, 1.3, m * n)
    y[rng.random(m * n) < 0.25] = np.nan
    return pd.DataFrame({"g": g, "x": shift + unit * x, "y": y})


def known(prior):
    """The Bayesian method with known variances, so that the posterior of beta is normal."""
    Sigma, Psi = pr.Fixed([[SIGMA2]]), pr.Fixed([[PSI]])
    return me.Bayes(pr.Priors(Sigma, Psi, prior))


def longhand(f, scale):
    """Mean and covariance of (1, x, mean of x) given the observed y, effects of clusters integrated out."""
    y, g = f["y"].to_numpy(), f["g"].to_numpy()
    xbar = f.groupby("g")["x"].transform("mean").to_numpy()
    means = f.groupby("g")["x"].mean(), f.groupby("g")["y"].mean()
    sd = scale * means[1].std() / means[0].std()
    X, seen = np.column_stack([np.ones(len(f)), f["x"], xbar]), ~np.isnan(y)
    V = SIGMA2 * np.eye(seen.sum()) + PSI * (g[seen][:, None] == g[seen])
    precision = X[seen].T @ np.linalg.solve(V, X[seen]) + np.diag([0.0, 0.0, sd**-2])
    cov = np.linalg.inv(precision)
    return cov @ (X[seen].T @ np.linalg.solve(V, y[seen])), cov


def posterior(f, prior, draws=1500):
    """Draws of (1, x, mean of x) from the end of many short chains: independent, as the variances are known."""
    model = bi.FCS(bi.IncompleteData(f, "g"), known(prior))
    imp = model.impute(draws, cycles=2, seed=4, progress=False)
    beta = imp.tree["posterior"]["beta_y"]
    names = [str(name) for name in beta[beta.dims[-1]].values]
    assert names == ["Intercept", "x", "cluster_mean(x)"]
    return beta.values[:, -1].reshape(draws, 3)


def distance(draws, mean, cov):
    """p of draws having this mean (chi-square), and this variance of the contextual effect."""
    n = len(draws)
    d = draws.mean(axis=0) - mean
    ratio = n * draws[:, 2].var() / cov[2, 2]
    law = stats.chi2(n - 1)
    return stats.chi2(3).sf(n * d @ np.linalg.solve(cov, d)), 2 * min(law.cdf(ratio), law.sf(ratio))


@pytest.mark.parametrize("scale", [0.3, 1.0])
def test_posterior_from_table_to_result(scale):
    """The draws have the longhand posterior, two tests at 1e-4; those of a flat prior or of another scale have not."""
    f = table()
    draws = posterior(f, pr.Contextual(scale))
    assert min(distance(draws, *longhand(f, scale))) > LEVEL
    assert min(distance(draws, *longhand(f, 1.5 * scale))) < LEVEL
    assert min(distance(posterior(f, pr.Contextual(2 * scale)), *longhand(f, scale))) < LEVEL


def test_origin_and_unit_change_nothing_but_the_unit():
    """x + 1e3, and x in other units: the same imputed values, to rounding."""
    made = []
    for options in ({}, {"shift": 1e3}, {"unit": 50.0}):
        imp = bi.FCS(bi.IncompleteData(table(**options), "g")).impute(2, seed=1, cycles=5, progress=False)
        made.append(next(iter(imp))["y"].to_numpy())
    for other in made[1:]:
        np.testing.assert_allclose(other, made[0], rtol=1e-6)


def test_rows_in_another_order_have_the_same_bounds():
    f = table(m=40, n=7)
    a, b = (bi.FCS(bi.IncompleteData(x, "g")).spec.blocks[0] for x in (f, f.sample(frac=1, random_state=1)))
    assert a.contextual == b.contextual != ()


def test_bounds_are_those_of_each_response_of_a_block():
    """Two incomplete variables in one block: rows of the precision belong to one response each."""
    f = table(m=8).assign(w=lambda f: 10 * f["y"].shift(3) + f["x"])
    data = bi.IncompleteData(f, "g")
    model = bi.FCS(data, blocks={"b": ["y", "w"]})
    ((column, (of_y, of_w)),) = model.spec.blocks[0].contextual
    means = f.groupby("g").mean()
    sd = means.std()
    assert column.name == "cluster_mean(x)"
    np.testing.assert_allclose([of_y, of_w], [sd["y"] / sd["x"], sd["w"] / sd["x"]], rtol=1e-12)
    scale = model.table.blocks[0].scale
    Q0 = GibbsBlock(model.table, 0).Q0
    for k, bound in enumerate((of_y, of_w)):
        unit = scale.s[k] / scale.a[2]  # beta = unit * beta_w
        expected = (unit / (pr.Contextual().scale * bound)) ** 2
        assert Q0[3 * k + 2, 3 * k + 2] == pytest.approx(expected, rel=1e-12)
    assert np.count_nonzero(Q0) == 2


def test_without_few_clusters_rule_means_are_in():
    """With three clusters the means are included without refusal; under a flat prior they are left out, with a note."""
    f = table(m=3, n=20)
    data = bi.IncompleteData(f, "g")
    model = bi.FCS(data)
    assert (
        model.has_contextual
        and "cluster_mean(x)" in unfolded(str(model))
        and "contextual effects normal" in unfolded(str(model))
    )
    assert all(t["y"].notna().all() for t in model.impute(2, seed=1, cycles=3, progress=False))
    flat = model.with_priors(pr.Priors(beta=pr.Flat()))
    assert not flat.has_contextual and "no cluster means" in unfolded(str(flat))
    assert model.with_priors("pan").spec.blocks[0].contextual == ()


def test_between_coefficients_are_not_shrunk():
    """With within(x), or alone, a mean has the between coefficient, which is not a contextual effect."""
    data = bi.IncompleteData(table(m=30), "g")
    for formula in (
        "y ~ within(x) + (1 | g)",
        "y ~ cluster_mean(x) + (1 | g)",
        "y ~ x + cluster_sum(x) + (1 | g)",
        "y ~ x + (1 + x | g)",
    ):
        assert bi.FCS(data, predictors=formula, compatible=True).spec.blocks[0].contextual == ()
    written = bi.FCS(data, predictors="y ~ x + cluster_mean(x) + (1 | g)")
    for model in (written, bi.FCS(data, predictors="y ~ x + (1 | g)", compatible=True), bi.FCS(data)):
        assert [column.name for column, _ in model.spec.blocks[0].contextual] == ["cluster_mean(x)"]


def test_a_response_without_differences_between_clusters_is_not_shrunk():
    """Centred within clusters, its between coefficient is 0 and the contextual effect -beta_w, under a flat prior."""
    f = table(m=30).assign(y=lambda f: f["y"] - f.groupby("g")["y"].transform("mean"))
    model = bi.FCS(bi.IncompleteData(f, "g"))
    assert model.spec.blocks[0].contextual == () and "cluster_mean(x)" in unfolded(str(model))
    assert all(t["y"].notna().all() for t in model.impute(2, seed=1, cycles=3, progress=False))


def test_joint_models_have_the_other_prior():
    data = bi.IncompleteData(table(), "g")
    for model in (bi.JointNormal(data, "y ~ x + (1 | g)"), bi.JointGLMM(data, "y ~ x + (1 | g)")):
        assert model.priors.beta == pr.Flat() and not model.has_contextual
    other = bi.JointNormal(data, "y ~ x + (1 | g)", pr.Priors(beta=pr.Contextual(others=pr.Normal(0, 3))))
    assert other.priors.beta == pr.Normal(0, 3)


def test_other_coefficients_have_their_prior():
    """others= multiplies: the intercept and x have it alone, the contextual effect both."""
    f = table()
    model = bi.FCS(bi.IncompleteData(f, "g"), known(pr.Contextual(0.5, pr.Normal(1.0, 2.0))))
    ((_, (bound,)),) = model.spec.blocks[0].contextual
    both = 1 / np.sqrt(2.0**-2 + (0.5 * bound) ** -2)
    prior = model.parameter_priors["beta_y"]
    np.testing.assert_allclose(prior.sd, [2.0, 2.0, both])
    np.testing.assert_allclose(prior.mean, [1.0, 1.0, (both / 2.0) ** 2])
    assert prior.is_proper and not model.with_priors("default").parameter_priors["beta_y"].is_proper


def test_records_and_refusals():
    for prior in (pr.Contextual(), pr.Contextual(1.5, pr.Normal(0.0, 3.0))):
        assert priors_from_dict(priors_to_dict(pr.Priors(beta=prior))).beta == prior
    assert priors_from_dict({"Psi": {"type": "HuangWand"}}).beta == pr.Contextual()
    old = priors_to_dict(replace(pr.default(), beta=pr.Flat()))
    assert priors_from_dict(old).beta == pr.Flat()  # of results saved before there was this prior
    with pytest.raises(SpecificationError, match="Contextual: scale must be positive and finite, got 0"):
        pr.Contextual(0.0)
    with pytest.raises(SpecificationError, match="others must be a prior of the other coefficients"):
        pr.Contextual(1.0, pr.Contextual())
    with pytest.raises(SpecificationError, match=r"beta\.others\.type: HuangWand cannot be used here"):
        priors_from_dict({"beta": {"type": "Contextual", "others": {"type": "HuangWand"}}})


def test_default_grid_varies_the_scale_where_there_are_contextual_effects():
    grid = bi.default_grid(contextual=True)
    assert list(grid)[-2:] == ["contextual 0.3", "contextual 1.2"]
    assert {name for name, p in grid.items() if p.beta != pr.Contextual()} == {*list(grid)[-2:]}
    assert [grid[name].beta.scale for name in list(grid)[-2:]] == [0.3, 1.2]
    model = bi.FCS(bi.IncompleteData(table(), "g"))
    names = ["default", "contextual 0.3", "contextual 1.2"]
    result = bi.sensitivity(
        model, {n: grid[n] for n in names}, analysis="y ~ x + (1 | g)", m=3, seed=1, cycles=4
    )
    assert result.priors == names
