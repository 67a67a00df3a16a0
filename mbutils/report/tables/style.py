"""What all tables share: formats, units, notes, the colours of verdicts."""

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
from pandas.io.formats.style import Styler

from mbutils.report import page

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
# Translucent, so that they are read on a light page and on a dark one.
_VERDICT_COLORS = {
    page.MATCHED: "rgba(1, 115, 178, 0.18)",
    page.BETTER: "rgba(2, 158, 115, 0.25)",
    page.WORSE: "rgba(213, 94, 0, 0.28)",
    page.ESTIMATE: "rgba(128, 128, 128, 0.18)",
}
_LEFT_HEADER = [{"selector": "th", "props": "text-align: left"}]


def format_of(column: str) -> Callable[[Any], str]:
    """Returns how the values of a column are written, `str` where nothing is said of it."""
    return _FORMATS.get(column, str)


def styled(table: pd.DataFrame, index: bool = False, left: Sequence[str] = ()) -> Styler:
    """Returns a table for a notebook, each column in its unit; blank where a value is missing.

    Args:
        table: The table.
        index: Whether the index is shown.
        left: The columns that are aligned at the left.
    """
    formats = {column: _FORMATS[column] for column in table.columns if column in _FORMATS}
    style = table.style.format(formats, na_rep="", escape="html")
    if left:
        style = style.set_properties(subset=list(left), **{"text-align": "left"})
        style = style.set_table_styles(dict.fromkeys(left, _LEFT_HEADER), overwrite=False)
    return style.format_index(escape="html") if index else style.hide(axis="index")


def facts(values: dict[str, Any]) -> Styler:
    """Returns names and values as a table of two columns."""
    table = pd.DataFrame({"": list(values), " ": [str(value) for value in values.values()]})
    return styled(table, left=["", " "])


def with_notes(style: Styler) -> Styler:
    """Lets the column of notes wrap, at the left, and no other."""
    others = [column for column in style.columns if column != "note"]
    style = style.set_properties(subset=others, **{"white-space": "nowrap"})
    style = style.set_properties(subset=["note"], **{"text-align": "left", "min-width": "11em"})
    return style.set_table_styles({"note": _LEFT_HEADER}, overwrite=False)


def with_verdicts(style: Styler, columns: list[str]) -> Styler:
    """Colours cells by the word in them; the word says the same."""
    return style.map(_verdict_style, subset=columns)


def _verdict_style(word: str) -> str:
    return f"background-color: {_VERDICT_COLORS[word]}" if word in _VERDICT_COLORS else ""


def scale(column: str) -> tuple[int, str]:
    """Returns by what to divide the values of a cost column for tables, and their unit then."""
    return (1024, "KiB") if column.endswith("_bytes") else (1, "ms")


def with_unit(value: float, column: str) -> str:
    """Returns a value of a cost column in KiB or ms, blank where it is missing."""
    if pd.isna(value):
        return ""
    divisor, unit = scale(column)
    return f"{value / divisor:,.2f} {unit}"


def in_kib(size: float | None) -> str:
    """Returns bytes in KiB, blank where they are missing."""
    return "" if size is None or pd.isna(size) else f"{size / 1024:,.2f}"
