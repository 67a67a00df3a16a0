"""What is deployed: the int8 model of a run, or a .tflite from elsewhere, with its contract and test images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mbutils import runs
from mbutils.config import Preprocessing
from mbutils.data import photographs, preprocessing
from mbutils.errors import WorkbookError, nearest
from mbutils.tflite import schema


@dataclass(frozen=True, eq=False)
class Model:
    """A model and all that its C code needs to know.

    Attributes:
        title: What the folder's README is called.
        label: What messages call the model.
        content: The bytes of the .tflite.
        contract: How images are prepared for it.
        class_names: Its classes, in the order of its scores.
        images: Returns so many test images: uint8, shape (n, height, width, channels).
        images_are: What these are, in words.
        origin: Where it comes from, for `deploy.json`.
    """

    title: str
    label: str
    content: bytes
    contract: Preprocessing
    class_names: tuple[str, ...]
    images: Callable[[int], np.ndarray]
    images_are: str
    origin: dict[str, Any]

    @classmethod
    def of_run(cls, run: runs.Run, variant: str) -> "Model":
        """Returns an int8 model of a finished run, with images of its test part.

        Raises:
            WorkbookError: If the run has no such variant.
        """
        if variant not in run.int8_variants:
            hint = nearest(variant, run.int8_variants)
            raise WorkbookError(f"run {run.run_id} has no {variant} model: {hint} or run the convert notebook")
        path = run.artefact(f"{variant}.tflite")
        return cls(
            f"{run.run_id}, {variant}",
            str(path),
            path.read_bytes(),
            run.parameters.preprocessing,
            tuple(run.manifest["dataset"]["class_names"]),
            partial(_test_images, run),
            "images of the test part",
            {"run_id": run.run_id, "variant": variant},
        )

    @classmethod
    def of_file(
        cls, path: str | Path, contract: Preprocessing, class_names: Sequence[str], photos: Sequence[str | Path] = ()
    ) -> "Model":
        """Returns the model of a .tflite file from anywhere.

        Args:
            path: The file.
            contract: How images are prepared for it.
            class_names: Its classes, in the order of its scores.
            photos: Photographs that become test images, files or folders; where there are none, patterns do.

        Raises:
            WorkbookError: If the file cannot be read.
        """
        label, content = schema.load(path)
        images = partial(_photographs, photos, contract) if photos else partial(patterns, shape=contract.shape)
        return cls(
            Path(path).name,
            label,
            content,
            contract,
            tuple(class_names),
            images,
            "photographs" if photos else "patterns of noise",
            {"model": Path(path).name},
        )


def patterns(count: int, shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    """Returns noise, coarse and fine, dark and bright: uint8, shape (count, *shape)."""
    rng = np.random.default_rng(seed)
    height, width, channels = shape
    made = []
    for i in range(count):
        grain = 2 ** (i % 5)
        coarse = rng.integers(0, 256, (-(-height // grain), -(-width // grain), channels))
        image = coarse.repeat(grain, axis=0).repeat(grain, axis=1)[:height, :width]
        low, high = sorted(rng.integers(0, 256, 2))
        made.append(low + image * (high - low) // 255)
    return np.array(made, np.uint8)


def _test_images(run: runs.Run, count: int) -> np.ndarray:
    dataset = runs.load_dataset(run)
    chosen = _spread(dataset.positions("test"), count)
    return np.array(preprocessing.cached_images(dataset, run.parameters.preprocessing)[chosen])


def _photographs(photos: Sequence[str | Path], contract: Preprocessing, count: int) -> np.ndarray:
    chosen = _spread(np.array(photographs.find(photos), object), count)
    return np.stack([photographs.prepared(photo, contract) for photo in chosen])


def _spread(values: np.ndarray, count: int) -> np.ndarray:
    """Returns so many of the values, or all if they are fewer, evenly spread over them."""
    return values[np.linspace(0, len(values) - 1, min(count, len(values))).round().astype(int)]
