"""Bias correction: the mean error that rounding causes in each channel is taken out of its bias.

Nagel et al. 2019, arXiv:1906.04721, section 4.2; here measured on calibration images (their appendix D).
"""

import numpy as np

from mbutils.backend import keras, tf
from mbutils.config import normalize
from mbutils.quantization.aware import FakeQuantized
from mbutils.quantization.ranges import INPUT_SCALE, evenly_spaced

_IMAGES = 64


def correct_biases(model: FakeQuantized, folded: keras.Model, calibration: np.ndarray) -> FakeQuantized:
    """Returns a copy in which each channel has the mean that it has in the float model, layer by layer.

    Args:
        model: The fake-quantized model.
        folded: The float model that it was made from.
        calibration: Training images: uint8, shape (n, height, width, channels); at most 64 are used.
    """
    model = model.copy()
    wanted = tf.constant(normalize(evenly_spaced(calibration, _IMAGES)))
    x = wanted + INPUT_SCALE / 2
    rounded = dict(zip((v.path for v in model.network.trainable_variables), model.rounded_weights(), strict=True))
    for layer in model.network.layers[1:]:
        if not layer.weights:
            x = layer(x)
            wanted = wanted if layer.name.endswith("_range") else folded.get_layer(layer.name)(wanted)
            continue
        x = layer.stateless_call([rounded[layer.kernel.path], layer.bias], [], x)[0]
        wanted = folded.get_layer(layer.name)(wanted)
        error = tf.reduce_mean(wanted - x, axis=range(len(x.shape) - 1))
        layer.bias.assign_add(error)
        x += error
    return model
