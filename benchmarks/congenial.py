"""Imputation with and without the analysis in the model: bias and coverage of the terms that the analysis is about.

    python -m benchmarks.congenial --replicates 200 --workers 2        # writes benchmarks/CONGENIAL.md

30 clusters x 20 rows; incomplete variables lack 30% of their values, more often if the response is large (log odds
ratio 0.5 for a standard deviation), each also in two whole clusters. m = 20. A stopped run can be resumed (``--out``).
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import bayesimp as bi
from bayesimp.studies import Analysis, Scenario, Sporadic, Study, Systematic
from bayesimp.studies.tested import Chained, CompleteCases, Reference

CLUSTERS, ROWS, M = 30, 20, 20
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Factors:
    """The joint GLMM with the analysis as a factor."""

    analysis: str
    families: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, data: bi.IncompleteData, seed: int) -> Any:
        model = bi.JointGLMM(data, self.analysis)
        return model.impute(M, seed=seed, chains=2, tune=200, draws=500, executor="serial", progress=False)


def covariates(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cluster of each row, and two covariates with correlation .3 within clusters, intraclass correlation .2."""
    g = np.repeat(np.arange(CLUSTERS), ROWS)
    within = rng.multivariate_normal([0, 0], [[0.8, 0.24], [0.24, 0.8]], len(g))
    between = rng.multivariate_normal([0, 0], [[0.2, 0.06], [0.06, 0.2]], CLUSTERS)[g]
    return g, *(within + between).T


def interaction(seed: Any) -> pd.DataFrame:
    """y ~ 0.5 x + 0.5 w + 0.4 x w + u, both covariates incomplete."""
    rng = np.random.default_rng(seed)
    g, x, w = covariates(rng)
    y = 0.5 * x + 0.5 * w + 0.4 * x * w + rng.normal(0, 0.6, CLUSTERS)[g] + rng.normal(size=len(g))
    return pd.DataFrame({"g": g, "x": x, "w": w, "y": y})


def slope(seed: Any) -> pd.DataFrame:
    """y ~ (0.5 + u1) x + u0, sd(u1) = 0.5, x incomplete."""
    rng = np.random.default_rng(seed)
    g, x, w = covariates(rng)
    u = rng.multivariate_normal([0, 0], [[0.36, 0.06], [0.06, 0.25]], CLUSTERS)[g]
    y = 0.5 * x + 0.3 * w + u[:, 0] + u[:, 1] * x + rng.normal(size=len(g))
    return pd.DataFrame({"g": g, "x": x, "w": w, "y": y})


def square(seed: Any) -> pd.DataFrame:
    """y ~ 0.5 x + 0.4 x^2 + u, x incomplete."""
    rng = np.random.default_rng(seed)
    g, x, w = covariates(rng)
    y = 0.5 * x + 0.4 * x**2 + 0.3 * w + rng.normal(0, 0.6, CLUSTERS)[g] + rng.normal(size=len(g))
    return pd.DataFrame({"g": g, "x": x, "w": w, "y": y})


DESIGNS: dict[str, tuple[Any, str, tuple[str, ...], dict[str, float], list[str]]] = {
    "interaction": (
        interaction, "y ~ x * w + (1 | g)", ("x", "w"), {"x:w": 0.4, "var(residual)": 1.0},
        ["x ~ y * w + (1 | g)", "w ~ y * x + (1 | g)"],
    ),
    "random slope": (
        slope, "y ~ x + w + (1 + x | g)", ("x",), {"x": 0.5, "sd(x | g)": 0.5, "var(residual)": 1.0},
        ["x ~ y + w + (1 + y | g)"],
    ),
    "square": (
        square, "y ~ x + I(x**2) + w + (1 | g)", ("x",), {"I(x ** 2)": 0.4, "var(residual)": 1.0},
        ["x ~ y + I(y**2) + w + (1 | g)"],
    ),
}  # fmt: skip
METHODS = (
    "complete data", "complete cases", "FCS, default", "FCS, terms by hand", "FCS, analysis", "JointGLMM",
)  # fmt: skip
CYCLES = 100  # of FCS given the analysis, its default: it mixes as a joint model does, for it draws from one


def study(name: str, chosen: Sequence[str]) -> Study:
    """The scenario of a design with these methods."""
    generate, analysis, lacking, truth, by_hand = DESIGNS[name]
    delete = partial(
        bi.studies.delete, cluster="g",
        sporadic={v: Sporadic(0.3, {"y": 0.5}) for v in lacking},
        systematic={v: Systematic(count=2) for v in lacking},
    )  # fmt: skip
    scenario = Scenario(name, generate, delete, Analysis(analysis), "g", truth=truth)
    methods = [
        Reference(), CompleteCases(), Chained(m=M), Chained(predictors=by_hand, m=M),
        Chained(m=M, cycles=CYCLES, options={"analysis": analysis}), Factors(analysis),
    ]  # fmt: skip
    every = dict(zip(METHODS, methods, strict=True))
    return Study([scenario], {name: every[name] for name in chosen}, seed=2026)


def table(name: str, result: Any) -> list[str]:
    """Rows of one design: bias and coverage with Monte Carlo standard errors."""
    found = result.summary()
    lines = []
    for term in DESIGNS[name][3]:
        for method in dict.fromkeys(found["method"]):
            own = found[(found["term"] == term) & (found["method"] == method)].set_index("measure")
            cells = [f"{own.loc[k, 'value']:.3f} ({own.loc[k, 'mcse']:.3f})" for k in ("bias", "coverage")]
            ratio = f"{own.loc['se ratio', 'value']:.2f}"
            lines.append(f"| {name} | `{term}` | {method} | {cells[0]} | {cells[1]} | {ratio} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replicates", type=int, default=200)
    parser.add_argument("--workers", type=int, default=None)
    parser.add_argument("--minutes", type=float, default=None)
    parser.add_argument("--only", nargs="*", default=list(DESIGNS))
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=METHODS)
    parser.add_argument("--out", type=Path, default=Path("congenial_study"))
    parser.add_argument("--to", default="CONGENIAL.md", help="the file of this folder that is written")
    options = parser.parse_args()
    began, lines, failures = time.perf_counter(), [], 0
    for name in options.only:
        result = study(name, options.methods).run(
            options.replicates,
            out=options.out / name.replace(" ", "_"),
            workers=options.workers,
            minutes=options.minutes,
        )
        failures += len(result.failures)
        lines += table(name, result)
        print("\n".join(lines[-18:]), flush=True)
    seconds = time.perf_counter() - began
    about = (__doc__ or "").split("\n\n")[2].strip()
    chosen = "" if options.only == list(DESIGNS) else f" --only {' '.join(map(repr, options.only))}"
    if options.methods != list(METHODS):
        chosen += f" --methods {' '.join(map(repr, options.methods))}"
    chosen += "" if options.to == "CONGENIAL.md" else f" --to {options.to}"
    command = f"`python -m benchmarks.congenial --replicates {options.replicates}{chosen}`"
    versions = f"bayesimp {bi.__version__}, Python {platform.python_version()}"
    text = (
        f"# Imputation given the analysis\n\nMade by {command} ({versions}, {seconds:.0f} s in this run; {failures} "
        f"failures).\n\n{about}\n\n"
        "Bias and coverage of the 95% interval (Barnard-Rubin), with Monte Carlo standard errors; the last column is\n"
        "the ratio of the mean model standard error to the empirical one.\n\n"
        "| design | term | method | bias | coverage | se ratio |\n|---|---|---|---|---|---|\n"
    )
    (HERE / options.to).write_text(text + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
