"""New rows of `JointLatent`: exact normal laws, probabilities of levels, covariances of clusters, refusals.

With Sigma and Psi known and coefficients next to known, the missing cells of new rows are normal given all rows of the
run and all new ones: dense matrices (tests/joint/latent/test_clusters.py). Levels and covariances of clusters: draws at
the parameters of each imputation, longhand. Bonferroni, level 1e-4.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

import bayesimp as bi
from bayesimp import priors as pr
from bayesimp.errors import DataError
from bayesimp.joint.latent import new_rows
from tests.calibration.montecarlo import LEVEL, REJECTED, means, normal
from tests.joint.latent.test_clusters import (
    FORMULA,
    PSI,
    ROWS,
    SHORT,
    SIGMA,
    M,
    exact,
    g,
    mixed,
    mixed_model,
    table,
)

SD = 1e-3


def test_numbers_have_the_exact_law_in_known_and_unseen_clusters():
    frame = table()
    frame.loc[27, "w"] = np.nan  # in cluster 6, which the run has not seen
    frame.loc[27, "y"] = 1.4
    is_new = (np.arange(len(g)) % ROWS == ROWS - 1) | (g == M - 1)
    priors = pr.Priors(pr.Fixed(SIGMA), pr.Fixed(PSI), pr.Normal(0.0, SD))
    model = bi.JointLatent(bi.IncompleteData(frame[~is_new].reset_index(drop=True), "g"), FORMULA, priors)
    imp = model.impute(m=4_000, seed=1, chains=2, draws=2_000, thin=1, tune=20, progress=False)
    new = frame[is_new].reset_index(drop=True)
    made = imp.transform(new, seed=2)
    at = {i: int(np.flatnonzero(new["g"] == i)[0]) for i in range(M)}
    cells = [("v", at[0]), ("v", at[2]), ("u", at[2]), ("u", at[5]), ("w", len(new) - 1)]
    x = np.column_stack([made.values(n)[:, list(made.rows(n)).index(row)] for n, row in cells])
    mean, V = exact(frame, SD, PSI, ("w", 27))
    assert normal(x, mean[-5:], V[-5:, -5:]) > LEVEL
    forgotten = frame.copy()
    forgotten.loc[~is_new, ["y", "w"]] = np.nan
    of_new_alone = exact(forgotten, SD, PSI, ("w", 27))
    assert normal(x, of_new_alone[0][-5:], of_new_alone[1][-5:, -5:]) < REJECTED


def test_levels_in_unseen_clusters_have_the_probabilities_of_their_latent_normals():
    """b of a row whose y is observed, and k of its cluster, given that row alone, at the draw of each imputation."""
    rng = np.random.default_rng(3)
    m = 30
    a = rng.normal(size=(m, 2)) @ np.array([[1.0, 0.0], [0.7, 0.7]]).T
    codes = np.repeat(np.arange(m), 6)
    e = rng.normal(size=(len(codes), 2)) @ np.array([[1.0, 0.0], [0.8, 0.6]]).T
    y = 0.5 + a[codes, 0] + e[:, 0]
    frame = pd.DataFrame({"g": codes, "y": y, "b": (0.3 + e[:, 1] > 0) * 1.0, "k": (a[codes, 1] > 0) * 1.0})
    frame.loc[::7, "b"] = np.nan
    data = bi.IncompleteData(frame, "g", {"b": "bernoulli", "k": "bernoulli"})
    imp = bi.JointLatent(data, "y + b + k ~ 1 + (1 | g)").impute(
        m=6_000, seed=1, chains=2, draws=3_000, thin=1, progress=False
    )
    new = pd.DataFrame({"g": [100, 101], "y": [2.5, -1.0], "b": [np.nan, np.nan], "k": [np.nan, np.nan]})
    made, post = imp.transform(new, seed=4), imp.tree["posterior"]
    n = np.arange(imp.m)
    at = n % 2, n // 2
    beta, Sigma, Psi = (post[name].values[at] for name in ("beta", "Sigma", "Psi"))
    total = Psi[:, 0, 0] + Sigma[:, 0, 0]
    gaps, wrong = [], []
    for row, value in enumerate(new["y"]):
        slope = (value - beta[:, 0, 0]) / total
        c = Psi[:, 0, 1] + Sigma[:, 0, 1]
        p = norm.cdf((beta[:, 0, 1] + c * slope) / np.sqrt(Psi[:, 1, 1] + 1 - c**2 / total))
        p_k = norm.cdf(
            (post.beta_clusters.values[at][:, 0, 0] + Psi[:, 0, 2] * slope)
            / np.sqrt(1 - Psi[:, 0, 2] ** 2 / total)
        )
        gaps += [made.values("b")[:, row] - p, made.values("k")[:, row] - p_k]
        wrong += [made.values("b")[:, row] - norm.cdf(beta[:, 0, 1] / np.sqrt(Psi[:, 1, 1] + 1))]
    assert means(np.array(gaps).T, 0.0) > LEVEL
    assert means(np.array(wrong).T, 0.0) < REJECTED


def test_covariances_of_clusters_known_and_unseen():
    """w of an unseen cluster falls below numbers as often as longhand draws; of a known one it has its variance."""
    rng = np.random.default_rng(6)
    m, n = 12, 60
    sd = np.where(np.arange(m) < 6, 0.3, 3.0)
    codes = np.repeat(np.arange(m), n)
    y = rng.normal(size=len(codes))
    w = 0.5 * y + sd[codes] * rng.normal(size=len(codes))
    frame = pd.DataFrame({"g": codes, "y": y, "w": w})
    frame.loc[::9, "w"] = np.nan
    priors = pr.Priors(Psi=pr.Fixed(1e-4 * np.eye(2)))
    model = bi.JointLatent(bi.IncompleteData(frame, "g"), "y + w ~ 1 + (1 | g)", priors, residual="cluster")
    imp = model.impute(m=4_000, seed=1, chains=2, draws=2_000, thin=1, progress=False)
    new = pd.DataFrame({"g": [0, 11, 99], "y": [np.nan] * 3, "w": [np.nan] * 3})
    made, post = imp.transform(new, seed=5), imp.tree["posterior"]
    k = np.arange(imp.m)
    at = k % 2, k // 2
    a, S = post.likeness.values[at], post.Sigma.values[at][:, 1, 1]
    scale = np.sqrt(a * S / rng.chisquare(a) + 1e-4)
    longhand = post.beta.values[at][:, 0, 1] + scale * rng.normal(size=imp.m)
    cuts = np.array([-3.0, -1.0, -0.3, 0.3, 1.0, 3.0])
    drawn = made.values("w")
    assert means((drawn[:, [2]] < cuts) * 1.0 - (longhand[:, None] < cuts), np.zeros(6)) > LEVEL
    assert means((drawn[:, [0]] < cuts) * 1.0 - (longhand[:, None] < cuts), np.zeros(6)) < REJECTED
    # sds of w, 0.5 y included: of 54 rows each, so within a quarter
    assert drawn[:, 0].std() == pytest.approx(np.hypot(0.5, 0.3), rel=0.25)
    assert drawn[:, 1].std() == pytest.approx(np.hypot(0.5, 3.0), rel=0.25)
    kept = model.impute(m=2, seed=1, chains=2, draws=300, thin=1, clusters=True, progress=False).tree[
        "posterior"
    ]
    own = np.sqrt(kept.Sigma_clusters.sel(latent="w", latent_2="w").mean(("chain", "draw")).values)
    np.testing.assert_allclose(own, np.hypot(0.5, sd), rtol=0.25)


def test_values_of_clusters_are_known_from_either_table():
    imp, (frame, _) = mixed_model().impute(**SHORT), mixed()
    new = frame.loc[[0, 4, 40]].reset_index(drop=True).assign(g=[0, 1, 99])
    new.loc[0, "n"], new.loc[1, "c"], new.loc[2, "n"] = np.nan, None, np.nan
    made = imp.transform(new, seed=1)
    assert (made.values("n")[:, 0] == frame["n"][2]).all() and np.ptp(made.values("n")[:, 1]) > 0
    assert list(made.rows("c")) == [1] and (made.values("c") >= 0).all()
    again = imp.transform(new.iloc[::-1], seed=1)
    np.testing.assert_allclose(again.values("n")[:, ::-1], made.values("n"))
    new["n"] = [frame["n"][2] + 1, 0.2, 0.1]
    with pytest.raises(DataError, match="'n' has a single value in every cluster of the run's table"):
        imp.transform(new)


def test_covariates_of_clusters_that_differ_are_refused():
    """The value of the last row was used for the whole cluster, without a word."""
    rng = np.random.default_rng(2)
    g = np.repeat(np.arange(10), 6)
    u, v = rng.normal(size=10), rng.normal(size=10)
    frame = pd.DataFrame(
        {"g": g, "u": u[g], "v": np.where(g == 3, np.nan, v[g]), "y": v[g] + rng.normal(size=60)}
    )
    frame.loc[::7, "y"] = np.nan
    imp = bi.JointLatent(bi.IncompleteData(frame, "g"), "y + v ~ u + (1 | g)").impute(**SHORT)
    new = pd.DataFrame({"g": [0, 99, 99], "u": [u[0], 1.0, 1.0], "v": [np.nan] * 3, "y": [np.nan] * 3})
    assert np.isfinite(imp.transform(new, seed=1).values("v")).all()
    for row, where in ((0, "0"), (1, "99")):
        changed = new.copy()
        changed.loc[row, "u"] += 0.5
        with pytest.raises(
            DataError, match=rf"'u' has a single value .* in 1 clusters \({where}\). Correct the new"
        ):
            imp.transform(changed, seed=1)


def test_every_imputation_has_the_parameters_of_its_own_draw(monkeypatch):
    """Imputation k: chain k % 2, the last draw of span k // 2, as in the completed tables of the run."""
    data = bi.IncompleteData(table(), "g")
    imp = bi.JointLatent(data, FORMULA).impute(
        m=6, seed=1, chains=2, draws=12, thin=1, tune=5, progress=False
    )
    kept, seen = imp.run.history, []

    def recorded(
        rng, iterations, every, stride, fixed, moments, of_rows, group, of_clusters, priors, state, *rest
    ):
        seen.append([state.beta.copy(), state.Sigma.copy(), state.Psi.copy(), state.gamma.copy()])
        return latent_gibbs(
            rng, iterations, every, stride, fixed, moments, of_rows, group, of_clusters, priors, state, *rest
        )

    latent_gibbs = new_rows.latent_gibbs
    monkeypatch.setattr(new_rows, "latent_gibbs", recorded)
    imp.transform(table().iloc[:3], seed=2)
    assert kept.beta.shape[:2] == (2, 12) and len(seen) == 6
    for k, found in enumerate(seen):
        chain, draw = k % 2, 4 * (k // 2 + 1) - 1
        for name, value in zip(("beta", "Sigma", "Psi", "gamma"), found, strict=True):
            np.testing.assert_array_equal(value, getattr(kept, name)[chain, draw])
