"""Scores images with .tflite models, and reads their layers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mbutils.errors import WorkbookError
from mbutils.progress import progress
from mbutils.tflite import isolated, pixels, schema
from mbutils.tflite.ops import COMPUTING
from mbutils.tflite.reader import read_graph

_LARGEST_SIDE = 2048  # of an image, in pixels


class TFLiteModel:
    """An image classifier in a .tflite file, scored in batches.

    Args:
        source: The path of the file, or its bytes.
        scaling: What pixels are for the model: see `pixels.values`; or `pixels.BY_INPUT`.

    Raises:
        WorkbookError: If the file is missing, empty or not a .tflite model with one image input and one output, if its
            scales are not finite, or if LiteRT cannot run it.
    """

    def __init__(self, source: Path | bytes, scaling: str = "") -> None:
        self._label, content = schema.load(source)
        self._interpreter = isolated.Interpreter(self._label, content)
        inputs, outputs = self._interpreter.inputs, self._interpreter.outputs
        if len(inputs) != 1 or len(outputs) != 1 or not _is_image(inputs[0]["shape"]):
            raise WorkbookError(
                f"{self._label}: not an image classifier: it must have one image input and one output, the image gray "
                f"or RGB and at most {_LARGEST_SIDE} pixels a side"
            )
        (self._input,), (self._output,) = inputs, outputs
        self._scaling, self._pixel_values = _pixel_values(self._label, self._input, scaling)
        # A damaged model is found out before its images are decoded.
        self._n_classes = self.predict_on_batch(np.zeros((1, *self.image_shape), np.uint8)).shape[1]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the input."""
        return _image_shape(self._input["shape"])

    @property
    def scaling(self) -> str:
        """What pixels are for the model, see `pixels.values`."""
        return self._scaling

    @property
    def n_classes(self) -> int:
        """The number of scores."""
        return self._n_classes

    def predict(self, images: np.ndarray, batch_size: int = 64) -> np.ndarray:
        """Scores images.

        What its input holds for a pixel: `pixels.values`.

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
        inputs = _as_input(images, self._pixel_values, self._input["shape"])
        (scores,) = self._interpreter.run(inputs, [self._output["index"]])
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


def reference_outputs(
    tflite: bytes, images: np.ndarray, label: str = "model", scaling: str = ""
) -> tuple[np.ndarray, np.ndarray]:
    """Runs a classifier with the reference kernels, not with XNNPACK: what the C code must match bit for bit.

    Args:
        tflite: An int8 model.
        images: uint8, shape (n, height, width, channels).
        label: What messages call the model.
        scaling: As of `TFLiteModel`.

    Returns:
        The outputs before the softmax, int8, and the scores, float32; both of shape (n, n_classes).
    """
    graph = read_graph(tflite, label)
    interpreter = isolated.Interpreter(label, tflite, "BUILTIN_REF", keeps_tensors=True)
    (image_input,), (output,), logits_tensor = interpreter.inputs, graph.outputs, graph.logits
    _, pixel_values = _pixel_values(label, image_input, scaling)
    logits, scores = [], []
    with progress(len(images), "reference kernels", "image") as bar:
        for image in images:
            inputs = _as_input(image[None], pixel_values, image_input["shape"])
            before, after = interpreter.run(inputs, [logits_tensor.index, output.index])
            if before.size != logits_tensor.size or after.size != output.size:
                raise WorkbookError(f"{label}: {schema.damaged(ValueError('shapes that its ops do not have'))}")
            logits.append(before.ravel())
            is_float = after.dtype == np.float32
            scores.append((after if is_float else _dequantized(after, output.scales[0], output.zero_point)).ravel())
            bar.update()
    return np.array(logits), np.array(scores)


def _is_image(shape: list[int]) -> bool:
    if len(shape) != 4:
        return False
    height, width, channels = _image_shape(shape)
    return min(height, width) > 0 and max(height, width) <= _LARGEST_SIDE and channels in (1, 3)


def _image_shape(shape: Sequence[int]) -> tuple[int, int, int]:
    """Returns height, width and channels of an input, whose channels may come before them, as those of PyTorch."""
    _, height, width, channels = shape
    return (width, channels, height) if _channels_first(shape) else (height, width, channels)


def _channels_first(shape: Sequence[int]) -> bool:
    return shape[3] not in (1, 3) and shape[1] in (1, 3)


def _pixel_values(label: str, details: dict[str, Any], scaling: str) -> tuple[str, np.ndarray]:
    """Returns the scaling, found out where it is `BY_INPUT`, and what the input holds for each pixel value."""
    facts = (details["dtype"], *details["quantization"])
    try:
        scaling = pixels.scaling_of(*facts) if scaling == pixels.BY_INPUT else scaling
        return scaling, pixels.values(*facts, scaling)
    except WorkbookError as error:
        raise WorkbookError(f"{label}: {error}") from None


def _as_input(images: np.ndarray, pixel_values: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Converts uint8 images to what an input of a shape takes."""
    ordered = images.transpose(0, 3, 1, 2) if _channels_first(shape) else images
    return np.ascontiguousarray(pixel_values[ordered])


def _dequantized(values: np.ndarray, scale: float, zero_point: int) -> np.ndarray:
    with np.errstate(all="ignore"):  # what is not finite is found by those who use it
        return (values.astype(np.float32) - zero_point) * scale
