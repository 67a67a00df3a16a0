"""Leaves out of a graph the channels that are the same for every image; its outputs do not change by one bit.

A filter of zeros gives a channel of one value, and so does one that reads nothing but such channels, or that its
activation function always clamps. The value goes, times the weights that read it, into the biases of the next layer. A
convolution that pads does so with the zero point of its input: from there a channel can only leave if its value is the
zero point, since any other one ends at the border. STM32Cube.AI leaves channels of zero filters out since 8.1.
"""

from dataclasses import replace

import numpy as np

from mbutils.tflite import requantize
from mbutils.tflite.graph import Graph, Op, Tensor
from mbutils.tflite.ops import ALIASES, CONVOLUTIONS, PADS, POOLINGS, REDUCTIONS

# What an op does with the channels of its input.
_MIXES = "mixes"  # each channel of the output has a filter over all of them
_CARRIES = "carries"  # each channel of the output is made from the one at its place
_NEEDS_ALL = "needs all"  # no rules here

_WITH_RULES = CONVOLUTIONS | POOLINGS | PADS | REDUCTIONS | {"FULLY_CONNECTED"}
_LARGEST = 2**31 - 1


def without_constant_channels(graph: Graph) -> Graph:
    """Returns the graph without the channels that are constant, or that no filter reads; itself if all are alive.

    Of a layer that would be left without channels, one stays. The inputs of ops without rules here stay whole, such as
    those of ADD and CONCATENATION, and so do the classes.
    """
    ranges = _ranges(graph)
    kept = _kept(graph, ranges)
    if all(mask.all() for mask in kept.values()):
        return graph
    thinned = {tensor: _thinned(tensor, mask) for tensor, mask in kept.items()}
    ops, seen = [], set()
    for op in graph.ops:
        constants = _constants(op, ranges[op.inputs[0]], kept[op.inputs[0]], kept[op.outputs[0]])
        inputs, outputs = (tuple(thinned[tensor] for tensor in side) for side in (op.inputs, op.outputs))
        op = replace(op, inputs=inputs, constants=constants, outputs=outputs)
        ops.append(replace(op, own_weights=tuple(tensor for tensor in op.weights if tensor not in seen)))
        seen.update(op.weights)
    return replace(graph, ops=tuple(ops))


def _ranges(graph: Graph) -> dict[Tensor, np.ndarray]:
    """Returns the least and largest value of each channel of each activation: int64, shape (2, channels).

    A map that was flattened has the channels of the map.
    """
    ranges = {tensor: _any_value(tensor) for tensor in graph.inputs}
    for op in graph.ops:
        read = ranges[op.inputs[0]]
        ranges |= {tensor: _any_value(tensor) for tensor in op.outputs}
        if op.is_convolution and _role(op, read) != _NEEDS_ALL:
            ranges[op.outputs[0]] = _convolved(op, read)
        elif _role(op, read) == _CARRIES:
            ranges[op.outputs[0]] = _carried(op, read)
    return ranges


def _any_value(tensor: Tensor) -> np.ndarray:
    return np.tile([[-128], [127]], tensor.shape[-1:] or 1)


def _kept(graph: Graph, ranges: dict[Tensor, np.ndarray]) -> dict[Tensor, np.ndarray]:
    """Returns which channels of each activation stay: bool, shape (channels,)."""
    ends = (*graph.inputs, *graph.outputs)
    kept = {tensor: np.full(read.shape[1], tensor in ends) for tensor, read in ranges.items()}
    roles = {op: _role(op, ranges[op.inputs[0]]) for op in graph.ops}
    for op in reversed(graph.ops):
        source, output = op.inputs[0], op.outputs[0]
        if roles[op] == _NEEDS_ALL:
            kept |= {tensor: np.ones_like(kept[tensor]) for tensor in (*op.inputs, *op.outputs)}
        elif roles[op] == _CARRIES:
            kept[source] |= kept[output]
        else:
            kept[output] |= op.code == "FULLY_CONNECTED"
            kept[output][0] |= not kept[output].any()
            is_read = _filters(op, ranges[source])[kept[output]].any(axis=(0, 1))
            kept[source] |= is_read & ~_may_leave(op, ranges[source])
    for op in graph.ops:  # what carries the channels of a map has those that other ops need of it
        if roles[op] == _CARRIES:
            kept[op.outputs[0]] = kept[op.inputs[0]]
    return kept


def _role(op: Op, read: np.ndarray) -> str:
    """Returns what an op does with the channels that it reads."""
    channels, source, output = read.shape[1], op.inputs[0], op.outputs[0]
    if op.code in ALIASES:
        return _CARRIES if output.shape and output.shape[-1] % channels == 0 else _NEEDS_ALL
    if not _has_rules(op):
        return _NEEDS_ALL
    if op.code == "FULLY_CONNECTED":
        return _MIXES if op.weights[0].shape[1] % channels == 0 else _NEEDS_ALL
    if len(source.shape) != 4 or source.shape[3] != channels:
        return _NEEDS_ALL
    if op.code == "CONV_2D":
        return _MIXES if op.weights[0].shape[3] == channels else _NEEDS_ALL
    if op.code == "DEPTHWISE_CONV_2D" and channels == 1:
        return _MIXES
    if op.code in REDUCTIONS and {int(axis) % 4 for axes in op.constants for axis in axes.values.ravel()} != {1, 2}:
        return _NEEDS_ALL
    return _CARRIES if output.shape[-1] == channels else _NEEDS_ALL


def _has_rules(op: Op) -> bool:
    """Whether the reference arithmetic of an op is known here, and its tensors fit together."""
    if op.code not in _WITH_RULES or op.activation not in requantize.CLAMPS or len(op.inputs + op.outputs) != 2:
        return False
    (source, output), kernels = (*op.inputs, *op.outputs), op.weights[:1]
    if any(tensor.dtype not in ("INT8", "INT4") or not len(tensor.scales) for tensor in (source, output, *kernels)):
        return False
    each = [tensor.shape[3 if op.code == "DEPTHWISE_CONV_2D" else 0] for tensor in kernels]
    each += [bias.size for bias in op.weights[1:]]
    each += [len(tensor.scales) for tensor in kernels if len(tensor.scales) > 1]
    scale_in, scale_out = (requantize.quantization(tensor)[0] for tensor in (source, output))
    largest = max((float(tensor.scales.max()) for tensor in kernels), default=1.0)
    return set(each) <= set(output.shape[-1:]) and scale_out > 0 and 0 < scale_in * largest / scale_out < _LARGEST


def _convolved(op: Op, read: np.ndarray) -> np.ndarray:
    """Returns the ranges behind a convolution, over all positions: some taps may lie in the padding."""
    filters, offsets = _filters(op, read), read - op.inputs[0].zero_point
    low, high = offsets[:, :, None, None] if _role(op, read) == _CARRIES else offsets[:, None, None]
    rising, falling = np.maximum(filters, 0), np.minimum(filters, 0)
    inside, bias = _taps_inside(op), _bias(op)
    least = bias + (inside @ (rising * low + falling * high).sum(axis=2).T).min(axis=0)
    largest = bias + (inside @ (rising * high + falling * low).sum(axis=2).T).max(axis=0)
    multiplier, shift = (np.broadcast_to(array, len(filters)).tolist() for array in requantize.multipliers(op))
    ends = [list(map(requantize.scaled, sums.tolist(), multiplier, shift)) for sums in (least, largest)]
    overflows = np.ldexp(np.maximum(np.abs(least), np.abs(largest)), np.maximum(shift, 0)) > _LARGEST
    values = np.array(ends) + op.outputs[0].zero_point
    return np.clip(np.where(overflows, [[-128], [127]], values), *requantize.clamp(op)).astype(np.int64)


def _carried(op: Op, read: np.ndarray) -> np.ndarray:
    """Returns the ranges behind an op without weights."""
    zero = op.inputs[0].zero_point
    if op.code in POOLINGS:
        return np.clip(read, *requantize.clamp(op))
    if op.code == "PAD":
        return np.array([np.minimum(read[0], zero), np.maximum(read[1], zero)])
    if op.code == "MEAN":
        pixels, scaling = op.inputs[0].shape[1] * op.inputs[0].shape[2], requantize.mean_multiplier(op)
        means = [[requantize.scaled(int(value - zero) * pixels, *scaling) for value in end] for end in read]
        return np.clip(np.array(means) + op.outputs[0].zero_point, -128, 127)
    return read if op.code in ALIASES | {"REDUCE_MAX"} else _any_value(op.outputs[0])


def _taps_inside(op: Op) -> np.ndarray:
    """Returns which taps of the kernel lie inside the map: one row for each pattern that occurs, shape (n, taps)."""
    sides = op.inputs[0].shape[1:3], op.outputs[0].shape[1:3], op.kernel, op.stride, op.dilation, op.padding_pixels
    inside = []
    for size, steps, taps, stride, dilation, padding in zip(*sides, strict=True):
        places = np.arange(steps)[:, None] * stride - padding // 2 + np.arange(taps) * dilation
        inside.append(np.unique((places >= 0) & (places < size), axis=0))
    rows, columns = inside
    return (rows[:, None, :, None] & columns[None, :, None, :]).reshape(len(rows) * len(columns), -1).astype(np.int64)


def _may_leave(op: Op, read: np.ndarray) -> np.ndarray:
    """Returns which of the channels that an op mixes can go into its bias."""
    is_constant = read[0] == read[1]
    most = np.abs(_bias(op)) + np.abs(_into_bias(op, read)[:, is_constant]).sum(axis=1)
    if any(op.padding_pixels) or most.max() > _LARGEST:
        return is_constant & (read[0] == op.inputs[0].zero_point)
    return is_constant


def _into_bias(op: Op, read: np.ndarray) -> np.ndarray:
    """Returns what each constant channel that an op mixes adds to each sum: shape (output channels, input channels)."""
    return _filters(op, read).sum(axis=1) * (read[0] - op.inputs[0].zero_point)


def _constants(op: Op, read: np.ndarray, kept_in: np.ndarray, kept_out: np.ndarray) -> tuple[Tensor, ...]:
    """Returns weights and bias for the channels that stay; what an op has besides them stays as it is."""
    if not op.weights or _role(op, read) == _NEEDS_ALL or (kept_in.all() and kept_out.all()):
        return op.constants
    kernel, bias = op.weights[0].values, _bias(op)
    if op.code == "DEPTHWISE_CONV_2D":
        kernel = kernel[..., kept_out]
    else:
        kernel = kernel[kept_out][..., np.tile(kept_in, kernel.shape[-1] // len(kept_in))]
    if _role(op, read) == _MIXES:
        bias = bias + _into_bias(op, read)[:, ~kept_in & _may_leave(op, read)].sum(axis=1)
    of_bias = op.weights[1] if len(op.weights) > 1 else replace(op.weights[0], name=f"{op.name}/bias", dtype="INT32")
    stored = (op.weights[0], kernel), (of_bias, bias[kept_out].astype(np.int32))
    return tuple(
        replace(
            tensor,
            shape=array.shape,
            data=np.frombuffer(array.tobytes(), np.uint8),
            scales=tensor.scales[kept_out] if len(tensor.scales) > 1 else tensor.scales,
        )
        for tensor, array in stored
    )


def _thinned(tensor: Tensor, kept: np.ndarray) -> Tensor:
    if kept.all():
        return tensor
    return replace(tensor, shape=(*tensor.shape[:-1], tensor.shape[-1] // len(kept) * int(kept.sum())))


def _filters(op: Op, read: np.ndarray) -> np.ndarray:
    """Returns the weights: int64, shape (output channels, taps, input channels that each of them reads)."""
    weights = op.weights[0].values.astype(np.int64)
    if op.code == "DEPTHWISE_CONV_2D":
        return weights.reshape(-1, weights.shape[3]).T[:, :, None]
    return weights.reshape(len(weights), -1, read.shape[1])


def _bias(op: Op) -> np.ndarray:
    """Returns the bias of a convolution or a dense layer: int64, shape (output channels,)."""
    if len(op.weights) > 1:
        return op.weights[1].values.astype(np.int64).ravel()
    return np.zeros(op.outputs[0].shape[-1], np.int64)
