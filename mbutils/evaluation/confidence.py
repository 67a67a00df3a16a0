"""How far a score can be trusted: calibration, and the threshold below which the answer is "unknown".

The confidence of a prediction is its highest score.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

_BINS = 10


def calibration(labels: np.ndarray, scores: np.ndarray) -> pd.DataFrame:
    """Returns how often predictions are right, by their confidence (Guo et al. 2017, arXiv:1706.04599).

    Args:
        labels: The true classes: int64, shape (n,).
        scores: float32, shape (n, n_classes).

    Returns:
        One row for each tenth of the confidence that has predictions: `low` and `high` (its ends), `images`,
        `confidence` (their mean) and `top1`.
    """
    confidence, is_right = scores.max(axis=1), scores.argmax(axis=1) == labels
    bins = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    table = pd.DataFrame({"bin": bins, "confidence": confidence, "top1": is_right})
    rows = table.groupby("bin").agg(images=("top1", "size"), confidence=("confidence", "mean"), top1=("top1", "mean"))
    rows.insert(0, "low", rows.index / _BINS)
    rows.insert(1, "high", (rows.index + 1) / _BINS)
    return rows.reset_index(drop=True)


def calibration_error(table: pd.DataFrame) -> float:
    """Returns the expected calibration error: the mean distance of confidence and accuracy, weighted by images.

    Args:
        table: What `calibration` returns.
    """
    distance = (table["confidence"] - table["top1"]).abs()
    return float((distance * table["images"]).sum() / table["images"].sum())


def coverage(labels: np.ndarray, scores: np.ndarray) -> pd.DataFrame:
    """Returns what is answered, and how much of it is right, for every threshold of the confidence.

    Args:
        labels: The true classes: int64, shape (n,).
        scores: float32, shape (n, n_classes).

    Returns:
        One row for each confidence that occurs, the highest first: `min_confidence`, `coverage` (the fraction of the
        images that are answered) and `precision` (the fraction of the answers that are right).
    """
    table = pd.DataFrame({"min_confidence": scores.max(axis=1), "right": scores.argmax(axis=1) == labels})
    counts = table.groupby("min_confidence")["right"].agg(["size", "sum"]).sort_index(ascending=False).cumsum()
    answers = {"coverage": counts["size"] / len(labels), "precision": counts["sum"] / counts["size"]}
    return pd.DataFrame(answers).reset_index()


@dataclass(frozen=True)
class Threshold:
    """A confidence below which the answer is "unknown".

    Attributes:
        min_confidence: The confidence.
        coverage: The fraction of the images that are answered.
        precision: The fraction of the answers that are right; NaN where there is none.
    """

    min_confidence: float
    coverage: float
    precision: float


def threshold(precision: float, labels: np.ndarray, scores: np.ndarray) -> Threshold | None:
    """Returns the threshold that answers most images with a wished precision; None if no threshold has it.

    Args:
        precision: The wished fraction of right answers.
        labels: The true classes of validation images: int64, shape (n,).
        scores: float32, shape (n, n_classes).
    """
    table = coverage(labels, scores)
    enough = table[table["precision"] >= precision]
    return Threshold(*map(float, enough.iloc[-1])) if len(enough) else None


def measure(min_confidence: float, labels: np.ndarray, scores: np.ndarray) -> Threshold:
    """Returns what a threshold gives on other images than those that it was chosen on."""
    is_answered = scores.max(axis=1) >= min_confidence
    right = (scores.argmax(axis=1) == labels)[is_answered]
    return Threshold(min_confidence, float(is_answered.mean()), float(right.mean()) if len(right) else float("nan"))
