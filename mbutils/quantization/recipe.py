"""How an int8 model is made: the steps between the trained float model and its conversion."""

import numpy as np

from mbutils.backend import keras, tf
from mbutils.config import ConvertParameters
from mbutils.quantization.aware import FakeQuantized, fine_tune, with_scores_of
from mbutils.quantization.bias import correct_biases
from mbutils.quantization.equalization import equalize, soften_outliers
from mbutils.quantization.folding import fold
from mbutils.quantization.ranges import activation_ranges


def prepare(
    network: keras.Model, calibration: np.ndarray, parameters: ConvertParameters, batches: tf.data.Dataset | None = None
) -> tuple[keras.Model, FakeQuantized]:
    """Prepares a trained model for int8: folds, equalizes, corrects biases, fine-tunes, as the parameters say.

    Args:
        network: The trained float model.
        calibration: Training images: uint8, shape (n, height, width, channels).
        parameters: The variant and the steps.
        batches: Training images of all `qat_epochs`, as `fine_tune` takes them; the scores of the float model replace
            their targets. Needed for `qat_epochs` above 0.

    Returns:
        The folded float model, channels scaled as in the int8 model, to compare that with; and the fake-quantized
        model, which `to_int8_with_ranges` converts.
    """
    folded = fold(network)
    per_channel = parameters.variant == "int8_per_channel"
    if parameters.equalize:
        equalize(folded, calibration)
        if not per_channel:
            soften_outliers(folded, calibration)
    model = FakeQuantized(folded, activation_ranges(folded, calibration), per_channel)
    if parameters.bias_correction:
        correct_biases(model, folded, calibration)
    if parameters.qat_epochs:
        targets = with_scores_of(fold(network), batches)
        fine_tune(model, targets, parameters.qat_epochs, parameters.qat_learning_rate)
    return folded, model
