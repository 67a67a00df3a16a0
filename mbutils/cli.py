"""The `mb` command: sweeps, reports, C code, and scoring and sizing of .tflite models from elsewhere."""

import argparse
import json
import sys
from dataclasses import fields
from pathlib import Path

from mbutils.config import (
    COLOR_MODES,
    INT8_VARIANTS,
    INTERPOLATIONS,
    DeployParameters,
    EvaluateParameters,
    ModelParameters,
    Preprocessing,
    resolve_results_dir,
)
from mbutils.errors import WorkbookError

# Modules that import TensorFlow or pandas are imported by the commands that need them, so that `mb --help` is quick.


def main(arguments: list[str] | None = None) -> int:
    """Runs the command and returns its exit status: 0, 1 if a configuration failed, 2 for bad input."""
    options = _parser().parse_args(arguments)
    try:
        return options.command(options)
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
    sweep.add_argument("file", type=Path, metavar="FILE", help="a sweep file, such as params/demo.yaml")
    sweep.add_argument("--dry-run", action="store_true", help="only show the plan")
    sweep.set_defaults(command=_sweep)

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
        "--class-order", metavar="A,B,...", help="the model's classes in its order (default: the dataset's order)"
    )
    evaluate.add_argument("--batch-size", type=int, default=64, metavar="N", help="(default: %(default)s)")
    evaluate.set_defaults(command=_evaluate)

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


def _sweep(options: argparse.Namespace) -> int:
    from mbutils import sweep

    results_dir = resolve_results_dir(options.results)
    configurations = sweep.read(options.file)
    if options.dry_run:
        for configuration in configurations:
            stages = {stage: configuration.is_done(stage, results_dir) for stage in configuration.stages}
            print(configuration.run_id, *(f"{stage}{' (finished)' if done else ''}" for stage, done in stages.items()))
        return 0
    failures = sweep.run(configurations, results_dir)
    if len(failures) < len(configurations):
        _print_report(results_dir)
    for run_id, error in failures.items():
        print(f"failed: {run_id}: {error}", file=sys.stderr)
    return 1 if failures else 0


def _report(options: argparse.Namespace) -> int:
    _print_report(resolve_results_dir(options.results))
    return 0


def _print_report(results_dir: Path) -> None:
    from mbutils import runs, sweep, tables

    path = sweep.report(results_dir)
    print(f"\n{tables.results_text(runs.results_table(results_dir))}\n\nreport: {path}")


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
    dataset = datasets.load(options.dataset, validation_fraction=0.1)
    order = _class_order(options.class_order, dataset.class_names)
    if model.n_classes != len(order):
        raise WorkbookError(f"{options.model} has {model.n_classes} classes, {dataset.name} {len(order)}: give another")
    test = dataset.positions("test")
    scores = model.predict(pipeline.cached_images(dataset, contract)[test], batch_size)
    result = evaluation.accuracy(dataset.labels[test], scores[:, order])
    print(
        f"top-1 {100 * result.top1:.2f} % ({result.correct} of {result.total} test images of {dataset.name}), "
        f"95 % interval {100 * result.low:.2f} to {100 * result.high:.2f} %"
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
    order = [name.strip() for name in given.split(",")] if given else list(class_names)
    if sorted(order) != sorted(class_names):
        raise WorkbookError(f"--class-order {given}: must name each of {','.join(class_names)} once")
    return [order.index(name) for name in class_names]


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
