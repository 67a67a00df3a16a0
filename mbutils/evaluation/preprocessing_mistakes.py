"""What a preprocessing mistake on the device would cost: a finished model on wrongly preprocessed test images."""

import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd

from mbutils import evaluation
from mbutils.config import DECODERS, FITS, INTERPOLATIONS, Preprocessing, to_pixels
from mbutils.data.dataset import Dataset
from mbutils.data.decoding import Opener, decoded
from mbutils.data.parallel import ordered_map
from mbutils.data.preprocessing import resize
from mbutils.progress import progress
from mbutils.tflite.interpreter import TFLiteModel

RIGHT = "as trained"
# The statistics of ImageNet that torchvision normalizes with.
_MEAN, _DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])

Mistake = Callable[[np.ndarray], np.ndarray]


def mistakes(contract: Preprocessing) -> dict[str, tuple[Preprocessing, Mistake]]:
    """Returns what can go wrong: the contract for resizing, and what happens to the pixels after it.

    A wrong scaling is expressed in pixels, uint8: those that would be the same input. Values outside the model's range
    are clipped, as its int8 input does.
    """

    def unchanged(pixels: np.ndarray) -> np.ndarray:
        return pixels

    found = {RIGHT: (contract, unchanged)}
    for part, names in {"interpolation": INTERPOLATIONS, "fit": FITS, "decoder": DECODERS}.items():
        right = getattr(contract, part)
        what = "'s JPEG decoder" if part == "decoder" else ""
        for name in names:
            if name != right:
                found[f"{name}{what} instead of {right}"] = (replace(contract, **{part: name}), unchanged)
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


def measure(
    model: TFLiteModel, dataset: Dataset, contract: Preprocessing, count: int, batch_size: int = 64
) -> pd.DataFrame:
    """Measures the accuracy on test images that are preprocessed as in training, and with each mistake.

    Args:
        model: An int8 or float model.
        dataset: The test part.
        contract: The preprocessing that the model was trained with.
        count: The number of test images, drawn at random; all, if there are fewer.
        batch_size: Images scored at a time.

    Returns:
        One row for each of `mistakes`: `preprocessing`, `top1`, `low`, `high`, and against `RIGHT` on the same images
        `drop`, `p_value`, `agreement` and `difference`, "within chance" or "real" (blank for `RIGHT` itself).
    """
    positions = np.sort(np.random.default_rng(0).permutation(dataset.positions("test"))[:count])
    cases = mistakes(contract)
    contracts = list(dict.fromkeys(used for used, _ in cases.values()))

    def resized(opener: Opener) -> dict[Preprocessing, np.ndarray]:
        found = {}
        for decoder in DECODERS:
            with opener() as file, decoded(file, contract.color_mode, decoder) as pixels:
                found |= {used: resize(pixels, used) for used in contracts if used.decoder == decoder}
        return found

    scores: dict[str, list[np.ndarray]] = {name: [] for name in cases}
    images = ordered_map(resized, dataset.openers(positions))
    with progress(len(positions), "preprocessing mistakes", "image") as bar:
        while batch := list(itertools.islice(images, batch_size)):
            for name, (used, mistake) in cases.items():
                pixels = np.stack([image[used] for image in batch])
                scores[name].append(model.predict_on_batch(np.ascontiguousarray(mistake(pixels))))
            bar.update(len(batch))
    return _table(dataset.labels[positions], {name: np.concatenate(batches) for name, batches in scores.items()})


def _table(labels: np.ndarray, scores: dict[str, np.ndarray]) -> pd.DataFrame:
    rows = []
    for name, own in scores.items():
        result = evaluation.accuracy(labels, own)
        row = {"preprocessing": name, "top1": result.top1, "low": result.low, "high": result.high}
        if name != RIGHT:
            against = evaluation.compare(labels, scores[RIGHT], own)
            row |= {"drop": against.drop, "p_value": against.p_value, "agreement": against.agreement}
            row["difference"] = "within chance" if against.within_chance else "real"
        rows.append(row)
    return pd.DataFrame(rows)
