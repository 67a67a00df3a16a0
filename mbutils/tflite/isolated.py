"""Runs .tflite models in processes of their own: a damaged file makes LiteRT crash, hang or fill the memory."""

import contextlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import weakref
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from mbutils.errors import WorkbookError
from mbutils.tflite import checks, schema

_WORKER = Path(__file__).with_name("worker.py")
_SECONDS = 60  # for opening a model, and for each image
_MEMORY_BYTES = 4 * 2**30
_LARGEST_ANSWER = 2**28  # bytes of one tensor
_THREADS = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # NumPy's would take address space


class Interpreter:
    """LiteRT's interpreter of one model, in a process that ends with this object, at the latest with its own process.

    Args:
        label: What messages call the model.
        content: The bytes of its file.
        kernels: A name of LiteRT's `OpResolverType`.
        keeps_tensors: Whether `run` can return any tensor, not only outputs.

    Attributes:
        inputs, outputs: Of each tensor its `index`, `shape`, `dtype` and `quantization` (scale and zero point).

    Raises:
        WorkbookError: If LiteRT cannot open the model, or its scales are not finite.
    """

    def __init__(self, label: str, content: bytes, kernels: str = "AUTO", keeps_tensors: bool = False) -> None:
        self._label, self._content = label, content
        self._options = {"kernels": kernels, "keeps_tensors": keeps_tensors}
        self._start()

    def run(self, images: np.ndarray, tensors: Sequence[int]) -> list[np.ndarray]:
        """Runs the model on images, one at a time as on a device.

        Args:
            images: Shape (n, height, width, channels), in the type of the only input.
            tensors: Indices of tensors.

        Returns:
            Of each of the tensors what it holds after each image: shape (n, *shape of the tensor).

        Raises:
            WorkbookError: If LiteRT cannot run the model.
        """
        if not self._stop.alive:  # an earlier request was interrupted
            self._start()
        request = {"dtype": images.dtype.name, "shape": images.shape, "tensors": tensors}
        with self._conversation():
            self._send(request, images.tobytes())
            answers = [self._tensors() for _ in images]
            return [np.stack(values) for values in zip(*answers, strict=True)]

    def _start(self) -> None:
        self._connection, theirs = multiprocessing.Pipe()
        limits = (theirs.fileno(), _SECONDS, _MEMORY_BYTES)
        self._process = subprocess.Popen(
            [sys.executable, "-P", _WORKER, *map(str, limits)],
            pass_fds=[theirs.fileno()],
            start_new_session=True,  # Ctrl-C is for the process that asks
            env=os.environ | _THREADS,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        theirs.close()
        self._stop = weakref.finalize(self, _end, self._connection, self._process)
        with self._conversation():
            self._send(self._options, self._content)
            found = self._received()
            self.inputs, self.outputs = found["inputs"], found["outputs"]
            scales = np.frombuffer(self._received_bytes(), np.float32)
        try:
            checks.finite_scales([scales])
        except WorkbookError as error:
            raise WorkbookError(f"{self._label}: {error}") from None

    @contextlib.contextmanager
    def _conversation(self) -> Iterator[None]:
        """Ends the process when a conversation ends early, and says why it did."""
        try:
            yield
        except (EOFError, OSError, LookupError, TypeError, ValueError):  # the process has ended, or talks nonsense
            self._stop()
            raise self._refused(_how_it_ended(self._process.returncode)) from None
        except BaseException:
            self._stop()
            raise

    def _send(self, message: dict[str, Any], data: bytes) -> None:
        self._connection.send_bytes(json.dumps(message).encode())
        self._connection.send_bytes(data)

    def _received(self) -> dict[str, Any]:
        message = json.loads(self._received_bytes())
        if "error" in message:
            raise self._refused(message["error"])
        return message

    def _received_bytes(self) -> bytes:
        return self._connection.recv_bytes(_LARGEST_ANSWER)

    def _tensors(self) -> list[np.ndarray]:
        described = self._received()["tensors"]
        return [np.frombuffer(self._received_bytes(), dtype).reshape(shape) for dtype, shape in described]

    def _refused(self, detail: str) -> WorkbookError:
        detail = schema.text(" ".join(detail.split()))[:200]
        return WorkbookError(f"{self._label}: not a .tflite that LiteRT can run ({detail}): copy or convert it again")


def _end(connection: Connection, process: subprocess.Popen) -> None:
    connection.close()
    process.kill()
    process.wait()


def _how_it_ended(status: int) -> str:
    if status == -signal.SIGALRM:
        return f"it takes more than {_SECONDS} s for an image"
    if status < 0:
        return f"it crashes with {signal.Signals(-status).name}, or needs more than {_MEMORY_BYTES // 2**30} GiB"
    return f"its process ends with status {status}"
