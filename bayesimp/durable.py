"""Atomic writes: files are written under another name, flushed and renamed, so a killed process leaves no part of one."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bayesimp.errors import SpecificationError

__all__ = ["checksum", "one_writer", "remove_unfinished", "replacing", "write_text"]

UNFINISHED = ".unfinished-"  # prefix of the name of a file while it is written
NO_LOCKS = (
    "{root} cannot be locked for one process on this file system ({reason}). Let no other run write there."
)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path for a file or folder, renamed to `path` when the block ends without an error.

    It is in the same folder and has the same suffix. After an error it is removed, and whatever was at `path` is
    unchanged.
    """
    made = path.with_name(f"{UNFINISHED}{os.getpid()}-{path.name}")
    try:
        yield made
        for file in [made, *made.rglob("*")]:
            if file.is_file():
                _flush(file)
        if path.is_dir() and not path.is_symlink():  # a folder does not replace another in one step
            _remove(path)
        os.replace(made, path)
    except BaseException:
        _remove(made)
        raise
    _flush(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, completely or not at all."""
    with replacing(path) as made:
        made.write_text(text, encoding="utf-8")


def remove_unfinished(root: Path) -> None:
    """Remove files left unfinished by killed processes; call it only while holding the lock (`one_writer`)."""
    for path in root.glob(f"{UNFINISHED}*"):
        _remove(path)


def checksum(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def one_writer(root: Path) -> Iterator[str]:
    """Lock a folder, created if necessary, for this process while the block runs.

    The lock ends with the process, however it ends, and leaves no file behind.

    Yields
    ------
    "", or a remark if the file system or the platform has no such locks.

    Raises
    ------
    SpecificationError
        Another process, or another run of this one, holds the lock; or the path is a file.
    """
    if root.exists() and not root.is_dir():
        raise SpecificationError(f"{root} is a file; give a folder for the results.")
    root.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:
        yield NO_LOCKS.format(root=root, reason="no flock")
        return
    remark, handle = "", os.open(root, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SpecificationError(
                f"Another process is writing into {root}; wait until it has ended, or give another folder."
            ) from None
        except OSError as error:
            remark = NO_LOCKS.format(root=root, reason=error.strerror)
        yield remark
    finally:
        os.close(handle)


def _flush(path: Path) -> None:
    """Flush a file, or the entries of a folder, to disk; some systems cannot open a folder."""
    folder = path.is_dir()
    try:
        handle = os.open(path, os.O_RDONLY if folder else os.O_RDWR)
    except PermissionError:
        if folder:
            return
        raise
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
