"""Runs the stages of a plan on a Dask cluster and follows them to their end."""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

from distributed import Client, Future

from mbutils import runs
from mbutils.errors import WorkbookError
from mbutils.sweep import records
from mbutils.sweep.clusters import physical_cores
from mbutils.sweep.plan import COMPARISON, RENDER, REPORT, Plan, Stage
from mbutils.sweep.stages import Outcome, Settings, perform

_LOOK_SECONDS = 0.2


def unfinished(plan: Plan, results_dir: Path) -> list[Stage]:
    """Returns the stages of a plan that are still to be done, in their order."""
    left: dict[str, Stage] = {}
    for stage in plan.stages:
        if any(key in left for key in stage.after) or not stage.is_done(results_dir):
            left[stage.key] = stage
    return list(left.values())


def make_folder(results_dir: Path) -> None:
    """Makes a results folder where there is none.

    Raises:
        WorkbookError: If it cannot be written.
    """
    try:
        results_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WorkbookError(f"cannot write in {results_dir} ({error.strerror}): give another --results") from error


def run(
    plan: Plan, stages: list[Stage], settings: Settings, client: Client, tell: Callable[[Outcome], None]
) -> list[Outcome]:
    """Runs stages, and goes on when one fails; then the comparison, if the plan asks for it and there are runs.

    Args:
        plan: What `plan.read` returned.
        stages: Those of it that `unfinished` returned.
        settings: What holds for every stage.
        client: The client of the cluster.
        tell: Called with each outcome as it comes.

    Returns:
        The outcome of every stage.

    Raises:
        WorkbookError: If the results folder cannot be written, or its disk is full.
    """
    for stage in stages:
        before = records.read(settings.results_dir, stage.key)
        if before is None or before.status != "running":  # by another sweep, or by one that was killed
            records.write(settings.results_dir, stage.key, records.Record("waiting"))
    outcomes = list(_outcomes(stages, settings, client, tell))
    if plan.compares and runs.all_runs(settings.results_dir):
        outcomes += _outcomes([COMPARISON, REPORT], settings, client, tell)
    return outcomes


def report(results_dir: Path) -> None:
    """Rebuilds `results.csv` and `report.html` of a results folder from its runs, in this process.

    Raises:
        WorkbookError: If the folder holds no runs, or the comparison fails.
    """
    if not runs.all_runs(results_dir):
        raise WorkbookError(f"no runs in {results_dir}: train one first, or give another --results")
    settings = Settings(results_dir, Path.cwd(), physical_cores(), time_limit=float("inf"), modules=())
    for stage in (COMPARISON, REPORT):
        while (outcome := perform(stage, settings, [])).is_busy:
            pass
        if not outcome.is_good:
            raise WorkbookError(outcome.error)


def _outcomes(
    stages: list[Stage], settings: Settings, client: Client, tell: Callable[[Outcome], None]
) -> Iterator[Outcome]:
    """Gives each thread of the workers a stage that can be begun, until there are none, and yields how each ended.

    Given to Dask all at once, stages would queue up for the worker that did what they need, while others idle.
    """
    waiting = {stage.key: stage for stage in stages}
    running: dict[str, Stage] = {}
    futures: dict[str, Future] = {}
    ended: dict[str, Outcome] = {}
    try:
        while waiting or running:
            while len(running) < _threads(client) and (stage := _next(waiting, running)):
                needed = [ended[key] for key in stage.after if key in ended]
                futures[stage.key] = _submit(stage, settings, needed, client)
                running[stage.key] = waiting.pop(stage.key)
            time.sleep(_LOOK_SECONDS)
            for key in [key for key in running if futures[key].done()]:
                stage, outcome = running.pop(key), _outcome(futures.pop(key), key, settings.results_dir)
                if outcome.is_busy:
                    waiting[key] = stage  # behind all others
                    continue
                tell(outcome)
                _check_disk(outcome, settings.results_dir)
                ended[key] = outcome
                yield outcome
                if outcome.status == "stopped":  # the scheduler is gone, or does not want us
                    waiting.clear()
    finally:
        with contextlib.suppress(Exception):  # a scheduler that is gone has nothing to cancel
            client.cancel(list(futures.values()), force=True)


def _threads(client: Client) -> int:
    return sum(worker["nthreads"] for worker in client.scheduler_info(n_workers=-1)["workers"].values())


def _next(waiting: dict[str, Stage], running: dict[str, Stage]) -> Stage | None:
    """Returns the first stage that can be begun: what it needs has ended, and no other of its group is running.

    Rendering needs no group for itself, and waits for whatever else can be done.
    """
    unfinished = waiting.keys() | running.keys()
    groups = {stage.group for stage in running.values() if stage.notebook != RENDER}
    ready = [
        stage
        for stage in waiting.values()
        if unfinished.isdisjoint(stage.after) and (stage.notebook == RENDER or stage.group not in groups)
    ]
    return min(ready, key=lambda stage: stage.notebook == RENDER, default=None)


def _submit(stage: Stage, settings: Settings, needed: list[Outcome], client: Client) -> Future:
    return client.submit(
        perform,
        stage,
        settings,
        needed,
        key=f"{stage.key}-{uuid4().hex[:8]}",  # two sweeps on one scheduler are two
        pure=False,
        resources={"GPU": 1} if settings.on_gpu and stage.notebook != RENDER else None,
    )


def _check_disk(outcome: Outcome, results_dir: Path) -> None:
    if outcome.disk_full:
        raise WorkbookError(
            f"the disk of {results_dir}, or of the cache, is full ({outcome.error}): free some space; what is "
            "finished is kept, the same command goes on from there"
        )


def _outcome(future: Future, key: str, results_dir: Path) -> Outcome:
    """Returns how a stage ended, also where its worker died each time that it was tried."""
    if future.status == "finished":
        return future.result()
    if future.status == "cancelled":
        return Outcome(key, "stopped", error="the scheduler stopped it")
    error = " ".join(str(future.exception()).split())
    record = records.read(results_dir, key) or records.Record("failed")
    failed = records.Record("failed", record.attempts, record.host, record.started, error=error)
    records.write(results_dir, key, failed)
    return Outcome(key, "failed", error=error)
