"""The command `mb evaluate`: a finished run, or a .tflite from elsewhere, on labelled images."""

import argparse
import csv
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mbutils.cli.options import add_parameters, given, named_run, text
from mbutils.config import FOLDER, DataParameters, EvaluateParameters, Preprocessing, TrainParameters, check_text
from mbutils.errors import WorkbookError

if TYPE_CHECKING:
    from mbutils.data.dataset import Dataset
    from mbutils.runs import Run
    from mbutils.runs.classifiers import Classifier

_OF_FILES = ("interpolation", "fit", "image_size", "color_mode", "class_order")  # a run has them in its record


def add_command(commands: Any, results: argparse.ArgumentParser) -> None:  # noqa: ANN401
    """Adds it to the parsers of `mb`; `results` has the option `--results-dir`."""
    evaluate = commands.add_parser(
        "evaluate",
        parents=[results],
        help="score a run, or any .tflite classifier, on labelled images",
        description="Scores the float32 and int8 models of a finished run, or a .tflite image classifier from "
        "anywhere: prints top-1 with its 95 % interval, and the recall of each class. By default on test images; "
        "`--data-dir PHOTOS --part all` scores every photograph of a folder that holds one folder for each class.",
    )
    evaluate.add_argument(
        "model", type=text, nargs="?", metavar="MODEL", help="a run, or a .tflite file (default: the newest run)"
    )
    add_parameters(evaluate, DataParameters, "dataset", default="that of the run; folder with --data-dir")
    add_parameters(evaluate, DataParameters, "data_dir")
    evaluate.add_argument(
        "--part", choices=("test", "validation", "all"), default="test", help="all for every image (default: test)"
    )
    add_parameters(evaluate, DataParameters, "skip_corrupt")
    add_parameters(evaluate, EvaluateParameters, "batch_size")
    of_files = evaluate.add_argument_group("for a .tflite file from elsewhere")
    for name in ("interpolation", "fit"):
        add_parameters(of_files, TrainParameters, name, default=getattr(TrainParameters, name))
    add_parameters(of_files, TrainParameters, "image_size", "color_mode", default="the model's own")
    of_files.add_argument(
        "--class-order",
        type=_class_names,
        metavar="A,B,...",
        help="the model's classes in its order, quoted where a name has a comma (default: the dataset's order)",
    )
    evaluate.set_defaults(command=_evaluate)


def _evaluate(options: argparse.Namespace) -> int:
    from mbutils import evaluation
    from mbutils.report import tables
    from mbutils.runs import classifiers

    run = _run(options)
    _refuse_impossible(options, run)
    dataset, classifier = _of_run(options, run) if run else _of_file(options)
    positions = dataset.positions("test" if options.part == "all" else options.part)
    labels = classifier.labels(dataset)[positions]
    scores = classifier.scores(dataset, positions, options.batch_size or EvaluateParameters.batch_size)
    print(_images_text(options, dataset, len(positions)))
    print(tables.scores_text(labels, scores, classifier.class_names))
    if run and options.data_dir:
        print(tables.learned_text(labels, scores, classifiers.learned_from(run, dataset, positions)))
    names = classifier.class_names
    several = len(scores) > 1
    outcomes = {name if several else "": evaluation.outcome(labels, values, names) for name, values in scores.items()}
    for finding in evaluation.findings.of_predictions("labelled" if options.part == "all" else options.part, outcomes):
        print(f"note: {finding}")
    return 0


def _run(options: argparse.Namespace) -> "Run | None":
    """Returns the run that is named, or that a named .tflite file is part of; None for a file from elsewhere."""
    from mbutils import runs

    path = Path(options.model or "").absolute()
    if path.suffix != ".tflite" and not path.is_file():
        return runs.find(*named_run(options, options.model))
    is_of_run = path.parent.parent.name == "runs" and (path.parent / "manifest.json").is_file() and path.is_file()
    return runs.Run(path.parent) if is_of_run and not _options_of_files(options) else None


def _options_of_files(options: argparse.Namespace) -> list[str]:
    return [f"--{name.replace('_', '-')}" for name in _OF_FILES if getattr(options, name) is not None]


def _refuse_impossible(options: argparse.Namespace, run: "Run | None") -> None:
    if run and (of_files := _options_of_files(options)):
        raise WorkbookError(f"run {run.run_id} has its own preprocessing and classes: leave out {of_files[0]}")
    if run and options.skip_corrupt and not (options.dataset or options.data_dir):
        raise WorkbookError(f"run {run.run_id} is scored on its own images: leave out --skip-corrupt")
    if options.part == "all" and not options.data_dir:
        raise WorkbookError("--part all is for a folder of photographs: give it with --data-dir, or leave out --part")


def _of_run(options: argparse.Namespace, run: "Run") -> "tuple[Dataset, Classifier]":
    """Returns the data that the options name, split as that of the run, or else its own; and the models of the run.

    Where a .tflite file of the run is named, that model alone.
    """
    from mbutils import runs
    from mbutils.runs import classifiers

    own = not (options.dataset or options.data_dir)
    dataset = runs.load_dataset(run) if own else _dataset(options, run.parameters.data)
    classifier = classifiers.of_run(run)
    named = {name: model for name, model in classifier.models.items() if name == Path(options.model or "").stem}
    return dataset, replace(classifier, models=named or classifier.models)


def _of_file(options: argparse.Namespace) -> "tuple[Dataset, Classifier]":
    from mbutils.runs.classifiers import Classifier
    from mbutils.tflite.interpreter import TFLiteModel

    model = TFLiteModel(Path(options.model))
    contract = _contract(options, model.image_shape)
    dataset = _dataset(options, DataParameters())
    class_names = options.class_order or dataset.class_names
    if model.n_classes != len(class_names):
        source = "--class-order" if options.class_order else dataset.name
        raise WorkbookError(
            f"{options.model} has {model.n_classes} classes, {source} {len(class_names)}: "
            "name all of the model's with --class-order"
        )
    return dataset, Classifier(contract, class_names, {Path(options.model).name: model.predict})


def _dataset(options: argparse.Namespace, parameters: DataParameters) -> "Dataset":
    """Returns the data that the options name; `parameters` says how it is split."""
    from mbutils.data import datasets, folder

    name = options.dataset or (FOLDER if options.data_dir else parameters.dataset)
    skip_corrupt = options.skip_corrupt or parameters.skip_corrupt
    parameters = replace(parameters, dataset=name, data_dir=options.data_dir or "", skip_corrupt=skip_corrupt)
    return folder.load_to_score(parameters, options.part) if name == FOLDER else datasets.load(parameters)


def _contract(options: argparse.Namespace, image_shape: tuple[int, int, int]) -> Preprocessing:
    height, width, channels = image_shape
    color_mode = options.color_mode or ("rgb" if channels == 3 else "gray")
    interpolation, fit = options.interpolation or TrainParameters.interpolation, options.fit or TrainParameters.fit
    contract = Preprocessing(options.image_size or height, color_mode, interpolation, fit)
    if contract.shape != image_shape:
        raise WorkbookError(
            f"{options.model} takes images of {height}x{width}x{channels}, not {'x'.join(map(str, contract.shape))}: "
            "leave out --image-size and --color-mode"
        )
    return contract


def _class_names(written: str) -> tuple[str, ...]:
    """Returns the names that an option `--class-order` gives."""
    check_text("class_order", given(written))
    names = tuple(name.strip() for name in next(csv.reader([written], skipinitialspace=True)))
    if "" in names or len(set(names)) < len(names):
        raise WorkbookError(f"--class-order {written}: names a class twice, or one is empty")
    return names


def _images_text(options: argparse.Namespace, dataset: "Dataset", count: int) -> str:
    from mbutils.data.index import in_short

    total = len(dataset.examples)
    which = f"all {count} images" if options.part == "all" else f"{options.part} part, {count} of {total} images"
    more = f"; --part all scores all {total}" if options.data_dir and count < total else ""
    skipped = f"; left out as unreadable: {in_short(dataset.skipped)}" if dataset.skipped else ""
    return f"{dataset.name}: {which}{more}{skipped}"
