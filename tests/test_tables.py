"""Tables as text, as papermill's log and terminals show them."""

import pandas as pd
import pytest

from mbutils.report import tables

CLASSES = pd.DataFrame({"class": ['it\'s "day" <x>', "night"], "top1": [0.5, None]}, index=["a", "bb"])


@pytest.mark.parametrize(
    ("table", "text"),
    [
        (tables.facts({"run": "an_id", "validation top-1": "8.5%"}), "run               an_id\nvalidation top-1  8.5%"),
        (tables.styled(CLASSES), 'class           top-1 accuracy\nit\'s "day" <x>  50.00%\nnight'),
        (
            tables.styled(CLASSES[["top1"]], index=True),
            "    top-1 accuracy\na   50.00%\nbb",
        ),
        (tables.styled(CLASSES[:0]), "class  top-1 accuracy"),
    ],
    ids=["facts", "table", "with its index", "empty"],
)
def test_table_is_readable_as_text(table, text):
    assert repr(table) == text


def test_long_table_is_cut_as_text():
    assert 40 <= len(repr(tables.styled(pd.DataFrame({"n": range(5000)}))).splitlines()) <= 45
