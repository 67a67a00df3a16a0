"""Training steps on one batch of random images: the workbook's way against `keras.applications.MobileNet`.

Both use AdamW, the same loss and inputs, float32, and no XLA; the stock way uses Keras' own AdamW.
"""

import time
from collections.abc import Callable

from mbutils.backend import keras, tf
from mbutils.config import TrainParameters, suited
from mbutils.model import mobilenet, training

N_CLASSES = 5
DEFAULTS = suited(TrainParameters(), n_train=10_000)


def ours(
    alpha: float, image_size: int, batch_size: int = DEFAULTS.batch_size, steps_per_round: int = 4
) -> Callable[[], float]:
    """Prepares training steps of the workbook's model."""
    network = mobilenet.build(alpha, (image_size, image_size, 3), N_CLASSES, dropout=DEFAULTS.dropout)
    training.compile_model(network, DEFAULTS, N_CLASSES)
    return _steps(network, batch_size, steps_per_round)


def stock(
    alpha: float, image_size: int, batch_size: int = DEFAULTS.batch_size, steps_per_round: int = 4
) -> Callable[[], float]:
    """Prepares training steps of Keras' own MobileNet, with Keras' own batch normalization."""
    return _steps(keras_mobilenet(alpha, image_size, N_CLASSES), batch_size, steps_per_round)


def keras_mobilenet(alpha: float, image_size: int, n_classes: int) -> keras.Model:
    """Returns Keras' own MobileNet with random weights, ready to be trained by Keras' own AdamW."""
    network = keras.applications.MobileNet(
        (image_size, image_size, 3), alpha, dropout=DEFAULTS.dropout, weights=None, classes=n_classes
    )
    network.compile(
        keras.optimizers.AdamW(DEFAULTS.learning_rate, weight_decay=DEFAULTS.weight_decay),
        "categorical_crossentropy",
        metrics=["categorical_accuracy"],
        jit_compile=False,
    )
    return network


def _steps(network: keras.Model, batch_size: int, steps_per_round: int) -> Callable[[], float]:
    images = tf.random.stateless_uniform((batch_size, *network.input_shape[1:]), seed=(0, 0), minval=-1, maxval=1)
    labels = tf.one_hot(tf.range(batch_size) % N_CLASSES, N_CLASSES)

    def one_round() -> float:
        start = time.perf_counter()
        for _ in range(steps_per_round):
            network.train_on_batch(images, labels)
        return steps_per_round * batch_size / (time.perf_counter() - start)

    return one_round
