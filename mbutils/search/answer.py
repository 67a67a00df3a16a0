"""What a search found: the best model that fits, the next one, and what other models cost for less or more accuracy."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from mbutils import runs
from mbutils.config import SearchParameters
from mbutils.errors import WorkbookError
from mbutils.report import selection
from mbutils.search.halving import Halving

_MEASURED = ("measured_ram_bytes", "measured_flash_bytes")


@dataclass(frozen=True, eq=False)
class Answer:
    """The answer of a search.

    Attributes:
        rows: The rows of the results table of the models that were trained to their end, the best on the validation
            images first: the answer, and the next one.
        candidates: What `ranking` returned.
        histories: Validation accuracy over the epochs: a row for each of an epoch of a candidate, with `run_id`,
            `model`, `place` (1 for the answer, 2 for the next one, 0 for the others), `epoch` and `validation_top1`.
        firmware: The folder of the C code.
    """

    rows: pd.DataFrame
    candidates: pd.DataFrame
    histories: pd.DataFrame
    firmware: Path


def finished(costs: pd.DataFrame, entrants: list[int], results_dir: Path, parameters: SearchParameters) -> pd.DataFrame:
    """Returns the rows of the results table of models that were trained to their end, the best first.

    That is the most accurate one on the validation images. Of two that are equal, it is the one whose float model has
    the smaller validation loss, for a few images tell no accuracies apart; then the one of the least cost.

    Args:
        costs: What every model of the space costs, with the ids of their runs.
        entrants: The positions of those that entered the last rung.
        results_dir: The results folder.
        parameters: The limits.

    Raises:
        WorkbookError: If there is none.
    """
    results = runs.results_table(results_dir)
    own = costs.loc[entrants, ["run_id", "variant", "streamed_layers", *_MEASURED]]
    models = results.drop(columns=list(_MEASURED)).merge(own, on=["run_id", "variant"])
    if models.empty:
        raise WorkbookError(
            f"hours: no model was trained to its end in {parameters.hours:g} hours: raise hours, and see "
            f"mb status --results-dir {results_dir}"
        )
    losses = {run_id: runs.history(results_dir, run_id)["validation_loss"].iloc[-1] for run_id in models["run_id"]}
    by_loss = models.assign(validation_loss=models["run_id"].map(losses))
    order = ["validation_top1", "validation_loss", *selection.COSTS]
    ascending = [column != "validation_top1" for column in order]
    return by_loss.sort_values(order, ascending=ascending, kind="stable", ignore_index=True)


def ranking(costs: pd.DataFrame, halving: Halving, best: str) -> pd.DataFrame:
    """Returns how far each model that fits came, and how it compared with the answer there.

    Args:
        costs: As that of `finished`.
        halving: The search.
        best: The run id of the answer.

    Returns:
        The rows of `costs` that entered a rung, the last that stayed first, with `epoch` (where it was compared last),
        `validation_top1` there, and `behind`, by how much that of the answer was higher at the same epoch.
    """
    models = halving.space.configurations(halving.journal.share)
    of_best, rows = runs.history(halving.results_dir, best), []
    for rung, entrants in reversed(list(enumerate(halving.journal.entered))):
        for position in entrants:
            stop = halving.space.stop(models[position], rung)
            row = _at_epoch(runs.history(halving.results_dir, models[position].run_id), stop)
            if row is not None and position not in {place for place, *_ in rows}:
                behind = _at_epoch(of_best, stop)["validation_top1"] - row["validation_top1"]
                rows.append((position, stop, row["validation_top1"], behind))
    found = pd.DataFrame(rows, columns=["position", "epoch", "validation_top1", "behind"]).set_index("position")
    return costs.join(found, how="inner").sort_values(["epoch", "behind"], ascending=[False, True], kind="stable")


def _at_epoch(history: pd.DataFrame, epoch: int) -> pd.Series | None:
    """Returns the row of an epoch, counted from 1, of a history; None where it does not go so far."""
    return history.iloc[epoch - 1] if len(history) >= epoch else None


def histories(candidates: pd.DataFrame, rows: pd.DataFrame, results_dir: Path) -> pd.DataFrame:
    """Returns the histories of the candidates, up to where they were compared last, see `Answer`."""
    places = {run_id: place for place, run_id in enumerate(rows["run_id"].drop_duplicates(), start=1)}
    parts = [
        runs.history(results_dir, row.run_id)
        .head(row.epoch)[["epoch", "validation_top1"]]
        .assign(
            run_id=row.run_id,
            model=f"{row.alpha:g} {row.image_size} px {row.color_mode}",
            place=places.get(row.run_id, 0),
        )
        for row in candidates.drop_duplicates("run_id").itertuples()
    ]
    return pd.concat(parts, ignore_index=True)


def pareto(candidates: pd.DataFrame) -> pd.DataFrame:
    """Returns the models that are worth their cost: no other is as near to the answer for less RAM, flash and time.

    Args:
        candidates: What `ranking` returned.

    Returns:
        Their rows, those with the least RAM first.
    """
    columns = [*_MEASURED, "latency_ms_stm32h747", "behind"]
    values = candidates[columns].to_numpy(float)
    dominated = [any((other <= own).all() and (other < own).any() for other in values) for own in values]
    return candidates[~np.array(dominated, bool)].sort_values(columns, kind="stable")
