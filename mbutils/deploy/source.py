"""The C sources of one network: network.h, network.c, and the data around it."""

import re
from collections.abc import Iterable, Iterator
from itertools import count

import numpy as np

from mbutils.deploy import requantize
from mbutils.deploy.layers import Layer, Network
from mbutils.deploy.memory import ALIGNMENT, Plan, Step, is_flat, padded

_COLUMNS = 118
_C_TYPES = {"int8": "int8_t", "uint8": "uint8_t", "int32": "int32_t", "float32": "float"}


def network_h(network: Network, plan: Plan) -> str:
    """Returns network.h: what an application calls, and how much memory it must give."""
    height, width, channels = network.image_shape
    return f"""/* An int8 image classifier. Generated: change the model, not this file. */
#ifndef NETWORK_H
#define NETWORK_H

#include <stdint.h>

#define NETWORK_IMAGE_HEIGHT {height}
#define NETWORK_IMAGE_WIDTH {width}
#define NETWORK_IMAGE_CHANNELS {channels}
#define NETWORK_IMAGE_BYTES {height * width * channels}
#define NETWORK_CLASSES {network.n_classes}

#define NETWORK_ARENA_BYTES {plan.arena_bytes}
#define NETWORK_ARENA_ALIGNMENT {ALIGNMENT}

/* Where in the arena an image takes no memory of its own. It is overwritten there; elsewhere it stays as it is. */
#define NETWORK_IMAGE_OFFSET {plan.image}

/* Where in the arena the int8 outputs before the softmax lie after network_run. */
#define NETWORK_LOGITS_OFFSET {plan.logits}

/* Classifies an image: uint8, [height][width][channels], as preprocess.h makes it.
 * Writes NETWORK_CLASSES scores in 0..1, and returns the place of the highest; -1 if the arena is not aligned.
 * The arena holds nothing between two calls, so anything else may use it then. */
int network_run(const uint8_t *image, float *scores, uint8_t *arena);

#endif
"""


def network_c(network: Network, plan: Plan) -> str:
    """Returns network.c: weights, and the calls of the kernels."""
    symbols = _symbols(network)
    parts = [_head(network, plan)]
    if not is_flip(network.table):
        parts.append(array("pixel_values", network.table))
    for stage in plan.stages:
        for step in stage:
            parts.append(_layer(step.layer, symbols[step.layer], is_flat(stage, step.layer)))
    runs = [(stage, symbols[stage[0].layer]) for stage in plan.stages if stage[0].layer.works_by_rows]
    parts += [_stage(stage, name, symbols) for stage, name in runs]
    return "\n".join([*parts, _run(network, plan, symbols)])


def array(name: str, values: np.ndarray) -> str:
    """Returns the definition of a constant array."""
    return f"static const {_C_TYPES[values.dtype.name]} {name}[{values.size}] = {{\n{_numbers(values)}}};\n"


def is_flip(table: np.ndarray) -> bool:
    """Whether pixels become int8 by subtracting 128."""
    return bool((table == np.arange(-128, 128)).all())


def string(text: str) -> str:
    """Returns a C string literal in UTF-8; what is not printable ASCII is escaped."""
    plain = (chr(byte) if 32 <= byte < 127 and chr(byte) not in '"\\?' else f"\\{byte:03o}" for byte in text.encode())
    return f'"{"".join(plain)}"'


def _numbers(values: np.ndarray) -> str:
    texts = [repr(value) for value in values.ravel().tolist()]
    width = max(map(len, texts)) + 2
    each = max(_COLUMNS // width, 1)
    rows = (texts[i : i + each] for i in range(0, len(texts), each))
    # INT32_MIN has no literal of its own in C.
    return "".join(f"    {', '.join(row)},\n" for row in rows).replace("-2147483648", "-2147483647 - 1")


def _symbols(network: Network) -> dict[Layer, str]:
    """Returns a C name for each layer, each different."""
    symbols: dict[Layer, str] = {}
    for layer in network.layers:
        plain = re.sub(r"\W", "_", layer.name, flags=re.ASCII)
        plain = plain if plain[:1].isalpha() else f"layer_{plain}"
        candidates = (plain if i == 0 else f"{plain}_{i + 1}" for i in count())
        symbols[layer] = next(name for name in candidates if name not in symbols.values())
    return symbols


def _head(network: Network, plan: Plan) -> str:
    heights = [layer.window[0] for layer in network.layers if layer.kernel == "nn_depthwise"]
    rounded_twice = [layer for layer in network.layers if layer.kernel not in ("nn_pad", "nn_fully_connected")]
    half = any((layer.shift > -1).any() for layer in rounded_twice)
    large = any(layer.largest_sum >= requantize.SMALL_SUM for layer in network.layers)
    clamps = any(layer.clamp != (-128, 127) for layer in network.layers)
    return f"""/* Weights, and which kernel runs on what. Generated: change the model, not this file. */
#include "network.h"

#define NN_MAX_ROWS {max(heights, default=1)}
#define NN_MAX_STEPS {max(map(len, plan.stages))}
#define NN_CLAMPS {int(clamps)}
#define NN_LARGE_SUMS {int(large)}
#define NN_MULTIPLIES_BY_HALF {int(half)}
#include "kernels.h"
"""


def _layer(layer: Layer, symbol: str, flat: bool) -> str:
    """Returns the arrays and the record of a layer."""
    arrays = _arrays(layer)
    text = "".join(array(f"{symbol}_{name}", values) for name, values in arrays.items())
    record = {**_record(layer, flat), **{name: f"{symbol}_{name}" for name in arrays}}
    fields = [f".{name} = {value}" for name, value in record.items()]
    rows = [", ".join(fields[i : i + 4]) for i in range(0, len(fields), 4)]
    return text + f"static const nn_layer {symbol} = {{\n    " + ",\n    ".join(rows) + ",\n};\n"


def _arrays(layer: Layer) -> dict[str, np.ndarray]:
    """Returns the constant arrays of a layer by field of `nn_layer`."""
    arrays: dict[str, np.ndarray] = {}
    if layer.weights is not None:
        arrays["weights"] = layer.weights
    if layer.kernel == "nn_convolution":
        each = layer.weights.shape[1]
        arrays["weights"] = np.pad(layer.weights, ((0, 0), (0, padded(each) - each)))
    if layer.bias is not None:
        arrays |= {"bias": layer.bias, "multiplier": layer.multiplier, "right": -1 - layer.shift}
    return arrays


def _record(layer: Layer, flat: bool) -> dict[str, int]:
    shapes = [layer.input_shape, layer.output_shape]
    if flat:
        shapes = [(1, height * width, channels) for height, width, channels in shapes]
    record = {
        f"{side}_{axis}": value
        for side, shape in zip(("in", "out"), shapes, strict=True)
        for axis, value in zip(("height", "width", "channels"), shape, strict=True)
    }
    for name, (vertical, horizontal) in {"kernel": layer.window, "stride": layer.stride}.items():
        record |= {f"{name}_height": vertical, f"{name}_width": horizontal}
    record |= {"pad_top": layer.padding[0], "pad_left": layer.padding[1]}
    record |= {"in_zero": layer.zero_points[0], "out_zero": layer.zero_points[1]}
    record |= {"low": layer.clamp[0], "high": layer.clamp[1]}
    if layer.multiplier is not None:
        record["per_channel"] = int(len(layer.multiplier) > 1)
    if layer.kernel == "nn_fully_connected":
        record |= {"patch": layer.weights.shape[1], "weights_each": layer.weights.shape[1]}
    if layer.kernel == "nn_convolution":
        record |= {"patch": layer.weights.shape[1], "weights_each": padded(layer.weights.shape[1])}
    return record


def _stage(stage: tuple[Step, ...], name: str, symbols: dict[Layer, str]) -> str:
    lines = []
    for step in stage:
        rows = (1, 1) if is_flat(stage, step.layer) else (step.input_rows, step.output_rows)
        values = (step.input, rows[0], step.output, rows[1], step.scratch)
        lines.append(f"    {{{step.layer.kernel}, &{symbols[step.layer]}, {', '.join(map(str, values))}}},\n")
    return f"static const nn_step {name}_steps[] = {{\n{''.join(lines)}}};\n"


def _run(network: Network, plan: Plan, symbols: dict[Layer, str]) -> str:
    multiplier, shift, least = network.softmax
    score_scale = f"{np.float32(network.score_scale):.9g}f"
    classes = network.n_classes
    body = [f"    {line}\n" for line in _calls(network, plan, symbols)]
    return f"""int network_run(const uint8_t *image, float *scores, uint8_t *arena)
{{
    int8_t *const base = (int8_t *)arena;
    if ((uintptr_t)arena % NETWORK_ARENA_ALIGNMENT) return -1;
{"".join(body)}    nn_softmax(base + {plan.logits}, {classes}, {multiplier}, {shift}, {least}, base + {plan.scores});
    return nn_dequantize(base + {plan.scores}, {classes}, {score_scale}, {network.score_zero}, scores);
}}
"""


def _calls(network: Network, plan: Plan, symbols: dict[Layer, str]) -> Iterator[str]:
    table = "" if is_flip(network.table) else "pixel_values, "
    function = "nn_quantize_by_table" if table else "nn_quantize"
    yield f"{function}(image, NETWORK_IMAGE_BYTES, {table}base + {plan.image});"
    for stage in plan.stages:
        symbol = symbols[stage[0].layer]
        if stage[0].layer.works_by_rows:
            yield f"nn_run({symbol}_steps, {len(stage)}, arena);"
        else:
            yield f"{stage[0].layer.kernel}(&{symbol}, base + {stage[0].input}, base + {stage[0].output});"


def labels_h(class_names: Iterable[str]) -> str:
    """Returns labels.h: the classes in the order of the scores."""
    names = list(class_names)
    lines = "".join(f"    {string(name)},\n" for name in names)
    return f"""/* The classes in the order of the scores. */
#ifndef LABELS_H
#define LABELS_H

static const char *const labels[{len(names)}] = {{
{lines}}};

#endif
"""
