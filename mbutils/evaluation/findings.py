"""What stands out about a run: short sentences with the figure and the way out, from a few plain facts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from mbutils.evaluation.metrics import Accuracy, accuracy_of

_FEW_IMAGES = 50  # an accuracy of 80 % on fewer has an interval of more than 21 points
_FAR = 0.1  # of training accuracy above validation accuracy, a fraction
_RISE = 1.25, 0.1  # of the validation loss from its minimum: as a factor, and in absolute terms
_LEAST_IMAGES = 3  # of a class: fewer are often wrong by chance
_NAMED = 5  # classes that a sentence names


@dataclass(frozen=True)
class Finding:
    """Something that stands out.

    Attributes:
        text: What, with the figure: one or two sentences.
        way_out: What to do about it.
    """

    text: str
    way_out: str

    def __str__(self) -> str:
        return f"{self.text} {self.way_out}"


@dataclass(frozen=True)
class Outcome:
    """The predictions for some images, in a few numbers.

    Attributes:
        correct: How many are right.
        total: How many there are.
        largest_class: How many images the largest class has: what always naming it gets right.
        missed: The classes of at least three images of which none is right.
    """

    correct: int
    total: int
    largest_class: int
    missed: Sequence[str]

    @property
    def accuracy(self) -> Accuracy:
        """Top-1 with its 95 % interval."""
        return accuracy_of(self.correct, self.total)


def outcome(labels: np.ndarray, scores: np.ndarray, class_names: Sequence[str]) -> Outcome:
    """Returns the outcome of scores (n, n_classes) for labels (n,)."""
    images = np.bincount(labels, minlength=len(class_names))
    right = np.bincount(labels[scores.argmax(axis=1) == labels], minlength=len(class_names))
    missed = [class_names[index] for index in np.flatnonzero((images >= _LEAST_IMAGES) & (right == 0))]
    return Outcome(int(right.sum()), len(labels), int(images.max()), missed)


def find(
    data: Mapping[str, Any], history: pd.DataFrame, parts: Mapping[str, Outcome], tests: Mapping[str, Outcome]
) -> list[Finding]:
    """Returns what stands out about a run: nothing, for a good one.

    Args:
        data: What the manifest records of the data: `n_validation`, `n_test`, `n_duplicated`, `n_excluded` and
            `contradicting_identities`.
        history: What `training.fit` returned.
        parts: The outcomes for "train" (not augmented; a sample will do) and "validation"; empty where not known.
        tests: The outcomes for the test images by variant, float32 first; empty before the evaluation.
    """
    found = of_predictions("test", tests)
    if parts:
        train, validation = parts["train"], parts["validation"]
        found += [] if tests else of_predictions("validation", {"": validation})
        expected = next(iter(tests.values()), validation).accuracy.top1
        found += [_gap(train.accuracy, validation.accuracy)]
        found += [_few("validation", data["n_validation"], validation.accuracy.top1)]
        found += [_few("test", data["n_test"], expected)]
    if data["n_validation"] >= _FEW_IMAGES:  # the loss of a few images depends on one of them
        found.append(_rising(history))
    return [finding for finding in [*found, *_of_data(data)] if finding]


def of_predictions(part: str, outcomes: Mapping[str, Outcome]) -> list[Finding]:
    """Returns what stands out about predictions: what is wrong in a variant is not said again of those after it.

    Args:
        part: The part that the images are of.
        outcomes: The outcomes by variant, float32 first; an empty name is not mentioned.
    """
    found = []
    for judge in (_chance, _missed):
        found += [finding for variant, result in outcomes.items() if (finding := judge(part, result, variant))][:1]
    return found


def _chance(part: str, result: Outcome, variant: str) -> Finding | None:
    """Says that an accuracy may be that of a model which always names the largest class (exact binomial test)."""
    rate = result.largest_class / result.total
    p_value = stats.binomtest(result.correct, result.total, rate, alternative="greater").pvalue
    if p_value <= 0.05 or rate == 1:  # of a single class, nothing can be told
        return None
    float_way_out = "Look at images and labels in prepare. Then train longer, from ImageNet weights, on more images."
    int8_way_out = "float32 is better: convert with more calibration_images or qat_epochs."
    return Finding(
        f"{result.correct} of {result.total} {part} images are right{_by(variant)} ({result.accuracy.top1:.1%}). "
        f"It may be chance: always naming the largest class gets {rate:.1%} (exact binomial test, p = {p_value:.2g}).",
        int8_way_out if variant.startswith("int") else float_way_out,
    )


def _missed(part: str, result: Outcome, variant: str) -> Finding | None:
    if not result.missed:
        return None
    more = len(result.missed) - _NAMED
    names = ", ".join(result.missed[:_NAMED]) + (f" and {more} more" if more > 0 else "")
    return Finding(
        f"No {part} image of {names} is right{_by(variant)}.",
        "Look at its images in prepare. For a rare class set class_weight to balanced, or take more photographs.",
    )


def _by(variant: str) -> str:
    return f" in {variant}" if variant else ""


def _rising(history: pd.DataFrame) -> Finding | None:
    losses = history["validation_loss"]
    best, last = losses.min(), losses.iloc[-1]
    factor, difference = _RISE
    if last <= max(best * factor, best + difference):
        return None
    epoch = history["epoch"].iloc[losses.argmin()]
    return Finding(
        f"The validation loss rose from {best:.2f} in epoch {epoch} to {last:.2f} at the end.",
        "Train for fewer epochs, or with a lower learning_rate.",
    )


def _gap(train: Accuracy, validation: Accuracy) -> Finding | None:
    """Says that training accuracy is far above validation accuracy, even at the end of the interval nearest to it.

    The interval of the difference is that of Newcombe 1998 from two Wilson intervals, Statistics in Medicine 17, 873.
    """
    gap = train.top1 - validation.top1
    if gap - np.hypot(train.top1 - train.low, validation.high - validation.top1) <= _FAR:
        return None
    return Finding(
        f"It knows its training images better than others: {train.top1:.1%} of them are right without augmentation, "
        f"and {validation.top1:.1%} of the validation images.",
        "More photographs help most; then stronger augmentation, such as mixup, or a smaller alpha.",
    )


def _few(part: str, total: int, top1: float) -> Finding | None:
    if total >= _FEW_IMAGES:
        return None
    known = accuracy_of(round(top1 * total), total)
    rests = ", and the choice of the answer in the report rests on them" if part == "validation" else ""
    return Finding(
        f"There are only {total} {part} images{rests}: the 95 % interval of {known.top1:.1%} is "
        f"{known.low:.1%} to {known.high:.1%}.",
        f"Take more photographs, or raise {part}_fraction.",
    )


def _of_data(data: Mapping[str, Any]) -> list[Finding]:
    contradicting, copies, excluded = len(data["contradicting_identities"]), data["n_duplicated"], data["n_excluded"]
    found = []
    if contradicting:
        text = f"Images that have a copy with another label: {contradicting}."
        found.append(Finding(text, "Correct the labels: prepare lists them."))
    if copies:
        text = f"Images that are copies of others: {copies}. Left out, so that no image is in two parts: {excluded}."
        found.append(Finding(text, "Look at them in prepare."))
    return found
