"""The registry of datasets.

An image is identified by the md5 of its encoded bytes and by a digest of its decoded pixels. Every dataset has the
parts "train", "validation" and "test"; copies of test images in the other parts are "excluded".
"""

from collections.abc import Callable
from dataclasses import replace

from mbutils.config import DataParameters
from mbutils.data import digits, folder, tfds
from mbutils.data.dataset import Dataset
from mbutils.errors import WorkbookError, nearest

REGISTRY: dict[str, Callable[[DataParameters], Dataset]] = {
    "digits": digits.load,
    "folder": folder.load,
    "food101": tfds.food101,
    "plant_village": tfds.plant_village,
    "tf_flowers": tfds.tf_flowers,
}


def load(parameters: DataParameters) -> Dataset:
    """Loads the index of a dataset; images are read on demand.

    Args:
        parameters: The name of the dataset in `REGISTRY`, and how its parts are made.

    Raises:
        WorkbookError: If the name is unknown, or the dataset is neither stored nor downloadable, or not usable.
    """
    if parameters.dataset not in REGISTRY:
        raise WorkbookError(f"unknown dataset {parameters.dataset!r}: {nearest(parameters.dataset, tuple(REGISTRY))}")
    return replace(REGISTRY[parameters.dataset](parameters), loaded_with=parameters.data)
