"""Tables of a results folder: the answer, every configuration, what failed, where it is from."""

from collections.abc import Mapping

import pandas as pd
from pandas.io.formats.style import Styler

from mbutils.config import Budget
from mbutils.device import latency
from mbutils.report import selection
from mbutils.report.plots import configuration_label
from mbutils.report.tables.style import format_of, scale, styled

_COST_NAMES = {
    "total_ram_bytes": "total RAM",
    "total_flash_bytes": "total flash",
    "latency_ms_stm32h747": "latency on STM32H747",
}
_ACCURACY_COLUMNS = {
    "model": "model",
    "seed": "seeds",
    "variant": "variant",
    "top1": "top-1",
    "top1_low": "low",
    "top1_high": "high",
    "macro_recall": "macro recall",
    "drop_from_float": "drop",
    "validation_top1": "validation",
    "train_seconds": "train s",
}
_COST_COLUMNS = {
    "model": "model",
    "variant": "variant",
    "tflite_bytes": ".tflite bytes",
    "macs": "MACs",
    "total_ram_bytes": "RAM bytes",
    "total_flash_bytes": "flash bytes",
    "latency_ms_stm32h747": "H747 ms",
    "measured_ram_bytes": "C RAM bytes",
    "measured_flash_bytes": "C flash bytes",
    "measured_instructions": "C instructions",
}


def accuracies(configurations: pd.DataFrame) -> Styler:
    """Returns the accuracy of each variant; takes what `selection.over_seeds` returns."""
    return _table(_named(configurations), _ACCURACY_COLUMNS)


def device_costs(configurations: pd.DataFrame) -> Styler:
    """Returns what each int8 variant takes on the device; takes what `selection.over_seeds` returns."""
    return _table(_named(selection.int8_models(configurations)), _COST_COLUMNS)


def ladder(models: pd.DataFrame) -> Styler:
    """Returns from which budget on to take which model; takes what `selection.ladder` returns."""
    factor = latency.error_factor("STM32H747I-DISCO")
    times = models["latency_ms_stm32h747"]
    ranges = [f"{row.top1:.1%} ({row.top1_low:.1%} to {row.top1_high:.1%})" for row in models.itertuples()]
    table = pd.DataFrame(
        {
            "take": _labels(models),
            "variant": models["variant"],
            "from RAM": [f"{size / 1024:,.0f} KiB" for size in models["total_ram_bytes"]],
            "and flash": [f"{size / 1024:,.0f} KiB" for size in models["total_flash_bytes"]],
            "H747, estimated": [f"{ms:,.0f} ms ({ms / factor:,.0f} to {ms * factor:,.0f})" for ms in times],
            "top-1 on test": ranges,
            "run": models["run_id"],
        }
    )
    return styled(table, left=["take", "variant", "run"]).set_properties(**{"white-space": "nowrap"})


def provenance(rows: pd.DataFrame) -> Styler:
    """Returns where the figures of each run are from; takes what `review.provenance` returns."""
    names = {
        "run_id": "run",
        "seed": "seed",
        "trained": "trained (UTC)",
        "train_seconds": "train s",
        "git_commit": "commit",
        "evaluated_by": "evaluated by",
        "machine": "machine",
        "data": "data and fingerprint",
    }
    return _table(rows, names)


def latency_errors(table: pd.DataFrame) -> Styler:
    """Returns how far latency is off on models left out of the fit; takes what `latency.error_summary` returns."""
    labels = ["board", "published times", "mean error", "worst error", "factor of the band"]
    return styled(table).relabel_index(labels, axis="columns")


def failures(table: pd.DataFrame) -> Styler:
    """Returns the stages of a sweep that failed, with the last lines of their logs."""
    left = {"text-align": "left", "white-space": "pre-wrap"}
    return styled(table).set_properties(subset=["error", "log"], **left)


def results_text(table: pd.DataFrame) -> str:
    """Returns a results table as text for a terminal, seeds taken together."""
    if table.empty:
        return "no evaluated run yet: run train, convert and evaluate"
    names = _ACCURACY_COLUMNS | _COST_COLUMNS
    shown = _named(selection.over_seeds(table))[list(names)]
    text = shown.apply(lambda column: column.map(lambda value: "" if pd.isna(value) else format_of(column.name)(value)))
    return text.rename(columns=names).to_string(index=False)


def asked(results: pd.DataFrame, budget: Budget) -> str:
    """Returns what a report answers, in a sentence: what was run, and within which limits."""
    limits = [f"{_COST_NAMES[column]} {_in_unit(limit, column)}" for column, limit in budget.limits.items()]
    seeds = sorted(results["seed"].unique())
    return (
        f"Asked of {results['configuration'].nunique()} configurations on {', '.join(results['dataset'].unique())}, "
        f"{'seeds' if len(seeds) > 1 else 'seed'} {', '.join(map(str, seeds))}, "
        f"within {', '.join(limits) or 'no limits (ram_kib, flash_kib and latency_ms set them)'}."
    )


def answers(results: pd.DataFrame, budget: Budget) -> Styler:
    """Returns the model to take for each dataset of a results table, chosen by `selection.choose`, as a column."""
    groups = results.groupby("dataset", sort=True)
    facts = {dataset: _answer(selection.choose(rows, budget), budget) for dataset, rows in groups}
    return styled(pd.DataFrame(facts), index=True, left=list(facts))


def _answer(answer: selection.Answer, budget: Budget) -> dict[str, str]:
    if answer.row is None:
        return {"take": "no int8 model with known costs: run convert and evaluate"}
    row = answer.row
    name = f"{configuration_label(row)} s{row['seed']}, {row['variant']}"
    chosen_by = "top-1 on validation" if answer.fits else "being nearest to the limits; top-1 on validation"
    over = ", ".join(f"{_COST_NAMES[column]} by {ratio - 1:.1%}" for column, ratio in answer.over.items())
    return {
        "take": name if answer.fits else f"nothing fits; nearest: {name}, over in {over}",
        "fitting": f"{answer.fitting} of {answer.candidates} int8 models",
        "top-1 on test": f"{row['top1']:.2%} (95 % interval {row['top1_low']:.2%} to {row['top1_high']:.2%})",
        "chosen by": f"{chosen_by}, {row['validation_top1']:.2%}",
        **{name: _against_limit(row, column, budget.limits.get(column)) for column, name in _COST_NAMES.items()},
        "run": row["run_id"],
    }


def _against_limit(row: pd.Series, column: str, limit: float | None) -> str:
    text = _in_unit(row[column], column)
    if column.startswith("latency"):
        factor = latency.error_factor("STM32H747I-DISCO")
        text += f" (estimate, {row[column] / factor:,.1f} to {row[column] * factor:,.1f})"
    return f"{text}, limit {limit / scale(column)[0]:g}" if limit else text


def _in_unit(value: float, column: str) -> str:
    divisor, unit = scale(column)
    return f"{value / divisor:,.1f} {unit}"


def _named(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(model=_labels(rows))


def _labels(rows: pd.DataFrame) -> list[str]:
    return [configuration_label(row) for row in rows.itertuples()]


def _table(rows: pd.DataFrame, names: Mapping[str, str]) -> Styler:
    texts = [name for name in ("model", "variant", "run_id", "machine", "data") if name in names]
    return styled(rows[list(names)], left=texts).relabel_index(list(names.values()), axis="columns")
