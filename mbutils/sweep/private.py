"""One folder for all temporary files of a sweep: sockets, the notes of Dask, what libraries write in kernels.

Only this user can open it. It goes with the process that made it. Where that is killed, its kernels remove it, which
then end at once, or else the next sweep does.
"""

import contextlib
import os
import shutil
import tempfile
from functools import cache
from multiprocessing.util import Finalize
from pathlib import Path

from filelock import FileLock, Timeout

from mbutils.errors import WorkbookError

_PREFIX, _LOCK = "mb-", ".lock"
_MOST_CHARACTERS = 60  # of the folder that holds it: the path of a socket below it may have 107


@cache
def folder() -> Path:
    """Returns the folder of this process, for all temporary files that it makes from now on.

    Raises:
        WorkbookError: If it cannot be made.
    """
    try:
        place = Path(tempfile.gettempdir())
        if len(str(place)) > _MOST_CHARACTERS:
            raise WorkbookError(f"the path {place} is too long for sockets: set TMPDIR to a shorter one")
        _remove_abandoned(place)
        hidden = Path(tempfile.mkdtemp(prefix=f".{_PREFIX}"))  # until it is locked
        lock = FileLock(hidden / _LOCK)
        lock.acquire()
        made = hidden.rename(hidden.with_name(hidden.name.removeprefix(".")))
    except OSError as error:
        raise WorkbookError(f"cannot make temporary files ({error.strerror}): set TMPDIR to another folder") from error
    Finalize(
        None, _remove, (made, lock), exitpriority=-1000
    )  # after those of multiprocessing, which keeps sockets in it
    tempfile.tempdir = str(made)
    return made


def _remove(folder: Path, lock: FileLock) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    lock.release()


def _remove_abandoned(place: Path) -> None:
    for lock in place.glob(f"{_PREFIX}*/{_LOCK}"):
        # What belongs to another user may be a trap.
        with contextlib.suppress(OSError, Timeout):
            if lock.parent.lstat().st_uid == os.getuid():
                with FileLock(lock).acquire(timeout=0):
                    shutil.rmtree(lock.parent, ignore_errors=True)
