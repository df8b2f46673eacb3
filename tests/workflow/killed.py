"""Runs that are killed, or find the disk full, at a chosen point: python -m tests.workflow.killed PLAN FOLDER

One process imports everything and runs the plan once (FOLDER/whole); for every fault it forks a child, which does
the same in FOLDER/<fault> with a function replaced. How the children ended is printed as JSON.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import signal
import sys
from pathlib import Path

from bayesimp import durable, runlog
from bayesimp.progress import Report
from bayesimp.runlog import ENDED
from bayesimp.workflow import folder, reporting, run, trail
from bayesimp.workflow.cli import main


def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)


def before_sampling():
    run._impute = die


def in_sampling():
    """At the second report of progress from which Ctrl-C would also be raised."""
    calls, plain = [], Report.__call__

    def call(self, stage, done, total):
        if not stage.startswith("compiling"):
            calls.append(stage)
            if len(calls) == 2:
                die()
        plain(self, stage, done, total)

    Report.__call__ = call


def at_rename(name):
    """The file is written under its temporary name, and not yet renamed."""

    class Renaming:
        def __getattr__(self, attribute):
            return getattr(os, attribute)

        def replace(self, made, path):
            if Path(path).name == name and (name != "run.json" or '"complete"' in Path(made).read_text()):
                die()
            os.replace(made, path)

    durable.os = Renaming()


def in_completed_tables():
    plain = folder._numbered
    folder._numbered = lambda imputations, k: die() if k else plain(imputations, k)


def half_a_line(action):
    """Half a line of the log is on disk."""

    class Writing:
        def __getattr__(self, attribute):
            return getattr(os, attribute)

        def write(self, handle, data):
            if action.encode() in data:
                os.write(handle, data[: len(data) // 2])
                die()
            return os.write(handle, data)

    runlog.os = Writing()


def before_the_last_line():
    run.log_end = die


def no_room_for_the_log():
    """The disk has ten bytes left when the last line is written."""
    plain = trail.append

    def append(root, action, *rest, **more):
        if action == ENDED:
            size = (root / runlog.LOG).stat().st_size
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, resource.RLIM_INFINITY))
        plain(root, action, *rest, **more)

    trail.append = append


def no_room_for_imputations():
    resource.setrlimit(resource.RLIMIT_FSIZE, (6000, resource.RLIM_INFINITY))


def before_the_report_is_logged():
    reporting._enter = die


RUNS = {
    "before_sampling": before_sampling,
    "in_sampling": in_sampling,
    "imputations": lambda: at_rename("imputations.nc"),
    "in_completed_tables": in_completed_tables,
    "record": lambda: at_rename("run.json"),
    "before_the_last_line": before_the_last_line,
    "half_a_line": lambda: half_a_line(ENDED),
    "no_room_for_the_log": no_room_for_the_log,
    "no_room_for_imputations": no_room_for_imputations,
}
REPORTS = {
    "report": lambda: at_rename("report.html"),
    "before_the_report_is_logged": before_the_report_is_logged,
}


def in_a_child(prepare, arguments: list[str]) -> dict:
    """How a command ended after `prepare`: exit status (negative: the signal) and what it said."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        said = io.StringIO()
        prepare()
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
            status = main(arguments)
        os.write(write, said.getvalue().encode()[:4000])
        os._exit(status)
    os.close(write)
    with os.fdopen(read) as pipe:
        said = pipe.read()
    return {"status": os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), "said": said}


def all_faults(plan: str, place: Path) -> dict[str, dict]:
    command = ["run", plan, "--overwrite", "--out"]
    with contextlib.redirect_stdout(io.StringIO()):
        assert main([*command, str(place / "whole")]) == 0
        for name in REPORTS:
            assert main([*command, str(place / name)]) == 0
    ended = {name: in_a_child(prepare, [*command, str(place / name)]) for name, prepare in RUNS.items()}
    for name, prepare in REPORTS.items():
        ended[name] = in_a_child(prepare, ["report", str(place / name), "--without-figures"])
    return ended


if __name__ == "__main__":
    print(json.dumps(all_faults(sys.argv[1], Path(sys.argv[2]))))
