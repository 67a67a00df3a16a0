"""A sweep file, and the configurations that it lists.

A sweep file is YAML with these keys, each optional: `include` names files of parameters, `defaults` holds parameters
for every configuration, `runs` lists single ones, written out or as the name of a recipe in params/runs, `grid` holds
lists of values that are multiplied out, over each of `runs` if there are any, `seeds` lists seeds for each of those,
and `notebooks` lists the notebooks to run: all but `deploy`, unless it is there. A parameter goes to each notebook that
takes it.
"""

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from mbutils import runs
from mbutils.config import (
    ConvertParameters,
    DataParameters,
    DeployParameters,
    EvaluateParameters,
    Parameters,
    PrepareParameters,
    TrainParameters,
    read_recipe,
    read_yaml,
    suited,
    with_recipe,
)
from mbutils.data import datasets
from mbutils.data.dataset import Dataset
from mbutils.errors import WorkbookError, nearest

_PARAMETERS: dict[str, type[Parameters]] = {
    "prepare": PrepareParameters,
    "train": TrainParameters,
    "convert": ConvertParameters,
    "deploy": DeployParameters,
    "evaluate": EvaluateParameters,
}
NOTEBOOKS = (*_PARAMETERS, "compare")
_DEFAULT_NOTEBOOKS = tuple(name for name in NOTEBOOKS if name != "deploy")
MODEL_KEYS = {"include": (str, list), "defaults": dict, "runs": list, "grid": dict}
_KEYS = {**MODEL_KEYS, "seeds": list, "notebooks": list}
_FORMS = {
    "include": "file of parameters, or a list of them",
    "defaults": "mapping of parameters",
    "runs": "list of parameters",
    "grid": "mapping of parameters",
    "seeds": "list of whole numbers",
    "notebooks": "list of notebooks",
    "rungs": "list of parts of the epochs",
    "keep": "number",
}
_MOST_CONFIGURATIONS = 10_000
_SET_BY_SWEEP = ("run_id", "results_dir", "out")


@dataclass(frozen=True)
class Configuration:
    """One configuration of a sweep.

    Attributes:
        run_id: The id of its run.
        overrides: The parameters of each notebook that the file sets.
        n_train: The images it is trained on.
        n_classes: Their classes.
        teacher: The configuration whose run must be finished before this one is trained, if any.
    """

    run_id: str
    overrides: dict[str, dict[str, Any]]
    n_train: int
    n_classes: int
    teacher: "Configuration | None" = None

    def parameters(self, notebook: str) -> Parameters:
        """Returns all parameters of a notebook, with the defaults of those that the file leaves out."""
        parameters = _PARAMETERS[notebook].from_dict(self.overrides[notebook])
        return suited(parameters, self.n_train) if isinstance(parameters, PrepareParameters) else parameters


def read(path: Path, seeds: list[int] | None = None) -> tuple[list[Configuration], list[str]]:
    """Returns the configurations of a sweep file, teachers before their students, and the notebooks to run.

    Args:
        path: The file.
        seeds: They replace those that the file lists.

    Raises:
        WorkbookError: If the file is missing or malformed, or a parameter is unknown or impossible.
    """
    content = read_keys(path, "a sweep file", _KEYS) | ({"seeds": seeds} if seeds else {})
    try:
        configurations = make(points(content, path))
    except WorkbookError as error:
        raise WorkbookError(f"{path}: {error}") from error
    return teachers_first(configurations), content.get("notebooks") or list(_DEFAULT_NOTEBOOKS)


def read_keys(path: Path, what: str, keys: dict[str, Any]) -> dict[str, Any]:
    """Returns what a YAML file holds under some keys, each optional.

    Args:
        path: The file.
        what: What it should be, for errors, such as "a sweep file".
        keys: The type of each key.

    Raises:
        WorkbookError: If it is missing or malformed.
    """
    _dataset.cache_clear()  # the images may have changed
    content = read_yaml(path, what)
    if not isinstance(content, dict):
        raise WorkbookError(f"{path}: {what} has the keys {', '.join(keys)}: see params/")
    for key, part in content.items():
        if key not in keys:
            raise WorkbookError(f"{path}: unknown key {key!r}: {nearest(str(key), tuple(keys))}")
        if part is not None and not isinstance(part, keys[key]):
            raise WorkbookError(f"{path}: {key} must be a {_FORMS[key]}")
    return content


def make(points: Iterable[dict[str, Any]]) -> list[Configuration]:
    """Returns the configurations that some parameters make.

    Raises:
        WorkbookError: If a parameter is unknown or impossible.
    """
    return [_configuration(values) for values in points]


def points(content: dict[str, Any], path: Path) -> list[dict[str, Any]]:
    """Returns the parameters of each configuration that a file lists.

    Args:
        content: What `read_keys` returned.
        path: The file.

    Raises:
        WorkbookError: If it is malformed, or lists too many.
    """
    _check(content, path)
    return list(_points(content, path.parent))


def _check(content: dict[str, Any], path: Path) -> None:
    for name in content.get("notebooks") or []:
        if name not in NOTEBOOKS:
            raise WorkbookError(f"{path}: notebooks: unknown notebook {name!r}: {nearest(str(name), NOTEBOOKS)}")
    for name, values in (content.get("grid") or {}).items():
        if not isinstance(values, list) or not values:
            raise WorkbookError(f"{path}: grid: {name} must be a list of values, such as [{values}]")
    if content.get("seeds") and "seed" in (content.get("grid") or {}):
        raise WorkbookError(f"{path}: both seeds and grid list seeds: remove seed from grid")
    if content.get("seeds") and any("seed" in one for one in content.get("runs") or [] if isinstance(one, dict)):
        raise WorkbookError(f"{path}: both seeds and runs set a seed: remove seed from runs")
    if not all(isinstance(single, dict | str) for single in content.get("runs") or []):
        raise WorkbookError(
            f"{path}: each of runs must be a mapping of parameters, such as {{alpha: 0.5}}, or the name of a recipe"
        )


def _points(content: dict[str, Any], folder: Path) -> Iterator[dict[str, Any]]:
    """Yields the parameters of each configuration."""
    included = content.get("include") or []
    defaults: dict[str, Any] = {}
    for name in [included] if isinstance(included, str) else included:
        is_path = str(name).endswith((".yaml", ".yml"))
        defaults |= read_recipe(str(folder / Path(name).expanduser()) if is_path else str(name))
    defaults |= content.get("defaults") or {}
    singles = [read_recipe(one) if isinstance(one, str) else one for one in content.get("runs") or [{}]]
    lists = dict(content.get("grid") or {})
    if content.get("seeds"):
        lists["seed"] = content["seeds"]
    count = len(singles) * math.prod(map(len, lists.values()))
    if count > _MOST_CONFIGURATIONS:
        raise WorkbookError(
            f"{count:,} configurations, the most is {_MOST_CONFIGURATIONS:,}: shorten the lists of grid"
        )
    for single, *point in itertools.product(singles, *lists.values()):
        yield with_recipe({**defaults, **single, **dict(zip(lists, point, strict=True))})


def _configuration(values: dict[str, Any]) -> Configuration:
    takes = {
        notebook: [spec.name for spec in fields(kind) if spec.name not in _SET_BY_SWEEP]
        for notebook, kind in _PARAMETERS.items()
    }
    known = [name for names in takes.values() for name in names]
    for name in values:
        if name not in known:
            raise WorkbookError(f"unknown parameter {name!r}: {nearest(str(name), known)}")
    overrides = {notebook: {k: v for k, v in values.items() if k in names} for notebook, names in takes.items()}
    for notebook, kind in _PARAMETERS.items():
        kind.from_dict(overrides[notebook])
    parameters = TrainParameters.from_dict(overrides["train"])
    dataset = _dataset(parameters.data)
    identity = runs.identify(parameters, dataset)
    teacher = None
    if identity.teacher:
        recipe = _recipe(identity.teacher.parameters)
        teacher = _configuration({**overrides["convert"], **overrides["evaluate"], **recipe})
    return Configuration(identity.run_id, overrides, dataset.n_train, dataset.n_classes, teacher)


@lru_cache(maxsize=1)
def _dataset(parameters: DataParameters) -> Dataset:
    return datasets.load(parameters)


def _recipe(parameters: TrainParameters) -> dict[str, Any]:
    return {name: value for name, value in asdict(parameters).items() if name not in _SET_BY_SWEEP}


def teachers_first(listed: list[Configuration]) -> list[Configuration]:
    """Returns configurations with those of their teachers, each before its students."""
    of_run: dict[str, list[Configuration]] = {}
    for configuration in listed:
        of_run.setdefault(configuration.run_id, []).append(configuration)
    placed: dict[str, list[Configuration]] = {}

    def place(configuration: Configuration) -> None:
        teacher = configuration.teacher
        if teacher and teacher.run_id not in placed:
            for one in of_run.get(teacher.run_id, [teacher]):
                place(one)
        same = placed.setdefault(configuration.run_id, [])
        if configuration not in same:
            same.append(configuration)

    for configuration in listed:
        place(configuration)
    return [configuration for same in placed.values() for configuration in same]
