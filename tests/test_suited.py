"""Parameters left at None get values that suit the data."""

import pytest

from mbutils.config import PrepareParameters, TrainParameters, reasons, suited


def test_every_parameter_that_is_none_gets_a_value():
    assert None not in vars(suited(TrainParameters(), 100)).values()
    assert None not in vars(suited(PrepareParameters(), 100)).values()


def test_values_set_by_hand_stay():
    by_hand = {"batch_size": 7, "epochs": 3, "learning_rate": 0.5, "dropout": 0.0, "horizontal_flip": False}
    used = vars(suited(TrainParameters(**by_hand), 100))
    assert {name: used[name] for name in by_hand} == by_hand


def test_suiting_twice_changes_nothing():
    once = suited(TrainParameters(), 100)
    assert suited(once, 100_000) == once


def test_each_value_has_a_reason():
    table = reasons(TrainParameters(batch_size=7), 100).set_index("parameter")
    assert table.loc["batch_size"].tolist() == ["7", "set by hand"]
    assert table.loc["epochs", "value"] == str(suited(TrainParameters(batch_size=7), 100).epochs)
    assert table["reason"].str.len().min() > 10


@pytest.mark.parametrize(("dataset", "flipped"), [("digits", False), ("tf_flowers", True)])
def test_photographs_are_mirrored_and_digits_are_not(dataset, flipped):
    assert suited(PrepareParameters(dataset=dataset), 100).horizontal_flip is flipped
