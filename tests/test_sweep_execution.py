"""Sweeps over stand-in notebooks: parallel, failing, side by side, on other machines; and kernels as such."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import Future

import psutil
import pytest
from sweeping import Sweep, environment, kernels, ran, wish, workers

from mbutils import cli, runs
from mbutils import sweep as sweeps
from mbutils.errors import WorkbookError
from mbutils.sweep import execution, records
from mbutils.sweep import kernels as kernel_servers
from mbutils.sweep.clusters import Remote, remote
from mbutils.sweep.stages import Outcome, Settings

TEXT = """
defaults: {dataset: digits, image_size: 32, weights: none, epochs: 4}
seeds: [0, 1, 2, 3, 4]
"""
# How the notebooks of the seeds misbehave, and what is said of it.
WISHES = {
    0: ("train", "raise", "train: ValueError: as wished"),
    1: ("convert", "die", "convert: the kernel was killed, most likely for want of memory"),
    2: ("evaluate", "exit", "evaluate: the kernel died with exit code 3"),
    3: ("train", "hang", "train: it took longer than the limit of 15 s"),
    4: ("convert", "say", "convert: no such thing: get one"),
}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    made = Sweep(tmp_path_factory.mktemp("sweep"), TEXT)
    yield made
    made.close()


@pytest.fixture(scope="module")
def small_sweep(tmp_path_factory):
    made = Sweep(tmp_path_factory.mktemp("small_sweep"), TEXT.replace("[0, 1, 2, 3, 4]", "[0, 1]"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def failed(sweep):
    """A sweep in which each run fails in its way; its results folder, exit status, output and error output."""
    results = sweep.folder / "failed"
    for seed, (notebook, what, _) in WISHES.items():
        wish(results, notebook, seed, what)
    return results, *sweep.run(results, "--workers", 2, "--time-limit", 15 / 3600)


def run_ids(results):
    return {run.parameters.seed: run.run_id for run in runs.all_runs(results)}


@pytest.mark.parametrize("seed", WISHES)
def test_stage_that_fails_is_tried_once_more_then_recorded(failed, seed):
    results, status, out, err = failed
    notebook, _, message = WISHES[seed]
    assert message in out
    (row,) = (row for row in sweeps.failures(results).itertuples() if message in row.error)
    assert row.attempts == 2 and row.run_id == run_ids(results)[seed]
    assert len([line for line in ran(results) if line.startswith(notebook) and row.run_id in line]) == 2
    assert status == 1 and message in err


def test_failure_is_shown_with_the_last_lines_of_its_log(failed):
    results, _, _, err = failed
    assert "about to fail" in err and 'raise ValueError("as wished")' in err
    assert "about to fail" in sweeps.failures(results)["log"].str.cat()


def test_what_needs_a_failed_stage_is_skipped_and_the_rest_goes_on(failed):
    results, _, out, _ = failed
    run = run_ids(results)[0]
    assert f"{run}  evaluate: skipped: {run}/train failed" in out
    for seed in (1, 2, 4):
        assert f"train {run_ids(results)[seed]}" in ran(results)
    assert "compare  compare: finished" in out


def test_status_shows_what_failed(failed, capsys):
    results = failed[0]
    assert cli.main(["status", "--results", str(results)]) == 1
    out = capsys.readouterr().out
    assert "as wished" in out and "5 failed" in out and "about to fail" in out


def test_failed_stages_are_tried_again_by_the_next_sweep(failed, sweep):
    results = sweep.folder / "mended"
    shutil.copytree(failed[0], results)
    shutil.rmtree(results / "wishes")
    before = ran(results)
    status, _, err = sweep.run(results, "--workers", 2)
    assert status == 0, err
    assert sweeps.failures(results).empty
    # What had finished is not done again: two trainings had failed, and what comes after.
    again = ran(results)[len(before) :]
    assert len([line for line in again if line.startswith("train")]) == 2
    assert cli.main(["status", "--results", str(results)]) == 0


def test_status_of_a_folder_without_a_sweep_is_named(tmp_path, capsys):
    assert cli.main(["status", "--results", str(tmp_path)]) == 2
    assert "no sweep in" in capsys.readouterr().err


def test_a_stage_that_fails_once_is_no_failure(small_sweep):
    results = small_sweep.folder / "once"
    wish(results, "convert", 0, "die once")
    wish(results, "train", 1, "raise once")
    status, _, err = small_sweep.run(results, "--workers", 2)
    assert status == 0 and err == ""
    assert sorted(record.attempts for record in records.read_all(results).values())[-2:] == [2, 2]


class Workers:
    """Stands in for two Dask workers: each stage takes as long as is said, on a clock that goes when it is slept on."""

    def __init__(self, seconds):
        self.now, self.began, self.ends = 0.0, {}, {}
        self._seconds = seconds

    def sleep(self, seconds):
        self.now = round(self.now + seconds, 3)

    def scheduler_info(self, n_workers):
        return {"workers": {name: {"nthreads": 1} for name in "ab"}}

    def submit(self, function, stage, settings, needed, **options):
        assert sum(end > self.now for end in self.ends.values()) < 2
        self.began[stage.key], self.ends[stage.key] = self.now, self.now + self._seconds(stage)
        future = Future()
        future.set_result(Outcome(stage.key, "finished"))
        future.status, future.done = "finished", lambda: self.ends[stage.key] <= self.now
        return future

    def cancel(self, futures, force):
        assert not futures


@pytest.fixture
def follow(tmp_path, monkeypatch):
    """Follows the stages of a sweep file with stand-in workers, and returns these."""

    def followed(text, seconds):
        path = tmp_path / "sweep.yaml"
        path.write_text(text)
        stages = list(sweeps.read(path).stages)
        workers = Workers(seconds)
        monkeypatch.setattr(execution.time, "sleep", workers.sleep)
        outcomes = execution._outcomes(stages, Settings(tmp_path, tmp_path, 1, 60), workers, lambda outcome: None)
        assert {outcome.key for outcome in outcomes} == {stage.key for stage in stages}
        return workers

    return followed


def test_notebooks_of_a_run_follow_each_other(follow):
    text = "{defaults: {dataset: digits}, grid: {variant: [int8_per_channel, int8_per_tensor]}}"
    workers = follow(text, lambda stage: 10.0)
    keys = [
        key
        for name in ("train", "convert_int8_per_channel", "convert_int8_per_tensor", "evaluate")
        for key in workers.began
        if key.endswith(f"/{name}")
    ]
    assert len(keys) == 4
    for earlier, later in itertools.pairwise(keys):
        assert workers.ends[earlier] <= workers.began[later]
    rendered = next(key for key in workers.began if key.endswith("train.html"))
    assert workers.began[rendered] >= workers.ends[keys[0]]


def test_a_long_stage_leaves_all_others_to_the_other_worker(follow):
    def seconds(stage):
        is_long = stage.notebook == "train" and stage.configuration.parameters("train").seed == 2
        return 1000.0 if is_long else 10.0

    workers = follow("{defaults: {dataset: digits}, seeds: [0, 1, 2, 3]}", seconds)
    long = max(workers.ends, key=lambda key: workers.ends[key] - workers.began[key])
    later = [key for key, began in workers.began.items() if began >= workers.ends[long]]
    assert {key.split("/")[0] for key in later} == {long.split("/")[0]}


def test_two_sweeps_on_one_folder_do_each_run_once(sweep):
    results = sweep.folder / "shared"
    both = [sweep.start(results, "--workers", 1) for _ in range(2)]
    outs = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], outs
    assert sorted(ran(results)) == sorted(set(ran(results)))
    assert len(ran(results)) == 3 * 5
    assert any("already finished" in out for out, _ in outs)


def test_full_disk_stops_the_sweep_cleanly(small_sweep):
    results = small_sweep.folder / "full"
    wish(results, "train", 0, "fill")
    status, _, err = small_sweep.run(results, "--workers", 1)
    assert status == 2 and err.count("\n") == 1
    assert "is full" in err and "free some space" in err
    assert not list(results.rglob(".*.json"))
    shutil.rmtree(results / "wishes")
    assert small_sweep.run(results, "--workers", 2)[0] == 0


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_ctrl_c_stops_the_sweep_and_every_kernel(sweep, capsys):
    results = sweep.folder / "interrupted"
    for seed in range(5):
        wish(results, "train", seed, "hang")
    process = sweep.start(results, "--workers", 2)
    wait_for(lambda: len(kernels(process)) == 2)
    wait_for(lambda: (results / "ran.txt").exists() and len(ran(results)) == 2)
    started = [*kernels(process), *workers(process)]
    assert cli.main(["status", "--results", str(results)]) == 0
    assert "2 running" in capsys.readouterr().out
    process.send_signal(signal.SIGINT)
    err = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert err == "mb: interrupted: what is finished is kept, the same command goes on from there\n"
    assert not psutil.wait_procs(started, timeout=10)[1]
    assert cli.main(["status", "--results", str(results)]) == 0
    assert "2 killed" in capsys.readouterr().out


def test_progress_of_a_training_is_there_to_be_followed(small_sweep):
    results = small_sweep.folder / "followed"
    wish(results, "train", 0, "hang")
    process = small_sweep.start(results, "--workers", 1)

    def told():
        return [records.progress(results, key) for key in records.read_all(results) if key.endswith("train")]

    wait_for(lambda: any(bar.get("n") == 4 for bar in told()))
    (bar,) = (bar for bar in told() if bar)
    assert bar["total"] == 4 and bar["what"] == "train" and bar["note"] == "validation top-1 0.500"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)


def test_local_cluster_listens_on_loopback_only(small_sweep):
    results = small_sweep.folder / "listening"
    wish(results, "train", 0, "hang")
    process = small_sweep.start(results, "--workers", 2)
    wait_for(lambda: kernels(process))
    parts = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    listening = [c.laddr.ip for part in parts for c in part.net_connections("inet") if c.status == "LISTEN"]
    process.send_signal(signal.SIGINT)
    out = process.communicate(timeout=60)[0]
    assert set(listening) == {"127.0.0.1"}
    assert "dashboard: http://127.0.0.1:" in out
    # Kernels listen on sockets in the file system, so that there are no ports to collide on.
    assert len(listening) <= 2 * len(parts)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A self-signed certificate and its key, made as the README says."""
    if not shutil.which("openssl"):
        pytest.skip("no openssl to make a certificate with")
    folder = tmp_path_factory.mktemp("certificate")
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=mb -keyout mb.key -out mb.pem"
    subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    return folder / "mb.pem", folder / "mb.key"


@pytest.fixture(scope="module")
def scheduler(certificate, tmp_path_factory):
    """A scheduler with TLS and two workers, all started apart; its address."""
    folder = tmp_path_factory.mktemp("scheduler")
    pem, key = certificate
    tls = ["--tls-ca-file", pem, "--tls-cert", pem, "--tls-key", key]
    options = {"env": environment(), "cwd": folder, "stderr": subprocess.DEVNULL}

    def dask(name, *arguments):
        return subprocess.Popen([sys.executable, "-m", f"distributed.cli.dask_{name}", *map(str, arguments)], **options)

    file = folder / "scheduler.json"
    scheduler = ["--host", "tls://127.0.0.1", "--port", 0, "--no-dashboard", "--scheduler-file", file]
    processes = [dask("scheduler", *scheduler, *tls)]
    wait_for(file.exists)
    for _ in range(2):
        processes.append(dask("worker", "--scheduler-file", file, "--nthreads", 1, "--no-dashboard", *tls))

    yield json.loads(file.read_text())["address"]
    for process in processes:
        process.terminate()
        process.wait()


def test_workers_started_apart_do_a_sweep_over_tls(sweep, scheduler, certificate):
    results = sweep.folder / "remote"
    pem, key = certificate
    options = ["--scheduler", scheduler, "--tls-ca", pem, "--tls-cert", pem, "--tls-key", key]
    status, _, err = sweep.run(results, *options)
    assert scheduler.startswith("tls://127.0.0.1:") and status == 0, err
    hosts = {record.host for key, record in records.read_all(results).items() if key.endswith("/train")}
    assert len(hosts) == 2 and len(ran(results)) == 3 * 5


def test_interrupted_sweep_stops_the_kernels_of_other_workers(sweep, scheduler, certificate):
    results = sweep.folder / "remote_interrupted"
    for seed in range(5):
        wish(results, "train", seed, "hang")
    pem, key = certificate
    process = sweep.start(results, "--scheduler", scheduler, "--tls-ca", pem, "--tls-cert", pem, "--tls-key", key)
    wait_for(lambda: (results / "ran.txt").exists() and len(ran(results)) == 2)
    process.kill()
    process.communicate()
    wait_for(lambda: not any(records.is_locked(results, run.run_id) for run in runs.all_runs(results)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--scheduler", "tcp://127.0.0.1:1"], "is not encrypted, and whoever reaches it can run anything"),
        (["--scheduler", "tls://127.0.0.1:1"], "--tls-ca: no file is given"),
        (["--scheduler", "tls://127.0.0.1:1", "--workers", "2"], "--workers is for this machine"),
        (["--workers", "0"], "--workers 0: the least is 1"),
        (["--threads", "0"], "--threads 0: the least is 1"),
        (["--time-limit", "0"], "--time-limit 0: must be more than 0 hours"),
    ],
)
def test_bad_options_are_named(sweep, tmp_path, options, message, capsys):
    assert cli.main(["sweep", str(sweep.file), "--results", str(tmp_path), *options]) == 2
    captured = capsys.readouterr()
    assert message in captured.err and captured.err.count("\n") == 1


def test_unencrypted_scheduler_is_warned_of_and_a_silent_one_named(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("mbutils.sweep.clusters._CONNECT_SECONDS", 1)
    with (
        pytest.raises(WorkbookError, match="no scheduler answers at tcp://"),
        remote(Remote("tcp://127.0.0.1:1", insecure=True), tmp_path),
    ):
        pass
    assert "warning: tcp://127.0.0.1:1 is not encrypted" in capsys.readouterr().err


def test_kernel_dies_with_the_connection_that_asked_for_it(tmp_path):
    with kernel_servers.KernelServer() as server:
        first, second = (
            server.start(["-f", str(tmp_path / name), "--IPKernelApp.transport=ipc"], tmp_path, dict(os.environ))
            for name in ("a", "b")
        )
        assert first.poll() is None and second.poll() is None
        first.kill()
        assert first.wait() == -signal.SIGKILL
        process = psutil.Process(second.pid)
    process.wait(timeout=10)


def test_server_whose_owner_died_while_it_started_ends(tmp_path):
    folder = tmp_path / "server"
    folder.mkdir()
    command = [
        sys.executable,
        "-m",
        "mbutils.sweep.kernels",
        "0",
        str(folder / "socket"),
    ]  # its parent is not process 0
    assert subprocess.run(command, timeout=120).returncode == 0
    assert not folder.exists()


def test_server_that_cannot_start_says_why(tmp_path):
    with kernel_servers.KernelServer(["no_such_module"]) as server, pytest.raises(OSError, match="no_such_module"):
        server.start([], tmp_path, {})
