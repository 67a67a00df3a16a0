"""Finds .tflite files that are small only because their tables share data: decoded, they would fill any memory."""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from mbutils.errors import WorkbookError


def check(root: schema.Model, size: int) -> None:
    """Refuses tables whose vectors and names are together longer than the file: a converter writes each of them once.

    Args:
        root: The tables of a model with one subgraph, not decoded.
        size: That of the file, in bytes.

    Raises:
        ValueError: If tables share their data.
        WorkbookError: If ops have options with names, which those with memory rules have not.
    """
    total = 0
    for length in _lengths(root):
        total += 1 + length
        if total > size:
            raise ValueError("its tables share their data")


def _lengths(root: schema.Model) -> Iterator[int]:
    """Yields how long each table is that others may hold several times."""
    graph = root.Subgraphs(0)
    for tensor in _tables(graph.Tensors, graph.TensorsLength()):
        yield from map(_length, (tensor, tensor.Quantization(), tensor.Sparsity()))
    for operator in _tables(graph.Operators, graph.OperatorsLength()):
        if operator.BuiltinOptions2Type() or operator.BuiltinOptionsType() == schema.BuiltinOptions.VarHandleOptions:
            # Their options hold names.
            raise WorkbookError("no memory rules for ops of StableHLO or of variables: replace them")
        yield _length(operator)
    yield from map(_length, _tables(root.OperatorCodes, root.OperatorCodesLength()))
    yield from map(_length, _tables(root.Metadata, root.MetadataLength()))
    for signature in _tables(root.SignatureDefs, root.SignatureDefsLength()):
        yield _length(signature)
        yield from map(_length, _tables(signature.Inputs, signature.InputsLength()))
        yield from map(_length, _tables(signature.Outputs, signature.OutputsLength()))


def _tables(table: Callable[[int], Any], count: int) -> Iterator[Any]:
    return (table(index) for index in range(count))


def _length(table: Any) -> int:  # noqa: ANN401
    """Returns how many numbers, tables and characters a table holds; 0 for None."""
    lengths, names = _readers(type(table))
    return sum(getattr(table, name)() for name in lengths) + sum(len(getattr(table, name)() or "") for name in names)


@cache
def _readers(kind: type) -> tuple[list[str], list[str]]:
    """Returns the methods of a table that give the length of a vector, and those that give a name."""
    lengths = [name for name in vars(kind) if name.endswith("Length")]
    return lengths, [name for name in ("Name", "CustomCode", "SignatureKey") if name in vars(kind)]
