"""Measures both sides of a case in turn, and summarizes the results."""

from statistics import median
from typing import Any

import pandas as pd

from bench.cases import Case
from bench.worker import Worker
from mbutils.columns import BENCH, names
from mbutils.progress import progress


def compare(name: str, case: Case, rounds: int) -> dict[str, Any]:
    """Measures both sides of a case in alternating rounds, so that noise affects both equally.

    Args:
        name: The name of the case.
        case: The comparison.
        rounds: The number of rounds of each side that count. One more comes before them, to trace and to warm up.

    Returns:
        A row of `bench.csv`: the values of `columns.BENCH`.

    Raises:
        WorkbookError: If one side cannot do its work.
    """
    pairs = []
    with (
        Worker(case.module, "ours", case.arguments) as ours,
        Worker(case.module, "stock", case.arguments | case.stock_arguments) as stock,
        progress(1 + rounds, name, "round") as bar,
    ):
        ours.round(), stock.round()
        # Measured now: a further training in the same process keeps the graphs of the one before.
        memory = ours.peak_memory(), stock.peak_memory()
        bar.update()
        for _ in range(rounds):
            pairs.append((ours.round(), stock.round()))
            bar.update()
    return {"case": name} | summary(pairs, case.expected, memory)


def summary(
    images_per_second: list[tuple[float, float]], expected: float | None, peak_memory: tuple[int, int]
) -> dict[str, Any]:
    """Returns a row without its name: medians over the rounds, and the ratios of the rounds with their range.

    Args:
        images_per_second: Ours and stock in each round.
        expected: The least ratio.
        peak_memory: Ours and stock, in bytes.
    """
    ours, stock = zip(*images_per_second, strict=True)
    ratios = [a / b for a, b in images_per_second]
    values = (
        *(len(ratios), median(ours), median(stock), median(ratios), min(ratios), max(ratios), expected),
        *(*peak_memory, peak_memory[0] / peak_memory[1]),
    )
    return dict(zip(names(BENCH[1:]), values, strict=True))


def reached(row: dict[str, Any]) -> bool:
    """Returns whether the median ratio is at least the expected one, or no ratio is expected."""
    return row["ratio_expected"] is None or row["ratio"] >= row["ratio_expected"]


def text(rows: list[dict[str, Any]]) -> str:
    """Returns the rows as a table for a terminal, ratios of ours to stock."""
    return pd.DataFrame(map(_cells, rows)).to_string(index=False)


def _cells(row: dict[str, Any]) -> dict[str, str]:
    verdict = "reached" if reached(row) else "MISSED"
    return {
        "case": row["case"],
        "images/s": f"{row['ours_images_per_second']:.0f} : {row['stock_images_per_second']:.0f}",
        "ratio": f"{row['ratio']:.2f}",
        "least to greatest": f"{row['ratio_low']:.2f} to {row['ratio_high']:.2f}",
        "expected": f"{row['ratio_expected']:.1f} {verdict}" if row["ratio_expected"] else "",
        "peak MiB": f"{row['ours_peak_memory_bytes'] / 2**20:.0f} : {row['stock_peak_memory_bytes'] / 2**20:.0f}",
        "memory ratio": f"{row['peak_memory_ratio']:.2f}",
    }
