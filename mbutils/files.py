"""Atomic writing, and locks.

A file or folder is written under a temporary name and renamed when it is complete, so a killed process leaves nothing
half-written where others look. Locks let a second process wait for the first instead of repeating its work.
"""

import contextlib
import ctypes
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from filelock import AcquireReturnProxy, FileLock, Timeout

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
        if not path.exists():
            partial.rename(path)
        elif not _exchange(partial, path):
            path.rename(_replaced(path))
            partial.rename(path)
            shutil.rmtree(_replaced(path), ignore_errors=True)
    except OSError as error:
        raise cannot_write(path, error, way_out) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)  # the new folder where that failed, or else the old one


def _exchange(one: Path, other: Path) -> bool:
    """Exchanges the names of two folders in one step; returns False where the system has no such call (renameat2)."""
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return renameat2 is not None and renameat2(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0


def finish_replacing(path: Path) -> None:
    """Puts a folder back that a process was replacing, in two steps, at the moment when it was killed."""
    replaced = _replaced(path)
    if path.exists():
        shutil.rmtree(replaced, ignore_errors=True)
    elif replaced.exists():
        replaced.rename(path)


def _replaced(path: Path) -> Path:
    return path.with_name(f".{path.name}.replaced")


def size(count: int) -> str:
    """Returns a number of bytes in words, such as "15.1 GiB" or "12 bytes"."""
    power = min((count.bit_length() - 1) // 10, 4)
    return f"{count / 1024**power:,.1f} {'KMGT'[power - 1]}iB" if power > 0 else f"{count} bytes"


def sha256(path: Path) -> str:
    """Returns the sha256 of a file, hexadecimal; of one that did not change since the last call, it is known.

    Raises:
        OSError: If the file cannot be read.
    """
    status = path.stat()
    return _sha256(path, (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns))


@lru_cache(maxsize=100_000)
def _sha256(path: Path, version: tuple[int, ...]) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def make_folder(path: Path, way_out: str) -> None:
    """Makes a folder where there is none, and sees whether it can be written.

    Raises:
        WorkbookError: If it cannot.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise WorkbookError(f"cannot write in {path} ({error.strerror}): {way_out}") from error


def cannot_write(path: Path, error: OSError, way_out: str) -> WorkbookError:
    """Returns the error for a path that cannot be written."""
    return WorkbookError(f"cannot write {path} ({error.strerror}): free some space or {way_out}")


class Lock(FileLock):
    """A lock file; one that cannot be made is named in one line."""

    way_out = "check permissions"

    def acquire(self, *args: Any, **kwargs: Any) -> AcquireReturnProxy:  # noqa: ANN401
        """Takes the lock, see `filelock.FileLock`.

        Raises:
            Timeout: While another process or thread holds it.
            WorkbookError: If its file cannot be made.
        """
        path = Path(self.lock_file)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            return super().acquire(*args, **kwargs)
        except Timeout:
            raise
        except OSError as error:
            raise cannot_write(path, error, self.way_out) from error


@contextlib.contextmanager
def locked(path: Path, way_out: str = Lock.way_out) -> Iterator[None]:
    """Keeps other processes and threads from making the same thing; waits, with a message, while one of them does.

    Args:
        path: The thing.
        way_out: As that of `atomic_write`.

    Raises:
        WorkbookError: If the lock, a hidden file beside `path`, cannot be made.
    """
    lock = lock_of(path)
    lock.way_out = way_out
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"waiting for another process that makes {path.name}", file=sys.stderr)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def try_lock(path: Path) -> Lock | None:
    """Returns the lock of a path, acquired; None while another process or thread holds it.

    Raises:
        WorkbookError: If it cannot be made.
    """
    lock = lock_of(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return None
    return lock


def lock_of(path: Path) -> Lock:
    """Returns the lock of a path, not yet taken: a hidden file beside it."""
    return Lock(path.with_name(f".{path.name}.lock"), thread_local=False)
