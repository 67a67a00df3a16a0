"""RAM and flash that an int8 .tflite needs on an STM32, from the file alone: no board, no TensorFlow.

Predicts what STM32Cube.AI 7.3.0 reports with default options, inputs and outputs in the activations: weights flash
exactly; activation RAM exactly for MobileNet v1, by the same rules for other graphs; code flash and runtime RAM as
estimates.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path

from mbutils.device import estimates, memory
from mbutils.device.estimates import Range
from mbutils.device.memory import Buffer
from mbutils.tflite.constant_channels import without_constant_channels
from mbutils.tflite.graph import Graph, Op
from mbutils.tflite.reader import read_graph


@dataclass(frozen=True)
class Footprint:
    """What a model costs.

    Attributes:
        param_count: Weights and biases, batch normalization folded.
        macs: Multiply-accumulates of convolutions and dense layers, for one image.
        conv_macs: Those of the convolutions larger than 1 x 1 and the dense layers.
        pointwise_macs: Those of the 1 x 1 convolutions.
        depthwise_macs: Those of the depthwise convolutions.
        conv_outputs: Elements that all convolutions write.
        tflite_bytes: The size of the file.
        weights_flash_bytes: Exact.
        activation_ram_bytes: By the 7.3.0 rules, see `mbutils.device.memory`; exact for MobileNet v1. Buffers overlap
            only in part, so it may slightly exceed all of `live_bytes`.
        runtime_ram_bytes, code_flash_bytes, total_ram_bytes, total_flash_bytes: Estimates, see `ranges`.
        largest_in_out_bytes, tflm_arena_bytes: Other ways to count activations, for comparison.
        peak_op: The index in `ops` of the op with the most bytes in use.
        ops: In the order of execution.
        live_bytes: The bytes in use while each op runs, padding and scratch included.
        buffers: The memory map: one record for each rectangle of ops by bytes.
        constant_channels: How many output channels of convolutions are the same for every image, or are not read.
        is_mobilenet_v1: Whether it is MobileNet v1, for which the rules are exact.
        alive: What the model costs without them, as later versions of STM32Cube.AI and our C code leave them out; None
            if there are none.
        ranges: For the name of each estimated attribute, how low and high the true value may be: the worst
            leave-one-out error of the fit.
    """

    param_count: int
    macs: int
    conv_macs: int
    pointwise_macs: int
    depthwise_macs: int
    conv_outputs: int
    tflite_bytes: int
    weights_flash_bytes: int
    activation_ram_bytes: int
    runtime_ram_bytes: int
    code_flash_bytes: int
    total_ram_bytes: int
    total_flash_bytes: int
    largest_in_out_bytes: int
    tflm_arena_bytes: int
    peak_op: int
    ops: tuple[Op, ...]
    live_bytes: tuple[int, ...]
    buffers: tuple[Buffer, ...]
    ranges: dict[str, Range]
    is_mobilenet_v1: bool
    constant_channels: int = 0
    alive: "Footprint | None" = None

    def to_dict(self) -> dict[str, int]:
        """Returns the numbers by the names of the columns of `results.csv`, for JSON and tables; sizes in bytes."""
        values = {spec.name: getattr(self, spec.name) for spec in fields(self)}
        return {name: value for name, value in values.items() if type(value) is int}


def footprint(source: Path | str | bytes) -> Footprint:
    """Predicts RAM and flash of an int8 .tflite, from its path or bytes.

    Raises:
        WorkbookError: If it is not a usable int8 model, see `read_graph`.
    """
    return graph_footprint(read_graph(source))


def graph_footprint(graph: Graph) -> Footprint:
    """Predicts RAM and flash of a model whose graph has been read."""
    alive = without_constant_channels(graph)
    if alive is graph:
        return _as_it_is(graph)
    return replace(_as_it_is(graph), constant_channels=graph.channels - alive.channels, alive=_as_it_is(alive))


def _as_it_is(graph: Graph) -> Footprint:
    plan = memory.plan_activations(graph)
    weights = sum(op.weight_bytes for op in graph.ops)
    activations = estimates.activation_ram(graph, plan.activation_ram_bytes)
    runtime, code = estimates.runtime_ram(graph), estimates.code_flash(graph)
    figures = {
        "activation_ram_bytes": activations,
        "runtime_ram_bytes": runtime,
        "code_flash_bytes": code,
        "total_ram_bytes": runtime.plus(activations),
        "total_flash_bytes": code.plus(estimates.exactly(weights)),
    }
    return Footprint(
        param_count=sum(op.params for op in graph.ops),
        **operation_counts(graph.ops),
        tflite_bytes=graph.tflite_bytes,
        weights_flash_bytes=weights,
        **{name: estimate.bytes for name, estimate in figures.items()},
        largest_in_out_bytes=memory.largest_in_out_bytes(graph),
        tflm_arena_bytes=memory.tflm_arena_bytes(graph),
        peak_op=plan.live_bytes.index(max(plan.live_bytes)),
        ops=graph.ops,
        live_bytes=plan.live_bytes,
        buffers=plan.buffers,
        ranges={name: estimate for name, estimate in figures.items() if estimate.low < estimate.high},
        is_mobilenet_v1=estimates.is_mobilenet_v1(graph),
    )


def operation_counts(ops: Iterable[Op]) -> dict[str, int]:
    """Returns all MACs, and the four counts that `mbutils.device.latency` predicts from."""
    ops = tuple(ops)
    macs = sum(op.macs for op in ops)
    pointwise = sum(op.macs for op in ops if op.is_pointwise)
    depthwise = sum(op.macs for op in ops if op.code == "DEPTHWISE_CONV_2D")
    return {
        "macs": macs,
        "conv_macs": macs - pointwise - depthwise,
        "pointwise_macs": pointwise,
        "depthwise_macs": depthwise,
        "conv_outputs": sum(op.outputs[0].size for op in ops if op.is_convolution),
    }
