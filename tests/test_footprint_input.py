"""Files that are not a usable int8 model: each is refused with one line that names it and the way out."""

import random

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from tflite_models import convert, edited, tflite

from mbutils.device.footprint import footprint
from mbutils.errors import WorkbookError
from mbutils.tflite.interpreter import TFLiteModel


def tiny_model():
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(64, 3)(inputs)  # under 1024 weights the converter leaves float
    return keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(x)))


def set_height_dynamic(model):
    graph = model.subgraphs[0]
    tensor = graph.tensors[graph.inputs[0]]
    tensor.shapeSignature = [1, -1, *tensor.shape[2:]]


def set_batch_size_2(model):
    graph = model.subgraphs[0]
    graph.tensors[graph.inputs[0]].shape = [2, *graph.tensors[graph.inputs[0]].shape[1:]]


def write_first_output_again(model):
    operators = model.subgraphs[0].operators
    operators[-1].outputs = operators[0].outputs


def repeat_ops(model):
    model.subgraphs[0].operators *= 200


def set_code_of_quantize(code, custom=None):
    def edit(model):
        for entry in model.operatorCodes:
            if entry.builtinCode == schema.BuiltinOperator.QUANTIZE:
                entry.builtinCode = entry.deprecatedBuiltinCode = code
                entry.customCode = custom

    return edit


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (set_height_dynamic, "dynamic shape .* fixed height and width"),
        (set_batch_size_2, "batch size 2"),
        (set_code_of_quantize(schema.BuiltinOperator.TANH), "no memory rules for the op TANH"),
        (set_code_of_quantize(schema.BuiltinOperator.CUSTOM, "Detect"), "no memory rules for the op Detect"),
        (write_first_output_again, "truncated or corrupted.*second time"),
        (lambda model: model.subgraphs.append(model.subgraphs[0]), "2 subgraphs"),
        (repeat_ops, "[0-9]+00 ops: use a model for microcontrollers"),
    ],
    ids=["dynamic", "batch", "unknown op", "custom op", "written twice", "two subgraphs", "many ops"],
)
def test_what_the_rules_do_not_cover_is_refused(edit, message):
    with pytest.raises(WorkbookError, match=message) as error:
        footprint(edited(tflite("ssd"), edit))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("scheme", "message"),
    [("float32", "a float32 model.*convert"), ("dynamic_range", "only partly quantized.*FLOAT32")],
)
def test_unquantized_models_are_refused_with_what_is_missing(scheme, message):
    with pytest.raises(WorkbookError, match=message):
        footprint(convert(tiny_model(), scheme))


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "empty"), (b"PK\x03\x04 a zip file", "not a .tflite"), (b"TFL3", "not a .tflite"), (None, "cannot be read")],
    ids=["empty", "other", "short", "missing"],
)
def test_files_that_are_not_a_model_are_named(tmp_path, content, message):
    path = tmp_path / "model.tflite"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WorkbookError, match=f"model.tflite: .*{message}"):
        footprint(path)


def test_a_truncated_file_is_refused_wherever_it_ends():
    data = tflite("ssd")
    for length in [*range(8, len(data), 97), *range(len(data) - 40, len(data))]:
        with pytest.raises(WorkbookError, match="truncated or corrupted"):
            footprint(data[:length])


def test_corrupted_bytes_give_an_answer_or_one_clear_line():
    data, chance = tflite("ssd"), random.Random(0)
    refused = 0
    for _ in range(300):
        corrupted = bytearray(data)
        for _ in range(chance.choice((1, 4, 16))):
            corrupted[chance.randrange(len(data))] = chance.randrange(256)
        try:
            footprint(bytes(corrupted))
        except WorkbookError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 30


@pytest.mark.parametrize("use", [footprint, TFLiteModel])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_scales_that_are_not_finite_are_refused_before_litert_crashes_on_them(tmp_path, use, value):
    def spoil(model):
        tensor = next(
            one for one in model.subgraphs[0].tensors if one.quantization and one.quantization.scale is not None
        )
        tensor.quantization.scale = np.full_like(tensor.quantization.scale, value)

    path = tmp_path / "diverged.tflite"
    path.write_bytes(edited(tflite("mobilenet_v1 0.25/96/3"), spoil))
    with pytest.raises(WorkbookError, match=r"diverged\.tflite: quantized with scales that are not finite"):
        use(path)


def test_a_weight_matrix_that_lost_its_bytes_is_refused():
    def shorten(model):
        largest = max(model.buffers, key=lambda b: 0 if b.data is None else len(b.data))
        largest.data = largest.data[:-1]

    with pytest.raises(WorkbookError, match="truncated or corrupted"):
        footprint(edited(tflite("ssd"), shorten))
