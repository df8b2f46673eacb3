"""What the study of engines found, class by class: losses, ties, and the engine that the rule chooses."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.engine_tables import Cell

__all__ = ["Evidence", "chosen", "evidence", "measures", "report"]

REFERENCE = "complete data"
FAILURES, UNMIXED, ERRORS, EQUAL = 0.05, 0.20, 2.0, 0.02  # of the rule of choice
Array = NDArray[np.float64]
Class = tuple[str, str, str, bool]


class Evidence(dict[str, tuple[Array, Array]]):
    """Engine -> (cells x terms, replicates) squared errors, and whether intervals cover (nan without one)."""

    def __init__(self, values: Mapping[str, tuple[Array, Array]], terms: list[str]) -> None:
        super().__init__(values)
        self.terms = terms


def class_of(cell: Cell) -> Class:
    """Covariates, outcome, few or many clusters, slope or not."""
    return cell.covariates, cell.outcome, "6 to 15" if cell.clusters <= 15 else "35, 100", cell.slope


def evidence(results: Mapping[Cell, Any], engines: Collection[str]) -> Evidence:
    """The replicates in which each of these engines has an estimate, of all cells of a class.

    A pair of cell and term is a row, whatever the number of replicates that the cell has; those it lacks are nan.
    """
    rows: dict[str, list[tuple[Array, Array]]] = {}
    terms: list[str] = []
    for result in results.values():
        frame = result.estimates.dropna(subset=["truth"])
        frame = frame[frame["method"].isin([REFERENCE, *engines])]
        frame = frame.assign(
            squared=(frame["estimate"] - frame["truth"]) ** 2,
            covered=np.where(
                frame["low"].isna(), np.nan, frame["truth"].between(frame["low"], frame["high"])
            ),
        )
        for term, own in frame.groupby("term", sort=False):
            by = {v: own.pivot(index="replicate", columns="method", values=v) for v in ("squared", "covered")}
            there = by["squared"].notna().all(axis=1)
            terms.append(str(term))
            for method in by["squared"]:
                pair = (
                    by["squared"][method].where(there).to_numpy(float),
                    by["covered"][method].to_numpy(float),
                )
                rows.setdefault(str(method), []).append(pair)
    longest = max(len(pair[0]) for pairs in rows.values() for pair in pairs)
    found = {
        m: tuple(np.array([_padded(p[k], longest) for p in pairs]) for k in (0, 1))
        for m, pairs in rows.items()
    }
    return Evidence(found, terms)  # type: ignore[arg-type]


def _padded(x: Array, n: int) -> Array:
    return np.concatenate([x, np.full(n - len(x), np.nan)])


def measures(found: Evidence, keep: Any = slice(None)) -> dict[str, Array]:
    """Engine -> (loss, lack of coverage), from the replicates that are kept.

    loss = mean over cells and terms of log(RMSE / RMSE of the complete data);
    lack = max over terms of the mean over cells of min(0.95, coverage of the complete data) - coverage.
    """
    reference, seen = (x[:, keep] for x in found[REFERENCE])
    target = np.minimum(0.95, np.nanmean(seen, axis=1))
    out = {}
    for engine, (squared, covered) in found.items():
        if engine != REFERENCE:
            there = np.nanmean(squared[:, keep], axis=1) / np.nanmean(reference, axis=1)
            lack = pd.Series(target - np.nanmean(covered[:, keep], axis=1)).groupby(found.terms).mean()
            out[engine] = np.array([np.log(there).mean() / 2, lack.max()])
    return out


def differences(found: Evidence) -> dict[str, tuple[Array, Array]]:
    """Engine -> measures less the smallest of all engines, and the jackknife standard error of each difference."""
    n = found[REFERENCE][0].shape[1]
    whole = measures(found)
    best = [min(whole, key=lambda e, k=k: whole[e][k]) for k in (0, 1)]
    without = [measures(found, np.arange(n) != r) for r in range(n)]
    out = {}
    for engine in whole:
        value = np.array([whole[engine][k] - whole[best[k]][k] for k in (0, 1)])
        each = np.array([[w[engine][k] - w[best[k]][k] for k in (0, 1)] for w in without])
        out[engine] = value, np.sqrt((n - 1) / n * ((each - each.mean(axis=0)) ** 2).sum(axis=0))
    return out


def chosen(
    apart: Mapping[str, tuple[Array, Array]],
    failed: Mapping[str, float],
    unmixed: Mapping[str, float],
    seconds: Mapping[str, float],
) -> tuple[str, list[str]]:
    """The engine that the rule chooses, and all that it ties with.

    Where no engine is tied in both measures, the one with the smallest loss is chosen.
    """
    allowed = [e for e in apart if failed[e] <= FAILURES and unmixed[e] <= UNMIXED] or list(apart)
    tied = [e for e in allowed if (apart[e][0] <= np.maximum(ERRORS * apart[e][1], EQUAL)).all()]
    if not tied:
        return min(allowed, key=lambda e: float(apart[e][0][0])), []
    return min(tied, key=lambda e: seconds[e]), tied


def chains(
    results: Mapping[Cell, Any],
) -> tuple[dict[str, float], dict[str, tuple[int, int]], dict[str, float]]:
    """By engine: median CPU seconds (mean over cells), data sets that do not mix and those examined, share failed."""
    seconds: dict[str, list[float]] = {}
    looked: dict[str, list[bool]] = {}
    failures: dict[str, list[float]] = {}
    for result in results.values():
        events = result.events
        events = events[events["kind"] == "warning"]
        for method, own in events.groupby("method"):
            text = own["message"]
            took = text.str.extract(r"^imputed in (\S+) s")[0].dropna().astype(float)
            seconds.setdefault(method, []).append(took.median())
            verdicts = text[text.str.startswith("examined")]
            looked.setdefault(method, []).extend(verdicts.str.contains("Does NOT mix"))
        for method, own in result.units.groupby("method"):
            failures.setdefault(method, []).append(own["error"].notna().mean())
    return (
        {m: float(np.mean(s)) for m, s in seconds.items()},
        {m: (sum(v), len(v)) for m, v in looked.items()},
        {m: float(np.mean(f)) for m, f in failures.items()},
    )


HEAD = (
    "| covariates, outcome | clusters | random slope | cells | engine | loss | above the least | lack of coverage | "
    "above the least | does not mix | failed | CPU, s | |\n" + "|---" * 13 + "|\n"
)


def report(results: Mapping[Cell, Any], blind: Collection[str]) -> str:
    """Classes by the rule, with all engines and with those that need no analysis, and all cells of a kind together."""
    present = {cell: set(result.units["method"]) - {REFERENCE} for cell, result in results.items()}
    every = list(dict.fromkeys(name for names in present.values() for name in sorted(names)))
    return (
        'Monte Carlo standard errors in brackets; "cells" also says how many replicates all engines of the line have.\n'
        "CPU: median of an imputation of m = 10, mean over cells.\n\n"
        "## All engines\n\n" + _lines(results, every, class_of) + "\n## Engines that need no analysis\n\n"
        "These have more replicates.\n\n"
        + _lines(results, blind, class_of)
        + "\n## All cells of a kind together\n\nAdded after the first results, which showed how little a few replicates "
        "say of a class.\n\n" + _lines(results, every, kind_of) + "\n" + _lines(results, blind, kind_of)
    )


def kind_of(cell: Cell) -> tuple[str, str, str, str]:
    """Covariates and outcome only."""
    return cell.covariates, cell.outcome, "all", "both"


def _lines(results: Mapping[Cell, Any], engines: Collection[str], key_of: Callable[[Cell], Any]) -> str:
    """One line for each class and engine, with what the rule chooses."""
    lines = []
    for key in dict.fromkeys(key_of(cell) for cell in results):
        own = {cell: result for cell, result in results.items() if key_of(cell) == key}
        there = {c: set(r.units["method"]) & set(engines) for c, r in own.items()}
        wanted = set().union(*there.values())
        own = {c: r for c, r in own.items() if there[c] == wanted}  # cells that were reached by all of them
        if len(wanted) < 2 or not own:
            continue
        found = evidence(own, wanted)
        whole, apart = measures(found), differences(found)
        seconds, looked, failed = chains(own)
        unmixed = {e: looked[e][0] / max(looked[e][1], 1) if e in looked else 0.0 for e in whole}
        best, tied = chosen(apart, failed, unmixed, seconds)
        n = (~np.isnan(found[REFERENCE][0])).sum(axis=1)
        slope = key[3] if isinstance(key[3], str) else "yes" if key[3] else "no"
        for engine, (loss, lack) in whole.items():
            value, se = apart[engine]
            word = "**chosen**" if engine == best else "tied" if engine in tied else ""
            mixed = f"{looked[engine][0]} of {looked[engine][1]}" if engine in looked else "none examined"
            lines.append(
                f"| {key[0]}, {key[1]} | {key[2]} | {slope} | {len(own)} ({n.min()} to {n.max()}) | {engine} | "
                f"{loss:.3f} | {value[0]:.3f} ({se[0]:.3f}) | {lack:.3f} | {value[1]:.3f} ({se[1]:.3f}) | {mixed} | "
                f"{failed[engine]:.0%} | {seconds[engine]:.2f} | {word} |"
            )
    return HEAD + "\n".join(lines) + "\n"


def by_term(results: Mapping[Cell, Any]) -> pd.DataFrame:
    """Bias, RMSE and coverage of every engine and term, and paired differences from the first engine of the cell."""
    parts = []
    for cell, result in results.items():
        summary = result.summary()
        kept = summary["measure"].isin(["bias", "rmse", "coverage"]) & summary["truth"].notna()
        parts.append(summary[kept].rename(columns={"method": "engine"}))
        engines = [name for name in result.units["method"].unique() if name != REFERENCE]
        for engine in engines[1:]:
            paired = result.compare(engine, engines[0])
            known = paired["term"].isin(cell.truth) & paired["measure"].isin(
                ["difference", "rmse", "coverage"]
            )
            parts.append(paired[known].rename(columns={"comparison": "engine"}))
    table = pd.concat(parts, ignore_index=True)
    return table[["scenario", "engine", "term", "measure", "value", "mcse", "n"]].round(4)


def plain(name: str) -> str:
    """The name of a cell as that of a folder."""
    return re.sub(r"[ ,]+", "_", name)
