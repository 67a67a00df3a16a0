"""The ranges of the activations of a folded model on calibration images, and the steps of int8."""

import numpy as np

from mbutils.backend import keras
from mbutils.config import HALF_RANGE, normalize
from mbutils.quantization.folding import kernel_layers

LARGEST_WEIGHT = 127  # int8 weights are -127..127, so that 0 is in the middle
LARGEST_INT4_WEIGHT = 7
ACTIVATION_STEPS = 255  # from the lowest to the highest value of an int8 or uint8 tensor
INPUT_SCALE = 1 / HALF_RANGE
# The device computes with (pixel - 127) / 127.5, half a step more than `normalize` does.
_INPUT_ZERO_POINT = 127
_SMALLEST_RANGE = 1e-3
_BATCH = 64


def highest_activations(folded: keras.Model, calibration: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the largest activation of each channel of each convolution, after its ReLU6.

    Args:
        folded: What `folding.fold` returned.
        calibration: Training images: uint8, shape (n, height, width, channels).

    Returns:
        By the name of the convolution: shape (channels,), 0..6.
    """
    names = [layer.name for layer in kernel_layers(folded)[:-1]]
    outputs = [keras.ops.max(folded.get_layer(f"{name}_relu").output, axis=(1, 2)) for name in names]
    return {name: values.max(axis=0) for name, values in zip(names, _on(folded, outputs, calibration), strict=True)}


def activation_ranges(folded: keras.Model, calibration: np.ndarray) -> dict[str, tuple[float, float]]:
    """Returns the ranges of the tensors that become int8: the lowest (0 at most) and the highest value of each.

    Args:
        folded: What `folding.fold` returned.
        calibration: Training images: uint8, shape (n, height, width, channels).

    Returns:
        By layer name: "image", whose range is that of all pixels, each ReLU6, "pool" and "classifier".
    """
    names = [layer.name for layer in folded.layers if isinstance(layer, keras.layers.ReLU)] + ["pool", "classifier"]
    flat = [keras.layers.Flatten()(folded.get_layer(name).output) for name in names]
    extremes = [keras.ops.stack([keras.ops.min(x, axis=1), keras.ops.max(x, axis=1)], axis=1) for x in flat]
    ranges = {"image": (-_INPUT_ZERO_POINT * INPUT_SCALE, (ACTIVATION_STEPS - _INPUT_ZERO_POINT) * INPUT_SCALE)}
    for name, values in zip(names, _on(folded, extremes, calibration), strict=True):
        low, high = min(0.0, float(values[:, 0].min())), float(values[:, 1].max())
        ranges[name] = low, max(high, low + _SMALLEST_RANGE)
    return ranges


def _on(folded: keras.Model, outputs: list[keras.KerasTensor], calibration: np.ndarray) -> list[np.ndarray]:
    """Returns the values of tensors of a model on calibration images, each of shape (n, ...)."""
    tap = keras.Model(folded.input, outputs)
    starts = range(0, len(calibration), _BATCH)
    batches = [tap.predict_on_batch(normalize(calibration[start : start + _BATCH])) for start in starts]
    return [np.concatenate(values) for values in zip(*batches, strict=True)]


def evenly_spaced(values: np.ndarray, count: int) -> np.ndarray:
    """Returns `count` of the values, from the first to the last, evenly spaced; all, if there are fewer."""
    return values[np.linspace(0, len(values) - 1, min(count, len(values))).astype(int)]
