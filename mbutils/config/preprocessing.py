"""The preprocessing contract: what happens to an image before the model, wherever the model runs."""

from dataclasses import dataclass

import numpy as np

INTERPOLATIONS = ("area", "bilinear", "bilinear_antialias", "nearest")
COLOR_MODES = ("rgb", "gray")
HALF_RANGE = 127.5  # of a pixel: 0..255 becomes -1..1


@dataclass(frozen=True)
class Preprocessing:
    """The preprocessing contract: what happens to an image before the model, on the laptop and on the device alike.

    1. Decode to 8 bits a sample: of 16-bit samples the high byte, of several frames the first. Colour profiles are not
       applied.
    2. Put what is transparent on white: `round((colour * alpha + 255 * (255 - alpha)) / 255)`, to one level.
    3. Turn as the EXIF orientation says.
    4. Convert to `color_mode`. To RGB: gray three times, CMYK as `(255 - C) * (255 - K) / 255`. To gray: ITU-R 601 luma
       of RGB.
    5. Resize to a square without keeping the aspect ratio, and round to uint8 in 0..255.

    A float model is fed `pixel / 127.5 - 1`, see `normalize`.

    Attributes:
        image_size: Height and width in pixels.
        color_mode: "rgb" or "gray".
        interpolation: "area" (mean of the covered pixels), "bilinear" (2x2 taps, no antialiasing),
            "bilinear_antialias" (triangle filter widened by the reduction), or "nearest".
    """

    image_size: int
    color_mode: str
    interpolation: str

    @property
    def channels(self) -> int:
        """The number of colour channels: 3 or 1."""
        return 3 if self.color_mode == "rgb" else 1

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of one image: (height, width, channels)."""
        return self.image_size, self.image_size, self.channels


def normalize(images: np.ndarray) -> np.ndarray:
    """Maps pixels 0..255 to the float model's input range: `pixel / 127.5 - 1`, float32 in [-1, 1]."""
    return images.astype(np.float32) / HALF_RANGE - 1.0


def to_pixels(images: np.ndarray) -> np.ndarray:
    """Maps normalized images back to pixels, uint8; what lies outside of [-1, 1] is clipped."""
    return np.rint((images + 1) * HALF_RANGE).clip(0, 255).astype(np.uint8)
