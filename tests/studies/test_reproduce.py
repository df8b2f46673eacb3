"""Published numbers next to ours: differences in standard errors by hand, claims that hold and fail, the command."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bayesimp.errors import SpecificationError
from bayesimp.studies import kunkel2017
from bayesimp.studies.claims import Claim, _tested, claims
from bayesimp.studies.reproduce import beside, options_text, published, reproduce, select, verdict
from bayesimp.workflow.cli import main
from tests.test_width import too_wide
from tests.unfolding import unfolded

PSI = "var(Intercept | study)"


def summary(mean=4.0, sd=2.0, n=50, psi33=None):
    rows = [("mean", mean), ("empirical se", sd), ("bias", 0.4)]
    labels = {
        "simulation": "2",
        "setting": 10,
        "method": "Joint",
        "term": PSI,
        "psi33": psi33,
        "truth": 3.6,
        "n": n,
    }
    return pd.DataFrame([{"scenario": "s", **labels, "measure": m, "value": v, "mcse": 0.1} for m, v in rows])


def test_the_difference_in_standard_errors_of_both():
    row = beside(summary(), published(), 200).query("table == 'V'").iloc[0]
    assert row["published"] == 10.678 and row["ours"] == 4.0 and np.isnan(row["psi33"])
    assert row["mcse"] == pytest.approx(2 / np.sqrt(50))
    assert row["z"] == pytest.approx((4 - 10.678) / (2 * np.sqrt(1 / 50 + 1 / 200)))
    assert row["p"] == pytest.approx(2 * stats.t.sf(abs(row["z"]), 49))


def test_both_values_of_psi33_stand_beside_the_same_number():
    both = beside(pd.concat([summary(), summary(7.0, psi33=10.0)]), published(), 200).query("table == 'V'")
    assert both["psi33"].isna().tolist() == [True, False] and both["published"].tolist() == [10.678] * 2


def test_verdicts_count_by_bonferroni():
    table = pd.DataFrame({"z": [0.5, -4.0, 2.2], "p": [0.6, 0.0001, 0.03]})
    assert verdict(table).startswith("1 of 3 numbers differ")
    assert verdict(table.iloc[:0]) == "nothing to compare"


def test_scenarios_are_chosen_by_parts_of_their_names():
    study = kunkel2017("2")
    assert [s.name for s in select(study, ["setting 1"]).scenarios] == ["simulation 2, setting 1"]
    assert len(select(study, ["Setting 10", "simulation 2, setting 2"]).scenarios) == 2
    assert select(study, ["setting 13"]) is None and select(study, []) is study


def group(**biases):
    same = {"scenario": "a", "term": "x1", "measure": "bias", "mcse": 0.1, "n": 400, "outcome": "binary"}
    return pd.DataFrame([same | {"method": m, "value": v} for m, v in biases.items()])


@pytest.mark.parametrize(
    ("kind", "bound", "value", "expected"),
    [
        ("below", 0.0, -0.5, "holds"), ("below", 0.0, 0.5, "fails"), ("below", 0.0, -0.05, "open"),
        ("above", 0.0, 0.5, "holds"), ("above", 0.0, -0.5, "fails"),
        ("near", 0.4, 0.0, "holds"), ("near", 0.4, -1.0, "fails"),
        ("largest", 0.0, -1.2, "holds"), ("largest", 0.0, 0.01, "fails"), ("smallest", 0.0, 0.01, "holds"),
        ("smallest", 0.0, 1.2, "fails"),
    ],
)  # fmt: skip
def test_claims_hold_fail_or_stay_open(kind, bound, value, expected):
    claim = Claim("words", {"outcome": ("binary",)}, "STI", "x1", "bias", kind, bound)
    row = _tested(claim, group(REF=0.0, STI=value, CCA=0.6, **{"2STG": 0.5}))
    assert row["verdict"] == expected and row["scenarios"] == 1
    assert _tested(claim, group(CCA=0.6))["verdict"] == "not run"


def test_few_replicates_prove_little():
    claim = Claim("words", {}, "STI", "x1", "bias", "below")
    ours = group(STI=-0.25)
    assert _tested(claim, ours)["verdict"] == "holds"
    assert _tested(claim, ours.assign(n=3))["verdict"] == "open"


def test_claims_are_about_scenarios_terms_and_methods_that_exist():
    from bayesimp.studies import jolani

    known = [s.labels for s in jolani.jolani2025().scenarios]
    for claim in claims():
        assert any(all(labels[k] in v for k, v in claim.where.items()) for labels in known), claim.words
        assert claim.method in jolani.PAPER and claim.kind in (
            "below",
            "above",
            "near",
            "largest",
            "smallest",
        )
        assert claim.term in jolani.scenario().truth
    assert len(claims()) > 40


def test_the_command(tmp_path, capsys):
    options = ["--tables", "V", "--scenarios", "setting 10", "--replicates", "2", "--imputations", "2"]
    assert main(["reproduce", "kunkel2017", *options, "--out", str(tmp_path)]) == 0
    text = (tmp_path / "report.md").read_text()
    shown = capsys.readouterr().out
    words = set(shown.replace("|", " ").split())
    for line in text.split("\n"):  # tables in columns, and lines that fit, but the same words and numbers
        assert line.startswith("|--") or set(line.replace("\\|", " ").replace("|", " ").split()) <= words
    assert not too_wide(shown.replace(str(tmp_path), "out"))
    assert "| 10 | 12.383 | 12.287 / " in text and "| 10, Psi33 = 10 | 7.383 | 12.287 / " in text
    assert 'Made by `bayesimp reproduce kunkel2017 --tables V --scenarios "setting 10" --replicates 2' in text
    assert "| simulation_2 | 1 | 2 | 0 of 10 |" in text and "figures 5, 6 and 7" in text
    table = pd.read_csv(tmp_path / "table.csv")
    assert len(table) == 6 and set(table["n"]) == {2}
    before = sorted(path.name for path in (tmp_path / "simulation_2" / "parts").glob("*"))
    assert main(["reproduce", "kunkel2017", *options, "--out", str(tmp_path)]) == 0
    assert sorted(path.name for path in (tmp_path / "simulation_2" / "parts").glob("*")) == before
    capsys.readouterr()
    assert main(["reproduce", "kunkel2017", "--tables", "IX", "--out", str(tmp_path)]) == 1
    assert "There is no table 'IX'" in unfolded(capsys.readouterr().err)


def test_jolani_in_small(monkeypatch):
    monkeypatch.setattr("bayesimp.studies.jolani.ROWS", 360)
    monkeypatch.setattr(
        "bayesimp.studies.jolani.scenario.__defaults__", ("binary", "strong", 10, 0.1, "MAR", 360)
    )
    done = reproduce("jolani2025", tables=["1"], scenarios=["10% systematic"], replicates=2, m=2)
    assert set(done.table["method"]) == {"REF", "CCA", "STI", "MLMI-published", "2STG", "MLMI", "bayes"}
    assert len(done.table) == 7 * 5 and (done.table["n"] == 2).all()
    assert "not run" in set(done.claims["verdict"]) and len(done.claims) == len(claims())
    with pytest.raises(SpecificationError, match="paper is one of"):
        reproduce("jolani2017")
    with pytest.raises(SpecificationError, match="No scenario is called 'setting 99'"):
        reproduce("kunkel2017", scenarios=["setting 99"], replicates=1)


def test_options_as_on_the_command_line():
    text = options_text(tables=["V"], scenarios=["setting 6"], replicates=None, m=3)
    assert text == '--tables V --scenarios "setting 6" --m 3'
