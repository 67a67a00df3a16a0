import numpy as np
import pytest

from mbutils import pipeline, training
from mbutils.config import TrainParameters

PARAMETERS = TrainParameters(
    dataset="digits",
    image_size=32,
    color_mode="gray",
    interpolation="bilinear",
    weights="none",
    horizontal_flip=False,
    min_crop_area=0.8,
    epochs=3,
    learning_rate=0.01,
    batch_norm_momentum=0.8,
)


@pytest.fixture(scope="module")
def trained(digits):
    images = pipeline.cached_images(digits, PARAMETERS.preprocessing)
    network = training.build_model(PARAMETERS, digits)
    seen = []
    history = training.fit(network, images, digits, PARAMETERS, on_epoch=lambda record: seen.append(len(record)))
    return network, history, seen


def test_history_has_a_row_for_each_epoch_with_every_figure(trained):
    _, history, seen = trained
    assert history["epoch"].tolist() == seen == [1, 2, 3]
    assert not history.isna().any(axis=None)
    assert history["seconds"].is_monotonic_increasing
    assert history["top1"].between(0, 1).all() and history["validation_top1"].between(0, 1).all()


def test_training_lowers_the_loss_and_beats_chance(trained):
    _, history, _ = trained
    assert history["loss"].iloc[-1] < 0.8 * history["loss"].iloc[0]
    assert history["top1"].iloc[-1] > 0.3


def test_learning_rate_warms_up_and_decays_to_zero():
    parameters = TrainParameters(epochs=10, warmup_epochs=2.0, learning_rate=0.5)
    rates = np.array([float(training._schedule(parameters, steps_per_epoch=5)(step)) for step in range(51)])
    assert rates[0] == 0
    assert rates.argmax() == 10 and rates.max() == pytest.approx(0.5)
    assert rates[50] == pytest.approx(0, abs=1e-6)


def test_warm_up_longer_than_the_training_leaves_half_for_the_decay():
    parameters = TrainParameters(epochs=1, warmup_epochs=5.0, learning_rate=0.5)
    rates = [float(training._schedule(parameters, steps_per_epoch=10)(step)) for step in range(11)]
    assert max(rates) == pytest.approx(0.5)
    assert rates[-1] == pytest.approx(0, abs=1e-6)


def test_same_seed_gives_the_same_initial_weights_and_another_seed_others(digits):
    def first_kernel(seed):
        parameters = TrainParameters(weights="none", dataset="digits", seed=seed, image_size=32)
        return training.build_model(parameters, digits).get_layer("conv1").get_weights()[0]

    assert np.array_equal(first_kernel(1), first_kernel(1))
    assert not np.array_equal(first_kernel(1), first_kernel(2))
