"""Working in JupyterLab: git sees what the user changed in a notebook, and not what running it left in it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mbutils.cli import lab
from mbutils.config import PROJECT

NAME = "footprint.ipynb"


@pytest.fixture
def checkout(tmp_path):
    """A checkout with one notebook, as `make setup` leaves it."""
    for file in ("Makefile", ".gitattributes", f"notebooks/{NAME}"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        shutil.copy(PROJECT / file, tmp_path / file)
    (tmp_path / ".gitignore").write_text(".venv\n")
    for file in ("requirements.lock", "pyproject.toml", ".venv"):
        (tmp_path / file).mkdir()
    (tmp_path / ".venv" / "bin").symlink_to(Path(sys.executable).parent)
    run(tmp_path, "git", "init", "--quiet")
    commands = run(tmp_path, "make", "--just-print", "--always-make", "setup").splitlines()
    (command,) = (line for line in commands if "git config" in line)
    run(tmp_path, "sh", "-c", command)
    run(tmp_path, "git", "add", ".")
    return tmp_path


def run(folder, *command):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "MAKE"))}
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, env=environment).stdout


def save(path, parameter="5"):
    """Saves the notebook as JupyterLab does after running it, with another value of a parameter."""
    notebook = json.loads(path.read_text().replace("n_classes: int = 5", f"n_classes: int = {parameter}"))
    for number, cell in enumerate(cell for cell in notebook["cells"] if cell["cell_type"] == "code"):
        cell["execution_count"] = number
        cell["outputs"] = [{"name": "stdout", "output_type": "stream", "text": ["an output\n"]}]
        cell["metadata"]["execution"] = {"iopub.status.busy": "2026-01-01T00:00:00.000000Z"}
    notebook["metadata"]["language_info"] = {"name": "python", "version": "3.11.7"}
    path.write_text(json.dumps(notebook))
    lab.saved(model={"type": "notebook"}, os_path=str(path), contents_manager=None)


def test_running_a_notebook_is_no_change_to_git(checkout):
    staged = run(checkout, "git", "ls-files", "--stage")
    save(checkout / "notebooks" / NAME)
    assert "an output" in (checkout / "notebooks" / NAME).read_text()
    assert run(checkout, "git", "diff-files", "--name-only") == ""  # as `git status` and `git describe --dirty` see it
    assert run(checkout, "git", "ls-files", "--stage") == staged


def test_changed_parameter_is_the_only_change_that_git_shows(checkout):
    save(checkout / "notebooks" / NAME, parameter="7")
    assert run(checkout, "git", "diff-files", "--name-only") == f"notebooks/{NAME}\n"
    changed = [line for line in run(checkout, "git", "diff", "-U0").splitlines() if line[0] in "+-"][2:]
    assert len(changed) == 2 and "n_classes: int = 7" in changed[1]


def test_new_notebook_is_not_added(checkout):
    shutil.copy(checkout / "notebooks" / NAME, checkout / "mine.ipynb")
    save(checkout / "mine.ipynb")
    assert run(checkout, "git", "ls-files", "--others", "--exclude-standard") == "mine.ipynb\n"


@pytest.mark.parametrize("without", ["git", "checkout"])
def test_saving_works_without_git(checkout, monkeypatch, without):
    if without == "git":
        monkeypatch.setenv("PATH", "")
    else:
        shutil.rmtree(checkout / ".git")
    save(checkout / "notebooks" / NAME)


def test_without_the_environment_git_sees_notebooks_as_they_are(checkout):
    (checkout / ".venv" / "bin").unlink()
    save(checkout / "notebooks" / NAME)
    assert "an output" in run(checkout, "git", "diff")
