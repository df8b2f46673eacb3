"""The disk cache of kernels: an edit of a file must reach every kernel made of it, and no other."""

import ast
import shutil
import sys
from pathlib import Path

import pytest

import bayesimp.kernels
from bayesimp.kernels.compiled import stamp
from bayesimp.kernels.lmm.search import descend
from bayesimp.kernels.normal.statistics import add_outer
from tests.forking import forks

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="fork")

PROGRAM = """
import numpy as np
from kernels_copy.user import call
print(call(3.0), sum(call.stats.cache_hits.values()))
"""


def test_stamp_is_the_one_that_numba_compares():
    """numba's private attribute is where we think it is; if a new numba moves it, this fails first."""
    for kernel in (add_outer, descend):
        assert kernel._cache._cache_file._source_stamp == stamp(kernel.py_func.__module__)


def _package(tmp_path):
    """user.call uses middle.twice, which uses used.factor; other.py is used by none of them."""
    package = tmp_path / "kernels_copy"
    package.mkdir()
    (package / "__init__.py").write_text("")
    shutil.copy(Path(bayesimp.kernels.__file__).parent / "compiled.py", package)
    (package / "user.py").write_text(
        "from kernels_copy.compiled import kernel\nfrom kernels_copy.middle import twice\n\n\n"
        "@kernel\ndef call(x):\n    return twice(x)\n"
    )
    (package / "middle.py").write_text(
        "from kernels_copy.compiled import inner\nfrom kernels_copy.used import (\n    factor,\n)\n\n\n"
        "@inner\ndef twice(x):\n    return 2 * factor(x)\n"
    )
    return package


def _write(package, name, number):
    (package / f"{name}.py").write_text(
        f"from kernels_copy.compiled import inner\n\n\n@inner\ndef factor(x):\n    return {number} * x\n"
    )


@pytest.fixture(scope="module")
def fork(tmp_path_factory):
    """Processes in which numba has compiled something, but none of these kernels."""
    with forks("import numba; numba.njit(lambda: 1)()", tmp_path_factory.mktemp("forks")) as each:
        yield each


@pytest.fixture
def run(fork, tmp_path):
    """The answer of a kernel in a new process, and how many kernels came from the cache."""
    return lambda: [float(x) for x in fork(PROGRAM, tmp_path).split()]


def test_an_edit_of_a_called_file_reaches_its_callers_at_any_remove(run, tmp_path):
    package = _package(tmp_path)
    results = []
    for number in (2.0, 5.0):
        _write(package, "used", number)
        results.append(run())
    assert results == [[12.0, 0.0], [30.0, 0.0]]


def test_an_edit_elsewhere_leaves_what_is_compiled(run, tmp_path):
    package = _package(tmp_path)
    _write(package, "used", 2.0)
    run()
    _write(package, "other", 7.0)
    assert run() == [12.0, 1.0]


def test_an_index_whose_types_are_no_longer_there_is_not_read(run, tmp_path):
    package = _package(tmp_path)
    typed = (
        "from typing import NamedTuple\n\nfrom kernels_copy.compiled import kernel\n\n\n"
        "class {0}(NamedTuple):\n    x: float\n\n\n@kernel\ndef first(pair):\n    return pair.x\n\n\n"
        "def call(x):\n    return first({0}(x))\n\n\ncall.stats = first.stats\n"
    )
    for name in ("Before", "After"):
        (package / "user.py").write_text(typed.format(name))
        assert run() == [3.0, 0.0]


def test_kernels_import_each_other_in_the_one_form_that_the_stamp_reads():
    folder = Path(bayesimp.kernels.__file__).parent
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert not any(name.name.startswith("bayesimp") for name in node.names), path
            if isinstance(node, ast.ImportFrom) and node.level + (node.module or "").startswith("bayesimp"):
                assert node.level == 0 and node.module != "bayesimp.kernels", path


def test_a_cache_that_names_a_class_which_is_gone_is_made_again(run, tmp_path):
    """A kernel whose argument is a class of its file; then the class has another name."""
    package = tmp_path / "kernels_copy"
    package.mkdir()
    (package / "__init__.py").write_text("")
    shutil.copy(Path(bayesimp.kernels.__file__).parent / "compiled.py", package)
    results = []
    for name in ("Pair", "Couple"):
        (package / "user.py").write_text(
            "from typing import NamedTuple\n\nfrom kernels_copy.compiled import kernel\n\n\n"
            f"class {name}(NamedTuple):\n    x: float\n\n\n"
            "@kernel\ndef inside(pair):\n    return 2 * pair.x\n\n\n"
            f"def call(x):\n    return inside({name}(x))\n\n\ncall.stats = inside.stats\n"
        )
        results.append(run())
    assert results == [[6.0, 0.0], [6.0, 0.0]]


INNER = """
from kernels_copy.compiled import IntermediateLibrary, inner, kernel


@inner
def root(x):
    if x < 0:
        raise ValueError("no root of", x)
    return x**0.5


@inner
def twice(x):
    return 2 * root(x)


@kernel
def call(x):
    return twice(x) + root(x)


@kernel
def other(x):
    return twice(x)


def has_machine_code(function):
    (result,) = function.overloads.values()
    return result.library.get_pointer_to_function(result.fndesc.llvm_func_name) != 0
"""
INNER_PROGRAM = """
from kernels_copy import user
print(user.{0}(9.0), sum(user.{0}.stats.cache_hits.values()))
print(*[user.has_machine_code(f) for f in (user.call, user.other, user.twice, user.root) if f.overloads])
try:
    user.{0}(-4.0)
except ValueError as e:
    print(*e.args)
"""


def test_what_only_kernels_call_is_compiled_to_intermediate_code_and_no_further(fork, tmp_path):
    """Through two callers, at two removes, from the cache of another process, and with an exception made inside."""
    package = tmp_path / "kernels_copy"
    package.mkdir()
    (package / "__init__.py").write_text("")
    shutil.copy(Path(bayesimp.kernels.__file__).parent / "compiled.py", package)
    (package / "user.py").write_text(INNER)
    answers = []
    for name in ("call", "other", "call", "other"):
        answers.append(fork(INNER_PROGRAM.format(name), tmp_path).splitlines())
    first, second, *again = answers
    assert first == ["9.0 0", "True False False", "no root of -4.0"]
    assert second == [
        "6.0 0",
        "True False",
        "no root of -4.0",
    ]  # twice comes from the cache, and root within it
    assert again == [["9.0 1", "True", "no root of -4.0"], ["6.0 1", "True", "no root of -4.0"]]
