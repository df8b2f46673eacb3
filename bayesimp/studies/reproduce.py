"""The published tables compared with ours, with differences in units of the Monte Carlo standard errors of both.

The papers print means over replicates without their Monte Carlo standard errors. We use the standard deviation between
our replicates, and the number of replicates that the paper states for the published mean:

    z = (ours - published) / sd sqrt(1/n + 1/n_published),     compared with t on n - 1 degrees of freedom
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from bayesimp.errors import SpecificationError
from bayesimp.studies import jolani, kunkel_kaizar
from bayesimp.studies.claims import claims_table
from bayesimp.studies.collected import Collected, collect
from bayesimp.studies.result import StudyResult
from bayesimp.studies.study import Study
from bayesimp.studies.tested import Reference

__all__ = ["NOT_REPRODUCED", "Reproduction", "beside", "compared", "published", "reproduce", "select"]

SIMULATION = {"III": "1", "IV": "2", "V": "2", "VI": "3", "VII": "4", "7": "5"}
HETEROGENEITY = {"1": "weak", "2": "moderate", "3": "strong"}
NOT_REPRODUCED = {
    "kunkel2017": {
        "figures 5, 6 and 7": "their values are in images only; tables V to VII contain part of figure 5",
        "tables III and IV, settings other than 6": "in the supplement, which is not in the text",
        "table V for simulation 1": "in the supplement",
        "simulation 5": "its estimates are in figure 7 only; ours are not compared",
        "tables VIII to XI": "the application; the patients' data are not public",
        "the study sizes of simulation 3": "the text gives their range and sum; ours are kunkel_kaizar.SIZES_3",
        "the brackets": "no Monte Carlo standard errors of means: behind psi of full data 2 sqrt(psi / (2 m))",
    },
    "jolani2025": {
        "tables 1, 2 and 3": "their values are in images; the text's claims about them are tested one by one",
        "figures 1 to 5, A1 to A5": "images; the text's claims about them are tested where the scenarios were run",
        "tables S1 to S3, figures S1 to S10": "in the supplement, which is not in the text",
        "tables 4 and 5": "the application; its values are in images, the 15 data sets are not in one public file",
    },
}


@dataclass(frozen=True)
class Reproduction:
    """What `reproduce` found: a table of numbers, a table of claims, and summaries of the simulations."""

    paper: str
    table: pd.DataFrame
    claims: pd.DataFrame
    collected: Collected


def published(paper: str = "kunkel2017") -> pd.DataFrame:
    """The numbers published in a paper: table, simulation, setting, method, term, estimate, bracket."""
    return pd.read_csv(
        str(files("bayesimp.studies") / "published" / f"{paper}.csv"), dtype={"simulation": str}
    )


def select(study: Study, scenarios: Sequence[str]) -> Study | None:
    """Scenarios whose names have all parts of one of the strings: "setting 6"; "binary, strong, n = 10"."""
    if not scenarios:
        return study

    def parts_of(text: str) -> set[str]:
        return {"".join(part.split()).lower() for part in text.split(",")}

    kept = [s for s in study.scenarios if any(parts_of(text) <= parts_of(s.name) for text in scenarios)]
    return replace(study, scenarios=kept) if kept else None


def beside(ours: pd.DataFrame, theirs: pd.DataFrame, replicates: int) -> pd.DataFrame:
    """Compare published means with ours: published, ours, mcse (of ours), sd, n, difference, z, p.

    Parameters
    ----------
    ours
        `StudyResult.summary` with labels simulation, setting, psi33.
    theirs
        `published`.
    replicates
        Number of replicates of the paper.
    """
    keys = ["simulation", "setting", "method", "term"]
    wide = ours[ours["measure"].isin(["mean", "empirical se"])].pivot_table(
        index=[*keys, "psi33", "truth", "n"], columns="measure", values="value", dropna=False, sort=False, observed=True
    )  # fmt: skip
    wide = wide.dropna(subset=["mean"]).reset_index()
    table = theirs.merge(wide, on=keys)
    table = table.rename(columns={"estimate": "published", "mean": "ours", "empirical se": "sd"})
    table["mcse"] = table["sd"] / np.sqrt(table["n"])
    table["difference"] = table["ours"] - table["published"]
    table["z"] = table["difference"] / (table["sd"] * np.sqrt(1 / table["n"] + 1 / replicates))
    table["p"] = 2 * stats.t.sf(np.abs(table["z"]), table["n"] - 1)
    columns = ["truth", "published", "bracket", "ours", "mcse", "sd", "n", "difference", "z", "p"]
    return table[["table", *keys, "psi33", *columns]]


def reproduce(
    paper: str,
    *,
    tables: Sequence[str] = (),
    scenarios: Sequence[str] = (),
    replicates: int | None = None,
    m: int | None = None,
    out: str | Path | None = None,
    workers: int | None = None,
    minutes: float | None = None,
    say: Callable[[str], None] = lambda text: None,
    made_by: str = "",
) -> Reproduction:
    """Run the simulations of a paper and compare its numbers with ours.

    Parameters
    ----------
    paper
        "kunkel2017" or "jolani2025".
    tables
        Kunkel & Kaizar: "III", "IV", "V", "VI", "VII", and "7" for simulation 5 (figure 7). Jolani: "1", "2", "3" (n =
        10, binary, by heterogeneity), "all" for the 120 scenarios. None: III to VII; 1 to 3.
    scenarios
        Names of scenarios or parts of names, see `select`.
    replicates, m
        Numbers of replicates and imputations; by default those of the paper, 200 x 60 and 1000 x 5.
    out
        Folder for the results, in which a stopped run is continued.
    workers, minutes
        As in `Study.run`; `minutes` applies to each simulation.
    made_by
        The command, which is kept with the results.

    Raises
    ------
    SpecificationError
        If the paper, a table or a scenario does not exist.
    """
    full = _replicates(paper)
    make = _kunkel if paper == "kunkel2017" else _jolani
    results: dict[str, StudyResult] = {}
    for name, study in make(tables, m):
        chosen = select(study, scenarios)
        if chosen is None:
            continue
        folder = None if out is None else Path(out) / name
        say(f"{name}: {len(chosen.scenarios)} scenarios x {replicates or full} data sets")
        results[name] = chosen.run(replicates or full, folder, workers=workers, minutes=minutes)
    if not results:
        raise SpecificationError(f"No scenario is called {' or '.join(map(repr, scenarios))}.")
    return compared(paper, collect(results, made_by), tables)


def compared(paper: str, collected: Collected, tables: Sequence[str] = ()) -> Reproduction:
    """The numbers and claims of a paper, compared with simulations that have been run.

    Parameters
    ----------
    paper, tables
        As in `reproduce`.
    collected
        Summaries of the simulations, from `read_collected` if they were run in several folders.

    Raises
    ------
    SpecificationError
        If there is no such paper, or the simulations are those of the other paper.
    """
    full = _replicates(paper)
    ours = collected.summary
    if ("simulation" in ours) != (paper == "kunkel2017"):
        raise SpecificationError(f"These are not results of the simulations of {paper}.")
    if paper == "jolani2025":
        return Reproduction(paper, _layout(ours), claims_table(ours), collected)
    theirs = published()
    asked = [t for t in (tables or SIMULATION) if t in set(theirs["table"])]
    table = beside(ours, theirs[theirs["table"].isin(asked)], full)
    return Reproduction(paper, table, pd.DataFrame(), collected)


def _replicates(paper: str) -> int:
    """Number of data sets of each scenario in the paper."""
    if paper not in NOT_REPRODUCED:
        raise SpecificationError(f"paper is one of {', '.join(NOT_REPRODUCED)}; got {paper!r}.")
    return 200 if paper == "kunkel2017" else 1000


def _known(tables: Sequence[str], known: Iterable[str]) -> None:
    for name in tables:
        if name not in known:
            raise SpecificationError(
                f"There is no table {name!r} to reproduce; there are {', '.join(known)}."
            )


def _kunkel(tables: Sequence[str], m: int | None) -> list[tuple[str, Study]]:
    """The simulations that the tables need; for settings 10 to 12 also with the text's Psi33, full data only."""
    _known(tables, SIMULATION)
    m = m or kunkel_kaizar.M
    asked = tables or ("III", "IV", "V", "VI", "VII")
    only_6 = {"1"} | ({"2"} if "V" not in asked else set())
    simulations = [s for s in ("1", "2", "3", "4", "5") if s in {SIMULATION[t] for t in asked}]
    out = []
    for simulation in simulations:
        if simulation == "5":
            out += [(f"simulation_{s}", kunkel_kaizar.kunkel2017(s, m=m)) for s in ("5a", "5b")]
            continue
        settings = [6] if simulation in only_6 else None
        out.append((f"simulation_{simulation}", kunkel_kaizar.kunkel2017(simulation, settings, m=m)))
        if settings is None:
            printed = kunkel_kaizar.kunkel2017(simulation, [10, 11, 12], psi33=[10.0])
            full = replace(printed, methods={"Full data": Reference()})
            out.append((f"simulation_{simulation}_psi33_10", full))
    return out


def _jolani(tables: Sequence[str], m: int | None) -> list[tuple[str, Study]]:
    _known(tables, [*HETEROGENEITY, "all"])
    m = m or jolani.M
    if "all" in tables:
        return [("all", jolani.jolani2025(m=m))]
    asked = tables or tuple(HETEROGENEITY)
    levels = [HETEROGENEITY[t] for t in asked]
    return [("tables", jolani.jolani2025(["binary"], levels, [10], mechanism=["MAR"], m=m))]


def _layout(ours: pd.DataFrame) -> pd.DataFrame:
    """Our results in the columns of Jolani's tables, with Monte Carlo standard errors."""
    names = {
        "mean": "Estimate", "bias": "Bias", "mean se": "Model SE", "empirical se": "Emp SE", "coverage z": "CR",
        "coverage": "CR (Barnard-Rubin)", "rmse": "RMSE",
    }  # fmt: skip
    terms = ["Intercept", "x1", "x2", "sd(Intercept | study)", "sd(x1 | study)"]
    ours = ours[ours["measure"].isin(names) & ours["term"].isin(terms)]
    keys = ["outcome", "heterogeneity", "studies", "systematic", "mechanism", "term", "method"]
    wide = ours.pivot_table(index=keys, columns="measure", values=["value", "mcse"], sort=False, dropna=False)
    wide = wide.dropna(how="all")
    out = wide.index.to_frame(index=False)
    for measure, name in names.items():
        out[name] = wide["value"][measure].to_numpy()
        out[f"{name} mcse"] = wide["mcse"][measure].to_numpy()
    counts = ours[ours["measure"] == "mean"].set_index(keys)["n"]
    out["n"] = counts.reindex(wide.index).to_numpy()
    return out


def verdict(table: pd.DataFrame) -> str:
    """How many differences exceed chance, by Bonferroni's rule at 5%, and how they are distributed."""
    z = table.loc[np.isfinite(table["z"]), ["z", "p"]]
    if not len(z):
        return "nothing to compare"
    over = int((z["p"] < 0.05 / len(z)).sum())
    spread = f", sd {z['z'].std(ddof=1):.2f}" if len(z) > 1 else ""
    return f"{over} of {len(z)} numbers differ (Bonferroni, 5%); mean z {z['z'].mean():.2f}{spread}"


def options_text(**options: Any) -> str:
    """Options in the form that the command line takes."""
    words = []
    for name, value in options.items():
        if value:
            values = value if isinstance(value, list | tuple) else [value]
            words.append(f"--{name} " + " ".join(f'"{v}"' if " " in str(v) else str(v) for v in values))
    return " ".join(words)
