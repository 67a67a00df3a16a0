"""Runs .tflite models with LiteRT: the only module that opens its interpreter."""

from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from mbutils.backend import native_output_silenced
from mbutils.config import normalize
from mbutils.errors import WorkbookError
from mbutils.progress import progress
from mbutils.tflite import checks, schema
from mbutils.tflite.ops import COMPUTING
from mbutils.tflite.reader import read_graph


class TFLiteModel:
    """An image classifier in a .tflite file, scored in batches.

    Args:
        source: The path of the file, or its bytes.
        threads: Threads of the interpreter; LiteRT's own choice where None.

    Raises:
        WorkbookError: If the file is missing, empty or not a .tflite model with one image input and one output, or its
            scales are not finite.
    """

    def __init__(self, source: Path | bytes, threads: int | None = None) -> None:
        label, content = schema.load(source)
        try:
            with native_output_silenced():
                self._interpreter = Interpreter(model_content=content, num_threads=threads)
        except (ValueError, RuntimeError) as error:
            raise WorkbookError(f"{label}: not a readable .tflite model ({error}): convert it again") from error
        details = self._interpreter.get_tensor_details()
        try:
            checks.finite_scales(tensor["quantization_parameters"]["scales"] for tensor in details)
        except WorkbookError as error:
            raise WorkbookError(f"{label}: {error}") from None
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        if len(inputs) != 1 or len(outputs) != 1 or len(inputs[0]["shape"]) != 4:
            raise WorkbookError(f"{label}: not an image classifier: it must have one image input and one output")
        self._input, self._output = inputs[0], outputs[0]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the input."""
        return tuple(self._input["shape"][1:].tolist())

    @property
    def n_classes(self) -> int:
        """The number of scores."""
        return int(self._output["shape"][-1])

    def predict(self, images: np.ndarray, batch_size: int = 64) -> np.ndarray:
        """Scores images.

        A uint8 input takes the pixels as they are, an int8 input `pixel - 128`, a float input `pixel / 127.5 - 1`.

        Args:
            images: uint8, shape (n, height, width, channels).
            batch_size: Images scored at a time.

        Returns:
            The scores, dequantized: float32, shape (n, n_classes).
        """
        with progress(len(images), "int8", "image") as bar:
            batches = []
            for start in range(0, len(images), batch_size):
                batches.append(self.predict_on_batch(images[start : start + batch_size]))
                bar.update(len(batches[-1]))
        return np.concatenate(batches)

    def predict_on_batch(self, images: np.ndarray) -> np.ndarray:
        """Scores images all at once: as `predict`, but without a progress bar."""
        index = self._input["index"]
        if not np.array_equal(self._interpreter.get_input_details()[0]["shape"], images.shape):
            self._interpreter.resize_tensor_input(index, images.shape)
        with native_output_silenced():
            self._interpreter.allocate_tensors()
        self._interpreter.set_tensor(index, _as_input(images, self._input["dtype"]))
        self._interpreter.invoke()
        scores = self._interpreter.get_tensor(self._output["index"]).reshape(len(images), -1)
        scale, zero_point = self._output["quantization"]
        return _dequantized(scores, scale, zero_point) if scale else scores.astype(np.float32)


def layer_outputs(tflite: bytes, images: np.ndarray) -> list[np.ndarray]:
    """Runs a batch of images and returns the output of every op that computes (`ops.COMPUTING`).

    Args:
        tflite: An int8 model.
        images: uint8, shape (n, height, width, channels).

    Returns:
        The outputs in the order of execution, dequantized: float32, the batch first.
    """
    graph = read_graph(tflite)
    with native_output_silenced():
        interpreter = Interpreter(
            model_content=tflite,
            experimental_preserve_all_tensors=True,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
        index = graph.inputs[0].index
        interpreter.resize_tensor_input(index, images.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(index, images)
        interpreter.invoke()
    outputs = [op.outputs[0] for op in graph.ops if op.code in COMPUTING]
    return [_dequantized(interpreter.get_tensor(out.index), out.scales[0], out.zero_point) for out in outputs]


def reference_outputs(tflite: bytes, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Runs a classifier with the reference kernels, not with XNNPACK: what the C code must match bit for bit.

    Args:
        tflite: An int8 model that ends with a softmax.
        images: uint8, shape (n, height, width, channels).

    Returns:
        The outputs before the softmax, int8, and the scores, float32; both of shape (n, n_classes).
    """
    graph = read_graph(tflite)
    interpreter = Interpreter(
        model_content=tflite,
        experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
        experimental_preserve_all_tensors=True,
        num_threads=1,
    )
    interpreter.allocate_tensors()
    (image_input,), (output,) = interpreter.get_input_details(), graph.outputs
    softmax = next(op for op in graph.ops if op.code == "SOFTMAX")
    logits, scores = [], []
    with progress(len(images), "reference kernels", "image") as bar:
        for image in images:
            interpreter.set_tensor(image_input["index"], _as_input(image[None], image_input["dtype"]))
            interpreter.invoke()
            logits.append(interpreter.get_tensor(softmax.inputs[0].index).ravel())
            values = interpreter.get_tensor(output.index).ravel()
            quantized = values.dtype == np.int8
            scores.append(_dequantized(values, output.scales[0], output.zero_point) if quantized else values)
            bar.update()
    return np.array(logits), np.array(scores)


def _as_input(images: np.ndarray, dtype: type) -> np.ndarray:
    """Converts uint8 images to the type of an input."""
    if dtype == np.uint8:
        return images
    if dtype == np.int8:
        return (images.astype(np.int16) - 128).astype(np.int8)
    return normalize(images)


def _dequantized(values: np.ndarray, scale: float, zero_point: int) -> np.ndarray:
    return (values.astype(np.float32) - zero_point) * scale
