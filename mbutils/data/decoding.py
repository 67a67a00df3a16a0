"""Encoded bytes to pixels: the decoding part of the preprocessing contract."""

import io
import struct
import warnings

import numpy as np
from PIL import Image, UnidentifiedImageError

# The digits are PGM. Pillow's other decoders are left out: some of them start programs.
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "PPM")
MAX_PIXELS = 128_000_000  # a small file may claim any size, and so any memory; cameras of phones reach 108 million
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_MODES = {"rgb": "RGB", "gray": "L"}

# Pillow warns above half of its own limit; `MAX_PIXELS` is the limit here.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)


class UnreadableImage(ValueError):  # noqa: N818
    """Bytes that are not an image, a damaged image, or one that is too large; the message is the reason."""


def decode(encoded: bytes, color_mode: str = "rgb") -> np.ndarray:
    """Decodes an image according to the preprocessing contract; see `config.Preprocessing`.

    Args:
        encoded: A JPEG, PNG, BMP, WebP or PGM file.
        color_mode: "rgb" or "gray".

    Returns:
        The pixels: uint8, shape (height, width, 3) or (height, width, 1).

    Raises:
        UnreadableImage: If the bytes are not an image, a damaged image, or one of more than `MAX_PIXELS`.
    """
    if not encoded:
        raise UnreadableImage("an empty file")
    try:
        image = Image.open(io.BytesIO(encoded), formats=_FORMATS)
        if image.width * image.height > MAX_PIXELS:
            raise Image.DecompressionBombError
        image.load()
        upright = _upright(_eight_bits(image))
        mode = _MODES[color_mode]
        pixels = np.asarray(upright if upright.mode == mode else upright.convert(mode))
    except UnidentifiedImageError as error:
        raise UnreadableImage("not a JPEG, PNG, BMP or WebP image") from error
    except Image.DecompressionBombError as error:
        raise UnreadableImage(f"more than {MAX_PIXELS // 10**6} million pixels") from error
    except (OSError, SyntaxError, IndexError, struct.error) as error:
        raise UnreadableImage(f"damaged: {error}") from error
    return np.atleast_3d(pixels)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Keeps the high byte of 16-bit samples, as Pillow does for colour images, and puts transparent pixels on white."""
    if image.mode.startswith("I"):
        samples = np.asarray(image).astype(np.int64).clip(0, 0xFFFF)
        return _with_exif_of(image, Image.fromarray((samples >> 8).astype(np.uint8)))
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        white.alpha_composite(image.convert("RGBA"))
        return _with_exif_of(image, white.convert("RGB"))
    return image


def _with_exif_of(original: Image.Image, image: Image.Image) -> Image.Image:
    image.info["exif"] = original.info.get("exif", b"")
    return image


def _upright(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(_ORIENTATION)
    except (OSError, SyntaxError, ValueError, IndexError, struct.error):
        return image  # damaged metadata around sound pixels
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image
