"""What `mb predict` prints: the classes that models give to photographs, the highest score first."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mbutils.errors import printable

if TYPE_CHECKING:
    from mbutils.runs.classifiers import PredictedFiles

_COLUMNS = ["path", "model", "class", "score"]


def predictions(predicted: "PredictedFiles", class_names: Sequence[str], top: int | None) -> pd.DataFrame:
    """Returns one row for each photograph, model and class: `path`, `model`, `class`, `score`.

    Args:
        predicted: What `Classifier.predict_files` returned.
        class_names: The classes of the models.
        top: How many classes of each photograph and model, those of the highest scores; None for all.
    """
    rows = [
        (str(path), model, class_names[position], float(scores[number, position]))
        for number, path in enumerate(predicted.files)
        for model, scores in predicted.scores.items()
        for position in np.argsort(-scores[number], kind="stable")[:top]
    ]
    return pd.DataFrame(rows, columns=_COLUMNS)


def predictions_text(table: pd.DataFrame) -> str:
    """Returns what `predictions` returned as text for a terminal: for each photograph a line for each model."""
    width = table["model"].str.len().max()
    lines = []
    for path, of_photograph in table.groupby("path", sort=False):
        lines.append(printable(path))
        for model, rows in of_photograph.groupby("model", sort=False):
            classes = ", ".join(
                f"{name}: {score:.3f}" for name, score in zip(rows["class"], rows["score"], strict=True)
            )
            lines.append(f"  {model:{width}}  {classes}")
    return "\n".join(lines)
