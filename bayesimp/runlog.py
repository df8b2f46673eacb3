"""The log of a folder of results: one line for each action, each with its hash and that of the line before.

    line k = JSON: {"line": k, "time", "action", "inputs", "outputs", ..., "before": sha256 of line k - 1, "sha256"}

``sha256`` is the SHA-256 of the line up to that key. An altered line therefore contradicts its own hash, and a removed
or moved line contradicts the line after it. The chain cannot show that whole lines were cut off its end, or that all of
it was rewritten: to detect that, keep or sign the hash of the last line elsewhere (docs/howto/audit_trail.md).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bayesimp.durable import checksum
from bayesimp.errors import DataError

__all__ = ["LOG", "RunLog", "append", "check_file", "read_log"]

LOG = "log.jsonl"
SEAL = b', "sha256": "%s"}\n'  # end of a line
FIRST = "0" * 64  # "before" of the first line
BEGUN, ENDED = "run begun", "run ended"


@dataclass(frozen=True)
class RunLog:
    """The valid lines of a log, and the first fault.

    Attributes
    ----------
    root
        The folder.
    lines
        Records, up to the first invalid line.
    last
        ``sha256`` of the last of them.
    fault
        What is wrong with the first invalid line; "" if all are valid.
    """

    root: Path
    lines: tuple[dict[str, Any], ...]
    last: str
    fault: str = ""

    @property
    def remarks(self) -> list[str]:
        """A remark for each line whose time precedes that of the line before; the order of lines is what counts."""
        pairs = zip(self.lines, self.lines[1:], strict=False)
        return [
            f"line {b['line']}: the clock had been set back ({b['time']}, after {a['time']})"
            for a, b in pairs
            if datetime.fromisoformat(b["time"]) < datetime.fromisoformat(a["time"])
        ]

    @property
    def run(self) -> list[dict[str, Any]]:
        """The lines since the last run began."""
        begun = [k for k, line in enumerate(self.lines) if line["action"] == BEGUN]
        return list(self.lines[begun[-1] :]) if begun else []

    @property
    def unfinished(self) -> bool:
        """Whether the last run began and has not ended."""
        return bool(self.run) and not any(line["action"] == ENDED for line in self.run)

    @property
    def outputs(self) -> dict[str, str]:
        """SHA-256 of every file of the last run, by name."""
        return {name: value for line in self.run for name, value in line["outputs"].items()}

    def require(self) -> RunLog:
        """This log, if every line is valid.

        Raises
        ------
        DataError
            A line is invalid; the message says what to do.
        """
        if self.fault:
            raise DataError(
                f"{self.root / LOG}: {self.fault}. Nothing is read from or added to this folder. Compare it with a "
                "copy, or repeat the run in another folder."
            )
        return self


def read_log(root: Path) -> RunLog | None:
    """The log of a folder; None if there is none."""
    try:
        data = (root / LOG).read_bytes()
    except FileNotFoundError:
        return None
    lines: list[dict[str, Any]] = []
    before, fault = FIRST, ""
    for k, line in enumerate(data.splitlines(keepends=True), 1):
        record, fault = _line(line, k, before)
        if fault:
            break
        lines.append(record)
        before = record["sha256"]
    return RunLog(root, tuple(lines), before, fault or ("" if lines else "it is empty"))


def append(
    root: Path, action: str, inputs: Mapping[str, str], outputs: Mapping[str, str], **more: Any
) -> dict[str, Any]:
    """Add a line, flushed to disk on return; after an error, such as a full disk, the log is unchanged.

    Parameters
    ----------
    inputs, outputs
        SHA-256 by name; outputs are named by their files in the folder.

    Raises
    ------
    DataError
        A line of the log is invalid.
    OSError
        The line cannot be written.
    """
    log = read_log(root)
    lines, before = ((), FIRST) if log is None else (log.require().lines, log.last)
    record = {
        "line": len(lines) + 1, "time": datetime.now(UTC).isoformat(timespec="seconds"), "action": action,
        "inputs": dict(inputs), "outputs": dict(outputs), **more, "before": before,
    }  # fmt: skip
    body = json.dumps(record)[:-1].encode()
    data = body + SEAL % hashlib.sha256(body).hexdigest().encode()
    handle = os.open(root / LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        size = os.fstat(handle).st_size
        try:
            written = os.write(handle, data)
            if written < len(data):
                raise OSError(None, f"no room for a line of {len(data):,} bytes", str(root / LOG))
            os.fsync(handle)
        except OSError:
            os.ftruncate(handle, size)
            raise
    finally:
        os.close(handle)
    return record


def check_file(path: Path) -> None:
    """Refuse a file that has changed since its run wrote it; files in folders without a log are not checked.

    Raises
    ------
    DataError
        A line of the log is invalid, or the file does not have the hash that the log records.
    """
    log = read_log(path.parent)
    if log is None:
        return
    expected = log.require().outputs.get(path.name)
    if expected is not None and (not path.is_file() or checksum(path) != expected):
        raise DataError(
            f"{path} is not as the run left it: its SHA-256 differs from that in {LOG}. Restore it from a copy. A file "
            "that was changed on purpose belongs in another folder."
        )


def _line(line: bytes, number: int, before: str) -> tuple[dict[str, Any], str]:
    """A line as a record, and why it is invalid ("" if it is valid)."""
    if not line.endswith(b"\n"):
        return (
            {},
            f"line {number} is incomplete: the process ended, or the disk was full, while it was written",
        )
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return {}, f"line {number} is not JSON"
    if not isinstance(record, dict) or not _has_parts(record):
        return {}, f"line {number} lacks an entry, or an entry has the wrong type"
    body = line[: -len(SEAL % (b"0" * 64))]
    if line != body + SEAL % hashlib.sha256(body).hexdigest().encode():
        return {}, f"line {number} was altered: its SHA-256 does not match its contents"
    if record["before"] != before or record.get("line") != number:
        between = "it is not the first" if number == 1 else f"it does not follow line {number - 1}"
        return (
            {},
            f"line {number} is out of place: {between}, so lines are missing, altered or moved",
        )
    return record, ""


def _has_parts(record: dict[str, Any]) -> bool:
    texts = all(isinstance(record.get(key), str) for key in ("time", "action", "before", "sha256"))
    hashes = all(
        isinstance(record.get(key), dict) and all(isinstance(v, str) for v in record[key].values())
        for key in ("inputs", "outputs")
    )
    try:
        return texts and hashes and datetime.fromisoformat(record["time"]).tzinfo is not None
    except ValueError:
        return False
