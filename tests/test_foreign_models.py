"""Int8 models as others make them: what they cost, what they answer, and their C code."""

import shutil

import numpy as np
import pytest
from deploy_models import host_network, images, network_of
from foreign_models import KINDS, tflite
from tflite_models import tflite as published

from mbutils.config import PROJECT
from mbutils.deploy.memory import deepest
from mbutils.device.footprint import footprint
from mbutils.errors import WorkbookError
from mbutils.tflite import pixels
from mbutils.tflite.interpreter import TFLiteModel, reference_outputs
from mbutils.tflite.reader import read_graph

needs_cc = pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler: install gcc")
REFUSED = {"CONCATENATION": "no C kernel for the op CONCATENATION"}
DEPLOYED = [kind for kind in KINDS if kind not in REFUSED]


@pytest.mark.parametrize("kind", KINDS)
def test_footprint_reads_every_kind(kind):
    model = footprint(tflite(kind))
    assert model.activation_ram_bytes > 0 and model.macs > 0


def test_a_dynamic_batch_is_a_batch_of_1():
    dynamic, fixed = (footprint(tflite(kind)).to_dict() for kind in ("dynamic batch", "fixed batch"))
    assert dynamic.pop("tflite_bytes") != fixed.pop("tflite_bytes")
    assert dynamic == fixed


def test_ops_that_compute_shapes_cost_nothing():
    codes = [op.code for op in read_graph(tflite("shapes computed")).ops]
    assert codes[-6:] == ["MEAN", "RESHAPE", "CONV_2D", "RESHAPE", "SOFTMAX", "DEQUANTIZE"]
    weights = footprint(tflite("dynamic batch")).weights_flash_bytes
    assert footprint(tflite("shapes computed")).weights_flash_bytes == weights


@pytest.mark.parametrize("kind", KINDS)
def test_litert_scores_every_kind(kind):
    model = TFLiteModel(tflite(kind))
    scores = model.predict_on_batch(images(6, model.image_shape))
    assert len(np.unique(scores.round(3), axis=0)) > 3  # of six, that every layer lets differ


@needs_cc
@pytest.mark.parametrize("kind", DEPLOYED)
def test_c_code_equals_the_reference_kernels(kind):
    _assert_equals_reference(tflite(kind))


@needs_cc
@pytest.mark.parametrize("name", ["resnet8", pytest.param("mobilenet_v2", marks=pytest.mark.slow)])
def test_c_code_of_published_residual_networks_equals_the_reference_kernels(name):
    _assert_equals_reference(published(name), distinct=1)  # their weights are random


def test_layers_are_streamed_up_to_the_first_map_that_is_read_later():
    assert deepest(network_of(tflite("residual, strided shortcut"))) == 1
    assert deepest(network_of(tflite("residual"))) == 5
    assert deepest(network_of(tflite("dynamic batch"))) == 9


def _assert_equals_reference(content, distinct=6):
    codes = [host_network(content), host_network(content, min(4, deepest(network_of(content))))]
    vectors = images(6, codes[0].network.image_shape)
    expected = reference_outputs(content, vectors)
    assert len(np.unique(expected[0], axis=0)) >= distinct
    for image, logits, scores in zip(vectors, *expected, strict=True):
        for code in codes:
            found = code.run(image)
            np.testing.assert_array_equal(found[0], logits)
            np.testing.assert_array_equal(found[1], scores)
            assert found[2] == scores.argmax()


@pytest.mark.parametrize(("kind", "message"), REFUSED.items())
def test_what_has_no_kernel_is_refused_by_name(kind, message):
    with pytest.raises(WorkbookError, match=message):
        network_of(tflite(kind))


@pytest.mark.parametrize("kind", ["uint8 input and output", "int8 input and output"])
def test_the_type_of_input_and_output_changes_no_score(kind):
    vectors = images(6, (32, 32, 3))
    same, other = (reference_outputs(tflite(name), vectors)[0] for name in ("dynamic batch", kind))
    np.testing.assert_array_equal(same, other)


@pytest.mark.parametrize(
    ("dtype", "scale", "zero_point", "scaling"),
    [
        ("uint8", 1 / 127.5, 127, "1/127.5"),
        ("int8", 2 / 255, -1, "1/127.5"),
        ("uint8", 1 / 255, 0, "1/255"),
        ("int8", 1 / 255, -128, "1/255"),
        ("uint8", 1.0, 0, "none"),
        ("int8", 0.97 / 255, -128, "1/255"),  # calibrated on images without white
        ("float32", 0.0, 0, "1/127.5"),
    ],
)
def test_the_input_says_how_pixels_were_scaled(dtype, scale, zero_point, scaling):
    assert pixels.scaling_of(dtype, scale, zero_point) == scaling


def test_pixels_go_in_as_they_are_where_only_rounding_differs():
    as_they_are = np.arange(256)
    np.testing.assert_array_equal(pixels.values("uint8", 1 / 127.5, 127, "1/127.5"), as_they_are)
    np.testing.assert_array_equal(pixels.values("int8", 1 / 255, -128, "1/255"), as_they_are - 128)


def test_pixels_are_quantized_where_the_input_stands_for_another_range():
    found = pixels.values("int8", 0.5 / 255, -128, "1/255")
    assert found[[0, 1, 100, 200]].tolist() == [-128, -126, 72, 127]


def test_an_input_that_stands_for_no_scaling_is_refused_with_the_way_out():
    with pytest.raises(WorkbookError, match=r"stands for -2\.11 to 2\.61, .*with --scaling"):
        pixels.scaling_of("int8", 4.72 / 255, -14)


def test_the_documentation_says_what_becomes_of_each_kind():
    text = (PROJECT / "docs" / "models.md").read_text()
    lines = text.split("## What is read\n")[1].split("\n## ")[0].splitlines()
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")][1:]
    deployed = {kind: f"no: {kind} is named" if kind in REFUSED else "bit for bit" for kind in KINDS}
    assert table == [[kind, "yes", "yes", deployed[kind]] for kind in KINDS]
