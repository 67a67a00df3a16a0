"""The published tables that the workbook is compared with, as CSV, and their loaders.

Source: the STM32 model zoo's page "MobileNet v1 quantized" (STM32Cube.AI 7.3.0), its later edition, and pages of the
same zoo for the other architectures in `latency_rows.csv`.
"""

from functools import cache
from pathlib import Path

import pandas as pd

from mbutils.config import PLANT_VILLAGE_39

COLOR_MODES = {3: "rgb", 1: "gray"}  # by the column `channels`
# Activation RAM of 0.25 at 224 px by STM32Cube.AI 9.1 and 10.0, which plan it differently from 7.3.0.
LATER_ACTIVATION_RAM_KIB = 272.96


@cache
def _read(name: str) -> pd.DataFrame:
    return pd.read_csv(Path(__file__).parent / f"{name}.csv")


def accuracy() -> pd.DataFrame:
    """Returns the published top-1 accuracies, in percent, one row for each (dataset, configuration, variant, page)."""
    return _read("accuracy").copy()


def footprint() -> pd.DataFrame:
    """Returns the published RAM and flash of the int8 models on STM32H7, in KiB except the row with a note on kB."""
    return _read("footprint").copy()


def footprint_bytes() -> pd.DataFrame:
    """Returns `footprint()` in bytes, one row for each model, with the one row that is in kB corrected.

    Activation, weights and totals of the row with a note on kB (0.25/96/RGB) only fit as units of 1000 bytes: its
    "219.84 KiB" of weights are the 214.69 KiB of the same network at another input size. Runtime RAM and code flash,
    published as rounded KiB, are the differences between totals and parts. `note` names the correction.
    """
    table = footprint()
    unit = table["note"].str.contains("kB", na=False).map({True: 1000, False: 1024})
    published = ("activation_ram", "weights_flash", "total_ram", "total_flash")
    for name in published:
        table[f"{name}_bytes"] = (table[f"{name}_kib"] * unit).round().astype(int)
    table["runtime_ram_bytes"] = table["total_ram_bytes"] - table["activation_ram_bytes"]
    table["code_flash_bytes"] = table["total_flash_bytes"] - table["weights_flash_bytes"]
    table["note"] = table["note"].fillna("")
    return table[[column for column in table if not column.endswith("_kib")]]


def latency() -> pd.DataFrame:
    """Returns the published inference times of MobileNet v1, in milliseconds, one row for each (model, board)."""
    return _read("latency").copy()


def latency_rows() -> pd.DataFrame:
    """Returns published inference times of several architectures with their operation counts, to fit a model to."""
    return _read("latency_rows").copy()


def accuracies() -> pd.DataFrame:
    """Returns the published top-1 accuracies as fractions, the editions of the page side by side.

    Returns:
        One row for each model: `dataset`, `n_classes`, `alpha`, `image_size`, `color_mode`, `variant` ("float32", or
        "int8_per_channel": how the published int8 models are quantized), `published` (the page of STM32Cube.AI 7.3.0)
        and `published_later` (its later edition; blank where that has none).
    """
    names = {"variant": {"int8": "int8_per_channel"}, "dataset": {"plant_village": PLANT_VILLAGE_39}}
    table = accuracy().replace(names)
    table["page"] = table["source"].str.contains("later").map({True: "published_later", False: "published"})
    table["color_mode"] = table["channels"].map(COLOR_MODES)
    keys = ["dataset", "n_classes", "alpha", "image_size", "color_mode", "variant"]
    order = table[keys].drop_duplicates()
    wide = (table.set_index([*keys, "page"])["top1_percent"] / 100).unstack("page").reset_index()
    return order.merge(wide, on=keys)


def footprint_configurations() -> list[tuple[float, int, str, int]]:
    """Returns (alpha, image_size, color_mode, n_classes) of the models whose RAM, flash and latency are published."""
    table = footprint()
    colors = table["channels"].map(COLOR_MODES)
    return list(zip(table["alpha"], table["image_size"], colors, table["n_classes"], strict=True))
