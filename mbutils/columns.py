"""The columns of every table, from `columns.csv`: name, label, unit, format and meaning.

The names in `results.csv`, the data dictionary in `results/README.md`, headers of tables, labels of axes, names of
limits in sentences, and how numbers are written: all come from here. `python -m mbutils.columns` writes the dictionary.
"""

import csv
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, zip_longest
from pathlib import Path
from typing import Any

KIB = 1024
_FORMATS = {"bytes": ",.0f", "fraction": ".2%", "ms": ",.1f", "s": ".0f"}  # by unit
_END = "<!-- end -->\n"


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        name: Its name in the file or DataFrame.
        label: What headers, axes and sentences call it, without a unit.
        unit: The unit of its values; fractions are shown as percent, and bytes, where they are scaled, as KiB.
        format: How a value is written in its own unit, a format specification; by default that of the unit.
        meaning: What it is and how it is computed, for the data dictionary; Markdown.
    """

    name: str
    label: str = ""
    unit: str = ""
    format: str = ""
    meaning: str = ""

    @property
    def header(self) -> str:
        """The label with the unit of the values, such as "total RAM (bytes)"."""
        return self._labelled("" if self.unit == "fraction" else self.unit)

    @property
    def axis(self) -> str:
        """The label with the unit that scaled values are shown in, such as "total RAM (KiB)"."""
        return self._labelled(self._scaled_unit)

    @property
    def scale(self) -> int:
        """By what values are divided to be shown scaled: 1024 for bytes, 1 for all others."""
        return KIB if self.unit == "bytes" else 1

    def text(self, value: Any) -> str:  # noqa: ANN401
        """Returns a value in its own unit, such as "206,992"; blank where it is missing."""
        return "" if _is_missing(value) else format(value, self.format or _FORMATS.get(self.unit, ""))

    def scaled(self, value: float | None, digits: int = 2) -> str:
        """Returns a number scaled, such as "202.14"; blank where it is missing."""
        return "" if _is_missing(value) else f"{value / self.scale:,.{digits}f}"

    def with_unit(self, value: float | None, digits: int = 2) -> str:
        """Returns a number scaled, with its unit, such as "202.14 KiB"; blank where it is missing."""
        return "" if _is_missing(value) else f"{self.scaled(value, digits)} {self._scaled_unit}"

    @property
    def _scaled_unit(self) -> str:
        return {"bytes": "KiB", "fraction": ""}.get(self.unit, self.unit)

    def _labelled(self, unit: str) -> str:
        label = self.label or self.name
        return f"{label} ({unit})" if unit else label


def _is_missing(value: Any) -> bool:  # noqa: ANN401
    return value is None or value != value


def _read(file: str) -> tuple[Column, ...]:
    """Returns the columns of a file of results, or those of tables in notebooks only where `file` is empty."""
    with (Path(__file__).parent / "columns.csv").open(newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if row.pop("file") == file]
    return tuple(Column(**row) for row in rows)


RESULTS, BENCH, BENCH_SWEEPS = map(_read, ("results", "bench", "bench_sweeps"))
by_name: Mapping[str, Column] = {column.name: column for column in (*RESULTS, *_read(""))}


def names(columns: Iterable[Column]) -> tuple[str, ...]:
    """Returns the names of columns."""
    return tuple(column.name for column in columns)


def dictionary(columns: Iterable[Column]) -> str:
    """Returns the meaning of columns as a Markdown table."""
    return markdown(
        ("column", "unit", "what it is, and how it is computed"),
        ((f"`{column.name}`", column.unit, column.meaning) for column in columns),
    )


def markdown(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Returns a Markdown table."""
    head, *body = (f"| {' | '.join(cells)} |\n" for cells in (header, *rows))
    return head + "|" + "---|" * (head.count("|") - 1) + "\n" + "".join(body)


def terminal_width() -> int:
    """Returns how many characters a line of standard output may have: any number where it is no terminal."""
    return shutil.get_terminal_size(fallback=(10_000, 0)).columns


def aligned(rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Returns rows of cells as lines in columns, no wider than `width`: later columns that do not fit are left out."""
    gap = "  "
    widths = [max(map(len, column)) for column in zip_longest(*rows, fillvalue="")]
    ends = accumulate(len(gap) + wide for wide in widths)
    fitting = max(1, sum(end - len(gap) <= width for end in ends))
    return [gap.join(map(str.ljust, row, widths[:fitting])).rstrip() for row in rows]


def with_table(text: str, mark: str, table: str) -> str:
    """Returns a text with a table put between the line `mark`, a comment, and the next end mark."""
    before, rest = text.split(f"<!-- {mark} -->\n")
    _, after = rest.split(_END, 1)
    return f"{before}<!-- {mark} -->\n{table}{_END}{after}"


def with_dictionaries(text: str) -> str:
    """Returns the text of `results/README.md` with the data dictionaries of all files."""
    for file, columns in (("results", RESULTS), ("bench", BENCH), ("bench_sweeps", BENCH_SWEEPS)):
        text = with_table(text, f"columns of {file}.csv, made by `make format`", dictionary(columns))
    return text


if __name__ == "__main__":
    readme = Path("results/README.md")
    readme.write_text(with_dictionaries(readme.read_text()))
