"""The package as a whole: public names, what an import loads, the arrow of imports."""

import ast
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import bayesimp as bi

ROOT = Path(bi.__file__).parents[1]
BELOW = {  # what each part may import, beside errors, notation, events, progress and itself
    "kernels": set(),
    "spec": set(),
    "data": {"kernels", "spec"},
    "models": {"kernels", "spec"},
    "samplers": {"kernels", "spec", "data", "models"},
    "imputations": {"data", "analysis", "diagnostics", "storage"},  # the latter three inside methods
    "imputed_events": {"spec", "data", "imputations"},
    "joint_run": {
        "kernels",
        "spec",
        "data",
        "samplers",
        "imputations",
        "imputed_events",
        "joint",
    },  # for its type only
    "joint": {"kernels", "spec", "data", "models", "samplers", "imputations", "joint_run"},
    "analysis": {"kernels", "spec", "data"},
    "fcs_run": {"spec", "data", "samplers", "imputations", "imputed_events", "fcs"},  # fcs for its type only
    "fcs": {"spec", "data", "samplers", "imputations", "fcs_run"},
    "fcs_storage": {"spec", "data", "samplers", "fcs", "fcs_run"},
    "storage": {"spec", "data", "samplers", "imputations", "joint", "joint_run", "fcs_run", "fcs_storage"},
    "diagnostics": {"kernels", "spec", "data", "imputations"},  # imputations for its type only
    "compatibility": {"spec", "data", "diagnostics", "imputations", "joint", "plots"},  # plots inside methods
    "prior_sensitivity": {
        "spec",
        "data",
        "samplers",
        "imputations",
        "analysis",
        "diagnostics",
        "plots",
    },  # likewise
    "plots": {
        "kernels",
        "spec",
        "data",
        "imputations",
        "analysis",
        "diagnostics",
        "compatibility",
        "prior_sensitivity",
    },
}


def test_every_public_name_loads_and_is_documented():
    for name in bi.__all__:
        value = getattr(bi, name)
        assert value.__doc__ and value.__doc__.strip(), f"{name} has no docstring"
    with pytest.raises(AttributeError, match="nonsense"):
        bi.nonsense  # noqa: B018


def test_import_is_light():
    code = "import sys, bayesimp\nprint([m for m in ('pymc', 'matplotlib', 'pandas', 'numba') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_default_path_does_without_pymc():
    code = """
import sys, numpy as np, pandas as pd, bayesimp as bi
rng = np.random.default_rng(0)
f = pd.DataFrame({"g": np.repeat(range(5), 8), "x": rng.normal(size=40), "s": list("ab") * 20, "y": rng.normal(size=40)})
f.loc[::7, "y"] = np.nan
imp = bi.JointNormal(bi.IncompleteData(f, cluster="g"), "y ~ x + s + (1 | g)").impute(m=2, seed=1, draws=10)
imp.analyse("y ~ x + (1 | g)").pool().to_frame()
bi.FCS(bi.IncompleteData(f, cluster="g")).impute(m=2, seed=1, cycles=4).analyse("y ~ x + (1 | g)").pool()
print([m for m in ("pymc", "pytensor", "matplotlib", "formulae", "arviz") if m in sys.modules])
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_kernels_know_arrays_only():
    code = """
import sys
for name in ("pandas", "xarray", "pymc", "pytensor"): sys.modules[name] = None
import importlib, pkgutil, bayesimp.kernels as k
for m in pkgutil.iter_modules(k.__path__): importlib.import_module(f"bayesimp.kernels.{m.name}")
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("bayesimp."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.ImportFrom) and node.module == "bayesimp":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("bayesimp.")}
    return found


@pytest.mark.parametrize("part", BELOW)
def test_imports_point_left(part):
    place = ROOT / "bayesimp" / part
    files = list(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
    allowed = BELOW[part] | {part, "errors", "notation", "events", "progress"}
    for path in files:
        assert imported(path) <= allowed, f"{path.name} imports {imported(path) - allowed}"


def test_architecture_names_every_module():
    """ARCHITECTURE.md lists each top-level module and folder of the package."""
    text = (ROOT / "ARCHITECTURE.md").read_text()
    names = {p.stem for p in (ROOT / "bayesimp").glob("*.py")} | {
        p.name for p in (ROOT / "bayesimp").iterdir() if p.is_dir() and not p.name.startswith("_")
    }
    missing = [n for n in sorted(names - {"__init__"}) if n not in text]
    assert not missing, missing


@pytest.mark.slow
def test_wheel_contains_the_models(tmp_path):
    """Run 2026-11-21: passed (python -m pytest -m slow tests/test_package.py)."""
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--quiet",
            "--no-deps",
            "--wheel-dir",
            str(tmp_path),
            str(ROOT),
        ],
        check=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for needed in ("bayesimp/models/joint_normal.py", "bayesimp/data/brain_injury_simulated.csv"):
        assert needed in names
