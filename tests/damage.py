"""Damaged .tflite files: bytes as on a bad disk, and tables as from a bad mind; the same ones for the same seed."""

import random
import struct

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from tflite_models import edited

_NUMBERS = (0, 1, -1, 2, 3, 7, 127, 255, 4096, 2**15, 2**24, 2**31 - 1, -(2**31))
_REALS = (0.0, -1.0, 1e-38, 1e38, float("inf"), float("nan"))


def mutants(data, seed, count):
    """Yields (what was done to it, the bytes): the ways of damage in turn."""
    chance = random.Random(seed)
    for number in range(count):
        way = _WAYS[number % len(_WAYS)]
        yield f"{way.__name__} {seed}/{number}", way(data, chance)


def bits(data, chance):
    return _with_bytes(data, chance, lambda byte: byte ^ 1 << chance.randrange(8), chance.choice((1, 4, 64)))


def header(data, chance):
    start = chance.choice((0, 4, 8, *range(12, 64, 4)))
    return data[:start] + _word(chance) + data[start + 4 :]


def end(data, chance):
    return data[: chance.choice((chance.randrange(len(data)), len(data) - chance.randrange(1, 64)))]


def blocks(data, chance):
    size = chance.choice((4, 16, 256, 4096))
    first, second = sorted(chance.sample(range(len(data) - size), 2))
    other = chance.choice((data[second : second + size], chance.randbytes(size), bytes(size), b"\xff" * size))
    return data[:first] + other + data[first + size :]


def words(data, chance):
    """Offsets, lengths and values of tables: words that do not lie in the weights."""
    damaged = bytearray(data)
    for start in chance.sample(_outside_weights(data), chance.choice((1, 1, 4))):
        damaged[start : start + 4] = _word(chance)
    return bytes(damaged)


def tables(data, chance):
    """One to three fields of the tables: shapes, types, scales, zero points, options, indices, codes, lengths."""
    while True:
        try:
            return edited(data, lambda model: _spoil(model, chance))
        except (TypeError, ValueError, AttributeError, IndexError, struct.error, OverflowError, SystemError):
            continue  # what does not fit its field cannot be written


def buffers(data, chance):
    """The data of a constant: shorter, longer, none, or not finite."""

    def edit(model):
        buffer = chance.choice([buffer for buffer in model.buffers if buffer.data is not None])
        size = len(buffer.data)
        content = bytes(buffer.data)
        change = chance.randrange(4)
        content = (content[: chance.randrange(size)], content * 2, b"", b"\xff" * size)[change]
        buffer.data = np.frombuffer(content, np.uint8)

    return edited(data, edit)


_WAYS = (bits, tables, words, header, tables, end, tables, blocks, words, buffers)


def _with_bytes(data, chance, change, count):
    damaged = bytearray(data)
    for _ in range(count):
        place = chance.randrange(len(data))
        damaged[place] = change(damaged[place])
    return bytes(damaged)


def _word(chance):
    return struct.pack("<i", chance.choice((*_NUMBERS, chance.randrange(2**16), chance.randrange(-(2**31), 2**31))))


def _outside_weights(data):
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))
    inside = np.zeros(len(data), bool)
    for buffer in model.buffers:
        if buffer.data is not None and len(buffer.data) >= 64:
            start = data.find(bytes(buffer.data))
            inside[start : start + len(buffer.data)] = True
    return [start for start in range(8, len(data) - 4, 4) if not inside[start]]


def _spoil(model, chance):
    graph = model.subgraphs[0]
    for _ in range(chance.choice((1, 1, 3))):
        tensor, operator = chance.choice(graph.tensors), chance.choice(graph.operators)
        parts = (tensor, tensor, tensor.quantization, operator, operator.builtinOptions, graph)
        part = chance.choice((*parts, chance.choice(model.operatorCodes)))
        name = chance.choice([name for name, value in vars(part).items() if not callable(value)])
        setattr(part, name, _spoiled(getattr(part, name), chance))


def _spoiled(value, chance):
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return chance.choice((*_NUMBERS, value + 1, value - 1))
    if isinstance(value, float):
        return chance.choice((*_REALS, 2 * value))
    if value is None or isinstance(value, bytes):
        return chance.choice((None, b"", b"a\nb\x00\xff", b"x" * 5000))
    values = list(value)
    if values and chance.random() < 0.6:
        place = chance.randrange(len(values))
        change = chance.choice(values) if hasattr(values[0], "__dict__") else _spoiled(values[place].item(), chance)
        values[place] = change
    else:
        values = chance.choice(([], values[:-1], values + values[:1], values[::-1]))
    return values if values and hasattr(values[0], "__dict__") else np.array(values, getattr(value, "dtype", None))
