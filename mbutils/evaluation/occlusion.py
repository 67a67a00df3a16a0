"""Where a model looks: what its score loses when a part of the image is covered."""

from collections.abc import Callable
from itertools import product

import numpy as np

_STEPS = 12  # positions of the patch along each side
_PATCH = 4  # of the image's side, the part that the patch covers: a quarter
_GRAY = 128


def occlusion_map(predict: Callable[[np.ndarray], np.ndarray], image: np.ndarray, label: int) -> np.ndarray:
    """Returns how far the score of a class falls where a gray patch covers the image.

    The occlusion of Zeiler and Fergus 2014, arXiv:1311.2901. The patch is a quarter of the image's side wide; its
    middle takes 12 places along each side, and at the border a part of it lies outside.

    Args:
        predict: A function of images, uint8 (n, height, width, channels), that returns their scores (n, n_classes).
        image: uint8, shape (height, width, channels).
        label: The class.

    Returns:
        The score of the image as it is minus that with the patch: float32, shape (12, 12).
    """
    height, width, _ = image.shape
    rows, columns = _patches(height), _patches(width)
    covered = np.repeat(image[None], len(rows) * len(columns), axis=0)
    for one, ((top, bottom), (left, right)) in zip(covered, product(rows, columns), strict=True):
        one[top:bottom, left:right] = _GRAY
    scores = predict(np.concatenate([image[None], covered]))[:, label]
    return (scores[0] - scores[1:]).reshape(len(rows), len(columns))


def _patches(side: int) -> list[tuple[int, int]]:
    """Returns where each patch begins and ends along a side."""
    middles = ((np.arange(_STEPS) + 0.5) * side / _STEPS).round().astype(int)
    half = max(1, side // _PATCH // 2)
    return [(max(0, middle - half), min(side, middle + half)) for middle in middles.tolist()]
