"""Each kernel of the C code alone, on settings that no MobileNet has: equal to the reference kernels bit for bit."""

import shutil
import subprocess

import numpy as np
import pytest
from deploy_models import C99, on_each_core, run_on_board
from kernel_cases import case, layer, write_program

needs_cc = pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler: install gcc")

ZEROS = [(-128, -128), (127, 127), (0, 5), (-3, -128)]
CHANNELS = [
    (1, 1),
    (2, 3),
    (3, 2),
    (4, 4),
    (5, 8),
    (7, 1),
    (8, 5),
    (9, 16),
    (11, 12),
    (13, 6),
    (16, 17),
    (17, 15),
    (40, 10),
]
WINDOWS = [
    ((3, 3), (1, 1), "SAME"),
    ((3, 3), (2, 2), "SAME"),
    ((3, 3), (1, 2), "VALID"),
    ((1, 1), (2, 2), "VALID"),
    ((1, 3), (1, 1), "SAME"),
    ((2, 2), (2, 1), "SAME"),
    ((5, 4), (1, 3), "SAME"),
]
# Bytes for some pairs of columns of a depthwise convolution, and for all of them.
SPARE = [400, 10_000]
# Settings of requantization: a step at the ends, clamps of activation functions, multipliers of a half and more.
SCALES = [
    {},
    {"gain": 0.1},
    {"gain": 30},
    {"gain": 3000, "bias": 50},
    {"clamp": (-100, 90)},
    {"clamp": (-128, 20), "gain": 4},
    {"per_channel": False},
    {"per_channel": False, "clamp": (-9, 127)},
    {"bias": 2**29, "gain": 1e-5},
    {"bias": 2 * 10**9, "gain": 1e-5},
]


def pointwise(rng, **common):
    for i, (inputs, outputs) in enumerate(CHANNELS):
        zeros, pixels = ZEROS[i % len(ZEROS)], (1 + i % 3, 1 + i // 2)
        yield layer("nn_convolution", (*pixels, inputs), outputs, zero_points=zeros, rng=rng, **common)
    for i, settings in enumerate(SCALES):
        yield layer("nn_convolution", (2, 3, 8), 6, rng=rng, zero_points=ZEROS[i % 4], **settings, **common)


def convolutions(rng, **common):
    for i, (window, stride, padding) in enumerate(WINDOWS):
        for size, (inputs, outputs) in [((7, 6), CHANNELS[i]), ((5, 9), CHANNELS[-1 - i])]:
            settings = {"zero_points": ZEROS[i % 4], **common}
            yield layer("nn_convolution", (*size, inputs), outputs, window, stride, padding, rng, **settings)
    for size in (1, 2, 3, 4, 12):
        settings = {"zero_points": (-1, -128), **common}
        yield layer("nn_convolution", (size, size, 3), 8, (3, 3), (2, 2), "SAME", rng, **settings)


def packed(rng):
    """Convolutions with weights of 4 bits."""
    yield from pointwise(rng, bits=4)
    yield from convolutions(rng, bits=4)
    yield layer("nn_convolution", (2, 4, 1024), 6, rng=rng, bits=4)
    for gain in (1, 6, 12):  # the last one has multipliers above and below a half
        yield layer("nn_convolution", (3, 3, 40), 10, rng=rng, zero_points=(-1, -128), gain=gain, bits=4)
    for i, settings in enumerate(SCALES):  # with weights of 8 bits before them
        first = layer("nn_convolution", (5, 6, 3), 7, (3, 3), (1, 1), "SAME", rng, zero_points=ZEROS[i % 4], **settings)
        yield first, layer("nn_convolution", first.output_shape, 5, rng=rng, bits=4)


def depthwise(rng):
    for i, (window, stride, padding) in enumerate(WINDOWS):
        for size, channels in [((7, 6), 1 + i), ((5, 9), 17 - i)]:
            yield layer("nn_depthwise", (*size, channels), 0, window, stride, padding, rng, zero_points=ZEROS[i % 4])
    for channels in range(1, 18):
        size, stride = (3 + channels % 2, 2 + channels % 7), (1, 1) if channels % 3 else (2, 2)
        yield layer("nn_depthwise", (*size, channels), 0, (3, 3), stride, "SAME", rng, zero_points=ZEROS[channels % 4])
    for i, settings in enumerate(SCALES):
        yield layer("nn_depthwise", (4, 5, 8), 0, (3, 3), rng=rng, zero_points=ZEROS[i % 4], **settings)
    for size in [(1, 1), (2, 2), (1, 6), (6, 1), (3, 3), (24, 24)]:
        yield layer("nn_depthwise", (*size, 8), 0, (3, 3), (1, 1), "SAME", rng)
    for stride in [(1, 1), (2, 2), (2, 1), (3, 3)]:
        yield layer("nn_depthwise", (5, 21, 37), 0, (3, 3), stride, "SAME", rng)


def ends(rng):
    for i, size in enumerate([(1, 1, 1), (3, 3, 17), (7, 7, 8), (12, 5, 3)]):
        yield layer("nn_mean", size, rng=rng, zero_points=ZEROS[i])
    yield layer("nn_mean", (2, 2, 5), rng=rng, gain=40, zero_points=(3, -128))
    for i, (inputs, outputs) in enumerate(CHANNELS):
        settings = {"zero_points": ZEROS[i % 4], "per_channel": bool(i % 2), "clamp": (-128, 127 - 10 * i)}
        yield layer("nn_fully_connected", (1, 1, inputs), outputs, rng=rng, **settings)
    for i, frame in enumerate([(1, 1), (0, 2), (3, 0)]):
        yield layer("nn_pad", (3, 4, 1 + 7 * i), padding=frame, zero_points=(ZEROS[i][0],) * 2)


def streamed(rng):
    """Layers that run row by row together, so that only some rows of the map between them are held."""
    for stride in ((1, 1), (2, 2)):
        first = layer("nn_convolution", (11, 10, 3), 9, (3, 3), (2, 2), "SAME", rng)
        second = layer("nn_depthwise", first.output_shape, 0, (3, 3), stride, "SAME", rng)
        yield first, second, layer("nn_convolution", second.output_shape, 5, rng=rng, bits=4)
    padded = layer("nn_pad", (6, 7, 5), padding=(1, 1))
    yield padded, layer("nn_depthwise", padded.output_shape, 0, (3, 3), (2, 2), "VALID", rng)


@pytest.fixture(scope="module")
def cases():
    rng = np.random.default_rng(0)
    groups = [(group, 0) for group in (pointwise, convolutions, packed, depthwise, ends, streamed)]
    groups += [(group, spare) for group in (depthwise, streamed) for spare in SPARE]
    return [
        case(f"{group.__name__}_{spare}_{i}", layers if isinstance(layers, tuple) else (layers,), rng, spare)
        for group, spare in groups
        for i, layers in enumerate(group(rng))
    ]


def test_cases_reach_many_outputs(cases):
    """So that equal outputs mean something."""
    spread = [len(np.unique(one.output)) / min(one.output.size, 256) for one in cases]
    assert np.median(spread) > 0.4


def test_cases_with_4_bits_reach_every_kind(cases):
    packed = [one.layers[-1] for one in cases if one.network.is_packed]
    assert {layer.packed_kind for layer in packed} == {"steep", "small", "any"}
    assert any(layer.packed_kind == "steep" and {-1, 0} <= {*layer.shift.tolist()} for layer in packed)


@needs_cc
def test_kernels_equal_the_reference_within_their_memory(cases, tmp_path):
    files = write_program(tmp_path / "c", cases)
    flags = ["-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    for command in (["cc", *C99, *flags, *files, "-o", "cases"], ["./cases"]):
        result = subprocess.run(command, cwd=tmp_path / "c", capture_output=True, text=True)
        assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.slow
@on_each_core
def test_kernels_equal_the_reference_on_each_core(cases, tmp_path, core):
    files = write_program(tmp_path / "c", cases)
    assert run_on_board(tmp_path / "c", core, f"SOURCES={' '.join(files)}").endswith("PASS\n")
