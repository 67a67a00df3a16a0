from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from mbutils.backend import keras
from mbutils.config import TrainParameters, suited
from mbutils.data.dataset import Dataset
from mbutils.model import mobilenet, probe, training
from mbutils.model.weights import load_weights
from mbutils.report import tables


def coloured(n_classes, per_class, validation=2):
    """Images of one colour for each class, with noise: their features can be separated by a line."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(n_classes), per_class + validation)
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [0, 0, 0]]).reshape(5, 1, 1, 3)
    images = np.clip(colours[labels] + rng.integers(-20, 20, (len(labels), 32, 32, 3)), 0, 255).astype(np.uint8)
    parts = np.tile(["train"] * per_class + ["validation"] * validation, n_classes)
    examples = pd.DataFrame({"identity": [str(n) for n in range(len(labels))], "label": labels, "part": parts})
    return images, Dataset("colours", tuple("abcdefgh"[:n_classes]), examples, lambda: iter(()))


def mean_colour(n_classes):
    """A network whose features are the mean of each channel."""
    image = keras.Input((32, 32, 3))
    pooled = keras.layers.GlobalAveragePooling2D(name="pool")(image)
    return keras.Model(image, keras.layers.Dense(n_classes, activation="softmax", name="classifier")(pooled))


@pytest.mark.parametrize("n_classes", [2, 3, 5])
def test_probe_separates_colours_and_is_the_classifier_of_the_network_that_starts_from_it(n_classes):
    images, dataset = coloured(n_classes, 10)
    start = mean_colour(n_classes)
    found = probe.linear_probe(start, images, dataset)
    assert found.kernel.shape == (3, n_classes) and found.n_train == 10 * n_classes
    assert found.top1 == found.validation_top1 == 1
    probe.start_from_probe(start, images, dataset)
    scores = start.predict_on_batch(images / np.float32(127.5) - 1)
    assert (scores.argmax(axis=1) == dataset.labels).all()


def test_probe_learns_from_equally_many_images_of_each_class_where_there_are_too_many(monkeypatch):
    monkeypatch.setattr(probe, "MOST_IMAGES", 20)
    images, dataset = coloured(3, 40)
    assert probe.linear_probe(mean_colour(3), images, dataset).n_train == 18


@pytest.fixture
def network(imagenet_weights):
    def start(n_classes):
        built = mobilenet.build(0.25, (32, 32, 3), n_classes, frozen_statistics=True)
        load_weights(built, "imagenet", 0.25)
        return built

    return start


def test_frozen_statistics_stay_while_the_weights_are_trained(network):
    images, dataset = coloured(2, 16)
    frozen = {"batch_norm_statistics": "frozen", "dataset": "digits", "image_size": 32}
    parameters = suited(TrainParameters(epochs=1, warmup_epochs=0.0, batch_size=8, **frozen), dataset.n_train)
    trained = network(2)
    before = {weight.path: weight.numpy() for weight in trained.weights}
    training.fit(trained, images, dataset, parameters)
    moved = {weight.path for weight in trained.weights if not np.array_equal(before[weight.path], weight.numpy())}
    assert moved == {weight.path for weight in trained.trainable_weights}
    assert not any("moving" in path for path in moved)


def test_wrong_labels_have_the_lowest_scores_among_images_that_a_probe_did_not_learn_from():
    images, dataset = coloured(3, 12)
    examples = dataset.examples.copy()
    wrong = dataset.positions("train")[[3, 20]]
    examples.loc[wrong, "label"] = (examples.loc[wrong, "label"] + 1) % 3
    positions, scores = probe.held_out_scores(mean_colour(3), images, replace(dataset, examples=examples))
    own = scores[np.arange(len(positions)), examples["label"].to_numpy()[positions]]
    assert set(positions[np.argsort(own)[:2]]) == set(wrong)
    assert scores.sum(axis=1) == pytest.approx(1, abs=1e-5)


def test_an_image_that_is_alone_in_its_class_has_no_held_out_score():
    images, dataset = coloured(3, 4)
    train = dataset.positions("train")
    examples = dataset.examples.copy()
    examples.loc[train[-3:], "part"] = "excluded"
    positions, scores = probe.held_out_scores(mean_colour(3), images, replace(dataset, examples=examples))
    assert positions.tolist() == train[:8].tolist() and not scores[:, 2].any()


@pytest.mark.parametrize("has_start_weights", [True, False])
def test_table_shows_the_probe_beside_the_training_with_intervals(has_start_weights):
    images, dataset = coloured(3, 10)
    found = probe.linear_probe(mean_colour(3), images, dataset) if has_start_weights else None
    history = pd.DataFrame({"top1": [0.9], "validation_top1": [5 / 6]})
    html = tables.against_probe(history, found, n_validation=6).to_html()
    assert "83.33%" in html and "43.6% to 97.0%" in html
    assert ("61.0% to 100.0%" in html) == has_start_weights
    assert ("there are no start weights" in html) != has_start_weights
