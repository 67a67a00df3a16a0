"""The C sources of one network: network.h and network.c."""

import re
from itertools import count
from math import prod

import numpy as np

from mbutils.deploy.layers import Layer
from mbutils.deploy.memory import ALIGNMENT, Plan, Step, is_flat
from mbutils.deploy.network import Network
from mbutils.deploy.render import braced, render
from mbutils.deploy.scratch import VECTOR, padded
from mbutils.tflite.requantize import SHIFT_BITS

_WITH_KINDS = ("nn_convolution", "nn_depthwise")


def network_h(network: Network, plan: Plan, has_threshold: bool = False, model_id: str = "") -> str:
    """Returns network.h: what an application calls, and how much memory it must provide.

    A board tells the id of its model to `mb check`.
    """
    return render(
        "network.h",
        network=network,
        plan=plan,
        image_bytes=prod(network.image_shape),
        alignment=ALIGNMENT,
        has_threshold=has_threshold,
        model_id=model_id,
    )


def network_c(network: Network, plan: Plan, has_threshold: bool = False) -> str:
    """Returns network.c: weights, and the calls of the kernels; with a threshold, that in labels.h is used."""
    layers = network.layers
    heights = [layer.window[0] for layer in layers if layer.kernel in _WITH_KINDS]
    symbols = _symbols(network)
    return render(
        "network.c",
        network=network,
        plan=plan,
        max_rows=max(heights, default=1),
        max_steps=max(map(len, plan.stages)),
        shift_bits=SHIFT_BITS if network.is_packed else 0,
        subtracts_128=bool((network.table == np.arange(-128, 128)).all()),
        score_scale=f"{np.float32(network.score_scale):.9g}f",
        has_threshold=has_threshold,
        symbols=symbols,
        layers=[
            _layer(step, symbols[step.layer], is_flat(stage, step.layer), network.is_packed)
            for stage in plan.stages
            for step in stage
        ],
        stages=[
            (stage, [_step(step, symbols, is_flat(stage, step.layer), network.is_packed) for step in stage])
            for stage in plan.stages
        ],
    )


def _symbols(network: Network) -> dict[Layer, str]:
    """Returns a C name for each layer, each different."""
    symbols: dict[Layer, str] = {}
    for layer in network.layers:
        plain = re.sub(r"\W", "_", layer.name, flags=re.ASCII)
        plain = plain if plain[:1].isalpha() else f"layer_{plain}"
        candidates = (plain if i == 0 else f"{plain}_{i + 1}" for i in count())
        symbols[layer] = next(name for name in candidates if name not in symbols.values())
    return symbols


def _layer(step: Step, symbol: str, flat: bool, packed: bool) -> tuple[str, dict[str, np.ndarray], list[str]]:
    """Returns the C name of a layer, its constant arrays, and the initializers of its `nn_layer`."""
    arrays = _arrays(step.layer, packed)
    members = {**_members(step, flat), **{name: f"{symbol}_{name}" for name in arrays}}
    return symbol, arrays, [f".{name} = {value}" for name, value in members.items()]


def _arrays(layer: Layer, packed: bool) -> dict[str, np.ndarray]:
    """Returns the constant arrays of a layer by member of `nn_layer`.

    Where weights are packed, flash counts more than a few instructions: multipliers hold their shifts.
    """
    arrays: dict[str, np.ndarray] = {}
    if layer.weights is not None:
        arrays["weights"] = layer.weights
    if layer.bias is not None:
        arrays |= {"bias": layer.bias, "multiplier": layer.multiplier, "right": -1 - layer.shift}
    if packed and layer.kernel in _WITH_KINDS and (held := layer.multiplier_with_shift()) is not None:
        arrays["multiplier"] = held
        del arrays["right"]
    if layer.kernel == "nn_convolution":
        weights = _packed(layer.weights) if layer.bits == 4 else _interleaved(layer.weights)
        arrays |= {"weights": weights, "bias": np.pad(layer.bias, (0, len(layer.bias) % 2))}
    return arrays


def _interleaved(weights: np.ndarray) -> np.ndarray:
    """Returns the weights of a convolution, (out, each), as kernels.h reads them: (out / 2, padded each / 4, 2, 4).

    Helium reads the last two channels to the end of a vector, so zeros follow them.
    """
    pairs = _pairs(weights)
    each = pairs.shape[2]
    interleaved = pairs.reshape(len(pairs), 2, -1, 4).transpose(0, 2, 1, 3)
    return np.pad(interleaved.ravel(), (0, 2 * (-each % VECTOR)))


def _packed(weights: np.ndarray) -> np.ndarray:
    """Returns the weights of 4 bits of a convolution, (out, each), as kernels.h reads them: (out / 2, padded each)."""
    pairs = _pairs(weights)
    packed = 16 * pairs[:, 0] + pairs[:, 1] + 8
    return np.pad(packed.ravel(), (0, -pairs.shape[2] % VECTOR))


def _pairs(weights: np.ndarray) -> np.ndarray:
    """Returns the weights of pairs of channels, with zeros in what is missing: (out / 2, 2, padded each)."""
    channels, each = weights.shape
    return np.pad(weights, ((0, channels % 2), (0, padded(each) - each))).reshape(-1, 2, padded(each))


def _members(step: Step, flat: bool) -> dict[str, int]:
    """Returns the numbers of a layer by member of `nn_layer`."""
    layer = step.layer
    shapes = [layer.input_shape, layer.output_shape]
    if flat:
        shapes = [(1, height * width, channels) for height, width, channels in shapes]
    members = {
        f"{side}_{axis}": value
        for side, shape in zip(("in", "out"), shapes, strict=True)
        for axis, value in zip(("height", "width", "channels"), shape, strict=True)
    }
    for name, (vertical, horizontal) in {"kernel": layer.window, "stride": layer.stride}.items():
        members |= {f"{name}_height": vertical, f"{name}_width": horizontal}
    members |= {"pad_top": layer.padding[0], "pad_left": layer.padding[1]}
    members |= {"in_zero": layer.zero_points[0], "out_zero": layer.zero_points[1]}
    members |= {"low": layer.clamp[0], "high": layer.clamp[1]}
    if layer.multiplier is not None:
        members["per_channel"] = int(len(layer.multiplier) > 1)
    if layer.kernel == "nn_depthwise":
        members |= {"pairs": step.pairs, "keeps_pairs": int(step.keeps_pairs)}
    if layer.kernel == "nn_fully_connected":
        members |= {"patch": layer.weights.shape[1], "weights_each": layer.weights.shape[1]}
    if layer.kernel == "nn_convolution":
        members |= {"patch": layer.weights.shape[1], "weights_each": padded(layer.weights.shape[1]), "bits": layer.bits}
    return members


def _step(step: Step, symbols: dict[Layer, str], flat: bool, packed: bool) -> str:
    """Returns the initializer of an `nn_step`."""
    rows = (1, 1) if flat else (step.input_rows, step.output_rows)
    buffers = (step.input, rows[0], step.output, rows[1], step.scratch)
    return braced((_function(step.layer, packed), f"&{symbols[step.layer]}", *buffers))


def _function(layer: Layer, packed: bool) -> str:
    """Returns the name of the kernel for what is known of the outputs, and whether the network packs weights."""
    if layer.kernel == "nn_convolution" and packed:
        return f"nn_packed_convolution_{layer.packed_kind}"
    return f"{layer.kernel}_{layer.kind}" if layer.kernel in _WITH_KINDS else layer.kernel
