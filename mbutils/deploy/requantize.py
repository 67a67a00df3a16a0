"""Real multipliers as integers, exactly as the TensorFlow Lite reference kernels take them.

Jacob et al. 2018, arXiv:1712.05877, section 2.2; the rounding is that of `quantization_util.cc` and `common.cc`.
"""

import math
from collections.abc import Iterable

import numpy as np

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
