"""Which model to take: what fits a budget, the most accurate of these, and what no other beats for its cost."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from mbutils.config import Budget
from mbutils.report.labels import labelled
from mbutils.runs import FLOAT32

COSTS = ("total_ram_bytes", "total_flash_bytes", "latency_ms_stm32h747")  # those that a budget limits


@dataclass(frozen=True)
class Answer:
    """The model to take for one task.

    Attributes:
        row: Its row of the results table; where nothing fits, the nearest miss; None where no model has a cost.
        fits: Whether it fits the budget.
        candidates: How many int8 models were considered.
        fitting: How many of them fit.
        over: By which factor the nearest miss exceeds each limit that it exceeds, by column; empty where it fits.
    """

    row: pd.Series | None
    fits: bool
    candidates: int
    fitting: int
    over: dict[str, float]


def over_seeds(results: pd.DataFrame) -> pd.DataFrame:
    """Returns one row for each configuration, conversion and variant of a results table, averaged over the seeds.

    Returns:
        The columns of the table, numbers as means over the seeds; `top1_low` and `top1_high` are the smallest and the
        largest top-1 where there are several seeds, and the 95 % interval where there is one. `seed` lists the seeds,
        as text, and `seeds` counts them; `run_id` is the run that is most accurate on the validation images. The names
        of `labels.labelled` are added, and the rows of a task follow each other.
    """
    groups = results.groupby(["configuration", results["conversion"].fillna(""), "variant"], sort=False)
    configurations = pd.DataFrame([_averaged(rows) for _, rows in groups], columns=[*results.columns, "seeds"])
    return labelled(configurations).sort_values("task", kind="stable", ignore_index=True)


def _averaged(rows: pd.DataFrame) -> dict[str, object]:
    rows = rows.sort_values("seed")
    numbers = rows.select_dtypes("number").mean()
    # The mean of counts: that of fractions may be a rounding error outside their range.
    numbers["top1"] = (rows["top1"] * rows["n_test"]).round().mean() / rows["n_test"].mean()
    best = rows.sort_values("validation_top1", ascending=False, kind="stable").iloc[0]
    averaged = {**best, **numbers, "image_size": rows["image_size"].iloc[0], "seeds": len(rows)}
    averaged["seed"] = ",".join(map(str, rows["seed"]))
    if len(rows) > 1:
        averaged |= {"top1_low": rows["top1"].min(), "top1_high": rows["top1"].max()}
    return averaged


def int8_models(results: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows of a results table that are int8 models of known cost."""
    return results[results["variant"] != FLOAT32].dropna(subset=list(COSTS))


def known_costs(results: pd.DataFrame) -> tuple[str, ...]:
    """Returns the columns of costs that a results table has: the flash of C code only where it was measured."""
    measured = ("measured_flash_bytes",) if results["measured_flash_bytes"].notna().any() else ()
    return (*COSTS, *measured)


def with_rivals(results: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows of the tasks that have several int8 models of known cost: only there is something to compare."""
    counts = int8_models(results)["task"].value_counts()
    return results[results["task"].map(counts) > 1]


def fits(table: pd.DataFrame, budget: Budget) -> pd.Series:
    """Returns for each row, of results or of a grid, whether it is within every limit of the budget."""
    inside = [table[column] <= limit for column, limit in budget.limits.items()]
    return pd.concat([pd.Series(True, table.index), *inside], axis=1).all(axis=1)


def ratios(table: pd.DataFrame, budget: Budget) -> pd.DataFrame:
    """Returns for each row which part of each limit of the budget it takes, by column; more than 1 is too much."""
    return pd.DataFrame({column: (table[column] / limit).astype(float) for column, limit in budget.limits.items()})


def choose(results: pd.DataFrame, budget: Budget) -> Answer:
    """Returns the int8 model that is most accurate on validation images among those that fit the budget.

    The test images are not used, so the choice does not flatter the test accuracy of the answer. Of two models with
    the same validation accuracy, the one with less total RAM is taken, then less total flash, then less latency.

    Args:
        results: What `runs.results_table` returns, for one task.
        budget: The limits.
    """
    models = int8_models(results)
    fitting = models[fits(models, budget)]
    if len(fitting):
        best = fitting.sort_values(["validation_top1", *COSTS], ascending=[False, True, True, True], kind="stable")
        return Answer(best.iloc[0], True, len(models), len(fitting), {})
    if models.empty:
        return Answer(None, False, 0, 0, {})
    parts = ratios(models, budget)
    nearest = parts.max(axis=1).idxmin()
    over = {column: float(ratio) for column, ratio in parts.loc[nearest].items() if ratio > 1}
    return Answer(models.loc[nearest], False, len(models), 0, over)


def answers(results: pd.DataFrame, budget: Budget) -> dict[str, Answer]:
    """Returns what `choose` returns for each task of a results table, by the name of the task."""
    return {task: choose(rows, budget) for task, rows in labelled(results).groupby("task", sort=True)}


def pareto_models(configurations: pd.DataFrame) -> pd.DataFrame:
    """Returns the int8 models that are worth their cost: no other is as accurate for less RAM, flash and time.

    Accuracy is measured on the validation images; the test images are not used.

    Args:
        configurations: What `over_seeds` returns.

    Returns:
        Their rows, for each task those with the least total RAM first.
    """
    models = int8_models(configurations)
    values = np.column_stack([-models[list(COSTS)].astype(float), models["validation_top1"].astype(float)])
    tasks = models["fingerprint"].to_numpy()
    dominated = [
        any((other >= own).all() and (other > own).any() for other in values[tasks == task])
        for own, task in zip(values, tasks, strict=True)
    ]
    return models[~np.array(dominated, bool)].sort_values(["task", *COSTS], kind="stable")


def pareto_front(results: pd.DataFrame, column: str) -> pd.Series:
    """Returns for each row whether no other costs less and is as accurate, or costs as much and is more accurate.

    Args:
        results: Rows with `top1`, and a cost.
        column: The column of the cost; less is better.
    """
    best = results.groupby(column)["top1"].max()
    best_for_less = best.cummax().shift(fill_value=float("-inf"))
    cost = results[column]
    return (results["top1"] == cost.map(best)) & (results["top1"] > cost.map(best_for_less))
