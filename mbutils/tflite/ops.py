"""The TFLite ops that have memory rules, grouped by what the rules need to know."""

CONVOLUTIONS = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D"})
POOLINGS = frozenset({"AVERAGE_POOL_2D", "MAX_POOL_2D"})
KERNEL_OPS = CONVOLUTIONS | POOLINGS  # with kernel, stride and padding
PADS = frozenset({"PAD", "PADV2"})
ALIASES = frozenset({"RESHAPE", "SQUEEZE"})  # the output is the input under another shape: no bytes move
ELEMENTWISE = frozenset({"LOGISTIC", "QUANTIZE", "RELU", "RELU6"})  # as many bytes out as in: may run in place
CONVERSIONS = frozenset({"QUANTIZE", "DEQUANTIZE"})  # may touch float32
COMPUTING = CONVOLUTIONS | {"MEAN", "FULLY_CONNECTED", "SOFTMAX"}  # what a MobileNet computes its layers with
WITH_WEIGHTS = CONVOLUTIONS | {"FULLY_CONNECTED", "ADD", "MUL", "CONCATENATION"}  # their constants are weights
REDUCTIONS = frozenset({"MEAN", "REDUCE_MAX"})
SUPPORTED = (
    KERNEL_OPS | PADS | ALIASES | ELEMENTWISE | CONVERSIONS | WITH_WEIGHTS | REDUCTIONS | {"SOFTMAX", "TRANSPOSE"}
)
