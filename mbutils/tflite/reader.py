"""Reads the op graph of an int8 .tflite: the only place that turns decoded tables into records."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mbutils.errors import WorkbookError
from mbutils.tflite import checks, schema, shapes
from mbutils.tflite.graph import DTYPES, Graph, Op, Tensor
from mbutils.tflite.names import layer_names
from mbutils.tflite.ops import CONVOLUTIONS, KERNEL_OPS, SUPPORTED, WITH_WEIGHTS

_MOST_OPS = 2000


def read_graph(source: Path | str | bytes, label: str = "model") -> Graph:
    """Reads the op graph of an int8 .tflite.

    Args:
        source: The path of the file, or its bytes.
        label: What messages call the bytes.

    Raises:
        WorkbookError: One line that names the file and the way out, if the file is missing, empty, not .tflite,
            truncated or corrupted, not (or only partly) quantized, of a dynamic height or width,
            of a batch size other than 1 or -1, or has an op that this module has no rules for.
    """
    label, data = schema.load(source, label)
    try:
        model = schema.decode(data)
        try:
            return _graph(model, label, len(data))
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            # Tables that decode but do not fit together: an index out of range, a missing option, a shape of rank 0.
            raise schema.damaged(error) from None
    except WorkbookError as error:
        raise WorkbookError(f"{label}: {error}") from None


def _graph(model: Any, label: str, tflite_bytes: int) -> Graph:  # noqa: ANN401
    subgraph = model.subgraphs[0]
    if len(subgraph.operators) > _MOST_OPS:
        raise WorkbookError(f"{len(subgraph.operators)} ops: use a model for microcontrollers, {_MOST_OPS} at most")
    checks.static_shapes(subgraph)
    codes = [schema.op_name(model, operator) for operator in subgraph.operators]
    tensors = [_tensor(model, index, record) for index, record in enumerate(subgraph.tensors)]
    checks.is_quantized(tensors)
    checks.finite_scales(tensor.scales for tensor in tensors)
    operators, codes = shapes.fold(subgraph.operators, codes, tensors)
    for code in codes:
        if code not in SUPPORTED:
            raise WorkbookError(f"no memory rules for the op {code}: replace it, or use {', '.join(sorted(SUPPORTED))}")
    ops = _ops(operators, codes, tensors)
    graph = Graph(label, ops, _pick(tensors, subgraph.inputs), _pick(tensors, subgraph.outputs), tflite_bytes)
    checks.graph(graph)
    return graph


def _tensor(model: Any, index: int, record: Any) -> Tensor:  # noqa: ANN401
    stored = model.buffers[record.buffer].data
    data = None if stored is None or isinstance(stored, int) or not len(stored) else np.asarray(stored, np.uint8)
    shape, dtype = schema.numbers(record.shape), schema.DTYPE_NAMES[record.type]
    tensor = Tensor(index, schema.text(record.name), shape, dtype, data, *_quantization(record.quantization))
    if not tensor.is_constant or dtype not in DTYPES:
        return tensor
    needed = -(-tensor.size // 2) if dtype == "INT4" else tensor.bytes
    if len(data) != needed:
        raise ValueError(f"tensor {index} has {len(data)} bytes of data, its shape {list(shape)} needs {needed}")
    return replace(tensor, data=_unpacked(data)[: tensor.size]) if dtype == "INT4" else tensor


def _unpacked(data: np.ndarray) -> np.ndarray:
    """Returns the bytes of int8 values from -8 to 7 that lie two in a byte, the first one in its lower half."""
    halves = np.column_stack([data & 15, data >> 4]).ravel()
    return (halves ^ 8) - np.uint8(8)


def _quantization(record: Any) -> tuple[np.ndarray, int]:  # noqa: ANN401
    """Returns scales and zero point."""
    if record is None or record.scale is None or isinstance(record.scale, int):
        return np.empty(0, np.float32), 0
    return np.asarray(record.scale, np.float32), next(iter(schema.numbers(record.zeroPoint)), 0)


def _ops(operators: list[Any], codes: list[str], tensors: list[Tensor]) -> tuple[Op, ...]:
    inputs = [_pick(tensors, operator.inputs) for operator in operators]
    outputs = [_pick(tensors, operator.outputs) for operator in operators]
    constants = [tuple(tensor for tensor in read if tensor.is_constant) for read in inputs]
    weights = [read if code in WITH_WEIGHTS else () for code, read in zip(codes, constants, strict=True)]
    names = layer_names(codes, [[t.name for t in (*out, *w)] for out, w in zip(outputs, weights, strict=True)])
    seen: set[Tensor] = set()
    ops = []
    for index, (operator, code) in enumerate(zip(operators, codes, strict=True)):
        if not weights[index] and code in CONVOLUTIONS | {"FULLY_CONNECTED"}:
            raise WorkbookError(f"no memory rules for {code} with weights that are computed: use constant weights")
        own = tuple(tensor for tensor in dict.fromkeys(weights[index]) if tensor not in seen)
        seen.update(own)
        activations = tuple(tensor for tensor in inputs[index] if not tensor.is_constant)
        options = _options(operator.builtinOptions, code, weights[index])
        ops.append(Op(index, code, names[index], activations, constants[index], own, outputs[index], **options))
    return tuple(ops)


def _pick(tensors: list[Tensor], indices: Any) -> tuple[Tensor, ...]:  # noqa: ANN401
    """Returns the tensors at the indices, without the optional ones left out (-1)."""
    wanted = [i for i in schema.numbers(indices) if i != -1]
    if min(wanted, default=0) < 0:
        raise IndexError(f"tensor index {min(wanted)}")
    return tuple(tensors[i] for i in wanted)


def _options(options: Any, code: str, weights: tuple[Tensor, ...]) -> dict[str, Any]:  # noqa: ANN401
    """Returns what the options of an op set, by field of `Op`."""
    if code == "SOFTMAX":
        return {"beta": options.beta}
    activation = {"activation": schema.ACTIVATION_NAMES[getattr(options, "fusedActivationFunction", 0)]}
    if code not in KERNEL_OPS:
        return activation
    convolution = code in CONVOLUTIONS
    return {
        **activation,
        "kernel": weights[0].shape[1:3] if convolution else (options.filterHeight, options.filterWidth),
        "stride": (options.strideH, options.strideW),
        "dilation": (options.dilationHFactor, options.dilationWFactor) if convolution else (1, 1),
        "padding": schema.PADDING_NAMES[options.padding],
    }
