"""Settings of all tests that save time (CONTRIBUTING.md, "What the tests cost").

The garbage collector examines only new objects, and rarely: by default it examines all objects again and again,
including half a million permanent ones of the imported libraries. BLAS has one thread in each worker, and in child
processes: workers already occupy the processors, and threads that wait for each other take CPU time. PyTensor does not
record the stack at every node of a graph, which it would print below its errors. Files are ordered so that two workers
do not compile the same kernels at the same time, and so that the longest begin first.

Tests that cost much are marked `deep`: `tests/deep.txt`, with the CPU seconds that `-p tests.seconds` measured.
"""

import gc
import os
from collections import defaultdict
from pathlib import Path

import pytest
from threadpoolctl import threadpool_limits

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
os.environ["PYTENSOR_FLAGS"] = ",".join(
    flag for flag in ("traceback__limit=0", os.environ.get("PYTENSOR_FLAGS")) if flag
)

# The first worker starts with chained equations, in one file that calls nearly all of their kernels; the second with
# joint models and analyses, which call others.
BEGIN = (
    "test_fcs_options.py",
    "joint/levels/",
    "joint/latent/",
    "joint/test_",
    "kernels/latent/",
    "analysis/",
)
QUICK = 0.05  # about what a test that is not deep costs


def deep() -> dict[str, float]:
    """Tests of the deep layer and their CPU seconds."""
    lines = Path(__file__).with_name("deep.txt").read_text(encoding="utf-8").splitlines()
    return {name: float(seconds) for seconds, name in (line.split(maxsplit=1) for line in lines)}


@pytest.hookimpl(tryfirst=True)  # before pytest selects by marker
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the deep layer. First the files of BEGIN, then the others, the longest first, as far as seconds are known."""
    seconds, of_file = deep(), defaultdict(float)
    left_out = bool(items) and "not deep" in items[0].config.option.markexpr
    for item in items:
        if item.nodeid in seconds:
            item.add_marker("deep")
            of_file[item.path] += 0.0 if left_out else seconds[item.nodeid]
        else:
            of_file[item.path] += QUICK

    def place(item: pytest.Item) -> tuple[int, float]:
        name = item.path.as_posix()
        begin = [k for k, part in enumerate(BEGIN) if f"/tests/{part}" in name]
        return begin[0] if begin else len(BEGIN), -of_file[item.path]

    items.sort(key=place)


def pytest_collection_finish() -> None:
    """One BLAS thread, also of libraries that a plugin of pytest has imported before this file; garbage collection.

    Collections exclude the objects of the imports, and wait for 50,000 new objects instead of 2,000.
    """
    threadpool_limits(1, "blas")
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
