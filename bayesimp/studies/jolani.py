"""The simulations of Jolani (2025), section 3 and appendix A: 120 scenarios and five methods.

    2 outcomes x 3 heterogeneities x n = 6, 10, 15, 20, 30 studies, 3,000 rows in all x 10 or 30% systematically missing
    x sporadic values missing completely at random or at random given y

What the text leaves open, and how we read it (following the paper's code):

- round(share * n) studies lack a variable, drawn separately for x1 and x2.
- Values are missing more often if y is large: the text codes 1 as observed, but its intercept of -0.47 gives the stated
  15% missing only if 1 means missing.
- The probability is 15% at the mean of y; the expected share is larger since y varies (`Sporadic` with ``at="mean"``).
- Studies in which a binary y never occurs are drawn again.
- Intervals are estimate -+ 1.96 standard errors with m = 5 imputations ("coverage z"); "coverage" uses Barnard and
  Rubin's degrees of freedom.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from bayesimp import methods as me
from bayesimp.errors import SpecificationError
from bayesimp.studies.deletion import delete
from bayesimp.studies.mechanisms import Sporadic, Systematic
from bayesimp.studies.records import Analysis, Scenario
from bayesimp.studies.simulate_ipd import ALPHA, DELTA, OMEGA, simulate_ipd
from bayesimp.studies.study import Study
from bayesimp.studies.tested import Chained, CompleteCases, Reference

__all__ = [
    "HETEROGENEITY",
    "OUTCOMES",
    "STUDIES",
    "complete_table",
    "jolani2025",
    "scenario",
    "tested_methods",
]

OUTCOMES, HETEROGENEITY, STUDIES = (
    ("binary", "continuous"),
    ("weak", "moderate", "strong"),
    (6, 10, 15, 20, 30),
)
SYSTEMATIC, MECHANISMS = (0.1, 0.3), ("MAR", "MCAR")
ROWS, SPORADIC, M, CYCLES, REPLICATES = 3000, 0.15, 5, 10, 1000
FORMULA = "y ~ x1 + x2 + (1 + x1 | study)"
MULTILEVEL = ("x1 ~ y + x2 + (1 + y | study)", "x2 ~ y + x1 + (1 + y | study)")
ONE_LEVEL = ("x1 ~ y + x2", "x2 ~ y + x1")
PAPER = ("REF", "CCA", "STI", "MLMI-published", "2STG")


def complete_table(
    studies: int, heterogeneity: str, outcome: str, rows: int = ROWS, *, seed: int
) -> pd.DataFrame:
    """The complete table."""
    return simulate_ipd(studies, rows // studies, heterogeneity=heterogeneity, outcome=outcome, seed=seed)[1]  # type: ignore[arg-type]


def scenario(
    outcome: str = "binary",
    heterogeneity: str = "strong",
    studies: int = 10,
    systematic: float = 0.1,
    mechanism: str = "MAR",
    rows: int = ROWS,
) -> Scenario:
    """One of the 120 scenarios, or another of the same kind; `rows` counts all studies together."""
    if outcome not in OUTCOMES or heterogeneity not in HETEROGENEITY or mechanism not in MECHANISMS:
        raise SpecificationError(
            f"outcome is one of {', '.join(OUTCOMES)}, heterogeneity of {', '.join(HETEROGENEITY)}, mechanism of "
            f"{', '.join(MECHANISMS)}; got {outcome!r}, {heterogeneity!r}, {mechanism!r}."
        )
    slopes = dict(zip(("x1", "x2"), DELTA, strict=True)) if mechanism == "MAR" else {}
    holes = {
        name: Sporadic(SPORADIC, on={"y": slopes[name]} if slopes else {}, unit="raw", at="mean")
        for name in ("x1", "x2")
    }
    lacking = {name: Systematic(count=round(systematic * studies)) for name in ("x1", "x2")}
    Omega = np.array(OMEGA[heterogeneity])
    truth = dict(zip(("Intercept", "x1", "x2"), ALPHA, strict=True))
    for j, effect in enumerate(("Intercept", "x1")):
        truth[f"var({effect} | study)"] = float(Omega[j, j])
        truth[f"sd({effect} | study)"] = float(np.sqrt(Omega[j, j]))
    size = "" if rows == ROWS else f", {rows} rows"
    return Scenario(
        f"{outcome}, {heterogeneity}, n = {studies}, {systematic:.0%} systematic, {mechanism}{size}",
        partial(complete_table, studies, heterogeneity, outcome, rows),
        partial(delete, cluster="study", systematic=lacking, sporadic=holes),
        Analysis(FORMULA, "bernoulli" if outcome == "binary" else "normal"),
        "study",
        truth=truth,
        families={"x1": "bernoulli", "x2": "poisson"},
        labels={
            "outcome": outcome, "heterogeneity": heterogeneity, "studies": studies, "systematic": systematic,
            "mechanism": mechanism,
        },
    )  # fmt: skip


def tested_methods(
    names: Iterable[str] = (*PAPER, "MLMI", "bayes"), m: int = M, cycles: int = CYCLES
) -> dict[str, Any]:
    """The methods of the paper, our exact MLMI, and bayes, all with the formulas of the paper."""
    pmm = {"x1": me.Stratified(), "x2": me.Stratified(donors=5)}
    chained = {
        "STI": (pmm, ONE_LEVEL), "MLMI": (me.MLMI(), MULTILEVEL), "MLMI-published": (me.MLMI(published=True), MULTILEVEL),
        "2STG": (me.TwoStage("moments", published=True), ONE_LEVEL), "2STG-REML": (me.TwoStage("reml"), ONE_LEVEL),
        "bayes": (me.Bayes(), MULTILEVEL),
    }  # fmt: skip
    alone = {"REF": Reference(), "CCA": CompleteCases()}
    out: dict[str, Any] = {}
    for name in names:
        if name in alone:
            out[name] = alone[name]
        elif name in chained:
            how, columns = chained[name]
            out[name] = Chained(how, list(columns), m, cycles)
        else:
            raise SpecificationError(
                f"There is no method {name!r} here; there are {', '.join([*alone, *chained])}."
            )
    return out


def jolani2025(
    outcome: Iterable[str] = OUTCOMES,
    heterogeneity: Iterable[str] = HETEROGENEITY,
    studies: Iterable[int] = STUDIES,
    systematic: Iterable[float] = SYSTEMATIC,
    mechanism: Iterable[str] = MECHANISMS,
    *,
    methods: Iterable[str] = (*PAPER, "MLMI", "bayes"),
    m: int = M,
    cycles: int = CYCLES,
    seed: int = 2025,
) -> Study:
    """The scenarios of the paper as a `Study`, all 120 unless some are chosen; our exact MLMI and bayes are added."""
    chosen = [scenario(*each) for each in product(outcome, heterogeneity, studies, systematic, mechanism)]
    return Study(chosen, tested_methods(methods, m, cycles), seed=seed)
