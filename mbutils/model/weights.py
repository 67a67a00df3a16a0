"""The weights of a model: from ImageNet, a file, or a finished run."""

import os
from pathlib import Path

import numpy as np

from mbutils.backend import keras
from mbutils.config import IMAGENET
from mbutils.errors import WorkbookError


def load_weights(model: keras.Model, weights: str, alpha: float) -> None:
    """Sets the weights of every layer but the classifier, in place.

    For a model of gray images, a kernel of three channels is summed over them: the gray model then has the features
    that the colour model has for the same image in three equal channels.

    Args:
        model: A model made by `build`.
        weights: "imagenet", "none" (changes nothing), or the path of a .keras or .weights.h5 file.
        alpha: The model's width multiplier: one of `IMAGENET_ALPHAS` for those of ImageNet.

    Raises:
        WorkbookError: If the weights are not available, or do not fit. There is no fallback to random weights.
    """
    if weights == "none":
        return
    source = _imagenet_model(alpha) if weights == IMAGENET else _model_from_file(Path(weights).expanduser(), model)
    for layer in model.layers:
        if layer.weights and layer.name != "classifier":
            _copy_layer(source, layer, weights)


def _imagenet_model(alpha: float) -> keras.Model:
    width = {0.25: "2_5", 0.5: "5_0", 0.75: "7_5", 1.0: "1_0"}[alpha]
    stored = _keras_models() / f"mobilenet_{width}_224_tf_no_top.h5"
    try:
        # Keras finds stored weights only in a folder that it can write to; a path works in a read-only folder too.
        return keras.applications.MobileNet(
            (224, 224, 3), alpha, include_top=False, weights=str(stored) if stored.exists() else "imagenet"
        )
    except Exception as error:
        raise no_weights(f"alpha {alpha:g}", error) from error


def no_weights(network: str, error: Exception) -> WorkbookError:
    """Returns the error that the ImageNet weights of a network are not to be had."""
    return WorkbookError(
        f"ImageNet weights for {network} are neither in {_keras_models()} nor downloadable ({type(error).__name__}): "
        "connect to a network, set KERAS_HOME to a folder whose models/ holds them, or train with weights=none"
    )


def _keras_models() -> Path:
    return Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras").expanduser() / "models"


def _model_from_file(path: Path, like: keras.Model) -> keras.Model:
    if not path.is_file():
        raise WorkbookError(f"weights: no file {path}: give imagenet, none, or a .keras or .weights.h5 file")
    if path.name.endswith(".weights.h5"):
        return _weights_from_h5(path, like)
    return read_model(path)


def _weights_from_h5(path: Path, like: keras.Model) -> keras.Model:
    source = keras.models.clone_model(like)
    try:
        source.load_weights(path, skip_mismatch=False)
    except Exception as error:
        raise WorkbookError(f"weights: {path} does not hold the weights of a {like.name} ({error})") from error
    return _finite(source, path)


def read_model(path: Path) -> keras.Model:
    """Reads a .keras file in Keras' safe mode, so that no code in the file runs.

    Raises:
        WorkbookError: If the file is missing or not a Keras model, or its weights are not finite.
    """
    if not path.is_file():
        raise WorkbookError(f"no file {path}: give the path of a .keras file")
    try:
        model = keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:
        raise WorkbookError(f"{path} is not a readable .keras model: give a file that Keras saved") from error
    return _finite(model, path)


def _finite(model: keras.Model, path: Path) -> keras.Model:
    for layer in model.layers:
        if not all(np.isfinite(values).all() for values in layer.get_weights()):
            raise WorkbookError(
                f"{path}: weights of layer {layer.name} are not finite, its training diverged: "
                "train it again with a lower learning_rate"
            )
    return model


def _copy_layer(source: keras.Model, layer: keras.Layer, origin: str) -> None:
    try:
        values = source.get_layer(layer.name).get_weights()
    except ValueError as error:
        raise WorkbookError(f"weights: {origin} has no layer {layer.name}: it is not a MobileNet v1") from error
    wanted = [tuple(weight.shape) for weight in layer.weights]
    if layer.name == "conv1" and values[0].shape[2] == 3 and wanted[0][2] == 1:
        values = [values[0].sum(axis=2, keepdims=True)]
    found = [value.shape for value in values]
    if found != wanted:
        raise WorkbookError(
            f"weights: {origin} has shapes {found} in layer {layer.name}, not {wanted}: give a file of the same alpha"
        )
    layer.set_weights(values)
