"""Results folders and paths that are odd, or cannot be used: one line that names them, and nothing lost."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from sweeping import Sweep, environment

from mbutils import cli, runs

SWEEP = "{defaults: {dataset: digits, image_size: 32, weights: none, epochs: 1, warmup_epochs: 0}, notebooks: [train]}"


MB = "import sys; from mbutils import cli; sys.exit(cli.main())"


@pytest.fixture
def mb(capsys, tmp_path):
    """Runs `mb` on a results folder; returns its exit status and the lines of its errors."""
    (tmp_path / "sweep.yaml").write_text(SWEEP)

    def run(command, results):
        arguments = [command, *[str(tmp_path / "sweep.yaml")] * (command == "sweep"), "--results-dir", str(results)]
        try:
            status = cli.main(arguments)
        except SystemExit as stop:
            status = stop.code
        return status, capsys.readouterr().err.splitlines()

    return run


def contents(folder):
    return {path.relative_to(folder): path.is_file() and path.read_bytes() for path in folder.rglob("*")}


@pytest.fixture
def results(tiny_results, tmp_path):
    return Path(shutil.copytree(tiny_results, tmp_path / "results"))


@pytest.mark.parametrize("command", ["sweep", "report"])
@pytest.mark.parametrize("name", ["logs", "runs", "prepare"])
def test_file_in_the_place_of_a_folder_is_named(mb, results, command, name):
    if name == "runs" and command == "report":
        pytest.skip("no runs")
    shutil.rmtree(results / name)
    (results / name).write_text("mine")
    before = contents(results)
    status, err = mb(command, results)
    assert status == 2 and len(err) == 1 and f"cannot write in {results / name}" in err[0]
    assert contents(results) == before


@pytest.mark.parametrize("command", ["sweep", "report"])
@pytest.mark.parametrize("name", ["results.csv", "compare.ipynb", "report.html"])
def test_folder_in_the_place_of_a_result_is_named(mb, results, command, name):
    (results / name).unlink()
    (results / name).mkdir()
    (results / name / "mine").touch()
    before = contents(results)
    status, err = mb(command, results)
    assert status == 2 and len(err) == 1 and f"cannot write {results / name} (it is a folder)" in err[0]
    assert contents(results) == before


ODD = {
    "file": "sweep.yaml",
    "below a file": "sweep.yaml/results",
    "read-only": "/proc/results",
    "home of nobody": "~nobody-here/results",
    "long name": "a" * 300,
    "long path": "long/" * 1000,
    "two lines": "one\ntwo",
    "no UTF-8": "\udcff",
    "loop": "loop",
}


@pytest.mark.parametrize("results", ODD.values(), ids=ODD)
@pytest.mark.parametrize("command", ["sweep", "report", "status"])
def test_results_folder_that_cannot_be_used_is_named(mb, tmp_path, monkeypatch, command, results):
    (tmp_path / "loop").symlink_to("loop")
    monkeypatch.chdir(tmp_path)
    status, err = mb(command, results)
    assert status == 2 and "error: " in err[-1] and "Traceback" not in "".join(err)
    assert {path.name for path in tmp_path.iterdir()} == {"sweep.yaml", "loop"}


def test_sweep_in_a_folder_with_an_odd_name(tmp_path):
    folder = tmp_path / "-p {x} { %s % ü 名 \N{NO-BREAK SPACE} a'b\"c$d`e\\f"
    folder.mkdir()
    sweep = Sweep(folder, SWEEP)
    status, _, err = sweep.run(folder / "results", "--workers", 1)
    assert (status, err) == (0, "")
    (run,) = runs.all_runs(folder / "results")
    assert (run.path / "train.ipynb").exists() and not run.parameters.results_dir


@pytest.mark.parametrize("command", [["status"], ["report"], ["sweep", "a.yaml"], ["render", "a.ipynb"], ["evaluate"]])
def test_working_directory_that_is_gone_is_named(tmp_path, command):
    gone = tmp_path / "gone"
    gone.mkdir()
    program = [sys.executable, "-c", "import os; os.rmdir(os.getcwd()); " + MB]
    done = subprocess.run([*program, *command], cwd=gone, env=environment(), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (
        2,
        "mb: error: the working directory does not exist: change to another one\n",
    )


@pytest.mark.parametrize(
    ("command", "message"), [("sweep", "cannot write in"), ("report", "cannot write"), ("status", "")]
)
def test_results_folder_that_may_only_be_read_is_named(results, tmp_path, command, message):
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    for folder in (path for path in (results, *results.rglob("*")) if path.is_dir()):
        folder.chmod(0o555)
    before = contents(results)
    arguments = [command, *["sweep.yaml"] * (command == "sweep"), "--results-dir", "results"]
    program = [*bound_by_permissions(), sys.executable, "-c", MB, *arguments]
    done = subprocess.run(program, cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert message in done.stderr and done.stderr.count("\n") == bool(message)
    assert done.returncode == (2 if message else 0) and contents(results) == before


def bound_by_permissions():
    """Returns the beginning of a command that lets root, too, only do what the permissions of files say."""
    if os.getuid() != 0:
        return []
    if not shutil.which("setpriv"):
        pytest.skip("no setpriv to take the rights of root away with")
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner"]
