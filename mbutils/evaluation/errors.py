"""Which images are predicted wrongly: the surest errors, and the pairs of classes that are confused most."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mbutils.evaluation.metrics import changed_sides

SHOWN = 12  # images of each kind that a report shows
PAIRS, OF_PAIR = 3, 4  # pairs of classes that it shows, and images of each
_MOST_CLASSES = 24


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


def shown_in_report(labels: np.ndarray, scores: Mapping[str, np.ndarray]) -> np.ndarray:
    """Returns the positions of the images that a report shows.

    They are the surest errors of each variant, the images of the pairs of classes that it confuses most, those that
    int8 changed, and one of each class.

    Args:
        labels: The true classes: int64, shape (n,).
        scores: The scores of each variant: float32, shape (n, n_classes); "float32" is among them.

    Returns:
        int64, ascending.
    """
    shown = [np.array(list(one_of_each_class(labels).values()), int)]
    for values in scores.values():
        shown += [surest_errors(labels, values)[:SHOWN], changed_sides(labels, scores["float32"], values)[:SHOWN]]
        shown += [pair.positions[:OF_PAIR] for pair in confused_pairs(labels, values)[:PAIRS]]
    return np.unique(np.concatenate(shown))


def one_of_each_class(labels: np.ndarray) -> dict[int, int]:
    """Returns the position of the first image of each class, of 24 classes where there are more."""
    classes, first = np.unique(labels, return_index=True)
    return dict(zip(classes[:_MOST_CLASSES].tolist(), first[:_MOST_CLASSES].tolist(), strict=True))
