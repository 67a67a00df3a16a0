"""Runs the stages of a plan on a Dask cluster and follows them to their end."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

from distributed import Client, as_completed

from mbutils import runs
from mbutils.errors import WorkbookError
from mbutils.sweep import records
from mbutils.sweep.clusters import physical_cores
from mbutils.sweep.plan import COMPARISON, RENDER, REPORT, Plan, Stage
from mbutils.sweep.stages import Outcome, Settings, perform


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
        outcome = perform(stage, settings, [])
        if not outcome.is_good:
            raise WorkbookError(outcome.error)


def _outcomes(
    stages: list[Stage], settings: Settings, client: Client, tell: Callable[[Outcome], None]
) -> Iterator[Outcome]:
    """Submits stages with what they need, and yields how each ended, as it ends."""
    token = uuid4().hex[:8]  # two sweeps on one scheduler are two
    futures, last_of_group = {}, {}
    for stage in stages:
        renders = stage.notebook == RENDER
        futures[stage.key] = client.submit(
            _in_turn,
            stage,
            settings,
            [futures[key] for key in stage.after if key in futures],
            None if renders else last_of_group.get(stage.group),
            key=f"{stage.key}-{token}",
            pure=False,
            priority=-1 if renders else 0,  # rendering waits for whatever else can be done
            resources={"GPU": 1} if settings.on_gpu and not renders else None,
        )
        if not renders:
            last_of_group[stage.group] = futures[stage.key]
    keys = {future.key: key for key, future in futures.items()}
    try:
        for future in as_completed(list(futures.values())):
            outcome = _outcome(future, keys[future.key], settings.results_dir)
            tell(outcome)
            if outcome.disk_full:
                raise WorkbookError(
                    f"the disk of {settings.results_dir}, or of the cache, is full ({outcome.error}): free some "
                    "space; what is finished is kept, the same command goes on from there"
                )
            yield outcome
    finally:
        with contextlib.suppress(Exception):  # a scheduler that is gone has nothing to cancel
            client.cancel(list(futures.values()), force=True)


def _in_turn(stage: Stage, settings: Settings, needed: list[Outcome], _before: Outcome | None) -> Outcome:
    """Performs a stage when the one before it in its group has ended, well or not: a group is worked on once at a time.

    Left to the lock of the group, a worker would take the stage up and wait, with others left undone.
    """
    return perform(stage, settings, needed)


def _outcome(future: object, key: str, results_dir: Path) -> Outcome:
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
