"""From a Keras model to an int8 TensorFlow Lite model: conversion, calibration, and what came out.

Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
arXiv:1712.05877.
"""

from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

from mbutils.backend import convert_variables_to_constants_v2, keras, native_output_silenced, tf
from mbutils.config import normalize
from mbutils.errors import WorkbookError
from mbutils.progress import progress
from mbutils.quantization.aware import FakeQuantized, fake_quantize
from mbutils.quantization.folding import fold
from mbutils.quantization.ranges import LARGEST_INT4_WEIGHT
from mbutils.tflite.reader import read_graph


def to_int8(model: keras.Model, calibration: np.ndarray, variant: str) -> bytes:
    """Converts a model to int8 with the TensorFlow Lite converter's post-training quantization.

    The converter folds batch normalization into the convolutions. Ranges come from the calibration images.

    Args:
        model: The float model; takes normalized images, float32 in [-1, 1], and returns softmax scores.
        calibration: The representative dataset, from training images: uint8, shape (n, height, width, channels).
        variant: "int8_per_tensor" for one weight scale for each kernel; the others have one for each output channel.
            There are no 4-bit weights without quantization-aware training.

    Returns:
        The .tflite file: takes uint8 images 0..255, shape (1, height, width, channels), and returns float32 scores.

    Raises:
        WorkbookError: If the converter refuses the model.
    """
    return _convert_calibrated(model, lambda: _representative(calibration), variant)


def to_int8_uncalibrated(model: keras.Model, variant: str = "int8_per_channel") -> bytes:
    """Converts a model to int8 with ranges from one image of noise: enough for its ops, shapes and sizes.

    Footprint, operation counts and latency are those of the trained and calibrated model; its scores are meaningless.

    Raises:
        WorkbookError: If the converter refuses the model.
    """
    noise = np.random.default_rng(0).uniform(-1, 1, (1, *model.input_shape[1:])).astype(np.float32)
    if variant == "int4_pointwise":
        pixels = np.random.default_rng(0).integers(0, 256, noise.shape).astype(np.uint8)
        return to_int8_with_ranges(fake_quantize(fold(model), pixels, variant))
    return _convert_calibrated(model, lambda: iter([[noise]]), variant)


def to_int8_with_ranges(model: FakeQuantized) -> bytes:
    """Converts a fake-quantized model, with its rounded weights and its activation ranges.

    Returns:
        The .tflite file, with inputs and outputs like those of `to_int8`.

    Raises:
        WorkbookError: If the converter refuses the model.
    """
    # Rounded beforehand: training with rounding leaves weights halfway between two steps (Nagel et al. 2022,
    # arXiv:2203.11086), where the converter's division may round them differently than the model's.
    weights = dict(zip(_paths(model.network), (values.numpy() for values in model.rounded_weights()), strict=True))
    int4_scales = {model.network.get_layer(name).kernel.path: scale for name, scale in model.int4_scales.items()}

    def scores(image: tf.Tensor) -> tf.Tensor:
        # Without nodes on the weights, the converter uses 8 bits and one scale for each output channel.
        nodes = {path: _with_4_bits(weights[path], scale) for path, scale in int4_scales.items()}
        if not model.per_channel:
            nodes = {path: _with_one_scale(values) for path, values in weights.items()}
        return model.scores(list({**weights, **nodes}.values()), image)

    with native_output_silenced():
        return _convert(_converter(scores, model.network), model.name)


def _paths(network: keras.Model) -> list[str]:
    return [variable.path for variable in network.trainable_variables]


def _with_4_bits(values: np.ndarray, scale: np.ndarray) -> tf.Tensor:
    """Returns a kernel with the node for 4 bits and a scale for each output channel."""
    largest = LARGEST_INT4_WEIGHT * scale.ravel()
    return tf.quantization.fake_quant_with_min_max_vars_per_channel(
        values, -largest, largest, num_bits=4, narrow_range=True
    )


def _with_one_scale(values: np.ndarray) -> np.ndarray | tf.Tensor:
    """Returns a kernel with the node for a single scale; a bias is returned as it is."""
    largest = float(np.abs(values).max())
    if values.ndim == 1 or largest == 0:
        return values
    return tf.quantization.fake_quant_with_min_max_vars(values, -largest, largest, narrow_range=True)


def _convert_calibrated(
    model: keras.Model, representative: Callable[[], Iterator[list[np.ndarray]]], variant: str
) -> bytes:
    with native_output_silenced():
        converter = _converter(lambda image: model(image, training=False), model)
        converter.representative_dataset = representative
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter._experimental_disable_per_channel = variant == "int8_per_tensor"
        return _convert(converter, model.name)


def _converter(scores: Callable[[tf.Tensor], tf.Tensor], model: keras.Model) -> tf.lite.TFLiteConverter:
    """Returns a converter of a function of one image of a model's shape, with constants for weights.

    The result is that of `from_keras_model` and `keras.Model.export`, in a quarter of their time, without their output.
    """
    signature = tf.TensorSpec((1, *model.input_shape[1:]), tf.float32, name="image")
    frozen = convert_variables_to_constants_v2(tf.function(scores).get_concrete_function(signature))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen], tf.Module())
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.inference_input_type = tf.uint8
    converter.inference_output_type = tf.float32
    return converter


def _convert(converter: tf.lite.TFLiteConverter, name: str) -> bytes:
    try:
        return converter.convert()
    except (RuntimeError, ValueError, tf.errors.OpError) as error:
        raise WorkbookError(f"the converter refused {name}: {str(error).splitlines()[0]}") from error


def _representative(calibration: np.ndarray) -> Iterator[list[np.ndarray]]:
    with progress(len(calibration), "calibrate", "image") as bar:
        for image in calibration:
            yield [normalize(image[None])]
            bar.update()


def describe(tflite: bytes) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Returns what is in a .tflite file.

    Returns:
        Its ops, one row for each kind: `op`, `count`; and its inputs and outputs, one row each: `tensor`, `shape`,
        `dtype`, `scale` and `zero_point` (blank where the tensor is not quantized).
    """
    graph = read_graph(tflite)
    counts = Counter(op.code for op in graph.ops)
    rows = [
        {
            "tensor": name,
            "shape": tensor.shape,
            "dtype": tensor.dtype.lower(),
            "scale": float(tensor.scales[0]) if len(tensor.scales) else None,
            "zero_point": tensor.zero_point if len(tensor.scales) else None,
        }
        for name, tensors in (("input", graph.inputs), ("output", graph.outputs))
        for tensor in tensors
    ]
    return pd.DataFrame(counts.most_common(), columns=["op", "count"]), pd.DataFrame(rows).astype(
        {"zero_point": "Int64"}
    )
