"""The test images that a report shows: one of each class, the surest errors, what is confused, what int8 changed.

Everything comes from the run folders: a report needs no dataset.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from mbutils import evaluation, runs
from mbutils.evaluation import errors
from mbutils.runs import FLOAT32, Run


@dataclass(frozen=True, eq=False)
class Pictures:
    """Some test images of one model.

    Attributes:
        caption: What they are, and how many there are.
        images: Those that the run kept: uint8, shape (height, width, channels), as the model sees them.
        titles: The true class of each, and what is predicted.
    """

    caption: str
    images: list[np.ndarray]
    titles: list[str]


def one_of_each_class(results_dir: Path, models: pd.DataFrame) -> list[Pictures]:
    """Returns the first test image of each class with its prediction.

    Args:
        results_dir: The results folder.
        models: Rows with the `run_id` and `variant` of each model.
    """
    return [_one_of_each_class(*_evaluated(results_dir, row)) for row in models.itertuples()]


def _one_of_each_class(run: Run, found: runs.Predictions) -> Pictures:
    positions = list(errors.one_of_each_class(found.labels).values())
    return _pictures(run, "a test image of each class", positions, _predicted(run, found))


def surest_errors(results_dir: Path, models: pd.DataFrame) -> list[Pictures]:
    """Returns the wrong predictions of the highest confidence; see `one_of_each_class` for the arguments."""
    return [_surest_errors(*_evaluated(results_dir, row)) for row in models.itertuples()]


def _surest_errors(run: Run, found: runs.Predictions) -> Pictures:
    wrong = errors.surest_errors(found.labels, found.scores)
    caption = f"{len(wrong)} of {len(found.labels)} wrong, the surest first"
    return _pictures(run, caption, wrong[: errors.SHOWN], _predicted(run, found))


def confused(results_dir: Path, models: pd.DataFrame) -> list[Pictures]:
    """Returns images of the pairs of classes that are confused most; see `one_of_each_class` for the arguments."""
    return [_confused(*_evaluated(results_dir, row)) for row in models.itertuples()]


def _confused(run: Run, found: runs.Predictions) -> Pictures:
    names, pairs = class_names(run), errors.confused_pairs(found.labels, found.scores)[: errors.PAIRS]
    texts = [f"{names[pair.true]} taken for {names[pair.predicted]} ({len(pair.positions)})" for pair in pairs]
    positions = [position for pair in pairs for position in pair.positions[: errors.OF_PAIR]]
    return _pictures(run, ", ".join(texts) or "nothing confused", positions, _predicted(run, found))


def changed_by_int8(results_dir: Path, models: pd.DataFrame) -> list[Pictures]:
    """Returns the images that only one of float32 and int8 gets right; see `one_of_each_class` for the arguments."""
    return [_changed(*_evaluated(results_dir, row)) for row in models.itertuples()]


def _changed(run: Run, found: runs.Predictions) -> Pictures:
    before = runs.predictions(run, FLOAT32).scores
    changed = evaluation.changed_sides(found.labels, before, found.scores)
    titles = evaluation.prediction_titles(found.labels, before, found.scores, class_names(run))
    return _pictures(run, f"{len(changed)} changed", changed[: errors.SHOWN], titles)


def class_names(run: Run) -> tuple[str, ...]:
    """Returns the classes of a run."""
    return tuple(run.manifest["dataset"]["class_names"])


def _evaluated(results_dir: Path, row: tuple) -> tuple[Run, runs.Predictions]:
    run = Run(results_dir / "runs" / row.run_id)
    return run, runs.predictions(run, row.variant)


def _predicted(run: Run, found: runs.Predictions) -> list[str]:
    return evaluation.predictions(found.labels, found.scores, class_names(run))


def _pictures(run: Run, caption: str, positions: Sequence[int], titles: list[str]) -> Pictures:
    kept = runs.test_images(run)
    shown = [int(position) for position in positions if int(position) in kept]
    return Pictures(caption, [kept[position] for position in shown], [titles[position] for position in shown])
