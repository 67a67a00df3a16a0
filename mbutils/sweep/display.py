"""How a sweep looks: a live table in a terminal, a line for each stage elsewhere, and the status of any results folder.

Everything but the lines comes from the records in the results folder, so anyone who can read it can follow a sweep.
"""

import contextlib
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mbutils.errors import WorkbookError
from mbutils.progress import duration
from mbutils.sweep import estimates, records
from mbutils.sweep.plan import COMPARISON, RENDER, Plan, Stage
from mbutils.sweep.stages import Outcome

_STYLES = {"finished": "green", "running": "yellow", "failed": "red", "killed": "red", "skipped": "magenta"}
_WIDTH_ELSEWHERE = 160  # characters of a line in a file or a pipe


class Display:
    """Shows a running sweep. `add` each outcome, within the block of `live`.

    Args:
        plan: The plan.
        left: Its stages that are still to be done.
        results_dir: The results folder.
        workers: The number of workers.
    """

    def __init__(self, plan: Plan, left: list[Stage], results_dir: Path, workers: int) -> None:
        stages = [*left, *([COMPARISON] if plan.compares else [])]
        self._stages = {stage.key: stage for stage in stages if stage.notebook != RENDER}
        self._left = dict(self._stages)
        self._results_dir, self._workers = results_dir, workers
        self._outcomes: Counter[str] = Counter()
        self._failed: list[Outcome] = []
        self._start = time.monotonic()

    @contextlib.contextmanager
    def live(self) -> Iterator[None]:
        """Shows the table within the block, where standard output is a terminal; elsewhere `add` prints lines."""
        if sys.stdout.isatty():
            with Live(get_renderable=self._table, refresh_per_second=1, transient=True):
                yield
        else:
            yield

    def add(self, outcome: Outcome) -> None:
        """Counts an outcome, and prints its line where there is no table."""
        if outcome.key not in self._stages and outcome.is_good:  # a rendering
            return
        self._left.pop(outcome.key, None)
        self._outcomes[outcome.status] += 1
        if outcome.status == "failed":
            self._failed.append(outcome)
        if not sys.stdout.isatty():
            done = len(self._stages) - len(self._left)
            print(f"[{done}/{len(self._stages)}] {_line(outcome)}", flush=True)

    def _table(self) -> Group:
        table = _new_table("configuration", "stage", "progress", "so far", "left")
        for key in list(self._left):
            record = records.read(self._results_dir, key)
            if record and record.status == "running":
                group, name = key.split("/")
                attempt = " (again)" if record.attempts > 1 else ""
                table.add_row(
                    *map(Text, (group, name + attempt, *_progress(self._results_dir, key))), style=_STYLES["running"]
                )
        counts = ", ".join(f"{number} {status}" for status, number in sorted(self._outcomes.items()))
        failed = [Text(_line(outcome), style=_STYLES["failed"]) for outcome in self._failed[-5:]]
        return Group(table, Text(f"{counts or 'starting'}; {self._time_left()}"), *failed)

    def _time_left(self) -> str:
        left = [stage for stage in self._left.values() if stage.notebook != COMPARISON.notebook]
        stages = list(self._stages.values())
        factors = estimates.measured_factors([s for s in stages if s.key not in self._left], self._results_dir)
        seconds = estimates.total(left, self._workers, factors)
        elapsed = time.monotonic() - self._start
        return f"{len(left)} of {len(stages)} stages left, {duration(elapsed)} so far, about {duration(seconds)} left"


def _line(outcome: Outcome) -> str:
    group, name = outcome.key.split("/")
    took = f" in {duration(outcome.seconds)}" if outcome.status == "finished" else ""
    return f"{group}  {name}: {outcome.status}{took}{': ' if outcome.error else ''}{outcome.error}"


def _progress(results_dir: Path, key: str) -> tuple[str, str, str]:
    """Returns how far a stage is, the note of its progress bar, and the time left."""
    bar = records.progress(results_dir, key)
    if not bar:
        return "", "", ""
    left = "" if bar["left"] is None else duration(bar["left"])
    return f"{bar['what']}, {bar['unit']} {bar['n']}/{bar['total']}", bar["note"] or "", left


def _new_table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, no_wrap=column == "configuration")
    return table


def plan_text(plan: Plan, left: list[Stage], results_dir: Path, workers: int) -> str:
    """Returns the plan of a sweep: a line for each run with its stages, and how long the rest will take."""
    remaining = {stage.key for stage in left}
    lines: dict[str, list[str]] = {}
    for stage in plan.stages:
        if not stage.name.endswith(".html"):
            lines.setdefault(stage.group, []).append(stage.name + " (finished)" * (stage.key not in remaining))
    factors = estimates.measured_factors(list(plan.stages), results_dir)
    seconds = estimates.total(left, workers, factors)
    runs = len({configuration.run_id for configuration in plan.configurations})
    basis = f"from {len(factors)} stages that ran here" if factors else "a guess from the sizes, until some ran here"
    todo = len([key for key in remaining if not key.endswith(".html")])
    time_left = f"about {duration(seconds)} on {_count(workers, 'worker')} ({basis})" if left else "nothing to do"
    summary = f"{_count(runs, 'run')}, {_count(todo, 'notebook')} to execute: {time_left}"
    return "\n".join([*(f"{group}  {', '.join(names)}" for group, names in lines.items()), summary])


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def failures_text(outcomes: Iterable[Outcome], results_dir: Path) -> str:
    """Returns what failed, each with the last lines of its log; empty where nothing did."""
    lines = []
    for outcome in outcomes:
        if not outcome.is_good:
            lines.append(_line(outcome))
        if outcome.status == "failed":
            lines += [f"    {line}" for line in records.log_tail(results_dir, outcome.key)]
            lines.append(f"    log: {records.path(results_dir, outcome.key, '.log')}")
    return "\n".join(lines)


def print_status(results_dir: Path) -> bool:
    """Prints what each stage of a results folder is doing, or how it ended, and returns whether one failed.

    Raises:
        WorkbookError: If there is no stage.
    """
    known = {key: record for key, record in records.read_all(results_dir).items() if not key.endswith(".html")}
    damaged = records.damaged(results_dir)
    if not known and not damaged:
        raise WorkbookError(f"no sweep in {results_dir}: start one with mb sweep, or choose another --results-dir")
    table = _new_table("configuration", "stage", "status", "progress", "so far", "left")
    counts: Counter[str] = Counter()
    for key, record in known.items():
        group, name = key.split("/")
        status = record.status
        if status == "running" and not records.is_locked(results_dir, group):
            status = "killed"
        counts[status] += 1
        facts = {
            "running": _progress(results_dir, key),
            "finished": (duration(record.seconds), "", ""),
            "failed": (record.error, "", ""),
            "skipped": (record.error, "", ""),
        }.get(status, ("", "", ""))
        table.add_row(Text(group), Text(name), Text(status, style=_STYLES.get(status, "")), *map(Text, facts))
    console = Console(width=None if sys.stdout.isatty() else _WIDTH_ELSEWHERE)
    console.print(table)
    console.print(", ".join(f"{number} {status}" for status, number in sorted(counts.items())))
    for key, record in known.items():
        if record.status == "failed":
            print(f"\n{key} failed after {_count(record.attempts, 'attempt')}: {record.error}")
            print("".join(f"    {line}\n" for line in record.tail), end="")
            print(f"    log: {records.path(results_dir, key, '.log')}")
    for reason in damaged:
        print(f"damaged: {reason}")
    return counts["failed"] > 0
