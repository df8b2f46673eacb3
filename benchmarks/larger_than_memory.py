"""Tables larger than the memory allowed: time and memory of `bayesimp.PartitionedNormal` by number of rows.

    python -m benchmarks.larger_than_memory [million rows, ..]            # default: 0.5 2 5
    python -m benchmarks.larger_than_memory counts [million rows, ..]     # `bayesimp.PartitionedFCS`, the same sizes

Every size runs in a process of its own, whose data may grow by 400 MB above what it has after imports and a small run
(RLIMIT_DATA, Linux); `bayesimp.JointNormal` runs out of memory there. The table: 1,000 clusters in any order of rows, a
covariate, a factor with three levels, two responses with a fifth of their values missing, in files of 500,000 rows; or
200 clusters, two complete factors, a binary variable and a count with as many missing.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import bayesimp as bi

SIZES = (0.5, 2.0, 5.0)  # million rows
FILE, CLUSTERS, M = 500_000, 1_000, 2
ALLOWED = 400  # MB above the baseline
FORMULA = "y + z ~ x + arm + (1 | g)"
OPTIONS = {"m": M, "seed": 1, "chains": 2, "tune": 100, "draws": 200, "progress": False}


def write(folder: Path, rows: int) -> None:
    """The table in files."""
    effects = np.random.default_rng(0).normal(size=(CLUSTERS, 2))
    for k, start in enumerate(range(0, rows, FILE)):
        rng, n = np.random.default_rng(k), min(FILE, rows - start)
        g, x, arm = rng.integers(0, CLUSTERS, n), rng.normal(size=n), rng.integers(0, 3, n)
        y = 0.5 * x + 0.4 * arm + effects[g, 0] + rng.normal(size=n)
        z = y - x + effects[g, 1] + rng.normal(size=n)
        frame = pd.DataFrame(
            {"g": g, "x": x, "arm": np.array(["control", "low", "high"])[arm], "y": y, "z": z}
        )
        for name in ("y", "z"):
            frame.loc[rng.random(n) < 0.2, name] = np.nan
        frame.to_parquet(folder / f"part-{k:04d}.parquet", index=False, row_group_size=100_000)


def write_counts(folder: Path, rows: int) -> None:
    """The table of binary variables and counts in files."""
    effects = np.random.default_rng(0).normal(size=(200, 2))
    for k, start in enumerate(range(0, rows, FILE)):
        rng, n = np.random.default_rng(k), min(FILE, rows - start)
        g, age, arm = rng.integers(0, 200, n), rng.integers(0, 4, n), rng.integers(0, 3, n)
        ill = (rng.random(n) < 1 / (1 + np.exp(0.8 - 0.4 * age - effects[g, 0]))).astype(float)
        visits = rng.poisson(np.exp(-0.5 + 0.5 * ill + 0.2 * arm + 0.3 * effects[g, 1])).astype(float)
        arms = np.array(["control", "low", "high"])[arm]
        frame = pd.DataFrame({"g": g, "age": age, "arm": arms, "ill": ill, "visits": visits})
        for name in ("ill", "visits"):
            frame.loc[rng.random(n) < 0.2, name] = np.nan
        frame.to_parquet(folder / f"part-{k:04d}.parquet", index=False, row_group_size=100_000)


def used(field: str) -> float:
    """MB of this process: VmRSS, VmHWM (largest so far) or VmData."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def limited() -> float:
    """Allow so many MB of data more, and return the resident MB now."""
    most = int((used("VmData") + ALLOWED) * 2**20)
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    return used("VmRSS")


def partitioned(folder: Path, small: Path, out: Path) -> dict[str, float]:
    """Seconds of each step, and MB above the baseline, of normal variables."""
    return _measured(lambda place: bi.PartitionedNormal(place, FORMULA), OPTIONS, folder, small, out)


def counted(folder: Path, small: Path, out: Path) -> dict[str, float]:
    """The same of a binary variable and a count."""
    options = {"m": M, "cycles": 10, "seed": 1, "progress": False}
    return _measured(
        lambda place: bi.PartitionedFCS(place, families={"visits": "poisson"}), options, folder, small, out
    )


def _measured(
    make: Callable[[Any], Any], options: dict[str, Any], folder: Path, small: Path, out: Path
) -> dict[str, float]:
    begun = make(bi.IncompleteData.from_parquet(small, "g")).impute(**options)
    begun.export(out / "small")
    baseline = limited()
    Path("/proc/self/clear_refs").write_text("5")  # resets the largest use so far
    times = [time.process_time()]
    model = make(bi.IncompleteData.from_parquet(folder, "g"))
    times.append(time.process_time())
    done = model.impute(**options)
    times.append(time.process_time())
    done.export(out / "completed")
    times.append(time.process_time())
    seconds = dict(zip(("pass", "sampling", "export"), np.diff(times).tolist(), strict=True))
    rows = model.moments.rows if hasattr(model, "moments") else model.distinct.rows
    return {"rows": rows, "baseline": baseline, "above": used("VmHWM") - baseline} | seconds


def counted_in_memory(folder: Path, small: Path, out: Path) -> dict[str, bool]:
    """Whether the same limit is enough for two cycles of the table in memory."""

    def run(place: Path) -> None:
        data = bi.IncompleteData(pd.read_parquet(place), "g", {"visits": "poisson"})
        bi.FCS(data, "bayes").impute(m=2, cycles=2, seed=1, progress=False)

    run(small)
    limited()
    try:
        run(folder)
    except (MemoryError, OSError, RuntimeError, ValueError):
        return {"enough": False}
    return {"enough": True}


def in_memory(folder: Path, small: Path, out: Path) -> dict[str, bool]:
    """Whether the same limit is enough for the table in memory."""
    options = {**OPTIONS, "draws": 20}
    bi.JointNormal(bi.IncompleteData(pd.read_parquet(small), "g"), FORMULA).impute(**options)
    limited()
    try:
        bi.JointNormal(bi.IncompleteData(pd.read_parquet(folder), "g"), FORMULA).impute(**options).frame(0)
    except (MemoryError, OSError, RuntimeError, ValueError) as error:
        return (
            {"enough": False}
            if "emory" in f"{type(error)} {error}" or isinstance(error, OSError)
            else {"enough": True}
        )
    return {"enough": True}


def child(what: str, *folders: Path) -> dict:
    """The result of a function of this module in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.larger_than_memory", what, *map(str, folders)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return {"enough": False, "error": done.stderr[-800:]}
    return json.loads(done.stdout.splitlines()[-1])


def larger_than_memory(sizes: tuple[float, ...] = SIZES, counts: bool = False) -> list[str]:
    """CPU s and memory of a table in partitions: one pass, sampling, 2 completed tables written.

    Sampling: 2 chains of 300 iterations of the joint model, or of 10 cycles (counts), which are not run in memory.
    """
    make, run = (write_counts, "counted") if counts else (write, "partitioned")
    lines = [
        "| million rows | pass | sampling | completing and writing 2 tables | MB above the baseline | in memory |",
        "|---|---|---|---|---|---|",
    ]
    measured = []
    for size in sizes:
        with tempfile.TemporaryDirectory() as name:
            folder, small, out = (Path(name) / part for part in ("table", "small", "out"))
            for each in (folder, small, out):
                each.mkdir()
            make(folder, round(size * 1e6))
            make(small, 20_000)
            made = child(run, folder, small, out)
            fits = "-"
            if not counts:
                fits = "fits" if child("in_memory", folder, small, out)["enough"] else "out of memory"
        if "rows" not in made:
            raise RuntimeError(made["error"])
        measured.append(made)
        seconds = f"{made['pass']:.2f} s | {made['sampling']:.2f} s | {made['export']:.1f} s"
        lines.append(f"| {size:g} | {seconds} | {made['above']:.0f} | {fits} |")
    rows, above = (np.array([each[key] for each in measured]) for key in ("rows", "above"))
    if len(rows) > 1:
        slope = np.polyfit(rows / 1e6, above, 1)[0]
        per = {
            key: np.polyfit(rows / 1e6, [each[key] for each in measured], 1)[0] for key in ("pass", "export")
        }
        most = above.max() + max(slope, 0.0) * (100 - rows[-1] / 1e6)
        lines += [
            "",
            f"A million rows more: {slope:.1f} MB, {per['pass']:.2f} s of the pass, {per['export']:.1f} s of completing.",
            f"Extrapolated, not run: 100 million rows need {most:.0f} MB above the baseline of "
            f"{measured[-1]['baseline']:.0f} MB, and {per['pass'] * 100:.0f} s of one core for the pass.",
        ]
    return lines


def counts() -> list[str]:
    """The same of a binary variable and a count, 200 clusters, by 2 chains of 10 cycles on the distinct rows."""
    return larger_than_memory(counts=True)


if __name__ == "__main__":
    if sys.argv[1:] and sys.argv[1] in ("partitioned", "counted", "in_memory"):
        print(json.dumps(globals()[sys.argv[1]](*map(Path, sys.argv[2:]))))
    else:
        given = [each for each in sys.argv[1:] if each != "counts"]
        lines = larger_than_memory(tuple(map(float, given)) or SIZES, counts="counts" in sys.argv[1:])
        print("\n".join(lines))
