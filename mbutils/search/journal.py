"""What a search has decided, and how much of its time is used: kept, so that one that was killed goes on."""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mbutils.config import SearchParameters
from mbutils.config.json_files import AMOUNT, COUNT, read_json, validator
from mbutils.errors import WorkbookError
from mbutils.files import atomic_write
from mbutils.runs.identity import digest_of
from mbutils.search.space import Space
from mbutils.sweep.configurations import Configuration

_FOLDER = "searches"
_ELSEWHERE = ("results_dir", "out", "space", "dataset", "data_dir")  # not part of a search, or in the ids of its runs
_schema = validator(
    {
        "type": "object",
        "properties": {
            "seconds": AMOUNT,
            "share": {"type": ["number", "null"], "exclusiveMinimum": 0, "maximum": 1},
            "entered": {"type": "array", "items": {"type": "array", "items": COUNT, "minItems": 1}},
        },
        "required": ["seconds", "share", "entered"],
        "additionalProperties": False,
    }
)


def path_of(results_dir: Path, parameters: SearchParameters, space: Space, models: Sequence[Configuration]) -> Path:
    """Returns the file of a search: the same for the same models, limits and hours.

    Args:
        results_dir: The results folder.
        parameters: Those of the search.
        space: Its space.
        models: The models of the space, for all their epochs.
    """
    asked = {name: value for name, value in asdict(parameters).items() if name not in _ELSEWHERE}
    listed = [(model.run_id, model.overrides["convert"]) for model in models]
    return results_dir / _FOLDER / f"{digest_of([asked, space.rungs, space.keep, listed])}.json"


class Journal:
    """The decisions of one search, from its first start to its end; time that it was not running is not counted.

    Args:
        path: What `path_of` returns.
        hours: How long the search may take.
        start: When it was started now, of `time.monotonic`.

    Attributes:
        share: The share of their epochs that the models are trained for; None before that is decided.
        entered: The positions in the space of the models that entered each rung, the best first.

    Raises:
        WorkbookError: If the file is damaged.
    """

    def __init__(self, path: Path, hours: float, start: float) -> None:
        self._path = path
        self._start, self._limit = start, 3600 * hours
        kept = self._read()
        self._before: float = kept["seconds"]
        self.share: float | None = kept["share"]
        self.entered: list[list[int]] = kept["entered"]

    def _read(self) -> dict[str, Any]:
        if not self._path.exists():
            return {"seconds": 0.0, "share": None, "entered": []}
        try:
            return read_json(self._path, _schema)
        except WorkbookError as error:
            raise WorkbookError(f"{error}: remove it, and the search decides again") from None

    @property
    def left(self) -> float:
        """The seconds that are left."""
        return self._limit - self._used

    @property
    def _used(self) -> float:
        return self._before + time.monotonic() - self._start

    def save(self) -> None:
        """Writes it down.

        Raises:
            WorkbookError: If it cannot be written.
        """
        kept = {"seconds": round(self._used, 1), "share": self.share, "entered": self.entered}
        with atomic_write(self._path) as partial:
            partial.write_text(json.dumps(kept) + "\n")
