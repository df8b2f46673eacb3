"""`bayesimp lock plan.toml`: fix a plan before its data are seen; `bayesimp run` compares.

    plan.lock (JSON)   plan          SHA-256 of its bytes, and its text, so that a difference can be shown line by line
                       table         columns, dtypes, categories, rows, SHA-256; or that it had not been read
                       environment   versions, sources, processor (`bayesimp.workflow.environment`)
                       locked        time, UTC

Who locked is not recorded, and whoever can write the folder can write another lock: keep the hash of the lock elsewhere,
or sign it (docs/howto/audit_trail.md).
"""

from __future__ import annotations

import difflib
import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from bayesimp.durable import checksum, write_text
from bayesimp.errors import DataError, SpecificationError
from bayesimp.events import Event
from bayesimp.table.exact import to_exact
from bayesimp.workflow.environment import environment, environment_differences
from bayesimp.workflow.plan import read_plan
from bayesimp.workflow.plan_records import Plan
from bayesimp.workflow.prepare import Prepared, prepare

__all__ = ["LockCheck", "check_lock", "check_plan", "lock_path", "lock_plan", "table_digest", "table_record"]

FORMAT = 1
UNREAD = "not read"
MOST_LINES = 40  # of differences in a message


@dataclass(frozen=True)
class LockCheck:
    """The result of comparing a run with its lock.

    Attributes
    ----------
    path
        The lock.
    sha256
        Hash of the lock file.
    locked
        Time of locking, as stated in the lock.
    table
        Whether the table had been "read" when the plan was locked.
    changes
        Differences in plan and table, one line each.
    reason
        Why the run goes ahead nevertheless, in the words of the user.
    environment
        Differences in the environment.
    """

    path: Path
    sha256: str
    locked: str
    table: str
    changes: tuple[str, ...]
    reason: str
    environment: tuple[str, ...]

    def record(self) -> dict[str, Any]:
        """The record for run.json and the log."""
        return {
            "file": self.path.name, "sha256": self.sha256, "locked": self.locked, "table": self.table,
            "changes": list(self.changes), "despite": self.reason, "environment": list(self.environment),
        }  # fmt: skip

    def events(self) -> list[Event]:
        """Events for the result about differences from the lock."""
        made = []
        if self.changes:
            text = (
                f"The run differs from {self.path.name} of {self.locked}. Stated reason: {self.reason}. "
                + "; ".join(self.changes[:MOST_LINES])
            )
            made.append(Event("changed after lock", "plan", text, len(self.changes)))
        if self.environment:
            text = f"Changed since {self.path.name} was made: {'; '.join(self.environment)}. Last digits may differ"
            made.append(Event("environment differs from lock", "environment", text, len(self.environment)))
        return made


def lock_path(plan: Path) -> Path:
    """The lock of a plan: plan.toml -> plan.lock."""
    return plan.with_suffix(".lock")


def lock_plan(path: Path, with_table: bool = True) -> tuple[Path, dict[str, Any]]:
    """Write the lock of a plan, and return its path and contents.

    Parameters
    ----------
    with_table
        Read the table and check the plan with it, if it is there; otherwise the lock says that it was not read.

    Raises
    ------
    SpecificationError, DataError
        A lock exists already, or the plan, possibly only with this table, cannot be run.
    """
    target = lock_path(path)
    if target.exists():
        raise SpecificationError(
            f"{target} exists, and a lock is not replaced. Move it away to lock the plan again."
        )
    plan = read_plan(path, with_table=False)
    reads = with_table and (plan.data.file is None or plan.data.file.is_file())
    text = path.read_bytes()
    contents = {
        "bayesimp lock": FORMAT,
        "locked": datetime.now(UTC).isoformat(timespec="seconds"),
        "plan": {"file": path.name, "sha256": hashlib.sha256(text).hexdigest(), "text": text.decode("utf-8")},
        "table": table_record(prepare(plan)) if reads else {"state": UNREAD, "columns named": _named(plan)},
        "environment": environment(),
    }
    write_text(target, json.dumps(contents, indent=2, ensure_ascii=False) + "\n")
    return target, contents


def check_lock(ready: Prepared, reason: str | None) -> LockCheck | None:
    """Compare plan, table and environment with the lock next to the plan; None if there is none.

    Raises
    ------
    SpecificationError
        Plan or table differ and no reason is given; the message shows the lines. Or a reason is given without a lock.
    DataError
        The lock cannot be read, or contradicts itself.
    """
    plan = ready.plan
    path = lock_path(plan.path)
    if reason is not None and not reason.strip():
        raise SpecificationError(
            '--despite-lock needs a reason in words: --despite-lock "the typist mistook ..."'
        )
    if not path.is_file():
        if reason is not None:
            raise SpecificationError(f"--despite-lock: there is no {path} to deviate from. Omit this option.")
        return None
    lock = _read(path)
    changes = [*_plan_changes(lock["plan"], plan.path), *_table_changes(lock["table"], ready)]
    if changes and reason is None:
        shown = "\n".join(f"  {line}" for line in changes[:MOST_LINES])
        more = f"\n  ... {len(changes) - MOST_LINES} more" if len(changes) > MOST_LINES else ""
        raise SpecificationError(
            f"{plan.path} was locked at {lock['locked']}, but the run would differ from {path.name}:\n{shown}{more}\n"
            'Restore what was locked, or give a reason, which the results will carry: --despite-lock "reason".'
        )
    differs = environment_differences(lock["environment"], environment())
    return LockCheck(
        path, checksum(path), lock["locked"], lock["table"]["state"], tuple(changes), (reason or "").strip(),
        tuple(differs),
    )  # fmt: skip


def check_plan(path: Path) -> None:
    """Refuse a plan that differs from its lock, if there is one; the table is not looked at.

    Raises
    ------
    SpecificationError
        The plan differs; the message has the lines.
    DataError
        The lock cannot be read.
    """
    lock = lock_path(path)
    if not lock.is_file():
        return
    locked = _read(lock)
    if changes := _plan_changes(locked["plan"], path):
        shown = "\n".join(f"  {line}" for line in changes[:MOST_LINES])
        raise SpecificationError(
            f"{path} was locked at {locked['locked']}, and differs from {lock.name}:\n{shown}\nRestore what was locked."
        )


def table_record(ready: Prepared) -> dict[str, Any]:
    """Columns, dtypes, categories, number of rows and hash of the table of a plan."""
    frame = ready.data.frame
    columns = [_column(str(name), frame.iloc[:, k]) for k, name in enumerate(frame.columns)]
    return {"state": "read", "sha256": table_digest(ready), "rows": len(frame), "columns": columns}


def table_digest(ready: Prepared) -> str:
    """SHA-256 of the table's file or, for an example, of its contents."""
    file = ready.plan.data.file
    if file is not None:
        return checksum(file)
    text, values = to_exact(ready.data.frame)
    return hashlib.sha256(text.encode() + values).hexdigest()


def _column(name: str, column: pd.Series) -> dict[str, Any]:
    record: dict[str, Any] = {"name": name, "dtype": str(column.dtype)}
    if isinstance(column.dtype, pd.CategoricalDtype):
        levels = [str(level) for level in column.dtype.categories]
        record |= {"dtype": "category", "categories": levels, "ordered": bool(column.dtype.ordered)}
    return record


def _named(plan: Plan) -> list[str]:
    """The columns that a plan names, whose existence and types are checked when the plan is run."""
    names = [*plan.data.clusters, *(plan.data.types or {}), *(plan.data.families or {})]
    if (formula := plan.model.formula) is not None:
        names += [*formula.responses, *formula.variables, *formula.groups]
    return list(dict.fromkeys([*names, *(name for a in plan.analyses for name in a.needed)]))


def _read(path: Path) -> dict[str, Any]:
    """The contents of a lock, with its parts and the hash of its text checked."""
    try:
        lock = json.loads(path.read_bytes())
        plan, table = lock["plan"], lock["table"]
        whole = lock["bayesimp lock"] == FORMAT and isinstance(lock["environment"], dict)
        whole = whole and isinstance(lock["locked"], str) and table["state"] in ("read", UNREAD)
        if table["state"] != UNREAD:
            whole = whole and isinstance(table["rows"], int) and isinstance(table["sha256"], str)
            whole = whole and all(isinstance(column["name"], str) for column in table["columns"])
        whole = whole and hashlib.sha256(plan["text"].encode()).hexdigest() == plan["sha256"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        whole = False
    if not whole:
        raise DataError(
            f"{path} was not written by `bayesimp lock`, or was altered afterwards. Restore it from where it was "
            "archived; without it there is no evidence that the plan is the one that was locked."
        )
    return lock


def _plan_changes(locked: dict[str, Any], path: Path) -> list[str]:
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() == locked["sha256"]:
        return []
    before, now = locked["text"].splitlines(), data.decode("utf-8").splitlines()
    lines = [
        f"{path.name}, {line}"
        for line in difflib.unified_diff(before, now, n=0, lineterm="")
        if not line.startswith(("---", "+++"))
    ]
    return lines or [f"{path.name}: the same lines in different bytes (line endings or a byte order mark)"]


def _table_changes(locked: dict[str, Any], ready: Prepared) -> list[str]:
    if locked["state"] == UNREAD:
        return []
    now = table_record(ready)
    before = {c["name"]: c for c in locked["columns"]}
    after = {c["name"]: c for c in now["columns"]}
    lines = [f"table: column '{name}' is gone" for name in before if name not in after]
    lines += [f"table: column '{name}' is new" for name in after if name not in before]
    for name in (name for name in before if name in after):
        for key in ("dtype", "categories", "ordered"):
            old, new = before[name].get(key), after[name].get(key)
            if old != new:
                lines.append(f"table: column '{name}' has {key} {new}, was {old}")
    if not lines and list(before) != list(after):
        lines.append("table: the columns are in a different order")
    if now["rows"] != locked["rows"]:
        lines.append(f"table: {now['rows']:,} rows, was {locked['rows']:,}")
    if not lines and now["sha256"] != locked["sha256"]:
        lines.append(f"table: the contents differ, SHA-256 {now['sha256']}, was {locked['sha256']}")
    return lines
