"""From a Keras model to an int8 TensorFlow Lite model: conversion, calibration, and what came out.

Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
arXiv:1712.05877.
"""

import tempfile
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pandas as pd
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from mbutils.backend import keras, native_output_silenced, tf
from mbutils.errors import WorkbookError
from mbutils.pipeline import normalize
from mbutils.progress import progress


def to_int8(model: keras.Model, calibration: np.ndarray, variant: str) -> bytes:
    """Converts a model to int8 with the TensorFlow Lite converter's post-training quantization.

    The converter folds batch normalization into the convolutions. Ranges come from the calibration images.

    Args:
        model: The float model; takes normalized images, float32 in [-1, 1], and returns softmax scores.
        calibration: The representative dataset, from training images: uint8, shape (n, height, width, channels).
        variant: "int8_per_channel" (one weight scale for each output channel) or "int8_per_tensor" (one for each
            tensor).

    Returns:
        The .tflite file: takes uint8 images 0..255, shape (1, height, width, channels), and returns float32 scores.

    Raises:
        WorkbookError: If the converter refuses the model.
    """
    with tempfile.TemporaryDirectory() as folder, native_output_silenced():
        # Exported with batch 1 and quietly; `from_keras_model` prints every signature.
        shape = (1, *model.input_shape[1:])
        signature = [keras.InputSpec(shape=shape, dtype="float32")]
        model.export(folder, format="tf_saved_model", verbose=False, input_signature=signature)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: _representative(calibration)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.uint8
        converter.inference_output_type = tf.float32
        converter._experimental_disable_per_channel = variant == "int8_per_tensor"
        try:
            return converter.convert()
        except (RuntimeError, ValueError, tf.errors.OpError) as error:
            raise WorkbookError(f"the converter refused {model.name}: {str(error).splitlines()[0]}") from error


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
    interpreter = Interpreter(
        model_content=tflite, experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    )
    counts = Counter(op["op_name"] for op in interpreter._get_ops_details())
    rows = [
        {
            "tensor": name,
            "shape": tuple(details["shape"].tolist()),
            "dtype": np.dtype(details["dtype"]).name,
            "scale": details["quantization"][0] or None,
            "zero_point": details["quantization"][1] if details["quantization"][0] else None,
        }
        for name, group in (("input", interpreter.get_input_details()), ("output", interpreter.get_output_details()))
        for details in group
    ]
    return pd.DataFrame(counts.most_common(), columns=["op", "count"]), pd.DataFrame(rows)
