"""What a network computes, out of an int8 .tflite: its layers with integer weights, biases and multipliers."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mbutils.deploy import requantize
from mbutils.errors import WorkbookError
from mbutils.tflite import schema
from mbutils.tflite.graph import Graph, Op, Tensor, read_graph
from mbutils.tflite.ops import ALIASES, PADS

_CLAMPS = {0: (-np.inf, np.inf), 1: (0.0, np.inf), 2: (-1.0, 1.0), 3: (0.0, 6.0)}  # schema: ActivationFunctionType
_ONE_BY_ONE = (1, 1)


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer that kernels.h computes.

    Attributes:
        name: A readable name, such as "conv_dw_1".
        kernel: The function in kernels.h: "nn_convolution", "nn_depthwise", "nn_pad", "nn_mean" or
            "nn_fully_connected".
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

    @property
    def is_pointwise(self) -> bool:
        """Whether this is a convolution of 1 x 1 with stride 1, to which a map is one row of pixels."""
        return self.kernel == "nn_convolution" and self.window == self.stride == _ONE_BY_ONE and not any(self.padding)

    @property
    def works_by_rows(self) -> bool:
        """Whether the layer needs only some rows of its input for a row of its output."""
        return self.kernel not in ("nn_mean", "nn_fully_connected")


@dataclass(frozen=True, eq=False)
class Network:
    """A chain of layers from an image to scores.

    Attributes:
        image_shape: (height, width, channels) of the uint8 image.
        table: What int8 each of the 256 pixel values becomes: int8, shape (256,).
        layers: In the order of execution, the last of them gives the logits.
        softmax: (multiplier, shift, least difference), see `requantize.softmax_scaling`.
        score_scale, score_zero: What an int8 score stands for.
    """

    image_shape: tuple[int, int, int]
    table: np.ndarray
    layers: tuple[Layer, ...]
    softmax: tuple[int, int, int]
    score_scale: float
    score_zero: int

    @property
    def n_classes(self) -> int:
        """The number of scores."""
        return self.layers[-1].output_shape[2]


def read_network(source: Path | str | bytes) -> Network:
    """Reads an int8 image classifier.

    Args:
        source: The path of the .tflite, or its bytes.

    Raises:
        WorkbookError: If `read_graph` refuses the file, an op has no kernel here (it is named), or the graph is no
            chain from one image to the scores of a softmax.
    """
    graph = read_graph(source)
    label, data = schema.load(source)
    try:
        return _Reader(graph, schema.decode(data)).network()
    except WorkbookError as error:
        raise WorkbookError(f"{label}: {error}") from None


class _Reader:
    def __init__(self, graph: Graph, model: Any) -> None:  # noqa: ANN401
        self._graph, self._model = graph, model
        self._records = model.subgraphs[0].tensors
        self._options = [operator.builtinOptions for operator in model.subgraphs[0].operators]

    def network(self) -> Network:
        ops = self._chain()
        image = self._graph.inputs[0]
        if image.dtype not in ("UINT8", "INT8") or len(image.shape) != 4:
            raise WorkbookError(f"the input is {image.dtype} {list(image.shape)}: convert with an image of uint8")
        table = np.arange(-128, 128).astype(np.int8)
        if ops[0].code == "QUANTIZE":
            table = self._table(ops.pop(0))
        if ops and ops[-1].code == "DEQUANTIZE":
            ops.pop()
        if not ops or ops[-1].code != "SOFTMAX":
            raise WorkbookError("the scores do not come out of a SOFTMAX: give an image classifier that ends with one")
        softmax = ops.pop()
        layers = tuple(self._layer(op) for op in ops if op.code not in ALIASES)
        if not layers or layers[-1].output_shape[:2] != _ONE_BY_ONE:
            raise WorkbookError("the softmax is not over one row of logits: give an image classifier")
        scale, zero = self._quantization(softmax.outputs[0])
        if not np.isclose(scale[0], 1 / 256) or zero != -128:
            raise WorkbookError(f"the softmax has scale {scale[0]} and zero point {zero}, not 1/256 and -128")
        scaling = requantize.softmax_scaling(
            float(self._options[softmax.index].beta), float(self._quantization(softmax.inputs[0])[0][0])
        )
        return Network(tuple(image.shape[1:]), table, layers, scaling, float(scale[0]), zero)

    def _chain(self) -> list[Op]:
        if len(self._graph.inputs) != 1 or len(self._graph.outputs) != 1:
            raise WorkbookError("more than one input or output: give an image classifier with one of each")
        given = self._graph.inputs[0]
        for op in self._graph.ops:
            if op.code not in _LAYERS and op.code not in ALIASES | {"QUANTIZE", "DEQUANTIZE", "SOFTMAX"}:
                raise WorkbookError(f"no C kernel for the op {op.code} ({op.name}): deploy a MobileNet v1")
            if op.inputs != (given,):
                raise WorkbookError(f"{op.code} {op.name} does not follow the op before it: only chains are deployed")
            given = op.outputs[0]
        return list(self._graph.ops)

    def _layer(self, op: Op) -> Layer:
        if op.code not in _LAYERS:
            raise WorkbookError(f"no C kernel for a {op.code} ({op.name}) inside the network: deploy a MobileNet v1")
        if op.dilation != _ONE_BY_ONE:
            raise WorkbookError(f"no C kernel for the dilated {op.code} {op.name}: train without dilation")
        zero_points = (self._quantization(op.inputs[0])[1], self._quantization(op.outputs[0])[1])
        layer = Layer(op.name, "", _map_shape(op.inputs[0]), _map_shape(op.outputs[0]), zero_points, macs=op.macs)
        return _LAYERS[op.code](self, op, layer)

    def _convolution(self, op: Op, layer: Layer) -> Layer:
        kernel = self._constant(op.weights[0])
        if kernel.shape[3] != layer.input_shape[2]:
            raise WorkbookError(f"no C kernel for the grouped convolution {op.name}: train without groups")
        return self._with_weights(op, _windowed(layer, op, "nn_convolution"), kernel.reshape(len(kernel), -1))

    def _depthwise(self, op: Op, layer: Layer) -> Layer:
        if layer.input_shape[2] != layer.output_shape[2]:
            raise WorkbookError(f"no C kernel for the depth multiplier of {op.name}: train with 1")
        kernel = self._constant(op.weights[0])
        return self._with_weights(op, _windowed(layer, op, "nn_depthwise"), kernel.reshape(-1, kernel.shape[3]))

    def _fully_connected(self, op: Op, layer: Layer) -> Layer:
        layer = replace(layer, kernel="nn_fully_connected", input_shape=(1, 1, op.inputs[0].size))
        return self._with_weights(op, layer, self._constant(op.weights[0]))

    def _pad(self, op: Op, layer: Layer) -> Layer:
        index = schema.numbers(self._model.subgraphs[0].operators[op.index].inputs)[1]
        widths = np.frombuffer(self._bytes(index), np.int32).reshape(-1, 2)
        if len(widths) != 4 or widths[[0, 3]].any():
            raise WorkbookError(f"no C kernel for {op.code} {op.name}: only height and width can be padded")
        return replace(layer, kernel="nn_pad", padding=(int(widths[1, 0]), int(widths[2, 0])))

    def _mean(self, op: Op, layer: Layer) -> Layer:
        if layer.output_shape != (1, 1, layer.input_shape[2]):
            raise WorkbookError(f"no C kernel for {op.code} {op.name}: only the mean over height and width")
        pixels = layer.input_shape[0] * layer.input_shape[1]
        real = float(self._quantization(op.inputs[0])[0][0]) / float(self._quantization(op.outputs[0])[0][0])
        multiplier, shift = requantize.divided(*requantize.quantized_multiplier(real), pixels)
        return replace(
            layer,
            kernel="nn_mean",
            bias=np.array([-layer.zero_points[0] * pixels], np.int32),
            multiplier=np.array([multiplier], np.int32),
            shift=np.array([shift], np.int8),
        )

    def _with_weights(self, op: Op, layer: Layer, weights: np.ndarray) -> Layer:
        """Returns the layer with weights, biases, multipliers and what its activation function clamps to."""
        scale_in, scale_out = (float(self._quantization(t)[0][0]) for t in (op.inputs[0], op.outputs[0]))
        scales = self._quantization(op.weights[0])[0].astype(np.float64)
        if op.code == "FULLY_CONNECTED" and len(scales) == 1:
            # With one scale this kernel takes the product of the scales in float32 (`kernel_util.cc`).
            products = np.array([np.float32(scale_in) * np.float32(scales[0])], np.float64)
        else:
            products = scale_in * scales
        multiplier, shift = requantize.quantized_multipliers(products / scale_out)
        per_output = weights.sum(axis=0 if layer.kernel == "nn_depthwise" else 1, dtype=np.int64)
        bias = np.zeros_like(per_output)
        if len(op.weights) > 1:
            bias = np.frombuffer(self._bytes(op.weights[1].index), np.int32).astype(np.int64)
        layer = replace(layer, weights=weights, multiplier=multiplier, shift=shift, clamp=self._clamp(op))
        return _with_bias(layer, bias - layer.zero_points[0] * per_output)

    def _clamp(self, op: Op) -> tuple[int, int]:
        """Returns the least and largest int8 that the fused activation function lets pass."""
        function = self._options[op.index].fusedActivationFunction
        if function not in _CLAMPS:
            raise WorkbookError(f"no C kernel for the activation function {function} of {op.code} {op.name}")
        scale, zero = self._quantization(op.outputs[0])
        low, high = (zero + np.round(end / np.float32(scale[0])) for end in _CLAMPS[function])
        return int(max(low, -128)), int(min(high, 127))

    def _table(self, op: Op) -> np.ndarray:
        """Returns what int8 each pixel value becomes."""
        (scale_in, zero_in), (scale_out, zero_out) = (self._quantization(t) for t in (op.inputs[0], op.outputs[0]))
        multiplier, shift = requantize.quantized_multiplier(float(scale_in[0]) / float(scale_out[0]))
        values = [requantize.scaled(pixel - zero_in, multiplier, shift) + zero_out for pixel in range(256)]
        return np.clip(values, -128, 127).astype(np.int8)

    def _quantization(self, tensor: Tensor) -> tuple[np.ndarray, int]:
        """Returns the scales of a tensor, float32, and its zero point."""
        record = self._records[tensor.index].quantization
        if record is None or record.scale is None or not len(record.scale):
            raise WorkbookError(f"{tensor.name!r} has no scale: {schema.CONVERT_HINT}")
        return np.asarray(record.scale, np.float32), int(schema.numbers(record.zeroPoint)[0])

    def _constant(self, tensor: Tensor) -> np.ndarray:
        if tensor.dtype != "INT8":
            raise WorkbookError(f"weights of {tensor.dtype} in {tensor.name!r}: {schema.CONVERT_HINT}")
        return np.frombuffer(self._bytes(tensor.index), np.int8).reshape(tensor.shape)

    def _bytes(self, index: int) -> bytes:
        return bytes(self._model.buffers[self._records[index].buffer].data)


_LAYERS = {
    "CONV_2D": _Reader._convolution,
    "DEPTHWISE_CONV_2D": _Reader._depthwise,
    "FULLY_CONNECTED": _Reader._fully_connected,
    "MEAN": _Reader._mean,
    **dict.fromkeys(PADS, _Reader._pad),
}


def _map_shape(tensor: Tensor) -> tuple[int, int, int]:
    """Returns (height, width, channels); a tensor of another rank is one pixel."""
    return tuple(tensor.shape[1:]) if len(tensor.shape) == 4 else (1, 1, tensor.size)


def _windowed(layer: Layer, op: Op, kernel: str) -> Layer:
    """Returns the layer with the window of a convolution; SAME pads the larger half below and at the right."""
    sides = zip(layer.input_shape, layer.output_shape, op.kernel, op.stride, strict=False)
    lacking = [max((out - 1) * stride + size - given, 0) for given, out, size, stride in sides]
    padding = tuple(total // 2 if op.padding == "SAME" else 0 for total in lacking)
    return replace(layer, kernel=kernel, window=op.kernel, stride=op.stride, padding=padding)


def _with_bias(layer: Layer, bias: np.ndarray) -> Layer:
    """Returns the layer with its bias; channels with large sums that give one output are written with small ones."""
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
