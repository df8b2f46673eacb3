"""The commands of the audit trail: lock, verify-log, replay."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from bayesimp.workflow.terminal import say

__all__ = ["add_audit_commands"]

DONE, FAULT, DIFFERS = 0, 1, 3


def lock(options: argparse.Namespace) -> int:
    """Write the lock of a plan."""
    from bayesimp.durable import checksum
    from bayesimp.workflow.lock import UNREAD, lock_plan

    path, contents = lock_plan(options.plan, not options.without_table)
    table = contents["table"]
    say(f"Written to {path}, at {contents['locked']}")
    say(f"plan   SHA-256 {contents['plan']['sha256']}")
    if table["state"] == UNREAD:
        say(f"table  not read; the plan names {len(table['columns named'])} columns")
    else:
        say(f"table  SHA-256 {table['sha256']}, {table['rows']:,} rows, {len(table['columns'])} columns")
    say(f"lock   SHA-256 {checksum(path)}   keep this line elsewhere, or sign the file")
    return DONE


def verify_log(options: argparse.Namespace) -> int:
    """Check the log of a folder and the files that it names."""
    from bayesimp.errors import SpecificationError
    from bayesimp.runlog import LOG, read_log
    from bayesimp.workflow.trail import altered

    log = read_log(options.folder)
    if log is None:
        raise SpecificationError(f"{options.folder} has no {LOG}. Give the folder of a run.")
    for line in log.lines:
        words = "".join(f", {key} {line[key]}" for key in ("status", "result") if key in line)
        say(f"{line['line']:>4}  {line['time']}  {line['action']}{words}")
    for remark in log.remarks:
        say(f"Note: {remark}")
    faults = [f"{LOG}: {log.fault}"] if log.fault else altered(log)
    if log.unfinished and not log.fault:
        faults.append(f"the run started at {log.run[0]['time']} has not ended")
    for fault in faults:
        say(f"NOT AS IT WAS  {fault}")
    if faults:
        return FAULT
    files = "1 file is" if len(log.outputs) == 1 else f"{len(log.outputs)} files are"
    say(f"Every line follows from the line before; {files} as the log states.")
    say(f"last line  SHA-256 {log.last}")
    return DONE


def replay(options: argparse.Namespace) -> int:
    """Repeat a folder's plan and compare the results."""
    from bayesimp.progress import waiting
    from bayesimp.workflow.replay import replay_folder

    with waiting("Running again"):
        result = replay_folder(options.folder, options.stored_table)
    say(str(result))
    return DONE if result.equal else DIFFERS


def add_audit_commands(commands: Any) -> None:
    """Add the commands of the audit trail to the parser of `bayesimp`."""
    command = commands.add_parser(
        "lock", help="fix a plan, its table and environment by their hashes: plan.lock"
    )
    command.add_argument("plan", type=Path, help="plan file (.toml)")
    command.add_argument(
        "--without-table", action="store_true", help="do not read the table, even if it exists"
    )
    command.set_defaults(command=lock)

    command = commands.add_parser("verify-log", help="check the log of a folder of results, and its files")
    command.add_argument("folder", type=Path, metavar="DIR", help="folder of the results of a run")
    command.set_defaults(command=verify_log)

    command = commands.add_parser("replay", help="run again from what a folder keeps, and compare with it")
    command.add_argument("folder", type=Path, metavar="DIR", help="folder of the results of a run")
    text = "use the table stored with the results, even if its file exists and has changed"
    command.add_argument("--stored-table", action="store_true", help=text)
    command.set_defaults(command=replay)
