"""Sweeps against a shell loop: the same notebooks for the same configurations, one after another through papermill.

Everything counts: a sweep's start, its cluster and its HTML; the loop's kernels and imports. Overhead is the time
that is not work of the notebooks: elapsed time, idle workers included, minus the time of the cells after the imports
divided by the number of workers.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import yaml

from mbutils.columns import BENCH_SWEEPS, names
from mbutils.config import PROJECT, ConvertParameters, EvaluateParameters, TrainParameters, read_yaml
from mbutils.errors import WorkbookError
from mbutils.progress import progress

CONFIGURATIONS = 8
MOST_OF_LOOP = 0.6  # the part of the loop's time that a sweep may take
MOST_OVERHEAD = 15.0  # seconds a configuration
PARAMETERS_OF = {"train": TrainParameters, "convert": ConvertParameters, "evaluate": EvaluateParameters}


def measure(configurations: int = CONFIGURATIONS, parameters: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """Returns the rows of `bench_sweeps.csv`: a loop, a sweep of 2 workers with 1 thread, one of 1 worker with 2.

    Args:
        configurations: Their number, each with its own seed.
        parameters: The parameters of every configuration (default: params/sweeps/shared/quick.yaml).

    Raises:
        WorkbookError: If one way fails.
    """
    parameters = parameters or read_yaml(PROJECT / "params" / "sweeps" / "shared" / "quick.yaml", "parameters")
    folder = Path(tempfile.mkdtemp(prefix="mb-bench-"))
    file = folder / "sweep.yaml"
    file.write_text(
        yaml.dump({"defaults": parameters, "seeds": list(range(configurations)), "notebooks": list(PARAMETERS_OF)})
    )
    try:
        with progress(4, "sweeps", "way") as bar:
            # The first run does not count: it decodes the images, which all others then find in the cache.
            _loop(folder / "first", parameters, 1)
            bar.update()
            loop = _loop(folder / "loop", parameters, configurations)
            rows = [_row("papermill in a shell loop", configurations, 1, 2, loop, loop, folder / "loop")]
            bar.update()
            for workers, threads in ((2, 1), (1, 2)):
                results = folder / f"sweep_{workers}"
                seconds = _sweep(file, results, workers, threads)
                rows.append(_row("mb sweep", configurations, workers, threads, seconds, loop, results))
                bar.update()
    finally:
        shutil.rmtree(folder)
    # Expected of the sweep as it is by default on 2 cores.
    rows[1] |= {"part_of_loop_expected": MOST_OF_LOOP, "overhead_seconds_expected": MOST_OVERHEAD}
    return rows


def _loop(results: Path, parameters: dict[str, Any], configurations: int) -> float:
    results.mkdir()
    start = time.perf_counter()
    for seed in range(configurations):
        for stage in PARAMETERS_OF:
            taken = {spec.name for spec in fields(PARAMETERS_OF[stage])}
            used = {name: value for name, value in (parameters | {"seed": seed}).items() if name in taken}
            options = [part for name, value in used.items() for part in ("-p", name, str(value))]
            output = results / f"{stage}_{seed}.ipynb"
            notebook = PROJECT / "notebooks" / f"{stage}.ipynb"
            _call("papermill", notebook, output, *options, "-p", "results_dir", results, "--no-progress-bar")
    return time.perf_counter() - start


def _sweep(file: Path, results: Path, workers: int, threads: int) -> float:
    start = time.perf_counter()
    _call("mb", "sweep", file, "--results-dir", results, "--workers", workers, "--threads", threads)
    return time.perf_counter() - start


def _call(command: str, *arguments: object) -> None:
    program = Path(sys.executable).parent / command
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_THREADS")}
    environment["CUDA_VISIBLE_DEVICES"] = "-1"
    done = subprocess.run([program, *map(str, arguments)], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise WorkbookError(f"{command} failed: {' '.join(done.stderr.splitlines()[-1:])}")


def _row(
    way: str, configurations: int, workers: int, threads: int, seconds: float, loop: float, results: Path
) -> dict[str, Any]:
    work = sum(map(seconds_of_work, results.rglob("*.ipynb")))
    overhead = (seconds - work / workers) / configurations
    values = (way, configurations, workers, threads, seconds, seconds / loop, None, overhead, None)
    return dict(zip(names(BENCH_SWEEPS), values, strict=True))


def seconds_of_work(notebook: Path) -> float:
    """Returns the seconds of the cells of an executed notebook, without those that only import."""
    cells = nbformat.read(notebook, 4).cells
    return sum(
        cell.metadata.get("papermill", {}).get("duration") or 0.0
        for cell in cells
        if not cell.source.startswith(("%reload_ext", "from ", "import "))
    )


def reached(row: dict[str, Any]) -> bool:
    """Returns whether a row is within the limits that are expected of it."""
    within = (("part_of_loop", "part_of_loop_expected"), ("overhead_seconds", "overhead_seconds_expected"))
    return all(row[most] is None or row[value] <= row[most] for value, most in within)


def text(rows: Iterable[dict[str, Any]]) -> str:
    """Returns the rows as a table for a terminal."""
    return pd.DataFrame(map(_cells, rows)).to_string(index=False)


def _cells(row: dict[str, Any]) -> dict[str, str]:
    verdict = "" if row["part_of_loop_expected"] is None else ("reached" if reached(row) else "MISSED")
    most = f" (at most {row['part_of_loop_expected']:g})" if verdict else ""
    most_overhead = f" (at most {row['overhead_seconds_expected']:g})" if verdict else ""
    return {
        "way": row["way"],
        "workers x threads": f"{row['workers']} x {row['threads']}",
        "seconds": f"{row['seconds']:.0f}",
        "part of the loop": f"{row['part_of_loop']:.2f}{most}",
        "overhead s a configuration": f"{row['overhead_seconds']:.1f}{most_overhead}",
        "": verdict,
    }
