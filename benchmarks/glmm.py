"""Benchmarks of imputation by generalised models: Jolani's design, and many clusters and rows."""

from __future__ import annotations

import time

import numpy as np

import bayesimp as bi
from bayesimp.fcs.blocks import glmm as block
from bayesimp.studies.jolani import PAPER, jolani2025
from benchmarks.r_side import HAVE_R, r_script_on

M, CYCLES = 5, 10  # of the published code in its simulations
PUBLISHED, RIVAL = (
    13.0,
    2.7,
)  # seconds of Jolani's R code and of micemd's two-stage methods, as measured for the issue
FORMULAS = ["x1 ~ y + x2 + (1 + y | study)", "x2 ~ y + x1 + (1 + y | study)"]


def model_of(table, method: str) -> bi.FCS:
    data = bi.IncompleteData(table, cluster="study", families={"x1": "bernoulli", "x2": "poisson"})
    return bi.FCS(data, methods=method, predictors=FORMULAS if method in ("bayes", "mlmi") else None)


def seconds(table, method: str, workers: int | None, repeats: int = 7) -> float:
    """From the table to the imputations, best of several, kernels loaded."""
    model_of(table, method).impute(m=1, cycles=1, tune=0, seed=0, progress=False)
    best = np.inf
    for seed in range(1, repeats + 1):
        began = time.perf_counter()
        model_of(table, method).impute(m=M, cycles=CYCLES, seed=seed, workers=workers, progress=False)
        best = min(best, time.perf_counter() - began)
    return best


def jolani() -> list[str]:
    """10 studies x 300 rows, a binary variable and a count, each missing in rows and in one study; 5 imputations x 10
    cycles, from table to imputations, best of seven. Compared with 13 s (Jolani's R code) and 2.7 s (micemd's two-stage
    methods) reported for another 2-core machine, which cannot be run here, and with mice in the same run: 2l.bin for the
    binary variable with random intercepts only (slopes end in an error there), pmm without clusters for the count."""
    table, _ = bi.simulate_ipd(10, 300, seed=1)
    lines = ["| engine | s | 13 s / it | 2.7 s / it | mice / it |", "|---|---|---|---|---|"]
    theirs = r_script_on(table, "jolani_mice.R", M, CYCLES, 1)["seconds"] if HAVE_R else np.nan
    lines.append(
        f"| R mice 2l.bin + pmm | {theirs:.2f} | {PUBLISHED / theirs:.1f} | {RIVAL / theirs:.1f} | |"
    )
    for method in ("bayes", "mlmi", "2stage", "sti"):
        for workers in (1, None):
            s = seconds(table, method, workers)
            label = f"bayesimp {method}, {workers or 'all'} thread{'s' if workers is None else ''}"
            lines.append(f"| {label} | {s:.3f} | {PUBLISHED / s:.0f} | {RIVAL / s:.0f} | {theirs / s:.0f} |")
    return lines


def jolani_study() -> list[str]:
    """CPU s of a data set of Jolani's study by method, imputed, analysed and pooled: 10 studies, strong heterogeneity,
    10% systematically missing; mean of ten data sets, kernels loaded."""
    lines = ["| outcome | method | CPU s |", "|---|---|---|"]
    for outcome in ("binary", "continuous"):
        study = jolani2025([outcome], ["strong"], [10], [0.1], ["MAR"])
        units = study.run(11, workers=1, progress=False).units
        cpu = units[units["replicate"] > 0].groupby("method", sort=False)["cpu"].mean()
        lines += [f"| {outcome} | {method} | {seconds:.3f} |" for method, seconds in cpu.items()]
        lines += [
            f"| {outcome} | the paper's five | {cpu[list(PAPER)].sum():.2f} |",
            f"| {outcome} | all | {cpu.sum():.2f} |",
        ]
    return lines


def merged() -> list[str]:
    """CPU time of a cycle (both variables, one imputation, one thread) with a binary outcome, so that all predictors are
    discrete and rows of one cluster that are alike count as one (kernels/glmm/merge.py), and without that."""
    lines = [
        "| clusters x rows | method | rows one by one, ms | merged, ms | ratio |",
        "|---|---|---|---|---|",
    ]
    merge = block.merge_rows
    for clusters, n in ((10, 300), (2_000, 50), (100, 1_000), (100, 10_000)):
        table, _ = bi.simulate_ipd(clusters, n, outcome="binary", seed=1)
        for method in ("bayes", "mlmi"):
            ms = []
            for how in (lambda rows: rows, merge):
                block.merge_rows = how
                try:
                    imp = model_of(table, method).impute(
                        m=1, cycles=2, tune=0, seed=1, workers=1, progress=False
                    )
                    began = time.process_time()
                    imp.iterate(5, progress=False)
                    ms.append(1e3 * (time.process_time() - began) / 5)
                finally:
                    block.merge_rows = merge
            lines.append(
                f"| {clusters:,} x {n:,} | {method} | {ms[0]:.1f} | {ms[1]:.1f} | {ms[0] / ms[1]:.1f} |"
            )
    return lines


def rows() -> list[str]:
    """Time of a cycle (both variables, one imputation, one thread) by rows and clusters; best of three."""
    lines = [
        "| clusters x rows | bayes s per cycle | microseconds per row | mlmi | 2stage |",
        "|---|---|---|---|---|",
    ]
    for clusters, n in ((10, 300), (2_000, 50), (100, 1_000), (100, 10_000)):
        table, _ = bi.simulate_ipd(clusters, n, seed=1)
        per_cycle = {}
        for method in ("bayes", "mlmi", "2stage"):
            model = model_of(table, method)
            model.impute(m=1, cycles=1, tune=0, seed=0, workers=1, progress=False)
            best = np.inf
            for _ in range(3):
                imp = model.impute(m=1, cycles=3, tune=0, seed=1, workers=1, progress=False)
                before = imp.attrs["seconds"]
                best = min(best, imp.iterate(3, progress=False).attrs["seconds"] - before)
            per_cycle[method] = best / 3
        bayes = per_cycle["bayes"]
        lines.append(
            f"| {clusters:,} x {n:,} | {bayes:.3f} | {1e6 * bayes / (clusters * n):.2f} | {per_cycle['mlmi']:.3f} "
            f"| {per_cycle['2stage']:.3f} |"
        )
    return lines
