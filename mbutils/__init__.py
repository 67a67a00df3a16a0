"""Shared code of the MobileNet v1 int8 workbook: the notebooks ask, call and show; this package does the work."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mbutils.config import Preprocessing
    from mbutils.runs.classifiers import Classifier

# TensorFlow reads this when it is imported; below level 2 it fills the notebooks with start-up messages.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def load(
    model: str | Path = "",
    contract: "Preprocessing | None" = None,
    class_names: Sequence[str] = (),
    results_dir: str = "",
) -> "Classifier":
    """Returns a finished classifier: `mbutils.load(RUN).predict("photo.jpg")`.

    Args:
        model: The id of a run, the path of its folder or of a .tflite in it; "" for the newest run. Or the path of a
            .tflite from elsewhere.
        contract: How images are prepared for a .tflite from elsewhere.
        class_names: The classes of a .tflite from elsewhere, in the order of its scores.
        results_dir: Where runs are looked for; "" for the project's own results folder.

    Raises:
        WorkbookError: If there is no such run or file, or it is not an image classifier that takes what `contract` and
            `class_names` say.
    """
    from mbutils.runs import classifiers  # and with it TensorFlow

    return classifiers.load(model, contract, class_names, results_dir)
