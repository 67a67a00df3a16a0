"""The commands about single models: footprint, deploy; and cache."""

import argparse
import json
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mbutils import files
from mbutils.cli import named_model
from mbutils.cli.options import add_command, add_parameters, parameters_in, path, text
from mbutils.config import DeployParameters, FootprintParameters, ModelParameters, cache_dir
from mbutils.errors import WorkbookError

if TYPE_CHECKING:
    from mbutils.deploy import Deployment
    from mbutils.runs import Run

_MODEL_PARAMETERS = tuple(spec.name for spec in fields(ModelParameters))


def add_commands(commands: Any) -> None:  # noqa: ANN401
    """Adds them to the parsers of `mb`."""
    footprint = add_command(
        commands,
        "footprint",
        _footprint,
        "RAM, flash and latency of an int8 .tflite, or of an untrained MobileNet v1",
        "Predicts what an int8 .tflite takes on an STM32: RAM, flash and inference time. Instead of a "
        "file, the options below name a MobileNet v1, which is built untrained and converted.",
        of_results=False,
    )
    footprint.add_argument("model", type=path, nargs="?", metavar="MODEL.tflite")
    for name in _MODEL_PARAMETERS:
        add_parameters(footprint, ModelParameters, name, default=str(getattr(ModelParameters, name)))
    add_parameters(footprint, FootprintParameters, "costs_of")
    footprint.add_argument("--json", action="store_true", help="one JSON object with the columns of results.csv")

    deploy = add_command(
        commands,
        "deploy",
        _deploy,
        "C code of a run, or of any int8 .tflite classifier, checked bit for bit",
        "Writes the int8 model of a finished run, or an int8 .tflite image classifier from anywhere, as "
        "C99 without dependencies, with test vectors, a Makefile and a README. Compiles and checks it, and measures it "
        "on an emulated Cortex-M7, where the tools are installed.",
    )
    deploy.add_argument(
        "model",
        type=text,
        nargs="?",
        metavar="MODEL",
        help="a run (id or folder), or a .tflite file (default: the newest finished run)",
    )
    names = ("variant", "out", "streamed_layers", "vectors", "ram_kib", "flash_kib", "min_confidence", "force")
    add_parameters(deploy, DeployParameters, *names)
    of_files = named_model.add_options(deploy, class_names="must be given", interpolation="must be given")
    of_files.add_argument(
        "--photos",
        type=text,
        nargs="+",
        metavar="PHOTO",
        help="photographs, or folders of them, that become the test images (default: patterns of noise)",
    )

    cached = add_command(
        commands,
        "cache",
        _cache,
        "list or remove what is kept to be made only once",
        "Lists what is in the cache folder, ~/.cache/mbutils or the one that MB_CACHE_DIR names: decoded "
        "and resized images first of all. All of it is made again when it is needed.",
        of_results=False,
    )
    action = cached.add_mutually_exclusive_group()
    action.add_argument("--list", action="store_true", help="list what is kept, largest first (default)")
    action.add_argument("--clear", action="store_true", help="remove it")


def _footprint(options: argparse.Namespace) -> int:
    from mbutils.device import costs
    from mbutils.device.footprint import footprint

    source = _model_source(options)
    model = footprint(source)
    if not options.model:  # random weights say nothing of the channels that a trained model has
        model = replace(model, constant_channels=0, alive=None)
    edition = options.costs_of or FootprintParameters.costs_of
    if options.json:
        print(json.dumps(costs.record(model, edition)))
    else:
        print(costs.text(model, edition))
    return 0


def _model_source(options: argparse.Namespace) -> Path | bytes:
    """Returns the path among the options, or the untrained model that they name."""
    named = parameters_in(options, ModelParameters)
    if options.model and named:
        raise WorkbookError("give a MODEL.tflite, or the options of an untrained model, not both")
    if options.model:
        return options.model
    if not named:
        raise WorkbookError("give a MODEL.tflite, or one of --alpha, --image-size, --color-mode and --n-classes")
    from mbutils.report import before_training

    return before_training.tflite(ModelParameters(**named))


def _deploy(options: argparse.Namespace) -> int:
    from mbutils.report import review, tables

    run = named_model.run(options)
    deployed = _deployed_run(options, run) if run else _deployed_file(options)
    print(tables.deployment_text(deployed))
    for finding in review.findings(run) if run else ():
        print(f"note: {finding}")
    return 0


def _deployed_run(options: argparse.Namespace, run: "Run") -> "Deployment":
    from mbutils import deploy

    if options.photos:
        raise WorkbookError(f"run {run.run_id} has its own test images: leave out --photos")
    named = {"results_dir": str(run.path.parent.parent), "run_id": run.run_id}
    if Path(options.model or "").suffix == ".tflite":
        named["variant"] = Path(options.model).stem
    return deploy.deploy(DeployParameters(**parameters_in(options, DeployParameters) | named))


def _deployed_file(options: argparse.Namespace) -> "Deployment":
    from mbutils import deploy

    needed = {"--out": options.out, "--interpolation": options.interpolation, "--class-order": options.class_order}
    for option, value in needed.items():
        if not value:
            raise WorkbookError(f"{options.model} is no model of a run: give {', '.join(needed)}; {option} is missing")
    if options.variant:
        raise WorkbookError(f"{options.model} is the model itself: leave out --variant")
    classifier = named_model.classifier(options, None)
    model = deploy.Model.of_file(options.model, classifier.contract, classifier.class_names, options.photos or ())
    named = {"results_dir": str(options.results_dir)}
    return deploy.deploy_model(model, DeployParameters(**parameters_in(options, DeployParameters) | named))


def _cache(options: argparse.Namespace) -> int:
    from mbutils.data import cache

    removed, kept = cache.clear() if options.clear else ([], cache.entries())
    for entry in kept:
        print(f"{files.size(entry.bytes):>11}  {entry.used:%Y-%m-%d %H:%M}  {entry.kind}: {entry.path.name}")
    if options.clear:
        freed = sum(entry.bytes for entry in removed)
        print(f"removed {len(removed)} of {len(removed) + len(kept)}, {files.size(freed)}, from {cache_dir()}")
    else:
        print(f"{files.size(sum(entry.bytes for entry in kept)):>11} in {cache_dir()}, times are UTC")
    return 0
