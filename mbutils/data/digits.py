"""The handwritten digits of scikit-learn: real images without a download."""

import io
from functools import lru_cache, partial

import numpy as np
import pandas as pd
from PIL import Image

from mbutils.config import DataParameters
from mbutils.data.dataset import Dataset
from mbutils.data.index import describe
from mbutils.data.splits import assign_parts, hash_fraction


def load(parameters: DataParameters) -> Dataset:
    """Returns 1,797 gray images of 8x8 pixels, 10 classes; a fifth of them is test."""
    images, examples = _images()
    is_test = examples["identity"].map(lambda i: hash_fraction(i, "test") < 0.2).to_numpy()
    examples = examples.assign(part=assign_parts(examples, is_test, parameters.validation_fraction))
    class_names = tuple(str(digit) for digit in range(10))
    return Dataset("digits", class_names, examples, lambda: iter(images), lambda at: io.BytesIO(images[at]))


@lru_cache(maxsize=1)
def _images() -> tuple[tuple[bytes, ...], pd.DataFrame]:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = tuple(map(_portable_graymap, np.round(digits.images * (255 / 16)).astype(np.uint8)))
    found = [describe(partial(io.BytesIO, image))[:4] for image in images]
    examples = pd.DataFrame(found, columns=["identity", "pixels", "width", "height"])
    files = [f"image {number}" for number in range(len(images))]
    return images, examples.assign(file=files, label=digits.target.astype(np.int64))


def _portable_graymap(gray: np.ndarray) -> bytes:
    # PGM is not compressed, so the bytes, and with them the identities, are the same on every machine.
    buffer = io.BytesIO()
    Image.fromarray(gray).save(buffer, format="PPM")
    return buffer.getvalue()
