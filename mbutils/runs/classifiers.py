"""Finished classifiers, ready to score images: the models of a run, or a .tflite from elsewhere."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from mbutils import evaluation
from mbutils.config import FOLDER, Preprocessing
from mbutils.data import pipeline, preprocessing
from mbutils.data.dataset import Dataset
from mbutils.errors import WorkbookError, nearest
from mbutils.model.weights import read_model
from mbutils.runs.folder import FLOAT32, Run, load_dataset
from mbutils.tflite.interpreter import TFLiteModel


@dataclass(frozen=True, eq=False)
class Classifier:
    """What is needed to score images.

    Attributes:
        contract: How images are prepared for it.
        class_names: Its classes, in the order of its scores.
        models: By name a function of images (uint8, shape (n, height, width, channels)) and a batch size that returns
            their scores: float32, shape (n, n_classes).
    """

    contract: Preprocessing
    class_names: tuple[str, ...]
    models: dict[str, Callable[[np.ndarray, int], np.ndarray]]

    def labels(self, dataset: Dataset) -> np.ndarray:
        """Returns the label of every image of a dataset by the order of the classes here: int64, shape (n,).

        Raises:
            WorkbookError: If the dataset has a class that is not among the classes here.
        """
        for name in dataset.class_names:
            if name not in self.class_names:
                raise WorkbookError(
                    f"{dataset.name}: class {name!r} is not one of the model's: {nearest(name, self.class_names)}"
                )
        return np.array([self.class_names.index(name) for name in dataset.class_names])[dataset.labels]

    def scores(self, dataset: Dataset, positions: np.ndarray, batch_size: int) -> dict[str, np.ndarray]:
        """Returns the scores of the images at `positions`, by model."""
        images = pipeline.Subset(preprocessing.cached_images(dataset, self.contract), positions)
        return {name: predict(images, batch_size) for name, predict in self.models.items()}


def of_run(run: Run) -> Classifier:
    """Returns the float32 model of a run and its int8 models."""
    manifest = run.manifest
    int8 = [variant for variant in manifest["variants"] if variant != FLOAT32]
    models = {FLOAT32: partial(evaluation.predict_keras, read_model(run.artefact("model.keras")))}
    models |= {variant: TFLiteModel(run.artefact(f"{variant}.tflite")).predict for variant in int8}
    return Classifier(run.parameters.preprocessing, tuple(manifest["dataset"]["class_names"]), models)


def learned_from(run: Run, dataset: Dataset, positions: np.ndarray) -> np.ndarray | None:
    """Returns which images have the pixels of an image that a run was trained on or chosen by: bool, shape (n,).

    Returns:
        None where that is not known: the run's images are of a dataset with a name, or not as they were.
    """
    if run.parameters.dataset != FOLDER:
        return None
    try:
        own = load_dataset(run).examples
    except WorkbookError:
        return None
    learned = own.loc[own["part"].isin(["train", "validation"]), "pixels"]
    return dataset.examples["pixels"].iloc[positions].isin(learned).to_numpy()
