"""Inference time on two STM32 boards, estimated from operation counts: each number comes with its error band.

The model is linear: milliseconds = sum of coefficient times count, over four counts that `footprint` reads from
the .tflite. The coefficients come from non-negative least squares on the published times of several architectures
(`published.latency_rows`), on relative errors, so that a model of 5 ms weighs as much as one of 500.
Depthwise MACs and convolution outputs are correlated in all these models: do not interpret their coefficients singly.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from math import exp

import numpy as np
import pandas as pd
from scipy.optimize import nnls

from mbutils.device import published
from mbutils.device.footprint import Footprint
from mbutils.errors import WorkbookError, nearest

FEATURES = ("conv_macs", "pointwise_macs", "depthwise_macs", "conv_outputs")


@dataclass(frozen=True)
class Board:
    """A board with published inference times.

    Attributes:
        name: As in the published tables.
        engine: The processors and clock that the times hold for.
        column: The column of `results.csv` for estimates on this board.
        internal_ram_bytes: The most total RAM that fits inside the chip, None if the RAM is external anyway.
    """

    name: str
    engine: str
    column: str
    internal_ram_bytes: int | None


# STM32H747: 512 KiB of AXI SRAM, less 64 KiB for the application. This separates the published rows: 425 KiB of total
# RAM ran from internal RAM, 470 KiB did not.
BOARDS = {
    board.name: board
    for board in (
        Board("STM32H747I-DISCO", "1 CPU, 400 MHz", "latency_ms_stm32h747", 448 * 1024),
        Board("STM32MP157F-DK2", "2 CPU, 800 MHz", "latency_ms_stm32mp157", None),
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


def estimate(model: Footprint | Mapping[str, float], board: str) -> Estimate:
    """Estimates the time of one inference.

    Args:
        model: A footprint, or its operation counts by the names in `FEATURES`, with `total_ram_bytes` if known.
        board: A name in `BOARDS`.

    Raises:
        WorkbookError: If the board is unknown.
    """
    counts = model.to_dict() if isinstance(model, Footprint) else model
    milliseconds = float(np.dot([counts[name] for name in FEATURES], coefficients(board)))
    factor = error_factor(board)
    limit, ram = BOARDS[board].internal_ram_bytes, counts.get("total_ram_bytes")
    fits = None if limit is None or ram is None else bool(ram <= limit)
    note = accuracy_note(board)
    if fits is False:
        slower = 100 * external_ram_slowdown(board)
        note += f"; does not fit the internal RAM ({limit // 1024} KiB): "
        note += f"expect it to be up to {slower:.0f} % slower from external RAM"
    return Estimate(milliseconds, milliseconds / factor, milliseconds * factor, fits, note)


def accuracy_note(board: str) -> str:
    """Returns how far the estimates for a board hold."""
    return f"estimate for {board} ({BOARDS[board].engine}), within a factor of {error_factor(board):.2f}"


def external_ram_slowdown(board: str) -> float:
    """Returns by how much the slowest published row that ran from external RAM exceeds its estimate, a fraction."""
    rows = published.latency_rows()
    rows = rows[(rows["board"] == board) & (rows["fits_internal_ram"] == 0)]
    return float((rows["latency_ms"] / (rows[list(FEATURES)] @ coefficients(board))).max() - 1)


@cache
def coefficients(board: str) -> tuple[float, ...]:
    """Returns milliseconds per unit of each of `FEATURES`, fitted to all published rows of the board.

    Raises:
        WorkbookError: If the board is unknown.
    """
    return tuple(_fit(training_rows(board)))


def training_rows(board: str) -> pd.DataFrame:
    """Returns the published rows that the model of a board is fitted to, without those that ran from external RAM.

    Raises:
        WorkbookError: If the board is unknown.
    """
    if board not in BOARDS:
        raise WorkbookError(f"no published inference times for the board {board!r}: {nearest(board, list(BOARDS))}")
    rows = published.latency_rows()
    return rows[(rows["board"] == board) & (rows["fits_internal_ram"] != 0)].reset_index(drop=True)


@cache
def _leave_one_out(board: str) -> pd.DataFrame:
    rows = training_rows(board)
    others = [_fit(rows.drop(index=i)) for i in rows.index]
    estimates = (rows[list(FEATURES)].to_numpy(float) * others).sum(axis=1)
    return rows.assign(estimated_ms=estimates, error=estimates / rows["latency_ms"] - 1)


def leave_one_out(board: str) -> pd.DataFrame:
    """Returns the training rows, each with the time that a fit to all other rows predicts.

    Returns:
        `training_rows(board)` with the columns `estimated_ms`, and `error` as a fraction of the published time.

    Raises:
        WorkbookError: If the board is unknown.
    """
    return _leave_one_out(board).copy()


def error_summary() -> pd.DataFrame:
    """Returns for each board the number of rows, mean and worst leave-one-out error as fractions, the error factor."""
    errors = {board: leave_one_out(board)["error"].abs() for board in BOARDS}
    return pd.DataFrame(
        [(b, len(e), e.mean(), e.max(), error_factor(b)) for b, e in errors.items()],
        columns=["board", "rows", "mean_error", "worst_error", "error_factor"],
    )


def error_factor(board: str) -> float:
    """Returns the factor f of the error band: the true time should lie between estimate / f and estimate * f.

    The largest leave-one-out ratio between estimated and published time, in either direction. With 10 and 13 rows it
    is also the ceil(0.9 * (rows + 1))-th smallest, so about 90 % of new models like these should fall inside (the
    jackknife); so few rows do not support a finer statement.

    Raises:
        WorkbookError: If the board is unknown.
    """
    return exp(np.abs(np.log1p(_leave_one_out(board)["error"])).max())


def _fit(rows: pd.DataFrame) -> np.ndarray:
    """Returns non-negative coefficients that minimize the sum of squared relative errors."""
    relative = rows[list(FEATURES)].to_numpy(float) / rows["latency_ms"].to_numpy()[:, np.newaxis]
    return nnls(relative, np.ones(len(rows)))[0]
