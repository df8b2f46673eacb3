"""Posterior predictive checks by cluster: against the draws themselves, and on data that the model does not fit.

If the model is right, p of a statistic is extreme (outer 5 %) in at most 5 % of clusters; with 30 clusters more than 6
have probability below .003. Wrong variants must exceed that.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import bayesimp as bi
from bayesimp.diagnostics import replicates as rp
from bayesimp.errors import SpecificationError

CLUSTERS, CELLS = 30, 25


def table(kind="right"):
    rng = np.random.default_rng(5)
    g = np.repeat(np.arange(CLUSTERS), CELLS)
    effect = rng.normal(size=CLUSTERS)[g]
    sd = np.where(g < 10, 0.3, 1.5) if kind == "unequal" else 1.0
    y = effect + sd * rng.normal(size=len(g))
    w = 0.5 * y + rng.normal(size=len(g))
    y[rng.random(len(g)) < 0.2] = np.nan
    return bi.IncompleteData(pd.DataFrame({"g": g, "y": y, "w": w}), "g")


def run(data):
    return bi.JointNormal(data, "y + w ~ 1 + (1 | g)").impute(
        m=4, seed=1, draws=250, tune=100, progress=False
    )


@pytest.fixture(scope="module")
def right():
    return run(table())


def extreme(made, statistic="sd", variable="y"):
    rows = made.by_variable().set_index(["variable", "statistic"])
    return rows.at[(variable, statistic), "extreme"]


def test_statistics_are_those_of_the_replicates(right):
    made = right.replicates(100, seed=3)
    tree = right.tree_with("posterior_predictive", thin=10, seed=3)
    drawn = tree["posterior_predictive"]["y"].values.reshape(100, -1)
    at = right.data.codes[tree["posterior_predictive"]["row_y"].values]
    seen = right.data.frame["y"].to_numpy()[tree["posterior_predictive"]["row_y"].values]
    assert made.draws == 100 and len(made.table) == 4 * CLUSTERS
    rows = made.table.set_index(["variable", "statistic", "cluster"])
    for k in (0, 7, 29):
        for name, of in (("mean", lambda x: x.mean(-1)), ("sd", lambda x: x.std(-1, ddof=1))):
            row, T, t = rows.loc[("y", name, k)], of(drawn[:, at == k]), of(seen[at == k])
            assert row["observed"] == pytest.approx(t) and row["replicated"] == pytest.approx(T.mean())
            assert row["p"] == pytest.approx((T > t).mean()) and row["cells"] == (at == k).sum()


def test_a_model_that_is_right_is_not_refused(right):
    for new in (False, True):
        made = right.replicates(new_clusters=new)
        assert max(extreme(made, s, v) for s in ("mean", "sd") for v in ("y", "w")) <= 6


def test_wrong_models_are_told_apart(right, monkeypatch):
    """Residual variances that differ between clusters; cells of other clusters (a permutation of rows)."""
    unequal = run(table("unequal")).replicates()
    assert extreme(unequal) >= 10 and extreme(unequal, "sd", "w") < extreme(unequal)
    assert "y" in set(unequal.extreme["variable"]) and f"{extreme(unequal)}" in repr(unequal)
    whole = rp._of_variable
    shifted = lambda name, family, data, drawn, seen, codes: whole(  # noqa: E731
        name, family, data, drawn, np.roll(seen, 3 * CELLS), codes
    )
    monkeypatch.setattr(rp, "_of_variable", shifted)
    assert extreme(right.replicates(), "mean") > 12


def test_shares_of_levels_and_ties():
    family = bi.IncompleteData(pd.DataFrame({"g": [1, 1, 2], "s": list("aba")}), "g")
    of = family.variable("s").distribution
    drawn, seen = np.array([[0.0, 1, 0], [1, 1, 1], [0, 0, 0], [0, 1, 1]]), np.array([0.0, 1, 0])
    rows = pd.DataFrame(rp._of_variable("s", of, family, drawn, seen, family.codes))
    assert list(rows["statistic"]) == ["share of b", "share of b"]
    assert (
        rows.loc[0, "p"] == 1 / 4 + 1 / 4 and rows.loc[1, "p"] == 2 / 4 + 1 / 4
    )  # more, and half of the ties


def test_what_is_refused(right):
    with pytest.raises(SpecificationError, match="at least 20"):
        right.replicates(5)
    data = right.data
    incomplete = [name for name in right.responses if data.missing(name).any()]
    matched = bi.FCS(data, methods=dict.fromkeys(incomplete, "pmm"))
    with pytest.raises(SpecificationError, match="posterior_predictive: no variable has it"):
        matched.impute(m=2, seed=1, cycles=4, tune=1, progress=False).replicates()
    chained = bi.FCS(data).impute(m=4, seed=1, cycles=12, tune=2, progress=False).replicates(40)
    assert set(chained.table["variable"]) == set(incomplete) and chained.table["p"].between(0, 1).all()
    bare = replace(right.replicates(100), table=right.replicates(100).table.head(4))
    assert len(bare.by_variable()) == 2


def test_in_a_report(right):
    from tests.report.test_report import read

    made = right.replicates(100)
    report = read(right, replicates=made)
    shown = [row for table in report.parts["imputed"].tables for row in table if row[:2] == ["y", "sd"]]
    assert shown and shown[0][2:4] == [str(CLUSTERS), str(extreme(made))]
    assert f"{len(made.extreme)} extreme statistics" in report.parts["checked"].text
