"""What a mistake in preprocessing on the device would cost: a finished model on test images prepared wrongly."""

import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd

from mbutils import evaluation
from mbutils.config import INTERPOLATIONS, Preprocessing, to_pixels
from mbutils.data.dataset import Dataset
from mbutils.data.decoding import decode
from mbutils.data.parallel import ordered_map
from mbutils.data.preprocessing import resize
from mbutils.progress import progress
from mbutils.tflite.interpreter import TFLiteModel

RIGHT = "as trained"
# Of ImageNet, as torchvision normalizes by.
_MEAN, _DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])

Mistake = Callable[[np.ndarray], np.ndarray]


def mistakes(contract: Preprocessing) -> dict[str, tuple[Preprocessing, Mistake]]:
    """Returns what can go wrong: the contract to resize by, and what happens to the pixels behind it.

    A wrong scaling is told as the pixels, uint8, that the model takes for the same input; values outside of its range
    are clipped, as its int8 input does.
    """

    def unchanged(pixels: np.ndarray) -> np.ndarray:
        return pixels

    others = [name for name in INTERPOLATIONS if name != contract.interpolation]
    found = {RIGHT: (contract, unchanged)}
    for name in others:
        found[f"{name} instead of {contract.interpolation}"] = (replace(contract, interpolation=name), unchanged)
    if contract.color_mode == "rgb":
        found["BGR instead of RGB"] = (contract, lambda pixels: pixels[..., ::-1])
        found["ImageNet mean and deviation instead of -1 to 1"] = (
            contract,
            lambda pixels: to_pixels((pixels / 255 - _MEAN) / _DEVIATION),
        )
    found["0 to 1 instead of -1 to 1"] = (contract, lambda pixels: to_pixels(pixels / 255))
    found["0 to 255 instead of -1 to 1"] = (contract, lambda pixels: to_pixels(pixels.astype(np.float32)))
    found["uint8 bytes taken for int8"] = (contract, lambda pixels: pixels ^ 0x80)
    return found


def scored(
    model: TFLiteModel, dataset: Dataset, contract: Preprocessing, count: int, batch_size: int = 64
) -> pd.DataFrame:
    """Scores a model on test images that are prepared as it was trained, and with each mistake.

    Args:
        model: An int8 or float model.
        dataset: Gives the test part.
        contract: What the model was trained with.
        count: How many test images, drawn at random; all, where there are fewer.
        batch_size: Images scored at a time.

    Returns:
        One row for each of `mistakes`: `prepared`, `top1`, `low`, `high`, and against `RIGHT` on the same images
        `drop`, `p_value` and `agreement` (blank for `RIGHT` itself).
    """
    positions = np.sort(np.random.default_rng(0).permutation(dataset.positions("test"))[:count])
    ways = mistakes(contract)
    contracts = list(dict.fromkeys(way for way, _ in ways.values()))

    def prepared(encoded: bytes) -> dict[Preprocessing, np.ndarray]:
        pixels = decode(encoded, contract.color_mode)
        return {way: resize(pixels, way) for way in contracts}

    scores: dict[str, list[np.ndarray]] = {name: [] for name in ways}
    images = ordered_map(prepared, dataset.stream(positions))
    with progress(len(positions), "prepared wrongly", "image") as bar:
        while batch := list(itertools.islice(images, batch_size)):
            for name, (way, mistake) in ways.items():
                pixels = np.stack([image[way] for image in batch])
                scores[name].append(model.predict_on_batch(np.ascontiguousarray(mistake(pixels))))
            bar.update(len(batch))
    return _table(dataset.labels[positions], {name: np.concatenate(given) for name, given in scores.items()})


def _table(labels: np.ndarray, scores: dict[str, np.ndarray]) -> pd.DataFrame:
    rows = []
    for name, given in scores.items():
        result = evaluation.accuracy(labels, given)
        row = {"prepared": name, "top1": result.top1, "low": result.low, "high": result.high}
        if name != RIGHT:
            against = evaluation.compare(labels, scores[RIGHT], given)
            row |= {"drop": against.drop, "p_value": against.p_value, "agreement": against.agreement}
        rows.append(row)
    return pd.DataFrame(rows)
