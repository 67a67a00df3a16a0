"""Single photographs from anywhere: a file, an upload, a camera, an array of pixels."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from mbutils.config import Preprocessing
from mbutils.data.decoding import UnreadableImage
from mbutils.data.preprocessing import preprocess
from mbutils.errors import WorkbookError

Photograph = str | Path | bytes | np.ndarray


def prepared(photo: Photograph, contract: Preprocessing) -> np.ndarray:
    """Applies the preprocessing contract to one photograph.

    Args:
        photo: What `encoded` takes.
        contract: The contract.

    Returns:
        The image: uint8, shape (image_size, image_size, channels).

    Raises:
        WorkbookError: If it is no image, a damaged one, or one that is too large.
    """
    try:
        return preprocess(encoded(photo), contract)
    except UnreadableImage as error:
        name = photo if isinstance(photo, str | Path) else "the photograph"
        raise WorkbookError(f"{name} is unreadable ({error}): choose a JPEG, PNG, BMP or WebP image") from None


def encoded(photo: Photograph) -> bytes:
    """Returns a photograph as the bytes of an image file.

    Args:
        photo: The path of a file; its bytes; or pixels, uint8, of shape (height, width) or (height, width, 1) if gray,
            (height, width, 3) if RGB, (height, width, 4) if RGB with opacity.

    Raises:
        WorkbookError: If the file cannot be read, or the pixels have another type or shape.
    """
    if isinstance(photo, bytes):
        return photo
    if isinstance(photo, np.ndarray):
        return _png(photo)
    try:
        return Path(photo).read_bytes()
    except OSError as error:
        raise WorkbookError(f"cannot read {photo} ({error.strerror}): give the path of an image") from error


def _png(pixels: np.ndarray) -> bytes:
    shape = pixels.shape[:2] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels.shape
    is_image = len(shape) == 2 or (len(shape) == 3 and shape[2] in (3, 4))
    if pixels.dtype != np.uint8 or not is_image or not pixels.size:
        raise WorkbookError(
            f"pixels of type {pixels.dtype} and shape {pixels.shape} are not an image: give uint8 of shape "
            "(height, width, 3), or (height, width) if gray"
        )
    file = io.BytesIO()
    Image.fromarray(pixels.reshape(shape)).save(file, "PNG", compress_level=1)
    return file.getvalue()
