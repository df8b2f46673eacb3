"""The package as a whole: public names, what an import loads, the arrow of imports."""

import ast
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import bayesimp as bi
import tests.reading
from tests.reading import STATEMENTS, fcs, joint_normal, read

ROOT = Path(bi.__file__).parents[1]
BASE = {
    "arguments",
    "contract",
    "durable",
    "errors",
    "notation",
    "events",
    "progress",
    "runlog",
    "kinds",
    "layout",
    "messages",
    "markup",
    "sections",
    "shift",
    "threads",
}
BELOW = {  # what each room may import, besides BASE and itself
    "kernels": set(),
    "families": {"kernels"},  # codes of families
    "datasets": {"table"},
    # joint, fcs and plots inside methods and functions
    "studies": {"families", "table", "formulas", "priors", "methods", "analysis", "joint", "fcs", "plots"},
    "table": {"families"},
    "formulas": {"families", "table"},
    "priors": {"kernels", "formulas", "models"},  # PyMC distributions, inside methods
    "methods": {"families", "table", "formulas", "priors", "fcs"},  # table and fcs inside hooks
    "scale": {"formulas", "priors"},
    "models": {"kernels", "families", "priors"},
    "sampling": {"models"},
    "joint": {
        "kernels",
        "families",
        "table",
        "formulas",
        "priors",
        "scale",
        "models",
        "sampling",
        "imputation",
    },
    "fcs": {
        "kernels",
        "families",
        "table",
        "formulas",
        "priors",
        "methods",
        "scale",
        "models",
        "sampling",
        "imputation",
        "joint",  # its factors, for values drawn given an analysis
        "diagnostics",  # what mixes together, to be imputed together
    },
    # all but families and table inside methods
    "imputation": {"families", "table", "analysis", "diagnostics", "studies", "report"},
    "analysis": {"kernels", "families", "table", "formulas"},
    "diagnostics": {"kernels", "families", "table", "priors", "methods", "imputation"},
    "compatibility": {
        "table",
        "formulas",
        "priors",
        "diagnostics",
        "imputation",
        "joint",
        "plots",
    },  # plots inside methods
    "sensitivity_analysis": {
        "families",
        "table",
        "formulas",
        "priors",
        "sampling",
        "imputation",
        "analysis",
        "diagnostics",
        "plots",  # inside methods
    },
    "federated": {
        "kernels",
        "table",
        "formulas",
        "priors",
        "scale",
        "sampling",
        "joint",
        "imputation",
        "diagnostics",
    },
    "partitioned": {
        "kernels",
        "fcs",
        "methods",
        "table",
        "formulas",
        "priors",
        "scale",
        "sampling",
        "joint",
        "imputation",
        "diagnostics",
        "federated",
        "analysis",
        "report",  # inside methods
    },
    "verification": {
        "table",
        "priors",
        "joint",
        "fcs",
        "imputation",
        "analysis",
        "diagnostics",
        "studies",
        "federated",
        "report",
    },
    "report": {"formulas", "imputation", "analysis", "diagnostics", "plots"},
    "plots": {
        "kernels",
        "families",
        "table",
        "priors",
        "imputation",
        "analysis",
        "diagnostics",
        "compatibility",
        "sensitivity_analysis",
    },
}


def test_every_public_name_loads_and_is_documented():
    for name in bi.__all__:
        value = getattr(bi, name)
        assert value.__doc__ and value.__doc__.strip(), f"{name} has no docstring"
    with pytest.raises(AttributeError, match="nonsense"):
        bi.nonsense  # noqa: B018


def test_imports_are_light():
    """Step by step: a name is there before what it needs is loaded, which happens when it is used."""
    code = """
import sys
def loaded(*names): print([name for name in names if name in sys.modules])
import bayesimp as bi
loaded("pymc", "matplotlib", "pandas", "numba")
bi.FromPyMC
loaded("pymc")
import bayesimp.plots as plots
[getattr(plots, name) for name in plots.__all__]
loaded("matplotlib", "arviz_stats")
import pandas as pd
from bayesimp.formulas.design import design
from bayesimp.formulas.formula import parse
design(parse("y ~ x + (1 | g)"), pd.DataFrame({"x": [1.0, 2.0, 4.0]}))
loaded("formulae")
import json
loaded("json")
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.splitlines() == ["[]"] * 4 + ["['json']"]


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
for m in pkgutil.walk_packages(k.__path__, "bayesimp.kernels."): importlib.import_module(m.name)
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


def test_every_room_has_its_place_on_the_arrow():
    rooms = {p.name for p in (ROOT / "bayesimp").iterdir() if p.is_dir() and not p.name.startswith("_")}
    assert rooms - {"workflow"} == set(BELOW)  # workflow: whatever a command needs


@pytest.mark.parametrize("part", BELOW)
def test_imports_point_left(part):
    place = ROOT / "bayesimp" / part
    files = list(place.rglob("*.py"))
    assert files
    allowed = BELOW[part] | BASE | {part}
    for path in files:
        assert imported(path) <= allowed, f"{path.name} imports {imported(path) - allowed}"


def inventory() -> dict[str, list[str]]:
    """The modules that ARCHITECTURE.md lists for each room: the first cells of the table below "### room/"."""
    listed: dict[str, list[str]] = {}
    room = None
    for line in (ROOT / "ARCHITECTURE.md").read_text().splitlines():
        if line.startswith("#"):
            room = match[1] if (match := re.fullmatch(r"### ([a-z_]+)/", line)) else None
        elif room is not None and (match := re.match(r"\| `([\w/]+\.py)` \| \S", line)):
            listed.setdefault(room, []).append(match[1])
    return listed


def modules() -> dict[str, list[str]]:
    """The modules of each room in the folder itself; "bayesimp" holds those of the root."""
    package = ROOT / "bayesimp"
    found = {"bayesimp": [p.name for p in package.glob("*.py")]}
    for room in (p for p in package.iterdir() if p.is_dir() and not p.name.startswith("_")):
        found[room.name] = [p.relative_to(room).as_posix() for p in room.rglob("*.py")]
    return {room: [n for n in names if Path(n).name != "__init__.py"] for room, names in found.items()}


def test_architecture_names_every_module_once_in_its_room():
    listed, found = inventory(), modules()
    assert set(listed) == set(found)
    for room, names in found.items():
        missing, gone = set(names) - set(listed[room]), set(listed[room]) - set(names)
        assert not missing, f"ARCHITECTURE.md does not name {sorted(missing)} in the table of {room}/"
        assert not gone, f"ARCHITECTURE.md names {sorted(gone)} in the table of {room}/, which do not exist"
        assert len(listed[room]) == len(set(listed[room])), f"{room}/: a module is named twice"


def arrow() -> dict[str, set[str]]:
    """What each room may import according to the table of imports in ARCHITECTURE.md."""
    text = (ROOT / "ARCHITECTURE.md").read_text()
    table = text.split("## The arrow of rooms")[1].split("\n\n")
    rows = next(part for part in table if part.startswith("| room")).splitlines()[2:]
    allowed: dict[str, set[str]] = {}
    for row in rows:
        rooms, imports, _ = (cell.strip() for cell in row.strip("|").split("|"))
        for room in re.findall(r"`([a-z_]+)`", rooms):
            allowed[room] = set(re.findall(r"[a-z_]+", imports))
    return allowed


def test_architecture_shows_the_arrow_that_is_tested():
    shown = arrow()
    assert set(shown) == set(BELOW) | {"workflow"}
    for room, below in BELOW.items():
        assert shown[room] == below, f"the table of the arrow in ARCHITECTURE.md is wrong for {room}"


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
    for needed in ("bayesimp/models/joint_normal.py", "bayesimp/datasets/brain_injury_simulated.csv"):
        assert needed in names


@pytest.mark.parametrize(
    ("path", "stays", "at_any_depth"),
    [
        # 39 stays at commit 6b73f21, from which issue 12 starts; 29 before every engine checked the table for exact
        # combinations, one row in every cluster and residual spread
        (joint_normal, 37, 37),
        (fcs, 55, 97),  # 71, and 51 before these checks
    ],
)
def test_the_path_from_table_to_model_is_short(path, stays, at_any_depth, monkeypatch):
    """``python -m tests.reading --path`` shows it; a new step belongs in the file of the step before it."""
    reading = path()
    assert reading.files < len(reading.stays) <= stays, reading
    monkeypatch.setattr(tests.reading, "DEPTH", 99)
    reading = path()
    assert len(reading.stays) <= at_any_depth, reading


def test_a_file_that_is_entered_twice_counts_twice(tmp_path, monkeypatch):
    body = "\n".join(["    x = 0"] * STATEMENTS)
    monkeypatch.setattr(tests.reading, "ROOT", tmp_path)
    scope = {}
    for name, calls in (("b", ""), ("a", "    short()\n    b()\n    short()")):
        path = tmp_path / f"{name}.py"
        path.write_text(f"def short():\n    pass\n\n\ndef {name}():\n{body}\n{calls}\n")
        exec(compile(path.read_text(), str(path), "exec"), scope)
    reading = read(scope["a"])
    assert reading.stays == ("a.py", "b.py", "a.py")
    assert (reading.files, reading.returns) == (2, 1)


def test_no_function_is_longer_than_70_lines():
    for path in sorted({*ROOT.glob("bayesimp/**/*.py"), *ROOT.glob("models/*.py")}):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                doc = node.body[0] if ast.get_docstring(node) else None
                lines = node.end_lineno - node.lineno + 1 - (doc.end_lineno - doc.lineno + 1 if doc else 0)
                assert lines <= 70, f"{path.name}: {node.name} has {lines} lines without its docstring"
