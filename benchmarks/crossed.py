"""Analyses of 70,000 rows with several grouping factors, against lme4."""

from __future__ import annotations

import time
import warnings

import numpy as np
import pandas as pd

import bayesimp as bi
from bayesimp.analysis.fits import Fits
from benchmarks.r_side import HAVE_R, r_script_on

ROWS, TABLES = 70_000, 20
NESTED = "y ~ x + (1 | school/class)"
SLOPES = "y ~ x + (1 + x | school) + (1 | school:class) + (1 | year)"
CROSSED = "y ~ x + (1 | subject) + (1 | item)"


def school_table(seed: int = 1) -> pd.DataFrame:
    """3,500 classes in 700 schools, and 5 years, which cross both."""
    rng = np.random.default_rng(seed)
    cell = rng.integers(0, 3_500, ROWS)
    school, year, x = cell // 5, rng.integers(0, 5, ROWS), rng.normal(size=ROWS)
    b = rng.normal(size=(700, 2)) * [0.5, 0.2]
    y = 1 + 0.5 * x + b[school, 0] + b[school, 1] * x + rng.normal(0, 0.4, 3_500)[cell]
    y += rng.normal(0, 0.2, 5)[year] + rng.normal(size=ROWS)
    return pd.DataFrame({"y": y, "x": x, "school": school, "class": cell % 5, "year": year})


def rating_table(seed: int = 2) -> pd.DataFrame:
    """2,000 subjects rate 35 of 300 items each, at random."""
    rng = np.random.default_rng(seed)
    subject, item = np.repeat(np.arange(2_000), ROWS // 2_000), rng.integers(0, 300, ROWS)
    x = rng.normal(size=ROWS)
    y = 0.3 * x + rng.normal(0, 0.7, 2_000)[subject] + rng.normal(0, 0.5, 300)[item] + rng.normal(size=ROWS)
    return pd.DataFrame({"y": y, "x": x, "subject": subject, "item": item})


def crossed() -> list[str]:
    """REML fits of 70,000 rows, default settings: processor seconds for one table, formula to fit, best of three here,
    one run of lme4; and for each of 20 tables in which a third of x differs, as after imputation. Criterion: ours minus
    lme4's (below zero: our fit is nearer to the optimum)."""
    lines = [
        "| analysis | bayesimp s | of 20 tables, each s | lme4 s | lme4 / bayesimp | criterion |",
        "|---|---|---|---|---|---|",
    ]
    for formula, frame in (
        (NESTED, school_table()),
        (SLOPES, school_table()),
        (CROSSED, rating_table()),
    ):
        ours, fits = min((_timed([frame], formula) for _ in range(3)), key=lambda pair: pair[0])
        many = _timed(_tables(frame), formula)[0] / TABLES
        theirs = ["no R here"] * 3
        if HAVE_R:
            r = r_script_on(frame, "crossed_lme4.R", formula)
            theirs = [
                f"{r['cpu']:.2f}",
                f"{r['cpu'] / ours:.1f}",
                f"{-2 * fits.loglik[0] - r['criterion']:.1e}",
            ]
        text = formula.replace("|", "\\|")
        lines.append(f"| `{text}` | {ours:.2f} | {many:.2f} | {' | '.join(theirs)} |")
    return lines


def _tables(frame: pd.DataFrame) -> list[pd.DataFrame]:
    rng = np.random.default_rng(3)
    gone = rng.random(ROWS) < 1 / 3
    return [frame.assign(x=np.where(gone, rng.normal(size=ROWS), frame.x)) for _ in range(TABLES)]


def _timed(tables: list[pd.DataFrame], formula: str) -> tuple[float, Fits]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        began = time.process_time()
        fits = bi.fit_each(tables, formula)
        return time.process_time() - began, fits
