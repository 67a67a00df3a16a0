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


def used(n_train, **by_hand):
    values = vars(suited(TrainParameters(**by_hand), n_train))
    names = ["batch_norm_statistics", "initial_classifier", "batch_size", "epochs", "learning_rate", "warmup_epochs"]
    return [values[name] for name in [*names, "dropout", "batch_norm_momentum"]]


@pytest.mark.parametrize("n_train", [2642, 100_000])
def test_many_images_keep_the_values_of_the_measured_results(n_train):
    assert used(n_train) == ["batch", "random", 64, 30, 0.004, 2.0, 0.1, 0.99]


@pytest.mark.parametrize("weights", ["imagenet", "trained.keras"])
@pytest.mark.parametrize(("n_train", "epochs"), [(10, 500), (87, 184), (999, 30)])
def test_few_images_adapt_the_features_of_the_start_weights(n_train, epochs, weights):
    assert used(n_train, weights=weights)[:4] == ["frozen", "probe", 16, epochs]


@pytest.mark.parametrize(("n_train", "epochs"), [(10, 100), (120, 50), (100_000, 11)])
def test_network_that_teaches_learns_in_fewer_epochs(n_train, epochs):
    assert suited(TrainParameters(network="efficientnet_lite0"), n_train).epochs == epochs


@pytest.mark.parametrize("n_train", [10, 87, 1080, 2642])
def test_without_start_weights_nothing_is_adapted(n_train):
    assert used(n_train, weights="none")[:2] == ["batch", "random"]


def test_shorter_training_from_scratch_has_more_steps_and_faster_statistics():
    long, short = (suited(TrainParameters(weights="none", epochs=epochs), 1286) for epochs in (30, 3))
    assert (long.batch_size, short.batch_size) == (64, 16)
    assert short.batch_norm_momentum < long.batch_norm_momentum < 0.99


def test_shorter_training_moves_the_features_less():
    rates = [suited(TrainParameters(epochs=epochs), 87).learning_rate for epochs in (1, 20, 184, 400)]
    assert rates == sorted(rates) and rates[-1] == 0.001


@pytest.mark.parametrize("by_hand", [{"epochs": 3}, {"epochs": 1}, {"batch_size": 64}, {"batch_size": 1000}])
@pytest.mark.parametrize("n_train", [2, 60, 2642])
@pytest.mark.parametrize("weights", ["imagenet", "none"])
def test_values_set_by_hand_go_with_those_that_are_suited(by_hand, n_train, weights):
    values = suited(TrainParameters(weights=weights, **by_hand), n_train)
    assert values.warmup_epochs <= values.epochs / 2
    assert 0 < values.learning_rate <= 0.004
