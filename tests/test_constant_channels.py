"""Channels that are the same for every image leave a graph and the C code, and no output changes by one bit."""

import shutil
from contextlib import contextmanager
from functools import cache

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from deploy_models import host_network, images, write_folder
from deploy_models import tflite as mobilenet
from foreign_models import KINDS
from foreign_models import tflite as foreign
from keras import layers
from tflite_models import convert, edited, made_once, seeded
from tflite_models import tflite as other_tflite

from mbutils import deploy
from mbutils.config import INT8_VARIANTS, Preprocessing
from mbutils.deploy import measure
from mbutils.device.footprint import footprint
from mbutils.tflite import isolated
from mbutils.tflite.constant_channels import without_constant_channels
from mbutils.tflite.interpreter import reference_outputs
from mbutils.tflite.reader import read_graph

missing = deploy.missing_tools()
needs_target = pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")
needs_cc = pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler: install gcc")


def flattened():
    """Every rule in one chain: VALID and SAME, poolings, padding of its own, a map that is flattened, two dense."""
    x = inputs = keras.Input((21, 21, 3))
    x = layers.Conv2D(6, 3, 2, bias_initializer="random_normal", activation="relu6")(x)
    x = layers.DepthwiseConv2D(3, padding="valid", bias_initializer="random_normal", activation="relu")(x)
    x = layers.Conv2D(8, 3, padding="same", bias_initializer="random_normal")(x)
    x = layers.MaxPooling2D(2)(x)
    x = layers.ZeroPadding2D(((0, 1), (1, 0)))(x)
    x = layers.Conv2D(7, 3, 2, bias_initializer="random_normal", activation="relu6")(x)
    x = layers.Conv2D(5, 1, use_bias=False)(x)
    x = layers.AveragePooling2D(2, 1)(x)
    x = layers.Dense(6, activation="relu", bias_initializer="random_normal")(layers.Flatten()(x))
    return keras.Model(inputs, layers.Dense(3, activation="softmax", bias_initializer="random_normal")(x))


def depth_multiplied():
    """Person detection's beginning: a depthwise convolution that makes several channels of one."""
    x = inputs = keras.Input((16, 16, 1))
    x = layers.DepthwiseConv2D(3, 2, "same", depth_multiplier=6, bias_initializer="random_normal", activation="relu6")(
        x
    )
    x = layers.Conv2D(8, 1, bias_initializer="random_normal", activation="relu6")(x)
    x = layers.GlobalMaxPooling2D()(x)
    return keras.Model(inputs, layers.Dense(4, activation="softmax", bias_initializer="random_normal")(x))


BUILDERS = {"flattened": flattened, "depth multiplied": depth_multiplied}


@cache
def alive(name):
    if name in BUILDERS:
        return made_once(f"constant channels {name}", lambda: convert(seeded(BUILDERS[name])))
    if name.startswith("mobilenet"):
        return mobilenet(0.25, 32, 3, 5, f"int8_{name.split()[1]}")
    return other_tflite(name)


NAMES = ["mobilenet per_channel", "mobilenet per_tensor", *BUILDERS, "resnet8", "keras mobilenet 40px"]


def with_dead_channels(content, seed, share):
    """Returns the model with a share of all filters at zero, and biases of every kind for them."""
    rng = np.random.default_rng(seed)

    def kill(model):
        graph = model.subgraphs[0]
        for op in graph.operators:
            if isinstance(op.builtinOptions, schema.Conv2DOptionsT | schema.DepthwiseConv2DOptionsT):
                axis = 3 if isinstance(op.builtinOptions, schema.DepthwiseConv2DOptionsT) else 0
                dead = rng.random(graph.tensors[op.inputs[1]].shape[axis]) < share
                with changed(model, op.inputs[1]) as weights:
                    np.moveaxis(weights, axis, 0)[dead] = 0
                if len(op.inputs) > 2 and op.inputs[2] >= 0:
                    with changed(model, op.inputs[2]) as bias:
                        bias[dead] = biases(rng, bias[dead])

    return edited(content, kill)


def biases(rng, own):
    """Some stay; others end at a bound of the activation function, at the zero point, or near the ends of int32."""
    kinds = [own, own, own, own, -(2**20), 0, 2**20, rng.integers(-3000, 3000, own.shape), 2**30, -(2**31), 2**31 - 1]
    return np.choose(rng.integers(0, len(kinds), own.shape), kinds)


@contextmanager
def changed(model, index):
    """Gives the data of a constant, and keeps what is done to it."""
    tensor = model.subgraphs[0].tensors[index]
    dtype = {schema.TensorType.INT8: np.int8, schema.TensorType.INT32: np.int32}[tensor.type]
    values = np.frombuffer(bytes(model.buffers[tensor.buffer].data), dtype).copy().reshape(tensor.shape)
    yield values
    model.buffers[tensor.buffer].data = np.frombuffer(values.tobytes(), np.uint8)


def written(content, graph):
    """Returns the .tflite with the shapes and weights of a graph that was made of it."""

    def rewrite(model):
        operators, tensors = model.subgraphs[0].operators, model.subgraphs[0].tensors
        for operator, op in zip(operators, graph.ops, strict=True):
            for tensor in (*op.inputs, *op.outputs):
                tensors[tensor.index].shape, tensors[tensor.index].shapeSignature = list(tensor.shape), None
            constants = [stored(model, tensor) for tensor in op.weights]
            if op.code == "RESHAPE":
                shape = np.array(op.outputs[0].shape, np.int32)
                constants, operator.builtinOptions.newShape = [new_tensor(model, shape)], shape.tolist()
            if constants:
                operator.inputs = [op.inputs[0].index, *constants]

    def stored(model, tensor):
        quantization = schema.QuantizationParametersT()
        quantization.scale, quantization.zeroPoint = tensor.scales.tolist(), [0] * len(tensor.scales)
        quantization.quantizedDimension = 3 if tensor.shape[0] == 1 and len(tensor.shape) == 4 else 0
        return new_tensor(model, tensor.values, quantization)

    return edited(content, rewrite)


def new_tensor(model, values, quantization=None):
    buffer, tensor = schema.BufferT(), schema.TensorT()
    buffer.data = np.frombuffer(values.tobytes(), np.uint8)
    model.buffers.append(buffer)
    tensor.name, tensor.shape, tensor.quantization = b"constant", list(values.shape), quantization
    tensor.type = {np.int8: schema.TensorType.INT8, np.int32: schema.TensorType.INT32}[values.dtype.type]
    tensor.buffer = len(model.buffers) - 1
    model.subgraphs[0].tensors.append(tensor)
    return len(model.subgraphs[0].tensors) - 1


def outputs(content, vectors):
    """Returns what the reference kernels make of images, before the softmax."""
    graph = read_graph(content)
    index = next(op for op in graph.ops if op.code == "SOFTMAX").inputs[0].index
    interpreter = isolated.Interpreter("model", content, "BUILTIN_REF", keeps_tensors=True)
    return np.array([interpreter.run(image[None], [index])[0].ravel() for image in vectors])


@pytest.mark.parametrize("name", ["mobilenet per_channel", *BUILDERS, "resnet8", "squeezenet", "ssd"])
def test_a_graph_whose_channels_are_alive_stays_as_it_is(name):
    graph = read_graph(alive(name))
    assert without_constant_channels(graph) is graph


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 1])
def test_outputs_do_not_change_by_one_bit(name, share):
    vectors = images(8, read_graph(alive(name)).inputs[0].shape[1:])
    left_out, answers = 0, set()
    for seed in range(3):
        content = with_dead_channels(alive(name), seed, share)
        graph = read_graph(content)
        thinned = without_constant_channels(graph)
        left_out += graph.channels - thinned.channels
        expected = outputs(content, vectors)
        answers.update(map(tuple, expected))
        np.testing.assert_array_equal(outputs(written(content, thinned), vectors), expected)
    assert left_out
    if share == 0.1 and name != "keras mobilenet 40px":  # in that, differences between images fade
        assert len(answers) > 3


def with_dead_filter(bias, depthwise=None):
    """Returns MobileNet with a filter of conv_pw_2 that is zero, its bias, and what conv_dw_3 multiplies it by."""

    def kill(model):
        convolutions = [op for op in model.subgraphs[0].operators if len(op.inputs) == 3]
        with changed(model, convolutions[4].inputs[1]) as weights, changed(model, convolutions[4].inputs[2]) as biases:
            weights[0], biases[0] = 0, bias
        if depthwise is not None:
            with changed(model, convolutions[5].inputs[1]) as weights:
                weights[..., 0] = depthwise

    return read_graph(edited(alive("mobilenet per_channel"), kill))


@pytest.mark.parametrize(
    ("bias", "depthwise", "left_out"),
    [
        (-(2**25), None, 2),  # the activation function makes it 0, which is what the depthwise convolution pads with
        (2**25, None, 0),  # 6 ends at the border
        (2**25, 0, 2),  # but not if the depthwise filter is zero
        (2**25, -127, 2),  # or if its own output is below 0 at every position, and so constant
    ],
)
def test_a_padded_channel_leaves_only_if_it_is_what_padding_is(bias, depthwise, left_out):
    graph = with_dead_filter(bias, depthwise)
    thinned = without_constant_channels(graph)
    assert graph.channels - thinned.channels == left_out


# The C code.


def assert_c_equals_reference(content, streamed_layers=0):
    code = host_network(content, streamed_layers)
    vectors = images(8, code.network.image_shape)
    logits, scores = reference_outputs(content, vectors)
    for image, expected, score in zip(vectors, logits, scores, strict=True):
        found = code.run(image)
        np.testing.assert_array_equal(found[0], expected)
        np.testing.assert_array_equal(found[1], score)
    return code


@needs_cc
@pytest.mark.parametrize("variant", INT8_VARIANTS)
def test_filters_that_were_zero_before_the_conversion_leave_the_c_code(variant):
    content = mobilenet(0.25, 32, 3, 5, variant, 0.3)
    model = footprint(content)
    code = assert_c_equals_reference(content)
    assert model.constant_channels > 300 and model.alive.constant_channels == 0
    assert sum(layer.macs for layer in code.network.layers) == model.alive.macs < 0.8 * model.macs
    assert model.alive.weights_flash_bytes < 0.8 * model.weights_flash_bytes


@needs_cc
@pytest.mark.parametrize("name", ["mobilenet per_channel", "mobilenet per_tensor", "keras mobilenet 40px"])
@pytest.mark.parametrize(("share", "streamed_layers"), [(0.05, 0), (0.3, 6), (0.97, 0), (1, 0)])
def test_c_code_without_constant_channels_equals_the_reference_kernels(name, share, streamed_layers):
    code = assert_c_equals_reference(with_dead_channels(alive(name), 7, share), streamed_layers)
    channels = {layer.output_shape[2] for layer in code.network.layers}
    assert any(count % 2 for count in channels) and (1 in channels or share < 0.9)


@pytest.mark.slow
@needs_cc
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "CONCATENATION"])
@pytest.mark.parametrize("share", [0.1, 0.4, 0.95])
def test_c_code_of_models_from_elsewhere_equals_the_reference_kernels_too(kind, share):
    assert_c_equals_reference(with_dead_channels(foreign(kind), 1, share))


@pytest.mark.slow
@needs_target
@pytest.mark.parametrize("share", [0.05, 0.3, 0.97])
def test_odd_and_single_channels_pass_on_the_target(tmp_path, share):
    content = with_dead_channels(alive("mobilenet per_channel"), 7, share)
    write_folder(tmp_path / "c", content, Preprocessing(32, "rgb", "area"), tuple("abcde"), 4)
    assert measure.measure(tmp_path / "c").instructions  # every vector passes, with the DSP extension and without
