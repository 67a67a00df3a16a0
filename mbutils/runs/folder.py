"""Run folders and their manifests.

A run folder holds one trained configuration. It is made when the training has ended, so it is always whole: a training
that is killed leaves nothing, and one that is repeated leaves the run before it until there is a new one.
"""

import contextlib
import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mbutils import files
from mbutils.config import DeployParameters, TrainParameters
from mbutils.data import datasets
from mbutils.data.dataset import EXCLUDED, PARTS, Dataset
from mbutils.errors import WorkbookError, nearest
from mbutils.files import written_beside
from mbutils.runs.identity import Identity, identify
from mbutils.runs.provenance import made_by, now, versions

MEASURED_COLUMNS = (
    "measured_ram_bytes",
    "measured_stack_bytes",
    "measured_flash_bytes",
    "measured_code_bytes",
    "measured_instructions",
)
FLOAT32 = "float32"
CHANGED_KEPT = 12  # images that int8 changed, kept of each variant
# Columns of `evaluation.accuracy_table` that the manifest keeps.
_RECORDED = (
    "top1",
    "top1_low",
    "top1_high",
    "drop_from_float",
    "p_value",
    "agreement_with_float",
    "macro_recall",
)


@dataclass(frozen=True)
class Run:
    """One run folder: `<results>/runs/<run_id>/`."""

    path: Path

    @property
    def run_id(self) -> str:
        """The name of the folder."""
        return self.path.name

    @property
    def manifest(self) -> dict[str, Any]:
        """The record of the run, read anew each time."""
        try:
            manifest = json.loads((self.path / "manifest.json").read_text())
        except (OSError, ValueError) as error:
            raise WorkbookError(f"{self.path} has no readable manifest.json: remove the folder, train again") from error
        if "configuration" not in manifest:
            raise WorkbookError(f"{self.path} is of an earlier version of the workbook: remove the folder, train again")
        return manifest

    @property
    def parameters(self) -> TrainParameters:
        """The parameters that the run was trained with."""
        return TrainParameters.from_dict(self.manifest["parameters"])

    def update(self, **facts: Any) -> None:  # noqa: ANN401
        """Adds facts to the manifest, replacing those of the same name."""
        self._write_manifest({**self.manifest, **facts})

    @property
    def int8_variants(self) -> list[str]:
        """The int8 variants that the run was converted to.

        Raises:
            WorkbookError: If there are none.
        """
        variants = [variant for variant in self.manifest["variants"] if variant != FLOAT32]
        if not variants:
            raise WorkbookError(f"run {self.run_id} has no int8 model: run the convert notebook first")
        return variants

    def save(self, name: str, write: Callable[[Path], None]) -> Path:
        """Saves an artefact: `write` gets a path beside its place; size and sha256 go into the manifest."""
        with written_beside(self.path / name) as partial:
            write(partial)
        content = (self.path / name).read_bytes()
        facts = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        self.update(artefacts={**self.manifest["artefacts"], name: facts})
        return self.path / name

    def _write_manifest(self, manifest: dict[str, Any]) -> None:
        with written_beside(self.path / "manifest.json") as partial:
            partial.write_text(json.dumps(manifest, indent=1) + "\n")


@dataclass(frozen=True, eq=False)
class Training:
    """A run that is being trained; nothing of it is on disk before `finish`.

    Attributes:
        identity: What determines its result.
        path: The run folder to be.
        facts: What its manifest says of how it began.
    """

    identity: Identity
    path: Path
    facts: dict[str, Any]

    @property
    def run_id(self) -> str:
        """The id of the run."""
        return self.identity.run_id

    @property
    def parameters(self) -> TrainParameters:
        """The parameters that it is trained with."""
        return self.identity.parameters


def begin(parameters: TrainParameters, dataset: Dataset, results_dir: Path) -> Training:
    """Starts the record of a run.

    Raises:
        WorkbookError: If the results folder cannot be written, or the dataset was loaded with other parameters.
    """
    if dataset.loaded_with not in (None, parameters.data):
        raise WorkbookError("the parameters of the data have changed since it was loaded: run the cells above again")
    identity = identify(parameters, dataset.fingerprint)
    path = results_dir / "runs" / identity.run_id
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise WorkbookError(
            f"cannot write in the results folder {results_dir} ({error.strerror}): set another results_dir"
        ) from error
    facts = {
        "run_id": identity.run_id,
        "configuration": identity.configuration,
        "parameters": _recorded(parameters),
        "teacher": identity.teacher
        and {"run_id": identity.teacher.run_id, "parameters": _recorded(identity.teacher.parameters)},
        "preprocessing": asdict(parameters.preprocessing),
        "dataset": _dataset_facts(dataset),
        **made_by(),
        "versions": versions(),
        "started": now(),
    }
    return Training(identity, path, facts)


def _recorded(parameters: TrainParameters) -> dict[str, Any]:
    return {name: value for name, value in asdict(parameters).items() if name != "results_dir"}


def _dataset_facts(dataset: Dataset) -> dict[str, Any]:
    duplicates = dataset.duplicates()
    return {
        "name": dataset.name,
        "fingerprint": dataset.fingerprint,
        "n_classes": dataset.n_classes,
        "class_names": list(dataset.class_names),
        **{f"n_{part}": len(dataset.positions(part)) for part in PARTS},
        "n_excluded": len(dataset.positions(EXCLUDED)),  # copies of test images, and of validation images in train
        "n_duplicated": int(duplicates["copies"].sum()),
        "skipped": list(dataset.skipped),
        "contradicting_identities": duplicates.loc[duplicates["contradicting"], "identity"].tolist(),
    }


def finish(training: Training, network: Any, history: pd.DataFrame, **facts: Any) -> Run:  # noqa: ANN401
    """Makes the folder of a run that has been trained; an earlier run of the same id is replaced as a whole.

    Args:
        training: What `begin` returned.
        network: The trained `keras.Model`.
        history: What `training.fit` returned.
        **facts: More facts for the manifest, such as `param_count` and `macs`.

    Raises:
        WorkbookError: If it cannot be written; the earlier run is then still there.
    """
    last = history.iloc[-1]
    manifest = {
        **training.facts,
        "status": "finished",
        "finished": now(),
        "train_seconds": float(last["seconds"]),
        "validation_top1": float(last["validation_top1"]),
        **facts,
        "variants": {},
        "artefacts": {},
    }
    with files.locked(training.path.parent), files.folder_written_beside(training.path) as folder:
        run = Run(folder)
        run._write_manifest(manifest)
        run.save("history.csv", lambda path: history.to_csv(path, index=False))
        run.save("model.keras", network.save)
    return Run(training.path)


def find(results_dir: Path, run_id: str = "") -> Run:
    """Returns a run by its id, or the newest one where the id is empty.

    Raises:
        WorkbookError: If there is no such run.
    """
    runs = all_runs(results_dir)
    if not run_id and runs:
        return max(runs, key=lambda run: run.manifest["finished"])
    if not run_id:
        raise WorkbookError(f"no finished run in {results_dir}: run the train notebook first")
    run = next((run for run in runs if run.run_id == run_id), None)
    if run is None:
        hint = nearest(run_id, [run.run_id for run in runs]) if runs else "run the train notebook first"
        raise WorkbookError(f"no run {run_id!r} in {results_dir}: {hint}")
    return run


def load_dataset(run: Run) -> Dataset:
    """Loads the data that a run was trained on.

    Raises:
        WorkbookError: If it is not there any more, or has changed: test images may then be among those trained on.
    """
    dataset = datasets.load(run.parameters)
    if dataset.fingerprint != run.manifest["dataset"]["fingerprint"]:
        raise WorkbookError(
            f"the images of {dataset.name} are not those that run {run.run_id} was trained on: put them back, "
            "or train again"
        )
    return dataset


def all_runs(results_dir: Path) -> list[Run]:
    """Returns every run of a results folder, by id."""
    folder = results_dir / "runs"
    if any(folder.glob(".*.replaced")):
        _settle(folder)
    paths = [path.parent for path in sorted(folder.glob("*/manifest.json"))]
    return [Run(path) for path in paths if not path.name.startswith(".")]


def _settle(folder: Path) -> None:
    """Puts run folders back whose replacement was interrupted, unless a process is replacing one now."""
    with contextlib.suppress(OSError):
        if lock := files.try_lock(folder):
            for replaced in folder.glob(".*.replaced"):
                files.finish_replacing(folder / replaced.name.removeprefix(".").removesuffix(".replaced"))
            lock.release()


def save_variant(run: Run, variant: str, tflite: bytes, conversion: Mapping[str, Any], **costs: float) -> None:
    """Saves a converted model as `<variant>.tflite`; an earlier evaluation of the variant is forgotten.

    Args:
        run: The run.
        variant: "int8_per_channel" or "int8_per_tensor".
        tflite: The model.
        conversion: The parameters that determine it, by name.
        **costs: What it takes on the device, by the columns of `results.csv`.
    """
    run.save(f"{variant}.tflite", lambda path: path.write_bytes(tflite))
    facts = {"conversion": dict(conversion), **costs, "tflite_bytes": len(tflite)}
    run.update(variants={**run.manifest["variants"], variant: facts})


def record_evaluation(
    run: Run,
    accuracies: pd.DataFrame,
    identities: np.ndarray,
    labels: np.ndarray,
    scores: dict[str, np.ndarray],
    validation_top1: Mapping[str, float] | None = None,
) -> None:
    """Saves the test predictions of each variant and records its accuracy.

    Args:
        run: The run.
        accuracies: What `evaluation.accuracy_table` returned.
        identities: The identities of the test images, shape (n,).
        labels: Their true classes: int64, shape (n,).
        scores: The scores of each variant: float32, shape (n, n_classes).
        validation_top1: The accuracy of variants on the validation images, fractions; that of the training, of the
            float32 model, stands for the others.
    """
    for variant, given in scores.items():
        _save_predictions(run, variant, identities, labels, given)
    variants = run.manifest["variants"]
    for row in accuracies.to_dict("records"):
        facts = {name: row[name] for name in _RECORDED if not pd.isna(row[name])}
        variants[row["variant"]] = {**variants.get(row["variant"], {}), **facts}
    for variant, top1 in (validation_top1 or {}).items():
        variants[variant]["validation_top1"] = top1
    run.update(variants=variants, evaluated=made_by())


def save_changed(run: Run, variant: str, positions: np.ndarray, images: np.ndarray) -> None:
    """Saves which test images an int8 variant changed, and the first of them, so that a report can show them.

    Args:
        run: The run.
        variant: The variant.
        positions: The positions among the test images that exactly one of float32 and the variant gets right.
        images: The images at the first `CHANGED_KEPT` of them: uint8, shape (n, height, width, channels).
    """
    run.save(changed_name(variant), lambda path: np.savez_compressed(path, positions=positions, images=images))


def changed_name(variant: str) -> str:
    """Returns the name of the file that `save_changed` writes."""
    return f"changed_{variant}.npz"


def _save_predictions(run: Run, variant: str, identities: np.ndarray, labels: np.ndarray, scores: np.ndarray) -> None:
    def write(path: Path) -> None:
        np.savez_compressed(path, identities=identities.astype("U32"), labels=labels, scores=scores)

    run.save(f"predictions_{variant}.npz", write)


def record_deployment(run: Run, parameters: DeployParameters, measured: Mapping[str, int]) -> None:
    """Records how a variant was deployed and what its C code takes, by `MEASURED_COLUMNS`; replaces what was there."""
    variant = parameters.variant
    variants = run.manifest["variants"]
    kept = {name: value for name, value in variants[variant].items() if name not in MEASURED_COLUMNS}
    run.update(variants={**variants, variant: {**kept, **measured, "deployment": parameters.choices}})
