"""The op graph of an int8 .tflite: small frozen records, with MACs and parameters of every op."""

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from mbutils.errors import WorkbookError
from mbutils.tflite import checks, schema
from mbutils.tflite.names import layer_names
from mbutils.tflite.ops import CONVOLUTIONS, KERNEL_OPS, SUPPORTED, WITH_WEIGHTS

_BYTES = {"INT8": 1, "UINT8": 1, "BOOL": 1, "INT16": 2, "FLOAT16": 2, "INT32": 4, "FLOAT32": 4, "INT64": 8}


@dataclass(frozen=True)
class Tensor:
    """One tensor: `shape` with the batch first, `bytes` of its data, `is_constant` where the file holds the data."""

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: str
    bytes: int
    is_constant: bool

    @property
    def size(self) -> int:
        """The number of elements."""
        return prod(self.shape)


@dataclass(frozen=True)
class Op:
    """One op of the graph.

    Attributes:
        index: Its place in the order of execution.
        code: Its TFLite name, such as "DEPTHWISE_CONV_2D".
        name: A readable layer name, such as "conv_dw_2".
        inputs: The activations it reads.
        weights: The constants it reads that a device stores as weights: kernels, biases, constant operands.
        own_weights: Those of `weights` that no earlier op reads, so that sums over ops count each once.
        outputs: The activations it writes.
        kernel, stride, dilation: (height, width); 1 where the op has none.
        padding: "SAME", "VALID", or "" where the op has none.
    """

    index: int
    code: str
    name: str
    inputs: tuple[Tensor, ...]
    weights: tuple[Tensor, ...]
    own_weights: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: str = ""

    @property
    def is_convolution(self) -> bool:
        """Whether this is a convolution, depthwise ones included."""
        return self.code in CONVOLUTIONS

    @property
    def is_pointwise(self) -> bool:
        """Whether this is a 1 x 1 convolution."""
        return self.code == "CONV_2D" and self.kernel == (1, 1)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of convolutions and dense layers; 0 for the other ops, as is the custom."""
        if self.code == "DEPTHWISE_CONV_2D":
            return self.outputs[0].size * prod(self.kernel)
        if self.code in ("CONV_2D", "FULLY_CONNECTED"):
            return self.outputs[0].size * prod(self.weights[0].shape[1:])
        return 0

    @property
    def params(self) -> int:
        """The number of its weights and biases, batch normalization folded."""
        return sum(tensor.size for tensor in self.own_weights)

    @property
    def weight_bytes(self) -> int:
        """The bytes of its weights and biases."""
        return sum(tensor.bytes for tensor in self.own_weights)

    @property
    def activation_bytes(self) -> int:
        """The bytes of the activations it reads and writes."""
        return sum(tensor.bytes for tensor in {*self.inputs, *self.outputs})

    @property
    def padded_input_bytes(self) -> int:
        """The bytes of the first input once SAME padding has been added to it: `Op.inputs[0].bytes` without.

        TensorFlow's rule: (output - 1) * stride + (kernel - 1) * dilation + 1 rows are read; what lacks is padded.
        """
        tensor = self.inputs[0]
        if self.padding != "SAME" or not self.is_convolution:
            return tensor.bytes
        sides = zip(tensor.shape[1:3], self.outputs[0].shape[1:3], self.kernel, self.stride, self.dilation, strict=True)
        padded = [max(size, (out - 1) * stride + (k - 1) * dilation + 1) for size, out, k, stride, dilation in sides]
        return tensor.bytes // prod(tensor.shape[1:3]) * prod(padded)


@dataclass(frozen=True)
class Graph:
    """A .tflite model: its ops in the order of execution, its inputs and outputs, and the bytes of the file."""

    ops: tuple[Op, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    tflite_bytes: int


def read_graph(source: Path | str | bytes) -> Graph:
    """Reads the op graph of an int8 .tflite.

    Args:
        source: The path of the file, or its bytes.

    Raises:
        WorkbookError: One line that names the file and the way out, if the file is missing, empty, no .tflite,
            truncated or corrupted, not (or only partly) quantized, of dynamic shape or batch size other than 1,
            or has an op that this module has no rules for.
    """
    label, data = schema.load(source)
    try:
        model = schema.decode(data)
        try:
            return _build(model, len(data))
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            # Tables that decode but do not fit together: an index out of range, a missing option, a shape of rank 0.
            raise schema.damaged(error) from None
    except WorkbookError as error:
        raise WorkbookError(f"{label}: {error}") from None


def _build(model: Any, tflite_bytes: int) -> Graph:  # noqa: ANN401
    subgraph = model.subgraphs[0]
    checks.static_shapes(subgraph)
    codes = [schema.op_name(model, operator) for operator in subgraph.operators]
    tensors = [_tensor(model, index, record) for index, record in enumerate(subgraph.tensors)]
    checks.is_quantized(tensors)
    for code in codes:
        if code not in SUPPORTED:
            raise WorkbookError(f"no memory rules for the op {code}: replace it, or use {', '.join(sorted(SUPPORTED))}")
    ops = _ops(subgraph.operators, codes, tensors)
    graph = Graph(ops, _pick(tensors, subgraph.inputs), _pick(tensors, subgraph.outputs), tflite_bytes)
    checks.graph(graph)
    return graph


def _tensor(model: Any, index: int, record: Any) -> Tensor:  # noqa: ANN401
    shape = schema.numbers(record.shape)
    dtype = schema.DTYPE_NAMES[record.type]
    data = model.buffers[record.buffer].data
    held = 0 if data is None or isinstance(data, int) else len(data)
    size = prod(shape) * _BYTES.get(dtype, 1)
    if held and dtype in _BYTES and held != size:
        raise ValueError(f"tensor {index} has {held} bytes of data, its shape {list(shape)} needs {size}")
    return Tensor(index, schema.text(record.name), shape, dtype, size, bool(held))


def _ops(operators: list[Any], codes: list[str], tensors: list[Tensor]) -> tuple[Op, ...]:
    activations = [_activations(operator, tensors) for operator in operators]
    weights = [_weights(operator, code, tensors) for operator, code in zip(operators, codes, strict=True)]
    names = layer_names(codes, [[t.name for t in (*out, *w)] for (_, out), w in zip(activations, weights, strict=True)])
    seen: set[Tensor] = set()
    ops = []
    for index, (operator, code) in enumerate(zip(operators, codes, strict=True)):
        own = tuple(tensor for tensor in dict.fromkeys(weights[index]) if tensor not in seen)
        seen.update(own)
        inputs, outputs = activations[index]
        geometry = _geometry(operator.builtinOptions, code, weights[index]) if code in KERNEL_OPS else {}
        ops.append(Op(index, code, names[index], inputs, weights[index], own, outputs, **geometry))
    return tuple(ops)


def _pick(tensors: list[Tensor], indices: Any) -> tuple[Tensor, ...]:  # noqa: ANN401
    """Returns the tensors at the indices, without the optional ones left out (-1)."""
    wanted = [i for i in schema.numbers(indices) if i != -1]
    if min(wanted, default=0) < 0:
        raise IndexError(f"tensor index {min(wanted)}")
    return tuple(tensors[i] for i in wanted)


def _activations(operator: Any, tensors: list[Tensor]) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:  # noqa: ANN401
    inputs = _pick(tensors, operator.inputs)
    return tuple(tensor for tensor in inputs if not tensor.is_constant), _pick(tensors, operator.outputs)


def _weights(operator: Any, code: str, tensors: list[Tensor]) -> tuple[Tensor, ...]:  # noqa: ANN401
    """Returns the constants that are data; shapes, axes and paddings of the other ops live in the code."""
    if code not in WITH_WEIGHTS:
        return ()
    constants = tuple(tensor for tensor in _pick(tensors, operator.inputs) if tensor.is_constant)
    if not constants and code in CONVOLUTIONS | {"FULLY_CONNECTED"}:
        raise WorkbookError(f"no memory rules for {code} with weights that are computed: use constant weights")
    return constants


def _geometry(options: Any, code: str, weights: tuple[Tensor, ...]) -> dict[str, Any]:  # noqa: ANN401
    convolution = code in CONVOLUTIONS
    return {
        "kernel": weights[0].shape[1:3] if convolution else (options.filterHeight, options.filterWidth),
        "stride": (options.strideH, options.strideW),
        "dilation": (options.dilationHFactor, options.dilationWFactor) if convolution else (1, 1),
        "padding": schema.PADDING_NAMES[options.padding],
    }
