"""Damaged and hostile .tflite files: one line that names the file, or an answer; nothing crashes, hangs or stays."""

import os
import re
import signal
import struct
import subprocess
import sys
import time

import deploy_models
import keras
import numpy as np
import psutil
import pytest
from ai_edge_litert import schema_py_generated as schema
from damage import mutants
from PIL import Image
from tflite_models import convert, edited, made_once, mobilenet_v1

from mbutils import cli, deploy
from mbutils.deploy import source
from mbutils.device.footprint import footprint
from mbutils.errors import WorkbookError
from mbutils.tflite import isolated
from mbutils.tflite.interpreter import TFLiteModel, reference_outputs
from mbutils.tflite.reader import read_graph

CLASSES = [str(digit) for digit in range(10)]
MODELS = {
    "int8_per_channel": lambda: deploy_models.tflite(0.25, 32, 1, 10),
    "int8_per_tensor": lambda: deploy_models.tflite(0.25, 32, 1, 10, "int8_per_tensor"),
    "float32": lambda: made_once("damaged float32", lambda: convert(mobilenet_v1(0.25, 32, 1, 10), "float32")),
    "int4_pointwise": lambda: deploy_models.tflite(0.25, 32, 1, 10, "int4_pointwise"),
}
READING = ("--part", "all", "--scaling", "1/127.5")
SECONDS_OF_A_COMMAND = 10


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    root = tmp_path_factory.mktemp("photographs")
    for name, pixels in zip(CLASSES, deploy_models.images(10, (32, 32, 1)), strict=True):
        (root / name).mkdir()
        Image.fromarray(pixels[..., 0]).save(root / name / "a.png")
    return root


@pytest.fixture
def model_file(tmp_path):
    def write(content):
        path = tmp_path / "model.tflite"
        path.write_bytes(content)
        return path

    return write


def own_processes():
    return [process for process in psutil.Process().children() if "worker.py" in " ".join(process.cmdline())]


def answer(capfd, path, *arguments):
    """Returns the line with which a command refuses a file, or "" where it does not; fails on anything else."""
    started = time.monotonic()
    status = cli.main([*map(str, arguments)])
    out, err = capfd.readouterr()
    assert time.monotonic() - started < SECONDS_OF_A_COMMAND
    if status == 0:
        assert out and not err
        return ""
    assert (
        (status, out) == (2, "")
        and re.fullmatch(rf"mb: error: {re.escape(str(path))}[: ].*\n", err)
        and len(err) < 1000
    )
    return err


@pytest.mark.slow
@pytest.mark.parametrize(("name", "seed"), zip(MODELS, range(4), strict=True))
def test_damaged_models_are_scored_or_refused_with_one_line(name, seed, photographs, model_file, capfd):
    told, others = [], own_processes()
    for what, content in mutants(MODELS[name](), seed, 30):
        path = model_file(content)
        print(what)  # for the report of a failure
        capfd.readouterr()
        told.append(answer(capfd, path, "evaluate", path, "--data-dir", photographs, *READING))
    assert 5 < sum(map(bool, told)) < 30
    assert set(own_processes()) <= set(others)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "seed"), zip(MODELS, range(4), strict=True))
def test_damaged_models_are_sized_or_refused_with_one_line(name, seed, model_file, capfd):
    told = []
    for _, content in mutants(MODELS[name](), seed, 100):
        path = model_file(content)
        told.append(answer(capfd, path, "footprint", path))
    assert sum(map(bool, told)) > 30


@pytest.mark.slow
@pytest.mark.parametrize(("name", "seed"), [("int8_per_channel", 0), ("int8_per_tensor", 1), ("int4_pointwise", 3)])
def test_damaged_models_become_c_code_or_are_refused_with_one_line(name, seed, capfd):
    images, refused, others = deploy_models.images(1, (32, 32, 1)), 0, own_processes()
    for _, content in mutants(MODELS[name](), seed, 50):
        try:
            graph = read_graph(content, "run/int8.tflite")
            network = deploy.Network.from_graph(graph)
            source.network_c(network, deploy.plan(network, 0))
            reference_outputs(content, images, graph.label)
        except WorkbookError as error:
            refused += 1
            assert re.fullmatch("run/int8.tflite: .*", str(error))
    assert 10 < refused < 50
    assert capfd.readouterr() == ("", "")
    assert set(own_processes()) <= set(others)


@pytest.fixture
def model():
    return TFLiteModel(MODELS["int8_per_channel"]())


def process_of(model):
    return psutil.Process(model._interpreter._process.pid)


def dark(count):
    return np.zeros((count, 32, 32, 1), np.uint8)


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (signal.SIGSEGV, "crashes with SIGSEGV"),
        (signal.SIGABRT, "SIGABRT"),
        (signal.SIGALRM, "more than 60 s for"),
    ],
)
def test_a_model_whose_process_ends_is_refused_and_starts_again_when_it_is_asked_again(model, number, message):
    expected = model.predict(dark(2))
    process_of(model).send_signal(number)
    with pytest.raises(WorkbookError, match=f"^model: not a .tflite that LiteRT can run .*{message}"):
        model.predict(dark(2))
    assert (model.predict(dark(2)) == expected).all()


def test_a_request_that_was_interrupted_leaves_no_answers_for_the_next(model, monkeypatch):
    images = deploy_models.images(6, (32, 32, 1))
    expected = model.predict(images)
    received = isolated.Interpreter._received

    def interrupted(self):
        monkeypatch.setattr(isolated.Interpreter, "_received", received)
        raise KeyboardInterrupt

    monkeypatch.setattr(isolated.Interpreter, "_received", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.predict(images)
    assert (model.predict(images[::-1]) == expected[::-1]).all()


def test_the_process_of_a_model_is_light_and_ends_with_it():
    model = TFLiteModel(MODELS["int8_per_channel"]())
    process = process_of(model)
    libraries = [mapped.path for mapped in process.memory_maps()]
    assert not [path for path in libraries if "/tensorflow/" in path or "/pandas/" in path]
    del model
    assert not process.is_running()


def test_the_process_of_a_model_ends_when_the_one_that_asks_is_killed(model_file):
    path = model_file(MODELS["int8_per_channel"]())
    code = (
        "import pathlib, sys, time; from mbutils.tflite.interpreter import TFLiteModel;"
        f"model = TFLiteModel(pathlib.Path({str(path)!r})); print(model._interpreter._process.pid, flush=True);"
        "time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as asking:
        process = psutil.Process(int(asking.stdout.readline()))
        asking.kill()
        process.wait(timeout=30)


def enlarged(side, filters):
    """A small model with a large map in the middle, which a 3 x 3 convolution reads."""
    image = keras.Input((32, 32, 1))
    x = keras.layers.UpSampling2D(side // 32)(keras.layers.Conv2D(filters, 1)(image))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(filters, 3)(x))
    return convert(keras.Model(image, keras.layers.Dense(10)(x)), "float32")


def test_a_model_that_takes_too_long_is_refused(monkeypatch):
    monkeypatch.setattr(isolated, "_SECONDS", 1)
    with pytest.raises(WorkbookError, match="takes more than 1 s for an image"):
        TFLiteModel(enlarged(2048, 64))


def test_a_model_that_needs_too_much_memory_is_refused():
    with pytest.raises(WorkbookError, match=r"not a \.tflite that LiteRT can run"):
        TFLiteModel(enlarged(16384, 8))


def test_weights_that_are_not_finite_are_found_in_the_scores(model_file):
    def spoil(model):
        largest = max(model.buffers, key=lambda buffer: 0 if buffer.data is None else len(buffer.data))
        largest.data = np.full_like(largest.data, 0xFF)  # NaN

    with pytest.raises(WorkbookError, match=r"model\.tflite: gives scores that are not finite"):
        TFLiteModel(model_file(edited(MODELS["float32"](), spoil)))


@pytest.mark.parametrize("use", [footprint, TFLiteModel])
def test_only_files_of_a_reasonable_size_are_read(use, tmp_path):
    os.mkfifo(tmp_path / "pipe.tflite")
    with (tmp_path / "large.tflite").open("wb") as file:
        file.truncate(2**40)
    (tmp_path / "folder.tflite").mkdir()
    for name, message in [("pipe", "not a file"), ("folder", "not a file"), ("large", "larger than 512 MiB")]:
        with pytest.raises(WorkbookError, match=f"{name}.tflite: {message}"):
            use(tmp_path / f"{name}.tflite")


def with_a_shared_table(data, count):
    """Returns a model whose vector of tensors holds one tensor many times: it is small, but not when it is decoded."""

    def edit(model):
        (graph,) = model.subgraphs
        graph.tensors[0].name = "x" * 100_000
        graph.tensors += [graph.tensors[-1]] * count

    content = bytearray(edited(data, edit))
    graph = schema.Model.GetRootAs(content, 0).Subgraphs(0)
    vector = graph._tab.Vector(graph._tab.Offset(4))
    (first,) = struct.unpack_from("<I", content, vector)
    for index in range(graph.TensorsLength()):
        struct.pack_into("<I", content, vector + 4 * index, first - 4 * index)
    return bytes(content)


def test_tables_that_share_their_data_are_not_decoded():
    with pytest.raises(WorkbookError, match=r"truncated or corrupted \.tflite \(its tables share their data"):
        footprint(with_a_shared_table(MODELS["int8_per_channel"](), 10_000))
