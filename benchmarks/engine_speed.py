"""How long each engine takes: on a table with the shape of a large IPD meta-analysis, and in a first run.

    python -m benchmarks.engine_speed                      # default runs: writes benchmarks/ENGINE_SPEED.md
    python -m benchmarks.engine_speed --cold latent fcs    # prints CPU seconds of a first run, nothing compiled before
    python -m benchmarks.engine_speed --wide 10 20 30      # prints CPU seconds of default runs, so many binary variables

The IPD table has 11,685 rows in 28 studies of 15 to 2,061 rows and 10 variables of four families, 8 of them incomplete:
each lacks 5 to 30% of its values in rows, four of them also in 3 to 7 studies. The first run is on a table of 200 rows
in 10 clusters with variables of the same families, in a process of its own with a fresh NUMBA_CACHE_DIR.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import bayesimp as bi
from bayesimp.studies import Design, SimulatedVariable, Sporadic, Systematic, delete
from bayesimp.workflow.engine_models import Asked, engine_model

HERE = Path(__file__).parent
ENGINES = ("latent", "fcs", "glmm")
SHORT, LONGER = 6, 30  # iterations
DEFAULT = {"latent": 4 * 4200, "fcs": 20 * 100, "glmm": 4 * 1200}  # iterations of default runs, m = 20
THIN = {"latent": 4}  # iterations for each kept draw
ANALYSIS = "sbp ~ treated + age + bmi + smoke + severity + (1 | study)"


def ipd(rows: int = 11_685, studies: int = 28, seed: int = 1) -> pd.DataFrame:
    """The table: 10 variables, of which treated and age are complete."""
    one = ("Intercept",)
    variables = [
        SimulatedVariable("treated", "bernoulli", {}),
        SimulatedVariable("age", "normal", {}, one),
        SimulatedVariable("bmi", "normal", {"age": 0.2}, one),
        SimulatedVariable("sex", "bernoulli", {"age": 0.2}, one),
        SimulatedVariable("smoke", "bernoulli", {"sex": 0.4, "age": -0.3}, one),
        SimulatedVariable("severity", "ordinal", {"Intercept": 1.0, "age": 0.4, "bmi": 0.2}, one,
                          levels=("mild", "moderate", "severe", "critical"), increments=(1.2, 1.4)),
        SimulatedVariable("region", "categorical", [{"age": 0.1}, {"smoke": 0.3}], one, levels=("n", "s", "w")),
        SimulatedVariable("lab", "normal", {"bmi": 0.3, "smoke": 0.3}, one),
        SimulatedVariable("prior", "bernoulli", {"age": 0.4, "severity": 0.3}, one),
        SimulatedVariable("sbp", "normal", {"treated": -0.4, "age": 0.4, "bmi": 0.2, "smoke": 0.2}, one),
    ]  # fmt: skip
    k = sum(len(v.effect_names) for v in variables)
    share = np.geomspace(1, 180, studies)
    sizes = np.maximum(np.floor(rows * share / share.sum()).astype(int), 15)
    sizes[-1] += rows - sizes.sum()
    table = Design(variables, studies, sizes.tolist(), 0.2 * (0.8 * np.eye(k) + 0.2), "study")(seed=seed)
    share_of = {
        "bmi": 0.3,
        "sex": 0.05,
        "smoke": 0.2,
        "severity": 0.15,
        "region": 0.1,
        "lab": 0.3,
        "prior": 0.2,
    }
    holes = {name: Sporadic(p, {"age": 0.4}) for name, p in share_of.items()} | {"sbp": Sporadic(0.1)}
    whole = {"lab": Systematic(count=max(studies // 4, 2)), "smoke": Systematic(count=max(studies // 6, 1)),
             "prior": Systematic(count=max(studies // 5, 2)), "bmi": Systematic(count=max(studies // 9, 1))}  # fmt: skip
    return delete(table, cluster="study", sporadic=holes, systematic=whole, seed=seed)[0]


def run(frame: pd.DataFrame, engine: str, m: int = 20) -> bi.Imputations:
    """What a user calls."""
    analysis = ANALYSIS if engine == "glmm" else None
    families = {"region": "categorical"}
    return bi.impute(
        frame,
        "study",
        m,
        engine=engine,
        analysis=analysis,
        families=families,
        seed=1,
        show=False,
        progress=False,
    )


def timed(frame: pd.DataFrame, engine: str) -> tuple[float, int, float]:
    """CPU seconds of an iteration, iterations of a default run over all its chains, and its CPU seconds.

    From the difference of two runs of one chain, so that neither the load of the machine nor the loading of kernels
    counts;
    what a default run does once (the model, completed cells) is that of the shorter run.
    """
    analysis = ANALYSIS if engine == "glmm" else None
    families = {"region": "categorical"} if "region" in frame else {}
    model, _ = engine_model(engine, Asked(bi.IncompleteData(frame, "study", families), analysis))
    seconds = [
        _cpu(model, engine, length) for length in (2, SHORT, SHORT + LONGER)
    ]  # the first loads kernels
    each, thin = (seconds[2] - seconds[1]) / LONGER, THIN.get(engine, 1)
    return each / thin, DEFAULT[engine], seconds[1] - each * SHORT + each * DEFAULT[engine] / thin


def wide(columns: int, rows: int = 1_000, studies: int = 30) -> pd.DataFrame:
    """Binary variables, each of which lacks a tenth of its values."""
    rng = np.random.default_rng(1)
    study = np.arange(rows) % studies
    common = rng.normal(size=(studies, 1))[study] * 0.5 + rng.normal(size=(rows, 1))
    y = ((common + rng.normal(size=(rows, columns)) > 0) * 1.0).astype(float)
    y[rng.random(y.shape) < 0.1] = np.nan
    return pd.DataFrame(y, columns=[f"k{c}" for c in range(columns)]).assign(study=study)


def _cpu(model: Any, engine: str, length: int) -> float:
    chains = (
        {"cycles": length, "tune": 1} if engine == "fcs" else {"chains": 1, "tune": 1, "draws": length - 1}
    )
    began = time.process_time()
    model.impute(1, seed=1, executor="serial", progress=False, **chains)
    return time.process_time() - began


def cold(engine: str) -> float:
    """CPU seconds of a first run in a process of its own."""
    code = (
        "import time; from benchmarks.engine_speed import ipd, run; frame = ipd(200, 10); c = time.process_time(); "
        f"run(frame, {engine!r}, 2); print(time.process_time() - c)"
    )
    with tempfile.TemporaryDirectory() as folder:
        own = os.environ | {"NUMBA_CACHE_DIR": folder}
        done = subprocess.run(
            [sys.executable, "-c", code], env=own, capture_output=True, text=True, check=True
        )
    return float(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cold", nargs="+", choices=ENGINES, default=None)
    parser.add_argument("--wide", nargs="+", type=int, default=None)
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=None, help="printed only")
    options = parser.parse_args()
    for columns in options.wide or ():
        seconds = {engine: timed(wide(columns), engine)[2] for engine in ("latent", "fcs")}
        print(columns, "variables:", ", ".join(f"{e} {s:.0f} s" for e, s in seconds.items()), flush=True)
    if options.wide:
        return
    if options.cold:
        for engine in options.cold:
            print(f"{engine}: first run {cold(engine):.0f} s CPU", flush=True)
        return
    frame, lines = ipd(), []
    for engine in options.engines or ENGINES:
        each, iterations, cpu = timed(frame, engine)
        lines.append(f"| {engine} | {1000 * each:.1f} | {iterations:,} | {cpu:.0f} |")
        print(lines[-1], flush=True)
    if options.engines:
        return
    about = (__doc__ or "").split("\n\n")[2]
    (HERE / "ENGINE_SPEED.md").write_text(
        f"# CPU time of a default run\n\nMade by `python -m benchmarks.engine_speed` (bayesimp {bi.__version__}, Python "
        f"{platform.python_version()}, {os.cpu_count()} cores, kernels compiled).\n\n{about}\n\n"
        f"The CPU time per iteration is the difference between runs of {SHORT} and {SHORT + LONGER} kept draws; that\n"
        "of a default run (m = 20) follows from the iterations of all chains. On two free cores it takes half.\n\n"
        "| engine | ms per iteration | iterations | default run, CPU s |\n|---|---|---|---|\n"
        + "\n".join(lines)
        + "\n"
    )


if __name__ == "__main__":
    main()
