"""New rows completed by `JointLatent` with several grouping factors.

Numbers, with variables of groups: the law that they are drawn from against dense normal algebra, without Monte Carlo
error (tests/joint/levels/test_new_rows.py). Levels: at known parameters, against quadrature over the effects of a small
crossed table. Bonferroni; level 1e-4, wrong variants below 1e-6.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.special import ndtr
from scipy.stats import norm

import bayesimp as bi
from bayesimp import priors as pr
from bayesimp.contract import Shift
from bayesimp.errors import DataError
from bayesimp.joint.latent.levels import new_rows as module
from bayesimp.joint.levels.effects import RowsOfGroups
from bayesimp.table.new_rows import NewRows
from tests.calibration.montecarlo import LEVEL, REJECTED, bonferroni
from tests.joint.latent.brute_force import nodes
from tests.unit_normals import Normals

NAN = np.nan
RUN = {"m": 4, "seed": 1, "chains": 4, "tune": 50, "draws": 40, "progress": False}

# -- numbers -------------------------------------------------------------------------------------------------

FORMULA = "y + z + size + u ~ x + (1 | school) + (1 + x | item)"  # size of schools, u of items


def table() -> pd.DataFrame:
    """10 schools crossed with 7 items, 80 rows."""
    rng = np.random.default_rng(4)
    n = 80
    school, item = rng.integers(0, 10, n), rng.integers(0, 7, n)
    a, c = rng.normal(size=(10, 2)), rng.normal(size=(7, 3))
    x = rng.normal(size=n) + 1
    y = 10 + 2 * x + a[school, 0] + c[item, 0] + rng.normal(size=n)
    z = 0.5 * y + c[item, 1] * x + rng.normal(size=n)
    size = np.where(np.arange(10) == 3, NAN, a[:, 0] + 0.5 * a[:, 1])
    u = np.where(np.arange(7) == 2, NAN, c[:, 0] + 0.5 * c[:, 2])
    frame = pd.DataFrame({"school": school, "item": np.array(list("abcdefg"))[item], "x": x, "y": y, "z": z})
    frame = frame.assign(size=size[school], u=u[item])
    frame.loc[rng.random(n) < 0.25, "y"] = NAN
    frame.loc[(rng.random(n) < 0.2) | (school < 2), "z"] = NAN
    return frame


TABLE = table()
NEW = pd.DataFrame(
    [
        (7, "a", 2.0, NAN, 8.0, NAN, NAN), (3, "c", 1.0, 14.0, NAN, NAN, NAN), (50, "c", 1.0, 16.0, NAN, 1.5, NAN),
        (50, "new", 0.0, NAN, NAN, NAN, NAN), (4, "new", 3.0, 14.0, 9.0, NAN, 0.7),
        (60, "newer", 0.5, NAN, NAN, NAN, NAN), (0, "g", 2.5, 18.0, NAN, NAN, NAN),
    ],
    columns=["school", "item", "x", "y", "z", "size", "u"],
)  # fmt: skip


@pytest.fixture(scope="module")
def imp():
    return bi.JointLatent(bi.IncompleteData(TABLE, ["school", "item"]), FORMULA).impute(**RUN)


def law(imp, monkeypatch, draw: int):
    """Mean and covariance of y, z of the new rows, then size, u of their groups, where the table gives none."""
    made = []
    monkeypatch.setattr(module, "new_rows_rng", lambda seed, k: made.append(Normals()) or made[-1])

    def cells(times: int):
        h = imp.run.history
        again = {
            name: np.repeat(value[:1, draw : draw + 1], times, axis=1) if name != "cells" else value[:1, :1]
            for name, value in vars(h).items()
        }
        run = replace(imp.run, kept=replace(h, **again), spacing=1)
        return run.transform(NewRows(imp.data, NEW), times, 0)

    cells(1)
    number = made[0].used
    monkeypatch.setattr(module, "new_rows_rng", lambda seed, k: Normals(None if k == 0 else k - 1))
    found = cells(1 + number)
    parts = []
    for name in ("y", "z", "size", "u"):
        rows, values = found[name]
        if name in ("size", "u"):  # one column for each group whose value neither table has
            labels = NEW["school" if name == "size" else "item"].to_numpy()[rows]
            first = [k for k, label in enumerate(labels) if list(labels).index(label) == k]
            values = values[:, [k for k in first if np.ptp(values[:, k]) > 0]]
        parts.append(values)
    values = np.hstack(parts)
    slopes = values[1:] - values[0]
    return values[0], slopes.T @ slopes


def dense(imp, draw: int):
    """The same by dense algebra of all cells of both tables, and of the variables of all groups."""
    post = imp.tree["posterior"].isel(chain=0, draw=draw)
    rows = pd.concat([TABLE, NEW], ignore_index=True)
    n = len(rows)
    X = np.column_stack([np.ones(n), rows["x"]])
    mean, value = [(X @ post.beta.values).T.ravel()], [rows[["y", "z"]].to_numpy().T.ravel()]
    is_new, parts = [np.tile(np.arange(n) >= len(TABLE), 2)], []
    for name, variable, Z in (("school", "size", X[:, :1]), ("item", "u", X)):
        labels, codes = np.unique(rows[name].astype(str), return_inverse=True)
        G, q, Psi = len(labels), Z.shape[1], post[f"Psi_{name}"].values
        A = np.zeros((2 * n, G, 2 * q + 1))
        for k in range(2):
            A[k * n + np.arange(n), codes, k * q : (k + 1) * q] = Z
        own = np.zeros((G, G, 2 * q + 1))
        own[np.arange(G), np.arange(G), -1] = 1.0
        parts.append((A, own, Psi))
        mean.append(np.full(G, post[f"beta_{name}"].values[0, 0]))
        y = rows.groupby(codes)[variable].first().to_numpy(float)
        value.append(y)
        is_new.append(np.isin(labels, NEW[name].astype(str).unique()))
    sizes = [2 * n, *(len(v) for v in value[1:])]
    at = np.cumsum([0, *sizes])
    V = np.zeros((at[-1], at[-1]))
    V[: 2 * n, : 2 * n] = np.kron(post.Sigma.values, np.eye(n))
    for s, (A, own, Psi) in enumerate(parts):
        whole = np.zeros((at[-1], *A.shape[1:]))
        whole[: 2 * n], whole[at[s + 1] : at[s + 2]] = A, own
        V += np.einsum("igk,kl,jgl->ij", whole, Psi, whole, optimize=True)
    mu, y, new = np.concatenate(mean), np.concatenate(value), np.concatenate(is_new)
    seen, wanted = ~np.isnan(y), np.isnan(y) & new
    K = np.linalg.solve(V[np.ix_(seen, seen)], V[np.ix_(seen, wanted)]).T
    return mu[wanted] + K @ (y - mu)[seen], V[np.ix_(wanted, wanted)] - K @ V[np.ix_(seen, wanted)]


def order_of_groups(imp) -> list[int]:
    """`dense` has groups in the order of their labels, `law` by first appearance in the new rows: positions of the
    latter in the former."""
    cells = int(NEW[["y", "z"]].isna().sum().sum())
    out, first = list(range(cells)), cells
    for name, variable in (("school", "size"), ("item", "u")):
        both = pd.concat([TABLE, NEW], ignore_index=True)
        value = both.groupby(both[name].astype(str))[variable].first()
        lacking = [
            label
            for label in sorted(value.index)
            if np.isnan(value[label]) and label in set(NEW[name].astype(str))
        ]
        appear = [label for label in NEW[name].astype(str).unique() if label in lacking]
        out += [first + lacking.index(label) for label in appear]
        first += len(lacking)
    return out


def agrees(imp, monkeypatch, draw: int = 0) -> bool:
    mean, covariance = law(imp, monkeypatch, draw)
    expected, at = dense(imp, draw), order_of_groups(imp)
    if len(mean) != len(at):  # other cells are imputed
        return False
    close = np.allclose(mean, expected[0][at], rtol=1e-7)
    return close and np.allclose(covariance, expected[1][np.ix_(at, at)], rtol=1e-6, atol=1e-8)


def _neighbours(monkeypatch):
    """The effects of the next item."""
    original = RowsOfGroups.of_rows

    def of_rows(self, b):
        places = np.column_stack([self.places[:, 0], (self.places[:, 1] + 1) % self.number[1]])
        return original(replace(self, places=places), b)

    monkeypatch.setattr(RowsOfGroups, "of_rows", of_rows)


def _effects_apart_from_variables(monkeypatch):
    """Effects drawn as if nothing were known of the variables of their groups."""
    original = module._GivenVariables.of

    def without(table, Psi):
        made, n = original(table, Psi), len(Psi) - len(table.labels)
        law = replace(made.law, covariance=np.repeat(Psi[None, :n, :n], len(made.law.covariance), 0))
        return module._GivenVariables(law, [])

    monkeypatch.setattr(module._GivenVariables, "of", without)


def _of_the_next_group(monkeypatch):
    """Values of groups given to the groups after them."""
    original = module._cells

    def moved(run, new, problem, each):
        return original(
            run, new, problem, [[one[0], *(np.roll(V, 1, axis=0) for V in one[1:])] for one in each]
        )

    monkeypatch.setattr(module, "_cells", moved)


def _forgotten_value(monkeypatch):
    """What the new rows say of their groups is ignored."""
    original = module.values_of_groups

    def forgotten(several, s, new):
        made = original(several, s, new)
        known = new.groups_beside(several.factors[s].term.names).known
        return {name: np.where(np.arange(len(v)) < known, v, np.nan) for name, v in made.items()}

    monkeypatch.setattr(module, "values_of_groups", forgotten)


@pytest.mark.parametrize(
    "wrong", [None, _neighbours, _effects_apart_from_variables, _of_the_next_group, _forgotten_value],
    ids=lambda f: f.__name__ if f else "right",
)  # fmt: skip
def test_the_law_of_numbers_is_the_dense_normal_one(imp, wrong, monkeypatch):
    """Known and new schools and items, slopes of the second factor, a variable of each factor's groups."""
    if wrong is not None:
        wrong(monkeypatch)
    assert agrees(imp, monkeypatch, 23) == (wrong is None)


def test_each_table_has_the_parameters_of_its_own_imputation(imp, monkeypatch):
    monkeypatch.setattr(module, "new_rows_rng", lambda seed, k: Normals())
    done = imp.transform(NEW, seed=0)
    cells = int(NEW[["y", "z"]].isna().sum().sum())
    for k in range(imp.m):
        draw = (k // 4 + 1) * imp.attrs["spacing"] - 1
        of_chain = type(
            "Chain", (), {"tree": {"posterior": imp.tree["posterior"].to_dataset().isel(chain=[k % 4])}}
        )
        drawn = np.concatenate([done.values(name)[k] for name in ("y", "z")])
        np.testing.assert_allclose(drawn, dense(of_chain, draw)[0][:cells], rtol=1e-8)
        assert (
            done.frame(k).loc[0, "size"] == TABLE.loc[TABLE["school"] == 7, "size"].iloc[0]
        )  # known from the run
        assert done.frame(k).loc[3, "size"] == 1.5  # known from another new row


def test_where_all_are_numbers_it_is_the_law_of_joint_normal(monkeypatch):
    """The same parameters: the cells of both engines have the same means."""
    frame, priors = (
        TABLE.drop(columns=["size", "u"]),
        pr.Priors(Psi=pr.HuangWand(), Psi_of={"item": pr.HuangWand()}),
    )
    formula = "y + z ~ x + (1 | school) + (1 + x | item)"
    imp = bi.JointLatent(bi.IncompleteData(frame, ["school", "item"]), formula, priors).impute(**RUN)
    monkeypatch.setattr(module, "new_rows_rng", lambda seed, k: Normals())
    ours = imp.transform(NEW, seed=1)
    from bayesimp.joint.levels import new_rows as of_normal

    run = bi.JointNormal(bi.IncompleteData(frame, ["school", "item"]), formula, priors).impute(**RUN).run
    h, theirs = imp.run.history, run.history
    kept = replace(theirs, beta=h.beta, Sigma=h.Sigma, Psi=h.Psi)
    monkeypatch.setattr(of_normal, "new_rows_rng", lambda seed, k: Normals())
    one = replace(run, kept=kept, spacing=imp.run.spacing)
    cells = one.transform(NewRows(imp.data, NEW), 4, 1)
    for name in ("y", "z"):
        np.testing.assert_allclose(cells[name][1], ours.values(name), rtol=1e-7)


# -- levels --------------------------------------------------------------------------------------------------

SCHOOL = np.array([[1.5, 0.9], [0.9, 1.0]])  # effect on y, latent s of schools
CLASS = np.array([[2.0, 1.0], [1.0, 0.8]])  # effect on y, v of classes
S, V = (
    np.array([1.0, 0.0, 1.0, NAN]),
    np.array([0.9, -0.8, NAN, NAN]),
)  # the last school, the last class are new
KEYS = [  # school, class, y; those that are new follow
    (0, 0, 1), (0, 1, 0), (0, 2, 1), (1, 0, 1), (1, 1, 0), (1, 2, 0), (2, 0, 1), (2, 1, 0), (2, 2, 1), (0, 2, 1),
    (0, 1, 1), (1, 0, 0), (2, 2, 0), (1, 1, 0),
    (0, 0, NAN), (1, 2, NAN), (2, 3, 1), (0, 3, NAN), (3, 0, 0), (3, 1, 0), (3, 2, NAN), (3, 3, NAN),
]  # fmt: skip
OLD = 14


def small() -> tuple[bi.JointLatent, pd.DataFrame]:
    school, klass, y = np.array(KEYS, dtype=float).T
    frame = pd.DataFrame(
        {"school": school.astype(int), "class": np.array(list("pqrs"))[klass.astype(int)], "y": y}
    )
    frame = frame.assign(s=S[school.astype(int)], v=V[klass.astype(int)])
    families = {"y": "bernoulli", "s": "bernoulli"}
    data = bi.IncompleteData(frame[:OLD], ["school", "class"], families)
    priors = pr.Priors(beta=pr.Normal(0.0, 1e-3), Psi=pr.Fixed(SCHOOL), Psi_of={"class": pr.Fixed(CLASS)})
    model = bi.JointLatent(data, "y + s + v ~ 1 + (1 | school) + (1 | class)", priors)
    return model, frame[OLD:].reset_index(drop=True)


def probabilities() -> dict[str, float]:
    """P(y = 1) of the new rows in which y is missing, P(s = 1) of the new school, mean of v of the new class."""
    school, klass, y = np.array(KEYS).T
    z, weight = nodes(1, 15)
    a = np.sqrt(SCHOOL[0, 0]) * z[:, 0]
    grid, of_grid = nodes(4, 9)
    slope = np.where(np.isnan(V), 0.0, CLASS[0, 1] / CLASS[1, 1])
    rest = CLASS[0, 0] - slope * CLASS[0, 1]
    c = slope * np.nan_to_num(V) + np.sqrt(rest) * grid
    level = ndtr(SCHOOL[0, 1] / SCHOOL[0, 0] * a / np.sqrt(1 - SCHOOL[0, 1] ** 2 / SCHOOL[0, 0]))
    v = CLASS[0, 1] / CLASS[0, 0] * c[:, 3]

    def total(one: int | None = None, s_is_one: bool = False) -> np.ndarray:
        out = of_grid.copy()
        for i in range(4):
            part = np.tile(
                weight * (level if S[i] == 1 or (s_is_one and i == 3) else 1.0 if i == 3 else 1 - level),
                (len(c), 1),
            )
            for j in np.flatnonzero(school == i):
                p = ndtr(a + c[:, [int(klass[j])]])
                part *= p if y[j] == 1 or j == one else 1 - p if y[j] == 0 else 1.0
            out *= part.sum(axis=1)
        return out

    w = total()
    lost = [j for j in range(OLD, len(KEYS)) if np.isnan(y[j])]
    out = {f"y{j}": total(j).sum() / w.sum() for j in lost}
    return out | {"s": total(s_is_one=True).sum() / w.sum(), "v": (w * v).sum() / w.sum()}


def drawn(monkeypatch, m: int = 600) -> dict[str, np.ndarray]:
    """The same of completed tables; 10 sweeps each, so that a chain that has not forgotten its start shows."""
    monkeypatch.setattr(module, "SWEEPS", 10)
    model, new = small()
    imp = model.impute(m=m, seed=3, chains=2, draws=m // 2, thin=1, tune=20, progress=False)
    made = imp.transform(new, seed=8)
    rows = list(made.rows("y"))
    out = {f"y{OLD + j}": made.values("y")[:, k] for k, j in enumerate(rows)}
    at = {name: list(made.rows(name)) for name in ("s", "v")}
    school, klass = new["school"].to_numpy(), new["class"].to_numpy()
    own = {
        "s": [k for k, j in enumerate(at["s"]) if school[j] == 3],
        "v": [k for k, j in enumerate(at["v"]) if klass[j] == "s"],
    }
    for name, places in own.items():
        values = made.values(name)[:, places]
        assert len(places) > 1 and (values == values[:, :1]).all()  # one value for each group
        out[name] = values[:, 0]
    return out


def agreement(found: dict[str, np.ndarray]) -> float:
    expected = probabilities()
    assert found.keys() == expected.keys()
    z = [(found[n].mean() - expected[n]) / (found[n].std() / np.sqrt(len(found[n]))) for n in expected]
    return bonferroni(2 * norm.sf(np.abs(z)))


def _levels_ignored(monkeypatch):
    """Latent values of levels are ignored."""
    monkeypatch.setattr(module, "_renew", lambda *arguments: None)


@pytest.mark.parametrize("wrong", [None, _neighbours, _levels_ignored])
def test_levels_have_the_probabilities_of_quadrature(wrong, monkeypatch):
    if wrong is None:
        assert agreement(drawn(monkeypatch)) > LEVEL
    else:
        wrong(monkeypatch)
        assert agreement(drawn(monkeypatch, 200)) < REJECTED


# -- the rest ------------------------------------------------------------------------------------------------


def test_order_of_rows_and_labels_do_not_matter_and_a_shift_moves_numbers(imp):
    ours = imp.transform(NEW, seed=5)
    shuffled = imp.transform(NEW.iloc[::-1], seed=5)
    renamed = imp.transform(
        NEW.replace({"school": {50: 99, 60: 44}, "item": {"new": "zz", "newer": "0"}}), seed=5
    )
    moved = imp.run.model.with_shift(Shift({"y": 3.0, "u": 1.0})).impute(**RUN).transform(NEW, seed=5)
    for k in range(imp.m):
        pd.testing.assert_frame_equal(shuffled.frame(k).sort_index(), ours.frame(k), rtol=1e-9)
        columns = ["y", "z", "size", "u"]
        pd.testing.assert_frame_equal(renamed.frame(k)[columns], ours.frame(k)[columns], rtol=1e-9)
    np.testing.assert_allclose(moved.values("y"), ours.values("y") + 3.0)
    known = np.ptp(ours.values("u"), axis=0) == 0
    np.testing.assert_allclose(moved.values("u"), ours.values("u") + np.where(known, 0.0, 1.0))


@pytest.mark.parametrize(
    "change, words",
    [
        (
            {"size": 100.0},
            r"'size' has a single value in every group of 'school' of the run's table, but with the new",
        ),
        ({"u": [0.7, 1.0, 1.0, 1.5, 0.7, NAN, NAN]}, r"'u' has a single value .* in \d groups .*'new'"),
    ],
    ids=["against the run", "among the new rows"],
)
def test_values_that_contradict_those_of_a_group_are_refused(imp, change, words):
    with pytest.raises(DataError, match=words):
        imp.transform(NEW.assign(**change), seed=1)
