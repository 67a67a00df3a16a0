"""Where images come from: the registry of datasets, the identities of images, the three parts, and leakage.

An image is known by the md5 of its encoded bytes. Every dataset has the parts "train", "validation" and "test"; a copy
of a test image among the other images is "excluded". Parts depend on identities alone, so they do not change when
images are added.
"""

import hashlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
from PIL import Image

from mbutils import published
from mbutils.errors import WorkbookError, nearest

PARTS = ("train", "validation", "test")
EXCLUDED = "excluded"


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images in three parts.

    Attributes:
        name: The name in `REGISTRY`.
        class_names: The classes in the order of their labels.
        examples: One row for each image, in reading order: `identity` (md5 of the encoded bytes, hexadecimal),
            `label` (0..n_classes-1) and `part` ("train", "validation", "test", or "excluded").
        read: Yields the encoded bytes of every image, in the order of `examples`.
    """

    name: str
    class_names: tuple[str, ...]
    examples: pd.DataFrame
    read: Callable[[], Iterator[bytes]]

    @property
    def n_classes(self) -> int:
        """The number of classes."""
        return len(self.class_names)

    @property
    def labels(self) -> np.ndarray:
        """The label of every image: int64, shape (n,)."""
        return self.examples["label"].to_numpy()

    @property
    def fingerprint(self) -> str:
        """A digest of classes, identities, labels and parts: equal for equal data, whatever its order."""
        rows = self.examples.sort_values(["identity", "label", "part"]).to_csv(index=False)
        return hashlib.sha256(f"{self.class_names}\n{rows}".encode()).hexdigest()[:16]

    def positions(self, part: str) -> np.ndarray:
        """Returns the positions of the images of one part, in reading order: int64, shape (n_part,)."""
        return np.flatnonzero(self.examples["part"] == part)

    def counts(self) -> pd.DataFrame:
        """Returns the number of images for each class (rows) and part (columns), with totals."""
        names = self.examples["label"].map(dict(enumerate(self.class_names)))
        table = pd.crosstab(names, self.examples["part"]).reindex(self.class_names, fill_value=0)
        table = table.reindex(columns=[*PARTS, EXCLUDED], fill_value=0)
        table.loc["total"] = table.sum()
        return table.rename_axis(index="class", columns="part").assign(total=table.sum(axis=1))

    def duplicates(self) -> pd.DataFrame:
        """Returns the images that occur more than once.

        Returns:
            One row for each identity: `identity`, `copies`, `classes` and `parts` (sorted, separated by ", "), and
            `contradicting` (True where the copies have different labels).
        """
        repeated = self.examples[self.examples["identity"].duplicated(keep=False)]
        rows = [
            {
                "identity": identity,
                "copies": len(group),
                "classes": ", ".join(sorted({self.class_names[label] for label in group["label"]})),
                "parts": ", ".join(sorted(set(group["part"]))),
                "contradicting": group["label"].nunique() > 1,
            }
            for identity, group in repeated.groupby("identity")
        ]
        return pd.DataFrame(rows, columns=["identity", "copies", "classes", "parts", "contradicting"])

    def image_sizes(self) -> pd.DataFrame:
        """Returns `width` and `height` of every original image, in pixels, from the headers of the encoded images."""
        return pd.DataFrame([Image.open(io.BytesIO(data)).size for data in self.read()], columns=["width", "height"])

    def encoded(self, positions: np.ndarray) -> list[bytes]:
        """Returns the encoded bytes of the images at `positions`, in that order."""
        wanted = set(positions.tolist())
        found = {position: data for position, data in enumerate(self.read()) if position in wanted}
        return [found[position] for position in positions.tolist()]


def load(name: str, validation_fraction: float) -> Dataset:
    """Loads the index of a dataset; images are read when they are asked for.

    Args:
        name: A name in `REGISTRY`.
        validation_fraction: The part of the training images kept for validation, 0..1.

    Raises:
        WorkbookError: If the name is unknown, or the dataset is neither here nor downloadable.
    """
    if name not in REGISTRY:
        raise WorkbookError(f"unknown dataset {name!r}: {nearest(name, tuple(REGISTRY))}")
    return REGISTRY[name](validation_fraction)


def hash_fraction(identity: str, purpose: str) -> float:
    """Returns a number in [0, 1) that depends on the image and the purpose of the draw alone."""
    digest = hashlib.sha256(f"{purpose}:{identity}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def assign_parts(examples: pd.DataFrame, is_test: np.ndarray, validation_fraction: float) -> pd.Series:
    """Assigns a part to every image.

    Args:
        examples: A frame with the column `identity`.
        is_test: The images of the test part: bool, shape (n,).
        validation_fraction: The part of the remaining images kept for validation, 0..1.

    Returns:
        The parts: "test" as given, "excluded" for further copies of test images, the rest "validation" or "train".
    """
    validation = examples["identity"].map(lambda i: hash_fraction(i, "validation") < validation_fraction)
    parts = validation.map({True: "validation", False: "train"})
    parts[examples["identity"].isin(examples.loc[is_test, "identity"])] = EXCLUDED
    parts[is_test] = "test"
    return parts


def _digits(validation_fraction: float) -> Dataset:
    """Handwritten digits of scikit-learn: 1,797 gray images of 8x8 pixels, 10 classes; a fifth of them is test."""
    images, labels = _digit_images()
    examples = pd.DataFrame({"identity": [hashlib.md5(data).hexdigest() for data in images], "label": labels})
    is_test = examples["identity"].map(lambda i: hash_fraction(i, "test") < 0.2).to_numpy()
    examples["part"] = assign_parts(examples, is_test, validation_fraction)
    return Dataset("digits", tuple(str(digit) for digit in range(10)), examples, lambda: iter(images))


@lru_cache(maxsize=1)
def _digit_images() -> tuple[tuple[bytes, ...], np.ndarray]:
    from sklearn.datasets import load_digits

    digits = load_digits()
    grays = np.round(digits.images * (255 / 16)).astype(np.uint8)
    return tuple(_portable_graymap(gray) for gray in grays), digits.target.astype(np.int64)


def _portable_graymap(gray: np.ndarray) -> bytes:
    # PGM has no compressor, so the bytes, and with them the identities, are the same on every machine.
    buffer = io.BytesIO()
    Image.fromarray(gray).save(buffer, format="PPM")
    return buffer.getvalue()


def _tf_flowers(validation_fraction: float) -> Dataset:
    """3,670 photographs of flowers, 5 classes; the test part is the 734 images behind the published accuracies."""
    class_names, labels, identities, read = _tfds_examples("tf_flowers", "3.0.1", "train")
    examples = pd.DataFrame({"identity": identities, "label": labels})
    test_rows = published.flowers_test_images()
    test_keys = set(zip(test_rows["label"], test_rows["md5"], strict=True))
    keys = pd.Series([(class_names[label], md5) for label, md5 in zip(labels, identities, strict=True)])
    # A copy of a test image, with the same label, matches the published row too: only the first one is the test image.
    is_test = (keys.isin(test_keys) & ~keys.duplicated()).to_numpy()
    if is_test.sum() != len(test_rows):
        raise WorkbookError(
            f"tf_flowers: found {is_test.sum()} of the {len(test_rows)} published test images: "
            "the prepared dataset is not the original; remove its folder from TFDS_DATA_DIR and download it again"
        )
    examples["part"] = assign_parts(examples, is_test, validation_fraction)
    return Dataset("tf_flowers", class_names, examples, read)


@lru_cache(maxsize=1)
def _tfds_examples(
    name: str, version: str, split: str
) -> tuple[tuple[str, ...], np.ndarray, list[str], Callable[[], Iterator[bytes]]]:
    """Returns class names, labels, identities and a reader of one split of a tensorflow-datasets dataset."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download import downloader

    import mbutils.backend  # noqa: F401  (TensorFlow without its messages, before tensorflow-datasets imports it)

    downloader.MAX_RETRIES = 3  # its 10 take three minutes to say that there is no network
    try:
        builder = tfds.builder(f"{name}:{version}")
        builder.download_and_prepare()
    except Exception as error:
        raise WorkbookError(
            f"{name} is neither prepared in {tfds.core.constants.DATA_DIR} nor downloadable "
            f"({type(error).__name__}): connect to a network, or set TFDS_DATA_DIR to a folder that holds it"
        ) from error
    stored = builder.as_dataset(split=split, decoders={"image": tfds.decode.SkipDecoding()}, shuffle_files=False)

    def read() -> Iterator[bytes]:
        return (example["image"] for example in stored.as_numpy_iterator())

    labels = np.array([example["label"] for example in stored.as_numpy_iterator()], np.int64)
    identities = [hashlib.md5(encoded).hexdigest() for encoded in read()]
    return tuple(builder.info.features["label"].names), labels, identities, read


REGISTRY: dict[str, Callable[[float], Dataset]] = {"digits": _digits, "tf_flowers": _tf_flowers}
