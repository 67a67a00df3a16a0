"""The working memory of the kernels: what they must have, and what makes them faster."""

from collections.abc import Iterator

from mbutils.deploy.layers import Layer

_STRIDE = 8  # weights of one output channel that a convolution reads at a time
LANES = 4  # pixels that a convolution works on at a time: NN_LANES in kernels.h
VECTOR = 16  # bytes of a vector of Helium
_PAIR_WEIGHTS = 4 * 10 * 4  # bytes of the weights that go with them: four channels, ten words
# Bytes of a pair of columns in a depthwise convolution of 3 x 3: four channels, three rows, two halfwords.
_PAIR = 4 * 3 * 4
_FEWEST_PAIRS = 5  # that are worth it


def least_bytes(layer: Layer) -> int:
    """Returns the working memory of a layer: the inputs under its kernel, as bytes and in lanes.

    The lanes are of halfwords, or as many again of bytes, in whole vectors.
    """
    if layer.kernel == "nn_depthwise":
        return layer.weights.size
    if layer.kernel != "nn_convolution":
        return 0
    patch = 0 if layer.window == (1, 1) else padded(layer.weights.shape[1])
    return patch + 2 * LANES * multiple(layer.weights.shape[1], VECTOR)


def useful_sizes(stage: list[Layer]) -> Iterator[int]:
    """Yields sizes of the scratch memory that make depthwise convolutions faster, the best first.

    These are all pairs of columns that a layer reads for a row of outputs, kept for the next row, then those of four
    channels: for the whole row, half of it, a third and so on.
    """
    most = max(map(_most_pairs, stage))
    if kept := sum(map(kept_bytes, stage)) if len(stage) == 1 else 0:
        yield kept
    for parts in range(1, most):
        pairs = -(-(most - 1) // parts) + 1
        if pairs < min(_FEWEST_PAIRS, most):
            return
        yield _PAIR_WEIGHTS + pairs * _PAIR


def kept_bytes(layer: Layer) -> int:
    """Returns the scratch memory for all pairs of columns of all channels, 0 if they cannot be kept."""
    channels, pairs = layer.output_shape[2], _most_pairs(layer)
    return channels // 4 * (_PAIR_WEIGHTS + pairs * _PAIR) if pairs and channels % 4 == 0 else 0


def pairs_in(layer: Layer, size: int) -> int:
    """Returns for how many pairs of columns of a depthwise convolution so many bytes are enough; 0 where too few."""
    most = _most_pairs(layer)
    pairs = min((size - _PAIR_WEIGHTS) // _PAIR, most)
    return pairs if pairs >= min(_FEWEST_PAIRS, most) else 0


def _most_pairs(layer: Layer) -> int:
    """Returns the pairs of columns below a row of outputs of a depthwise convolution, 0 for one without pairs."""
    (_, width, channels), (_, outputs, _) = layer.input_shape, layer.output_shape
    stride, left = layer.stride[1], layer.padding[1]
    right = (outputs - 1) * stride + 3 - left - width
    if layer.kernel != "nn_depthwise" or layer.window != (3, 3) or stride > 2 or max(left, right) > 1 or channels < 4:
        return 0
    pairs = (outputs * stride + 1) // 2 + 1
    return pairs if outputs > LANES - 1 else 0


def padded(count: int) -> int:
    """Returns the weights of one output channel in C, padded with zeros to what an inner loop reads at a time."""
    return multiple(count, _STRIDE)


def multiple(size: int, of: int) -> int:
    """Returns a size rounded up to a multiple."""
    return -(-size // of) * of
