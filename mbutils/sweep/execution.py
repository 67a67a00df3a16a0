"""Runs the stages of a plan on a Dask cluster and follows them to their end."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

from distributed import Client, Future, as_completed
from distributed import TimeoutError as TimeIsUp

from mbutils import files, runs
from mbutils.errors import WorkbookError
from mbutils.runs.folder import LOGS
from mbutils.sweep import records
from mbutils.sweep.clusters import physical_cores
from mbutils.sweep.plan import COMPARISON, RENDER, REPORT, RUNG, Plan, Stage
from mbutils.sweep.stages import ATTEMPTS, Outcome, Settings, attempt, perform

_FIRST = ("prepare", "train", RUNG)


def unfinished(plan: Plan, results_dir: Path) -> list[Stage]:
    """Returns the stages of a plan that are still to be done, in their order."""
    left: dict[str, Stage] = {}
    for stage in plan.stages:
        if any(key in left for key in stage.after) or not stage.is_done(results_dir):
            left[stage.key] = stage
    return list(left.values())


def damages(stages: list[Stage], results_dir: Path) -> list[str]:
    """Returns why stages are done again that were finished: what of their results was damaged since, a line each."""
    return list(dict.fromkeys(filter(None, (stage.damage(results_dir) for stage in stages))))


def make_folder(results_dir: Path) -> None:
    """Makes a results folder where there is none, and sees whether a sweep can write its results there.

    Raises:
        WorkbookError: If it cannot.
    """
    for folder in (results_dir, *(results_dir / name for name in (LOGS, "prepare", "runs"))):
        files.make_folder(folder, "choose another --results-dir")
    for name in ("results.csv", COMPARISON.kept, REPORT.kept):
        if (results_dir / name).is_dir():
            raise WorkbookError(f"cannot write {results_dir / name} (it is a folder): choose another --results-dir")


def run(
    plan: Plan, stages: list[Stage], settings: Settings, client: Client, show: Callable[[Outcome], None]
) -> list[Outcome]:
    """Runs stages, continues when one fails, and then compares the runs, if the plan contains that and there are any.

    Args:
        plan: What `plan.read` returned.
        stages: Those of it that `unfinished` returned.
        settings: What holds for every stage.
        client: The client of the cluster.
        show: Called with each outcome as it comes.

    Returns:
        The outcome of every stage.

    Raises:
        WorkbookError: If the results folder cannot be written, or its disk is full.
    """
    outcomes = run_stages(stages, settings, client, show)
    if plan.compares and runs.all_runs(settings.results_dir):
        outcomes += _outcomes([COMPARISON, REPORT], settings, client, show)
    return outcomes


def run_stages(
    stages: list[Stage],
    settings: Settings,
    client: Client,
    show: Callable[[Outcome], None],
    seconds: float | None = None,
) -> list[Outcome]:
    """Runs stages, and continues when one fails.

    Args:
        stages: The stages, each after those that it needs.
        settings: What holds for every stage.
        client: The client of the cluster.
        show: Called with each outcome as it comes.
        seconds: When to stop those that have not ended, without an outcome; None for never.

    Returns:
        The outcomes.

    Raises:
        WorkbookError: If the results folder cannot be written, or its disk is full.
    """
    for stage in stages:
        before = records.read(settings.results_dir, stage.key)
        if before is None or before.status != "running":  # by another sweep, or by one that was killed
            records.write(settings.results_dir, stage.key, records.Record("waiting"))
    return list(_outcomes(stages, settings, client, show, seconds))


def report(results_dir: Path) -> None:
    """Rebuilds `results.csv` and `report.html` of a results folder from its runs, in this process.

    Raises:
        WorkbookError: If the folder holds no runs, or the comparison fails.
    """
    if not runs.all_runs(results_dir):
        raise runs.no_run(results_dir)
    make_folder(results_dir)
    settings = Settings(results_dir, Path.cwd(), physical_cores(), time_limit=float("inf"), preload=())
    for stage in (COMPARISON, REPORT):
        with records.lock(results_dir, stage.group):
            outcome = attempt(stage, settings, is_unwanted=lambda: False)
        if not outcome.is_good:
            raise WorkbookError(outcome.error)


def _outcomes(
    stages: list[Stage],
    settings: Settings,
    client: Client,
    show: Callable[[Outcome], None],
    seconds: float | None = None,
) -> Iterator[Outcome]:
    """Runs stages and yields how each ended, for so many seconds at most."""
    futures = _submit(stages, settings, client)
    keys = {future: key for key, future in futures.items()}
    try:
        for future in as_completed(futures.values(), timeout=seconds):
            outcome = _outcome(future, keys[future], settings.results_dir)
            show(outcome)
            _check_disk(outcome, settings.results_dir)
            yield outcome
            if outcome.status == "stopped":  # the scheduler is gone, or does not want us
                return
    except TimeIsUp:
        return
    finally:
        with contextlib.suppress(Exception):  # a scheduler that is gone has nothing to cancel
            client.cancel(list(futures.values()), force=True)


def _submit(stages: list[Stage], settings: Settings, client: Client) -> dict[str, Future]:
    """Submits all stages to Dask, each as a function of the outcomes of those that it needs.

    The notebooks of a group follow one another. Of the others the first go first, see `_priority`.
    """
    futures: dict[str, Future] = {}
    latest: dict[str, Future] = {}
    for position, stage in enumerate(stages):
        is_rendering = stage.notebook == RENDER
        futures[stage.key] = client.submit(
            perform,
            stage,
            settings,
            [futures[key] for key in stage.after if key in futures],
            None if is_rendering else latest.get(stage.group),
            # Dask learns how long each kind takes from the first word. Two sweeps on one scheduler are two.
            key=f"{stage.notebook}-{stage.key}-{uuid4().hex[:8]}",
            priority=_priority(stage, position, len(stages)),
            retries=ATTEMPTS - 1,
            pure=False,
        )
        if not is_rendering:
            latest[stage.group] = futures[stage.key]
    return futures


def _priority(stage: Stage, position: int, count: int) -> int:
    """Returns how urgent one of so many stages is. Trainings are the longest: what is short fills the end of a sweep.

    Pages are rendered last.
    """
    if stage.notebook == RENDER:
        return -position - count
    return -position + count * (stage.notebook in _FIRST)


def _check_disk(outcome: Outcome, results_dir: Path) -> None:
    if outcome.disk_full:
        raise WorkbookError(
            f"the disk of {results_dir}, or of the cache, is full ({outcome.error}): free some space. What is "
            "finished is kept, and the same command continues from there"
        )


def _outcome(future: Future, key: str, results_dir: Path) -> Outcome:
    """Returns how a stage ended, also where its worker died each time that it was tried."""
    if future.status == "finished":
        return future.result()
    if future.status == "cancelled":
        return Outcome(key, "stopped", error="the scheduler stopped it")
    error = " ".join(str(future.exception()).split())
    record = records.read(results_dir, key) or records.Record("waiting")
    status = "skipped" if record.status == "waiting" else "failed"  # it was never begun: one that it needs failed
    records.write(results_dir, key, replace(record, status=status, error=error))
    return Outcome(key, status, error=error)
