"""A wheel that brings kernels, installed by itself, imputes at once; without them it compiles (`make wheel`)."""

import importlib.util
import shutil

import pytest

from benchmarks import first_run


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("build") is None, reason="build is not installed")
def test_the_first_imputation_from_a_wheel_compiles_nothing(tmp_path):
    """Its CPU seconds are those of a process that finds its own compiled kernels; without kernels they are many more.

    The kernels are those of one joint model; of all runs of tests/frozen.py: python -m benchmarks.first_run dist/*.whl.
    """
    made, package = tmp_path / "made", tmp_path / "package"
    made.mkdir()
    first_run.installed(first_run.built(made, ("joint",)), package)
    seconds = {}
    for name in ("brought", "without"):
        cache = tmp_path / name
        cache.mkdir()
        if name == "without":
            shutil.rmtree(package / "bayesimp" / "kernels" / "machine_code")
        seconds[name] = first_run.run("joint", package, cache)
    warm = first_run.run("joint", package, tmp_path / "without")
    assert seconds["brought"]["compiled"] == 0 and seconds["without"]["compiled"] > 10
    assert seconds["brought"]["cpu"] < 1.5 * warm["cpu"] < seconds["without"]["cpu"]
