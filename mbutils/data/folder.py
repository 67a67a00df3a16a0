"""The user's own images: a folder that holds a folder of images for each class.

    flowers/            or, already split into parts:   flowers/
      roses/a.jpg ...                                     train/roses/a.jpg ...
      tulips/b.png ...                                    test/roses/b.jpg ...

Missing parts are drawn from train. Hidden files and folders, and files without the suffix of an image, are ignored.
"""

import hashlib
import os
import stat
import unicodedata
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd

from mbutils.config import DataParameters
from mbutils.data import cache, editions, index
from mbutils.data.dataset import PARTS, Dataset
from mbutils.data.decoding import UnreadableImage
from mbutils.data.splits import once_in_test, split_by_class, without_copies
from mbutils.errors import WorkbookError, nearest, printable

_PART_FOLDERS = {part: part for part in PARTS} | {"val": "validation", "valid": "validation"}
_READ = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}
# Images of these formats are listed as unreadable rather than ignored.
_NOT_READ = {".gif", ".tif", ".tiff", ".heic", ".heif", ".avif", ".jp2", ".jxl", ".ppm", ".pgm"}
_LAYOUT = "give a folder that holds a folder of images for each class"


def load(parameters: DataParameters) -> Dataset:
    """Returns the images of `data_dir`.

    Raises:
        WorkbookError: If the folder is missing, is not laid out as above, or has fewer than two classes, a class that
            is missing in a part, links that leave it, or unreadable images and `skip_corrupt` is not set.
    """
    root = Path(parameters.data_dir)
    files = _scan(root)
    class_names = tuple(sorted(set(files["class"])))
    if len(class_names) == 1:
        raise WorkbookError(f"data_dir {root} holds only one class, {class_names[0]!r}: {_LAYOUT}, at least two")
    examples, skipped = _examples(root, files, class_names, parameters.skip_corrupt)
    examples["part"] = _parts(examples, parameters)
    _refuse_small_classes(root, class_names, examples)
    return _dataset(parameters, class_names, examples, skipped)


def load_to_score(parameters: DataParameters, part: str) -> Dataset:
    """Returns the images of `data_dir` to score a finished model on: one class and one image are enough.

    Args:
        parameters: As for `load`.
        part: "all" for every image of the folder, "test" or "validation" for those of that part. It is drawn as for a
            training, unless the folder holds parts.

    Returns:
        A dataset in which the images to score are the part "test" where `part` is "all", else that part.

    Raises:
        WorkbookError: As `load`, or if the folder holds parts and not this one.
    """
    root = Path(parameters.data_dir)
    files = _scan(root, needs_train=False)
    given = set(files["given"])
    if part != "all" and given & {"", "train"}:
        return load(parameters)
    if part not in {"all", *given}:
        raise WorkbookError(f"data_dir {root} holds no folder of the {part} part: add it, or score all images")
    class_names = tuple(sorted(set(files["class"])))
    examples, skipped = _examples(root, files, class_names, parameters.skip_corrupt)
    examples["part"] = "test" if part == "all" else examples["given"]
    return _dataset(parameters, class_names, examples, skipped)


def _examples(
    root: Path, files: pd.DataFrame, class_names: tuple[str, ...], skip_corrupt: bool
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Returns the readable images with their labels, and the others as text."""
    readable, skipped = index.refuse_unreadable(_described(root, files), str(root), skip_corrupt)
    labels = {name: label for label, name in enumerate(class_names)}
    return readable.assign(label=readable["class"].map(labels)).reset_index(drop=True), skipped


def _dataset(
    parameters: DataParameters, class_names: tuple[str, ...], examples: pd.DataFrame, skipped: tuple[str, ...]
) -> Dataset:
    paths = [Path(parameters.data_dir) / file for file in examples["file"]]
    checked = list(zip(examples["size"], examples["modified"], strict=True))

    def open_at(position: int) -> BinaryIO:
        return _open_unchanged(paths[position], checked[position])

    def read() -> Iterator[bytes]:
        for position in range(len(paths)):
            with open_at(position) as file:
                yield file.read()

    kept = ["file", "identity", "pixels", "width", "height", "label", "part"]
    shown = examples[kept].assign(file=examples["file"].map(printable))
    return Dataset(_name(parameters, class_names), class_names, shown, read, open_at, skipped)


def _name(parameters: DataParameters, class_names: tuple[str, ...]) -> str:
    """Returns the name of the published dataset with these classes, or else that of the folder."""
    return editions.edition(class_names) or parameters.data_name


def _open(path: Path) -> BinaryIO:
    """Opens a regular file only: opening a FIFO would wait for who writes it, and a device may do anything."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise UnreadableImage("not a regular file")
    return path.open("rb")


def _open_unchanged(path: Path, checked: tuple[int, int]) -> BinaryIO:
    """Opens an image that was readable, if its size and time are still those."""
    try:
        file = _open(path)
    except OSError as error:
        raise WorkbookError(f"cannot read {path} ({error.strerror}): restore it, or start again without it") from error
    except UnreadableImage as error:
        raise WorkbookError(f"cannot read {path} ({error}): restore it, or start again without it") from error
    if _size_and_time(os.fstat(file.fileno())) != checked:
        file.close()
        raise WorkbookError(f"{path} has changed since it was checked: start again")
    return file


def _refuse_wrong_root(root: Path) -> None:
    try:
        mode = root.stat().st_mode
    except FileNotFoundError as error:
        raise WorkbookError(f"data_dir {root} does not exist: {_hint(root)}") from error
    except (OSError, ValueError) as error:  # a ValueError for a null character
        raise WorkbookError(f"cannot read data_dir {root} ({error}): {_LAYOUT}") from error
    if stat.S_ISREG(mode):
        raise WorkbookError(f"data_dir {root} is a file: unpack it, and {_LAYOUT}")
    if not stat.S_ISDIR(mode):
        raise WorkbookError(f"data_dir {root} is not a folder: {_LAYOUT}")


def _hint(root: Path) -> str:
    try:
        siblings = [entry.name for entry in os.scandir(root.parent) if _is_folder(entry)]
    except OSError:
        return _LAYOUT
    return nearest(root.name, siblings) if len(siblings) in range(1, 20) else _LAYOUT


def _scan(root: Path, needs_train: bool = True) -> pd.DataFrame:
    """Returns a row for each image file, sorted: `file` (relative), `given` (the folder's part, or ""), `class`."""
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
            rows += [(str(image.relative_to(root)), part, name) for image in images]
    if not rows:
        raise WorkbookError(f"data_dir {root} holds no images: {_LAYOUT}")
    return pd.DataFrame(rows, columns=["file", "given", "class"])


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
        if entry.is_symlink() and not Path(os.path.realpath(entry)).is_relative_to(os.path.realpath(root)):
            raise WorkbookError(f"{entry.path} is a link that leaves {root}: replace it with a copy of its target")
    return entries


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in _READ | _NOT_READ


def _images(folder: Path, root: Path) -> list[Path]:
    inside = _visible(folder, root)
    nested = next(filter(_is_folder, inside), None)
    if nested:
        raise WorkbookError(f"class folder {folder} holds a folder, {nested.name}: {_LAYOUT}, and no deeper folders")
    return [path for path in map(Path, inside) if _is_image(path)]


def _refuse_loose_images(folder: Path, root: Path) -> None:
    files = [Path(entry) for entry in _visible(folder, root) if not _is_folder(entry)]
    loose = next(filter(_is_image, files), None)
    if loose:
        raise WorkbookError(f"{loose} is not in a class folder: move it into one, or away; {_LAYOUT}")


def _class_name(folder: Path) -> str:
    """Returns the name of a class in composed Unicode, since some file systems store names decomposed."""
    name = unicodedata.normalize("NFC", folder.name).strip()
    if not name or printable(name) != name:
        raise WorkbookError(f"the name of class folder {str(folder)!r} cannot be printed: rename it")
    return name


def _described(root: Path, files: pd.DataFrame) -> pd.DataFrame:
    stats = [_stat(root / file) for file in files["file"]]
    keys = files.assign(size=[size for size, _ in stats], modified=[modified for _, modified in stats])
    digest = hashlib.sha256(os.fsencode(root)).hexdigest()[:16]
    openers = (partial(_open, root / file) for file in files["file"])
    return index.of_images(keys, openers, cache.folder(cache.INDEX) / f"folder_{digest}.csv")


def _stat(path: Path) -> tuple[int, int]:
    try:
        return _size_and_time(path.stat())
    except OSError:
        return 0, 0  # a broken link: reading it raises the error


def _size_and_time(found: os.stat_result) -> tuple[int, int]:
    return found.st_size, found.st_mtime_ns


def _parts(examples: pd.DataFrame, parameters: DataParameters) -> pd.Series:
    """Returns the parts of the folders, with missing parts drawn from train, and copies excluded."""
    fractions = {"test": parameters.test_fraction, "validation": parameters.validation_fraction}
    given = examples["given"].replace("", "train")
    missing = {part: fraction for part, fraction in fractions.items() if not (given == part).any()}
    from_train = examples[given == "train"]
    parts = given.mask(given == "train", split_by_class(from_train, missing, parameters.split_seed))
    return without_copies(examples, once_in_test(examples, parts) if "test" in missing else parts)


def _refuse_small_classes(root: Path, class_names: tuple[str, ...], examples: pd.DataFrame) -> None:
    counts = pd.crosstab(examples["label"], examples["part"])
    counts = counts.reindex(index=range(len(class_names)), columns=PARTS, fill_value=0)
    for label, row in counts[(counts == 0).any(axis=1)].iterrows():
        total = np.unique(examples.loc[examples["label"] == label, "pixels"]).size
        raise WorkbookError(
            f"{root}: class {class_names[label]!r} has {total} different readable images and none for "
            f"{', '.join(row.index[row == 0])}: add images, at least one for each part, or remove the class"
        )
