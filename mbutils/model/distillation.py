"""Distillation: the student learns what a larger model says of the same views that it is trained on.

It learns the teacher's scores (Hinton et al. 2015, arXiv:1503.02531) and its features (Romero et al. 2015,
arXiv:1412.6550). The views are scored once and reused, as in Shen and Xing 2022, arXiv:2112.01528; student and teacher
see the same crop, as in Beyer et al. 2022, arXiv:2106.05237.
"""

import hashlib
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mbutils.backend import convert_variables_to_constants_v2, keras, tf
from mbutils.config import TrainParameters
from mbutils.data import cache, pipeline
from mbutils.data.augmentation import draw_view
from mbutils.data.dataset import Dataset
from mbutils.model import networks
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
MOST_FEATURES = 128  # principal components of the teacher's features that are taught
_SAMPLE = 4096  # images that the principal components come from
_BATCH = 64


class Lesson(NamedTuple):
    """What a teacher says of each view of the training images.

    Attributes:
        scores: float32, shape (views, n_train, n_classes).
        features: Principal components of its features, of mean 0 and, on average, variance 1: float16, shape (views,
            n_train, n_features).
    """

    scores: np.ndarray
    features: np.ndarray


def stored_lesson(teacher: str, dataset: Dataset, parameters: TrainParameters, prepare: Callable[[], Lesson]) -> Lesson:
    """Returns what a teacher says, computed once and kept in the cache folder.

    Args:
        teacher: The sha256 of the teacher's model file.
        dataset: The training images.
        parameters: The student's parameters.
        prepare: Calls `lesson`.

    Raises:
        WorkbookError: If the cache folder cannot be written.
    """
    path = _path(teacher, dataset, parameters)
    with cache.made_once(path):
        found = _read(path)
        if found is None:
            found = prepare()
            with cache.written(path) as partial:
                np.savez(partial, **found._asdict())
    return found


def _read(path: Path) -> Lesson | None:
    """Returns the lesson in a file; None where it is missing, or its checksum shows that it is damaged."""
    try:
        with np.load(path) as saved:
            return Lesson(saved["scores"], saved["features"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _path(teacher: str, dataset: Dataset, parameters: TrainParameters) -> Path:
    determining = parameters.determining
    views = {name: determining[name] for name in _CHANGES_VIEWS if name in determining}
    views["late_views"] = parameters.late_views
    digest = hashlib.sha256(json.dumps([teacher, dataset.fingerprint, views, MOST_FEATURES]).encode()).hexdigest()[:16]
    return cache.folder(cache.TEACHER_SCORES) / f"{digest}.npz"


def lesson(teacher: keras.Model, images: np.ndarray, dataset: Dataset, parameters: TrainParameters) -> Lesson:
    """Returns what a teacher says of the augmented views that a student with these parameters will be trained on.

    Its features are those that it classifies, and the input of its last convolution, averaged over the image. Each of
    the two has the same share of the variance. Principal components whose variance is larger count more, by its square
    root.

    Args:
        teacher: Takes normalized images, float32 in [-1, 1], of its own size and colour mode.
        images: The cached images of the whole dataset after the teacher's preprocessing: uint8.
        dataset: The training part.
        parameters: The student's seed, augmentation, `teacher_views` and `late_views`.
    """
    views, count, size = parameters.teacher_views + parameters.late_views, dataset.n_train, teacher.input_shape[1]
    compute = _frozen(keras.Model(teacher.input, [teacher.output, *_features(teacher)]))
    some = min(count, _SAMPLE)
    samples = [
        [group.numpy() for group in compute(batch)[1:]]
        for *_, batch in _views(images, dataset, parameters, size, range(min(views, -(-_SAMPLE // some))), some)
    ]
    mean, components = _principal_components([np.concatenate(group) for group in zip(*samples, strict=True)])
    scores = np.empty((views, count, dataset.n_classes), np.float32)
    features = np.empty((views, count, components.shape[1]), np.float16)
    for number, rows, batch in _views(images, dataset, parameters, size, range(views), count):
        scores[number, rows], *groups = compute(batch)
        features[number, rows] = (np.concatenate(groups, axis=1) - mean) @ components
    return Lesson(scores, features)


def _views(
    images: np.ndarray, dataset: Dataset, parameters: TrainParameters, size: int, numbers: range, count: int
) -> Iterator[tuple[int, np.ndarray, tf.Tensor]]:
    """Yields the number of a view, rows of it, and their images, for the first `count` images of each view."""
    positions = dataset.positions("train")
    with progress(len(numbers) * count, "teacher", "image") as bar:
        for number in numbers:
            view = draw_view(len(positions), number, parameters, whole=number >= parameters.teacher_views)
            batches = tf.data.Dataset.range(count).batch(_BATCH)
            shown = batches.map(
                lambda rows, view=view: (rows, pipeline.training_view(images, positions, view, rows, parameters, size)),
                num_parallel_calls=tf.data.AUTOTUNE,
            )
            for rows, batch in shown.prefetch(tf.data.AUTOTUNE):
                yield number, rows.numpy(), batch
                bar.update(len(rows))


def _features(network: keras.Model) -> list[keras.KerasTensor]:
    """Returns the features that a network classifies, and the mean over the image of its last convolution's input."""
    convolutions = [layer for layer in network.layers if type(layer) is keras.layers.Conv2D]
    return [networks.pooled(network), *(keras.ops.mean(layer.input, axis=(1, 2)) for layer in convolutions[-1:])]


def _frozen(model: keras.Model) -> Callable[[tf.Tensor], list[tf.Tensor]]:
    """Returns a model as a function with constants for weights: TensorFlow then folds batch normalization."""
    signature = tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)
    traced = tf.function(lambda images: model(images, training=False)).get_concrete_function(signature)
    return convert_variables_to_constants_v2(traced)


def _principal_components(groups: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mean of features, (n,), and the matrix that makes the components that are taught, (n, n_taught)."""
    scales = [np.sqrt(group.var(axis=0).sum()) for group in groups]
    features = np.concatenate(groups, axis=1)
    scale = np.repeat(scales, [group.shape[1] for group in groups])
    mean = features.mean(axis=0)
    variances, directions = np.linalg.eigh(np.cov((features - mean) / scale, rowvar=False))
    kept = np.argsort(variances)[::-1][: min(MOST_FEATURES, len(features) - 1)]
    kept = kept[variances[kept] > 1e-6 * variances.max()]
    components = directions[:, kept] * variances[kept] ** -0.25
    size = np.sqrt(np.mean(np.sqrt(variances[kept])))  # the variance of a component is now the root of what it was
    return mean, (components / size / scale[:, None]).astype(np.float32)
