"""Whole epochs with validation: the workbook's `training.fit` against the stock way.

The stock way is that of Keras' tutorials: JPEG files in a folder for each class, `image_dataset_from_directory`,
Keras' augmentation layers in the input pipeline, `keras.applications.MobileNet` and `fit`. Both sides train on the same
images with random crops, mirroring, brightness and contrast, and take the training steps that `step` compares.
"""

import contextlib
import io
import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

from bench import step
from mbutils.backend import keras, tf
from mbutils.config import HALF_RANGE, DataParameters
from mbutils.data import cache, datasets, preprocessing
from mbutils.files import atomic_folder
from mbutils.model import training

EPOCHS_PER_ROUND = 2
DEFAULTS = step.DEFAULTS


def ours(
    alpha: float, image_size: int, dataset: str = DEFAULTS.dataset, batch_size: int = DEFAULTS.batch_size
) -> Callable[[], float]:
    """Prepares epochs the workbook's way. Each round traces the step again, in an epoch that is not counted."""
    parameters = replace(
        DEFAULTS,
        dataset=dataset,
        alpha=alpha,
        image_size=image_size,
        batch_size=batch_size,
        weights="none",
        epochs=1 + EPOCHS_PER_ROUND,
        warmup_epochs=1.0,
    )
    data = datasets.load(parameters)
    images = preprocessing.cached_images(data, parameters.preprocessing)
    network = training.build_model(parameters, data)
    images_per_epoch = len(data.positions("train")) // batch_size * batch_size  # an incomplete batch is left out

    def one_round() -> float:
        with contextlib.redirect_stderr(io.StringIO()):  # only the progress bar of the comparison is shown
            seconds = training.fit(network, images, data, parameters)["seconds"]
        return EPOCHS_PER_ROUND * images_per_epoch / (seconds.iloc[-1] - seconds.iloc[0])

    return one_round


def stock(
    alpha: float,
    image_size: int,
    dataset: str = DEFAULTS.dataset,
    batch_size: int = DEFAULTS.batch_size,
    cached: bool = False,
) -> Callable[[], float]:
    """Prepares epochs the stock way. The first round, which is not counted, traces the step.

    Args:
        alpha: Width multiplier.
        image_size: Height and width in pixels.
        dataset: A name in `mbutils.data.datasets.REGISTRY`; its images are JPEG files.
        batch_size: Images per training step.
        cached: Whether the resized images stay in memory (`.cache()`), instead of being decoded in each epoch.
    """
    folder = _exported(dataset)
    files, held_out = (
        keras.utils.image_dataset_from_directory(
            folder / part,
            label_mode="categorical",
            batch_size=batch_size,
            image_size=(image_size, image_size),
            verbose=False,
        )
        for part in ("train", "validation")
    )
    train, validation = (batches.cache() if cached else batches for batches in (files, held_out))
    train = train.map(_augmentation(), num_parallel_calls=tf.data.AUTOTUNE)
    train, validation = (
        batches.map(lambda x, y: (x / HALF_RANGE - 1, y)).prefetch(tf.data.AUTOTUNE) for batches in (train, validation)
    )
    network = step.keras_mobilenet(alpha, image_size, len(files.class_names))

    def one_round() -> float:
        times = []
        timer = keras.callbacks.LambdaCallback(
            on_train_begin=lambda logs: times.append(time.perf_counter()),
            on_epoch_end=lambda epoch, logs: times.append(time.perf_counter()),
        )
        network.fit(
            train, validation_data=validation, epochs=EPOCHS_PER_ROUND, callbacks=[timer], verbose=0, shuffle=False
        )
        return EPOCHS_PER_ROUND * len(files.file_paths) / (times[-1] - times[0])

    return one_round


def _exported(dataset: str) -> Path:
    """Calls `export` in another process, because loading a dataset takes memory that the stock way does not need."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(export, dataset).result()


def export(dataset: str) -> Path:
    """Writes the images of a dataset as files, once, and returns their folder: `<part>/<class>/<position>.jpg` in it.

    Raises:
        WorkbookError: If the dataset is not available, or the cache folder cannot be written.
    """
    data = datasets.load(DataParameters(dataset=dataset))
    folder = cache.folder(cache.BENCHMARK) / f"{data.name}_{data.fingerprint}"
    if not folder.exists():
        with atomic_folder(folder, "set MB_CACHE_DIR") as partial:
            for example, encoded in zip(data.examples.itertuples(), data.read(), strict=True):
                path = partial / example.part / data.class_names[example.label] / f"{example.Index}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(encoded)
    return folder


def _augmentation() -> Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    """Returns Keras' layers for the changes of `augmentation.augment`, as a function of images and labels."""
    jitter = DEFAULTS.color_jitter / 2  # a fraction of 0..255, where ours is a fraction of half of it
    layers = keras.Sequential(
        [
            keras.layers.RandomFlip("horizontal"),
            keras.layers.RandomZoom((DEFAULTS.min_crop_area**0.5 - 1, 0), (DEFAULTS.min_crop_area**0.5 - 1, 0)),
            keras.layers.RandomContrast(DEFAULTS.color_jitter),
            keras.layers.RandomBrightness(jitter),
        ]
    )
    return lambda images, labels: (layers(images, training=True), labels)
