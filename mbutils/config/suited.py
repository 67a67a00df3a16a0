"""The values of parameters that are left at None: chosen to suit the number of training images and the start weights.

A rule returns the value and the reason for it. It may use the parameters of the rules above it.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from mbutils.config.networks import MOBILENET
from mbutils.config.training import PrepareParameters, TrainParameters

if TYPE_CHECKING:
    import pandas as pd

AnyParameters = TypeVar("AnyParameters", bound=PrepareParameters)
# Below it, start weights are adapted: batch normalization frozen, starting from the linear probe, docs/small_data.md.
FEW_IMAGES = 1000
LEAST_VIEWS = 16_000  # augmented views of the training images that a training takes at least
LEAST_VIEWS_TO_TEACH = 6_000  # the same for a network that is not MobileNet v1
Rule = Callable[[Any, int], tuple[Any, str]]


def _horizontal_flip(parameters: PrepareParameters, n_train: int) -> tuple[bool, str]:
    if parameters.dataset == "digits":
        return False, "a mirrored digit is another sign"
    return True, "most things in photographs can be seen from either side"


def _adapts(parameters: TrainParameters, n_train: int) -> bool:
    """Returns whether there are start weights and few images: features are adapted rather than learned."""
    return parameters.weights != "none" and n_train < FEW_IMAGES


def _steps(parameters: TrainParameters, n_train: int) -> int:
    return parameters.epochs * max(1, n_train // parameters.batch_size)


def _batch_norm_statistics(parameters: TrainParameters, n_train: int) -> tuple[str, str]:
    if _adapts(parameters, n_train):
        return "frozen", f"{n_train:,} images: the statistics of the start weights are the better ones"
    return "batch", "enough images for statistics of their own" if parameters.weights != "none" else "no start weights"


def _initial_classifier(parameters: TrainParameters, n_train: int) -> tuple[str, str]:
    if _adapts(parameters, n_train):
        return "probe", f"{n_train:,} images: a random classifier would spoil the features of the start weights first"
    return "random", "enough images to learn it" if parameters.weights != "none" else "no start weights"


def _batch_size(parameters: TrainParameters, n_train: int) -> tuple[int, str]:
    if _adapts(parameters, n_train) or n_train * (parameters.epochs or 30) < LEAST_VIEWS:
        return 16, "small batches, for more steps"
    return 64, "enough images for many steps an epoch"


def _epochs(parameters: TrainParameters, n_train: int) -> tuple[int, str]:
    if parameters.network != MOBILENET:
        epochs = min(100, max(11, math.ceil(LEAST_VIEWS_TO_TEACH / n_train)))
        return epochs, "a network that teaches is larger, and learns in fewer epochs"
    if 30 * n_train < LEAST_VIEWS:
        epochs = min(500, math.ceil(LEAST_VIEWS / n_train))
        return epochs, f"{n_train:,} images: {LEAST_VIEWS:,} views of them, at most 500 of each"
    return 30, "enough images for many steps an epoch"


def _learning_rate(parameters: TrainParameters, n_train: int) -> tuple[float, str]:
    if _adapts(parameters, n_train):
        share = min(1.0, parameters.epochs * n_train / LEAST_VIEWS)
        return round(0.001 * max(0.05, share), 6), "0.001 adapts the features, less in a shorter training"
    return 0.004, "suits AdamW and many steps"


def _warmup_epochs(parameters: TrainParameters, n_train: int) -> tuple[float, str]:
    if 30 * n_train < LEAST_VIEWS:
        return parameters.epochs / 10, "a tenth of the epochs"
    return min(2.0, parameters.epochs / 2), "two epochs, at most half of them"


def _dropout(parameters: TrainParameters, n_train: int) -> tuple[float, str]:
    return 0.1, "little: augmentation prevents overfitting"


def _batch_norm_momentum(parameters: TrainParameters, n_train: int) -> tuple[float, str]:
    if parameters.batch_norm_statistics == "frozen":
        return 0.99, "not used: the statistics are frozen"
    steps = _steps(parameters, n_train)
    momentum = round(min(0.99, max(0.5, 1 - 10 / steps)), 3)
    return momentum, f"the statistics follow within a tenth of the {steps:,} steps"


RULES: dict[str, Rule] = {
    "horizontal_flip": _horizontal_flip,
    "batch_norm_statistics": _batch_norm_statistics,
    "initial_classifier": _initial_classifier,
    "batch_size": _batch_size,
    "epochs": _epochs,
    "learning_rate": _learning_rate,
    "warmup_epochs": _warmup_epochs,
    "dropout": _dropout,
    "batch_norm_momentum": _batch_norm_momentum,
}


def suited(parameters: AnyParameters, n_train: int) -> AnyParameters:
    """Returns parameters with a value for each that is None.

    Args:
        parameters: The parameters; values that are not None stay.
        n_train: The number of training images.
    """
    for name, rule in _rules_of(parameters):
        if getattr(parameters, name) is None:
            parameters = replace(parameters, **{name: rule(parameters, n_train)[0]})
    return parameters


def reasons(parameters: PrepareParameters, n_train: int) -> "pd.DataFrame":
    """Returns the value of each parameter that has a rule, and why it has it.

    Args:
        parameters: The parameters before `suited`.
        n_train: The number of training images.

    Returns:
        `parameter`, `value` and `reason`, one row each.
    """
    import pandas as pd  # late, so that `mb --help` is quick

    used = suited(parameters, n_train)
    rows = []
    for name, rule in _rules_of(parameters):
        by_hand = getattr(parameters, name) is not None
        rows.append((name, str(getattr(used, name)), "set by hand" if by_hand else rule(used, n_train)[1]))
    return pd.DataFrame(rows, columns=["parameter", "value", "reason"])


def _rules_of(parameters: PrepareParameters) -> list[tuple[str, Rule]]:
    return [(name, rule) for name, rule in RULES.items() if hasattr(parameters, name)]
