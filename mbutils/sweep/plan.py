"""A sweep file, and the stages that it comes down to.

A sweep file is YAML with these keys, each optional: `include` names files of parameters, `defaults` holds parameters
for every configuration, `runs` lists single ones, written out or as the name of a recipe in params/runs, `grid` holds
lists of values that are multiplied out, over each of `runs` if there are any, `seeds` lists seeds for each of those,
and `notebooks` says which to run: all but `deploy`, unless it is there. A parameter goes to each notebook that takes
it. A teacher is run before its students, whether the file lists it or not.
"""

import itertools
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
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
    with_recipe,
)
from mbutils.data import datasets
from mbutils.data.dataset import Dataset
from mbutils.errors import WorkbookError, nearest
from mbutils.sweep import records

_PARAMETERS: dict[str, type[Parameters]] = {
    "prepare": PrepareParameters,
    "train": TrainParameters,
    "convert": ConvertParameters,
    "deploy": DeployParameters,
    "evaluate": EvaluateParameters,
}
NOTEBOOKS = (*_PARAMETERS, "compare")
_DEFAULT_NOTEBOOKS = tuple(name for name in NOTEBOOKS if name != "deploy")
_KEYS = {"include": (str, list), "defaults": dict, "runs": list, "grid": dict, "seeds": list, "notebooks": list}
_FORMS = {
    "include": "file of parameters, or a list of them",
    "defaults": "mapping of parameters",
    "runs": "list of parameters",
    "grid": "mapping of parameters",
    "seeds": "list of whole numbers",
    "notebooks": "list of notebooks",
}
_SET_BY_SWEEP = ("run_id", "results_dir", "out")
RENDER = "render"


@dataclass(frozen=True)
class Configuration:
    """One configuration of a sweep.

    Attributes:
        run_id: The id of its run.
        given: The parameters of each notebook, as given in the file.
        n_train: The images it is trained on.
        teacher: The configuration whose run must be finished before this one is trained, if any.
    """

    run_id: str
    given: dict[str, dict[str, Any]]
    n_train: int
    teacher: "Configuration | None" = None

    def parameters(self, notebook: str) -> Parameters:
        """Returns all parameters of a notebook."""
        return _PARAMETERS[notebook].from_dict(self.given[notebook])


@dataclass(frozen=True)
class Stage:
    """One notebook to execute, or one to render.

    Attributes:
        group: The run that it belongs to, or what is prepared, or "compare": the folder of its log.
        name: Its name among those of its group.
        notebook: The notebook to execute, or "render".
        parameters: What its parameters cell is overridden with.
        kept: Where the executed notebook, or the HTML, is kept in the results folder.
        configuration: What it is for, where it is for one.
        after: The keys of the stages that it needs.
        needs_all: Whether it needs all of them, or any.
    """

    group: str
    name: str
    notebook: str
    parameters: dict[str, Any]
    kept: str
    configuration: Configuration | None = None
    after: tuple[str, ...] = ()
    needs_all: bool = True

    @property
    def key(self) -> str:
        """Its name among all stages."""
        return f"{self.group}/{self.name}"

    def is_done(self, results_dir: Path) -> bool:
        """Returns whether it is finished in a results folder, whoever ran it."""
        record = records.read(results_dir, self.key)
        if record and record.status == "running":  # and nobody holds the lock, if asked by who holds it: killed
            return False
        kept = results_dir / self.kept
        if self.notebook == "prepare":
            return kept.exists()
        if self.notebook == RENDER:
            source = results_dir / self.parameters["source"]
            return not source.exists() or (kept.exists() and kept.stat().st_mtime >= source.stat().st_mtime)
        if self.notebook == "compare":
            return False
        return self._is_in_manifest(runs.Run(results_dir / "runs" / self.group))

    def _is_in_manifest(self, run: runs.Run) -> bool:
        if not (run.path / "manifest.json").exists():
            return False
        variants = run.manifest["variants"]
        if self.notebook == "convert":
            parameters = ConvertParameters.from_dict(self.parameters)
            return variants.get(parameters.variant, {}).get("conversion") == parameters.conversion
        if self.notebook == "deploy":
            return _is_deployed(variants, DeployParameters.from_dict(self.parameters))
        if self.notebook == "evaluate":
            changed = {runs.changed_name(variant) for variant in variants if variant != runs.FLOAT32}
            evaluated = all("top1" in facts for facts in variants.values())
            return evaluated and bool(changed) and changed <= set(run.manifest["artefacts"])
        return True


def _is_deployed(variants: dict[str, Any], parameters: DeployParameters) -> bool:
    facts = variants.get(parameters.variant, {})
    if facts.get("deployment") != parameters.choices:
        return False
    from mbutils import deploy  # and with it TensorFlow

    return any(column in facts for column in runs.MEASURED_COLUMNS) or bool(deploy.missing_tools())


@dataclass(frozen=True)
class Plan:
    """What a sweep file asks for.

    Attributes:
        configurations: Each one, teachers before their students.
        stages: Every stage, each after those that it needs; but for the comparison, which comes when they have ended.
        compares: Whether the comparison is asked for.
    """

    configurations: tuple[Configuration, ...]
    stages: tuple[Stage, ...]
    compares: bool


COMPARISON = Stage("compare", "compare", "compare", {}, "compare.ipynb")
REPORT = Stage("compare", "report.html", RENDER, {"source": "compare.ipynb"}, "report.html", after=(COMPARISON.key,))


def read(path: Path, seeds: list[int] | None = None) -> Plan:
    """Reads a sweep file and checks every configuration in it.

    Args:
        path: The file.
        seeds: In place of those that the file lists.

    Raises:
        WorkbookError: If the file is missing or malformed, or a parameter is unknown or impossible.
    """
    content = _read_yaml(path, {"seeds": seeds} if seeds else {})
    _dataset.cache_clear()  # the images may have changed
    notebooks = content.get("notebooks") or list(_DEFAULT_NOTEBOOKS)
    try:
        configurations = _teachers_first([_configuration(values) for values in _points(content, path.parent)])
        return Plan(tuple(configurations), tuple(_stages(configurations, notebooks)), "compare" in notebooks)
    except WorkbookError as error:
        raise WorkbookError(f"{path}: {error}") from error


def _read_yaml(path: Path, overriding: dict[str, Any]) -> dict[str, Any]:
    content = read_yaml(path, "a sweep file")
    if not isinstance(content, dict):
        raise WorkbookError(f"{path}: a sweep file has the keys {', '.join(_KEYS)}: see params/sweeps/")
    content |= overriding
    for key, part in content.items():
        if key not in _KEYS:
            raise WorkbookError(f"{path}: unknown key {key!r}: {nearest(str(key), tuple(_KEYS))}")
        if part is not None and not isinstance(part, _KEYS[key]):
            raise WorkbookError(f"{path}: {key} must be a {_FORMS[key]}")
    for name in content.get("notebooks") or []:
        if name not in NOTEBOOKS:
            raise WorkbookError(f"{path}: notebooks: unknown notebook {name!r}: {nearest(str(name), NOTEBOOKS)}")
    for name, values in (content.get("grid") or {}).items():
        if not isinstance(values, list) or not values:
            raise WorkbookError(f"{path}: grid: {name} must be a list of values, such as [{values}]")
    if content.get("seeds") and "seed" in (content.get("grid") or {}):
        raise WorkbookError(f"{path}: seeds are given twice: remove seed from grid")
    if not all(isinstance(single, dict | str) for single in content.get("runs") or []):
        raise WorkbookError(
            f"{path}: each of runs must be a mapping of parameters, such as {{alpha: 0.5}}, or the name of a recipe"
        )
    return content


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
    given = {notebook: {k: v for k, v in values.items() if k in names} for notebook, names in takes.items()}
    for notebook, kind in _PARAMETERS.items():
        kind.from_dict(given[notebook])
    parameters = TrainParameters.from_dict(given["train"])
    dataset = _dataset(parameters.data)
    identity = runs.identify(parameters, dataset.fingerprint)
    taught_by = identity.teacher and identity.teacher.parameters
    teacher = _configuration({**given["convert"], **given["evaluate"], **_given(taught_by)}) if taught_by else None
    return Configuration(identity.run_id, given, len(dataset.positions("train")), teacher)


@lru_cache(maxsize=1)
def _dataset(parameters: DataParameters) -> Dataset:
    return datasets.load(parameters)


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


def _stages(configurations: list[Configuration], notebooks: list[str]) -> list[Stage]:
    """Returns the stages of all configurations, each once and after those that it needs."""
    stages: dict[str, Stage] = {}
    for stage in (stage for configuration in configurations for stage in _stages_of(configuration)):
        if stage.notebook not in notebooks:
            continue
        known = stages.setdefault(stage.key, stage)
        if stage.notebook == "convert" and stage.parameters != known.parameters:
            raise WorkbookError(
                f"{stage.group}: {stage.configuration.parameters('convert').variant} is made with "
                f"{stage.parameters} and with {known.parameters}, but a results folder holds one of each: "
                "write two sweep files, and give each a --results of its own"
            )
        if stage.after != known.after:
            stages[stage.key] = replace(known, after=tuple(dict.fromkeys(known.after + stage.after)))
    needed = {key: replace(s, after=tuple(k for k in s.after if k in stages)) for key, s in stages.items()}
    ordered: dict[str, Stage] = {}

    def place(stage: Stage) -> None:
        for key in stage.after:
            place(needed[key])
        if stage.key not in ordered:
            ordered[stage.key] = stage
            ordered[f"{stage.key}.html"] = _rendering(stage)

    for stage in needed.values():
        place(stage)
    return list(ordered.values())


def _stages_of(configuration: Configuration) -> Iterator[Stage]:
    """Yields a stage for each notebook, the comparison left out."""
    given, run_id, teacher = configuration.given, configuration.run_id, configuration.teacher
    contract = configuration.parameters("prepare").preprocessing
    cache = f"{given['prepare'].get('dataset', PrepareParameters.dataset)}_" + "_".join(
        map(str, (contract.image_size, contract.color_mode, contract.interpolation))
    )
    prepare = Stage(f"prepare_{cache}", "prepare", "prepare", given["prepare"], f"prepare/{cache}.ipynb", configuration)
    variant = configuration.parameters("convert").variant
    convert, deploy = f"convert_{variant}", f"deploy_{variant}"

    def of_run(name: str, notebook: str, after: tuple[str, ...], **more: bool) -> Stage:
        parameters = given[notebook] | ({} if notebook == "train" else {"run_id": run_id})
        kept = f"runs/{run_id}/{name}.ipynb"
        return Stage(run_id, name, notebook, parameters, kept, configuration, after, **more)

    yield prepare
    yield of_run("train", "train", (prepare.key, *([f"{teacher.run_id}/train"] if teacher else [])))
    yield of_run(convert, "convert", (f"{run_id}/train",))
    yield of_run(deploy, "deploy", (f"{run_id}/{convert}",))
    # One evaluation of all int8 variants, when each conversion has ended; it shows what deploying them measured.
    yield of_run("evaluate", "evaluate", (f"{run_id}/{convert}", f"{run_id}/{deploy}"), needs_all=False)


def _rendering(stage: Stage) -> Stage:
    html = stage.kept.removesuffix(".ipynb") + ".html"
    return Stage(
        stage.group, f"{stage.name}.html", RENDER, {"source": stage.kept}, html, stage.configuration, (stage.key,)
    )
