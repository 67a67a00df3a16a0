"""The cache folder: files that can be made again at any time, each made once by the first process that needs it."""

import contextlib
import errno
import math
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from mbutils import files
from mbutils.config import cache_dir
from mbutils.errors import WorkbookError

# Each kind of files has a subfolder of the cache folder; nothing outside these is ever listed or removed.
IMAGES, INDEX, TEACHER_SCORES, UNTRAINED, BENCHMARK = (
    "images",
    "index of images",
    "scores of a teacher",
    "untrained models",
    "files of a benchmark",
)
_KINDS = (IMAGES, INDEX, TEACHER_SCORES, UNTRAINED, BENCHMARK)
_WAY_OUT = "set MB_CACHE_DIR"


@dataclass(frozen=True)
class Entry:
    """One thing in the cache folder.

    Attributes:
        kind: What it is, in words.
        path: The file or folder.
        bytes: Its size on disk.
        used: When it was last used, UTC.
    """

    kind: str
    path: Path
    bytes: int
    used: datetime


def folder(kind: str) -> Path:
    """Returns the subfolder of the cache folder for files of a kind, such as `IMAGES`; it need not exist."""
    return cache_dir() / f"mb {kind}".replace(" ", "_")


@contextlib.contextmanager
def made_once(path: Path) -> Iterator[None]:
    """Makes other processes wait while this one makes a file in the cache folder; see `files.locked`.

    Raises:
        WorkbookError: If the cache folder cannot be written.
    """
    try:
        with files.locked(path, _WAY_OUT):
            yield
    except OSError as error:
        raise files.cannot_write(path, error, _WAY_OUT) from error


def written(path: Path) -> contextlib.AbstractContextManager[Path]:
    """Like `files.atomic_write`, for a file in the cache folder."""
    return files.atomic_write(path, _WAY_OUT)


def stored_images(path: Path, shape: tuple[int, ...], make: Callable[[], Iterable[np.ndarray]]) -> np.ndarray:
    """Returns the images kept in a file, which is made if it is missing or damaged.

    Args:
        path: A `.npy` file in the cache folder.
        shape: The shape of all images together: (n, height, width, channels).
        make: Yields the images in order: uint8, shape (height, width, channels). Few are in memory at a time.

    Returns:
        A read-only memory map: uint8, shape `shape`.

    Raises:
        WorkbookError: If the cache folder cannot be written, or its disk is full.
    """
    images = _read(path, shape)
    if images is None:
        with made_once(path):
            images = _read(path, shape)  # made by another process while this one waited
            if images is None:
                _write(path, shape, make)
                images = _read(path, shape)
    return images


def _read(path: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    try:
        images = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return None
    if images.dtype != np.uint8 or images.shape != shape:
        return None
    with contextlib.suppress(OSError):
        os.utime(path)  # last used now
    return images


def _write(path: Path, shape: tuple[int, ...], make: Callable[[], Iterable[np.ndarray]]) -> None:
    # Plain writes instead of a memory map: a full disk then raises an error instead of killing the process with a bus
    # error, and written pages do not count as memory of the process.
    needed, free = math.prod(shape), shutil.disk_usage(path.parent).free
    if needed > free:
        raise OSError(errno.ENOSPC, f"{files.size(needed)} are needed, and {files.size(free)} are free")
    with written(path) as partial, partial.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        for image in make():
            file.write(np.ascontiguousarray(image))


def entries() -> list[Entry]:
    """Returns what is in the cache folder, largest first.

    Raises:
        WorkbookError: If the folder cannot be read.
    """
    try:
        listed = [entry for kind in _KINDS if folder(kind).exists() for entry in _entries_of(kind)]
    except OSError as error:
        raise WorkbookError(
            f"cannot read the cache folder {cache_dir()} ({error.strerror}): set MB_CACHE_DIR"
        ) from error
    return sorted(listed, key=lambda entry: (-entry.bytes, entry.path.name))


def _entries_of(kind: str) -> Iterator[Entry]:
    for path in folder(kind).iterdir():
        if path.suffix != ".lock":
            shown = "left by a killed process" if path.name.startswith(".") else kind
            yield Entry(shown, path, _size(path), _used(path))


def _size(path: Path) -> int:
    inside = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in inside if file.is_file())


def _used(path: Path) -> datetime:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC)


def clear() -> tuple[list[Entry], list[Entry]]:
    """Removes what is in the cache folder; runs that are reading it are not disturbed.

    Returns:
        What was removed, and what was kept because a process is making it.

    Raises:
        WorkbookError: If something cannot be removed.
    """
    removed, kept = [], []
    for entry in entries():
        try:
            (removed if _remove(entry.path) else kept).append(entry)
        except OSError as error:
            raise WorkbookError(f"cannot remove {entry.path} ({error.strerror}): check its permissions") from error
    return removed, kept


def _remove(path: Path) -> bool:
    name = re.sub(r"^\.(.+)\.\d+(\.\w+)?$", r"\1\2", path.name)  # the final name of a partial file
    lock = files.try_lock(path.with_name(name))
    if lock is None:
        return False
    try:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    finally:
        lock.release()
        Path(lock.lock_file).unlink(missing_ok=True)
    return True
