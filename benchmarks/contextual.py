"""Contextual effects: how far the coefficients of added cluster means are shrunk (`priors.Contextual`).

    python -m benchmarks.contextual --replicates 60 --workers 2        # writes benchmarks/CONTEXTUAL.md

Kunkel & Kaizar's covariances (2017), 450 rows in 6, 10, 15 or 35 studies; y1 missing in a third of them, y2 in a fifth;
analysis y3 ~ y1 + y2 + (1 | study). Settings 3 and 6 have associations of opposite sign within studies, weak and strong
ones between them; in setting 9 all are strong and negative; setting 10 has opposite ones within and between. m = 20. Each
entry is the mean over data sets of the between-study variance that the pooled analysis reports, divided by that of the
complete data. A stopped run can be resumed (``--out``).
"""

from __future__ import annotations

import argparse
import platform
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

import bayesimp as bi
from bayesimp import methods as me
from bayesimp import priors as pr
from bayesimp.studies import Analysis, Scenario, Study, delete
from bayesimp.studies.kunkel_kaizar import analysis_truth, covariances
from bayesimp.studies.mechanisms import Systematic
from bayesimp.studies.simulate import simulate_studies
from bayesimp.studies.tested import Chained, Joint, Reference

M, ROWS = 20, 450
HERE = Path(__file__).parent
SETTINGS, CLUSTERS, SCALES = (3, 6, 9, 10), (6, 10, 15, 35), (0.35, 0.5, 0.6, 0.7, 1.0, 1.4)
TERM = "var(Intercept | study)"
JOINT = "joint"


def bayes(scale: float) -> Chained:
    """Chained equations, one variable at a time, with this scale of contextual effects."""
    return Chained(me.Bayes(pr.Priors(beta=pr.Contextual(scale))), m=M)


METHODS = {
    "complete data": Reference(),
    JOINT: Joint("y1 + y2 + y3 ~ 1 + (1 | study)", "default", M),
    "no means": Chained("bayes", m=M, compatible=False),
    **{f"scale {scale:g}": bayes(scale) for scale in SCALES},
    "flat": Chained(me.Bayes(pr.Priors(beta=pr.Flat())), m=M, compatible=True),
}


def scenario(setting: int, clusters: int) -> Scenario:
    """One of Kunkel & Kaizar's settings with another number of studies."""
    Sigma, Psi = covariances(setting)
    sizes = [len(part) for part in np.array_split(np.arange(ROWS), clusters)]
    how = {"y1": Systematic(count=round(clusters / 3)), "y2": Systematic(count=round(clusters / 5))}
    truth = analysis_truth(Sigma, Psi)
    truth[TERM] = truth.pop("var(effect)")
    return Scenario(
        f"setting {setting}, {clusters} studies",
        partial(simulate_studies, sizes, Sigma, Psi),
        partial(delete, cluster="study", systematic=how, apart=[("y1", "y2")]),
        Analysis("y3 ~ y1 + y2 + (1 | study)"),
        "study",
        truth=truth,
    )


def ratios(found: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """(methods, scenarios) mean of the variance divided by that of the complete data."""
    found = found[(found["term"] == TERM) & (found["measure"] == "mean")]
    table = found.pivot(index="method", columns="scenario", values="value").loc[list(METHODS), names]
    return table / table.loc["complete data"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replicates", type=int, default=60)
    parser.add_argument("--workers", type=int, default=None)
    parser.add_argument("--minutes", type=float, default=None)
    parser.add_argument("--out", type=Path, default=Path("contextual_study"))
    options = parser.parse_args()
    began = time.perf_counter()
    scenarios = [scenario(setting, clusters) for clusters in CLUSTERS for setting in SETTINGS]
    result = Study(scenarios, METHODS, seed=2027).run(
        options.replicates, out=options.out, workers=options.workers, minutes=options.minutes
    )
    table = ratios(result.summary(), [s.name for s in scenarios])
    apart = np.log(table).abs()
    lines = ["| | " + " | ".join(f"{c}: {s}" for c in CLUSTERS for s in SETTINGS) + " | typical factor |"]
    lines.append("|---" * (2 + len(scenarios)) + "|")
    for method, row in table.iterrows():
        typical = np.exp(np.sqrt((apart.loc[method] ** 2).mean()))
        lines.append(f"| {method} | " + " | ".join(f"{x:.2f}" for x in row) + f" | {typical:.2f} |")
    print("\n".join(lines))
    about = " ".join((__doc__ or "").split("\n\n")[2].split())
    (HERE / "CONTEXTUAL.md").write_text(
        f"# Contextual effects\n\nMade by `python -m benchmarks.contextual --replicates {options.replicates}` (bayesimp "
        f"{bi.__version__}, Python {platform.python_version()}, {time.perf_counter() - began:.0f} s in this run; "
        f"{len(result.failures)} failures).\n\n{about}\n\nColumns: number of studies, setting. The last one is "
        "exp of the root mean square of the logarithms of the row: how far the variance is off in a typical scenario.\n\n"
        + "\n".join(lines)
        + "\n"
    )


if __name__ == "__main__":
    main()
