"""Building the image cache against only decoding the same images, on the same number of threads."""

import contextlib
import io
import time
from collections.abc import Callable
from functools import partial

from bench import photographs
from mbutils.config import Preprocessing
from mbutils.data import preprocessing
from mbutils.data.decoding import decode
from mbutils.data.parallel import ordered_map


def ours(image_size: int, count: int, side: int) -> Callable[[], float]:
    """Prepares builds of the cache: decode, resize, write. Each round removes what it has built."""
    data, contract = photographs.dataset(count, side), Preprocessing(image_size, "rgb", "area")
    path = preprocessing.cache_path(data, contract)

    def one_round() -> float:
        path.unlink(missing_ok=True)
        start = time.perf_counter()
        with contextlib.redirect_stderr(io.StringIO()):  # only the progress bar of the comparison is shown
            preprocessing.cached_images(data, contract)
        seconds = time.perf_counter() - start
        path.unlink()
        return count / seconds

    return one_round


def stock(image_size: int, count: int, side: int, resized: bool = False) -> Callable[[], float]:
    """Prepares decoding alone, or with the resizing of the contract if `resized`: the pixels are dropped."""
    data, contract = photographs.dataset(count, side), Preprocessing(image_size, "rgb", "area")
    work = partial(preprocessing.preprocess, contract=contract) if resized else decode

    def one_round() -> float:
        start = time.perf_counter()
        for _ in ordered_map(work, data.read()):
            pass
        return count / (time.perf_counter() - start)

    return one_round
