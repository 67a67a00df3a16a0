"""The folder that is handed over: every file of it, written together or not at all."""

import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mbutils.config import INTERPOLATIONS, PADDING, Preprocessing
from mbutils.data import cache
from mbutils.deploy import source
from mbutils.deploy.memory import Plan
from mbutils.deploy.models import Model
from mbutils.deploy.network import Network
from mbutils.deploy.render import render
from mbutils.device.footprint import Footprint
from mbutils.errors import WorkbookError
from mbutils.files import atomic_folder, finish_replacing, sha256

FACTS = "deploy.json"
_FIXED = Path(__file__).parent / "c"
_TEMPLATES = Path(__file__).parent / "templates"
_WAY_OUT = "choose another output folder"
_MOST_BYTES = 10_000_000  # of deploy.json
_NAMED = 3  # edited files named in an error


def files(
    model: Model,
    network: Network,
    plan: Plan,
    images: np.ndarray,
    outputs: tuple[np.ndarray, np.ndarray],
    min_confidence: float = 0.0,
) -> dict[str, bytes]:
    """Returns the contents of every source file by name.

    Args:
        model: The model.
        network: What it computes.
        plan: Its memory.
        images: The test vectors: uint8, shape (n, height, width, channels).
        outputs: Their expected logits, int8, and scores, float32: shape (n, n_classes).
        min_confidence: The score below which the answer is "unknown", 0 to answer always.
    """
    min_score = network.min_score(min_confidence)
    labels = {"class_names": model.class_names, "min_score": min_score, "min_confidence": min_confidence}
    texts = {
        "network.h": source.network_h(network, plan, min_score is not None, model_id(model.content)),
        "network.c": source.network_c(network, plan, min_score is not None),
        "labels.h": render("labels.h", **labels),
        **preprocessing_h(model.contract),
        "vectors.h": vectors_h(images, *outputs, min_confidence),
        "model_int8.h": render("model_int8.h", model=np.frombuffer(model.content, np.uint8)),
    }
    fixed = {path.name: path.read_bytes() for path in sorted(_FIXED.iterdir())}
    return {**fixed, **{name: text.encode() for name, text in texts.items()}, "model_int8.tflite": model.content}


def model_id(tflite: bytes) -> str:
    """Returns what a board calls its model: 16 hexadecimal digits."""
    return hashlib.sha256(tflite).hexdigest()[:16]


def readme(model: Model, network: Network, plan: Plan, predicted: Footprint, min_confidence: float = 0.0) -> bytes:
    """Returns README.md: what is in the folder, and how to integrate it."""
    operators = sorted({op.code for op in predicted.ops})
    text = render(
        "README.md",
        model=model,
        network=network,
        plan=plan,
        predicted=predicted,
        operators=operators,
        min_confidence=min_confidence,
    )
    return text.encode()


def preprocessing_h(contract: Preprocessing) -> dict[str, str]:
    """Returns preprocess.h, the preprocessing contract as constants, and resize.h, which makes images accordingly."""
    return {
        "preprocess.h": render("preprocess.h", contract=contract, interpolations=INTERPOLATIONS, padding=PADDING),
        "resize.h": render("resize.h", contract=contract),
    }


def vectors_h(images: np.ndarray, logits: np.ndarray, scores: np.ndarray, min_confidence: float = 0.0) -> str:
    """Returns vectors.h: images, and the outputs of the reference kernels for them."""
    return render(
        "vectors.h",
        images=images.reshape(len(images), -1).tolist(),
        logits=logits.tolist(),
        scores=scores.tolist(),
        classes=classes(scores, min_confidence).tolist(),
    )


def classes(scores: np.ndarray, min_confidence: float) -> np.ndarray:
    """Returns what network_run answers for each row of scores: the first of the highest, or -1 for "unknown"."""
    best = scores.argmax(axis=1)
    return np.where(scores.max(axis=1) < min_confidence, -1, best) if min_confidence else best


def stage(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Writes files into a folder that exists."""
    for name, content in contents.items():
        (folder / name).write_bytes(content)


def write(out: Path, contents: Mapping[str, bytes], facts: Mapping[str, Any], force: bool = False) -> None:
    """Writes the folder as a whole: whoever looks sees all of the earlier deployment there, or all of the new one.

    What else lies in the folder stays in it.

    Args:
        out: The folder.
        contents: The contents of every source file by name.
        facts: What `deploy.json` is to hold, besides the sha256 of each source file.
        force: Whether to replace source files that were edited.

    Raises:
        WorkbookError: If `check_target` refuses it, or it cannot be written.
    """
    # The lock lies elsewhere: the folder may be among a user's sources.
    lock = f"{out.name[:40]}_{hashlib.sha256(os.fsencode(out)).hexdigest()[:16]}"
    with cache.made_once(cache.folder("locks of deployments") / lock):
        check_target(out, force)
        with atomic_folder(out, _WAY_OUT) as folder:
            if out.exists():
                _carry_over(out, folder)
            stage(folder, contents)
            listed = {name: hashlib.sha256(content).hexdigest() for name, content in sorted(contents.items())}
            (folder / FACTS).write_text(json.dumps({**facts, "files": listed}, indent=1) + "\n")


def check_target(out: Path, force: bool = False) -> None:
    """Refuses a folder in which a deployment would replace anything but what an earlier one wrote.

    Args:
        out: The folder.
        force: Whether generated files that were edited may be replaced; folders never are.

    Raises:
        WorkbookError: If it holds other files and no deployment, or edited files, or it cannot be replaced.
    """
    try:
        if Path.cwd().is_relative_to(out):
            raise WorkbookError(f"{out} holds the working directory: run the command elsewhere, or {_WAY_OUT}")
        finish_replacing(out)
        if out.exists() and not out.is_dir():
            raise WorkbookError(f"{out} is a file: {_WAY_OUT}")
        present = sorted(path.name for path in out.iterdir()) if out.exists() else []
        if not present:
            return
        if FACTS not in present:
            raise WorkbookError(f"{out} holds other files ({present[0]}): choose an empty or new output folder")
        edited = [name for name in _edited(out) if not force or (out / name).is_dir()]
    except OSError as error:
        raise WorkbookError(f"cannot use {out} ({error.strerror}): {_WAY_OUT}") from error
    if edited:
        names = ", ".join(edited[:_NAMED]) + (f" and {len(edited) - _NAMED} more" if len(edited) > _NAMED else "")
        raise WorkbookError(
            f"{out} holds edited files ({names}): {_WAY_OUT}, or replace them with --force (notebook: force = True)"
        )


def facts(out: Path) -> dict[str, Any]:
    """Returns what `deploy.json` of a deployed folder holds.

    Raises:
        WorkbookError: If it does not list files.
    """
    path = out / FACTS
    content = b""
    if path.is_file():
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES)
    try:
        found = json.loads(content)
        if isinstance(found["files"], dict):
            return found
    except (ValueError, TypeError, KeyError, RecursionError):
        pass
    raise WorkbookError(f"{path} does not list the files of a deployment")


def unedited(out: Path, name: str) -> bytes:
    """Returns the contents of a file of a deployed folder.

    Raises:
        WorkbookError: If it is not what was deployed.
    """
    path = out / name
    if not path.is_file() or sha256(path) != facts(out)["files"].get(name):
        raise WorkbookError(f"{path} is not what was deployed: deploy again")
    return path.read_bytes()


def vector_images(out: Path, shape: tuple[int, int, int]) -> np.ndarray:
    """Returns the test images of a deployed folder: uint8, shape (n, height, width, channels).

    Raises:
        WorkbookError: If its vectors.h is not what was deployed.
    """
    text = unedited(out, "vectors.h").decode()
    (rows,) = re.findall(r"vector_images[^{]*\{(.*?)\n\};", text, re.DOTALL)
    values = np.fromstring(rows.translate({ord("{"): "", ord("}"): ""}).rstrip(","), np.uint8, sep=",")
    return values.reshape(-1, *shape)


def generated() -> set[str]:
    """Returns the names of the files that `write` is given, and that it may replace."""
    templates = {path.stem for path in _TEMPLATES.iterdir()}
    return templates | {path.name for path in _FIXED.iterdir()} | {"model_int8.tflite"}


def _edited(out: Path) -> list[str]:
    """Returns which of the generated names in a folder stand for anything but what an earlier deployment wrote."""
    recorded = _recorded(out)
    there = [name for name in sorted(generated()) if os.path.lexists(out / name)]
    return [name for name in there if not _is_file(out / name) or sha256(out / name) != recorded.get(name)]


def _is_file(path: Path) -> bool:
    """Returns whether a path is a file itself, and no link to one."""
    return stat.S_ISREG(path.lstat().st_mode)


def _recorded(out: Path) -> dict[str, Any]:
    """Returns the sha256 of the files that an earlier deployment wrote, by name."""
    try:
        return facts(out)["files"]
    except WorkbookError as error:
        raise WorkbookError(f"{error}: remove the folder, or {_WAY_OUT}") from None


def _carry_over(out: Path, folder: Path) -> None:
    """Copies all that was not generated from one folder to another: files as further names of the same ones."""
    replaced = {FACTS, *generated()}

    def ignored(inside: str, names: list[str]) -> set[str]:
        return replaced.intersection(names) if Path(inside) == out else set()

    try:
        shutil.copytree(out, folder, symlinks=True, ignore=ignored, copy_function=_link, dirs_exist_ok=True)
    except shutil.Error as error:
        raise WorkbookError(f"cannot keep {error.args[0][0][0]}: move it elsewhere, or {_WAY_OUT}") from error


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:  # of another user, or on a file system without hard links
        shutil.copy2(source, target)
