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
from filelock import Timeout

from mbutils.config.json_files import AMOUNT, COUNT, TEXT, read_json, validator
from mbutils.errors import WorkbookError
from mbutils.files import Lock, atomic_write
from mbutils.runs.folder import LOGS, LOGS_LOCK

_TAIL_LINES = 12
_STATUSES = ("waiting", "running", "finished", "failed", "skipped")


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


_FIELDS = {"attempts": COUNT, "host": TEXT, "started": TEXT, "seconds": AMOUNT, "error": TEXT}
_RECORD = validator(
    {
        "type": "object",
        "properties": {"status": {"enum": _STATUSES}, **_FIELDS, "tail": {"type": "array", "items": TEXT}},
        "required": ["status"],
        "additionalProperties": False,
    }
)
_BAR = {"what": TEXT, "unit": TEXT, "n": AMOUNT, "total": AMOUNT}
_PROGRESS = validator(
    {
        "type": "object",
        "properties": {**_BAR, "note": {"type": ["string", "null"]}, "left": AMOUNT | {"type": ["number", "null"]}},
        "required": [*_BAR, "note", "left"],
    }
)


def path(results_dir: Path, key: str, suffix: str) -> Path:
    """Returns the path of a file about a stage, such as its log (suffix ".log")."""
    return results_dir / LOGS / f"{key}{suffix}"


def read(results_dir: Path, key: str) -> Record | None:
    """Returns the record of a stage, None where there is none, or a damaged one."""
    try:
        return _read(path(results_dir, key, ".json"))
    except WorkbookError:
        return None


def _read(file: Path) -> Record:
    content = read_json(file, _RECORD)
    return Record(**content | {"tail": tuple(content.get("tail", ()))})


def write(results_dir: Path, key: str, record: Record) -> None:
    """Writes the record of a stage.

    Raises:
        WorkbookError: If it cannot be written.
    """
    with atomic_write(path(results_dir, key, ".json")) as partial:
        partial.write_text(json.dumps(asdict(record), indent=1) + "\n")


def running(attempt: int) -> Record:
    """Returns the record of a stage that begins now, here."""
    return Record("running", attempt, f"{socket.gethostname()} {os.getpid()}", _now())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def read_all(results_dir: Path) -> dict[str, Record]:
    """Returns the records of every stage in a results folder, by key, in the order of their keys."""
    found = ((key, read(results_dir, key)) for key in _keys(results_dir))
    return {key: record for key, record in found if record}


def damaged(results_dir: Path) -> list[str]:
    """Returns which records `read_all` leaves out, each with the reason, in one line."""
    reasons = []
    for key in _keys(results_dir):
        try:
            _read(path(results_dir, key, ".json"))
        except WorkbookError as error:
            reasons.append(f"{error}: remove it; whether the stage is finished is seen by its results")
    return reasons


def _keys(results_dir: Path) -> list[str]:
    files = sorted((results_dir / LOGS).glob("*/*.json"))
    return [f"{file.parent.name}/{file.name.removesuffix('.json')}" for file in files if file.name[0] != "."]


def lock(results_dir: Path, group: str) -> Lock:
    """Returns the lock of a group, not yet taken."""
    return Lock(results_dir / LOGS / group / LOGS_LOCK)


def is_locked(results_dir: Path, group: str) -> bool:
    """Returns whether someone works on a group now, or it cannot be known: in a folder that is only read."""
    try:
        with lock(results_dir, group).acquire(timeout=0):
            return False
    except (Timeout, WorkbookError):
        return True


def progress(results_dir: Path, key: str) -> dict[str, Any]:
    """Returns the state of the progress bar of a stage, see `mbutils.progress`; empty where none can be read."""
    try:
        return read_json(path(results_dir, key, ".progress"), _PROGRESS)
    except WorkbookError:
        return {}


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
