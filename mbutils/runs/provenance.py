"""What made a result: the commit of the workbook, the versions, the machine, the time."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import psutil

from mbutils.config import PROJECT

_VERSIONED = ("tensorflow", "keras", "ai-edge-litert", "numpy", "tensorflow-datasets", "mobilenet-v1-int8-workbook")


def made_by() -> dict[str, str]:
    """Returns `git_commit` and `machine`."""
    return {"git_commit": git_commit(), "machine": machine()}


def versions() -> dict[str, str]:
    """Returns the versions of Python, the workbook and the packages that results depend on."""
    return {name: metadata.version(name) for name in _VERSIONED} | {"python": platform.python_version()}


def git_commit() -> str:
    """Returns the project's commit, with "-dirty" if files changed since; empty outside a git checkout."""
    command = ["git", "-C", str(PROJECT), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def machine() -> str:
    """Returns processor, cores, memory and system in one line, without a name."""
    memory = psutil.virtual_memory().total / 2**30
    return f"{_processor()}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} {platform.machine()}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return platform.processor() or "unknown processor"
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "unknown processor")


def now() -> str:
    """Returns the time in UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
