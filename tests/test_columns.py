"""How columns are named and how their values are written."""

import math

import pytest

from mbutils.columns import RESULTS, Column, by_name, names, with_table


@pytest.mark.parametrize(
    ("name", "header", "axis"),
    [
        ("total_ram_bytes", "total RAM (bytes)", "total RAM (KiB)"),
        ("latency_ms_stm32h747", "latency on STM32H747 (ms)", "latency on STM32H747 (ms)"),
        ("top1", "top-1 accuracy", "top-1 accuracy"),
        ("macs", "MACs", "MACs"),
    ],
)
def test_headers_have_the_unit_of_the_values_and_axes_the_unit_that_is_shown(name, header, axis):
    assert (by_name[name].header, by_name[name].axis) == (header, axis)


@pytest.mark.parametrize(
    ("name", "value", "text", "with_unit"),
    [
        ("total_ram_bytes", 206_992, "206,992", "202.14 KiB"),
        ("latency_ms_stm32h747", 1526.94, "1,526.9", "1,526.94 ms"),
        ("total_flash_bytes", None, "", ""),
        ("total_flash_bytes", math.nan, "", ""),
    ],
)
def test_numbers_are_written_in_their_own_unit_or_scaled(name, value, text, with_unit):
    assert (by_name[name].text(value), by_name[name].with_unit(value)) == (text, with_unit)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [("top1", 0.83244, "83.24%"), ("drop_from_float", 0.0014, "+0.14%"), ("alpha", 1.0, "1"), ("run_id", "a_1", "a_1")],
)
def test_fractions_are_percent_and_texts_stay_as_they_are(name, value, text):
    assert by_name[name].text(value) == text


def test_names_of_the_results_are_distinct():
    assert len(set(names(RESULTS))) == len(RESULTS)


def test_a_column_without_a_label_is_called_by_its_name():
    assert Column("epochs", unit="s").header == "epochs (s)"


def test_a_table_replaces_only_what_is_between_its_marks():
    text = "a\n<!-- x -->\nold\n<!-- end -->\nb\n<!-- y -->\n<!-- end -->\n"
    assert with_table(text, "x", "new\n") == "a\n<!-- x -->\nnew\n<!-- end -->\nb\n<!-- y -->\n<!-- end -->\n"
