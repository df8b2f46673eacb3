"""What the page of `bayesimp explore` says: the verdict, tables, units, and the command that opens it."""

from __future__ import annotations

import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd

from bayesimp.errors import SpecificationError
from bayesimp.markup import block, paragraph, table
from bayesimp.messages import signed
from bayesimp.workflow.explore import BASELINE, PLANNED, SHOWN, STEPS, Answer, Delta, Exploration, open_plan

__all__ = [
    "block",
    "forest",
    "heading",
    "numbers",
    "remarks",
    "serve",
    "table_html",
    "unit",
    "verdict",
    "verdict_html",
]

PAGE = Path(__file__).with_name("explore_page.py")
UNITS = {
    "identity": "in the units of the variable",
    "matching": "in the units of the variable, before matching",
    "logit": "log odds",
    "log": "log mean",
    "probit": "standard deviations of the latent normal variable",
    "utility": "latent utility of every level but the first",
}


def verdict(exploration: Exploration, answer: Answer) -> str:
    """What the assumption changes, in sentences with numbers.

    The largest change is given with the Monte Carlo errors of both estimates; they share a seed, so the error of their
    difference is smaller.
    """
    if exploration.is_planned(answer.assumption):
        return "This is the plan itself: no assumption has been changed."
    rows = answer.table[answer.table["part"] == "fixed effect"]
    own, base = (rows[rows["assumption"] == name].set_index("term") for name in (SHOWN, BASELINE))
    changes = own["change"].abs()
    if changes.isna().all():
        return _sides(own, base)
    term = str(changes.idxmax())
    new, old = own.loc[term], base.loc[term]
    error = float(np.hypot(new["mc.error"], old["mc.error"]))
    chance = ", within Monte Carlo error" if abs(new["estimate"] - old["estimate"]) <= 2 * error else ""
    return (
        f"{_sides(own, base)} The largest change is that of {term}: from {old['estimate']:.4g} to {new['estimate']:.4g}, "
        f"{signed(new['change'])} of its planned standard error{chance} "
        f"(Monte Carlo errors {old['mc.error']:.2g} and {new['mc.error']:.2g})."
    )


def _sides(own: pd.DataFrame, base: pd.DataFrame) -> str:
    """Whether intervals lie on the same side of 0 as those of the plan."""
    words = {"in": "includes 0", "above": "is above 0", "below": "is below 0"}
    new, old = (
        pd.Series(np.select([t["conf.low"] > 0, t["conf.high"] < 0], ["above", "below"], "in"), t.index)
        for t in (own, base)
    )
    other = [term for term in own.index if new[term] != old.get(term)]
    if not other:
        some = "the only coefficient" if len(own) == 1 else f"all {len(own)} coefficients"
        return f"Whether an interval includes 0 is as planned for {some}."
    parts = [f"that of {term} {words[new[term]]}, and as planned {words[old[term]]}" for term in other]
    return f"THE CONCLUSION DEPENDS ON THIS: of the intervals, {'; '.join(parts)}."


def heading(exploration: Exploration, answer: Answer | None) -> str:
    """One line: rows, clusters, and what is shown."""
    data = exploration.ready.data
    text = f"{len(data):,} rows, {len(data.clusters):,} clusters ({data.cluster})"
    if answer is None:
        return text
    own = answer.assumption
    prior = (
        "prior as planned" if own.family == PLANNED else f"{own.family}({own.nu:g}), scale {own.scale:g} sd"
    )
    moved = [f"{name} {number:+g}" for name, number in own.delta.items() if number]
    return f"{text}; {prior}; {', '.join(moved) or 'missing at random'}"


def verdict_html(exploration: Exploration, answer: Answer) -> str:
    """The verdict as HTML."""
    style = "overflow-wrap: anywhere; border-left: 4px solid #0072b2; padding: 0.2em 1em;"
    return f'<div id="verdict" style="{style}">{paragraph(verdict(exploration, answer))}</div>'


def forest(answer: Answer) -> dict[str, pd.DataFrame]:
    """Estimates and intervals as planned and as shown, for `bayesimp.plot_pooled`."""
    rows = answer.table[answer.table["part"] == "fixed effect"]
    return {name: rows[rows["assumption"] == name] for name in (BASELINE, SHOWN)}


def table_html(answer: Answer) -> str:
    """The pooled table: estimates and intervals as shown, next to those as planned."""
    columns = ["estimate", "std.error", "conf.low", "conf.high", "fmi", "change", "mc.error"]
    by = {
        name: own.set_index(["part", "term"]) for name, own in answer.table.groupby("assumption", sort=False)
    }
    rows = by[SHOWN][columns].copy()
    old = by[BASELINE].reindex(rows.index)
    rows["change"] = [signed(x) if np.isfinite(x) else "" for x in rows["change"]]
    rows["as planned"] = [
        f"{e:.4g}" + (f" [{low:.4g}, {high:.4g}]" if np.isfinite(low) else "")
        for e, low, high in zip(old["estimate"], old["conf.low"], old["conf.high"], strict=True)
    ]
    shown = rows.reset_index().drop(columns="part")
    note = "change: in standard errors of the planned estimate; mc.error: Monte Carlo error of the estimate"
    return f'<div id="pooled" style="font-size: 0.9em;">{table(shown)}{paragraph(note)}</div>'


def remarks(answer: Answer) -> list[str]:
    """Events of the imputations, and statistical warnings, as texts."""
    events = [f"{e.kind}, {e.where}: {e.message}" for e in answer.imputations.log]
    return list(dict.fromkeys([*events, *answer.warnings]))


def numbers(delta: Delta) -> list[float]:
    """The numbers on the slider of a delta, in order, including 0 and the planned delta."""
    grid = {round(k * delta.step, 10) for k in range(-STEPS, STEPS + 1)}
    return sorted({*grid, 0.0, delta.planned})


def unit(delta: Delta) -> str:
    """The unit of a delta."""
    return UNITS.get(delta.link, delta.link)


def serve(plan: Path, port: int | None, browser: bool) -> int:
    """Check the plan, then show its page until Ctrl-C; returns the exit status of the server.

    The page is served to this computer only, and requires the token in the address that is printed.

    Raises
    ------
    DataError, SpecificationError
        The plan cannot be used, or marimo is not installed.
    """
    if find_spec("marimo") is None:
        raise SpecificationError(
            "explore needs marimo, which is not installed; install it with  pip install 'bayesimp[explore]'."
        )
    open_plan(plan)
    command = [sys.executable, "-m", "marimo", "run", str(PAGE), "--token"]
    command += [] if port is None else ["--port", str(port)]
    command += [] if browser else ["--headless"]
    return run_server([*command, "--", "--plan", str(plan.absolute())])


def run_server(command: list[str]) -> int:
    """Run a server until it ends, or end it when this process is asked to end (SIGTERM); returns its exit status."""
    with subprocess.Popen(command) as server:
        before = signal.signal(signal.SIGTERM, lambda *_: server.terminate())
        try:
            return server.wait()
        finally:
            server.terminate()
            signal.signal(signal.SIGTERM, before)
