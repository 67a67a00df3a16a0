"""A search from its parameters to its answer."""

import contextlib
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd

from mbutils import files
from mbutils.config import SearchParameters, full_path, resolve_results_dir
from mbutils.errors import WorkbookError
from mbutils.search import answer, space
from mbutils.search.answer import Answer
from mbutils.search.costs import costs, refuse_unfitting
from mbutils.search.halving import Halving
from mbutils.search.journal import Journal, path_of
from mbutils.sweep import clusters, execution, plan
from mbutils.sweep.configurations import Configuration
from mbutils.sweep.display import Display
from mbutils.sweep.plan import RENDER, RUNG, Plan, Stage
from mbutils.sweep.stages import Outcome, Settings

_PAGE = Stage("search", "search", "search", {}, "search.ipynb")
_HTML = Stage("search", "search.html", RENDER, {"source": _PAGE.kept}, "search.html", after=(_PAGE.key,))
OWN_NOTEBOOKS = Path(__file__).parent  # that of a rung
_LONGEST = 12 * 3600.0  # seconds of one stage


class _Stages:
    """Does stages that are not done yet, on a cluster that is started for the first of them.

    Args:
        settings: Those of every stage.
        workers: How many are done at a time.
        ended: Called after each.
    """

    def __init__(self, settings: Settings, workers: int, ended: Callable[[], None]) -> None:
        self._settings, self._workers, self._ended = settings, workers, ended
        self._cluster, self._client = contextlib.ExitStack(), None

    def __enter__(self) -> "_Stages":
        return self

    def __exit__(self, *error: object) -> None:
        self._cluster.close()

    def perform(self, stages: list[Stage], seconds: float | None = None) -> list[Outcome]:
        """Does those that are not done yet, for so many seconds at most."""
        left = execution.unfinished(Plan((), tuple(stages), False), self._settings.results_dir)
        if not left:
            return []
        if self._client is None:
            self._client = self._cluster.enter_context(clusters.local(self._workers, self._settings.gpus))
        view = Display(Plan((), (), False), left, self._settings.results_dir, self._workers)

        def show(outcome: Outcome) -> None:
            view.add(outcome)
            self._ended()

        is_rung = left[0].notebook == RUNG
        settings = replace(self._settings, notebooks=OWN_NOTEBOOKS) if is_rung else self._settings
        with view.live():
            return execution.run_stages(left, settings, self._client, show, seconds and max(1.0, seconds))


def run(parameters: SearchParameters) -> Answer:
    """Searches, or goes on with a search that was interrupted, and writes the C code of the answer.

    What is done is not done again: where nothing is left to do, the answer is there at once.

    Args:
        parameters: The device, the time, the images and the space.

    Raises:
        WorkbookError: If the space is wrong, nothing fits, the time is too short, or a stage fails that is needed.
    """
    start, results_dir = time.monotonic(), resolve_results_dir(parameters.results_dir)
    searched, table = space.read(parameters), planned(parameters)
    fitting = tuple(table.index[table["fits"]])
    settings, workers = settings_for(len(fitting), results_dir)
    execution.make_folder(results_dir)
    path = path_of(results_dir, parameters, searched, searched.configurations())
    with files.locked(path), contextlib.ExitStack() as cluster:
        journal = Journal(path, parameters.hours, start)
        stages = cluster.enter_context(_Stages(settings, workers, journal.save))
        halving = Halving(searched, fitting, journal, results_dir, workers, stages.perform)
        finalists = halving.finalists()
        table["run_id"] = [model.run_id for model in searched.configurations(journal.share)]
        found = answer.finished(table, journal.entered[-1], results_dir, parameters)
        firmware = full_path(parameters.out) if parameters.out else results_dir / "firmware"
        (best,) = (one for one in finalists if _is_of(one, found.iloc[0]))
        _deploy(best, found.iloc[0], parameters, firmware, stages)
    candidates = answer.ranking(table, halving, found.iloc[0]["run_id"])
    return Answer(found, candidates, answer.histories(candidates, found, results_dir), firmware)


def planned(parameters: SearchParameters) -> pd.DataFrame:
    """Returns what every model of the space costs, see `costs`, before any is trained.

    Raises:
        WorkbookError: If the space is wrong, or nothing fits.
    """
    table = costs(space.read(parameters).configurations(), parameters)
    refuse_unfitting(table, parameters)
    return table


def settings_for(trainings: int, results_dir: Path) -> tuple[Settings, int]:
    """Returns what holds for every stage of a search, and the number of workers."""
    gpus = clusters.gpus()
    workers = clusters.suited_workers(trainings, gpus)
    threads = max(1, clusters.physical_cores() // workers)
    return Settings(results_dir, Path.cwd(), threads, _LONGEST, gpus), workers


def _is_of(model: Configuration, row: pd.Series) -> bool:
    return (model.run_id, model.parameters("convert").variant) == (row["run_id"], row["variant"])


def _deploy(
    model: Configuration, row: pd.Series, parameters: SearchParameters, firmware: Path, stages: _Stages
) -> None:
    (stage,) = (stage for stage in plan.stages([model], ["deploy"]) if stage.notebook == "deploy")
    chosen = {
        "streamed_layers": int(row["streamed_layers"]),
        "ram_kib": parameters.ram_kib,
        "flash_kib": parameters.flash_kib,
        "out": str(firmware),
    }
    for outcome in stages.perform([replace(stage, parameters=stage.parameters | chosen)]):
        if not outcome.is_good:
            raise WorkbookError(outcome.error)


def page(parameters: SearchParameters) -> Path:
    """Executes `search.ipynb` for a search that has ended, and returns the page of it.

    Raises:
        WorkbookError: If that fails.
    """
    results_dir = resolve_results_dir(parameters.results_dir)
    shown = {name: value for name, value in asdict(parameters).items() if name != "results_dir"}
    with _Stages(*settings_for(1, results_dir), lambda: None) as stages:
        for outcome in stages.perform([replace(_PAGE, parameters=shown), _HTML]):
            if not outcome.is_good:
                raise WorkbookError(outcome.error)
    return results_dir / _HTML.kept
