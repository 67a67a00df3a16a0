"""Inference time on STM32 boards, estimated from operation counts: each number comes with its error band.

The model is linear: milliseconds = sum of coefficient times count, over counts that `footprint` reads from the .tflite.
The coefficients come from non-negative least squares on the published times of several architectures, on relative
errors, for each board and edition: tools and runtimes differ. From the first edition to the next, TensorFlow Lite on
STM32MP157 became twice as fast.
Depthwise MACs and convolution outputs are correlated in all these models: do not interpret their coefficients singly.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd

from mbutils.config import FIRST_EDITION
from mbutils.device import fits, published
from mbutils.device.footprint import Footprint
from mbutils.errors import WorkbookError, nearest

FEATURES = ("conv_macs", "pointwise_macs", "depthwise_macs", "conv_outputs")


@dataclass(frozen=True)
class Board:
    """A board with published inference times.

    Attributes:
        name: As in the published tables.
        engine: The processors and clock that the times hold for.
        column: The column for estimates on this board.
        internal_ram_bytes: The most total RAM that fits inside the chip, None if the RAM is external anyway.
        features: The counts that its time depends on.
    """

    name: str
    engine: str
    column: str
    internal_ram_bytes: int | None = None
    features: tuple[str, ...] = FEATURES


# STM32H747: 512 KiB of AXI SRAM, less 64 KiB for the application. This separates the published rows: 425 KiB of total
# RAM ran from internal RAM, 470 KiB did not.
# An NPU starts anew with each op, and STM32N6 loads the weights of each from flash.
BOARDS = {
    board.name: board
    for board in (
        Board("STM32H747I-DISCO", "1 CPU, 400 MHz", "latency_ms_stm32h747", 448 * 1024),
        Board("STM32MP157F-DK2", "2 CPU, 800 MHz", "latency_ms_stm32mp157"),
        Board("STM32MP135F-DK2", "1 CPU, 1000 MHz", "latency_ms_stm32mp135"),
        Board("STM32MP257F-DK2", "NPU/GPU, 800 MHz", "latency_ms_stm32mp257", features=(*FEATURES, "nodes")),
        Board("STM32N6570-DK", "NPU", "latency_ms_stm32n6", features=(*FEATURES, "weights_flash_bytes")),
    )
}


@dataclass(frozen=True)
class Estimate:
    """An estimated inference time in milliseconds.

    Attributes:
        milliseconds: The estimate.
        low, high: Where the true time should lie: the estimate divided and multiplied by `error_factor(board)`.
        fits_internal_ram: Whether total RAM fits inside the chip; None if there is no such limit, or RAM is unknown.
        note: One line: that it is an estimate, and how far it holds.
    """

    milliseconds: float
    low: float
    high: float
    fits_internal_ram: bool | None
    note: str


def boards(edition: str = FIRST_EDITION) -> tuple[str, ...]:
    """Returns the names of the boards that have times in an edition or an older one."""
    measured = set(published.up_to(published.latency(), edition)["board"])
    return tuple(board for board in BOARDS if board in measured)


def estimate(model: Footprint | Mapping[str, float], board: str, edition: str = FIRST_EDITION) -> Estimate:
    """Estimates the time of one inference.

    Args:
        model: A footprint, or its operation counts by the names in `Board.features`, with `total_ram_bytes` if known.
        board: A name in `BOARDS`.
        edition: Whose tool or runtime.

    Raises:
        WorkbookError: If the board is unknown.
    """
    counts = model.to_dict() | {"nodes": len(model.ops)} if isinstance(model, Footprint) else model
    factor = error_factor(board, edition)
    milliseconds = float(np.dot([counts[name] for name in BOARDS[board].features], coefficients(board, edition)))
    limit, ram = BOARDS[board].internal_ram_bytes, counts.get("total_ram_bytes")
    fits_inside = None if limit is None or ram is None else bool(ram <= limit)
    note = accuracy_note(board, edition)
    if fits_inside is False and (slowdown := external_ram_slowdown(board, edition)):
        note += f"; does not fit the internal RAM ({limit // 1024} KiB): "
        note += f"expect it to be up to {100 * slowdown:.0f} % slower from external RAM"
    return Estimate(milliseconds, milliseconds / factor, milliseconds * factor, fits_inside, note)


def accuracy_note(board: str, edition: str = FIRST_EDITION) -> str:
    """Returns how far the estimates for a board hold."""
    return f"estimate for {board} ({BOARDS[board].engine}), within a factor of {error_factor(board, edition):.2f}"


def external_ram_slowdown(board: str, edition: str = FIRST_EDITION) -> float:
    """Returns by how much the slowest published row that ran from external RAM exceeds its estimate, a fraction.

    0 where such rows train the model as all others do, see `training_rows`.
    """
    rows = _rows(board, edition)
    rows = rows[~_is_trained_on(rows)]
    if rows.empty:
        return 0.0
    return float((rows["ms"] / (rows[list(BOARDS[board].features)] @ coefficients(board, edition))).max() - 1)


@cache
def coefficients(board: str, edition: str = FIRST_EDITION) -> tuple[float, ...]:
    """Returns milliseconds per unit of each of the board's features, fitted to all published rows.

    Raises:
        WorkbookError: If the board is unknown, or has no times in the edition.
    """
    return tuple(fits.coefficients(training_rows(board, edition), BOARDS[board].features, "ms"))


def training_rows(board: str, edition: str = FIRST_EDITION) -> pd.DataFrame:
    """Returns the published rows that the model of a board is fitted to.

    They are those of the newest edition that measured the board, up to the given one. In the first edition, those that
    ran from external RAM are left out; later ones are as fast from there, within the errors of the fit.

    Raises:
        WorkbookError: If the board is unknown, or has no times in the edition.
    """
    rows = _rows(board, edition)
    return rows[_is_trained_on(rows)].reset_index(drop=True)


def _rows(board: str, edition: str) -> pd.DataFrame:
    """Returns the times of a board in the newest edition that measured it, with the operation counts."""
    if board not in BOARDS:
        raise WorkbookError(f"no published inference times for the board {board!r}: {nearest(board, list(BOARDS))}")
    times = published.latency()
    # int8 per tensor is another model; its times differ by a factor of 2 and more.
    times = times[(times["board"] == board) & (times["quantization"] != "per-tensor")]
    times = published.up_to(times, edition)
    if times.empty:
        raise WorkbookError(f"no times of {board} in edition {edition}: choose a newer one")
    newest = times[times["edition"] == times["edition"].iloc[-1]]
    return newest.merge(published.networks(), on=published.MODEL, how="left", validate="many_to_one")


def _is_trained_on(rows: pd.DataFrame) -> pd.Series:
    return (rows["board"] != "STM32H747I-DISCO") | (rows["edition"] != FIRST_EDITION) | (rows["fits_internal_ram"] == 1)


@cache
def _leave_one_out(board: str, edition: str) -> pd.DataFrame:
    return fits.leave_one_network_out(training_rows(board, edition), BOARDS[board].features, "ms")


def leave_one_out(board: str, edition: str = FIRST_EDITION) -> pd.DataFrame:
    """Returns the training rows, each with the time that a fit to all other networks predicts.

    Returns:
        `training_rows` with the columns `estimated`, and `error` as a fraction of the published time.

    Raises:
        WorkbookError: If the board is unknown, or has no times in the edition.
    """
    return _leave_one_out(board, edition).copy()


def error_summary(edition: str = FIRST_EDITION) -> pd.DataFrame:
    """Returns for each board the number of rows, mean and worst leave-one-out error as fractions, the error factor."""
    errors = {board: _leave_one_out(board, edition)["error"].abs() for board in boards(edition)}
    return pd.DataFrame(
        [(b, len(e), e.mean(), e.max(), error_factor(b, edition)) for b, e in errors.items()],
        columns=["board", "rows", "mean_error", "worst_error", "error_factor"],
    )


def error_factor(board: str, edition: str = FIRST_EDITION) -> float:
    """Returns the factor f of the error band: the true time should lie between estimate / f and estimate * f.

    Raises:
        WorkbookError: If the board is unknown, or has no times in the edition.
    """
    return fits.error_factor(_leave_one_out(board, edition)["error"])
