"""Where int8 costs accuracy: in each layer and channel, and by the number of calibration images."""

import numpy as np
import pandas as pd

from mbutils.backend import keras
from mbutils.config import ConvertParameters, normalize
from mbutils.data import pipeline
from mbutils.data.dataset import Dataset
from mbutils.errors import WorkbookError, nearest
from mbutils.evaluation import accuracy
from mbutils.progress import progress
from mbutils.quantization.aware import FakeQuantized
from mbutils.quantization.folding import is_depthwise, kernel_layers, output_ranges
from mbutils.quantization.ranges import evenly_spaced, highest_activations
from mbutils.quantization.steps import prepare
from mbutils.tflite.interpreter import layer_outputs

CALIBRATION_COUNTS = (1, 10, 100, 500)
_IMAGES = 64
_VALIDATION_IMAGES = 1000


def signal_to_noise(folded: keras.Model, tflite: bytes, images: np.ndarray) -> pd.DataFrame:
    """Compares the output of every layer, float against int8: 10 log10(sum(float^2) / sum((float - int8)^2)).

    Args:
        folded: The float model, its channels scaled as in the int8 model.
        tflite: Its int8 conversion.
        images: uint8, shape (n, height, width, channels); at most 64 are used.

    Returns:
        `layer` (a convolution with its ReLU6, "pool", "classifier" or "softmax") and `snr_db`, worst first.

    Raises:
        WorkbookError: If the two models do not have the same layers.
    """
    images = evenly_spaced(images, _IMAGES)
    layers = [folded.get_layer(f"{layer.name}_relu") for layer in kernel_layers(folded)[:-1]]
    layers += [folded.get_layer(name) for name in ("pool", "classifier", "softmax")]
    exact = keras.Model(folded.input, [layer.output for layer in layers]).predict_on_batch(normalize(images))
    rounded = layer_outputs(tflite, images)
    if [values.shape for values in exact] != [values.shape for values in rounded]:
        raise WorkbookError(f"the .tflite model does not have the layers of {folded.name}: give its own conversion")
    rows = [
        {
            "layer": layer.name.removesuffix("_relu"),
            "snr_db": _decibel(np.sum(signal**2), np.sum((signal - values) ** 2)),
        }
        for layer, signal, values in zip(layers, exact, rounded, strict=True)
    ]
    return pd.DataFrame(rows).sort_values("snr_db", ignore_index=True)


def _decibel(signal: float, noise: float) -> float:
    return float(10 * np.log10(signal / noise)) if signal and noise else float("inf" if signal else "nan")


def channel_ranges(folded: keras.Model, calibration: np.ndarray) -> pd.DataFrame:
    """Returns the ranges of weights and activations of each output channel.

    Args:
        folded: What `fold` or `equalize` returned.
        calibration: Training images: uint8, shape (n, height, width, channels).

    Returns:
        One row for each channel of each convolution, from input to output: `layer`, `channel`, `weight` (the largest
        absolute weight) and `activation` (the largest after ReLU6).
    """
    highest = highest_activations(folded, calibration)
    tables = []
    for layer in kernel_layers(folded)[:-1]:
        weights = output_ranges(layer, layer.get_weights()[0])
        facts = {"channel": range(len(weights)), "weight": weights, "activation": highest[layer.name]}
        tables.append(pd.DataFrame({"layer": layer.name, **facts}))
    return pd.concat(tables, ignore_index=True)


def rounded_kernel(model: FakeQuantized, layer: str) -> pd.DataFrame:
    """Returns the weights of one channel of a layer and what they become; its range is the median of the layer's.

    Args:
        model: The fake-quantized model.
        layer: The name of a convolution or of the classifier.

    Returns:
        One row for each weight, in the order of the kernel: `layer`, `channel`, `largest` (integer: 127, or 7 with 4
        bits), `weight` (float), `scale` (the size of a step) and `integer`.

    Raises:
        WorkbookError: If the model has no such layer with a kernel.
    """
    layers = {found.name: found for found in kernel_layers(model.network)}
    if layer not in layers:
        raise WorkbookError(f"no layer {layer!r} with a kernel: {nearest(layer, tuple(layers))}")
    kernel = layers[layer].kernel
    ranges = output_ranges(layers[layer], kernel.numpy())
    channel = np.argsort(ranges)[len(ranges) // 2]
    axis = -2 if is_depthwise(layers[layer]) else -1
    scales = np.broadcast_to(model.weight_scale(layers[layer]), kernel.shape)
    weights, scales = (np.take(values, channel, axis).ravel() for values in (kernel.numpy(), scales))
    largest = model.largest_weight(layers[layer])
    integers = np.clip(np.rint(weights / scales), -largest, largest).astype(int)
    facts = {"layer": layer, "channel": channel, "largest": largest}
    return pd.DataFrame({**facts, "weight": weights, "scale": scales, "integer": integers})


def accuracy_by_calibration(
    network: keras.Model, images: np.ndarray, dataset: Dataset, parameters: ConvertParameters
) -> pd.DataFrame:
    """Measures accuracy on validation images by the number of calibration images, without fine-tuning.

    The scores are those of the fake-quantized model, which rounds as its conversion does.

    Args:
        network: The trained float model.
        images: The cached images of the whole dataset: uint8, shape (n, height, width, channels).
        dataset: The parts and labels; at most 1000 validation images are used, and no test images.
        parameters: The variant, the steps, and the number of draws.

    Returns:
        `images` (calibration images), `draw` and `top1`, a fraction; for 1, 10, 100 and 500 images, or as many of these
        as the training part allows.
    """
    positions = evenly_spaced(dataset.positions("validation"), _VALIDATION_IMAGES)
    labels, validation = dataset.labels[positions], normalize(images[positions])
    counts = [count for count in CALIBRATION_COUNTS if count <= dataset.n_train]
    rows = []
    with progress(len(counts) * parameters.calibration_draws, "draws of calibration images", "draw") as bar:
        for count in counts:
            for draw in range(parameters.calibration_draws):
                calibration = pipeline.calibration_images(images, dataset, count, seed=draw)
                _, model = prepare(network, calibration, parameters)
                scores = model.predict(validation, batch_size=64, verbose=0)
                rows.append({"images": count, "draw": draw, "top1": accuracy(labels, scores).top1})
                bar.update()
    return pd.DataFrame(rows, columns=["images", "draw", "top1"])
