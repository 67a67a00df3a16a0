"""A model named on the command line: a run, a .tflite file of a run, or one from elsewhere."""

import argparse
import csv
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mbutils.cli.options import add_parameters, given
from mbutils.config import SCALINGS, Preprocessing, TrainParameters, check_text, full_path, resolve_results_dir
from mbutils.errors import WorkbookError

if TYPE_CHECKING:
    from mbutils.runs import Run
    from mbutils.runs.classifiers import Classifier

_RESIZED = ("interpolation", "fit", "decoder")
_OF_FILES = (*_RESIZED, "scaling", "image_size", "color_mode", "class_order")  # a run has its own


def add_options(
    parser: argparse.ArgumentParser, class_names: str, interpolation: str = TrainParameters.interpolation
) -> Any:  # noqa: ANN401
    """Adds the options for a .tflite file from elsewhere, and returns their group.

    Args:
        parser: Where to add them.
        class_names: What classes such a file has without --class-order, in words.
        interpolation: How images are resized without --interpolation.
    """
    of_files = parser.add_argument_group("for a .tflite file from elsewhere")
    add_parameters(of_files, TrainParameters, "interpolation", default=interpolation)
    add_parameters(of_files, TrainParameters, "fit", "decoder")
    add_parameters(of_files, TrainParameters, "image_size", "color_mode", default="the model's own")
    of_files.add_argument(
        "--scaling",
        choices=tuple(SCALINGS),
        help="what its training made of the pixels 0..255: 1/127.5 for -1..1, 1/255 for 0..1, none for 0..255 "
        "(default: what its quantized input stands for; 1/127.5 for an input of floats)",
    )
    of_files.add_argument(
        "--class-order",
        type=_class_names,
        metavar="A,B,...",
        help="the model's classes in its order, quoted where a name has a comma; or a text file with one in each line "
        f"(default: {class_names})",
    )
    return of_files


def run(options: argparse.Namespace) -> "Run | None":
    """Returns the run that `options.model` names, or that a named .tflite is part of; None for one from elsewhere.

    Raises:
        WorkbookError: If there is no such run, or an option is for files from elsewhere.
    """
    from mbutils import runs

    path, of_files = Path(options.model or "").absolute(), _options_of_files(options)
    if path.suffix == ".tflite" or path.is_file():
        is_of_run = path.parent.parent.name == "runs" and (path.parent / "manifest.json").is_file() and path.is_file()
        return runs.Run(path.parent) if is_of_run and not of_files else None
    found = named_run(options, options.model)
    if of_files:
        raise WorkbookError(f"run {found.run_id} has its own preprocessing and classes: leave out {of_files[0]}")
    return found


def named_run(options: argparse.Namespace, run: str | None) -> "Run":
    """Returns a run, which is named by its id or by the path of its folder.

    Args:
        options: Those of the command; `results_dir` is the results folder.
        run: The run; None for the newest one.

    Raises:
        WorkbookError: If there is no such run, or it is the path of anything else.
    """
    from mbutils import runs

    if run is None or (Path(run).name == run and run != ".."):
        return runs.find(options.results_dir, run or "")
    folder = full_path(run)
    results_dir = folder.parent.parent
    if folder.parent.name != "runs" or not (folder / "manifest.json").is_file():
        raise WorkbookError(f"{run} is not the folder of a run: give that, or the id of a run")
    if options.results_dir not in (results_dir, resolve_results_dir("")):
        raise WorkbookError(f"{run} is not in {options.results_dir}: leave out --results-dir")
    return runs.find(results_dir, folder.name)


def classifier(options: argparse.Namespace, run: "Run | None") -> "Classifier":
    """Returns the models of a run, or the one that a .tflite file of it names; or a model from elsewhere.

    The classes of a model from elsewhere are those of --class-order, or else its numbers.

    Raises:
        WorkbookError: If they cannot be read, or are not as the options say.
    """
    from mbutils.runs import classifiers

    if run is None:
        return _from_elsewhere(options)
    models = classifiers.of_run(run)
    named = {name: model for name, model in models.models.items() if name == Path(options.model or "").stem}
    return replace(models, models=named or models.models)


def _from_elsewhere(options: argparse.Namespace) -> "Classifier":
    from mbutils.runs.classifiers import Classifier
    from mbutils.tflite import pixels
    from mbutils.tflite.interpreter import TFLiteModel

    model = TFLiteModel(Path(options.model), options.scaling or pixels.BY_INPUT)
    if model.n_classes < 2:
        raise WorkbookError(f"{options.model} gives one score: use a classifier that has one for each class")
    contract = _contract(options, model.image_shape, model.scaling)
    class_names = options.class_order or tuple(map(str, range(model.n_classes)))
    if len(class_names) != model.n_classes:
        raise other_classes(options.model, model.n_classes, "--class-order", len(class_names))
    return Classifier(contract, class_names, {Path(options.model).name: model.predict_on_batch})


def other_classes(model: str, n_classes: int, source: str, count: int) -> WorkbookError:
    """Returns the error for a model that has another number of classes than `source`."""
    return WorkbookError(
        f"{model} has {n_classes} classes, {source} {count}: name all of the model's with --class-order"
    )


def _contract(options: argparse.Namespace, image_shape: tuple[int, int, int], scaling: str) -> Preprocessing:
    height, width, channels = image_shape
    color_mode = options.color_mode or ("rgb" if channels == 3 else "gray")
    interpolation, fit = options.interpolation or TrainParameters.interpolation, options.fit or TrainParameters.fit
    if height != width:
        raise WorkbookError(f"{options.model} takes images of {height}x{width}: only square ones are made here")
    contract = Preprocessing(options.image_size or height, color_mode, interpolation, fit)
    if contract.shape != image_shape:
        raise WorkbookError(
            f"{options.model} takes images of {height}x{width}x{channels}, not {'x'.join(map(str, contract.shape))}: "
            "leave out --image-size and --color-mode"
        )
    return contract


def _options_of_files(options: argparse.Namespace) -> list[str]:
    return [f"--{name.replace('_', '-')}" for name in _OF_FILES if getattr(options, name) is not None]


def _class_names(written: str) -> tuple[str, ...]:
    """Returns the names that an option `--class-order` gives."""
    check_text("class_order", given(written))
    path = Path(written)
    lines = _lines(path) if path.is_file() else next(csv.reader([written], skipinitialspace=True))
    names = tuple(name.strip() for name in lines)
    if "" in names or len(set(names)) < len(names):
        raise WorkbookError(f"--class-order {written}: names a class twice, or one is empty")
    return names


def _lines(path: Path) -> list[str]:
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise WorkbookError(f"--class-order {path}: cannot be read as text ({error}): give another file") from None
    for line in lines:
        check_text("class_order", line)
    return lines
