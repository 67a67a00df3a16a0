"""The command `mb evaluate`: a finished run, or a .tflite from elsewhere, on labelled images."""

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mbutils.cli import named_model
from mbutils.cli.options import add_command, add_parameters, text
from mbutils.config import FOLDER, DataParameters, EvaluateParameters
from mbutils.errors import WorkbookError

if TYPE_CHECKING:
    from mbutils.data.dataset import Dataset
    from mbutils.runs import Run
    from mbutils.runs.classifiers import Classifier


def add_commands(commands: Any) -> None:  # noqa: ANN401
    """Adds it to the parsers of `mb`."""
    evaluate = add_command(
        commands,
        "evaluate",
        _evaluate,
        "score a run, or any .tflite classifier, on labelled images",
        "Scores the float32 and int8 models of a finished run, or a .tflite image classifier from "
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
    named_model.add_options(evaluate, "the dataset's order")


def _evaluate(options: argparse.Namespace) -> int:
    from mbutils import evaluation
    from mbutils.report import tables
    from mbutils.runs import classifiers

    run = named_model.run(options)
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


def _refuse_impossible(options: argparse.Namespace, run: "Run | None") -> None:
    if run and options.skip_corrupt and not (options.dataset or options.data_dir):
        raise WorkbookError(f"run {run.run_id} is scored on its own images: leave out --skip-corrupt")
    if options.part == "all" and not options.data_dir:
        raise WorkbookError("--part all is for a folder of photographs: give it with --data-dir, or leave out --part")


def _of_run(options: argparse.Namespace, run: "Run") -> "tuple[Dataset, Classifier]":
    """Returns the data that the options name, split as that of the run, or else its own; and the models of the run."""
    from mbutils import runs

    own = not (options.dataset or options.data_dir)
    dataset = runs.load_dataset(run) if own else _dataset(options, run.parameters.data)
    return dataset, named_model.classifier(options, run)


def _of_file(options: argparse.Namespace) -> "tuple[Dataset, Classifier]":
    classifier = named_model.classifier(options, None)
    dataset = _dataset(options, DataParameters())
    if options.class_order:
        return dataset, classifier
    n_classes = len(classifier.class_names)
    if n_classes != dataset.n_classes:
        raise named_model.other_classes(options.model, n_classes, dataset.name, dataset.n_classes)
    return dataset, replace(classifier, class_names=dataset.class_names)


def _dataset(options: argparse.Namespace, parameters: DataParameters) -> "Dataset":
    """Returns the data that the options name; `parameters` says how it is split."""
    from mbutils.data import datasets, folder

    name = options.dataset or (FOLDER if options.data_dir else parameters.dataset)
    skip_corrupt = options.skip_corrupt or parameters.skip_corrupt
    parameters = replace(parameters, dataset=name, data_dir=options.data_dir or "", skip_corrupt=skip_corrupt)
    return folder.load_to_score(parameters, options.part) if name == FOLDER else datasets.load(parameters)


def _images_text(options: argparse.Namespace, dataset: "Dataset", count: int) -> str:
    from mbutils.data.index import in_short

    total = len(dataset.examples)
    which = f"all {count} images" if options.part == "all" else f"{options.part} part, {count} of {total} images"
    more = f"; --part all scores all {total}" if options.data_dir and count < total else ""
    skipped = f"; left out as unreadable: {in_short(dataset.skipped)}" if dataset.skipped else ""
    return f"{dataset.name}: {which}{more}{skipped}"
