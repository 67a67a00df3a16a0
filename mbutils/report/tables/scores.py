"""Scores of one photograph; accuracy with its interval, the recall of each class, and the threshold for "unknown"."""

from collections.abc import Mapping, Sequence
from math import floor

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler

from mbutils import evaluation
from mbutils.columns import by_name
from mbutils.evaluation import confidence
from mbutils.evaluation.confidence import Threshold
from mbutils.report.tables.style import facts, styled

_CLASSES = 10  # with scores in a table


def photograph_scores(scores: pd.DataFrame) -> Styler:
    """Returns the scores of the first classes as a table; takes what `Classifier.predict` returns."""
    return styled(scores.head(_CLASSES).reset_index(), left=["class"]).format("{:.2%}", subset=list(scores.columns))


def scores_text(labels: np.ndarray, scores: Mapping[str, np.ndarray], class_names: Sequence[str]) -> str:
    """Returns the accuracy of each model, and the recall of each class that has images, as text for a terminal.

    Args:
        labels: The true classes: int64, shape (n,), positions in `class_names`.
        scores: By the name of a model the scores that it gives: shape (n, n_classes).
        class_names: The classes of the models.
    """
    recall = by_name["recall"]
    tables = {name: evaluation.per_class(labels, values, tuple(class_names)) for name, values in scores.items()}
    shown = pd.DataFrame({"images": next(iter(tables.values()))["images"]})
    for name, table in tables.items():
        shown[f"{recall.label}, {name}"] = table["recall"].map(recall.text)
    return f"{_accuracies_text(labels, scores)}\n\n{shown[shown['images'] > 0].to_string()}"


def learned_text(labels: np.ndarray, scores: Mapping[str, np.ndarray], learned: np.ndarray | None) -> str:
    """Returns how many of the images the models have learned from, with their accuracy on the others.

    Args:
        labels: As for `scores_text`.
        scores: As for `scores_text`.
        learned: What `classifiers.learned_from` returns.
    """
    if learned is None:
        return "\nWhether the run was trained on some of these images is not known."
    count, total = int(learned.sum()), len(learned)
    if count in (0, total):
        return f"\nThe run was trained on or chosen by {'none' if not count else 'all'} of these images."
    others = {name: values[~learned] for name, values in scores.items()}
    return (
        f"\nThe run was trained on or chosen by {count} of these {total} images. On the others:\n"
        f"{_accuracies_text(labels[~learned], others)}"
    )


def _accuracies_text(labels: np.ndarray, scores: Mapping[str, np.ndarray]) -> str:
    return "\n".join(f"{name}: {_accuracy_text(labels, values)}" for name, values in scores.items())


def _accuracy_text(labels: np.ndarray, scores: np.ndarray) -> str:
    result = evaluation.accuracy(labels, scores)
    return (
        f"top-1 {100 * result.top1:.2f} % ({result.correct} of {result.total} images), "
        f"95 % interval {100 * result.low:.2f} to {100 * result.high:.2f} %, "
        f"macro-averaged recall {100 * evaluation.macro_recall(labels, scores):.2f} %"
    )


def unknown(variant: str, wished: float, chosen: Threshold | None, labels: np.ndarray, scores: np.ndarray) -> Styler:
    """Returns the threshold for the answer "unknown", and what it gives on validation and test images.

    Args:
        variant: The variant that it was chosen for.
        wished: The wished fraction of right answers.
        chosen: What `confidence.threshold` returned for the validation images.
        labels: The true classes of the test images: int64, shape (n,).
        scores: Those of the variant for them: float32, shape (n, n_classes).
    """
    if chosen is None:
        return facts({variant: f"no confidence is enough for {wished:.0%} right answers on the validation images"})
    found = {"validation": chosen, "test": confidence.measure(chosen.min_confidence, labels, scores)}
    table = pd.DataFrame(
        {
            "images": list(found),
            # Rounded down: rounded up, the images at the threshold would not be answered.
            "answered from a confidence of": [f"{floor(own.min_confidence * 1e4) / 1e4:.4f}" for own in found.values()],
            "answered": [f"{own.coverage:.1%}" for own in found.values()],
            "right answers": [by_name["precision"].text(own.precision) for own in found.values()],
        }
    )
    return styled(table).set_caption(variant)
