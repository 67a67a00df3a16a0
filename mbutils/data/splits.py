"""The split into parts. No image is in two parts, even if its copies are encoded differently."""

import hashlib
from collections.abc import Mapping

import numpy as np
import pandas as pd

from mbutils.data.dataset import EXCLUDED


def hash_fraction(identity: str, purpose: str) -> float:
    """Returns a number in [0, 1) that depends only on the image and on what is drawn."""
    digest = hashlib.sha256(f"{purpose}:{identity}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def assign_parts(examples: pd.DataFrame, is_test: np.ndarray, validation_fraction: float) -> pd.Series:
    """Assigns a part to every image of a dataset with a test part of its own.

    The part of an image depends on that image alone, so it does not change when images are added.

    Args:
        examples: A frame with the columns `identity` and `pixels`.
        is_test: The images of the test part: bool, shape (n,).
        validation_fraction: The part of the remaining images kept for validation, 0..1.

    Returns:
        The parts: "test" where `is_test`, "excluded" for other copies of test images, the rest "validation" or "train".
    """
    first_copy = examples.groupby("pixels")["identity"].transform("min")
    validation = first_copy.map(lambda i: hash_fraction(i, "validation") < validation_fraction)
    parts = validation.map({True: "validation", False: "train"})
    parts[is_test] = "test"
    return without_copies(examples, parts)


def split_by_class(examples: pd.DataFrame, fractions: Mapping[str, float], seed: int) -> pd.Series:
    """Draws parts out of each class by a hash of the images: the same for the same images and seed, in any order.

    Args:
        examples: A frame with the columns `label` and `pixels`.
        fractions: For each part, the fraction, 0..1, of the images of a class that earlier parts have left. A part
            gets at least one image as long as one is left for each of the other parts.
        seed: Another seed draws another split.

    Returns:
        The parts: those of `fractions`, and "train" for the rest. Copies of an image are in the same part.
    """
    part_of: dict[str, str] = {}
    different = examples.sort_values(["label", "pixels"]).drop_duplicates("pixels")
    for _, group in different.groupby("label"):
        left = sorted(group["pixels"], key=lambda pixels: hash_fraction(pixels, f"split {seed}"))
        for number, (part, fraction) in enumerate(fractions.items()):
            for_the_others = len(fractions) - number
            count = max(0, min(max(1, round(fraction * len(left))), len(left) - for_the_others))
            part_of |= dict.fromkeys(left[:count], part)
            left = left[count:]
        part_of |= dict.fromkeys(left, "train")
    return examples["pixels"].map(part_of)


def without_copies(examples: pd.DataFrame, parts: pd.Series) -> pd.Series:
    """Returns parts with "excluded" for copies of test images in other parts, and of validation images in train.

    Args:
        examples: A frame with the column `pixels`.
        parts: "train", "validation" or "test" for each image.
    """
    parts = parts.copy()
    for kept, others in (("test", ["train", "validation"]), ("validation", ["train"])):
        is_copy = examples["pixels"].isin(examples.loc[parts == kept, "pixels"])
        parts[is_copy & parts.isin(others)] = EXCLUDED
    return parts


def once_in_test(examples: pd.DataFrame, parts: pd.Series) -> pd.Series:
    """Returns parts with "excluded" for all but the first copy of each test image."""
    return parts.mask((parts == "test") & examples["pixels"].duplicated(), EXCLUDED)
