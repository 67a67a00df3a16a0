"""The published page, cell by cell: which of our figures belongs to which cell, and its verdict."""

import pandas as pd
import pytest

from mbutils import runs
from mbutils.config import FIRST_EDITION, PLANT_VILLAGE_39, CompareParameters
from mbutils.report import published_page, tables
from mbutils.report.published_page import BETTER, ESTIMATE, MATCHED, NOT_RUN, WORSE

KIB = 1024


def configurations(dataset="tf_flowers", n_classes=5, top1=0.9, **columns):
    """Returns one row of `selection.over_seeds`: 0.25 at 224 px, published on flowers: 83.24 %."""
    row = {"dataset": dataset, "n_classes": n_classes, "alpha": 0.25, "image_size": 224, "color_mode": "rgb"}
    row |= {"variant": "int8_per_channel", "model": "ours", "top1": top1, "n_test": 734, "seeds": 3}
    return pd.DataFrame([{**row, **columns}])


def compared(own):
    """Returns the rows of `published_page.accuracies` that have ours."""
    return published_page.accuracies(own).dropna(subset=["ours"])


@pytest.mark.parametrize(
    ("dataset", "n_classes", "expected"),
    [("tf_flowers", 5, 0.8324), ("food101", 101, 0.3802), (PLANT_VILLAGE_39, 39, 0.8622)],
)
def test_a_published_model_is_compared_with_ours_on_the_same_data(dataset, n_classes, expected):
    row = compared(configurations(dataset, n_classes)).squeeze()
    assert row["published"] == pytest.approx(expected)
    assert row["difference"] == pytest.approx(0.9 - expected)


@pytest.mark.parametrize(
    ("dataset", "n_classes"),
    [
        ("plant_village", 38),
        ("plant_village", 39),
        (PLANT_VILLAGE_39, 38),
        ("folder_plant_village", 39),
        ("folder_tf_flowers", 5),
        ("food101", 100),
    ],
)
def test_other_data_is_never_compared(dataset, n_classes):
    assert compared(configurations(dataset, n_classes)).empty


@pytest.mark.parametrize(
    ("top1", "verdict", "later_verdict"),
    [
        (0.80, WORSE, WORSE),
        (0.83, MATCHED, WORSE),
        (0.90, BETTER, WORSE),
        (0.92, BETTER, MATCHED),
        (0.95, BETTER, BETTER),
    ],
)
def test_an_accuracy_is_matched_where_the_published_one_is_in_its_interval(top1, verdict, later_verdict):
    row = compared(configurations(top1=top1)).squeeze()  # published: 83.24 %, later 92.10 %
    assert (row["verdict"], row["verdict_edition"]) == (verdict, later_verdict)
    assert row["low"] < top1 < row["high"]


def test_a_model_that_was_not_run_gets_the_command_that_runs_it():
    rows = published_page.accuracies(configurations().iloc[:0])
    assert set(rows["verdict_edition"]) == {NOT_RUN} and (rows["note"] != "").all()
    assert rows["verdict"].value_counts().to_dict() == {
        NOT_RUN: 16,
        "": 2,
    }  # Food-101 with alpha 1.0 is in later editions
    html = tables.published_accuracies(rows).to_html()
    assert "params/sweeps/food101.yaml" in html and "nan" not in html


def test_the_first_page_stands_alone_where_it_is_chosen():
    rows = published_page.accuracies(configurations(), FIRST_EDITION)
    assert len(rows) == 16
    html = tables.published_accuracies(rows).to_html()
    assert "edition 1.0" in html and "edition 4.1" not in html
    assert set(published_page.costs(results(), FIRST_EDITION)["edition"]) == {FIRST_EDITION}


def test_the_chosen_edition_stands_next_to_the_first_page():
    html = tables.published_accuracies(published_page.accuracies(configurations(), "4.0")).to_html()
    assert "edition 1.0" in html and "edition 4.0" in html
    table = published_page.costs(results(), "4.0")
    first, chosen = (table[table["edition"] == edition] for edition in (FIRST_EDITION, "4.0"))
    assert first.drop(columns="edition").equals(published_page.costs(results()).drop(columns="edition"))
    cells = chosen[chosen["alpha"] == 0.5].set_index("column")
    assert cells.loc["activation_ram_bytes", "published"] == round(456.67 * KIB)
    assert cells.loc["activation_ram_bytes", "verdict"] == ESTIMATE
    assert cells.loc["weights_flash_bytes", "verdict"] == MATCHED
    assert {"latency_ms_stm32mp135", "latency_ms_stm32mp257"} <= set(chosen["column"])
    assert "edition 4.0" in tables.published_costs(table).to_html()


@pytest.mark.parametrize(
    ("chosen", "sentences"),
    [
        ({}, ["edition 1.0 (STM32Cube.AI 7.3.0) and edition 4.1 (ST Edge AI Core 4.0.0)", "with our C code"]),
        ({"edition": "1.0", "costs_of": "2.1"}, ["edition 1.0 (STM32Cube.AI 7.3.0) of", "with STM32Cube.AI 9.1.0"]),
    ],
)
def test_the_head_of_a_report_says_which_edition_and_whose_costs(chosen, sentences):
    text = tables.editions_sentence(CompareParameters(**chosen), pd.DataFrame({"ours": [None, 0.9]}))
    assert all(sentence in text for sentence in sentences)


def test_the_head_of_a_report_of_other_data_names_no_edition():
    text = tables.editions_sentence(CompareParameters(), pd.DataFrame({"ours": [None, None]}))
    assert text == "Models are chosen by RAM and flash with our C code."


def results(**measured):
    row = {"run_id": "mine", "variant": "int8_per_channel", "alpha": 0.5, "image_size": 224, "color_mode": "rgb"}
    costs = {
        "activation_ram_bytes": 413_984,
        "runtime_ram_bytes": 21_268,
        "total_ram_bytes": 435_252,
        "weights_flash_bytes": 832_116,
        "code_flash_bytes": 90_719,
        "total_flash_bytes": 922_835,
        "latency_ms_stm32h747": 526.9,
        "latency_ms_stm32mp157": 171.4,
    }
    return pd.DataFrame([{**row, "n_classes": 5, **costs, **measured}], columns=runs.RESULT_COLUMNS)


def verdicts(table, column):
    rows = table[(table["alpha"] == 0.5)].set_index("column")
    return rows[column].to_dict()


def test_figures_that_follow_from_rules_are_matched_and_those_that_rest_on_a_fit_are_estimates():
    found = verdicts(published_page.costs(results()), "verdict")
    assert {column for column, verdict in found.items() if verdict == MATCHED} == {
        "activation_ram_bytes",
        "weights_flash_bytes",
    }
    assert set(found.values()) == {MATCHED, ESTIMATE}
    other = results().assign(activation_ram_bytes=500_000, weights_flash_bytes=700_000)
    found = verdicts(published_page.costs(other), "verdict")
    assert (found["activation_ram_bytes"], found["weights_flash_bytes"]) == (WORSE, BETTER)


def test_measured_c_code_is_better_or_worse_part_by_part():
    measured = {
        "measured_ram_bytes": 394 * KIB,
        "measured_stack_bytes": 1 * KIB,
        "measured_flash_bytes": 846 * KIB,
        "measured_code_bytes": 5 * KIB,
    }
    table = published_page.costs(results(**measured))
    rows = table[table["alpha"] == 0.5].set_index("column")
    assert rows.loc["activation_ram_bytes", "measured"] == 393 * KIB
    assert rows.loc["weights_flash_bytes", "measured"] == 841 * KIB
    found = rows["verdict_measured"]
    assert found["total_flash_bytes"] == BETTER and found["weights_flash_bytes"] == WORSE
    assert found["latency_ms_stm32h747"] == NOT_RUN  # instruction counts are not time


def test_code_that_was_not_deployed_is_not_run_here():
    assert set(published_page.costs(results())["verdict_measured"]) == {NOT_RUN}


def test_inconsistent_cells_are_framed_and_explained_once_for_each_model():
    table = published_page.costs(results())
    html = tables.published_costs(table[~table["column"].str.startswith("latency")]).to_html()
    assert html.count("only fit as kB") == 1 and html.count("as above") == 3
    assert "dashed" in html
