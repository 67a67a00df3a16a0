"""The command `mb predict`: what a model says to photographs."""

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from mbutils.cli import named_model
from mbutils.cli.options import add_command, text

if TYPE_CHECKING:
    import pandas as pd

_TOP = 3


def add_commands(commands: Any) -> None:  # noqa: ANN401
    """Adds it to the parsers of `mb`."""
    predict = add_command(
        commands,
        "predict",
        _predict,
        "the classes that a run, or any .tflite classifier, gives to photographs",
        "Prints the classes of photographs with their scores, by the float32 and int8 models of a finished "
        "run, or by a .tflite image classifier from anywhere. Exit status 2 if a file is no image: a line on standard "
        "error names it, and the others are predicted.",
    )
    predict.add_argument("model", type=text, metavar="MODEL", help="a run (id or folder), or a .tflite file")
    predict.add_argument(
        "photos",
        type=text,
        nargs="+",
        metavar="PHOTO",
        help="an image, or a folder: all images in it and in its sub-folders, but hidden ones",
    )
    predict.add_argument(
        "--top", type=_count, metavar="N", help=f"classes of each photograph (default: {_TOP}; all in JSON and CSV)"
    )
    written = predict.add_mutually_exclusive_group()
    written.add_argument(
        "--json", action="store_true", help="for each photograph a line with a JSON object: path, scores by model"
    )
    written.add_argument("--csv", action="store_true", help="a table with the columns path, model, class, score")
    named_model.add_options(predict, "numbers from 0")


def _count(written: str) -> int:
    if not written.isdecimal() or not int(written):
        raise argparse.ArgumentTypeError(f"{written!r} is not a number of classes, such as {_TOP}")
    return int(written)


def _predict(options: argparse.Namespace) -> int:
    from mbutils.data import photographs
    from mbutils.report import tables

    run = named_model.run(options)
    files = photographs.find(options.photos)
    classifier = named_model.classifier(options, run)
    predicted = classifier.predict_files(files)
    top = options.top or (None if options.json or options.csv else _TOP)
    table = tables.predictions(predicted, classifier.class_names, top)
    if options.json:
        _print_json(table)
    elif options.csv:
        table.to_csv(sys.stdout, index=False, float_format="%.6g")
    elif predicted.files:
        print(tables.predictions_text(table))
    sys.stdout.flush()
    for reason in predicted.unreadable.values():
        print(f"mb: error: {reason}", file=sys.stderr)
    return 2 if predicted.unreadable else 0


def _print_json(table: "pd.DataFrame") -> None:
    for path, of_photograph in table.groupby("path", sort=False):
        scores = {
            model: dict(zip(rows["class"], rows["score"], strict=True))
            for model, rows in of_photograph.groupby("model", sort=False)
        }
        print(json.dumps({"path": path, "scores": scores}))
