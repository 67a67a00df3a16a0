"""The published tables that the workbook is compared with, as CSV, and their loaders.

Source: the STM32 model zoo's pages of image classification networks in every edition (`config.EDITIONS`), each row with
the commit and path of its page.
Cells are as printed; rows that only repeat an older edition are left out, so a value holds until a newer one is
published. Tables and their columns:

- `accuracy.csv`: top-1 in percent, by `training`: tfs from scratch, tl the head only, fft all layers.
- `footprint.csv`: RAM and flash on STM32H7 in KiB.
- `latency.csv`: milliseconds on several boards, with networks of the first edition that were not measured again.
- `corrections.csv`: cells that contradict the rest of their page, with what holds instead: nothing where it is blank.
- `networks.csv`: operation counts, weights and activation RAM by the rules of `mbutils.device.memory`, of the networks
  in the other tables; blank for networks whose graph is not known. Not published.
"""

from functools import cache
from pathlib import Path

import pandas as pd

from mbutils.config import EDITIONS, FIRST_EDITION, NEWEST_EDITION, PLANT_VILLAGE_39

COLOR_MODES = {3: "rgb", 1: "gray"}  # by the column `channels`
MODEL = ["network", "alpha", "image_size", "channels", "n_classes"]
_ACCURACY_KEYS = ["dataset", "n_classes", "alpha", "image_size", "color_mode"]


@cache
def _read(name: str) -> pd.DataFrame:
    table = pd.read_csv(Path(__file__).parent / f"{name}.csv", dtype={"edition": str})
    if "edition" in table:
        table["edition"] = table["edition"].str.split(".").str[:2].str.join(".")
    if "note" in table:
        table["note"] = table["note"].fillna("")
    return table


@cache
def _corrected(name: str) -> pd.DataFrame:
    """Returns a table with its corrections; `corrected` holds the reason of each by column."""
    table = _read(name).copy()
    table["corrected"] = [{} for _ in table.index]
    fixes = _read("corrections")
    for fix in fixes[fixes["table"] == name].to_dict("records"):
        keys = [key for key in ("edition", *MODEL, "board") if pd.notna(fix.get(key))]
        rows = (table[keys] == [fix[key] for key in keys]).all(axis=1)
        table.loc[rows, fix["column"]] = fix["value"]
        for reasons in table.loc[rows, "corrected"]:
            reasons[fix["column"]] = fix["note"]
    return table


def up_to(table: pd.DataFrame, edition: str) -> pd.DataFrame:
    """Returns the rows of an edition and the older ones, those of an edition together, the oldest first."""
    known = list(EDITIONS)[: list(EDITIONS).index(edition) + 1]
    return table[table["edition"].isin(known)].sort_values("edition", key=lambda e: e.map(known.index), kind="stable")


def footprint_bytes(edition: str = FIRST_EDITION) -> pd.DataFrame:
    """Returns RAM and flash of the int8 models on STM32H7 that hold in an edition, in bytes, corrected.

    Runtime RAM and code flash are the differences between totals and parts: the first edition rounds them to KiB.

    Returns:
        One row for each model: `MODEL`, `dataset`, `edition` (that the row was published in), the figures by the
        columns of `results.csv`, and `corrected`: for a corrected figure, why.
    """
    table = up_to(_corrected("footprint"), edition).drop_duplicates(MODEL, keep="last").sort_index()
    for name in ("activation_ram", "weights_flash", "total_ram", "total_flash"):
        table[f"{name}_bytes"] = (table[f"{name}_kib"] * 1024).round().astype(int)
    table["runtime_ram_bytes"] = table["total_ram_bytes"] - table["activation_ram_bytes"]
    table["code_flash_bytes"] = table["total_flash_bytes"] - table["weights_flash_bytes"]
    table["corrected"] = [
        {column.replace("_kib", "_bytes"): why for column, why in reasons.items()} for reasons in table["corrected"]
    ]
    figures = [column for column in table if column.endswith("_bytes")]
    return table[[*MODEL, "dataset", "edition", *figures, "corrected"]].reset_index(drop=True)


def latency() -> pd.DataFrame:
    """Returns the inference times of every edition in milliseconds, without those that contradict the rest.

    Where a page has two times on STM32N6 for the same model, the second is with weights of 4 and 8 bits: the first
    alone is there.

    Returns:
        One row for each (edition, model, board, quantization): `ms`, the rest of `latency.csv`, and `corrected`.
    """
    table = _corrected("latency").dropna(subset=["ms"])
    return table.drop_duplicates(["edition", *MODEL, "dataset", "board", "quantization"]).reset_index(drop=True)


def networks() -> pd.DataFrame:
    """Returns what `networks.csv` has: one row for each model."""
    return _read("networks").copy()


def flowers(table: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows of MobileNet v1 on flowers, the models of the first page, with `color_mode`."""
    rows = table[(table["network"] == "mobilenet_v1") & (table["dataset"] == "tf_flowers")]
    return rows.assign(color_mode=rows["channels"].map(COLOR_MODES)).reset_index(drop=True)


def footprint_configurations() -> list[tuple[float, int, str, int]]:
    """Returns (alpha, image_size, color_mode, n_classes) of the models on flowers whose costs are published."""
    table = flowers(footprint_bytes())
    return list(zip(table["alpha"], table["image_size"], table["color_mode"], table["n_classes"], strict=True))


def accuracies(edition: str = NEWEST_EDITION) -> pd.DataFrame:
    """Returns the top-1 accuracies of MobileNet v1 as fractions, the first edition and another side by side.

    Returns:
        One row for each model and variant: `dataset`, `n_classes`, `alpha`, `image_size`, `color_mode`, `variant`
        ("float32", or "int8_per_channel": how the published int8 models are quantized), `published` (the first
        edition) and `published_edition` (what holds in `edition`).
    """
    pages = {"published": FIRST_EDITION, "published_edition": edition}
    first, other = (_accuracies(name).rename(column) for column, name in pages.items())
    return pd.concat([other, first], axis=1)[list(pages)].reset_index()


def _accuracies(edition: str) -> pd.Series:
    """Returns what holds in an edition: of the newest one that has a model, the training with the best float32."""
    table = up_to(_read("accuracy"), edition).replace({"dataset": {"plant_village": PLANT_VILLAGE_39}})
    of_page = (table["network"] == "mobilenet_v1") & ~table["note"].str.startswith("index page")
    table = table[of_page & table["dataset"].isin(["tf_flowers", "food101", PLANT_VILLAGE_39])].copy()
    variants = {"float": "float32", "int8": "int8_per_channel"}
    table["color_mode"] = table["channels"].map(COLOR_MODES)
    table["order"] = table["edition"].map(list(EDITIONS).index)
    keys = [*_ACCURACY_KEYS, "order", "training"]
    pairs = table.pivot_table("top1_percent", keys, "variant", sort=False)[list(variants)].dropna().reset_index()
    best = pairs.sort_values(["order", "float"], kind="stable").drop_duplicates(_ACCURACY_KEYS, keep="last")
    long = best.sort_index().rename(columns=variants).set_index(_ACCURACY_KEYS)[list(variants.values())]
    return (long.stack() / 100).rename_axis([*_ACCURACY_KEYS, "variant"])
