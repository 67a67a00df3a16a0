"""Scores images with .tflite models, and reads their layers."""

from pathlib import Path

import numpy as np

from mbutils.config import normalize
from mbutils.errors import WorkbookError
from mbutils.progress import progress
from mbutils.tflite import isolated, schema
from mbutils.tflite.ops import COMPUTING
from mbutils.tflite.reader import read_graph

_LARGEST_SIDE = 2048  # of an image, in pixels


class TFLiteModel:
    """An image classifier in a .tflite file, scored in batches.

    Args:
        source: The path of the file, or its bytes.

    Raises:
        WorkbookError: If the file is missing, empty or not a .tflite model with one image input and one output, if its
            scales are not finite, or if LiteRT cannot run it.
    """

    def __init__(self, source: Path | bytes) -> None:
        self._label, content = schema.load(source)
        self._interpreter = isolated.Interpreter(self._label, content)
        inputs, outputs = self._interpreter.inputs, self._interpreter.outputs
        if len(inputs) != 1 or len(outputs) != 1 or not _is_image(inputs[0]["shape"]):
            raise WorkbookError(
                f"{self._label}: not an image classifier: it must have one image input and one output, the image gray "
                f"or RGB and at most {_LARGEST_SIDE} pixels a side"
            )
        self._input, self._output = inputs[0], outputs[0]
        # A damaged model is found out before its images are decoded.
        self._n_classes = self.predict_on_batch(np.zeros((1, *self.image_shape), np.uint8)).shape[1]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the input."""
        return tuple(self._input["shape"][1:])

    @property
    def n_classes(self) -> int:
        """The number of scores."""
        return self._n_classes

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
        (scores,) = self._interpreter.run(_as_input(images, self._input["dtype"]), [self._output["index"]])
        scores = scores.reshape(len(images), -1)
        scale, zero_point = self._output["quantization"]
        scores = _dequantized(scores, scale, zero_point) if scale else scores.astype(np.float32)
        if not np.isfinite(scores).all():
            raise WorkbookError(f"{self._label}: gives scores that are not finite: train or convert the model again")
        return scores


def layer_outputs(tflite: bytes, images: np.ndarray) -> list[np.ndarray]:
    """Runs a batch of images and returns the output of every op that computes (`ops.COMPUTING`).

    Args:
        tflite: An int8 model.
        images: uint8, shape (n, height, width, channels).

    Returns:
        The outputs in the order of execution, dequantized: float32, the batch first.
    """
    graph = read_graph(tflite)
    interpreter = isolated.Interpreter("model", tflite, "BUILTIN_WITHOUT_DEFAULT_DELEGATES", keeps_tensors=True)
    outputs = [op.outputs[0] for op in graph.ops if op.code in COMPUTING]
    values = interpreter.run(images, [out.index for out in outputs])
    return [
        _dequantized(own, out.scales[0], out.zero_point).reshape(len(images), *out.shape[1:])
        for own, out in zip(values, outputs, strict=True)
    ]


def reference_outputs(tflite: bytes, images: np.ndarray, label: str = "model") -> tuple[np.ndarray, np.ndarray]:
    """Runs a classifier with the reference kernels, not with XNNPACK: what the C code must match bit for bit.

    Args:
        tflite: An int8 model that ends with a softmax.
        images: uint8, shape (n, height, width, channels).
        label: What messages call the model.

    Returns:
        The outputs before the softmax, int8, and the scores, float32; both of shape (n, n_classes).
    """
    graph = read_graph(tflite, label)
    interpreter = isolated.Interpreter(label, tflite, "BUILTIN_REF", keeps_tensors=True)
    (image_input,), (output,) = interpreter.inputs, graph.outputs
    softmax = next(op for op in graph.ops if op.code == "SOFTMAX")
    logits, scores = [], []
    with progress(len(images), "reference kernels", "image") as bar:
        for image in images:
            pixels = _as_input(image[None], image_input["dtype"])
            before, after = interpreter.run(pixels, [softmax.inputs[0].index, output.index])
            if before.size != softmax.inputs[0].size or after.size != output.size:
                raise WorkbookError(f"{label}: {schema.damaged(ValueError('shapes that its ops do not have'))}")
            logits.append(before.ravel())
            quantized = after.dtype == np.int8
            scores.append((_dequantized(after, output.scales[0], output.zero_point) if quantized else after).ravel())
            bar.update()
    return np.array(logits), np.array(scores)


def _is_image(shape: list[int]) -> bool:
    return len(shape) == 4 and min(shape[1:3]) > 0 and max(shape[1:3]) <= _LARGEST_SIDE and shape[3] in (1, 3)


def _as_input(images: np.ndarray, dtype: str) -> np.ndarray:
    """Converts uint8 images to the type of an input."""
    if dtype == "uint8":
        return images
    if dtype == "int8":
        return (images.astype(np.int16) - 128).astype(np.int8)
    return normalize(images)


def _dequantized(values: np.ndarray, scale: float, zero_point: int) -> np.ndarray:
    with np.errstate(all="ignore"):  # what is not finite is found by those who use it
        return (values.astype(np.float32) - zero_point) * scale
