"""Quantization-aware training: a float model that rounds its weights and activations as its conversion does.

Jacob et al. 2018, arXiv:1712.05877, section 3.
"""

from collections.abc import Collection
from typing import Any, Self

import numpy as np

from mbutils.backend import keras, tf
from mbutils.errors import WorkbookError
from mbutils.model.divergence import StopOnDivergence
from mbutils.progress import progress
from mbutils.quantization.folding import copied, is_pointwise
from mbutils.quantization.ranges import (
    ACTIVATION_STEPS,
    INPUT_SCALE,
    LARGEST_INT4_WEIGHT,
    LARGEST_WEIGHT,
    activation_ranges,
)

_LEAST_SCALE = 1e-12
_NEGLIGIBLE = 1e-4  # part of the largest weight of a kernel; with smaller scales, a bias may need more than 32 bits
_STEEPEST = 0.999  # steps of an output for one of an input times one of a weight; from 1 on, C code has a slower kernel
_INT4_RANGES = np.linspace(0.5, 1, 26, dtype=np.float32)  # parts of the largest weight of a channel


class ActivationRange(keras.layers.Layer):
    """Rounds activations to the 256 values of an int8 tensor; gradients pass where nothing is clipped.

    The converter takes the tensor's scale and zero point from this node.

    Args:
        low: The lowest value, 0 at most.
        high: The highest value.
        name: The name of the layer.
    """

    def __init__(self, low: float, high: float, name: str) -> None:
        super().__init__(name=name)
        self._low, self._high = low, high
        self.scale = (high - low) / ACTIVATION_STEPS

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of a layer like this one."""
        return {"low": self._low, "high": self._high, "name": self.name}

    def call(self, values: tf.Tensor) -> tf.Tensor:
        """Returns the rounded values, of any shape."""
        return tf.quantization.fake_quant_with_min_max_vars(values, self._low, self._high)


class FakeQuantized(keras.Model):
    """A folded model with weights and activations rounded to int8. Its own weights stay float and can be trained.

    The scales are those that the converter chooses: the largest absolute weight is 127, and the scale of a bias is that
    of its kernel times that of the input. Kernels with 4 bits have scales of their own: larger weights become -7 or 7.

    Args:
        network: A folded model with an `ActivationRange` wherever a tensor becomes int8; see `fake_quantize`.
        per_channel: Whether each output channel of a kernel has its own scale; otherwise each kernel has one.
        int4_scales: The scales of kernels with 4 bits by the name of their layer: shape (1, 1, 1, output channels).
    """

    def __init__(self, network: keras.Model, per_channel: bool, int4_scales: dict[str, np.ndarray]) -> None:
        super().__init__(name=network.name)
        self.per_channel = per_channel
        self.int4_scales = int4_scales
        self.network = network
        self.build((None, *network.input_shape[1:]))

    def copy(self) -> Self:
        """Returns the same model with weights of its own."""
        return type(self)(copied(self.network), self.per_channel, self.int4_scales)

    def call(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns the scores (batch, n_classes) of normalized images, float32 in [-1, 1]."""
        # The device computes with half a step more than the normalized value of a pixel.
        return self.scores(self.rounded_weights(), images + INPUT_SCALE / 2)

    def scores(self, weights: list[tf.Tensor], images: tf.Tensor) -> tf.Tensor:
        """Returns the scores of images as the device takes them, computed with the weights of the caller."""
        return self.network.stateless_call(weights, self.network.non_trainable_variables, images)[0]

    def rounded_weights(self) -> list[tf.Tensor]:
        """Returns the integers of kernels and biases times their scale, in the order of `trainable_variables`."""
        rounded = []
        for layer, input_scale, _ in _with_scales(self.network):
            scale = self.weight_scale(layer)
            bias_scale = input_scale * tf.reshape(scale, [-1])
            kernel = _rounded(layer.kernel, scale, self.largest_weight(layer))
            rounded += [kernel, _rounded(layer.bias, bias_scale, np.inf)]
        return rounded

    def largest_weight(self, layer: keras.Layer) -> int:
        """Returns the largest integer that a weight of a layer becomes: 127, or 7 with 4 bits."""
        return LARGEST_INT4_WEIGHT if layer.name in self.int4_scales else LARGEST_WEIGHT

    def weight_scale(self, layer: keras.Layer) -> tf.Tensor:
        """Returns the step of a kernel: a scale for each output channel, or one; broadcast over the kernel."""
        if layer.name in self.int4_scales:
            return tf.constant(self.int4_scales[layer.name])
        axes = _shared_axes(layer.kernel) if self.per_channel else None
        largest = tf.reduce_max(tf.abs(tf.convert_to_tensor(layer.kernel)), axes, keepdims=True)
        return tf.maximum(largest / LARGEST_WEIGHT, _LEAST_SCALE)


def fake_quantize(
    folded: keras.Model, calibration: np.ndarray, variant: str, int8_layers: Collection[str] = ()
) -> FakeQuantized:
    """Returns a model that rounds as the conversion of a folded model does.

    Args:
        folded: What `folding.fold` returned, equalized or not; its weights are copied.
        calibration: Training images that the ranges of the activations come from: uint8, shape (n, height, width,
            channels).
        variant: "int8_per_channel", "int8_per_tensor", or "int4_pointwise": as per channel, but with 4 bits for the
            weights of pointwise convolutions.
        int8_layers: Pointwise convolutions that keep 8 bits there.
    """
    network = _with_ranges(folded, activation_ranges(folded, calibration))
    scales = {}
    if variant == "int4_pointwise":
        for layer, input_scale, output_scale in _with_scales(network):
            if is_pointwise(layer) and layer.name not in int8_layers:
                scales[layer.name] = _int4_scale(layer.get_weights()[0], _STEEPEST * output_scale / input_scale)
    return FakeQuantized(network, variant != "int8_per_tensor", scales)


def _int4_scale(kernel: np.ndarray, most: float) -> np.ndarray:
    """Returns the scale of each output channel of a kernel with the smallest squared error of its rounded weights."""
    axes = tuple(range(kernel.ndim - 1))
    largest = np.abs(kernel).max(axes, keepdims=True)
    largest = np.maximum(largest, _NEGLIGIBLE * largest.max() or 1)
    scales = [np.minimum(largest * part / LARGEST_INT4_WEIGHT, most) for part in _INT4_RANGES]
    rounded = [np.clip(np.rint(kernel / scale), -LARGEST_INT4_WEIGHT, LARGEST_INT4_WEIGHT) * scale for scale in scales]
    errors = [((values - kernel) ** 2).sum(axes, keepdims=True) for values in rounded]
    return np.take_along_axis(np.stack(scales), np.argmin(errors, axis=0)[None], axis=0)[0]


def _rounded(variable: keras.Variable, scale: tf.Tensor, largest: float) -> tf.Tensor:
    """Returns multiples of the scale. Straight-through estimator: the gradient of the rounding is 1."""
    weights = tf.convert_to_tensor(variable)
    integers = tf.clip_by_value(tf.round(weights / scale), -largest, largest)
    return weights + tf.stop_gradient(integers * scale - weights)


def _shared_axes(variable: keras.Variable) -> tuple[int, ...]:
    """Returns the axes of a kernel that share the scale of an output channel."""
    is_depthwise = len(variable.shape) == 4 and variable.shape[-1] == 1
    return (0, 1, 3) if is_depthwise else tuple(range(len(variable.shape) - 1))


def _with_ranges(folded: keras.Model, ranges: dict[str, tuple[float, float]]) -> keras.Model:
    image = keras.Input(folded.input_shape[1:], name="image")
    x = ActivationRange(*ranges["image"], name="image_range")(image)
    for layer in folded.layers[1:]:
        copy = type(layer).from_config(layer.get_config())
        x = copy(x)
        copy.set_weights(layer.get_weights())
        if layer.name in ranges:
            x = ActivationRange(*ranges[layer.name], name=f"{layer.name}_range")(x)
    return keras.Model(image, x, name=folded.name)


def _with_scales(network: keras.Model) -> list[tuple[keras.Layer, float, float]]:
    """Returns the layers with a kernel, each with the scales of its input and its output."""
    ranges_or_kernels = [layer for layer in network.layers if isinstance(layer, ActivationRange) or layer.weights]
    found = zip(ranges_or_kernels, ranges_or_kernels[1:], ranges_or_kernels[2:], strict=False)
    return [(layer, before.scale, after.scale) for before, layer, after in found if layer.weights]


def soft_targets(network: keras.Model, batches: tf.data.Dataset) -> tf.data.Dataset:
    """Returns the same batches with a model's scores of the images as targets: float32 (batch, n_classes)."""
    return batches.map(lambda images, _: (images, network(images, training=False))).prefetch(tf.data.AUTOTUNE)


def fine_tune(model: FakeQuantized, batches: tf.data.Dataset, epochs: int, learning_rate: float) -> FakeQuantized:
    """Returns a copy that was trained with rounded weights and activations: Adam, half a cosine down to zero.

    Args:
        model: The fake-quantized model to start from.
        batches: The batches of all epochs: normalized images, float32 (batch, height, width, channels) in [-1, 1], and
            target scores, float32 (batch, n_classes): those of the float model, see `soft_targets`, or one-hot labels.
        epochs: The number of epochs.
        learning_rate: The learning rate of the first step.

    Returns:
        The trained model. `history.history["loss"]` has the mean loss of each epoch: the Kullback-Leibler divergence
        from the targets.

    Raises:
        WorkbookError: If the number of batches is not known, or the loss is no longer a number.
    """
    steps = int(batches.cardinality())
    if steps <= 0:
        raise WorkbookError("the number of batches is unknown: set it with tf.data.experimental.assert_cardinality")
    model = model.copy()
    schedule = keras.optimizers.schedules.CosineDecay(learning_rate, steps)
    # XLA is far slower for convolutions on a CPU.
    model.compile(keras.optimizers.Adam(schedule), keras.losses.KLDivergence(), jit_compile=False)
    with progress(epochs, "quantization-aware", "epoch") as bar:

        def show(epoch: int, logs: dict[str, float]) -> None:
            bar.set_postfix_str(f"loss {logs['loss']:.4f}")
            bar.update()

        shown = keras.callbacks.LambdaCallback(on_epoch_end=show)
        diverged = StopOnDivergence(f"lower qat_learning_rate ({learning_rate:g})")
        callbacks = [diverged, shown]
        model.fit(
            batches, epochs=epochs, steps_per_epoch=steps // epochs, callbacks=callbacks, verbose=0, shuffle=False
        )
    return model
