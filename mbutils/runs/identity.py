"""What determines the result of a run, and the names that are made of it: recorded once, when the run begins."""

import hashlib
import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from mbutils.config import (
    MOBILENET,
    DataParameters,
    TrainParameters,
    is_recipe,
    network_file,
    network_name,
    read_recipe,
    suited,
)
from mbutils.data.dataset import Dataset
from mbutils.errors import WorkbookError
from mbutils.files import sha256
from mbutils.runs import manifest as manifests

_ANY_NETWORK = "teacher"  # the recipe by which a network learns to teach


@dataclass(frozen=True)
class Identity:
    """A training, known by all that determines its result.

    Attributes:
        parameters: Its parameters, none of them None.
        run_id: Readable, and ends with a digest of all that determines the result.
        configuration: A digest of the same without the seed: runs that share it differ by their seeds.
        teacher: The identity of the run that teaches it, if any.
    """

    parameters: TrainParameters
    run_id: str
    configuration: str
    teacher: "Identity | None" = None


def identify(parameters: TrainParameters, dataset: Dataset, students: tuple[str, ...] = ()) -> Identity:
    """Returns the identity of a training.

    Args:
        parameters: Its parameters. A teacher is read from its recipe; networks and weights are known by the content of
            their file.
        dataset: Its fingerprint determines the result. Parameters that are None get the values that suit it.
        students: The teachers that led to this run, to refuse circles.

    Raises:
        WorkbookError: If a teacher's recipe or the file of the weights is missing or wrong, or a recipe teaches itself.
    """
    parameters, fingerprint = suited(parameters, dataset.n_train), dataset.fingerprint
    determining = parameters.determining | {"weights": _weights(parameters.weights)}
    name = f"{MOBILENET}_{parameters.alpha:g}"
    if parameters.network != MOBILENET:
        file = network_file(parameters.network)
        determining["network"] = sha256(file) if file else parameters.network
        name = network_name(parameters.network)
    teacher = _teacher(parameters, dataset, students)
    without_seed = {name: value for name, value in determining.items() if name != "seed"}
    if teacher:
        determining["teacher"], without_seed["teacher"] = teacher.run_id, teacher.configuration
    model = f"{name}_{parameters.image_size}_{parameters.color_mode}"
    digest = digest_of([determining, fingerprint])
    run_id = f"{parameters.data_name}_{model}_s{parameters.seed}_{digest}"
    return Identity(parameters, run_id, digest_of([without_seed, fingerprint]), teacher)


def digest_of(content: Any) -> str:  # noqa: ANN401
    """Returns eight hexadecimal digits that depend on all of some JSON."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]


def _teacher(parameters: TrainParameters, dataset: Dataset, students: tuple[str, ...]) -> Identity | None:
    """Returns the identity of the teacher: its recipe, on the same data with the same seed.

    Its images have the student's fit and decoder, so that both see the same part of each.
    """
    name = parameters.teacher
    if not name:
        return None
    if name in students:
        raise WorkbookError(f"teacher: {' is taught by '.join([*students, name])}: a recipe cannot teach itself")
    shared = {spec.name: getattr(parameters, spec.name) for spec in fields(DataParameters)}
    shared |= {name: getattr(parameters, name) for name in ("fit", "decoder", "seed")}
    recipe = TrainParameters.from_dict({**_recipe(name), **shared})
    return identify(recipe, dataset, (*students, name))


def _recipe(teacher: str) -> dict[str, Any]:
    """Returns the parameters of a teacher: those of a run folder or a recipe, or of the recipe for any network."""
    folder = Path(teacher).expanduser()
    if (folder / manifests.NAME).is_file():
        return manifests.read(folder)["parameters"]
    if is_recipe(teacher):
        return read_recipe(teacher)
    try:
        network_file(teacher)
    except WorkbookError as error:
        raise WorkbookError(f"teacher: no recipe or run folder {teacher!r}, and as a {error}") from error
    return read_recipe(_ANY_NETWORK) | {"network": teacher}


def _weights(weights: str) -> str:
    """Returns what start weights are known by: their name, or the sha256 of their file."""
    if weights in ("imagenet", "none"):
        return weights
    path = Path(weights).expanduser()
    way_out = "set imagenet, none, or the path of a .keras or .weights.h5 file"
    try:
        if path.exists() and not path.is_file():  # a device may never end
            raise WorkbookError(f"weights: {path} is not a file: {way_out}")
        return sha256(path)
    except OSError as error:
        raise WorkbookError(f"weights: cannot read {path} ({error.strerror}): {way_out}") from error
