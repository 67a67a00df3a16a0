"""RAM and flash that later versions of STM32Cube.AI and ST Edge AI Core take: fits to what the editions published.

How 8.1 and later place buffers is not known. Their activation RAM is fitted as a part of that of 7.3.0 (the rules of
`mbutils.device.memory`), a part of the image, and a constant; code flash and runtime RAM as in
`mbutils.device.estimates`. Each range is the worst error on published networks that are left out of the fit, those of
MobileNet v1 for MobileNet v1.
"""

from functools import cache

import numpy as np
import pandas as pd

from mbutils.device import fits, published
from mbutils.device.estimates import Range, exactly
from mbutils.device.footprint import Footprint

_FEATURES = {
    "activation_ram_bytes": ("rules_bytes", "image_bytes", "one"),
    "runtime_ram_bytes": ("nodes", "convolutions", "one"),
    "code_flash_bytes": ("nodes", "conv_channels", "one"),
}
ESTIMATED = tuple(_FEATURES)


def footprint(model: Footprint, edition: str) -> dict[str, Range]:
    """Estimates RAM and flash by the columns of `results.csv`, for the tool of an edition after the first.

    From 8.1 on the tool leaves out channels whose filters are zero, so `model.alive` is what it sees.
    """
    model = model.alive or model
    found = {column: _estimate(model, column, edition) for column in ESTIMATED}
    activation, runtime, code = found.values()
    weights = exactly(model.weights_flash_bytes)
    return found | {
        "total_ram_bytes": activation.plus(runtime),
        "weights_flash_bytes": weights,
        "total_flash_bytes": code.plus(weights),
    }


def _estimate(model: Footprint, column: str, edition: str) -> Range:
    convolutions = [op for op in model.ops if op.is_convolution]
    counts = {
        "rules_bytes": model.activation_ram_bytes,
        "image_bytes": model.ops[0].inputs[0].size,
        "nodes": len(model.ops),
        "convolutions": len(convolutions),
        "conv_channels": sum(op.outputs[0].shape[3] for op in convolutions),
        "one": 1,
    }
    size = float(np.dot([counts[name] for name in _features(column, edition)], _coefficients(column, edition)))
    errors = leave_one_out(column, edition, only_mobilenet_v1=model.is_mobilenet_v1)["error"]
    factor = fits.error_factor(errors)
    return Range(round(size), round(size / factor), round(size * factor))


def _features(column: str, edition: str) -> tuple[str, ...]:
    # 8.1 needs what 7.3.0 does at 224 px, and more at 96 px: a part of the image and a constant only add to the error.
    return ("rules_bytes",) if (column, edition) == ("activation_ram_bytes", "2.0") else _FEATURES[column]


@cache
def _coefficients(column: str, edition: str) -> np.ndarray:
    return fits.coefficients(_rows(edition), _features(column, edition), column)


@cache
def _leave_one_out(column: str, edition: str) -> pd.DataFrame:
    return fits.leave_one_network_out(_rows(edition), _features(column, edition), column)


def leave_one_out(column: str, edition: str, only_mobilenet_v1: bool = False) -> pd.DataFrame:
    """Returns the published rows, each with what a fit to all other networks predicts.

    Args:
        column: One of `ESTIMATED`.
        edition: An edition after the first.
        only_mobilenet_v1: Whether to return its rows alone; the fit is to all.

    Returns:
        What holds in the edition, with the columns `estimated` and `error`, a fraction of the published value.
    """
    rows = _leave_one_out(column, edition)
    return rows[rows["network"] == "mobilenet_v1"].copy() if only_mobilenet_v1 else rows.copy()


def _rows(edition: str) -> pd.DataFrame:
    counts = published.networks().rename(columns={"activation_ram_bytes": "rules_bytes"})
    counts = counts.drop(columns="weights_flash_bytes")
    rows = published.footprint_bytes(edition).merge(counts, on=published.MODEL, how="left", validate="one_to_one")
    return rows.assign(image_bytes=rows["image_size"] ** 2 * rows["channels"], one=1)
