"""How tables look: a DataFrame in, a pandas Styler or text out."""

from typing import Any

import pandas as pd
from pandas.io.formats.style import Styler

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
    "precision": _PERCENT,
    "recall": _PERCENT,
    "alpha": "{:g}".format,
    "tflite_bytes": "{:,.0f}".format,
    "bytes": "{:,.0f}".format,
    "macs": "{:,.0f}".format,
    "parameters": "{:,.0f}".format,
    "param_count": "{:,.0f}".format,
    "train_seconds": "{:.0f}".format,
    "p_value": "{:.3f}".format,
}
_RESULT_COLUMNS = {
    "dataset": "dataset",
    "alpha": "alpha",
    "image_size": "size",
    "color_mode": "colour",
    "seed": "seed",
    "variant": "variant",
    "top1": "top-1",
    "top1_low": "95 % low",
    "top1_high": "95 % high",
    "drop_from_float": "drop",
    "tflite_bytes": ".tflite bytes",
    "macs": "MACs",
    "train_seconds": "train s",
}


def styled(table: pd.DataFrame, index: bool = False) -> Styler:
    """Returns a table for a notebook, each column in its unit; blank where a value is missing."""
    formats = {column: _FORMATS[column] for column in table.columns if column in _FORMATS}
    style = table.style.format(formats, na_rep="")
    return style if index else style.hide(axis="index")


def facts(values: dict[str, Any]) -> Styler:
    """Returns names and values as a table of two columns."""
    return styled(pd.DataFrame({"": list(values), "value": [str(value) for value in values.values()]}))


def results(table: pd.DataFrame) -> Styler:
    """Returns the results table with the columns that one compares runs by."""
    return styled(table[list(_RESULT_COLUMNS)]).relabel_index(list(_RESULT_COLUMNS.values()), axis="columns")


def published(rows: pd.DataFrame) -> Styler:
    """Returns our accuracies beside the published ones; takes what `published.accuracy_beside` returns."""
    columns = ["dataset", "alpha", "image_size", "color_mode", "variant", "top1", "top1_low", "top1_high"]
    return styled(rows[[*columns, "published", "difference", "published_later"]])


def results_text(table: pd.DataFrame) -> str:
    """Returns the same table as text for a terminal."""
    shown = table[list(_RESULT_COLUMNS)]
    text = shown.apply(
        lambda column: column.map(lambda value: "" if pd.isna(value) else _FORMATS.get(column.name, str)(value))
    )
    return text.rename(columns=_RESULT_COLUMNS).to_string(index=False)
