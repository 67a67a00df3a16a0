"""Scores of Keras models, and the statistics of scores."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats
from sklearn import metrics

from mbutils.backend import keras
from mbutils.config import normalize
from mbutils.progress import progress

_ACCURACY_COLUMNS = (
    "variant",
    "top1",
    "top1_low",
    "top1_high",
    "correct",
    "total",
    "macro_recall",
    "drop_from_float",
    "only_float32",
    "only_int8",
    "p_value",
    "agreement_with_float",
)


def predict_keras(model: keras.Model, images: np.ndarray, batch_size: int = 64) -> np.ndarray:
    """Scores images with a Keras model.

    Args:
        model: Takes normalized images, float32 in [-1, 1].
        images: uint8, shape (n, height, width, channels).
        batch_size: Images scored at a time.

    Returns:
        The scores: float32, shape (n, n_classes).
    """
    with progress(len(images), "score", "image") as bar:
        batches = []
        for start in range(0, len(images), batch_size):
            batches.append(predict_keras_on_batch(model, images[start : start + batch_size]))
            bar.update(len(batches[-1]))
    return np.concatenate(batches)


def predict_keras_on_batch(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """Scores images all at once: as `predict_keras`, but without a progress bar."""
    return model.predict_on_batch(normalize(images)).astype(np.float32)


@dataclass(frozen=True)
class Accuracy:
    """Top-1 accuracy with its 95 % Wilson score interval, as fractions."""

    top1: float
    low: float
    high: float
    correct: int
    total: int


def accuracy(labels: np.ndarray, scores: np.ndarray) -> Accuracy:
    """Returns the top-1 accuracy of scores (n, n_classes) for labels (n,)."""
    return accuracy_of(int((scores.argmax(axis=1) == labels).sum()), len(labels))


def accuracy_of(correct: int, total: int) -> Accuracy:
    """Returns the top-1 accuracy of `correct` right predictions out of `total`."""
    interval = stats.binomtest(correct, total).proportion_ci(0.95, method="wilson")
    return Accuracy(correct / total, interval.low, interval.high, correct, total)


@dataclass(frozen=True)
class Comparison:
    """Two models on the same images.

    Attributes:
        drop: Top-1 of the first minus top-1 of the second, a fraction.
        only_first: The number of images that only the first gets right.
        only_second: The number of images that only the second gets right.
        p_value: That of the exact McNemar test: the probability of a split at least as uneven as `only_first` to
            `only_second` if both models are equally good.
        agreement: The fraction of the images on which both predict the same class, right or wrong.
    """

    drop: float
    only_first: int
    only_second: int
    p_value: float
    agreement: float

    @property
    def within_chance(self) -> bool:
        """Whether two equally good models would differ as much in more than 5 % of such sets of images."""
        return self.p_value > 0.05


def compare(labels: np.ndarray, first: np.ndarray, second: np.ndarray) -> Comparison:
    """Compares the scores (n, n_classes) of two models for the same images with labels (n,)."""
    predicted = first.argmax(axis=1), second.argmax(axis=1)
    first_right, second_right = (prediction == labels for prediction in predicted)
    only_first = int((first_right & ~second_right).sum())
    only_second = int((second_right & ~first_right).sum())
    changed = only_first + only_second
    p_value = stats.binomtest(only_first, changed).pvalue if changed else 1.0
    agreement = float((predicted[0] == predicted[1]).mean())
    return Comparison((only_first - only_second) / len(labels), only_first, only_second, float(p_value), agreement)


def macro_recall(labels: np.ndarray, scores: np.ndarray) -> float:
    """Returns the mean recall of the classes, a fraction.

    Unlike top-1 it does not depend on how many images each class has. Classes without images do not count.
    """
    return float(metrics.recall_score(labels, scores.argmax(axis=1), labels=np.unique(labels), average="macro"))


def accuracy_table(labels: np.ndarray, scores: dict[str, np.ndarray]) -> pd.DataFrame:
    """Returns the accuracy of each variant, and how each int8 variant compares with float32.

    Args:
        labels: The true classes: int64, shape (n,).
        scores: The scores of each variant, shape (n, n_classes); "float32" is among them.

    Returns:
        One row for each variant, by the columns of `results.csv`: `variant`, `top1`, `top1_low`, `top1_high`,
        `macro_recall`, and against float32 `drop_from_float` and `agreement_with_float`; also `correct` and `total`
        (images), `only_float32`, `only_int8` and `p_value`. Blank for float32 itself.
    """
    return pd.DataFrame([_row(variant, labels, scores) for variant in scores], columns=_ACCURACY_COLUMNS)


def _row(variant: str, labels: np.ndarray, scores: dict[str, np.ndarray]) -> dict[str, float | str]:
    own = accuracy(labels, scores[variant])
    row = {
        "variant": variant,
        "top1": own.top1,
        "top1_low": own.low,
        "top1_high": own.high,
        "correct": own.correct,
        "total": own.total,
        "macro_recall": macro_recall(labels, scores[variant]),
    }
    if variant == "float32":
        return row
    against = compare(labels, scores["float32"], scores[variant])
    return row | {
        "drop_from_float": against.drop,
        "only_float32": against.only_first,
        "only_int8": against.only_second,
        "p_value": against.p_value,
        "agreement_with_float": against.agreement,
    }


def prediction_titles(
    labels: np.ndarray, first: np.ndarray, second: np.ndarray, class_names: tuple[str, ...]
) -> list[str]:
    """Returns a title for each image: the true class, and what two models predict, as "tulips: tulips → roses"."""
    predicted = zip(labels, first.argmax(axis=1), second.argmax(axis=1), strict=True)
    return [f"{class_names[true]}:\n{class_names[a]} \u2192 {class_names[b]}" for true, a, b in predicted]


def changed_sides(labels: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns the positions of the images that exactly one of two models gets right: int64, ascending."""
    return np.flatnonzero((first.argmax(axis=1) == labels) != (second.argmax(axis=1) == labels))


def lowest_scores(labels: np.ndarray, scores: np.ndarray, count: int) -> np.ndarray:
    """Returns the positions of the `count` images with the lowest score for their true class, lowest first: int64.

    Args:
        labels: The true classes: int64, shape (n,).
        scores: shape (n, n_classes).
        count: How many; all where there are fewer.
    """
    return np.argsort(scores[np.arange(len(labels)), labels], kind="stable")[:count]


def predictions(labels: np.ndarray, scores: np.ndarray, class_names: tuple[str, ...]) -> list[str]:
    """Returns a title for each image: its true class, and the predicted class with its score."""
    predicted = zip(labels, scores.argmax(axis=1), scores.max(axis=1), strict=True)
    return [f"{class_names[true]}:\n{class_names[guess]} {score:.0%}" for true, guess, score in predicted]


def confusion(labels: np.ndarray, scores: np.ndarray, class_names: tuple[str, ...]) -> pd.DataFrame:
    """Returns the confusion matrix: true classes as rows, predicted classes as columns, numbers of images."""
    counts = metrics.confusion_matrix(labels, scores.argmax(axis=1), labels=range(len(class_names)))
    return pd.DataFrame(
        counts, index=pd.Index(class_names, name="true"), columns=pd.Index(class_names, name="predicted")
    )


def per_class(labels: np.ndarray, scores: np.ndarray, class_names: tuple[str, ...]) -> pd.DataFrame:
    """Returns precision and recall of each class, fractions, and its number of images."""
    precision, recall, _, images = metrics.precision_recall_fscore_support(
        labels, scores.argmax(axis=1), labels=range(len(class_names)), zero_division=0.0
    )
    counts = images.astype(int)  # scikit-learn's are floats where no prediction is right
    return pd.DataFrame({"precision": precision, "recall": recall, "images": counts}, index=class_names)
