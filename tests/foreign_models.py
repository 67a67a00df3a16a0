"""Int8 classifiers as others make them: small, with random weights, one for each way in which their files differ."""

from functools import cache

import keras
import numpy as np
import tensorflow as tf
from deploy_models import images
from keras import layers
from tflite_models import made_once

from mbutils.backend import convert_variables_to_constants_v2

MOBILENET = ((16, 1), (32, 2), (32, 1), (64, 2))  # filters and stride of each depthwise and pointwise pair
FD_MOBILENET = ((16, 2), (32, 2), (32, 1), (64, 2))  # arXiv:1802.03750: strides early
SCALINGS = {"1/127.5": (1 / 127.5, -1), "1/255": (1 / 255, 0), "none": (1, 0)}
CLASSES = ("daisy", "dandelion", "roses", "sunflowers", "tulips")


def mean(x):
    return _dense(layers.GlobalAveragePooling2D()(x))


def average_pool(x):
    return _dense(layers.Flatten()(layers.AveragePooling2D(x.shape[1:3])(x)))


def global_max(x):
    return _dense(layers.GlobalMaxPooling2D()(x))


def pools_of_3_by_3(x):
    """With padding on all sides, as between the modules of other networks."""
    x = layers.MaxPooling2D(3, 1, "same")(x)
    return _dense(layers.Flatten()(layers.AveragePooling2D(3, 2, "same")(x)))


def reshaped_convolution(x):
    """As keras.applications.MobileNet ends: with a dynamic batch, its reshapes compute their shapes."""
    x = layers.Reshape((1, 1, x.shape[3]))(layers.GlobalAveragePooling2D()(x))
    return layers.Reshape((len(CLASSES),))(_conv(x, len(CLASSES), 1))


def concatenation(x):
    """As a module of SqueezeNet."""
    return mean(layers.Concatenate()([_conv(x, 24, 1), _conv(x, 24, 3)]))


def hidden_layer(x):
    x = layers.Dense(24, "relu")(layers.GlobalAveragePooling2D()(x))
    return _dense(x)


def classifier(
    shape=(32, 32, 3),
    blocks=MOBILENET,
    activation="relu6",
    head=mean,
    softmax=True,
    pads=False,
    residual=False,
    dead=False,
    kernel=3,
):
    """Builds a MobileNet; `pads` has PAD ops before VALID convolutions, as of PyTorch, `dead` filters of zeros."""
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input(shape)
    if shape[0] == 3:  # height and width last, as of PyTorch
        x = layers.Permute((2, 3, 1))(x)
    x = layers.Activation(activation)(_conv(x, 8, kernel, 2, pads))
    for filters, stride in blocks:
        before = x
        x = layers.Activation(activation)(_depthwise(x, kernel, stride, pads))
        x = layers.Activation(activation)(_conv(x, filters, 1))
        if residual and before.shape == x.shape:
            x = layers.Add()([before, x])
    x = head(x)
    model = keras.Model(inputs, layers.Softmax()(x) if softmax else x)
    _spread(model)
    if dead:
        _kill(model)
    return model


def person_detection():
    """As that of TensorFlow Lite Micro: gray, the first convolution a depthwise one of multiplier 8."""
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((32, 32, 1))
    first = layers.DepthwiseConv2D(3, 2, "same", depth_multiplier=8)
    x = layers.ReLU(6.0)(first(x))
    for filters, stride in MOBILENET:
        x = layers.ReLU(6.0)(_depthwise(x, 3, stride))
        x = layers.ReLU(6.0)(_conv(x, filters, 1))
    x = _conv(layers.AveragePooling2D(x.shape[1:3])(x), 2, 1)
    model = keras.Model(inputs, layers.Softmax()(layers.Reshape((2,))(x)))
    _spread(model)
    return model


def residual_with_shortcuts():
    """As ResNet: a convolution of 1 x 1 goes around two others, and leads from a map that is kept until then."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((32, 32, 3))
    x = layers.ReLU()(_conv(inputs, 8, 3, 2))
    for filters, stride in ((8, 1), (16, 2)):
        y = _conv(layers.ReLU()(_conv(x, filters, 3, stride)), filters, 3)
        x = layers.ReLU()(layers.Add()([y, _conv(x, filters, 1, stride) if stride > 1 else x]))
    model = keras.Model(inputs, layers.Softmax()(mean(x)))
    _spread(model)
    return model


def _conv(x, filters, kernel, stride=1, pads=False):
    return layers.Conv2D(filters, kernel, stride, **_padding(kernel, pads))(_padded(x, kernel, pads))


def _depthwise(x, kernel, stride, pads=False):
    return layers.DepthwiseConv2D(kernel, stride, **_padding(kernel, pads))(_padded(x, kernel, pads))


def _padding(kernel, pads):
    return {"padding": "valid" if pads or kernel == 1 else "same"}


def _padded(x, kernel, pads):
    return layers.ZeroPadding2D(kernel // 2)(x) if pads and kernel > 1 else x


def _dense(x):
    return layers.Dense(len(CLASSES))(x)


def _spread(model):
    """Gives each channel of the layers with weights outputs around 1, so that those of two images differ."""
    rng = np.random.default_rng(0)
    samples = images(16, model.input_shape[1:], seed=1).astype(np.float32) / 127.5 - 1
    for layer in model.layers:
        if layer.get_weights():
            outputs = keras.Model(model.inputs[0], layer.output)(samples).numpy()
            each = outputs.reshape(-1, outputs.shape[-1])
            mean, deviation = each.mean(axis=0), each.std(axis=0) + 1e-3
            kernel, bias = layer.get_weights()
            per_channel = kernel.reshape(-1, len(bias)) * 2 / deviation
            bias = (bias - mean) * 2 / deviation + rng.uniform(0, 2, len(bias))
            layer.set_weights([per_channel.reshape(kernel.shape), bias])


def _kill(model):
    """Makes a quarter of the filters of each convolution zeros, and their outputs constant."""
    for layer in model.layers:
        if isinstance(layer, layers.Conv2D | layers.DepthwiseConv2D):
            kernel, bias = layer.get_weights()
            per_channel = kernel.reshape(-1, len(bias))
            per_channel[:, ::4] = 0
            layer.set_weights([per_channel.reshape(kernel.shape), bias])


def to_tflite(model, batch=None, scaling="1/127.5", **options):
    """Converts a model, by default with a dynamic batch and for pixels of uint8."""
    shape = tuple(model.inputs[0].shape[1:])  # of each input, where there are several
    signature = [tf.TensorSpec((batch, *shape), tf.float32) for _ in model.inputs]
    function = tf.function(lambda *inputs: model(inputs if len(inputs) > 1 else inputs[0], training=False))
    function = function.get_concrete_function(*signature)
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [convert_variables_to_constants_v2(function)], tf.Module()
    )
    factor, offset = SCALINGS[scaling]
    pixels = images(16, shape, seed=1)
    pixels[0], pixels[1] = 0, 255  # so that the quantized input stands for the whole range
    samples = [[image[None] * np.float32(factor) + np.float32(offset)] * len(signature) for image in pixels]
    return _converted(converter, samples, **options)


def _converted(
    converter, samples, input_type="uint8", output_type="float32", per_tensor=False, int16=False, quantized=True
):
    if not quantized:
        return converter.convert()
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: iter(samples)
    ops = tf.lite.OpsSet
    kind = ops.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8 if int16 else ops.TFLITE_BUILTINS_INT8
    converter.target_spec.supported_ops = [kind]
    converter.inference_input_type = tf.dtypes.as_dtype("float32" if int16 else input_type)
    converter.inference_output_type = tf.dtypes.as_dtype(output_type)
    converter._experimental_disable_per_channel = per_tensor
    return converter.convert()


KINDS = {
    "dynamic batch": lambda: to_tflite(classifier()),
    "fixed batch": lambda: to_tflite(classifier(), batch=1),
    "shapes computed": lambda: to_tflite(classifier(head=reshaped_convolution)),
    "PAD before VALID": lambda: to_tflite(classifier(pads=True)),
    "int8 input and output": lambda: to_tflite(classifier(), input_type="int8", output_type="int8"),
    "uint8 input and output": lambda: to_tflite(classifier(), output_type="uint8"),
    "float32 input": lambda: to_tflite(classifier(), input_type="float32"),
    "ReLU": lambda: to_tflite(classifier(activation="relu")),
    "no activation": lambda: to_tflite(classifier(activation="linear")),
    "scaling 1/255": lambda: to_tflite(classifier(), scaling="1/255"),
    "no softmax": lambda: to_tflite(classifier(softmax=False)),
    "no softmax, int8 output": lambda: to_tflite(classifier(softmax=False), output_type="int8"),
    "AVERAGE_POOL_2D": lambda: to_tflite(classifier(head=average_pool)),
    "REDUCE_MAX": lambda: to_tflite(classifier(head=global_max)),
    "MAX_POOL_2D": lambda: to_tflite(classifier(head=pools_of_3_by_3)),
    "TRANSPOSE of the input": lambda: to_tflite(classifier((3, 32, 32), pads=True, softmax=False)),
    "hidden dense layer": lambda: to_tflite(classifier(head=hidden_layer)),
    "kernels of 5 x 5": lambda: to_tflite(classifier(kernel=5)),
    "FD-MobileNet": lambda: to_tflite(classifier((48, 48, 3), FD_MOBILENET)),
    "person detection": lambda: to_tflite(person_detection(), 1, input_type="int8", output_type="int8"),
    "dead channels": lambda: to_tflite(classifier(dead=True)),
    "per tensor": lambda: to_tflite(classifier(), per_tensor=True),
    "residual": lambda: to_tflite(classifier(residual=True)),
    "residual, strided shortcut": lambda: to_tflite(residual_with_shortcuts()),
    "CONCATENATION": lambda: to_tflite(classifier(head=concatenation)),
}


@cache
def tflite(kind):
    """Returns one of `KINDS`."""
    return made_once(f"foreign {kind}", KINDS[kind])
