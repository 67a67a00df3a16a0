"""Two runs on the same test images."""

import numpy as np
import pandas as pd

from mbutils import evaluation
from mbutils.data.dataset import Dataset
from mbutils.data.photographs import prepared
from mbutils.errors import WorkbookError
from mbutils.report.pictures import Pictures
from mbutils.runs import Predictions, Run, predictions


def only_one_right(first: Run, second: Run, dataset: Dataset, count: int) -> tuple[list[str], list[Pictures]]:
    """Returns the test images that only the first of two runs gets right, and those that only the second does.

    Each run answers by its first int8 model.

    Args:
        first: A run that is evaluated.
        second: Another of the same data.
        dataset: Their data.
        count: The most images to return of each.

    Returns:
        The ids of the two; and the images as the first run sees them, with the true class and the answers of both runs
        as titles.

    Raises:
        WorkbookError: If the runs have different data, or one is not evaluated.
    """
    if first.manifest["dataset"]["fingerprint"] != second.manifest["dataset"]["fingerprint"]:
        raise WorkbookError(
            f"runs {first.run_id} and {second.run_id} have different images, classes or parts: choose two of the same"
        )
    mine, theirs = _by_identity(first), _by_identity(second)
    is_right = [found.scores.argmax(axis=1) == found.labels for found in (mine, theirs)]
    titles = evaluation.prediction_titles(mine.labels, mine.scores, theirs.scores, dataset.class_names)
    rows = []
    for only in (is_right[0] & ~is_right[1], is_right[1] & ~is_right[0]):
        chosen = np.flatnonzero(only)[:count]
        encoded = dataset.encoded(_positions(dataset, mine.identities[chosen]))
        images = [prepared(photo, first.parameters.preprocessing) for photo in encoded]
        caption = f"{only.sum()} test images that only this run gets right"
        rows.append(Pictures(caption, images, [titles[index] for index in chosen]))
    return [first.run_id, second.run_id], rows


def _by_identity(run: Run) -> Predictions:
    """Returns the predictions on the test images in the order of their identities."""
    found = predictions(run, run.int8_variants[0])
    order = np.argsort(found.identities, kind="stable")
    return Predictions(found.labels[order], found.scores[order], found.identities[order])


def _positions(dataset: Dataset, identities: np.ndarray) -> np.ndarray:
    distinct = dataset.examples["identity"].drop_duplicates()
    return distinct.index[pd.Index(distinct).get_indexer(identities)].to_numpy()
