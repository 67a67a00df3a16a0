"""The reference results, and their table in the README."""

import pandas as pd
import pytest

from mbutils import runs
from mbutils.columns import with_table
from mbutils.errors import WorkbookError
from mbutils.report import reference
from mbutils.report.tables import reference as tables
from mbutils.runs import RESULT_COLUMNS


@pytest.mark.parametrize("page", reference.TABLES, ids=lambda page: page.parent.name)
def test_tables_are_made_from_the_reference_results(page):
    text = page.read_text()
    assert with_table(text, reference.MARK, reference.TABLES[page](reference.recorded())) == text


def test_reference_results_have_every_published_flowers_model_in_every_variant():
    results = pd.read_csv(reference.CSV)
    assert set(results.columns) <= set(RESULT_COLUMNS)
    assert set(results["dataset"]) == {"tf_flowers"} and set(results["n_test"]) == {734}
    counts = results.groupby(["alpha", "image_size", "color_mode", "variant"]).size()
    assert len(counts) == 4 * 4 and set(counts) == {results["seed"].nunique()}
    assert not results["git_commit"].str.endswith("-dirty").any()


def test_report_of_the_reference_results_is_small_and_loads_nothing():
    page = reference.CSV.with_suffix(".html").read_text()
    assert len(page) < 3e6
    assert "<script" not in page and 'src="http' not in page and "url(" not in page


def results(*top1):
    row = dict.fromkeys(RESULT_COLUMNS, 1.0) | {"dataset": "tf_flowers", "n_test": 734, "n_classes": 5}
    row |= {"alpha": 0.5, "image_size": 224, "color_mode": "rgb", "configuration": "a", "measured_ram_bytes": 2048}
    row |= {"conversion": "", "recorded_parameters": "{}"}
    rows = [
        row | {"run_id": f"r{seed}", "seed": seed, "variant": variant, "top1": accuracy}
        for seed, accuracy in enumerate(top1)
        for variant in ("float32", "int8_per_channel")
    ]
    return pd.DataFrame(rows, columns=RESULT_COLUMNS)


def cells_of(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_table_shows_means_and_ranges_of_seeds_beside_the_newest_edition():
    header, rule, first, second = tables.beside_published(results(0.94, 0.95, 0.96)).splitlines()
    assert len(cells_of(header)) == len(cells_of(rule)) == 6
    ours = "**95.00%** (94.00 to 96.00)"
    assert cells_of(first)[:4] == ["0.5, 224 px, rgb", "float32", "95.10%", ours]
    assert cells_of(second)[1:5] == ["8 bits", "94.41%", ours, "457.4 KiB, **2.0 KiB**"]


def test_table_shows_weights_of_4_bits_without_published_values():
    rows = results(690 / 734).replace({"variant": {"int8_per_channel": "int4_pointwise"}})
    last = tables.beside_published(rows).splitlines()[-1]
    assert cells_of(last)[1:5] == ["pointwise 4 bits", "", "94.01%", "**2.0 KiB**"]


def test_full_table_shows_what_each_seed_loses():
    rows = results(0.94, 0.95, 0.96)
    is_int8 = rows["variant"] == "int8_per_channel"
    rows.loc[is_int8, "drop_from_float"], rows.loc[is_int8, "p_value"] = [0.0136, -0.0014, 0], [0.5, 0.25, 1]
    _, _, first, second = tables.in_full(rows).splitlines()
    assert cells_of(first)[1:5] == ["float32", "**95.00%** (94.00 to 96.00)", "", ""]
    assert cells_of(second)[3:5] == ["+0.41: +1.36, -0.14, +0.00", "0.50, 0.25, 1.00"]


@pytest.mark.parametrize("table", reference.TABLES.values())
def test_a_model_of_several_recipes_has_no_row(table):
    several = pd.concat([results(0.9), results(0.8).assign(configuration="b")], ignore_index=True)
    with pytest.raises(WorkbookError, match="rgb: several recipes or conversions"):
        table(several)


@pytest.mark.parametrize("table", reference.TABLES.values())
def test_a_model_that_is_not_published_has_no_row(table):
    assert table(results(0.9).assign(alpha=0.35)).count("\n") == 2  # the header and its rule


def test_other_seeds_of_the_same_models_stay():
    kept = results(0.9, 0.8, 0.7)
    table = reference.with_other_seeds(kept[kept["seed"] == 1].assign(top1=0.85), kept)
    assert table.groupby("seed")["top1"].first().tolist() == [0.9, 0.85, 0.7]
    assert len(table) == 6


@pytest.mark.parametrize("other", [{"configuration": "b"}, {"conversion": "b"}, {"variant": "int4_pointwise"}])
def test_seeds_of_other_models_go(other):
    new = results(0.9)
    assert len(reference.with_other_seeds(new, results(0.9, 0.8).assign(**other))) == len(new)


@pytest.fixture
def finished(tmp_path, monkeypatch):
    """A results folder that can be kept, except for what a test changes."""
    monkeypatch.setattr(reference, "CSV", tmp_path / "reference" / "flowers.csv")
    monkeypatch.setattr(runs, "unfinished", lambda folder: pd.DataFrame(columns=["run_id", "missing"]))
    return tmp_path


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (results(), "no evaluated run in .*: run `make flowers` first"),
        (results(0.9).assign(git_commit="abc-dirty"), "uncommitted changes: commit, and run them again"),
    ],
)
def test_only_results_of_a_clean_commit_are_kept(finished, monkeypatch, table, message):
    monkeypatch.setattr(runs, "results_table", lambda folder: table)
    with pytest.raises(WorkbookError, match=message):
        reference.keep(finished)
    assert not reference.CSV.exists()


def test_unfinished_results_are_not_kept(finished, monkeypatch):
    monkeypatch.setattr(runs, "results_table", lambda folder: results(0.9).assign(git_commit="abc"))
    monkeypatch.setattr(runs, "unfinished", lambda folder: pd.DataFrame({"run_id": ["r0"], "missing": ["evaluate"]}))
    with pytest.raises(WorkbookError, match="run r0 is not finished"):
        reference.keep(finished)
