"""From encoded bytes to the images that a model takes: decoded, resized and cached.

`preprocess` is the one implementation of the preprocessing contract. Training, calibration and evaluation all read its
results from the same cache.
"""

import hashlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from mbutils.backend import tf
from mbutils.config import Preprocessing, cache_dir
from mbutils.data import cache
from mbutils.data.dataset import Dataset
from mbutils.data.decoding import UnreadableImage, decode
from mbutils.data.parallel import ordered_map
from mbutils.errors import WorkbookError
from mbutils.progress import progress

# Method and antialiasing of tf.image.resize, which takes pixel centres at half integers.
_RESIZE = {
    "area": ("area", False),
    "bilinear": ("bilinear", False),
    "bilinear_antialias": ("bilinear", True),
    "nearest": ("nearest", False),
}


def preprocess(encoded: bytes, contract: Preprocessing) -> np.ndarray:
    """Applies the preprocessing contract to one encoded image.

    Returns:
        The image: uint8, shape (image_size, image_size, channels).

    Raises:
        UnreadableImage: If the bytes are not an image, a damaged image, or one that is too large.
    """
    return resize(decode(encoded, contract.color_mode), contract)


def resize(pixels: np.ndarray, contract: Preprocessing) -> np.ndarray:
    """Resizes decoded pixels, uint8 (height, width, channels), according to the contract."""
    method, antialias = _RESIZE[contract.interpolation]
    size = (contract.image_size, contract.image_size)
    return np.rint(tf.image.resize(pixels, size, method, antialias=antialias).numpy()).astype(np.uint8)


def cached_images(dataset: Dataset, contract: Preprocessing) -> np.ndarray:
    """Returns every image of the dataset after preprocessing, computed once and kept on disk.

    The cache is a memory map, so a dataset may be larger than memory. The identities of the images and the contract
    determine its file, in the folder that `MB_CACHE_DIR` names, or `~/.cache/mbutils`.

    Returns:
        A read-only memory map: uint8, shape (n, image_size, image_size, channels), in the order of `dataset.examples`.

    Raises:
        WorkbookError: If an image is unreadable, or the cache folder cannot be written.
    """

    def made() -> Iterator[np.ndarray]:
        total = len(dataset.examples)
        named = partial(_preprocess_named, dataset, contract)
        with progress(total, "decode and resize", "image") as bar:
            for image in ordered_map(named, enumerate(dataset.read())):
                yield image
                bar.update()

    shape = (len(dataset.examples), *contract.shape)
    return cache.stored_images(cache_path(dataset, contract), shape, made)


def cache_path(dataset: Dataset, contract: Preprocessing) -> Path:
    """Returns the path of the file that `cached_images` keeps its images in."""
    digest = hashlib.sha256("\n".join(dataset.examples["identity"]).encode()).hexdigest()[:16]
    name = f"{dataset.name}_{contract.image_size}_{contract.color_mode}_{contract.interpolation}_{digest}.npy"
    return cache_dir() / name


def _preprocess_named(dataset: Dataset, contract: Preprocessing, item: tuple[int, bytes]) -> np.ndarray:
    position, encoded = item
    try:
        return preprocess(encoded, contract)
    except UnreadableImage as error:
        example = dataset.examples.iloc[position]
        raise WorkbookError(
            f"{dataset.name}: image {position} of class {dataset.class_names[example['label']]} "
            f"(md5 {example['identity']}) is unreadable ({error}): remove or replace it"
        ) from error
