"""How tables look: a DataFrame in, a pandas Styler or text out."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from pandas.io.formats.style import Styler

from mbutils import costs, latency, selection
from mbutils.config import Budget
from mbutils.deploy import Deployment, missing_tools
from mbutils.footprint import Footprint
from mbutils.plots import run_label

_PERCENT = "{:.2%}".format
_FORMATS = {
    "top1": _PERCENT,
    "low": _PERCENT,
    "high": _PERCENT,
    "drop": "{:+.2%}".format,
    "agreement": _PERCENT,
    "top1_low": _PERCENT,
    "top1_high": _PERCENT,
    "validation_top1": _PERCENT,
    "published": _PERCENT,
    "published_later": _PERCENT,
    "difference": "{:+.2%}".format,
    "drop_from_float": "{:+.2%}".format,
    "agreement_with_float": _PERCENT,
    "macro_recall": _PERCENT,
    "precision": _PERCENT,
    "recall": _PERCENT,
    "alpha": "{:g}".format,
    "tflite_bytes": "{:,.0f}".format,
    "bytes": "{:,.0f}".format,
    "macs": "{:,.0f}".format,
    "weight_bytes": "{:,.0f}".format,
    "activation_bytes": "{:,.0f}".format,
    "live_bytes": "{:,.0f}".format,
    "parameters": "{:,.0f}".format,
    "param_count": "{:,.0f}".format,
    "train_seconds": "{:.0f}".format,
    "total_ram_bytes": "{:,.0f}".format,
    "total_flash_bytes": "{:,.0f}".format,
    "latency_ms_stm32h747": "{:,.1f}".format,
    "measured_ram_bytes": "{:,.0f}".format,
    "measured_flash_bytes": "{:,.0f}".format,
    "measured_instructions": "{:,.0f}".format,
    "arena_bytes": "{:,.0f}".format,
    "p_value": "{:.3f}".format,
    "mean_error": "{:.1%}".format,
    "worst_error": "{:.1%}".format,
    "error_factor": "{:.2f}".format,
    "only_float32": "{:.0f}".format,
    "only_int8": "{:.0f}".format,
}
_COST_NAMES = {
    "total_ram_bytes": "total RAM",
    "total_flash_bytes": "total flash",
    "latency_ms_stm32h747": "latency on STM32H747",
}
# Which measured figure of the C code stands beside which predicted one.
_MEASURED = {
    "total_ram_bytes": "measured_ram_bytes",
    "code_flash_bytes": "measured_code_bytes",
    "total_flash_bytes": "measured_flash_bytes",
}
_RESULT_COLUMNS = {
    "dataset": "dataset",
    "alpha": "alpha",
    "image_size": "size",
    "color_mode": "colour",
    "seed": "seed",
    "variant": "variant",
    "top1": "top-1",
    "top1_low": "low",
    "top1_high": "high",
    "macro_recall": "macro recall",
    "drop_from_float": "drop",
    "tflite_bytes": ".tflite bytes",
    "macs": "MACs",
    "total_ram_bytes": "RAM bytes",
    "total_flash_bytes": "flash bytes",
    "latency_ms_stm32h747": "H747 ms",
    "measured_ram_bytes": "C RAM bytes",
    "measured_flash_bytes": "C flash bytes",
    "measured_instructions": "C instructions",
    "train_seconds": "train s",
}


def styled(table: pd.DataFrame, index: bool = False) -> Styler:
    """Returns a table for a notebook, each column in its unit; blank where a value is missing."""
    formats = {column: _FORMATS[column] for column in table.columns if column in _FORMATS}
    style = table.style.format(formats, na_rep="", escape="html")
    return style.format_index(escape="html") if index else style.hide(axis="index")


def facts(values: dict[str, Any]) -> Styler:
    """Returns names and values as a table of two columns."""
    return styled(pd.DataFrame({"": list(values), "value": [str(value) for value in values.values()]}))


def results(table: pd.DataFrame) -> Styler:
    """Returns what `selection.over_seeds` returned, with the columns that one compares configurations by."""
    shown = table.assign(how=table["seeds"].map(lambda seeds: f"mean and range of {seeds} seeds" if seeds > 1 else ""))
    names = _RESULT_COLUMNS | {"how": ""}
    return styled(shown[list(names)]).relabel_index(list(names.values()), axis="columns")


def failures(table: pd.DataFrame) -> Styler:
    """Returns the stages of a sweep that failed, with the last lines of their logs."""
    left = {"text-align": "left", "white-space": "pre-wrap"}
    return styled(table).set_properties(subset=["error", "log"], **left)


def published(rows: pd.DataFrame) -> Styler:
    """Returns our accuracies beside the published ones; takes what `published.accuracy_beside` returns."""
    columns = ["dataset", "alpha", "image_size", "color_mode", "variant", "top1", "top1_low", "top1_high"]
    return styled(rows[[*columns, "published", "difference", "published_later", "test_images"]])


def results_text(table: pd.DataFrame) -> str:
    """Returns a results table as text for a terminal, seeds taken together."""
    if table.empty:
        return "no evaluated run yet: run train, convert and evaluate"
    shown = selection.over_seeds(table)[list(_RESULT_COLUMNS)]
    text = shown.apply(
        lambda column: column.map(lambda value: "" if pd.isna(value) else _FORMATS.get(column.name, str)(value))
    )
    return text.rename(columns=_RESULT_COLUMNS).to_string(index=False)


def costs_of(model: Footprint, recorded: Mapping[str, Any] | None = None) -> Styler:
    """Returns RAM, flash and latency of a model with the bands of the estimates; blank where a figure is exact.

    Args:
        model: What it is predicted to cost.
        recorded: The facts of the variant in the manifest: if the C code was measured, that stands beside.
    """
    recorded = recorded or {}
    rows = []
    for cost in costs.costs(model):
        scale, unit = _scale(cost.column)
        ends = (f"{cost.low / scale:,.1f}", f"{cost.high / scale:,.1f}") if cost.is_estimate else ("", "")
        size = f"{cost.value:,}" if unit == "KiB" else ""
        measured = _in_kib(recorded.get(_MEASURED.get(cost.column, "")))
        rows.append((cost.label, f"{cost.value / scale:,.2f} {unit}", size, *ends, measured, cost.note))
    names = ["", "value", "in bytes", "from", "to", "C code, measured (KiB)", "note"]
    return _with_notes(styled(pd.DataFrame(rows, columns=names)))


def layers(model: Footprint) -> Styler:
    """Returns MACs, bytes of weights and bytes of activations of each op; the op with most bytes in use is bold."""
    columns = ["index", "name", "op", "output", "macs", "weight_bytes", "activation_bytes", "live_bytes"]
    table = pd.DataFrame(map(vars, model.layers)).astype({"output_shape": object})
    table["output"] = [" x ".join(map(str, shape[1:])) for shape in table["output_shape"]]
    at_peak = ["font-weight: bold"] * len(columns)
    style = styled(table[columns]).apply(
        lambda row: at_peak if row["index"] == model.peak_op else [""] * len(columns), axis=1
    )
    labels = ["", "layer", "op", "output", "MACs", "weights bytes", "in + out bytes", "bytes in use"]
    return style.relabel_index(labels, axis="columns")


def answers(results: pd.DataFrame, budget: Budget) -> Styler:
    """Returns the model to take for each dataset of a results table, chosen by `selection.choose`, as a column."""
    groups = results.groupby("dataset", sort=True)
    facts = {dataset: _answer(selection.choose(rows, budget), budget) for dataset, rows in groups}
    return styled(pd.DataFrame(facts), index=True)


def _answer(answer: selection.Answer, budget: Budget) -> dict[str, str]:
    if answer.row is None:
        return {"take": "no int8 model with known costs: run convert and evaluate"}
    row = answer.row
    name = f"{run_label(row)}, {row['variant']}"
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
    scale, unit = _scale(column)
    text = f"{row[column] / scale:,.1f} {unit}"
    if unit == "ms":
        factor = latency.error_factor("STM32H747I-DISCO")
        text += f" (estimate, {row[column] / factor:,.1f} to {row[column] * factor:,.1f})"
    return f"{text}, limit {limit / scale:g}" if limit else text


def _scale(column: str) -> tuple[int, str]:
    """Returns by what to divide the values of a cost column for tables, and their unit then."""
    return (1024, "KiB") if column.endswith("_bytes") else (1, "ms")


def deployment(given: Deployment) -> Styler:
    """Returns RAM and flash of the C code, measured, beside those of STM32Cube.AI 7.3.0."""
    return styled(_deployment_rows(given))


def deployment_text(given: Deployment) -> str:
    """Returns the same as text for a terminal, with what was checked, and the folder."""
    checks = "\n".join(f"{name}: {value}" for name, value in deployment_checks(given).items())
    return f"{_deployment_rows(given).to_string(index=False)}\n\n{checks}\n\n{given.path}"


def deployment_checks(given: Deployment) -> dict[str, str]:
    """Returns what was checked and counted, or why not, by what it is."""
    vectors = f"{given.facts['vectors']} test images"
    checks = {f"{vectors} on this computer": "PASS" if given.facts["vectors_pass_on_host"] else "make or cc is missing"}
    if given.measured is None:
        return {**checks, "on an emulated Cortex-M7": f"not measured: {', '.join(missing_tools())} is missing"}
    ratio = given.measured.portable_instructions / given.measured.instructions
    return {
        **checks,
        f"{vectors} on an emulated Cortex-M7": "PASS",
        "compiler": given.measured.compiler,
        "stack": f"{given.measured.stack_bytes:,} bytes",
        "instructions of one inference (not time)": f"{given.measured.instructions:,}",
        "without the DSP extension": f"{given.measured.portable_instructions:,}, {ratio:.1f} times as many",
    }


def in_step(table: pd.DataFrame) -> Styler:
    """Returns the arena and MACs for numbers of first layers in step; takes what `deploy.in_step` returns."""
    shown = table[["layers_in_step", "last"]].copy()
    shown["arena (KiB)"] = table["arena_bytes"].map(_in_kib)
    shown["MACs"] = table["macs"].map("{:,.0f}".format)
    shown["MACs of two patches"] = table["patch_macs"].map("{:,.0f}".format)
    return styled(shown).relabel_index(["layers in step", "the last", *shown.columns[2:]], axis="columns")


def _deployment_rows(given: Deployment) -> pd.DataFrame:
    rows = given.comparison
    return pd.DataFrame(
        {
            "STM32Cube.AI 7.3.0": rows["figure"].map(costs.FOOTPRINT_LABELS),
            "published (KiB)": rows["published"].map(_in_kib),
            "predicted (KiB)": rows["predicted"].map(_in_kib),
            "C code": rows["c_code"],
            "measured (KiB)": rows["measured"].map(_in_kib),
        }
    )


def _in_kib(size: float | None) -> str:
    return "" if size is None or pd.isna(size) else f"{size / 1024:,.2f}"


def grid(table: pd.DataFrame, fitting: pd.Series) -> Styler:
    """Returns the costs of untrained models, those that fit a budget first, then by RAM; `fitting` says which do."""
    rows = table.assign(fits=fitting.map({True: "yes", False: "no"}))
    rows = rows.sort_values(["fits", "total_ram_bytes"], ascending=[False, True])
    shown = rows[["alpha", "image_size", "color_mode", "fits"]].copy()
    for column, label in (costs.FOOTPRINT_LABELS | costs.LATENCY_LABELS).items():
        scale, unit = _scale(column)
        shown[f"{label} ({unit})"] = (rows[column] / scale).map("{:,.1f}".format)
    return styled(shown)


def published_costs(rows: pd.DataFrame) -> Styler:
    """Returns the published costs with ours beside, inconsistent cells marked; see `costs.beside_published`."""
    labels = costs.FOOTPRINT_LABELS | costs.LATENCY_LABELS
    rows = rows.sort_values(["image_size", "alpha", "color_mode"], ascending=False, kind="stable")
    table = pd.DataFrame(
        {
            "configuration": [f"{row.alpha:g} {row.image_size} px {row.color_mode}" for row in rows.itertuples()],
            "quantity": rows["column"].map(labels),
            "on the page": [_with_unit(*cell) for cell in zip(rows["published"], rows["column"], strict=True)],
            "ours": [_with_unit(*cell) for cell in zip(rows["ours"], rows["column"], strict=True)],
            "difference": rows["difference"],
            "ours from": [f"run {source[-8:]}" if "_" in source else source for source in rows["source"]],
            "note": rows["note"],
        }
    )
    marked = ["background-color: #fbe5d6"] * len(table.columns)
    return _with_notes(styled(table)).apply(lambda row: marked if row["note"] else [""] * len(marked), axis=1)


def _with_notes(style: Styler) -> Styler:
    """Lets the column of notes wrap, at the left, and no other."""
    others = [column for column in style.columns if column != "note"]
    style = style.set_properties(subset=others, **{"white-space": "nowrap"})
    return style.set_properties(subset=["note"], **{"text-align": "left", "min-width": "20em"})


def _with_unit(value: float, column: str) -> str:
    scale, unit = _scale(column)
    return f"{value / scale:,.2f} {unit}"
