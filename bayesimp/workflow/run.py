"""Carry out a plan: read, impute, diagnose, analyse, write. Shared by `bayesimp check`, `run` and `demo`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property, partial
from importlib.metadata import version
from textwrap import fill
from typing import Any

import pandas as pd

from bayesimp.analysis.fit import Fits, fit_each
from bayesimp.analysis.pool import as_text
from bayesimp.diagnostics.convergence import Summary
from bayesimp.durable import checksum
from bayesimp.errors import BayesimpError, SpecificationError, StatisticalWarning
from bayesimp.imputation.result import Imputations
from bayesimp.progress import progress_bar, waiting
from bayesimp.workflow.folder import (
    Folder,
    beside,
    components_of,
    long_csv,
    long_parquet,
    versions,
)
from bayesimp.workflow.lock import LockCheck
from bayesimp.workflow.plan_mnar import run_mnar, tipping_points
from bayesimp.workflow.plan_records import AnalysisPlan
from bayesimp.workflow.prepare import Prepared
from bayesimp.workflow.trail import log_begin, log_end
from bayesimp.workflow.words import in_plan_words

__all__ = ["Captions", "run"]


class Captions:
    """The text between the tables; `bayesimp.workflow.demo` has more."""

    def missing(self, ready: Prepared) -> str:
        """Heading of the summary of missing values."""
        return "What is missing"

    def imputing(self, ready: Prepared) -> str:
        """Heading of the imputation."""
        return "The imputation model"

    def convergence(self, summary: Summary) -> str:
        """Heading of the diagnostics."""
        return "Convergence"

    def pooled(self, analysis: AnalysisPlan, table: pd.DataFrame, rows: tuple[int, int]) -> str:
        """Heading of an analysis."""
        return f"Analysis '{analysis.name}': {analysis.formula}"

    def files(self, folder: Folder) -> str:
        """Which files were written, and where."""
        return fill(f"Written to {folder.root}: {', '.join(folder.files)}", 100, break_on_hyphens=False)


@dataclass
class _Run:
    """One run on its way."""

    ready: Prepared
    folder: Folder
    say: Callable[[str], None]
    captions: Captions
    lock: LockCheck | None = None
    notes: list[str] = field(default_factory=list)
    started: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    def caption(self, text: str) -> None:
        self.say(f"\n{text}\n")

    @cached_property
    def source(self) -> dict[str, Any]:
        """Where the table is from, with its hash when the run began."""
        data = self.ready.plan.data
        if data.file is None:
            return {"example": data.example}
        return {"file": str(data.file), "sha256": checksum(data.file)}

    def record(self, status: str, command: str, imputations: Imputations | None) -> None:
        plan, data, source = self.ready.plan, self.ready.data, self.source
        self.folder.record({
            "bayesimp": version("bayesimp"), "command": command, "status": status, "started": self.started,
            "title": plan.title, "plan": str(plan.path), "seed": plan.impute.seed,
            "m": None if imputations is None else imputations.m, "m_planned": plan.impute.m,
            "data": {**source, "rows": len(data), "clusters": len(data.clusters)},
            "versions": versions(), "lock": None if self.lock is None else self.lock.record(), "notes": self.notes,
        })  # fmt: skip

    @contextmanager
    def step(self, name: str, wait: str = "", aloud: bool = True) -> Iterator[None]:
        """Time a step, show that it is running, and collect its warnings as notes."""
        with self.folder.timed(name), warnings.catch_warnings(record=True) as caught, waiting(wait):
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", StatisticalWarning)
            yield
        for warning in caught:
            self.note(str(warning.message), aloud)

    def note(self, text: str, aloud: bool = True) -> None:
        text = in_plan_words(text)
        if text not in self.notes:
            self.notes.append(text)
            if aloud:
                self.say(f"Note: {text}")


def run(
    ready: Prepared,
    folder: Folder,
    say: Callable[[str], None],
    captions: Captions | None = None,
    command: str = "run",
    lock: LockCheck | None = None,
) -> str:
    """Carry out a plan, writing each result as soon as it is ready.

    Returns
    -------
    How it ended, as in the record: "complete"; "interrupted", after writing what there was by then;
    "incomplete" if an analysis was not possible, which is reported, and the rest written.
    """
    this = _Run(ready, folder, say, captions or Captions(), lock)
    imputations = None
    status = "failed"
    this.record("running", command, None)
    log_begin(folder, ready, lock)
    for event in () if lock is None else lock.events():
        this.note(event.message)
    try:
        _missing(this)
        imputations = _impute(this)
        interrupted = any(event.kind == "interrupted" for event in imputations._events)
        if interrupted:
            this.note(f"Interrupted: going on with the {imputations.m} imputations made so far.")
        _judge(this, imputations)
        made = [_analyse(this, imputations, analysis) for analysis in ready.plan.analyses]
        if ready.plan.mnar is not None and not interrupted:
            made.append(_not_at_random(this))
        if ready.plan.output.figures:
            _figures(this, imputations)
        status = "interrupted" if interrupted else "complete" if all(made) else "incomplete"
    except KeyboardInterrupt:
        status = "interrupted"
    except BayesimpError as error:
        if "interrupted" not in str(error):
            raise
        status = "interrupted"
        this.note(str(error))
    finally:
        this.record(status, command, imputations)
        log_end(folder, status)
    this.caption(this.captions.files(folder))
    return status


def _missing(this: _Run) -> None:
    plan, data, folder = this.ready.plan, this.ready.data, this.folder
    this.caption(this.captions.missing(this.ready))
    this.say(repr(data))
    with this.step("missingness", "Drawing what is missing"):
        folder.text("plan.toml", plan.text)
        counts = data.counts.T.rename_axis(columns=None)
        folder.table("missingness.csv", data.summary(), index=True)
        folder.table("missing_cells.csv", counts.assign(rows=data.sizes), index=True)
        if plan.output.figures:
            from bayesimp.plots.missing import plot_missing

            folder.figure("missingness.png", lambda: plot_missing(data))


def _impute(this: _Run) -> Imputations:
    plan, folder = this.ready.plan, this.folder
    this.caption(this.captions.imputing(this.ready))
    this.say(repr(this.ready.model))
    with this.step("imputation", "Imputing (a new machine compiles first, once)"):
        imputations = this.ready.model.impute(**plan.impute.arguments(plan.model.type))
        imputations = imputations if this.lock is None else imputations.with_events(this.lock.events())
    this.say("\n" + repr(imputations))
    with this.step("writing imputations", "Saving the imputations"):
        imputations.save(folder.path("imputations.nc"))
        folder.table("events.csv", imputations.events)
    if plan.output.completed:
        write = {"csv": long_csv, "parquet": long_parquet}[plan.output.format]
        with this.step("writing completed tables"), progress_bar() as report:
            write(folder.path(f"completed.{plan.output.format}"), imputations, report)
    return imputations


def _judge(this: _Run, imputations: Imputations) -> None:
    with this.step("convergence", "Judging convergence", aloud=False):
        summary = imputations.summary()
        parts = {"parameter": summary.parameters, "imputed": summary.imputed}
        table = pd.concat(
            [part.rename_axis("name").reset_index().assign(what=what) for what, part in parts.items()]
        )
        this.folder.table("summary.csv", table[["what", *table.columns.drop("what")]])
        this.caption(this.captions.convergence(summary))
    this.say(repr(summary))


class _Watched:
    """Completed tables that report each use."""

    def __init__(self, imputations: Imputations, report: Callable[[str, int, int], None]) -> None:
        self.m, self._imputations, self._report = imputations.m, imputations, report
        self.model, self.rows = imputations.model, imputations.rows
        self.imputed_columns = imputations.imputed_columns

    def frame(self, k: int) -> pd.DataFrame:
        self._report("fitting", k, self.m)
        return self._imputations.frame(k)


def _analyse(this: _Run, imputations: Imputations, analysis: AnalysisPlan) -> bool:
    """Fit, pool and write; False if that is not possible, which must not stop the other results."""
    options = analysis.options(this.ready.data.cluster)
    try:
        with this.step(f"analysis {analysis.name}", "Fitting"), progress_bar() as report:
            fits = fit_each(_Watched(imputations, report), str(analysis.formula), **options)
            table = fits.pool().to_frame()
            components = (
                fits.pool_components(analysis.variance_scale).to_frame() if fits.component_names else None
            )
    except BayesimpError as error:
        this.note(f"Analysis '{analysis.name}' is not possible: {error}")
        return False
    complete, rows = None, (0, len(this.ready.data))
    if analysis.complete_case:
        with this.step(f"analysis {analysis.name}"):
            complete, rows = _complete_cases(this, analysis, options)
            table = beside(table, complete, rows[0])
            if components is not None:
                components = components.merge(components_of(complete), on="term", how="left")
    this.folder.table(f"pooled_{analysis.name}.csv", table)
    if fits.log:
        this.folder.table(f"events_{analysis.name}.csv", fits.events)
    this.caption(this.captions.pooled(analysis, table, rows))
    this.say(as_text(table))
    if components is not None:
        this.folder.table(f"components_{analysis.name}.csv", components)
        this.say("\n" + as_text(components))
    if this.ready.plan.output.figures:
        with this.step("figures", "Drawing the estimates"):
            from bayesimp.plots.pooled import plot_pooled

            results = {"imputed": fits.pool()} | ({} if complete is None else {"complete rows": complete[0]})
            this.folder.figure(f"pooled_{analysis.name}.png", lambda: plot_pooled(results))
    return True


def _not_at_random(this: _Run) -> bool:
    """The analyses with imputed values shifted; False if that is not possible, as in `_analyse`."""
    plan, folder = this.ready.plan, this.folder
    assert plan.mnar is not None
    try:
        with this.step("not at random", "Imputing values missing not at random"):
            result = run_mnar(plan, this.ready.model)
            tipping, words = tipping_points(result, plan.mnar.threshold)
    except BayesimpError as error:
        this.note(f"Values missing not at random: {error}")
        return False
    for name, table in (("mnar", result.table), ("mnar_imputed", result.imputed), ("mnar_tipping", tipping),
                        ("mnar_events", pd.DataFrame(result.events))):  # fmt: skip
        folder.table(f"{name}.csv", table)
    this.caption("Values missing not at random")
    this.say("\n\n".join([str(result).replace("see .events", "see mnar_events.csv"), *words]))
    if plan.output.figures:
        from bayesimp.plots.mnar import plot_mnar

        for name in result.analyses:
            draw = partial(plot_mnar, result, analysis=name, threshold=plan.mnar.threshold)
            with this.step("figures", f"Drawing mnar_{name}.png"):
                folder.figure(f"mnar_{name}.png", draw)
    return not any(event.kind == "interrupted" for _, event in result.log)


def _complete_cases(this: _Run, analysis: AnalysisPlan, options: dict) -> tuple[Fits | None, tuple[int, int]]:
    """The analysis of the rows that are complete in its columns, how many these are, and of how many."""
    frame = this.ready.data.frame
    rows = frame.dropna(subset=list(analysis.needed))
    try:
        return fit_each([rows], str(analysis.formula), **options), (len(rows), len(frame))
    except BayesimpError as error:
        this.note(
            f"Analysis '{analysis.name}' cannot be made of the {len(rows):,} complete rows alone: {error}"
        )
        return None, (len(rows), len(frame))


def _figures(this: _Run, imputations: Imputations) -> None:
    from bayesimp.plots.imputed import plot_imputed
    from bayesimp.plots.imputed_trace import plot_imputed_trace
    from bayesimp.plots.prior_posterior import plot_prior_posterior
    from bayesimp.plots.trace import plot_trace

    drawings: dict[str, Callable[[], Any]] = {
        "trace.png": lambda: plot_trace(imputations),
        "imputed_trace.png": lambda: plot_imputed_trace(imputations),
        "imputed.png": lambda: plot_imputed(imputations),
        "imputed_by_cluster.png": lambda: plot_imputed(imputations, by_cluster=True),
        "prior_posterior.png": lambda: plot_prior_posterior(imputations),
    }
    for name, draw in drawings.items():
        with this.step("figures", f"Drawing {name}"):
            try:
                this.folder.figure(name, draw)
            except SpecificationError as error:  # nothing imputed, every parameter fixed
                this.note(f"{name}: {error}")
