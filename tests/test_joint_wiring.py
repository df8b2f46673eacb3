"""Which draw of which chain becomes which imputation; warm-up; cycles of the one-line call."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import bayesimp as bi
from bayesimp import priors as pr


@pytest.fixture(scope="module")
def model():
    """Imputed values depend almost only on beta: they are so far out that residuals are negligible."""
    rng = np.random.default_rng(0)
    g, x = np.repeat(np.arange(4), 10), rng.normal(size=40)
    y = x + rng.normal(size=40)
    far = [3, 14, 25, 36]
    x[far], y[far] = 1e7, np.nan
    frame = pd.DataFrame({"g": g, "x": x, "y": y})
    return bi.JointNormal(bi.IncompleteData(frame, "g"), "y ~ x + (1 | g)", PRIORS)


def several_factors(data, priors):
    frame = data.frame.assign(h=[f"h{i % 5}" for i in range(len(data.frame))])
    return bi.JointNormal(bi.IncompleteData(frame, ["g", "h"]), "y ~ x + (1 | g) + (1 | h)", priors)


PRIORS = pr.Priors(pr.Fixed([[1.0]]), pr.Fixed([[0.01]]))
ENGINES = {
    "JointNormal": lambda data, priors: bi.JointNormal(data, "y ~ x + (1 | g)", priors),
    "several factors": several_factors,
    "JointLatent": lambda data, priors: bi.JointLatent(data, "y ~ x + (1 | g)", priors),
    "JointGLMM": lambda data, priors: bi.JointGLMM(data, "y ~ x + (1 | g)", priors=priors),
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("draws, thin", [(30, 1), (31, 1), (30, 3)])
def test_imputation_k_is_of_the_last_draw_of_its_span(model, draws, thin, engine):
    """Number k: chain k % chains, at the end of the span k // chains of equal spans."""
    made = ENGINES[engine](model.data, PRIORS)
    imp = made.impute(m=6, chains=2, tune=5, draws=draws, thin=thin, seed=3, progress=False)
    posterior = imp.tree["posterior"]
    beta = posterior["beta_y"].to_numpy() if "beta_y" in posterior else posterior["beta"].to_numpy()[..., 0]
    spacing = draws // 3
    for k in range(6):
        at = (k // 2 + 1) * spacing - 1
        expected = beta[k % 2, at] @ [1.0, 1e7]
        assert np.abs(imp.values("y")[k] - expected).max() < 10
        others = np.delete(beta[k % 2], at, axis=0) @ [1.0, 1e7]
        assert np.abs(others - expected).min() > 20


def first_and_late(tune):
    """Spread over 400 chains of log Sigma at the first kept draw, over that at the fortieth."""
    rng = np.random.default_rng(1)
    g = np.repeat(np.arange(25), 3)
    y = rng.normal(0, 0.5, 25)[g] + rng.normal(size=75)
    y[::7] = np.nan
    model = bi.JointNormal(bi.IncompleteData(pd.DataFrame({"g": g, "y": y}), "g"), "y ~ 1 + (1 | g)")
    imp = model.impute(m=1, chains=400, tune=tune, draws=40, seed=2)
    log = np.log(imp.tree["posterior"]["Sigma"].to_numpy()[:, :, 0, 0])
    return log[:, 0].std() / log[:, -1].std()


def test_warm_up_is_made_and_left_out():
    """Chains start with twice the spread of the posterior, which the first kept draw no longer has."""
    assert first_and_late(0) > 1.8
    limit = 3.9 / np.sqrt(2 * 400) * np.sqrt(2)  # of a ratio of two, level 1e-4
    assert abs(np.log(first_and_late(None))) < limit
    assert abs(np.log(first_and_late(20))) < limit


def test_impute_runs_as_many_cycles_as_it_is_told(model):
    imp = bi.impute(model.data.frame, "g", m=2, cycles=7, seed=1, show=False)
    tree = imp.tree
    assert imp.attrs["cycles"] == 7
    assert tree["posterior"].sizes["draw"] + tree["warmup_posterior"].sizes["draw"] == 7
    same = bi.FCS(model.data).impute(2, cycles=7, seed=1)
    np.testing.assert_array_equal(imp.values("y"), same.values("y"))


@pytest.mark.parametrize("engine", ["several factors", "JointLatent", "JointGLMM"])
def test_statistics_by_cluster_are_those_of_the_imputed_cells(engine):
    """Means and standard deviations along the chains, at the draws of the imputations, in the units of the data."""
    rng = np.random.default_rng(4)
    g, x = np.array(list("dacb"))[np.arange(48) % 4], rng.normal(size=48)
    y = 500 + 40 * x + 25 * (np.arange(48) % 4) + rng.normal(0, 30, 48)
    hole = (rng.random(48) < 0.4) & (g != "b")
    hole[np.flatnonzero(g == "b")[3]] = True  # one cell has no standard deviation
    frame = pd.DataFrame({"g": g, "x": x, "y": np.where(hole, np.nan, y)})
    model = ENGINES[engine](bi.IncompleteData(frame, "g"), None)
    imp = model.impute(m=6, chains=2, tune=5, draws=9, seed=3, progress=False)
    stats, rows = imp.tree["imputed_stats"], imp.rows("y")
    for k in range(imp.m):
        at = (k // 2 + 1) * 3 - 1
        for i, label in enumerate(np.unique(g)):
            own = imp.values("y")[k][g[rows] == label]
            assert (len(own) > 1) == (label != "b")
            mean, sd = (stats[name].sel(response="y").to_numpy()[k % 2, at, i] for name in ("mean", "sd"))
            np.testing.assert_allclose(
                [mean, sd], [own.mean(), own.std(ddof=1) if len(own) > 1 else np.nan], rtol=1e-9
            )


@pytest.mark.parametrize("family", ["normal", "gamma"])
def test_values_of_a_last_response_have_its_own_spread(family):
    """About their predictor, in units far from one; gamma responses have not the shape of the covariate before them."""
    rng = np.random.default_rng(8)
    n = 160
    x = rng.gamma(1.0, 1.0, n)
    mean = 30 * x if family == "normal" else np.exp(1 + 0.3 * x)
    y = mean + 2.0 * rng.normal(size=n) if family == "normal" else mean * rng.gamma(25.0, 1 / 25.0, n)
    hole = rng.random(n) < 0.3
    frame = pd.DataFrame(
        {"g": np.arange(n) % 8, "x": np.where(rng.random(n) < 0.1, np.nan, x), "y": np.where(hole, np.nan, y)}
    )
    frame.loc[hole, "x"] = x[hole]
    data = bi.IncompleteData(frame, "g", families={"x": "gamma", "y": family})
    imp = bi.JointGLMM(data, "y ~ x + (1 | g)").impute(
        m=20, chains=2, tune=100, draws=200, seed=2, progress=False
    )
    rows = imp.rows("y")
    off = imp.values("y") - mean[rows] if family == "normal" else 10 * np.log(imp.values("y") / mean[rows])
    assert len(rows) > 30 and 1.6 < off.std() < 2.5  # a fifth of a standard deviation is ten standard errors
