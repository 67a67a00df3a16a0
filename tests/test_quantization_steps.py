"""The steps before the conversion: what each leaves as it is, and what each improves."""

import numpy as np
import pytest

from mbutils import quantization
from mbutils.backend import keras, tf
from mbutils.config import INT8_VARIANTS, ConvertParameters, TrainParameters, normalize
from mbutils.data import datasets, preprocessing
from mbutils.errors import WorkbookError
from mbutils.model import mobilenet
from mbutils.quantization.bias import correct_biases
from mbutils.quantization.equalization import equalize, soften_outliers
from mbutils.quantization.folding import kernel_layers, output_ranges
from mbutils.quantization.ranges import activation_ranges, evenly_spaced
from mbutils.report import plots


@pytest.fixture
def folded(small_network):
    return quantization.fold(small_network)


def scores(model, pixels):
    return model.predict(normalize(pixels), verbose=0)


def imbalance(folded):
    """How much larger the largest weight of a kernel is than that of its median channel, mean over the layers."""
    layers = kernel_layers(folded)[:-1]
    ranges = [output_ranges(layer, layer.get_weights()[0]) for layer in layers]
    return np.mean([values.max() / np.median(values) for values in ranges])


def error_of_int8(folded, noise_images, per_channel=False):
    model = quantization.FakeQuantized(folded, activation_ranges(folded, noise_images), per_channel)
    return np.abs(scores(model, noise_images) - scores(folded, noise_images)).mean()


def test_folding_leaves_the_scores_and_names(small_network, folded, noise_images):
    assert np.abs(scores(small_network, noise_images) - scores(folded, noise_images)).max() < 1e-4
    names = [layer.name for layer in folded.layers]
    assert [layer.name for layer in kernel_layers(small_network)] == [layer.name for layer in kernel_layers(folded)]
    assert not any(name.endswith("_bn") or name == "dropout" for name in names)


@pytest.mark.parametrize("count", [1, 40])
def test_equalization_leaves_the_scores_of_calibration_images(folded, noise_images, count):
    before = scores(folded, noise_images[:count])
    equalize(folded, noise_images[:count])
    assert np.abs(scores(folded, noise_images[:count]) - before).max() < 1e-4


def test_equalization_evens_out_the_weights_of_the_channels(folded, noise_images):
    before = imbalance(folded)
    equalize(folded, noise_images)
    assert imbalance(folded) < before
    assert all(np.isfinite(values).all() for values in folded.get_weights())


def test_softening_lowers_the_error_of_one_scale_where_a_channel_dwarfs_the_others(folded, noise_images):
    layer = folded.get_layer("conv1")
    kernel, bias = layer.get_weights()
    kernel[..., 1] *= 200  # a steep threshold, which equalization must leave: it reaches 6
    layer.set_weights([kernel, bias])
    equalize(folded, noise_images)
    before, error = imbalance(folded), error_of_int8(folded, noise_images)
    soften_outliers(folded, noise_images)
    assert imbalance(folded) < before
    assert error_of_int8(folded, noise_images) < error


@pytest.mark.parametrize("per_channel", [True, False])
def test_bias_correction_gives_channels_their_mean_back(folded, noise_images, per_channel):
    model = quantization.FakeQuantized(folded, activation_ranges(folded, noise_images), per_channel)
    before = np.abs(scores(model, noise_images) - scores(folded, noise_images)).mean()
    correct_biases(model, folded, noise_images)
    assert np.abs(scores(model, noise_images) - scores(folded, noise_images)).mean() < before


def test_a_kernel_of_zeros_stays_finite(folded, noise_images):
    layer = folded.get_layer("conv_pw_5")
    layer.set_weights([np.zeros_like(values) for values in layer.get_weights()])
    equalize(folded, noise_images)
    soften_outliers(folded, noise_images)
    model = quantization.FakeQuantized(folded, activation_ranges(folded, noise_images), False)
    correct_biases(model, folded, noise_images)
    assert np.isfinite(scores(model, noise_images)).all()


@pytest.mark.parametrize("per_channel", [True, False])
def test_fine_tuning_lowers_the_divergence_from_the_float_scores(small_network, folded, noise_images, per_channel):
    model = quantization.FakeQuantized(folded, activation_ranges(folded, noise_images), per_channel)
    kernels = [variable.numpy() for variable in model.network.trainable_variables]
    batches = tf.data.Dataset.from_tensors(
        (normalize(noise_images), np.zeros((len(noise_images), 5), np.float32))
    ).repeat(8)
    losses = quantization.fine_tune(model, quantization.with_scores_of(small_network, batches), 8, 0.00003)
    assert len(losses) == 8 and losses[-1] < losses[0]
    changed = [
        not np.array_equal(variable, before)
        for variable, before in zip(model.network.trainable_variables, kernels, strict=True)
    ]
    assert all(changed)


def test_batches_of_unknown_number_are_refused(folded, noise_images):
    model = quantization.FakeQuantized(folded, activation_ranges(folded, noise_images), True)
    batches = tf.data.Dataset.from_tensors((normalize(noise_images), np.eye(40, 5, dtype=np.float32))).repeat()
    with pytest.raises(WorkbookError, match="number of batches is unknown: give batches a cardinality"):
        quantization.fine_tune(model, batches, 1, 0.001)


@pytest.mark.parametrize("variant", INT8_VARIANTS)
def test_steps_that_are_off_change_nothing(small_network, folded, noise_images, variant):
    off = ConvertParameters(variant=variant, equalize=False, bias_correction=False, qat_epochs=0)
    reference, model = quantization.prepare(small_network, noise_images, off)
    for given, expected in zip(reference.get_weights(), folded.get_weights(), strict=True):
        np.testing.assert_array_equal(given, expected)
    for given, expected in zip(model.network.trainable_variables, folded.trainable_variables, strict=True):
        np.testing.assert_array_equal(given, expected)


def test_signal_to_noise_is_that_of_the_rounding_and_worst_first(small_network, noise_images):
    parameters = ConvertParameters(variant="int8_per_channel", qat_epochs=0)
    reference, model = quantization.prepare(small_network, noise_images, parameters)
    table = quantization.signal_to_noise(reference, quantization.to_int8_with_ranges(model), noise_images)
    assert set(table["layer"]) == {layer.name for layer in kernel_layers(reference)} | {"pool", "softmax"}
    assert table["snr_db"].is_monotonic_increasing
    assert table.set_index("layer").loc["conv1", "snr_db"] > 25
    assert plots.signal_to_noise({"prepared": table}).get_yticklabels()[0].get_text() == table["layer"][0]


def test_signal_to_noise_of_another_model_is_refused(small_network, folded, noise_images):
    other = quantization.to_int8(
        mobilenet.build(0.5, small_network.input_shape[1:], 5), noise_images[:2], "int8_per_channel"
    )
    with pytest.raises(WorkbookError, match=r"has other layers than mobilenet_v1_0\.25_32: give its own conversion"):
        quantization.signal_to_noise(folded, other, noise_images)


def test_channel_ranges_are_those_of_weights_and_activations(folded, noise_images):
    table = quantization.channel_ranges(folded, noise_images)
    kernel = folded.get_layer("conv_dw_1").get_weights()[0]
    rows = table[table["layer"] == "conv_dw_1"]
    np.testing.assert_allclose(rows["weight"], np.abs(kernel[..., 0]).max(axis=(0, 1)))
    assert table["activation"].between(0, 6).all()
    assert len(plots.channel_ranges({"trained": table}).axes) == 2


def test_accuracy_by_calibration_has_a_row_for_each_count_and_draw():
    train = TrainParameters(dataset="digits", image_size=32, color_mode="gray", interpolation="bilinear")
    digits = datasets.load(train)
    pixels = preprocessing.cached_images(digits, train.preprocessing)
    small_network = mobilenet.build(0.25, train.preprocessing.shape, digits.n_classes)
    table = quantization.accuracy_by_calibration(small_network, pixels, digits, ConvertParameters(calibration_draws=1))
    assert list(table["images"]) == [1, 10, 100, 500]
    assert table["top1"].between(0, 1).all()
    skipped = quantization.accuracy_by_calibration(
        small_network, pixels, digits, ConvertParameters(calibration_draws=0)
    )
    assert skipped.empty and not plots.accuracy_by_calibration(skipped, 0.5, "int8_per_channel").has_data()


@pytest.mark.parametrize(("total", "count", "expected"), [(1, 3, [0]), (5, 3, [0, 2, 4]), (4, 4, [0, 1, 2, 3])])
def test_spread_takes_images_from_all_over(total, count, expected):
    assert evenly_spaced(np.arange(total), count).tolist() == expected


def test_scores_of_a_model_become_targets(small_network, noise_images):
    batch = normalize(noise_images[:4])
    batches = tf.data.Dataset.from_tensors((batch, np.zeros((4, 5), np.float32)))
    ((given, targets),) = quantization.with_scores_of(small_network, batches)
    np.testing.assert_array_equal(given, batch)
    np.testing.assert_allclose(targets, keras.ops.convert_to_numpy(small_network(batch)), atol=1e-5)
