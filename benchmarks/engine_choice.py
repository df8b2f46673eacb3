"""Which engine imputes which table best: the study behind the choice of `bi.impute`.

    python -m benchmarks.engine_choice --replicates 30 --workers 2       # writes benchmarks/ENGINE_CHOICE.md

Tables of benchmarks/engine_tables.py with 6 to 100 clusters (180 to 600 rows). Covariates lack 20% of their values,
more often where the outcome is large; x1 and x2 also in 15% of the clusters. m = 10; runs are shorter than by default
(SHORT), so a replicate of all 19 cells takes about a minute. A stopped run can be resumed (``--out``).

The criterion was written before any result was seen. Within a class of tables (covariates and outcome; 6 to 15
clusters, or more; random slope of an incomplete variable or not):

1. An engine is out if it fails in more than 5% of the data sets, or does not mix in more than 20% of those examined.
2. Its loss is the mean over cells and terms of log(RMSE / RMSE of the complete data); its lack of coverage, the largest,
   over terms, of the mean over cells of min(0.95, coverage of the complete data) minus its own.
3. Engines are tied with the best if each exceeds the smallest value by no more than two Monte Carlo standard errors of
   the difference (jackknife over replicates, so paired), or by less than 0.02.
4. Of those tied, the one that takes least CPU time is chosen; if none is tied in both, the one with the smallest loss.
"""

from __future__ import annotations

import argparse
import platform
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import bayesimp as bi
from bayesimp.diagnostics.convergence import glance
from bayesimp.errors import StatisticalWarning
from bayesimp.studies import Study
from bayesimp.studies.result import read
from bayesimp.studies.tested import Reference
from bayesimp.workflow.default_formula import joint_formula
from bayesimp.workflow.engine_models import chained_equations
from benchmarks.engine_report import by_term, plain, report
from benchmarks.engine_tables import Cell

M = 10
COMMANDS = (
    "with `--replicates 6`, then `--replicates 36 --engines fcs joint latent`, both stopped, then `--read`"
)
HERE = Path(__file__).parent
ROUND = 6  # replicates of every cell before the next: a study that is stopped has them all alike
EXAMINED = 4  # one data set of so many is examined for convergence
SHORT: Mapping[str, Mapping[str, int]] = {
    "fcs": {"cycles": 30},
    "joint": {"chains": 2, "tune": 200, "draws": 500},
    "latent": {"chains": 2, "tune": 200, "draws": 500, "thin": 1},
    "glmm": {"chains": 2, "tune": 100, "draws": 200},
}
ENGINES = {  # by covariates and outcome; the joint normal model conditions on a complete binary outcome
    ("normal", "linear"): ("fcs", "joint", "glmm"),
    ("normal", "logistic"): ("fcs", "joint", "latent", "glmm"),
    ("mixed", "linear"): ("fcs", "latent", "glmm"),
    ("mixed", "logistic"): ("fcs", "latent", "glmm"),
    ("count", "linear"): ("fcs", "glmm"),
    ("count", "logistic"): ("fcs", "glmm"),
}
BLIND = ("fcs", "joint", "latent")  # engines that need no analysis, and less time than the joint GLMM
CELLS = [
    Cell(clusters, covariates, outcome, slope == "slope", sizes == "balanced")
    for clusters, covariates, outcome, slope, sizes in (
        (6, "normal", "linear", "intercept", "balanced"),
        (10, "normal", "linear", "slope", "unbalanced"),
        (15, "normal", "linear", "intercept", "unbalanced"),
        (35, "normal", "linear", "slope", "balanced"),
        (100, "normal", "linear", "intercept", "unbalanced"),
        (6, "mixed", "linear", "intercept", "unbalanced"),
        (10, "mixed", "linear", "intercept", "balanced"),
        (15, "mixed", "linear", "slope", "balanced"),
        (35, "mixed", "linear", "intercept", "balanced"),
        (100, "mixed", "linear", "slope", "unbalanced"),
        (10, "normal", "logistic", "intercept", "balanced"),
        (15, "normal", "logistic", "slope", "unbalanced"),
        (100, "normal", "logistic", "intercept", "balanced"),
        (6, "mixed", "logistic", "intercept", "balanced"),
        (15, "mixed", "logistic", "intercept", "unbalanced"),
        (35, "mixed", "logistic", "slope", "unbalanced"),
        (100, "mixed", "logistic", "intercept", "balanced"),
        (15, "count", "linear", "intercept", "balanced"),
        (35, "count", "logistic", "intercept", "unbalanced"),
    )
]


@dataclass(frozen=True)
class Engine:
    """An engine as `bi.impute` calls it, with shorter chains, one after the other."""

    name: str
    analysis: str
    run: Mapping[str, int] = field(default_factory=dict)

    def model(self, data: bi.IncompleteData) -> Any:
        """The model of a table."""
        if self.name == "glmm":
            return bi.JointGLMM(data, self.analysis)
        if self.name == "fcs":
            return chained_equations(data)
        kind = bi.JointLatent if self.name == "latent" else bi.JointNormal
        return kind(data, joint_formula(data, latent=self.name == "latent"))

    def __call__(self, data: bi.IncompleteData, seed: int) -> Any:
        """Imputations; CPU seconds and, of one data set in `EXAMINED`, the verdict on the chains become events."""
        began = time.thread_time()
        imputations = self.model(data).impute(M, seed=seed, executor="serial", progress=False, **self.run)
        warnings.warn(f"imputed in {time.thread_time() - began:.4f} s", StatisticalWarning, stacklevel=2)
        if seed % EXAMINED == 0:
            warnings.warn(f"examined: {glance(imputations).verdict}", StatisticalWarning, stacklevel=2)
        return imputations


def study(cell: Cell, wanted: Sequence[str] = tuple(SHORT)) -> Study:
    """The study of one cell, by the engines that are wanted."""
    engines = [name for name in ENGINES[cell.covariates, cell.outcome] if name in wanted]
    methods = {name: Engine(name, cell.analysis, SHORT[name]) for name in engines}
    return Study([cell.scenario], {"complete data": Reference(), **methods}, seed=2028)


def kept(out: Path) -> dict[Cell, Any]:
    """What earlier runs have left in a folder: cells in which at least two engines were tried."""
    found = {cell: read(out / plain(cell.name)) for cell in CELLS if (out / plain(cell.name)).exists()}
    return {cell: result for cell, result in found.items() if result.units["method"].nunique() > 2}


def carried_out(options: argparse.Namespace) -> dict[Cell, Any]:
    """The study, in rounds of all cells, until it is done or the time is over."""
    began, results = time.perf_counter(), {}
    for replicates in [*range(ROUND, options.replicates, ROUND), options.replicates]:
        for cell in CELLS:
            if len(set(options.engines) & set(ENGINES[cell.covariates, cell.outcome])) < 2:
                continue  # nothing to compare
            if options.minutes is not None and time.perf_counter() - began > 60 * options.minutes:
                return results
            folder = options.out / plain(cell.name)
            results[cell] = study(cell, options.engines).run(replicates, out=folder, workers=options.workers)
        print(f"{replicates} replicates, {time.perf_counter() - began:.0f} s", flush=True)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replicates", type=int, default=30)
    parser.add_argument(
        "--engines", nargs="+", choices=SHORT, default=list(SHORT), help="leave out the others"
    )
    parser.add_argument("--workers", type=int, default=None)
    parser.add_argument("--minutes", type=float, default=None, help="begin no new cell after so many")
    parser.add_argument("--read", action="store_true", help="run nothing, report what the folder has")
    parser.add_argument("--out", type=Path, default=Path("engine_choice_study"))
    options = parser.parse_args()
    results = kept(options.out) if options.read else carried_out(options)
    by_term(results).to_csv(HERE / "engine_choice.csv", index=False)
    about = (__doc__ or "").split("\n\n", 2)[2]
    (HERE / "ENGINE_CHOICE.md").write_text(
        f"# Which engine\n\nMade by `python -m benchmarks.engine_choice` {COMMANDS} (bayesimp "
        f"{bi.__version__}, Python {platform.python_version()}).\n\n{about}\n{report(results, BLIND)}\n"
        "Bias, RMSE and coverage of every cell, engine and term, and paired differences between engines, with Monte\n"
        "Carlo standard errors, are in benchmarks/engine_choice.csv.\n"
    )


if __name__ == "__main__":
    main()
