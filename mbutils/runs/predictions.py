"""What a run keeps of its evaluation: the scores of every test image, and the images that a report shows."""

import zipfile
import zlib
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from mbutils.errors import WorkbookError
from mbutils.runs.folder import TEST_IMAGES, Run, predictions_name, written


@dataclass(frozen=True, eq=False)
class Predictions:
    """The scores of a variant for the test images.

    Attributes:
        labels: The true classes: int64, shape (n,).
        scores: float32, shape (n, n_classes).
        identities: The identities of the images, shape (n,).
    """

    labels: np.ndarray
    scores: np.ndarray
    identities: np.ndarray


def predictions(run: Run, variant: str) -> Predictions:
    """Returns the predictions of a variant, as they were recorded.

    Raises:
        WorkbookError: If there are none, or they are damaged.
    """
    return Predictions(*_arrays(run, predictions_name(variant), "labels", "scores", "identities"))


def test_images(run: Run) -> dict[int, np.ndarray]:
    """Returns the test images that a run keeps, by position among the test images.

    Returns:
        Images as the model sees them: uint8, shape (height, width, channels). None where an older workbook evaluated.

    Raises:
        WorkbookError: If they are damaged.
    """
    if TEST_IMAGES not in run.manifest["artefacts"]:
        return {}
    positions, images = _arrays(run, TEST_IMAGES, "positions", "images")
    return dict(zip(positions.tolist(), images, strict=True))


def write_predictions(run: Run, variant: str, found: Predictions) -> dict[str, dict[str, Any]]:
    """Writes predictions into the folder of a run, and returns what its manifest records of the file, by its name."""
    write = partial(np.savez_compressed, **vars(found) | {"identities": found.identities.astype("U32")})
    return {predictions_name(variant): written(run.new(predictions_name(variant)), write)}


def save_test_images(run: Run, positions: np.ndarray, images: np.ndarray) -> None:
    """Saves the test images that a report shows.

    Args:
        run: The run.
        positions: Their positions among the test images: int64, shape (n,).
        images: uint8, shape (n, height, width, channels).
    """
    write = partial(np.savez_compressed, positions=positions, images=images)
    with run.changing() as manifest:
        manifest["artefacts"][TEST_IMAGES] = written(run.new(TEST_IMAGES), write)


def _arrays(run: Run, name: str, *expected: str) -> list[np.ndarray]:
    path = run.artefact(name)
    try:
        with np.load(path) as saved:
            return [saved[array] for array in expected]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise WorkbookError(f"run {run.run_id}: cannot read {name}: run evaluate again") from error
