"""How often imputed values diverge if a count and a normal variable predict each other
(fcs/specification/feedback.py).

    c ~ Poisson or negative binomial, log mean .5 + .4 x + b;   x ~ z + effect of the study;   40 rows a study

c is missing in 15 % of the rows and in whole studies, x in 15 % of the rows. Thirty tables per cell, 5 imputations by 10
cycles, `bayes`: with default formulas, and with the untransformed count. `python -m tests.calibration.feedback`
rewrites FEEDBACK_RESULTS.md.
"""

import platform
import warnings
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd

import bayesimp as bi
from bayesimp.errors import SamplingError

TABLES, M, CYCLES = 30, 5, 10
CELLS = [(5, 1), (15, 1), (15, 0)]  # studies that observe the count, and that do not
FORMULAS = {"default": None, "count as it is": ["c ~ x + z + (1 | study)", "x ~ c + z + (1 | study)"]}
HUGE = 100  # times the largest observed count


def table(seen: int, unseen: int, family: str, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng([seen, unseen, seed, family == "poisson"])
    g = np.repeat(np.arange(seen + unseen), 40)
    n = len(g)
    z = rng.normal(size=n)
    x = 0.5 * z + 0.5 * rng.normal(size=seen + unseen)[g] + rng.normal(size=n)
    mean = np.exp(0.5 + 0.4 * x + 0.5 * rng.normal(size=seen + unseen)[g])
    c = rng.poisson(mean if family == "poisson" else mean * rng.gamma(2.0, 0.5, n)).astype(float)
    c[(g >= seen) | (rng.random(n) < 0.15)] = np.nan
    x[rng.random(n) < 0.15] = np.nan
    return pd.DataFrame({"study": g, "c": c, "x": x, "z": z})


def outcome(frame: pd.DataFrame, family: str, formulas, seed: int) -> str:
    """ "ended" in an error, "huge" imputed counts, or ""."""
    data = bi.IncompleteData(frame, "study", {"c": family})
    try:
        imp = bi.FCS(data, predictors=formulas).impute(M, cycles=CYCLES, seed=seed, progress=False)
    except SamplingError:
        return "ended"
    return "huge" if imp.values("c").max() > HUGE * frame["c"].max() else ""


def main() -> None:
    warnings.simplefilter("ignore")
    lines = [
        "# Counts and normal variables that predict each other: runs that ended in an error",
        "",
        f"Made by `python -m tests.calibration.feedback` on {date.today()}, Python {platform.python_version()}.",
        f"{TABLES} tables a cell; in brackets: other runs with imputed counts above {HUGE} x the largest observed.",
        "",
        "| family | studies with the count, without | " + " | ".join(FORMULAS) + " |",
        "|---|---|---|---|",
    ]
    total = dict.fromkeys(FORMULAS, 0)
    for family in ("poisson", "negative_binomial"):
        for seen, unseen in CELLS:
            shown = []
            for name, formulas in FORMULAS.items():
                found = [outcome(table(seen, unseen, family, k), family, formulas, k) for k in range(TABLES)]
                total[name] += found.count("ended")
                shown.append(f"{found.count('ended')} ({found.count('huge')})")
            lines.append(f"| {family} | {seen}, {unseen} | {' | '.join(shown)} |")
            print(lines[-1], flush=True)
    runs = 2 * len(CELLS) * TABLES
    lines.append(f"| all, of {runs} | | {' | '.join(str(n) for n in total.values())} |")
    Path(__file__).with_name("FEEDBACK_RESULTS.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
