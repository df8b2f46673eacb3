"""New rows completed from the draws of a run: the law that they are drawn from, against dense normal algebra.

Imputed values are affine in the standard normals that they are made from. Given zero and then each unit vector in place
of them, the values give mean and covariance without Monte Carlo error, which are compared with those of the dense normal
law of all cells of a cluster, of the run's table and of the new one.
"""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import bayesimp as bi
from bayesimp.contract import Shift
from bayesimp.joint import new_rows as module
from bayesimp.joint.gibbs import JointDraws
from tests.unit_normals import Normals

FORMULA = "y + z ~ x + w + (1 + x | g)"
RNG = np.random.default_rng(3)
G = np.repeat(np.arange(8), 9)
U = RNG.normal(size=(8, 2))


def _table():
    n = len(G)
    x, w = RNG.normal(size=n) + 3, RNG.choice(["a", "b", "c"], n)
    y = 10 + 2 * x + U[G, 0] + RNG.normal(size=n)
    z = y - x + U[G, 1] * x + RNG.normal(size=n)
    frame = pd.DataFrame({"g": G, "x": x, "w": w, "y": y, "z": z})
    frame.loc[RNG.random(n) < 0.25, "y"] = np.nan
    frame.loc[(RNG.random(n) < 0.2) | (G < 2), "z"] = np.nan  # systematically missing in clusters 0 and 1
    return frame


TABLE = _table()
NAN = np.nan
NEW = pd.DataFrame(
    [
        (7, 2.0, "a", NAN, 8.0), (7, 5.0, "b", 25.0, NAN), (50, 1.0, "c", 16.0, NAN), (0, 2.5, "a", NAN, NAN),
        (50, 4.0, "a", NAN, NAN), (3, 3.0, "a", 14.0, 12.0), (60, 3.5, "b", NAN, NAN), (0, 4.5, "c", 22.0, NAN),
        (60, 1.5, "b", NAN, NAN), (2, 3.0, "b", NAN, NAN),
    ],
    columns=list("gxwyz"),
)  # fmt: skip


@pytest.fixture(scope="module")
def imp():
    model = bi.JointNormal(bi.IncompleteData(TABLE, "g"), FORMULA)
    return model.impute(m=4, seed=1, draws=100, progress=False)


def law(imp, new, draw, monkeypatch):
    """Mean and covariance of the missing cells at one draw of the run: cells in the order y, then z."""
    d = imp.run.draws
    count = 1 + 200
    again = [np.repeat(a[:1, draw : draw + 1], count, axis=1) for a in (d.beta, d.Sigma, d.Psi, d.mean, d.sd)]
    run = replace(imp.run, kept=JointDraws(*again), spacing=1)
    monkeypatch.setattr(module, "new_rows_rng", lambda seed, k: Normals(None if k == 0 else k - 1))
    cells = run.transform(bi.table.new_rows.NewRows(imp.data, new), count, 0)
    values = np.hstack([cells[name][1] for name in ("y", "z")])
    slopes = values[1:] - values[0]
    assert not slopes[-1].any(), "more normals than unit vectors"
    return values[0], slopes.T @ slopes


def dense(imp, new, draw, *, psi=1.0, training=True, new_effects=True, separate=False):
    """The same by dense algebra; keywords make it wrong: effects ignored, the table forgotten, ..."""
    beta, Sigma, Psi = (imp.tree["posterior"][name].values[0, draw] for name in ("beta", "Sigma", "Psi"))
    missing = np.concatenate([new["y"].isna(), new["z"].isna()])
    mean, covariance = np.full(2 * len(new), np.nan), np.zeros((2 * len(new), 2 * len(new)))
    for label in new["g"].unique():
        own = np.flatnonzero(new["g"] == label)
        before = TABLE[TABLE["g"] == label] if training else TABLE[:0]
        rows = pd.concat([before, new.iloc[own]])
        n = len(rows)
        X = np.column_stack([np.ones(n), rows["x"], rows["w"] == "b", rows["w"] == "c"]).astype(float)
        Z = np.column_stack([np.ones(n), rows["x"]]).astype(float)
        scale = psi * (new_effects or label in TABLE["g"].values)
        together = np.eye(n) if separate else np.ones((n, n))
        V = np.kron(Sigma, np.eye(n))
        for j in range(2):
            for k in range(2):
                block = Z @ Psi[2 * j : 2 * j + 2, 2 * k : 2 * k + 2] @ Z.T
                V[j * n : (j + 1) * n, k * n : (k + 1) * n] += scale * block * together
        mu, y = (X @ beta).T.ravel(), rows[["y", "z"]].to_numpy(float).T.ravel()
        seen = ~np.isnan(y)
        wanted = np.concatenate([len(before) + np.arange(len(own)), n + len(before) + np.arange(len(own))])
        wanted = wanted[~seen[wanted]]
        K = np.linalg.solve(V[np.ix_(seen, seen)], V[np.ix_(seen, wanted)]).T
        place = np.concatenate([own, len(new) + own])
        place = place[missing[place]]
        mean[place] = mu[wanted] + K @ (y - mu)[seen]
        covariance[np.ix_(place, place)] = V[np.ix_(wanted, wanted)] - K @ V[np.ix_(seen, wanted)]
    return mean[missing], covariance[np.ix_(missing, missing)]


@pytest.mark.parametrize("draw", [0, 57])
def test_the_law_is_the_dense_normal_one(imp, draw, monkeypatch):
    mean, covariance = law(imp, NEW, draw, monkeypatch)
    expected = dense(imp, NEW, draw)
    np.testing.assert_allclose(mean, expected[0], rtol=1e-8)
    np.testing.assert_allclose(covariance, expected[1], rtol=1e-7, atol=1e-9)


WRONG = {
    "effects ignored": {"psi": 0.0},
    "the table of the run forgotten": {"training": False},
    "effects of new clusters 0": {"new_effects": False},
    "an effect for each row": {"separate": True},
}


@pytest.mark.parametrize("variant", WRONG)
def test_wrong_laws_are_told_apart(imp, variant, monkeypatch):
    mean, covariance = law(imp, NEW, 0, monkeypatch)
    wrong = dense(imp, NEW, 0, **WRONG[variant])
    assert np.abs(mean - wrong[0]).max() > 0.01
    assert np.abs(covariance - wrong[1]).max() > 0.01


def test_each_table_has_the_parameters_of_its_own_imputation(imp, monkeypatch):
    """Table k: draw (k // chains + 1) * spacing - 1 of chain k % chains, as the completed tables of the run."""
    monkeypatch.setattr(module, "new_rows_rng", lambda seed, k: Normals(None))
    done = imp.transform(NEW, seed=0)
    for k in range(imp.m):
        chain, draw = k % 4, (k // 4 + 1) * imp.attrs["spacing"] - 1
        at_chain = type(
            "Chain", (), {"tree": {"posterior": imp.tree["posterior"].to_dataset().isel(chain=[chain])}}
        )
        expected = dense(at_chain, NEW, draw)[0]
        drawn = np.concatenate([done.values(name)[k] for name in ("y", "z")])
        np.testing.assert_allclose(drawn, expected, rtol=1e-8)
        frame = done.frame(k)
        cells = np.concatenate([frame[name][NEW[name].isna()] for name in ("y", "z")])
        np.testing.assert_array_equal(cells, drawn)


def test_the_mean_over_draws_is_within_monte_carlo_error():
    """With the generator of a run: 4,000 tables at one draw; 28 means and variances, |z| < 4.5 (level 2e-4 in all)."""
    model = bi.JointNormal(bi.IncompleteData(TABLE, "g"), FORMULA)
    one = model.impute(m=4, seed=1, draws=100, progress=False)
    d = one.run.draws
    again = [np.repeat(a[:1, :1], 4000, axis=1) for a in (d.beta, d.Sigma, d.Psi, d.mean, d.sd)]
    run = replace(one.run, kept=JointDraws(*again), spacing=1)
    cells = run.transform(bi.table.new_rows.NewRows(one.data, NEW), 4000, 11)
    values = np.hstack([cells[name][1] for name in ("y", "z")])
    mean, covariance = dense(one, NEW, 0)
    sd = np.sqrt(np.diag(covariance))
    z = np.concatenate([
        (values.mean(0) - mean) / (sd / np.sqrt(4000)), (values.var(0) / sd**2 - 1) / np.sqrt(2 / 4000),
    ])  # fmt: skip
    assert np.abs(z).max() < 4.5


def test_units_and_origins_do_not_matter(imp):
    other = {"y": (1000.0, -7.0), "z": (0.01, 300.0), "x": (60.0, 5.0)}

    def moved(frame):
        return frame.assign(**{name: a * frame[name] + b for name, (a, b) in other.items()})

    model = bi.JointNormal(bi.IncompleteData(moved(TABLE), "g"), FORMULA)
    theirs = model.impute(m=4, seed=1, draws=100, progress=False).transform(moved(NEW), seed=5)
    ours = imp.transform(NEW, seed=5)
    for name in ("y", "z"):
        a, b = other[name]
        np.testing.assert_allclose(theirs.values(name), a * ours.values(name) + b, rtol=1e-6)


def test_order_of_rows_and_labels_of_clusters_do_not_matter(imp):
    ours = imp.transform(NEW, seed=5)
    order = np.random.default_rng(0).permutation(len(NEW))
    shuffled = imp.transform(NEW.iloc[order], seed=5)
    names = NEW.assign(g=NEW["g"].map({50: 99, 60: 44}).fillna(NEW["g"]).astype(int))
    renamed = imp.transform(names, seed=5)
    for k in range(imp.m):
        pd.testing.assert_frame_equal(shuffled.frame(k).sort_index(), ours.frame(k), rtol=1e-12)
        pd.testing.assert_frame_equal(renamed.frame(k)[["y", "z"]], ours.frame(k)[["y", "z"]], rtol=1e-12)


def test_a_shift_moves_new_rows_too(imp):
    model = bi.JointNormal(imp.data, FORMULA, shift=Shift({"y": 3.0}))
    shifted = model.impute(m=4, seed=1, draws=100, progress=False).transform(NEW, seed=5)
    ours = imp.transform(NEW, seed=5)
    np.testing.assert_allclose(shifted.values("y"), ours.values("y") + 3.0, rtol=1e-12)
    np.testing.assert_allclose(shifted.values("z"), ours.values("z"), rtol=1e-12)


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
def test_a_loaded_run_gives_the_same_bit_for_bit(imp, tmp_path, suffix):
    imp.save(tmp_path / f"run{suffix}")
    again, ours = bi.load(tmp_path / f"run{suffix}").transform(NEW, seed=5), imp.transform(NEW, seed=5)
    for k in range(imp.m):
        pd.testing.assert_frame_equal(again.frame(k), ours.frame(k), check_exact=True)


def test_a_longer_run_begins_with_the_same_tables(imp):
    longer, ours = imp.extend(3, progress=False).transform(NEW, seed=5), imp.transform(NEW, seed=5)
    assert longer.m == 7
    for k in range(imp.m):
        pd.testing.assert_frame_equal(longer.frame(k), ours.frame(k), rtol=1e-12)


def test_means_of_known_clusters_stay_those_of_the_run():
    """cluster_mean(x) of a known cluster is that of the table; of a new one, of its new rows."""
    formula = "y + z ~ x + cluster_mean(x) + cluster_size() + (1 | g)"
    imp = bi.JointNormal(bi.IncompleteData(TABLE.drop(index=[0, 30]), "g"), formula).impute(
        m=2, seed=1, draws=50, progress=False
    )
    new = bi.table.new_rows.NewRows(imp.data, NEW)
    X, _ = bi.formulas.new_rows.new_design(imp.model.formula, imp.model.design, new)
    of_run = TABLE.drop(index=[0, 30]).groupby("g")["x"].agg(["mean", "size"])
    of_new = NEW.groupby("g")["x"].agg(["mean", "size"])
    expected = of_run.combine_first(of_new).loc[NEW["g"]].to_numpy()
    assert list(imp.model.design.fixed) == ["Intercept", "x", "cluster_mean(x)", "cluster_size()"]
    np.testing.assert_allclose(X[:, 2:], expected, rtol=1e-12)
    np.testing.assert_array_equal(X[:, 1], NEW["x"])
