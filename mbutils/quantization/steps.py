"""The steps between a trained float model and its int8 conversion.

`convert.ipynb` calls them one by one: `fold`, `equalize`, `correct_biases`, `fine_tune`.
"""

import numpy as np
import pandas as pd

from mbutils.backend import keras
from mbutils.config import ConvertParameters
from mbutils.evaluation import accuracy_table
from mbutils.quantization.aware import FakeQuantized, fake_quantize
from mbutils.quantization.bias import correct_biases
from mbutils.quantization.equalization import equalize
from mbutils.quantization.folding import fold


def prepare(
    network: keras.Model, calibration: np.ndarray, parameters: ConvertParameters
) -> tuple[keras.Model, FakeQuantized]:
    """Takes the steps before fine-tuning that the parameters switch on.

    Args:
        network: The trained float model.
        calibration: Training images: uint8, shape (n, height, width, channels).
        parameters: The variant and the switches of the steps.

    Returns:
        The folded float model, its channels scaled as in the int8 model; and the fake-quantized model, which
        `fine_tune` trains and `to_int8_with_ranges` converts.
    """
    folded = fold(network)
    if parameters.equalize:
        folded = equalize(folded, calibration, parameters.variant)
    model = fake_quantize(folded, calibration, parameters.variant, parameters.kept_at_int8)
    if parameters.bias_correction:
        model = correct_biases(model, folded, calibration)
    return folded, model


def accuracy_by_step(labels: np.ndarray, scores: dict[str, np.ndarray], parameters: ConvertParameters) -> pd.DataFrame:
    """Returns the accuracy after each step, and how it compares with that of the float model.

    Args:
        labels: The true classes: int64, shape (n,).
        scores: The scores after each step, shape (n, n_classes), by its name; "float32" is among them.
        parameters: The switches of the steps.

    Returns:
        One row for each step: `step`, `top1`, `top1_low`, `top1_high`, against float32 `drop_from_float` and
        `agreement_with_float` (blank for float32 itself), and `note` ("skipped" where the parameters switch it off).
    """
    skipped = {
        "equalize": not parameters.equalize,
        "correct biases": not parameters.bias_correction,
        "fine-tune": not parameters.qat_epochs,
    }
    table = accuracy_table(labels, scores).rename(columns={"variant": "step"})
    table["note"] = ["skipped" if skipped.get(step) else "" for step in table["step"]]
    return table[["step", "top1", "top1_low", "top1_high", "drop_from_float", "agreement_with_float", "note"]]
