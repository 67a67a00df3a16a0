"""The folder that is handed over: every file of it, written together or not at all."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mbutils.config import INTERPOLATIONS, PADDING, Preprocessing
from mbutils.deploy import source
from mbutils.deploy.layers import Network
from mbutils.deploy.memory import Plan
from mbutils.deploy.render import render
from mbutils.device.footprint import Footprint
from mbutils.errors import WorkbookError
from mbutils.files import atomic_folder, finish_replacing

FACTS = "deploy.json"
_FIXED = Path(__file__).parent / "c"


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
        network: What it computes.
        plan: Its memory.
        contract: How an image is made.
        class_names: The classes in the order of the scores.
        images: The test vectors: uint8, shape (n, height, width, channels).
        outputs: Their expected logits, int8, and scores, float32: shape (n, n_classes).
    """
    texts = {
        "network.h": source.network_h(network, plan),
        "network.c": source.network_c(network, plan),
        "labels.h": render("labels.h", class_names=class_names),
        **preprocessing_h(contract),
        "vectors.h": vectors_h(images, *outputs),
        "model_int8.h": render("model_int8.h", model=np.frombuffer(tflite, np.uint8)),
    }
    fixed = {path.name: path.read_bytes() for path in sorted(_FIXED.iterdir())}
    return {**fixed, **{name: text.encode() for name, text in texts.items()}, "model_int8.tflite": tflite}


def readme(
    title: str,
    network: Network,
    plan: Plan,
    contract: Preprocessing,
    class_names: tuple[str, ...],
    predicted: Footprint,
) -> bytes:
    """Returns README.md: what is in the folder, and how to integrate it."""
    operators = sorted({op.code for op in predicted.ops})
    text = render(
        "README.md",
        title=title,
        network=network,
        plan=plan,
        contract=contract,
        class_names=class_names,
        predicted=predicted,
        operators=operators,
    )
    return text.encode()


def preprocessing_h(contract: Preprocessing) -> dict[str, str]:
    """Returns preprocess.h, the preprocessing contract as constants, and resize.h, which makes images accordingly."""
    return {
        "preprocess.h": render("preprocess.h", contract=contract, interpolations=INTERPOLATIONS, padding=PADDING),
        "resize.h": render("resize.h", contract=contract),
    }


def vectors_h(images: np.ndarray, logits: np.ndarray, scores: np.ndarray) -> str:
    """Returns vectors.h: images, and the outputs of the reference kernels for them."""
    return render(
        "vectors.h",
        images=images.reshape(len(images), -1).tolist(),
        logits=logits.tolist(),
        scores=scores.tolist(),
        classes=scores.argmax(axis=1).tolist(),  # the first of equal scores, as network_run takes it
    )


def check_target(out: Path) -> None:
    """Refuses a folder that holds anything but an earlier deployment.

    Raises:
        WorkbookError: If it does, or it is not a folder.
    """
    finish_replacing(out)
    if out.exists() and not out.is_dir():
        raise WorkbookError(f"{out} is a file: choose another output folder")
    others = sorted({path.name for path in out.iterdir()} - _written(out)) if out.is_dir() else []
    if others:
        raise WorkbookError(f"{out} holds other files ({others[0]}): choose an empty or new output folder")


def _written(out: Path) -> set[str]:
    """Returns what an earlier deployment wrote, and a build in it; nothing if there is none."""
    try:
        return set(json.loads((out / FACTS).read_text())["files"]) | {FACTS, "build"}
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def write(out: Path, contents: Mapping[str, bytes], facts: Mapping[str, Any]) -> None:
    """Writes the folder as a whole; an earlier deployment there is replaced.

    Raises:
        WorkbookError: If it cannot be written.
    """
    check_target(out)
    with atomic_folder(out, "choose another output folder") as folder:
        for name, content in contents.items():
            (folder / name).write_bytes(content)
        (folder / FACTS).write_text(json.dumps({**facts, "files": sorted(contents)}, indent=1) + "\n")
