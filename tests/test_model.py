import numpy as np
import pytest

from mbutils.backend import keras, tf
from mbutils.errors import WorkbookError
from mbutils.model import mobilenet
from mbutils.model.batch_normalization import settle, with_keras_layers
from mbutils.model.weights import load_weights, read_model


def features(network):
    return keras.Model(network.input, network.get_layer("pool").output)


@pytest.mark.parametrize(("alpha", "parameters"), [(0.25, 218_544), (0.5, 829_536), (0.75, 1_832_976)])
def test_parameter_count_without_the_classifier(alpha, parameters):
    network = mobilenet.build(alpha, (96, 96, 3), 5)
    assert features(network).count_params() == parameters
    classifier = (int(1024 * alpha) + 1) * 5
    assert network.count_params() == parameters + classifier
    assert mobilenet.layer_table(network)["parameters"].sum() == network.count_params()


@pytest.mark.parametrize(
    ("alpha", "image_size", "macs"),
    # First convolution with classifier, pointwise and depthwise MACs of the published latency rows.
    [(0.25, 224, 2_710_784 + 33_718_272 + 4_346_496), (0.5, 224, 5_421_568 + 134_873_088 + 8_692_992)],
)
def test_macs_are_those_of_the_published_rows(alpha, image_size, macs):
    network = mobilenet.build(alpha, (image_size, image_size, 3), 5)
    assert mobilenet.count_macs(network) == macs
    assert mobilenet.layer_table(network)["macs"].sum() == macs


@pytest.mark.parametrize("shape", [(96, 96, 3), (33, 33, 1), (50, 50, 3)])
def test_scores_are_a_distribution_over_the_classes(shape):
    scores = mobilenet.build(0.25, shape, 7)(np.zeros((2, *shape), np.float32)).numpy()
    assert scores.shape == (2, 7)
    assert scores.sum(axis=1) == pytest.approx([1, 1], abs=1e-6)


def test_imagenet_weights_give_the_features_of_keras(imagenet_weights):
    network = mobilenet.build(0.25, (96, 96, 3), 5)
    load_weights(network, "imagenet", 0.25)
    stored = imagenet_weights / "mobilenet_2_5_224_tf_no_top.h5"
    original = keras.applications.MobileNet((96, 96, 3), 0.25, include_top=False, pooling="avg", weights=str(stored))
    images = np.random.default_rng(0).uniform(-1, 1, (4, 96, 96, 3)).astype(np.float32)
    assert np.abs(features(network)(images) - original(images)).max() < 1e-4


def test_gray_model_gives_for_gray_what_the_colour_model_gives_for_three_equal_channels(imagenet_weights):
    colour, gray = (mobilenet.build(0.25, (64, 64, channels), 5) for channels in (3, 1))
    for network in (colour, gray):
        load_weights(network, "imagenet", 0.25)
    image = np.random.default_rng(0).uniform(-1, 1, (2, 64, 64, 1)).astype(np.float32)
    assert np.abs(features(gray)(image) - features(colour)(np.repeat(image, 3, axis=3))).max() < 1e-4


def test_weights_from_files_are_those_that_were_saved(tmp_path):
    saved, fresh = (mobilenet.build(0.25, (32, 32, 3), 5) for _ in range(2))
    image = np.random.default_rng(0).uniform(-1, 1, (1, 32, 32, 3)).astype(np.float32)
    for path, save in ((tmp_path / "a.keras", saved.save), (tmp_path / "a.weights.h5", saved.save_weights)):
        save(path)
        load_weights(fresh, str(path), 0.25)
        assert np.allclose(features(fresh)(image), features(saved)(image))


def other_alpha(folder):
    mobilenet.build(0.5, (32, 32, 3), 5).save(folder / "other.keras")
    return str(folder / "other.keras")


def not_finite(suffix):
    def save(folder):
        network = mobilenet.build(0.25, (32, 32, 3), 5)
        kernel = network.get_layer("conv_pw_5").kernel
        kernel.assign(np.full(kernel.shape, np.nan))
        path = folder / f"diverged{suffix}"
        network.save(path) if suffix == ".keras" else network.save_weights(path)
        return str(path)

    return save


def no_mobilenet(folder):
    keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(2)]).save(folder / "dense.keras")
    return str(folder / "dense.keras")


def garbage(suffix):
    def write(folder):
        (folder / f"garbage{suffix}").write_bytes(b"\x00garbage" * 50)
        return str(folder / f"garbage{suffix}")

    return write


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (lambda folder: str(folder / "missing.keras"), "no file .*missing.keras"),
        (lambda folder: str(folder / "missing.weights.h5"), "no file .*missing.weights.h5"),
        (garbage(".keras"), "is not a readable .keras model"),
        (garbage(".weights.h5"), "does not hold the weights"),
        (other_alpha, "give a file of the same alpha"),
        (
            not_finite(".keras"),
            "weights of layer conv_pw_5 are not finite, .*train it again with a lower learning_rate",
        ),
        (not_finite(".weights.h5"), "weights of layer conv_pw_5 are not finite"),
        (no_mobilenet, "has no layer conv1: it is not a MobileNet v1"),
    ],
)
def test_weights_that_cannot_be_used_are_named(tmp_path, weights, message):
    with pytest.raises(WorkbookError, match=message) as caught:
        load_weights(mobilenet.build(0.25, (32, 32, 3), 5), weights(tmp_path), 0.25)
    assert "\n" not in str(caught.value)


def test_missing_imagenet_weights_are_an_error_and_never_random_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(keras.applications, "MobileNet", lambda *args, **options: 1 / 0)
    with pytest.raises(WorkbookError, match=r"ImageNet weights for alpha 0.5 are neither in .* KERAS_HOME"):
        load_weights(mobilenet.build(0.5, (32, 32, 3), 5), "imagenet", 0.5)


def both_batch_normalizations(training):
    images = tf.constant(np.random.default_rng(0).normal(1, 2, (8, 6, 5, 7)).astype(np.float32))
    rows = []
    for kind in (keras.layers.BatchNormalization, mobilenet.FusedBatchNormalization):
        layer = kind(momentum=0.8)
        layer.build(images.shape)
        layer.set_weights(np.random.default_rng(1).uniform(0.5, 1.5, (4, 7)).astype(np.float32))
        with tf.GradientTape() as tape:
            tape.watch(images)
            outputs = layer(images, training=training)
            loss = tf.reduce_sum(outputs**3)
        rows.append((outputs, tape.gradient(loss, [images, layer.gamma.value, layer.beta.value]), layer.get_weights()))
    return rows


@pytest.mark.parametrize("training", [True, False])
def test_fused_batch_normalization_gives_what_keras_gives(training):
    (outputs, gradients, weights), (fused_outputs, fused_gradients, fused_weights) = both_batch_normalizations(training)
    assert np.abs(outputs - fused_outputs).max() < 1e-5
    for gradient, fused in zip(gradients, fused_gradients, strict=True):
        assert np.abs(gradient - fused).max() < 1e-4 * np.abs(gradient).max()
    assert np.allclose(weights, fused_weights, atol=1e-5)


def test_frozen_fused_batch_normalization_uses_and_keeps_its_moving_statistics():
    layer = mobilenet.FusedBatchNormalization(trainable=False)
    images = np.full((2, 3, 3, 4), 5.0, np.float32)
    assert np.allclose(layer(images, training=True), 5.0, atol=0.01)
    assert np.allclose(layer.moving_mean, 0)


def test_frozen_batch_normalization_gives_in_training_what_it_gives_at_inference():
    layer = mobilenet.FrozenBatchNormalization()
    images = np.random.default_rng(0).normal(1, 2, (8, 6, 5, 7)).astype(np.float32)
    layer.build(images.shape)
    layer.set_weights(np.random.default_rng(1).uniform(0.5, 1.5, (4, 7)).astype(np.float32))
    assert np.abs(layer(images, training=True) - layer(images, training=False)).max() < 1e-5
    assert len(layer.trainable_weights) == 2


def test_settled_statistics_are_the_mean_of_those_of_the_batches():
    network = mobilenet.build(0.25, (32, 32, 3), 5)
    batches = np.random.default_rng(0).uniform(-1, 1, (3, 4, 32, 32, 3)).astype(np.float32)
    settle(network, batches)
    layer = network.get_layer("conv1_bn")
    inputs = [keras.Model(network.input, layer.input)(batch).numpy() for batch in batches]
    assert np.allclose(layer.moving_mean, np.mean([x.mean(axis=(0, 1, 2)) for x in inputs], axis=0), atol=1e-5)
    assert np.allclose(layer.moving_variance, np.mean([x.var(axis=(0, 1, 2)) for x in inputs], axis=0), rtol=1e-3)
    assert layer.momentum == 0.99


def test_settling_leaves_frozen_statistics_as_they_are():
    network = mobilenet.build(0.25, (32, 32, 3), 5, frozen_statistics=True)
    before = network.get_weights()
    settle(network, np.ones((1, 4, 32, 32, 3), np.float32))
    assert all(np.array_equal(old, new) for old, new in zip(before, network.get_weights(), strict=True))


@pytest.mark.parametrize("frozen", [True, False])
def test_saved_form_has_keras_layers_only_and_the_same_scores(tmp_path, frozen):
    network = mobilenet.build(0.25, (32, 32, 3), 5, frozen_statistics=frozen)
    portable = with_keras_layers(network)
    assert not any(type(layer).__module__.startswith("mbutils") for layer in portable.layers)
    image = np.random.default_rng(0).uniform(-1, 1, (2, 32, 32, 3)).astype(np.float32)
    assert np.allclose(network(image), portable(image), atol=1e-6)
    portable.save(tmp_path / "model.keras")
    assert np.allclose(read_model(tmp_path / "model.keras")(image), portable(image), atol=1e-6)
