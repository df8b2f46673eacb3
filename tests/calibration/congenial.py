"""The bias of uncongenial analyses: FCS by default, and with the missing terms added.

    y = .5 x + .5 w + .4 x w + b0 + e                  product:  x incomplete, estimate of x:w minus that of all cells
    y = .5 x + (.5 b1) x + .7 b0 + e                   slope:    x incomplete, sd(x | g) likewise
    y = .5 x + (.5 b1) x + .7 b0 + e                   response: y incomplete, sd(x | g) likewise

x normal, or with two values (x > 0); 40 clusters of 40 rows, 40 % of the incomplete variable missing at random, 16 tables
per cell, 6 imputations by 20 cycles. `python -m tests.calibration.congenial` (20 seconds) rewrites CONGENIAL_RESULTS.md.
"""

from __future__ import annotations

import platform
import warnings
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd

import bayesimp as bi
from bayesimp.analysis.congenial import congeniality
from bayesimp.analysis.gaps import _call
from bayesimp.formulas.formula import parse

TABLES, CLUSTERS, ROWS, M, CYCLES = 16, 40, 40, 6, 20
PRODUCT, SLOPE = "y ~ x * w + (1 | g)", "y ~ x + (1 + x | g)"
CELLS = {
    ("product", "number"): (PRODUCT, "x"),
    ("product", "two values"): (PRODUCT, "x"),
    ("slope", "number"): (SLOPE, "x"),
    ("slope", "two values"): (SLOPE, "x"),
    ("response", "number"): (SLOPE, "y"),
}


def table(what: str, x_is: str, seed: int) -> tuple[pd.DataFrame, np.ndarray]:
    """The complete table, and which cells are to be missing."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(CLUSTERS), ROWS)
    n = len(g)
    w = rng.normal(size=n)
    x = 0.3 * w + rng.normal(size=n)
    x = (x > 0).astype(int) if x_is == "two values" else x
    b = rng.normal(size=(CLUSTERS, 2)) * (0.7, 0.5)
    more = 0.4 * x * w if what == "product" else b[g, 1] * x
    y = 0.5 * x + 0.5 * w * (what == "product") + more + b[g, 0] + rng.normal(size=n)
    frame = pd.DataFrame({"g": g, "y": y, "x": x, "w": w})
    return (frame if what == "product" else frame.drop(columns="w")), rng.random(n) < 0.4


def value(fits) -> float:
    """The coefficient of the product, or the sd of the slopes (median over tables)."""
    if "x:w" in fits.names:
        return float(fits.estimates[:, fits.names.index("x:w")].mean())
    return float(np.median(np.exp(fits.components[:, fits.component_names.index("sd(x | g)")])))


def shifts(what: str, x_is: str, seed: int) -> list[float]:
    """The shifts by default, and by FCS with the missing terms added."""
    analysis, hidden = CELLS[what, x_is]
    frame, missing = table(what, x_is, seed)
    truth = value(bi.fit_each([frame], analysis))
    frame[hidden] = frame[hidden].astype(float).mask(missing)
    families = {"x": "bernoulli"} if x_is == "two values" and hidden == "x" else None
    data = bi.IncompleteData(frame, "g", families)
    model = bi.FCS(data)
    longer = eval(_call(model, congeniality(model, parse(analysis)).gaps), {"bi": bi, "data": data})
    made = [each.impute(M, seed=seed, cycles=CYCLES) for each in (model, longer)]
    return [value(bi.fit_each(list(imp), analysis)) - truth for imp in made]


def main() -> None:
    lines = [
        "# The bias of uncongenial analyses under FCS, and with the missing terms added",
        "",
        f"Made by `python -m tests.calibration.congenial` on {date.today()}, Python {platform.python_version()}.",
        f"Mean shift from the analysis of all cells, over {TABLES} tables; in brackets its Monte Carlo error.",
        "",
        "| analysis | incomplete | x | FCS by default | with the terms | left |",
        "|---|---|---|---|---|---|",
    ]
    for (what, x_is), (analysis, hidden) in CELLS.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", bi.StatisticalWarning)
            found = np.array([shifts(what, x_is, seed) for seed in range(TABLES)])
        mean, error = found.mean(axis=0), found.std(axis=0, ddof=1) / np.sqrt(TABLES)
        cells = [f"{m:.3f} ({e:.3f})" for m, e in zip(mean, error, strict=True)]
        code = analysis.replace("|", "\\|")
        cells.append(f"{mean[1] / mean[0]:.0%}")
        lines.append(f"| `{code}` | {hidden} | {x_is} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    Path(__file__).with_name("CONGENIAL_RESULTS.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
