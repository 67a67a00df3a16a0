"""A training that was interrupted continues at its checkpoint, and ends as if nothing had happened."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sweeping import environment, kernels, wait_for

from mbutils import runs
from mbutils.backend import keras
from mbutils.config import TrainParameters, suited
from mbutils.data import preprocessing
from mbutils.model import checkpoint, training
from mbutils.model.checkpoint import Checkpoint

ONLY_TRAIN = "notebooks: [train]\n"
HISTORY = pd.DataFrame({"epoch": [1, 2], "loss": [0.1 + 0.2, 1 / 3]})


@pytest.fixture
def variables():
    return [keras.Variable(np.ones((2, 3), np.float32)), keras.Variable(np.zeros(4, np.int64))]


@pytest.fixture
def kept(variables, tmp_path):
    """A checkpoint in which every variable is 7; the variables are as they were at the beginning."""
    path = tmp_path / "x.checkpoint"
    before, written = [variable.numpy() for variable in variables], Checkpoint(path, variables)
    for variable in variables:
        variable.assign(np.full(variable.shape, 7))
    written.keep(HISTORY)
    for variable, value in zip(variables, before, strict=True):
        variable.assign(value)
    return path


def test_restoring_gives_every_variable_its_value_and_returns_the_history(kept, variables, capsys):
    pd.testing.assert_frame_equal(Checkpoint(kept, variables).restore(), HISTORY, check_exact=True)
    assert all((variable.numpy() == 7).all() for variable in variables)
    assert capsys.readouterr().err == ""


def test_without_a_checkpoint_a_training_starts_anew_without_a_word(variables, tmp_path, capsys):
    assert Checkpoint(tmp_path / "none", variables).restore().empty
    assert capsys.readouterr().err == ""


def damaged(content, how):
    middle = len(content) // 2
    return {
        "empty": b"",
        "cut off": content[:middle],
        "one bit": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
        "another file": b"something else",
    }[how]


@pytest.mark.parametrize("how", ["empty", "cut off", "one bit", "another file"])
def test_damaged_checkpoint_is_not_used_and_a_line_says_so(kept, variables, capsys, how):
    kept.write_bytes(damaged(kept.read_bytes(), how))
    assert Checkpoint(kept, variables).restore().empty
    assert (variables[0].numpy() == 1).all()
    assert f"{kept} is damaged" in capsys.readouterr().err


@pytest.mark.parametrize("other", ["start weights", "shape", "code", "teacher"])
def test_checkpoint_of_a_training_that_began_otherwise_is_not_used(kept, variables, capsys, monkeypatch, other):
    scores = None
    match other:
        case "start weights":
            variables[0].assign(np.zeros((2, 3)))
        case "shape":
            variables[0] = keras.Variable(np.ones((3, 2), np.float32))
        case "code":
            monkeypatch.setattr(checkpoint, "_TRAINING_CODE", ("model",))
        case "teacher":
            scores = [np.ones((1, 2, 3), np.float32)]
    assert Checkpoint(kept, variables, scores).restore().empty
    assert "or the code of the training has changed: it starts anew" in capsys.readouterr().err


def test_checkpoint_that_cannot_be_written_does_not_stop_the_training(variables, tmp_path, capsys):
    (tmp_path / "file").touch()
    Checkpoint(tmp_path / "file" / "x", variables).keep(HISTORY)
    assert "no checkpoint: cannot write" in capsys.readouterr().err


def test_checkpoints_take_a_hundredth_of_the_time_at_most(kept, variables, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: now[0])
    written = []

    def slow(self, content):
        now[0] += 2.0  # of a disk
        written.append(now[0])
        return bytes(32)

    monkeypatch.setattr(Checkpoint, "_digest", slow)
    again = Checkpoint(kept, variables)
    while now[0] < 1000:
        again.keep(HISTORY)
        now[0] += 10.0  # of an epoch
    assert 4 <= len(written) <= 5


@pytest.fixture(scope="module")
def changing(digits):
    """Parameters of two epochs, with all that differs between epochs: dropout, mixed, small and whole images."""
    small = {"dataset": "digits", "image_size": 32, "color_mode": "gray", "weights": "none", "alpha": 0.1}
    epochs = {"epochs": 2, "mixup": 0.2, "early_epochs": 1, "early_image_size": 40, "late_epochs": 1}
    return suited(TrainParameters(**small, **epochs, batch_size=256, learning_rate=0.01), digits.n_train)


def trained(digits, parameters, path, stop=None):
    """Returns the weights and the history, without times, of a training with a checkpoint."""
    network = training.build_model(parameters, digits)
    images = preprocessing.cached_images(digits, parameters.preprocessing)
    history = training.fit(network, images, digits, parameters, checkpoint=path, stop=stop)
    assert history["seconds"].is_monotonic_increasing
    return network.get_weights(), history.drop(columns="seconds")


def are_same(one, other):
    return one[1].equals(other[1]) and all(np.array_equal(*pair) for pair in zip(one[0], other[0], strict=True))


def test_training_that_was_killed_after_an_epoch_ends_as_if_it_had_not_been(
    digits, changing, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(checkpoint, "_LARGEST_SHARE", np.inf)
    # The first leaves its checkpoint, as if it had been killed in the second epoch.
    undisturbed, continued = (trained(digits, changing, tmp_path / "x.checkpoint") for _ in range(2))
    assert capsys.readouterr().out == "continues at epoch 2 of 2, from a training that was interrupted\n"
    assert are_same(continued, undisturbed)


def test_training_that_was_stopped_at_an_epoch_continues_from_there(digits, changing, tmp_path, capsys):
    path = tmp_path / "x.checkpoint"
    stopped = trained(digits, changing, path, stop=1)
    assert stopped[1]["epoch"].tolist() == [1]
    again = trained(digits, changing, path, stop=1)
    assert are_same(again, stopped)
    capsys.readouterr()
    continued = trained(digits, changing, path)
    assert capsys.readouterr().out == "continues at epoch 2 of 2, from a training that was interrupted\n"
    assert are_same(continued, trained(digits, changing, tmp_path / "other.checkpoint"))


@pytest.mark.slow
def test_sweep_continues_a_training_whose_kernel_was_killed(tmp_path, tiny_sweep_file):
    (tmp_path / "sweep.yaml").write_text(tiny_sweep_file.read_text().replace(" epochs: 1", " epochs: 15") + ONLY_TRAIN)
    command = [Path(sys.executable).with_name("mb"), "sweep", tmp_path / "sweep.yaml", "--results-dir", tmp_path]
    process = subprocess.Popen([*command, "--workers", "1"], env=environment(), stdout=subprocess.DEVNULL)
    try:
        finished = "runs/.[!.]*.checkpoint"  # not one that is being written
        wait_for(lambda: list(tmp_path.glob(finished)), seconds=120)
        for kernel in kernels(process):
            kernel.kill()
        assert process.wait(300) == 0
    finally:
        process.terminate()
    (run,) = runs.all_runs(tmp_path)
    assert pd.read_csv(run.artefact("history.csv"))["epoch"].tolist() == list(range(1, 16))
    (log,) = tmp_path.glob("logs/*/train.log")
    assert re.search(r"continues at epoch \d+ of 15", log.read_text())
