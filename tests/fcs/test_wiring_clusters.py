"""From kernel to completed table: `2lonly`, family by family, against the posterior of a regression on one row a cluster.

The predictor varies within clusters, and only its mean over the rows of a cluster counts. One cluster lacks the value in
some rows only: these are filled in. Probabilities of y <= t in every cluster without a value, and in two at once.
Level of each test: 1e-3, divided by the number of comparisons; seeds fixed.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import bayesimp as bi
from tests.fcs.test_wiring_families import LEVELS, LOG, POSITIVE, candidates, draw
from tests.longhand.cells import Cell, compare
from tests.longhand.laws import Rows, of_clusters

OBSERVED, MISSING = 24, [24, 25, 26, 27]
MEANS = np.r_[np.tile([-1.0, 1.0], 12), [-1.0, 1.0, 1.0, -1.0]]
TRIALS = 3, 12, 7, 20  # of the clusters without a value
WITHIN = np.array([0.0, 1.5, -1.5, 0.0])  # of the rows of every cluster, about its mean
FAMILIES = ["bernoulli", "binomial", "poisson", "negative_binomial", "ordinal", "categorical", "gamma",
            "inverse_gaussian", "lognormal", "beta", "student", "yeo_johnson", "zero_inflated_poisson",
            "zero_inflated_negative_binomial", "hurdle_poisson", "hurdle_negative_binomial"]  # fmt: skip


def clusters(family, seed):
    rng = np.random.default_rng(seed)
    trials = np.ones(28, dtype=int)
    if family == "binomial":
        trials = np.r_[rng.integers(1, 12, OBSERVED), TRIALS]
    large = (
        5.0 if family.endswith(("poisson", "negative_binomial")) else 0.0
    )  # counts far from their logarithms
    return draw(family, large + 1.1 * MEANS, -0.9 * MEANS, trials, rng), trials


def completed(family, y, trials, m):
    """(m, 4 clusters) imputed values, coded; every row of a cluster has the same."""
    rng = np.random.default_rng(12)
    g = np.repeat(np.arange(28), len(WITHIN))
    frame = pd.DataFrame(
        {"g": [f"c{(5 * i) % 28:02d}" for i in g], "x": MEANS[g] + np.tile(WITHIN, 28), "n": trials[g]}
    )
    hole = g >= OBSERVED
    partly = (g == 3) & (np.arange(len(g)) % 4 < 2)
    levels = LEVELS.get(family)
    if levels:
        text = np.array(levels, dtype=object)[y[g].astype(int)]
        frame["y"] = pd.Categorical(
            np.where(hole | partly, None, text), categories=levels, ordered=family == "ordinal"
        )
    else:
        frame["y"] = np.where(hole | partly, np.nan, y[g])
    frame["other"] = np.where(rng.random(len(g)) < 0.3, np.nan, rng.normal(size=len(g)))
    order = rng.permutation(len(g))
    imp = bi.FCS(
        bi.IncompleteData(frame.iloc[order].reset_index(drop=True), "g",
                          families={"y": "binomial(n)" if family == "binomial" else family}),
        methods={"y": "2lonly", "other": "norm"},
        predictors={"y": "~ x", "other": "~ 1"},
    ).impute(m, cycles=4, seed=6, progress=False)  # fmt: skip
    codes = {level: k for k, level in enumerate(levels)} if levels else None
    out = np.empty((m, len(g)))
    for j in range(m):
        column = imp.frame(j)["y"].to_numpy()
        out[j, order] = [codes[v] for v in column] if codes else column
    assert np.ptp(out.reshape(m, 28, -1), axis=2).max() == 0  # one value per cluster
    assert (out[:, partly] == y[3]).all()
    return out.reshape(m, 28, -1)[:, MISSING, 0]


@pytest.mark.parametrize("family", FAMILIES)
def test_variables_of_clusters(family):
    y, trials = clusters(family, 4)
    seen, logs = y[:OBSERVED], family.endswith(LOG)
    origin, unit = 0.0, 1.0
    if family in ("student", "yeo_johnson"):
        origin, unit = seen.mean(), seen.std()
    if family in POSITIVE:
        unit = seen.mean()
    X = np.column_stack([np.ones(28), MEANS])
    mean, sd = np.zeros(2), np.array([5.0, 2.5])
    if logs:  # location and scale of log y
        counts = family.endswith(("poisson", "negative_binomial"))
        scale = np.log(seen / unit + 0.5 * counts).std(ddof=1)
        mean, sd = np.array([np.log(seen.mean() / unit), 0.0]), np.array([5 * scale, scale])
    rows = Rows(
        (seen - origin) / unit, trials[:OBSERVED], X[:OBSERVED], X[:OBSERVED, :0], np.arange(OBSERVED)
    )
    levels = len(LEVELS.get(family, (0, 1)))
    law = of_clusters(family, rows, X[MISSING], mean=mean, sd=sd, levels=levels)
    cells = [Cell(i, MEANS[i], int(trials[i])) for i in MISSING]
    values = [(v[:, None] - origin) / unit for v in completed(family, y, trials, 600).T]
    z, limit = compare(family, law, cells, values, candidates(family, rows.y))
    assert z < limit
