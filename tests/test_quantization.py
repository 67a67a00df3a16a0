import numpy as np
import pytest

from mbutils import evaluation, quantization
from mbutils import model as mobilenet

SHAPE = (32, 32, 3)


@pytest.fixture(scope="module")
def network():
    network = mobilenet.build(0.25, SHAPE, 5)
    # Statistics as after a training, so that folding the batch normalization has something to fold.
    for layer in network.layers:
        if layer.name.endswith("_bn"):
            rng = np.random.default_rng(0)
            layer.set_weights([rng.uniform(0.5, 1.5, weight.shape) for weight in layer.get_weights()])
    return network


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (40, *SHAPE), dtype=np.uint8)


@pytest.fixture(scope="module")
def converted(network, images):
    return {v: quantization.to_int8(network, images, v) for v in ("int8_per_channel", "int8_per_tensor")}


def test_model_takes_uint8_images_and_returns_float32_scores(converted):
    _, ends = quantization.describe(converted["int8_per_channel"])
    rows = ends.set_index("tensor")
    assert rows.loc["input", "dtype"] == "uint8" and rows.loc["input", "shape"] == (1, *SHAPE)
    assert rows.loc["output", "dtype"] == "float32" and rows.loc["output", "shape"] == (1, 5)
    # Pixels 0..255 are the model's -1..1, with no op for it.
    assert rows.loc["input", "scale"] == pytest.approx(1 / 127.5, rel=1e-4)
    assert rows.loc["input", "zero_point"] in (127, 128)


def test_model_has_the_ops_of_mobilenet_and_no_others(converted):
    ops, _ = quantization.describe(converted["int8_per_channel"])
    counts = dict(zip(ops["op"], ops["count"], strict=True))
    ends = {"QUANTIZE": 1, "MEAN": 1, "FULLY_CONNECTED": 1, "SOFTMAX": 1, "DEQUANTIZE": 1}
    assert counts == {"CONV_2D": 14, "DEPTHWISE_CONV_2D": 13, **ends}


def test_variants_differ_in_the_number_of_weight_scales(converted):
    from ai_edge_litert.interpreter import Interpreter

    def most_scales(tflite):
        details = Interpreter(model_content=tflite).get_tensor_details()
        return max(len(tensor["quantization_parameters"]["scales"]) for tensor in details)

    assert most_scales(converted["int8_per_channel"]) == 256
    assert most_scales(converted["int8_per_tensor"]) == 1


def test_int8_scores_stay_near_the_float_scores(network, converted, images):
    scores = evaluation.TFLiteModel(converted["int8_per_channel"]).predict(images)
    assert np.abs(scores - evaluation.predict_keras(network, images)).max() < 0.1


def test_conversion_prints_nothing(network, images, capfd):
    quantization.to_int8(network, images[:2], "int8_per_channel")
    assert capfd.readouterr() == ("", "")
