"""Every network that can be trained: MobileNet v1, and those that teach it, with start weights and a classifier.

A network that teaches is one of params/networks, one of `keras.applications` with its ImageNet weights, or that of a
.keras file. It keeps its layers up to the last global pooling and gets a new classifier.
"""

import sys
from pathlib import Path

from mbutils.backend import keras
from mbutils.config import MOBILENET, TrainParameters, network_file, network_name
from mbutils.errors import WorkbookError
from mbutils.model import mobilenet
from mbutils.model.batch_normalization import trainable_copy
from mbutils.model.weights import load_weights, no_weights, read_model

_POOLINGS = (keras.layers.GlobalAveragePooling2D, keras.layers.GlobalMaxPooling2D)


def build(parameters: TrainParameters, n_classes: int) -> keras.Model:
    """Builds the network that the parameters name, with start weights and a softmax classifier.

    Returns:
        A model from normalized images, float32 in [-1, 1], (batch, height, width, channels), to scores (batch,
        n_classes).

    Raises:
        WorkbookError: If the network or its weights are not available, or do not fit.
    """
    shape = parameters.preprocessing.shape
    statistics = parameters.batch_norm_momentum, parameters.batch_norm_statistics == "frozen"
    if parameters.network == MOBILENET:
        network = mobilenet.build(parameters.alpha, shape, n_classes, parameters.dropout, *statistics)
        load_weights(network, parameters.weights, parameters.alpha)
        return network
    path = network_file(parameters.network)
    source = _from_file(path, shape) if path else _application(parameters.network, parameters.weights, shape)
    features = trainable_copy(source, *statistics)
    x = keras.layers.Dropout(parameters.dropout, name="dropout_of_features")(features.output)
    scores = keras.layers.Dense(n_classes, activation="softmax", name="classifier")(x)
    return keras.Model(features.input, scores, name=f"{network_name(parameters.network)}_{shape[0]}")


def _application(name: str, weights: str, shape: tuple[int, int, int]) -> keras.Model:
    """Returns a network of `keras.applications` that takes images in [-1, 1], with pooled features as output."""
    make, start = getattr(keras.applications, name), None if weights == "none" else weights
    image = keras.Input(shape, name="image")
    pixels = keras.layers.Rescaling(127.5, 127.5, name="pixels")(image)
    prepared = sys.modules[make.__module__].preprocess_input(pixels)
    try:
        network = make(include_top=False, weights=start, input_tensor=prepared, pooling="avg")
    except Exception as error:
        raise no_weights(name, error) from error
    return keras.Model(image, network.output)


def _from_file(path: Path, shape: tuple[int, int, int]) -> keras.Model:
    """Returns the network of a .keras file for images of a shape, with pooled features as output."""
    network = read_model(path)
    network = keras.Model(network.inputs[0], network.outputs[0])  # a `Sequential` as well
    if any(isinstance(layer, keras.Model) for layer in network.layers):
        raise WorkbookError(f"network: {path} has a network as one of its layers: save that network, or its layers")
    if len(network.input.shape) != 4 or network.input.shape[-1] != shape[-1]:
        raise WorkbookError(f"network: {path} does not take colour images (height, width, 3): give another file")
    return with_size(keras.Model(network.input, pooled(network)), shape)


def with_size(network: keras.Model, shape: tuple[int | None, int | None, int]) -> keras.Model:
    """Returns a model of the same layers, sharing their weights, that takes images of another height and width.

    Args:
        network: A network whose layers up to the last pooling suit images of any size.
        shape: Height, width (None for any) and channels.
    """
    image = keras.Input(shape, name="image")
    return keras.models.clone_model(network, input_tensors=image, clone_function=lambda layer: layer)


def pooled(network: keras.Model) -> keras.KerasTensor:
    """Returns the features that a network classifies: the output of its last global pooling, (batch, n_features).

    Raises:
        WorkbookError: If it has none.
    """
    found = [layer for layer in network.layers if isinstance(layer, _POOLINGS)]
    if not found:
        raise WorkbookError(f"network {network.name}: no global pooling before its classifier: give another network")
    return found[-1].output
