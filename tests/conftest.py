"""Settings of all tests that save time (CONTRIBUTING.md, "What the tests cost").

The garbage collector examines only new objects, and rarely: by default it examines all objects again and again,
including half a million permanent ones of the imported libraries. PyTensor does not record the stack at every node of a
graph, which it would print below its errors. Files are ordered so that two workers do not compile the same kernels at
the same time.
"""

import gc
import os
from collections import Counter

import pytest

os.environ["PYTENSOR_FLAGS"] = ",".join(
    flag for flag in ("traceback__limit=0", os.environ.get("PYTENSOR_FLAGS")) if flag
)

# The first worker starts with generalised models, which call most kernels; the second with these, which call others.
BEGIN = (
    "fcs/test_wiring_families.py",
    "joint/levels/",
    "joint/latent/",
    "kernels/latent/",
    "analysis/test_crossed.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that run first, then the others, those with most tests first, as pytest-xdist orders them."""
    tests = Counter(item.path for item in items)

    def place(item: pytest.Item) -> tuple[int, int]:
        name = item.path.as_posix()
        begin = [k for k, part in enumerate(BEGIN) if f"/tests/{part}" in name]
        return begin[0] if begin else len(BEGIN), -tests[item.path]

    items.sort(key=place)


def pytest_collection_finish() -> None:
    """Exclude the objects of the imports from collections, and wait for 50,000 new objects instead of 2,000."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
