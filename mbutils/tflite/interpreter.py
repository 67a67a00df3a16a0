"""Runs .tflite models with LiteRT."""

from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from mbutils.backend import native_output_silenced
from mbutils.config import normalize
from mbutils.errors import WorkbookError
from mbutils.progress import progress


class TFLiteModel:
    """An image classifier in a .tflite file, scored in batches.

    Args:
        source: The path of the file, or its bytes.
        threads: Threads of the interpreter; LiteRT's own choice where None.

    Raises:
        WorkbookError: If the file is missing or is no .tflite model with one image input and one output.
    """

    def __init__(self, source: Path | bytes, threads: int | None = None) -> None:
        content = source if isinstance(source, bytes) else _read_file(source)
        name = "the model" if isinstance(source, bytes) else source
        try:
            with native_output_silenced():
                self._interpreter = Interpreter(model_content=content, num_threads=threads)
        except (ValueError, RuntimeError) as error:
            raise WorkbookError(f"{name} is not a readable .tflite model ({error})") from error
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        if len(inputs) != 1 or len(outputs) != 1 or len(inputs[0]["shape"]) != 4:
            raise WorkbookError(f"{name} is no image classifier: it must have one image input and one output")
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
        self._interpreter.set_tensor(index, self._to_input(images))
        self._interpreter.invoke()
        scores = self._interpreter.get_tensor(self._output["index"]).reshape(len(images), -1)
        scale, zero_point = self._output["quantization"]
        return (scores.astype(np.float32) - zero_point) * scale if scale else scores.astype(np.float32)

    def _to_input(self, images: np.ndarray) -> np.ndarray:
        if self._input["dtype"] == np.uint8:
            return images
        if self._input["dtype"] == np.int8:
            return (images.astype(np.int16) - 128).astype(np.int8)
        return normalize(images)


def _read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise WorkbookError(f"cannot read {path} ({error.strerror}): give the path of a .tflite file") from error
