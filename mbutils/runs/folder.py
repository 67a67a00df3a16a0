"""Run folders and their manifests.

A run folder holds one trained configuration. It is written when the training has ended, so it is always complete: a
training that is killed leaves nothing, and repeating one keeps the earlier run until the new one is finished.
"""

import contextlib
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mbutils import files
from mbutils.config import TrainParameters
from mbutils.data import datasets
from mbutils.data.dataset import Dataset
from mbutils.errors import WorkbookError, nearest
from mbutils.files import atomic_write

FLOAT32 = "float32"


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
        """The record of the run, read from disk each time."""
        try:
            manifest = json.loads((self.path / "manifest.json").read_text())
        except (OSError, ValueError) as error:
            raise WorkbookError(f"{self.path} has no readable manifest.json: remove the folder, train again") from error
        if "configuration" not in manifest:
            raise WorkbookError(
                f"{self.path} was written by an earlier version of the workbook: remove the folder, train again"
            )
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
        """Saves an artefact: `write` is called with a temporary path; size and sha256 go into the manifest."""
        with atomic_write(self.path / name) as partial:
            write(partial)
        content = (self.path / name).read_bytes()
        facts = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        self.update(artefacts={**self.manifest["artefacts"], name: facts})
        return self.path / name

    def _write_manifest(self, manifest: dict[str, Any]) -> None:
        with atomic_write(self.path / "manifest.json") as partial:
            partial.write_text(json.dumps(manifest, indent=1) + "\n")


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
        WorkbookError: If it is missing or has changed: test images could then be among those trained on.
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
