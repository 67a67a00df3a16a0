"""MobileNet v1 as a table of blocks.

Howard et al. 2017, "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications",
arXiv:1704.04861, table 1. Layer names are those of `keras.applications.MobileNet`.
"""

import numpy as np
import pandas as pd

from mbutils.backend import keras
from mbutils.model.batch_normalization import FrozenBatchNormalization, FusedBatchNormalization

# One row for each depthwise separable block: output channels at alpha 1, and the stride of the depthwise convolution.
STEM_FILTERS = 32
BLOCKS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (1024, 2),
    (1024, 1),
)


def build(
    alpha: float,
    input_shape: tuple[int, int, int],
    n_classes: int,
    dropout: float = 0.0,
    batch_norm_momentum: float = 0.99,
    frozen_statistics: bool = False,
) -> keras.Model:
    """Builds MobileNet v1 with random weights and a softmax classifier.

    Every convolution pads with "same", so that the converted model has no padding ops. With feature maps of even size,
    as at 96, 128, 160, 192 and 224 px, this equals the explicit padding of `keras.applications.MobileNet`.

    Args:
        alpha: Width multiplier: each convolution has `int(alpha * filters)` output channels.
        input_shape: Height, width and channels of the normalized images, float32 in [-1, 1].
        n_classes: The number of classes.
        dropout: The fraction of the pooled features that is dropped in training, 0..1.
        batch_norm_momentum: The fraction that the moving mean and variance keep at each training step, 0..1.
        frozen_statistics: Whether batch normalization keeps the statistics of the start weights.

    Returns:
        A model from images (batch, height, width, channels) to softmax scores (batch, n_classes).
    """
    batch_normalization = FrozenBatchNormalization if frozen_statistics else FusedBatchNormalization

    def normalized_relu6(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
        x = batch_normalization(momentum=batch_norm_momentum, name=f"{name}_bn")(x)
        return keras.layers.ReLU(6.0, name=f"{name}_relu")(x)

    image = x = keras.layers.Input(input_shape, name="image")
    x = keras.layers.Conv2D(int(alpha * STEM_FILTERS), 3, 2, "same", use_bias=False, name="conv1")(x)
    x = normalized_relu6(x, "conv1")
    for number, (filters, stride) in enumerate(BLOCKS, start=1):
        depthwise, pointwise = f"conv_dw_{number}", f"conv_pw_{number}"
        x = keras.layers.DepthwiseConv2D(3, stride, "same", use_bias=False, name=depthwise)(x)
        x = normalized_relu6(x, depthwise)
        x = keras.layers.Conv2D(int(alpha * filters), 1, use_bias=False, name=pointwise)(x)
        x = normalized_relu6(x, pointwise)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    x = keras.layers.Dropout(dropout, name="dropout")(x)
    scores = keras.layers.Dense(n_classes, activation="softmax", name="classifier")(x)
    return keras.Model(image, scores, name=f"mobilenet_v1_{alpha:g}_{input_shape[0]}")


def block_table(alpha: float) -> pd.DataFrame:
    """Returns the depthwise separable blocks: `block`, `stride`, `filters at alpha 1`, and `filters` at this alpha."""
    rows = [(number, stride, filters, int(alpha * filters)) for number, (filters, stride) in enumerate(BLOCKS, start=1)]
    return pd.DataFrame(rows, columns=["block", "stride", "filters at alpha 1", "filters"])


def count_macs(model: keras.Model) -> int:
    """Returns the multiply-accumulate operations of one inference: convolutions and the classifier, without biases."""
    return int(sum(layer_macs(layer) for layer in model.layers))


def layer_table(model: keras.Model) -> pd.DataFrame:
    """Returns the layers that have a kernel, one row each.

    Returns:
        `layer`, `output` (its shape), `parameters` (including the batch normalization that follows) and `macs`.
    """
    rows = []
    for layer in model.layers:
        if layer_macs(layer):
            shape = " x ".join(map(str, layer.output.shape[1:]))
            rows.append({"layer": layer.name, "output": shape, "parameters": 0, "macs": layer_macs(layer)})
        if layer.weights and rows:
            rows[-1]["parameters"] += layer.count_params()
    return pd.DataFrame(rows)


def layer_macs(layer: keras.Layer) -> int:
    """Returns the multiply-accumulate operations of one layer for one image; 0 if it has no kernel."""
    if isinstance(layer, keras.layers.DepthwiseConv2D | keras.layers.Conv2D):
        height, width = layer.output.shape[1:3]
        return height * width * int(np.prod(layer.kernel.shape))
    if isinstance(layer, keras.layers.Dense):
        return int(np.prod(layer.kernel.shape))
    return 0
