"""Learning from a teacher: a larger model's scores of the very views that the student is trained on.

Hinton et al. 2015, arXiv:1503.02531; with the views scored once and reused, as in Shen and Xing 2022,
arXiv:2112.01528; student and teacher see the same crop, as in Beyer et al. 2022, arXiv:2106.05237.
"""

import hashlib
import json
from pathlib import Path

import numpy as np

from mbutils import cache, pipeline, runs
from mbutils import model as mobilenet
from mbutils.augmentation import draw_view
from mbutils.backend import keras, tf
from mbutils.config import TrainParameters, cache_dir
from mbutils.datasets import Dataset
from mbutils.errors import WorkbookError
from mbutils.progress import progress
from mbutils.quantization.folding import fold

_CHANGES_VIEWS = ("seed", "min_crop_area", "horizontal_flip", "color_jitter", "mixup", "teacher_views", "late_views")


def teacher_scores(parameters: TrainParameters, dataset: Dataset, results_dir: Path) -> np.ndarray | None:
    """Returns what the teacher of a run says of its training images, scored once and kept on disk.

    Returns:
        The scores: float32, shape (views, n_train, n_classes); None where the parameters name no teacher.

    Raises:
        WorkbookError: If the teacher is not trained yet, or the cache folder cannot be written.
    """
    if not parameters.teacher:
        return None
    teacher = find_teacher(parameters, dataset, results_dir)
    path = _scores_path(teacher, parameters, dataset)
    if not path.exists():
        network = fold(mobilenet.read_model(teacher.path / "model.keras"))  # twice as fast
        images = pipeline.cached_images(dataset, teacher.parameters.preprocessing)
        _keep(score_views(network, images, dataset, parameters), path)
    return np.load(path)


def _keep(scores: np.ndarray, path: Path) -> None:
    try:
        with cache.written_beside(path) as partial:
            np.save(partial, scores)
    except OSError as error:
        raise WorkbookError(
            f"cannot write the teacher's scores {path} ({error.strerror}): free some space or set MB_CACHE_DIR"
        ) from error


def find_teacher(parameters: TrainParameters, dataset: Dataset, results_dir: Path) -> runs.Run:
    """Returns the finished run that teaches a run with these parameters.

    Raises:
        WorkbookError: If it is not trained yet.
    """
    run_id = parameters.teacher_parameters.run_id(dataset.fingerprint)
    try:
        return runs.find(results_dir, run_id)
    except WorkbookError as error:
        raise WorkbookError(
            f"teacher {parameters.teacher}: no finished run {run_id} in {results_dir}: train its recipe first, with "
            f"dataset {parameters.data_name}, seed {parameters.seed} and "
            f"validation_fraction {parameters.validation_fraction:g}, or use mb sweep"
        ) from error


def _scores_path(teacher: runs.Run, parameters: TrainParameters, dataset: Dataset) -> Path:
    model = teacher.manifest["artefacts"]["model.keras"]["sha256"]
    views = {name: getattr(parameters, name) for name in _CHANGES_VIEWS}
    digest = hashlib.sha256(json.dumps([model, dataset.fingerprint, views]).encode()).hexdigest()[:16]
    return cache_dir() / f"teacher_scores_{digest}.npy"


def score_views(
    teacher: keras.Model, images: np.ndarray, dataset: Dataset, parameters: TrainParameters, batch_size: int = 64
) -> np.ndarray:
    """Scores the augmented views of the training images that a student with these parameters will see.

    Args:
        teacher: Takes normalized images, float32 in [-1, 1], of its own size and colour.
        images: The cached images of the whole dataset after the teacher's preprocessing: uint8.
        dataset: Gives the training part.
        parameters: The student's: its seed, augmentation, `teacher_views` and `late_views`.
        batch_size: Images scored at a time.

    Returns:
        The scores: float32, shape (teacher_views + late_views, n_train, n_classes).
    """
    positions = dataset.positions("train")
    size = teacher.input_shape[1]
    scores = np.empty((parameters.teacher_views + parameters.late_views, len(positions), dataset.n_classes), np.float32)

    score = tf.function(lambda batch: teacher(batch, training=False), reduce_retracing=True)
    with progress(scores.shape[0] * len(positions), "teacher", "image") as bar:
        for number in range(len(scores)):
            view = draw_view(len(positions), number, parameters, whole=number >= parameters.teacher_views)
            for start in range(0, len(positions), batch_size):
                rows = np.arange(start, min(start + batch_size, len(positions)))
                scores[number, rows] = score(pipeline.show(images, positions, view, rows, parameters, size))
                bar.update(len(rows))
    return scores
