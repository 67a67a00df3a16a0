"""Distillation: the student learns a larger model's scores of the same views that it is trained on.

Hinton et al. 2015, arXiv:1503.02531. The views are scored once and reused, as in Shen and Xing 2022, arXiv:2112.01528;
student and teacher see the same crop, as in Beyer et al. 2022, arXiv:2106.05237.
"""

import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mbutils.backend import keras, tf
from mbutils.config import TrainParameters
from mbutils.data import cache, pipeline
from mbutils.data.augmentation import draw_view
from mbutils.data.dataset import Dataset
from mbutils.progress import progress

_CHANGES_VIEWS = (
    "seed",
    "min_crop_area",
    "horizontal_flip",
    "color_jitter",
    "mixup",
    "teacher_views",
    "vertical_flip",
    "rotation",
    "translation",
    "zoom_out",
    "shear",
    "blur",
    "noise",
)


def stored_scores(
    teacher: str, dataset: Dataset, parameters: TrainParameters, score: Callable[[], np.ndarray]
) -> np.ndarray:
    """Returns the scores of a teacher, computed once and kept in the cache folder.

    Args:
        teacher: The sha256 of the teacher's model file.
        dataset: The training images.
        parameters: The student's parameters.
        score: Calls `score_views`.

    Raises:
        WorkbookError: If the cache folder cannot be written.
    """
    path = _scores_path(teacher, dataset, parameters)
    with cache.made_once(path):
        scores = _read(path)
        if scores is None:
            scores = score()
            with cache.written(path) as partial:
                np.savez(partial, scores=scores)
    return scores


def _read(path: Path) -> np.ndarray | None:
    """Returns the scores in a file; None where it is missing, or its checksum shows that it is damaged."""
    try:
        with np.load(path) as saved:
            return saved["scores"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _scores_path(teacher: str, dataset: Dataset, parameters: TrainParameters) -> Path:
    determining = parameters.determining
    views = {name: determining[name] for name in _CHANGES_VIEWS if name in determining}
    views["late_views"] = parameters.late_views
    if parameters.mixup:
        views["streams"] = "independent"  # scores of views whose partners were drawn with the crops have another name
    digest = hashlib.sha256(json.dumps([teacher, dataset.fingerprint, views]).encode()).hexdigest()[:16]
    return cache.folder(cache.TEACHER_SCORES) / f"{digest}.npz"


def score_views(
    teacher: keras.Model, images: np.ndarray, dataset: Dataset, parameters: TrainParameters, batch_size: int = 64
) -> np.ndarray:
    """Returns a teacher's scores of the augmented views that a student with these parameters will be trained on.

    Args:
        teacher: Takes normalized images, float32 in [-1, 1], of its own size and colour mode.
        images: The cached images of the whole dataset after the teacher's preprocessing: uint8.
        dataset: The training part.
        parameters: The student's seed, augmentation, `teacher_views` and `late_views`.
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
                scores[number, rows] = score(pipeline.training_view(images, positions, view, rows, parameters, size))
                bar.update(len(rows))
    return scores
