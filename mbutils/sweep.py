"""A sweep file, what it expands to, and running it: train, convert and evaluate for each configuration, then compare.

A sweep file is YAML with three keys, each optional: `defaults` holds parameters for every configuration, `runs` lists
single ones, written out or as the name of a recipe in params/runs, `grid` holds lists of values that are multiplied
out, over each of `runs` if there are any. A parameter goes to each notebook that takes it. A teacher is run before its
students, whether the file lists it or not.
"""

import itertools
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from mbutils import datasets, notebooks, runs
from mbutils.config import (
    ConvertParameters,
    EvaluateParameters,
    Parameters,
    TrainParameters,
    read_recipe,
    read_yaml,
)
from mbutils.errors import WorkbookError, nearest
from mbutils.progress import progress

_STAGES: dict[str, type[Parameters]] = {
    "train": TrainParameters,
    "convert": ConvertParameters,
    "evaluate": EvaluateParameters,
}
_KEYS = {"defaults": dict, "runs": list, "grid": dict}
_SET_BY_SWEEP = ("run_id", "results_dir")


@dataclass(frozen=True)
class Configuration:
    """One configuration of a sweep.

    Attributes:
        run_id: The id of its run.
        stages: The parameters of each stage's notebook, as given in the file.
        teacher: The configuration whose run must be finished before this one is trained, if any.
    """

    run_id: str
    stages: dict[str, dict[str, Any]]
    teacher: "Configuration | None" = None

    def is_done(self, stage: str, results_dir: Path) -> bool:
        """Returns whether a stage of this configuration is finished in a results folder."""
        run = runs.Run(results_dir / "runs" / self.run_id)
        if not (run.path / "manifest.json").exists() or run.manifest["status"] != "finished":
            return False
        conversion = ConvertParameters.from_dict(self.stages["convert"])
        variants = run.manifest["variants"]
        converted = variants.get(conversion.variant, {})
        return {
            "train": True,
            "convert": conversion.recipe.items() <= converted.items(),
            "evaluate": "top1" in converted and "top1" in variants.get(runs.FLOAT32, {}),
        }[stage]


def read(path: Path) -> list[Configuration]:
    """Reads a sweep file and checks every configuration in it.

    Raises:
        WorkbookError: If the file is missing or malformed, or a parameter is unknown or impossible.
    """
    content = _read_yaml(path)
    defaults, singles, grid = (content.get(key) or kind() for key, kind in _KEYS.items())
    for name, values in grid.items():
        if not isinstance(values, list) or not values:
            raise WorkbookError(f"{path}: grid: {name} must be a list of values, such as [{values}]")
    try:
        singles = [read_recipe(single) if isinstance(single, str) else single for single in singles] or [{}]
        points = itertools.product(singles, *grid.values())
        return _teachers_first(
            [_configuration({**defaults, **single, **dict(zip(grid, point, strict=True))}) for single, *point in points]
        )
    except WorkbookError as error:
        raise WorkbookError(f"{path}: {error}") from error


def _read_yaml(path: Path) -> dict[str, Any]:
    content = read_yaml(path, "a sweep file")
    if not isinstance(content, dict):
        raise WorkbookError(f"{path}: a sweep file has the keys {', '.join(_KEYS)}: see params/")
    for key, part in content.items():
        if key not in _KEYS:
            raise WorkbookError(f"{path}: unknown key {key!r}: {nearest(str(key), tuple(_KEYS))}")
        if part is not None and not isinstance(part, _KEYS[key]):
            raise WorkbookError(f"{path}: {key} must be a {'list' if key == 'runs' else 'mapping'} of parameters")
    if not all(isinstance(single, dict | str) for single in content.get("runs") or []):
        raise WorkbookError(
            f"{path}: each of runs must be a mapping of parameters, such as {{alpha: 0.5}}, or the name of a recipe"
        )
    return content


def _configuration(values: dict[str, Any]) -> Configuration:
    takes = {
        stage: [spec.name for spec in fields(kind) if spec.name not in _SET_BY_SWEEP] for stage, kind in _STAGES.items()
    }
    known = [name for names in takes.values() for name in names]
    for name in values:
        if name not in known:
            raise WorkbookError(f"unknown parameter {name!r}: {nearest(str(name), known)}")
    stages = {stage: {k: v for k, v in values.items() if k in names} for stage, names in takes.items()}
    checked = {stage: _STAGES[stage].from_dict(given) for stage, given in stages.items()}
    parameters = checked["train"]
    dataset = datasets.load(parameters)
    taught_by = parameters.teacher_parameters
    teacher = _configuration({**stages["convert"], **stages["evaluate"], **_given(taught_by)}) if taught_by else None
    return Configuration(parameters.run_id(dataset.fingerprint), stages, teacher)


def _given(parameters: TrainParameters) -> dict[str, Any]:
    return {name: value for name, value in asdict(parameters).items() if name not in _SET_BY_SWEEP}


def _teachers_first(listed: list[Configuration]) -> list[Configuration]:
    ordered: list[Configuration] = []

    def place(configuration: Configuration) -> None:
        teacher = configuration.teacher
        if teacher and all(placed.run_id != teacher.run_id for placed in ordered):
            for one in [other for other in listed if other.run_id == teacher.run_id] or [teacher]:
                place(one)
        if configuration not in ordered:
            ordered.append(configuration)

    for configuration in listed:
        place(configuration)
    return ordered


def run(configurations: list[Configuration], results_dir: Path, say: Callable[[str], None] = print) -> dict[str, str]:
    """Runs what is not finished, one configuration after another, and goes on when one fails.

    Args:
        configurations: What `read` returned.
        results_dir: The results folder.
        say: Called with a line for each stage.

    Returns:
        The error of each configuration that failed, by run id.

    Raises:
        WorkbookError: If the results folder cannot be written.
    """
    try:
        results_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WorkbookError(f"cannot write in {results_dir} ({error.strerror}): give another --results") from error
    failures = {}
    with progress(len(configurations) * len(_STAGES), "sweep", "stage") as bar:
        for number, configuration in enumerate(configurations, start=1):
            label = f"[{number}/{len(configurations)}] {configuration.run_id}"
            try:
                for stage in _STAGES:
                    say(f"{label}  {stage}: {_run_stage(configuration, stage, results_dir)}")
                    bar.update()
            except WorkbookError as error:
                failures[configuration.run_id] = str(error)
                say(f"{label}  failed: {error}")
    return failures


def _run_stage(configuration: Configuration, stage: str, results_dir: Path) -> str:
    if configuration.is_done(stage, results_dir):
        return "already finished"
    start = time.perf_counter()
    parameters = {**configuration.stages[stage], "results_dir": str(results_dir)}
    if stage != "train":
        parameters["run_id"] = configuration.run_id
    # Training makes the run folder, so a notebook is written elsewhere first; that of a failed stage stays there.
    log = results_dir / "logs" / configuration.run_id / f"{stage}.ipynb"
    notebooks.execute(stage, log, parameters)
    _keep(log, results_dir / "runs" / configuration.run_id)
    return f"{time.perf_counter() - start:.0f} s"


def _keep(log: Path, folder: Path) -> None:
    kept = log.replace(folder / log.name)
    log.parent.rmdir()
    notebooks.render(kept, kept.with_suffix(".html"))


def report(results_dir: Path) -> Path:
    """Rebuilds `results.csv` and `report.html` of a results folder from its runs, and returns the report's path.

    Raises:
        WorkbookError: If the folder holds no runs.
    """
    if not runs.all_runs(results_dir):
        raise WorkbookError(f"no runs in {results_dir}: train one first, or give another --results")
    notebook = results_dir / "compare.ipynb"
    notebooks.execute("compare", notebook, {"results_dir": str(results_dir)})
    notebooks.render(notebook, results_dir / "report.html")
    return results_dir / "report.html"
