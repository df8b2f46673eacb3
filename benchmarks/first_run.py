"""The first imputation on a machine: from a clone, from an installed wheel, and with everything compiled.

    python -m benchmarks.first_run                     # makes a wheel with the kernels of these jobs
    python -m benchmarks.first_run dist/bayesimp-*.whl # or the one that `make wheel` made

CPU seconds of a fresh process, imports included, because they depend less than seconds on what else the machine does.
The wheel is installed into a folder of its own, without this tree on the path and with an empty cache. `compiled`:
kernels in that cache after the run, which the wheel lacked.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
JOBS = ("joint", "fcs", "bayes", "mlmi")
JOB = """
import json, sys, time
sys.path[:0] = [sys.argv[1]]
if sys.argv[3]:
    from pathlib import Path
    from tests.frozen import collect_kernels
    collect_kernels(Path(sys.argv[3]))
import numpy as np, pandas as pd
import bayesimp as bi
rng, job = np.random.default_rng(1), sys.argv[2]
g = np.repeat(np.arange(15), 30)
x = rng.normal(size=450)
y = x + rng.normal(size=15)[g] + rng.normal(size=450)
if job in ("bayes", "mlmi"):
    table = pd.DataFrame({"g": g, "x": x, "y": (y > 0).astype(float), "z": rng.poisson(np.exp(0.3 * y)).astype(float)})
else:
    table = pd.DataFrame({"g": g, "x": x, "y": y, "z": y - x + rng.normal(size=450)})
for name in ("y", "z"):
    table.loc[rng.random(450) < 0.2, name] = np.nan
data = bi.IncompleteData(table, "g", {"z": "poisson"} if job in ("bayes", "mlmi") else {})
if job == "joint":
    bi.JointNormal(data, "y + z ~ x + (1 | g)").impute(m=20, seed=1, progress=False)
else:
    bi.FCS(data, None if job == "fcs" else job).impute(m=20, seed=1, progress=False)
print(json.dumps({"cpu": time.process_time(), "from": bi.__file__}))
"""


def run(job: str, package: Path, cache: Path, kernels: Path | None = None, **environment: str) -> dict:
    """CPU seconds of a job in a fresh process that takes bayesimp from a folder, and kernels in its cache afterwards."""
    command = [sys.executable, "-c", JOB, str(package), job, str(kernels or "")]
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    env = clean | {"NUMBA_CACHE_DIR": str(cache), "OMP_NUM_THREADS": "1"} | environment
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=cache)
    if done.returncode:
        raise RuntimeError(done.stderr[-2_000:])
    made = json.loads(done.stdout.splitlines()[-1])
    assert Path(made["from"]).is_relative_to(package), made
    return made | {"compiled": len(list(cache.rglob("*.nbc")))}


def built(folder: Path, jobs: tuple[str, ...] = JOBS) -> Path:
    """A wheel with the kernels of some jobs, made as by `make wheel`."""
    settings = dict(
        re.findall(r"^wheel: export (NUMBA_CPU\w+) = (\S+)$", (ROOT / "Makefile").read_text(), re.M)
    )
    cache, kernels = folder / "cache", folder / "kernels"
    cache.mkdir()
    for collect in (None, kernels):
        for job in jobs:
            run(job, ROOT, cache, collect, **settings)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(
        command, check=True, capture_output=True, env={**os.environ, "BAYESIMP_KERNELS": str(kernels)}
    )
    (wheel,) = folder.glob("*.whl")
    return wheel


def installed(wheel: Path, folder: Path) -> Path:
    """The wheel alone in a folder; its dependencies are those of this interpreter."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--target",
        str(folder),
    ]
    subprocess.run([*command, str(wheel)], check=True, capture_output=True)
    return folder


def first_run(wheel: str | None = None, jobs: tuple[str, ...] = JOBS) -> Iterator[str]:
    """CPU s of the first imputation of 450 rows in 15 clusters, in a fresh process."""
    yield "| job | wheel | compiled | clone, nothing compiled | clone, compiled | wheel / compiled |"
    yield "|---|---|---|---|---|---|"
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        package = installed(Path(wheel).resolve() if wheel else built(place, jobs), place / "package")
        for job in jobs:
            caches = place / job / "clone", place / job / "wheel"
            for cache in caches:
                cache.mkdir(parents=True)
            made = run(job, package, caches[1])
            cold, warm = (run(job, ROOT, caches[0])["cpu"] for _ in range(2))
            yield (
                f"| {job} | {made['cpu']:.1f} | {made['compiled']} | {cold:.1f} | {warm:.1f} | "
                f"{made['cpu'] / warm:.2f} |"
            )


if __name__ == "__main__":
    for line in first_run(*sys.argv[1:2]):
        print(line, flush=True)
