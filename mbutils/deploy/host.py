"""The C code of an int8 model, compiled for this computer and called from Python."""

import ctypes
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from mbutils.deploy import source
from mbutils.deploy.memory import ALIGNMENT, plan
from mbutils.deploy.network import Network
from mbutils.errors import WorkbookError
from mbutils.tflite.reader import read_graph

_KERNELS = Path(__file__).parent / "c"
_SECONDS = 120  # for the compiler


class HostNetwork:
    """The network that `deploy` writes for a model, as a library of this process.

    Args:
        tflite: An int8 model.

    Raises:
        WorkbookError: If the model has no C kernels, or no C compiler is installed.
    """

    def __init__(self, tflite: bytes) -> None:
        self._network = Network.from_graph(read_graph(tflite))
        self._plan = plan(self._network)
        with tempfile.TemporaryDirectory() as folder:
            work = Path(folder)
            (work / "network.h").write_text(source.network_h(self._network, self._plan))
            (work / "network.c").write_text(source.network_c(self._network, self._plan))
            self._library = ctypes.CDLL(str(_compiled(work)))  # stays loaded without its file

    def predict_on_batch(self, images: np.ndarray) -> np.ndarray:
        """Scores images, uint8 (n, height, width, channels), one after the other: float32, shape (n, n_classes)."""
        memory = np.zeros(self._plan.arena_bytes + ALIGNMENT, np.uint8)
        arena = memory[-memory.ctypes.data % ALIGNMENT :]
        scores = np.empty((len(images), self._network.n_classes), np.float32)
        for image, row in zip(np.ascontiguousarray(images), scores, strict=True):
            self._library.network_run(_pointer(image), _pointer(row), _pointer(arena))
        return scores


def has_compiler() -> bool:
    """Returns whether a C compiler is installed."""
    return shutil.which("cc") is not None


def _compiled(work: Path) -> Path:
    if not has_compiler():
        raise WorkbookError("no C compiler, cc, is installed: install one, such as gcc")
    command = ["cc", "-std=c99", "-O2", "-I", _KERNELS, "-shared", "-fPIC", "network.c", "-o", "network.so"]
    result = subprocess.run(command, cwd=work, capture_output=True, text=True, timeout=_SECONDS)
    if result.returncode:
        raise WorkbookError(f"cc failed: {' '.join(result.stderr.strip().splitlines()[-1:])}")
    return work / "network.so"


def _pointer(values: np.ndarray) -> ctypes.c_void_p:
    return values.ctypes.data_as(ctypes.c_void_p)
