"""Few clusters: the between-cluster variance of an analysis after imputation by each engine's defaults.

    python -m benchmarks.few_clusters --replicates 200 --workers 2        # writes benchmarks/FEW_CLUSTERS.md

Kunkel & Kaizar's generator (2017): 15 studies, y1 missing in 8 of them and y2 in 3; analysis y3 ~ y1 + y2 + (1 | study).
Setting 10 has opposite associations within and between studies, setting 6 equally strong, opposite ones, simulation 3
unequal sizes. m = 20. A stopped run can be resumed (``--out``).
"""

from __future__ import annotations

import argparse
import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bayesimp as bi
from bayesimp.studies import Study
from bayesimp.studies.kunkel_kaizar import scenario
from bayesimp.studies.tested import Chained, Joint, Reference

M = 20
HERE = Path(__file__).parent
SETTINGS = (("2", 10), ("2", 6), ("3", 3))
TERM = "var(Intercept | study)"


@dataclass(frozen=True)
class OneLine:
    """`bi.impute(table, cluster=...)`."""

    def __call__(self, data: bi.IncompleteData, seed: int) -> Any:
        return bi.impute(data.frame, data.cluster, M, cycles=20, seed=seed, show=False, progress=False)


METHODS = {
    "complete data": Reference(),
    "joint, priors of pan": Joint("y1 + y2 ~ y3 + (1 | study)", "pan", M),
    "joint, default priors": Joint("y1 + y2 + y3 ~ 1 + (1 | study)", "default", M),
    "FCS(data)": Chained(m=M),
    "FCS, compatible=True": Chained("bayes", m=M, compatible=True),
    "bi.impute(table)": OneLine(),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replicates", type=int, default=200)
    parser.add_argument("--workers", type=int, default=None)
    parser.add_argument("--minutes", type=float, default=None)
    parser.add_argument("--out", type=Path, default=Path("few_clusters_study"))
    options = parser.parse_args()
    began = time.perf_counter()
    scenarios = [scenario(*setting) for setting in SETTINGS]
    result = Study(scenarios, METHODS, seed=2026).run(
        options.replicates, out=options.out, workers=options.workers, minutes=options.minutes
    )
    found = result.summary()
    found = found[(found["term"] == TERM) & (found["measure"] == "mean")]
    lines = ["| | " + " | ".join(s.name for s in scenarios) + " |", "|---" * (1 + len(scenarios)) + "|"]
    for method in METHODS:
        own = found[found["method"] == method].set_index("scenario")
        cells = [f"{own.loc[s.name, 'value']:.2f} ({own.loc[s.name, 'mcse']:.2f})" for s in scenarios]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    lines.append("| truth | " + " | ".join(f"{s.truth[TERM]:.2f}" for s in scenarios) + " |")
    print("\n".join(lines))
    about = (__doc__ or "").split("\n\n")[2].strip()
    (HERE / "FEW_CLUSTERS.md").write_text(
        f"# Few clusters\n\nMade by `python -m benchmarks.few_clusters --replicates {options.replicates}` (bayesimp "
        f"{bi.__version__}, Python {platform.python_version()}, {time.perf_counter() - began:.0f} s in this run; "
        f"{len(result.failures)} failures).\n\n{about}\n\nMean of the between-study variance that the pooled analysis "
        "reports, with its Monte Carlo standard error:\n\n" + "\n".join(lines) + "\n"
    )


if __name__ == "__main__":
    main()
