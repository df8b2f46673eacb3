"""Settings of all tests that save time (CONTRIBUTING.md, "What the tests cost").

The garbage collector examines only new objects, and rarely: by default it examines all objects again and again,
including half a million permanent ones of the imported libraries. BLAS has one thread in each worker, and in child
processes: workers already occupy the processors, and threads that wait for each other take CPU time. PyTensor does not
record the stack at every node of a graph, which it would print below its errors. Files are ordered so that two workers
do not compile the same kernels at the same time, and so that the longest begin first.

Tests that cost much are marked `deep`: `tests/deep.txt`, with the CPU seconds that `-p tests.seconds` measured. With
``--turn 2/3`` those of every third file run, besides all others: three turns cost about the same, and are all of them.
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


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--turn K/N``."""
    parser.addoption("--turn", metavar="K/N", help="of the deep tests only the K-th of N parts, K = 1 .. N")


def turns(seconds: dict[str, float], number: int) -> dict[str, int]:
    """The turn, 1 .. `number`, of each file with deep tests: the longest first, each to the turn that has cost least."""
    of_file: dict[str, float] = defaultdict(float)
    for name, cost in seconds.items():
        of_file[name.partition("::")[0]] += cost
    out, total = {}, [0.0] * number
    for file in sorted(of_file, key=lambda file: (-of_file[file], file)):
        least = total.index(min(total))
        out[file], total[least] = least + 1, total[least] + of_file[file]
    return out


def take_turn(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect deep tests whose turn it is not.

    Raises
    ------
    pytest.UsageError
        The option is not K/N with 1 <= K <= N.
    """
    turn, slash, number = config.option.turn.partition("/")
    if not (slash and turn.isdecimal() and number.isdecimal() and 1 <= int(turn) <= int(number)):
        raise pytest.UsageError(f"--turn is K/N with 1 <= K <= N, as in 2/3; got {config.option.turn!r}.")
    seconds = deep()
    of_file = turns(seconds, int(number))
    now = [
        item.nodeid not in seconds or of_file[item.nodeid.partition("::")[0]] == int(turn) for item in items
    ]
    config.hook.pytest_deselected(items=[item for item, own in zip(items, now, strict=True) if not own])
    items[:] = [item for item, own in zip(items, now, strict=True) if own]


@pytest.hookimpl(tryfirst=True)  # before pytest selects by marker
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the deep layer. First the files of BEGIN, then the others, the longest first, as far as seconds are known."""
    if config.option.turn:
        take_turn(config, items)
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
