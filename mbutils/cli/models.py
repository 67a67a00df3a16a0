"""The commands about single models: footprint, deploy; and cache."""

import argparse
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from mbutils import files
from mbutils.cli.options import add_parameters, named_run, parameters_in, path, text
from mbutils.config import DeployParameters, ModelParameters, cache_dir
from mbutils.errors import WorkbookError

_MODEL_PARAMETERS = tuple(spec.name for spec in fields(ModelParameters))


def add_commands(commands: Any, results: argparse.ArgumentParser) -> None:  # noqa: ANN401
    """Adds them to the parsers of `mb`; `results` has the option `--results-dir`."""
    footprint = commands.add_parser(
        "footprint",
        help="RAM, flash and latency of an int8 .tflite, or of an untrained MobileNet v1",
        description="Predicts what an int8 .tflite takes on an STM32: RAM, flash and inference time. Instead of a "
        "file, the options below name a MobileNet v1, which is built untrained and converted.",
    )
    footprint.add_argument("model", type=path, nargs="?", metavar="MODEL.tflite")
    for name in _MODEL_PARAMETERS:
        add_parameters(footprint, ModelParameters, name, default=str(getattr(ModelParameters, name)))
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
    deploy.add_argument(
        "run", type=text, nargs="?", metavar="RUN", help="its id or its folder (default: the newest finished run)"
    )
    names = ("variant", "out", "streamed_layers", "vectors", "ram_kib", "min_confidence", "force")
    add_parameters(deploy, DeployParameters, *names)
    deploy.set_defaults(command=_deploy)

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


def _footprint(options: argparse.Namespace) -> int:
    from mbutils.device import costs
    from mbutils.device.footprint import footprint

    source = _model_source(options)
    model = footprint(source)
    if options.json:
        print(json.dumps(costs.record(model)))
    else:
        print(costs.text(model))
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
    results_dir, run_id = named_run(options, options.run)
    named = {"results_dir": str(results_dir), "run_id": run_id}
    parameters = DeployParameters(**parameters_in(options, DeployParameters) | named)
    from mbutils import deploy, runs
    from mbutils.report import review, tables

    deployed = deploy.deploy(parameters)
    print(tables.deployment_text(deployed))
    run = runs.find(results_dir, deployed.facts["run_id"])
    for finding in review.findings(run):
        print(f"note: {finding}")
    return 0


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
