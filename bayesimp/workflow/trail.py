"""Entries of a run in the log of its folder, and checks before anything is read from the folder."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

from bayesimp.durable import checksum
from bayesimp.errors import DataError, SpecificationError
from bayesimp.runlog import BEGUN, ENDED, LOG, RunLog, append, read_log
from bayesimp.workflow.environment import environment
from bayesimp.workflow.folder import Folder, earlier_record
from bayesimp.workflow.lock import LockCheck, table_digest
from bayesimp.workflow.prepare import Prepared

__all__ = ["altered", "checked_log", "enter", "log_begin", "log_end"]


def log_begin(folder: Folder, ready: Prepared, lock: LockCheck | None) -> None:
    """Enter the start of a run and its inputs; nothing has been sampled yet."""
    folder.path(LOG)
    plan = ready.plan.path
    inputs = (
        {"plan": checksum(plan), "table": table_digest(ready)}
        if plan.is_file()
        else {"table": table_digest(ready)}
    )
    if lock is not None:
        inputs["lock"] = lock.sha256
    more: dict[str, Any] = {} if lock is None else {"lock": lock.record()}
    append(folder.root, BEGUN, inputs, {}, environment=environment(), **more)


def log_end(folder: Folder, status: str) -> None:
    """Enter how a run ended, and the hashes of the files it wrote."""
    outputs = {
        name: checksum(path)
        for name in folder.files
        if name != LOG and (path := folder.root / name).is_file()
    }
    append(folder.root, ENDED, {}, outputs, status=status)


def enter(root: Path, action: str, inputs: dict[str, str], outputs: dict[str, str], **more: Any) -> str:
    """Add a line to the log; returns a remark if the folder is read-only."""
    try:
        append(root, action, inputs, outputs, **more)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        return f"{root} cannot be written ({error.strerror}), so '{action}' is not in its log."
    return ""


def checked_log(root: Path, replaced: Path | None = None) -> RunLog | None:
    """The log of a folder whose last run has ended and whose files are as they were left; None: from before logs.

    Parameters
    ----------
    replaced
        A file that is about to be replaced, whose contents do not matter.

    Raises
    ------
    DataError, SpecificationError
        A line does not fit; the run has not ended; files are altered or gone, all of which are named.
    """
    log = read_log(root)
    if log is None:
        if LOG in earlier_record(root).get("files", []):
            raise DataError(
                f"{root / LOG} is gone, although {root.name} had a log: there is no evidence that its files are as the "
                "run left them."
            )
        return None
    log.require()
    if log.unfinished:
        raise SpecificationError(
            f"{root}: the run started at {log.run[0]['time']} has not ended: it is still running, or its process was "
            "killed. Run the plan again, with --overwrite."
        )
    if faults := altered(log, replaced):
        raise DataError("\n".join([f"{root}: not as the run left it", *(f"  {fault}" for fault in faults)]))
    return log


def altered(log: RunLog, replaced: Path | None = None) -> list[str]:
    """The files of the last run that are gone or have another hash."""
    found = []
    for name, expected in log.outputs.items():
        path = log.root / name
        if replaced is not None and path.absolute() == replaced.absolute():
            continue
        if Path(name).name != name or path.is_symlink():
            found.append(f"{name}: leads out of the folder")
        elif not path.is_file():
            found.append(f"{name}: is gone")
        elif (now := checksum(path)) != expected:
            found.append(f"{name}: SHA-256 {now}, was {expected}")
    return found
