"""The commands about many runs: sweep, status, report, render."""

import argparse
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mbutils.cli.options import add_command, add_parameters, parameters_in, path, print_damaged, text
from mbutils.config import Parameters, TrainParameters, parameter
from mbutils.errors import WorkbookError

if TYPE_CHECKING:
    from mbutils.sweep import Plan
    from mbutils.sweep.stages import Settings


@dataclass(frozen=True)
class Load(Parameters):
    """How much a sweep does at a time, and for how long: options of `mb sweep`."""

    workers: int = parameter(None, "notebooks executed at a time", low=1, high=os.cpu_count())
    threads: int = parameter(None, "threads of each TensorFlow", low=1)
    time_limit: float = parameter(12.0, "hours after which a stage is stopped, and tried once more", low=0.001)


def add_commands(commands: Any) -> None:  # noqa: ANN401
    """Adds them to the parsers of `mb`."""
    sweep = add_command(
        commands,
        "sweep",
        _sweep,
        "train, convert and evaluate many configurations, then compare them",
        "Runs the notebooks for every configuration of a sweep file, skips what is finished, and writes "
        "results.csv and report.html. Exit status 1 if a configuration failed.",
    )
    sweep.add_argument("file", type=path, metavar="FILE", help="a sweep file, such as params/sweeps/demo.yaml")
    sweep.add_argument("--seeds", type=_seeds, metavar="N,N,...", help="(default: those of the file)")
    sweep.add_argument("--dry-run", action="store_true", help="only show the plan, with an estimate of the time")
    add_parameters(sweep, Load, "workers", default="one for each physical core, or GPU; at most the number of runs")
    add_parameters(sweep, Load, "threads", default="its share of the cores")
    add_parameters(sweep, Load, "time_limit")
    sweep.add_argument(
        "--scheduler", type=text, metavar="ADDRESS", help="run on the workers of a Dask scheduler, tls://HOST:8786"
    )
    sweep.add_argument("--tls-ca", type=path, metavar="PEM", help="certificate authority of the scheduler")
    sweep.add_argument("--tls-cert", type=path, metavar="PEM", help="certificate to show to the scheduler")
    sweep.add_argument("--tls-key", type=path, metavar="PEM", help="key of that certificate")
    sweep.add_argument("--insecure", action="store_true", help="accept a scheduler that is not encrypted")

    add_command(
        commands,
        "status",
        _status,
        "what a sweep is doing, or how it ended",
        "Shows every stage of the sweeps of a results folder, running or ended, and the log of what "
        "failed. Exit status 1 if something failed.",
    )

    add_command(
        commands,
        "report",
        _report,
        "rebuild table and report of a results folder",
        "Rebuilds results.csv and report.html from the runs of a results folder.",
    )

    render = add_command(
        commands,
        "render",
        _render,
        "render executed notebooks to HTML that opens with no network",
        "Renders each executed notebook without its code cells, as one HTML file that loads nothing.",
        of_results=False,
    )
    render.add_argument("notebooks", type=path, nargs="+", metavar="NOTEBOOK.ipynb")
    render.add_argument("--out", type=path, metavar="HTML", help="of a single notebook (default: next to it)")


def _seeds(written: str) -> list[int]:
    try:
        seeds = [TrainParameters.checked("seed", int(seed)) for seed in written.split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{written!r} is not a list of whole numbers, such as 0,1,2") from error
    if len(set(seeds)) < len(seeds):
        raise argparse.ArgumentTypeError(f"{written!r} names a seed twice")
    return seeds


def _sweep(options: argparse.Namespace) -> int:
    from mbutils import sweep
    from mbutils.sweep import clusters, display, execution

    results_dir = options.results_dir
    plan = sweep.read(options.file, options.seeds)
    settings, workers = sweep_settings(options, plan)
    left = execution.unfinished(plan, results_dir)
    if plan.repeated:
        total = len(plan.configurations)
        print(f"{plan.repeated} of {total} configurations repeat another one: what differs in them changes nothing")
    for damage in execution.damages(left, results_dir):
        print(f"done again: {damage}")
    if options.dry_run:
        print(display.plan_text(plan, left, results_dir, workers))
        return 0
    execution.make_folder(results_dir)
    if options.scheduler:
        certificate = (options.tls_ca, options.tls_cert, options.tls_key)
        cluster = clusters.remote(clusters.Remote(options.scheduler, certificate, options.insecure), results_dir)
    else:
        cluster = clusters.local(workers, settings.gpus)
    with cluster as client:
        view = display.Display(plan, left, results_dir, workers)
        with view.live():
            outcomes = execution.run(plan, left, settings, client, view.add)
    _print_results(results_dir)
    if failures := display.failures_text(outcomes, results_dir):
        print(failures, file=sys.stderr)
    return 1 if failures else 0


def sweep_settings(options: argparse.Namespace, plan: "Plan") -> "tuple[Settings, int]":
    """Returns what holds for every stage of a sweep, and the number of workers.

    Raises:
        WorkbookError: If an option is impossible.
    """
    from mbutils.sweep import clusters
    from mbutils.sweep.stages import Settings

    load = Load(**parameters_in(options, Load))
    if options.scheduler and load.workers:
        raise WorkbookError("--workers is for this machine: a scheduler has its own workers")
    cores, gpus = clusters.physical_cores(), () if options.scheduler else clusters.gpus()
    workers = load.workers or clusters.suited_workers(len(plan.configurations), gpus)
    if gpus and workers > len(gpus):
        raise WorkbookError(f"--workers {workers}: there are {len(gpus)} GPUs, and each takes one run at a time")
    threads = load.threads or (1 if options.scheduler else max(1, cores // workers))
    if not options.scheduler and threads > os.cpu_count():
        raise WorkbookError(f"--threads {threads}: this machine has {os.cpu_count()} cores")
    return Settings(options.results_dir, Path.cwd(), threads, 3600 * load.time_limit, gpus), workers


def _status(options: argparse.Namespace) -> int:
    from mbutils.sweep import display

    failed = display.print_status(options.results_dir)
    print_damaged(options.results_dir)
    return 1 if failed else 0


def _report(options: argparse.Namespace) -> int:
    from mbutils.sweep import execution

    execution.report(options.results_dir)
    _print_results(options.results_dir)
    return 0


def _print_results(results_dir: Path) -> None:
    from mbutils import runs
    from mbutils.report import tables

    report = results_dir / "report.html"
    print(f"\n{tables.results_text(runs.results_table(results_dir))}\n")
    print_damaged(results_dir)
    if report.exists():
        print(f"report: {report}")


def _render(options: argparse.Namespace) -> int:
    from mbutils.report import render

    if options.out and len(options.notebooks) > 1:
        raise WorkbookError(f"--out is for one notebook, not {len(options.notebooks)}: render them without it")
    for notebook in options.notebooks:
        html = options.out or notebook.with_suffix(".html")
        render.render(notebook, html)
        print(html)
    return 0
