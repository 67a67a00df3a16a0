"""The C code of a network: equal to the LiteRT reference kernels bit for bit, in the RAM that is promised."""

import shutil
import subprocess
from itertools import product

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from deploy_models import C99, host_network, images, network_of, tflite, write_folder
from tflite_models import edited
from tflite_models import tflite as other_tflite

from mbutils import deploy
from mbutils.config import INT8_VARIANTS, Preprocessing
from mbutils.deploy.render import string_literal
from mbutils.device import published
from mbutils.errors import WorkbookError
from mbutils.tflite import requantize
from mbutils.tflite.interpreter import reference_outputs

needs_cc = pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler: install gcc")
FLOWERS = [(0.25, 224, 3), (0.5, 224, 3), (0.25, 96, 3), (0.25, 96, 1)]
ODD = [
    (0.25, 33, 1, 2, "int8_per_channel"),
    (0.25, 50, 3, 101, "int8_per_tensor"),
    (0.1, 127, 3, 7, "int8_per_channel"),
    (0.1, 35, 1, 3, "int4_pointwise"),
]
FAST = [
    ((0.25, 96, 3), "int8_per_channel"),
    ((0.25, 96, 1), "int8_per_tensor"),
    ((0.25, 96, 3), "int4_pointwise"),
]
TINY = (0.25, 32, 3, 5)


def assert_equals_reference(content, count, streamed_layers=(0,)):
    codes = [host_network(content, layers) for layers in streamed_layers]
    vectors = images(count, codes[0].network.image_shape)
    for image, logits, scores in zip(vectors, *reference_outputs(content, vectors), strict=True):
        for code in codes:
            found = code.run(image)
            np.testing.assert_array_equal(found[0], logits)
            np.testing.assert_array_equal(found[1], scores)
            assert found[2] == scores.argmax()
    return codes


@needs_cc
@pytest.mark.parametrize(
    ("configuration", "variant"),
    [pytest.param(*pair, marks=[] if pair in FAST else pytest.mark.slow) for pair in product(FLOWERS, INT8_VARIANTS)],
    ids=str,
)
def test_flowers_models_equal_the_reference_kernels(configuration, variant):
    (code,) = assert_equals_reference(tflite(*configuration, 5, variant), 16)
    assert any("per_channel = 1" in line for line in code.text.splitlines()) == (variant != "int8_per_tensor")


def test_weights_of_4_bits_take_half_the_flash_and_no_more_ram():
    wide, narrow = (network_of(tflite(*TINY, variant)) for variant in ("int8_per_channel", "int4_pointwise"))
    pointwise = sum(layer.weights.size for layer in wide.layers if layer.is_pointwise)
    assert wide.constant_bytes - narrow.constant_bytes == pytest.approx(pointwise / 2, rel=0.02)
    assert deploy.plan(narrow, 0).arena_bytes <= deploy.plan(wide, 0).arena_bytes
    packed = [layer.name for layer in narrow.layers if layer.bits == 4]
    assert packed == [f"conv_pw_{block}" for block in range(1, 14)]


def test_4_bits_in_other_layers_than_convolutions_are_refused_by_name():
    def narrow(model):
        graph = model.subgraphs[0]
        dense = next(op for op in graph.operators if isinstance(op.builtinOptions, schema.FullyConnectedOptionsT))
        weights = graph.tensors[dense.inputs[1]]
        weights.type = schema.TensorType.INT4
        stored = model.buffers[weights.buffer]
        stored.data = stored.data[: len(stored.data) // 2]

    with pytest.raises(WorkbookError, match="weights of INT4 in "):
        network_of(edited(tflite(*TINY), narrow))


@needs_cc
def test_streamed_layers_equal_the_reference_kernels():
    assert_equals_reference(tflite(*TINY), 16, (0, 4, 27))


@pytest.mark.slow
@needs_cc
@pytest.mark.parametrize("configuration", ODD, ids=str)
def test_odd_sizes_channels_and_classes_equal_the_reference_kernels(configuration):
    assert_equals_reference(tflite(*configuration), 200, (0, 2, 5, 8))


def test_test_images_make_a_difference():
    logits, _ = reference_outputs(tflite(*TINY), images(20, (32, 32, 3)))
    assert len(np.unique(logits, axis=0)) > 15


@needs_cc
@pytest.mark.parametrize("streamed_layers", [0, 4, 27])
def test_image_may_lie_outside_the_arena_and_stays_as_it_is(streamed_layers):
    code, image = host_network(tflite(*TINY), streamed_layers), images(1, (32, 32, 3))[0]
    inside, outside = code.run(image), code.run(image, in_arena=False)
    np.testing.assert_array_equal(inside[0], outside[0])
    np.testing.assert_array_equal(inside[1], outside[1])


@needs_cc
@pytest.mark.parametrize("exact", [True, False])
def test_answer_is_unknown_below_the_threshold_as_the_scores_say(exact):
    vectors = images(20, (32, 32, 3))
    _, scores = reference_outputs(tflite(*TINY), vectors)
    highest = scores.max(axis=1)
    threshold = float(np.sort(highest)[10]) - (0 if exact else 0.001)
    code = host_network(tflite(*TINY), min_confidence=threshold)
    expected = np.where(highest >= threshold, scores.argmax(axis=1), -1)
    assert 0 < (expected == -1).sum() < 20
    assert [code.run(image)[2] for image in vectors] == expected.tolist()


@needs_cc
def test_misaligned_arena_is_refused_before_anything_is_touched():
    assert host_network(tflite(*TINY)).run_misaligned() == -1


@needs_cc
def test_pad_ops_equal_the_reference_kernels():
    whole, _ = assert_equals_reference(other_tflite("keras mobilenet 40px"), 10, (0, 6))
    assert "nn_pad" in whole.text


@needs_cc
def test_other_pixel_scales_go_through_a_table():
    def widen(model):
        graph = model.subgraphs[0]
        quantization = graph.tensors[graph.operators[0].outputs[0]].quantization
        quantization.scale = quantization.scale * np.float32(1.37)

    (code,) = assert_equals_reference(edited(tflite(*TINY), widen), 10)
    assert "nn_quantize_by_table" in code.text


@needs_cc
@pytest.mark.parametrize("factor", [0.002, 0.25])
def test_unusual_scales_equal_the_reference_kernels_at_the_cost_of_their_layers_alone(factor):
    """Outputs of a far smaller scale multiply sums by more than a half; a scale of ReLU6 below clamps further up."""

    def rescale(model):
        graph = model.subgraphs[0]
        outputs = [op.outputs[0] for op in graph.operators if len(op.inputs) == 3]
        for index in outputs[3:6]:
            quantization = graph.tensors[index].quantization
            quantization.scale = quantization.scale * np.float32(factor)
            quantization.zeroPoint = quantization.zeroPoint + (100 if factor == 0.25 else 0)

    (code,) = assert_equals_reference(edited(tflite(*TINY), rescale), 10)
    assert "any" in {layer.kind for layer in code.network.layers[3:6]}
    assert {layer.kind for layer in code.network.layers[6:-2]} == {"rectified"}


@needs_cc
def test_channels_without_weights_and_with_large_biases_equal_the_reference_kernels():
    def spoil(model):
        graph = model.subgraphs[0]
        pointwise = [op for op in graph.operators if len(op.inputs) == 3][2]
        weights, bias = (model.buffers[graph.tensors[i].buffer] for i in pointwise.inputs[1:])
        values = np.frombuffer(bytes(weights.data), np.int8).copy().reshape(16, -1)
        values[:4] = 0
        weights.data = np.frombuffer(values.tobytes(), np.uint8)
        biases = np.frombuffer(bytes(bias.data), np.int32).copy()
        biases[[0, 1, 2, 5]] = [2**30, -(2**30), 2**30 - 5, 2**30]
        bias.data = np.frombuffer(biases.tobytes(), np.uint8)
        quantization = graph.tensors[pointwise.inputs[1]].quantization
        quantization.scale = quantization.scale * np.where(np.arange(16) < 3, 1e-8, 1).astype(np.float32)

    (code,) = assert_equals_reference(edited(tflite(*TINY), spoil), 10)
    assert {layer.kind for layer in code.network.layers[:-2]} == {"rectified"}


@pytest.mark.parametrize("configuration", FLOWERS, ids=str)
def test_arena_is_at_most_the_published_activation_ram(configuration):
    alpha, size, channels = configuration
    table = published.flowers(published.footprint_bytes())
    row = table[(table["alpha"] == alpha) & (table["image_size"] == size) & (table["channels"] == channels)]
    network = network_of(tflite(*configuration, 5))
    # The page has the values of 96 px gray and RGB swapped in unit and size: the least of both is the limit for both.
    limit = min(int(row["activation_ram_bytes"].iloc[0]), round(38.64 * 1024) if size == 96 else 2**30)
    assert deploy.plan(network).arena_bytes <= limit


@pytest.mark.parametrize(("configuration", "layers", "most"), [((0.25, 96, 3), 4, 0.87), ((0.5, 224, 3), 8, 0.5)])
def test_streamed_layers_save_ram_and_cost_no_macs(configuration, layers, most):
    table = deploy.streaming(network_of(tflite(*configuration, 5))).set_index("streamed_layers")
    assert table.loc[layers, "arena_bytes"] < most * table.loc[0, "arena_bytes"]
    assert table["macs"].nunique() == 1
    assert table["patch_macs"].is_monotonic_increasing and table.loc[layers, "patch_macs"] > table.loc[0, "macs"]


@needs_cc
@pytest.mark.parametrize("streamed_layers", [0, 6])
def test_sanitizers_find_nothing(tmp_path, streamed_layers):
    write_folder(tmp_path / "c", tflite(*TINY), Preprocessing(32, "rgb", "area"), tuple("abcde"), 3, streamed_layers)
    flags = ["-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    command = ["cc", *C99, *flags, "network.c", "main.c", "host.c", "-o", "check"]
    subprocess.run(command, cwd=tmp_path / "c", check=True)
    result = subprocess.run([tmp_path / "c" / "check"], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "PASS"


@needs_cc
def test_wrong_outputs_do_not_pass(tmp_path):
    write_folder(tmp_path / "c", tflite(*TINY), Preprocessing(32, "rgb", "area"), tuple("abcde"), 1)
    vectors = (
        (tmp_path / "c" / "vectors.h")
        .read_text()
        .replace("vector_logits[1][5] = {\n    {", "vector_logits[1][5] = {\n    {1 + ")
    )
    (tmp_path / "c" / "vectors.h").write_text(vectors)
    result = subprocess.run(["make", "-s", "check"], cwd=tmp_path / "c", capture_output=True, text=True)
    assert result.returncode != 0 and "WRONG" in result.stdout and "FAIL" in result.stdout


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda: other_tflite("squeezenet"), "no C kernel for the op CONCATENATION"),
        (lambda: other_tflite("ssd"), "more than one input or output"),
        (lambda: b"TFL3 but no model", "not a .tflite file"),
    ],
    ids=["concatenation", "two outputs", "no model"],
)
def test_models_without_kernels_are_refused_by_name(content, message):
    with pytest.raises(WorkbookError, match=message):
        network_of(content())


def test_more_streamed_layers_than_work_by_rows_are_refused():
    with pytest.raises(WorkbookError, match="28 layers cannot be streamed: at most the first 27"):
        deploy.plan(network_of(tflite(*TINY)), 28)


@pytest.mark.parametrize(
    ("real", "multiplier", "shift"),
    [(1.0, 2**30, 1), (0.5, 2**30, 0), (0.25, 2**30, -1), (2**-40, 0, -1), (0.0, 0, -1), (1 - 2**-40, 2**30, 1)],
)
def test_multipliers_are_31_bits_and_a_power_of_two(real, multiplier, shift):
    assert requantize.quantized_multiplier(real) == (multiplier, shift)


@pytest.mark.parametrize(("value", "half"), [(1, 1), (-1, 0), (2, 1), (-2, -1), (3, 2), (-3, -1), (4, 2), (-4, -2)])
def test_products_round_halves_up(value, half):
    assert requantize.scaled(value, 2**30, 0) == half


@pytest.mark.parametrize(("value", "half"), [(1, 1), (-1, -1), (2, 1), (-2, -1), (3, 2), (-3, -2), (4, 2), (-4, -2)])
def test_shifts_round_halves_away_from_zero(value, half):
    # So near to 1 that the product is the value itself, and only the shift halves it.
    assert requantize.scaled(value, 2**31 - 2, -1) == half


def test_values_are_rounded_twice():
    assert requantize.scaled(1, 2**30, -1) == 1  # a quarter: a half rounds up to 1, whose half rounds away from zero


def outputs_of(multiplier, shift, sums, bounds):
    """The output, less its zero point, of each sum."""
    return [min(max(requantize.scaled(value, int(multiplier), int(shift)), bounds[0]), bounds[1]) for value in sums]


@pytest.mark.parametrize("bounds", [(0, 255), (-128, 127), (3, 40)])
@pytest.mark.parametrize("shift", [0, -1, -2, -4, -5, -15, -16, -21, -31])
def test_a_multiplier_that_holds_its_shift_changes_no_output(bounds, shift):
    rng = np.random.default_rng(-shift)
    multipliers, shifts = rng.integers(2**30, 2**31, 8).astype(np.int32), np.full(8, shift, np.int8)
    low, high = rng.integers(-3000, -1000, 8), rng.integers(1000, 3000, 8)
    held = requantize.with_shifts(multipliers, shifts, low, high, bounds)
    assert (held & requantize.SHIFT_BITS).tolist() == [min(-shift, 15)] * 8
    assert (held != multipliers).any()
    for one, multiplier, first, last in zip(held, multipliers, low, high, strict=True):
        sums = range(first, last + 1)
        expected = outputs_of(multiplier, shift, sums, bounds)
        assert outputs_of(one, -(one & requantize.SHIFT_BITS), sums, bounds) == expected


def test_a_multiplier_of_zero_stays_without_effect():
    held = requantize.with_shifts(np.array([0], np.int32), np.array([-1], np.int8), *np.array([[-9], [9]]), (-128, 127))
    assert outputs_of(held[0], -1, range(-9, 10), (-128, 127)) == [0] * 19


def test_no_multipliers_hold_their_shifts_where_an_output_would_change():
    # Every multiple of 2^8 begins an output: any other multiplier begins some of them at another sum.
    exact = np.array([2**30], np.int32), np.array([-7], np.int8)
    assert requantize.with_shifts(*exact, np.array([-(2**15)]), np.array([2**15]), (-100, 100)) is None


@pytest.mark.parametrize("text", ['a "quoted" \\ name', "Gänseblümchen", "tab\there", "what??!", "1\\n2"])
def test_class_names_are_c_strings(tmp_path, text):
    literal = string_literal(text)
    assert literal.isascii() and "\n" not in literal
    (tmp_path / "names.c").write_text(f"#include <stdio.h>\nint main(void) {{ fputs({literal}, stdout); return 0; }}\n")
    if shutil.which("cc"):
        subprocess.run(["cc", *C99, "names.c", "-o", "names"], cwd=tmp_path, check=True)
        assert subprocess.run([tmp_path / "names"], capture_output=True).stdout.decode() == text
