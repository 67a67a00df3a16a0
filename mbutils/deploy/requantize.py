"""Real multipliers as integers, exactly as in the TensorFlow Lite reference kernels.

Jacob et al. 2018, arXiv:1712.05877, section 2.2; the rounding is that of `quantization_util.cc` and `common.cc`.
"""

import math
from collections.abc import Iterable

import numpy as np

SMALL_SUM = 2**30  # below it the DSP extension can double a sum
SOFTMAX_INTEGER_BITS = 5  # differences of logits are held in units of 2^-26


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


def divided(multiplier: int, shift: int, count: int) -> tuple[int, int]:
    """Returns the multiplier of a mean over `count` values: `QuantizedMeanOrSum` in `reduce.h`."""
    bits = min(count.bit_length() - 1, 32, 31 + shift)
    return (multiplier << bits) // count, shift - bits


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
