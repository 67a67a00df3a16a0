"""Activation RAM, by the rules of STM32Cube.AI 7.3.0 and, for comparison, by two simpler ones.

The rules, with inputs and outputs allocated in the activations. They reproduce exactly the published figures of
MobileNet v1, and those of MobileNet v2 0.35, ResNet v1 8 and 32, and SqueezeNet v1.0 and v1.1 (STM32 model zoo), but
not those of two small networks, see `estimates.ACTIVATION_RAM_ERROR`. Later versions (9.1, 10.0) use another planner,
which the rules do not model.

1. QUANTIZE and other elementwise ops run in place, RESHAPE is an alias.
2. Padding (SAME, or PAD before a VALID convolution) is done before the convolution, in place: the tensor grows to its
   padded size, its end stays.
3. A convolution or pooling whose padded input is at least as large as its output overwrites it, one output row (output
   width times channels) ahead: `output_start <= input_start - row`.
4. One whose output is larger, up to 4 times, overwrites it from the other end: `input_end >= output_end + row`, and by
   as much as is still to be read for the last row.
5. A tensor that a later op still reads is not overwritten: padding goes to a copy. ADD takes the place of the first of
   its inputs that no later op reads. No other op overwrites its inputs.
6. Scratch memory comes on top of all this, see `scratch_bytes`.
7. A convolution whose output only the following MAX_POOL_2D reads is fused with it: it writes the pooled output, and
   keeps only as many rows of its own output as the pooling window is high. (SqueezeNet v1.1's first convolution alone
   would exceed the published RAM. How many rows are kept is our assumption; no published figure depends on it.)
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby, pairwise
from math import prod

from mbutils.device.placement import Block, Clearances, place
from mbutils.tflite.graph import Graph, Op, Tensor
from mbutils.tflite.ops import ALIASES, ELEMENTWISE, KERNEL_OPS, PADS

_MAX_GROWTH = 4  # rule 4
_MAX_UNROLLED_KERNELS = 5120  # bytes, rule 6
_TFLM_ALIGNMENT = 16  # bytes


@dataclass(frozen=True)
class Buffer:
    """One rectangle of the memory map: `size` bytes at `offset`, from op `first_op` to op `last_op` inclusive."""

    name: str
    kind: str  # "activation", "scratch" or "padding"
    first_op: int
    last_op: int
    offset: int
    size: int


@dataclass(frozen=True)
class MemoryPlan:
    """The activation RAM in bytes, its buffers, and the bytes in use at each op."""

    activation_ram_bytes: int
    buffers: tuple[Buffer, ...]
    live_bytes: tuple[int, ...]


def plan_activations(graph: Graph) -> MemoryPlan:
    """Returns where every activation, padding and scratch buffer lies while the ops run, by the rules above."""
    blocks, clearances = _blocks(graph)
    ends = place(blocks, clearances)
    buffers = tuple(buffer for block in blocks for buffer in _rectangles(block, ends[block]))
    live = tuple(_covered(b for b in buffers if b.first_op <= op.index <= b.last_op) for op in graph.ops)
    return MemoryPlan(max(ends.values()), buffers, live)


def scratch_bytes(op: Op) -> int:
    """Returns the working memory of one op (rule 6), 0 for the ops that need none.

    K is the number of weights of one output channel: kernel height x width x input channels.
    """
    channels_out = op.outputs[0].shape[-1]
    if op.code == "DEPTHWISE_CONV_2D":
        return 37 * channels_out + 1
    if op.is_pointwise:
        return 4 * op.inputs[0].shape[-1] + 10 * channels_out
    if op.code == "CONV_2D":
        k = prod(op.weights[0].shape[1:])
        return 4 * k + 10 * channels_out + min(2 * k * channels_out, _MAX_UNROLLED_KERNELS)
    if op.code == "FULLY_CONNECTED":
        return 2 * op.weights[0].shape[1]
    return 4 * channels_out if op.code == "SOFTMAX" else 0


def largest_in_out_bytes(graph: Graph) -> int:
    """Returns the largest sum of inputs and outputs of one op, nothing overlapping: a quick and safe upper estimate.

    Ops that run in place (QUANTIZE, PAD, RESHAPE and the like) do not count.
    """
    in_place = ALIASES | ELEMENTWISE | PADS
    return max((op.activation_bytes for op in graph.ops if op.code not in in_place), default=0)


def tflm_arena_bytes(graph: Graph) -> int:
    """Returns the arena of a TensorFlow Lite Micro style planner, tensors only.

    All activations, greedy by size, each at the first gap that is large enough among those live at the same time,
    16-byte alignment (tflite-micro `greedy_memory_planner.cc`). The interpreter's own structures come on top.
    """
    lives = _lifetimes(graph)
    placed: list[tuple[int, int, Tensor]] = []
    for tensor in sorted(lives, key=lambda tensor: -tensor.bytes):
        size = -(-tensor.bytes // _TFLM_ALIGNMENT) * _TFLM_ALIGNMENT
        first, last = lives[tensor]
        start = 0
        for other_start, other_end, other in sorted(placed, key=lambda p: p[:2]):
            live_together = lives[other][0] <= last and first <= lives[other][1]
            if live_together and start + size > other_start:
                start = max(start, other_end)
        placed.append((start, start + size, tensor))
    return max(end for _, end, _ in placed)


def _lifetimes(graph: Graph) -> dict[Tensor, tuple[int, int]]:
    """Returns the first and last op at which each activation is needed; outputs of the graph are, to the end."""
    lives = dict.fromkeys(graph.inputs, (0, 0))
    for op in graph.ops:
        lives |= dict.fromkeys(op.outputs, (op.index, op.index))
        lives |= {tensor: (lives[tensor][0], op.index) for tensor in op.inputs}
    return lives | {tensor: (lives[tensor][0], len(graph.ops) - 1) for tensor in graph.outputs}


def _blocks(graph: Graph) -> tuple[list[Block], Clearances]:
    """Returns every buffer with its size at each op, and the pairs of buffers that may overlap."""
    last_read = _last_reads(graph)

    def live_at(tensor: Tensor, first: int) -> range:
        return range(first, min(max(first, last_read[tensor]), len(graph.ops) - 1) + 1)

    def new_block(tensor: Tensor, name: str, first: int) -> Block:
        return Block(name, "activation", dict.fromkeys(live_at(tensor, first), tensor.bytes))

    block_of = {tensor: new_block(tensor, "input", 0) for tensor in graph.inputs}
    extra: list[Block] = []
    clearances: Clearances = {}
    pooled_by = _fused_poolings(graph, last_read)
    for op in graph.ops:
        if op.inputs[0] in pooled_by:
            continue
        if (taken_over := _taken_over(op, last_read)) is not None:
            source = block_of[op.outputs[0]] = block_of[taken_over]
            _take_over(source, op, live_at(op.outputs[0], op.index))
            continue
        source, is_last = block_of[op.inputs[0]], last_read[op.inputs[0]] == op.index
        pooling = pooled_by.get(op.outputs[0])
        writer = pooling or op
        block_of |= {tensor: new_block(tensor, writer.name, op.index) for tensor in writer.outputs}
        extra += _working_blocks(op, pooling, pads_a_copy=not is_last)
        if op.code in KERNEL_OPS and is_last:
            _pad(source, op)
            if not pooling and (clearance := _clearance(op)) is not None:
                clearances[source, block_of[op.outputs[0]]] = clearance
    return [*dict.fromkeys(block_of.values()), *extra], clearances


def _working_blocks(op: Op, pooling: Op | None, pads_a_copy: bool) -> list[Block]:
    """Returns what an op needs only while it runs: scratch, rows to be pooled, a padded copy of its input."""
    needs_copy = pads_a_copy and op.padded_input_bytes > op.inputs[0].bytes
    sizes = [
        ("scratch", scratch_bytes(op)),
        ("scratch", pooling.kernel[0] * _row_bytes(op) if pooling else 0),
        ("padding", op.padded_input_bytes if needs_copy else 0),
    ]
    return [Block(op.name, kind, {op.index: size}) for kind, size in sizes if size]


def _last_reads(graph: Graph) -> dict[Tensor, int]:
    """Returns the op that last reads each activation under any of its aliases; past the last op for graph outputs."""
    last_read = {tensor: last for tensor, (_, last) in _lifetimes(graph).items()}
    last_read |= dict.fromkeys(graph.outputs, len(graph.ops))
    for op in reversed(graph.ops):
        if op.code in ALIASES:
            last_read[op.inputs[0]] = max(last_read[op.inputs[0]], last_read[op.outputs[0]])
    for op in graph.ops:
        if op.code in ALIASES:
            last_read[op.outputs[0]] = last_read[op.inputs[0]]
    return last_read


def _fused_poolings(graph: Graph, last_read: dict[Tensor, int]) -> dict[Tensor, Op]:
    """Returns the pooling that a convolution is fused with (rule 7), by the convolution's output."""
    pairs = [(op, after) for op, after in pairwise(graph.ops) if op.is_convolution and after.code == "MAX_POOL_2D"]
    return {
        op.outputs[0]: after
        for op, after in pairs
        if after.inputs == op.outputs and last_read[op.outputs[0]] == after.index
    }


def _taken_over(op: Op, last_read: dict[Tensor, int]) -> Tensor | None:
    """Returns the input whose memory becomes that of the output (rules 1, 2 and 5); None if the output has its own."""
    if op.code in ALIASES:
        return op.inputs[0]
    if op.code not in ELEMENTWISE | PADS | {"ADD"}:
        return None
    whole = (tensor for tensor in op.inputs if op.code != "ADD" or tensor.bytes == op.outputs[0].bytes)
    return next((tensor for tensor in whole if last_read[tensor] == op.index), None)


def _take_over(block: Block, op: Op, live_at: range) -> None:
    """Puts the output of an op that runs in place into the block of its input."""
    block.sizes |= dict.fromkeys(live_at, op.outputs[0].bytes)
    block.sizes[op.index] = max(op.inputs[0].bytes, op.outputs[0].bytes)


def _pad(block: Block, op: Op) -> None:
    padding = op.padded_input_bytes - op.inputs[0].bytes
    if padding:
        block.padding[op.index] = padding
        block.sizes[op.index] += padding


def _clearance(op: Op) -> int | None:
    """Returns by how much the input must end after the output so that the two may overlap (rules 3, 4); None: never."""
    size_in, size_out = op.padded_input_bytes, op.outputs[0].bytes
    row = _row_bytes(op)
    if size_in >= size_out:
        return size_in - size_out + row
    rows_in = op.inputs[0].shape[1] + op.padding_pixels[0]
    first_row_below_the_last = (op.outputs[0].shape[1] - 1) * op.stride[0]
    still_to_read = size_in // rows_in * (rows_in - first_row_below_the_last)
    return max(row, still_to_read) if size_out <= _MAX_GROWTH * size_in else None


def _row_bytes(op: Op) -> int:
    return prod(op.outputs[0].shape[2:])


def _rectangles(block: Block, end: int) -> Iterator[Buffer]:
    ops = sorted(block.sizes)
    for size, run in groupby(ops, key=lambda op: block.sizes[op] - block.padding.get(op, 0)):
        held = list(run)
        yield Buffer(block.name, block.kind, held[0], held[-1], end - size, size)
    for op, size in block.padding.items():
        yield Buffer(block.name, "padding", op, op, end - block.sizes[op], size)


def _covered(buffers: Iterable[Buffer]) -> int:
    """Returns how many bytes lie in at least one of the buffers."""
    total, reached = 0, 0
    for buffer in sorted(buffers, key=lambda b: b.offset):
        total += max(0, buffer.offset + buffer.size - max(reached, buffer.offset))
        reached = max(reached, buffer.offset + buffer.size)
    return total
