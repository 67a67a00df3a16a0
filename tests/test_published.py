"""The loaders of the published tables."""

import pandas as pd
import pytest

from mbutils.config import PLANT_VILLAGE_39, PROJECT
from mbutils.data import editions
from mbutils.device import published


def test_accuracies_of_both_editions_are_in_one_row():
    table = published.accuracies().set_index(["dataset", "alpha", "image_size", "color_mode", "variant"])
    assert table.loc[("tf_flowers", 0.25, 96, "gray", "int8_per_channel"), "published"] == pytest.approx(0.7275)
    assert table.loc[("tf_flowers", 0.25, 96, "gray", "int8_per_channel"), "published_later"] == pytest.approx(0.7493)
    assert table.xs("food101")["published_later"].isna().all()
    assert len(table) == 16 and table["published"].notna().all()


def test_edition_is_known_by_all_of_its_classes():
    names = pd.read_csv(PROJECT / "mbutils" / "data" / "plant_village_39.csv")["class"].tolist()
    assert len(names) == 39
    assert editions.edition(names) == PLANT_VILLAGE_39
    assert editions.edition(names[1:]) == editions.edition([*names, "more"]) == editions.edition([]) == ""
