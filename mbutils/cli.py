"""The `mb` command: sweeps, reports, C code, the cache, and scoring and sizing of .tflite models from elsewhere."""

import argparse
import csv
import json
import os
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from mbutils.config import (
    COLOR_MODES,
    INT8_VARIANTS,
    INTERPOLATIONS,
    DataParameters,
    DeployParameters,
    EvaluateParameters,
    ModelParameters,
    Preprocessing,
    cache_dir,
    resolve_results_dir,
)
from mbutils.errors import WorkbookError

if TYPE_CHECKING:
    from mbutils.sweep import Plan
    from mbutils.sweep.stages import Settings

# Modules that import TensorFlow or pandas are imported by the commands that need them, so that `mb --help` is quick.


def main(arguments: list[str] | None = None) -> int:
    """Runs the command and returns its exit status: 0, 1 if a configuration failed, 2 for bad input."""
    options = _parser().parse_args(arguments)
    try:
        status = options.command(options)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # whoever read the output has seen enough, such as `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except WorkbookError as error:
        print(f"mb: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("mb: interrupted: what is finished is kept, the same command goes on from there", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mb", description="The MobileNet v1 int8 workbook from the shell.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    results = argparse.ArgumentParser(add_help=False)
    results.add_argument(
        "--results", default="", metavar="DIR", help="results folder (default: the project's results/)"
    )

    sweep = commands.add_parser(
        "sweep",
        parents=[results],
        help="train, convert and evaluate many configurations, then compare them",
        description="Runs the notebooks for every configuration of a sweep file, skips what is finished, and writes "
        "results.csv and report.html. Exit status 1 if a configuration failed.",
    )
    sweep.add_argument("file", type=Path, metavar="FILE", help="a sweep file, such as params/sweeps/demo.yaml")
    sweep.add_argument("--seeds", type=_seeds, metavar="N,N,...", help="(default: those of the file)")
    sweep.add_argument("--dry-run", action="store_true", help="only show the plan, with an estimate of the time")
    sweep.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="notebooks executed at a time (default: one for each physical core, or GPU; at most the number of runs)",
    )
    sweep.add_argument(
        "--threads", type=int, metavar="N", help="threads of each TensorFlow (default: its share of the cores)"
    )
    sweep.add_argument(
        "--time-limit",
        type=float,
        default=12.0,
        metavar="HOURS",
        help="a stage that takes longer is stopped, and tried once more (default: %(default)g)",
    )
    sweep.add_argument("--scheduler", metavar="ADDRESS", help="run on the workers of a Dask scheduler, tls://HOST:8786")
    sweep.add_argument("--tls-ca", type=Path, metavar="PEM", help="certificate authority of the scheduler")
    sweep.add_argument("--tls-cert", type=Path, metavar="PEM", help="certificate to show to the scheduler")
    sweep.add_argument("--tls-key", type=Path, metavar="PEM", help="key of that certificate")
    sweep.add_argument("--insecure", action="store_true", help="take a scheduler that is not encrypted")
    sweep.set_defaults(command=_sweep)

    status = commands.add_parser(
        "status",
        parents=[results],
        help="what a sweep does now, or how it ended",
        description="Shows every stage of the sweeps of a results folder, running or ended, and the log of what "
        "failed. Exit status 1 if something failed.",
    )
    status.set_defaults(command=_status)

    report = commands.add_parser(
        "report",
        parents=[results],
        help="rebuild table and report of a results folder",
        description="Rebuilds results.csv and report.html from the runs of a results folder.",
    )
    report.set_defaults(command=_report)

    render = commands.add_parser(
        "render",
        help="render an executed notebook to HTML that opens with no network",
        description="Renders an executed notebook without its code cells, as one HTML file that loads nothing.",
    )
    render.add_argument("notebook", type=Path, metavar="NOTEBOOK.ipynb")
    render.add_argument("html", type=Path, nargs="?", metavar="HTML", help="(default: beside the notebook)")
    render.set_defaults(command=_render)

    evaluate = commands.add_parser(
        "evaluate",
        help="score any .tflite classifier on a dataset's test part",
        description="Scores a .tflite image classifier from anywhere on the test part of a dataset: prints top-1 with "
        "its 95 %% interval. Image size and colour come from the model's input.",
    )
    evaluate.add_argument("model", type=Path, metavar="MODEL.tflite")
    evaluate.add_argument("--dataset", default="tf_flowers", metavar="D", help="dataset (default: %(default)s)")
    evaluate.add_argument("--image-size", type=int, metavar="N", help="pixels (default: the model's own)")
    evaluate.add_argument("--color", choices=COLOR_MODES, help="colour (default: the model's own)")
    evaluate.add_argument(
        "--interpolation", default=INTERPOLATIONS[0], choices=INTERPOLATIONS, help="resizing (default: %(default)s)"
    )
    evaluate.add_argument(
        "--class-order",
        metavar="A,B,...",
        help="the model's classes in its order, quoted where a name has a comma (default: the dataset's order)",
    )
    evaluate.add_argument("--batch-size", type=int, default=64, metavar="N", help="(default: %(default)s)")
    evaluate.add_argument("--data-dir", default="", metavar="DIR", help="for --dataset folder: the images")
    evaluate.set_defaults(command=_evaluate)

    cached = commands.add_parser(
        "cache",
        help="list or remove what is kept to be made only once",
        description="Lists what is in the cache folder, ~/.cache/mbutils or the one that MB_CACHE_DIR names: decoded "
        "and resized images first of all. All of it is made again when it is needed.",
    )
    action = cached.add_mutually_exclusive_group()
    action.add_argument("--list", action="store_true", help="list what is kept, largest first (default)")
    action.add_argument("--clear", action="store_true", help="remove it")
    cached.set_defaults(command=_cache)

    footprint = commands.add_parser(
        "footprint",
        help="RAM, flash and latency of an int8 .tflite, or of an untrained MobileNet v1",
        description="Predicts what an int8 .tflite takes on an STM32: RAM, flash and inference time. Instead of a "
        "file, the options below name a MobileNet v1, which is built untrained and converted.",
    )
    footprint.add_argument("model", type=Path, nargs="?", metavar="MODEL.tflite")
    footprint.add_argument("--alpha", type=float, metavar="A", help="width multiplier (default: 0.25)")
    footprint.add_argument("--image-size", type=int, metavar="N", help="pixels (default: 96)")
    footprint.add_argument("--color", choices=COLOR_MODES, dest="color_mode", help="colour (default: rgb)")
    footprint.add_argument("--classes", type=int, dest="n_classes", metavar="N", help="classes (default: 5)")
    footprint.add_argument("--json", action="store_true", help="one JSON object with the columns of results.csv")
    footprint.set_defaults(command=_footprint)

    deploy = commands.add_parser(
        "deploy",
        parents=[results],
        help="C code of a finished run, checked bit for bit",
        description="Writes the int8 model of a finished run as C99 without dependencies, with test vectors, a "
        "Makefile and a README. Compiles and checks it, and measures it on an emulated Cortex-M7, where the tools are "
        "installed.",
    )
    deploy.add_argument("run", nargs="?", default="", metavar="RUN", help="run id (default: the newest finished run)")
    deploy.add_argument("--variant", default=INT8_VARIANTS[0], choices=INT8_VARIANTS, help="(default: %(default)s)")
    deploy.add_argument("--out", default="", metavar="DIR", help="output folder (default: in the folder of the run)")
    deploy.add_argument("--ram-kib", type=float, default=0.0, metavar="N", help="refuse an arena of more than N KiB")
    deploy.add_argument(
        "--layers-in-step",
        type=int,
        default=0,
        metavar="N",
        help="run the first N layers row by row together, for less RAM (default: %(default)s)",
    )
    deploy.add_argument("--vectors", type=int, default=8, metavar="N", help="test images (default: %(default)s)")
    deploy.set_defaults(command=_deploy)
    return parser


def _seeds(text: str) -> list[int]:
    try:
        return [int(seed) for seed in text.split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of whole numbers, such as 0,1,2") from error


def _sweep(options: argparse.Namespace) -> int:
    from mbutils import sweep
    from mbutils.sweep import clusters, display, execution

    results_dir = resolve_results_dir(options.results)
    plan = sweep.read(options.file, options.seeds)
    settings, workers = _sweep_settings(options, plan)
    left = execution.unfinished(plan, results_dir)
    if options.dry_run:
        print(display.plan_text(plan, left, results_dir, workers))
        return 0
    execution.make_folder(results_dir)
    if options.scheduler:
        certificate = (options.tls_ca, options.tls_cert, options.tls_key)
        cluster = clusters.remote(clusters.Remote(options.scheduler, certificate, options.insecure), results_dir)
    else:
        cluster = clusters.local(workers, settings.on_gpu)
    with cluster as client:
        view = display.Display(plan, left, results_dir, workers)
        with view.live(client.dashboard_link):
            outcomes = execution.run(plan, left, settings, client, view.tell)
    _print_results(results_dir)
    if failures := display.failures_text(outcomes, results_dir):
        print(failures, file=sys.stderr)
    return 1 if failures else 0


def _sweep_settings(options: argparse.Namespace, plan: "Plan") -> "tuple[Settings, int]":
    """Returns what holds for every stage, and the number of workers."""
    from mbutils.sweep import clusters
    from mbutils.sweep.stages import Settings

    for name in ("workers", "threads"):
        if getattr(options, name) is not None and getattr(options, name) < 1:
            raise WorkbookError(f"--{name} {getattr(options, name)}: the least is 1")
    if not options.time_limit > 0:
        raise WorkbookError(f"--time-limit {options.time_limit:g}: must be more than 0 hours")
    if options.scheduler and options.workers:
        raise WorkbookError("--workers is for this machine: a scheduler has the workers that were started for it")
    cores, gpus = clusters.physical_cores(), 0 if options.scheduler else clusters.gpus()
    workers = options.workers or min(gpus or cores, max(1, len(plan.configurations)))
    if gpus and workers > gpus:
        raise WorkbookError(f"--workers {workers}: there are {gpus} GPUs, and each takes one run at a time")
    threads = options.threads or (1 if options.scheduler else max(1, cores // workers))
    results_dir = resolve_results_dir(options.results)
    return Settings(results_dir, Path.cwd(), threads, 3600 * options.time_limit, on_gpu=gpus > 0), workers


def _status(options: argparse.Namespace) -> int:
    from mbutils.sweep import display

    return 1 if display.print_status(resolve_results_dir(options.results)) else 0


def _report(options: argparse.Namespace) -> int:
    from mbutils.sweep import execution

    results_dir = resolve_results_dir(options.results)
    execution.report(results_dir)
    _print_results(results_dir)
    return 0


def _print_results(results_dir: Path) -> None:
    from mbutils import runs, tables

    report = results_dir / "report.html"
    print(f"\n{tables.results_text(runs.results_table(results_dir))}\n")
    if report.exists():
        print(f"report: {report}")


def _render(options: argparse.Namespace) -> int:
    from mbutils import notebooks

    html = options.html or options.notebook.with_suffix(".html")
    notebooks.render(options.notebook, html)
    print(html)
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    from mbutils import datasets, evaluation, pipeline

    batch_size = EvaluateParameters(batch_size=options.batch_size).batch_size
    model = evaluation.TFLiteModel(options.model)
    contract = _contract(options, model.image_shape)
    dataset = datasets.load(DataParameters(dataset=options.dataset, data_dir=options.data_dir))
    order = _class_order(options.class_order, dataset.class_names)
    if model.n_classes != len(order):
        raise WorkbookError(f"{options.model} has {model.n_classes} classes, {dataset.name} {len(order)}: give another")
    test = dataset.positions("test")
    images = pipeline.Subset(pipeline.cached_images(dataset, contract), test)
    scores = model.predict(images, batch_size)[:, order]
    result = evaluation.accuracy(dataset.labels[test], scores)
    print(
        f"top-1 {100 * result.top1:.2f} % ({result.correct} of {result.total} test images of {dataset.name}), "
        f"95 % interval {100 * result.low:.2f} to {100 * result.high:.2f} %, "
        f"macro-averaged recall {100 * evaluation.macro_recall(dataset.labels[test], scores):.2f} %"
    )
    return 0


def _contract(options: argparse.Namespace, image_shape: tuple[int, int, int]) -> Preprocessing:
    height, width, channels = image_shape
    contract = Preprocessing(
        options.image_size or height, options.color or ("rgb" if channels == 3 else "gray"), options.interpolation
    )
    if contract.shape != image_shape:
        raise WorkbookError(
            f"{options.model} takes images of {height}x{width}x{channels}, not {'x'.join(map(str, contract.shape))}: "
            "leave out --image-size and --color"
        )
    return contract


def _class_order(given: str | None, class_names: tuple[str, ...]) -> list[int]:
    """Returns where in the model's scores each class of the dataset stands."""
    order = next(csv.reader([given], skipinitialspace=True)) if given else list(class_names)
    order = [name.strip() for name in order]
    if sorted(order) != sorted(class_names):
        raise WorkbookError(f"--class-order {given}: must name each of {','.join(class_names)} once")
    return [order.index(name) for name in class_names]


def _cache(options: argparse.Namespace) -> int:
    from mbutils import cache

    removed, kept = cache.clear() if options.clear else ([], cache.entries())
    for entry in kept:
        print(f"{entry.bytes / 2**20:10,.1f} MiB  {entry.used:%Y-%m-%d %H:%M}  {entry.kind}: {entry.path.name}")
    if options.clear:
        freed = sum(entry.bytes for entry in removed)
        print(f"removed {len(removed)} of {len(removed) + len(kept)}, {freed / 2**20:,.1f} MiB, from {cache_dir()}")
    else:
        print(f"{sum(entry.bytes for entry in kept) / 2**20:10,.1f} MiB in {cache_dir()}, times are UTC")
    return 0


def _footprint(options: argparse.Namespace) -> int:
    from mbutils import costs
    from mbutils.footprint import footprint

    source = _model_source(options)
    model = footprint(source)
    if options.json:
        print(json.dumps(model.to_dict() | costs.columns(model) | costs.bands(model)))
    else:
        print(costs.text(model))
    return 0


def _deploy(options: argparse.Namespace) -> int:
    parameters = DeployParameters(
        run_id=Path(options.run).name,
        variant=options.variant,
        out=options.out,
        layers_in_step=options.layers_in_step,
        vectors=options.vectors,
        ram_kib=options.ram_kib,
        results_dir=options.results,
    )
    from mbutils import deploy, tables

    print(tables.deployment_text(deploy.deploy(parameters)))
    return 0


def _model_source(options: argparse.Namespace) -> Path | bytes:
    """Returns the path that was given, or the untrained model that the options name."""
    given = {spec.name: getattr(options, spec.name) for spec in fields(ModelParameters)}
    given = {name: value for name, value in given.items() if value is not None}
    if options.model and given:
        raise WorkbookError("give a MODEL.tflite, or --alpha, --image-size, --color and --classes, not both")
    if options.model:
        return options.model
    if not given:
        raise WorkbookError("give a MODEL.tflite, or some of --alpha, --image-size, --color and --classes")
    from mbutils import untrained

    return untrained.tflite(ModelParameters(**given))
