"""Single photographs from anywhere: a file, an upload, a camera, an array of pixels."""

import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from mbutils.config import Preprocessing
from mbutils.data.decoding import UnreadableImage, open_file
from mbutils.data.layout import is_image
from mbutils.data.preprocessing import preprocess
from mbutils.errors import WorkbookError

Photograph = str | Path | bytes | np.ndarray


def prepared(photo: Photograph, contract: Preprocessing) -> np.ndarray:
    """Applies the preprocessing contract to one photograph.

    Args:
        photo: The path of a file; its bytes; or pixels, uint8, of shape (height, width) or (height, width, 1) if gray,
            (height, width, 3) if RGB, (height, width, 4) if RGB with opacity.
        contract: The contract.

    Returns:
        The image: uint8, shape (image_size, image_size, channels).

    Raises:
        WorkbookError: If it is no image, a damaged one, or one that is too large; if the file cannot be read, or the
            pixels have another type or shape.
    """
    try:
        with _opened(photo) as file:
            return preprocess(file, contract)
    except UnreadableImage as error:
        name = photo if isinstance(photo, str | Path) else "the photograph"
        raise WorkbookError(f"{name} is unreadable ({error}): choose a JPEG, PNG, BMP or WebP image") from None


def encoded(path: str | Path) -> bytes:
    """Returns the content of a file.

    Raises:
        WorkbookError: If it cannot be read.
    """
    with _opened(path) as file:
        return file.read()


def _opened(photo: Photograph) -> BinaryIO:
    if isinstance(photo, bytes):
        return io.BytesIO(photo)
    if isinstance(photo, np.ndarray):
        return _png(photo)
    try:
        return open_file(Path(photo))
    except (OSError, UnreadableImage) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise WorkbookError(f"cannot read {photo} ({reason}): give the path of an image") from error


def _png(pixels: np.ndarray) -> BinaryIO:
    shape = pixels.shape[:2] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels.shape
    is_image = len(shape) == 2 or (len(shape) == 3 and shape[2] in (3, 4))
    if pixels.dtype != np.uint8 or not is_image or not pixels.size:
        raise WorkbookError(
            f"pixels of type {pixels.dtype} and shape {pixels.shape} are not an image: give uint8 of shape "
            "(height, width, 3), or (height, width) if gray"
        )
    file = io.BytesIO()
    Image.fromarray(pixels.reshape(shape)).save(file, "PNG", compress_level=1)
    return file


def find(paths: Iterable[str | Path]) -> list[Path]:
    """Returns files and the images in folders and their sub-folders, those of a folder sorted, each file once.

    Images are known by their suffix. Hidden files and folders are left out.

    Raises:
        WorkbookError: If a folder cannot be read, or holds no images.
    """
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        found |= dict.fromkeys(_images_in(path) if path.is_dir() else [path])
    return list(found)


def _images_in(folder: Path) -> list[Path]:
    images = []
    for parent, folders, names in os.walk(folder, onerror=_refuse_unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        images += [Path(parent, name) for name in names if not name.startswith(".") and is_image(Path(name))]
    if not images:
        raise WorkbookError(f"{folder} holds no images: give the path of an image, or of a folder that holds some")
    return sorted(images)


def _refuse_unreadable(error: OSError) -> None:
    raise WorkbookError(f"cannot read {error.filename} ({error.strerror}): check its permissions") from error
