"""The effect of the number of inner Gibbs updates: `python -m tests.calibration.inner` rewrites INNER_RESULTS.md.

A visit of FCS draws theta_k by `inner` updates from where the last visit ended, then y_k. Were theta_k drawn
independently given the other variables, compatible conditional models would have the joint model's stationary law
(Liu et al. 2014). With few updates sigma^2 and Psi still depend on the imputed values of the previous cycle; beta and b
are redrawn given them. So the law may depend on `inner` even in compatible models; this program measures by how much.

d is the difference of two runs in the posterior mean of an imputed quantity (mean, sd of the imputed values of a
cluster) in posterior sds; noise its Monte Carlo standard error, from independent chains.

    excess = sqrt( mean(d^2 - noise^2) ),  0 if negative:   rms difference beyond Monte Carlo error
    z = max |d| / noise                                     its upper 5 % point under t(38) is `z 5 %`
"""

import argparse
import platform
import time
from datetime import date
from pathlib import Path
from subprocess import run

import numpy as np
import pandas as pd
from arviz_stats.base import array_stats
from scipy import stats

import bayesimp as bi
from tests.fcs.test_fcs_against_joint import by_cluster

CHAINS = 40
INNER = (1, 5, 20, 100)
CYCLES = {1: 6000, 5: 4000, 20: 3000, 100: 800}
AGAINST = 20  # the number with which others are compared: many draws, little memory
SIGMA = np.array([[1.0, 0.6], [0.6, 1.5]])
SIZES = np.round(np.geomspace(3, 200, 20)).astype(int)
EFFICIENCY = (1, 2, 5, 10, 20)


def studies(sizes, correlation: float, seed: int) -> bi.IncompleteData:
    """Two variables; each is missing in a quarter of the clusters and in 15 % of the other rows."""
    rng = np.random.default_rng(seed)
    m = len(sizes)
    codes = np.repeat(np.arange(m), sizes)
    Psi = 0.8 * np.array([[1.0, correlation], [correlation, 1.0]])
    Y = rng.multivariate_normal([0, 0], Psi, m)[codes] + rng.multivariate_normal([0, 0], SIGMA, len(codes))
    for k in range(2):
        Y[(codes % 4 == k) | (rng.random(len(codes)) < 0.15), k] = np.nan
    return bi.IncompleteData(pd.DataFrame({"study": codes, "y1": Y[:, 0], "y2": Y[:, 1]}), "study")


def impute(data, inner: int, compatible: bool, cycles: int, seed: int, chains: int = CHAINS):
    model = bi.FCS(data, methods=bi.methods.Bayes(compatible=compatible, inner=inner))
    return model.impute(
        m=chains, cycles=cycles + 100, tune=100, seed=seed, workers=1 if chains == 4 else None, progress=False
    )


def compare(a: np.ndarray, b: np.ndarray) -> tuple[float, float, float, float]:
    """excess, rms noise, z and its 95 % point; a, b (chains, draws, quantities)."""
    means = [x.mean(1) for x in (a, b)]
    sd = b.reshape(-1, b.shape[-1]).std(0)
    d = (means[0].mean(0) - means[1].mean(0)) / sd
    noise = np.sqrt(sum(x.var(0, ddof=1) / len(x) for x in means)) / sd
    point = stats.t.isf(0.025 / d.size, 2 * (CHAINS - 1))
    return (
        np.sqrt(max(0.0, (d**2 - noise**2).mean())),
        np.sqrt((noise**2).mean()),
        np.abs(d / noise).max(),
        point,
    )


def stationary(data, compatible: bool, part: float) -> list[str]:
    """One row for each number of updates, against `AGAINST` and the joint model; part: share of the cycles."""
    model = bi.JointNormal(data, "y1 + y2 ~ 1 + (1 | study)")
    joint = by_cluster(model.impute(m=CHAINS, chains=CHAINS, draws=2000, seed=1, progress=False))
    cycles = {k: int(part * CYCLES[k]) for k in INNER}
    draws = {k: by_cluster(impute(data, k, compatible, cycles[k], seed=10 + k)) for k in INNER}
    rows = []
    for k, x in draws.items():
        cells = []
        for other in (draws[AGAINST], joint):
            if x is other:
                cells += ["–"] * 3
                continue
            excess, noise, z, point = compare(x, other)
            cells += [f"{excess:.3f}", f"{noise:.3f}", f"{z:.1f} ({point:.1f})"]
        rows.append(f"| {k} | {' | '.join(cells)} |")
    return rows


def efficiency(data) -> list[str]:
    """Effective draws per CPU second of one thread: Psi (the worse of two), mean of a cluster without y."""
    rows, first = [], None
    impute(data, 1, True, 10, 0, chains=4)
    for inner in EFFICIENCY:
        cycles = 2500
        began = time.process_time()
        imp = impute(data, inner, True, cycles, 3, chains=4)
        seconds = time.process_time() - began
        post = imp.tree["posterior"]
        Psi = min(_ess(post[f"Psi_{name}"].values[..., 0, 0]) for name in ("y1", "y2"))
        drawn = imp.tree["imputed_stats"]["mean"].sel(response="y1").values
        lacking = [i for i in range(drawn.shape[-1]) if i % 4 == 0]
        mean = np.median([_ess(drawn[..., i]) for i in lacking])
        n = 4 * cycles
        now = Psi / seconds, mean / seconds
        first = first or now
        rows.append(
            f"| {inner} | {1e6 * seconds / n:.0f} | {Psi / n:.2f} | {mean / n:.2f} | {now[0]:,.0f} "
            f"({now[0] / first[0]:.1f}) | {now[1]:,.0f} ({now[1] / first[1]:.1f}) |"
        )
    return rows


def _ess(draws: np.ndarray) -> float:
    return float(array_stats.ess(draws, method="bulk"))


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    began = time.perf_counter()
    head = (
        f"| inner | excess over {AGAINST} | noise | z (z 5 %) | excess over joint | noise | z (z 5 %) |\n"
        "|---|---|---|---|---|---|---|"
    )
    equal = studies([6] * 12, -0.7, 1)
    unequal = studies(SIZES, -0.9, 2)
    parts = []
    for title, data, compatible in [
        ("Equal sizes (12 clusters of 6), correlation between clusters -0.7, compatible=True", equal, True),
        (f"Sizes {SIZES[0]} to {SIZES[-1]} (20 clusters), correlation -0.9, compatible=True", unequal, True),
        ("The same, compatible=False", unequal, False),
    ]:
        parts += [f"## {title}\n", head, *stationary(data, compatible, 1 if data is equal else 1 / 4), ""]
    head = (
        "| inner | µs a cycle | ESS / cycle, Psi | of an imputed mean | ESS / s, Psi (ratio) | of an imputed mean |\n"
        "|---|---|---|---|---|---|"
    )
    parts.append("## Effective draws (equal sizes, compatible=True; 4 chains, CPU seconds of one thread)\n")
    for m, n in [(12, 8), (60, 20)]:
        parts += [f"{m} clusters of {n}\n", head, *efficiency(studies([n] * m, -0.5, 1)), ""]
    commit = run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    text = "\n".join(
        [
            "# What the number of inner updates does\n",
            f"Made by `python -m tests.calibration.inner` on {date.today()}, commit {commit}, Python "
            f"{platform.python_version()}, in {time.perf_counter() - began:.0f} s.\n",
            "See the docstring of `inner.py`: differences are in posterior sds of the imputed mean or sd of a cluster.\n",
            *parts,
        ]
    )
    Path(__file__).with_name("INNER_RESULTS.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
