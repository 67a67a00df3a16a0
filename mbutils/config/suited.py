"""The values of parameters that are left at None: chosen to suit the number of training images and the start weights.

A rule returns the value and the reason for it. It may use the parameters of the rules above it.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import pandas as pd

from mbutils.config.training import PrepareParameters, TrainParameters

AnyParameters = TypeVar("AnyParameters", bound=PrepareParameters)
Rule = Callable[[Any, int], tuple[Any, str]]


def _horizontal_flip(parameters: PrepareParameters, n_train: int) -> tuple[bool, str]:
    if parameters.dataset == "digits":
        return False, "a mirrored digit is another sign"
    return True, "most things in photographs can be seen from either side"


def _batch_size(parameters: TrainParameters, n_train: int) -> tuple[int, str]:
    return 64, "enough images for many steps an epoch"


def _epochs(parameters: TrainParameters, n_train: int) -> tuple[int, str]:
    return 30, "enough images for many steps an epoch"


def _learning_rate(parameters: TrainParameters, n_train: int) -> tuple[float, str]:
    return 0.004, "suits AdamW and batches of 64"


def _warmup_epochs(parameters: TrainParameters, n_train: int) -> tuple[float, str]:
    return min(2.0, parameters.epochs / 2), "two epochs, at most half of them"


def _dropout(parameters: TrainParameters, n_train: int) -> tuple[float, str]:
    return 0.1, "little: augmentation prevents overfitting"


def _batch_norm_momentum(parameters: TrainParameters, n_train: int) -> tuple[float, str]:
    return 0.99, "the statistics follow within a few hundred steps"


RULES: dict[str, Rule] = {
    "horizontal_flip": _horizontal_flip,
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


def reasons(parameters: PrepareParameters, n_train: int) -> pd.DataFrame:
    """Returns the value of each parameter that has a rule, and why it has it.

    Args:
        parameters: The parameters before `suited`.
        n_train: The number of training images.

    Returns:
        `parameter`, `value` and `reason`, one row each.
    """
    used = suited(parameters, n_train)
    rows = []
    for name, rule in _rules_of(parameters):
        by_hand = getattr(parameters, name) is not None
        rows.append((name, str(getattr(used, name)), "set by hand" if by_hand else rule(used, n_train)[1]))
    return pd.DataFrame(rows, columns=["parameter", "value", "reason"])


def _rules_of(parameters: PrepareParameters) -> list[tuple[str, Rule]]:
    return [(name, rule) for name, rule in RULES.items() if hasattr(parameters, name)]
