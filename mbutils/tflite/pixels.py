"""What a model is fed for a pixel: by the scaling of its training, and by the quantization of its input."""

import numpy as np

from mbutils.config import SCALINGS
from mbutils.errors import WorkbookError

BY_INPUT = "by input"  # the scaling that `scaling_of` finds
_FARTHEST = 16  # steps between a pixel as it is and as a scaling has it: ranges that were calibrated on few images


def values(dtype: str, scale: float, zero_point: int, scaling: str) -> np.ndarray:
    """Returns what an input holds for each of the 256 values of a pixel.

    A quantized input holds the pixels as they are, less 128 for int8, where that is at most one step from what the
    scaling says: they differ by rounding only.

    Args:
        dtype: "uint8", "int8" or "float32".
        scale: That of the input, 0 where it has none.
        zero_point: That of the input.
        scaling: A key of `config.SCALINGS`; "" for pixels as they are, and as floats for those of -1 to 1.

    Raises:
        WorkbookError: If the input has another type.
    """
    if dtype == "float32":
        return _real(scaling or next(iter(SCALINGS)))
    if dtype not in ("uint8", "int8"):
        raise WorkbookError(f"an input of {dtype}, not uint8, int8 or float32: convert the model again")
    as_they_are = _as_they_are(dtype)
    if not scaling or not scale:
        return as_they_are.astype(dtype)
    exact = quantized(_real(scaling), scale, zero_point, dtype)
    return (as_they_are if np.abs(exact - as_they_are).max() <= 1 else exact).astype(dtype)


def scaling_of(dtype: str, scale: float, zero_point: int) -> str:
    """Returns the scaling that the quantization of an input stands for, that of -1 to 1 for floats.

    Raises:
        WorkbookError: If it stands for none.
    """
    if dtype not in ("uint8", "int8") or not scale:
        return next(iter(SCALINGS))
    as_they_are = _as_they_are(dtype)
    far = {name: np.abs(quantized(_real(name), scale, zero_point, dtype) - as_they_are).max() for name in SCALINGS}
    nearest = min(far, key=far.__getitem__)
    if far[nearest] > _FARTHEST:
        low, high = (scale * (as_they_are[end] - zero_point) for end in (0, -1))
        raise WorkbookError(
            f"its input stands for {low:.3g} to {high:.3g}, and not for -1 to 1, 0 to 1 or 0 to 255: say how its "
            "training scaled pixels with --scaling"
        )
    return nearest


def quantized(real: np.ndarray, scale: float, zero_point: int, dtype: str) -> np.ndarray:
    """Returns real numbers as integers, as QUANTIZE has them: halves are rounded away from zero."""
    limits = np.iinfo(dtype)
    with np.errstate(all="ignore"):  # a damaged scale
        steps = real / np.float32(scale)
        return np.clip(np.trunc(steps + np.copysign(0.5, steps)) + zero_point, limits.min, limits.max)


def _real(scaling: str) -> np.ndarray:
    low, high = SCALINGS[scaling]
    return np.arange(256, dtype=np.float32) / np.float32(255 / (high - low)) + np.float32(low)


def _as_they_are(dtype: str) -> np.ndarray:
    return np.arange(256) - (128 if dtype == "int8" else 0)
