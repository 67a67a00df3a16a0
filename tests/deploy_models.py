"""Int8 models whose every layer is alive, and generated C code as a library that Python calls."""

import ctypes
import shutil
import subprocess
import tempfile
from dataclasses import asdict
from functools import cache
from pathlib import Path

import keras
import numpy as np
import pytest
from tflite_models import made_once

from mbutils import deploy, quantization
from mbutils.deploy import figures, folder, measure, source
from mbutils.deploy.models import Model
from mbutils.deploy.models import patterns as images
from mbutils.deploy.render import render
from mbutils.model import mobilenet
from mbutils.tflite.interpreter import reference_outputs
from mbutils.tflite.reader import read_graph

CORES = {
    **dict.fromkeys(["cortex-m0plus", "cortex-m3", "cortex-m4", "cortex-m7", "cortex-m55"], measure.TOOLS),
    "rv32imac": ("make", "riscv64-unknown-elf-gcc", "qemu-system-riscv32"),
}
C99 = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic"]
SOURCES = Path(deploy.__file__).parent / "c"


@cache
def tflite(alpha, size, channels, classes, variant="int8_per_channel", dead=0.0):
    """An untrained MobileNet v1 whose normalization fits its activations, so that they differ from image to image.

    A share `dead` of all filters is zero.
    """
    name = f"deployed {alpha} {size} {channels} {classes} {variant} {dead}"
    return made_once(name, lambda: _converted(alpha, size, channels, classes, variant, dead))


def _converted(alpha, size, channels, classes, variant, dead):
    keras.utils.set_random_seed(0)
    shape = (size, size, channels)
    network = mobilenet.build(alpha, shape, classes)
    rng = np.random.default_rng(0)
    network.get_layer("classifier").bias.assign(rng.normal(0, 0.1, classes))
    calibration = images(8, shape, seed=1)
    x = calibration.astype(np.float32) / 127.5 - 1
    for layer in network.layers[1:]:
        if dead and isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D):
            _kill(layer, dead)
        if layer.name.endswith("_bn"):
            mean, variance = np.mean(x, axis=(0, 1, 2)), np.var(x, axis=(0, 1, 2))
            gamma, beta = rng.uniform(1, 2, mean.shape), rng.uniform(0, 2, mean.shape)
            beta[variance == 0] = np.resize([-1, 1, 9], (variance == 0).sum())  # what a ReLU6 clamps, and not
            layer.set_weights([gamma, beta, mean, variance + 1e-3])
        x = layer(x).numpy()
    if variant == "int4_pointwise":
        return quantization.to_int8_with_ranges(
            quantization.fake_quantize(quantization.fold(network), calibration, variant)
        )
    return quantization.to_int8(network, calibration, variant)


def _kill(layer, share):
    """Sets a share of the filters of a convolution to zero: (height, width, in, out), depthwise (..., channels, 1)."""
    filters = np.array(layer.kernel)
    chosen = np.random.default_rng(filters.size).random(filters.shape[2:]) < share
    if filters.shape[3] > 1:
        chosen[:] = chosen[0]
    filters[:, :, chosen] = 0
    layer.kernel.assign(filters)


def on_each_core(test):
    """Runs a test with each core that QEMU emulates a board of, where the tools for it are installed."""

    def parameter(core, tools):
        missing = [tool for tool in tools if not shutil.which(tool)]
        if core == "rv32imac" and not missing and not _has_picolibc(tools[1]):
            missing = ["picolibc"]
        return pytest.param(
            core, marks=pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")
        )

    return pytest.mark.parametrize("core", [parameter(*item) for item in CORES.items()])(test)


def _has_picolibc(compiler):
    found = subprocess.run([compiler, "--print-file-name=picolibc.specs"], capture_output=True, text=True)
    return Path(found.stdout.strip()).is_absolute()


def run_on_board(folder, core, *options):
    """Compiles a deployed folder for a core, and returns what it prints on an emulated board."""
    command = ["make", "-s", "qemu", f"CORE={core}", *options]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    return result.stdout


def network_of(content):
    return deploy.Network.from_graph(read_graph(content))


class HostNetwork:
    """A model as C code, compiled for this computer."""

    def __init__(self, content, streamed_layers, min_confidence=0.0):
        self.network = network_of(content)
        self.plan = deploy.plan(self.network, streamed_layers)
        with tempfile.TemporaryDirectory() as work:
            self.text = source.network_c(self.network, self.plan, bool(min_confidence))
            (Path(work) / "network.c").write_text(self.text)
            (Path(work) / "network.h").write_text(source.network_h(self.network, self.plan, bool(min_confidence)))
            threshold = {"min_score": self.network.min_score(min_confidence), "min_confidence": min_confidence}
            names = [f"class {number}" for number in range(self.network.n_classes)]
            (Path(work) / "labels.h").write_text(render("labels.h", class_names=names, **threshold))
            self._library = shared_library(Path(work), "network.c", "-O3")

    def run(self, image, in_arena=True):
        """Returns the logits, int8, the scores, float32, and what network_run returned."""
        guard = 64
        arena = np.full(self.plan.arena_bytes + 2 * guard + 8, 0xA5, np.uint8)
        start = guard - (arena.ctypes.data + guard) % 8 + 8
        inside = arena[start : start + self.plan.arena_bytes]
        scores = np.empty(self.network.n_classes, np.float32)
        pixels = np.ascontiguousarray(image)
        if in_arena:
            pixels = inside[self.plan.image : self.plan.image + image.size]
            pixels[:] = image.ravel()
        before = pixels.copy()
        best = self._library.network_run(pointer(pixels), pointer(scores), pointer(inside))
        assert (arena[:start] == 0xA5).all() and (arena[start + self.plan.arena_bytes :] == 0xA5).all()
        assert in_arena or (pixels == before).all()
        logits = inside[self.plan.logits : self.plan.logits + self.network.n_classes].view(np.int8)
        return logits.copy(), scores, best

    def run_misaligned(self):
        arena = np.zeros(self.plan.arena_bytes + 8, np.uint8)
        return self._library.network_run(None, None, ctypes.c_void_p(arena.ctypes.data // 8 * 8 + 9))


@cache
def host_network(content, streamed_layers=0, min_confidence=0.0):
    """Returns a model as C code; the same one is compiled once."""
    return HostNetwork(content, streamed_layers, min_confidence)


def pointer(values):
    return values.ctypes.data_as(ctypes.c_void_p)


def shared_library(work, name, optimization="-O2"):
    """Compiles a C file in `work`, with the fixed sources on the include path."""
    library = work / "library.so"
    options = [*C99, optimization, "-I", SOURCES, "-shared", "-fPIC"]
    command = ["cc", *options, work / name, "-o", library, "-lm"]
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(library))


def write_folder(out, content, contract, class_names, count=2, streamed_layers=0):
    """Writes a whole deployed folder of a model that belongs to no run."""
    network = deploy.Network.from_graph(read_graph(content), contract.scaling)
    plan = deploy.plan(network, streamed_layers)
    vectors = images(count, network.image_shape, seed=2)
    outputs = reference_outputs(content, vectors, scaling=contract.scaling)
    model = Model("model", "model", content, contract, class_names, images, "patterns", {})
    facts = {
        "preprocessing": asdict(contract),
        "min_confidence": 0.0,
        "stages": figures.stages(plan, read_graph(content).ops),
    }
    folder.write(out, folder.files(model, network, plan, vectors, outputs), facts)
