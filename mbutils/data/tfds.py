"""Datasets of tensorflow-datasets: downloaded on first use, or prepared in the folder that TFDS_DATA_DIR names."""

import hashlib
import io
import itertools
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mbutils.config import DataParameters
from mbutils.data import cache, editions, index
from mbutils.data.dataset import Dataset
from mbutils.data.splits import assign_parts, once_in_test, split_by_class
from mbutils.errors import WorkbookError


def tf_flowers(parameters: DataParameters) -> Dataset:
    """3,670 photographs of flowers, 5 classes; the test part is the 734 images of the published accuracies."""
    data = _load("tf_flowers", "3.0.1", ("train",), parameters)
    test_rows = editions.flowers_test_images()
    test_keys = set(zip(test_rows["label"], test_rows["md5"], strict=True))
    names = [data.class_names[label] for label in data.labels]
    keys = pd.Series(list(zip(names, data.examples["identity"], strict=True)))
    # A copy of a test image with the same label also matches the published row: only the first one is the test image.
    is_test = (keys.isin(test_keys) & ~keys.duplicated()).to_numpy()
    if is_test.sum() != len(test_rows):
        raise WorkbookError(
            f"tf_flowers: found {is_test.sum()} of the {len(test_rows)} published test images: "
            "the prepared dataset is not the original; remove its folder from TFDS_DATA_DIR and download it again"
        )
    data.examples["part"] = assign_parts(data.examples, is_test, parameters.validation_fraction)
    return data


def plant_village(parameters: DataParameters) -> Dataset:
    """54,303 photographs of leaves, 38 classes, no test part of its own; the published figures are for 39 classes."""
    data = _load("plant_village", "1.0.2", ("train",), parameters)
    fractions = {"test": parameters.test_fraction, "validation": parameters.validation_fraction}
    parts = split_by_class(data.examples, fractions, parameters.split_seed)
    data.examples["part"] = once_in_test(data.examples, parts)
    return data


def food101(parameters: DataParameters) -> Dataset:
    """101,000 photographs of food, 101 classes; the test part is the official one of 25,250 images."""
    data = _load("food101", "2.0.0", ("train", "validation"), parameters)  # its "validation" is the official test
    is_test = (data.examples["split"] == "validation").to_numpy()
    data.examples["part"] = assign_parts(data.examples, is_test, parameters.validation_fraction)
    return data


def _load(name: str, version: str, splits: tuple[str, ...], parameters: DataParameters) -> Dataset:
    """Returns a dataset without parts, with the tensorflow-datasets split of each image in `examples`."""
    builder = _builder(name, version)
    stored = [_stored(builder, split) for split in splits]
    path = cache.folder(cache.INDEX) / f"{name}_{_stamp(Path(builder.data_path))}.csv"
    table = index.load(path)
    if table is None:
        keys = [_keys(split, examples) for split, examples in zip(splits, stored, strict=True)]
        openers = (partial(io.BytesIO, encoded) for encoded in _encoded(stored))
        table = index.of_images(pd.concat(keys, ignore_index=True), openers, path)
    readable, skipped = index.refuse_unreadable(table, name, parameters.skip_corrupt)
    is_readable = (table["error"] == "").tolist()

    def read() -> Iterator[bytes]:
        return itertools.compress(_encoded(stored), is_readable)

    examples = readable.drop(columns="error").reset_index(drop=True)
    return Dataset(name, tuple(builder.info.features["label"].names), examples, read, skipped=skipped)


def _builder(name: str, version: str) -> Any:  # noqa: ANN401
    """Returns the builder of a prepared dataset."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download import downloader

    import mbutils.backend  # noqa: F401  (TensorFlow without its messages, before tensorflow-datasets imports it)

    downloader.MAX_RETRIES = 3  # the default 10 take three minutes to fail without a network
    folder = os.environ.get("TFDS_DATA_DIR") or tfds.core.constants.DATA_DIR
    try:
        builder = tfds.builder(f"{name}:{version}", data_dir=folder)
        builder.download_and_prepare()
    except Exception as error:
        raise WorkbookError(
            f"{name} is neither prepared in {folder} nor downloadable "
            f"({type(error).__name__}): connect to a network, or set TFDS_DATA_DIR to a folder that holds it"
        ) from error
    return builder


def _stored(builder: Any, split: str) -> Any:  # noqa: ANN401
    import tensorflow_datasets as tfds

    return builder.as_dataset(split=split, decoders={"image": tfds.decode.SkipDecoding()}, shuffle_files=False)


def _stamp(folder: Path) -> str:
    """Returns a digest of names, sizes and times of the files of a prepared dataset."""
    files = sorted((path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in folder.iterdir())
    return hashlib.sha256(str((str(folder), files)).encode()).hexdigest()[:16]


def _keys(split: str, stored: Any) -> pd.DataFrame:  # noqa: ANN401
    labels = np.array([example["label"] for example in stored.as_numpy_iterator()], np.int64)
    files = [f"image {number} of {split}" for number in range(len(labels))]
    return pd.DataFrame({"file": files, "split": split, "label": labels})


def _encoded(stored: list[Any]) -> Iterator[bytes]:
    for examples in stored:
        for example in examples.as_numpy_iterator():
            yield example["image"]
