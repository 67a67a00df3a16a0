"""The reference results in git, and the tables made of them.

`make reference` keeps what `make flowers` has measured in `results/reference`: the results table, the report and
pictures. It writes the tables between the marks in README.md and in the README.md of that folder.
"""

import sys
import tempfile
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from sklearn.datasets import load_sample_image

from mbutils import runs
from mbutils.columns import with_table
from mbutils.config import PROJECT
from mbutils.data.photographs import prepared
from mbutils.errors import WorkbookError
from mbutils.report import plots, selection
from mbutils.report.render import render
from mbutils.report.tables import reference as tables

CSV = PROJECT / "results" / "reference" / "flowers.csv"
MARK = "made by `make reference`"
TABLES = {PROJECT / "README.md": tables.beside_published, CSV.parent / "README.md": tables.in_full}
_MODEL = ["configuration", "conversion", "variant"]


def keep(results_dir: Path) -> None:
    """Keeps the table and the report of a results folder in `results/reference`, and updates the tables made of them.

    The report is made without test images: they are not ours to publish. Seeds that the folder lacks, of the same
    configurations and conversions, are kept: they may be run one by one.

    Raises:
        WorkbookError: If the folder has no evaluated run, some of its runs are damaged, unfinished or were made with
            uncommitted changes, or a model was run with several recipes or conversions.
    """
    results = runs.results_table(results_dir)
    if results.empty:
        raise WorkbookError(f"no evaluated run in {results_dir}: run `make flowers` first")
    if damaged := runs.damaged(results_dir):
        raise WorkbookError(next(iter(damaged.values())))
    if len(unfinished := runs.unfinished(results_dir)):
        raise WorkbookError(f"run {unfinished['run_id'].iloc[0]} is not finished: run `make flowers` again")
    if results["git_commit"].str.endswith("-dirty").any():
        raise WorkbookError("some runs were made with uncommitted changes: commit, and run them again")
    kept = with_other_seeds(results, recorded()) if CSV.exists() else results
    pages = {path: with_table(path.read_text(), MARK, make(kept)) for path, make in TABLES.items()}
    CSV.parent.mkdir(parents=True, exist_ok=True)
    kept.to_csv(CSV, index=False)
    _report(results_dir, CSV.with_suffix(".html"))
    for path, text in pages.items():
        path.write_text(text)
    plots.use_style()
    _save(plots.pareto(selection.over_seeds(kept), "measured_flash_bytes"), CSV.with_suffix(".png"))
    _photograph(results_dir, results)


def _report(results_dir: Path, html: Path) -> None:
    import papermill  # and with it Jupyter, which reading the reference does not need

    with tempfile.TemporaryDirectory() as folder:
        executed = Path(folder) / "compare.ipynb"
        parameters = {"results_dir": str(results_dir.resolve()), "test_images": False}
        papermill.execute_notebook(PROJECT / "notebooks" / executed.name, executed, parameters, progress_bar=False)
        render(executed, html)


def _photograph(results_dir: Path, results: pd.DataFrame) -> None:
    """Shows what the colour model of the least RAM and flash sees in a photograph that anyone may publish."""
    from mbutils.runs import classifiers  # and with it TensorFlow

    cheapest_first = results[results["color_mode"] == "rgb"].sort_values(["measured_ram_bytes", "measured_flash_bytes"])
    classifier = classifiers.load(results_dir / "runs" / cheapest_first["run_id"].iloc[0], None, (), "")
    photograph = load_sample_image("flower.jpg")
    seen = prepared(photograph, classifier.contract)
    _save(plots.before_and_after(photograph, seen, "A dahlia", classifier.contract), CSV.parent / "photograph.png")
    _save(plots.scores_by_model(classifier.predict(photograph)), CSV.parent / "scores.png")


def _save(picture: Figure, path: Path) -> None:
    picture.savefig(path, bbox_inches="tight")


def recorded() -> pd.DataFrame:
    """Returns the reference results; columns that they were recorded without are blank."""
    return pd.read_csv(CSV).reindex(columns=runs.RESULT_COLUMNS)


def with_other_seeds(results: pd.DataFrame, kept: pd.DataFrame) -> pd.DataFrame:
    """Returns a results table with those rows of another one that are the same models, trained with other seeds."""
    ours, theirs = (pd.MultiIndex.from_frame(table[_MODEL].fillna("")) for table in (results, kept))
    others = kept[theirs.isin(ours) & ~kept["run_id"].isin(results["run_id"])]
    return pd.concat([results, others], ignore_index=True) if len(others) else results


if __name__ == "__main__":
    try:
        keep(Path(sys.argv[1]))
    except WorkbookError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
