"""The user's own images: a folder that holds a folder of images for each class.

    flowers/            or, already split into parts:   flowers/
      roses/a.jpg ...                                     train/roses/a.jpg ...
      tulips/b.png ...                                    test/roses/b.jpg ...

Missing parts are drawn from train. Hidden files and folders, and files without the suffix of an image, are ignored.
"""

import hashlib
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd

from mbutils.config import DataParameters
from mbutils.data import cache, editions, index, layout
from mbutils.data.dataset import PARTS, Dataset
from mbutils.data.decoding import UnreadableImage, open_file
from mbutils.data.splits import once_in_test, split_by_class, without_copies
from mbutils.errors import WorkbookError


def load(parameters: DataParameters) -> Dataset:
    """Returns the images of `data_dir`.

    Raises:
        WorkbookError: If the folder is missing, is not laid out as above, or has fewer than two classes, a class that
            is missing in a part, links that leave it, or unreadable images and `skip_corrupt` is not set.
    """
    root = Path(parameters.data_dir)
    files = layout.scan(root)
    class_names = tuple(sorted(set(files["class"])))
    if len(class_names) == 1:
        raise WorkbookError(f"data_dir {root} holds only one class, {class_names[0]!r}: {layout.LAYOUT}, at least two")
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
    files = layout.scan(root, needs_train=False)
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
    paths = examples["path"].tolist()
    checked = list(zip(examples["size"], examples["modified"], strict=True))

    def open_at(position: int) -> BinaryIO:
        return _open_unchanged(paths[position], checked[position])

    def read() -> Iterator[bytes]:
        for position in range(len(paths)):
            with open_at(position) as file:
                yield file.read()

    kept = ["file", "identity", "pixels", "width", "height", "label", "part"]
    return Dataset(_name(parameters, class_names), class_names, examples[kept], read, open_at, skipped)


def _name(parameters: DataParameters, class_names: tuple[str, ...]) -> str:
    """Returns the name of the published dataset with these classes, or else that of the folder."""
    return editions.edition(class_names) or parameters.data_name


def _open_unchanged(path: Path, checked: tuple[int, int]) -> BinaryIO:
    """Opens an image that was readable, if its size and time are still those."""
    try:
        file = open_file(path)
    except OSError as error:
        raise WorkbookError(f"cannot read {path} ({error.strerror}): restore it, or start again without it") from error
    except UnreadableImage as error:
        raise WorkbookError(f"cannot read {path} ({error}): restore it, or start again without it") from error
    if _size_and_time(os.fstat(file.fileno())) != checked:
        file.close()
        raise WorkbookError(f"{path} has changed since it was checked: start again")
    return file


def _described(root: Path, files: pd.DataFrame) -> pd.DataFrame:
    keys = files.drop(columns="path")
    keys["size"], keys["modified"] = zip(*map(_stat, files["path"]), strict=True)
    digest = hashlib.sha256(os.fsencode(root)).hexdigest()[:16]
    openers = (partial(open_file, path) for path in files["path"])
    return index.of_images(keys, openers, cache.folder(cache.INDEX) / f"folder_{digest}.csv").assign(path=files["path"])


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
