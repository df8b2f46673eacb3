"""The input of `FCS`: masks, bounds, functions, names, seeds; unusual input is accepted or refused with advice."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest

import bayesimp as bi
from tests.test_fcs import frame, run, same


def small():
    return frame(m=6, n=9)


def fcs(table=None, **options):
    return bi.FCS(bi.IncompleteData(small() if table is None else table, "study"), **options)


def test_labels_of_clusters_may_be_of_any_kind(tmp_path):
    reference = run(fcs(), cycles=3)
    for kind in ([(1, k) for k in range(6)], pd.date_range("2020", periods=6), [b"a", 2, "c", 4, "e", 6.5]):
        table = small()
        labels = dict(zip("abcdef", kind, strict=True))
        table["study"] = pd.Series([labels[c] for c in table["study"]], index=table.index)
        imp = run(fcs(table), cycles=3)
        assert imp.tree["imputed_stats"].sizes["cluster"] == 6
        np.testing.assert_allclose(imp.values("y1"), reference.values("y1"), rtol=1e-8)


@pytest.mark.filterwarnings("ignore::bayesimp.errors.StatisticalWarning")
def test_names_that_are_alike_in_the_results_are_told_apart():
    same = "a\N{DIVISION SLASH}b"
    imp = run(fcs(small().rename(columns={"y1": "a/b", "y2": same})), cycles=8)
    assert {f"beta_{same}", f"beta_{same}_"} <= set(imp.tree["posterior"].data_vars)
    for name in ("row", "imputation", "chain"):  # allowed as names of predictors
        run(fcs(small().rename(columns={"age": name})), cycles=8).summary()
    table = small().rename(columns={"y2": "y1_2"})
    imp = run(fcs(table), cycles=8)
    imp.summary()
    assert {"beta_y1", "beta_y1_2"} <= set(imp.tree["posterior"].data_vars)
    model = fcs(
        table, predictors={"y1_2": "~ y1 + age + (1 + age | study)"}
    )  # the second dimension of "Psi_y1"
    imp = run(model, cycles=8)
    assert imp.tree["posterior"]["Psi_y1_2_"].sizes["effect_y1_2_"] == 2 and len(imp.summary().parameters)
    assert set(model.parameter_priors) == set(imp.tree["posterior"].data_vars)
    with pytest.raises(bi.SpecificationError, match=r"'Intercept'.*rename"):
        fcs(small().rename(columns={"y2": "Intercept"}))


def test_masks_follow_the_index_or_are_refused():
    table = small()
    hole = table["y1"].isna()
    with pytest.raises(bi.SpecificationError, match=r"where\['y1'\] has a different index"):
        fcs(where={"y1": hole.sample(frac=1, random_state=1)})
    with pytest.raises(bi.SpecificationError, match=r"where.* has a different index"):
        fcs(where=table.isna().reset_index(drop=True).iloc[::-1])
    with pytest.raises(bi.SpecificationError, match="ignore has a different index"):
        fcs(ignore=hole.iloc[::-1])
    for where in (table.isna().to_numpy(), "missing", [True]):
        with pytest.raises(bi.SpecificationError, match="where takes a table"):
            fcs(where=where)
    assert fcs(where=table.isna()).filled("y1").sum() == hole.sum()
    pl = pytest.importorskip("polars")
    polars = pl.from_pandas(table)
    nulls = polars.select([pl.col(name).is_null() for name in ("y1", "y2")])
    model = fcs(polars, where=nulls, ignore=pl.Series([True] * 3 + [False] * (len(table) - 3)))
    assert model.filled("y1").sum() == hole.sum() and model.ignore.sum() == 3


def test_ignoring_all_that_is_observed_is_refused():
    table = small()
    with pytest.raises(bi.DataError, match="no observed value of 'y1'"):
        fcs(ignore=table["y1"].notna())
    with pytest.raises(bi.DataError, match="rows of only 1 cluster"):
        fcs(ignore=table["study"] != "a")


def test_bounds_and_post_are_checked_at_once():
    for pair in (3, (1,), ("a", "b"), None):
        with pytest.raises(bi.SpecificationError, match=r"bounds\['y1'\] must be \(lower, upper\)"):
            fcs(bounds={"y1": pair})
    with pytest.raises(bi.SpecificationError, match="bounds takes"):
        fcs(bounds=[(0, 1)])
    with pytest.raises(bi.SpecificationError, match="post takes"):
        fcs(post=[1])
    with pytest.raises(bi.SpecificationError, match=r"post\['y1'\] must be a function"):
        fcs(post={"y1": 3})


def test_numbers_of_a_run_are_checked():
    model = fcs()
    wrong = [{"m": None}, {"m": True}, {"m": float("nan")}, {"cycles": 2.5}, {"seed": -1}, {"seed": 1.5}, {"seed": "a"},
             {"seed": 2**63}, {"workers": 0}, {"workers": -1}, {"workers": 1.5}]  # fmt: skip
    for options in wrong:
        with pytest.raises(
            bi.SpecificationError, match=f"{next(iter(options))} must be (an integer|a whole number)"
        ):
            run(model, **options)
    imp = run(model, seed=2**63 - 1, workers=8, cycles=2)
    assert imp.attrs["seed"] == 2**63 - 1 and same(imp, run(model, seed=2**63 - 1, workers=1, cycles=2))


def test_results_can_be_pickled_and_go_on():
    imp = run(fcs(), cycles=3)
    again = pickle.loads(pickle.dumps(imp))
    assert same(again.iterate(2), imp.iterate(2)) and same(again.extend(1), imp.extend(1))


@pytest.mark.parametrize("method", ["bayes", "ml", "2l.norm", "pmm"])
def test_extend_and_iterate_in_either_order(method):
    imp = run(fcs(methods=method), m=2, cycles=3)
    assert same(imp.extend(2).iterate(3), imp.iterate(3).extend(2))


def test_what_defaults_left_out_is_in_the_events(tmp_path):
    imp = run(fcs(small().assign(months=lambda t: 12 * t["age"])), cycles=2)
    events = imp.events[imp.events["kind"] == "by default"]
    assert events["message"].str.contains("'months' is a combination").any()
    imp.save(tmp_path / "a.nc")
    later = bi.load(tmp_path / "a.nc").iterate(1).events
    assert later[later["kind"] == "by default"].equals(events)  # other kinds may depend on the values
