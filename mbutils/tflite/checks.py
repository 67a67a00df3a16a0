"""What a graph must satisfy before the memory rules apply to it; each check raises one clear line."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from mbutils.errors import WorkbookError
from mbutils.tflite.graph import Graph, Op, Tensor
from mbutils.tflite.ops import ALIASES, CONVERSIONS, CONVOLUTIONS, ELEMENTWISE, KERNEL_OPS
from mbutils.tflite.schema import CONVERT_HINT, numbers, text

_QUANTIZED = ("INT8", "UINT8")
_OF_EQUAL_SIZE = ELEMENTWISE | CONVERSIONS | ALIASES | {"SOFTMAX", "TRANSPOSE"}


def static_shapes(subgraph: Any) -> None:  # noqa: ANN401
    """Refuses dimensions that are only known at run time, and batches: a device runs one image at a time.

    A dynamic batch, -1 in the signature of a shape, is a batch of 1: so the converter writes the shape itself.
    """
    for tensor in subgraph.tensors:
        if -1 in numbers(tensor.shapeSignature)[1:] or min(numbers(tensor.shape), default=1) < 0:
            shape = list(numbers(tensor.shapeSignature) or numbers(tensor.shape))
            raise WorkbookError(
                f"dynamic shape {shape} of tensor {text(tensor.name)!r}: "
                "export with a fixed height and width before converting"
            )
    for index in numbers(subgraph.inputs):
        shape = numbers(subgraph.tensors[index].shape)
        if shape and shape[0] != 1:
            raise WorkbookError(f"batch size {shape[0]} of input shape {list(shape)}: convert with batch size 1")


def finite_scales(scales: Iterable[np.ndarray]) -> None:
    """Refuses scales that are NaN or infinite, which LiteRT does not survive."""
    if not all(np.isfinite(values).all() for values in scales):
        raise WorkbookError(
            "quantized with scales that are not finite, its training diverged: train it again with a lower "
            "learning rate, and convert it"
        )


def is_quantized(tensors: list[Tensor]) -> None:
    """Refuses a model without a single int8 tensor."""
    if not any(tensor.dtype in _QUANTIZED for tensor in tensors):
        raise WorkbookError(f"a float32 model, no tensor is quantized to int8: {CONVERT_HINT}")


def graph(graph: Graph) -> None:
    """Refuses partly quantized models, and graphs whose parts do not fit together, as in damaged files."""
    if not graph.ops or not graph.inputs or not graph.outputs:
        raise ValueError("no ops, inputs or outputs")
    known = set(graph.inputs)
    for op in graph.ops:
        _is_int8(op)
        if not known.issuperset(op.inputs):
            raise ValueError(f"{op.code} {op.name} reads a tensor that no op has written")
        if not known.isdisjoint(op.outputs) or any(tensor.is_constant for tensor in op.outputs):
            raise ValueError(f"{op.code} {op.name} writes a tensor a second time")
        _fits_together(op)
        known.update(op.outputs)
    if not known.issuperset(graph.outputs):
        raise ValueError("an output that no op has written")


def _is_int8(op: Op) -> None:
    activations = () if op.code in CONVERSIONS else (*op.inputs, *op.outputs)
    weights = [tensor for tensor in op.weights if tensor.dtype not in ("INT4", "INT32")]  # biases are int32
    for tensor in (*activations, *weights):
        if tensor.dtype not in _QUANTIZED:
            raise WorkbookError(
                f"only partly quantized: {op.code} {op.name} works with {tensor.dtype} {tensor.name!r}: {CONVERT_HINT}"
            )


def _fits_together(op: Op) -> None:
    if not op.inputs or not op.outputs or 0 in (t.size for t in (*op.inputs, *op.outputs, *op.weights)):
        raise ValueError(f"{op.code} {op.name} has no inputs or outputs, or an empty one")
    if op.code in KERNEL_OPS and tuple(_spatial(op)) != op.outputs[0].shape[1:3]:
        raise ValueError(f"{op.code} {op.name} cannot have an output of shape {list(op.outputs[0].shape)}")
    if op.code in CONVOLUTIONS and not _kernel_fits(op):
        raise ValueError(f"{op.code} {op.name} has a kernel of shape {list(op.weights[0].shape)}")
    if op.code == "FULLY_CONNECTED" and not _matrix_fits(op):
        raise ValueError(f"{op.code} {op.name} has weights of shape {list(op.weights[0].shape)}")
    if op.code in _OF_EQUAL_SIZE and op.outputs[0].size != op.inputs[0].size:
        raise ValueError(f"{op.code} {op.name} cannot have an output of shape {list(op.outputs[0].shape)}")


def _spatial(op: Op) -> list[int]:
    """Returns the output height and width that follow from input, kernel, stride and padding."""
    if len(op.inputs[0].shape) != 4 or len(op.outputs[0].shape) != 4 or min(op.kernel + op.stride + op.dilation) < 1:
        raise ValueError(f"{op.code} {op.name} is not over height, width and channels")
    reach = [(k - 1) * dilation for k, dilation in zip(op.kernel, op.dilation, strict=True)]
    sizes = zip(op.inputs[0].shape[1:3], reach, op.stride, strict=True)
    return [-(-(size - (r if op.padding == "VALID" else 0)) // stride) for size, r, stride in sizes]


def _kernel_fits(op: Op) -> bool:
    kernel, channels_in, channels_out = op.weights[0].shape, op.inputs[0].shape[3], op.outputs[0].shape[3]
    if any(bias.size != channels_out for bias in op.weights[1:]):
        return False
    if op.code == "DEPTHWISE_CONV_2D":
        return kernel[0] == 1 and kernel[3] == channels_out and channels_out % channels_in == 0
    return kernel[0] == channels_out and channels_in % kernel[3] == 0  # a divisor: grouped convolution


def _matrix_fits(op: Op) -> bool:
    shape, read, written = op.weights[0].shape, op.inputs[0].size, op.outputs[0].size
    return len(shape) == 2 and read % shape[1] == 0 and written == read // shape[1] * shape[0]
