"""From encoded bytes to the images that a model takes: decoded, resized and cached.

`preprocess` is the one implementation of the preprocessing contract. Training, calibration and evaluation all read its
results from the same cache.
"""

import hashlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np

from mbutils.backend import tf
from mbutils.config import PADDING, Preprocessing
from mbutils.data import cache
from mbutils.data.dataset import Dataset
from mbutils.data.decoding import Opener, UnreadableImage, decoded
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


def preprocess(file: BinaryIO, contract: Preprocessing) -> np.ndarray:
    """Applies the preprocessing contract to one encoded image in an open file; see `decoding.decoded`.

    Returns:
        The image: uint8, shape (image_size, image_size, channels).

    Raises:
        UnreadableImage: If it is not an image, a damaged image, or one that is too large.
    """
    with decoded(file, contract.color_mode, contract.decoder) as pixels:
        return resize(pixels, contract)


def resize(pixels: np.ndarray, contract: Preprocessing) -> np.ndarray:
    """Resizes decoded pixels, uint8 (height, width, channels), to the square of the contract."""
    height, width, _ = pixels.shape
    size = contract.image_size
    if contract.fit == "pad":
        longer = max(height, width)
        high, wide = (max(1, (side * size + longer // 2) // longer) for side in (height, width))
        top, left = (size - high) // 2, (size - wide) // 2
        image = np.full(contract.shape, PADDING, np.uint8)
        image[top : top + high, left : left + wide] = _resized(pixels, (high, wide), contract.interpolation)
        return image
    if contract.fit == "crop":
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        pixels = pixels[top : top + side, left : left + side]
    return _resized(pixels, (size, size), contract.interpolation)


def _resized(pixels: np.ndarray, size: tuple[int, int], interpolation: str) -> np.ndarray:
    method, antialias = _RESIZE[interpolation]
    return np.rint(tf.image.resize(pixels, size, method, antialias=antialias).numpy()).astype(np.uint8)


def originals(dataset: Dataset, positions: np.ndarray, longest: int = 512) -> list[np.ndarray]:
    """Returns the images at `positions` as they are, to be looked at; those with a longer side only as large as that.

    Returns:
        Each uint8, shape (height, width, 3).

    Raises:
        WorkbookError: If an image is no longer there.
    """

    def reduced(opener: Opener) -> np.ndarray:
        with opener() as file, decoded(file) as pixels:
            height, width, _ = pixels.shape
            scale = min(1, longest / max(height, width))
            return _resized(pixels, (max(1, round(height * scale)), max(1, round(width * scale))), "area")

    ascending = np.unique(positions)
    found = dict(zip(ascending.tolist(), ordered_map(reduced, dataset.openers(ascending)), strict=True))
    return [found[position] for position in positions.tolist()]


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
            for image in ordered_map(named, enumerate(dataset.openers(np.arange(total)))):
                yield image
                bar.update()

    shape = (len(dataset.examples), *contract.shape)
    return cache.stored_images(cache_path(dataset, contract), shape, made)


def cache_path(dataset: Dataset, contract: Preprocessing) -> Path:
    """Returns the path of the file that `cached_images` keeps its images in."""
    digest = hashlib.sha256("\n".join(dataset.examples["identity"]).encode()).hexdigest()[:16]
    return cache.folder(cache.IMAGES) / f"{dataset.name}_{contract.name}_{digest}.npy"


def _preprocess_named(dataset: Dataset, contract: Preprocessing, item: tuple[int, Opener]) -> np.ndarray:
    position, opener = item
    try:
        with opener() as file:
            return preprocess(file, contract)
    except UnreadableImage as error:
        example = dataset.examples.iloc[position]
        raise WorkbookError(
            f"{dataset.name}: image {position} of class {dataset.class_names[example['label']]} "
            f"(md5 {example['identity']}) is unreadable ({error}): remove or replace it"
        ) from error
