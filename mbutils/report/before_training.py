"""Cost before training: build a model, convert it, read its footprint.

Ops, shapes and sizes are those of the trained model, and RAM, flash, operations and latency depend on nothing else.
"""

import gzip
import hashlib
import zlib
from dataclasses import replace
from importlib import metadata
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from mbutils.config import COLOR_MODES, FIRST_EDITION, ModelParameters
from mbutils.data import cache
from mbutils.device import costs, published
from mbutils.device.footprint import footprint
from mbutils.progress import progress

# TensorFlow is imported only if a model is not in the cache: most callers do not need it.

ALPHAS = (0.25, 0.5, 0.75, 1.0)
IMAGE_SIZES = (96, 128, 160, 192, 224)
_NOISE_IMAGES = 8
_PACKAGE = Path(__file__).parent.parent
_KEYS = ["alpha", "image_size", "color_mode", "n_classes"]


def tflite(parameters: ModelParameters, variant: str = "int8_per_channel") -> bytes:
    """Returns the untrained model as int8 .tflite: from the cache, or in about 2 seconds and TensorFlow's import.

    Raises:
        WorkbookError: If the cache folder cannot be written.
    """
    path = _cache_path(parameters, variant)
    content = _read(path)
    if content is None:
        with cache.made_once(path):
            content = _read(path)  # made by another process while this one waited
            if content is None:
                content = _converted(parameters, variant)
                with cache.written(path) as partial:
                    partial.write_bytes(gzip.compress(content, compresslevel=0, mtime=0))
    return content


def _read(path: Path) -> bytes | None:
    """Returns the model in a file; None where it is missing, or its checksum shows that it is damaged."""
    try:
        return gzip.decompress(path.read_bytes()) or None  # an empty file is a valid one
    except (OSError, EOFError, zlib.error):
        return None


def _cache_path(parameters: ModelParameters, variant: str) -> Path:
    name = f"mobilenet_v1_{parameters.alpha}_{parameters.image_size}_{parameters.color_mode}_{parameters.n_classes}"
    # The model changes with the code that makes it and with the converter.
    modules = ("model/mobilenet.py", "quantization/convert.py", "report/before_training.py")
    sources = [(_PACKAGE / module).read_bytes() for module in modules]
    made_by = b"".join([*sources, metadata.version("tensorflow").encode()])
    return cache.folder(cache.UNTRAINED) / f"{name}_{variant}_{hashlib.sha256(made_by).hexdigest()[:8]}.tflite.gz"


def _converted(parameters: ModelParameters, variant: str) -> bytes:
    from mbutils import quantization
    from mbutils.model import mobilenet

    network = mobilenet.build(parameters.alpha, parameters.shape, parameters.n_classes, batch_norm_momentum=0.0)
    # With the statistics of its activations every channel varies, and is rounded, as in a trained model.
    noise = np.random.default_rng(0).uniform(-1, 1, (_NOISE_IMAGES, *parameters.shape))
    network(noise.astype(np.float32), training=True)
    # The converter drops a bias that is all zero, as that of a new classifier is; no trained one is.
    bias = network.get_layer("classifier").bias
    bias.assign(bias + 1.0)
    return quantization.to_int8_uncalibrated(network, variant)


def row(parameters: ModelParameters, edition: str = FIRST_EDITION) -> dict[str, float | str]:
    """Returns the parameters of a model and its costs with the tools of an edition, by the columns of `results.csv`."""
    # Random weights say nothing of the channels that a trained model has.
    model = replace(footprint(tflite(parameters)), constant_channels=0, alive=None)
    return {name: getattr(parameters, name) for name in _KEYS} | costs.columns(model, edition)


def table(models: list[ModelParameters], edition: str = FIRST_EDITION) -> pd.DataFrame:
    """Returns a row for each model, see `row`."""
    rows = []
    with progress(len(models), "footprint of untrained models", "model") as bar:
        for parameters in models:
            rows.append(row(parameters, edition))
            bar.update()
    return pd.DataFrame(rows)


def grid(n_classes: int, edition: str = FIRST_EDITION) -> pd.DataFrame:
    """Returns the costs of every alpha, image size and colour: `ALPHAS` x `IMAGE_SIZES` x `COLOR_MODES`."""
    points = product(ALPHAS, IMAGE_SIZES, COLOR_MODES)
    return table([ModelParameters(alpha, size, color, n_classes) for alpha, size, color in points], edition)


def published_configurations(results: pd.DataFrame, edition: str = FIRST_EDITION) -> pd.DataFrame:
    """Returns our costs of the models whose costs are published, from a run if there is one.

    Args:
        results: What `runs.results_table` returns.
        edition: With whose tools; what runs record are those of the first.

    Returns:
        One row for each published model: `alpha`, `image_size`, `color_mode`, `n_classes`, the costs by the
        columns of `results.csv`, and `source`, the run id or "untrained".
    """
    ours = results[results["variant"] == "int8_per_channel"].dropna(subset=["total_ram_bytes"])
    ours = ours.drop_duplicates(_KEYS).assign(source=ours["run_id"]).set_index(_KEYS)
    rows = []
    for parameters in (ModelParameters(*key) for key in published.footprint_configurations()):
        key = tuple(getattr(parameters, name) for name in _KEYS)
        recorded = dict(zip(_KEYS, key, strict=True)) | ours.loc[key].to_dict() if key in ours.index else {}
        if not recorded or edition != FIRST_EDITION:
            recorded = {"source": "untrained"} | recorded | row(parameters, edition)
        rows.append(recorded)
    return pd.DataFrame(rows)
