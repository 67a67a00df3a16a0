"""Atomic writing, and locks.

A file or folder is written under a temporary name and renamed when it is complete, so a killed process leaves nothing
half-written where others look. Locks let a second process wait for the first instead of repeating its work.
"""

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from mbutils.errors import WorkbookError


@contextlib.contextmanager
def atomic_write(path: Path, way_out: str = "check permissions") -> Iterator[Path]:
    """Yields a path in the same folder with the same suffix, and renames it to `path` when the block succeeds.

    Args:
        path: The file; its folder is made where there is none.
        way_out: What the user can do besides freeing space, for the error.

    Raises:
        WorkbookError: If it cannot be written.
    """
    partial = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        partial.replace(path)
    except OSError as error:
        raise cannot_write(path, error, way_out) from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path, way_out: str = "check permissions") -> Iterator[Path]:
    """Yields an empty folder in the same folder, which takes the place of `path` when the block succeeds.

    Where several processes may write one folder at the same time, hold its lock.

    Raises:
        WorkbookError: If it cannot be written; what was at `path` is then still there.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        yield partial
        finish_replacing(path)
        if path.exists():
            path.rename(_replaced(path))
        partial.rename(path)
        shutil.rmtree(_replaced(path), ignore_errors=True)
    except OSError as error:
        raise cannot_write(path, error, way_out) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def finish_replacing(path: Path) -> None:
    """Puts a folder back that a process was replacing at the moment when it was killed."""
    replaced = _replaced(path)
    if path.exists():
        shutil.rmtree(replaced, ignore_errors=True)
    elif replaced.exists():
        replaced.rename(path)


def _replaced(path: Path) -> Path:
    return path.with_name(f".{path.name}.replaced")


def cannot_write(path: Path, error: OSError, way_out: str) -> WorkbookError:
    """Returns the error for a path that cannot be written."""
    return WorkbookError(f"cannot write {path} ({error.strerror}): free some space or {way_out}")


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keeps other processes and threads from making the same thing; waits, with a message, while one of them does.

    Raises:
        OSError: If the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = _lock_of(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"waiting for another process that makes {path.name}", file=sys.stderr)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def try_lock(path: Path) -> FileLock | None:
    """Returns the lock of a path, acquired; None while another process or thread holds it."""
    lock = _lock_of(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return None
    return lock


def _lock_of(path: Path) -> FileLock:
    return FileLock(path.with_name(f".{path.name}.lock"), thread_local=False)
