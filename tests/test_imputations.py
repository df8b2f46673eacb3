"""`Imputations`: completed tables, continuation, storage."""

import warnings

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import bayesimp as bi
from bayesimp import priors as pr


def table(seed=0, clusters=8, rows=12, kind="str"):
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(clusters), rows)
    n = len(codes)
    x = rng.normal(size=n)
    Y = np.outer(x, [1.0, -0.5]) + rng.normal(size=(clusters, 2))[codes] + rng.normal(size=(n, 2))
    Y[rng.random((n, 2)) < 0.15] = np.nan
    Y[codes == 0, 0] = np.nan
    Y[codes == 1, 1] = np.nan
    Y[codes == 2] = np.nan  # nothing observed in the whole cluster
    labels = {"str": [f"site {c}" for c in codes], "int": codes * 10, "category": pd.Categorical(codes)}[kind]
    frame = pd.DataFrame(
        {
            "note": pd.Categorical(rng.choice(["a", "b", "c"], n), ["c", "b", "a", "unused"]),
            "y1": Y[:, 0], "site": labels, "x": x, "y2": (20 * Y[:, 1]).round(), "small": Y[:, 0].astype("float32"),
        },
        index=pd.Index(rng.permutation(n) + 1000, name="person"),
    )  # fmt: skip
    frame["y2"] = frame["y2"].astype("Int64")
    return frame.sample(frac=1, random_state=seed)


FORMULA = "y1 + y2 ~ x + (1 | site)"


def impute(frame, formula=FORMULA, m=6, **options):
    data = bi.IncompleteData(frame, cluster="site", families={"y2": "normal"})
    options = {"seed": 1, "draws": 60, "chains": 2, **options}
    return bi.JointNormal(data, formula).impute(m=m, **options)


@pytest.fixture(scope="module")
def frame():
    return table()


@pytest.fixture(scope="module")
def imp(frame):
    return impute(frame)


def test_completed_tables(frame, imp):
    assert len(imp) == 6
    for k, completed in enumerate(imp):
        assert list(completed.columns) == list(frame.columns)
        pd.testing.assert_index_equal(completed.index, frame.index)
        assert not completed[["y1", "y2"]].isna().any().any()
        for name in ("y1", "y2"):
            seen = frame[name].notna()
            np.testing.assert_array_equal(
                completed.loc[seen, name].to_numpy(float), frame.loc[seen, name].to_numpy(float)
            )
        for name in ("note", "site", "x", "small"):  # not imputed: the very same columns
            pd.testing.assert_series_equal(completed[name], frame[name])
        assert not completed["y1"].equals(imp.frame((k + 1) % 6)["y1"])


def test_dtypes(frame, imp):
    completed = imp.frame(0)
    assert completed["y1"].dtype == np.float64
    assert completed["y2"].dtype == "Float64"  # integers imputed as normal: recorded, not silently rounded
    events = imp.events
    assert list(events.query("kind == 'dtype changed'")["where"]) == ["y2"]
    assert frame["y2"].dtype == "Int64"  # the user's table is untouched


def test_short_scales_imputed_as_normal_are_pointed_out(frame):
    table = frame[["site", "x", "y1"]].copy()
    rng = np.random.default_rng(0)
    table["score"] = np.where(rng.random(len(table)) < 0.1, np.nan, rng.integers(0, 6, len(table)))
    data = bi.IncompleteData(table, "site")
    drawn = bi.FCS(data, "norm").impute(2, cycles=2, seed=1, progress=False)
    assert list(drawn.events.query("kind == 'whole numbers'")["where"]) == ["score"]
    matched = bi.FCS(data, "pmm").impute(2, cycles=2, seed=1, progress=False)
    assert not (matched.events["kind"] == "whole numbers").any()


def test_float32_stays(frame):
    imp = impute(frame, "small + y2 ~ x + (1 | site)", m=2)
    assert imp.frame(0)["small"].dtype == np.float32


def test_stacked_is_the_tables_one_below_the_other(frame):
    imp = impute(frame, "small + y2 ~ x + (1 | site)")
    names = ["y2", "note", "site", "small"]
    stacked = imp.stacked(names, 2, 5)
    below = pd.concat([imp.frame(k)[names] for k in range(2, 5)], ignore_index=True)
    pd.testing.assert_frame_equal(stacked, below, check_dtype=False, rtol=1e-6)  # float32 against float64
    assert stacked["note"].dtype == below["note"].dtype


def test_analysis_of_the_stack_is_that_of_the_tables(imp):
    formula = "y1 ~ y2 + note + (1 | site)"
    with pytest.warns(bi.StatisticalWarning, match="the model of 'y1' leaves out note"):
        fits = imp.analyse(formula)
    again = bi.fit_each(list(imp), formula)
    np.testing.assert_allclose(fits.estimates, again.estimates, rtol=1e-7)
    assert fits.names == again.names
    with pytest.raises(bi.SpecificationError, match="'nope'"):
        imp.analyse("y1 ~ nope + (1 | site)")


def test_frame_numbers(imp):
    with pytest.raises(IndexError, match="0 to 5"):
        imp.frame(6)
    with pytest.raises(IndexError, match="0 to 5"):
        imp.frame(-1)


def test_long(frame, imp):
    long = imp.to_long(include_original=True)
    assert list(long.columns) == [".imp", ".id", *frame.columns]
    assert list(long[".imp"].unique()) == list(range(7))
    assert list(long[".id"][: len(frame)]) == list(frame.index)
    assert long.query("`.imp` == 0")["y1"].isna().sum() == frame["y1"].isna().sum()
    third = long[long[".imp"] == 3].drop(columns=[".imp", ".id"]).set_index(frame.index)
    np.testing.assert_array_equal(third["y1"], imp.frame(2)["y1"])
    assert imp.to_long()[".imp"].min() == 1


def test_tree(imp):
    tree = imp.tree
    assert set(tree.children) == {"posterior", "imputed", "imputed_stats", "observed_data"}
    post = tree["posterior"]
    assert post["beta"].dims == ("chain", "draw", "fixed", "response")
    assert list(post["effect"].values) == ["y1:Intercept", "y2:Intercept"]
    stats = tree["imputed_stats"]["mean"].sel(response="y1")
    counts = imp.data.counts.loc["y1"]
    for cluster in imp.data.clusters:  # nan exactly where nothing is missing
        assert np.isnan(stats.sel(cluster=cluster)).all() == (counts[cluster] == 0)


def test_imputed_statistics_are_those_of_the_tables(frame):
    """Means and sds drawn without rows have the distribution of those of completed tables."""
    imp = impute(frame, m=600, draws=600, chains=2)
    codes = imp.data.codes
    mean, sd = (imp.tree["imputed_stats"][s].values for s in ("mean", "sd"))
    z = []
    for k, name in enumerate(imp.imputed_columns):
        rows, values = imp.rows(name), imp.values(name)
        for i in range(len(imp.data.clusters)):
            own = values[:, codes[rows] == i]
            if own.shape[1] < 2:
                continue
            for drawn, made in [(mean, own.mean(1)), (sd, own.std(1, ddof=1))]:
                a, b = drawn[:, :, k, i].ravel(), made
                z.append((a.mean() - b.mean()) / np.sqrt((a.var() + b.var()) / 200))  # ESS of at least 200
    assert np.max(np.abs(z)) < 4.5


def test_extend_is_the_longer_run(frame):
    short = impute(frame, m=6, draws=60)
    longer = short.extend(4)
    assert (short.m, longer.m) == (6, 10)
    for k in range(6):
        pd.testing.assert_frame_equal(short.frame(k), longer.frame(k))
    assert longer.tree["posterior"].sizes["draw"] == 100
    at_once = impute(frame, m=10, draws=100)
    for k in range(10):
        pd.testing.assert_frame_equal(at_once.frame(k), longer.frame(k))
    again = short.extend(4)  # the first result is unchanged
    pd.testing.assert_frame_equal(again.frame(9), longer.frame(9))


@pytest.mark.parametrize("suffix", ["nc", "zarr"])
@pytest.mark.parametrize("kind", ["str", "int", "category"])
def test_saved_and_loaded(tmp_path, suffix, kind):
    imp = impute(table(kind=kind))
    path = tmp_path / f"result.{suffix}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zarr warns about its own consolidated metadata
        imp.save(path)
        back = bi.load(path)
    pd.testing.assert_frame_equal(back.data.frame, imp.data.frame)
    for name in imp.tree.children:
        xr.testing.assert_identical(back.tree[name].to_dataset(), imp.tree[name].to_dataset())
    assert back.tree.attrs == imp.tree.attrs
    pd.testing.assert_frame_equal(back.events, imp.events)
    pd.testing.assert_frame_equal(back.frame(3), imp.frame(3))
    pd.testing.assert_frame_equal(back.extend(4).frame(9), imp.extend(4).frame(9))


def test_polars_comes_back(frame):
    polars = pytest.importorskip("polars")
    data = bi.IncompleteData(
        polars.from_pandas(frame.reset_index()), cluster="site", families={"y2": "normal"}
    )
    imp = bi.JointNormal(data, FORMULA).impute(m=2, seed=1, draws=20, chains=2)
    completed = imp.to_frame(0)
    assert isinstance(completed, polars.DataFrame)
    assert completed["y1"].null_count() == 0


def test_polars_ordered_categories_come_back(frame):
    polars = pytest.importorskip("polars")
    grade = polars.Enum(["low", "mid", "high"])
    table = polars.from_pandas(frame.reset_index()).with_columns(
        polars.when(polars.int_range(polars.len()) % 4 > 0)
        .then(polars.Series(np.resize(["high", "low", "mid"], len(frame)), dtype=grade))
        .alias("grade")
    )
    data = bi.IncompleteData(table, cluster="site", families={"y2": "normal"})
    assert data.families["grade"] == "ordinal" and data.to_native(data.frame).equals(table)
    assert data.to_native(data.frame)["grade"].dtype == grade


def test_unknown_suffix(tmp_path, imp):
    with pytest.raises(ValueError, match=r"\.nc"):
        imp.save(tmp_path / "result.pickle")


def test_arviz_reads_the_tree(imp):
    az = pytest.importorskip("arviz")
    assert "Psi" in str(az.summary(imp.tree, var_names=["Psi"]).index.tolist())


def test_summary_warns_of_too_few_draws(frame):
    with pytest.warns(bi.StatisticalWarning, match="too few"):
        summary = impute(frame, m=2, draws=30).summary()
    assert not summary.converged and "Psi" in repr(summary)


def test_summary_of_draws_too_few_for_r_hat(frame):
    with pytest.warns() as caught:
        summary = impute(frame, m=2, draws=3).summary()
    assert [w.category for w in caught] == [bi.StatisticalWarning] and not summary.converged
    assert "too few draws to judge by" in str(caught[0].message)


def test_summary_of_a_long_run(frame):
    summary = impute(frame, m=2, draws=4000, chains=4).summary()
    assert summary.converged
    assert {"ess_bulk", "r_hat"} <= set(summary.parameters.columns)
    incomplete = (imp_counts := impute(frame, m=2).data.counts.loc[["y1", "y2"]]).to_numpy()
    # one row for each mean, one for each sd with at least two cells
    assert len(summary.imputed) == (incomplete > 0).sum() + (incomplete > 1).sum(), imp_counts


def test_fixed_priors_are_nan_not_errors(frame):
    data = bi.IncompleteData(frame, cluster="site", families={"y2": "normal"})
    priors = pr.Priors(Psi=pr.Fixed(np.diag([1.0, 400.0])))
    imp = bi.JointNormal(data, FORMULA, priors).impute(m=2, seed=1, draws=2000)
    Psi = imp.tree["posterior"]["Psi"].values
    np.testing.assert_allclose(Psi, np.broadcast_to(np.diag([1.0, 400.0]), Psi.shape), rtol=1e-14)
    assert imp.summary().parameters["r_hat"].filter(like="Psi").isna().all()


def test_levels_in_completed_tables_are_those_that_were_drawn():
    """Text, categories in an order of their own and two-valued numbers, in every table: the level of each drawn code."""
    rng = np.random.default_rng(3)
    g, n = np.repeat(range(8), 15), 120
    columns = {
        "two": np.array(["no", "yes"], dtype=object)[(rng.random(n) < 0.2).astype(int)],
        "three": pd.Categorical(rng.choice(["c", "a", "b"], n, p=[0.7, 0.2, 0.1]), ["c", "a", "b"]),
        "number": np.where(rng.random(n) < 0.2, 5.0, 3.0),
    }
    frame = pd.DataFrame({"g": g} | columns)
    for name in columns:
        frame.loc[rng.random(n) < 0.2, name] = np.nan
    imp = bi.FCS(bi.IncompleteData(frame, "g")).impute(m=3, cycles=1, seed=1, progress=False)
    assert len({imp.values(name).tobytes() for name in columns}) == 3
    for name in columns:
        levels = imp.data.levels(name)
        for k in range(3):
            drawn = [levels[int(code)] for code in imp.values(name)[k]]
            assert imp.frame(k)[name].iloc[imp.rows(name)].tolist() == drawn
            assert imp.decoded(name, k).tolist() == drawn
        assert not (imp.values(name)[0] == imp.values(name)[2]).all()
