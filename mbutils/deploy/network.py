"""What a network computes, from the graph of an int8 .tflite: its layers, and how image and scores are held."""

from dataclasses import dataclass, replace
from math import ceil

import numpy as np

from mbutils.deploy.layers import Layer, has_kernel, layer_of
from mbutils.errors import WorkbookError
from mbutils.tflite import pixels, requantize
from mbutils.tflite.constant_channels import without_constant_channels
from mbutils.tflite.graph import Graph, Op, Tensor
from mbutils.tflite.ops import ALIASES, CONVERSIONS
from mbutils.tflite.schema import damaged


@dataclass(frozen=True, eq=False)
class Network:
    """The layers from an image to scores.

    Attributes:
        image_shape: (height, width, channels) of the uint8 image.
        table: What int8 each of the 256 pixel values becomes: int8, shape (256,).
        layers: In the order of execution; the last of them computes the logits.
        softmax: (multiplier, shift, least difference), see `requantize.softmax_scaling`; None where the scores are
            the logits.
        score_scale, score_zero: What an int8 score stands for.
    """

    image_shape: tuple[int, int, int]
    table: np.ndarray
    layers: tuple[Layer, ...]
    softmax: tuple[int, int, int] | None
    score_scale: float
    score_zero: int

    def min_score(self, min_confidence: float) -> int | None:
        """Returns the smallest int8 score that is at least a confidence; None for a confidence of 0."""
        return ceil(min_confidence / self.score_scale) + self.score_zero if min_confidence else None

    @classmethod
    def from_graph(cls, graph: Graph, scaling: str = "", is_trained: bool = True) -> "Network":
        """Returns what an int8 image classifier computes, without the channels that are the same for every image.

        Args:
            graph: The classifier.
            scaling: What pixels are for it, see `pixels.values`.
            is_trained: Whether it is trained. In one that is not, such channels say nothing, and are kept.

        Raises:
            WorkbookError: If an op has no kernel here (it is named), the graph does not lead from one image to one
                row of scores, or its numbers cannot be right.
        """
        try:
            with np.errstate(over="raise", divide="raise", invalid="raise"):
                return _network(without_constant_channels(graph) if is_trained else graph, scaling)
        except (ArithmeticError, LookupError, ValueError) as error:
            raise WorkbookError(f"{graph.label}: {damaged(error)}") from None
        except WorkbookError as error:
            raise WorkbookError(f"{graph.label}: {error}") from None

    @property
    def constant_bytes(self) -> int:
        """The bytes of its weights and biases in flash."""
        return sum(layer.constant_bytes for layer in self.layers)

    @property
    def is_packed(self) -> bool:
        """Whether there are weights of 4 bits."""
        return any(layer.bits == 4 for layer in self.layers)

    @property
    def n_classes(self) -> int:
        """The number of scores."""
        return self.layers[-1].output_shape[2]


def _network(graph: Graph, scaling: str) -> Network:
    ops = _known_ops(graph)
    image, table = _image(ops, graph.inputs[0], scaling)
    scores = _quantized_scores(ops, graph.outputs[0])
    softmax = ops.pop() if ops and ops[-1].code == "SOFTMAX" else None
    layers = _layers(ops, image, softmax.inputs[0] if softmax else scores)
    if not layers or layers[-1].output_shape[:2] != (1, 1):
        raise WorkbookError("its scores are not one row: use an image classifier")
    scale, zero = requantize.quantization(scores)
    if not softmax:
        return Network(image.shape[1:], table, layers, None, scale, zero)
    if not np.isclose(scale, 1 / 256) or zero != -128:
        raise WorkbookError(f"the softmax has scale {scale} and zero point {zero}, not 1/256 and -128")
    scaling_of_logits = requantize.softmax_scaling(float(softmax.beta), requantize.quantization(softmax.inputs[0])[0])
    return Network(image.shape[1:], table, layers, scaling_of_logits, scale, zero)


def _image(ops: list[Op], image: Tensor, scaling: str) -> tuple[Tensor, np.ndarray]:
    """Takes the ops off that only prepare the image: returns it as the first layer reads it, and its pixel table.

    A TRANSPOSE from channels, height and width is left out: the code takes images of height, width and channels.
    """
    facts = (image.dtype.lower(), *(requantize.quantization(image) if len(image.scales) else (0.0, 0)))
    table = pixels.values(*facts, scaling)
    while ops and ops[0].code in ("QUANTIZE", "TRANSPOSE"):
        op = ops.pop(0)
        if op.inputs != (image,):
            raise WorkbookError(f"{op.code} {op.name} does not read the image: use an image classifier")
        if op.code == "QUANTIZE":
            table = _requantized(op, table)
        elif [*op.constants[0].values] != [0, 2, 3, 1]:
            raise WorkbookError(f"no C kernel for TRANSPOSE {op.name}: only from channels, height and width")
        image = op.outputs[0]
    if image.dtype != "INT8" or len(image.shape) != 4:
        raise WorkbookError(f"the input is {image.dtype} {list(image.shape)}: convert with an image and int8 layers")
    return image, table


def _requantized(op: Op, values: np.ndarray) -> np.ndarray:
    """Returns what QUANTIZE makes of the values of a table: int8, or the same floats scaled to it."""
    scale, zero = requantize.quantization(op.outputs[0])
    if op.inputs[0].dtype == "FLOAT32":
        return pixels.quantized(values, scale, zero, "int8").astype(np.int8)
    scale_in, zero_in = requantize.quantization(op.inputs[0])
    multiplier, shift = requantize.quantized_multiplier(scale_in / scale)
    scaled = [requantize.scaled(int(value) - zero_in, multiplier, shift) + zero for value in values]
    return np.clip(scaled, -128, 127).astype(np.int8)


def _quantized_scores(ops: list[Op], output: Tensor) -> Tensor:
    """Takes a last op off that only writes the scores in another type, and returns them in int8."""
    if not ops or ops[-1].code not in CONVERSIONS:
        return output
    last = ops.pop()
    scores = last.inputs[0]
    (scale_in, zero_in), (scale_out, zero_out) = (
        requantize.quantization(scores),
        requantize.quantization(output) if last.code == "QUANTIZE" else requantize.quantization(scores),
    )
    if scale_in != scale_out or zero_out - zero_in not in (0, 128):
        raise WorkbookError(f"{last.code} {last.name} changes the scores: convert with an output of float32 or int8")
    return scores


def _known_ops(graph: Graph) -> list[Op]:
    """Returns the ops of a network with one input and one output, each of which has a kernel."""
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise WorkbookError("more than one input or output: use an image classifier with one of each")
    for op in graph.ops:
        if not has_kernel(op) and op.code not in ALIASES | CONVERSIONS | {"TRANSPOSE", "SOFTMAX"}:
            raise WorkbookError(f"no C kernel for the op {op.code} ({op.name}): deploy a MobileNet or ResNet")
    return list(graph.ops)


def _layers(ops: list[Op], image: Tensor, logits: Tensor) -> tuple[Layer, ...]:
    """Returns the layers between the image and the logits, in the order of execution."""
    place = {image: 0}  # of the layer that writes a tensor
    layers: list[Layer] = []
    for op in ops:
        if not place.keys() >= set(op.inputs):
            raise WorkbookError(f"{op.code} {op.name} does not read what layers have written: use an image classifier")
        if op.code in ALIASES:
            place[op.outputs[0]] = place[op.inputs[0]]
            continue
        here = len(layers) + 1
        layers.append(replace(layer_of(op), reads=tuple(here - place[tensor] for tensor in op.inputs)))
        place[op.outputs[0]] = here
    if place.get(logits) != len(layers):
        raise WorkbookError("its scores do not come out of the last layer: use an image classifier")
    return tuple(layers)
