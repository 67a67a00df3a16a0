"""Readable layer names, from the tensor names that the converter joins."""

import re

_SCOPE_END = {
    "CONV_2D": ("convolution", "Conv2D"),
    "DEPTHWISE_CONV_2D": ("depthwise",),
    "FULLY_CONNECTED": ("MatMul",),
}


def layer_names(codes: list[str], tensor_names: list[list[str]]) -> list[str]:
    """Returns one name for each op, such as "conv_pw_1"; that of the op itself, such as "softmax", if there is none.

    Args:
        codes: The TFLite name of each op.
        tensor_names: The names of the tensors that each op writes, and of its weights. The converter joins the names
            of fused ops with ";", each a path whose last part is the TensorFlow op and the one before it the layer.
    """
    layers = [_layer(code, names) for code, names in zip(codes, tensor_names, strict=True)]
    found = [layer for layer in layers if layer]
    if found and all(re.search(r"_\d+$", layer) for layer in found):
        # Keras 3 exports a second trace of the model, with a number after each layer name.
        layers = [re.sub(r"_\d+$", "", layer) for layer in layers]
    return [layer or code.lower() for layer, code in zip(layers, codes, strict=True)]


def _layer(code: str, names: list[str]) -> str:
    if code in ("QUANTIZE", "DEQUANTIZE"):  # no layer: the converter names them after what it replaced
        return ""
    paths = [part.split("/") for name in names for part in name.split(";")]
    paths = [path for path in paths if len(path) > 1]
    wanted = _SCOPE_END.get(code, ())
    exact = [path for path in paths if path[-1].rstrip("0123456789_") in wanted or path[-1] in wanted]
    chosen = (exact or paths[-1:])[:1]
    return chosen[0][-2] if chosen else ""
