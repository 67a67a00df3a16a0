"""The models that a search chooses from, and when it compares them: read from a YAML file."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mbutils.config import MOBILENET, SearchParameters, full_path
from mbutils.config.search import DEFAULT_SPACE
from mbutils.errors import WorkbookError
from mbutils.sweep import configurations
from mbutils.sweep.configurations import Configuration

_KEYS = {**configurations.MODEL_KEYS, "rungs": list, "keep": (int, float)}
_RUNGS, _KEEP = [0.07, 0.25, 1], 0.25  # where the file has none


@dataclass(frozen=True)
class Space:
    """The models of a search.

    Attributes:
        path: The file.
        points: The parameters of each model.
        rungs: After which parts of the epochs they are compared; the last is 1.
        keep: Which part of them goes on from one rung to the next.
    """

    path: Path
    points: tuple[dict[str, Any], ...]
    rungs: tuple[float, ...]
    keep: float

    def configurations(self, share: float = 1.0) -> list[Configuration]:
        """Returns the models, trained for a share of their epochs.

        Raises:
            WorkbookError: If a parameter is unknown or impossible, or the images are missing.
        """
        try:
            full = configurations.make(self.points)
            if others := {network for one in full if (network := one.parameters("train").network) != MOBILENET}:
                raise WorkbookError(f"network {others.pop()} only teaches: search {MOBILENET}")
            if share == 1:
                return full
            epochs = [max(len(self.rungs), math.ceil(share * one.parameters("train").epochs)) for one in full]
            return configurations.make(
                point | {"epochs": count} for point, count in zip(self.points, epochs, strict=True)
            )
        except WorkbookError as error:
            raise WorkbookError(f"{self.path}: {error}") from error

    def stop(self, configuration: Configuration, rung: int) -> int:
        """Returns the epoch at which a model is compared on a rung, from 0."""
        epochs = configuration.parameters("train").epochs
        return min(epochs, max(rung + 1, math.ceil(self.rungs[rung] * epochs)))

    def going_on(self, count: int) -> int:
        """Returns how many of so many models go on to the next rung."""
        return min(count, max(2, math.ceil(self.keep * count)))


def read(parameters: SearchParameters) -> Space:
    """Returns the space that the parameters name, with their images.

    Raises:
        WorkbookError: If the file is missing or malformed, or lists no models.
    """
    path = full_path(parameters.space) if parameters.space else DEFAULT_SPACE
    content = configurations.read_keys(path, "a space of models", _KEYS)
    images = {name: getattr(parameters, name) for name in ("dataset", "data_dir") if getattr(parameters, name)}
    content["defaults"] = (content.get("defaults") or {}) | images
    if not (content.get("grid") or content.get("runs")):
        raise WorkbookError(f"{path}: the space is empty: list models under grid or runs, see {DEFAULT_SPACE}")
    rungs, keep = content.get("rungs") or _RUNGS, content.get("keep") or _KEEP
    if not _are_rungs(rungs):
        raise WorkbookError(f"{path}: rungs: {rungs} are not parts of the epochs that rise to 1, such as {_RUNGS}")
    if not 0 < keep < 1:
        raise WorkbookError(f"{path}: keep: {keep} is not between 0 and 1, such as {_KEEP}")
    return Space(path, tuple(configurations.points(content, path)), tuple(map(float, rungs)), float(keep))


def _are_rungs(rungs: list[Any]) -> bool:
    numbers = [part for part in rungs if type(part) in (int, float) and 0 < part <= 1]
    return numbers == rungs and numbers == sorted(set(numbers)) and numbers[-1] == 1
