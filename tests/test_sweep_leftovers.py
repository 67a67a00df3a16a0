"""However a sweep ends, it leaves no process, socket or temporary file behind."""

import shutil
import signal
import tempfile
from pathlib import Path

import psutil
import pytest
from sweeping import children, kernels, wait_for, wish

TEXT = "{defaults: {dataset: digits, image_size: 32, weights: none, epochs: 1}, seeds: [0, 1], notebooks: [train]}"

pytestmark = pytest.mark.slow


@pytest.fixture
def temporary():
    folder = Path(tempfile.mkdtemp())  # its path is short enough for sockets
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def start(sweep, temporary, tmp_path):
    """Starts a sweep whose trainings hang, and returns its process when two do."""

    def started():
        for seed in range(2):
            wish(tmp_path, "train", seed, "hang")
        process = sweep.start(tmp_path, "--workers", 2, TMPDIR=str(temporary))
        wait_for(lambda: (tmp_path / "ran.txt").exists() and (tmp_path / "ran.txt").read_text().count("\n") == 2)
        (temporary / next(temporary.glob("mb-*/*/kernel.json")).parent / "written_by_a_library.py").touch()
        return process

    return started


def test_a_sweep_that_ends_by_itself_leaves_nothing(sweep, temporary, tmp_path):
    process = sweep.start(tmp_path, TMPDIR=str(temporary))
    _, err = process.communicate()
    assert process.returncode == 0 and err == "" and not list(temporary.iterdir())


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -9)])
def test_a_sweep_that_is_ended_leaves_nothing(start, temporary, number, status):
    process = start()
    below = children(process.pid)
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == status and err.count("\n") == (number != signal.SIGKILL)
    assert not psutil.wait_procs(below, timeout=10)[1]
    assert not list(temporary.iterdir())


def test_what_is_left_when_all_processes_are_killed_at_once_goes_with_the_next_sweep(start, sweep, temporary, tmp_path):
    process = start()
    every = [psutil.Process(process.pid), *children(process.pid)]
    for part in every:
        part.suspend()
    for part in every:
        part.kill()
    process.wait()
    psutil.wait_procs(every, timeout=10)
    assert list(temporary.glob("mb-*/*/kernel.json"))
    foreign = [temporary / "mb-notes", temporary / ".mb-notes"]
    for folder in foreign:
        folder.mkdir()
    shutil.rmtree(tmp_path / "wishes")
    assert sweep.start(tmp_path, TMPDIR=str(temporary)).wait() == 0
    assert sorted(temporary.iterdir()) == sorted(foreign)


def test_a_sweep_leaves_the_folder_of_another_alone(start, sweep, temporary, tmp_path_factory):
    process = start()
    (folder,) = temporary.iterdir()
    assert sweep.start(tmp_path_factory.mktemp("other"), TMPDIR=str(temporary)).wait() == 0
    assert list(temporary.iterdir()) == [folder] and len(kernels(process)) == 2
    assert list(folder.glob("*/kernel.json"))


def test_temporary_folder_too_long_for_sockets_is_named(sweep, tmp_path):
    long = tmp_path / ("long" * 10)
    long.mkdir()
    process = sweep.start(tmp_path, TMPDIR=str(long))
    _, err = process.communicate()
    assert process.returncode == 2 and err.startswith("mb: error:") and "set TMPDIR to a shorter one" in err
