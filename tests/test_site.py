"""The site builds without warnings, needs nothing from elsewhere, and is right about the code."""

from __future__ import annotations

import ast
import contextlib
import importlib
import inspect
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import bayesimp as bi
from bayesimp.analysis.fits import Fits

ROOT = Path(bi.__file__).parents[1]
DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS / "site"))

import docstring_markup  # noqa: E402
import notebook_pages  # noqa: E402
import page_code  # noqa: E402

HOW_TO = sorted(p for p in (DOCS / "howto").glob("*.md") if page_code.blocks(p.read_text()))
SLOW = {"own_model"}  # compiles a PyMC model
NUMBER = re.compile(r"-?\d[\d,]*\.?\d*(?:e[+-]?\d+)?")
OUTSIDE = re.compile(
    r"<(?:script|img|link|iframe|source)\b[^>]*?\b(?:src|href)=[\"'](?:https?:)?//|@import|url\([\"']?(?:https?:)?//"
)


# ------------------------------------------------------------------------------------------------------------------
# the site


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The site, built as `make docs` builds it."""
    pytest.importorskip("sphinx")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, str(DOCS / "build.py"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_and_notebook_is_there(site):
    pages = [p.relative_to(DOCS).with_suffix(".html") for p in DOCS.rglob("*.md")]
    pages += [Path("notebooks") / p.with_suffix(".html").name for p in (ROOT / "notebooks").glob("*.ipynb")]
    missing = [
        str(p) for p in [*pages, Path("changelog.html"), Path("plans.html")] if not (site / p).exists()
    ]
    assert len(pages) > 40 and not missing


def test_nothing_is_fetched_when_a_page_is_viewed(site):
    assert OUTSIDE.search('<script src="https://x.org/a.js">') and OUTSIDE.search(
        "<img alt='' src='//x.org/a.png'>"
    )
    files = [p for p in site.rglob("*") if p.suffix in (".html", ".css", ".js")]
    found = {p.relative_to(site).as_posix(): m[0] for p in files if (m := OUTSIDE.search(p.read_text()))}
    assert files and not found


def test_everything_public_is_described(site):
    text = "".join(p.read_text() for p in (site / "api").glob("*.html"))
    described = set(re.findall(r'id="(bayesimp\.[\w.]+)"', text))
    names = {f"bayesimp.{n}" for n in bi.__all__ if not inspect.ismodule(getattr(bi, n))}
    for module in ("compatibility", "methods", "plots", "priors", "studies"):
        home = importlib.import_module(f"bayesimp.{module}")
        public = {f"{module}.{n}": getattr(home, n) for n in home.__all__ if callable(getattr(home, n))}
        names |= {f"bayesimp.{n}" for n, v in public.items() if getattr(bi, n.split(".")[1], None) is not v}
    assert not names - described
    assert {
        "bayesimp.analysis.fits.Fits.pool",
        "bayesimp.FCS.impute",
        "bayesimp.Imputations.to_long",
    } <= described


def test_examples_are_shown_as_they_are_written(site):
    pages = {p.name: p.read_text() for p in (site / "api").glob("*.html")}
    assert "(1 | school)" in re.sub(r"<[^>]+>", "", pages["engines.html"])
    found = {name: m[0] for name, text in pages.items() if (m := re.search(r".{30}\\[|*_].{10}", text))}
    assert not found


def test_code_in_the_text_leads_to_the_reference(site):
    page = (site / "howto" / "few_clusters.html").read_text()
    assert re.search(r'href="\.\./api/\w+\.html#bayesimp\.sensitivity"', page)


def test_a_warning_stops_the_build(tmp_path):
    pytest.importorskip("sphinx")
    for name, link in {"right": "", "wrong": "[nowhere](nowhere.rst)"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "index.md").write_text(f"# Title\n\n{link}\n")
    code = f"""
import sys; sys.path.insert(0, {str(DOCS)!r})
import build, pathlib
for name in ("right", "wrong"):
    folder = pathlib.Path({str(tmp_path)!r}) / name
    print(build.sphinx(folder, folder / "out"))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    right, wrong = done.stdout.split()[-2:]
    assert right == "0" and wrong != "0" and "nowhere.rst" in done.stderr


# ------------------------------------------------------------------------------------------------------------------
# code on the pages


@contextlib.contextmanager
def quiet(folder: Path) -> Iterator[None]:
    """In a folder of its own, without figures on a screen and without the warnings of runs that are too short."""
    import matplotlib
    import matplotlib.pyplot as plt

    matplotlib.use("agg")
    with contextlib.chdir(folder), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    plt.close("all")


@pytest.mark.parametrize(
    "page",
    [pytest.param(p, id=p.stem, marks=[pytest.mark.slow] if p.stem in SLOW else []) for p in HOW_TO],
)
def test_every_block_of_a_how_to_runs(page, tmp_path):
    with quiet(tmp_path):
        names = page_code.run(page, small=True)
    assert names["bi"] is bi


def test_the_first_page_runs(tmp_path):
    with quiet(tmp_path):
        names = page_code.run(DOCS / "index.md", small=True)
    assert (tmp_path / "run.nc").exists() and isinstance(names["fits"], Fits)


def test_runs_are_made_small_only_where_they_are_long():
    code = "imp = model.impute(m=60, seed=1)\nmore = imp.extend(20)\nbi.FCS(data).impute(m=20, cycles=40)\nrows.sum(m=7)"
    small = ast.unparse(page_code.Smaller().visit(ast.parse(code)))
    assert small.splitlines()[0] == "imp = model.impute(m=5, seed=1, draws=60)"
    assert "extend(2)" in small and "impute(m=5, cycles=3)" in small


def rounded(text: str) -> tuple[str, np.ndarray]:
    """A text without its numbers and spacing, and its numbers."""
    numbers = [float(n.replace(",", "")) for n in NUMBER.findall(text)]
    return re.sub(r"[\s-]+", " ", NUMBER.sub("#", text)), np.array(numbers)


@pytest.mark.parametrize("name", page_code.SHOWN)
def test_outputs_on_a_page_are_those_of_its_code(name, tmp_path):
    """Numbers within 2 %: another processor draws other values in the last digits. `python docs/build.py --outputs`."""
    page = (DOCS / name).read_text()
    with quiet(tmp_path):
        again = page_code.with_outputs(page, tmp_path, Path(name).stem)
    (words, numbers), (words_again, numbers_again) = rounded(page), rounded(again)
    advice = f"the outputs of docs/{name} have changed; run python docs/build.py --outputs and read the page"
    assert words == words_again, advice
    np.testing.assert_allclose(numbers_again, numbers, rtol=0.02, atol=0.02, err_msg=advice)
    drawn = re.findall(r"\]\(figures/([\w.]+)\)", page)
    assert all((DOCS / "figures" / f).exists() and (tmp_path / f).exists() for f in drawn)


def test_an_output_that_was_typed_by_hand_is_found():
    page = "```python\nprint(2.5)\n```\n"
    made = page_code.with_outputs(page, DOCS, "x")
    assert "```text\n2.5\n```" in made and page_code.without_outputs(made).strip() == page.strip()
    assert not np.allclose(rounded(made)[1], rounded(made.replace("2.5\n", "3.5\n"))[1], rtol=0.02)
    with pytest.raises(ValueError, match="no longer refused"):
        page_code.with_outputs("```python refused\n1 + 1\n```\n", DOCS, "x")


# ------------------------------------------------------------------------------------------------------------------
# calls in the tables of coming_from.md

ROOTS: dict[str, object] = {
    "bi": bi, "imp": bi.Imputations, "fits": Fits, "data": bi.IncompleteData,
}  # fmt: skip
CALL = re.compile(r"^(?:bi|imp|fits|data)\.")


def calls() -> list[str]:
    """Our code in the tables: what follows "here"."""
    found = []
    for line in (DOCS / "coming_from.md").read_text().splitlines():
        if line.startswith("| "):
            *_, ours = re.split(r"(?<!\\)\|", line.strip().strip("|"))
            found += [s.replace(r"\|", "|") for s in re.findall(r"`([^`]+)`", ours)]
    return [code for code in found if CALL.match(code)]


def test_every_row_of_a_table_has_two_cells():
    """An unescaped bar in code would end a cell."""
    rows = [line for line in (DOCS / "coming_from.md").read_text().splitlines() if line.startswith("| ")]
    assert len(rows) > 50
    assert all(len(re.split(r"(?<!\\)\|", row.strip().strip("|"))) == 2 for row in rows)


def check_call(code: str) -> None:
    """Bind the arguments of every call in an expression; raises TypeError or AttributeError."""
    target_of(ast.parse(code, mode="eval").body)


def target_of(node: ast.expr) -> object:
    """What an expression gives, as far as names and arguments can be checked: a class means its instances."""
    if isinstance(node, ast.Name):
        return ROOTS.get(node.id)
    if isinstance(node, ast.Attribute):
        return getattr(target_of(node.value), node.attr)
    if isinstance(node, ast.Call):
        function = target_of(node.func)
        for argument in [*node.args, *(k.value for k in node.keywords)]:
            if isinstance(argument, ast.Call) and ast.unparse(argument.func).startswith("bi."):
                target_of(argument)
        if function is bi.Imputations.analyse:
            function = bi.fit_each  # which takes its options
        assert callable(function)
        bind(function, node)
        return result_of(function, node)
    return None


def result_of(function: Callable, node: ast.Call) -> object:
    """The class of what a call gives, by its annotation; None where that says nothing that is called here."""
    if inspect.isclass(function):
        return function
    name = str(function.__annotations__.get("return"))
    if name == "Self" and isinstance(node.func, ast.Attribute):
        return target_of(node.func.value)
    return {"Imputations": bi.Imputations, "Fits": Fits, "MultilevelImputer": bi.MultilevelImputer}.get(name)


def bind(function: Callable, node: ast.Call) -> None:
    """Raise TypeError unless the function takes these arguments."""
    unbound = inspect.isfunction(function) and "." in function.__qualname__ and function is not bi.fit_each
    own = [None] if unbound or function is bi.fit_each else []  # self, or the imputations
    inspect.signature(function).bind(*own, *node.args, **{k.arg: None for k in node.keywords if k.arg})


def test_calls_for_those_who_come_from_elsewhere_exist():
    found = calls()
    assert len(found) > 50
    for code in found:
        try:
            check_call(code)
        except (TypeError, AttributeError, SyntaxError, AssertionError) as error:
            pytest.fail(f"coming_from.md: `{code}`: {error}")


WRONG = (
    "bi.FCS(data, methodes={})", "bi.FCS(data).impute(m=2, cycle=3)", "imp.to_wide()", "bi.mice(data)",
    "bi.MultilevelImputer('g').fit(X).transfrom(X)", "imp.analyse('y ~ x', familly='poisson')",
    "bi.JointNormal(data, f, bi.priors.iwishart())",
)  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_call_is_seen(wrong):
    with pytest.raises((TypeError, AttributeError)):
        check_call(wrong)


# ------------------------------------------------------------------------------------------------------------------
# markup


def test_equations_of_docstrings_become_literal_blocks():
    lines = [
        "A sentence.",
        "",
        "    y = |C| b_ + X* beta",
        "",
        "More |C| and b_.",
        "",
        "Parameters",
        "----------",
        "x",
        "    Text.",
    ]
    made = docstring_markup.escaped(docstring_markup.literal_blocks(lines))
    assert made[:5] == ["A sentence.", "", "::", "", "    y = |C| b_ + X* beta"]
    assert r"More \|C\| and b\_." in made and made[-1] == "    Text."
    kept = [">>> fit(x**2, '(1 | g)')", "*emphasis* and `code_` stay"]
    assert docstring_markup.escaped([*kept, "**options"]) == [*kept, r"\*\*options"]
    assert docstring_markup.joined_results(["Returns", "-------", "One,", "two."])[2:] == ["One, two."]


def test_notebook_outputs_are_kept(tmp_path):
    pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    outputs = [
        {"output_type": "stream", "text": ["a\n", "```\n"]},
        {"output_type": "display_data", "data": {"image/png": pixel, "text/plain": "<Figure>"}},
        {"output_type": "execute_result", "data": {"text/html": "<table></table>", "text/plain": "t"}},
    ]
    shown = [notebook_pages.shown(output, f"x{k}", tmp_path) for k, output in enumerate(outputs)]
    assert shown[0].startswith("````text\na\n```\n") and shown[1] == "![Figure](x1.png)\n"
    assert (tmp_path / "x1.png").stat().st_size > 50 and "<table></table>" in shown[2]
    with pytest.raises(ValueError, match="stored with an error"):
        notebook_pages.shown({"output_type": "error"}, "x", tmp_path)
