"""The joint GLMM: effective draws a second, what the joint move of effects and values gives, and the cost of rows."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pandas as pd

import bayesimp as bi
from bayesimp.joint.glmm.model import JointGLMM

ANALYSIS = "y ~ x1 + x2 + (1 + x1 | study)"


def jolani(rows: int = 300, seed: int = 3) -> bi.IncompleteData:
    """Jolani's design: ten studies, a binary outcome, a binary covariate and a count, both incomplete."""
    table, _ = bi.simulate_ipd(10, rows, outcome="binary", seed=seed)
    return bi.IncompleteData(table, "study", families={"y": "bernoulli", "x1": "bernoulli", "x2": "poisson"})


@contextmanager
def without_joint_move(model: JointGLMM):
    """The model without the move of effects and values together."""
    kept = model.table
    model.table = replace(kept, bare=tuple(np.empty(0, dtype=np.int64) for _ in kept.bare))
    yield model
    model.table = kept


def measured(model: JointGLMM, draws: int = 1500, tune: int = 300) -> dict[str, float]:
    """Seconds of a run of two chains, and smallest effective sample sizes."""
    model.impute(m=2, seed=0, chains=2, tune=1, draws=1)  # kernels loaded
    imp = model.impute(m=20, seed=1, chains=2, tune=tune, draws=draws)
    parameters = imp.summary().parameters["ess_bulk"]
    own = [
        name
        for name in parameters.index
        if name.startswith("beta_y") or (name.count("[y:") and name.count(", y:"))
    ]
    return {
        "seconds": imp.attrs["seconds"],
        "sweep": 1000 * imp.attrs["seconds"] / (2 * (draws + tune)),
        "analysis": float(parameters[own].min()),
        "all": float(parameters.min()),
        "imputed": float(imp.summary().imputed["ess_bulk"].min()),
    }


def joint_glmm() -> list[str]:
    """Jolani's design, 10 x 300, binary outcome with a random slope, a binary covariate and a count incomplete: two
    chains x (300 + 1,500) sweeps, two workers, kernels compiled. Smallest effective sample sizes of the analysis' own
    parameters (beta and Psi of y), of all parameters, of imputed means and standard deviations by study; seconds for
    1,000 effective draws of every parameter of the analysis (goal: 20). Below, the same without the move of effects and
    values together."""
    model = bi.JointGLMM(jolani(), ANALYSIS)
    lines = [
        "| | seconds | ms a sweep and worker | analysis | all parameters | imputed | seconds for 1,000 |",
        "|---|---|---|---|---|---|---|",
    ]

    def row(name: str, found: dict[str, float]) -> None:
        wait = found["seconds"] * 1000 / found["analysis"]
        lines.append(
            f"| {name} | {found['seconds']:.1f} | {found['sweep']:.2f} | {found['analysis']:.0f} | {found['all']:.0f} | "
            f"{found['imputed']:.0f} | {wait:.1f} |"
        )

    row("as it is", measured(model))
    with without_joint_move(model):
        row("without the joint move", measured(model))
    return lines


def joint_glmm_rows() -> list[str]:
    """Cost of rows: milliseconds a sweep of one chain, 10 studies."""
    lines = ["| rows | ms a sweep | ms a sweep and 1,000 rows |", "|---|---|---|"]
    for rows in (100, 300, 1000, 3000):
        model = bi.JointGLMM(jolani(rows), ANALYSIS)
        model.impute(m=1, seed=0, chains=1, tune=1, draws=1)
        began = time.perf_counter()
        sweeps = max(200_000 // (10 * rows), 20)
        model.impute(m=1, seed=1, chains=1, tune=0, draws=sweeps)
        each = 1000 * (time.perf_counter() - began) / sweeps
        lines.append(f"| {10 * rows:,} | {each:.2f} | {each / rows * 100:.2f} |")
    return lines


def joint_glmm_default() -> list[str]:
    """A default imputation (m = 20, four chains x (200 + 1,000) sweeps) of a table with the shape of Hsb82, about 7,200
    pupils in 160 schools, half of one covariate missing, whose product with a variable of schools is in the analysis
    (goal: 3 s)."""
    rng = np.random.default_rng(7)
    sizes = rng.integers(20, 70, 160)
    g = np.repeat(np.arange(160), sizes)
    sector = (np.arange(160) < 90).astype(int)[g]
    ses = rng.normal(0, 0.4, 160)[g] + rng.normal(0, 0.67, len(g))
    y = (
        13
        + 1.6 * ses
        - 2 * sector
        + 1.3 * ses * sector
        + rng.normal(0, 1.9, 160)[g]
        + rng.normal(0, 6, len(g))
    )
    table = pd.DataFrame({"school": g, "sector": sector, "ses": ses, "y": y})
    table.loc[rng.random(len(g)) < 0.5, "ses"] = np.nan
    model = bi.JointGLMM(bi.IncompleteData(table, "school"), "y ~ ses * sector + (1 | school)")
    model.impute(m=4, seed=0, tune=1, draws=1)
    imp = model.impute(seed=1)
    smallest = imp.summary().parameters["ess_bulk"].min()
    return [
        f"{len(g):,} rows: {imp.attrs['seconds']:.2f} s, smallest effective sample size of a parameter {smallest:.0f}."
    ]
