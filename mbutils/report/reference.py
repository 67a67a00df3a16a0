"""The reference results in git, and the tables made of them.

`make reference` keeps what `make flowers` has measured in `results/reference`: the results table, the report and
pictures. It writes the tables between the marks in README.md and in the README.md of that folder.
"""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from sklearn.datasets import load_sample_image

from mbutils import runs
from mbutils.columns import by_name, markdown, with_table
from mbutils.config import NEWEST_EDITION, PROJECT
from mbutils.data.photographs import prepared
from mbutils.device import published
from mbutils.errors import WorkbookError
from mbutils.report import plots, selection
from mbutils.report.render import render
from mbutils.runs import FLOAT32

CSV = PROJECT / "results" / "reference" / "flowers.csv"
MARK = "made by `make reference`"
_WEIGHTS = {
    FLOAT32: "float32",
    "int8_per_channel": "8 bits",
    "int8_per_tensor": "8 bits, per tensor",
    "int4_pointwise": "pointwise 4 bits",
}
_SHORT = tuple(name for name in _WEIGHTS if name != "int8_per_tensor")  # in the README
_KEYS = ["alpha", "image_size", "color_mode"]
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
    if CSV.exists():
        results = with_other_seeds(results, recorded())
    pages = {path: with_table(path.read_text(), MARK, make(results)) for path, make in TABLES.items()}
    CSV.parent.mkdir(parents=True, exist_ok=True)
    results.to_csv(CSV, index=False)
    _report(results_dir, CSV.with_suffix(".html"))
    for path, text in pages.items():
        path.write_text(text)
    plots.use_style()
    _save(plots.pareto(selection.over_seeds(results), "measured_flash_bytes"), CSV.with_suffix(".png"))
    _photograph(results_dir, results)


def _report(results_dir: Path, html: Path) -> None:
    import papermill  # and with it Jupyter, which reading the reference does not need

    with tempfile.TemporaryDirectory() as folder:
        executed = Path(folder) / "compare.ipynb"
        parameters = {"results_dir": str(results_dir.resolve()), "test_images": False}
        papermill.execute_notebook(PROJECT / "notebooks" / executed.name, executed, parameters, progress_bar=False)
        render(executed, html)


def _photograph(results_dir: Path, results: pd.DataFrame) -> None:
    """Shows what the smallest colour model of a results folder sees in a photograph that anyone may publish."""
    from mbutils.runs import classifiers  # and with it TensorFlow

    ours = results[results["run_id"].isin(run.run_id for run in runs.all_runs(results_dir))]
    smallest = ours[ours["color_mode"] == "rgb"].sort_values("measured_flash_bytes").iloc[0]
    classifier = classifiers.load(results_dir / "runs" / smallest["run_id"])
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


def beside_published(results: pd.DataFrame) -> str:
    """Returns a results table as Markdown: each published flowers model that was run, and each of its weights.

    Accuracies are means over the seeds, with their range; RAM and flash are totals in KiB, ours those of the C code.

    Raises:
        WorkbookError: If a model was run with several recipes or conversions.
    """
    top1 = published.accuracies().set_index([*_KEYS, "dataset", "variant"])["published_edition"]
    costs = published.flowers(published.footprint_bytes(NEWEST_EDITION)).set_index(_KEYS)
    header = (
        "model",
        "weights",
        f"top-1, edition {NEWEST_EDITION}",
        "top-1, ours",
        f"RAM: edition {NEWEST_EDITION}, ours",
        f"flash: edition {NEWEST_EDITION}, ours",
    )
    rows = []
    for name, ours in _models(results, _SHORT):
        key = tuple(ours[_KEYS])
        theirs = top1.get((*key, "tf_flowers", ours["variant"]))
        sizes = (
            _sizes(costs.loc[key, f"total_{part}_bytes"] if theirs else None, ours[f"measured_{part}_bytes"])
            for part in ("ram", "flash")
        )
        rows.append((name, _WEIGHTS[ours["variant"]], f"{theirs:.2%}" if theirs else "", _accuracy(ours), *sizes))
    return markdown(header, rows)


def in_full(results: pd.DataFrame) -> str:
    """Returns a results table as Markdown: what each kind of weights costs each model in accuracy, and on Cortex-M7.

    Raises:
        WorkbookError: If a model was run with several recipes or conversions.
    """
    header = (
        "model",
        "weights",
        "top-1",
        "drop in points: mean, each seed",
        "p of McNemar's test, each seed",
        "RAM",
        "flash",
        "million instructions",
        "training, min",
    )
    rows = []
    for name, ours in _models(results, tuple(_WEIGHTS)):
        seeds = _seeds_of(ours, results)
        is_float = ours["variant"] == FLOAT32
        drops = "" if is_float else f"{100 * ours['drop_from_float']:+.2f}: {_listed(100 * seeds['drop_from_float'])}"
        p_values = "" if is_float else _listed(seeds["p_value"], ".2f")
        costs = [_sizes(None, ours[f"measured_{part}_bytes"]) for part in ("ram", "flash")]
        millions = ours["measured_instructions"] / 1e6
        costs.append("" if pd.isna(millions) else f"{millions:.2f}")
        minutes = f"{ours['train_seconds'] / 60:.0f}" if is_float else ""
        rows.append((name, _WEIGHTS[ours["variant"]], _accuracy(ours), drops, p_values, *costs, minutes))
    return markdown(header, rows)


TABLES = {PROJECT / "README.md": beside_published, CSV.parent / "README.md": in_full}


def _models(results: pd.DataFrame, variants: tuple[str, ...]) -> Iterator[tuple[str, pd.Series]]:
    """Yields the name and the row, averaged over the seeds, of each published model and each of these variants."""
    known = published.flowers(published.footprint_bytes(NEWEST_EDITION)).set_index(_KEYS).index
    for key, own in selection.over_seeds(results).groupby(_KEYS):
        own, name = own.set_index("variant", drop=False), "{:g}, {} px, {}".format(*key)
        if own.index.has_duplicates:
            raise WorkbookError(f"{name}: several recipes or conversions: run each model with one")
        if key in known:
            yield from ((name, own.loc[variant]) for variant in variants if variant in own.index)


def _seeds_of(averaged: pd.Series, results: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows of each seed that a row was averaged from."""
    same = results[["configuration", "variant"]] == averaged[["configuration", "variant"]].astype(object)
    return results[same.all(axis=1)].sort_values("seed")


def _listed(values: pd.Series, form: str = "+.2f") -> str:
    return ", ".join(format(value, form) for value in values)


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
