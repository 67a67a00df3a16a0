"""What every model of a space costs on the device, before any is trained."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pandas as pd

from mbutils.columns import by_name
from mbutils.config import ModelParameters, SearchParameters
from mbutils.errors import WorkbookError
from mbutils.progress import progress
from mbutils.report import before_training, selection
from mbutils.sweep.configurations import Configuration


def costs(models: Sequence[Configuration], parameters: SearchParameters) -> pd.DataFrame:
    """Returns what each model costs, as C code and with STM32Cube.AI: from the cache, or in about 10 seconds each.

    Args:
        models: The models.
        parameters: The limits. The C code has the fewest layers in step (streamed) that fit the RAM.

    Returns:
        A row for each model, in their order: `run_id`, `variant`, `alpha`, `image_size`, `color_mode`, `n_classes`,
        `streamed_layers`, the costs by the columns of `results.csv`, and `fits`, whether the C code fits every limit.

    Raises:
        WorkbookError: If the cache folder cannot be written.
    """
    from mbutils.deploy import beforehand  # and with it TensorFlow

    ram = parameters.limits.get("measured_ram_bytes", float("inf"))
    rows, sizes = [], []
    with progress(len(models), "costs of untrained models", "model") as bar, ThreadPoolExecutor(os.cpu_count()) as pool:
        for model in models:
            trained, variant = model.parameters("train"), model.parameters("convert").variant
            untrained = ModelParameters(trained.alpha, trained.image_size, trained.color_mode, model.n_classes)
            rows.append({"run_id": model.run_id, "variant": variant, **before_training.row(untrained)})
            tflite = before_training.tflite(untrained, variant)
            sizes.append(pool.submit(beforehand.sizes, tflite, trained.preprocessing, ram))
            bar.update()
        table = pd.DataFrame([row | size.result() for row, size in zip(rows, sizes, strict=True)])
    return table.assign(fits=selection.fits(table, parameters))


def refuse_unfitting(table: pd.DataFrame, parameters: SearchParameters) -> None:
    """Refuses limits that no model fits.

    Raises:
        WorkbookError: With what the nearest one needs.
    """
    if table["fits"].any():
        return
    nearest = table.loc[selection.ratios(table, parameters).max(axis=1).idxmin()]
    needed = ", ".join(f"{by_name[name].label} {by_name[name].with_unit(nearest[name])}" for name in parameters.limits)
    raise WorkbookError(
        f"none of the {len(table)} models fits: the nearest, alpha {nearest.alpha:g}, {nearest.image_size} px, "
        f"{nearest.color_mode}, needs {needed}: raise the limits, or give a space of smaller models"
    )
