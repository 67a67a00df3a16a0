"""The preprocessing contract: what happens to an image before the model, wherever the model runs."""

from dataclasses import dataclass

import numpy as np

INTERPOLATIONS = ("area", "bilinear", "bilinear_antialias", "nearest")
FITS = ("stretch", "crop", "pad")
COLOR_MODES = ("rgb", "gray")
DECODERS = ("pillow", "tensorflow")
SCALINGS = {"1/127.5": (-1, 1), "1/255": (0, 1), "none": (0, 255)}  # what the pixels 0 and 255 are for the model
HALF_RANGE = 127.5  # of a pixel: 0..255 becomes -1..1
# What surrounds a padded image: black, as in `tf.image.resize_with_pad`. Gray and white were no better: a linear probe
# of frozen ImageNet features (alpha 0.25, training part of tf_flowers, cross-validated) gave 73.0, 72.0 and 72.1 % at
# 96 px, and 79.8, 79.8 and 80.0 % at 160 px.
PADDING = 0


@dataclass(frozen=True)
class Preprocessing:
    """The preprocessing contract: what happens to an image before the model, on the laptop and on the device alike.

    1. Decode to 8 bits a sample: of 16-bit samples the high byte, of several frames the first. Colour profiles are not
       applied.
    2. Put what is transparent on white: `round((colour * alpha + 255 * (255 - alpha)) / 255)`, to one level.
    3. Turn as the EXIF orientation says.
    4. Convert to `color_mode`. To RGB: gray three times, CMYK as `(255 - C) * (255 - K) / 255`. To gray: ITU-R 601 luma
       of RGB.
    5. Resize to a square, each side by its own scale, and round to uint8 in 0..255. What is resized, and to what, `fit`
       says in whole numbers; `//` is division rounded down:
       - "stretch": the whole image to the whole square, whatever its aspect ratio.
       - "crop": the largest square in the middle. Its side is `min(height, width)`, its first row is
         `(height - side) // 2`, its first column `(width - side) // 2`.
       - "pad": the whole image in its aspect ratio, to the middle of the square. The longer side becomes `image_size`,
         the other `max(1, (other * image_size + longer // 2) // longer)`: rounded, halves up. The first row of it is
         `(image_size - resized_height) // 2`, the first column `(image_size - resized_width) // 2`; the rest is
         `PADDING`.

    A float model is fed `pixel / 127.5 - 1`, see `normalize`; a model from elsewhere what `scaling` says.

    Attributes:
        image_size: Height and width in pixels.
        color_mode: "rgb" or "gray".
        interpolation: "area" (mean of the covered pixels), "bilinear" (2x2 taps, no antialiasing),
            "bilinear_antialias" (triangle filter widened by the reduction), or "nearest".
        fit: "stretch", "crop" or "pad".
        decoder: Whose JPEG decoder, "pillow" or "tensorflow". Their pixels differ by a few levels; with
            "tensorflow", gray is the luma that the file holds.
        scaling: What pixels are for the model: "1/127.5" for -1 to 1, "1/255" for 0 to 1, "none" for 0 to 255.
    """

    image_size: int
    color_mode: str
    interpolation: str
    fit: str = "stretch"
    decoder: str = "pillow"
    scaling: str = "1/127.5"

    @property
    def name(self) -> str:
        """What distinguishes images made so, for names of files: "96_rgb_area", and what is not by default."""
        unusual = [value for value in (self.fit, self.decoder) if value not in ("stretch", "pillow")]
        return "_".join([str(self.image_size), self.color_mode, self.interpolation, *unusual])

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
