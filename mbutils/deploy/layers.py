"""The layers of a network, from the ops of an int8 .tflite: with integer weights, biases and multipliers."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from mbutils.errors import WorkbookError
from mbutils.tflite import requantize
from mbutils.tflite.graph import Op, Tensor
from mbutils.tflite.ops import PADS, POOLINGS
from mbutils.tflite.schema import CONVERT_HINT

_ONE_BY_ONE = (1, 1)
_LEAST_SHIFT = -23  # of a rectified layer: 2^30 and 255 << 22 have a sum of 32 bits
_LEAST_STEEP_SHIFT = -22


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
        bits: Those of a weight: 8, or 4 in a convolution with weights from -8 to 7, which the C code packs.
        bias: int32, less the zero point of the input times the sum of the weights.
        multiplier, shift: One for each output channel, or one for all; see `requantize`.
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
    bits: int = 8
    bias: np.ndarray | None = None
    multiplier: np.ndarray | None = None
    shift: np.ndarray | None = None
    macs: int = 0
    reads: tuple[int, ...] = (1,)

    @property
    def is_pointwise(self) -> bool:
        """Whether this is a convolution of 1 x 1 with stride 1, to which a map is one row of pixels."""
        return self.kernel == "nn_convolution" and self.window == self.stride == _ONE_BY_ONE and not any(self.padding)

    @property
    def constant_bytes(self) -> int:
        """The bytes of its weights and biases, those of 4 bits two in a byte."""
        return 0 if self.weights is None else -(-self.weights.size * self.bits // 8) + self.bias.nbytes

    @cached_property
    def sums(self) -> tuple[np.ndarray, np.ndarray]:
        """The least and the largest sum of products and bias of each output channel of a convolution: int64."""
        axis = 0 if self.kernel == "nn_depthwise" else 1
        positive = np.maximum(self.weights, 0).sum(axis=axis, dtype=np.int64)
        negative = np.minimum(self.weights, 0).sum(axis=axis, dtype=np.int64)
        return self.bias - 128 * positive + 127 * negative, self.bias + 127 * positive - 128 * negative

    @property
    def largest_sum(self) -> int:
        """The most that a sum can be, positive or negative."""
        low, high = self.sums
        return int(np.maximum(-low, high).max())

    def multiplier_with_shift(self) -> np.ndarray | None:
        """Returns multiplier and shift of each channel of a convolution in one number; None where it cannot be."""
        if len(self.multiplier) == 1 or self.largest_sum >= requantize.SMALL_SUM or (self.shift > 0).any():
            return None
        return requantize.with_shifts(self.multiplier, self.shift, *self.sums, self._bounds)

    @property
    def _bounds(self) -> tuple[int, int]:
        """The least and largest output less its zero point."""
        return self.clamp[0] - self.zero_points[1], self.clamp[1] - self.zero_points[1]

    @property
    def kind(self) -> str:
        """What is known of the outputs, "rectified", "small" or "any": see `nn_kind` in kernels.h."""
        small = self.largest_sum < requantize.SMALL_SUM and (self.shift <= -1).all() and self.clamp == (-128, 127)
        if not small:
            return "any"
        return "rectified" if self.zero_points[1] == -128 and (self.shift >= _LEAST_SHIFT).all() else "small"

    @property
    def packed_kind(self) -> str:
        """The kind in a network with weights of 4 bits: "steep" instead of "rectified" and some of the others."""
        has_range = self.zero_points[1] == -128 and self.clamp == (-128, 127)
        has_shifts = (self.shift <= 0).all() and (self.shift >= _LEAST_STEEP_SHIFT).all()
        if has_range and has_shifts and self.largest_sum < requantize.SMALL_SUM // 2:
            return "steep"
        return "small" if self.kind == "rectified" else self.kind

    @property
    def works_by_rows(self) -> bool:
        """Whether the layer needs only some rows of its input for a row of its output."""
        return self.kernel not in ("nn_mean", "nn_fully_connected")


def has_kernel(op: Op) -> bool:
    """Whether there is a kernel for this kind of op; `layer_of` may still refuse it."""
    return op.code in _LAYERS


def layer_of(op: Op) -> Layer:
    """Returns the layer that computes an op.

    Raises:
        WorkbookError: If there is no kernel for it, or not for what it is like: it is named.
    """
    if op.code not in _LAYERS:
        raise WorkbookError(f"no C kernel for a {op.code} ({op.name}) inside the network: deploy a MobileNet or ResNet")
    if op.dilation != _ONE_BY_ONE:
        raise WorkbookError(f"no C kernel for the dilated {op.code} {op.name}: train without dilation")
    source, output = op.inputs[0], op.outputs[0]
    zero_points = (requantize.quantization(source)[1], requantize.quantization(output)[1])
    return _LAYERS[op.code](op, Layer(op.name, "", _map_shape(source), _map_shape(output), zero_points, macs=op.macs))


def _convolution(op: Op, layer: Layer) -> Layer:
    kernel = _weights(op.weights[0], ("INT8", "INT4"))
    if kernel.shape[3] != layer.input_shape[2]:
        raise WorkbookError(f"no C kernel for the grouped convolution {op.name}: train without groups")
    layer = replace(_windowed(layer, op, "nn_convolution"), bits=4 if op.weights[0].dtype == "INT4" else 8)
    return _with_weights(op, layer, kernel.reshape(len(kernel), -1))


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


def _weights(tensor: Tensor, dtypes: tuple[str, ...] = ("INT8",)) -> np.ndarray:
    if tensor.dtype not in dtypes:
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
    if layer.kernel == "nn_fully_connected" or len(layer.multiplier) == 1:
        return replace(layer, bias=bias.astype(np.int32))
    low, high = replace(layer, bias=bias).sums
    multiplier, shift = layer.multiplier.copy(), layer.shift.copy()
    for c in np.flatnonzero(np.maximum(-low, high) >= requantize.SMALL_SUM):
        given = int(low[c]), int(high[c]), int(multiplier[c]), int(shift[c])
        if same := requantize.constant(*given, layer._bounds):
            bias[c], multiplier[c], shift[c] = same
    return replace(layer, bias=bias.astype(np.int32), multiplier=multiplier, shift=shift)
