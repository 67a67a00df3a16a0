"""Real multipliers as integers, exactly as in the TensorFlow Lite reference kernels.

Jacob et al. 2018, arXiv:1712.05877, section 2.2; the rounding is that of `quantization_util.cc` and `common.cc`.
"""

import math
from collections.abc import Iterable

import numpy as np

from mbutils.errors import WorkbookError
from mbutils.tflite.graph import Op, Tensor
from mbutils.tflite.schema import CONVERT_HINT

SMALL_SUM = 2**30  # below it the DSP extension can double a sum
SOFTMAX_INTEGER_BITS = 5  # differences of logits are held in units of 2^-26
SHIFT_BITS = 15  # the lowest bits of a multiplier that hold its shift
_TRIED = 8  # numbers above and below them
ADD_BITS = 20  # by which the inputs of a sum are shifted to the left
CLAMPS = {"NONE": (-np.inf, np.inf), "RELU": (0.0, np.inf), "RELU_N1_TO_1": (-1.0, 1.0), "RELU6": (0.0, 6.0)}


def quantized_multiplier(real: float) -> tuple[int, int]:
    """Returns (multiplier, shift) with real = multiplier * 2^(shift - 31), multiplier in [2^30, 2^31) or 0."""
    significand, shift = math.frexp(real)
    multiplier = math.floor(significand * 2**31 + 0.5)
    if multiplier == 2**31:
        multiplier, shift = multiplier // 2, shift + 1
    # Too small for any sum of 32 bits; a shift of -1 is one that every kernel has.
    return (multiplier, shift) if shift >= -31 and real else (0, -1)


def quantized_multipliers(reals: Iterable[float]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the multipliers, int32, and the shifts, int8, of several real numbers."""
    pairs = [quantized_multiplier(float(real)) for real in reals]
    return np.array([m for m, _ in pairs], np.int32), np.array([s for _, s in pairs], np.int8)


def scaled(value: int, multiplier: int, shift: int) -> int:
    """Returns value * multiplier * 2^(shift - 31), rounded twice: what `nn_scale` in kernels.h does."""
    product = ((value << max(shift, 0)) * multiplier + 2**30) >> 31
    exponent = max(-shift, 0)
    rounded = (abs(product) + (1 << exponent >> 1)) >> exponent
    return rounded if product >= 0 else -rounded


def with_shifts(
    multiplier: np.ndarray, shift: np.ndarray, low: np.ndarray, high: np.ndarray, bounds: tuple[int, int]
) -> np.ndarray | None:
    """Returns multipliers that hold their shift, with the same output as the given ones for every sum that there is.

    The lowest four bits are the shift to the right. A multiplier that is changed so little can only change the output
    of a sum at which an output begins. These sums are compared, and the bits above tried until all are the same.

    Args:
        multiplier: int32, shape (n,).
        shift: 0 to -31, shape (n,).
        low: The least sum of each, shape (n,).
        high: The largest, below `SMALL_SUM`.
        bounds: The least and largest output less its zero point.

    Returns:
        The multipliers, int32, shape (n,); None if there is not one for each.
    """
    wanted = _first_sums(multiplier, shift, low, high, bounds)
    found = np.zeros_like(multiplier)
    held = np.maximum(shift, -SHIFT_BITS).astype(np.int32)
    kept = multiplier >> held - shift & ~SHIFT_BITS
    for change in sorted(range(-_TRIED, _TRIED + 1), key=abs):
        near = kept + change * (SHIFT_BITS + 1) | -held
        same = (_first_sums(near, held, low, high, bounds) == wanted).all(axis=1) & (found == 0)
        found[same] = near[same]
    return found if found.all() else None


def _first_sums(
    multiplier: np.ndarray, shift: np.ndarray, low: np.ndarray, high: np.ndarray, bounds: tuple[int, int]
) -> np.ndarray:
    """Returns the least sum from `low` to `high` that `scaled` takes to each output but the first, or `high` + 1."""
    outputs, step = np.arange(bounds[0] + 1, bounds[1] + 1), np.int64(1) << -shift.astype(np.int64)[:, None]
    half = step >> 1
    # The least product after the first rounding; the second one rounds halves away from zero.
    least = np.where(outputs > 0, outputs * step - half, (outputs - 1) * step + half + 1)
    least = np.clip(least, -(2**31), 2**31)  # beyond all products
    # A multiplier of 0 does what 1 does to sums below 2^30.
    sums = -((1 - 2 * least) * 2**30 // np.maximum(multiplier, 1)[:, None].astype(np.int64))
    return np.clip(sums, low[:, None], high[:, None] + 1)


def multipliers(op: Op) -> tuple[np.ndarray, np.ndarray]:
    """Returns the multipliers and shifts of a convolution or a dense layer: one for each output channel, or one.

    Raises:
        WorkbookError: If a tensor has no scale.
    """
    scale_in, scale_out = quantization(op.inputs[0])[0], quantization(op.outputs[0])[0]
    scales = op.weights[0].scales.astype(np.float64)
    if op.code == "FULLY_CONNECTED" and len(scales) == 1:
        # With one scale this kernel multiplies the scales in float32 (`kernel_util.cc`).
        products = np.array([np.float32(scale_in) * np.float32(scales[0])], np.float64)
    else:
        products = scale_in * scales
    return quantized_multipliers(products / scale_out)


def add_multipliers(op: Op) -> tuple[np.ndarray, np.ndarray]:
    """Returns multipliers and shifts of both inputs of an ADD and of their sum: `Prepare` in `add.cc`.

    The inputs are scaled to units of twice the larger scale times 2^-20.
    """
    scales = [quantization(tensor)[0] for tensor in op.inputs]
    unit = 2 * max(scales)
    reals = (*(scale / unit for scale in scales), unit / (2**ADD_BITS * quantization(op.outputs[0])[0]))
    if reals[2] >= 1:
        raise ValueError(f"an ADD whose output has a scale of {quantization(op.outputs[0])[0]}")
    return quantized_multipliers(reals)


def mean_multiplier(op: Op) -> tuple[int, int]:
    """Returns multiplier and shift of the sums of a mean over height and width: `QuantizedMeanOrSum` in `reduce.h`."""
    _, height, width, _ = op.inputs[0].shape
    real = quantization(op.inputs[0])[0] / quantization(op.outputs[0])[0]
    multiplier, shift = quantized_multiplier(real)
    bits = min((height * width).bit_length() - 1, 32, 31 + shift)
    return (multiplier << bits) // (height * width), shift - bits


def clamp(op: Op) -> tuple[int, int]:
    """Returns the least and largest int8 that the fused activation function lets pass."""
    if op.activation not in CLAMPS:
        raise WorkbookError(f"no C kernel for the activation function {op.activation} of {op.code} {op.name}")
    output = op.outputs[0]
    low, high = (output.zero_point + np.round(end / output.scales[0]) for end in CLAMPS[op.activation])
    return int(max(low, -128)), int(min(high, 127))


def quantization(tensor: Tensor) -> tuple[float, int]:
    """Returns the scale of a tensor, the first one if it has several, and its zero point."""
    if not len(tensor.scales):
        raise WorkbookError(f"{tensor.name!r} has no scale: {CONVERT_HINT}")
    return float(tensor.scales[0]), tensor.zero_point


def softmax_scaling(beta: float, scale: float) -> tuple[int, int, int]:
    """Returns multiplier and shift of the differences of logits, and the least difference that still counts."""
    real = min(beta * scale * 2 ** (31 - SOFTMAX_INTEGER_BITS), 2**31 - 1.0)
    multiplier, shift = quantized_multiplier(real)
    most = (2**SOFTMAX_INTEGER_BITS - 1) * 2 ** (31 - SOFTMAX_INTEGER_BITS) / 2**shift
    return multiplier, shift, -math.floor(most)


def constant(low: int, high: int, multiplier: int, shift: int, bounds: tuple[int, int]) -> tuple[int, int, int] | None:
    """Returns another bias, multiplier and shift for a channel whose output does not depend on its input.

    The converter sets the bias of a channel with weights near zero to up to 2^30, which no other channel has.

    Args:
        low: The least sum, bias included.
        high: The largest.
        multiplier: That of the channel.
        shift: That of the channel.
        bounds: The least and largest output less its zero point.

    Returns:
        The replacement, with sums below `SMALL_SUM`; its bias is that for sums around 0. None if the output depends on
        the input, or its sums differ too much.
    """
    ends = [min(max(scaled(end, multiplier, shift), bounds[0]), bounds[1]) for end in (low, high)]
    bits = 22
    if ends[0] != ends[1] or high - low >= 1 << (bits - 1):
        return None
    return ends[0] << bits, 1 << 30, 1 - bits
