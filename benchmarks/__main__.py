"""Run the benchmarks and write benchmarks/RESULTS.md. Ratios compare runs from one session on one machine.

python -m benchmarks                 # all
python -m benchmarks --write laplace # one section rerun, the others kept
python -m benchmarks joint rows      # some of: joint, rows, memory, pooled, start, fcs, fcs_rows, fcs_memory, laplace, ..
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

import bayesimp as bi
from benchmarks import (
    crossed,
    fcs,
    glmm,
    goals,
    joint_glmm,
    laplace,
    larger_than_memory,
    latent,
    levels,
    levels_fcs,
    levels_glmm,
    pymc_block,
    sensitivity,
)
from benchmarks.data import clustered
from benchmarks.r_side import HAVE_R, r_script, r_script_on

HERE = Path(__file__).parent
FORMULA = "y1 + y2 ~ x + (1 | cluster)"


def ess(chains: np.ndarray) -> float:
    """Smallest bulk ESS over the distinct elements of Psi; chains (chains, draws, 2, 2)."""
    from arviz_stats.base import array_stats

    pairs = [(0, 0), (0, 1), (1, 1)]
    return min(float(array_stats.ess(chains[:, :, a, b], chain_axis=0, draw_axis=1)) for a, b in pairs)


def pan_ess_per_second(frame: pd.DataFrame, iterations: int) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        table, chain = Path(folder) / "d.csv", Path(folder) / "chain.csv"
        frame.to_csv(table, index=False)
        report = r_script("pan_chain.R", table, iterations, 1, chain)
        draws = pd.read_csv(chain)
    names = [c for c in draws.columns if c.lower().startswith("psi")]
    psi = draws[names].to_numpy()[len(draws) // 10 :]
    first = {tuple(int(ch) for ch in c if ch.isdigit())[-2:]: k for k, c in enumerate(names)}
    low = min(min(key) for key in first)
    matrix = np.empty((1, len(psi), 2, 2))
    for (a, b), k in first.items():
        matrix[0, :, a - low, b - low] = matrix[0, :, b - low, a - low] = psi[:, k]
    seconds = report["seconds"] * len(psi) / len(draws)
    return {"ess": ess(matrix), "seconds": seconds, "per_second": ess(matrix) / seconds}


def our_ess_per_second(frame: pd.DataFrame, draws: int, workers: int | None) -> dict:
    """Warm-up of 200 iterations a chain is counted in our time."""
    model = bi.JointNormal(bi.IncompleteData(frame, cluster="cluster"), FORMULA, bi.priors.pan())
    model.impute(m=4, seed=0, draws=10)  # kernels loaded
    run = model.impute(m=4, seed=1, draws=draws, workers=workers)
    seconds = run.attrs["seconds"]
    value = ess(run.tree["posterior"]["Psi"].values)
    return {"ess": value, "seconds": seconds, "per_second": value / seconds}


def joint() -> list[str]:
    """Effective draws of the slowest element of Psi per second, pan's prior, systematic missingness in a third of the
    clusters for each variable. Our time includes warm-up, pan's does not."""
    lines = [
        "| data | engine | smallest ESS of Psi | seconds | per second | ratio to pan |",
        "|---|---|---|---|---|---|",
    ]
    for label, rows, iterations in [("15 x 30", 30, 20_000), ("15 x 6,667 (100,005 rows)", 6_667, 300)]:
        frame = clustered(15, rows)
        base = pan_ess_per_second(frame, iterations) if HAVE_R else None
        results = [("R pan, one chain", base)] if base else []
        results += [
            (f"bayesimp Gibbs, 4 chains, {n or 'all'} threads", our_ess_per_second(frame, 5_000, n))
            for n in (1, None)
        ]
        for name, r in results:
            ratio = f"{r['per_second'] / base['per_second']:.1f}" if base else "no R here"
            lines.append(
                f"| {label} | {name} | {r['ess']:.0f} | {r['seconds']:.3f} | {r['per_second']:.0f} | {ratio} |"
            )
    return lines


def rows() -> list[str]:
    """Processor time per iteration by number of rows, in 15 clusters, and the time to make the model."""
    lines = [
        "| rows | microseconds per iteration | ratio to 1,000 rows | model made in s |",
        "|---|---|---|---|",
    ]
    models = {}
    for n in (1_000, 10_000, 100_000, 1_000_000):
        frame = clustered(15, -(-n // 15))
        began = time.perf_counter()
        models[n] = bi.JointNormal(bi.IncompleteData(frame, cluster="cluster"), FORMULA), None
        models[n] = models[n][0], time.perf_counter() - began
    best = dict.fromkeys(models, np.inf)
    for _ in range(7):  # interleaved, best of seven: a busy machine disturbs all alike
        for n, (model, _) in models.items():
            run = _sample_only(model)
            best[n] = min(best[n], run)
    for n, (_, made) in models.items():
        lines.append(f"| {n:,} | {best[n]:.2f} | {best[n] / best[1_000]:.2f} | {made:.2f} |")
    return lines


def _sample_only(model, iterations: int = 3_000) -> float:
    from bayesimp.joint import gibbs as joint_gibbs

    factor = model.grouping.only
    st = factor.working.statistics
    states = [joint_gibbs.initial_state(1, 0, factor.working_priors, st.r, st.q)]
    began = time.process_time()
    joint_gibbs.sample_gibbs(
        factor.working, factor.working_priors, states, tune=0, draws=iterations // 10, thin=10, workers=1
    )
    return (time.process_time() - began) / iterations * 1e6


MEMORY = """
import re
import bayesimp as bi
from benchmarks.data import clustered
# high-water mark of this process; getrusage would start from that of its parent
peak = lambda: int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1]) / 1024
bi.JointNormal(bi.IncompleteData(clustered(15, 30), cluster="cluster"), "{formula}").impute(m=1, chains=1, draws=5)
frame = clustered(15, {rows})
size = frame.memory_usage().sum() / 2**20
before = peak()
model = bi.JointNormal(bi.IncompleteData(frame, cluster="cluster"), "{formula}")
made = peak()
model.impute(m=1, chains={chains}, draws=100, seed=1)
print(size, before, made, peak())
"""


def memory() -> list[str]:
    """Peak memory by step (Linux): linear in rows, the same for one chain and eight."""
    lines = [
        "| rows | chains | table MiB | + model MiB | + sampling and 1 imputation MiB |",
        "|---|---|---|---|---|",
    ]
    for n, chains in [(100_000, 1), (1_000_000, 1), (1_000_000, 8)]:
        code = MEMORY.format(formula=FORMULA, rows=n // 15, chains=chains)
        out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        size, before, made, after = map(float, out.split())
        lines.append(f"| {n:,} | {chains} | {size:.0f} | {made - before:.0f} | {after - made:.0f} |")
    return lines


def pooled() -> list[str]:
    """60 imputations, a random-intercept model on each, Rubin's rules; on both sides everything counts except starting
    Python and R. Best of seven runs here, one run in R (which does not get faster in a second)."""
    frame = clustered(15, 30)
    ours = {
        "bayesimp, 4 chains x (200 + 375), 25 apart": _our_pooled(frame, 375),
        "bayesimp, default: 4 chains x (200 + 1,000), 66 apart": _our_pooled(frame, 1_000),
    }
    lines = ["| engine | impute s | analyse and pool s | total s | times the first | times the second |"]
    lines.append("|---|---|---|---|---|---|")
    results = list(ours.items())
    if HAVE_R:
        for setting, label in [("economical", "500 + 59 x 50"), ("mitml", "5,000 + 59 x 100")]:
            s = r_script_on(frame, "pan_lme4.R", setting, 1, 60)["seconds"]
            parts = s["burn_in"] + s["imputations"], s["lmer"] + s["pooling"]
            results.append((f"R pan + lme4 + mitml, {label} iterations", parts))
    first, second = (sum(parts) for parts in ours.values())
    for label, (imputing, analysing) in results:
        total = imputing + analysing
        ratios = f"{total / first:.1f} | {total / second:.1f}"
        lines.append(f"| {label} | {imputing:.4f} | {analysing:.4f} | {total:.4f} | {ratios} |")
    return lines


def _our_pooled(frame, draws: int) -> tuple[float, float]:
    best = (np.inf, np.inf)
    for repeat in range(8):  # the first loads the kernels
        began = time.perf_counter()
        model = bi.JointNormal(bi.IncompleteData(frame, cluster="cluster"), FORMULA, bi.priors.pan())
        imp = model.impute(m=60, seed=repeat, draws=draws)
        between = time.perf_counter()
        imp.analyse("y1 ~ y2 + x + (1 | cluster)").pool()
        end = time.perf_counter()
        if repeat and end - began < sum(best):
            best = (between - began, end - between)
    return best


FIRST = """
import time; t = time.perf_counter()
import bayesimp as bi
a = time.perf_counter() - t
from benchmarks.data import clustered
from benchmarks.glmm import model_of
discrete = "{sampler}" in ("bayes", "mlmi", "2stage")
frame = bi.simulate_ipd(15, 30, seed=1)[0] if discrete else clustered(15, 30)
t = time.perf_counter()
if discrete:
    model_of(frame, "{sampler}").impute(m=20, seed=1, progress=False)
elif "{sampler}" == "fcs":
    bi.FCS(bi.IncompleteData(frame, cluster="cluster")).impute(m=20, seed=1)
else:
    model = bi.JointNormal(bi.IncompleteData(frame, cluster="cluster"), "y1 + y2 ~ x + (1 | cluster)")
    model.impute(m=20, seed=1, sampler="{sampler}")
print(a, time.perf_counter() - t)
"""


def start() -> list[str]:
    """A fresh process, 15 x 30 rows, 20 imputations, from 4 x 1,000 draws of the joint model or by 100 cycles of chained
    equations: normal variables (fcs), a binary variable and a count (bayes, mlmi, 2stage). Cold: nothing compiled."""
    lines = ["| sampler | fresh process | import bayesimp s | first imputation s |", "|---|---|---|---|"]
    for sampler in ("gibbs", "nuts", "fcs", "bayes", "mlmi", "2stage"):
        with tempfile.TemporaryDirectory() as cache:
            env = {**os.environ, "NUMBA_CACHE_DIR": cache}
            for label in ("cold", "warm", "warm"):
                command = [sys.executable, "-c", FIRST.format(sampler=sampler)]
                out = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
                a, b = map(float, out.stdout.split())
                lines.append(f"| {sampler} | {label} | {a:.2f} | {b:.2f} |")
    return lines


BENCHMARKS = {
    "goals": goals.goals,
    "joint": joint,
    "rows": rows,
    "memory": memory,
    "pooled": pooled,
    "start": start,
    "fcs": fcs.against_mice,
    "fcs_rows": fcs.rows,
    "fcs_memory": fcs.memory,
    "fcs_pymc": pymc_block.pymc_block,
    "laplace": laplace.laplace,
    "larger_than_memory": larger_than_memory.larger_than_memory,
    "larger_than_memory_counts": larger_than_memory.counts,
    "jolani": glmm.jolani,
    "glmm_rows": glmm.rows,
    "glmm_merged": glmm.merged,
    "jolani_study": glmm.jolani_study,
    "sensitivity": sensitivity.sensitivity,
    "latent": latent.latent,
    "joint_glmm": joint_glmm.joint_glmm,
    "joint_glmm_rounds": joint_glmm.joint_glmm_rounds,
    "joint_glmm_summed": joint_glmm.joint_glmm_summed,
    "joint_glmm_rows": joint_glmm.joint_glmm_rows,
    "joint_glmm_default": joint_glmm.joint_glmm_default,
    "joint_glmm_lacking": joint_glmm.joint_glmm_lacking,
    "joint_glmm_jomo": joint_glmm.joint_glmm_jomo,
    "joint_glmm_nuts": joint_glmm.joint_glmm_nuts,
    "crossed": crossed.crossed,
    "levels": levels.levels,
    "levels_rows": levels.levels_rows,
    "levels_latent": levels.levels_latent,
    "levels_fcs": levels_fcs.levels_fcs,
    "levels_fcs_rows": levels_fcs.levels_fcs_rows,
    "levels_glmm_rows": levels_glmm.levels_glmm_rows,
}


def main(arguments: list[str]) -> None:
    names = [name for name in arguments if name != "--write"]
    sections = {}
    for name in names or list(BENCHMARKS):
        print(f"## {name}", flush=True)
        lines = BENCHMARKS[name]()
        print("\n".join(lines), flush=True)
        doc = (BENCHMARKS[name].__doc__ or "").strip()
        again = [f"Rerun with `python -m benchmarks --write {name}`.", ""] if names else []
        sections[name] = "\n".join([f"## {name}", "", *([doc, ""] if doc else []), *again, *lines])
    path = HERE / "RESULTS.md"
    if not names:
        versions = f"bayesimp {bi.__version__}, Python {platform.python_version()}, NumPy {np.__version__}"
        head = f"# Results\n\nMade by `python -m benchmarks` ({versions}, {platform.machine()})."
    elif "--write" in arguments:
        head, *parts = path.read_text().rstrip().split("\n\n## ")
        sections = {part.split("\n", 1)[0]: f"## {part}" for part in parts} | sections
    if not names or "--write" in arguments:
        path.write_text("\n\n".join([head, *sections.values()]) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
