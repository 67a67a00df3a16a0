"""Accuracy on small folders: the linear probe, the values of a large dataset, and the values that suit the folder.

`python -m bench.small_data FILE.csv` draws folders from `tf_flowers` and `digits`, trains and converts a model for each
with the defaults, and adds a row to the file for each. It takes about an hour on 2 cores. A folder's test part is a few
images; the images that were not drawn, at most `MOST_UNSEEN`, tell more. No choice was made on either.
"""

import io
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from mbutils import evaluation, quantization
from mbutils.backend import keras
from mbutils.config import ConvertParameters, DataParameters, TrainParameters, suited
from mbutils.data import datasets, pipeline, preprocessing
from mbutils.data.dataset import Dataset
from mbutils.model import training
from mbutils.model.probe import linear_probe
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


def main(path: str) -> None:
    """Measures every folder that the file has no row for."""
    for split in range(SPLITS):
        for name, n_classes, per_class in FOLDERS:
            with tempfile.TemporaryDirectory() as folder:
                row = {"dataset": name, "n_classes": n_classes, "images_per_class": per_class, "split": split}
                row |= _measured(name, n_classes, per_class, split, Path(folder))
            pd.DataFrame([row]).to_csv(path, mode="a", index=False, header=not Path(path).exists())


def _measured(name: str, n_classes: int, per_class: int, split: int, folder: Path) -> dict[str, Any]:
    source = datasets.load(DataParameters(dataset=name))
    classes, drawn, unseen = _draw(source, n_classes, per_class, split)
    _write(source, drawn, folder)
    asked = TrainParameters(dataset="folder", data_dir=str(folder), split_seed=split)
    dataset = datasets.load(asked)
    images = preprocessing.cached_images(dataset, asked.preprocessing)
    others = preprocessing.cached_images(source, asked.preprocessing)[unseen]
    names = sorted(source.class_names[label] for label in classes)
    other_labels = np.array([names.index(source.class_names[label]) for label in source.labels[unseen]])
    test = dataset.positions("test")
    scored = {"test": (images[test], dataset.labels[test]), "unseen": (others, other_labels)}
    row = {"n_train": dataset.n_train}
    for kind, values in (("before", FOR_LARGE_DATA), ("after", {})):
        parameters = suited(TrainParameters(**{**vars(asked), **values}), dataset.n_train)
        network = training.build_model(parameters, dataset)
        if kind == "before":
            probe = linear_probe(network, images, dataset)
            network.get_layer("classifier").set_weights([probe.kernel, probe.bias])
            row |= _accuracies("probe", scored, lambda x, network=network: evaluation.predict_keras(network, x))
            network = training.build_model(parameters, dataset)
        start = time.perf_counter()
        training.fit(network, images, dataset, parameters)
        row[f"{kind}_minutes"] = round((time.perf_counter() - start) / 60, 2)
        row |= _accuracies(kind, scored, lambda x, network=network: evaluation.predict_keras(network, x))
        row |= _accuracies(f"{kind}_int8", scored, _converted(network, images, dataset, parameters).predict)
    keras.backend.clear_session()
    return row


def _draw(source: Dataset, n_classes: int, per_class: int, split: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the labels of the classes, the positions of the images in the folder, and those of unseen images."""
    rng = np.random.default_rng([n_classes, per_class, split])
    classes = np.sort(rng.permutation(source.n_classes)[:n_classes])
    free = source.examples["part"].isin(["train", "validation"]) & ~source.examples["pixels"].duplicated(keep=False)
    drawn, unseen = [], []
    for label in classes:
        positions = rng.permutation(np.flatnonzero(free & (source.labels == label)))
        drawn += positions[:per_class].tolist()
        unseen += positions[per_class:].tolist()
    return classes, np.array(drawn), rng.permutation(unseen)[:MOST_UNSEEN]


def _write(source: Dataset, positions: np.ndarray, folder: Path) -> None:
    for position, encoded in zip(positions, source.encoded(positions), strict=True):
        path = folder / source.class_names[source.labels[position]] / f"{position}"
        path.parent.mkdir(exist_ok=True)
        if encoded.startswith(b"\xff\xd8"):
            path.with_suffix(".jpg").write_bytes(encoded)
        else:
            Image.open(io.BytesIO(encoded)).save(path.with_suffix(".png"))


def _accuracies(kind: str, scored: dict[str, tuple[np.ndarray, np.ndarray]], predict: Any) -> dict[str, float]:  # noqa: ANN401
    return {
        f"{kind}_{part}": evaluation.accuracy(labels, predict(images)).top1 for part, (images, labels) in scored.items()
    }


def _converted(network: keras.Model, images: np.ndarray, dataset: Dataset, parameters: TrainParameters) -> TFLiteModel:
    """Returns the int8 model that `convert.ipynb` makes with its defaults."""
    options = ConvertParameters()
    calibration = pipeline.calibration_images(images, dataset, options.calibration_images, parameters.seed)
    folded, model = quantization.prepare(network, calibration, options)
    epochs = range(parameters.epochs, parameters.epochs + options.qat_epochs)
    batches = pipeline.training_batches(images, dataset, parameters, epochs)
    tuned = quantization.fine_tune(
        model, quantization.soft_targets(folded, batches), options.qat_epochs, options.qat_learning_rate
    )
    return TFLiteModel(quantization.to_int8_with_ranges(tuned))


if __name__ == "__main__":
    main(sys.argv[1])
