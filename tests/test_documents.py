"""Documents: links and paths lead to files that exist, and the README stays short."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import bayesimp as bi

ROOT = Path(bi.__file__).parents[1]
FOLDERS = ("bayesimp", "models", "tests", "benchmarks", "docs", "examples", "notebooks")
SKIPPED = {".venv", ".git", "__pycache__", "node_modules"}
ENDING = r"\.(?:py|md|R|ipynb|toml|png)"
HISTORY = {"CHANGELOG.md"}  # an entry names paths of its time; only its links are checked


def files(*endings: str) -> list[Path]:
    inside = [p for folder in FOLDERS for p in (ROOT / folder).rglob("*") if p.suffix in endings]
    top = [p for p in ROOT.glob("*") if p.suffix in endings]
    return [p for p in top + inside if not SKIPPED & set(p.relative_to(ROOT).parts)]


NAMES = {p.name for p in files(".py", ".md", ".R", ".ipynb", ".toml", ".png")}
DOCUMENTS = [p.relative_to(ROOT).as_posix() for p in files(".md")]
CODE = [p.relative_to(ROOT).as_posix() for p in files(".py")]


def exists(name: str, beside: Path) -> bool:
    """Whether a path exists: from its document, the root, the package or a room; a bare name anywhere."""
    if "/" not in name:
        return name in NAMES
    package = ROOT / "bayesimp"
    return any((start / name).exists() for start in (beside, ROOT, package, *package.iterdir()))


def paths(text: str) -> list[str]:
    """The names of files in a document: whatever is in backticks and ends like a file."""
    spans = re.findall(r"`([^`\n]+)`", text)
    return [n for span in spans for n in re.findall(rf"(?<![\w./*<-])[\w][\w./-]*{ENDING}\b", span)]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_relative_links_exist(document):
    place = ROOT / document
    links = re.findall(r"\]\(([^)\s]+)\)", place.read_text())
    local = [link.split("#")[0] for link in links if not re.match(r"[a-z]+:|#", link)]
    broken = [link for link in local if not (place.parent / link).exists()]
    assert not broken, f"{document} links to {broken}, which do not exist"


@pytest.mark.parametrize("document", [d for d in DOCUMENTS if d not in HISTORY])
def test_paths_in_documents_exist(document):
    place = ROOT / document
    gone = sorted({n for n in paths(place.read_text()) if not exists(n, place.parent)})
    assert not gone, f"{document} names {gone}, which do not exist"


@pytest.mark.parametrize("code", CODE)
def test_documents_named_in_code_exist(code):
    place = ROOT / code
    named = re.findall(r"(?<![\w./*<{-])[A-Za-z][\w/]*\.md\b", place.read_text())
    gone = sorted({n for n in named if not exists(n, place.parent)})
    assert not gone, f"{code} names {gone}, which do not exist"


@pytest.mark.parametrize("code", [c for c in CODE if c.startswith(("bayesimp/", "models/"))])
def test_modules_named_in_code_exist(code):
    """Docstrings and comments name a module by its path, or by its name within one folder."""
    place = ROOT / code
    named = set(re.findall(r"(?<![\w./*<{-])[a-z_][\w/]*\.py\b", place.read_text()))
    gone = sorted(
        n for n in named if not ((place.parent / n).exists() or ("/" in n and exists(n, place.parent)))
    )
    assert not gone, f"{code} names {gone}, which do not exist"


def test_readme_is_short_and_names_the_command_that_ci_runs():
    readme = (ROOT / "README.md").read_text()
    words = len(readme.split())
    assert words <= 900, f"README.md has {words} words; long tables belong in docs/"
    assert "notebooks/figures/" in readme and "    make demo " in readme
    assert "    make test " in readme and "make test-all\n" in readme


@pytest.mark.parametrize(("lint", "test"), [(0, 0), (1, 0), (0, 2), (1, 2)])
def test_ci_runs_tests_and_lint_and_fails_if_either_does(tmp_path, lint, test):
    """With a `make` that only says how it was called, and a `git` that counts commits."""
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci")
    make = tmp_path / "bin" / "make"
    make.parent.mkdir()
    ends = f'[ "$1" = lint ] && echo said && exit {lint}\n[ "$1" = test ] && exit {test}\nexit 0\n'
    make.write_text('#!/bin/sh\necho "make $*" >> calls\n' + ends)
    git = make.with_name("git")
    git.write_text(f"#!/bin/sh\necho {30 + lint + test}\n")
    make.chmod(0o755)
    git.chmod(0o755)
    environment = os.environ | {"PATH": f"{make.parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["sh", tmp_path / ".ci" / "run"], env=environment, capture_output=True, text=True)
    assert (done.returncode != 0) == bool(lint or test) and ("said" in done.stdout) == bool(lint)
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls[0] == "make .venv/.installed"
    turn = (lint + test) % 3 + 1
    assert sorted(calls[1:]) == ["make lint", f"make test ARGS=-m 'not slow' --turn {turn}/3"]
