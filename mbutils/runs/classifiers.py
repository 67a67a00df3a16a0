"""Finished classifiers, ready to score images: the models of a run, or a .tflite from elsewhere."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd

from mbutils import evaluation
from mbutils.config import FOLDER, Preprocessing, resolve_results_dir
from mbutils.data import photographs, preprocessing
from mbutils.data.dataset import Dataset
from mbutils.data.parallel import ordered_map
from mbutils.data.photographs import Photograph
from mbutils.errors import WorkbookError, nearest
from mbutils.model.weights import read_model
from mbutils.progress import progress
from mbutils.runs.folder import FLOAT32, Run, find, load_dataset
from mbutils.tflite.interpreter import TFLiteModel


@dataclass(frozen=True, eq=False)
class PredictedFiles:
    """The scores of many photographs.

    Attributes:
        files: Those that are images.
        scores: Their scores by model: float32, shape (n, n_classes).
        unreadable: The other files, each with the reason in one line.
    """

    files: list[Path]
    scores: dict[str, np.ndarray]
    unreadable: dict[Path, str]


@dataclass(frozen=True, eq=False)
class Classifier:
    """What is needed to score images.

    Attributes:
        contract: How images are prepared for it.
        class_names: Its classes, in the order of its scores.
        models: By name a function of images (uint8, shape (n, height, width, channels)) that returns their scores:
            float32, shape (n, n_classes).
    """

    contract: Preprocessing
    class_names: tuple[str, ...]
    models: dict[str, Callable[[np.ndarray], np.ndarray]]

    @property
    def main_model(self) -> str:
        """The name of the model whose answer counts: the first int8 model, float32 where there is none."""
        return next((name for name in self.models if name != FLOAT32), FLOAT32)

    def predict(self, photo: Photograph) -> pd.DataFrame:
        """Scores one photograph.

        Args:
            photo: The path of a JPEG, PNG, BMP or WebP file; its bytes; or pixels, see `data.photographs.prepared`.

        Returns:
            One row for each class, one column for each model, scores from 0 to 1; the highest of `main_model` first.

        Raises:
            WorkbookError: If it is no image, a damaged one, or one that is too large.
        """
        image = photographs.prepared(photo, self.contract)[None]
        scores = {name: model(image)[0] for name, model in self.models.items()}
        table = pd.DataFrame(scores, index=pd.Index(self.class_names, name="class"))
        return table.sort_values(self.main_model, ascending=False, kind="stable")

    def predict_files(self, files: Iterable[str | Path], batch_size: int = 64) -> PredictedFiles:
        """Scores many photographs, with a progress bar; those that are unreadable are reported, the rest goes on."""
        paths = [Path(file) for file in files]
        readable: list[Path] = []
        unreadable: dict[Path, str] = {}

        def images() -> Iterator[np.ndarray]:
            with progress(len(paths), "predict", "image") as bar:
                for path, image in zip(paths, ordered_map(self._prepared_or_reason, paths), strict=True):
                    bar.update()
                    if isinstance(image, str):
                        unreadable[path] = image
                    else:
                        readable.append(path)
                        yield image

        scores = self._scored(images(), batch_size)
        return PredictedFiles(readable, scores, unreadable)

    def _prepared_or_reason(self, path: Path) -> np.ndarray | str:
        try:
            return photographs.prepared(path, self.contract)
        except WorkbookError as error:
            return str(error)

    def _scored(self, images: Iterator[np.ndarray], batch_size: int) -> dict[str, np.ndarray]:
        scores = {name: [np.zeros((0, len(self.class_names)), np.float32)] for name in self.models}
        while batch := list(islice(images, batch_size)):
            for name, model in self.models.items():
                scores[name].append(model(np.stack(batch)))
        return {name: np.concatenate(parts) for name, parts in scores.items()}

    def labels(self, dataset: Dataset) -> np.ndarray:
        """Returns the label of every image of a dataset by the order of the classes here: int64, shape (n,).

        Raises:
            WorkbookError: If the dataset has a class that is not among the classes here.
        """
        for name in dataset.class_names:
            if name not in self.class_names:
                raise WorkbookError(
                    f"{dataset.name}: class {name!r} is not one of the model's: {nearest(name, self.class_names)}"
                )
        return np.array([self.class_names.index(name) for name in dataset.class_names])[dataset.labels]

    def scores(self, dataset: Dataset, positions: np.ndarray, batch_size: int) -> dict[str, np.ndarray]:
        """Returns the scores of the images at `positions`, by model."""
        cached = preprocessing.cached_images(dataset, self.contract)

        def images() -> Iterator[np.ndarray]:
            with progress(len(positions), "score", "image") as bar:
                for position in positions:
                    bar.update()
                    yield cached[position]

        return self._scored(images(), batch_size)


def load(model: str | Path, contract: Preprocessing | None, class_names: Sequence[str], results_dir: str) -> Classifier:
    """Returns a finished classifier, see `mbutils.load`."""
    path = Path(model)
    folder = path.parent if path.suffix == ".tflite" else path
    is_of_run = bool(str(model)) and (folder / "manifest.json").is_file()
    if path.suffix == ".tflite" and (contract or class_names or not is_of_run):
        return of_file(path, contract, class_names)
    run = Run(folder.absolute()) if is_of_run else find(resolve_results_dir(results_dir), str(model))
    if contract or class_names:
        raise WorkbookError(f"run {run.run_id} has its own preprocessing and classes: leave them out")
    return of_run(run, path.stem if path.suffix == ".tflite" else "")


def of_run(run: Run, only: str = "") -> Classifier:
    """Returns the float32 model of a run and its int8 models, or one of them alone."""
    manifest = run.manifest
    wanted = [only] if only else sorted({FLOAT32, *manifest["variants"]}, key=lambda name: (name != FLOAT32, name))
    models = {variant: _model(run, variant) for variant in wanted}
    return Classifier(run.parameters.preprocessing, tuple(manifest["dataset"]["class_names"]), models)


def _model(run: Run, variant: str) -> Callable[[np.ndarray], np.ndarray]:
    if variant == FLOAT32:
        return partial(evaluation.predict_keras_on_batch, read_model(run.artefact("model.keras")))
    return TFLiteModel(run.artefact(f"{variant}.tflite")).predict_on_batch


def of_file(path: Path, contract: Preprocessing | None, class_names: Sequence[str]) -> Classifier:
    """Returns the model of a .tflite file from elsewhere.

    Raises:
        WorkbookError: If `contract` or `class_names` are left out, or are not those of the model.
    """
    model = TFLiteModel(path, contract.scaling if contract else "")
    height, width, channels = model.image_shape
    takes = f"{path} takes images of {height}x{width}x{channels} and gives {model.n_classes} scores"
    if contract is None or not class_names:
        raise WorkbookError(f"{takes}: give contract, how images are prepared for it, and class_names")
    if contract.shape != model.image_shape or len(class_names) != model.n_classes:
        given = f"images of {'x'.join(map(str, contract.shape))} and {len(class_names)} class names"
        raise WorkbookError(f"{takes}, not {given}: change contract or class_names")
    return Classifier(contract, tuple(class_names), {path.name: model.predict_on_batch})


def learned_from(run: Run, dataset: Dataset, positions: np.ndarray) -> np.ndarray | None:
    """Returns which images have the pixels of an image that a run was trained on or chosen by: bool, shape (n,).

    Returns:
        None where that is not known: the run's images are of a dataset with a name, or not as they were.
    """
    if run.parameters.dataset != FOLDER:
        return None
    try:
        own = load_dataset(run).examples
    except WorkbookError:
        return None
    learned = own.loc[own["part"].isin(["train", "validation"]), "pixels"]
    return dataset.examples["pixels"].iloc[positions].isin(learned).to_numpy()
