"""Training in one call: optimizer, schedule, progress, history."""

import importlib.util
import math
import shutil
import time
from pathlib import Path

import numpy as np
import pandas as pd

from mbutils.backend import keras, tf
from mbutils.config import TrainParameters, normalize
from mbutils.data import pipeline
from mbutils.data.dataset import Dataset
from mbutils.errors import WorkbookError
from mbutils.model import networks
from mbutils.model.batch_normalization import settle
from mbutils.model.checkpoint import Checkpoint
from mbutils.model.distillation import Lesson
from mbutils.model.divergence import StopOnDivergence
from mbutils.model.optimizer import FusedAdamW
from mbutils.model.probe import LinearProbe, linear_probe, start_from_probe
from mbutils.progress import progress

_SETTLING_IMAGES, _SETTLING_BATCH = 256, 64


def build_model(parameters: TrainParameters, dataset: Dataset) -> keras.Model:
    """Seeds every random generator, then builds the model with the weights that the parameters name.

    Raises:
        WorkbookError: If the weights are not available, or do not fit.
    """
    keras.utils.set_random_seed(parameters.seed)
    return networks.build(parameters, dataset.n_classes)


def probe_of_start(parameters: TrainParameters, images: np.ndarray, dataset: Dataset) -> LinearProbe | None:
    """Returns the linear probe of the start weights; None where there are none.

    Raises:
        WorkbookError: If the weights are not available, or do not fit.
    """
    if parameters.weights == "none":
        return None
    return linear_probe(build_model(parameters, dataset), images, dataset)


def fit(
    network: keras.Model,
    images: np.ndarray,
    dataset: Dataset,
    parameters: TrainParameters,
    lesson: Lesson | None = None,
    checkpoint: Path | None = None,
    logs: Path | None = None,
    stop: int | None = None,
) -> pd.DataFrame:
    """Trains every layer with AdamW, linear warm-up and cosine decay to zero. The model of the last epoch is kept.

    Args:
        network: The model, changed in place.
        images: The cached images of the whole dataset: uint8, shape (n, height, width, channels).
        dataset: The parts and labels; the test part is not used.
        parameters: The optimization and the augmentation.
        lesson: What a teacher says of each view of the training images. Its features are taught to a linear layer on
            those that the network classifies, which is not kept.
        checkpoint: The file from which a training with these arguments continues when it was interrupted, see
            `Training.checkpoint`; None to keep none.
        logs: The folder for logs that TensorBoard shows; those of an earlier training are replaced. None for none.
        stop: The epoch after which to stop, with a checkpoint from which the same training continues; None for its end.

    Returns:
        One row for each epoch: `epoch` (from 1), `image_size` and `whole` (whether the training images are whole
        instead of crops), `loss`, `top1`, `validation_loss`, `validation_top1` (fractions), `learning_rate` at its end,
        and `seconds` since the start, without those of interruptions.

    Raises:
        WorkbookError: If the images were made with other parameters, the loss is no longer a number, or logs are wanted
            and TensorBoard is not installed.
    """
    if images.shape[1:] != parameters.preprocessing.shape:
        raise WorkbookError(
            f"the images have the shape {images.shape[1:]}, the parameters ask for {parameters.preprocessing.shape}: "
            "run the cells above again"
        )
    trained = network
    if lesson and parameters.teacher_features:
        # From zeros: a random layer would spoil the features of the start weights before it has learned anything.
        linear = keras.layers.Dense(lesson.features.shape[-1], kernel_initializer="zeros", name="taught_features")
        taught = linear(networks.pooled(network))
        trained = keras.Model(network.input, keras.layers.Concatenate(name="taught")([network.output, taught]))
    trained = networks.with_size(trained, (None, None, images.shape[-1]))
    compile_model(trained, parameters, dataset.n_classes)
    kept = checkpoint and Checkpoint(checkpoint, trained.variables + trained.optimizer.variables, lesson)
    history = kept.restore() if kept else pd.DataFrame()
    if history.empty and parameters.initial_classifier == "probe":
        start_from_probe(network, images, dataset)
    epochs = range(len(history), parameters.epochs if stop is None else min(stop, parameters.epochs))
    if not epochs:
        return history
    steps_per_epoch = pipeline.steps_per_epoch(dataset, parameters)
    recorder = _Recorder(history, parameters, kept, epochs.stop)
    logging = [_tensorboard(logs, anew=history.empty)] if logs else []
    diverged = StopOnDivergence(
        f"lower learning_rate ({parameters.learning_rate:g}), or raise warmup_epochs ({parameters.warmup_epochs:g})"
    )
    try:
        trained.fit(
            pipeline.training_batches(images, dataset, parameters, epochs, lesson),
            validation_data=pipeline.ordered_batches(images, dataset, "validation", batch_size=256),
            initial_epoch=epochs.start,
            epochs=epochs.stop,
            steps_per_epoch=steps_per_epoch,
            callbacks=[
                _Schedule(parameters, steps_per_epoch, epochs.start),
                _Settled(pipeline.calibration_images(images, dataset, _SETTLING_IMAGES, parameters.seed), parameters),
                diverged,
                recorder,
                *logging,
            ],
            verbose=0,
            shuffle=False,
        )
    except WorkbookError:
        if kept:
            kept.remove()  # from there, it would only diverge again
        raise
    return recorder.history


def compile_model(network: keras.Model, parameters: TrainParameters, n_classes: int) -> None:
    """Prepares a model for training: AdamW with a constant learning rate, cross-entropy, top-1.

    Args:
        network: Returns scores, and where it has more outputs than classes, features behind them.
        parameters: The optimization, and the weight of the features in the loss.
        n_classes: The number of classes.
    """
    optimizer = FusedAdamW(parameters.learning_rate, weight_decay=parameters.weight_decay)
    optimizer.build(network.trainable_variables)  # otherwise the first step creates its variables, and is traced twice

    def loss(targets: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
        losses = keras.losses.categorical_crossentropy(targets[:, :n_classes], outputs[:, :n_classes])
        if targets.shape[1] > n_classes:  # validation has no teacher
            errors = tf.square(targets[:, n_classes:] - outputs[:, n_classes:])
            losses += parameters.teacher_features * tf.reduce_mean(errors, axis=1)
        return losses

    def top1(targets: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
        return keras.metrics.categorical_accuracy(targets[:, :n_classes], outputs[:, :n_classes])

    # XLA is far slower for convolutions on a CPU.
    network.compile(optimizer, loss, metrics=[top1], jit_compile=False)


def learning_rate(step: int, parameters: TrainParameters, steps_per_epoch: int) -> float:
    """Returns the learning rate of a training step, counted from 0: linear warm-up, then half a cosine down to zero."""
    steps = parameters.epochs * steps_per_epoch
    warmup = min(round(parameters.warmup_epochs * steps_per_epoch), steps // 2)
    if step < warmup:
        return parameters.learning_rate * step / warmup
    return parameters.learning_rate * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2


def schedule(parameters: TrainParameters, steps_per_epoch: int) -> pd.DataFrame:
    """Returns the learning rate and the images of each training step.

    Returns:
        One row for each step: `epoch` (a fraction, from 0), `learning_rate`, `image_size`, and `whole` (whether its
        images are whole instead of crops).
    """
    steps = range(parameters.epochs * steps_per_epoch)
    return pd.DataFrame(
        {
            "epoch": step / steps_per_epoch,
            "learning_rate": learning_rate(step, parameters, steps_per_epoch),
            **_images_in(step // steps_per_epoch, parameters),
        }
        for step in steps
    )


def _images_in(epoch: int, parameters: TrainParameters) -> dict[str, int | bool]:
    """Returns what the training images of an epoch are, counted from 0: `image_size`, and `whole` instead of crops."""
    size = parameters.early_image_size if epoch < parameters.early_epochs else parameters.image_size
    return {"image_size": size, "whole": epoch >= parameters.epochs - parameters.late_epochs}


def _tensorboard(folder: Path, anew: bool) -> keras.callbacks.Callback:
    if importlib.util.find_spec("tensorboard") is None:
        raise WorkbookError("tensorboard is not installed: pip install tensorboard, or leave the parameter empty")
    if anew:
        shutil.rmtree(folder, ignore_errors=True)
    return keras.callbacks.TensorBoard(folder, write_graph=False)


class _Schedule(keras.callbacks.Callback):
    """Sets the learning rate before each step.

    Keras computes its own schedules again for the decay of each weight, which takes time when tracing and in each step.
    """

    def __init__(self, parameters: TrainParameters, steps_per_epoch: int, first_epoch: int) -> None:
        super().__init__()
        self._parameters, self._steps_per_epoch = parameters, steps_per_epoch
        self._step = first_epoch * steps_per_epoch

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        self.model.optimizer.learning_rate = learning_rate(self._step, self._parameters, self._steps_per_epoch)
        self._step += 1


class _Settled(keras.callbacks.Callback):
    """Validates before the last epoch by the statistics that batch normalization has with the present weights.

    The moving ones are averages over earlier steps. While the learning rate is high the weights move away from them,
    and validation would say nothing of the model. Afterwards they are put back: training is the same without this.
    """

    def __init__(self, images: np.ndarray, parameters: TrainParameters) -> None:
        super().__init__()
        self._images, self._last_epoch = images, parameters.epochs - 1
        self._is_frozen = parameters.batch_norm_statistics == "frozen"

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._is_needed = epoch < self._last_epoch and not self._is_frozen

    def on_test_begin(self, logs: dict | None = None) -> None:
        if self._is_needed:
            self._moving = [variable.numpy() for variable in self.model.non_trainable_variables]
            starts = range(0, len(self._images), _SETTLING_BATCH)
            settle(self.model, (normalize(self._images[start : start + _SETTLING_BATCH]) for start in starts))

    def on_test_end(self, logs: dict | None = None) -> None:
        if self._is_needed:
            for variable, value in zip(self.model.non_trainable_variables, self._moving, strict=True):
                variable.assign(value)


class _Recorder(keras.callbacks.Callback):
    """Shows one progress bar, collects the history, and keeps checkpoints."""

    def __init__(
        self, history: pd.DataFrame, parameters: TrainParameters, checkpoint: Checkpoint | None, stop: int
    ) -> None:
        super().__init__()
        self.history = history
        self._parameters, self._checkpoint, self._stop = parameters, checkpoint, stop

    def on_train_begin(self, logs: dict | None = None) -> None:
        done, epochs = len(self.history), self._parameters.epochs
        if done:
            print(f"continues at epoch {done + 1} of {epochs}, from a training that was interrupted")
        self._start = time.perf_counter() - (self.history["seconds"].iloc[-1] if done else 0)
        self._bar = progress(self._stop, "train", "epoch", done)

    def on_epoch_end(self, epoch: int, logs: dict) -> None:
        row = {
            "epoch": epoch + 1,
            **_images_in(epoch, self._parameters),
            "loss": logs["loss"],
            "top1": logs["top1"],
            "validation_loss": logs["val_loss"],
            "validation_top1": logs["val_top1"],
            "learning_rate": float(self.model.optimizer.learning_rate),
            "seconds": round(time.perf_counter() - self._start, 3),
        }
        self.history = pd.concat([self.history, pd.DataFrame([row])], ignore_index=True)
        if self._checkpoint and epoch + 1 < self._parameters.epochs:
            self._checkpoint.keep(self.history, always=epoch + 1 == self._stop)
        self._bar.set_postfix_str(f"validation top-1 {row['validation_top1']:.3f}")
        self._bar.update()

    def on_train_end(self, logs: dict | None = None) -> None:
        self._bar.close()
