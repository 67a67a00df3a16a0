"""Which accuracies are set beside the published ones, and which never."""

import pandas as pd
import pytest

from mbutils import published


def results(dataset, n_classes, **columns):
    row = {"dataset": dataset, "n_classes": n_classes, "alpha": 0.25, "image_size": 224, "color_mode": "rgb"}
    return pd.DataFrame([{**row, "variant": "int8_per_channel", "top1": 0.9, **columns}])


@pytest.mark.parametrize(
    ("dataset", "n_classes", "expected"),
    [("tf_flowers", 5, 0.8324), ("food101", 101, 0.3802), (published.PLANT_VILLAGE_39, 39, 0.8622)],
)
def test_published_configurations_are_set_beside_theirs(dataset, n_classes, expected):
    beside = published.accuracy_beside(results(dataset, n_classes))
    assert beside["published"].tolist() == [pytest.approx(expected)]
    assert beside["difference"].tolist() == [pytest.approx(0.9 - expected)]
    assert ("734" in beside["test_images"].item()) == (dataset == "tf_flowers")


@pytest.mark.parametrize(
    ("dataset", "n_classes"),
    [
        ("plant_village", 38),
        ("plant_village", 39),
        (published.PLANT_VILLAGE_39, 38),
        ("folder_plant_village", 39),
        ("folder_tf_flowers", 5),
        ("food101", 100),
    ],
)
def test_other_data_is_never_compared(dataset, n_classes):
    assert published.accuracy_beside(results(dataset, n_classes)).empty


def test_edition_is_known_by_all_of_its_classes():
    names = published._read("plant_village_39")["class"].tolist()
    assert len(names) == 39
    assert published.edition(names) == published.PLANT_VILLAGE_39
    assert published.edition(names[1:]) == published.edition([*names, "more"]) == published.edition([]) == ""
