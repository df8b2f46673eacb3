"""`bayesimp verify`: requirements are met here, and faults of an installation are detected."""

import json
import re

import numpy as np
import pytest

from bayesimp.imputation import file_contents, netcdf, storage
from bayesimp.joint import run as joint_run
from bayesimp.sampling import chains
from bayesimp.verification import REQUIREMENTS, Outcome, Requirement, exact, reference, repeated, verify
from bayesimp.verification.document import as_page
from bayesimp.workflow.cli import main
from tests.reference.make_verification import of_r
from tests.unfolding import unfolded

CHEAP = ("V-02", "V-05", "V-06", "V-07", "V-08", "V-09", "V-11", "V-12")
BY_KEY = {each.key: each for each in REQUIREMENTS}
pytestmark = pytest.mark.filterwarnings("ignore::bayesimp.errors.StatisticalWarning")


def failing(check):
    """The failing outcomes of a check; "error" if it is not completed."""
    (made,) = verify([Requirement("X", "", "", check)]).checked
    return ["error"] if made.error else [each.what for each in made.outcomes if not each.passed]


def test_the_cheap_requirements_are_met_here(tmp_path, capsys):
    assert main(["verify", "--out", str(tmp_path / "v"), "--only", *CHEAP]) == 0
    record = json.loads((tmp_path / "v" / "verification.json").read_text())
    assert record["passed"] and [each["id"] for each in record["requirements"]] == list(CHEAP)
    assert {"bayesimp", "bayesimp sources", "numpy", "processor", "blas"} <= set(record["environment"])
    assert all(np.isfinite(o["statistic"]) for each in record["requirements"] for o in each["outcomes"])
    page = (tmp_path / "v" / "verification.html").read_text()
    assert (
        all(key in page for key in CHEAP) and "NOT MET" not in page and "8 of 8 requirements are met." in page
    )
    assert not re.search(r"(?:src|href)=[\"'](?:https?:)?//", page)
    assert "8 of 8 requirements are met" in unfolded(capsys.readouterr().out)


@pytest.mark.slow
def test_all_requirements_are_met_here(tmp_path):
    """Run 2026-11-30: 13 of 13, 100 CPU seconds with compilation (python -m pytest -m slow tests/verification)."""
    assert main(["verify", "--out", str(tmp_path)]) == 0


def test_short_runs_give_the_frozen_numbers():
    """After a change of a random stream: python -m tests.reference.make_verification, and a line in CHANGELOG.md."""
    assert not failing(reference.frozen_runs)


def test_the_numbers_of_r_are_those_of_the_scripts():
    stored = reference.stored()
    assert {key: stored[key] for key in of_r()} == json.loads(json.dumps(of_r()))


def test_ids_are_in_order_and_every_requirement_has_its_parts():
    assert [each.key for each in REQUIREMENTS] == [f"V-{k:02}" for k in range(1, len(REQUIREMENTS) + 1)]
    for each in REQUIREMENTS:
        assert each.text.endswith(".") and each.source and each.check.__doc__


def test_an_unmet_requirement_is_said_everywhere(tmp_path, monkeypatch, capsys):
    """A number beyond its limit, one that is none, an error, no outcome at all; the others are checked all the same."""

    def broken(full):
        raise RuntimeError("the disk is gone")

    checks = {
        "good": lambda full: [Outcome("a", 1.0, 2.0), Outcome("b", 3.0, 2.0, at_least=True)],
        "beyond": lambda full: [Outcome("a", 3.0, 2.0)], "below": lambda full: [Outcome("b", 1.0, 2.0, at_least=True)],
        "nan": lambda full: [Outcome("a", np.nan, 2.0)],
        "nan below": lambda full: [Outcome("a", np.nan, 2.0, at_least=True)],
        "broken": broken, "empty": lambda full: [],
    }  # fmt: skip
    made = verify([Requirement(key, "It must.", "here", check) for key, check in checks.items()])
    assert [each.passed for each in made.checked] == [True] + [False] * 6 and not made.passed
    assert "RuntimeError at broken, line" in unfolded(repr(made)) and "the disk is gone" in as_page(made)
    assert as_page(made).count("NOT MET") == 2 * 6
    json.dumps(made.record(), allow_nan=False)
    assert not verify([]).passed
    monkeypatch.setitem(BY_KEY, "V-05", None)
    monkeypatch.setattr(reference, "pool_scalars", lambda *_: (_ for _ in ()).throw(ValueError("no")))
    assert main(["verify", "--out", str(tmp_path), "--only", "V-05", "V-07"]) == 3
    assert "FAILED  V-05" in unfolded(capsys.readouterr().out)
    assert main(["verify", "--out", str(tmp_path), "--only", "V-99"]) == 1
    assert "no requirement has the id 'V-99'" in unfolded(capsys.readouterr().err)


# faults of an installation --------------------------------------------------------------------------


def test_imputed_values_with_too_little_noise_are_noticed(monkeypatch):
    right = joint_run.impute_rows

    def calm(rngs, *arguments):
        values = right(rngs, *arguments)
        return values.mean(axis=0) + 0.95 * (values - values.mean(axis=0))

    monkeypatch.setattr(joint_run, "impute_rows", calm)
    (what,) = failing(exact.completed_law)
    assert what.startswith("119 moments")


def test_tables_of_the_same_parameters_are_noticed(monkeypatch):
    """All imputations are from the first draw, so the spread of the parameters is missing."""
    right = joint_run.JointRun.places
    monkeypatch.setattr(joint_run.JointRun, "places", lambda self, numbers: right(self, [0] * len(numbers)))
    assert failing(exact.completed_law)


def test_a_wrong_rule_of_pooling_is_noticed(monkeypatch):
    right = reference.pool_scalars
    monkeypatch.setattr(reference, "pool_scalars", lambda Q, U, df: right(Q, U, df * (1 + 1e-7)))
    assert failing(reference.mice_pooling) == ["8 pooled numbers of each case, largest relative difference"]


def test_wrong_fits_are_noticed(monkeypatch):
    right = reference.fit_each
    monkeypatch.setattr(
        reference, "fit_each", lambda tables, formula, reml=True: right(tables, formula, reml=True)
    )
    assert [what.partition(":")[0] for what in failing(reference.lme4_fits)] == ["ML"] * 4
    monkeypatch.setattr(
        reference, "meta_analyse", lambda y, v, right=reference.meta_analyse: right(y, v, interval="Wald")
    )
    assert failing(reference.metafor_fits)


def test_files_that_are_not_compared_with_their_hash_are_noticed(monkeypatch):
    """Bits are flipped and hashes are not checked: some files are read as other results."""
    for module in (file_contents, storage):
        monkeypatch.setattr(module, "contents_digest", lambda *_: "any")
    monkeypatch.setattr(netcdf, "seal_is_broken", lambda path: False)
    (what,) = failing(repeated.altered_files)
    assert what.startswith("results with a flipped bit")


def test_numbers_of_another_stream_are_noticed(monkeypatch):
    right = chains.chain_rng
    monkeypatch.setattr("bayesimp.joint.gibbs.chain_rng", lambda seed, chain: right(seed + 1, chain))
    assert any(what.startswith("JointNormal") for what in failing(reference.frozen_runs))


def test_models_that_are_not_refused_are_noticed(monkeypatch):
    monkeypatch.setattr("bayesimp.joint.one_factor.check_information", lambda *_, **__: [])
    assert "a response in one cluster" in failing(repeated.refusals)[0]
