"""`bayesimp reproduce`: a paper's simulations and its numbers next to ours, as files and on the terminal."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bayesimp.studies.collected import read_collected, write_collected
from bayesimp.studies.reproduce import (
    NOT_REPRODUCED,
    Reproduction,
    compared,
    options_text,
    reproduce,
    verdict,
)
from bayesimp.workflow.terminal import without_markdown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["reproduce_from", "reproduce_paper"]


def reproduce_paper(
    paper: str,
    tables: Sequence[str],
    scenarios: Sequence[str],
    replicates: int | None,
    imputations: int | None,
    workers: int | None,
    minutes: float | None,
    out: Path,
    say: Callable[[str], None],
) -> bool:
    """Run, write report.md and the tables into `out`; returns whether everything requested has been done."""
    out.mkdir(parents=True, exist_ok=True)
    command = f"bayesimp reproduce {paper} " + options_text(
        tables=list(tables), scenarios=list(scenarios), replicates=replicates, imputations=imputations,
        workers=workers, minutes=minutes, out=out,
    )  # fmt: skip
    done = reproduce(
        paper, tables=tables, scenarios=scenarios, replicates=replicates, m=imputations, out=out, workers=workers,
        minutes=minutes, say=say, made_by=command,
    )  # fmt: skip
    _write(done, command, out, say)
    say(f"\nWritten to {out}: report.md, tables, summaries, figures, and all replicates.")
    return bool(done.collected.runs["complete"].all())


def reproduce_from(
    paper: str, folders: Sequence[Path], tables: Sequence[str], out: Path, say: Callable[[str], None]
) -> bool:
    """The same report of simulations that were run in several folders; returns whether all of them are complete."""
    done = compared(paper, read_collected(folders), tables)
    out.mkdir(parents=True, exist_ok=True)
    options = options_text(**{"from": list(folders)}, tables=list(tables), out=out)
    _write(done, f"bayesimp reproduce {paper} {options}", out, say)
    say(f"\nWritten to {out}: report.md, tables, summaries and figures.")
    return bool(done.collected.runs["complete"].all())


def _write(done: Reproduction, command: str, out: Path, say: Callable[[str], None]) -> None:
    """Write and show the report; write the tables and figures."""
    import matplotlib.pyplot as plt

    lines = report(done, command)
    (out / "report.md").write_text("\n".join(lines) + "\n")
    done.table.to_csv(out / "table.csv", index=False)
    if len(done.claims):
        done.claims.to_csv(out / "claims.csv", index=False)
    for name, figure in _figures(done):
        figure.savefig(out / f"{name}.png", dpi=110)
        plt.close(figure)  # there are up to twenty
    write_collected(done.collected, out)
    say(without_markdown(lines))


def report(done: Reproduction, command: str) -> list[str]:
    """The report as Markdown."""
    lines = [
        f"# {done.paper}: published and ours", "", f"Made by `{command}`, bayesimp {version('bayesimp')}, Python "
        f"{platform.python_version()}, NumPy {np.__version__}.", "",
        "| simulation | scenarios | data sets of each | failed | CPU seconds |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for row in done.collected.runs.itertuples():
        count = f"{row.least}" if row.least == row.most else f"{row.least} to {row.most}"
        lines.append(
            f"| {row.run} | {row.scenarios} | {count} | {row.failed} of {row.units:,} | {row.cpu:.0f} |"
        )
    others = [made for made in done.collected.runs["made_by"].unique() if made and made != command]
    lines += ["", *(f"Run by `{made}`." for made in others), *([""] if others else [])]
    lines += [*(_kunkel(done.table) + _alone(done) if done.paper == "kunkel2017" else _jolani(done))]
    lines += ["## Events", "", *_events(done), "", "## What is not compared", ""]
    return lines + [f"- {what}: {why}." for what, why in NOT_REPRODUCED[done.paper].items()]


def _figures(done: Reproduction) -> Iterator[tuple[str, Figure]]:
    """The paper's figures, by name."""
    from bayesimp.plots.papers import jolani_figures, kunkel_figures

    ours = done.collected.summary
    return jolani_figures(ours) if done.paper == "jolani2025" else kunkel_figures(ours, done.table)


def _kunkel(table: pd.DataFrame) -> list[str]:
    lines = [
        "Means over data sets: published / ours (Monte Carlo standard error of ours) z. z: the difference in Monte Carlo",
        "standard errors of both, with the standard deviation between our data sets and 200 published data sets.", "",
    ]  # fmt: skip
    for name, group in table.groupby("table", sort=False):
        main = group[group["psi33"].isna()]
        lines += [
            f"## Table {name} (simulation {group['simulation'].iloc[0]})",
            "",
            f"{verdict(main)}.",
            "",
        ]
        several = group["term"].nunique() > 1
        column, index = ("term", "method") if several else ("method", "setting")
        lines += _crossed(group, index, column, several)
        for method, part in main.groupby("method", sort=False):
            lines.append(f"- {method}: {verdict(part)}")
        lines.append("")
    return lines


def _alone(done: Reproduction) -> list[str]:
    """Means of psi without a published number: other forms of the paper's methods, and simulation 5."""
    ours = done.collected.summary
    ours = ours[(ours["measure"] == "mean") & ours["term"].str.fullmatch(r"var\((Intercept|z) \| study\)")]
    known = set(zip(done.table["simulation"], done.table["setting"], done.table["method"], strict=True))
    keys = zip(ours["simulation"], ours["setting"], ours["method"], strict=True)
    ours = ours[[key not in known for key in keys]]
    if ours.empty:
        return []
    lines = ["## psi without a published number", ""]
    lines += [
        "| scenario | method | truth | mean (Monte Carlo standard error) | n |",
        "|---|---|---|---|---|",
    ]
    for _, row in ours.iterrows():
        value = f"{row['value']:.3f} ({row['mcse']:.3f})"
        lines.append(f"| {row['scenario']} | {row['method']} | {row['truth']:.3f} | {value} | {row['n']} |")
    return [*lines, ""]


def _crossed(group: pd.DataFrame, index: str, column: str, several: bool) -> list[str]:
    names = list(dict.fromkeys(group[column]))
    heads = [
        str(name).replace("|", "\\|") for name in names
    ]  # of "var(Intercept | study)", in a Markdown table
    lines = [f"| {index} | {'' if several else 'truth | '}{' | '.join(heads)} |"]
    lines.append("|" + "---|" * (len(names) + 1 + (not several)))
    for (key, psi33), part in group.groupby([index, "psi33"], sort=False, dropna=False):
        head = str(key) + ("" if np.isnan(psi33) else f", Psi33 = {psi33:g}")
        cells = [] if several else [f"{part['truth'].iloc[0]:.3f}"]
        for name in names:
            row = part[part[column] == name]
            cells.append(_cell(row.iloc[0]) if len(row) else "")
        lines.append(f"| {head} | {' | '.join(cells)} |")
    return [*lines, ""]


def _cell(row: pd.Series) -> str:
    return f"{row['published']:.3f} / {row['ours']:.3f} ({row['mcse']:.3f}) {row['z']:+.1f}"


def _jolani(done: Reproduction) -> list[str]:
    lines = [
        "Ours alone (Monte Carlo standard errors in brackets); CR: estimate -+ 1.96 se, m = 5, as in the paper.",
        "",
    ]
    keys = ["outcome", "heterogeneity", "studies", "systematic", "mechanism"]
    shown = ["Estimate", "Bias", "Model SE", "Emp SE", "CR", "CR (Barnard-Rubin)", "RMSE"]
    for key, group in done.table.groupby(keys, sort=False):
        outcome, heterogeneity, n, systematic, mechanism = key
        lines += [
            f"## {outcome}, {heterogeneity}, n = {n}, {systematic:.0%} systematically missing, {mechanism}",
            "",
        ]
        lines += [f"| term | method | {' | '.join(shown)} |", "|" + "---|" * (len(shown) + 2)]
        for _, row in group.iterrows():
            cells = [
                "" if np.isnan(row[name]) else f"{row[name]:.3f} ({row[f'{name} mcse']:.3f})"
                for name in shown
            ]
            term = row["term"].replace("|", "\\|")
            lines.append(f"| {term} | {row['method']} | {' | '.join(cells)} |")
        lines.append("")
    lines += [
        "## Claims of the text", "",
        "z: Monte Carlo standard errors for the claim (negative: against it), least and most over scenarios.", "",
        "| claim | verdict | scenarios | z least | z most | least at |", "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for _, row in done.claims.iterrows():
        z = ["" if np.isnan(row[name]) else f"{row[name]:.1f}" for name in ("z least", "z most")]
        lines.append(
            f"| {row['claim']} | {row['verdict']} | {row['scenarios']} | {z[0]} | {z[1]} | {row['least at']} |"
        )
    return [*lines, ""]


def _events(done: Reproduction) -> list[str]:
    lines = ["| simulation | method | event | data sets | count |", "|---|---|---|---|---|"]
    sets = done.collected.runs.set_index("run")["data_sets"]
    for row in done.collected.events.itertuples():
        lines.append(
            f"| {row.run} | {row.method} | {row.kind} | {row.data_sets} of {sets[row.run]} | {row.count:,} |"
        )
    return lines
