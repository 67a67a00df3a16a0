"""The images and classes that the published accuracies were measured on."""

from collections.abc import Collection
from pathlib import Path

import pandas as pd

from mbutils.config import PLANT_VILLAGE_39

_HERE = Path(__file__).parent


def flowers_test_images() -> pd.DataFrame:
    """Returns label and md5 of the encoded bytes of the 734 test images behind the published flowers accuracies."""
    return pd.read_csv(_HERE / "tf_flowers_test.csv")


def edition(class_names: Collection[str]) -> str:
    """Returns the name of the published dataset with exactly these classes, "" if there is none."""
    published = pd.read_csv(_HERE / "plant_village_39.csv")["class"]
    return PLANT_VILLAGE_39 if set(class_names) == set(published) else ""
