"""One stage on a worker: take the lock of its group, see whether it is still to be done, do it, record it."""

import contextlib
import errno
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import AcquireReturnProxy, Timeout

from mbutils.errors import WorkbookError
from mbutils.progress import PROGRESS_FILE, duration
from mbutils.report import render
from mbutils.sweep import kernels, notebooks, records
from mbutils.sweep.plan import RENDER, Stage

_ATTEMPTS = 2
_PATIENCE_SECONDS = 2  # with another sweep that works on the same group
_NO_SPACE = os.strerror(errno.ENOSPC)


@dataclass(frozen=True)
class Settings:
    """What holds for every stage of a sweep.

    Attributes:
        results_dir: The results folder, on a file system that all workers share.
        folder: The working directory of the notebooks.
        threads: The threads of each notebook's TensorFlow.
        time_limit: The longest that a stage may take, in seconds.
        on_gpu: Whether the notebooks use a GPU.
        notebooks: The folder of the notebooks.
        modules: What kernels find imported.
    """

    results_dir: Path
    folder: Path
    threads: int
    time_limit: float
    on_gpu: bool = False
    notebooks: Path = notebooks.NOTEBOOKS
    modules: tuple[str, ...] = kernels.MODULES

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables that give the notebooks their share of the cores."""
        names = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")
        threads = dict.fromkeys(names, str(self.threads))
        return threads if self.on_gpu else threads | {"CUDA_VISIBLE_DEVICES": "-1"}


@dataclass(frozen=True)
class Outcome:
    """How a stage ended.

    Attributes:
        key: The stage.
        status: "finished", "already finished", "failed", "skipped", "stopped" with the sweep, or "busy": another sweep
            works on its group, and it can be tried again.
        seconds: How long it took.
        error: Why it failed, was skipped or stopped, in one line.
        disk_full: Whether the disk is full.
    """

    key: str
    status: str
    seconds: float = 0.0
    error: str = ""
    disk_full: bool = False

    @property
    def is_good(self) -> bool:
        """Whether what the stage makes is there."""
        return self.status in ("finished", "already finished")

    @property
    def is_busy(self) -> bool:
        """Whether another sweep works on the group of the stage."""
        return self.status == "busy"


class _StoppedError(Exception):
    """The sweep does not want the stage any more."""


def perform(
    stage: Stage, settings: Settings, needed: list[Outcome], is_unwanted: Callable[[], bool] | None = None
) -> Outcome:
    """Does a stage, unless it is done already, or none of what it needs is there.

    A stage that fails is tried once more. While another sweep works on the same group, it is "busy".

    Args:
        stage: The stage.
        settings: Those of the sweep.
        needed: How the stages ended that it needs.
        is_unwanted: Asked twice a second whether to stop (default: whether Dask has forgotten the task).
    """
    is_unwanted = is_unwanted or _is_forgotten()
    bad = [outcome for outcome in needed if not outcome.is_good]
    if bad and (stage.needs_all or len(bad) == len(needed)):
        return _skipped(stage, settings, bad[0])
    try:
        # A page is written beside its place and renamed, so nobody need wait to make it.
        with contextlib.nullcontext() if stage.notebook == RENDER else _lock(stage, settings):
            if stage.is_done(settings.results_dir):
                return Outcome(stage.key, "already finished")
            return _attempts(stage, settings, is_unwanted)
    except Timeout:
        return Outcome(stage.key, "busy")
    except _StoppedError:
        return Outcome(stage.key, "stopped")
    except (WorkbookError, OSError) as error:  # not of the stage, but of the results folder
        return Outcome(stage.key, "failed", error=_one_line(error), disk_full=_is_disk_full(error))


def _lock(stage: Stage, settings: Settings) -> AcquireReturnProxy:
    return records.lock(settings.results_dir, stage.group).acquire(timeout=_PATIENCE_SECONDS, poll_interval=0.2)


def _skipped(stage: Stage, settings: Settings, cause: Outcome) -> Outcome:
    reason = cause.error if cause.status == "skipped" else f"{cause.key} {cause.status}"
    with contextlib.suppress(WorkbookError, OSError):
        records.write(settings.results_dir, stage.key, records.Record("skipped", error=reason))
    return Outcome(stage.key, "skipped", error=reason, disk_full=cause.disk_full)


def _is_forgotten() -> Callable[[], bool]:
    from distributed import get_worker

    try:
        worker = get_worker()
    except ValueError:  # not on a worker
        return lambda: False
    key = worker.get_current_task()

    def is_forgotten() -> bool:
        task = worker.state.tasks.get(key)
        return task is None or task.state in ("cancelled", "released", "forgotten")

    return is_forgotten


def _attempts(stage: Stage, settings: Settings, is_unwanted: Callable[[], bool]) -> Outcome:
    for attempt in range(1, _ATTEMPTS + 1):
        start = time.monotonic()
        record = records.running(attempt)
        records.write(settings.results_dir, stage.key, record)
        try:
            _do(stage, settings, is_unwanted)
        except Exception as error:
            if is_unwanted():
                raise _StoppedError from error
            failure = Outcome(stage.key, "failed", time.monotonic() - start, _one_line(error), _is_disk_full(error))
            _record_failure(failure, record, settings)
            if failure.disk_full:
                break
        else:
            seconds = round(time.monotonic() - start, 1)
            records.write(settings.results_dir, stage.key, replace(record, status="finished", seconds=seconds))
            return Outcome(stage.key, "finished", seconds)
    return failure


def _record_failure(failure: Outcome, record: records.Record, settings: Settings) -> None:
    failed = replace(
        record,
        status="failed",
        seconds=round(failure.seconds, 1),
        error=failure.error,
        tail=records.log_tail(settings.results_dir, failure.key),
    )
    with contextlib.suppress(WorkbookError, OSError):  # the failure may well be that nothing can be written
        records.write(settings.results_dir, failure.key, failed)


def _do(stage: Stage, settings: Settings, is_unwanted: Callable[[], bool]) -> None:
    kept = settings.results_dir / stage.kept
    if stage.notebook == RENDER:
        render.render(settings.results_dir / stage.parameters["source"], kept)
        return
    server = _server(settings)
    deadline = time.monotonic() + settings.time_limit

    def reason_to_stop() -> str:
        if is_unwanted():
            return "stopped"
        is_late = time.monotonic() > deadline
        return f"it took longer than the limit of {duration(settings.time_limit)}" if is_late else ""

    executed = records.path(settings.results_dir, stage.key, ".ipynb")
    progress = records.path(settings.results_dir, stage.key, ".progress")
    progress.unlink(missing_ok=True)
    results = {} if stage.notebook == "prepare" else {"results_dir": str(settings.results_dir)}
    notebooks.execute(
        settings.notebooks / f"{stage.notebook}.ipynb",
        executed,
        stage.parameters | results,
        server=server,
        environment=settings.environment | {PROGRESS_FILE: str(progress)},
        folder=settings.folder,
        log=records.path(settings.results_dir, stage.key, ".log"),
        reason_to_stop=reason_to_stop,
    )
    # Training makes the run folder anew, so a notebook is written elsewhere first; that of a failed stage stays there.
    kept.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(executed, kept)
    progress.unlink(missing_ok=True)


_servers: dict[Settings, kernels.KernelServer] = {}


def _server(settings: Settings) -> kernels.KernelServer:
    """Returns the process that this worker's kernels start from, made at first use."""
    known = _servers.get(settings)
    if known is None or not known.is_alive:
        for server in _servers.values():
            server.close()
        _servers.clear()
        # TensorFlow asks the GPU's driver for devices on import, and the driver does not survive a fork.
        known = kernels.KernelServer(() if settings.on_gpu else settings.modules, settings.environment)
        known.wait()
        _servers[settings] = known
    return known


def _one_line(error: Exception) -> str:
    said = " ".join(str(error).split())
    return said if isinstance(error, WorkbookError) else f"{type(error).__name__}: {said}"


def _is_disk_full(error: BaseException | None) -> bool:
    while error:
        if getattr(error, "errno", None) == errno.ENOSPC or _NO_SPACE in str(error):
            return True
        error = error.__cause__
    return False
