"""CPU seconds of a first run on a machine, by engine, with and without machine code for functions only kernels call.

    python -m benchmarks.compilation            # prints a table; some of it is in docs/speed.md
    python -m benchmarks.compilation joint fcs  # some of the jobs

Every run is a process of its own. "First" starts with an empty cache, "machine code throughout" is the same run with
numba's own compiler for the functions that only kernels call, and "later" finds the kernels of the first on the disk.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

START = """
import time
begin = time.process_time(), time.perf_counter()
import numpy as np, pandas as pd, bayesimp as bi
{patch}
rng, rows = np.random.default_rng(1), 240
g, z = np.arange(rows) % 12, rng.normal(size=rows)
frame = pd.DataFrame({{k: 0.5 * z + rng.normal(size=12)[g] + rng.normal(size=rows) for k in ("y", "v")}})
frame["b"] = np.where(z + rng.normal(size=rows) > 0, "yes", "no")
frame["n"] = rng.poisson(np.exp(0.4 * z))
frame = frame.mask(rng.random(frame.shape) < 0.12).assign(w=rng.normal(size=rows), g=g)
data = bi.IncompleteData(frame, cluster="g", families={{"n": "poisson"}})
normal = bi.IncompleteData(frame[["y", "v", "w", "g"]], cluster="g")
mixed = bi.IncompleteData(frame[["y", "b", "w", "g"]], cluster="g")
def run(model, **options):
    model.impute(2, seed=1, **options)
{job}
print(time.process_time() - begin[0], time.perf_counter() - begin[1])
"""
JOBS = {
    "joint": 'run(bi.JointNormal(normal, "y + v ~ w + (1 | g)"), draws=50)',
    "fcs": "run(bi.FCS(normal), cycles=3)",
    "fcs of several families": "run(bi.FCS(data), cycles=3)",
    "latent": 'run(bi.JointLatent(mixed, "y + b ~ w + (1 | g)"), draws=50)',
    "glmm": "run(bi.JointGLMM(mixed), draws=50)",
    "mlmi": 'run(bi.FCS(mixed, "mlmi"), cycles=3)',
    "2stage": 'run(bi.FCS(mixed, "2stage"), cycles=3)',
    "analysis, normal": 'bi.complete_cases(data, "y ~ w + (1 | g)")',
    "analysis, bernoulli": 'bi.complete_cases(data, "b ~ w + (1 | g)", family="bernoulli")',
}
NUMBA = """
from numba.core.compiler import DefaultPassBuilder
from bayesimp.kernels import compiled
compiled.IntermediateCompiler.define_pipelines = lambda self: [DefaultPassBuilder.define_nopython_pipeline(self.state)]
"""


def seconds(job: str, cache: str, patch: str = "") -> tuple[float, float]:
    """CPU and wall seconds of one process, from the start of the imports."""
    text = START.format(patch=patch, job=JOBS[job])
    out = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", text],
        env=os.environ | {"NUMBA_CACHE_DIR": cache, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    cpu, wall = out.splitlines()[-1].split()
    return float(cpu), float(wall)


def main() -> None:
    print(
        "| job | first, CPU s | machine code throughout, CPU s | ratio | later, wall s |\n|---|---|---|---|---|"
    )
    for job in sys.argv[1:] or JOBS:
        with tempfile.TemporaryDirectory() as cache, tempfile.TemporaryDirectory() as other:
            (first, _), (whole, _) = seconds(job, cache), seconds(job, other, NUMBA)
            _, later = seconds(job, cache)
        print(f"| {job} | {first:.1f} | {whole:.1f} | {first / whole:.2f} | {later:.1f} |", flush=True)


if __name__ == "__main__":
    main()
