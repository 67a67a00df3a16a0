"""What the manifest of a run must look like: the only place that reads it, and that writes it.

Whoever gets a manifest from here can rely on it: what the code looks up is there, of its type and in its range. Facts
that older versions did not record may be missing, and facts of newer ones may be there.
"""

import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from mbutils.columns import RESULTS, Column
from mbutils.config import INT8_VARIANTS, TrainParameters
from mbutils.config.json_files import AMOUNT, COUNT, FRACTION, TEXT, parse, validator
from mbutils.data.dataset import PARTS
from mbutils.errors import WorkbookError
from mbutils.files import atomic_write

NAME = "manifest.json"
FLOAT32 = "float32"
_TIME = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d"}
_SCALAR = {"type": ["string", "number", "boolean"]}
_BY_UNIT = {"fraction": FRACTION, "bytes": AMOUNT, "ms": AMOUNT, "s": AMOUNT, "px": COUNT}
_SPECIAL = {
    "alpha": AMOUNT,
    "drop_from_float": {"type": "number", "minimum": -1, "maximum": 1},
    "p_value": FRACTION,
}


def _object(properties: dict[str, Any], *required: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401
    return {"type": "object", "properties": properties, "required": list(required), **more}


def _of_column(column: Column) -> dict[str, Any]:
    return _SPECIAL.get(column.name) or _BY_UNIT.get(column.unit) or (COUNT if column.format == ",.0f" else TEXT)


# A column of `results.csv` has the same values wherever a manifest has it.
_COLUMNS = {column.name: _of_column(column) for column in RESULTS} | {"seed": COUNT, "n_classes": COUNT}
_OUTCOME = _object(
    {
        "correct": COUNT,
        "total": COUNT | {"minimum": 1},
        "largest_class": COUNT,
        "missed": {"type": "array", "items": TEXT},
    },
    *("correct", "total", "largest_class", "missed"),
    additionalProperties=False,
)
_VARIANT = _object(
    {
        **_COLUMNS,
        "outcome": _OUTCOME,
        "conversion": _object({}, additionalProperties=_SCALAR),
        "deployment": _object({}, additionalProperties=_SCALAR),
    },
    dependentRequired={"top1": ["top1_low", "top1_high"]},
)
_DATASET = _object(
    {
        **_COLUMNS,
        "name": TEXT,
        "n_classes": COUNT,
        "class_names": {"type": "array", "items": TEXT, "minItems": 1, "uniqueItems": True},
        **{f"n_{part}": COUNT | {"minimum": 1} for part in PARTS},
        **dict.fromkeys(("n_excluded", "n_duplicated"), COUNT),
        "contradicting_identities": {"type": "array", "items": TEXT},
    },
    *("name", "fingerprint", "n_classes", "class_names", *(f"n_{part}" for part in PARTS)),
    *("n_excluded", "n_duplicated", "contradicting_identities"),
)
_ARTEFACT = _object({"sha256": {"type": "string", "pattern": "^[0-9a-f]{64}$"}, "bytes": COUNT}, "sha256", "bytes")
_MANIFEST = _object(
    {
        **_COLUMNS,
        "parameters": _object({}, "dataset", "alpha", "image_size", "color_mode", "seed", additionalProperties=_SCALAR),
        "dataset": _DATASET,
        "teacher": _object({"run_id": TEXT}, "run_id") | {"type": ["object", "null"]},
        "finished": _TIME,
        "note": TEXT,
        "machine": TEXT,
        "versions": _object({}, additionalProperties=TEXT),
        "outcomes": _object({}, "train", "validation", additionalProperties=_OUTCOME),
        "evaluated": _object({"git_commit": TEXT}),
        "variants": _object(dict.fromkeys((FLOAT32, *INT8_VARIANTS), _VARIANT), additionalProperties=False),
        "artefacts": _object(
            {},
            *("history.csv", "model.keras"),
            propertyNames={"pattern": r"^\w[\w.-]*\Z"},
            additionalProperties=_ARTEFACT,
        ),
    },
    *("run_id", "configuration", "parameters", "dataset", "finished", "train_seconds", "validation_top1"),
    *("git_commit", "versions", "variants", "artefacts"),
)
_schema = validator(_MANIFEST)


def read(folder: Path) -> dict[str, Any]:
    """Returns the manifest in a run folder.

    Raises:
        WorkbookError: If it cannot be read, or is not that of a run with the name of the folder.
    """
    try:
        content = (folder / NAME).read_bytes()
        _check(content, folder.name)
    except OSError as error:
        raise _damaged(folder, f"cannot be read ({error.strerror})") from error
    except WorkbookError as error:
        raise _damaged(folder, f"is damaged or of another version ({error})") from None
    return json.loads(content)


def write(folder: Path, manifest: dict[str, Any]) -> None:
    """Writes a manifest into a run folder, or into one that will become it.

    Raises:
        WorkbookError: If it cannot be written, or is not as `read` wants it.
    """
    content = (json.dumps(manifest, indent=1) + "\n").encode()
    _check(content, manifest["run_id"])
    with atomic_write(folder / NAME) as partial:
        partial.write_bytes(content)


def _damaged(folder: Path, what: str) -> WorkbookError:
    return WorkbookError(
        f"run {folder.name}: {NAME} {what}: put an intact copy back, or delete the run (mb runs delete) and train again"
    )


@lru_cache(maxsize=10_000)  # of a report with many runs, every table asks for the manifest of each
def _check(content: bytes, run_id: str) -> None:
    manifest = parse(content, _schema)
    for error in _contradictions(manifest, run_id):
        raise WorkbookError(error)
    try:
        TrainParameters.from_dict(manifest["parameters"])
    except WorkbookError as error:
        raise WorkbookError(f"parameters: {error}") from None


def _contradictions(manifest: dict[str, Any], run_id: str) -> Iterator[str]:
    if manifest["run_id"] != run_id:
        yield f"run_id: it is that of run {manifest['run_id']}"
    dataset, variants = manifest["dataset"], manifest["variants"]
    if len(dataset["class_names"]) != dataset["n_classes"]:
        yield f"dataset.n_classes: {dataset['n_classes']}, but class_names has {len(dataset['class_names'])}"
    outcomes = {f"outcomes.{part}": outcome for part, outcome in manifest.get("outcomes", {}).items()}
    for variant, facts in variants.items():
        if "outcome" in facts:
            outcomes[f"variants.{variant}.outcome"] = facts["outcome"]
        if "top1" in facts and not facts["top1_low"] <= facts["top1"] <= facts["top1_high"]:
            yield f"variants.{variant}.top1: {facts['top1']} is outside of its interval"
    for place, outcome in outcomes.items():
        if max(outcome["correct"], outcome["largest_class"]) > outcome["total"]:
            yield f"{place}: a part of its {outcome['total']} images is more than that"
