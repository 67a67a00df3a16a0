"""Cross-layer equalization: weights of similar size in every channel, so that one scale serves a whole kernel.

Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", arXiv:1906.04721,
section 4.1. The paper equalizes models with ReLU; with ReLU6, only channels that stay below 6 can be scaled.
"""

import itertools

import numpy as np

from mbutils.backend import keras, tf
from mbutils.config import normalize
from mbutils.quantization.folding import (
    copied,
    input_ranges,
    kernel_layers,
    output_ranges,
    scaled_inputs,
    scaled_outputs,
)
from mbutils.quantization.ranges import LARGEST_WEIGHT, evenly_spaced, highest_activations

_CLIP = 6.0
_HEADROOM = 1.1  # how far other images may exceed the calibration images
_LEAST_ACTIVATION = 0.1  # assumed for a channel that no image activates, which bounds its scale and bias
_SWEEPS = 20
_LIMITS = 2.0 ** -np.arange(0, 4, 0.5)  # fractions of the largest weight
_IMAGES = 32


def equalize(folded: keras.Model, calibration: np.ndarray, variant: str) -> keras.Model:
    """Returns a copy with weights of similar size in all channels, and almost the same scores.

    Args:
        folded: What `folding.fold` returned.
        calibration: Training images: uint8, shape (n, height, width, channels).
        variant: Of the conversion; for "int8_per_tensor" outliers are softened as well.
    """
    equalized = _equalized(folded, calibration)
    return soften_outliers(equalized, calibration) if variant == "int8_per_tensor" else equalized


def _equalized(folded: keras.Model, calibration: np.ndarray) -> keras.Model:
    """Returns a copy in which the channels between two layers are scaled to the same weight range in both.

    A channel that comes near 6 on a calibration image is left as it is, and the others stay below 6, so the scores of
    calibration images do not change. A channel that is never active is scaled too: after folding, its weights are often
    the largest.
    """
    layers = kernel_layers(folded)
    weights = {layer.name: layer.get_weights() for layer in layers}
    highest = highest_activations(folded, calibration)
    room = {name: _CLIP / (_HEADROOM * np.maximum(values, _LEAST_ACTIVATION)) for name, values in highest.items()}
    free = {name: values > 1 for name, values in room.items()}
    for _ in range(_SWEEPS):
        for first, second in itertools.pairwise(layers):
            outgoing, incoming = output_ranges(first, weights[first.name][0]), input_ranges(weights[second.name][0])
            scalable = free[first.name] & (outgoing > 0) & (incoming > 0)
            wanted = np.sqrt(incoming / np.where(scalable, outgoing, 1))
            scale = np.where(scalable, np.minimum(wanted, room[first.name]), 1.0)
            room[first.name] = room[first.name] / scale
            _scale_channels(weights, first, second, scale, 1 / scale)
    return _with_weights(folded, weights)


def soften_outliers(folded: keras.Model, calibration: np.ndarray) -> keras.Model:
    """Returns a copy in which channels with far larger weights than the rest of their kernel are scaled down.

    With one scale for a kernel, such a channel makes the steps coarse for all others. It reaches 6, so equalization
    cannot scale it: it is a steep threshold. A less steep one, to which the next layer's weights are fitted by least
    squares, costs less accuracy than coarse steps. Several limits to the weights are tried for each kernel. The one
    with the smallest squared error of the outputs is taken, where the next layer's weights for a channel are its
    importance.

    Args:
        folded: What `folding.fold` returned, equalized or not.
        calibration: Training images: uint8, shape (n, height, width, channels).
    """
    weights = {layer.name: layer.get_weights() for layer in kernel_layers(folded)}
    inputs = reference = tf.constant(normalize(evenly_spaced(calibration, _IMAGES)))
    for first, second in itertools.pairwise(kernel_layers(folded)):
        reference = tf.nn.relu6(first(reference))
        factors, gains = _softest(first, weights, input_ranges(weights[second.name][0]), inputs, reference)
        _scale_channels(weights, first, second, factors, gains)
        inputs = tf.nn.relu6(_outputs(first, *weights[first.name], inputs))
    return _with_weights(folded, weights)


def _softest(
    layer: keras.Layer,
    weights: dict[str, list[np.ndarray]],
    importance: np.ndarray,
    inputs: tf.Tensor,
    reference: tf.Tensor,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the factors of the output channels of a layer, and those of the next layer's weights for them."""
    kernel, bias = weights[layer.name]
    ranges = output_ranges(layer, kernel)
    found = []
    for limit in ranges.max() * _LIMITS:
        factors = np.where(ranges > limit, limit / np.where(ranges > 0, ranges, 1), 1.0)
        outputs = _outputs_of_int8(layer, scaled_outputs(layer, kernel, factors), bias * factors, inputs)
        power = np.sum(outputs**2, axis=(0, 1, 2))
        fitted = np.sum(outputs * reference, axis=(0, 1, 2)) / np.where(power > 0, power, 1)
        gains = np.where((factors < 1) & (power > 0), fitted, 1.0)
        errors = np.sum((gains * outputs - reference) ** 2, axis=(0, 1, 2))
        found.append((np.sum(importance**2 * errors), factors, gains))
    _, factors, gains = min(found, key=lambda entry: entry[0])
    return factors, gains


def _outputs_of_int8(layer: keras.Layer, kernel: np.ndarray, bias: np.ndarray, inputs: tf.Tensor) -> np.ndarray:
    """Returns the outputs after ReLU6 with an int8 kernel of one scale, less the mean error of its rounding."""
    step = max(np.abs(kernel).max() / LARGEST_WEIGHT, np.finfo(np.float32).tiny)
    rounding = np.rint(kernel / step) * step - kernel
    # A convolution is linear: the mean output is that of the mean input.
    mean = tf.reduce_mean(inputs, axis=0, keepdims=True)
    shift = tf.reduce_mean(_outputs(layer, rounding, np.zeros_like(bias), mean), axis=(0, 1, 2))
    return tf.nn.relu6(_outputs(layer, kernel + rounding, bias - shift, inputs)).numpy()


def _outputs(layer: keras.Layer, kernel: np.ndarray, bias: np.ndarray, inputs: tf.Tensor) -> tf.Tensor:
    return layer.stateless_call([kernel, bias], [], inputs)[0]


def _scale_channels(
    weights: dict[str, list[np.ndarray]], first: keras.Layer, second: keras.Layer, by: np.ndarray, following: np.ndarray
) -> None:
    """Scales the output channels of a layer, and the input channels of the next one."""
    kernel, bias = weights[first.name]
    weights[first.name] = [scaled_outputs(first, kernel, by), bias * by]
    kernel, bias = weights[second.name]
    weights[second.name] = [scaled_inputs(kernel, following), bias]


def _with_weights(folded: keras.Model, weights: dict[str, list[np.ndarray]]) -> keras.Model:
    copy = copied(folded)
    for name, values in weights.items():
        copy.get_layer(name).set_weights(values)
    return copy
