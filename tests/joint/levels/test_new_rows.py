"""New rows completed by `JointNormal` with several grouping factors: the law that they are drawn from, against dense
normal algebra of all cells of the run's table and of the new one; see tests/joint/test_new_rows.py."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import bayesimp as bi
from bayesimp.contract import Shift
from bayesimp.errors import DataError, SpecificationError
from bayesimp.joint.levels import effects as effects_module
from bayesimp.joint.levels import new_rows as module
from bayesimp.joint.levels import new_table
from bayesimp.joint.levels.gibbs import LevelsDraws
from bayesimp.table.new_rows import NewRows
from tests.unfolding import unfolded
from tests.unit_normals import Normals

FORMULA = "y + z ~ x + (1 | school) + (1 + x | item)"
RUN = {"m": 4, "seed": 1, "chains": 4, "tune": 50, "draws": 40, "progress": False}
NAN = np.nan


def table() -> pd.DataFrame:
    """12 schools crossed with 7 items, 90 rows."""
    rng = np.random.default_rng(3)
    n = 90
    school, item = rng.integers(0, 12, n), rng.integers(0, 7, n)
    x = rng.normal(size=n) + 3
    y = 10 + 2 * x + rng.normal(size=12)[school] + rng.normal(size=7)[item] + rng.normal(size=n)
    z = y - x + rng.normal(size=7)[item] * x + rng.normal(size=n)
    frame = pd.DataFrame({"school": school, "item": np.array(list("abcdefg"))[item], "x": x, "y": y, "z": z})
    frame.loc[rng.random(n) < 0.25, "y"] = NAN
    frame.loc[(rng.random(n) < 0.2) | (school < 2), "z"] = NAN  # systematically missing in schools 0 and 1
    return frame


TABLE = table()
NEW = pd.DataFrame(
    [
        (7, "a", 2.0, NAN, 8.0), (7, "b", 5.0, 25.0, NAN), (50, "c", 1.0, 16.0, NAN), (0, "a", 2.5, NAN, NAN),
        (50, "new", 4.0, NAN, NAN), (3, "new", 3.0, 14.0, 12.0), (60, "newer", 3.5, NAN, NAN), (0, "g", 4.5, 22.0, NAN),
        (60, "b", 1.5, NAN, NAN), (2, "newest", 3.0, NAN, NAN),
    ],
    columns=["school", "item", "x", "y", "z"],
)  # fmt: skip


@pytest.fixture(scope="module")
def imp():
    return bi.JointNormal(bi.IncompleteData(TABLE, ["school", "item"]), FORMULA).impute(**RUN)


def repeated(run, chain: int, draw: int, times: int):
    """The run with one draw only, `times` times."""
    h = run.history
    arrays = (h.beta, h.Sigma, h.Psi, h.mean, h.sd, h.cells)
    again = [np.repeat(a[chain : chain + 1, draw : draw + 1], times, axis=1) for a in arrays[:-1]]
    return replace(run, kept=LevelsDraws(*again, h.cells[:1, :1]), spacing=1)


def law(imp, monkeypatch, draw: int = 0, new: pd.DataFrame = NEW):
    """Mean and covariance of the missing cells at one draw of the run: cells in the order y, then z."""
    sizes = []
    monkeypatch.setattr(module, "new_rows_rng", lambda seed, k: Normals())
    kept = Normals.standard_normal
    with monkeypatch.context() as patch:
        patch.setattr(Normals, "standard_normal", lambda self, size: sizes.append(size) or kept(self, size))
        repeated(imp.run, 0, draw, 1).transform(NewRows(imp.data, new), 1, 0)
    monkeypatch.setattr(module, "new_rows_rng", lambda seed, k: Normals(None if k == 0 else k - 1))
    cells = repeated(imp.run, 0, draw, 1 + sizes[0]).transform(NewRows(imp.data, new), 1 + sizes[0], 0)
    values = np.hstack([cells[name][1] for name in ("y", "z")])
    slopes = values[1:] - values[0]
    return values[0], slopes.T @ slopes


def dense(imp, chain: int, draw: int, new: pd.DataFrame = NEW, *, psi=(1.0, 1.0), training=True):
    """The same by dense algebra; keywords make it wrong: effects of a factor ignored, the table forgotten."""
    post = imp.tree["posterior"]
    beta, Sigma, Psi_school, Psi_item = (
        post[name].values[chain, draw] for name in ("beta", "Sigma", "Psi_school", "Psi_item")
    )
    rows = pd.concat([TABLE if training else TABLE[:0], new])
    n = len(rows)
    X = np.column_stack([np.ones(n), rows["x"]])
    V = np.kron(Sigma, np.eye(n))
    for Psi, name, Z, times in ((Psi_school, "school", X[:, :1], psi[0]), (Psi_item, "item", X, psi[1])):
        q = Z.shape[1]
        same = rows[name].to_numpy()[:, None] == rows[name].to_numpy()
        for j in range(2):
            for k in range(2):
                block = Z @ Psi[q * j : q * (j + 1), q * k : q * (k + 1)] @ Z.T
                V[j * n : (j + 1) * n, k * n : (k + 1) * n] += times * block * same
    mu, y = (X @ beta).T.ravel(), rows[["y", "z"]].to_numpy(float).T.ravel()
    seen = ~np.isnan(y)
    at = np.tile(np.arange(n) >= n - len(new), 2)
    wanted = np.flatnonzero(at & ~seen)
    K = np.linalg.solve(V[np.ix_(seen, seen)], V[np.ix_(seen, wanted)]).T
    return mu[wanted] + K @ (y - mu)[seen], V[np.ix_(wanted, wanted)] - K @ V[np.ix_(seen, wanted)]


def agrees(imp, monkeypatch) -> bool:
    mean, covariance = law(imp, monkeypatch)
    expected = dense(imp, 0, 0)
    return np.allclose(mean, expected[0], rtol=1e-7) and np.allclose(
        covariance, expected[1], rtol=1e-6, atol=1e-8
    )


def test_the_law_is_the_dense_normal_one(imp, monkeypatch):
    """Known and new schools and items, with slopes of the second factor; also new schools of new items only."""
    mean, covariance = law(imp, monkeypatch, 17)
    expected = dense(imp, 0, 17)
    np.testing.assert_allclose(mean, expected[0], rtol=1e-8)
    np.testing.assert_allclose(covariance, expected[1], rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(
    "wrong",
    [{"psi": (0.0, 1.0)}, {"psi": (1.0, 0.0)}, {"training": False}],
    ids=["schools", "items", "table"],
)
def test_wrong_laws_are_told_apart(imp, wrong):
    right, other = dense(imp, 0, 0), dense(imp, 0, 0, **wrong)
    assert np.abs(right[0] - other[0]).max() > 0.01
    assert np.abs(right[1] - other[1]).max() > 0.01


def _neighbours(monkeypatch):
    """The effects of the next item instead of a row's own."""
    original = effects_module.RowsOfGroups.of_rows

    def of_rows(self, b):
        places = np.column_stack([self.places[:, 0], (self.places[:, 1] + 1) % self.number[1]])
        return original(replace(self, places=places), b)

    monkeypatch.setattr(effects_module.RowsOfGroups, "of_rows", of_rows)


def _zero_if_new(monkeypatch):
    """Effect 0 for groups without rows in the run's table."""
    original = module.EffectsLaw.centred

    def centred(Psi, groups):
        made = original(Psi, groups)
        covariance = np.stack([Psi, 1e-14 * np.eye(len(Psi))])
        which = made.which.copy()
        which[-1] = 1
        return effects_module.EffectsLaw(made.mean, covariance, which)

    monkeypatch.setattr(module.EffectsLaw, "centred", centred)


def _slope_of_another_column(monkeypatch):
    """Slopes multiply 1, and intercepts x."""
    original = module.connected

    def wrong(*arguments):
        made = original(*arguments)
        return replace(made, groups=replace(made.groups, Z=made.groups.Z[:, [0, 2, 1]]))

    monkeypatch.setattr(module, "connected", wrong)


def _unconnected(monkeypatch):
    """Only the rows of the new rows' own schools."""

    def own(codes, first_new):
        return np.flatnonzero(np.isin(codes[:, 0], codes[first_new:, 0]))

    monkeypatch.setattr(new_table, "connected_rows", own)


def _next_draw(monkeypatch):
    """Psi of the two factors from another draw."""
    original = module._completed

    def completed(run, *arguments):
        return original(replace(run, kept=replace(run.history, Psi=run.history.Psi * 1.1)), *arguments)

    monkeypatch.setattr(module, "_completed", completed)


@pytest.mark.parametrize(
    "wrong", [None, _neighbours, _zero_if_new, _slope_of_another_column, _unconnected, _next_draw],
    ids=lambda f: f.__name__ if f else "right",
)  # fmt: skip
def test_wrong_wirings_are_told_apart(imp, wrong, monkeypatch):
    if wrong is not None:
        wrong(monkeypatch)
    assert agrees(imp, monkeypatch) == (wrong is None)


def test_each_table_has_the_parameters_of_its_own_imputation(imp, monkeypatch):
    """Table k: draw (k // chains + 1) * spacing - 1 of chain k % chains, in its place in the completed frame."""
    monkeypatch.setattr(module, "new_rows_rng", lambda seed, k: Normals())
    done = imp.transform(NEW, seed=0)
    for k in range(imp.m):
        expected = dense(imp, k % 4, (k // 4 + 1) * imp.attrs["spacing"] - 1)[0]
        drawn = np.concatenate([done.values(name)[k] for name in ("y", "z")])
        np.testing.assert_allclose(drawn, expected, rtol=1e-8)
        frame = done.frame(k)
        cells = np.concatenate([frame[name][NEW[name].isna()] for name in ("y", "z")])
        np.testing.assert_array_equal(cells, drawn)


def test_order_of_rows_and_labels_of_groups_do_not_matter(imp):
    ours = imp.transform(NEW, seed=5)
    shuffled = imp.transform(NEW.iloc[np.random.default_rng(0).permutation(len(NEW))], seed=5)
    renamed = imp.transform(
        NEW.replace({"school": {50: 99, 60: 44}, "item": {"new": "zz", "newest": "0"}}), seed=5
    )
    for k in range(imp.m):
        pd.testing.assert_frame_equal(shuffled.frame(k).sort_index(), ours.frame(k), rtol=1e-10)
        pd.testing.assert_frame_equal(renamed.frame(k)[["y", "z"]], ours.frame(k)[["y", "z"]], rtol=1e-10)


def test_a_shift_moves_new_rows_and_a_loaded_run_gives_the_same(imp, tmp_path):
    ours = imp.transform(NEW, seed=5)
    shifted = imp.run.model.with_shift(Shift({"y": 3.0})).impute(**RUN).transform(NEW, seed=5)
    np.testing.assert_allclose(shifted.values("y"), ours.values("y") + 3.0, rtol=1e-12)
    np.testing.assert_allclose(shifted.values("z"), ours.values("z"), rtol=1e-12)
    imp.save(tmp_path / "run.nc")
    again = bi.load(tmp_path / "run.nc").transform(NEW, seed=5)
    np.testing.assert_array_equal(again.values("y"), ours.values("y"))


def test_new_groups_of_every_factor_are_events(imp):
    text = {
        event.where: event.message for event in imp.transform(NEW, seed=1).log if event.kind == "new clusters"
    }
    assert "2 of 6 clusters, with 4 rows" in text["school"]
    assert (
        "3 of 7 groups of 'item', with 4 rows" in text["item"] and "'new', 'newer', 'newest'" in text["item"]
    )


def test_classes_in_schools_leave_other_schools_out():
    """Nested: a new row of school 3 depends on the rows of school 3 only; a class number of another school is another
    class."""
    frame = pd.DataFrame(
        {"school": np.arange(48) // 8, "number": np.arange(48) // 4 % 2 + 1, "x": np.arange(48) % 5.0}
    )
    frame["y"] = frame["x"] + np.random.default_rng(1).normal(size=48) + frame["school"]
    frame.loc[::7, "y"] = NAN
    data = bi.IncompleteData(frame, ["school", "number"])
    new = pd.DataFrame({"school": [3, 3, 9], "number": [1, 5, 1], "x": [1.0, 2.0, 0.0], "y": [NAN, NAN, 2.0]})
    rows = NewRows(data, new)
    beside = rows.groups_beside(("school", "number"))
    assert beside.known == 12 and list(beside.labels[12:]) == ["3:5", "9:1"]
    assert list(beside.labels[:12]) == list(data.groups(("school", "number")).labels)
    np.testing.assert_array_equal(beside.codes[:48], data.groups(("school", "number")).codes)
    assert [beside.labels[k] for k in beside.codes[48:]] == ["3:1", "3:5", "9:1"]
    codes = np.column_stack([rows.groups_beside(("school",)).codes, beside.codes])
    kept = new_table.connected_rows(codes, 48)
    np.testing.assert_array_equal(kept, [*range(24, 32), 48, 49, 50])
    imp = bi.JointNormal(data, "y ~ x + (1 | school/number)").impute(**RUN)
    assert np.isfinite(imp.transform(new, seed=1).values("y")).all()


@pytest.mark.parametrize(
    "change, error, words",
    [
        (
            lambda new: new.drop(columns="item"),
            SpecificationError,
            "no column 'item', whose groups have effects",
        ),
        (lambda new: new.assign(item=1), DataError, r"ids in 'item' are numbers in the new table"),
        (lambda new: new.assign(item=None), DataError, "cluster id 'item' is missing in 10 of 10 rows"),
        (lambda new: new.assign(x=NAN), DataError, "'x' is missing in 10 of 10 rows"),
    ],
    ids=["no column", "numbers", "missing ids", "covariate"],
)
def test_what_cannot_be_completed_is_refused(imp, change, error, words):
    with pytest.raises(error) as refused:
        imp.transform(change(NEW), seed=1)
    assert words in unfolded(str(refused.value)) or pytest.fail(str(refused.value))
