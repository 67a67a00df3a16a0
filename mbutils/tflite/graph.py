"""The op graph of an int8 .tflite: small frozen records, with MACs and parameters of every op."""

from dataclasses import dataclass
from math import prod

import numpy as np

from mbutils.tflite.ops import CONVERSIONS, CONVOLUTIONS, WITH_WEIGHTS

DTYPES = {
    "BOOL": np.dtype(np.bool_),
    "INT4": np.dtype(np.int8),  # a byte each, once the reader has unpacked them
    "INT8": np.dtype(np.int8),
    "UINT8": np.dtype(np.uint8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FLOAT16": np.dtype(np.float16),
    "FLOAT32": np.dtype(np.float32),
}


@dataclass(frozen=True, eq=False)
class Tensor:
    """One tensor. A graph has one record for each, so two are equal only if they are the same.

    Attributes:
        index: Its place among the tensors of the file.
        name: The name that the converter gave it.
        shape: Its shape, the batch first.
        dtype: Its TFLite type, such as "INT8".
        data: The bytes that the file holds for it, uint8, INT4 unpacked to int8; None for an activation.
        scales: The scales of its quantization: float32, one for the tensor or one for each channel, or none.
        zero_point: The integer that stands for 0; the zero points of a tensor with several scales are all 0.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: str
    data: np.ndarray | None
    scales: np.ndarray
    zero_point: int

    @property
    def size(self) -> int:
        """The number of elements."""
        return prod(self.shape)

    @property
    def bytes(self) -> int:
        """The bytes of its data, one an element for INT4 and where the type is unknown."""
        return self.size * (DTYPES[self.dtype].itemsize if self.dtype in DTYPES else 1)

    @property
    def is_constant(self) -> bool:
        """Whether the file holds its data."""
        return self.data is not None

    @property
    def values(self) -> np.ndarray:
        """The data of a constant as an array of its shape and type."""
        return self.data.view(DTYPES[self.dtype]).reshape(self.shape)


@dataclass(frozen=True, eq=False)
class Op:
    """One op of the graph.

    Attributes:
        index: Its place in the order of execution.
        code: Its TFLite name, such as "DEPTHWISE_CONV_2D".
        name: A readable layer name, such as "conv_dw_2".
        inputs: The activations it reads.
        constants: The constants it reads, in order.
        own_weights: Those of `weights` that no earlier op reads, so that sums over ops count each once.
        outputs: The activations it writes.
        kernel, stride, dilation: (height, width); 1 where the op has none.
        padding: "SAME", "VALID", or "" where the op has none.
        activation: The fused activation function: "NONE", "RELU", "RELU6" and the like.
        beta: What a softmax multiplies its inputs by.
    """

    index: int
    code: str
    name: str
    inputs: tuple[Tensor, ...]
    constants: tuple[Tensor, ...]
    own_weights: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: str = ""
    activation: str = "NONE"
    beta: float = 1.0

    @property
    def weights(self) -> tuple[Tensor, ...]:
        """The constants that a device stores; shapes, axes and paddings of the other ops live in the code."""
        return self.constants if self.code in WITH_WEIGHTS else ()

    @property
    def is_convolution(self) -> bool:
        """Whether this is a convolution, depthwise ones included."""
        return self.code in CONVOLUTIONS

    @property
    def is_pointwise(self) -> bool:
        """Whether this is a 1 x 1 convolution."""
        return self.code == "CONV_2D" and self.kernel == (1, 1)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of convolutions and dense layers; 0 for the other ops, as is the custom."""
        if self.code == "DEPTHWISE_CONV_2D":
            return self.outputs[0].size * prod(self.kernel)
        if self.code in ("CONV_2D", "FULLY_CONNECTED"):
            return self.outputs[0].size * prod(self.weights[0].shape[1:])
        return 0

    @property
    def params(self) -> int:
        """The number of its weights and biases, batch normalization folded."""
        return sum(tensor.size for tensor in self.own_weights)

    @property
    def weight_bytes(self) -> int:
        """The bytes of its weights and biases."""
        return sum(tensor.bytes for tensor in self.own_weights)

    @property
    def activation_bytes(self) -> int:
        """The bytes of the activations it reads and writes."""
        return sum(tensor.bytes for tensor in {*self.inputs, *self.outputs})

    @property
    def padding_pixels(self) -> tuple[int, int]:
        """The rows and columns that SAME padding adds to the input of a window, the larger half at the end.

        TensorFlow's rule: (output - 1) * stride + (kernel - 1) * dilation + 1 rows are read; the missing ones are
        padded.
        """
        if self.padding != "SAME":
            return (0, 0)
        sizes = self.inputs[0].shape[1:3], self.outputs[0].shape[1:3], self.kernel, self.stride, self.dilation
        height, width = (
            max((out - 1) * stride + (k - 1) * dilation + 1 - size, 0)
            for size, out, k, stride, dilation in zip(*sizes, strict=True)
        )
        return height, width

    @property
    def padded_input_bytes(self) -> int:
        """The bytes of the first input once SAME padding has been added to it: `Op.inputs[0].bytes` without."""
        tensor, added = self.inputs[0], self.padding_pixels
        if not any(added) or not self.is_convolution:
            return tensor.bytes
        (height, width), (rows, columns) = tensor.shape[1:3], added
        return tensor.bytes // (height * width) * (height + rows) * (width + columns)


@dataclass(frozen=True, eq=False)
class Graph:
    """A .tflite model.

    Attributes:
        label: What messages call it: the path of the file, or "model".
        ops: Its ops in the order of execution.
        inputs, outputs: Its input and output tensors.
        tflite_bytes: The size of the file.
    """

    label: str
    ops: tuple[Op, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    tflite_bytes: int

    @property
    def logits(self) -> Tensor:
        """What a classifier computes before its softmax; without one, its scores, still quantized."""
        softmax = next((op for op in self.ops if op.code == "SOFTMAX"), None)
        last = self.ops[-1]
        return softmax.inputs[0] if softmax else last.inputs[0] if last.code in CONVERSIONS else last.outputs[0]

    @property
    def channels(self) -> int:
        """The output channels of all its convolutions."""
        return sum(op.outputs[0].shape[3] for op in self.ops if op.is_convolution)
