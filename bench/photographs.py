"""Generated photographs in any number, of which only a few are different, so that they take little memory."""

import io
import itertools
from functools import cache

import numpy as np
import pandas as pd
from PIL import Image

from mbutils.data.dataset import Dataset

_DIFFERENT = 32


def dataset(count: int, side: int) -> Dataset:
    """Returns `count` JPEG images with a short side of `side` px, in two classes, all in the training part."""
    encoded = _encoded(side)
    examples = pd.DataFrame({"identity": [f"{side} {number}" for number in range(count)], "label": 0, "part": "train"})
    examples.loc[1::2, "label"] = 1
    return Dataset("made", ("even", "odd"), examples, lambda: itertools.islice(itertools.cycle(encoded), count))


@cache
def _encoded(side: int) -> tuple[bytes, ...]:
    return tuple(_photograph(number, side) for number in range(_DIFFERENT))


def _photograph(number: int, side: int) -> bytes:
    """Returns a JPEG that is as smooth as a photograph: enlarged noise."""
    noise = np.random.default_rng(number).integers(0, 256, (side // 8, side // 6, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).resize((side * 4 // 3, side), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()
