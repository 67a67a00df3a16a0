"""The reference results in git, and their table in the README.

`make reference` keeps what `make flowers` has measured: `results/reference/flowers.csv`, its report, and the table
between the marks in README.md.
"""

import shutil
import sys
from pathlib import Path

import pandas as pd

from mbutils import runs
from mbutils.columns import by_name, markdown, with_table
from mbutils.config import PROJECT
from mbutils.errors import WorkbookError
from mbutils.report import published_page, selection
from mbutils.runs import FLOAT32

CSV = PROJECT / "results" / "reference" / "flowers.csv"
MARK = "made by `make reference`"
_VARIANTS = (FLOAT32, "int8_per_channel", "int8_per_tensor")
_COLUMNS = (
    "model",
    "published float / int8",
    "float32",
    "int8 per channel",
    "int8 per tensor",
    "RAM, published",
    "RAM, our C code",
    "flash, published",
    "flash, our C code",
    "STM32H747",
)


def keep(results_dir: Path) -> None:
    """Copies the table and the report of a results folder to `results/reference`, and updates the table in the README.

    Raises:
        WorkbookError: If the folder has no report, some of its runs are damaged, unfinished or were made with
            uncommitted changes, or a model was run with several recipes or conversions.
    """
    results = runs.results_table(results_dir)
    report = results_dir / "report.html"
    if results.empty or not report.exists():
        raise WorkbookError(f"no report in {results_dir}: run `make flowers` first")
    if damaged := runs.damaged(results_dir):
        raise WorkbookError(next(iter(damaged.values())))
    if len(unfinished := runs.unfinished(results_dir)):
        raise WorkbookError(f"run {unfinished['run_id'].iloc[0]} is not finished: run `make flowers` again")
    if results["git_commit"].str.endswith("-dirty").any():
        raise WorkbookError("some runs were made with uncommitted changes: commit, and run them again")
    readme = PROJECT / "README.md"
    text = with_table(readme.read_text(), MARK, table(results))
    CSV.parent.mkdir(parents=True, exist_ok=True)
    results.to_csv(CSV, index=False)
    shutil.copy(report, CSV.with_suffix(".html"))
    readme.write_text(text)


def table(results: pd.DataFrame) -> str:
    """Returns a results table as Markdown, one row for each published flowers model that was run.

    Accuracies are means over the seeds, with their range; RAM and flash are in KiB; the latency is an estimate.

    Raises:
        WorkbookError: If a model was run with several recipes or conversions.
    """
    configurations = selection.over_seeds(results)
    accuracies = published_page.accuracies(configurations).dropna(subset=["ours"])
    costs = published_page.costs(results)
    keys = ["alpha", "image_size", "color_mode"]
    rows = []
    for key, published in accuracies.groupby(keys):
        own = configurations[(configurations[keys] == list(key)).all(axis=1)].set_index("variant")
        if own.index.has_duplicates:
            raise WorkbookError("{:g}, {} px, {}: several recipes or conversions: run each model with one".format(*key))
        sizes = costs[(costs[keys] == list(key)).all(axis=1)].set_index("column")
        cells = (
            "{:g}, {} px, {}".format(*key),
            " / ".join(f"{value:.2%}" for value in published.set_index("variant")["published"][list(_VARIANTS[:2])]),
            *(_accuracy(own.loc[variant]) if variant in own.index else "" for variant in _VARIANTS),
            *(
                by_name[column].with_unit(sizes.loc[column, name], 1)
                for column in ("total_ram_bytes", "total_flash_bytes")
                for name in ("published", "measured")
            ),
            by_name["latency_ms_stm32h747"].with_unit(sizes.loc["latency_ms_stm32h747", "ours"], 0),
        )
        rows.append(cells)
    return markdown(_COLUMNS, rows)


def _accuracy(row: pd.Series) -> str:
    if row["seeds"] == 1:
        return f"{row['top1']:.2%}"
    return f"**{row['top1']:.2%}** ({100 * row['top1_low']:.2f} to {100 * row['top1_high']:.2f})"


if __name__ == "__main__":
    try:
        keep(Path(sys.argv[1]))
    except WorkbookError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
