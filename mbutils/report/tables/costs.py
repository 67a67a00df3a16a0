"""Tables of RAM, flash and latency: of one model, of its C code, of models that are not trained yet."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from pandas.io.formats.style import Styler

from mbutils.deploy import Deployment, missing_tools
from mbutils.device import costs
from mbutils.device.footprint import Footprint
from mbutils.report.tables.style import in_kib, scale, styled, with_notes

# Which measured figure of the C code stands beside which predicted one.
_MEASURED = {
    "total_ram_bytes": "measured_ram_bytes",
    "code_flash_bytes": "measured_code_bytes",
    "total_flash_bytes": "measured_flash_bytes",
}


def costs_of(model: Footprint, recorded: Mapping[str, Any] | None = None) -> Styler:
    """Returns RAM, flash and latency of a model with the bands of the estimates; blank where a figure is exact.

    Args:
        model: What it is predicted to cost.
        recorded: The facts of the variant in the manifest: if the C code was measured, that stands beside.
    """
    recorded = recorded or {}
    rows = []
    for cost in costs.costs(model):
        divisor, unit = scale(cost.column)
        ends = (f"{cost.low / divisor:,.1f}", f"{cost.high / divisor:,.1f}") if cost.is_estimate else ("", "")
        size = f"{cost.value:,}" if unit == "KiB" else ""
        measured = in_kib(recorded.get(_MEASURED.get(cost.column, "")))
        rows.append((cost.label, f"{cost.value / divisor:,.2f} {unit}", size, *ends, measured, cost.note))
    names = ["", "value", "in bytes", "from", "to", "C code, measured (KiB)", "note"]
    return with_notes(styled(pd.DataFrame(rows, columns=names)))


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


def streaming(table: pd.DataFrame) -> Styler:
    """Returns the arena and MACs for each number of streamed layers; takes what `deploy.streaming` returns."""
    shown = table[["streamed_layers", "last"]].copy()
    shown["arena (KiB)"] = table["arena_bytes"].map(in_kib)
    shown["MACs"] = table["macs"].map("{:,.0f}".format)
    shown["MACs of two patches"] = table["patch_macs"].map("{:,.0f}".format)
    return styled(shown).relabel_index(["streamed layers", "last of them", *shown.columns[2:]], axis="columns")


def _deployment_rows(given: Deployment) -> pd.DataFrame:
    rows = given.comparison
    return pd.DataFrame(
        {
            "STM32Cube.AI 7.3.0": rows["figure"].map(costs.FOOTPRINT_LABELS),
            "published (KiB)": rows["published"].map(in_kib),
            "predicted (KiB)": rows["predicted"].map(in_kib),
            "C code": rows["c_code"],
            "measured (KiB)": rows["measured"].map(in_kib),
        }
    )


def grid(table: pd.DataFrame, fitting: pd.Series) -> Styler:
    """Returns the costs of untrained models, those that fit a budget first, then by RAM; `fitting` says which do."""
    rows = table.assign(fits=fitting.map({True: "yes", False: "no"}))
    rows = rows.sort_values(["fits", "total_ram_bytes"], ascending=[False, True])
    shown = rows[["alpha", "image_size", "color_mode", "fits"]].copy()
    for column, label in (costs.FOOTPRINT_LABELS | costs.LATENCY_LABELS).items():
        divisor, unit = scale(column)
        shown[f"{label} ({unit})"] = (rows[column] / divisor).map("{:,.1f}".format)
    return styled(shown)
