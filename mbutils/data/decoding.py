"""Encoded bytes to pixels: the decoding part of the preprocessing contract."""

import contextlib
import io
import os
import stat
import struct
import threading
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from mbutils.data.parallel import Budget

# The digits are PGM. Pillow's other decoders are left out: some of them start programs.
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "PPM")
MAX_PIXELS = 128_000_000  # a small file may claim any size, and so any memory; cameras of phones reach 108 million
MAX_BYTES = 4 * MAX_PIXELS + 2**20  # of a file: the largest BMP
_ORIENTATION = 0x0112
# Views of upright pixels in the order in which a file of this orientation stores them.
_AS_STORED = {
    1: lambda pixels: pixels,
    2: np.fliplr,
    3: partial(np.rot90, k=2),
    4: np.flipud,
    5: partial(np.swapaxes, axis1=0, axis2=1),
    6: np.rot90,
    7: lambda pixels: np.rot90(pixels, 2).swapaxes(0, 1),
    8: partial(np.rot90, k=-1),
}
_MODES = {"rgb": "RGB", "gray": "L"}

Opener = Callable[[], BinaryIO]  # opens encoded bytes, called where they are decoded: they may be large

# A process decodes small images side by side, and large ones one at a time.
_MEMORY = Budget(10**9)
_LARGE_FILE = 2**26
_ONE_LARGE_FILE = threading.Lock()
_PIXELS_OF_STRIP = 2**20

# Pillow warns above half of its own limit, and of damaged metadata; `MAX_PIXELS` is the limit here.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
# Blocks this large go back to the system when they are freed; those of 16 MiB stay with the thread that had them.
Image.core.set_block_size(2**26)


class UnreadableImage(Exception):  # noqa: N818
    """Bytes that are not an image, a damaged image, or one that is too large; the message is the reason."""


def open_file(path: Path) -> BinaryIO:
    """Opens a regular file only: opening a FIFO would wait for who writes it, and a device may do anything.

    Raises:
        UnreadableImage: If it is another kind of file.
        OSError: If it cannot be opened.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise UnreadableImage("not a regular file")
    return path.open("rb")


def decode(encoded: bytes, color_mode: str = "rgb", decoder: str = "pillow") -> np.ndarray:
    """Decodes an image according to the preprocessing contract; see `config.Preprocessing`.

    Args:
        encoded: A JPEG, PNG, BMP, WebP or PGM file.
        color_mode: "rgb" or "gray".
        decoder: Of a JPEG file, "pillow" or "tensorflow".

    Returns:
        The pixels: uint8, shape (height, width, 3) or (height, width, 1).

    Raises:
        UnreadableImage: If the bytes are not an image, a damaged image, one of more than `MAX_PIXELS` (half of them for
            WebP, whose decoder takes twice the memory), or more than `MAX_BYTES`.
    """
    with decoded(io.BytesIO(encoded), color_mode, decoder) as pixels:
        return pixels


@contextlib.contextmanager
def decoded(file: BinaryIO, color_mode: str = "rgb", decoder: str = "pillow") -> Iterator[np.ndarray]:
    """Like `decode`, for an open file, and for threads: bounds the memory that the images of all of them take.

    The pixels are yielded, and count until the `with` block ends: drop them there. Do not decode others within it.
    """
    size = file.seek(0, os.SEEK_END)
    with _ONE_LARGE_FILE if size > _LARGE_FILE else contextlib.nullcontext():
        with _reasons():
            image = _opened(file, size)
        with _MEMORY.taken(_bytes_per_pixel(image) * image.width * image.height):
            with _reasons():
                by_tensorflow = decoder == "tensorflow" and image.format == "JPEG"
                pixels = (_pixels_by_tensorflow if by_tensorflow else _pixels)(image, _MODES[color_mode])
            del image  # Pillow's copy of the pixels
            yield pixels


@contextlib.contextmanager
def _reasons() -> Iterator[None]:
    """Turns what Pillow raises into the reason why an image is unreadable."""
    try:
        yield
    except UnidentifiedImageError as error:
        raise UnreadableImage("not a JPEG, PNG, BMP or WebP image") from error
    except Image.DecompressionBombError as error:
        raise UnreadableImage(f"more than {MAX_PIXELS // 10**6} million pixels") from error
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error) as error:
        raise UnreadableImage(f"damaged: {error}") from error


def _opened(file: BinaryIO, size: int) -> Image.Image:
    """Reads the header of an image."""
    if not size:
        raise UnreadableImage("an empty file")
    if size > MAX_BYTES:
        raise UnreadableImage(f"larger than {MAX_BYTES // 10**6} MB")
    file.seek(0)
    image = Image.open(file, formats=_FORMATS)
    limit = MAX_PIXELS // 2 if image.format == "WEBP" else MAX_PIXELS
    if image.width * image.height > limit:
        raise UnreadableImage(f"more than {limit // 10**6} million pixels")
    return image


def _bytes_per_pixel(image: Image.Image) -> int:
    """Returns what decoding takes: Pillow's four and our three; before these, WebP and progressive JPEG take more."""
    return 16 if image.format == "WEBP" else 12 if image.info.get("progressive") else 7


def _pixels(image: Image.Image, mode: str) -> np.ndarray:
    """Returns the upright pixels."""
    image.load()
    orientation = _orientation(image)
    rows = max(1, _PIXELS_OF_STRIP // image.width)
    if rows >= image.height and orientation == 1:
        return _samples(image, mode)
    size = image.size if orientation > 4 else image.size[::-1]
    pixels = np.empty((*size, len(mode)), np.uint8)
    stored = _AS_STORED[orientation](pixels)
    for top in range(0, image.height, rows):  # strip by strip, because each conversion makes a copy
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        stored[top : top + rows] = _samples(strip, mode)
    return pixels


def _pixels_by_tensorflow(image: Image.Image, mode: str) -> np.ndarray:
    """Returns the upright pixels of a JPEG as TensorFlow decodes it, with the defaults of `tf.io.decode_jpeg`."""
    from mbutils.backend import tf  # late: only who asks for it needs TensorFlow

    image.fp.seek(0)
    try:
        stored = tf.io.decode_jpeg(image.fp.read(), channels=len(mode)).numpy()
    except tf.errors.InvalidArgumentError as error:
        raise UnreadableImage("damaged: TensorFlow cannot decode it") from error
    orientation = _orientation(image)
    pixels = np.empty((*(image.size if orientation > 4 else image.size[::-1]), len(mode)), np.uint8)
    _AS_STORED[orientation](pixels)[:] = stored
    return pixels


def _samples(image: Image.Image, mode: str) -> np.ndarray:
    """Keeps the high byte of 16-bit samples, as Pillow does for colour images, and puts transparent pixels on white."""
    if image.mode.startswith("I"):
        samples = np.asarray(image).astype(np.int64).clip(0, 0xFFFF)
        image = Image.fromarray((samples >> 8).astype(np.uint8))
    elif image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        white.alpha_composite(image.convert("RGBA"))
        image = white.convert("RGB")
    return np.atleast_3d(image if image.mode == mode else image.convert(mode))


def _orientation(image: Image.Image) -> int:
    """Returns the orientation of EXIF, 1 to 8; 1 where there is none."""
    try:
        orientation = image.getexif().get(_ORIENTATION)
    except (OSError, SyntaxError, ValueError, IndexError, struct.error):
        return 1  # damaged metadata around sound pixels
    return orientation if orientation in _AS_STORED else 1
