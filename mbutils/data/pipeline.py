"""The input pipeline: cached images to batches for training, validation, calibration and evaluation."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mbutils.backend import tf
from mbutils.config import HALF_RANGE, PrepareParameters, TrainParameters, to_pixels
from mbutils.data.augmentation import View, augment, draw_view, mix
from mbutils.data.dataset import Dataset


@dataclass(frozen=True)
class Subset:
    """Some of the cached images, read from disk when they are indexed, so that they need not fit in memory.

    Attributes:
        images: All cached images: uint8, shape (n, height, width, channels).
        positions: The positions of the images of the subset among them, shape (n_subset,).
    """

    images: np.ndarray
    positions: np.ndarray

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, index: slice | np.ndarray) -> np.ndarray:
        return self.images[self.positions[index]]


def augmented_examples(images: np.ndarray, parameters: PrepareParameters, copies: int) -> np.ndarray:
    """Returns `copies` augmented views of each image to show: uint8, shape (copies * n, height, width, channels)."""
    count, size = images.shape[:2]
    views = [draw_view(count, number, parameters) for number in range(copies)]
    shown = [training_view(images, np.arange(count), view, np.arange(count), parameters, size) for view in views]
    return to_pixels(np.concatenate(shown))


def training_view(
    images: np.ndarray,
    positions: np.ndarray,
    view: View,
    rows: np.ndarray | tf.Tensor,
    parameters: PrepareParameters,
    image_size: tf.Tensor | int,
) -> tf.Tensor:
    """Returns images as a model is trained on them: augmented and mixed.

    Args:
        images: The cached images: uint8, shape (n, height, width, channels).
        positions: The positions of the images of the view among them, shape (n_view,).
        view: The random changes of each.
        rows: The rows of the view to return.
        parameters: The augmentation.
        image_size: Height and width of the result in pixels.

    Returns:
        Normalized images: float32 in [-1, 1], shape (len(rows), image_size, image_size, channels).
    """

    def augmented(rows: tf.Tensor) -> tf.Tensor:
        batch = _gather(images, tf.gather(positions, rows))
        return augment(batch, tf.gather(view.changes, rows), parameters, image_size)

    if not parameters.mixup:
        return augmented(rows)
    return mix(augmented(rows), augmented(tf.gather(view.partners, rows)), tf.gather(view.shares, rows))


def training_batches(
    images: np.ndarray,
    dataset: Dataset,
    parameters: TrainParameters,
    epochs: range,
    lesson: Sequence[np.ndarray] | None = None,
) -> tf.data.Dataset:
    """Returns batches of the training part; each epoch has a new order and a new view of each image.

    Args:
        images: The cached images of the whole dataset: uint8, shape (n, height, width, channels).
        dataset: The training part and the labels.
        parameters: Batch size, seed, augmentation, label smoothing, and the size of the images of each epoch.
        epochs: The epochs, counted from 0; each has `steps_per_epoch` batches.
        lesson: A teacher's scores and features of each view, see `distillation.Lesson`, the last `late_views` of them
            of whole images. Epochs then take the views in turn.

    Returns:
        Batches of normalized images, float32 (batch, height, width, channels), and targets: the probabilities of the
        classes times the weight of the image's class, which weights its loss, (batch, n_classes); where
        `teacher_features` is not 0, the teacher's features behind them, (batch, n_classes + n_features).
    """
    positions = dataset.positions("train")
    count = len(positions)
    labels = _smoothed(dataset.labels[positions], dataset.n_classes, parameters.label_smoothing)
    weights = _weights(dataset, parameters)[dataset.labels[positions], None]

    def batches_of(epoch: tf.Tensor) -> tf.data.Dataset:
        number, whole = _view_of(epoch, parameters, lesson)
        view = draw_view(count, number, parameters, whole)
        targets = mix(labels, tf.gather(labels, view.partners), view.shares)
        if lesson is not None:
            scores, features = (_view_in(part, number) for part in lesson)
            targets += parameters.teacher_weight * (scores - targets)
        targets *= mix(weights, tf.gather(weights, view.partners), view.shares)
        if lesson is not None and parameters.teacher_features:
            targets = tf.concat([targets, features], axis=1)
        size = tf.where(epoch < parameters.early_epochs, parameters.early_image_size, parameters.image_size)
        order = tf.random.experimental.stateless_shuffle(tf.range(count), (parameters.seed, epoch))
        rows = tf.data.Dataset.from_tensor_slices(order).batch(min(parameters.batch_size, count), drop_remainder=True)
        return rows.map(
            lambda rows: (training_view(images, positions, view, rows, parameters, size), tf.gather(targets, rows)),
            num_parallel_calls=tf.data.AUTOTUNE,
        )

    numbers = tf.data.Dataset.range(epochs.start, epochs.stop, output_type=tf.int32)
    total = len(epochs) * steps_per_epoch(dataset, parameters)
    batches = numbers.flat_map(batches_of).apply(tf.data.experimental.assert_cardinality(total))
    return batches.prefetch(tf.data.AUTOTUNE)


def _view_in(part: np.ndarray, number: tf.Tensor) -> tf.Tensor:
    """Returns what a teacher says of the view of a number, within a graph: float32, shape (n_train, n)."""
    said = tf.numpy_function(lambda n: part[n].astype(np.float32), [number], tf.float32, stateful=False)
    return tf.ensure_shape(said, part.shape[1:])


def _view_of(
    epoch: tf.Tensor, parameters: TrainParameters, lesson: Sequence[np.ndarray] | None
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the number of the view of an epoch, and whether its images are whole."""
    late = (parameters.late_epochs > 0) & (epoch >= parameters.epochs - parameters.late_epochs)
    if lesson is None:
        return epoch, late
    cropped = len(lesson[0]) - parameters.late_views
    return tf.where(late, cropped + epoch % max(1, parameters.late_views), epoch % cropped), late


def steps_per_epoch(dataset: Dataset, parameters: TrainParameters) -> int:
    """Returns the number of batches of an epoch: full batches only, but at least one."""
    return max(1, dataset.n_train // parameters.batch_size)


def _weights(dataset: Dataset, parameters: TrainParameters) -> np.ndarray:
    balanced = parameters.class_weight == "balanced"
    return dataset.class_weights() if balanced else np.ones(dataset.n_classes, np.float32)


def _smoothed(labels: np.ndarray, n_classes: int, smoothing: float) -> np.ndarray:
    return ((1 - smoothing) * np.eye(n_classes)[labels] + smoothing / n_classes).astype(np.float32)


def ordered_batches(images: np.ndarray, dataset: Dataset, part: str, batch_size: int) -> tf.data.Dataset:
    """Returns the batches of one part in reading order: normalized images, and one-hot labels (batch, n_classes)."""
    positions = dataset.positions(part)
    labels = _smoothed(dataset.labels[positions], dataset.n_classes, 0.0)
    batches = tf.data.Dataset.from_tensor_slices((positions, labels)).batch(batch_size)
    return batches.map(
        lambda p, targets: (tf.cast(_gather(images, p), tf.float32) / HALF_RANGE - 1.0, targets)
    ).prefetch(tf.data.AUTOTUNE)


def _gather(images: np.ndarray, positions: tf.Tensor) -> tf.Tensor:
    """Reads a batch from the memory map, within a graph."""
    batch = tf.numpy_function(lambda p: images[p], [positions], tf.uint8, stateful=False)
    return tf.ensure_shape(batch, (None, *images.shape[1:]))


def sample(dataset: Dataset, part: str, count: int, seed: int) -> np.ndarray:
    """Returns the positions of `count` random images of a part (all, if there are fewer): int64, ascending."""
    return np.sort(np.random.default_rng(seed).permutation(dataset.positions(part))[:count])


def calibration_images(images: np.ndarray, dataset: Dataset, count: int, seed: int) -> np.ndarray:
    """Returns `count` random training images (all, if there are fewer): uint8, shape (count, height, width, channels).

    No image of the validation or test part is among them.
    """
    return images[sample(dataset, "train", count, seed)]
