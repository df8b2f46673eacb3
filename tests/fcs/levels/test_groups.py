"""Variables with one value in each class, classes in schools: imputed once per class, with effects of schools.

With known variances, the missing classes are jointly normal given the known ones and the means of the predictor in every
class (tests/longhand/several_factors.py, with classes as rows).
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

import bayesimp as bi
from bayesimp import priors as pr
from bayesimp.contract import Shift
from bayesimp.errors import DataError, SpecificationError
from bayesimp.fcs.blocks import group_rows
from bayesimp.fcs.loop import Cycles
from bayesimp.fcs.tree import imputed_cells
from tests.calibration.montecarlo import LEVEL, REJECTED, batch_means, bonferroni, with_products
from tests.longhand import several_factors as longhand
from tests.unfolding import unfolded

SIGMA2, SCHOOL = 0.8, 1.5


@cache
def table() -> pd.DataFrame:
    """5 schools of 5 classes of 3 to 5 rows; w is unknown in 6 classes and known only in some rows of one."""
    rng = np.random.default_rng(4)
    classes = np.repeat(np.arange(25), rng.integers(3, 6, 25))
    x = rng.normal(size=len(classes)) + rng.normal(size=25)[classes]
    mean = np.bincount(classes, x) / np.bincount(classes)
    w = (2 + mean + rng.normal(0, 1.2, 5)[np.arange(25) // 5] + rng.normal(0, 0.9, 25))[classes]
    w[np.isin(classes, [1, 7, 8, 15, 20, 21])] = np.nan
    w[np.flatnonzero(classes == 3)[1:]] = np.nan
    other = np.where(rng.random(len(x)) < 0.4, np.nan, rng.normal(size=len(x)))
    frame = pd.DataFrame({"w": w, "x": x, "other": other, "school": classes // 5, "class": classes})
    frame["class"] = "c" + frame["class"].astype(str)
    return frame.sample(frac=1, random_state=1)


def model(frame=None, group="class", **options) -> bi.FCS:
    priors = pr.Priors(pr.Fixed([[SIGMA2]]), pr.Fixed([[SCHOOL]]), pr.Flat())
    methods = {"w": bi.methods.Gibbs(priors, inner=1, compatible=False, group=group), "other": "norm"}
    data = bi.IncompleteData(table() if frame is None else frame, ["school", "class"])
    return bi.FCS(data, methods, {"w": "~ x + (1 | school)", "other": "~ 1"}, **options)


def completed(fcs: bi.FCS, draws: int) -> np.ndarray:
    """(draws, rows without w) values in the order of the table."""
    task, out = Cycles(fcs, 3), []
    chain = task.start(0)
    _, blocks, _ = task.parts
    for t in range(draws + 20):
        for block, theta in zip(blocks, chain.theta, strict=True):
            assert block.step(chain, theta) == 0
        if t >= 20:
            out.append(imputed_cells(fcs, [chain])["w"][1][0])
    return np.array(out)


def agreement(values: np.ndarray) -> float:
    frame = table()
    by_class = frame.groupby("class", sort=True)
    known = by_class["w"].first()
    X = np.column_stack([np.ones(len(known)), by_class["x"].mean()])
    school = by_class["school"].first().to_numpy()
    parts = [(np.ones((len(known), 1)), school, 5)]
    Y = known.to_numpy()[:, None]
    mean, covariance = longhand.missing_cells(X, parts, Y, np.array([[SIGMA2]]), (np.array([[SCHOOL]]),))
    rows = frame["class"].to_numpy()[frame["w"].isna().to_numpy()]
    first = [int(np.flatnonzero(rows == label)[0]) for label in known.index[known.isna()]]
    white = (values[:, first] - mean) @ np.linalg.inv(np.linalg.cholesky(covariance)).T
    d = white.shape[-1]
    i, j = np.tril_indices(d)
    found, se = batch_means(with_products(white)[None], 40)
    return bonferroni(2 * norm.sf(np.abs(found - np.concatenate([np.zeros(d), i == j])) / se))


def test_values_of_classes_have_their_law_and_are_one_a_class():
    fcs = model()
    values = completed(fcs, 2_000)
    assert agreement(values) > LEVEL
    frame = table()
    lost = frame["w"].isna().to_numpy()
    rows = frame["class"].to_numpy()[lost]
    for label in np.unique(rows):
        assert (np.ptp(values[:, rows == label], axis=1) == 0).all()
    known = frame.groupby("class")["w"].first()["c3"]
    np.testing.assert_allclose(values[:, rows == "c3"], known)
    imp = fcs.impute(2, cycles=2, seed=1, progress=False)
    assert "known in the group" in set(imp.events["kind"])


def means_of_next_classes(monkeypatch):
    """The columns of a class are means over the rows of its neighbour."""
    means = group_rows.GroupRows._means
    monkeypatch.setattr(
        group_rows.GroupRows,
        "_means",
        lambda self, V, f: tuple(np.roll(D, 1, axis=0) for D in means(self, V, f)),
    )


def values_of_next_classes(monkeypatch):
    """Values go into the rows of the next class without one."""
    put = group_rows.GroupRows.put
    monkeypatch.setattr(
        group_rows.GroupRows, "put", lambda self, V, drawn, there=None: put(self, V, np.roll(drawn, 1), there)
    )


def schools_of_next_classes(monkeypatch):
    """Effects of schools are those of the next class to be imputed."""
    made = group_rows.GroupRows.__init__

    def wrong(self, table, number):
        made(self, table, number)
        self.hole_cluster = np.roll(self.hole_cluster, 2)

    monkeypatch.setattr(group_rows.GroupRows, "__init__", wrong)


@pytest.mark.parametrize("spoil", [means_of_next_classes, values_of_next_classes, schools_of_next_classes])
def test_wrong_groups_are_noticed(monkeypatch, spoil):
    spoil(monkeypatch)
    assert agreement(completed(model(), 1_000)) < REJECTED


def test_the_default_finds_them_and_a_seed_does_not_see_order_or_labels():
    frame = table().assign(
        size=lambda t: np.where(t["x"].groupby(t["class"]).transform("mean") > 0, "big", "small")
    )
    frame.loc[frame["class"].isin(["c2", "c11"]), "size"] = None
    made = bi.FCS(bi.IncompleteData(frame, ["school", "class"]))
    assert "note (w, size): a single value in each group of 'class'" in unfolded(str(made))
    again = frame.sample(frac=1, random_state=3).assign(**{"class": lambda t: "k" + t["class"].str[::-1]})
    one, other = (
        bi.FCS(bi.IncompleteData(f, ["school", "class"]))
        .impute(2, cycles=2, seed=1, progress=False)
        .to_frame(1)
        for f in (frame, again)
    )
    assert one.groupby("class")["size"].nunique().max() == 1
    np.testing.assert_allclose(one["w"], other.loc[one.index, "w"])
    assert (one["size"] == other.loc[one.index, "size"]).all()


def test_a_shift_moves_a_group_once():
    plain = model()
    moved = plain.with_shift(Shift({"w": 10.0}))
    one, other = (m.impute(2, cycles=1, seed=1, progress=False).to_frame(1) for m in (plain, moved))
    gap = (other["w"] - one["w"]).groupby(one["class"]).agg(["min", "max"])
    drawn = gap.index.isin([f"c{k}" for k in (1, 7, 8, 15, 20, 21)])
    np.testing.assert_allclose(gap[drawn], 10.0)
    np.testing.assert_allclose(gap[~drawn], 0.0, atol=1e-12)


BROKEN = {
    "disagree": (lambda: model(table().assign(w=lambda t: t["w"] + t["x"])), DataError, "several values in"),
    "clusters": (lambda: model(group="school"), SpecificationError, "'2lonly' imputes these"),
    "no column": (lambda: model(group="x"), SpecificationError, "'x' is not a cluster column"),
    "crossed": (
        lambda: model(table().assign(**{"class": np.arange(len(table())) % 7})), SpecificationError, "several clusters",
    ),
    "ignored rows": (lambda: model(ignore=np.arange(len(table())) < 9), SpecificationError, "ignore"),
    "bounds": (lambda: model(bounds={"w": (0, None)}), SpecificationError, "bounds"),
    "an analysis": (
        lambda: bi.FCS(model().data, {"w": bi.methods.Bayes(group="class")}, analysis="other ~ w + (1 | school)"),
        SpecificationError, "values drawn given an analysis",
    ),
    "own variances": (lambda: bi.methods.Gibbs(residual="cluster", group="class"), SpecificationError, "take group= or"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_refusals(case):
    make, kind, words = BROKEN[case]
    with pytest.raises(kind, match=words):
        make()
