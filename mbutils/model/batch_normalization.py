"""Batch normalization for training on a CPU, and its exchange for Keras' own.

Keras 3 composes batch normalization of many small ops, which take most of a training step on a CPU. The layers here use
TensorFlow's fused kernel. Their weights, names and results are those of `keras.layers.BatchNormalization`.
"""

from collections.abc import Callable, Iterable

from mbutils.backend import keras, tf


@keras.saving.register_keras_serializable("mbutils")
class FusedBatchNormalization(keras.layers.BatchNormalization):
    """Batch normalization over the channels of NHWC feature maps. At inference this layer calls Keras' own."""

    def call(self, inputs: tf.Tensor, training: bool | None = None, mask: tf.Tensor | None = None) -> tf.Tensor:
        """Normalizes a batch (batch, height, width, channels), in training by its own mean and variance."""
        if not (training and self.trainable):
            return super().call(inputs, training=training, mask=mask)
        outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            inputs, self.gamma, self.beta, epsilon=self.epsilon, is_training=True
        )
        # The kernel returns the unbiased variance; Keras keeps the biased one.
        count = tf.cast(tf.size(inputs) / tf.shape(inputs)[-1], variance.dtype)
        self._move(self.moving_mean, mean)
        self._move(self.moving_variance, variance * (count - 1) / count)
        return outputs

    def _move(self, average: keras.Variable, value: tf.Tensor) -> None:
        average.assign(average * self.momentum + value * (1 - self.momentum))


@keras.saving.register_keras_serializable("mbutils")
class FrozenBatchNormalization(keras.layers.BatchNormalization):
    """Batch normalization by its moving statistics in training too. They do not move; scale and offset are trained.

    The moving statistics of a few small batches are worse than those of the start weights.
    """

    def call(self, inputs: tf.Tensor, training: bool | None = None, mask: tf.Tensor | None = None) -> tf.Tensor:
        """Normalizes a batch (batch, height, width, channels)."""
        if not training:
            return super().call(inputs, training=False, mask=mask)
        # Keras composes its own of many small ops, and their gradients.
        statistics = {"mean": self.moving_mean, "variance": self.moving_variance}
        outputs, _, _ = tf.compat.v1.nn.fused_batch_norm(
            inputs, self.gamma, self.beta, **statistics, epsilon=self.epsilon, is_training=False
        )
        return outputs


def trainable_copy(model: keras.Model, momentum: float, frozen_statistics: bool) -> keras.Model:
    """Returns a copy whose batch normalization is that of this module.

    Args:
        model: The model; float16 weights become float32.
        momentum: The fraction that the moving mean and variance keep at each training step, 0..1.
        frozen_statistics: Whether they stay as they are.
    """
    kind = FrozenBatchNormalization if frozen_statistics else FusedBatchNormalization

    def changed(layer: keras.Layer) -> keras.Layer:
        config = layer.get_config()
        if isinstance(layer, keras.Layer):  # and not an operation such as a division
            config["dtype"] = "float32"
        if not isinstance(layer, keras.layers.BatchNormalization):
            return type(layer).from_config(config)
        return kind.from_config(config | {"momentum": momentum})

    return _copy(model, changed)


def settle(network: keras.Model, batches: Iterable[tf.Tensor]) -> None:
    """Replaces the moving statistics by the mean of those of some batches, all by the present weights.

    "PreciseBN" of Wu and Johnson 2021, arXiv:2105.07576. Statistics that are frozen stay.

    Args:
        network: A copy that `trainable_copy` made.
        batches: Normalized images: float32, shape (batch, height, width, channels).
    """
    layers = [layer for layer in network.layers if isinstance(layer, FusedBatchNormalization)]
    momenta = [layer.momentum for layer in layers]
    for number, batch in enumerate(batches):
        for layer in layers:
            layer.momentum = number / (number + 1)
        network(batch, training=True)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum


def with_keras_layers(model: keras.Model) -> keras.Model:
    """Returns a copy with only Keras' own layers, so that its file opens without this package."""

    def plain(layer: keras.Layer) -> keras.Layer:
        kind = keras.layers.BatchNormalization if isinstance(layer, keras.layers.BatchNormalization) else type(layer)
        return kind.from_config(layer.get_config())

    return _copy(model, plain)


def _copy(model: keras.Model, changed: Callable[[keras.Layer], keras.Layer]) -> keras.Model:
    copy = keras.models.clone_model(model, clone_function=changed)
    copy.set_weights(model.get_weights())
    # Built from input and output: a clone would carry the optimizer, twice the size of the model, into the file.
    return keras.Model(copy.input, copy.output, name=model.name)
