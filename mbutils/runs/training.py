"""The record of a training: begun before it, written as a run folder when it has ended."""

import contextlib
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from mbutils import files
from mbutils.config import TrainParameters
from mbutils.data.dataset import EXCLUDED, PARTS, Dataset
from mbutils.errors import WorkbookError
from mbutils.runs import manifest as manifests
from mbutils.runs.folder import Run, written
from mbutils.runs.histories import of_stopped
from mbutils.runs.identity import Identity, identify
from mbutils.runs.provenance import made_by, now, versions

_CHECKPOINT = ".checkpoint"
_OF_THE_MACHINE = ("results_dir", "tensorboard")  # parameters that say nothing about the run
_FORGOTTEN_AFTER = 30 * 24 * 3600  # seconds


@dataclass(frozen=True, eq=False)
class Training:
    """A run that is being trained; nothing of it but a checkpoint is on disk until `finish`.

    Attributes:
        identity: What determines its result.
        path: Where the run folder will be.
        facts: The first part of its manifest.
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

    @property
    def checkpoint(self) -> Path:
        """The file from which it continues when it was interrupted; it is beside the run folder until `finish`."""
        return self.path.with_name(f".{self.run_id}{_CHECKPOINT}")

    @property
    def logs(self) -> Path | None:
        """The folder of its logs for TensorBoard, if any are wanted."""
        folder = self.parameters.tensorboard
        return Path(folder).expanduser() / self.run_id if folder else None


def begin(parameters: TrainParameters, dataset: Dataset, results_dir: Path) -> Training:
    """Starts the record of a run.

    Raises:
        WorkbookError: If the results folder cannot be written, or the dataset was loaded with other parameters.
    """
    if dataset.loaded_with not in (None, parameters.data):
        raise WorkbookError("the parameters of the data have changed since it was loaded: run the cells above again")
    identity = identify(parameters, dataset)
    path = results_dir / "runs" / identity.run_id
    files.make_folder(path.parent, "set another results_dir")
    _remove_forgotten(path.parent)
    facts = {
        "run_id": identity.run_id,
        "configuration": identity.configuration,
        "parameters": _recorded(identity.parameters),
        "teacher": identity.teacher
        and {"run_id": identity.teacher.run_id, "parameters": _recorded(identity.teacher.parameters)},
        "preprocessing": asdict(parameters.preprocessing),
        "dataset": _dataset_facts(dataset),
        **made_by(),
        "versions": versions(),
        "started": now(),
    }
    return Training(identity, path, facts)


def _remove_forgotten(folder: Path) -> None:
    """Removes the checkpoints of trainings that nobody continued for a month."""
    for path in folder.glob(f".*{_CHECKPOINT}"):
        with contextlib.suppress(OSError):  # another process removed it
            if time.time() - path.stat().st_mtime > _FORGOTTEN_AFTER:
                path.unlink()


def _recorded(parameters: TrainParameters) -> dict[str, Any]:
    return {name: value for name, value in asdict(parameters).items() if name not in _OF_THE_MACHINE}


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
    """Writes the folder of a run that has been trained; an earlier run of the same id is replaced as a whole.

    What a training that was stopped is continued from is removed.

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
    }
    with files.locked(training.path), files.atomic_folder(training.path) as folder:
        manifest |= _note(training.path)
        manifest["artefacts"] = {
            "history.csv": written(folder / "history.csv", lambda path: history.to_csv(path, index=False)),
            "model.keras": written(folder / "model.keras", network.save),
        }
        manifests.write(folder, manifest)
    unfinished = training.path.parent.glob(
        f".{training.checkpoint.stem}.*{_CHECKPOINT}"
    )  # of a process that was killed
    for path in (training.checkpoint, of_stopped(training.path), *unfinished):
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
    return Run(training.path)


def _note(path: Path) -> dict[str, str]:
    """Returns the note of an earlier run as a fact for the manifest: a user wrote it, so it outlives the training."""
    with contextlib.suppress(WorkbookError):
        return {name: value for name, value in manifests.read(path).items() if name == "note"}
    return {}
