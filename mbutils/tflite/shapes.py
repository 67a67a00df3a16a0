"""Folds the ops that only compute shapes, which converters leave before a RESHAPE where the batch is dynamic."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from mbutils.tflite.graph import DTYPES, Tensor

_MOST_DIMENSIONS = 8


def fold(operators: list[Any], codes: list[str], tensors: list[Tensor]) -> tuple[list[Any], list[str]]:
    """Turns what SHAPE, and STRIDED_SLICE and PACK of constants, write into constants.

    Args:
        operators: The decoded operators, in the order of execution.
        codes: Their TFLite names.
        tensors: All tensors of the file; those that become constant are replaced.

    Returns:
        The other operators, and their names.

    Raises:
        ValueError: If one of them does not fit its tensors.
    """
    kept = []
    for operator, code in zip(operators, codes, strict=True):
        read = [tensors[i] for i in operator.inputs]
        if code in _FOLDS and (code == "SHAPE" or all(tensor.is_constant for tensor in read)):
            (index,) = operator.outputs
            tensors[index] = _constant(tensors[index], _FOLDS[code](operator.builtinOptions, read))
        else:
            kept.append((operator, code))
    return [operator for operator, _ in kept], [code for _, code in kept]


def _shape(_: Any, read: list[Tensor]) -> np.ndarray:  # noqa: ANN401
    return np.array(read[0].shape)


def _strided_slice(options: Any, read: list[Tensor]) -> np.ndarray:  # noqa: ANN401
    values, begin, end, stride = (tensor.values for tensor in read)
    if values.ndim != 1 or options.ellipsisMask or options.newAxisMask:
        raise ValueError("a STRIDED_SLICE of a shape that is no vector")
    if options.shrinkAxisMask:
        return values[begin[0]]
    return values[None if options.beginMask else begin[0] : None if options.endMask else end[0] : stride[0]]


def _pack(options: Any, read: list[Tensor]) -> np.ndarray:  # noqa: ANN401
    return np.stack([tensor.values for tensor in read], options.axis)


_FOLDS: dict[str, Callable[[Any, list[Tensor]], np.ndarray]] = {
    "SHAPE": _shape,
    "STRIDED_SLICE": _strided_slice,
    "PACK": _pack,
}


def _constant(tensor: Tensor, values: np.ndarray) -> Tensor:
    """Returns a tensor with the values that were computed for it, of the type that the file says."""
    if values.size > _MOST_DIMENSIONS:
        raise ValueError(f"a shape of {values.size} dimensions")
    data = values.astype(DTYPES[tensor.dtype])
    return replace(tensor, shape=data.shape, data=np.frombuffer(data.tobytes(), np.uint8))
