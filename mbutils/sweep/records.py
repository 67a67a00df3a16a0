"""What each stage did, recorded next to its log: `<results>/logs/<group>/<stage>.json`.

A group is a run, the preparation of a cache, or the comparison. A worker that works on a group holds the lock in its
folder; the operating system releases it when the worker dies. So a stage whose record has the status "running" while
nobody holds the lock was killed.
"""

import json
import os
import socket
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock, Timeout

from mbutils.files import atomic_write

_TAIL_LINES = 12


@dataclass(frozen=True)
class Record:
    """What is known about one stage.

    Attributes:
        status: "waiting", "running", "finished", "failed", or "skipped" because a stage that it needs failed.
        attempts: How often it was begun.
        host: Where, and with which process id.
        started: When the last attempt began: ISO 8601, UTC.
        seconds: How long it took.
        error: Why it failed, in one line.
        tail: The last lines of its log where it failed.
    """

    status: str
    attempts: int = 0
    host: str = ""
    started: str = ""
    seconds: float = 0.0
    error: str = ""
    tail: tuple[str, ...] = ()


def path(results_dir: Path, key: str, suffix: str) -> Path:
    """Returns the path of a file about a stage, such as its log (suffix ".log")."""
    return results_dir / "logs" / f"{key}{suffix}"


def read(results_dir: Path, key: str) -> Record | None:
    """Returns the record of a stage, None where there is none."""
    content = _read_json(path(results_dir, key, ".json"))
    return Record(**content) if content else None


def write(results_dir: Path, key: str, record: Record) -> None:
    """Writes the record of a stage.

    Raises:
        WorkbookError: If it cannot be written.
    """
    file = path(results_dir, key, ".json")
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(file) as partial:
        partial.write_text(json.dumps(asdict(record), indent=1) + "\n")


def running(attempt: int) -> Record:
    """Returns the record of a stage that begins now, here."""
    return Record("running", attempt, f"{socket.gethostname()} {os.getpid()}", _now())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def read_all(results_dir: Path) -> dict[str, Record]:
    """Returns the records of every stage in a results folder, by key, in the order of their keys."""
    files = sorted((results_dir / "logs").glob("*/*.json"))
    keys = [f"{file.parent.name}/{file.name.removesuffix('.json')}" for file in files]
    return {key: record for key in keys if (record := read(results_dir, key))}


def lock(results_dir: Path, group: str) -> FileLock:
    """Returns the lock of a group, not yet taken."""
    file = results_dir / "logs" / group / ".lock"
    file.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(file)


def is_locked(results_dir: Path, group: str) -> bool:
    """Returns whether someone works on a group now."""
    try:
        with lock(results_dir, group).acquire(timeout=0):
            return False
    except Timeout:
        return True


def progress(results_dir: Path, key: str) -> dict[str, Any]:
    """Returns the state of the progress bar of a stage, see `mbutils.progress`; empty where there is none."""
    return _read_json(path(results_dir, key, ".progress"))


def log_tail(results_dir: Path, key: str) -> tuple[str, ...]:
    """Returns the last lines of the log of a stage."""
    try:
        lines = path(results_dir, key, ".log").read_text(errors="replace").splitlines()
    except OSError:
        return ()
    return tuple([line for line in lines if line.strip()][-_TAIL_LINES:])


def failures(results_dir: Path) -> pd.DataFrame:
    """Returns the stages that failed: `run_id`, `stage`, `attempts`, `error`, and `log`, the last lines of the log."""
    rows = [
        (*key.split("/"), record.attempts, record.error, "\n".join(record.tail))
        for key, record in read_all(results_dir).items()
        if record.status == "failed"
    ]
    return pd.DataFrame(rows, columns=["run_id", "stage", "attempts", "error", "log"])


def _read_json(file: Path) -> dict[str, Any]:
    try:
        return json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
