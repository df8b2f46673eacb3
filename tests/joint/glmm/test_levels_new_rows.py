"""New rows of a joint GLMM with several grouping factors, at given parameters: against dense normals and quadrature.

See tests/joint/glmm/test_new_rows.py. Limits in Monte Carlo standard errors of a chain, by 50 batches: 4.5 is 7e-6 for
one comparison, below 1e-3 for all of this file.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.linalg import block_diag
from scipy.special import expit

import bayesimp as bi
from bayesimp import priors as pr
from bayesimp.errors import DataError
from bayesimp.joint.glmm import new_rows as module
from bayesimp.joint.glmm import new_table as table_module
from bayesimp.joint.glmm.levels import FurtherEffects
from bayesimp.kernels.levels.nested import shift_connected
from tests.joint.glmm.test_new_rows import LIMIT, at_draw, chain_values, distances, standard_error
from tests.joint.latent.brute_force import nodes

NAN = np.nan
RUN = {"m": 4, "seed": 1, "draws": 60, "tune": 60, "progress": False}


def linear() -> pd.DataFrame:
    """9 schools crossed with 6 items: x, then y given x."""
    rng = np.random.default_rng(7)
    n = 70
    school, item, s = rng.integers(0, 9, n), rng.integers(0, 6, n), rng.normal(size=n)
    a, c = rng.normal(size=(9, 2)), rng.normal(size=(6, 2))
    x = 1 + 0.5 * s + a[school, 0] + c[item, 0] + rng.normal(size=n)
    y = 5 + x + a[school, 1] * s + c[item, 1] + rng.normal(size=n)
    frame = pd.DataFrame({"school": school, "item": np.array(list("abcdef"))[item], "s": s, "x": x, "y": y})
    frame.loc[(rng.random(n) < 0.2) | (school < 2), "x"] = NAN
    frame.loc[rng.random(n) < 0.1, "y"] = NAN
    return frame


LINEAR = linear()
NEW = pd.DataFrame(
    [
        (7, "a", 1.0, NAN, 9.0), (50, "b", -1.0, 0.5, NAN), (0, "new", 0.5, NAN, NAN), (50, "new", 0.0, 2.0, 4.0),
        (60, "newer", 0.0, NAN, NAN),
    ],
    columns=["school", "item", "s", "x", "y"],
)  # fmt: skip


@pytest.fixture(scope="module")
def imp():
    model = bi.JointGLMM(
        bi.IncompleteData(LINEAR, ["school", "item"]), "y ~ x + s + (1 + s | school) + (1 + s | item)",
        {"x": "~ s + (1 | school) + (1 | item)"},
    )  # fmt: skip
    return model.impute(**RUN)


def dense(imp, draw: int = 0, *, item: float = 1.0, training: bool = True):
    """Mean and covariance of the missing cells of the new rows, x then y; keywords make it wrong."""
    p = {name: array.values[0, draw] for name, array in imp.tree["posterior"].data_vars.items()}
    post = imp.tree["posterior"]
    b_x, b_y = (dict(zip(post[f"fixed_{v}"].values, p[f"beta_{v}"], strict=True)) for v in "xy")
    assert list(post["effect_school"].values) == ["x:Intercept", "y:Intercept", "y:s"]
    rows = pd.concat([LINEAR if training else LINEAR[:0], NEW])
    n, s = len(rows), rows["s"].to_numpy()
    one, zero = np.ones(n), np.zeros(n)
    mu = np.concatenate([b_x["Intercept"] + b_x["s"] * s, b_y["Intercept"] + b_y["s"] * s])
    Z = np.column_stack([np.r_[one, zero], np.r_[zero, one], np.r_[zero, s]])
    V = np.kron(np.diag([p["sigma2_x"], p["sigma2_y"]]), np.eye(n))
    for name, columns, times in (("school", Z, 1.0), ("item", Z, item)):
        same = rows[name].to_numpy()[:, None] == rows[name].to_numpy()
        V += times * columns @ p[f"Psi_{name}"] @ columns.T * np.tile(same, (2, 2))
    A = np.block([[np.eye(n), np.zeros((n, n))], [b_y["x"] * np.eye(n), np.eye(n)]])
    mu, V = A @ mu, A @ V @ A.T
    v = rows[["x", "y"]].to_numpy().T.ravel()
    seen, wanted = ~np.isnan(v), np.isnan(v) & np.tile(np.arange(n) >= n - len(NEW), 2)
    K = np.linalg.solve(V[np.ix_(seen, seen)], V[np.ix_(seen, wanted)]).T
    return mu[wanted] + K @ (v - mu)[seen], V[np.ix_(wanted, wanted)] - K @ V[np.ix_(seen, wanted)]


def chain(imp, sweeps: int) -> np.ndarray:
    values = chain_values(imp.run, NEW, sweeps)
    return np.hstack([values[name] for name in ("x", "y")])


@pytest.fixture(scope="module")
def right(imp):
    return chain(imp, 2_500)


def test_linear_normal_factors_have_the_dense_law(imp, right):
    assert np.abs(distances(right, *dense(imp))).max() < LIMIT


@pytest.mark.parametrize("wrong", [{"item": 1e-9}, {"training": False}], ids=["items", "table"])
def test_wrong_laws_are_told_apart(imp, right, wrong):
    assert np.abs(distances(right, *dense(imp, **wrong))).max() > 2 * LIMIT


def _neighbours(monkeypatch):
    """The effects of the next item are added."""
    effects = FurtherEffects.effects
    monkeypatch.setattr(
        FurtherEffects, "effects", lambda self, k, s: np.roll(effects(self, k, s), -int(s > 0), axis=0)
    )


def _own_schools(monkeypatch):
    """Only the rows of the schools of the new rows."""

    def own(codes, first_new):
        return np.flatnonzero(np.isin(codes[:, 0], codes[first_new:, 0]))

    monkeypatch.setattr(table_module, "connected_rows", own)


@pytest.mark.parametrize("wrong", [_neighbours, _own_schools])
def test_wrong_wirings_are_told_apart(imp, wrong, monkeypatch):
    wrong(monkeypatch)
    assert np.abs(distances(chain(imp, 1_000), *dense(imp))).max() > 2 * LIMIT


def test_a_quarter_of_the_sweeps_is_enough(imp, monkeypatch):
    """100 tables at one draw after 25 sweeps, each from its own start: means and variances of the dense normal."""
    monkeypatch.setattr(module, "SWEEPS", 25)
    made = at_draw(imp.run, 0, 100).transform(module.NewRows(imp.data, NEW), 100, 2)
    values = np.hstack([made[name][1] for name in ("x", "y")])
    mean, covariance = dense(imp)
    sd = np.sqrt(np.diag(covariance))
    z = (values.mean(axis=0) - mean) / (sd / 10)
    v = (((values - mean) ** 2).mean(axis=0) / sd**2 - 1) / np.sqrt(2 / 100)
    assert np.abs(np.r_[z, v]).max() < LIMIT


# -- binary responses: quadrature ----------------------------------------------------------------------------


def test_a_binary_response_has_the_law_of_quadrature(monkeypatch):
    """At known covariances: P(y = 1) in known and new schools and classes, by a grid over the effects of both."""
    keys = [  # school, class, y; the last six are new
        (0, 0, 1), (0, 1, 0), (0, 2, 1), (1, 0, 1), (1, 1, 0), (1, 2, 0), (2, 0, 1), (2, 1, 0), (2, 2, 1), (0, 2, 1),
        (0, 1, NAN), (2, 2, 0), (1, 1, 1), (0, 0, NAN), (1, 2, NAN), (2, 3, 1), (0, 3, NAN), (3, 0, 0), (3, 3, NAN),
    ]  # fmt: skip
    old = 13
    school, klass, y = np.array(keys, dtype=float).T
    frame = pd.DataFrame(
        {"school": school.astype(int), "class": np.array(list("pqrs"))[klass.astype(int)], "y": y}
    )
    data = bi.IncompleteData(frame[:old], ["school", "class"], {"y": "bernoulli"})
    priors = pr.Priors(beta=pr.Normal(0.0, 1e-3), Psi=pr.Fixed([[1.5]]), Psi_of={"class": pr.Fixed([[2.0]])})
    model = bi.JointGLMM(data, "y ~ 1 + (1 | school) + (1 | class)", priors=priors)
    imp = model.impute(m=4, seed=1, draws=20, tune=40, progress=False)
    found = chain_values(imp.run, frame[old:].reset_index(drop=True), 3_000)["y"]
    z, weight = nodes(1, 15)
    a = np.sqrt(1.5) * z[:, 0]
    grid, of_grid = nodes(4, 9)
    c = np.sqrt(2.0) * grid

    def total(one: int | None = None, factor: float = 1.0) -> float:
        out = of_grid.copy()
        for i in range(4):
            part = np.tile(weight, (len(c), 1))
            for j in np.flatnonzero(school == i):
                p = expit(a + factor * c[:, [int(klass[j])]])
                part *= p if y[j] == 1 or j == one else 1 - p if y[j] == 0 else 1.0
            out *= part.sum(axis=1)
        return out.sum()

    lost = [j for j in range(old, len(keys)) if np.isnan(y[j])]
    exact, without = (np.array([total(j, f) for j in lost]) / total(None, f) for f in (1.0, 1e-9))
    assert np.abs((found.mean(axis=0) - exact) / standard_error(found)).max() < LIMIT
    assert np.abs((found.mean(axis=0) - without) / standard_error(found)).max() > 2 * LIMIT


def test_the_move_of_crossed_intercepts_is_its_conditional_normal():
    """b + d v, v = -1 for the intercepts of one factor, 1 for the other's: d ~ N(-v'Q b / v'Q v, 1 / v'Q v), by part."""
    rng = np.random.default_rng(0)
    Psi = np.array([[1.0, 0.4], [0.4, 0.8]]), np.array([[0.7, 0.1, 0.0], [0.1, 0.5, 0.2], [0.0, 0.2, 2.0]])
    part, at = (np.array([0, 1, 0, 1, 1]), np.array([1, 0, 0])), (1, 2)
    effects = rng.normal(size=(5, 2)), rng.normal(size=(3, 3))
    Q = block_diag(*[np.linalg.inv(Psi[0])] * 5, *[np.linalg.inv(Psi[1])] * 3)
    b = np.concatenate([e.ravel() for e in effects])
    moved = []
    for normals in ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0)):
        copies = effects[0].copy(), effects[1].copy()
        generator = type("Normals", (), {"standard_normal": lambda self, size, z=normals: np.array(z)})()
        shift_connected(generator, Psi, copies, at, part)
        moved.append(np.concatenate([e.ravel() for e in copies]))
    expected = b.copy()
    for h in range(2):
        v = np.zeros(len(b))
        v[:10].reshape(5, 2)[part[0] == h, 1], v[10:].reshape(3, 3)[part[1] == h, 2] = -1.0, 1.0
        expected -= v * (v @ Q @ b) / (v @ Q @ v)
        np.testing.assert_allclose(moved[1 + h] - moved[0], v / np.sqrt(v @ Q @ v), atol=1e-14)
    np.testing.assert_allclose(moved[0], expected, rtol=1e-12)


# -- the rest ------------------------------------------------------------------------------------------------


def test_order_of_rows_and_labels_do_not_matter(imp, monkeypatch):
    monkeypatch.setattr(module, "SWEEPS", 3)
    ours = imp.transform(NEW, seed=5)
    shuffled = imp.transform(NEW.iloc[::-1], seed=5)
    renamed = imp.transform(
        NEW.replace({"school": {50: 99, 60: 44}, "item": {"new": "zz", "newer": "0"}}), seed=5
    )
    for k in range(imp.m):
        pd.testing.assert_frame_equal(shuffled.frame(k).sort_index(), ours.frame(k), rtol=1e-9)
        pd.testing.assert_frame_equal(renamed.frame(k)[["x", "y"]], ours.frame(k)[["x", "y"]], rtol=1e-9)
    events = {event.where: event.message for event in ours.log if event.kind == "new clusters"}
    assert "2 of 4 groups of 'item', with 3 rows" in events["item"]


def test_a_class_level_variable_with_schools_above(monkeypatch):
    """Clusters are classes in schools: their variable is known from either table, and imputed once in a new class."""
    rng = np.random.default_rng(2)
    n = 96
    klass = np.arange(n) // 4
    frame = pd.DataFrame({"class": klass, "school": klass // 3, "x": rng.normal(size=n)})
    size = rng.normal(size=24) + rng.normal(size=8)[np.arange(24) // 3]
    size[[2, 9]] = NAN
    frame = frame.assign(size=size[klass], y=frame["x"] + np.nan_to_num(size)[klass] + rng.normal(size=n))
    frame.loc[::9, "y"] = NAN
    model = bi.JointGLMM(
        bi.IncompleteData(frame, ["class", "school"]), "y ~ x + size + (1 | class) + (1 | school)"
    )
    imp = model.impute(**RUN)
    monkeypatch.setattr(module, "SWEEPS", 10)
    new = pd.DataFrame(
        {"class": [0, 2, 99, 99], "school": [0, 0, 3, 3], "x": 0.0, "size": NAN, "y": [NAN, 1.0, NAN, 2.0]}
    )
    done = imp.transform(new, seed=3)
    assert (done.values("size")[:, 0] == size[0]).all()
    assert (done.values("size")[:, 2] == done.values("size")[:, 3]).all() and np.ptp(
        done.values("size")[:, 2]
    ) > 0
    with pytest.raises(DataError, match="'size' has a single value in every cluster of the run's table"):
        imp.transform(new.assign(size=[size[0] + 1, NAN, NAN, NAN]), seed=1)


def test_a_draw_behind_each_imputation(imp, monkeypatch):
    """Table k: chain k % 4 at its draw (k // 4 + 1) * spacing - 1, told by residual sds far apart in a new school."""
    h, seen = imp.run.history, []
    original = module.given_chain

    def given(run, table, layout, k, seed):
        made = original(run, table, layout, k, seed)
        seen.append(made.sd.copy())
        return made

    monkeypatch.setattr(module, "given_chain", given)
    monkeypatch.setattr(module, "SWEEPS", 1)
    imp.transform(NEW, seed=1)
    expected = [h.sd[k % 4, (k // 4 + 1) * imp.attrs["spacing"] - 1] for k in range(imp.m)]
    np.testing.assert_array_equal(seen, expected)
    assert len({tuple(one) for one in seen}) == imp.m
