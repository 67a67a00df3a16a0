"""Where every buffer of the C code lies in one arena, and which layers are streamed.

A stage is a run of layers that `nn_run` in kernels.h executes together. With one layer it reads and writes whole maps,
and the output overwrites rows of the input that are no longer read. With more layers, of the maps between them only
the rows that the next kernel covers are held; each row is computed once (Lin et al. 2021, MCUNetV2, arXiv:2110.15352,
computes the rows where patches overlap again).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from mbutils.deploy.layers import Layer
from mbutils.deploy.network import Network
from mbutils.deploy.scratch import LANES, kept_bytes, least_bytes, multiple, padded, pairs_in, useful_sizes
from mbutils.device.memory import Buffer
from mbutils.device.placement import Block, place
from mbutils.errors import WorkbookError

ALIGNMENT = 4  # bytes


@dataclass(frozen=True, eq=False)
class Step:
    """A layer with its buffers: offsets in the arena in bytes, and how many rows of its input and output are held.

    A depthwise convolution may have scratch memory for some pairs of columns, or keep them from row to row.
    """

    layer: Layer
    input: int
    input_rows: int
    output: int
    output_rows: int
    scratch: int
    pairs: int
    keeps_pairs: bool


@dataclass(frozen=True, eq=False)
class Plan:
    """The memory of a network.

    Attributes:
        arena_bytes: All buffers, the image included.
        image: The offset of the image and of the quantized image, which replaces it.
        stages: The layers that run together, in the order of execution.
        logits, scores: The offsets of the int8 logits and scores, which stay until the end; the same without a softmax.
        buffers: The memory map over the stages: 0 quantizes the image, the last makes the scores of the logits.
    """

    arena_bytes: int
    image: int
    stages: tuple[tuple[Step, ...], ...]
    logits: int
    scores: int
    buffers: tuple[Buffer, ...]

    @property
    def stage_names(self) -> tuple[str, ...]:
        """What to call each stage of the memory map."""
        ends = [(stage[0].layer.name, stage[-1].layer.name) for stage in self.stages]
        layers = (first if first == last else f"{first} to {last}" for first, last in ends)
        return ("quantize", *layers, "scores" if self.scores == self.logits else "softmax")


def plan(network: Network, streamed_layers: int = 0, spare_bytes: int = 0) -> Plan:
    """Plans the memory of a network: the smallest arena, with what room it leaves used by kernels that are faster so.

    Args:
        network: The network.
        streamed_layers: How many of the first layers run row by row together; 0 or 1 for none.
        spare_bytes: By how much the arena may be larger than it has to be, for faster kernels.

    Raises:
        WorkbookError: If more layers are to be streamed than work by rows.
    """
    stages = _stages(network, streamed_layers)
    sizes = _least_scratch(stages)
    best = _with_scratch(network, stages, sizes)
    limit = best.arena_bytes + spare_bytes
    for i, stage in enumerate(stages):
        for size in useful_sizes(stage):
            if size <= sizes[i]:
                continue
            wider = [*sizes[:i], size, *sizes[i + 1 :]]
            attempt = _with_scratch(network, stages, wider)
            if attempt.arena_bytes <= limit:
                best, sizes = attempt, wider
                break
    return best


def arena_bytes(network: Network, streamed_layers: int = 0) -> int:
    """Returns the size of the arena that `plan` gives a network."""
    stages = _stages(network, streamed_layers)
    return _with_scratch(network, stages, _least_scratch(stages)).arena_bytes


def deepest(network: Network) -> int:
    """Returns how many of the first layers can be streamed.

    These are the layers before the first one that needs its whole input, and up to one whose output is read later.
    """
    by_rows = next((i for i, layer in enumerate(network.layers) if not layer.works_by_rows), len(network.layers))
    read_later = (i - back for i, layer in enumerate(network.layers, start=1) for back in layer.reads if back > 1)
    return min(by_rows, *read_later, len(network.layers))


def is_flat(stage: list[Layer] | tuple[Step, ...], layer: Layer) -> bool:
    """Whether a layer treats its map as one row of pixels: a pointwise one that runs alone."""
    return len(stage) == 1 and layer.is_pointwise


def _stages(network: Network, streamed_layers: int) -> list[list[Layer]]:
    most = deepest(network)
    if streamed_layers > max(most, 1):
        raise WorkbookError(f"{streamed_layers} layers cannot be streamed: at most the first {most} can")
    together = max(streamed_layers, 1)
    return [list(network.layers[:together]), *([layer] for layer in network.layers[together:])]


def _least_scratch(stages: list[list[Layer]]) -> list[int]:
    return [_aligned(max(map(least_bytes, stage))) for stage in stages]


def _with_scratch(network: Network, stages: list[list[Layer]], sizes: list[int]) -> Plan:
    last = len(stages)
    last_read = _last_reads(stages)
    live = range(last_read[0] + 1)
    maps = [Block("image", "activation", dict.fromkeys(live, _aligned(_size(network.image_shape))))]
    clearances, held, scratch = {}, {}, []
    for i, (stage, scratch_bytes) in enumerate(zip(stages, sizes, strict=True), start=1):
        size = _aligned(_size(stage[-1].output_shape))
        maps.append(Block(stage[-1].name, "activation", dict.fromkeys(range(i, last_read[i] + 1), size)))
        source = i - stage[0].reads[0]
        if last_read[source] == i and (clearance := _clearance(stage)) is not None:
            clearances[maps[source], maps[i]] = clearance
        held |= {layer: Block(layer.name, "activation", {i: size}) for layer, size in _held(stage)}
        # One layer at a time needs it, so those of a stage share it.
        scratch.append(Block(stage[-1].name, "scratch", {i: scratch_bytes}))
    logits = maps[-1]
    scores = Block("scores", "activation", {last + 1: _aligned(network.n_classes)}) if network.softmax else logits
    blocks = list(dict.fromkeys([*maps, *held.values(), *scratch, scores]))
    ends = place(blocks, clearances)
    starts = {block: end - block.largest for block, end in ends.items()}
    return Plan(
        max(ends.values()) + _overread(network),
        starts[maps[0]],
        tuple(
            tuple(_steps(stage, starts, [*(maps[i - back] for back in stage[0].reads), maps[i]], held, scratch[i - 1]))
            for i, stage in enumerate(stages, start=1)
        ),
        starts[logits],
        starts[scores],
        tuple(Buffer(b.name, b.kind, min(b.sizes), max(b.sizes), starts[b], b.largest) for b in blocks),
    )


def _last_reads(stages: list[list[Layer]]) -> list[int]:
    """Returns for the image, and for what each stage writes, the stage that reads it last.

    Only the first stage has several layers, and no other one reads the maps within it.
    """
    last_read = [i + 1 for i in range(len(stages) + 1)]
    for i, stage in enumerate(stages, start=1):
        for back in stage[0].reads:
            last_read[i - back] = max(last_read[i - back], i)
    return last_read


def _held(stage: list[Layer]) -> Iterator[tuple[Layer, int]]:
    """Yields the layers of a stage before its last one, and the bytes of the rows that the next layer covers."""
    for layer, after in pairwise(stage):
        row = layer.output_shape[1] * layer.output_shape[2]
        yield layer, _aligned(min(after.window[0], layer.output_shape[0]) * row)


def _steps(
    stage: list[Layer],
    starts: dict[Block, int],
    ends: list[Block],
    held: dict[Layer, Block],
    scratch: Block,
) -> Iterator[Step]:
    source, rows = starts[ends[0]], stage[0].input_shape[0]
    for layer, after in zip(stage, [*stage[1:], None], strict=True):
        target = starts[held[layer] if after else ends[-1]]
        out_rows = min(after.window[0], layer.output_shape[0]) if after else layer.output_shape[0]
        pairs = pairs_in(layer, scratch.largest)
        keeps_pairs = len(stage) == 1 and 0 < kept_bytes(layer) <= scratch.largest
        other = ends[1] if layer.kernel == "nn_add" else scratch  # that kernel takes its second input there
        yield Step(layer, source, rows, target, out_rows, starts[other], pairs, keeps_pairs)
        source, rows = target, out_rows


def _clearance(stage: list[Layer]) -> int | None:
    """Returns by how much the input of a stage must end after its output if the output may overwrite it."""
    if not stage[0].works_by_rows:
        return None
    size_in, size_out = _size(stage[0].input_shape), _size(stage[-1].output_shape)
    distance, unread = 0, size_in
    for first_read, written in reversed(list(_accesses(stage))):
        unread = min(unread, first_read)
        distance = max(distance, written - unread)
    return _aligned(distance) + _aligned(size_in) - _aligned(size_out)


def _accesses(stage: list[Layer]) -> Iterator[tuple[int, int]]:
    """Yields in the order of execution where a stage starts to read its input and where its output ends, in bytes."""
    first, last = stage[0], stage[-1]
    if is_flat(stage, first):
        pixels = first.output_shape[0] * first.output_shape[1]
        for pixel in range(0, pixels, LANES):
            yield pixel * first.input_shape[2], min(pixel + LANES, pixels) * last.output_shape[2]
        return
    row_in, row_out = (shape[1] * shape[2] for shape in (first.input_shape, last.output_shape))
    read, written = 0, 0
    for k, row in _schedule(stage):
        if k == 0:
            read = min(max(0, row * first.stride[0] - first.padding[0]), first.input_shape[0]) * row_in
        if k == len(stage) - 1:
            written = (row + 1) * row_out
        # Only the first layer reads the input of the stage.
        yield (read if k == 0 else first.input_shape[0] * row_in), written


def _schedule(stage: list[Layer]) -> Iterator[tuple[int, int]]:
    """Yields which layer of a stage computes which row, in the order of `nn_run` in kernels.h."""
    done = [0] * len(stage)
    while done[-1] < stage[-1].output_shape[0]:
        k = len(stage) - 1
        while k > 0:
            layer = stage[k]
            last = done[k] * layer.stride[0] - layer.padding[0] + layer.window[0]
            if done[k - 1] >= min(last, layer.input_shape[0]):
                break
            k -= 1
        yield k, done[k]
        done[k] += 1


def _overread(network: Network) -> int:
    """Returns how far past the end of a map an inner loop may read if weights are padded."""
    convolutions = [layer for layer in network.layers if layer.kernel == "nn_convolution"]
    excess = (padded(layer.weights.shape[1]) - layer.weights.shape[1] for layer in convolutions)
    return _aligned(max(excess, default=0))


def _size(shape: tuple[int, int, int]) -> int:
    height, width, channels = shape
    return height * width * channels


def _aligned(size: int) -> int:
    return multiple(size, ALIGNMENT)
