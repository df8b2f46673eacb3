"""Goals of speed and memory, what is reached, and what the machine can do, measured in the same run.

    python -m benchmarks goals

CPU seconds of this process, one thread, the least of three: they depend less than seconds on what else the machine does,
but memory shared with other work slows them down too. The first imputation: `python -m benchmarks.first_run`.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

import bayesimp as bi
from benchmarks.data import clustered
from benchmarks.fcs import cross_product, wide
from benchmarks.fcs import model_of as iw_model
from benchmarks.glmm import model_of as discrete_model

FORMULA = "y1 + y2 ~ x + (1 | cluster)"
QUIET = {"seed": 1, "progress": False}


def least(run: Callable[[], object], times: int = 3) -> float:
    """CPU seconds of the fastest of some runs."""
    found = []
    for _ in range(times):
        began = time.process_time()
        run()
        found.append(time.process_time() - began)
    return min(found)


def cycle(model: bi.FCS, cycles: int) -> float:
    """CPU s of a cycle of one imputation: a long run less a short one."""
    options = {"m": 1, "tune": 0, "workers": 1, **QUIET}
    model.impute(cycles=1, **options)
    return (
        least(lambda: model.impute(cycles=1 + cycles, **options))
        - least(lambda: model.impute(cycles=1, **options))
    ) / cycles


def machine() -> dict[str, float]:
    """Bytes read from memory, normals drawn, exponentials and sorted numbers (rows of 800) a second, by one core."""
    large, rng = np.ones(40_000_000), np.random.default_rng(1)
    x, rows = rng.standard_normal(10_000), rng.standard_normal((1_000, 800))
    return {
        "memory": large.nbytes / least(large.sum),
        "normals": 5e6 / least(lambda: rng.standard_normal(5_000_000)),
        "exponentials": 2e6 / least(lambda: [np.exp(x) for _ in range(200)]),
        "sorted": rows.size / least(lambda: np.argsort(rows, axis=1)),
    }


PASSES = 13  # over the rows, in an update of `bayes`: effects, coefficients and scales, 4 or 5 each


def exponentials(model: bi.FCS, can: dict[str, float]) -> str:
    """What the exponentials of a cycle cost: one for each row and pass of each variable that is not normal."""
    data = model.data
    gone = {
        name: data.missing(name) for name in data.variables if data.families[name] in ("bernoulli", "poisson")
    }
    rows = sum(int((~missing).sum()) for missing in gone.values() if missing.any())
    number = rows * PASSES * bi.methods.Bayes().inner
    return f"{number / 1e6:.1f} million exponentials: {1e3 * number / can['exponentials']:.0f} ms"


def made_from_a_million() -> tuple[float, float, float]:
    """CPU s to make a joint model of 1,000,000 rows; the ratio to 100,000; peak memory by that of the table."""
    seconds = []
    for rows in (100_000, 1_000_000):
        data = bi.IncompleteData(clustered(15, -(-rows // 15)), cluster="cluster")
        seconds.append(least(lambda data=data: bi.JointNormal(data, FORMULA)))
    code = (
        "import re; import bayesimp as bi; from benchmarks.data import clustered\n"
        "now = lambda what: int(re.search(what + r':\\s*(\\d+)', open('/proc/self/status').read())[1]) * 1024\n"
        f"bi.JointNormal(bi.IncompleteData(clustered(15, 30), cluster='cluster'), {FORMULA!r})\n"
        "frame = clustered(15, 66_667); before = now('VmRSS'); open('/proc/self/clear_refs', 'w').write('5')\n"
        f"bi.JointNormal(bi.IncompleteData(frame, cluster='cluster'), {FORMULA!r})\n"
        "print((now('VmHWM') - before) / frame.memory_usage().sum())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return seconds[1], seconds[1] / seconds[0], 1.0 + float(done.stdout)


def ipd() -> pd.DataFrame:
    """28 studies, 11,685 rows, ten variables of which seven are incomplete: normal, binary, counts."""
    rng, sizes = np.random.default_rng(3), np.full(28, 417)
    sizes[:9] += 1
    g = np.repeat(np.arange(28), sizes)
    n, b = len(g), rng.normal(size=(28, 10)) * 0.5
    age, arm, sex = rng.normal(60, 10, n), rng.integers(0, 2, n), rng.integers(0, 2, n)
    frame = pd.DataFrame({"study": g, "age": age, "arm": arm, "sex": sex})
    common = 0.05 * (age - 60) + 0.5 * rng.normal(size=n)
    for k in range(3):
        frame[f"y{k}"] = common + 0.4 * arm + b[g, k] + rng.normal(size=n)
    for k in range(3):
        frame[f"d{k}"] = (rng.random(n) < 1 / (1 + np.exp(0.5 - common - b[g, 3 + k]))).astype(float)
    frame["visits"] = rng.poisson(np.exp(0.2 + 0.3 * common + 0.3 * b[g, 6])).astype(float)
    for k, name in enumerate(frame.columns[4:]):
        frame.loc[(rng.random(n) < 0.15) | np.isin(g, [k, k + 8]), name] = np.nan
    return frame


def many_clusters() -> tuple[float, float, float, float]:
    """2,400 clusters, 4 x 200 draws: CPU s of summary() and of sampling; MB of the result in memory and on disk."""
    data = bi.IncompleteData(clustered(2_400, 10), cluster="cluster")
    model = bi.JointNormal(data, FORMULA)
    model.impute(m=20, draws=20, **QUIET)
    began = time.process_time()
    imp = model.impute(m=20, draws=200, workers=1, **QUIET)
    sampled = time.process_time()
    tree = imp.tree
    memory = sum(group.to_dataset().nbytes for group in tree.subtree)
    summarised = time.process_time()
    imp.summary()
    end = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "imp.nc"
        imp.save(path)
        size = path.stat().st_size
    return end - summarised, sampled - began, memory / 1e6, size / 1e6


def goals() -> list[str]:
    """Goal, reached, and what the machine did in the same run (CPU seconds, one thread)."""
    can = machine()
    n = 100_000
    iw = iw_model(wide(n))
    visited = cycle(iw, 20)
    D = np.column_stack([np.ones(n), np.nan_to_num(wide(n).drop(columns="cluster").to_numpy())])
    with threadpool_limits(1):
        once = least(lambda: [cross_product(D) for _ in range(10)]) / 10
    binary = discrete_model(bi.simulate_ipd(2_000, 50, seed=1)[0], "bayes")
    discrete = cycle(binary, 4)
    made, growth, peak = made_from_a_million()
    summary, sampling, memory, disk = many_clusters()
    data = bi.IncompleteData(ipd(), cluster="study", families={"visits": "poisson"})
    model = bi.FCS(data)
    default = cycle(model, 4)
    table = wide(n).memory_usage().sum()
    rows = [
        ("joint model made from 1,000,000 rows: CPU s / ratio to 100,000 rows / peak by size of the table",
         "0.25 / 10 / 2", f"{made:.2f} / {growth:.1f} / {peak:.1f}",
         f"reading its 32 MB once: {32e6 / can['memory']:.3f} s"),
        ("`bayes`, a binary variable and a count, 2,000 x 50 rows, a cycle: CPU s", "0.08", f"{discrete:.3f}",
         exponentials(binary, can)),
        ("a cycle of `iw`, 100,000 rows, five variables: ms / by one D'D", "- / 5",
         f"{1e3 * visited:.1f} / {visited / once:.1f}",
         f"100,000 normals for its missing cells: {1e8 / can['normals']:.1f} ms; reading the table: "
         f"{1e3 * table / can['memory']:.1f} ms; D'D {1e3 * once:.2f} ms"),
        ("`summary()` with 2,400 clusters, by sampling", "0.1", f"{summary / sampling:.2f} ({summary:.1f} s)",
         f"its draws sorted once (R-hat needs two orders): {memory * 1e6 / 8 / can['sorted']:.2f} s"),
        ("result of 2,400 clusters, 4 x 200 draws: MB in memory / on disk", "26 / 6", f"{memory:.0f} / {disk:.0f}", ""),
        ("default FCS, 28 studies, 11,685 rows, seven incomplete variables of ten: CPU ms a cycle of one imputation "
         "(the default is 20 x 100 of them, and the goal 8 s)", "4", f"{1e3 * default:.0f}",
         exponentials(model, can)),
    ]  # fmt: skip
    head = [
        f"One core reads {can['memory'] / 1e9:.1f} GB, draws {can['normals'] / 1e6:.0f} million normals and computes "
        f"{can['exponentials'] / 1e6:.0f} million exponentials (`numpy.exp`) a second.",
        "", "| what | goal | reached | limit |", "|---|---|---|---|",
    ]  # fmt: skip
    return head + [f"| {' | '.join(row)} |" for row in rows]
