"""Files that are whole or absent, whatever ends the process: written under another name, flushed to disk, renamed."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bayesimp.errors import SpecificationError

__all__ = ["checksum", "one_writer", "remove_unfinished", "replacing", "write_text"]

UNFINISHED = ".unfinished-"  # begins the name of a file that is being written
NO_LOCKS = "{root} cannot be reserved for one process on this file system ({reason}); see that no other run writes there."


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to, a file or a folder, which takes the name `path` when the block ends without an error.

    It lies beside `path` and has the same ending. After an error what was written is removed, and what was at `path`
    before is unchanged.
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
    """A text file in UTF-8, whole or not at all."""
    with replacing(path) as made:
        made.write_text(text, encoding="utf-8")


def remove_unfinished(root: Path) -> None:
    """Remove what processes that were killed were writing into a folder; only for who has reserved it."""
    for path in root.glob(f"{UNFINISHED}*"):
        _remove(path)


def checksum(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def one_writer(root: Path) -> Iterator[str]:
    """Reserve a folder, made if need be, for this process while the block runs.

    The reservation ends with the process, however it ends, and leaves no file behind.

    Yields
    ------
    "", or a remark where the file system or the platform has no such locks.

    Raises
    ------
    SpecificationError
        Another process, or another run of this one, has reserved it; or it is a file.
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
    """See that a file, or the names in a folder, are on disk; not every system can open a folder."""
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
