import numpy as np
import pytest

from mbutils.backend import keras, tf
from mbutils.model.optimizer import NOT_DECAYED, FusedAdamW


def updated(optimizer, steps=5):
    """Returns a kernel and a gamma after some steps, with another gradient and learning rate at each."""
    rng = np.random.default_rng(0)
    kernel = keras.Variable(rng.normal(size=(3, 4)), dtype="float32", name="kernel")
    weights = [kernel, keras.Variable(np.ones(4), dtype="float32", name="gamma")]
    optimizer.build(weights)
    for step in range(steps):
        optimizer.learning_rate = 0.1 / (1 + step)
        gradients = [tf.constant(rng.normal(size=weight.shape), tf.float32) for weight in weights]
        tf.function(lambda *gradients: optimizer.apply(gradients, weights))(*gradients)
    return [weight.numpy() for weight in weights]


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_updates_are_those_of_keras_adamw(decay):
    keras_own = keras.optimizers.AdamW(0.1, weight_decay=decay)
    keras_own.exclude_from_weight_decay(var_names=list(NOT_DECAYED))
    for ours, expected in zip(updated(FusedAdamW(0.1, weight_decay=decay)), updated(keras_own), strict=True):
        np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_decay_shrinks_kernels_and_leaves_the_rest():
    kernel, gamma = keras.Variable([2.0], name="kernel"), keras.Variable([2.0], name="gamma")
    optimizer = FusedAdamW(0.1, weight_decay=0.5)
    optimizer.build([kernel, gamma])
    optimizer.apply([tf.zeros(1), tf.zeros(1)], [kernel, gamma])
    assert float(kernel[0]) == pytest.approx(2.0 * (1 - 0.1 * 0.5))
    assert float(gamma[0]) == 2.0
