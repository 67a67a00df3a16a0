"""One stage on a worker: take the lock of its group, see whether it is still to be done, do it, record it."""

import contextlib
import errno
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue

from distributed import get_worker, rejoin, secede
from filelock import Timeout

from mbutils.errors import WorkbookError
from mbutils.progress import PROGRESS_FILE
from mbutils.report import render
from mbutils.sweep import kernels, notebooks, records
from mbutils.sweep.plan import RENDER, Stage

ATTEMPTS = 2
_POLL_SECONDS = 0.5
_NO_SPACE = os.strerror(errno.ENOSPC)

free_gpus: SimpleQueue[str] = SimpleQueue()  # those of this machine that no kernel uses


@dataclass(frozen=True)
class Settings:
    """The settings of a sweep, the same for every stage.

    Attributes:
        results_dir: The results folder, on a file system that all workers share.
        folder: The working directory of the notebooks.
        threads: The threads of each notebook's TensorFlow.
        time_limit: The longest that a stage may take, in seconds.
        gpus: The names of the GPUs of which each notebook takes one, if any.
        notebooks: The folder of the notebooks.
        preload: The modules that kernels find imported, unless they use a GPU, whose driver does not survive a fork.
    """

    results_dir: Path
    folder: Path
    threads: int
    time_limit: float
    gpus: tuple[str, ...] = ()
    notebooks: Path = notebooks.NOTEBOOKS
    preload: tuple[str, ...] = kernels.PRELOADED

    @contextlib.contextmanager
    def environment(self) -> Iterator[dict[str, str]]:
        """Yields the environment variables that give a notebook its share of the cores, and a GPU of its own."""
        gpu = free_gpus.get() if self.gpus else "-1"
        names = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")
        try:
            yield dict.fromkeys(names, str(self.threads)) | {"CUDA_VISIBLE_DEVICES": gpu}
        finally:
            if self.gpus:
                free_gpus.put(gpu)


@dataclass(frozen=True)
class Outcome:
    """How a stage ended.

    Attributes:
        key: The stage.
        status: "finished", "already finished", "failed", "skipped", or "stopped" with the sweep.
        seconds: How long it took.
        error: Why it failed, was skipped or stopped, in one line.
        attempts: How often it was tried, where it failed.
        disk_full: Whether the disk is full.
    """

    key: str
    status: str
    seconds: float = 0.0
    error: str = ""
    attempts: int = 0
    disk_full: bool = False

    @property
    def is_good(self) -> bool:
        """Whether what the stage makes is there."""
        return self.status in ("finished", "already finished")


class FailedAttemptError(Exception):
    """A stage failed, and is to be tried again."""


class _StoppedError(Exception):
    """The sweep was stopped."""


def perform(stage: Stage, settings: Settings, needed: list[Outcome], previous: Outcome | None = None) -> Outcome:
    """Does a stage on a Dask worker, unless it is done already, or none of what it needs is there.

    While another sweep works on the same group, it waits, and leaves its place on the worker to other stages.

    Args:
        stage: The stage.
        settings: Those of the sweep.
        needed: How the stages ended that it needs.
        previous: How the stage before it in its group ended. It does not matter how, only that it has.

    Raises:
        FailedAttemptError: If it failed and is worth trying again.
    """
    is_unwanted = _is_forgotten()
    bad = [outcome for outcome in needed if not outcome.is_good]
    if bad and (stage.needs_all or len(bad) == len(needed)):
        return _skipped(stage, settings, bad[0])
    try:
        # A page is written atomically, so no lock is needed to make it.
        with contextlib.nullcontext() if stage.notebook == RENDER else _locked(stage, settings, is_unwanted) as waited:
            if stage.is_done(settings.results_dir):
                return Outcome(stage.key, "already finished")
            if waited:
                rejoin()
            outcome = attempt(stage, settings, is_unwanted)
    except _StoppedError:
        return Outcome(stage.key, "stopped")
    except (WorkbookError, OSError) as error:  # of the results folder, not of the stage
        return Outcome(stage.key, "failed", error=_one_line(error), disk_full=_is_disk_full(error))
    if outcome.status == "failed" and outcome.attempts < ATTEMPTS and not outcome.disk_full:
        raise FailedAttemptError(f"{stage.key}: {outcome.error}")
    return outcome


@contextlib.contextmanager
def _locked(stage: Stage, settings: Settings, is_unwanted: Callable[[], bool]) -> Iterator[bool]:
    """Holds the lock of the group of a stage, and yields whether it had to wait for it and so gave up its place."""
    lock = records.lock(settings.results_dir, stage.group)
    waited = False
    while not lock.is_locked:
        try:
            lock.acquire(timeout=_POLL_SECONDS if waited else 0)
        except Timeout as error:
            if is_unwanted():
                raise _StoppedError from error
            if not waited:
                secede()
                waited = True
    try:
        yield waited
    finally:
        lock.release()


def _skipped(stage: Stage, settings: Settings, cause: Outcome) -> Outcome:
    reason = cause.error if cause.status == "skipped" else f"{cause.key} {cause.status}"
    with contextlib.suppress(WorkbookError, OSError):
        records.write(settings.results_dir, stage.key, records.Record("skipped", error=reason))
    return Outcome(stage.key, "skipped", error=reason, disk_full=cause.disk_full)


def _is_forgotten() -> Callable[[], bool]:
    """Returns a function that returns whether Dask has forgotten the present task, such as when it is cancelled."""
    worker = get_worker()
    key = worker.get_current_task()

    def is_forgotten() -> bool:
        task = worker.state.tasks.get(key)
        return task is None or task.state in ("cancelled", "released", "forgotten")

    return is_forgotten


def attempt(stage: Stage, settings: Settings, is_unwanted: Callable[[], bool]) -> Outcome:
    """Does a stage and records how it ended.

    Args:
        stage: The stage.
        settings: Those of the sweep.
        is_unwanted: Asked twice a second whether to stop.

    Raises:
        WorkbookError: If the results folder cannot be written.
    """
    before = records.read(settings.results_dir, stage.key)
    number = before.attempts + 1 if before and before.status == "failed" else 1
    start = time.monotonic()
    record = records.running(number)
    records.write(settings.results_dir, stage.key, record)
    try:
        _do(stage, settings, is_unwanted)
    except Exception as error:
        if is_unwanted():
            raise _StoppedError from error
        seconds = time.monotonic() - start
        failure = Outcome(stage.key, "failed", seconds, _one_line(error), number, _is_disk_full(error))
        _record_failure(failure, record, settings)
        return failure
    seconds = round(time.monotonic() - start, 1)
    records.write(settings.results_dir, stage.key, replace(record, status="finished", seconds=seconds))
    return Outcome(stage.key, "finished", seconds)


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
    executed = records.path(settings.results_dir, stage.key, ".ipynb")
    progress = records.path(settings.results_dir, stage.key, ".progress")
    progress.unlink(missing_ok=True)
    results = {} if stage.notebook == "prepare" else {"results_dir": str(settings.results_dir)}
    with settings.environment() as environment:
        notebooks.execute(
            settings.notebooks / f"{stage.notebook}.ipynb",
            executed,
            stage.parameters | results,
            environment=environment | {PROGRESS_FILE: str(progress)},
            folder=settings.folder,
            log=records.path(settings.results_dir, stage.key, ".log"),
            preload=() if settings.gpus else settings.preload,
            time_limit=settings.time_limit,
            is_unwanted=is_unwanted,
        )
    # Training replaces the run folder, so a notebook is written elsewhere first; that of a failed stage stays there.
    kept.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(executed, kept)
    progress.unlink(missing_ok=True)


def _one_line(error: Exception) -> str:
    message = " ".join(str(error).split())
    return message if isinstance(error, WorkbookError) else f"{type(error).__name__}: {message}"


def _is_disk_full(error: BaseException | None) -> bool:
    while error:
        if getattr(error, "errno", None) == errno.ENOSPC or _NO_SPACE in str(error):
            return True
        error = error.__cause__
    return False
