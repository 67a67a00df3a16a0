"""The published tables that the workbook is compared with, as CSV, and their loaders.

Source: the STM32 model zoo's page "MobileNet v1 quantized" (STM32Cube.AI 7.3.0), its later edition, and pages of the
same zoo for the other architectures in `latency_rows.csv`.
"""

from functools import cache
from pathlib import Path

import pandas as pd


@cache
def _read(name: str) -> pd.DataFrame:
    return pd.read_csv(Path(__file__).parent / f"{name}.csv")


def accuracy() -> pd.DataFrame:
    """Returns the published top-1 accuracies, in percent, one row for each (dataset, configuration, variant, page)."""
    return _read("accuracy").copy()


def footprint() -> pd.DataFrame:
    """Returns the published RAM and flash of the int8 models on STM32H7, in KiB but for the row whose note says kB."""
    return _read("footprint").copy()


def latency() -> pd.DataFrame:
    """Returns the published inference times of MobileNet v1, in milliseconds, one row for each (model, board)."""
    return _read("latency").copy()


def latency_rows() -> pd.DataFrame:
    """Returns published inference times of several architectures with their operation counts, to fit a model to."""
    return _read("latency_rows").copy()


def flowers_test_images() -> pd.DataFrame:
    """Returns label and md5 of the encoded bytes of the 734 test images behind the published flowers accuracies."""
    return _read("tf_flowers_test").copy()
