"""The loaders of the published tables: what holds in which edition, and what contradicts the rest."""

import pandas as pd
import pytest

from mbutils.config import EDITIONS, FIRST_EDITION, NEWEST_EDITION, PLANT_VILLAGE_39, PROJECT
from mbutils.data import editions
from mbutils.device import costs, published

LATER = list(EDITIONS)[1:]


def accuracies(edition):
    keys = ["dataset", "alpha", "image_size", "color_mode", "variant"]
    return published.accuracies(edition).set_index(keys).sort_index()


def test_an_edition_stands_next_to_the_first_in_one_row():
    gray = accuracies("2.0").loc[("tf_flowers", 0.25, 96, "gray", "int8_per_channel")]
    assert gray[["published", "published_edition"]].tolist() == pytest.approx([0.7275, 0.7493])
    first = accuracies(FIRST_EDITION)
    assert len(first) == 16 and first["published"].equals(first["published_edition"].rename("published"))


@pytest.mark.parametrize(
    ("dataset", "alpha", "edition", "float32", "int8"),
    [
        ("food101", 0.25, FIRST_EDITION, 0.4158, 0.3802),
        ("food101", 0.25, "3.0", 0.7236, 0.6952),
        ("food101", 0.25, NEWEST_EDITION, 0.7575, 0.7324),
        ("food101", 0.5, NEWEST_EDITION, 0.8206, 0.8064),
        (PLANT_VILLAGE_39, 0.25, NEWEST_EDITION, 0.9995, 0.9982),
        ("tf_flowers", 0.5, NEWEST_EDITION, 0.9510, 0.9441),
    ],
)
def test_what_is_to_be_beaten_is_the_best_training_of_the_newest_edition_that_has_it(
    dataset, alpha, edition, float32, int8
):
    found = accuracies(edition).loc[(dataset, alpha, 224, "rgb"), "published_edition"]
    assert found[["float32", "int8_per_channel"]].tolist() == pytest.approx([float32, int8])


def test_editions_and_their_tools_are_those_of_the_tables():
    pages = published._read("latency")
    pages = pages[pages["board"] == "STM32H747I-DISCO"]
    assert dict(zip(pages["edition"], pages["tool_version"], strict=True)) == EDITIONS
    assert set(published._read("accuracy")["edition"]) | set(published._read("footprint")["edition"]) <= set(EDITIONS)


@pytest.mark.parametrize("edition", EDITIONS)
def test_an_edition_has_the_values_that_it_repeats_from_older_ones(edition):
    table = published.footprint_bytes(edition)
    assert len(published.flowers(table)) == 4
    assert not table.duplicated(published.MODEL).any()
    assert set(table["edition"]) <= set(list(EDITIONS)[: list(EDITIONS).index(edition) + 1])


@pytest.mark.parametrize("edition", sorted(set(published._read("footprint")["edition"])))
def test_corrected_totals_are_the_sums_of_their_parts(edition):
    table = published._corrected("footprint")
    table = table[table["edition"] == edition]
    if edition == FIRST_EDITION:  # whose parts are rounded
        table = published.flowers(table)
    rounded = 1.0 if edition == FIRST_EDITION else 0.04
    for kind, parts in {"ram": ("activation_ram", "runtime_ram"), "flash": ("weights_flash", "code_flash")}.items():
        sums = sum(table[f"{part}_kib"] for part in parts)
        assert (table[f"total_{kind}_kib"] - sums).abs().max() <= rounded


@pytest.mark.parametrize(
    ("edition", "alpha", "classes", "kib"),
    [("3.0", 0.25, 1000, 267.2), ("3.2", 0.5, 1000, 431.07), ("4.0", 0.25, 5, 271.04)],
)
def test_activation_ram_is_what_the_total_implies(edition, alpha, classes, kib):
    table = published.footprint_bytes(edition).set_index(published.MODEL)
    row = table.loc[("mobilenet_v1", alpha, 224, 3, classes)]
    assert row["activation_ram_bytes"] / 1024 == pytest.approx(kib, abs=0.005)
    assert ("activation_ram_bytes" in row["corrected"]) is (edition < "4")


def test_every_correction_changes_a_cell_or_keeps_it_for_a_reason():
    fixes = published._read("corrections")
    for name in fixes["table"].unique():
        reasons = published._corrected(name)["corrected"]
        assert sum(map(len, reasons)) == (fixes["table"] == name).sum()
    assert fixes["note"].str.len().min() > 20


def test_a_time_that_holds_nowhere_is_left_out():
    times = published.latency()
    rows = times[(times["board"] == "STM32MP135F-DK2") & (times["network"] == "mobilenet_v2")]
    rows = rows[(rows["alpha"] == 0.35) & (rows["image_size"] == 224)]
    assert rows.set_index("edition")["ms"].to_dict() == {"3.2": 84.39, "4.0": 81.91}


def test_every_published_network_has_its_counts_once():
    networks = published.networks()
    assert not networks.duplicated(published.MODEL).any()
    for table in (published.latency(), published.footprint_bytes(NEWEST_EDITION)):
        assert table.merge(networks, on=published.MODEL, how="left")["conv_macs"].notna().all()


def test_the_rules_of_7_3_give_the_published_activation_ram_of_every_network_with_a_graph():
    rows = published.footprint_bytes().merge(published.networks(), on=published.MODEL, suffixes=("", "_by_rules"))
    assert len(rows) == 9
    assert rows["activation_ram_bytes_by_rules"].tolist() == pytest.approx(rows["activation_ram_bytes"], rel=0.0003)
    assert rows["weights_flash_bytes_by_rules"].tolist() == pytest.approx(rows["weights_flash_bytes"], rel=0.0001)


@pytest.mark.parametrize("edition", LATER)
def test_notes_of_an_edition_name_its_tool(edition):
    assert EDITIONS[edition] in costs.general_notes(edition)


def test_edition_is_known_by_all_of_its_classes():
    names = pd.read_csv(PROJECT / "mbutils" / "data" / "plant_village_39.csv")["class"].tolist()
    assert len(names) == 39
    assert editions.edition(names) == PLANT_VILLAGE_39
    assert editions.edition(names[1:]) == editions.edition([*names, "more"]) == editions.edition([]) == ""
