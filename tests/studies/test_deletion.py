"""Deleted values: shares that are exact in expectation, mechanisms, every dtype, and the truth that is kept."""

import numpy as np
import pandas as pd
import polars as pl
import pytest

import bayesimp as bi
from bayesimp.errors import DataError, SpecificationError
from bayesimp.studies import Sporadic, Systematic, delete
from bayesimp.studies.deletion import _madow

M, N = 12, 240


def table(seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    study = np.repeat(np.arange(M), N // M)
    y = rng.normal(size=N) + rng.normal(size=M)[study]
    return pd.DataFrame({
        "study": study, "y": y, "x": y + rng.normal(size=N), "count": rng.poisson(3, N), "flag": rng.random(N) < 0.4,
        "small": rng.integers(0, 9, N).astype("uint8"), "sex": rng.choice(["male", "female"], N),
        "grade": pd.Categorical(rng.choice(list("abc"), N), list("abc"), ordered=True),
        "day": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 999, N), unit="D"),
        "text": rng.choice(["u", "v"], N).astype(object), "whole": pd.array(rng.integers(0, 5, N), "Int64"),
    })  # fmt: skip


ALL = [name for name in table().columns if name != "study"]


@pytest.mark.parametrize(
    "on",
    [
        {}, {"y": 1.5}, {"y": 30.0}, {"within(y)": 1.0, "cluster_mean(y)": -2.0}, {"x": 1.0},
        {"sex": {"male": 2.0}}, {"grade": 1.0}, {"day": 0.5}, {"cluster_size()": 0.0},
    ],
)  # fmt: skip
@pytest.mark.parametrize("share", [0.03, 0.4])
def test_shares_are_exact_in_expectation(on, share):
    """The mean of the probabilities is the share, over the rows of clusters that have the variable."""
    _, deleted = delete(
        table(), cluster="study", systematic={"x": 0.25}, sporadic={"x": Sporadic(share, on=on)}, seed=1
    )
    there = ~table()["study"].isin(deleted.clusters["x"])
    assert there.sum() == 9 * N // M
    assert deleted.probabilities.loc[there, "x"].mean() == pytest.approx(share, abs=1e-12)
    assert (deleted.probabilities.loc[~there, "x"] == 0).all() and deleted.missing.loc[~there, "x"].all()


def test_probabilities_are_those_of_the_logit_and_are_what_happens():
    """Log odds rise by the strength for each standard deviation; frequencies over 200 deletions, 4 standard errors."""
    frame, n, how = table(), 200, {"x": Sporadic(0.2, on={"y": 0.8})}
    p = delete(frame, cluster="study", sporadic=how, seed=0)[1].probabilities["x"]
    y = frame["y"]
    slope = np.polyfit((y - y.mean()) / y.std(ddof=0), np.log(p / (1 - p)), 1)[0]
    assert slope == pytest.approx(0.8, rel=1e-9)
    hits = sum(delete(frame, cluster="study", sporadic=how, seed=k)[1].missing["x"] for k in range(n))
    z = (hits - n * p) / np.sqrt(n * p * (1 - p))
    assert abs((z**2).mean() - 1) < 4 * np.sqrt(2 / N) and abs(z.mean()) < 4 / np.sqrt(N)


def test_clusters_are_drawn_with_their_probabilities():
    """Madow's sampling: every inclusion probability is met, the size is within one of the sum (4 standard errors)."""
    p = np.array([0.9, 0.5, 0.3, 0.25, 0.45])
    draws = np.array([np.isin(np.arange(5), _madow(p, np.random.default_rng(k))) for k in range(20000)])
    assert (np.abs(draws.mean(0) - p) < 4 * np.sqrt(p * (1 - p) / len(draws))).all()
    assert set(draws.sum(1)) == {2, 3}
    whole = np.full(15, 8 / 15)
    assert {len(_madow(whole, np.random.default_rng(k))) for k in range(500)} == {8}


def test_a_share_that_is_no_whole_number_of_clusters_is_met_on_average():
    numbers = [
        delete(table(), cluster="study", systematic={"x": 0.2}, seed=k)[1].table["deleted"][0]
        for k in range(400)
    ]
    assert set(numbers) == {2, 3}  # 2.4 of 12
    assert abs(np.mean(numbers) - 2.4) < 4 * np.sqrt(0.24 / 400)


def test_clusters_may_depend_on_means_and_size():
    frame = table().drop(index=range(5))
    lack = [
        delete(
            frame, cluster="study", systematic={"x": Systematic(count=4, on={"y": 3.0, "cluster_size()": 0.5})},
            seed=k,
        )[1].clusters["x"]
        for k in range(100)
    ]  # fmt: skip
    assert {len(c) for c in lack} == {4}
    means = frame.groupby("study")["y"].mean()
    assert np.mean([means[list(c)].mean() for c in lack]) > means.mean() + means.std() / 2


@pytest.mark.parametrize("name", ALL)
def test_every_dtype_keeps_its_other_values(name):
    holed, deleted = delete(table(), cluster="study", systematic={name: 0.25}, sporadic={name: 0.2}, seed=3)
    gone = deleted.missing[name].to_numpy()
    assert holed[name].isna().to_numpy().tolist() == gone.tolist() and 0 < gone.sum() < N
    assert holed[name][~gone].tolist() == table()[name][~gone].tolist()
    assert deleted.values(name).tolist() == table()[name][gone].tolist()
    pd.testing.assert_frame_equal(deleted.truth, table())
    assert type(holed[name].dtype) is type(table()[name].dtype) or name in ("count", "small", "flag")
    assert str(holed["count"].dtype) == ("Int64" if name == "count" else "int64")
    assert bi.IncompleteData(holed, cluster="study") is not None


def test_polars_goes_in_and_out():
    holed, deleted = delete(
        pl.from_pandas(table()[["study", "x", "count"]]), cluster="study", sporadic={"count": 0.3}, seed=2
    )
    assert isinstance(holed, pl.DataFrame) and holed.schema["count"] == pl.Int64
    assert holed["count"].null_count() == deleted.missing["count"].sum() > 0


@pytest.mark.parametrize(
    ("on", "expected"),
    [({}, "MCAR"), ({"y": 0.0}, "MCAR"), ({"y": 1.0}, "MAR"), ({"x": 1.0}, "MNAR"), ({"within(count)": 1.0}, "MNAR")],
)  # fmt: skip
def test_the_mechanism_follows_from_the_drivers(on, expected):
    _, deleted = delete(table(), cluster="study", sporadic={"x": Sporadic(0.2, on=on), "count": 0.1}, seed=1)
    assert deleted.table["mechanism"].tolist() == [expected, "MCAR"]


def test_apart_as_in_kunkel_and_kaizar():
    for seed in range(20):
        _, deleted = delete(
            table(), cluster="study", systematic={"x": Systematic(count=7), "count": Systematic(count=3)},
            apart=[("x", "count")], seed=seed,
        )  # fmt: skip
        assert len(deleted.clusters["x"]) == 7 and len(deleted.clusters["count"]) == 3
        assert not set(deleted.clusters["x"]) & set(deleted.clusters["count"])


def test_streams_belong_to_variables():
    one = delete(table(), cluster="study", sporadic={"x": 0.3}, seed=5)[1].missing
    two = delete(table(), cluster="study", sporadic={"count": 0.2, "x": 0.3}, seed=5)[1].missing
    assert one["x"].equals(two["x"]) and not two["count"].equals(two["x"])


def test_clusters_differ_where_they_are_asked_to():
    p = delete(table(), cluster="study", sporadic={"x": Sporadic(0.3, between=1.5)}, seed=4)[1].probabilities[
        "x"
    ]
    by_study = p.groupby(table()["study"])
    assert (by_study.nunique() == 1).all() and by_study.first().std() > 0.1 and p.mean() == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({}, "nothing to delete"), ({"sporadic": {"z": 0.1}}, "no column 'z'"), ({"sporadic": {"x": 1.2}}, "share"),
        ({"sporadic": {"study": 0.1}}, "clusters"), ({"systematic": {"x": Systematic(count=12)}}, "all 12"),
        ({"systematic": {"x": Systematic(clusters=(99,))}}, "no cluster 99"),
        ({"sporadic": {"x": Sporadic(0.1, on={"sex": 1.0})}}, "strength for each level"),
        ({"sporadic": {"x": Sporadic(0.1, on={"sex": {"other": 1.0}})}}, "no value 'other'"),
        ({"sporadic": {"x": Sporadic(0.1, on={"cluster_size()": 1.0})}}, "does not vary"),
        ({"systematic": {"x": Systematic(count=8), "y": Systematic(count=8)}, "apart": [("x", "y")]}, "only 4 of 12"),
    ],
)  # fmt: skip
def test_what_cannot_be_deleted_is_refused(options, match):
    with pytest.raises((SpecificationError, DataError), match=match):
        delete(table(), cluster="study", seed=1, **options)


def test_a_table_with_holes_is_refused():
    frame = table()
    frame.loc[:3, "y"] = np.nan
    with pytest.raises(DataError, match="'y' already has 4 missing values"):
        delete(frame, cluster="study", sporadic={"x": Sporadic(0.2, on={"y": 1.0})}, seed=1)
