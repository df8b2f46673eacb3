"""Chained equations against the joint model, where theory says that they agree and where it says that they differ.

With clusters of equal size, conditional models with cluster means are what the joint model implies (Kunkel & Kaizar
2017, sec. 3.2; Carpenter & Kenward 2013). Priors differ, so the two posteriors agree up to what the priors say: little
with a hundred clusters. Chains are independent, so Monte Carlo standard errors come from the spread between them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import bayesimp as bi
from bayesimp.fcs.blocks import normal as conditional
from bayesimp.kernels.chained import moments as ch
from bayesimp.kernels.chained.gibbs import common_step

SIGMA = np.array([[1.0, 0.6], [0.6, 1.5]])
PSI = np.array([[0.8, -0.5], [-0.5, 0.7]])  # other slopes between clusters than within


def studies(m, n, seed, covariate=False):
    """Two variables in m clusters of n; each is missing in a quarter of the clusters and in 15 % of the other rows."""
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(m), n)
    x = rng.normal(size=m * n) + rng.normal(size=m)[codes]
    Y = rng.multivariate_normal([0, 0], PSI, m)[codes] + rng.multivariate_normal([0, 0], SIGMA, m * n)
    Y += np.outer(x, [0.8, -0.5]) * covariate + [10, 50]
    for k in range(2):
        Y[(codes % 4 == k) | (rng.random(m * n) < 0.15), k] = np.nan
    frame = pd.DataFrame({"study": codes, "y1": Y[:, 0], "y2": Y[:, 1]})
    return bi.IncompleteData(frame.assign(x=x) if covariate else frame, "study")


def by_cluster(imp):
    """Means over draws of the mean and sd of the imputed values, by chain: (chains, quantities)."""
    stats_ = imp.tree["imputed_stats"].to_dataset()
    parts = [stats_[name].transpose("chain", "draw", "response", "cluster").values for name in ("mean", "sd")]
    flat = np.stack(parts, -1)
    flat = flat.reshape(*flat.shape[:2], -1)
    return flat[:, :, np.isfinite(flat).all((0, 1))]


def distance(a, b):
    """Differences of posterior means in Monte Carlo standard errors, and in posterior sds."""
    mean, se = [], []
    for draws in (a, b):
        chains = draws.mean(1)
        mean.append(chains.mean(0))
        se.append(chains.std(0, ddof=1) / np.sqrt(len(chains)))
    sd = b.reshape(-1, b.shape[-1]).std(0)
    difference = mean[0] - mean[1]
    return difference / np.hypot(*se), difference / sd


@pytest.fixture(scope="module")
def equal_sizes():
    data = studies(100, 5, seed=1)
    joint = bi.JointNormal(data, "y1 + y2 ~ 1 + (1 | study)").impute(m=20, chains=20, draws=500, seed=1)
    return data, by_cluster(joint)


@pytest.fixture(scope="module")
def few_clusters():
    data = studies(12, 8, seed=2, covariate=True)
    model = bi.JointNormal(data, "y1 + y2 ~ x + (1 | study)")
    return data, model.impute(m=20, chains=20, draws=500, seed=1)


def test_a_block_of_all_variables_is_the_joint_model(few_clusters):
    data, joint = few_clusters
    model = bi.FCS(data, predictors={"both": "both ~ x + (1 | study)"}, blocks={"both": ["y1", "y2"]})
    fcs = model.impute(m=20, cycles=600, tune=100, seed=2)
    z, _ = distance(by_cluster(fcs), by_cluster(joint))
    assert np.abs(z).max() < stats.t.isf(5e-5 / len(z), 20)
    for name in ("Sigma", "Psi"):
        a = fcs.tree["posterior"][f"{name}_both"].values
        b = joint.tree["posterior"][name].values
        z, _ = distance(a.reshape(*a.shape[:2], -1), b.reshape(*b.shape[:2], -1))
        assert np.abs(z).max() < stats.t.isf(5e-5 / len(z), 20)


class NoCovariances(conditional.GibbsBlock):
    """A joint block that never draws its Sigma and Psi."""

    def step(self, chain, theta):
        theta.own["started"][:] = 0.0
        return super().step(chain, theta)


def test_a_joint_block_without_draws_of_its_covariances_is_told_apart(few_clusters, monkeypatch):
    data, joint = few_clusters
    for variant, off in [(conditional.GibbsBlock, False), (NoCovariances, True)]:
        method = bi.methods.Bayes(inner=1)
        model = bi.FCS(
            data, methods=method, predictors={"both": "~ x + (1 | study)"}, blocks={"both": ["y1", "y2"]}
        )
        made = [variant(model.table, 0)]
        monkeypatch.setattr(model, "conditionals", lambda seed, made=made: made)
        fcs = model.impute(m=20, cycles=600, tune=100, seed=2)
        z, _ = distance(by_cluster(fcs), by_cluster(joint))
        assert (np.abs(z).max() > stats.t.isf(5e-5 / len(z), 20)) == off


@pytest.mark.parametrize("inner", [1, 3])
def test_compatible_conditionals_with_equal_sizes_are_the_joint_model(equal_sizes, inner):
    data, joint = equal_sizes
    fcs = bi.FCS(data, methods=bi.methods.Bayes(compatible=True, inner=inner)).impute(
        m=20, cycles=600, tune=100, seed=3
    )
    _, in_sds = distance(by_cluster(fcs), joint)
    # 100 clusters: priors move means of clusters by a few hundredths of their posterior sd; Monte Carlo sd about .014;
    # found .02 (limit .04), and .30 without cluster means
    assert np.sqrt((in_sds**2).mean()) < 0.04
    assert np.abs(in_sds).max() < 0.15


def test_without_cluster_means_it_is_another_model(equal_sizes):
    data, joint = equal_sizes
    fcs = bi.FCS(data, methods=bi.methods.Bayes(compatible=False)).impute(m=20, cycles=250, tune=50, seed=3)
    _, in_sds = distance(by_cluster(fcs), joint)
    assert np.sqrt((in_sds**2).mean()) > 0.1


def test_covariates_within_clusters_need_their_means_too():
    """The joint model's conditional has Z'(Y - X beta): with the mean of y2 alone another model is fitted."""
    data = studies(100, 5, seed=4, covariate=True)
    joint = by_cluster(
        bi.JointNormal(data, "y1 + y2 ~ x + (1 | study)").impute(m=20, chains=20, draws=400, seed=1)
    )
    right = bi.FCS(data, methods=bi.methods.Bayes(compatible=True))
    lacking = bi.FCS(data, predictors={
        "y1": "y1 ~ y2 + cluster_mean(y2) + x + (1 | study)", "y2": "y2 ~ y1 + cluster_mean(y1) + x + (1 | study)"
    })  # fmt: skip
    size = [
        np.sqrt(
            (distance(by_cluster(model.impute(m=20, cycles=300, tune=100, seed=5)), joint)[1] ** 2).mean()
        )
        for model in (right, lacking)
    ]
    # the first has coefficients of its own where the joint model has functions of others: .08, and .04 with 300
    # clusters (the other .27 and .17)
    assert size[0] < 0.12
    assert size[1] > 2 * size[0]


class Parts(conditional.GibbsBlock):
    """The block in parts, so that a variant can spoil one."""

    def __init__(self, table, number):
        super().__init__(table, number)
        self.visit = None  # not in the kernel that runs whole cycles

    def step(self, chain, theta):
        c, cells = self.chained, self.table.cells
        f = self.factors(theta, ch.cluster_factors(cells, c.terms, chain.V))
        m = ch.block_moments(cells, c.terms, c.arrays, f, chain.V)
        updates = self.updates, self.update_Sigma, self.update_Psi, self.Q0, self.t0
        state = theta.Sigma[0], theta.Psi, theta.beta, theta.B, theta.own["held"]
        code = common_step(chain.rng, m, *updates, *state)
        return -code or self.fill(chain, self.spoilt(chain, theta, m), f)

    def factors(self, theta, f):
        return f

    def spoilt(self, chain, theta, m):
        return theta


class Stale(Parts):
    """Cluster means of the first cycle."""

    def factors(self, theta, f):
        return theta.own.setdefault("f", f)


class PriorEffects(Parts):
    """Effects of observed clusters from their prior, as mice's 2l.bin draws them."""

    def spoilt(self, chain, theta, m):
        B = np.linalg.cholesky(theta.Psi) @ chain.rng.normal(size=theta.B.shape)
        return replace(theta, B=B)


class NoDraw(Parts):
    """Parameters at the mean of their draws so far, instead of drawn."""

    def spoilt(self, chain, theta, m):
        seen = theta.own.setdefault("seen", [0, 0.0, 0.0])
        seen[0] += 1
        seen[1] = seen[1] + theta.beta
        seen[2] = seen[2] + theta.B
        return replace(theta, beta=seen[1] / seen[0], B=seen[2] / seen[0])


@pytest.mark.parametrize("variant", [Stale, PriorEffects, NoDraw, Parts])
def test_wrong_variants_are_told_apart(equal_sizes, variant, monkeypatch):
    data, joint = equal_sizes
    model = bi.FCS(data, methods=bi.methods.Bayes(compatible=True))
    made = [variant(model.table, k) for k in range(len(model.spec.blocks))]
    monkeypatch.setattr(model, "conditionals", lambda seed: made)
    draws = by_cluster(model.impute(m=20, cycles=300, tune=50, seed=3))
    _, in_sds = distance(draws, joint)
    # the right block .025 and .011; Stale .114, PriorEffects .54, NoDraw (of the spread) .28
    spread = draws.reshape(-1, draws.shape[-1]).std(0) / joint.reshape(-1, joint.shape[-1]).std(0)
    off = np.sqrt((in_sds**2).mean()) > 0.05 or np.abs(np.log(spread)).mean() > 0.05
    assert off == (variant is not Parts)
