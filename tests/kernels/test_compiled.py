"""The disk cache of kernels: an edit of any file of the package must reach every kernel."""

import shutil
import subprocess
import sys
from pathlib import Path

import bayesimp.kernels
from bayesimp.kernels.compiled import STAMP
from bayesimp.kernels.mixed_model_search import descend
from bayesimp.kernels.statistics import _add_outer

PROGRAM = """
import numpy as np
from kernels_copy.user import call
print(call(3.0))
"""


def test_stamp_is_the_one_that_numba_compares():
    """numba's private attribute is where we think it is; if a new numba moves it, this fails first."""
    for kernel in (_add_outer, descend):
        assert kernel._cache._cache_file._source_stamp == STAMP


def test_an_edit_of_a_called_file_reaches_its_callers(tmp_path):
    package = tmp_path / "kernels_copy"
    package.mkdir()
    (package / "__init__.py").write_text("")
    shutil.copy(Path(bayesimp.kernels.__file__).parent / "compiled.py", package)
    (package / "user.py").write_text(
        "from kernels_copy.compiled import kernel\nfrom kernels_copy.used import factor\n\n\n"
        "@kernel\ndef call(x):\n    return factor(x)\n"
    )
    results = []
    for number in (2.0, 5.0):
        (package / "used.py").write_text(
            f"from kernels_copy.compiled import inner\n\n\n@inner\ndef factor(x):\n    return {number} * x\n"
        )
        run = subprocess.run(
            [sys.executable, "-c", PROGRAM], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        results.append(float(run.stdout))
    assert results == [6.0, 15.0]
