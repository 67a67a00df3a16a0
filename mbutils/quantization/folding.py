"""Batch normalization folded into the convolutions, and the channels of the folded model.

Jacob et al. 2018, arXiv:1712.05877, section 3.2. The converter folds the same way. Folding before it shows the weights
that become int8, and lets them be scaled and trained.
"""

import itertools

import numpy as np

from mbutils.backend import keras
from mbutils.errors import WorkbookError

_CONVOLUTIONS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)
_TRAINING_ONLY = (keras.layers.BatchNormalization, keras.layers.Dropout)


def fold(network: keras.Model) -> keras.Model:
    """Returns the model without batch normalization and dropout: convolutions with a bias, ReLU6, classifier.

    Args:
        network: A MobileNet made by `mobilenet.build`: a chain of layers.

    Returns:
        A new model with the same layer names and scores. Its classifier returns logits, its layer "softmax" the scores.

    Raises:
        WorkbookError: If it is not a chain of layers, or a convolution is not followed by batch normalization.
    """
    if any(isinstance(layer.input, list) for layer in network.layers[1:]):
        raise WorkbookError(
            f"network {network.name} is not a chain of layers: it can teach a MobileNet v1, convert that"
        )
    image = x = keras.Input(network.input_shape[1:], name="image")
    weights = {}
    for layer, following in itertools.pairwise([*network.layers[1:], None]):
        if isinstance(layer, _CONVOLUTIONS):
            x = _copy(layer, use_bias=True)(x)
            weights[layer.name] = _folded_weights(layer, following)
        elif isinstance(layer, keras.layers.Dense):
            x = _copy(layer, activation="linear")(x)
            weights[layer.name] = layer.get_weights()
        elif not isinstance(layer, _TRAINING_ONLY):
            x = _copy(layer)(x)
    folded = keras.Model(image, keras.layers.Softmax(name="softmax")(x), name=network.name)
    for name, values in weights.items():
        folded.get_layer(name).set_weights(values)
    return folded


def _copy(layer: keras.Layer, **changes: bool | str) -> keras.Layer:
    return type(layer).from_config({**layer.get_config(), **changes})


def _folded_weights(layer: keras.Layer, following: keras.Layer | None) -> list[np.ndarray]:
    if not isinstance(following, keras.layers.BatchNormalization):
        raise WorkbookError(
            f"layer {layer.name} is not followed by batch normalization: give a model that this workbook trained"
        )
    gamma, beta, mean, variance = following.get_weights()
    scale = gamma / np.sqrt(variance + following.epsilon)
    kernel = layer.get_weights()[0]
    return [scaled_outputs(layer, kernel, scale), beta - mean * scale]


def copied(model: keras.Model) -> keras.Model:
    """Returns a model with layers and weights of its own."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy


def kernel_layers(folded: keras.Model) -> list[keras.Layer]:
    """Returns the convolutions and the classifier, from input to output."""
    return [layer for layer in folded.layers if isinstance(layer, (*_CONVOLUTIONS, keras.layers.Dense))]


def scaled_outputs(layer: keras.Layer, kernel: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Returns the kernel of a layer with each output channel multiplied by its factor, shape (channels,)."""
    return kernel * (factors[:, None] if is_depthwise(layer) else factors)


def scaled_inputs(kernel: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Returns a kernel with each input channel, its last axis but one, multiplied by its factor, shape (channels,)."""
    return kernel * factors[:, None]


def output_ranges(layer: keras.Layer, kernel: np.ndarray) -> np.ndarray:
    """Returns the largest absolute weight of each output channel: shape (channels,)."""
    return _largest(kernel, kernel.ndim - 2 if is_depthwise(layer) else kernel.ndim - 1)


def input_ranges(kernel: np.ndarray) -> np.ndarray:
    """Returns the largest absolute weight of each input channel: shape (channels,)."""
    return _largest(kernel, kernel.ndim - 2)


def _largest(kernel: np.ndarray, axis: int) -> np.ndarray:
    return np.abs(kernel).max(axis=tuple(other for other in range(kernel.ndim) if other != axis))


def is_depthwise(layer: keras.Layer) -> bool:
    """Returns whether the kernel of a layer has the shape (height, width, channels, 1)."""
    return isinstance(layer, keras.layers.DepthwiseConv2D)


def is_pointwise(layer: keras.Layer) -> bool:
    """Returns whether a layer is a convolution of 1 x 1."""
    return isinstance(layer, keras.layers.Conv2D) and layer.kernel_size == (1, 1)
