"""Kernels shipped in a wheel run without compilation if possible, and are compiled again if anything differs."""

import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bayesimp.kernels import compiled
from tests.forking import Forks, forks

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="fork")

MODULE = """
from kernels_copy.compiled import inner, kernel


@inner
def twice(x):
    return {factor} * x


@kernel
def call(x):
    return twice(x) + 1


@kernel
def other(x):
    return twice(x) - 1
"""
PROGRAM = """
import sys
from pathlib import Path
from bayesimp.kernels import ahead
ahead.FOLDER = Path("machine_code")
from kernels_copy import brought
print(brought.call(3.0), sum(brought.call.stats.cache_hits.values()))
if "collect" in sys.argv:
    from numba.core.registry import cpu_target
    brought.call._cache.copy(brought.call.signatures[0], cpu_target.target_context, ahead.FOLDER)
if "other" in sys.argv:
    print(brought.other(3.0), sum(brought.other.stats.cache_hits.values()))
"""


CHOSEN = """
from numba.core.registry import cpu_target
print('_toplevel_target_context' in vars(cpu_target))
"""


def package(folder: Path, factor: float) -> None:
    (folder / "kernels_copy").mkdir()
    (folder / "kernels_copy" / "__init__.py").touch()
    shutil.copy(compiled.__file__, folder / "kernels_copy")
    (folder / "kernels_copy" / "brought.py").write_text(MODULE.format(factor=factor))


@pytest.fixture(scope="module")
def fork(tmp_path_factory) -> Iterator[Forks]:
    """Processes in which numba has not yet chosen a processor."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("NUMBA_CPU")}
    with forks("import bayesimp.kernels.ahead", tmp_path_factory.mktemp("forks"), clean) as each:
        assert each(CHOSEN, Path()).strip() == "False"
        yield each


def run(fork: Forks, folder: Path, cache: str, *arguments: str, **environment: str) -> list[float]:
    """Answer of the kernel, and 1 if it was not compiled."""
    said = fork(PROGRAM, folder, arguments, NUMBA_CACHE_DIR=str(folder / cache), **environment)
    return [float(x) for x in said.split()]


@pytest.fixture(scope="module")
def built(fork, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    package(folder, 2.0)
    assert run(fork, folder, "build", "collect", NUMBA_CPU_NAME="generic") == [7.0, 0.0]
    return folder


def test_a_kernel_of_the_wheel_is_not_compiled(fork, built):
    assert run(fork, built, "user", "other") == [7.0, 1.0, 5.0, 0.0]  # the other kernel is not in the wheel
    assert run(fork, built, "user", "other") == [7.0, 1.0, 5.0, 1.0]


@pytest.mark.parametrize(
    ("entry", "value"), [(0, "another-system"), (2, "+no_such_feature"), (1, "another generation")]
)
def test_another_target_is_not_used(entry, value, fork, built, tmp_path):
    """Another system, a feature that this processor lacks, or code made for another generation than the file says."""
    target = json.loads((built / "machine_code" / "target.json").read_text())
    changed = [value if k == entry else x for k, x in enumerate(target)]
    shutil.copytree(built / "machine_code", tmp_path / "machine_code")
    (tmp_path / "machine_code" / "target.json").write_text(json.dumps(changed))
    package(tmp_path, 2.0)
    assert run(fork, tmp_path, "user") == [7.0, 0.0]


def test_a_processor_that_the_user_chose_is_compiled_for(fork, built):
    assert run(fork, built, "chosen", NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES="") == [7.0, 0.0]


def test_an_edit_of_the_source_is_compiled(fork, built, tmp_path):
    (tmp_path / "machine_code").symlink_to(built / "machine_code")
    package(tmp_path, 5.0)
    assert run(fork, tmp_path, "user") == [16.0, 0.0]
