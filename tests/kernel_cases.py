"""Networks of one or two layers, what they compute in exact arithmetic, and a C program that compares both."""

import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mbutils import deploy
from mbutils.deploy import source
from mbutils.deploy.layers import Layer
from mbutils.deploy.memory import deepest
from mbutils.deploy.network import Network
from mbutils.deploy.render import array
from mbutils.tflite import requantize

HERE = Path(__file__).parent
SOURCES = Path(deploy.__file__).parent / "c"


@dataclass(frozen=True, eq=False)
class Case:
    """Layers that run together, an input, int8, and the output that the reference kernels compute for it.

    The arena may be larger than it has to be by `spare_bytes`.
    """

    name: str
    layers: tuple[Layer, ...]
    values: np.ndarray
    output: np.ndarray
    spare_bytes: int = 0

    @property
    def network(self):
        """The layers, with a softmax over the first pixel of their output."""
        identity = np.arange(-128, 128).astype(np.int8)
        return Network(self.values.shape, identity, self.layers, requantize.softmax_scaling(1.0, 0.1), 1 / 256, -128)


def case(name, layers, rng, spare_bytes=0):
    """Returns layers with an input of noise and of the least and largest int8."""
    values = rng.integers(-128, 128, layers[0].input_shape)
    extremes = rng.random(values.shape) < 0.2
    values[extremes] = rng.choice([-128, 127], int(extremes.sum()))
    output = values
    for one in layers:
        output = computed(one, output)
    named = tuple(replace(one, name=f"{name}_{i}") for i, one in enumerate(layers))
    return Case(name, named, values.astype(np.int8), output.astype(np.int8), spare_bytes)


# ---- The reference: common.cc, conv.h, depthwise_conv.h, fully_connected.h, reduce.h and pad.h of TensorFlow Lite ----


def computed(layer, values):
    """Returns what a layer makes of its input, both int8 of shape (height, width, channels)."""
    zero_in, zero_out = layer.zero_points
    if layer.kernel == "nn_pad":
        return _padded(layer, values, zero_in)
    if layer.kernel == "nn_mean":
        sums = (values - zero_in).sum(axis=(0, 1), keepdims=True)
        return _output(layer, _scaled_twice(sums, layer.multiplier, layer.shift), zero_out)
    sums = _sums(layer, values - zero_in) + _own_bias(layer)
    scaled = _scaled_once if layer.kernel == "nn_fully_connected" else _scaled_twice
    return _output(layer, scaled(sums, layer.multiplier, layer.shift), zero_out)


def _own_bias(layer):
    """Returns the bias of the model: that of the layer is less the zero point times the sum of the weights."""
    axis = 0 if layer.kernel == "nn_depthwise" else 1
    return layer.bias + layer.zero_points[0] * layer.weights.sum(axis=axis, dtype=np.int64)


def _sums(layer, values):
    if layer.kernel == "nn_fully_connected":
        return (layer.weights.astype(np.int64) @ values.ravel()).reshape(layer.output_shape)
    padded = _padded(layer, values, 0)
    height, width = layer.window
    sums = np.zeros(layer.output_shape, np.int64)
    for y, x in np.ndindex(layer.output_shape[:2]):
        top, left = y * layer.stride[0], x * layer.stride[1]
        patch = padded[top : top + height, left : left + width]
        if layer.kernel == "nn_depthwise":
            sums[y, x] = (patch.reshape(height * width, -1) * layer.weights.astype(np.int64)).sum(axis=0)
        else:
            sums[y, x] = layer.weights.astype(np.int64) @ patch.ravel()
    return sums


def _padded(layer, values, with_what):
    """Returns a map with its frame: as far as the layer reads, or as a layer of padding writes it."""
    read = [
        (rows - 1) * stride + size
        for rows, stride, size in zip(layer.output_shape, layer.stride, layer.window, strict=False)
    ]
    frame = [
        (before, max(last - before - rows, 0))
        for before, last, rows in zip(layer.padding, read, values.shape, strict=False)
    ]
    return np.pad(values.astype(np.int64), [*frame, (0, 0)], constant_values=with_what)


def _scaled_twice(sums, multiplier, shift):
    """SaturatingRoundingDoublingHighMul, then RoundingDivideByPOT."""
    multiplier, shift = multiplier.astype(np.int64), shift.astype(np.int64)
    products = (sums << np.maximum(shift, 0)) * multiplier
    nudged = products + np.where(products >= 0, 2**30, 1 - 2**30)
    high = np.where(nudged >= 0, nudged >> 31, -(-nudged >> 31))
    exponent = np.maximum(-shift, 0)
    mask = (1 << exponent) - 1
    return (high >> exponent) + ((high & mask) > (mask >> 1) + (high < 0))


def _scaled_once(sums, multiplier, shift):
    total = 31 - shift.astype(np.int64)
    return (sums * multiplier.astype(np.int64) + (1 << (total - 1))) >> total


def _output(layer, scaled, zero):
    return np.clip(scaled + zero, *layer.clamp)


# ---- Layers ----------------------------------------------------------------------------------------------------------


def layer(kernel, input_shape, channels=0, window=(1, 1), stride=(1, 1), padding="SAME", rng=None, **settings):
    """Returns a layer with weights of its own, and multipliers that spread its outputs over the range of int8.

    Args:
        kernel: The function in kernels.h.
        input_shape: (height, width, channels).
        channels: Those of the output, where the kernel does not fix them.
        window, stride: (height, width) of the kernel and of its steps.
        padding: "SAME", "VALID", or the rows and columns (top, left) of a layer of padding, as many at the other side.
        rng: The random numbers.
        settings: `zero_points`, `clamp`, `per_channel`, `gain` (1 spreads the outputs, less or more than that),
            `bias` (the largest), `bits` (of a weight, 8 or 4).
    """
    zero_points = settings.get("zero_points", (-128, -128))
    sides = list(zip(input_shape[:2], window, stride, strict=True))
    shape = [-(-rows // step) if padding == "SAME" else (rows - size) // step + 1 for rows, size, step in sides]
    missing = [max((out - 1) * step + size - rows, 0) for out, (rows, size, step) in zip(shape, sides, strict=True)]
    common = {"name": "layer", "kernel": kernel, "input_shape": input_shape, "zero_points": zero_points}
    if kernel == "nn_pad":
        output_shape = tuple(rows + 2 * more for rows, more in zip(input_shape, (*padding, 0), strict=True))
        return Layer(**common, output_shape=output_shape, padding=padding)
    if kernel == "nn_mean":
        pixels = input_shape[0] * input_shape[1]
        multiplier, shift = requantize.quantized_multipliers([settings.get("gain", 1) * rng.uniform(0.8, 1.2) / pixels])
        return Layer(
            **common,
            output_shape=(1, 1, input_shape[2]),
            bias=np.array([-zero_points[0] * pixels], np.int32),
            multiplier=multiplier,
            shift=shift,
        )
    channels = channels or input_shape[2]
    each = window[0] * window[1] * (1 if kernel == "nn_depthwise" else input_shape[2])
    if kernel == "nn_fully_connected":
        shape, each = [1, 1], int(np.prod(input_shape))
        common["input_shape"] = (1, 1, each)
    bits = settings.get("bits", 8)
    least, largest = (-127, 127) if bits == 8 else (-8, 7)
    weights = rng.integers(least, largest + 1, (channels, each))
    weights[rng.random(weights.shape) < 0.1] = rng.choice([least, largest])
    most = settings.get("bias", 2**12)
    bias = rng.integers(-most, most + 1, channels)
    reals = settings.get("gain", 1) * rng.uniform(0.5, 2, channels) / (80 * largest / 127 * np.sqrt(each))
    multiplier, shift = requantize.quantized_multipliers(reals if settings.get("per_channel", True) else reals[:1])
    return Layer(
        **common,
        output_shape=(*shape, channels),
        window=window,
        stride=stride,
        padding=tuple(total // 2 if padding == "SAME" else 0 for total in missing),
        clamp=settings.get("clamp", (-128, 127)),
        weights=(weights.T if kernel == "nn_depthwise" else weights).astype(np.int8),
        bits=bits,
        bias=(bias - zero_points[0] * weights.sum(axis=1)).astype(np.int32),
        multiplier=multiplier,
        shift=shift,
    )


# ---- The program -----------------------------------------------------------------------------------------------------

_HEADER = """#ifndef KERNEL_CASES_H
#define KERNEL_CASES_H
#include <stdint.h>

typedef struct {{
    const char *name;
    int (*run)(const uint8_t *image, float *scores, uint8_t *arena);
    int arena_bytes, image_offset, image_bytes, output_offset, output_bytes;
    const uint8_t *image;
    const int8_t *output;
}} kernel_case;

#define MOST_ARENA_BYTES {most_arena}
#define MOST_CLASSES {most_classes}
#define CASES {addresses}
{declarations}
#endif
"""

_CASE = """
#define network_run {symbol}_run
{network_h}
{network_c}
{image}
{output}
const kernel_case {symbol} = {{
    "{symbol}", network_run, NETWORK_ARENA_BYTES, NETWORK_IMAGE_OFFSET, sizeof {symbol}_image, NETWORK_LOGITS_OFFSET,
    sizeof {symbol}_output, {symbol}_image, {symbol}_output,
}};
{undefined}
"""


def write_program(folder, cases):
    """Writes a program that runs cases, next to the sources of every deployed folder; returns its C files.

    Cases for which kernels.h is compiled in the same way share a file.
    """
    shutil.copytree(SOURCES, folder)
    shutil.copy(HERE / "kernel_cases.c", folder)
    plans = [deploy.plan(one.network, deepest(one.network), one.spare_bytes) for one in cases]
    (folder / "kernel_cases.h").write_text(
        _HEADER.format(
            most_arena=max(plan.arena_bytes for plan in plans),
            most_classes=max(one.network.n_classes for one in cases),
            declarations="\n".join(f"extern const kernel_case {one.name};" for one in cases),
            addresses=", ".join(f"&{one.name}" for one in cases),
        )
    )
    (folder / "network.h").write_text('#include "kernel_cases.h"\n')  # each case holds its own network.h
    files = {}
    for one, plan in zip(cases, plans, strict=True):
        text = source.network_c(one.network, plan)
        options = tuple(re.findall(r"^#define NN_.*", text, re.MULTILINE))
        name = files.setdefault(options, f"cases_{len(files)}.c")
        with (folder / name).open("a") as file:
            file.write(_case(one, source.network_h(one.network, plan), text))
    return ["kernel_cases.c", *files.values()]


def _case(one, network_h, network_c):
    image = (one.values.astype(np.int16) + 128).astype(np.uint8)
    names = ["network_run", *re.findall(r"#define (NETWORK_\w+)", network_h)]
    return _CASE.format(
        symbol=one.name,
        network_h=network_h,
        network_c=network_c,
        image=array(image, f"{one.name}_image"),
        output=array(one.output, f"{one.name}_output"),
        undefined="\n".join(f"#undef {name}" for name in names),
    )
