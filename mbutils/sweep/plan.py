"""The stages that a sweep comes down to: notebooks to execute and to render, each after those that it needs."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mbutils import runs
from mbutils.config import MOBILENET, ConvertParameters, DeployParameters, PrepareParameters
from mbutils.errors import WorkbookError
from mbutils.runs.folder import LOGS
from mbutils.sweep import configurations, records
from mbutils.sweep.configurations import Configuration

RENDER = "render"
RUNG = "rung"


@dataclass(frozen=True)
class Stage:
    """One notebook to execute, or one to render.

    Attributes:
        group: The run that it belongs to, the cache that it prepares, or "compare": the folder of its log.
        name: Its name among those of its group.
        notebook: The notebook to execute, or "render". That of a "rung" trains a run up to an epoch, see `rung`.
        parameters: The values that override its parameters cell.
        kept: Where the executed notebook, or the HTML, is kept in the results folder.
        configuration: The configuration that it belongs to, if it belongs to one.
        after: The keys of the stages that it needs.
        needs_all: Whether it needs all of them, or any one.
        start: The epochs that its run is trained before.
    """

    group: str
    name: str
    notebook: str
    parameters: dict[str, Any]
    kept: str
    configuration: Configuration | None = None
    after: tuple[str, ...] = ()
    needs_all: bool = True
    start: int = 0

    @property
    def key(self) -> str:
        """Its name among all stages."""
        return f"{self.group}/{self.name}"

    def is_done(self, results_dir: Path) -> bool:
        """Returns whether it is finished in a results folder, whoever ran it."""
        record = records.read(results_dir, self.key)
        # A stage that failed, or that was killed while it was running, may have made everything but its notebook.
        if record and record.status in ("running", "failed"):
            return False
        kept = results_dir / self.kept
        if self.notebook == "prepare":
            return kept.exists()
        if self.notebook == RUNG:
            return len(runs.history(results_dir, self.group)) >= self.parameters["stop"]
        if self.notebook == RENDER:
            source = results_dir / self.parameters["source"]
            return not source.exists() or (kept.exists() and kept.stat().st_mtime >= source.stat().st_mtime)
        if self.notebook in ("compare", "search") or (record and record.status != "finished" and not kept.exists()):
            return False  # the latter was killed, and the next sweep was killed before it came to it
        run = runs.Run(results_dir / "runs" / self.group)
        return run.path.exists() and not self.damage(results_dir) and self._is_in(run.manifest)

    def damage(self, results_dir: Path) -> str:
        """Returns what is wrong with what it made of its run, in one line; empty where nothing is."""
        run = runs.Run(results_dir / "runs" / self.group)
        if self.notebook in ("prepare", "compare", "search", RENDER, RUNG) or not run.path.exists():
            return ""
        try:
            for name in run.manifest["artefacts"]:
                if runs.notebook_of(name) == self.notebook and (self.notebook != "convert" or name == self._tflite):
                    run.artefact(name)
        except WorkbookError as error:
            return str(error)
        return ""

    @property
    def _tflite(self) -> str:
        return f"{ConvertParameters.from_dict(self.parameters).variant}.tflite"

    def _is_in(self, manifest: dict[str, Any]) -> bool:
        variants, artefacts = manifest["variants"], manifest["artefacts"]
        if self.notebook == "convert":
            parameters = ConvertParameters.from_dict(self.parameters)
            facts = variants.get(parameters.variant, {})
            return facts.get("conversion") == parameters.conversion and self._tflite in artefacts
        if self.notebook == "deploy":
            return _is_deployed(variants, DeployParameters.from_dict(self.parameters))
        if self.notebook == "evaluate":
            is_evaluated = len(variants) > 1 and all("top1" in facts for facts in variants.values())
            return is_evaluated and runs.TEST_IMAGES in artefacts
        return True


def _is_deployed(variants: dict[str, Any], parameters: DeployParameters) -> bool:
    facts = variants.get(parameters.variant, {})
    if facts.get("deployment") != parameters.choices:
        return False
    from mbutils import deploy  # and with it TensorFlow

    if parameters.out and not deploy.holds(parameters):
        return False
    return any(column in facts for column in runs.MEASURED_COLUMNS) or bool(deploy.missing_tools())


@dataclass(frozen=True)
class Plan:
    """The work that a sweep file describes.

    Attributes:
        configurations: Each one, teachers before their students.
        stages: Every stage, each after those that it needs, without the comparison, which follows them all.
        compares: Whether the comparison follows.
    """

    configurations: tuple[Configuration, ...]
    stages: tuple[Stage, ...]
    compares: bool

    @property
    def repeated(self) -> int:
        """How many configurations come down to the stages of another one, since their values change nothing."""
        work = [tuple(stage.key for stage in _stages_of(configuration)) for configuration in self.configurations]
        return len(work) - len(set(work))


COMPARISON = Stage("compare", "compare", "compare", {}, "compare.ipynb")
REPORT = Stage("compare", "report.html", RENDER, {"source": "compare.ipynb"}, "report.html", after=(COMPARISON.key,))


def read(path: Path, seeds: list[int] | None = None) -> Plan:
    """Reads a sweep file and checks every configuration in it.

    Args:
        path: The file.
        seeds: They replace those that the file lists.

    Raises:
        WorkbookError: If the file is missing or malformed, or a parameter is unknown or impossible.
    """
    listed, notebooks = configurations.read(path, seeds)
    try:
        return Plan(tuple(listed), tuple(stages(listed, notebooks)), "compare" in notebooks)
    except WorkbookError as error:
        raise WorkbookError(f"{path}: {error}") from error


def rung(configuration: Configuration, start: int, stop: int) -> Stage:
    """Returns the stage that trains a run from one epoch up to another, from where it continues later.

    Args:
        configuration: The configuration of the run.
        start: The epochs that it is trained before.
        stop: The epochs that it is trained then.
    """
    name = f"{RUNG}_{stop}"
    parameters = {"parameters": configuration.overrides["train"], "stop": stop}
    kept = f"{LOGS}/{configuration.run_id}/{name}.ipynb"
    return Stage(configuration.run_id, name, RUNG, parameters, kept, configuration, start=start)


def stages(listed: list[Configuration], notebooks: list[str]) -> list[Stage]:
    """Returns the stages of configurations, each once and after those that it needs.

    Args:
        listed: The configurations, teachers before their students.
        notebooks: The notebooks to execute.

    Raises:
        WorkbookError: If two of them convert one run in different ways to one variant.
    """
    planned: dict[str, Stage] = {}
    for stage in (stage for configuration in listed for stage in _stages_of(configuration)):
        if stage.notebook not in notebooks:
            continue
        known = planned.setdefault(stage.key, stage)
        if stage.notebook == "convert" and stage.parameters != known.parameters:
            raise WorkbookError(
                f"{stage.group}: {stage.configuration.parameters('convert').variant} is made with "
                f"{stage.parameters} and with {known.parameters}, but a results folder holds one of each: "
                "write two sweep files, and give each a --results-dir of its own"
            )
        if stage.after != known.after:
            planned[stage.key] = replace(known, after=tuple(dict.fromkeys(known.after + stage.after)))
    needed = {key: replace(s, after=tuple(k for k in s.after if k in planned)) for key, s in planned.items()}
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
    """Yields a stage for each notebook, without the comparison."""
    overrides, run_id, teacher = configuration.overrides, configuration.run_id, configuration.teacher
    contract = configuration.parameters("prepare").preprocessing
    cache = f"{overrides['prepare'].get('dataset', PrepareParameters.dataset)}_{contract.name}"
    kept = f"prepare/{cache}.ipynb"
    prepare = Stage(f"prepare_{cache}", "prepare", "prepare", overrides["prepare"], kept, configuration)
    variant = configuration.parameters("convert").variant
    convert, deploy = f"convert_{variant}", f"deploy_{variant}"

    def of_run(name: str, notebook: str, after: tuple[str, ...], **more: bool) -> Stage:
        parameters = overrides[notebook] | ({} if notebook == "train" else {"run_id": run_id})
        kept = f"runs/{run_id}/{name}.ipynb"
        return Stage(run_id, name, notebook, parameters, kept, configuration, after, **more)

    yield prepare
    yield of_run("train", "train", (prepare.key, *([f"{teacher.run_id}/train"] if teacher else [])))
    if configuration.parameters("train").network != MOBILENET:  # it only teaches
        return
    yield of_run(convert, "convert", (f"{run_id}/train",))
    yield of_run(deploy, "deploy", (f"{run_id}/{convert}",))
    # One evaluation of all int8 variants, when each conversion has ended; it shows what deploying them measured.
    yield of_run("evaluate", "evaluate", (f"{run_id}/{convert}", f"{run_id}/{deploy}"), needs_all=False)


def _rendering(stage: Stage) -> Stage:
    html = stage.kept.removesuffix(".ipynb") + ".html"
    return Stage(
        stage.group, f"{stage.name}.html", RENDER, {"source": stage.kept}, html, stage.configuration, (stage.key,)
    )
