"""Tables of a results folder: the answer, every configuration, what failed, where the figures are from."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd
from pandas.io.formats.style import Styler

from mbutils.columns import Column, aligned, by_name, terminal_width
from mbutils.config import Budget
from mbutils.device import latency
from mbutils.report import selection
from mbutils.report.labels import differences, labelled, short_name
from mbutils.report.plots.style import TEST_ACCURACY
from mbutils.report.tables.style import facts, styled

_ACCURACY_COLUMNS = (
    "model",
    "seed",
    "variant",
    "top1",
    "top1_low",
    "top1_high",
    "macro_recall",
    "drop_from_float",
    "validation_top1",
    "train_seconds",
)
_C_CODE_COLUMNS = ("measured_ram_bytes", "measured_flash_bytes")
_COST_COLUMNS = (
    "model",
    "variant",
    "tflite_bytes",
    "macs",
    *selection.COSTS,
    *_C_CODE_COLUMNS,
    "measured_instructions",
)
# In a terminal, those that matter most first.
_TERMINAL_COLUMNS = tuple(
    dict.fromkeys(("model", "variant", "top1", *_C_CODE_COLUMNS, *selection.COSTS, *_ACCURACY_COLUMNS, *_COST_COLUMNS))
)
_PROVENANCE_COLUMNS = (
    "run_id",
    "seed",
    "trained (UTC)",
    "train_seconds",
    "git_commit",
    "evaluated by",
    "machine",
    "data and fingerprint",
)
_TEXTS = ("model", "variant", "run_id", "machine", "data and fingerprint", "note")


def accuracies(configurations: pd.DataFrame) -> Styler:
    """Returns the accuracy of each variant; takes what `selection.over_seeds` returns."""
    return _table(configurations, _ACCURACY_COLUMNS)


def parameters(configurations: pd.DataFrame) -> Styler:
    """Returns what the configurations were trained and converted with, as far as it differs between them."""
    table = differences(configurations)
    if list(table) == ["model"]:
        return facts({"parameters that differ": "only those in the names of the models"})
    return styled(table, left=list(table))


def device_costs(configurations: pd.DataFrame) -> Styler:
    """Returns what each int8 variant takes on the device; takes what `selection.over_seeds` returns.

    Columns in which no model has a value are left out: those of C code that was not made.
    """
    models = selection.int8_models(configurations)
    shown = models[["model", "variant"]].copy()
    for column in (by_name[name] for name in _COST_COLUMNS[2:] if models[name].notna().any()):
        shown[column.axis] = models[column.name].map(_cell(column))
    return styled(shown, left=["model", "variant"]).set_properties(subset=["model"], **{"white-space": "nowrap"})


def pareto_models(models: pd.DataFrame) -> Styler:
    """Returns the models that are worth their cost, cheapest first; takes what `selection.pareto_models` returns."""
    ranges = [f"{row.top1:.1%} ({row.top1_low:.1%} to {row.top1_high:.1%})" for row in models.itertuples()]
    ram, flash, time = selection.COSTS
    table = pd.DataFrame(
        {
            "model": models["model"],
            "variant": models["variant"],
            by_name[ram].label: [by_name[ram].with_unit(size, 0) for size in models[ram]],
            by_name[flash].label: [by_name[flash].with_unit(size, 0) for size in models[flash]],
            by_name[time].label: [f"{ms:,.0f} ms ({_latency_range(ms, 0)})" for ms in models[time]],
            TEST_ACCURACY: ranges,
            "run_id": models["run_id"],
        }
    )
    return styled(table, left=["model", "variant", "run_id"]).set_properties(**{"white-space": "nowrap"})


def provenance(rows: pd.DataFrame) -> Styler:
    """Returns where the figures of each run are from; takes what `review.provenance` returns."""
    own = {"trained": "trained (UTC)", "evaluated_by": "evaluated by", "data": "data and fingerprint"}
    noted = ["note"] if rows["note"].any() else []
    table = _table(rows.rename(columns=own), (*_PROVENANCE_COLUMNS, *noted))
    return table.set_properties(subset=noted, **{"min-width": "11em"})


def failures(table: pd.DataFrame) -> Styler:
    """Returns the stages of a sweep that failed, with the last lines of their logs."""
    lines = {"white-space": "pre-wrap"}
    return styled(table, left=["stage", "error", "log"]).set_properties(subset=["error", "log"], **lines)


def results_text(table: pd.DataFrame) -> str:
    """Returns a results table as text for a terminal, averaged over the seeds: as many columns as are wide enough."""
    if table.empty:
        return "no evaluated run yet: run train, convert and evaluate"
    rows, columns = selection.over_seeds(table), []
    shown = rows.dropna(axis="columns", how="all")
    for name in filter(shown.columns.__contains__, _TERMINAL_COLUMNS):
        known = by_name.get(name)
        columns.append([known.axis, *rows[name].map(_cell(known))] if known else [name, *rows[name]])
    return "\n".join(aligned([*zip(*columns, strict=True)], terminal_width()))


def _cell(column: Column) -> Callable[[Any], str]:
    return partial(column.scaled, digits=1) if column.unit == "bytes" else column.text


def budget_sentence(results: pd.DataFrame, budget: Budget) -> str:
    """Returns what a report compares, and the budget, as text."""
    limits = [
        f"{by_name[column].label} {by_name[column].with_unit(limit, 1)}" for column, limit in budget.limits.items()
    ]
    count, seeds = results["configuration"].nunique(), sorted(results["seed"].unique())
    tasks = labelled(results)["task"].unique()
    apart = f"These are {len(tasks)} tasks, on different data: models are compared within each. " * (len(tasks) > 1)
    return (
        f"Compared: {count} configuration{'s' * (count > 1)} on {' and '.join(tasks)}, "
        f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}. {apart}"
        f"Budget: {', '.join(limits) or 'no limits (ram_kib, flash_kib and latency_ms set them)'}."
    )


def answer_sentences(answers: Mapping[str, selection.Answer]) -> str:
    """Returns which model to take for each task, and what it gives, in one sentence for each; Markdown."""
    return "\n\n".join(_answer_sentence(task, answer) for task, answer in answers.items() if answer.row is not None)


def _answer_sentence(task: str, answer: selection.Answer) -> str:
    row = answer.row
    ram, flash, time = (by_name[column].with_unit(row[column], 0) for column in selection.COSTS)
    measured = by_name["measured_flash_bytes"].with_unit(row.get("measured_flash_bytes"), 0)
    is_smaller = row["variant"] == "int4_pointwise" and measured not in ("", flash)
    c_code = f" ({measured} as our C code)" if is_smaller else ""
    lead = f"For {task} take" if answer.fits else f"Nothing fits for {task}; the nearest is"
    return (
        f"{lead} **{short_name(row)}**, {row['variant']}: it is right on {row['top1']:.0%} of {row['n_test']} test "
        f"images, takes {ram} of RAM and {flash} of flash{c_code}, and about {time} on an STM32H747."
    )


def answers(results: pd.DataFrame, budget: Budget) -> Styler:
    """Returns the model to take for each task of a results table, chosen by `selection.choose`, as a column."""
    facts = {task: _answer(answer, budget) for task, answer in selection.answers(results, budget).items()}
    return styled(pd.DataFrame(facts), index=True, left=list(facts))


def _answer(answer: selection.Answer, budget: Budget) -> dict[str, str]:
    if answer.row is None:
        return {"model": "no int8 model with known costs: run convert and evaluate"}
    row = answer.row
    model = f"{short_name(row)}, seed {row['seed']}, {row['variant']}"
    validation = by_name["validation_top1"]
    chosen_by = f"{validation.label}, {validation.text(row['validation_top1'])}"
    over = ", ".join(f"{by_name[column].label} by {ratio - 1:.1%}" for column, ratio in answer.over.items())
    return {
        "model": model if answer.fits else f"nothing fits; nearest: {model}, over in {over}",
        "fitting": f"{answer.fitting} of {answer.candidates} int8 models",
        TEST_ACCURACY: f"{row['top1']:.2%} (95 % interval {row['top1_low']:.2%} to {row['top1_high']:.2%})",
        "chosen by": chosen_by if answer.fits else f"being nearest to the limits; {chosen_by}",
        **{by_name[column].label: _against_limit(row, column, budget) for column in selection.COSTS},
        "run": row["run_id"],
    }


def _against_limit(row: pd.Series, column: str, budget: Budget) -> str:
    kind = by_name[column]
    text = kind.with_unit(row[column], 1)
    if column.startswith("latency"):
        text += f" (estimate, {_latency_range(row[column], 1)})"
    limit = budget.limits.get(column)
    return f"{text}, limit {limit / kind.scale:g}" if limit else text


def _latency_range(milliseconds: float, digits: int) -> str:
    factor = latency.error_factor("STM32H747I-DISCO")
    return f"{milliseconds / factor:,.{digits}f} to {milliseconds * factor:,.{digits}f}"


def _table(rows: pd.DataFrame, columns: Sequence[str]) -> Styler:
    style = styled(rows[list(columns)], left=[name for name in _TEXTS if name in columns])
    return style.set_properties(subset=[columns[0]], **{"white-space": "nowrap"})
