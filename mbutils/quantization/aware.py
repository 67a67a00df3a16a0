"""Quantization-aware training: a float model that rounds its weights and activations as its int8 conversion does.

Jacob et al. 2018, arXiv:1712.05877, section 3.
"""

from typing import Any, Self

import numpy as np

from mbutils.backend import keras, tf
from mbutils.errors import WorkbookError
from mbutils.model.divergence import StopOnDivergence
from mbutils.progress import progress
from mbutils.quantization.folding import copied
from mbutils.quantization.ranges import ACTIVATION_STEPS, INPUT_SCALE, LARGEST_WEIGHT, activation_ranges

_LEAST_SCALE = 1e-12


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
    of its kernel times that of the input.

    Args:
        network: A folded model with an `ActivationRange` wherever a tensor becomes int8; see `fake_quantize`.
        per_channel: Whether each output channel of a kernel has its own scale; otherwise each kernel has one.
    """

    def __init__(self, network: keras.Model, per_channel: bool) -> None:
        super().__init__(name=network.name)
        self.per_channel = per_channel
        self.network = network
        self.build((None, *network.input_shape[1:]))

    def copy(self) -> Self:
        """Returns the same model with weights of its own."""
        return type(self)(copied(self.network), self.per_channel)

    def call(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns the scores (batch, n_classes) of normalized images, float32 in [-1, 1]."""
        # The device computes with half a step more than the normalized value of a pixel.
        return self.scores(self.rounded_weights(), images + INPUT_SCALE / 2)

    def scores(self, weights: list[tf.Tensor], images: tf.Tensor) -> tf.Tensor:
        """Returns the scores of images as the device takes them, computed with the weights of the caller."""
        return self.network.stateless_call(weights, self.network.non_trainable_variables, images)[0]

    def rounded_weights(self) -> list[tf.Tensor]:
        """Returns the int8 values of kernels and biases times their scale, in the order of `trainable_variables`."""
        rounded = []
        for layer, input_scale in _input_scales(self.network):
            scale = self.weight_scale(layer.kernel)
            bias_scale = input_scale * tf.reshape(scale, [-1])
            rounded += [_rounded(layer.kernel, scale), _rounded(layer.bias, bias_scale)]
        return rounded

    def weight_scale(self, kernel: keras.Variable) -> tf.Tensor:
        """Returns the step of int8 for a kernel: a scale for each output channel, or one; broadcast over the kernel."""
        axes = _shared_axes(kernel) if self.per_channel else None
        largest = tf.reduce_max(tf.abs(tf.convert_to_tensor(kernel)), axes, keepdims=True)
        return tf.maximum(largest / LARGEST_WEIGHT, _LEAST_SCALE)


def fake_quantize(folded: keras.Model, calibration: np.ndarray, variant: str) -> FakeQuantized:
    """Returns a model that rounds as the int8 conversion of a folded model does.

    Args:
        folded: What `folding.fold` returned, equalized or not; its weights are copied.
        calibration: Training images that the ranges of the activations come from: uint8, shape (n, height, width,
            channels).
        variant: "int8_per_channel" or "int8_per_tensor".
    """
    network = _with_ranges(folded, activation_ranges(folded, calibration))
    return FakeQuantized(network, variant == "int8_per_channel")


def _rounded(variable: keras.Variable, scale: tf.Tensor) -> tf.Tensor:
    """Returns multiples of the scale. Straight-through estimator: the gradient of the rounding is 1."""
    weights = tf.convert_to_tensor(variable)
    return weights + tf.stop_gradient(tf.round(weights / scale) * scale - weights)


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


def _input_scales(network: keras.Model) -> list[tuple[keras.Layer, float]]:
    """Returns the layers with a kernel, each with the scale of its input."""
    scales = []
    for layer in network.layers:
        if isinstance(layer, ActivationRange):
            scale = layer.scale
        elif layer.weights:
            scales.append((layer, scale))
    return scales


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
