"""A float model that rounds its weights and activations as its int8 conversion does, and training with the rounding.

Jacob et al. 2018, arXiv:1712.05877, section 3.
"""

from mbutils.backend import keras, tf
from mbutils.errors import WorkbookError
from mbutils.progress import progress
from mbutils.quantization.ranges import INPUT_SCALE

_LARGEST = 127  # the int8 weights are -127..127
_STEPS = 255  # of an int8 activation, from its lowest to its highest value
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
        self.scale = (high - low) / _STEPS

    def call(self, values: tf.Tensor) -> tf.Tensor:
        """Returns the rounded values, of any shape."""
        return tf.quantization.fake_quant_with_min_max_vars(values, self._low, self._high)


class FakeQuantized(keras.Model):
    """A folded model with weights and activations rounded to int8; its own weights stay float and can be trained.

    Scales are those which the converter chooses: the largest absolute weight is 127, and a bias has the scale of its
    kernel times that of the input.

    Args:
        folded: What `folding.fold` returned; its weights are copied.
        ranges: What `ranges.activation_ranges` returned.
        per_channel: Whether each output channel of a kernel has a scale of its own, or each kernel one.
    """

    def __init__(self, folded: keras.Model, ranges: dict[str, tuple[float, float]], per_channel: bool) -> None:
        super().__init__(name=folded.name)
        self.per_channel = per_channel
        self.network = _with_ranges(folded, ranges)
        self.build((None, *folded.input_shape[1:]))

    def call(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns the scores (batch, n_classes) of normalized images, float32 in [-1, 1]."""
        # The device takes a pixel as half a step more than its normalized value.
        return self.scores(self.rounded_weights(), images + INPUT_SCALE / 2)

    def scores(self, weights: list[tf.Tensor], images: tf.Tensor) -> tf.Tensor:
        """Returns the scores of images as the device takes them, with weights in place of the model's own."""
        return self.network.stateless_call(weights, self.network.non_trainable_variables, images)[0]

    def rounded_weights(self) -> list[tf.Tensor]:
        """Returns kernels and biases as int8 gives them, in the order of `network.trainable_variables`."""
        rounded = []
        for layer, input_scale in _input_scales(self.network):
            scale = self._scale(layer.kernel)
            bias_scale = input_scale * tf.reshape(scale, [-1])
            rounded += [_rounded(layer.kernel, scale), _rounded(layer.bias, bias_scale)]
        return rounded

    def _scale(self, kernel: keras.Variable) -> tf.Tensor:
        axes = _shared_axes(kernel) if self.per_channel else None
        largest = tf.reduce_max(tf.abs(tf.convert_to_tensor(kernel)), axes, keepdims=True)
        return tf.maximum(largest / _LARGEST, _LEAST_SCALE)


def _rounded(variable: keras.Variable, scale: tf.Tensor) -> tf.Tensor:
    """Returns multiples of the scale. Straight through: rounding has the gradient 1."""
    weights = tf.convert_to_tensor(variable)
    return weights + tf.stop_gradient(tf.round(weights / scale) * scale - weights)


def _shared_axes(variable: keras.Variable) -> tuple[int, ...]:
    """Returns the axes of a kernel along which its output channels have one scale."""
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
    """Returns the layers that have a kernel, each with the scale of its input."""
    scales = []
    for layer in network.layers:
        if isinstance(layer, ActivationRange):
            scale = layer.scale
        elif layer.weights:
            scales.append((layer, scale))
    return scales


def with_scores_of(network: keras.Model, batches: tf.data.Dataset) -> tf.data.Dataset:
    """Returns batches whose targets are the scores that a model gives to the images: float32 (batch, n_classes)."""
    return batches.map(lambda images, _: (images, network(images, training=False))).prefetch(tf.data.AUTOTUNE)


def fine_tune(model: FakeQuantized, batches: tf.data.Dataset, epochs: int, learning_rate: float) -> list[float]:
    """Trains weights and biases with rounded weights and activations: Adam, half a cosine down to zero.

    Args:
        model: Changed in place.
        batches: Those of all epochs: normalized images, float32 (batch, height, width, channels) in [-1, 1], and target
            scores, float32 (batch, n_classes): those of the float model, see `with_scores_of`, or one-hot labels.
        epochs: The number of epochs.
        learning_rate: The learning rate of the first step.

    Returns:
        The mean loss of each epoch: the Kullback-Leibler divergence from the targets.

    Raises:
        WorkbookError: If the number of batches is not known.
    """
    steps = int(batches.cardinality())
    if steps <= 0:
        raise WorkbookError("the number of batches is unknown: give batches a cardinality (assert_cardinality)")
    schedule = keras.optimizers.schedules.CosineDecay(learning_rate, steps)
    # XLA is far slower for convolutions on a CPU.
    model.compile(keras.optimizers.Adam(schedule), keras.losses.KLDivergence(), jit_compile=False)
    with progress(epochs, "quantization-aware", "epoch") as bar:

        def show(epoch: int, logs: dict[str, float]) -> None:
            bar.set_postfix_str(f"loss {logs['loss']:.4f}")
            bar.update()

        shown = keras.callbacks.LambdaCallback(on_epoch_end=show)
        history = model.fit(
            batches, epochs=epochs, steps_per_epoch=steps // epochs, callbacks=[shown], verbose=0, shuffle=False
        )
    return history.history["loss"]
