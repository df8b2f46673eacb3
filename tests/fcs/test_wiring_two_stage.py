"""From kernel to completed table: `2stage`, and `mlmi` as published, against their definitions written out.

Neither draws from a posterior, so the law is the one described in the papers (tests/longhand/two_stage_draws.py).
Probabilities of y <= t in every cell, and in two rows at once; two clusters are new, one has rows that cannot be fitted
alone. Level of each test: 1e-3, divided by the number of comparisons; seeds fixed.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import bayesimp as bi
from tests.fcs.test_wiring_families import CELLS, candidates, draw, impute, rows_and_cells, table
from tests.longhand.cells import Cell, compare
from tests.longhand.laws import Rows, no_effects
from tests.longhand.two_stage_draws import cluster_fits, moments, published, two_stage

M, REPEATS = 14, 5  # clusters, missing rows of a cell
SIZES = *[40] * 7, 4, 0, 0, *[40] * 4  # observed rows
FITTED, FAILED = [0, 1, 2, 3, 4, 5, 6, 10, 11, 12, 13], [7]
PLACES = [
    (0, -1.0),
    (1, 1.0),
    (2, -1.0),
    (2, 1.0),
    (7, -1.0),
    (7, 1.0),
    (8, -1.0),
    (8, 1.0),
    (9, 1.0),
    (9, -1.0),
]
OF_CLUSTERS = np.array([1.0, -1, 2, 0, -2, 1, 0, -1, 2, -2, 0, 1, -1, 2])
LABELS = np.array(list("qbzkahmcrdleyo"))
SLOPES = np.array([1.3, -1.1, 0.9, -1.2, 1.2, 0, -0.3, 0, 0, 0, 0.2, -0.9, 1.1, -0.2])
TERMS = np.array([-1.2, 1.2, 0.4, -0.6, 1.1, 0.1, -1.3, -1.5, 0, 0, 0.9, -1.0, -0.8, 1.4])


def clusters(family, seed, between):
    """Rows with coefficients that differ strongly between clusters; values of cluster 7 all 0."""
    rng = np.random.default_rng(seed)
    g = np.r_[np.repeat(np.arange(M), SIZES), np.repeat([c for c, _ in PLACES], REPEATS)]
    x = np.r_[np.tile([-1.0, 1.0], sum(SIZES) // 2), np.repeat([x for _, x in PLACES], REPEATS)]
    cell = np.r_[np.full(sum(SIZES), -1), np.repeat(np.arange(len(PLACES)), REPEATS)]
    trials = np.ones(len(g), dtype=int)
    if family == "binomial":
        trials = np.r_[rng.integers(1, 9, sum(SIZES)), np.repeat(rng.permutation(np.arange(2, 12)), REPEATS)]
    eta = TERMS[g] + 0.7 * between * OF_CLUSTERS[g] + SLOPES[g] * x
    y = draw(family, eta, 0 * eta, trials, rng)
    y[(g == 7) & (cell < 0)] = 0
    return g, x, trials, y, cell


def completed(family, data, method, m, formula):
    """Imputed values by cell (m, REPEATS), and the covariances between clusters that were drawn."""
    g, x, trials, y, cell = data
    rng = np.random.default_rng(8)
    frame = pd.DataFrame(
        {"g": LABELS[g], "x": x, "w": OF_CLUSTERS[g], "n": trials, "y": np.where(cell >= 0, np.nan, y)}
    )
    frame["other"] = np.where(rng.random(len(g)) < 0.3, np.nan, rng.normal(size=len(g)))
    order = rng.permutation(len(g))
    frame, cell = frame.iloc[order].reset_index(drop=True), cell[order]
    imp = bi.FCS(
        bi.IncompleteData(frame, "g", families={"y": "binomial(n)" if family == "binomial" else family}),
        methods={"y": method, "other": "norm"},
        predictors={"y": formula, "other": "~ 1"},
    ).impute(m, cycles=1, seed=3, progress=False)
    assert "cluster not fitted" in set(imp.events["kind"])
    values = imp.values("y")
    Psi = imp.tree["posterior"]["Psi_y"].to_numpy()[:, -1]
    return [values[:, cell[cell >= 0] == k] for k in range(len(PLACES))], Psi


@pytest.mark.parametrize(
    "family, between, estimator, as_published",
    [("bernoulli", False, "reml", False), ("binomial", False, "reml", False), ("poisson", True, "reml", False),
     ("poisson", False, "moments", True), ("bernoulli", False, "moments", False)],
)  # fmt: skip
def test_two_stage(family, between, estimator, as_published):
    data = clusters(family, 6, between)
    g, x, trials, y, cell = data
    p = 2 if estimator == "reml" else 1  # by moments: an intercept alone, DerSimonian & Laird
    seen = cell < 0
    X = np.column_stack([np.ones(len(g)), x])[:, :p]
    rows = Rows(y[seen], trials[seen], X[seen], X[seen][:, :0], g[seen])
    rng, count = np.random.default_rng(2), 4000
    T = OF_CLUSTERS[:, None] if between else np.zeros((M, 0))
    b = two_stage(rng, family, rows, T, FITTED, [] if as_published else FAILED, count, estimator)
    cells = [Cell(c, at, int(trials[cell == k][0])) for k, (c, at) in enumerate(PLACES)]
    at = np.array([[1.0, x] for _, x in PLACES])[:, :p]
    law = no_effects(np.zeros((count, 1, p)), np.full(count, 1 / count), at, np.zeros((count, 0)), count)
    law = law._replace(eta=[(b[:, c] @ at[k])[:, None, None] for k, (c, _) in enumerate(PLACES)])
    formula = "~ 1" if p == 1 else "~ x + w" if between else "~ x"
    method = bi.methods.TwoStage(estimator=estimator, published=as_published)
    values, Psi = completed(family, data, method, 600, formula)
    z, limit = compare(family, law, cells, values, candidates(family, rows.y))
    assert z < limit
    if estimator == "moments":  # an estimate, which is not drawn
        np.testing.assert_allclose(
            Psi, moments(*cluster_fits(family, rows, FITTED))[None].repeat(600, 0), rtol=1e-3
        )


@pytest.mark.parametrize("family", ["bernoulli", "binomial", "poisson"])
def test_mlmi_published(family):
    data = table(family, 1)
    rows, cells, X, _ = rows_and_cells(data)
    count = 8000
    beta, effects = published(np.random.default_rng(3), family, rows, [0, 1, 2, 3], [5, 6], count)
    law = no_effects(beta[:, None], np.full(count, 1 / count), X, np.zeros((count, 0)), count)
    law = law._replace(eta=[e + effects[c][:, None, None] for e, (c, _) in zip(law.eta, CELLS, strict=True)])
    values = impute(family, data, "mlmi-published", 600, 1)
    z, limit = compare(family, law, cells, values, candidates(family, rows.y))
    assert z < limit
