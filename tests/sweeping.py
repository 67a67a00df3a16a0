"""A sweep over stand-in notebooks in processes of its own, and what it leaves behind."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import stand_ins

from mbutils import runs
from mbutils.config import PROJECT

TESTS = Path(__file__).parent
VOLATILE = ("started", "finished", "git_commit", "train_seconds")


class Sweep:
    """A sweep file and the notebooks that it runs, in a folder of its own."""

    command = ("sweep",)

    def __init__(self, folder, text):
        self.folder, self.file = folder, folder / "sweep.yaml"
        self.file.write_text(text)
        self.notebooks = folder / "notebooks"
        self.notebooks.mkdir()
        stand_ins.write_notebooks(self.notebooks)
        self.processes = []

    def start(self, results, *options, **variables):
        """Starts the command as a user would, with additional environment variables, and returns its process."""
        command = [sys.executable, TESTS / "stand_ins.py", self.notebooks, *self.command, self.file]
        process = subprocess.Popen(
            [*command, "--results-dir", results, *map(str, options)],
            env=environment() | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # As in a terminal: a shell that starts the tests in the background lets them ignore Ctrl-C.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        self.processes.append(process)
        return process

    def close(self):
        """Kills what a failed test left behind."""
        for process in self.processes:
            process.kill()
            process.communicate()

    def run(self, results, *options):
        """Runs the command to its end; returns its exit status, and what it wrote to standard output and error."""
        process = self.start(results, *options)
        out, err = process.communicate()
        return process.returncode, out, err


class Search(Sweep):
    """A space of models that is searched in the same way."""

    command = ("search", "--space")


def environment():
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(PROJECT), str(TESTS)]), "CUDA_VISIBLE_DEVICES": ""}


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def wish(results, notebook, seed, what):
    (results / "wishes").mkdir(parents=True, exist_ok=True)
    (results / "wishes" / f"{notebook}_{seed}").write_text(what)


def ran(results):
    """Returns every notebook that was executed for a run, as "<notebook> <run_id>", in order."""
    return (results / "ran.txt").read_text().splitlines()


def facts(results):
    """Returns all results of a sweep, without times."""
    manifests = {run.run_id: without_times(run.manifest) for run in runs.all_runs(results)}
    table = runs.results_table(results).drop(columns=["train_seconds", "git_commit"])
    files = {str(path.relative_to(results)) for folder in ("runs", "prepare") for path in (results / folder).rglob("*")}
    reports = {name for name in ("compare.ipynb", "report.html", "results.csv") if (results / name).exists()}
    return manifests, table.to_csv(index=False), files | reports


def without_times(manifest):
    kept = {name: value for name, value in manifest.items() if name not in VOLATILE}
    return json.loads(json.dumps(kept, sort_keys=True))


def fork_servers(sweep):
    """Returns the process of a sweep that its kernels are forked from."""
    return [process for process in children(sweep.pid, recursive=False) if "forkserver" in " ".join(cmdline(process))]


def kernels(sweep):
    """Returns the kernel processes of a sweep."""
    return [kernel for server in fork_servers(sweep) for kernel in children(server.pid, recursive=False)]


def children(pid, recursive=True):
    try:
        return psutil.Process(pid).children(recursive)
    except psutil.NoSuchProcess:
        return []


def cmdline(process):
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []
