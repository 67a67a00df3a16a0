"""The steps before the conversion: what each preserves, and what each improves."""

import numpy as np
import pytest

from mbutils import quantization
from mbutils.backend import keras, tf
from mbutils.config import INT8_VARIANTS, ConvertParameters, TrainParameters, normalize
from mbutils.data import datasets, preprocessing
from mbutils.errors import WorkbookError
from mbutils.model import mobilenet
from mbutils.quantization.equalization import soften_outliers
from mbutils.quantization.folding import copied, kernel_layers, output_ranges
from mbutils.quantization.ranges import evenly_spaced
from mbutils.report import plots
from mbutils.tflite.interpreter import TFLiteModel
from mbutils.tflite.reader import read_graph


@pytest.fixture(scope="module")
def folded(small_network):
    return quantization.fold(small_network)


@pytest.fixture(scope="module", params=INT8_VARIANTS)
def variant(request):
    return request.param


@pytest.fixture(scope="module")
def rounded(folded, noise_images, variant):
    return quantization.fake_quantize(folded, noise_images, variant)


def scores(model, pixels):
    return model.predict(normalize(pixels), verbose=0)


def imbalance(folded):
    """How much larger the largest weight of a kernel is than that of its median channel, mean over the layers."""
    layers = kernel_layers(folded)[:-1]
    ranges = [output_ranges(layer, layer.get_weights()[0]) for layer in layers]
    return np.mean([values.max() / np.median(values) for values in ranges])


def error_of_int8(folded, noise_images):
    model = quantization.fake_quantize(folded, noise_images, "int8_per_tensor")
    return np.abs(scores(model, noise_images) - scores(folded, noise_images)).mean()


def test_folding_leaves_the_scores_and_names(small_network, folded, noise_images):
    assert np.abs(scores(small_network, noise_images) - scores(folded, noise_images)).max() < 1e-4
    names = [layer.name for layer in folded.layers]
    assert [layer.name for layer in kernel_layers(small_network)] == [layer.name for layer in kernel_layers(folded)]
    assert not any(name.endswith("_bn") or name == "dropout" for name in names)


def test_network_with_shortcuts_is_not_converted():
    image = keras.Input((8, 8, 3))
    network = keras.Model(image, keras.layers.Add()([image, keras.layers.ReLU()(image)]), name="residual")
    with pytest.raises(WorkbookError, match="network residual is not a chain of layers: it can teach a MobileNet v1"):
        quantization.fold(network)


@pytest.mark.parametrize("count", [1, 40])
def test_equalization_leaves_the_scores_of_calibration_images(folded, noise_images, count):
    calibration = noise_images[:count]
    equalized = quantization.equalize(folded, calibration, "int8_per_channel")
    assert np.abs(scores(equalized, calibration) - scores(folded, calibration)).max() < 1e-4


def test_equalization_evens_out_the_weights_of_the_channels(folded, noise_images):
    equalized = quantization.equalize(folded, noise_images, "int8_per_channel")
    assert imbalance(equalized) < imbalance(folded)
    assert all(np.isfinite(values).all() for values in equalized.get_weights())


def test_softening_lowers_the_error_of_one_scale_where_a_channel_dwarfs_the_others(folded, noise_images):
    folded = copied(folded)
    layer = folded.get_layer("conv1")
    kernel, bias = layer.get_weights()
    kernel[..., 1] *= 200  # a steep threshold, which equalization must leave: it reaches 6
    layer.set_weights([kernel, bias])
    equalized = quantization.equalize(folded, noise_images, "int8_per_channel")
    softened = soften_outliers(equalized, noise_images)
    assert imbalance(softened) < imbalance(equalized)
    assert error_of_int8(softened, noise_images) < error_of_int8(equalized, noise_images)
    per_tensor = quantization.equalize(folded, noise_images, "int8_per_tensor")
    for values, expected in zip(per_tensor.get_weights(), softened.get_weights(), strict=True):
        np.testing.assert_array_equal(values, expected)


# With 4 bits and random weights, what rounding scatters is more than what it shifts.
@pytest.mark.parametrize("variant", ["int8_per_channel", "int8_per_tensor"], indirect=True)
def test_bias_correction_gives_channels_their_mean_back(folded, rounded, noise_images):
    corrected = quantization.correct_biases(rounded, folded, noise_images)
    exact = scores(folded, noise_images)
    before, after = (np.abs(scores(model, noise_images) - exact).mean() for model in (rounded, corrected))
    assert after < before


def test_a_kernel_of_zeros_stays_finite(folded, noise_images, variant):
    folded = copied(folded)
    layer = folded.get_layer("conv_pw_5")
    layer.set_weights([np.zeros_like(values) for values in layer.get_weights()])
    equalized = quantization.equalize(folded, noise_images, variant)
    model = quantization.fake_quantize(equalized, noise_images, variant)
    corrected = quantization.correct_biases(model, equalized, noise_images)
    exact = scores(corrected, noise_images)
    assert np.isfinite(exact).all()
    assert np.abs(TFLiteModel(quantization.to_int8_with_ranges(corrected)).predict(noise_images) - exact).mean() < 0.05


def test_biases_of_channels_with_weights_near_zero_are_kept_with_4_bits(folded, noise_images):
    folded = copied(folded)
    layer = folded.get_layer("conv_pw_2")
    kernel, bias = layer.get_weights()
    kernel[..., ::2], bias[::2] = 1e-12, 2.5
    layer.set_weights([kernel, bias])
    model = quantization.fake_quantize(folded, noise_images, "int4_pointwise")
    (op,) = (op for op in read_graph(quantization.to_int8_with_ranges(model)).ops if op.name == "conv_pw_2")
    np.testing.assert_allclose((op.weights[1].values * op.weights[1].scales)[::2], 2.5, rtol=0.01)


def test_fine_tuning_lowers_the_divergence_from_the_float_scores(small_network, rounded, noise_images):
    batches = tf.data.Dataset.from_tensors(
        (normalize(noise_images), np.zeros((len(noise_images), 5), np.float32))
    ).repeat(8)
    tuned = quantization.fine_tune(rounded, quantization.soft_targets(small_network, batches), 8, 0.00003)
    losses = tuned.history.history["loss"]
    assert len(losses) == 8 and losses[-1] < losses[0]
    changed = [
        not np.array_equal(variable, before)
        for variable, before in zip(tuned.network.trainable_variables, rounded.network.trainable_variables, strict=True)
    ]
    assert all(changed)


def test_no_step_changes_the_model_that_it_starts_from(folded, rounded, noise_images, variant):
    def weights():
        return [values.copy() for model in (folded, rounded) for values in model.get_weights()]

    before = weights()
    batches = tf.data.Dataset.from_tensors((normalize(noise_images), np.eye(40, 5, dtype=np.float32)))
    quantization.equalize(folded, noise_images, variant)
    quantization.correct_biases(rounded, folded, noise_images)
    quantization.fine_tune(rounded, batches, 1, 0.001)
    for values, expected in zip(weights(), before, strict=True):
        np.testing.assert_array_equal(values, expected)


def test_batches_of_unknown_number_are_refused(rounded, noise_images):
    batches = tf.data.Dataset.from_tensors((normalize(noise_images), np.eye(40, 5, dtype=np.float32))).repeat()
    with pytest.raises(WorkbookError, match="number of batches is unknown: set it with"):
        quantization.fine_tune(rounded, batches, 1, 0.001)


def test_fine_tuning_that_diverges_stops_at_once(rounded, noise_images):
    batches = tf.data.Dataset.from_tensors((normalize(noise_images), np.full((40, 5), np.nan, np.float32)))
    with pytest.raises(WorkbookError, match=r"its loss is nan in epoch 1: lower qat_learning_rate \(0.001\)"):
        quantization.fine_tune(rounded, batches, 1, 0.001)


def test_steps_that_are_off_change_nothing(small_network, folded, noise_images, variant):
    off = ConvertParameters(variant=variant, equalize=False, bias_correction=False)
    reference, model = quantization.prepare(small_network, noise_images, off)
    for values, expected in zip(reference.get_weights(), folded.get_weights(), strict=True):
        np.testing.assert_array_equal(values, expected)
    for values, expected in zip(model.network.trainable_variables, folded.trainable_variables, strict=True):
        np.testing.assert_array_equal(values, expected)


def test_table_of_steps_has_the_accuracy_after_each_and_names_those_that_are_off():
    labels, right, wrong = np.array([0, 1]), np.eye(2), np.array([[1, 0], [1, 0]])
    scores = {"float32": right, "fold": wrong, "equalize": wrong, "fine-tune": right}
    table = quantization.accuracy_by_step(labels, scores, ConvertParameters(equalize=False)).set_index("step")
    assert list(table.index) == list(scores)
    assert table["top1"].tolist() == [1, 0.5, 0.5, 1]
    assert table.loc["fold", "drop_from_float"] == 0.5 and table.loc["fine-tune", "agreement_with_float"] == 1
    assert table["note"].tolist() == ["", "", "skipped", ""]


@pytest.mark.parametrize(("layer", "weights"), [("conv1", 27), ("conv_dw_2", 9), ("conv_pw_1", 8), ("classifier", 256)])
def test_rounded_kernel_is_a_real_channel_and_what_it_is_rounded_to(folded, rounded, variant, layer, weights):
    table = quantization.rounded_kernel(rounded, layer)
    assert len(table) == weights
    kernel, channel = folded.get_layer(layer).get_weights()[0], table["channel"][0]
    np.testing.assert_array_equal(table["weight"], np.take(kernel, channel, -2 if layer == "conv_dw_2" else -1).ravel())
    is_narrow = variant == "int4_pointwise" and layer == "conv_pw_1"
    assert (table["largest"] == (7 if is_narrow else 127)).all()
    exact = (table["weight"] / table["scale"]).clip(-table["largest"], table["largest"])
    assert (np.abs(table["integer"] - exact) <= 0.5001).all()
    most = np.abs(kernel).max() if variant == "int8_per_tensor" else table["weight"].abs().max()
    if not is_narrow:
        assert table["scale"].to_numpy() == pytest.approx(most / 127)
    assert plots.rounded_kernel(table).axes[0].get_ylabel().startswith("integer value")


def test_steps_of_4_bits_have_less_error_than_those_of_the_largest_weight(folded, noise_images):
    model = quantization.fake_quantize(folded, noise_images, "int4_pointwise")
    errors = {"chosen": 0.0, "largest weight": 0.0}
    for name, scale in model.int4_scales.items():
        kernel = folded.get_layer(name).get_weights()[0]
        largest = np.abs(kernel).max(axis=(0, 1, 2), keepdims=True) / 7
        assert (scale <= largest * 1.0001).all()
        is_free = (scale < 0.99 * scale.max()).ravel()  # the others may have the largest step that C code is fast with
        for which, step in (("chosen", scale), ("largest weight", largest)):
            error = np.clip(np.rint(kernel / step), -7, 7) * step - kernel
            errors[which] += np.sum(error[..., is_free] ** 2)
    assert 0 < errors["chosen"] < 0.95 * errors["largest weight"]


def test_steps_of_4_bits_times_those_of_the_input_stay_below_those_of_the_output(folded, noise_images):
    model = quantization.fake_quantize(folded, noise_images, "int4_pointwise")
    for op in read_graph(quantization.to_int8_with_ranges(model)).ops:
        if op.is_pointwise:
            assert (op.inputs[0].scales * op.weights[0].scales / op.outputs[0].scales).max() < 1


def test_kernel_of_an_unknown_layer_is_refused(rounded):
    with pytest.raises(WorkbookError, match="no layer 'conv_dw1' with a kernel: did you mean 'conv_dw_1'"):
        quantization.rounded_kernel(rounded, "conv_dw1")


def test_signal_to_noise_is_that_of_the_rounding_and_worst_first(small_network, noise_images):
    reference, model = quantization.prepare(small_network, noise_images, ConvertParameters(variant="int8_per_channel"))
    table = quantization.signal_to_noise(reference, quantization.to_int8_with_ranges(model), noise_images)
    assert set(table["layer"]) == {layer.name for layer in kernel_layers(reference)} | {"pool", "softmax"}
    assert table["snr_db"].is_monotonic_increasing
    assert table.set_index("layer").loc["conv1", "snr_db"] > 25
    assert plots.signal_to_noise({"prepared": table}).get_yticklabels()[0].get_text() == table["layer"][0]


def test_signal_to_noise_of_another_model_is_refused(small_network, folded, noise_images):
    other = quantization.to_int8(
        mobilenet.build(0.5, small_network.input_shape[1:], 5), noise_images[:2], "int8_per_channel"
    )
    with pytest.raises(
        WorkbookError, match=r"does not have the layers of mobilenet_v1_0\.25_32: give its own conversion"
    ):
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
    assert plots.accuracy_by_calibration(table, 0.5, "int8_per_channel").has_data()


@pytest.mark.parametrize(("total", "count", "expected"), [(1, 3, [0]), (5, 3, [0, 2, 4]), (4, 4, [0, 1, 2, 3])])
def test_evenly_spaced_values_reach_from_the_first_to_the_last(total, count, expected):
    assert evenly_spaced(np.arange(total), count).tolist() == expected


def test_scores_of_a_model_become_targets(small_network, noise_images):
    batch = normalize(noise_images[:4])
    batches = tf.data.Dataset.from_tensors((batch, np.zeros((4, 5), np.float32)))
    ((images, targets),) = quantization.soft_targets(small_network, batches)
    np.testing.assert_array_equal(images, batch)
    np.testing.assert_allclose(targets, keras.ops.convert_to_numpy(small_network(batch)), atol=1e-5)
