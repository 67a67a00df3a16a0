"""Networks that teach: from params/networks, keras.applications and files."""

from dataclasses import replace

import numpy as np
import pytest

from mbutils.backend import keras
from mbutils.config import TrainParameters, network_file, suited
from mbutils.config.paths import NETWORKS
from mbutils.data import preprocessing
from mbutils.errors import WorkbookError
from mbutils.model import networks, training
from mbutils.model.batch_normalization import FrozenBatchNormalization, FusedBatchNormalization, with_keras_layers
from mbutils.model.mobilenet import count_macs, layer_table
from mbutils.model.probe import linear_probe
from mbutils.model.weights import read_model

LITE0 = "efficientnet_lite0"
NOISE = np.random.default_rng(0).uniform(-1, 1, (2, 64, 64, 3)).astype(np.float32)


def teaching(network, **changes):
    return suited(TrainParameters(dataset="digits", network=network, image_size=64, **changes), 3000)


def sequential():
    layers = [
        keras.layers.Input((48, 48, 3)),
        keras.layers.Conv2D(4, 3, strides=2),
        keras.layers.BatchNormalization(),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(9),
    ]
    return keras.Sequential(layers)


def test_network_of_the_project_has_its_weights_in_float32_and_a_new_classifier():
    network = networks.build(teaching(LITE0), 7)
    assert network.output_shape == (None, 7) and network(NOISE).numpy().sum(axis=1) == pytest.approx(1, abs=1e-5)
    assert {weight.dtype for weight in network.weights} == {"float32"}
    stored = read_model(NETWORKS / f"{LITE0}.keras").get_layer("stem_conv").get_weights()[0]
    assert np.array_equal(network.get_layer("stem_conv").get_weights()[0], stored.astype(np.float32))


@pytest.mark.parametrize(
    ("statistics", "kind"), [("batch", FusedBatchNormalization), ("frozen", FrozenBatchNormalization)]
)
def test_batch_normalization_is_that_of_the_parameters_and_saved_as_that_of_keras(statistics, kind):
    network = networks.build(teaching(LITE0, batch_norm_statistics=statistics), 7)
    found = [layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert len(found) > 40 and all(type(layer) is kind for layer in found)
    portable = with_keras_layers(network)
    assert not any(type(layer).__module__.startswith("mbutils") for layer in portable.layers)
    assert portable(NOISE).numpy() == pytest.approx(network(NOISE).numpy(), abs=1e-5)


@pytest.mark.parametrize(
    ("name", "module"),
    [("MobileNetV2", "mobilenet_v2"), ("EfficientNetV2B0", "efficientnet_v2"), ("ResNet50", "resnet50")],
)
def test_applications_of_keras_take_images_in_minus_one_to_one(name, module):
    network = networks.build(teaching(name, weights="none"), 7)
    stock = getattr(keras.applications, name)(include_top=False, weights=None, input_shape=(64, 64, 3), pooling="avg")
    features = keras.Model(network.input, networks.pooled(network))
    stock.set_weights(features.get_weights())
    pixels = getattr(keras.applications, module).preprocess_input((NOISE + 1) * 127.5)
    expected = stock(pixels, training=False)
    assert features(NOISE, training=False).numpy() == pytest.approx(np.asarray(expected), rel=1e-3, abs=1e-4)


def test_file_may_be_of_another_size_and_sequential(tmp_path):
    saved = sequential()
    saved.save(tmp_path / "mine.keras")
    network = networks.build(teaching(str(tmp_path / "mine.keras")), 7)
    assert network.input_shape == (None, 64, 64, 3) and network.name == "mine_64"
    assert np.array_equal(network.layers[1].get_weights()[0], saved.layers[0].get_weights()[0])


def test_linear_probe_is_on_the_pooled_features_whatever_the_layer_is_called(tmp_path, digits):
    sequential().save(tmp_path / "mine.keras")
    parameters = replace(teaching(str(tmp_path / "mine.keras")), image_size=48)
    images = preprocessing.cached_images(digits, parameters.preprocessing)
    found = linear_probe(networks.build(parameters, 10), images, digits)
    assert found.kernel.shape == (4, 10)


def test_network_is_trained_on_images_of_several_sizes(digits):
    parameters = replace(teaching(LITE0, epochs=1, early_epochs=1, early_image_size=32, batch_size=1400), image_size=48)
    images = preprocessing.cached_images(digits, parameters.preprocessing)
    network = training.build_model(parameters, digits)
    before = network.get_layer("stem_conv").get_weights()[0]
    history = training.fit(network, images, digits, replace(parameters, warmup_epochs=0.0))
    assert history["image_size"].tolist() == [32]
    assert not np.array_equal(network.get_layer("stem_conv").get_weights()[0], before)


def test_layers_and_macs_of_any_network_are_counted():
    network = networks.build(teaching("EfficientNetV2B0", weights="none"), 7)
    table = layer_table(network)
    assert table["macs"].sum() == count_macs(network) > 1e6


def nested(folder):
    keras.Sequential([keras.layers.Input((48, 48, 3)), sequential()]).save(folder / "model.keras")
    return str(folder / "model.keras")


def without_pooling(folder):
    image = keras.Input((48, 48, 3))
    keras.Model(image, keras.layers.Flatten()(image)).save(folder / "model.keras")
    return str(folder / "model.keras")


def gray(folder):
    image = keras.Input((48, 48, 1))
    keras.Model(image, keras.layers.GlobalAveragePooling2D()(image)).save(folder / "model.keras")
    return str(folder / "model.keras")


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (nested, "has a network as one of its layers"),
        (without_pooling, "no global pooling before its classifier"),
        (gray, "does not take colour images"),
    ],
)
def test_file_that_cannot_teach_is_refused(tmp_path, file, message):
    with pytest.raises(WorkbookError, match=message):
        networks.build(teaching(file(tmp_path)), 7)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ("EfficientNetV2B9", "network: unknown 'EfficientNetV2B9': did you mean 'EfficientNetV2B"),
        ("efficientnet_lite", "did you mean 'efficientnet_lite0'"),
        ("mine.keras", r"network: no file mine\.keras"),
    ],
)
def test_network_that_is_not_there_is_named(network, message):
    with pytest.raises(WorkbookError, match=message):
        network_file(network)


def test_network_that_teaches_takes_colour_images():
    with pytest.raises(WorkbookError, match="network efficientnet_lite0 takes colour images: set color_mode rgb"):
        TrainParameters(network=LITE0, color_mode="gray")


def test_weights_that_are_neither_stored_nor_downloadable_are_named(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))

    def fail(**options):
        raise OSError("no network")

    fail.__module__ = "keras.src.applications.resnet"
    monkeypatch.setattr(keras.applications, "ResNet50", fail)
    with pytest.raises(WorkbookError, match=r"ImageNet weights for ResNet50 are neither in .* nor downloadable"):
        networks.build(teaching("ResNet50"), 7)
