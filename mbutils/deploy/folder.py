"""The folder that is handed over: every file of it, written together or not at all."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from mbutils.config import Preprocessing
from mbutils.deploy import source
from mbutils.deploy.layers import Network
from mbutils.deploy.memory import Plan
from mbutils.device.footprint import Footprint
from mbutils.errors import WorkbookError

FACTS = "deploy.json"
_HERE = Path(__file__).parent
_INTERPOLATIONS = ("area", "bilinear", "bilinear_antialias", "nearest")


def files(
    tflite: bytes,
    network: Network,
    plan: Plan,
    contract: Preprocessing,
    class_names: tuple[str, ...],
    images: np.ndarray,
    outputs: tuple[np.ndarray, np.ndarray],
) -> dict[str, bytes]:
    """Returns the contents of every source file by name.

    Args:
        tflite: The model.
        network: What is in it.
        plan: Its memory.
        contract: How an image is made.
        class_names: The classes in the order of the scores.
        images: The test vectors: uint8, shape (n, height, width, channels).
        outputs: Their expected logits, int8, and scores, float32: shape (n, n_classes).
    """
    texts = {
        "network.h": source.network_h(network, plan),
        "network.c": source.network_c(network, plan),
        "labels.h": source.labels_h(class_names),
        "preprocess.h": preprocess_h(contract),
        "vectors.h": vectors_h(images, *outputs),
        "model_int8.h": _model_h(tflite),
    }
    fixed = {path.name: path.read_bytes() for path in sorted((_HERE / "c").iterdir())}
    return {**fixed, **{name: text.encode() for name, text in texts.items()}, "model_int8.tflite": tflite}


def readme(title: str, network: Network, plan: Plan, class_names: tuple[str, ...], size: Footprint) -> bytes:
    """Returns README.md: what is in the folder, and how to integrate it."""
    height, width, channels = network.image_shape
    operators = sorted({layer.op for layer in size.layers})
    values = {
        "title": title,
        "height": height,
        "width": width,
        "channels": channels,
        "classes": ", ".join(class_names),
        "arena_bytes": f"{plan.arena_bytes:,}",
        "weights_bytes": f"{size.weights_flash_bytes:,}",
        "operators": ", ".join(operators),
        "tflm_bytes": f"{size.tflm_arena_bytes:,}",
    }
    return Template((_HERE / "README.template.md").read_text()).substitute(values).encode()


def preprocess_h(contract: Preprocessing) -> str:
    """Returns preprocess.h: the preprocessing contract as constants."""
    names = [f"PREPROCESS_{name.upper()}" for name in _INTERPOLATIONS]
    numbers = "".join(f"#define {name} {i}\n" for i, name in enumerate(names, start=1))
    colour = "red, green, blue" if contract.color_mode == "rgb" else "gray (ITU-R 601 luma)"
    return f"""/* How an image for the network is made: on the device as it was in training.
 *
 * - the whole frame, upright, resized to {contract.image_size} x {contract.image_size} pixels whatever its aspect ratio
 * - interpolation: {contract.interpolation}
 * - channels of a pixel: {contract.channels}, {colour}, uint8 0..255; no further scaling: network_run takes these bytes
 *
 * preprocess() in resize.h does it. */
#ifndef PREPROCESS_H
#define PREPROCESS_H

{numbers}
#define PREPROCESS_SIZE {contract.image_size}
#define PREPROCESS_CHANNELS {contract.channels}
#define PREPROCESS_INTERPOLATION PREPROCESS_{contract.interpolation.upper()}

#include "resize.h"

#endif
"""


def vectors_h(images: np.ndarray, logits: np.ndarray, scores: np.ndarray) -> str:
    """Returns vectors.h: images and what the reference kernels make of them."""
    tables = [
        _table("uint8_t", "vector_images", images.reshape(len(images), -1)),
        _table("int8_t", "vector_logits", logits),
        _table("float", "vector_scores", scores),
    ]
    # The first of equal scores, as network_run takes it.
    classes = ", ".join(map(str, scores.argmax(axis=1).tolist()))
    return f"""/* Images of the test part, and the outputs of the TensorFlow Lite reference kernels for them. */
#ifndef VECTORS_H
#define VECTORS_H

#include <stdint.h>

#ifndef VECTORS
#define VECTORS {len(images)} /* how many of them main.c runs */
#endif

{"".join(tables)}static const int vector_classes[{len(images)}] = {{{classes}}};

#endif
"""


def _table(kind: str, name: str, values: np.ndarray) -> str:
    suffix = "f" if kind == "float" else ""
    rows = ("    {" + ", ".join(f"{value!r}{suffix}" for value in row) + "},\n" for row in values.tolist())
    return f"static const {kind} {name}[{len(values)}][{values.shape[1]}] = {{\n{''.join(rows)}}};\n"


def _model_h(tflite: bytes) -> str:
    data = source.array("model_int8_tflite", np.frombuffer(tflite, np.uint8))
    return f"/* model_int8.tflite as an array. */\n#include <stdint.h>\n\n{data}"


def check_target(out: Path) -> None:
    """Refuses a folder that holds anything but an earlier deployment.

    Raises:
        WorkbookError: If it does, or it is no folder.
    """
    if out.is_dir() and (out / FACTS).is_file():
        try:
            written = set(json.loads((out / FACTS).read_text())["files"]) | {FACTS, "build"}
        except (OSError, ValueError, KeyError, TypeError):
            written = set()
        others = sorted(path.name for path in out.iterdir() if path.name not in written)
    else:
        others = sorted(path.name for path in out.iterdir()) if out.is_dir() else []
    if out.exists() and not out.is_dir():
        raise WorkbookError(f"{out} is a file: give another output folder")
    if others:
        raise WorkbookError(f"{out} holds other files ({others[0]}): give an empty or new output folder")


def write(out: Path, contents: Mapping[str, bytes], facts: Mapping[str, Any]) -> None:
    """Writes the folder beside its place and renames it; an earlier deployment there is replaced.

    Raises:
        WorkbookError: If it cannot be written.
    """
    check_target(out)
    partial = out.with_name(f".{os.getpid()}.{out.name}")
    try:
        partial.mkdir(parents=True)
        for name, content in contents.items():
            (partial / name).write_bytes(content)
        record = {**facts, "files": sorted(contents)}
        (partial / FACTS).write_text(json.dumps(record, indent=1) + "\n")
        if out.exists():
            shutil.rmtree(out)
        partial.rename(out)
    except OSError as error:
        raise WorkbookError(f"cannot write {out} ({error.strerror}): give another output folder") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
