"""Batches of normalized images from the image cache on disk, against batches from an array in memory."""

import time
from collections.abc import Callable

import numpy as np

from bench import photographs
from mbutils.backend import tf
from mbutils.config import HALF_RANGE, Preprocessing
from mbutils.data import pipeline, preprocessing

BATCH_SIZE = 64


def ours(image_size: int, count: int, side: int) -> Callable[[], float]:
    """Prepares reading batches as validation and evaluation do, without augmentation."""
    data = photographs.dataset(count, side)
    images = preprocessing.cached_images(data, Preprocessing(image_size, "rgb", "area"))
    return _rounds(pipeline.ordered_batches(images, data, "train", BATCH_SIZE), count)


def stock(image_size: int, count: int, side: int) -> Callable[[], float]:
    """Prepares `tf.data.Dataset.from_tensor_slices` on images that are all in memory."""
    images = np.random.default_rng(0).integers(0, 256, (count, image_size, image_size, 3), np.uint8)
    batches = tf.data.Dataset.from_tensor_slices(images).batch(BATCH_SIZE)
    normalized = batches.map(lambda x: tf.cast(x, tf.float32) / HALF_RANGE - 1, tf.data.AUTOTUNE)
    return _rounds(normalized.prefetch(tf.data.AUTOTUNE), count)


def _rounds(batches: tf.data.Dataset, count: int) -> Callable[[], float]:
    def one_round() -> float:
        start = time.perf_counter()
        for _ in batches:
            pass
        return count / (time.perf_counter() - start)

    return one_round
