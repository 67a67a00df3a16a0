"""How a folder of images is laid out: its parts, its classes and their files; see `folder`."""

import os
import stat
import unicodedata
from pathlib import Path

import pandas as pd

from mbutils.data.dataset import PARTS
from mbutils.errors import WorkbookError, nearest, printable

_PART_FOLDERS = {part: part for part in PARTS} | {"val": "validation", "valid": "validation"}
_READ = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}
# Images of these formats are listed as unreadable rather than ignored.
_NOT_READ = {".gif", ".tif", ".tiff", ".heic", ".heif", ".avif", ".jp2", ".jxl", ".ppm", ".pgm"}
LAYOUT = "give a folder that holds a folder of images for each class"


def scan(root: Path, needs_train: bool = True) -> pd.DataFrame:
    """Returns a row for each image file, sorted: `path`, `file` (relative), `given` (its part, or ""), `class`.

    Args:
        root: The folder.
        needs_train: Whether folders of parts count as such only where one of them is train.

    Raises:
        WorkbookError: If it cannot be read, is laid out otherwise, or has links that leave it or lead nowhere.
    """
    _refuse_wrong_root(root)
    rows = []
    for part, folder in _part_folders(root, needs_train):
        _refuse_loose_images(folder, root)
        seen: dict[str, Path] = {}
        for path in _folders(folder, root):
            name = _class_name(path)
            if name in seen:
                raise WorkbookError(f"{seen[name]} and {path} are the same class {name!r}: merge them")
            seen[name] = path
            images = _images(path, root)
            if not images:
                raise WorkbookError(f"class folder {path} holds no images: add some, or remove it")
            rows += [(image, printable(str(image.relative_to(root))), part, name) for image in images]
    if not rows:
        raise WorkbookError(f"data_dir {root} holds no images: {LAYOUT}")
    return pd.DataFrame(rows, columns=["path", "file", "given", "class"])


def _refuse_wrong_root(root: Path) -> None:
    try:
        mode = root.stat().st_mode
    except FileNotFoundError as error:
        raise WorkbookError(f"data_dir {root} does not exist: {_hint(root)}") from error
    except OSError as error:
        raise WorkbookError(f"cannot read data_dir {root} ({error.strerror}): {LAYOUT}") from error
    if stat.S_ISREG(mode):
        raise WorkbookError(f"data_dir {root} is a file: unpack it, and {LAYOUT}")
    if not stat.S_ISDIR(mode):
        raise WorkbookError(f"data_dir {root} is not a folder: {LAYOUT}")


def _hint(root: Path) -> str:
    try:
        siblings = [entry.name for entry in os.scandir(root.parent) if _is_folder(entry)]
    except OSError:
        return LAYOUT
    return nearest(root.name, siblings) if len(siblings) in range(1, 20) else LAYOUT


def _part_folders(root: Path, needs_train: bool) -> list[tuple[str, Path]]:
    """Returns the folders that hold the class folders, each with its part, "" if the parts are still to be drawn."""
    folders = _folders(root, root)
    parts = [(_PART_FOLDERS[path.name.lower()], path) for path in folders if path.name.lower() in _PART_FOLDERS]
    found = [part for part, _ in parts]
    if not parts or (needs_train and "train" not in found) or (len(folders) > 1 and len(parts) == 1):
        return [("", root)]  # "train" next to folders that are not parts is a class: pictures of trains
    others = [path.name for path in folders if path.name.lower() not in _PART_FOLDERS]
    if others:
        raise WorkbookError(f"{root} holds parts and other folders ({', '.join(others)}): move the others out of it")
    if len(set(found)) < len(found):
        names = ", ".join(path.name for _, path in parts)
        raise WorkbookError(f"{root} holds two folders for one part ({names}): merge them")
    _refuse_loose_images(root, root)
    return parts


def _folders(folder: Path, root: Path) -> list[Path]:
    """Returns the visible folders in a folder, sorted by name."""
    entries = _visible(folder, root)
    dangling = next(filter(_leads_nowhere, entries), None)
    if dangling:
        raise WorkbookError(f"{dangling.path} is a link that leads nowhere: repair or remove it")
    return [Path(entry) for entry in entries if _is_folder(entry)]


def _target(link: os.DirEntry) -> Path:
    try:
        return Path(os.path.realpath(link))
    except OSError:
        return Path("/")  # a link of the system, to where it may not lead: it leaves the data


def _leads_nowhere(entry: os.DirEntry) -> bool:
    try:
        entry.stat()
    except OSError:
        return entry.is_symlink()
    return False


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False  # a link to itself, or into a folder that may not be searched


def _visible(folder: Path, root: Path) -> list[os.DirEntry]:
    """Returns the visible entries of a folder, sorted by name; links must not leave the data."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise WorkbookError(f"cannot read {folder} ({error.strerror}): check its permissions") from error
    entries = [entry for entry in entries if not entry.name.startswith((".", "__"))]
    for entry in entries:
        if entry.is_symlink() and not _target(entry).is_relative_to(os.path.realpath(root)):
            raise WorkbookError(f"{entry.path} is a link that leaves {root}: replace it with a copy of its target")
    return entries


def is_image(path: Path) -> bool:
    """Returns whether a file has the suffix of an image, of a format that is read or of one that is not."""
    return path.suffix.lower() in _READ | _NOT_READ


def _images(folder: Path, root: Path) -> list[Path]:
    inside = _visible(folder, root)
    nested = next(filter(_is_folder, inside), None)
    if nested:
        raise WorkbookError(f"class folder {folder} holds a folder, {nested.name}: {LAYOUT}, and no deeper folders")
    return [path for path in map(Path, inside) if is_image(path)]


def _refuse_loose_images(folder: Path, root: Path) -> None:
    files = [Path(entry) for entry in _visible(folder, root) if not _is_folder(entry)]
    loose = next(filter(is_image, files), None)
    if loose:
        raise WorkbookError(f"{loose} is not in a class folder: move it into one, or away; {LAYOUT}")


def _class_name(folder: Path) -> str:
    """Returns the name of a class in composed Unicode, since some file systems store names decomposed."""
    name = unicodedata.normalize("NFC", folder.name).strip()
    if not name or printable(name) != name:
        raise WorkbookError(f"the name of class folder {str(folder)!r} cannot be printed: rename it")
    return name
