"""The teacher of a run: the finished run of its recipe, on the same data with the same fit and seed."""

from pathlib import Path

import numpy as np

from mbutils.config import TrainParameters
from mbutils.data import preprocessing
from mbutils.data.dataset import Dataset
from mbutils.errors import WorkbookError
from mbutils.model import distillation
from mbutils.model.weights import read_model
from mbutils.quantization.folding import fold
from mbutils.runs.folder import Run, find
from mbutils.runs.identity import identify


def find_teacher(parameters: TrainParameters, dataset: Dataset, results_dir: Path) -> Run:
    """Returns the finished run that teaches a run with these parameters.

    Raises:
        WorkbookError: If it is not trained yet, or damaged.
    """
    teacher = identify(parameters, dataset).teacher
    try:
        return find(results_dir, teacher.run_id)
    except WorkbookError as error:
        if (results_dir / "runs" / teacher.run_id).exists():  # damaged, as the error says
            raise
        raise WorkbookError(
            f"teacher {parameters.teacher}: no finished run {teacher.run_id} in {results_dir}: train its recipe first, "
            f"with dataset {parameters.data_name}, fit {parameters.fit}, seed {parameters.seed} and "
            f"validation_fraction {parameters.validation_fraction:g}, or use mb sweep"
        ) from error


def teacher_scores(parameters: TrainParameters, dataset: Dataset, results_dir: Path) -> np.ndarray | None:
    """Returns the scores that the teacher of a run gives to views of its training images, computed once and kept.

    Returns:
        float32, shape (views, n_train, n_classes); None where the parameters name no teacher.

    Raises:
        WorkbookError: If the teacher is not trained yet, or the cache folder cannot be written.
    """
    if not parameters.teacher:
        return None
    teacher = find_teacher(parameters, dataset, results_dir)

    def score() -> np.ndarray:
        network = fold(read_model(teacher.artefact("model.keras")))  # twice as fast
        images = preprocessing.cached_images(dataset, teacher.parameters.preprocessing)
        return distillation.score_views(network, images, dataset, parameters)

    model = teacher.manifest["artefacts"]["model.keras"]["sha256"]
    return distillation.stored_scores(model, dataset, parameters, score)
