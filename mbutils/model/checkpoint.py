"""Checkpoints: a training that was interrupted continues at its last one, and ends as if nothing had happened."""

import contextlib
import hashlib
import io
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from mbutils.backend import keras, tf
from mbutils.errors import WorkbookError
from mbutils.files import atomic_write

_LARGEST_SHARE = 0.01  # of the time of a training
_DIGEST_BYTES = 32
_TRAINING_CODE = ("data", "model")  # the rooms


class Checkpoint:
    """The file that keeps where a training is: its weights, those of its optimizer, and its history.

    Args:
        path: The file. Its folder exists.
        variables: All that a step of the training changes, as it is before the first step.
        lesson: What `training.fit` takes.
    """

    def __init__(
        self, path: Path, variables: Sequence[keras.Variable], lesson: Sequence[np.ndarray] | None = None
    ) -> None:
        self._path, self._variables = path, variables
        self._next = 0.0  # when to write again, of `time.monotonic`
        self._origin = _origin(variables, lesson)

    def restore(self) -> pd.DataFrame:
        """Gives the variables the values that they had when the training was interrupted.

        Returns:
            The history up to there; empty where there is no checkpoint. One that is damaged, or of a training that
            began in another way or with other code, is not used, and a line says so.
        """
        try:
            digest, content = np.split(np.fromfile(self._path, np.uint8), [_DIGEST_BYTES])
        except OSError:
            return pd.DataFrame()
        if digest.tobytes() != self._digest(content):
            print(
                f"warning: {self._path} is damaged, or the code of the training has changed: it starts anew",
                file=sys.stderr,
            )
            return pd.DataFrame()
        history, *values = np.load(io.BytesIO(content)).values()
        for variable, value in zip(self._variables, values, strict=True):
            variable.assign(value)
        return pd.DataFrame(json.loads(history.item()))

    def keep(self, history: pd.DataFrame, always: bool = False) -> None:
        """Writes the present values of the variables, as often as it takes at most 1 % of the time, or `always`.

        A line says so where the file cannot be written.
        """
        start = time.monotonic()
        if start < self._next and not always:
            return
        buffer = io.BytesIO()
        np.savez(buffer, json.dumps(history.to_dict("list")), *(variable.numpy() for variable in self._variables))
        content = buffer.getbuffer()
        try:
            with atomic_write(self._path) as partial, partial.open("wb") as file:
                file.write(self._digest(content))
                file.write(content)
        except WorkbookError as error:  # no reason to stop a training
            print(f"warning: no checkpoint: {error}", file=sys.stderr)
        end = time.monotonic()
        self._next = end + (end - start) / _LARGEST_SHARE

    def remove(self) -> None:
        """Removes the file: the training will begin anew."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)

    def _digest(self, content: memoryview | np.ndarray) -> bytes:
        return hashlib.sha256(self._origin + hashlib.sha256(content).digest()).digest()


def _origin(variables: Sequence[keras.Variable], lesson: Sequence[np.ndarray] | None) -> bytes:
    """Returns a digest of what a training begins with, besides its parameters and images: a run id has those."""
    digest = hashlib.sha256(f"{tf.__version__} {keras.__version__}".encode())
    for room in _TRAINING_CODE:
        for path in sorted((Path(__file__).parent.parent / room).glob("*.py")):
            digest.update(path.read_bytes())
    for variable in variables:
        digest.update(repr(variable.shape).encode() + np.ascontiguousarray(variable.numpy()).data)
    for part in lesson or ():
        digest.update(np.ascontiguousarray(part).data)
    return digest.digest()
