"""What all tables share: headers, number formats, notes, the colours of verdicts."""

import sys
from collections.abc import Sequence
from html import unescape
from typing import Any

import pandas as pd
from pandas.io.formats.style import Styler

from mbutils.columns import aligned, by_name
from mbutils.report import published_page

# Translucent, so that text stays readable on a light page and on a dark one.
_VERDICT_COLORS = {
    published_page.MATCHED: "rgba(1, 115, 178, 0.18)",
    published_page.BETTER: "rgba(2, 158, 115, 0.25)",
    published_page.WORSE: "rgba(213, 94, 0, 0.28)",
    published_page.ESTIMATE: "rgba(128, 128, 128, 0.18)",
}
_LEFT_HEADER = [{"selector": "th", "props": "text-align: left"}]
_MOST_LINES = 40  # of a table as text


class _Table(Styler):
    """A table that is readable as text too, where no HTML is shown: in the log of papermill, and in a terminal."""

    def __repr__(self) -> str:
        lines = unescape(self.to_string(delimiter="\t", max_rows=_MOST_LINES)).splitlines()
        rows = [line.split("\t") for line in lines if line.strip()]
        return "\n".join(aligned(rows, width=sys.maxsize))


def styled(table: pd.DataFrame, index: bool = False, left: Sequence[str] = ()) -> Styler:
    """Returns a table for a notebook; known columns get their header and number format from `mbutils.columns`.

    Args:
        table: The table. Missing values are shown as blanks.
        index: Whether the index is shown.
        left: The columns that are aligned at the left.
    """
    known = {column: by_name[column].text for column in table.columns if column in by_name}
    # The name of the index is that of its column of the table, not a row of its own.
    style = _Table(table.rename_axis(index=None, columns=table.index.name))
    style = style.format(thousands=",", na_rep="", escape="html").format(known, na_rep="", escape="html")
    style = style.relabel_index([header(column) for column in table.columns], axis="columns")
    if left:
        style = style.set_properties(subset=list(left), **{"text-align": "left"})
        style = style.set_table_styles(dict.fromkeys(left, _LEFT_HEADER), overwrite=False)
    return style.format_index(escape="html") if index else style.hide(axis="index")


def header(column: str) -> str:
    """Returns the header of a column: that of `mbutils.columns`, or its name."""
    return by_name[column].header if column in by_name else column


def facts(values: dict[str, Any]) -> Styler:
    """Returns names and values as a table of two columns."""
    table = pd.DataFrame({"": list(values), " ": [str(value) for value in values.values()]})
    return styled(table, left=["", " "])


def with_notes(style: Styler) -> Styler:
    """Lets the column of notes wrap, aligned at the left, and no other."""
    others = [column for column in style.columns if column != "note"]
    style = style.set_properties(subset=others, **{"white-space": "nowrap"})
    style = style.set_properties(subset=["note"], **{"text-align": "left", "min-width": "11em"})
    return style.set_table_styles({"note": _LEFT_HEADER}, overwrite=False)


def with_verdicts(style: Styler, columns: list[str]) -> Styler:
    """Colours cells by the verdict in them. The word alone is enough to read them."""
    return style.map(_verdict_style, subset=columns)


def _verdict_style(verdict: str) -> str:
    return f"background-color: {_VERDICT_COLORS[verdict]}" if verdict in _VERDICT_COLORS else ""
