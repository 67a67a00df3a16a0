"""Run folders, their manifests and their artefacts.

A run folder holds one trained configuration. It is written when the training has ended, so it is always complete: a
training that is killed leaves nothing, and repeating one keeps the earlier run until the new one is finished. What was
damaged since is noticed on reading: the manifest against its schema, an artefact against its sha256 in the manifest.
"""

import contextlib
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mbutils import files
from mbutils.config import TrainParameters
from mbutils.data import datasets
from mbutils.data.dataset import Dataset
from mbutils.errors import WorkbookError, nearest, printable
from mbutils.runs import manifest as manifests
from mbutils.runs.manifest import FLOAT32

_NEW = ".new."
_LEFT = (f"{_NEW}*", f".{_NEW}*", ".manifest.*.json")  # files that a change was writing when it was killed
TEST_IMAGES = "test_images.npz"
_TRAINED = ("history.csv", "model.keras")
LOGS = "logs"  # of sweeps: the folder beside that of the runs which has a folder for each of them
LOGS_LOCK = ".lock"  # the file in there that is locked by whoever works on the run
DELETED = ".deleted"


@dataclass(frozen=True)
class Run:
    """One run folder: `<results>/runs/<run_id>/`."""

    path: Path

    @property
    def run_id(self) -> str:
        """The name of the folder."""
        return self.path.name

    @property
    def logs(self) -> Path:
        """The folder of what sweeps write down about the run; it need not exist."""
        return self.path.parent.parent / LOGS / self.run_id

    @property
    def manifest(self) -> dict[str, Any]:
        """The record of the run, read from disk each time.

        Raises:
            WorkbookError: If it is damaged.
        """
        return manifests.read(self.path)

    @property
    def parameters(self) -> TrainParameters:
        """The parameters that the run was trained with."""
        return TrainParameters.from_dict(self.manifest["parameters"])

    @contextlib.contextmanager
    def changing(self) -> Iterator[dict[str, Any]]:
        """Yields the manifest, to be changed in place, and writes it. Others who change it wait, so no fact is lost.

        Artefacts are written as `new` ones. They count from the moment when the manifest with their sha256 is there.
        """
        with files.locked(self.path):
            self._settle()
            manifest = self.manifest
            try:
                yield manifest
                manifests.write(self.path, manifest)
            finally:
                self._settle()

    def new(self, name: str) -> Path:
        """Returns where a new artefact of some name is to be written, until it takes its place."""
        return self.path / f"{_NEW}{name}"

    def _settle(self) -> None:
        """Puts new artefacts that the manifest knows in their places; what else a change left behind is removed."""
        for name, recorded in self.manifest["artefacts"].items():
            self._take(name, recorded)
        for path in (path for pattern in _LEFT for path in self.path.glob(pattern) if path.is_file()):
            path.unlink(missing_ok=True)

    def _take(self, name: str, recorded: Mapping[str, Any]) -> None:
        new = self.new(name)
        with contextlib.suppress(FileNotFoundError):  # while another process does the same
            if new.is_file() and files.sha256(new) == recorded["sha256"]:
                new.replace(self.path / name)

    def update(self, **facts: Any) -> None:  # noqa: ANN401
        """Adds facts to the manifest, replacing those of the same name."""
        with self.changing() as manifest:
            manifest.update(facts)

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

    def artefact(self, name: str) -> Path:
        """Returns the path of an artefact, which is as it was when it was made.

        Raises:
            WorkbookError: If it is missing or was altered.
        """
        self._verify(name, self.manifest["artefacts"])
        return self.path / name

    def _verify(self, name: str, artefacts: Mapping[str, Any]) -> None:
        path, again = self.path / name, f"run {notebook_of(name)} again"
        if name not in artefacts:
            raise WorkbookError(f"run {self.run_id} has no {name}: {again}")
        try:
            self._take(name, artefacts[name])
            size = path.stat().st_size if path.is_file() else None
            intact = size == artefacts[name]["bytes"] and files.sha256(path) == artefacts[name]["sha256"]
        except OSError as error:
            raise WorkbookError(f"run {self.run_id}: cannot read {path} ({error.strerror}): {again}") from error
        if not intact:
            state = "is missing" if size is None else "was altered since it was made"
            raise WorkbookError(f"run {self.run_id}: {name} {state}: {again}")

    @property
    def damage(self) -> str:
        """What is wrong with what a report reads of it, in one line; empty where nothing is."""
        try:
            manifest = self.manifest
            evaluated = [variant for variant, facts in manifest["variants"].items() if "top1" in facts]
            images = [TEST_IMAGES] if TEST_IMAGES in manifest["artefacts"] else []  # older workbooks kept none
            for name in ("history.csv", *map(predictions_name, evaluated), *images):
                self._verify(name, manifest["artefacts"])
        except WorkbookError as error:
            return _one_line(error)
        return ""


def _one_line(error: WorkbookError) -> str:
    """Returns a message as it can be printed, whatever the name of a folder."""
    return " ".join(str(error).encode(errors="backslashreplace").decode().split())


def predictions_name(variant: str) -> str:
    """Returns the name of the file with the predictions of a variant, which `record_evaluation` writes."""
    return f"predictions_{variant}.npz"


def written(path: Path, write: Callable[[Path], None]) -> dict[str, Any]:
    """Writes an artefact: `write` is called with a temporary path.

    Returns:
        What the manifest records of it: `sha256` and `bytes`.
    """
    with files.atomic_write(path) as partial:
        write(partial)
        return {"sha256": files.sha256(partial), "bytes": partial.stat().st_size}


def notebook_of(artefact: str) -> str:
    """Returns the notebook that makes an artefact."""
    if artefact in _TRAINED:
        return "train"
    return "convert" if artefact.endswith(".tflite") else "evaluate"


def find(results_dir: Path, run_id: str = "") -> Run:
    """Returns a run by its id, or the newest one where the id is empty.

    Runs whose record cannot be read may be newer: a line on standard error names each.

    Raises:
        WorkbookError: If there is no such run, or it is damaged.
    """
    if run_id:
        run = named(results_dir, run_id)
        manifests.read(run.path)
        return run
    runs: dict[str, Run] = {}
    for run in _folders(results_dir):
        try:
            runs[run.manifest["finished"]] = run
        except WorkbookError as error:
            print(f"warning: {_one_line(error)}", file=sys.stderr)
    if not runs:
        raise no_run(results_dir)
    return runs[max(runs)]


def no_run(results_dir: Path) -> WorkbookError:
    """Returns the error for a results folder in which there is no run, or none that is not damaged."""
    reasons = [f"no intact run in {results_dir}: {reason}" for reason in damaged(results_dir).values()]
    return WorkbookError(next(iter(reasons), f"no finished run in {results_dir}: run the train notebook first"))


def named(results_dir: Path, run_id: str) -> Run:
    """Returns a run by its id; it may be damaged.

    Raises:
        WorkbookError: If there is no such run.
    """
    runs = {printable(run.run_id): run for run in _folders(results_dir)}
    if printable(run_id) not in runs:
        hint = nearest(run_id, list(runs)) if runs else "run the train notebook first"
        raise WorkbookError(f"no run {run_id!r} in {results_dir}: {hint}")
    return runs[printable(run_id)]


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
    """Returns every run of a results folder that is not damaged, by id."""
    return [run for run in _folders(results_dir) if not run.damage]


def damaged(results_dir: Path) -> dict[str, str]:
    """Returns the ids of the runs that `all_runs` leaves out, each with the reason and the way out, in one line."""
    return {printable(run.run_id): damage for run in _folders(results_dir) if (damage := run.damage)}


def _folders(results_dir: Path) -> list[Run]:
    folder = results_dir / "runs"
    try:
        _settle(folder)
        remove_deleted(folder)
        paths = sorted(folder.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise WorkbookError(f"cannot read {folder} ({error.strerror}): choose another results_dir") from error
    return [Run(path) for path in paths if path.is_dir() and not path.name.startswith(".")]


def _settle(folder: Path) -> None:
    """Puts run folders back whose replacement was interrupted, unless a process is replacing one now."""
    for replaced in folder.glob(".*.replaced"):
        path = folder / replaced.name.removeprefix(".").removesuffix(".replaced")
        with contextlib.suppress(OSError, WorkbookError):
            if lock := files.try_lock(path):
                try:
                    files.finish_replacing(path)
                finally:
                    lock.release()


def remove_deleted(folder: Path) -> None:
    """Removes what is left of runs that were deleted."""
    for path in folder.glob(f".*{DELETED}"):
        with contextlib.suppress(OSError):  # another process removes it, or this user may not
            if path.is_symlink():
                path.unlink()
            else:
                shutil.rmtree(path)
