"""The teacher of a run: a run of its own, on the same data with the same fit and seed, trained where it is missing."""

from pathlib import Path

from mbutils import files
from mbutils.config import TrainParameters
from mbutils.data import preprocessing
from mbutils.data.dataset import Dataset
from mbutils.model import distillation, training
from mbutils.model.batch_normalization import with_keras_layers
from mbutils.model.distillation import Lesson
from mbutils.model.mobilenet import count_macs
from mbutils.model.weights import read_model
from mbutils.runs.folder import Run, find
from mbutils.runs.identity import identify
from mbutils.runs.training import begin, finish


def find_teacher(parameters: TrainParameters, dataset: Dataset, results_dir: Path) -> Run:
    """Returns the run that teaches a run with these parameters. It is trained first, if it is not there.

    Raises:
        WorkbookError: If it is damaged, or cannot be trained.
    """
    teacher = identify(parameters, dataset).teacher
    if not (results_dir / "runs" / teacher.run_id).exists():
        _train(teacher.parameters, dataset, results_dir)
    return find(results_dir, teacher.run_id)


def _train(parameters: TrainParameters, dataset: Dataset, results_dir: Path) -> None:
    begun = begin(parameters, dataset, results_dir)
    with files.locked(begun.checkpoint):
        if begun.path.exists():  # another process has trained it meanwhile
            return
        print(f"trains the teacher: {begun.run_id}")
        images = preprocessing.cached_images(dataset, parameters.preprocessing)
        network = training.build_model(parameters, dataset)
        lesson = teacher_lesson(parameters, dataset, results_dir)
        history = training.fit(network, images, dataset, parameters, lesson, begun.checkpoint)
        size = {"param_count": network.count_params(), "macs": count_macs(network)}
        finish(begun, with_keras_layers(network), history, **size)


def teacher_lesson(parameters: TrainParameters, dataset: Dataset, results_dir: Path) -> Lesson | None:
    """Returns what the teacher of a run says of views of its training images, computed once and kept.

    Returns:
        Its scores and features; None where the parameters name no teacher.

    Raises:
        WorkbookError: If the teacher cannot be had, or the cache folder cannot be written.
    """
    if not parameters.teacher:
        return None
    teacher = find_teacher(parameters, dataset, results_dir)

    def prepare() -> Lesson:
        network = read_model(teacher.artefact("model.keras"))
        images = preprocessing.cached_images(dataset, teacher.parameters.preprocessing)
        return distillation.lesson(network, images, dataset, parameters)

    model = teacher.manifest["artefacts"]["model.keras"]["sha256"]
    return distillation.stored_lesson(model, dataset, parameters, prepare)
