"""Tables of RAM, flash and latency: of one model, of its C code, of models before training."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from pandas.io.formats.style import Styler

from mbutils.columns import by_name
from mbutils.config import EDITIONS
from mbutils.deploy import Deployment, figures, missing_tools
from mbutils.device import costs, latency
from mbutils.device.footprint import Footprint
from mbutils.report.tables.style import styled, with_notes
from mbutils.tflite.graph import Op

# Which measured figure of the C code belongs to which predicted one.
_MEASURED = {
    "total_ram_bytes": "measured_ram_bytes",
    "code_flash_bytes": "measured_code_bytes",
    "total_flash_bytes": "measured_flash_bytes",
}
_MEASURED_HEADER = "C code, measured (KiB)"
_in_kib = by_name["bytes"].scaled


def costs_of(model: Footprint, recorded: Mapping[str, Any] | None = None) -> Styler:
    """Returns RAM, flash and latency of a model with the bands of the estimates; blank where a figure is exact.

    Args:
        model: What it is predicted to cost.
        recorded: The facts of the variant in the manifest, which hold the measurements of its C code, if any.
    """
    rows = [_cost_row(cost, recorded or {}) for cost in costs.costs(model)]
    table = pd.DataFrame(rows, columns=["", "value", "from", "to", _MEASURED_HEADER, "note"])
    return with_notes(styled(table if table[_MEASURED_HEADER].any() else table.drop(columns=_MEASURED_HEADER)))


def _cost_row(cost: costs.Cost, recorded: Mapping[str, Any]) -> tuple[str, ...]:
    column = by_name[cost.column]
    ends = column.scaled(cost.low, 1), column.scaled(cost.high, 1)
    measured = _in_kib(recorded.get(_MEASURED.get(cost.column, "")))
    return (costs.label(cost.column), column.with_unit(cost.value), *ends, measured, cost.note)


def layers(model: Footprint) -> Styler:
    """Returns MACs, size of weights and size of activations of each op; the op with most bytes in use is bold."""
    sizes = [by_name[name].axis for name in ("weight_bytes", "activation_bytes", "live_bytes")]
    columns = ["", "layer", "op", "output", "macs", *sizes]
    rows = [
        (op.index, op.name, op.code, _shape(op), op.macs, *map(_in_kib, (op.weight_bytes, op.activation_bytes, live)))
        for op, live in zip(model.ops, model.live_bytes, strict=True)
    ]
    at_peak = ["font-weight: bold"] * len(columns)
    return styled(pd.DataFrame(rows, columns=columns), left=["layer", "op"]).apply(
        lambda row: at_peak if row[""] == model.peak_op else [""] * len(columns), axis=1
    )


def _shape(op: Op) -> str:
    return " x ".join(map(str, op.outputs[0].shape[1:]))


def deployment(deployed: Deployment) -> Styler:
    """Returns RAM and flash of the C code, measured, next to those of the vendor's first and newest tool, in KiB."""
    return styled(_deployment_rows(deployed))


def deployment_text(deployed: Deployment) -> str:
    """Returns the same as text for a terminal, with the checks and the folder."""
    checks = "\n".join(f"{name}: {value}" for name, value in deployment_checks(deployed).items())
    return f"{_deployment_rows(deployed).to_string(index=False)}\n\n{checks}\n\n{deployed.path}"


def deployment_checks(deployed: Deployment) -> dict[str, str]:
    """Returns what was checked and counted, or why it was not."""
    vectors = f"{deployed.facts['vectors']} test images"
    passed = deployed.facts["vectors_pass_on_host"]
    checks = {f"{vectors} on this computer": "PASS" if passed else "make or cc is missing", **_left_out(deployed)}
    if deployed.network.is_packed:
        checks["weights of 4 bits"] = "predicted with 8 bits, which STM32Cube.AI gives them on Cortex-M"
    if deployed.measured is None:
        return {**checks, "on an emulated Cortex-M7": f"not measured: {', '.join(missing_tools())} is missing"}
    ratio = deployed.measured.portable_instructions / deployed.measured.instructions
    return {
        **checks,
        f"{vectors} on an emulated Cortex-M7": "PASS",
        "compiler": deployed.measured.compiler,
        "stack": f"{deployed.measured.stack_bytes:,} bytes",
        "instructions of one inference (not time)": f"{deployed.measured.instructions:,}",
        "without the DSP extension": f"{deployed.measured.portable_instructions:,}, {ratio:.1f} times as many",
    }


def _left_out(deployed: Deployment) -> dict[str, str]:
    """Returns how many channels the code does without, and what that saves; nothing if it has all."""
    model, alive = deployed.predicted, deployed.predicted.alive
    if not alive:
        return {}
    weights = (_in_kib(size.weights_flash_bytes) for size in (alive, model))
    return {
        "channels left out, the same for every image": f"{model.constant_channels:,}",
        "weights and biases (KiB)": " instead of ".join(weights),
        "MACs": f"{alive.macs:,} instead of {model.macs:,}",
    }


def streaming(table: pd.DataFrame) -> Styler:
    """Returns the arena and MACs for each number of streamed layers; takes what `deploy.streaming` returns."""
    shown = table.rename(columns={"streamed_layers": "streamed layers", "last": "last of them"})
    shown.insert(2, by_name["arena_bytes"].axis, shown.pop("arena_bytes").map(_in_kib))
    return styled(shown)


def _deployment_rows(deployed: Deployment) -> pd.DataFrame:
    rows = deployed.comparison
    table = pd.DataFrame(
        {
            "KiB": [by_name[column].label for column in rows["figure"]],
            "C code": rows["c_code"],
            "measured": rows["measured"].map(_in_kib),
        }
    )
    for edition in figures.COMPARED:
        for what in ("published", "predicted"):
            table[f"{EDITIONS[edition]}, {what}"] = rows[f"{what}_{edition}"].map(_in_kib)
    return table.loc[:, (table != "").any()]  # nothing is published for own data


def grid(table: pd.DataFrame, fitting: pd.Series) -> Styler:
    """Returns costs before training, models that fit a budget first, then by total RAM.

    Args:
        table: What `before_training.grid` returns.
        fitting: What `selection.fits` returns.
    """
    rows = table.assign(fits=fitting.map({True: "yes", False: "no"}))
    rows = rows.sort_values(["fits", "total_ram_bytes"], ascending=[False, True])
    shown = rows[["alpha", "image_size", "color_mode", "fits"]].copy()
    times = [board.column for board in latency.BOARDS.values() if board.column in rows]
    for column in (*costs.FOOTPRINT_COLUMNS, *times):
        shown[by_name[column].axis] = [by_name[column].scaled(value, 1) for value in rows[column]]
    return styled(shown)
