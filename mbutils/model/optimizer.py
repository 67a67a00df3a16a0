"""AdamW with one kernel for each update of a weight.

Keras 3 composes each update of a dozen small ops. For a model with many small weights such as MobileNet v1, they take a
noticeable part of a training step on a CPU.
"""

from collections.abc import Sequence

from mbutils.backend import keras, tf

NOT_DECAYED = ("gamma", "beta", "bias")


class FusedAdamW(keras.optimizers.AdamW):
    """Keras' AdamW with TensorFlow's fused Adam kernel, without decay of `NOT_DECAYED` weights.

    Loshchilov and Hutter 2019, arXiv:1711.05101. Updates are those of `keras.optimizers.AdamW` with the same weights
    excluded from the decay.
    """

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Creates the moments of the weights, once."""
        if not self.built:
            self.exclude_from_weight_decay(var_names=list(NOT_DECAYED))
        super().build(variables)

    def apply(self, grads: Sequence[tf.Tensor], trainable_variables: Sequence[keras.Variable] | None = None) -> None:
        """Updates the weights with their gradients."""
        step = tf.cast(self.iterations + 1, tf.float32)
        self._beta_powers = self.beta_1**step, self.beta_2**step
        super().apply(grads, trainable_variables)

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        """Updates one weight and its two moments."""
        index = self._get_variable_index(variable)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=self._beta_powers[0],
            beta2_power=self._beta_powers[1],
            lr=learning_rate,
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=gradient,
        )
