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
from mbutils.config import NEWEST_EDITION, PROJECT
from mbutils.device import published
from mbutils.errors import WorkbookError
from mbutils.report import selection
from mbutils.runs import FLOAT32

CSV = PROJECT / "results" / "reference" / "flowers.csv"
MARK = "made by `make reference`"
_WEIGHTS = {FLOAT32: "float32", "int8_per_channel": "8 bits", "int4_pointwise": "pointwise 4 bits"}
_COLUMNS = (
    "model",
    "weights",
    f"top-1, edition {NEWEST_EDITION}",
    "top-1, ours",
    f"RAM: edition {NEWEST_EDITION}, ours",
    f"flash: edition {NEWEST_EDITION}, ours",
)
_KEYS = ["alpha", "image_size", "color_mode"]


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
    """Returns a results table as Markdown: each published flowers model that was run, and each of its weights.

    Accuracies are means over the seeds, with their range; RAM and flash are totals in KiB, ours those of the C code.

    Raises:
        WorkbookError: If a model was run with several recipes or conversions.
    """
    configurations = selection.over_seeds(results)
    top1 = published.accuracies().set_index([*_KEYS, "dataset", "variant"])["published_edition"]
    costs = published.flowers(published.footprint_bytes(NEWEST_EDITION)).set_index(_KEYS)
    rows = []
    for key, own in configurations.groupby(_KEYS):
        own, name = own.set_index("variant"), "{:g}, {} px, {}".format(*key)
        if own.index.has_duplicates:
            raise WorkbookError(f"{name}: several recipes or conversions: run each model with one")
        for variant in filter(own.index.__contains__, _WEIGHTS):
            ours, theirs = own.loc[variant], top1.get((*key, "tf_flowers", variant))
            sizes = (
                _sizes(costs.loc[key, f"total_{part}_bytes"] if theirs else None, ours[f"measured_{part}_bytes"])
                for part in ("ram", "flash")
            )
            rows.append((name, _WEIGHTS[variant], f"{theirs:.2%}" if theirs else "", _accuracy(ours), *sizes))
    return markdown(_COLUMNS, rows)


def _accuracy(row: pd.Series) -> str:
    if row["seeds"] == 1:
        return f"{row['top1']:.2%}"
    return f"**{row['top1']:.2%}** ({100 * row['top1_low']:.2f} to {100 * row['top1_high']:.2f})"


def _sizes(theirs: float | None, ours: float) -> str:
    if pd.isna(ours):
        return ""
    sizes = [by_name["total_ram_bytes"].with_unit(size, 1) for size in (theirs, ours) if size is not None]
    return ", ".join([*sizes[:-1], f"**{sizes[-1]}**"])


if __name__ == "__main__":
    try:
        keep(Path(sys.argv[1]))
    except WorkbookError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
