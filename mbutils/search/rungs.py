"""Trainings that stop at an epoch, and go on later if they are among the best."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mbutils import runs
from mbutils.config import TrainParameters, suited
from mbutils.data import datasets, preprocessing
from mbutils.model import training
from mbutils.runs import teachers


def train(parameters: Mapping[str, Any], stop: int, results_dir: str) -> None:
    """Trains a run up to an epoch as `train.ipynb` does, from where it stopped before, and keeps its history.

    Args:
        parameters: Those of the training that differ from their defaults.
        stop: The epoch.
        results_dir: The results folder.

    Raises:
        WorkbookError: If a parameter is wrong, or the training diverges.
    """
    asked, folder = TrainParameters.from_dict(parameters), Path(results_dir)
    dataset = datasets.load(asked)
    trained = suited(asked, dataset.n_train)
    images = preprocessing.cached_images(dataset, trained.preprocessing)
    begun = runs.begin(trained, dataset, folder)
    network = training.build_model(trained, dataset)
    lesson = teachers.teacher_lesson(trained, dataset, folder)
    history = training.fit(network, images, dataset, trained, lesson, begun.checkpoint, stop=stop)
    runs.record_history(folder, begun.run_id, history)
