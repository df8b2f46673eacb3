"""Carry out a plan: read, impute, diagnose, analyse, write. Shared by `bayesimp check`, `run` and `demo`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd

from bayesimp.analysis.fit import Fits, fit_each
from bayesimp.analysis.pooled_text import as_text
from bayesimp.errors import BayesimpError, SpecificationError
from bayesimp.imputation.result import Imputations
from bayesimp.progress import progress_bar, waiting
from bayesimp.workflow.folder import (
    Folder,
    beside,
    components_of,
    long_csv,
    long_parquet,
)
from bayesimp.workflow.lock import LockCheck
from bayesimp.workflow.plan_records import AnalysisPlan
from bayesimp.workflow.prepare import Prepared
from bayesimp.workflow.running import Captions, Running
from bayesimp.workflow.trail import log_begin, log_end
from bayesimp.workflow.what_if import not_at_random, under_priors

__all__ = ["Captions", "run"]


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
    How the run ended, as in the record: "complete"; "interrupted", after writing the results so far;
    "incomplete" if an analysis was not possible, which is reported, with everything else written.
    """
    this = Running(ready, folder, say, captions or Captions(), lock)
    imputations = None
    status = "failed"
    this.record("running", command, None)
    log_begin(folder, ready, lock)
    for event in () if lock is None else lock.events():
        this.note(event.message)
    try:
        _missing(this)
        imputations = _impute(this)
        interrupted = any(event.kind == "interrupted" for event in imputations.log)
        if interrupted:
            this.note(f"Interrupted: continuing with the {imputations.m} imputations made so far.")
        _judge(this, imputations)
        made = [_analyse(this, imputations, analysis) for analysis in ready.plan.analyses]
        if ready.plan.mnar is not None and not interrupted:
            made.append(not_at_random(this))
        if ready.plan.sensitivity is not None and not interrupted:
            made.append(under_priors(this))
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
        reports = () if ready.plan.report is None or imputations is None else ready.plan.report.files
        for file in reports:  # named before the log has the hash of the record
            folder.path(file)
        this.record(status, command, imputations)
        log_end(folder, status)
    if reports:
        _report(this)
    this.caption(this.captions.files(folder))
    return status


def _missing(this: Running) -> None:
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


def _impute(this: Running) -> Imputations:
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


def _judge(this: Running, imputations: Imputations) -> None:
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


def _analyse(this: Running, imputations: Imputations, analysis: AnalysisPlan) -> bool:
    """Fit, pool and write; returns False if that is not possible, which must not stop the other results."""
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


def _report(this: Running) -> None:
    """Write the reports of [report] from the folder of the run."""
    from bayesimp.workflow.reporting import write_report

    own, folder = this.ready.plan.report, this.folder
    assert own is not None
    for file in own.files:
        with waiting(f"Writing {file}"):
            write_report(folder.root, folder.root / file, own.figures, this.say)


def _complete_cases(
    this: Running, analysis: AnalysisPlan, options: dict
) -> tuple[Fits | None, tuple[int, int]]:
    """The analysis of the rows that are complete in its columns, with their number and the number of all rows."""
    frame = this.ready.data.frame
    rows = frame.dropna(subset=list(analysis.needed))
    try:
        return fit_each([rows], str(analysis.formula), **options), (len(rows), len(frame))
    except BayesimpError as error:
        this.note(
            f"Analysis '{analysis.name}' is not possible with the {len(rows):,} complete rows alone: {error}"
        )
        return None, (len(rows), len(frame))


def _figures(this: Running, imputations: Imputations) -> None:
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
