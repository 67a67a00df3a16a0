"""Shared fixtures: an image cache, small real data, one small finished run, and data that may be absent."""

import os
from pathlib import Path

import pytest
from filelock import FileLock

# Tests run side by side, one on each core. NumPy and TensorFlow read this when fixtures and tests import them.
for variable in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

TINY_SWEEP = """
defaults:
  dataset: digits
  alpha: 0.25
  image_size: 32
  color_mode: gray
  interpolation: bilinear
  weights: none
  horizontal_flip: false
  epochs: 1
  warmup_epochs: 0.5
  batch_norm_momentum: 0.5
  calibration_images: 20
  calibration_draws: 0
  qat_epochs: 1
  mistake_images: 30
"""


def pytest_addoption(parser):
    parser.addoption(
        "--kills", type=int, default=6, help="parts of a sweep that test_sweep_kills.py kills (default: 6)"
    )


def pytest_collection_modifyitems(items):
    """Lets the tests on `tiny_results` come first: one worker makes it while the others take tests from the end."""
    items.sort(key=lambda item: "tiny_results" not in item.fixturenames)


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory, worker_id):
    """A folder of this test run, which all workers of pytest-xdist share."""
    folder = tmp_path_factory.getbasetemp()
    return folder if worker_id == "master" else folder.parent


@pytest.fixture(scope="session", autouse=True)
def _image_cache(shared_folder):
    os.environ["MB_CACHE_DIR"] = str(shared_folder / "cache")


@pytest.fixture(scope="session")
def digits():
    from mbutils.config import DataParameters
    from mbutils.data import datasets

    return datasets.load(DataParameters(dataset="digits"))


@pytest.fixture(scope="session")
def flowers():
    folder = Path(os.environ.get("TFDS_DATA_DIR") or Path.home() / "tensorflow_datasets")
    if not (folder / "tf_flowers").is_dir():
        pytest.skip(f"no tf_flowers in {folder}: set TFDS_DATA_DIR to a folder that holds it")
    from mbutils.config import DataParameters
    from mbutils.data import datasets

    return datasets.load(DataParameters(dataset="tf_flowers"))


@pytest.fixture(scope="session")
def small_network():
    """A MobileNet at 32 px with statistics as after a training: one channel of each layer varies next to nothing."""
    import numpy as np

    from mbutils.backend import keras
    from mbutils.model import mobilenet

    keras.utils.set_random_seed(0)
    network = mobilenet.build(0.25, (32, 32, 3), 5)
    rng = np.random.default_rng(0)
    network.get_layer("classifier").bias.assign(rng.normal(0, 0.1, 5))
    x = rng.uniform(-1, 1, (16, 32, 32, 3)).astype(np.float32)
    for layer in network.layers[1:]:
        if layer.name.endswith("_bn"):
            mean, variance = np.mean(x, axis=(0, 1, 2)), np.var(x, axis=(0, 1, 2))
            gamma, beta = rng.uniform(1, 2, mean.shape), rng.uniform(0, 2, mean.shape)
            gamma[0], beta[0], variance[0] = 1, -20, 1e-4 * variance[0]
            layer.set_weights([gamma, beta, mean, variance])
        x = layer(x).numpy()
    return network


@pytest.fixture(scope="session")
def noise_images():
    import numpy as np

    return np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="session")
def imagenet_weights():
    folder = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "models"
    if not list(folder.glob("mobilenet_*_224_tf_no_top.h5")):
        pytest.skip(f"no ImageNet weights in {folder}: set KERAS_HOME to a folder whose models/ holds them")
    return folder


@pytest.fixture(scope="session")
def tiny_sweep_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("sweep") / "tiny.yaml"
    path.write_text(TINY_SWEEP)
    return path


@pytest.fixture(scope="session")
def tiny_results(tiny_sweep_file, shared_folder):
    """A results folder with one run that went through every notebook, and its report; the first to need it makes it."""
    from mbutils import cli

    results = shared_folder / "tiny_results"
    with FileLock(shared_folder / "tiny_results.lock"):
        if not (results / "report.html").exists():
            assert cli.main(["sweep", str(tiny_sweep_file), "--results-dir", str(results), "--threads", "1"]) == 0
    return results


@pytest.fixture(scope="session")
def tflite(tiny_results):
    """The int8 model of the run in `tiny_results`."""
    (path,) = tiny_results.glob("runs/*/int8_per_channel.tflite")
    return path


@pytest.fixture(scope="module")
def sweep(request, tmp_path_factory):
    """The sweep file `TEXT` of the test module over stand-in notebooks, in a folder of its own."""
    from sweeping import Sweep

    made = Sweep(tmp_path_factory.mktemp("sweep"), request.module.TEXT)
    yield made
    made.close()


@pytest.fixture(scope="session")
def mb():
    """Runs the command `mb` in this process, and returns its exit status."""
    from mbutils import cli

    def run(*arguments):
        try:
            return cli.main([str(argument) for argument in arguments])
        except SystemExit as stop:  # of --help
            return stop.code

    return run


@pytest.fixture
def recipes(tmp_path):
    """Writes a recipe and returns its path."""

    def write(name, text):
        path = tmp_path / f"{name}.yaml"
        path.write_text(text.replace("HERE", str(tmp_path)))
        return str(path)

    return write
