"""What a network computes, from the graph of an int8 .tflite: layers with integer weights, biases and multipliers."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil

import numpy as np

from mbutils.errors import WorkbookError
from mbutils.tflite import pixels, requantize
from mbutils.tflite.constant_channels import without_constant_channels
from mbutils.tflite.graph import Graph, Op, Tensor
from mbutils.tflite.ops import ALIASES, CONVERSIONS, PADS, POOLINGS
from mbutils.tflite.schema import CONVERT_HINT, damaged

_ONE_BY_ONE = (1, 1)
_LEAST_SHIFT = -23  # of a rectified layer: 2^30 and 255 << 22 have a sum of 32 bits


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer that kernels.h computes.

    Attributes:
        name: A readable name, such as "conv_dw_1".
        kernel: The function in kernels.h: "nn_convolution", "nn_depthwise", "nn_pad", "nn_average_pool",
            "nn_max_pool", "nn_add", "nn_mean" or "nn_fully_connected".
        input_shape, output_shape: (height, width, channels).
        window, stride: (height, width) of the kernel and of its steps.
        padding: Rows above and columns at the left.
        zero_points: Those of input and output.
        clamp: The least and largest output.
        weights: int8; of a convolution (out, height * width * in), of a depthwise one (height * width, channels).
        bias: int32, less the zero point of the input times the sum of the weights.
        multiplier, shift: One for each output channel, or one for all; see `requantize`.
        largest_sum: The most that a sum of products and bias can be, positive or negative.
        macs: Multiply-accumulates.
        reads: Whose outputs it reads: 1 for the layer before it, 2 for the one before that; the image comes before all.
    """

    name: str
    kernel: str
    input_shape: tuple[int, int, int]
    output_shape: tuple[int, int, int]
    zero_points: tuple[int, int]
    window: tuple[int, int] = _ONE_BY_ONE
    stride: tuple[int, int] = _ONE_BY_ONE
    padding: tuple[int, int] = (0, 0)
    clamp: tuple[int, int] = (-128, 127)
    weights: np.ndarray | None = None
    bias: np.ndarray | None = None
    multiplier: np.ndarray | None = None
    shift: np.ndarray | None = None
    largest_sum: int = 0
    macs: int = 0
    reads: tuple[int, ...] = (1,)

    @property
    def is_pointwise(self) -> bool:
        """Whether this is a convolution of 1 x 1 with stride 1, to which a map is one row of pixels."""
        return self.kernel == "nn_convolution" and self.window == self.stride == _ONE_BY_ONE and not any(self.padding)

    @property
    def kind(self) -> str:
        """What is known of the outputs, "rectified", "small" or "any": see `nn_kind` in kernels.h."""
        small = self.largest_sum < requantize.SMALL_SUM and (self.shift <= -1).all() and self.clamp == (-128, 127)
        if not small:
            return "any"
        return "rectified" if self.zero_points[1] == -128 and (self.shift >= _LEAST_SHIFT).all() else "small"

    @property
    def works_by_rows(self) -> bool:
        """Whether the layer needs only some rows of its input for a row of its output."""
        return self.kernel not in ("nn_mean", "nn_fully_connected")


@dataclass(frozen=True, eq=False)
class Network:
    """The layers from an image to scores.

    Attributes:
        image_shape: (height, width, channels) of the uint8 image.
        table: What int8 each of the 256 pixel values becomes: int8, shape (256,).
        layers: In the order of execution; the last of them computes the logits.
        softmax: (multiplier, shift, least difference), see `requantize.softmax_scaling`; None where the scores are
            the logits.
        score_scale, score_zero: What an int8 score stands for.
    """

    image_shape: tuple[int, int, int]
    table: np.ndarray
    layers: tuple[Layer, ...]
    softmax: tuple[int, int, int] | None
    score_scale: float
    score_zero: int

    def min_score(self, min_confidence: float) -> int | None:
        """Returns the smallest int8 score that is at least a confidence; None for a confidence of 0."""
        return ceil(min_confidence / self.score_scale) + self.score_zero if min_confidence else None

    @classmethod
    def from_graph(cls, graph: Graph, scaling: str = "") -> "Network":
        """Returns what an int8 image classifier computes, without the channels that are the same for every image.

        Args:
            graph: The classifier.
            scaling: What pixels are for it, see `pixels.values`.

        Raises:
            WorkbookError: If an op has no kernel here (it is named), the graph does not lead from one image to one
                row of scores, or its numbers cannot be right.
        """
        try:
            with np.errstate(over="raise", divide="raise", invalid="raise"):
                return _network(without_constant_channels(graph), scaling)
        except (ArithmeticError, LookupError, ValueError) as error:
            raise WorkbookError(f"{graph.label}: {damaged(error)}") from None
        except WorkbookError as error:
            raise WorkbookError(f"{graph.label}: {error}") from None

    @property
    def n_classes(self) -> int:
        """The number of scores."""
        return self.layers[-1].output_shape[2]


def _network(graph: Graph, scaling: str) -> Network:
    ops = _known_ops(graph)
    image, table = _image(ops, graph.inputs[0], scaling)
    scores = _quantized_scores(ops, graph.outputs[0])
    softmax = ops.pop() if ops and ops[-1].code == "SOFTMAX" else None
    layers = _layers(ops, image, softmax.inputs[0] if softmax else scores)
    if not layers or layers[-1].output_shape[:2] != _ONE_BY_ONE:
        raise WorkbookError("its scores are not one row: use an image classifier")
    scale, zero = requantize.quantization(scores)
    if not softmax:
        return Network(image.shape[1:], table, layers, None, scale, zero)
    if not np.isclose(scale, 1 / 256) or zero != -128:
        raise WorkbookError(f"the softmax has scale {scale} and zero point {zero}, not 1/256 and -128")
    scaling_of_logits = requantize.softmax_scaling(float(softmax.beta), requantize.quantization(softmax.inputs[0])[0])
    return Network(image.shape[1:], table, layers, scaling_of_logits, scale, zero)


def _image(ops: list[Op], image: Tensor, scaling: str) -> tuple[Tensor, np.ndarray]:
    """Takes the ops off that only prepare the image: returns it as the first layer reads it, and its pixel table.

    A TRANSPOSE from channels, height and width is left out: the code takes images of height, width and channels.
    """
    facts = (image.dtype.lower(), *(requantize.quantization(image) if len(image.scales) else (0.0, 0)))
    table = pixels.values(*facts, scaling)
    while ops and ops[0].code in ("QUANTIZE", "TRANSPOSE"):
        op = ops.pop(0)
        if op.inputs != (image,):
            raise WorkbookError(f"{op.code} {op.name} does not read the image: use an image classifier")
        if op.code == "QUANTIZE":
            table = _requantized(op, table)
        elif [*op.constants[0].values] != [0, 2, 3, 1]:
            raise WorkbookError(f"no C kernel for TRANSPOSE {op.name}: only from channels, height and width")
        image = op.outputs[0]
    if image.dtype != "INT8" or len(image.shape) != 4:
        raise WorkbookError(f"the input is {image.dtype} {list(image.shape)}: convert with an image and int8 layers")
    return image, table


def _requantized(op: Op, values: np.ndarray) -> np.ndarray:
    """Returns what QUANTIZE makes of the values of a table: int8, or the same floats scaled to it."""
    scale, zero = requantize.quantization(op.outputs[0])
    if op.inputs[0].dtype == "FLOAT32":
        return pixels.quantized(values, scale, zero, "int8").astype(np.int8)
    scale_in, zero_in = requantize.quantization(op.inputs[0])
    multiplier, shift = requantize.quantized_multiplier(scale_in / scale)
    scaled = [requantize.scaled(int(value) - zero_in, multiplier, shift) + zero for value in values]
    return np.clip(scaled, -128, 127).astype(np.int8)


def _quantized_scores(ops: list[Op], output: Tensor) -> Tensor:
    """Takes a last op off that only writes the scores in another type, and returns them in int8."""
    if not ops or ops[-1].code not in CONVERSIONS:
        return output
    last = ops.pop()
    scores = last.inputs[0]
    (scale_in, zero_in), (scale_out, zero_out) = (
        requantize.quantization(scores),
        requantize.quantization(output) if last.code == "QUANTIZE" else requantize.quantization(scores),
    )
    if scale_in != scale_out or zero_out - zero_in not in (0, 128):
        raise WorkbookError(f"{last.code} {last.name} changes the scores: convert with an output of float32 or int8")
    return scores


def _known_ops(graph: Graph) -> list[Op]:
    """Returns the ops of a network with one input and one output, each of which has a kernel."""
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise WorkbookError("more than one input or output: use an image classifier with one of each")
    for op in graph.ops:
        if op.code not in _LAYERS and op.code not in ALIASES | CONVERSIONS | {"TRANSPOSE", "SOFTMAX"}:
            raise WorkbookError(f"no C kernel for the op {op.code} ({op.name}): deploy a MobileNet or ResNet")
    return list(graph.ops)


def _layers(ops: list[Op], image: Tensor, logits: Tensor) -> tuple[Layer, ...]:
    """Returns the layers between the image and the logits, in the order of execution."""
    place = {image: 0}  # of the layer that writes a tensor
    layers: list[Layer] = []
    for op in ops:
        if not place.keys() >= set(op.inputs):
            raise WorkbookError(f"{op.code} {op.name} does not read what layers have written: use an image classifier")
        if op.code in ALIASES:
            place[op.outputs[0]] = place[op.inputs[0]]
            continue
        here = len(layers) + 1
        layers.append(replace(_layer(op), reads=tuple(here - place[tensor] for tensor in op.inputs)))
        place[op.outputs[0]] = here
    if place.get(logits) != len(layers):
        raise WorkbookError("its scores do not come out of the last layer: use an image classifier")
    return tuple(layers)


def _layer(op: Op) -> Layer:
    if op.code not in _LAYERS:
        raise WorkbookError(f"no C kernel for a {op.code} ({op.name}) inside the network: deploy a MobileNet v1")
    if op.dilation != _ONE_BY_ONE:
        raise WorkbookError(f"no C kernel for the dilated {op.code} {op.name}: train without dilation")
    source, output = op.inputs[0], op.outputs[0]
    zero_points = (requantize.quantization(source)[1], requantize.quantization(output)[1])
    return _LAYERS[op.code](op, Layer(op.name, "", _map_shape(source), _map_shape(output), zero_points, macs=op.macs))


def _convolution(op: Op, layer: Layer) -> Layer:
    kernel = _weights(op.weights[0])
    if kernel.shape[3] != layer.input_shape[2]:
        raise WorkbookError(f"no C kernel for the grouped convolution {op.name}: train without groups")
    return _with_weights(op, _windowed(layer, op, "nn_convolution"), kernel.reshape(len(kernel), -1))


def _depthwise(op: Op, layer: Layer) -> Layer:
    kernel = _weights(op.weights[0])
    if layer.input_shape[2] == 1:  # each output channel reads all there is, as of a convolution
        return _with_weights(op, _windowed(layer, op, "nn_convolution"), kernel.reshape(-1, kernel.shape[3]).T)
    if layer.input_shape[2] != layer.output_shape[2]:
        raise WorkbookError(f"no C kernel for the depth multiplier of {op.name}: train with 1")
    return _with_weights(op, _windowed(layer, op, "nn_depthwise"), kernel.reshape(-1, kernel.shape[3]))


def _fully_connected(op: Op, layer: Layer) -> Layer:
    layer = replace(layer, kernel="nn_fully_connected", input_shape=(1, 1, op.inputs[0].size))
    return _with_weights(op, layer, _weights(op.weights[0]))


def _pad(op: Op, layer: Layer) -> Layer:
    widths = op.constants[0].values if op.constants else np.empty(0)
    if widths.shape != (4, 2) or widths[[0, 3]].any():
        raise WorkbookError(f"no C kernel for {op.code} {op.name}: only height and width can be padded")
    sides = zip(layer.input_shape, layer.output_shape, widths[1:3], strict=False)
    if widths.min() < 0 or any(rows + before + after != out for rows, out, (before, after) in sides):
        raise WorkbookError(f"{op.code} {op.name} cannot have an output of shape {list(layer.output_shape)}")
    if any(value.values.ravel()[0] != layer.zero_points[0] for value in op.constants[1:]):
        raise WorkbookError(f"no C kernel for {op.code} {op.name}: only zeros can be padded")
    return replace(layer, kernel="nn_pad", padding=(int(widths[1, 0]), int(widths[2, 0])))


def _mean(op: Op, layer: Layer) -> Layer:
    _check_global(op, layer)
    multiplier, shift = requantize.mean_multiplier(op)
    return replace(
        layer,
        kernel="nn_mean",
        bias=np.array([-layer.zero_points[0] * layer.input_shape[0] * layer.input_shape[1]], np.int32),
        multiplier=np.array([multiplier], np.int32),
        shift=np.array([shift], np.int8),
    )


def _pool(op: Op, layer: Layer) -> Layer:
    _check_same_scale(op)
    kernel = {"AVERAGE_POOL_2D": "nn_average_pool", "MAX_POOL_2D": "nn_max_pool"}[op.code]
    return replace(_windowed(layer, op, kernel), clamp=requantize.clamp(op))


def _global_max(op: Op, layer: Layer) -> Layer:
    _check_same_scale(op)
    _check_global(op, layer)
    return replace(layer, kernel="nn_max_pool", window=layer.input_shape[:2])


def _check_same_scale(op: Op) -> None:
    if requantize.quantization(op.inputs[0]) != requantize.quantization(op.outputs[0]):
        raise WorkbookError(f"no C kernel for {op.code} {op.name}: only with one scale for input and output")


def _check_global(op: Op, layer: Layer) -> None:
    axes = {int(axis) % 4 for constant in op.constants for axis in constant.values.ravel()}
    if layer.output_shape != (1, 1, layer.input_shape[2]) or axes != {1, 2}:
        raise WorkbookError(f"no C kernel for {op.code} {op.name}: only over height and width")


def _add(op: Op, layer: Layer) -> Layer:
    if len(op.inputs) != 2 or any(tensor.shape != op.outputs[0].shape for tensor in op.inputs):
        raise WorkbookError(f"no C kernel for ADD {op.name}: only of two maps of one shape")
    multiplier, shift = requantize.add_multipliers(op)
    zero = np.array([requantize.quantization(op.inputs[1])[1]], np.int32)
    return replace(layer, kernel="nn_add", multiplier=multiplier, shift=shift, bias=zero, clamp=requantize.clamp(op))


_LAYERS: dict[str, Callable[[Op, Layer], Layer]] = {
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _depthwise,
    "FULLY_CONNECTED": _fully_connected,
    "MEAN": _mean,
    "REDUCE_MAX": _global_max,
    "ADD": _add,
    **dict.fromkeys(POOLINGS, _pool),
    **dict.fromkeys(PADS, _pad),
}


def _weights(tensor: Tensor) -> np.ndarray:
    if tensor.dtype != "INT8":
        raise WorkbookError(f"weights of {tensor.dtype} in {tensor.name!r}: {CONVERT_HINT}")
    requantize.quantization(tensor)  # refuses weights without a scale
    return tensor.values


def _map_shape(tensor: Tensor) -> tuple[int, int, int]:
    """Returns (height, width, channels); a tensor of another rank is one pixel."""
    return tensor.shape[1:] if len(tensor.shape) == 4 else (1, 1, tensor.size)


def _windowed(layer: Layer, op: Op, kernel: str) -> Layer:
    """Returns the layer with the window of a convolution; SAME pads the larger half below and at the right."""
    rows, columns = op.padding_pixels
    return replace(layer, kernel=kernel, window=op.kernel, stride=op.stride, padding=(rows // 2, columns // 2))


def _with_weights(op: Op, layer: Layer, weights: np.ndarray) -> Layer:
    """Returns the layer with weights, biases, multipliers and what its activation function clamps to."""
    multiplier, shift = requantize.multipliers(op)
    per_output = weights.sum(axis=0 if layer.kernel == "nn_depthwise" else 1, dtype=np.int64)
    bias = op.weights[1].values.astype(np.int64) if len(op.weights) > 1 else np.zeros_like(per_output)
    layer = replace(layer, weights=weights, multiplier=multiplier, shift=shift, clamp=requantize.clamp(op))
    return _with_bias(layer, bias - layer.zero_points[0] * per_output)


def _with_bias(layer: Layer, bias: np.ndarray) -> Layer:
    """Returns the layer with its bias; a channel whose output is constant gets one with small sums instead."""
    if layer.kernel == "nn_fully_connected":
        return replace(layer, bias=bias.astype(np.int32))
    axis = 0 if layer.kernel == "nn_depthwise" else 1
    positive = np.maximum(layer.weights, 0).sum(axis=axis, dtype=np.int64)
    negative = np.minimum(layer.weights, 0).sum(axis=axis, dtype=np.int64)
    low, high = -128 * positive + 127 * negative, 127 * positive - 128 * negative  # without the bias
    multiplier, shift = layer.multiplier.copy(), layer.shift.copy()
    bounds = (layer.clamp[0] - layer.zero_points[1], layer.clamp[1] - layer.zero_points[1])
    for c in np.flatnonzero(np.maximum(-(bias + low), bias + high) >= requantize.SMALL_SUM):
        ends = int(bias[c] + low[c]), int(bias[c] + high[c])
        if len(multiplier) > 1 and (same := requantize.constant(*ends, int(multiplier[c]), int(shift[c]), bounds)):
            bias[c], multiplier[c], shift[c] = same
    largest = int(np.maximum(-(bias + low), bias + high).max())
    return replace(layer, bias=bias.astype(np.int32), multiplier=multiplier, shift=shift, largest_sum=largest)
