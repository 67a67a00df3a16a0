"""Defaults on small data: slow, for they are whole trainings."""

import pytest

from bench import small_data
from mbutils.config import TrainParameters, suited
from mbutils.data import preprocessing
from mbutils.model import training

# One training on 42 images differs from processor to processor by some points; docs/small_data.md has means.
CHANCE, CHANCE_OF_INT8 = 0.03, 0.06


@pytest.mark.slow
def test_default_run_on_three_times_twenty_photographs_is_not_below_the_linear_probe(
    flowers, imagenet_weights, tmp_path
):
    row = small_data.measure(small_data.draw("tf_flowers", 3, 20, 0, tmp_path), tmp_path, after={})
    assert row["probe_unseen"] > 0.4
    assert row["after_unseen"] >= row["probe_unseen"] - CHANCE
    assert row["after_int8_unseen"] >= row["after_unseen"] - CHANCE_OF_INT8


@pytest.mark.slow
def test_three_epochs_from_scratch_on_digits_are_far_above_chance(digits):
    parameters = suited(TrainParameters(dataset="digits", weights="none", epochs=3), digits.n_train)
    images = preprocessing.cached_images(digits, parameters.preprocessing)
    history = training.fit(training.build_model(parameters, digits), images, digits, parameters)
    assert history["validation_top1"].iloc[-1] > 0.3
