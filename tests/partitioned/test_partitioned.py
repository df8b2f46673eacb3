"""A table in partitions gives what the table in memory gives; wrong variants of the wiring do not."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.special import ndtri
from scipy.stats import kstest

import bayesimp as bi
from bayesimp.diagnostics.convergence import diagnose
from bayesimp.errors import DataError, StatisticalWarning
from bayesimp.joint.gibbs import GibbsTask, initial_state
from bayesimp.joint.rows import rows_from_normals
from bayesimp.kernels.normal.effects import moments
from bayesimp.partitioned import completion, model, passes
from bayesimp.partitioned import moments as sums
from bayesimp.partitioned.gibbs import WholeTableTask
from bayesimp.sampling.chains import imputation_rng, row_uniforms
from bayesimp.sampling.executors import run_task
from tests.federated.tables import FORMULA, pooled

OPTIONS = {"m": 3, "seed": 3, "draws": 60, "chains": 2, "tune": 20, "progress": False}
PARTS = [(0, 500), (500, 501), (501, 1_100), (1_100, 1_600)]
ROUNDING = 1e-9  # relative; measured 1e-12


@pytest.fixture(scope="module")
def frame():
    """Rows in any order, so that every part has rows of most clusters; whole numbers among the responses."""
    made = pooled(rows=100).drop(columns="site").sample(frac=1, random_state=2).reset_index(drop=True)
    return made.assign(z=made["z"].round().astype("Int64"), note=[f"row {k}" for k in range(len(made))])


def written(frame, folder, parts=PARTS):
    folder.mkdir(exist_ok=True)
    for k, (first, last) in enumerate(parts):
        frame.iloc[first:last].to_parquet(folder / f"part-{k}.parquet", index=False, row_group_size=300)
    return folder


@pytest.fixture(scope="module")
def folder(frame, tmp_path_factory):
    return written(frame, tmp_path_factory.mktemp("table"))


def partitioned(folder, formula=FORMULA):
    return bi.PartitionedNormal(bi.IncompleteData.from_parquet(folder, "g"), formula)


@pytest.fixture(scope="module")
def run(folder):
    return partitioned(folder).impute(**OPTIONS)


@pytest.fixture(scope="module")
def whole(frame):
    return bi.JointNormal(bi.IncompleteData(frame, "g"), FORMULA).impute(**OPTIONS)


def gap(mine, theirs):
    """Largest difference of parameters, relative to the largest parameter."""
    names = ("beta", "Sigma", "Psi")
    pairs = [(getattr(mine.draws, name), getattr(theirs.run.draws, name)) for name in names]
    return max(np.abs(a - b).max() / np.abs(b).max() for a, b in pairs)


# parameters ---------------------------------------------------------------------------------------


def test_draws_are_those_of_the_table_in_memory(run, whole, monkeypatch, folder):
    """To rounding, with the same seed. Wrong: a part is forgotten; parts of a cluster count as clusters; the scale is
    that of the first part."""
    assert gap(run, whole) < ROUNDING
    with pytest.warns(StatisticalWarning, match="Ask for more draws"):
        mine = run.summary()
    theirs = diagnose(whole.tree["posterior"].to_dataset())
    pd.testing.assert_frame_equal(mine.parameters[["mean", "sd"]], theirs[["mean", "sd"]], rtol=1e-6)
    assert list(mine.imputed.index) == ["mean[y]", "mean[z]", "sd[y]", "sd[z]"]
    assert "of all clusters together" in str(mine)
    first = bi.PartitionedNormal(bi.IncompleteData.from_parquet(folder / "part-0.parquet", "g"), FORMULA)
    scale = replace(run.model.working, scale=first.working.scale)
    monkeypatch.setattr(model, "working_input", lambda releases: scale)
    assert gap(partitioned(folder).impute(**OPTIONS), whole) > 1e-3
    monkeypatch.undo()
    real = passes._passes
    forgotten = lambda *given: (each for k, each in enumerate(real(*given)) if k != 2)  # noqa: E731
    monkeypatch.setattr(passes, "_passes", forgotten)
    assert gap(partitioned(folder).impute(**OPTIONS), whole) > 1e-3
    apart = lambda *given: (  # noqa: E731
        replace(each, labels=[(k, label) for label in each.labels]) for k, each in enumerate(real(*given))
    )
    monkeypatch.setattr(passes, "_passes", apart)
    wrong = partitioned(folder).impute(**OPTIONS)
    assert wrong.working.statistics.clusters > 40 and gap(wrong, whole) > 1e-3


def test_clusters_are_in_the_order_of_the_table_in_memory(run, whole):
    """By values, so that labels do not matter."""
    order = whole.run.model.grouping.only.working.order
    labels = whole.data.clusters[order].tolist()
    assert sorted(run.model.moments.codes, key=run.model.moments.codes.get) == labels
    assert run.model.moments.ties == 0


def test_imputed_means_and_sds_are_those_of_all_clusters_together(run, whole):
    d, counts = whole.run.draws, whole.data.counts.loc[["y", "z"]].to_numpy().T
    n = counts.sum(axis=0)
    sums_ = np.where(counts > 0, d.mean * counts, 0.0).sum(axis=2)
    squares = np.where(counts > 1, d.sd**2 * (counts - 1), 0.0) + np.where(
        counts > 0, counts * d.mean**2, 0.0
    )
    sd = np.sqrt((squares.sum(axis=2) - sums_**2 / n) / (n - 1))
    np.testing.assert_allclose(run.imputed_stats["mean"], sums_ / n, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(run.imputed_stats["sd"], sd, rtol=1e-7)


def test_chains_are_those_that_keep_clusters(run, monkeypatch):
    """Number for number, in pieces of any length, thinned or not."""
    monkeypatch.setattr("bayesimp.partitioned.gibbs.NUMBERS", 200)
    working, priors = run.working, run.model.working_priors
    for every in (1, 3):
        chains = [initial_state(5, 0, priors, 2, 2) for _ in range(2)]
        _, plain = run_task(GibbsTask(working, priors, every), chains[0], 0, 60)
        _, kept = run_task(WholeTableTask(working, priors, every), chains[1], 0, 60)
        for name in ("beta", "Sigma", "Psi"):
            np.testing.assert_array_equal(getattr(kept, name), getattr(plain, name))
        assert kept.mean.shape == (1, 60 // every, 1, 2)


# completed tables ---------------------------------------------------------------------------------


def completed(run, k=1):
    return pd.concat(run.frames(k))


def test_completed_values_are_the_kernels_with_the_same_normals(run, whole, frame):
    """Rows of the table in memory, completed from its own statistics, with the random numbers of rows by their number."""
    working, k = whole.run.model.grouping.only.working, 1
    rows, st = working.rows, working.statistics
    missing = np.isnan(rows.Y)
    u = row_uniforms(3, k, 0, len(frame), 2)[rows.row][missing]
    z = np.concatenate([imputation_rng(3, k).standard_normal(st.clusters * 4), ndtri(u)])
    parameters = whole.run.parameters(range(k, k + 1))
    values = rows_from_normals(z[None], rows, working.scale.s, moments(st), *parameters)[0]
    mine = completed(run)[["y", "z"]].to_numpy()[rows.row]
    np.testing.assert_allclose(mine[missing], values[missing], rtol=1e-8, atol=1e-8)


def test_tables_do_not_depend_on_how_rows_are_divided(run, frame, tmp_path, monkeypatch):
    """Or on how many are completed at a time. Wrong: rows are numbered within their part."""
    one = written(frame, tmp_path / "one", [(0, 1_600)])
    mine = completed(run)
    monkeypatch.setattr(completion, "NUMBERS", 200)
    other = completed(partitioned(one).impute(**OPTIONS))
    pd.testing.assert_frame_equal(other, mine, rtol=1e-9)
    real = completion.row_uniforms
    monkeypatch.setattr(
        completion, "row_uniforms", lambda seed, k, first, *more: real(seed, k, first % 300, *more)
    )
    assert (completed(run)["y"] - mine["y"]).abs().max() > 0.1


def test_observed_cells_and_other_columns_are_kept(run, frame):
    made = completed(run, 0)
    seen = frame["y"].notna()
    np.testing.assert_array_equal(made["y"][seen], frame["y"][seen])
    np.testing.assert_array_equal(made["z"][frame["z"].notna()], frame["z"].dropna().astype(float))
    assert made["note"].tolist() == frame["note"].tolist() and not made[["y", "z"]].isna().any().any()
    assert (made["y"] - completed(run, 1)["y"])[~seen].abs().min() > 0


def test_numbers_of_rows_are_uniform_and_their_own():
    """20,000 numbers; level 1e-4 each."""
    u = row_uniforms(1, 0, 0, 5_000, 4)
    assert kstest(u.ravel(), "uniform").pvalue > 1e-4 and 0 < u.min() and u.max() < 1
    np.testing.assert_array_equal(row_uniforms(1, 0, 4_000, 10, 4), u[4_000:4_010])
    wide = row_uniforms(1, 0, 0, 50, 6)
    np.testing.assert_array_equal(row_uniforms(1, 0, 7, 3, 6), wide[7:10])
    for other in (row_uniforms(1, 1, 0, 5_000, 4), row_uniforms(2, 0, 0, 5_000, 4)):
        assert abs(np.corrcoef(u.ravel(), other.ravel())[0, 1]) < 4 / np.sqrt(20_000)
    assert abs(np.corrcoef(u[1:, 0], u[:-1, 0])[0, 1]) < 4 / np.sqrt(5_000)


def test_export_is_one_table_for_other_software(run, frame, folder, tmp_path):
    path = run.export(tmp_path / "out")
    assert sorted(each.name for each in path.iterdir()) == [f"imp_m={k}" for k in range(4)]
    assert len(list((path / "imp_m=2").iterdir())) == len(PARTS)
    long = pd.read_parquet(path).astype({"imp_m": int})
    for k in range(1, 4):
        made = long[long["imp_m"] == k].set_index("imp_id")
        own = completed(run, k - 1)
        pd.testing.assert_frame_equal(made.drop(columns="imp_m"), own, check_names=False)
    original = long[long["imp_m"] == 0]
    np.testing.assert_array_equal(original["y"], frame["y"])
    assert original["z"].isna().sum() == frame["z"].isna().sum()
    with pytest.raises(bi.SpecificationError, match="out exists; give the name of a new folder"):
        run.export(path)
    less = run.export(tmp_path / "less", original=False)
    assert not (less / "imp_m=0").exists()


def test_a_table_that_changes_between_the_passes_is_refused(frame, tmp_path):
    """Nothing is written."""
    for name, change in {
        "rows now, and had 1,600": lambda f: f.iloc[1:],
        "has a cluster 99 now": lambda f: f.assign(g=99),
        "other cells are missing now": lambda f: f.assign(
            y=np.nan, z=pd.Series([pd.NA] * len(f), f.index, "Int64")
        ),
    }.items():
        full = frame.assign(y=frame["y"].fillna(1.0)) if "cells" in name else frame
        place = written(full, tmp_path / name.partition(" ")[0])
        done = partitioned(place).impute(**OPTIONS | {"draws": 4})
        change(full.iloc[1_100:1_600]).to_parquet(place / "part-3.parquet", index=False)
        with pytest.raises(DataError, match=name):
            done.export(tmp_path / "out")
        assert not list(tmp_path.glob("*out*"))


# cells ----------------------------------------------------------------------------------------------


def test_clusters_that_agree_in_everything_are_reported(tmp_path):
    """Two clusters of the same rows in another order."""
    part = pooled(rows=60).drop(columns="site")
    twin = part[part["g"] == 3].assign(g=77)
    made = partitioned(written(pd.concat([part, twin]), tmp_path / "t", [(0, 1_020)]))
    assert made.moments.ties == 2
    events = [event for event in made.events if event.kind == "order of clusters"]
    assert len(events) == 1 and events[0].count == 2 and "2 clusters agree" in str(made)


def test_room_grows():
    array = sums._room(np.ones((2, 3)), 5, 7.0)
    assert array.shape == (5, 3) and (array[:2] == 1).all() and (array[2:] == 7).all()
    assert sums._room(array, 4, 0.0) is array
