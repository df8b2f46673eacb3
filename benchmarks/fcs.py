"""Benchmarks of fully conditional specification: against mice, against the number of rows, memory by imputation."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

import bayesimp as bi
from benchmarks.data import clustered
from benchmarks.r_side import HAVE_R, r_script_on

IMPUTATIONS, CYCLES = 60, 45
R_IMPUTATIONS = 6  # mice's time is proportional to m; its time for 6 is scaled to 60


def wide(rows: int, seed: int = 1) -> pd.DataFrame:
    """Clusters of 100 rows; y1..y5 with 20 % missing each, x1 complete."""
    rng = np.random.default_rng(seed)
    codes = np.arange(rows) // 100
    between = rng.multivariate_normal(np.zeros(5), 0.2 + 0.2 * np.eye(5), codes[-1] + 1)
    Y = between[codes] + rng.multivariate_normal(np.zeros(5), 0.5 + 0.5 * np.eye(5), rows)
    x = rng.normal(size=rows)
    Y += 0.3 * x[:, None]
    Y[rng.random(Y.shape) < 0.2] = np.nan
    return pd.DataFrame({"cluster": codes, "x1": x, **{f"y{k + 1}": Y[:, k] for k in range(5)}})


def model_of(frame: pd.DataFrame, method: str = "iw") -> bi.FCS:
    return bi.FCS(bi.IncompleteData(frame, cluster="cluster"), methods=method)


def our_seconds(frame: pd.DataFrame, method: str, workers: int | None) -> float:
    """From the table to 60 imputations; best of five, the kernels loaded."""
    model_of(frame, method).impute(m=2, cycles=2, seed=0, workers=workers)
    best = np.inf
    for seed in range(1, 6):
        began = time.perf_counter()
        model_of(frame, method).impute(m=IMPUTATIONS, cycles=CYCLES, seed=seed, workers=workers)
        best = min(best, time.perf_counter() - began)
    return best


def mice_seconds(frame: pd.DataFrame, *arguments: str | int) -> float:
    """Of R's `mice` for 60 imputations, from a run for 6."""
    method, *paniter = arguments
    report = r_script_on(frame, "fcs_mice.R", method, R_IMPUTATIONS, CYCLES, 1, *paniter)
    return report["seconds"] * IMPUTATIONS / R_IMPUTATIONS


def against_mice() -> list[str]:
    """15 clusters x 30 rows, three variables of which two are incomplete: missing in five whole clusters each, 5 %
    elsewhere. 60 imputations x 45 cycles. mice is run for 6 imputations and its time multiplied by ten; 2l.pan was run
    in full once: see benchmarks/r/README.md. Our time is from table to imputations, best of five. 2l.pan runs with its
    500 Gibbs iterations per visit, and with 10."""
    frame = clustered(15, 30)
    runs = [("2l.pan",), ("2l.pan", 10), ("2l.lmer",)]
    base = {run: mice_seconds(frame, *run) for run in runs} if HAVE_R else {}
    lines = ["| engine | s | mice 2l.pan / it | mice 2l.pan, 10 iterations / it | mice 2l.lmer / it |"]
    lines.append("|---|---|---|---|---|")
    for run, seconds in base.items():
        name = f"{run[0]}, {run[1]} iterations" if run[1:] else run[0]
        lines.append(f"| R mice {name} | {seconds:.1f} | | | |")
    for method in ("iw", "bayes", "ml"):
        for workers in (1, None):
            s = our_seconds(frame, method, workers)
            ratios = " | ".join(f"{base[run] / s:.0f}" if base else "no R here" for run in runs)
            label = f"bayesimp {method}, {'all threads' if workers is None else '1 thread'}"
            lines.append(f"| {label} | {s:.4f} | {ratios} |")
    return lines


def cross_product(D: np.ndarray) -> None:
    D.T @ D


def coefficients(D: np.ndarray, column: int, absent: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows without the variable, and its regression on the other columns in the rows with it.

    X'X of all rows less that of those without it, which are fewer: the quickest way in NumPy."""
    rows, others = D[absent], np.arange(D.shape[1]) != column
    G = D.T @ D - rows.T @ rows
    beta = np.zeros(D.shape[1])
    beta[others] = np.linalg.solve(G[np.ix_(others, others)], G[others, column])
    return rows, beta


def normal_equations(D: np.ndarray, absent: dict[int, np.ndarray]) -> None:
    for column, rows in absent.items():
        coefficients(D, column, rows)


def regression_cycle(D: np.ndarray, absent: dict[int, np.ndarray], rng: np.random.Generator) -> None:
    """The cheapest chained equations: then predictions and noise in place of missing values."""
    for column, places in absent.items():
        rows, beta = coefficients(D, column, places)
        D[places, column] = rows @ beta + rng.normal(size=len(places))


def _best(function, *arguments, repeats: int = 7) -> float:
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        function(*arguments)
        times.append(time.perf_counter() - began)
    return min(times)


def _cycle_seconds(frame: pd.DataFrame, cycles: int = 20) -> float:
    """One cycle of one imputation: what `cycles` more of them cost."""
    model = model_of(frame)

    def run(n: int) -> None:
        model.impute(m=1, cycles=n, tune=0, seed=1, workers=1)

    run(1)
    return (_best(run, cycles + 1, repeats=5) - _best(run, 1, repeats=5)) / cycles


def rows() -> list[str]:
    """A cycle of `iw` (five incomplete variables, 20 % missing each, clusters of 100 rows; one imputation, one thread)
    against NumPy on the completed table D of seven columns, one thread: D'D once; the normal equations of each of the
    five variables on its observed rows; the same with its missing values predicted and noise added, which is the
    cheapest chained equations, without clusters. Best of five and seven."""
    passes = ["D'D", "equations", "regression cycle"]
    titles = ["rows", "cycle ms", "us a row", *(f"{p} ms" for p in passes), *(f"cycle / {p}" for p in passes)]
    lines = [f"| {' | '.join(titles)} |"]
    lines.append("|---|---|---|---|---|---|---|---|---|")
    for n in (25_000, 50_000, 100_000, 200_000):
        frame = wide(n)
        ours = _cycle_seconds(frame)
        values = frame.drop(columns="cluster").to_numpy()
        D = np.column_stack([np.ones(n), np.nan_to_num(values)])
        absent = {k + 1: np.flatnonzero(gone) for k, gone in enumerate(np.isnan(values).T) if gone.any()}
        with threadpool_limits(1):
            once, normal = _best(cross_product, D), _best(normal_equations, D, absent)
            cycle = _best(regression_cycle, D, absent, np.random.default_rng(1))
        times = " | ".join(f"{1e3 * s:.2f}" for s in (once, normal, cycle))
        ratios = " | ".join(f"{ours / s:.1f}" for s in (once, normal, cycle))
        lines.append(f"| {n:,} | {1e3 * ours:.2f} | {1e6 * ours / n:.3f} | {times} | {ratios} |")
    return lines


MEMORY = """
import re
import numpy as np
from benchmarks.fcs import model_of, wide
from benchmarks.data import clustered
peak = lambda: int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1]) / 1024
model_of(clustered(15, 30)).impute(m=1, cycles=2, seed=1)
frame = wide({rows})
W = np.random.default_rng(2).normal(size=({rows}, {complete}))
frame = frame.assign(**{{f"w{{k}}": w for k, w in enumerate(W.T)}})
model = model_of(frame)
model.impute(m=1, cycles=2, seed=1, workers=1)
one = peak()
model.impute(m={m}, cycles=2, seed=1, workers=1)
print(one, peak())
"""


def memory() -> list[str]:
    """What an additional imputation adds to peak memory (Linux, one thread, 100,000 rows, five incomplete variables, 20 %
    missing each), with 1 complete predictor and with 21: the same if complete columns are shared."""
    rows, m = 100_000, 9
    cells = 5 * 0.2 * rows * 8 / 2**20
    lines = [
        "| complete columns | MiB an imputation | MiB of its missing values | MiB of a copy of the table |"
    ]
    lines.append("|---|---|---|---|")
    for complete in (0, 20):
        code = MEMORY.format(rows=rows, complete=complete, m=m)
        out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        before, after = map(float, out.split())
        copy = (6 + complete) * rows * 8 / 2**20
        lines.append(f"| {1 + complete} | {(after - before) / (m - 1):.2f} | {cells:.2f} | {copy:.1f} |")
    return lines
