"""An index of the images of a dataset: digests of bytes and pixels, sizes, and why an image cannot be read.

Making it takes decoding every image once. It is kept in the cache folder; only new or changed images are decoded again.
"""

import hashlib
from collections.abc import Iterable
from itertools import compress
from pathlib import Path

import pandas as pd

from mbutils.data import cache
from mbutils.data.decoding import Opener, UnreadableImage, decoded
from mbutils.data.parallel import ordered_map
from mbutils.errors import WorkbookError, printable
from mbutils.progress import progress

_FOUND = ["identity", "pixels", "width", "height", "error"]
_TYPES = dict.fromkeys(["file", "given", "class", "split", "identity", "pixels", "error"], str)
_TYPES |= dict.fromkeys(["label", "size", "modified", "width", "height"], int)
_NAMED = 5  # unreadable images in an error


def describe(opener: Opener) -> tuple[str, str, int, int, str]:
    """Returns `identity`, `pixels`, `width` and `height` of an image, and `error`, empty for a readable image.

    Args:
        opener: Opens the encoded bytes.
    """
    identity = ""
    try:
        with opener() as file:
            identity = hashlib.file_digest(file, "md5").hexdigest()
            with decoded(file) as pixels:
                height, width = pixels.shape[:2]
                digest = hashlib.md5(f"{width} {height} ".encode())
                digest.update(pixels)
                return identity, digest.hexdigest(), width, height, ""
    except UnreadableImage as error:
        return identity, "", 0, 0, printable(str(error))
    except OSError as error:
        return identity, "", 0, 0, str(error.strerror)


def of_images(keys: pd.DataFrame, openers: Iterable[Opener], path: Path) -> pd.DataFrame:
    """Returns the index of images, with the entries of unchanged images taken from the file at `path`.

    Args:
        keys: One row for each image, unique, that is the same as long as the image is unchanged.
        openers: Open the encoded bytes of each image; called only for new images.
        path: A .csv file in the cache folder.

    Returns:
        `keys` with the columns `identity`, `pixels`, `width`, `height` and `error`.

    Raises:
        WorkbookError: If the cache folder cannot be written.
    """
    with cache.made_once(path):
        return _completed(keys, openers, path)


def _completed(keys: pd.DataFrame, openers: Iterable[Opener], path: Path) -> pd.DataFrame:
    known = _known(path, list(keys))
    images = list(keys.itertuples(index=False, name=None))
    new = [image for image in images if image not in known]
    if new:
        is_new = [image not in known for image in images]
        with progress(len(new), "check every image", "image") as bar:
            for image, facts in zip(new, ordered_map(describe, compress(openers, is_new)), strict=True):
                known[image] = facts
                bar.update()
    table = pd.DataFrame([(*image, *known[image]) for image in images], columns=[*keys, *_FOUND])
    if new:
        with cache.written(path) as partial:
            table.to_csv(partial, index=False)
    return table


def _known(path: Path, keys: list[str]) -> dict[tuple, tuple]:
    table = load(path)
    if table is None or list(table) != [*keys, *_FOUND]:
        return {}
    return {row[: len(keys)]: row[len(keys) :] for row in table.itertuples(index=False, name=None)}


def load(path: Path) -> pd.DataFrame | None:
    """Returns what `of_images` wrote, or None if the file is missing or damaged."""
    try:
        return pd.read_csv(path, dtype=_TYPES, keep_default_na=False)
    except (OSError, ValueError):  # pandas' parser errors are ValueErrors
        return None


def refuse_unreadable(table: pd.DataFrame, name: str, skip: bool) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Returns the readable images, and the others as text, each with its reason.

    Args:
        table: What `of_images` returned, with the column `file`.
        name: The dataset, for the error.
        skip: Whether unreadable images are left out.

    Raises:
        WorkbookError: If an image is unreadable and `skip` is False; the first five are named.
    """
    unreadable = table[table["error"] != ""]
    listed = tuple(f"{row.file} ({row.error})" for row in unreadable.itertuples())
    if listed and not skip:
        raise WorkbookError(
            f"{name}: {len(listed)} of {len(table)} images cannot be read: {in_short(listed)}: "
            "remove or replace them, or set skip_corrupt"
        )
    return table[table["error"] == ""], listed


def in_short(listed: tuple[str, ...]) -> str:
    """Returns the first five of the unreadable images, and how many more there are."""
    more = f" and {len(listed) - _NAMED} more" if len(listed) > _NAMED else ""
    return ", ".join(listed[:_NAMED]) + more
