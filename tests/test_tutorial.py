"""Commands in the documents: each is understood, and those of the tutorial run as written, on generated images."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mbutils import cli, config
from mbutils.config import PROJECT

DOCUMENTS = (PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md")))


def commands_in(document):
    blocks = re.findall(r"```sh\n(.*?)```", document.read_text(), re.DOTALL)
    return [line for block in blocks for line in block.replace("\\\n", "").splitlines() if line]


COMMANDS = commands_in(PROJECT / "docs" / "tutorial.md")
DOCUMENTED = [command for document in DOCUMENTS for command in commands_in(document)]


@pytest.mark.parametrize("command", [command for command in DOCUMENTED if command.startswith("mb ")])
def test_documented_command_of_mb_is_understood(command):
    _, *words = shlex.split(command, comments=True)
    cli._parser().parse_args(words)


@pytest.mark.parametrize("command", [command for command in DOCUMENTED if command.startswith("papermill ")])
def test_documented_command_of_papermill_names_parameters_of_its_notebook(command):
    _, notebook, _, *options = shlex.split(command, comments=True)
    kind = getattr(config, f"{Path(notebook).stem.capitalize()}Parameters")
    assert set(options[1::3]) <= {spec.name for spec in fields(kind)}


@pytest.fixture
def workbook(tmp_path):
    """A copy of the workbook, with dark and bright images in `my_photos` and, fewer, in `new_photos`."""
    for name in ("mbutils", "notebooks", "params"):
        shutil.copytree(PROJECT / name, tmp_path / name)
    rng = np.random.default_rng(0)
    for name, low in (("night", 0), ("day", 128)):
        for folder, count in (("my_photos", 40), ("new_photos", 5)):
            (tmp_path / folder / name).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(low, low + 128, (60, 80, 3), np.uint8)
                Image.fromarray(pixels).save(tmp_path / folder / name / f"{number}.jpg")
    return tmp_path


def test_the_tutorial_is_fourteen_commands():
    assert len(COMMANDS) == 14


@pytest.mark.slow
def test_every_command_of_the_tutorial_works_as_written(workbook, imagenet_weights):
    environment = os.environ | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": str(workbook),
        "CUDA_VISIBLE_DEVICES": "-1",
    }
    for command in COMMANDS:
        done = subprocess.run(command, shell=True, cwd=workbook, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    made = {"prepare.html", "evaluate.html", "firmware/network.c", "firmware/README.md", "results/report.html"}
    assert all((workbook / name).exists() for name in made)
