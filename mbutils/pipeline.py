"""From encoded bytes to batches: decode, resize, colour, cache, augment.

`preprocess` is the one implementation of the preprocessing contract; training, calibration and evaluation all read its
results from the same cache.
"""

import hashlib
import io
import itertools
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from mbutils.backend import tf
from mbutils.config import PrepareParameters, Preprocessing, TrainParameters, cache_dir
from mbutils.datasets import Dataset
from mbutils.errors import WorkbookError
from mbutils.progress import progress

# Method and antialiasing of tf.image.resize, which takes pixel centres at half integers.
_RESIZE = {
    "area": ("area", False),
    "bilinear": ("bilinear", False),
    "bilinear_antialias": ("bilinear", True),
    "nearest": ("nearest", False),
}
_ASPECT_RATIOS = (3 / 4, 4 / 3)
_READ_AHEAD = 256  # encoded images in memory at a time while the cache is built


def preprocess(encoded: bytes, contract: Preprocessing) -> np.ndarray:
    """Applies the preprocessing contract to one encoded image.

    Returns:
        The image: uint8, shape (image_size, image_size, channels).

    Raises:
        OSError: If the bytes are not an image, or a truncated one.
    """
    pixels = np.asarray(_open(encoded).convert("RGB" if contract.color_mode == "rgb" else "L"))
    method, antialias = _RESIZE[contract.interpolation]
    size = (contract.image_size, contract.image_size)
    resized = tf.image.resize(np.atleast_3d(pixels), size, method, antialias=antialias)
    return np.rint(resized).astype(np.uint8)


def cached_images(dataset: Dataset, contract: Preprocessing) -> np.ndarray:
    """Returns every image of the dataset after preprocessing, decoded once and kept on disk.

    The cache is a memory map, so memory stays bounded however large the dataset; it is found again by the identities
    of the images and the contract, in the folder that `MB_CACHE_DIR` names, or `~/.cache/mbutils`.

    Returns:
        A read-only memory map: uint8, shape (n, image_size, image_size, channels), in the order of `dataset.examples`.

    Raises:
        WorkbookError: If an image is corrupt, or the cache folder cannot be written.
    """
    path = _cache_path(dataset, contract)
    if not path.exists():
        try:
            _build_cache(dataset, contract, path)
        except OSError as error:
            raise WorkbookError(
                f"cannot write the image cache {path} ({error.strerror}): free some space or set MB_CACHE_DIR"
            ) from error
    return np.load(path, mmap_mode="r")


def _cache_path(dataset: Dataset, contract: Preprocessing) -> Path:
    digest = hashlib.sha256("\n".join(dataset.examples["identity"]).encode()).hexdigest()[:16]
    name = f"{dataset.name}_{contract.image_size}_{contract.color_mode}_{contract.interpolation}_{digest}.npy"
    return cache_dir() / name


def _build_cache(dataset: Dataset, contract: Preprocessing, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    total = len(dataset.examples)
    try:
        images = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=(total, *contract.shape))
        numbered = enumerate(dataset.read())
        with ThreadPoolExecutor(os.cpu_count()) as pool, progress(total, "decode and resize", "image") as bar:
            while chunk := list(itertools.islice(numbered, _READ_AHEAD)):
                for position, image in pool.map(lambda item: _preprocess_named(dataset, item, contract), chunk):
                    images[position] = image
                bar.update(len(chunk))
        images.flush()
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _preprocess_named(dataset: Dataset, item: tuple[int, bytes], contract: Preprocessing) -> tuple[int, np.ndarray]:
    position, encoded = item
    try:
        return position, preprocess(encoded, contract)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        example = dataset.examples.iloc[position]
        raise WorkbookError(
            f"{dataset.name}: image {position} of class {dataset.class_names[example['label']]} "
            f"(md5 {example['identity']}) is corrupt ({error}): remove or replace it"
        ) from error


def normalize(images: np.ndarray | tf.Tensor) -> np.ndarray | tf.Tensor:
    """Maps pixels 0..255 to the float model's input range: `pixel / 127.5 - 1`, float32 in [-1, 1]."""
    images = tf.cast(images, tf.float32) if tf.is_tensor(images) else images.astype(np.float32)
    return images / 127.5 - 1.0


def augment(images: tf.Tensor, seed: tf.Tensor, parameters: PrepareParameters) -> tf.Tensor:
    """Augments a batch: random resized crop, horizontal flip, brightness and contrast.

    Args:
        images: Normalized images: float32 in [-1, 1], shape (batch, height, width, channels).
        seed: Two integers that determine every draw.
        parameters: Gives `min_crop_area`, `horizontal_flip` and `color_jitter`.

    Returns:
        The augmented batch: same shape, range and type.
    """
    draws = tf.unstack(tf.random.stateless_uniform([7, tf.shape(images)[0]], seed))
    boxes = _crop_boxes(draws[:4], parameters.min_crop_area)
    if parameters.horizontal_flip:
        # A box whose left and right are swapped gives the mirrored crop.
        boxes = tf.where(draws[4][:, None] < 0.5, boxes, tf.gather(boxes, [0, 3, 2, 1], axis=1))
    cropped = tf.image.crop_and_resize(images, boxes, tf.range(tf.shape(images)[0]), tf.shape(images)[1:3])
    jitter = parameters.color_jitter
    contrast, brightness = 1 + jitter * (2 * draws[5] - 1), jitter * (2 * draws[6] - 1)
    jittered = cropped * contrast[:, None, None, None] + brightness[:, None, None, None]
    return tf.clip_by_value(tf.ensure_shape(jittered, images.shape), -1.0, 1.0)


def augmented_examples(images: np.ndarray, parameters: PrepareParameters, copies: int) -> np.ndarray:
    """Returns `copies` augmented versions of each image, to look at: uint8, shape (copies * n, height, width, c)."""
    versions = [augment(tf.constant(normalize(images)), (parameters.seed, copy), parameters) for copy in range(copies)]
    return np.rint((np.concatenate(versions) + 1) * 127.5).astype(np.uint8)


def decoded(encoded: bytes) -> np.ndarray:
    """Returns an image as it was before preprocessing, in colour: uint8, shape (height, width, 3)."""
    return np.asarray(_open(encoded).convert("RGB"))


def _open(encoded: bytes) -> Image.Image:
    return ImageOps.exif_transpose(Image.open(io.BytesIO(encoded)))


def _crop_boxes(draws: list[tf.Tensor], min_area: float) -> tf.Tensor:
    """Returns random boxes (top, left, bottom, right) in 0..1, shape (batch, 4), after Inception's random crops."""
    area = min_area + (1 - min_area) * draws[0]
    low, high = np.log(_ASPECT_RATIOS)
    # A full crop stays the whole image: the shape varies only as far as the area leaves room.
    ratio = tf.exp(tf.clip_by_value(low + (high - low) * draws[1], tf.math.log(area), -tf.math.log(area)))
    height, width = tf.sqrt(area / ratio), tf.sqrt(area * ratio)
    top, left = draws[2] * (1 - height), draws[3] * (1 - width)
    return tf.stack([top, left, top + height, left + width], axis=1)


def training_batches(
    images: np.ndarray, dataset: Dataset, parameters: TrainParameters, *, augmented: bool = True
) -> tf.data.Dataset:
    """Returns one epoch of shuffled batches of the training part, another order and augmentation each epoch.

    Args:
        images: The cached images of the whole dataset: uint8, shape (n, height, width, channels).
        dataset: Gives the training part and the labels.
        parameters: Batch size, seed, and the augmentation.
        augmented: Whether to augment.

    Returns:
        Batches of normalized images, float32 (batch, height, width, channels), and one-hot labels (batch, n_classes).
    """
    positions = dataset.positions("train")
    seeds = tf.data.Dataset.random(seed=parameters.seed, rerandomize_each_iteration=True).batch(2)
    batches = (
        tf.data.Dataset.from_tensor_slices(positions)
        .shuffle(len(positions), seed=parameters.seed, reshuffle_each_iteration=True)
        .batch(parameters.batch_size, drop_remainder=len(positions) >= parameters.batch_size)
        .map(_gather(images, dataset))
    )
    if augmented:
        batches = tf.data.Dataset.zip(batches, seeds).map(
            lambda batch, seed: (augment(batch[0], seed, parameters), batch[1]), num_parallel_calls=tf.data.AUTOTUNE
        )
    return batches.prefetch(tf.data.AUTOTUNE)


def ordered_batches(images: np.ndarray, dataset: Dataset, part: str, batch_size: int) -> tf.data.Dataset:
    """Returns the batches of one part in reading order, as `training_batches` gives them but not augmented."""
    batches = tf.data.Dataset.from_tensor_slices(dataset.positions(part)).batch(batch_size)
    return batches.map(_gather(images, dataset)).prefetch(tf.data.AUTOTUNE)


def _gather(images: np.ndarray, dataset: Dataset):  # noqa: ANN202
    """Returns a function from positions to normalized images and one-hot labels, that reads the memory map."""
    labels = tf.constant(dataset.labels)

    def gather(positions: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        batch = tf.numpy_function(lambda p: images[p], [positions], tf.uint8, stateful=False)
        batch = tf.ensure_shape(batch, (None, *images.shape[1:]))
        return normalize(batch), tf.one_hot(tf.gather(labels, positions), dataset.n_classes)

    return gather


def calibration_images(images: np.ndarray, dataset: Dataset, count: int, seed: int) -> np.ndarray:
    """Returns `count` random training images (all, if there are fewer): uint8, shape (count, height, width, channels).

    Images of the validation and test parts are never among them.
    """
    positions = dataset.positions("train")
    chosen = np.random.default_rng(seed).permutation(positions)[:count]
    return images[np.sort(chosen)]
