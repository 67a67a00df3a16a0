import numpy as np
import pytest

from mbutils.config import TrainParameters, suited
from mbutils.data import preprocessing
from mbutils.errors import WorkbookError
from mbutils.model import training

N_TRAIN = 1286  # of the digits
PARAMETERS = suited(
    TrainParameters(
        dataset="digits",
        image_size=32,
        color_mode="gray",
        interpolation="bilinear",
        weights="none",
        min_crop_area=0.8,
        epochs=3,
        warmup_epochs=2.0,
        learning_rate=0.01,
        batch_norm_momentum=0.8,
    ),
    N_TRAIN,
)


@pytest.fixture(scope="module")
def history(digits):
    images = preprocessing.cached_images(digits, PARAMETERS.preprocessing)
    network = training.build_model(PARAMETERS, digits)
    return training.fit(network, images, digits, PARAMETERS)


def test_history_has_a_complete_row_for_each_epoch(history):
    assert history["epoch"].tolist() == [1, 2, 3]
    assert not history.isna().any(axis=None)
    assert history["seconds"].is_monotonic_increasing
    assert history["top1"].between(0, 1).all() and history["validation_top1"].between(0, 1).all()


def test_training_lowers_the_loss_and_beats_chance(history):
    assert history["loss"].iloc[-1] < 0.8 * history["loss"].iloc[0]
    assert history["top1"].iloc[-1] > 0.3


@pytest.mark.parametrize(
    ("layer", "weight", "loss"),
    [("classifier", "kernel", "loss"), ("conv1_bn", "moving_variance", "validation loss")],
)
def test_training_stops_at_once_when_its_loss_is_no_longer_a_number(digits, tmp_path, layer, weight, loss):
    checkpoint = tmp_path / "from which it would diverge again"
    checkpoint.touch()
    images = preprocessing.cached_images(digits, PARAMETERS.preprocessing)
    network = training.build_model(PARAMETERS, digits)
    variable = getattr(network.get_layer(layer), weight)
    variable.assign(np.full(variable.shape, np.nan))
    expected = rf"its {loss} is nan in epoch 1: lower learning_rate \(0.01\), or raise warmup_epochs \(2\)"
    with pytest.raises(WorkbookError, match=expected):
        training.fit(network, images, digits, PARAMETERS, checkpoint=checkpoint)
    assert not checkpoint.exists()


def test_logs_for_tensorboard_need_it_installed(digits, tmp_path, monkeypatch):
    monkeypatch.setattr(training.importlib.util, "find_spec", lambda name: None)
    images = preprocessing.cached_images(digits, PARAMETERS.preprocessing)
    with pytest.raises(WorkbookError, match="tensorboard is not installed: pip install tensorboard, or leave"):
        training.fit(training.build_model(PARAMETERS, digits), images, digits, PARAMETERS, logs=tmp_path)


def rates(steps_per_epoch, **parameters):
    parameters = suited(TrainParameters(learning_rate=0.5, **parameters), N_TRAIN)
    steps = parameters.epochs * steps_per_epoch
    return np.array([training.learning_rate(step, parameters, steps_per_epoch) for step in range(steps + 1)])


def test_schedule_has_the_size_and_the_cropping_of_each_step():
    parameters = TrainParameters(epochs=4, image_size=96, early_epochs=2, early_image_size=160, late_epochs=1)
    steps = training.schedule(suited(parameters, N_TRAIN), 2)
    assert steps["image_size"].tolist() == [160] * 4 + [96] * 4
    assert steps["whole"].tolist() == [False] * 6 + [True] * 2


def test_learning_rate_warms_up_and_decays_to_zero():
    rate = rates(5, epochs=10, warmup_epochs=2.0)
    assert rate[0] == 0
    assert rate.argmax() == 10 and rate.max() == pytest.approx(0.5)
    assert rate[30] == pytest.approx(0.25)
    assert rate[50] == pytest.approx(0, abs=1e-6)
    assert (np.diff(rate[:11]) > 0).all() and (np.diff(rate[10:]) < 0).all()


def test_warm_up_as_long_as_the_training_leaves_half_for_the_decay():
    rate = rates(10, epochs=1, warmup_epochs=1.0)
    assert rate.argmax() == 5 and rate.max() == pytest.approx(0.5)
    assert rate[-1] == pytest.approx(0, abs=1e-6)


def test_no_warm_up_starts_at_the_peak():
    assert rates(10, epochs=1, warmup_epochs=0.0)[0] == 0.5


def test_optimizer_follows_the_schedule(history):
    steps_per_epoch = N_TRAIN // PARAMETERS.batch_size
    expected = [training.learning_rate(steps_per_epoch * epoch - 1, PARAMETERS, steps_per_epoch) for epoch in (1, 2, 3)]
    assert history["learning_rate"].tolist() == pytest.approx(expected)


def test_same_seed_gives_the_same_initial_weights_and_another_seed_others(digits):
    def first_kernel(seed):
        parameters = suited(TrainParameters(weights="none", dataset="digits", seed=seed, image_size=32), N_TRAIN)
        return training.build_model(parameters, digits).get_layer("conv1").get_weights()[0]

    assert np.array_equal(first_kernel(1), first_kernel(1))
    assert not np.array_equal(first_kernel(1), first_kernel(2))


def test_validation_before_the_last_epoch_is_by_the_statistics_of_the_present_weights(digits, history, monkeypatch):
    """And the training is the same without it."""
    monkeypatch.setattr(training, "settle", lambda network, batches: None)
    images = preprocessing.cached_images(digits, PARAMETERS.preprocessing)
    network = training.build_model(PARAMETERS, digits)
    unsettled = training.fit(network, images, digits, PARAMETERS)
    columns = ["validation_loss", "validation_top1"]
    assert history.drop(columns=[*columns, "seconds"]).equals(unsettled.drop(columns=[*columns, "seconds"]))
    assert history["validation_loss"].iloc[0] < unsettled["validation_loss"].iloc[0]
    assert history[columns].iloc[-1].equals(unsettled[columns].iloc[-1])
