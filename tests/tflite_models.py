"""Small and published architectures as .tflite bytes, made once each, and ways to damage them.

Weights are random and biases not zero: the converter drops a bias of zeros, which no trained model has.
"""

import os
import tempfile
from functools import cache
from pathlib import Path

import flatbuffers
import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from keras import layers

from mbutils.backend import convert_variables_to_constants_v2
from mbutils.files import locked

MOBILENET_V1 = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
SQUEEZENET_V1_1 = [(16, 64)] * 2 + [(32, 128)] * 2 + [(48, 192)] * 2 + [(64, 256)] * 2


def mobilenet_v1(alpha, image_size, channels, classes=5):
    x = inputs = keras.Input((image_size, image_size, channels))
    x = _bn_relu6(layers.Conv2D(int(32 * alpha), 3, 2, padding="same", use_bias=False, name="conv1")(x))
    for block, (filters, stride) in enumerate(MOBILENET_V1, start=1):
        depthwise = layers.DepthwiseConv2D(3, stride, padding="same", use_bias=False, name=f"conv_dw_{block}")
        x = _bn_relu6(depthwise(x))
        x = _bn_relu6(layers.Conv2D(int(filters * alpha), 1, use_bias=False, name=f"conv_pw_{block}")(x))
    return keras.Model(inputs, _classifier(layers.GlobalAveragePooling2D()(x), classes))


def mobilenet_v2():
    """MobileNet v2 0.35, 128 x 128 x 3, 5 classes: one of the published latency rows."""
    base = keras.applications.MobileNetV2((128, 128, 3), alpha=0.35, weights=None, include_top=False, pooling="avg")
    return keras.Model(base.input, _classifier(base.output, 5))


def keras_mobilenet_40px():
    """keras.applications pads by (0, 1) even where SAME would not, so the PAD ops of odd sizes stay in the file."""
    base = keras.applications.MobileNet((40, 40, 3), alpha=0.25, weights=None, include_top=False, pooling="avg")
    return keras.Model(base.input, _classifier(base.output, 5))


def resnet_v1(blocks, classes):
    """ResNet v1 for CIFAR, as published: three stages of residual blocks with 16, 32 and 64 channels."""
    inputs = keras.Input((32, 32, 3))
    x = layers.ReLU()(_conv_bn(inputs, 16))
    for filters, strides in ((16, [1] * blocks), (32, [2] + [1] * (blocks - 1)), (64, [2] + [1] * (blocks - 1))):
        for stride in strides:
            y = layers.ReLU()(_conv_bn(x, filters, stride))
            y = _conv_bn(y, filters)
            if stride > 1:
                x = layers.Conv2D(filters, 1, stride, padding="same", bias_initializer="random_normal")(x)
            x = layers.ReLU()(layers.Add()([x, y]))
    return keras.Model(inputs, _classifier(layers.Flatten()(layers.AveragePooling2D(8)(x)), classes))


def miniresnet():
    """MiniResNet for audio, one stack, as published: padding and max pooling before two residual blocks."""
    inputs = keras.Input((64, 50, 1))
    x = layers.ReLU()(_conv_bn(layers.ZeroPadding2D(3)(inputs), 64, 2, 7, "valid"))
    x = layers.MaxPooling2D(3, 2)(layers.ZeroPadding2D(1)(x))
    for shortcut, stride in ((_conv_bn(x, 64, 2, 1), 2), (None, 1)):
        y = layers.ReLU()(_conv_bn(x, 64, stride, 1))
        x = layers.ReLU()(layers.Add()([x if shortcut is None else shortcut, _conv_bn(y, 64)]))
    return keras.Model(inputs, _classifier(layers.Flatten()(x), 10))


def st_mnist():
    """ST MNIST for characters of 28 px, as published: a chain of full, depthwise and pointwise convolutions."""
    inputs = keras.Input((28, 28, 1))
    x = layers.ReLU()(_conv_bn(inputs, 16, 2))
    x = layers.ReLU()(layers.BatchNormalization()(layers.DepthwiseConv2D(3, padding="same")(x)))
    x = layers.ReLU()(_conv_bn(x, 32))
    x = layers.ReLU()(layers.BatchNormalization()(layers.DepthwiseConv2D(3, 2, padding="same")(x)))
    x = layers.GlobalAveragePooling2D()(layers.ReLU()(_conv_bn(x, 64, 1, 1)))
    return keras.Model(inputs, _classifier(x, 36))


def squeezenet():
    """SqueezeNet v1.1, 128 x 128 x 3, 5 classes: max pooling, and concatenation of two branches."""
    x = inputs = keras.Input((128, 128, 3))
    x = layers.Conv2D(64, 3, 2, activation="relu")(x)
    for module, (squeeze, expand) in enumerate(SQUEEZENET_V1_1):
        if module in (0, 2, 4):
            x = layers.MaxPooling2D(3, 2)(x)
        x = layers.Conv2D(squeeze, 1, activation="relu")(x)
        left = layers.Conv2D(expand, 1, activation="relu")(x)
        right = layers.Conv2D(expand, 3, padding="same", activation="relu")(x)
        x = layers.Concatenate()([left, right])
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(5, 1, activation="relu")(x))
    return keras.Model(inputs, layers.Softmax()(x))


def ssd():
    """Two feature maps, each with a box and a class head: reshape, concatenation, logistic, two outputs."""
    inputs = keras.Input((96, 96, 3))
    x = layers.Conv2D(8, 3, 2, padding="same", activation="relu")(inputs)
    x = layers.SeparableConv2D(16, 3, 2, padding="same", activation="relu")(x)
    y = layers.SeparableConv2D(32, 3, 2, padding="same", activation="relu")(x)
    boxes = [layers.Reshape((-1, 4))(layers.Conv2D(8, 3, padding="same")(feature)) for feature in (x, y)]
    scores = [layers.Reshape((-1, 2))(layers.Conv2D(4, 3, padding="same")(feature)) for feature in (x, y)]
    scores = layers.Activation("sigmoid")(layers.Concatenate(axis=1)(scores))
    return keras.Model(inputs, [layers.Concatenate(axis=1)(boxes), scores])


def _bn_relu6(x):
    return layers.ReLU(6.0)(layers.BatchNormalization()(x))


def _conv_bn(x, filters, stride=1, kernel=3, padding="same"):
    return layers.BatchNormalization()(layers.Conv2D(filters, kernel, stride, padding)(x))


def _classifier(x, classes):
    dense = layers.Dense(classes, activation="softmax", bias_initializer="random_normal", name="predictions")
    return dense(layers.Dropout(0.1)(x))


BUILDERS = {
    "mobilenet_v1 0.25/224/3": lambda: mobilenet_v1(0.25, 224, 3),
    "mobilenet_v1 0.5/224/3": lambda: mobilenet_v1(0.5, 224, 3),
    "mobilenet_v1 0.25/96/3": lambda: mobilenet_v1(0.25, 96, 3),
    "mobilenet_v1 0.25/96/1": lambda: mobilenet_v1(0.25, 96, 1),
    "mobilenet_v2": mobilenet_v2,
    "keras mobilenet 40px": keras_mobilenet_40px,
    "resnet8": lambda: resnet_v1(1, 10),
    "resnet32": lambda: resnet_v1(5, 100),
    "miniresnet": miniresnet,
    "st_mnist": st_mnist,
    "squeezenet": squeezenet,
    "ssd": ssd,
}


@cache
def tflite(name):
    """Returns one of `BUILDERS`, int8."""
    return made_once(name, lambda: convert(seeded(BUILDERS[name])))


def seeded(build):
    """Builds a model with the same random weights in every test run."""
    keras.utils.set_random_seed(0)
    return build()


def made_once(name, make):
    """Returns the bytes of a model that all workers of a test run share; the first to need it makes it."""
    path = Path(os.environ["MB_CACHE_DIR"]).parent / "models" / f"{name.replace('/', '_')}.tflite"
    with locked(path):
        if not path.exists():
            path.write_bytes(make())
    return path.read_bytes()


def convert(model, scheme="int8", exported=False):
    """Converts a model as "int8", "dynamic_range" (int8 weights only) or "float32".

    By default its weights are frozen in one function, which is several times faster than `exported`: the usual way of
    Keras through a SavedModel.
    """
    signature = tf.TensorSpec((1, *model.input_shape[1:]), tf.float32)
    with tempfile.TemporaryDirectory() as folder:
        if exported:
            model.export(folder, format="tf_saved_model", verbose=False, input_signature=[signature])
            converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        else:
            function = tf.function(lambda image: model(image, training=False)).get_concrete_function(signature)
            frozen = convert_variables_to_constants_v2(function)
            converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen], tf.Module())
        if scheme != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if scheme == "int8":
            images = np.random.default_rng(0).uniform(-1, 1, (2, *signature.shape)).astype(np.float32)
            converter.representative_dataset = lambda: ([image] for image in images)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = tf.uint8
            converter.inference_output_type = tf.float32
        return converter.convert()


def edited(data, edit):
    """Returns the .tflite after `edit(model)` on its decoded tables."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))
    edit(model)
    builder = flatbuffers.Builder(len(data))
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def with_pad_ops(data):
    """Returns the model as older converters write it: PAD, then VALID, where keras.applications has ZeroPadding2D.

    That is before each depthwise convolution of stride 2; newer converters merge the two.
    """

    def edit(model):
        graph = model.subgraphs[0]
        pad_code = schema.OperatorCodeT()
        pad_code.builtinCode = pad_code.deprecatedBuiltinCode = schema.BuiltinOperator.PAD
        model.operatorCodes.append(pad_code)
        operators = []
        for operator in graph.operators:
            if (widths := _same_padding(graph, operator)) is not None:
                operators.append(_pad_op(model, operator, widths))
            operators.append(operator)
        graph.operators = operators

    return edited(data, edit)


def _same_padding(graph, operator):
    options = operator.builtinOptions
    if not isinstance(options, schema.DepthwiseConv2DOptionsT) or options.strideH == 1:
        return None
    _, height, _, _ = graph.tensors[operator.inputs[0]].shape
    return None if height % 2 else [[0, 0], [0, 1], [0, 1], [0, 0]]


def _pad_op(model, operator, widths):
    graph = model.subgraphs[0]
    source = graph.tensors[operator.inputs[0]]
    widths = np.array(widths, np.int32)
    data = schema.BufferT()
    data.data = np.frombuffer(widths.tobytes(), np.uint8)
    model.buffers.append(data)
    paddings, padded = schema.TensorT(), schema.TensorT()
    paddings.name, paddings.shape, paddings.type = b"paddings", [4, 2], schema.TensorType.INT32
    paddings.buffer = len(model.buffers) - 1
    padded.name, padded.shape, padded.type = b"padded", (source.shape + widths.sum(axis=1)).tolist(), source.type
    graph.tensors += [paddings, padded]
    pad = schema.OperatorT()
    pad.opcodeIndex = len(model.operatorCodes) - 1
    pad.inputs, pad.outputs = [operator.inputs[0], len(graph.tensors) - 2], [len(graph.tensors) - 1]
    operator.inputs = [len(graph.tensors) - 1, *operator.inputs[1:]]
    operator.builtinOptions.padding = schema.Padding.VALID
    return pad
