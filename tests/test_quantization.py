"""Conversion: what is in the .tflite files, with the converter's ranges and with those of the fake-quantized model."""

import numpy as np
import pytest

from mbutils import evaluation, quantization
from mbutils.backend import keras, tf
from mbutils.config import INT8_VARIANTS, ConvertParameters
from mbutils.errors import WorkbookError
from mbutils.quantization.folding import kernel_layers
from mbutils.tflite.interpreter import TFLiteModel
from mbutils.tflite.reader import read_graph

SHAPE = (32, 32, 3)


@pytest.fixture(scope="module", params=INT8_VARIANTS)
def variant(request):
    return request.param


@pytest.fixture(scope="module")
def prepared(small_network, noise_images, variant):
    return quantization.prepare(small_network, noise_images, ConvertParameters(variant=variant))


@pytest.fixture(scope="module", params=["converter's ranges", "own ranges"])
def converted(request, small_network, noise_images, variant, prepared):
    if request.param == "own ranges":
        return quantization.to_int8_with_ranges(prepared[1])
    return quantization.to_int8(small_network, noise_images, variant)


def test_model_takes_uint8_images_and_returns_float32_scores(converted):
    _, ends = quantization.describe(converted)
    rows = ends.set_index("tensor")
    assert rows.loc["input", "dtype"] == "uint8" and rows.loc["input", "shape"] == (1, *SHAPE)
    assert rows.loc["output", "dtype"] == "float32" and rows.loc["output", "shape"] == (1, 5)
    # Pixels 0..255 are the model's -1..1, with no op for it.
    assert rows.loc["input", "scale"] == pytest.approx(1 / 127.5, rel=1e-4)
    assert rows.loc["input", "zero_point"] in (127, 128)


def test_model_has_the_ops_of_mobilenet_and_no_others(converted):
    ops, _ = quantization.describe(converted)
    counts = dict(zip(ops["op"], ops["count"], strict=True))
    ends = {"QUANTIZE": 1, "MEAN": 1, "FULLY_CONNECTED": 1, "SOFTMAX": 1, "DEQUANTIZE": 1}
    assert counts == {"CONV_2D": 14, "DEPTHWISE_CONV_2D": 13, **ends}


def test_variants_differ_in_the_number_of_weight_scales(converted, variant):
    most = max(len(kernel.scales) for _, kernel, _ in kernels_and_biases(converted))
    assert most == (1 if variant == "int8_per_tensor" else 256)


def test_only_pointwise_convolutions_have_4_bits_and_only_where_wanted(prepared, variant):
    graph = read_graph(quantization.to_int8_with_ranges(prepared[1]))
    pointwise = [op.name for op in graph.ops if op.is_pointwise]
    assert narrow(graph) == (pointwise if variant == "int4_pointwise" else [])


def test_layers_kept_at_int8_have_8_bits(small_network, noise_images):
    parameters = ConvertParameters(variant="int4_pointwise", int8_layers="conv_pw_13, conv_pw_1")
    _, model = quantization.prepare(small_network, noise_images, parameters)
    graph = read_graph(quantization.to_int8_with_ranges(model))
    assert narrow(graph) == [f"conv_pw_{block}" for block in range(2, 13)]
    by_name = {op.name: op.weights[0].values for op in graph.ops if op.weights}
    assert np.abs(by_name["conv_pw_2"]).max() == 7 and np.abs(by_name["conv_pw_1"]).max() == 127


def narrow(graph):
    """The layers with weights of 4 bits."""
    return [op.name for op in graph.ops if any(tensor.dtype == "INT4" for tensor in op.weights)]


def test_file_with_4_bits_is_smaller_and_opens_in_every_interpreter(small_network, noise_images):
    files = {}
    for variant in ("int8_per_channel", "int4_pointwise"):
        _, model = quantization.prepare(small_network, noise_images, ConvertParameters(variant=variant))
        files[variant] = quantization.to_int8_with_ranges(model)
    pointwise = sum(op.weights[0].size for op in read_graph(files["int4_pointwise"]).ops if op.is_pointwise)
    saved = len(files["int8_per_channel"]) - len(files["int4_pointwise"])
    assert saved == pytest.approx(pointwise / 2, rel=0.01)
    stock = tf.lite.Interpreter(model_content=files["int4_pointwise"])
    stock.allocate_tensors()
    stock.set_tensor(stock.get_input_details()[0]["index"], noise_images[:1])
    stock.invoke()
    scores = stock.get_tensor(stock.get_output_details()[0]["index"])
    np.testing.assert_allclose(scores, TFLiteModel(files["int4_pointwise"]).predict(noise_images[:1]), atol=0.02)


def kernels_and_biases(tflite):
    """(op, kernel, bias) of each layer that has them."""
    return [(op, *op.weights) for op in read_graph(tflite).ops if len(op.weights) == 2]


@pytest.fixture(scope="module", params=["weights anywhere", "weights halfway between steps"])
def fake_quantized(request, prepared, noise_images, variant):
    if request.param == "weights anywhere":
        return prepared[1]
    folded = prepared[0]
    model = quantization.fake_quantize(folded, noise_images, variant)
    for layer in kernel_layers(model.network):
        layer.kernel.assign(
            halfway(layer.kernel.numpy(), model.weight_scale(layer).numpy(), model.largest_weight(layer))
        )
    return model


def halfway(kernel, step, most):
    """A kernel whose weights, but for the largest, are moved halfway between two steps, where training ends."""
    return np.where(np.abs(kernel) > (most - 1) * step, kernel, (np.floor(kernel / step) + np.float32(0.5)) * step)


def test_converter_rounds_to_the_weights_of_the_fake_quantized_model(fake_quantized):
    model = fake_quantized
    layers = kernels_and_biases(quantization.to_int8_with_ranges(model))
    rounded = [weights.numpy() for weights in model.rounded_weights() if len(weights.shape) > 1]
    for (op, kernel, _), expected in zip(layers, rounded, strict=True):
        values = kernel.values.astype(np.float32)
        axis = 3 if op.code == "DEPTHWISE_CONV_2D" else 0
        scales = kernel.scales.reshape([-1 if i == axis else 1 for i in range(values.ndim)])
        # TensorFlow Lite: (out, height, width, in), depthwise (1, height, width, channels), dense (out, in).
        layout = (3, 0, 1, 2) if values.ndim == 4 else (1, 0)
        weights = np.transpose(expected, layout) if expected.shape[-1] != 1 else expected[None, ..., 0]
        assert np.abs(values - weights / np.maximum(scales, 1e-12)).max() < 0.01


def test_converter_rounds_to_the_biases_of_the_fake_quantized_model(fake_quantized):
    model = fake_quantized
    layers = kernels_and_biases(quantization.to_int8_with_ranges(model))
    rounded = [weights.numpy() for weights in model.rounded_weights() if len(weights.shape) == 1]
    for (_, _, bias), expected in zip(layers, rounded, strict=True):
        assert np.abs(bias.values - expected / bias.scales).max() < 0.1


def test_int8_scores_are_those_of_the_fake_quantized_model(prepared, noise_images, variant):
    scores = TFLiteModel(quantization.to_int8_with_ranges(prepared[1])).predict(noise_images)
    expected = evaluation.predict_keras(prepared[1], noise_images)
    # Scores are rounded to 1/256, and activations halfway between two steps may be rounded the other way.
    # Where weights are coarse, such a step of an activation counts for more.
    assert np.abs(scores - expected).mean() < (0.02 if variant == "int4_pointwise" else 0.005)
    assert np.mean(scores.argmax(1) == expected.argmax(1)) >= 0.95


def test_int8_scores_stay_near_the_float_scores(small_network, prepared, noise_images, variant):
    scores = TFLiteModel(quantization.to_int8_with_ranges(prepared[1])).predict(noise_images)
    error = np.abs(scores - evaluation.predict_keras(small_network, noise_images)).mean()
    assert error < (0.1 if variant == "int8_per_channel" else 0.2)


def test_conversion_prints_nothing(small_network, noise_images, prepared, capfd):
    quantization.to_int8(small_network, noise_images[:2], "int8_per_channel")
    quantization.to_int8_with_ranges(prepared[1])
    assert capfd.readouterr() == ("", "")


def test_model_without_batch_normalization_is_refused():
    image = keras.Input(SHAPE)
    bare = keras.Model(image, keras.layers.Conv2D(4, 3, name="conv1")(image))
    with pytest.raises(WorkbookError, match="layer conv1 is not followed by batch normalization: give a model that"):
        quantization.fold(bare)
