"""The decision rule of benchmarks/engine_choice.py, on evidence whose answer is known."""

import numpy as np
import pytest

from benchmarks.engine_choice import CELLS, ENGINES
from benchmarks.engine_report import Evidence, chosen, differences, measures
from benchmarks.engine_tables import design

N = 60
TERMS = ["x1", "x2", "x1"]  # of two cells


def evidence(spread, cover, seed=1):
    """Engine -> errors with these sds, intervals that cover with these probabilities; errors shared between engines."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(len(TERMS), N))
    found = {}
    for name, sd in spread.items():
        error = shared + np.sqrt(sd**2 - 1) * rng.normal(size=shared.shape)
        found[name] = (error**2, (rng.random(shared.shape) < cover[name]).astype(float))
    return Evidence(found, TERMS)


def test_measures_are_their_definitions():
    found = evidence({"complete data": 1, "a": 1.5}, {"complete data": 0.95, "a": 0.8})
    loss, lack = measures(found)["a"]
    ratio = [np.sqrt(found["a"][0][k].mean() / found["complete data"][0][k].mean()) for k in range(3)]
    assert loss == pytest.approx(np.mean(np.log(ratio)))
    short = [min(0.95, found["complete data"][1][k].mean()) - found["a"][1][k].mean() for k in range(3)]
    assert lack == pytest.approx(max((short[0] + short[2]) / 2, short[1]))  # x1 is in two cells


def test_jackknife_of_a_difference_is_its_spread_over_data_sets():
    spread, cover = {"complete data": 1, "a": 1.1, "b": 1.6}, {"complete data": 0.95, "a": 0.95, "b": 0.95}
    many = [differences(evidence(spread, cover, seed))["b"] for seed in range(60)]
    values, errors = (np.array([m[k][0] for m in many]) for k in (0, 1))
    ratio = errors.mean() / values.std(ddof=1)
    assert abs(ratio - 1) < 4 / np.sqrt(2 * 59)  # four standard errors of a standard deviation from 60 values


SECONDS = {"a": 3.0, "b": 1.0, "c": 0.1}


@pytest.mark.parametrize(
    ("loss", "lack", "failed", "unmixed", "engine", "tied"),
    [
        (
            (0.0, 0.01, 0.5),
            (0.0, 0.0, 0.0),
            {},
            {},
            "b",
            ["a", "b"],
        ),  # the fastest of those tied, not the fastest
        ((0.0, 0.01, 0.5), (0.0, 0.3, 0.0), {}, {}, "a", ["a"]),
        ((0.0, 0.01, 0.01), (0.0, 0.0, 0.0), {"c": 0.06}, {}, "b", ["a", "b"]),
        ((0.0, 0.01, 0.01), (0.0, 0.0, 0.0), {}, {"c": 0.25}, "b", ["a", "b"]),
        ((0.0, 0.3, 0.5), (0.3, 0.0, 0.5), {}, {}, "a", []),  # none in both: the least loss
    ],
)
def test_the_rule_of_choice(loss, lack, failed, unmixed, engine, tied):
    apart = {e: (np.array([loss[k], lack[k]]), np.array([0.05, 0.05])) for k, e in enumerate("abc")}
    none = dict.fromkeys("abc", 0.0)
    assert chosen(apart, none | failed, none | unmixed, SECONDS) == (engine, tied)


def test_the_design_has_every_number_of_clusters_and_each_kind_of_table():
    assert {cell.clusters for cell in CELLS} == {6, 10, 15, 35, 100}
    assert {(cell.covariates, cell.outcome) for cell in CELLS} == set(ENGINES)
    for kind in ("normal", "mixed"):
        own = [cell for cell in CELLS if cell.covariates == kind]
        assert {cell.slope for cell in own} == {cell.balanced for cell in own} == {True, False}
    assert len({cell.name for cell in CELLS}) == len(CELLS)


@pytest.mark.parametrize("cell", CELLS[:6:5], ids=lambda cell: cell.name)
def test_truths_are_those_of_the_tables(cell):
    """Many clusters: the analysis of complete tables finds what the scenario calls the truth."""
    from dataclasses import replace

    scenario = replace(cell, clusters=100).scenario
    frames = [scenario.generate(seed=seed) for seed in range(8)]
    from bayesimp.studies.records import rubin

    found = [{e.term: e for e in rubin(scenario.analysis([frame]))} for frame in frames]
    for term, value in scenario.truth.items():
        estimates = np.array([each[term].estimate for each in found])
        bias = 0.02 if term.startswith("sd(") else 0.0  # REML on the sd scale
        assert abs(estimates.mean() - value) < 4.5 * estimates.std(ddof=1) / np.sqrt(8) + bias
    assert set(design(cell).families) <= set(frames[0].columns)
