"""The designs of both papers: truths computed by hand elsewhere, missing values, methods, published numbers."""

from collections import Counter
from importlib.resources import files

import numpy as np
import pandas as pd
import pytest

import bayesimp as bi
from bayesimp.studies import jolani
from bayesimp.studies import kunkel_kaizar as kk
from bayesimp.studies.records import Case

PSI = {
    1: 1.04,
    2: 1.23,
    3: 2.10,
    4: 1.25,
    5: 1.13,
    6: 3.58,
    7: 0.80,
    8: 1.34,
    9: 0.38,
    10: 12.38,
    11: 11.80,
    12: 11.95,
}
PSI_10 = {10: 7.38, 11: 6.80, 12: 6.95}  # with the 10 of the text


@pytest.mark.parametrize("setting", PSI)
def test_truths_of_kunkel_and_kaizar(setting):
    truth = kk.analysis_truth(*kk.covariances(setting))
    assert truth["var(effect)"] == pytest.approx(PSI[setting], abs=0.006)
    if setting in PSI_10:
        printed = kk.analysis_truth(*kk.covariances(setting, psi33=10.0))
        assert printed["var(effect)"] == pytest.approx(PSI_10[setting], abs=0.006)
    if setting == 6:
        found = truth["y1"], truth["y2"], truth["var(residual)"]
        assert found == pytest.approx((1.176, 1.047, 3.76), abs=0.001)


@pytest.mark.parametrize("simulation", kk.SIMULATIONS)
def test_holes_of_kunkel_and_kaizar(simulation):
    """Numbers of studies and rows as in table II; no study lacks both variables; other draws in other replicates."""
    sizes, lack1, lack2 = kk.SIMULATIONS[simulation]
    chosen = kk.scenario(simulation, None if simulation.startswith("5") else 3)
    lacking = set()
    for seed in range(3):
        case = Case.make(chosen, seed, seed + 100)
        missing = case.holed[["y1", "y2", "y3"]].isna().groupby(case.holed["study"]).mean()
        assert set(np.unique(missing)) <= {0.0, 1.0}
        assert missing.sum().tolist() == [lack1, lack2, 0] and missing.sum(axis=1).max() == 1
        assert tuple(case.complete.groupby("study").size()) == sizes
        assert ("z" in case.complete) == (simulation == "4")
        lacking.add(tuple(missing.index[missing["y1"] == 1]))
        if simulation.startswith("5"):
            assert {sizes[i - 1] for i in missing.index[missing["y1"] == 1]} == {18}
            assert {sizes[i - 1] for i in missing.index[missing["y2"] == 1]} == {60}
    assert (len(lacking) == 1) == simulation.startswith("5")
    totals = {"1": 1050, "2": 450, "3": 450, "4": 450, "5a": 171, "5b": 1197}
    assert sum(sizes) == totals[simulation] and min(sizes) >= 15 and max(sizes) <= 150


@pytest.mark.parametrize("simulation", ["2", "3", "4", "5a"])
def test_every_method_of_kunkel_and_kaizar_runs(simulation):
    study = kk.kunkel2017(simulation, [6], m=3, cycles=3)
    result = study.run(1)
    assert result.complete and result.failures.empty
    estimates = result.estimates
    assert set(estimates["method"]) == set(study.methods)
    assert estimates["truth"].notna().groupby(estimates["method"]).sum().eq(5).all()


def test_formulas_are_those_of_the_methods():
    assert kk.formulas("2") == ["y1 ~ y2 + y3 + (1 | study)", "y2 ~ y1 + y3 + (1 | study)"]
    assert kk.formulas("3", "sum")[0] == "y1 ~ y2 + y3 + cluster_sum(y2) + (1 | study)"
    assert kk.formulas("4", "mean")[1] == "y2 ~ y1 + y3 + cluster_mean(z:y1) + (0 + z | study)"
    case = Case.make(kk.scenario("4", 6), 1, 2)
    (_, second) = bi.FCS(case.data, "iw", kk.formulas("4", "sum")).formulas
    assert "cluster_sum(" in second and "z" in second.split("cluster_sum(")[1]


def test_both_values_of_psi33_are_offered():
    study = kk.kunkel2017("2", [9, 10], psi33=(None, 10.0))
    names = [s.name for s in study.scenarios]
    assert names == [
        "simulation 2, setting 9", "simulation 2, setting 10", "simulation 2, setting 10, psi33 10",
    ]  # fmt: skip
    for wrong, message in {
        ("6", 1): "simulation is one of 1, 2, 3, 4, 5a, 5b; got '6'",
        ("2", None): "have settings 1 to 12",
        ("5a", 3): "5a and 5b have none",
        ("2", 13): "setting is one of 1 to 12, got 13",
    }.items():
        with pytest.raises(bi.SpecificationError, match=message):
            kk.scenario(*wrong)


def test_published_numbers():
    table = pd.read_csv(str(files("bayesimp.studies") / "published" / "kunkel2017.csv"))
    assert Counter(table["table"]) == {"III": 25, "IV": 25, "V": 60, "VI": 60, "VII": 60}
    at = table.set_index(["table", "setting", "method", "term"])["estimate"]
    assert at["VI", 6, "MICE-ML", "var(Intercept | study)"] == 7.270
    assert at["III", 6, "Full data", "Intercept"] == -0.039
    assert at["VII", 10, "MICE-IW-c", "var(z | study)"] == 20.778
    psi = at["V", 6, :, "var(Intercept | study)"]
    assert psi.tolist() == at["IV", 6, :, "var(Intercept | study)"].tolist()


def test_the_brackets_behind_psi_are_not_its_standard_error():
    """Tables V and VI, full data: 2 sqrt(psi / (2 m)), twice that of a standard deviation, to 4% where psi is over 2."""
    table = pd.read_csv(str(files("bayesimp.studies") / "published" / "kunkel2017.csv"))
    full = table[
        (table["method"] == "Full data") & table["table"].isin(["V", "VI"]) & (table["estimate"] > 2)
    ]
    psi, bracket = full["estimate"], full["bracket"]
    assert len(full) == 10 and np.abs(bracket / (2 * np.sqrt(psi / 30)) - 1).max() < 0.04
    assert (psi * np.sqrt(2 / 14) / bracket > 1.4).all()  # the standard error of psi itself


def test_scenarios_of_jolani():
    study = bi.studies.jolani2025()
    assert len(study.scenarios) == 120 and len({s.name for s in study.scenarios}) == 120
    assert list(study.methods) == ["REF", "CCA", "STI", "MLMI-published", "2STG", "MLMI", "bayes"]
    with pytest.raises(bi.SpecificationError, match="heterogeneity"):
        jolani.scenario(heterogeneity="none")
    with pytest.raises(bi.SpecificationError, match="no method 'MI'"):
        jolani.tested_methods(["MI"])


@pytest.mark.parametrize("mechanism", ["MAR", "MCAR"])
def test_holes_of_jolani(mechanism):
    """15% at the mean of y, log odds rising by 1 and 0.5; round(share n) studies lack each variable."""
    chosen = jolani.scenario("continuous", "moderate", 15, 0.3, mechanism)
    case = Case.make(chosen, 1, 2)
    assert len(case.complete) == 3000 and case.complete.groupby("study").size().eq(200).all()
    table = case.deleted.table.set_index(["variable", "kind"])
    y = case.complete["y"]
    for name, slope in (("x1", 1.0), ("x2", 0.5)):
        assert len(case.deleted.clusters[name]) == 4  # round(4.5), as R rounds too
        assert table.loc[(name, "sporadic"), "mechanism"] == mechanism
        p = case.deleted.probabilities[name]
        there = p > 0
        logit = np.log(p[there] / (1 - p[there]))
        expected = np.log(0.15 / 0.85) + (slope * (y - y.mean())[there] if mechanism == "MAR" else 0.0)
        np.testing.assert_allclose(logit, expected, atol=1e-12)
    assert not case.holed["y"].isna().any()


@pytest.mark.parametrize("outcome", jolani.OUTCOMES)
def test_every_method_of_jolani_runs(outcome):
    study = bi.studies.Study(
        [jolani.scenario(outcome, "weak", 6, rows=360)], jolani.tested_methods(m=2, cycles=2), seed=1
    )
    result = study.run(1)
    assert result.failures.empty and set(result.estimates["method"]) == set(study.methods)
    terms = set(result.estimates.query("truth == truth")["term"])
    assert terms == {
        "Intercept", "x1", "x2", "var(Intercept | study)", "var(x1 | study)", "sd(Intercept | study)", "sd(x1 | study)",
    }  # fmt: skip
