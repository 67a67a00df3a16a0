"""A training whose loss is no longer a number stops at once."""

import math

from mbutils.backend import keras
from mbutils.errors import WorkbookError


class StopOnDivergence(keras.callbacks.Callback):
    """Ends the training at the first loss that is NaN or infinite, of training or validation.

    Args:
        way_out: What to change, the last part of the message.

    Raises:
        WorkbookError: From `fit`, with the epoch.
    """

    def __init__(self, way_out: str) -> None:
        super().__init__()
        self._way_out = way_out

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Remembers the epoch for the message."""
        self._epoch = epoch + 1

    def on_train_batch_end(self, batch: int, logs: dict[str, float]) -> None:
        """Checks the training loss."""
        self._check("loss", logs["loss"])

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Checks the validation loss, where there is one."""
        self._check("validation loss", logs.get("val_loss", 0.0))

    def _check(self, name: str, loss: float) -> None:
        if not math.isfinite(loss):
            raise WorkbookError(f"the training diverged: its {name} is {loss} in epoch {self._epoch}: {self._way_out}")
