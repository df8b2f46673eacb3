"""The command `bayesimp`: demo, check, lock, run, report, explore, verify-log, replay, verify, site, reproduce.

Exit status: 0 done; 1 the data or the plan cannot be used, as a message explains; 2 wrong usage; 130 interrupted, after
writing the results so far.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from bayesimp.errors import BayesimpError, SpecificationError
from bayesimp.workflow.terminal import Parser, say

if TYPE_CHECKING:
    from bayesimp.workflow.plan import Plan
    from bayesimp.workflow.prepare import Prepared

__all__ = ["main"]

DONE, REFUSED, INTERRUPTED = 0, 1, 130
ENDINGS = {
    "interrupted": "Interrupted; the results so far have been written.",
    "incomplete": "An analysis was not possible, see the notes above; everything else has been written.",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status. Usage errors and --help leave through SystemExit."""
    options = _parser().parse_args(arguments)
    try:
        return options.command(options)
    except BayesimpError as error:
        return _refuse(str(error))
    except KeyboardInterrupt:
        say("Interrupted before there were any results to keep.", error=True)
        return INTERRUPTED
    except BrokenPipeError:  # bayesimp check plan.toml | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return REFUSED
    except OSError as error:
        return _refuse(f"{error.filename or 'file'}: {error.strerror or error}")


def check(options: argparse.Namespace) -> int:
    """Read the plan and the data, and report what would be done."""
    from bayesimp.analysis.congenial import congeniality
    from bayesimp.workflow.plan import read_plan

    plan = read_plan(options.plan)
    ready = _prepared(plan)
    say(f"{plan.path}: {plan.title or 'a plan'}\n\n{ready.data!r}\n\n{ready.model!r}\n")
    say(plan.impute.describe(plan.model.type))
    for analysis in plan.analyses:
        said = [analysis.family, *([] if analysis.link is None else [analysis.link])]
        said += [f"{key} '{column}'" for key, column in analysis.columns.items()]
        said += [f"{analysis.quadrature} nodes of quadrature"] if analysis.quadrature > 1 else []
        said += ["compared with complete rows"] if analysis.complete_case else []
        say(f"analysis '{analysis.name}': {analysis.formula}   ({', '.join(said)})")
        verdict = congeniality(ready.model, analysis.formula, offset=analysis.columns.get("offset"))
        if text := verdict.warning():
            say(f"Note: {text}")
    if not plan.analyses:
        say("no analysis")
    if plan.mnar is not None:
        from bayesimp.workflow.plan_mnar import describe_mnar

        say(describe_mnar(plan, ready.model))
    if plan.sensitivity is not None:
        from bayesimp.workflow.plan_sensitivity import describe_sensitivity

        say(describe_sensitivity(plan))
    if plan.report is not None:
        say(f"report: {', '.join(plan.report.files)}")
    say("\nThe plan can be run.")
    return DONE


def run(options: argparse.Namespace) -> int:
    """Carry out a plan."""
    from bayesimp.workflow.plan import read_plan

    plan = read_plan(options.plan)
    return _carry_out(plan, options.out, options.overwrite, options.despite_lock)


def report(options: argparse.Namespace) -> int:
    """Write the report of a run."""
    from bayesimp.workflow.reporting import report_folder

    with _waiting("Writing the report"):
        path = report_folder(options.folder, options.out, not options.without_figures)
    say(f"Written to {path}")
    return DONE


def explore(options: argparse.Namespace) -> int:
    """Show the page of a plan, on which the prior and deltas can be moved."""
    from bayesimp.workflow.explore_words import serve

    return serve(options.plan, options.port, not options.no_browser)


def demo(options: argparse.Namespace) -> int:
    """Carry out the plan that comes with the package, with comments on the results."""
    from bayesimp.workflow.folder import earlier_record

    again = earlier_record(options.out).get("command") == "demo"
    say("bayesimp on examination marks of pupils in schools.")
    return _carry_out(None, options.out, options.overwrite or again)


def reproduce(options: argparse.Namespace) -> int:
    """Run the simulations of a paper and compare its numbers with ours."""
    from bayesimp.workflow.reproduction import reproduce_from, reproduce_paper

    if options.folders:
        return _put_together(options, reproduce_from)
    complete = reproduce_paper(
        options.paper, options.tables, options.scenarios, options.replicates, options.imputations, options.workers,
        options.minutes, options.out, say,
    )  # fmt: skip
    if not complete:
        say("bayesimp: Not everything was run; the same command continues from here.", error=True)
    return DONE if complete or options.minutes is not None else INTERRUPTED


def _put_together(options: argparse.Namespace, reproduce_from: Callable[..., bool]) -> int:
    """Report on simulations that were run in other folders."""
    runs = [f"--{name}" for name in ("scenarios", "replicates", "imputations", "workers", "minutes")]
    given = [name for name in runs if getattr(options, name[2:])]
    if given:
        raise SpecificationError(
            f"--from makes a report of simulations that have been run; {', '.join(given)} would have no effect. Leave "
            f"{'it' if len(given) == 1 else 'them'} out, or leave --from out to run simulations."
        )
    if not reproduce_from(options.paper, options.folders, options.tables, options.out, say):
        say("bayesimp: Some of these simulations are not complete; see report.md.", error=True)
    return DONE


def _carry_out(plan: Plan | None, out: Path, overwrite: bool, despite: str | None = None) -> int:
    """`plan` None: the demonstration; `despite`: why the run differs from its lock."""
    from bayesimp.durable import one_writer
    from bayesimp.workflow.folder import Folder

    lock = None
    if plan is None:
        with _waiting("Starting"):
            from bayesimp.workflow.demo import Story, demo_plan

        plan, captions, command = demo_plan(), Story(), "demo"
        ready, keep_out = _prepared(plan), tuple[Path, ...]()
    else:
        from bayesimp.workflow.lock import check_lock

        ready, captions, command = _prepared(plan), None, "run"
        lock = check_lock(ready, despite)
        keep_out = tuple(path for path in (plan.path, plan.data.file) if path is not None)
    from bayesimp.workflow.run import run as run_plan

    with one_writer(out) as remark:
        folder = Folder.make(out, overwrite, keep_out)
        if remark:
            say(f"Note: {remark}")
        status = run_plan(ready, folder, say, captions, command, lock)
    if status in ENDINGS:
        say(f"bayesimp: {ENDINGS[status]}", error=True)
    return {"complete": DONE, "interrupted": INTERRUPTED}.get(status, REFUSED)


def _prepared(plan: Plan) -> Prepared:
    with _waiting("Reading the data"):
        from bayesimp.workflow.prepare import prepare

        return prepare(plan)


def _waiting(what: str) -> AbstractContextManager[None]:
    from bayesimp.progress import waiting

    return waiting(what)


def _refuse(message: str) -> int:
    say(f"bayesimp: {message}", error=True)
    return REFUSED


def _parser() -> argparse.ArgumentParser:
    from importlib.metadata import version

    parser = Parser(
        prog="bayesimp",
        description="Bayesian multiple imputation for clustered data.",
        epilog="Start with:  bayesimp demo --out demo_output",
    )
    parser.add_argument("--version", action="version", version=f"bayesimp {version('bayesimp')}")
    commands = parser.add_subparsers(
        title="commands",
        required=True,
        metavar="{demo,check,lock,run,report,explore,verify-log,replay,verify,site,reproduce}",
    )

    command = commands.add_parser("demo", help="impute and analyse real examination marks, step by step")
    _add_folder(command, Path("demo_output"))
    command.set_defaults(command=demo)

    command = commands.add_parser("check", help="read a plan and its data, and report what would be done")
    command.add_argument("plan", type=Path, help="plan file (.toml)")
    command.set_defaults(command=check)

    command = commands.add_parser("run", help="carry out a plan: tables, imputations, figures")
    command.add_argument("plan", type=Path, help="plan file (.toml)")
    _add_folder(command, None)
    text = (
        "run although plan or table differ from the lock of the plan; the reason is recorded in the results"
    )
    command.add_argument("--despite-lock", default=None, metavar="REASON", help=text)
    command.set_defaults(command=run)

    command = commands.add_parser("report", help="write a report of a run from its folder of results")
    command.add_argument("folder", type=Path, metavar="DIR", help="folder of the results of a run")
    text = "file to write: .html, .md or .docx (default: DIR/report.html)"
    command.add_argument("--out", type=Path, default=None, metavar="FILE", help=text)
    command.add_argument("--without-figures", action="store_true", help="tables and text only")
    command.set_defaults(command=report)

    command = commands.add_parser(
        "explore", help="a live page: move the prior or a delta, and see the pooled answer move"
    )
    command.add_argument("plan", type=Path, help="plan file (.toml)")
    command.add_argument("--port", type=_count, default=None, help="of the page (default: a free one)")
    command.add_argument("--no-browser", action="store_true", help="print the address, and open no browser")
    command.set_defaults(command=explore)

    from bayesimp.workflow.audit_commands import add_audit_commands

    add_audit_commands(commands)
    from bayesimp.workflow.site_commands import add_site_commands
    from bayesimp.workflow.verify_command import add_verify_command

    add_verify_command(commands)
    add_site_commands(commands)
    command = commands.add_parser(
        "reproduce", help="run the simulations of a paper: its numbers next to ours"
    )
    _add_reproduction(command)
    command.set_defaults(command=reproduce)
    return parser


def _add_reproduction(command: argparse.ArgumentParser) -> None:
    command.add_argument("paper", choices=["kunkel2017", "jolani2025"])
    command.add_argument(
        "--tables", nargs="*", default=[], help="III to VII and 7 (figure), or 1 to 3 and all"
    )
    text = 'parts of names of scenarios: "setting 6", "binary, strong, n = 10"'
    command.add_argument("--scenarios", nargs="*", default=[], metavar="TEXT", help=text)
    command.add_argument("--replicates", type=_count, help="data sets of each scenario (200, 1000)")
    command.add_argument("--imputations", type=_count, help="completed tables of each data set (60, 5)")
    command.add_argument("--workers", type=_count, help="processes")
    command.add_argument("--minutes", type=float, help="per simulation, after which no data set is started")
    text = (
        "run nothing: put together the results in these folders, which were run on different days or machines"
    )
    command.add_argument("--from", nargs="+", type=Path, default=[], dest="folders", metavar="DIR", help=text)
    text = "folder for the results; a stopped run is continued there"
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help=text)


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _add_folder(command: argparse.ArgumentParser, default: Path | None) -> None:
    text = "folder for the results" + (f" (default: {default})" if default else "")
    command.add_argument(
        "--out", type=Path, default=default, required=default is None, metavar="DIR", help=text
    )
    command.add_argument(
        "--overwrite", action="store_true", help="replace the results of an earlier run in DIR"
    )


if __name__ == "__main__":
    sys.exit(main())
