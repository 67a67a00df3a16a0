"""Accuracy on small folders: the linear probe, the values of a large dataset, those that suit the folder, a teacher.

`python -m bench.small_data FILE.csv` draws folders from `tf_flowers` and `digits`, trains and converts a model for each
with the defaults, and adds a row to the file for each. A folder's test part is a few images; those that were not drawn,
at most `MOST_UNSEEN`, tell more.
"""

import io
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from mbutils import evaluation, quantization
from mbutils.backend import keras
from mbutils.config import ConvertParameters, DataParameters, TrainParameters, suited
from mbutils.data import datasets, pipeline, preprocessing
from mbutils.data.dataset import Dataset
from mbutils.model import training
from mbutils.model.probe import start_from_probe
from mbutils.runs import teachers
from mbutils.tflite.interpreter import TFLiteModel

# Dataset, classes, images of each class.
FOLDERS = (
    ("tf_flowers", 3, 40),
    ("tf_flowers", 5, 100),
    ("digits", 10, 20),
    ("tf_flowers", 2, 12),
    ("tf_flowers", 5, 20),
    ("tf_flowers", 2, 100),
    ("tf_flowers", 5, 300),
)
SPLITS = 3
MOST_UNSEEN = 1000
# What suits 2,642 photographs: the defaults for any number of images, before they suited the data.
FOR_LARGE_DATA = {
    "batch_size": 64,
    "epochs": 30,
    "learning_rate": 0.004,
    "warmup_epochs": 2.0,
    "dropout": 0.1,
    "batch_norm_momentum": 0.99,
    "batch_norm_statistics": "batch",
    "initial_classifier": "random",
    "horizontal_flip": True,
}
COMPARED = {"before": FOR_LARGE_DATA, "after": {}, "taught": {"teacher": "efficientnet_lite0"}}
KEYS = ["dataset", "n_classes", "images_per_class", "split"]


class Folder(NamedTuple):
    """A folder of images, and those that accuracy is measured on.

    Attributes:
        parameters: The defaults, and where the folder is.
        dataset: Its images.
        images: The same as a model sees them: uint8, shape (n, height, width, channels).
        scored: Images and labels, by "test" (the test part of the folder) and "unseen" (not in the folder).
    """

    parameters: TrainParameters
    dataset: Dataset
    images: np.ndarray
    scored: dict[str, tuple[np.ndarray, np.ndarray]]


def main(path: str) -> None:
    """Measures the folders that the file has no row for."""
    done = pd.read_csv(path)[KEYS].apply(tuple, axis=1).tolist() if Path(path).exists() else []
    for split in range(SPLITS):
        for key in [(*folder, split) for folder in FOLDERS if (*folder, split) not in done]:
            with tempfile.TemporaryDirectory() as place, tempfile.TemporaryDirectory() as results:
                row = dict(zip(KEYS, key, strict=True)) | measure(draw(*key, Path(place)), Path(results))
            pd.DataFrame([row]).to_csv(path, mode="a", index=False, header=not Path(path).exists())
            keras.backend.clear_session()


def draw(name: str, n_classes: int, per_class: int, split: int, place: Path) -> Folder:
    """Draws classes and images of a dataset, and writes them as a folder at `place`."""
    source = datasets.load(DataParameters(dataset=name))
    drawn, unseen = _drawn_positions(source, n_classes, per_class, split)
    _write(source, drawn, place)
    parameters = TrainParameters(dataset="folder", data_dir=str(place), split_seed=split)
    dataset = datasets.load(parameters)
    images = preprocessing.cached_images(dataset, parameters.preprocessing)
    test = dataset.positions("test")
    labels = np.array([dataset.class_names.index(source.class_names[label]) for label in source.labels[unseen]])
    others = preprocessing.cached_images(source, parameters.preprocessing)[unseen], labels
    return Folder(parameters, dataset, images, {"test": (images[test], dataset.labels[test]), "unseen": others})


def measure(folder: Folder, results: Path, **compared: dict[str, Any]) -> dict[str, Any]:
    """Returns the accuracy of the linear probe, and for each set of values minutes and accuracy, float and int8.

    Args:
        folder: The images.
        results: The folder for runs of teachers.
        **compared: Values that differ from the defaults, by the name of the columns; else `COMPARED`.
    """
    row = {"n_train": folder.dataset.n_train} | _probe(folder)
    for name, values in (compared or COMPARED).items():
        parameters = suited(replace(folder.parameters, **values), folder.dataset.n_train)
        start = time.perf_counter()
        lesson = teachers.teacher_lesson(parameters, folder.dataset, results)
        network = training.build_model(parameters, folder.dataset)
        training.fit(network, folder.images, folder.dataset, parameters, lesson)
        row[f"{name}_minutes"] = (time.perf_counter() - start) / 60
        row |= _accuracies(name, folder, partial(evaluation.predict_keras, network))
        row |= _accuracies(f"{name}_int8", folder, _converted(network, folder, parameters).predict)
    return row


def _probe(folder: Folder) -> dict[str, float]:
    parameters = suited(folder.parameters, folder.dataset.n_train)
    network = training.build_model(parameters, folder.dataset)
    start_from_probe(network, folder.images, folder.dataset)
    return _accuracies("probe", folder, partial(evaluation.predict_keras, network))


def _drawn_positions(source: Dataset, n_classes: int, per_class: int, split: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the positions of the images of the folder, and those of unseen images of the same classes."""
    rng = np.random.default_rng([n_classes, per_class, split])
    free = source.examples["part"].isin(["train", "validation"]) & ~source.examples["pixels"].duplicated(keep=False)
    drawn, unseen = [], []
    for label in np.sort(rng.permutation(source.n_classes)[:n_classes]):
        positions = rng.permutation(np.flatnonzero(free & (source.labels == label)))
        drawn += positions[:per_class].tolist()
        unseen += positions[per_class:].tolist()
    return np.array(drawn), rng.permutation(unseen)[:MOST_UNSEEN]


def _write(source: Dataset, positions: np.ndarray, folder: Path) -> None:
    for position, encoded in zip(positions, source.encoded(positions), strict=True):
        path = folder / source.class_names[source.labels[position]] / f"{position}"
        path.parent.mkdir(exist_ok=True)
        if encoded.startswith(b"\xff\xd8"):
            path.with_suffix(".jpg").write_bytes(encoded)
        else:
            Image.open(io.BytesIO(encoded)).save(path.with_suffix(".png"))


def _accuracies(name: str, folder: Folder, predict: Callable[[np.ndarray], np.ndarray]) -> dict[str, float]:
    return {
        f"{name}_{part}": evaluation.accuracy(labels, predict(images)).top1
        for part, (images, labels) in folder.scored.items()
    }


def _converted(network: keras.Model, folder: Folder, parameters: TrainParameters) -> TFLiteModel:
    """Returns the int8 model that `convert.ipynb` makes with its defaults."""
    options = ConvertParameters()
    calibration = pipeline.calibration_images(
        folder.images, folder.dataset, options.calibration_images, parameters.seed
    )
    folded, model = quantization.prepare(network, calibration, options)
    epochs = range(parameters.epochs, parameters.epochs + options.qat_epochs)
    batches = pipeline.training_batches(folder.images, folder.dataset, parameters, epochs)
    targets = quantization.soft_targets(folded, batches)
    tuned = quantization.fine_tune(model, targets, options.qat_epochs, options.qat_learning_rate)
    return TFLiteModel(quantization.to_int8_with_ranges(tuned))


if __name__ == "__main__":
    main(sys.argv[1])
