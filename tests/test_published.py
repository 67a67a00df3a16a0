"""What the loaders of the published tables give."""

import pytest

from mbutils import published


def test_accuracies_of_both_editions_stand_side_by_side():
    table = published.accuracies().set_index(["dataset", "alpha", "image_size", "color_mode", "variant"])
    assert table.loc[("tf_flowers", 0.25, 96, "gray", "int8_per_channel"), "published"] == pytest.approx(0.7275)
    assert table.loc[("tf_flowers", 0.25, 96, "gray", "int8_per_channel"), "published_later"] == pytest.approx(0.7493)
    assert table.xs("food101")["published_later"].isna().all()
    assert len(table) == 16 and table["published"].notna().all()


def test_edition_is_known_by_all_of_its_classes():
    names = published._read("plant_village_39")["class"].tolist()
    assert len(names) == 39
    assert published.edition(names) == published.PLANT_VILLAGE_39
    assert published.edition(names[1:]) == published.edition([*names, "more"]) == published.edition([]) == ""
