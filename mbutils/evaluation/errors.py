"""Which images are predicted wrongly: the surest errors, and the pairs of classes that are confused most."""

from dataclasses import dataclass

import numpy as np


def surest_errors(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Returns the positions of the images that are predicted wrongly, those of the highest confidence first.

    Args:
        labels: The true classes: int64, shape (n,).
        scores: float32, shape (n, n_classes).
    """
    wrong = np.flatnonzero(scores.argmax(axis=1) != labels)
    return wrong[np.argsort(-scores[wrong].max(axis=1), kind="stable")]


@dataclass(frozen=True, eq=False)
class ConfusedPair:
    """Two classes of which one is taken for the other.

    Attributes:
        true, predicted: The classes.
        positions: The positions of the images of class `true` that are predicted as `predicted`, the surest first.
    """

    true: int
    predicted: int
    positions: np.ndarray


def confused_pairs(labels: np.ndarray, scores: np.ndarray) -> list[ConfusedPair]:
    """Returns the pairs of classes that are confused, the most images first; see `surest_errors` for the arguments."""
    wrong, predicted = surest_errors(labels, scores), scores.argmax(axis=1)
    pairs = np.stack([labels[wrong], predicted[wrong]], axis=1)
    distinct, which = np.unique(pairs, axis=0, return_inverse=True)
    found = [ConfusedPair(*map(int, pair), wrong[which == number]) for number, pair in enumerate(distinct)]
    return sorted(found, key=lambda pair: -len(pair.positions))
