"""Code flash and runtime RAM of STM32Cube.AI 7.3.0: estimates, each with the range of the true value."""

from dataclasses import dataclass

from mbutils.tflite.graph import Graph, Op

_MOBILENET_V1_BLOCKS = 13
# The worst error of the rules of `memory` on published models, a fraction of the true value: that of ST MNIST, a chain
# for 28 px. MiniResNet, with shortcuts, is off by 2.5 %, MobileNet v2, ResNet v1 and SqueezeNet by nothing.
ACTIVATION_RAM_ERROR = {"mobilenet_v1": 0.0, "other": 0.1}
# Worst leave-one-out errors of the fits below, fractions of the true value.
CODE_FLASH_ERROR = {"mobilenet_v1": 0.023, "other": 0.125}
RUNTIME_RAM_ERROR = {"mobilenet_v1": 0.028, "other": 0.112}


@dataclass(frozen=True)
class Range:
    """An estimate in bytes, and how low and high the true value may be."""

    bytes: int
    low: int
    high: int

    def plus(self, other: "Range") -> "Range":
        """Returns the range of the sum."""
        return Range(self.bytes + other.bytes, self.low + other.low, self.high + other.high)


def _range(estimate: float, worst_error: float) -> Range:
    """Returns the range for a worst leave-one-out error, a fraction of the true value."""
    return Range(round(estimate), round(estimate / (1 + worst_error)), round(estimate / (1 - worst_error)))


def exactly(size: int) -> Range:
    """Returns the range of a known number of bytes."""
    return Range(size, size, size)


def activation_ram(graph: Graph, planned: int) -> Range:
    """Returns the range of the activation RAM of 7.3.0, of which the rules give `planned` bytes."""
    return _range(planned, ACTIVATION_RAM_ERROR["mobilenet_v1" if is_mobilenet_v1(graph) else "other"])


def code_flash(graph: Graph) -> Range:
    """Estimates the flash for kernels, op descriptors and quantization scales.

    Any graph: 36,958 + 581 a node + 6.6 an output channel of a convolution, a fit to 14 published models of several
    families (mean leave-one-out error 5.3 %).
    MobileNet v1: all have the same nodes, so one constant takes their place, the mean of 63,140 over the four
    published flowers models, and a channel costs 5.04, the difference between their two widths (a float32 scale and
    an int8 zero point). Mean leave-one-out error 1.1 %.
    """
    if is_mobilenet_v1(graph):
        return _range(63_140 + 5.04 * graph.channels, CODE_FLASH_ERROR["mobilenet_v1"])
    return _range(36_958 + 581 * len(graph.ops) + 6.6 * graph.channels, CODE_FLASH_ERROR["other"])


def runtime_ram(graph: Graph) -> Range:
    """Estimates the RAM for the network's op descriptors and state.

    Any graph: 917 + 529 a convolution + 153 a node, fitted like the code flash (mean leave-one-out error 7.3 %).
    MobileNet v1: the mean of the four published flowers models, 21,268 (mean leave-one-out error 2.4 %).
    """
    if is_mobilenet_v1(graph):
        return _range(21_268, RUNTIME_RAM_ERROR["mobilenet_v1"])
    convolutions = sum(op.is_convolution for op in graph.ops)
    return _range(917 + 529 * convolutions + 153 * len(graph.ops), RUNTIME_RAM_ERROR["other"])


def is_mobilenet_v1(graph: Graph) -> bool:
    """Whether this is MobileNet v1: a full convolution, then 13 times depthwise and pointwise, and no branch."""
    block = [("DEPTHWISE_CONV_2D", False), ("CONV_2D", True)]
    expected = [("CONV_2D", False), *block * _MOBILENET_V1_BLOCKS]
    backbone = [op for op in graph.ops if op.is_convolution][: len(expected)]
    rest = [op for op in graph.ops if op not in backbone]
    return [(op.code, op.is_pointwise) for op in backbone] == expected and all(map(_is_head_or_tail, rest))


def _is_head_or_tail(op: Op) -> bool:
    """Whether an op may come before or after the backbone: one input, and no spatial work (a classifier, paddings)."""
    classifier = op.is_pointwise and op.inputs[0].shape[1:3] == (1, 1)
    return len(op.inputs) == 1 and (classifier or not op.is_convolution)
