"""Labelled images in three parts: training, validation and test."""

import hashlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import BinaryIO

import numpy as np
import pandas as pd

from mbutils.config import DataParameters
from mbutils.data.decoding import Opener

PARTS = ("train", "validation", "test")
EXCLUDED = "excluded"


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images in three parts.

    Attributes:
        name: The name in tables and file names: that in `REGISTRY`, or "folder_" and the name of the folder.
        class_names: The classes in the order of their labels.
        examples: One row for each image, in reading order: `file` (its path or number), `identity` (md5 of the encoded
            bytes, hexadecimal), `pixels` (a digest of the decoded image), `width` and `height` of the original (px),
            `label` (0..n_classes-1) and `part` ("train", "validation", "test", or "excluded").
        read: Yields the encoded bytes of every image, in the order of `examples`.
        open_at: Opens the encoded bytes of the image at a position; None where images can only be read in order.
        skipped: The unreadable images that were left out, each with its reason.
        loaded_with: The parameters that it was loaded with; None where it was made otherwise.
    """

    name: str
    class_names: tuple[str, ...]
    examples: pd.DataFrame
    read: Callable[[], Iterator[bytes]]
    open_at: Callable[[int], BinaryIO] | None = None
    skipped: tuple[str, ...] = ()
    loaded_with: DataParameters | None = None

    @property
    def n_classes(self) -> int:
        """The number of classes."""
        return len(self.class_names)

    @property
    def n_train(self) -> int:
        """The number of training images."""
        return len(self.positions("train"))

    @property
    def labels(self) -> np.ndarray:
        """The label of every image: int64, shape (n,)."""
        return self.examples["label"].to_numpy()

    @cached_property
    def fingerprint(self) -> str:
        """A digest of classes, identities, labels and parts: equal for equal data in any order."""
        columns = ["identity", "label", "part"]
        rows = self.examples[columns].sort_values(columns).to_csv(index=False)
        return hashlib.sha256(f"{self.class_names}\n{rows}".encode()).hexdigest()[:16]

    def positions(self, part: str) -> np.ndarray:
        """Returns the positions of the images of one part, in reading order: int64, shape (n_part,)."""
        return np.flatnonzero(self.examples["part"] == part)

    def spread(self, part: str, count: int) -> np.ndarray:
        """Returns the positions of `count` images of one part (all, if it has fewer), spread evenly over its classes.

        Returns:
            int64, shape (count,), sorted by class. Every class has one, if there are not more than `count` classes.
        """
        positions = self.positions(part)
        labels = self.labels[positions]
        turns = pd.Series(labels).groupby(labels).cumcount()
        order = np.lexsort((labels, turns))  # the first image of each class, the second of each class, ...
        count = min(count, len(positions))
        steps = max(count, (turns == 0).sum())
        chosen = order[np.arange(count) * steps // max(1, count)]
        return positions[chosen[np.argsort(labels[chosen], kind="stable")]]

    def counts(self) -> pd.DataFrame:
        """Returns the number of images for each class (rows) and part (columns), with totals."""
        names = self.examples["label"].map(dict(enumerate(self.class_names)))
        table = pd.crosstab(names, self.examples["part"]).reindex(self.class_names, fill_value=0)
        table = table.reindex(columns=[*PARTS, EXCLUDED], fill_value=0)
        table.loc["total"] = table.sum()
        return table.rename_axis(index="class", columns="part").assign(total=table.sum(axis=1))

    def class_weights(self) -> np.ndarray:
        """Returns a weight for each class that makes all classes count equally: float32, shape (n_classes,).

        `n_train / (n_classes * n_train of the class)`, so that the mean over the training images is 1
        (King and Zeng 2001, "Logistic regression in rare events data", Political Analysis 9).
        """
        counts = np.bincount(self.labels[self.positions("train")], minlength=self.n_classes)
        return (counts.sum() / (self.n_classes * np.maximum(counts, 1))).astype(np.float32)

    def duplicates(self) -> pd.DataFrame:
        """Returns the images that occur more than once, by their bytes or their decoded pixels.

        Returns:
            One row for each image: `identity` (of the first copy), `files` (separated by ", "), `copies`, `same`
            ("bytes", or "pixels" where the files differ), `classes` and `parts` (sorted), and `contradicting` (True
            where the copies have different labels).
        """
        rows = [
            {
                "identity": group["identity"].iloc[0],
                "files": ", ".join(group["file"]),
                "copies": len(group),
                "same": "bytes" if group["identity"].nunique() == 1 else "pixels",
                "classes": ", ".join(sorted({self.class_names[label] for label in group["label"]})),
                "parts": ", ".join(sorted(set(group["part"]))),
                "contradicting": group["label"].nunique() > 1,
            }
            for group in self._copies()
        ]
        columns = ["identity", "files", "copies", "same", "classes", "parts", "contradicting"]
        return pd.DataFrame(rows, columns=columns)

    def copies(self, count: int) -> np.ndarray:
        """Returns the positions of at most `count` images that occur more than once, copies adjacent: int64."""
        groups = sorted(self._copies(), key=lambda group: -group[["label", "part"]].nunique().sum())
        return np.array([position for group in groups for position in group.index], np.int64)[:count]

    def _copies(self) -> list[pd.DataFrame]:
        repeated = self.examples[self.examples["pixels"].duplicated(keep=False)]
        return [group for _, group in repeated.groupby("pixels", sort=False)]

    def image_sizes(self) -> pd.DataFrame:
        """Returns `width` and `height` of every original image, in pixels."""
        return self.examples[["width", "height"]]

    def openers(self, positions: np.ndarray) -> Iterator[Opener]:
        """Yields what opens the encoded bytes of each image at ascending `positions`."""
        if self.open_at:
            return (partial(self.open_at, position) for position in positions.tolist())
        wanted = set(positions.tolist())
        return (partial(io.BytesIO, data) for position, data in enumerate(self.read()) if position in wanted)

    def encoded(self, positions: np.ndarray) -> list[bytes]:
        """Returns the encoded bytes of the images at `positions`, in that order."""
        ascending = np.unique(positions)
        found = dict(zip(ascending.tolist(), map(_content, self.openers(ascending)), strict=True))
        return [found[position] for position in positions.tolist()]


def _content(opener: Opener) -> bytes:
    with opener() as file:
        return file.read()
