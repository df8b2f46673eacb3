"""Claims in the text of Jolani (2025, section 3.3), each tested on the scenarios that were run.

The paper does not say which bias is trivial or what is close to a level; our bounds are a bias of 0.10 beyond that of the
reference, and 3 points of coverage.

A claim holds if every scenario agrees with it within two Monte Carlo standard errors, and at least one by more than two;
it fails if some scenario contradicts it by more than the Bonferroni limit of 5%; otherwise it is open.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy import stats

__all__ = ["Claim", "claims", "claims_table"]

RIVALS = ("CCA", "STI", "MLMI-published", "2STG")
LABELS = ("outcome", "heterogeneity", "studies", "systematic", "mechanism")


@dataclass(frozen=True)
class Claim:
    """One claim.

    Attributes
    ----------
    words
        The wording of the paper.
    where
        Labels of the scenarios that the claim concerns.
    method, term, measure
        The quantity that the claim concerns.
    kind
        "below", "above": relative to `bound`; "near": within `bound` of zero (bias beyond that of REF) or of 95%
        (coverage); "largest", "smallest": by |value| among the paper's methods.
    """

    words: str
    where: Mapping[str, tuple[Any, ...]]
    method: str
    term: str
    measure: str
    kind: Literal["below", "above", "near", "largest", "smallest"]
    bound: float = 0.0
    among: tuple[str, ...] = field(default=RIVALS)


@cache
def claims() -> tuple[Claim, ...]:
    """The claims in published/jolani2025_claims.csv; an empty label means any, and "|" separates several."""
    frame = pd.read_csv(str(files("bayesimp.studies") / "published" / "jolani2025_claims.csv"), dtype=str)
    kinds: dict[str, Any] = {"studies": int, "systematic": float}
    out = []
    for row in frame.fillna("").to_dict("records"):
        where = {
            label: tuple(kinds.get(label, str)(value) for value in row[label].split("|"))
            for label in LABELS
            if row[label]
        }
        what = (row["method"], row["term"], row["measure"], row["kind"], float(row["bound"]))
        out.append(Claim(row["claim"], where, *what))
    return tuple(out)


def claims_table(ours: pd.DataFrame) -> pd.DataFrame:
    """One row per claim: verdict, number of scenarios, smallest and largest z (positive: supports the claim), and the
    scenario with the smallest. `ours`: `StudyResult.summary` of the scenarios that were run.
    """
    return pd.DataFrame([_tested(claim, ours) for claim in claims()])


def _tested(claim: Claim, ours: pd.DataFrame) -> dict[str, Any]:
    at = (ours["term"] == claim.term) & (ours["measure"] == claim.measure)
    for label, value in claim.where.items():
        at &= ours[label].isin(value)
    by_scenario = {
        name: group.set_index("method") for name, group in ours[at].groupby("scenario", sort=False)
    }
    row: dict[str, Any] = {"claim": claim.words}
    z = {name: _support(claim, group) for name, group in by_scenario.items() if claim.method in group.index}
    z = {name: _as_normal(value, by_scenario[name]) for name, value in z.items() if np.isfinite(value)}
    if not z:
        return row | {
            "verdict": "not run",
            "scenarios": 0,
            "z least": np.nan,
            "z most": np.nan,
            "least at": "",
        }
    worst = min(z, key=z.__getitem__)
    low, high = z[worst], max(z.values())
    against = -float(stats.norm.isf(0.05 / len(z)))
    verdict = "fails" if low < against else "holds" if low > -2 and high > 2 else "open"
    return row | {"verdict": verdict, "scenarios": len(z), "z least": low, "z most": high, "least at": worst}


def _support(claim: Claim, group: pd.DataFrame) -> float:
    """By how many Monte Carlo standard errors a scenario supports the claim; negative if it contradicts it."""
    value, mcse = float(group.loc[claim.method, "value"]), _error(group.loc[claim.method])
    if claim.kind in ("below", "above"):
        return (claim.bound - value if claim.kind == "below" else value - claim.bound) / mcse
    if claim.kind == "near":
        if claim.measure == "bias":
            centre = float(group.loc["REF", "value"]) if "REF" in group.index else 0.0
        else:
            centre = 0.95
        return (claim.bound - abs(value - centre)) / mcse
    others = [name for name in claim.among if name != claim.method and name in group.index]
    if not others:
        return np.nan
    sign = 1.0 if claim.kind == "largest" else -1.0
    scores = []
    for name in others:
        gap = abs(value) - abs(float(group.loc[name, "value"]))
        scores.append(sign * gap / np.hypot(mcse, _error(group.loc[name])))
    return min(scores)


def _as_normal(z: float, group: pd.DataFrame) -> float:
    """The normal score of a t value, since standard errors from few replicates are uncertain."""
    df = max(float(group["n"].min()) - 1, 1.0)
    return float(np.sign(z) * stats.norm.isf(stats.t.sf(abs(z), df)))


def _error(row: pd.Series) -> float:
    """Monte Carlo standard error; for a coverage of 0 or 1, that of half a replicate."""
    if row["mcse"] > 0:
        return float(row["mcse"])
    n = float(row["n"])
    return float(np.sqrt(0.5 / n * (1 - 0.5 / n) / n)) if n else np.nan
