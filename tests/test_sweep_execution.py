"""Sweeps over stand-in notebooks: parallel, failing, side by side, on other machines."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import psutil
import pytest
from distributed import LocalCluster
from sweeping import Sweep, children, environment, kernels, ran, wait_for, wish

from mbutils import cli
from mbutils import sweep as sweeps
from mbutils.errors import WorkbookError
from mbutils.sweep import execution, records
from mbutils.sweep.clusters import Remote, local, remote
from mbutils.sweep.stages import Outcome, Settings

TEXT = """
defaults: {dataset: digits, image_size: 32, weights: none, epochs: 4}
seeds: [0, 1, 2, 3, 4, 5]
"""
# How the notebooks of the seeds misbehave, and the error that names it.
WISHES = {
    0: ("train", "raise", "train: ValueError: as wished"),
    1: ("convert", "die", "convert: the kernel was killed, most likely because memory ran out"),
    2: ("evaluate", "exit", "evaluate: the kernel died with exit code 3"),
    3: ("train", "hang", "train: it took longer than the limit of 9 s"),
    4: ("convert", "say", "convert: no such thing: get one"),
}


@pytest.fixture(scope="module")
def small_sweep(tmp_path_factory):
    made = Sweep(tmp_path_factory.mktemp("small_sweep"), TEXT.replace("[0, 1, 2, 3, 4, 5]", "[0, 1]"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def failed(sweep):
    """A sweep in which each run fails in its way; its results folder, exit status, output and error output."""
    results = sweep.folder / "failed"
    for seed, (notebook, what, _) in WISHES.items():
        wish(results, notebook, seed, what)
    wish(results, "convert", 5, "die once")
    return results, *sweep.run(results, "--workers", 2, "--time-limit", 9 / 3600)


@pytest.fixture(scope="module")
def run_ids(sweep):
    return [configuration.run_id for configuration in sweeps.read(sweep.file).configurations]


@pytest.mark.parametrize("seed", WISHES)
def test_stage_that_fails_is_tried_once_more_then_recorded(failed, run_ids, seed):
    results, status, out, err = failed
    notebook, _, message = WISHES[seed]
    assert message in out
    (row,) = (row for row in sweeps.failures(results).itertuples() if message in row.error)
    assert row.attempts == 2 and row.run_id == run_ids[seed]
    assert len([line for line in ran(results) if line.startswith(notebook) and row.run_id in line]) == 2
    assert status == 1 and message in err


def test_failure_is_shown_with_the_last_lines_of_its_log(failed):
    results, _, _, err = failed
    assert "about to fail" in err and 'raise ValueError("as wished")' in err
    assert "about to fail" in sweeps.failures(results)["log"].str.cat()


def test_what_needs_a_failed_stage_is_skipped_and_the_rest_goes_on(failed, run_ids):
    results, _, out, _ = failed
    run = run_ids[0]
    assert f"{run}  evaluate: skipped: {run}/train failed" in out
    for seed in (1, 2, 4):
        assert f"train {run_ids[seed]}" in ran(results)
    assert "compare  compare: finished" in out


def test_status_shows_what_failed(failed, capsys):
    results = failed[0]
    assert cli.main(["status", "--results-dir", str(results)]) == 1
    out = capsys.readouterr().out
    assert "as wished" in out and "5 failed" in out and "about to fail" in out


@pytest.mark.slow
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
    assert cli.main(["status", "--results-dir", str(results)]) == 0


def test_status_of_a_folder_without_a_sweep_is_named(tmp_path, capsys):
    assert cli.main(["status", "--results-dir", str(tmp_path)]) == 2
    assert "no sweep in" in capsys.readouterr().err


def test_a_stage_that_fails_once_is_no_failure(failed, run_ids):
    results = failed[0]
    record = records.read(results, f"{run_ids[5]}/convert_int8_per_channel")
    assert record.status == "finished" and record.attempts == 2


BEGAN, ENDED = {}, {}


def pretend(stage, settings, needed, previous):
    """Stands in for `perform`: the training of seed 2 takes long, all else no time."""
    is_long = stage.notebook == "train" and stage.configuration.parameters("train").seed == 2
    BEGAN[stage.key] = time.monotonic()
    time.sleep(1.5 if is_long else 0.01)
    ENDED[stage.key] = time.monotonic()
    return Outcome(stage.key, "finished")


@pytest.fixture
def follow(tmp_path, monkeypatch):
    """Follows the stages of a sweep file to their pretended end on two threads, and returns their keys."""

    def followed(text):
        (tmp_path / "sweep.yaml").write_text(text)
        stages = list(sweeps.read(tmp_path / "sweep.yaml").stages)
        monkeypatch.setattr(execution, "perform", pretend)
        BEGAN.clear()
        with local(workers=2) as client:
            outcomes = execution._outcomes(stages, Settings(tmp_path, tmp_path, 1, 60), client, lambda outcome: None)
            assert {outcome.key for outcome in outcomes} == {stage.key for stage in stages}
        return list(BEGAN)

    return followed


def test_notebooks_of_a_run_follow_each_other(follow):
    keys = follow("{defaults: {dataset: digits}, grid: {variant: [int8_per_channel, int8_per_tensor]}}")
    names = ("train", "convert_int8_per_channel", "convert_int8_per_tensor", "evaluate")
    followed = [key for name in names for key in keys if key.endswith(f"/{name}")]
    assert len(followed) == 4
    for earlier, later in itertools.pairwise(followed):
        assert ENDED[earlier] <= BEGAN[later]
    rendered = next(key for key in keys if key.endswith("train.html"))
    assert BEGAN[rendered] >= ENDED[followed[0]]


def test_a_long_stage_leaves_all_others_to_the_other_worker(follow):
    keys = follow("{defaults: {dataset: digits}, seeds: [0, 1, 2, 3]}")
    long = max(keys, key=lambda key: ENDED[key] - BEGAN[key])
    later = [key for key in keys if BEGAN[key] >= ENDED[long]]
    assert later and {key.split("/")[0] for key in later} == {long.split("/")[0]}


def test_pages_are_rendered_last(follow):
    keys = follow("{defaults: {dataset: digits}, seeds: [0, 1, 3]}")
    # But for what was the only thing to do while others waited for the cache.
    rendered = [key.endswith(".html") for key in keys if not key.startswith("prepare")]
    assert sum(rendered[: len(rendered) // 2]) <= 1


@pytest.mark.slow
def test_two_sweeps_on_one_folder_do_each_run_once(sweep):
    results = sweep.folder / "shared"
    both = [sweep.start(results, "--workers", 1) for _ in range(2)]
    outs = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], outs
    assert sorted(ran(results)) == sorted(set(ran(results)))
    assert len(ran(results)) == 3 * 6
    assert any("already finished" in out for out, _ in outs)


def test_full_disk_stops_the_sweep_cleanly(small_sweep):
    results = small_sweep.folder / "full"
    wish(results, "train", 0, "fill")
    process = small_sweep.start(results, "--workers", 1, PYTHONWARNINGS="always::ResourceWarning")
    err = process.communicate()[1]  # one line, so nothing that was left open was warned of either
    assert process.returncode == 2 and err.count("\n") == 1, err
    assert "is full" in err and "free some space" in err
    assert not list(results.rglob(".*.json"))


@pytest.fixture(scope="module")
def interrupted(sweep, tmp_path_factory):
    """A sweep whose first trainings hang, while they do, and a function that presses Ctrl-C and returns the errors."""
    results, temporary = sweep.folder / "interrupted", Path(tempfile.mkdtemp())
    temporary.chmod(0o755)  # as that of the system is
    for seed in range(6):
        wish(results, "train", seed, "hang")
    process = sweep.start(results, "--workers", 2, TMPDIR=str(temporary))
    wait_for(lambda: len(bars(results)) == 2 and all(bar["n"] == 4 for bar in bars(results)))

    def interrupt():
        process.send_signal(signal.SIGINT)
        return process.communicate(timeout=60)[1]

    yield results, temporary, process, interrupt
    shutil.rmtree(temporary)


def bars(results):
    return [bar for key in records.read_all(results) if (bar := records.progress(results, key))]


def test_progress_of_a_training_can_be_followed(interrupted, capsys):
    results = interrupted[0]
    assert all(bar["total"] == 4 and bar["what"] == "train" for bar in bars(results))
    assert all(bar["note"] == "validation top-1 0.500" for bar in bars(results))
    assert cli.main(["status", "--results-dir", str(results)]) == 0
    out = capsys.readouterr().out
    assert "2 running" in out and "train, epoch 4/4" in out


NOBODY = 65534


def test_nobody_else_can_reach_a_running_sweep(interrupted):
    _, temporary, process, _ = interrupted
    parts = [psutil.Process(process.pid), *children(process.pid)]
    assert len(kernels(process)) == 2
    assert not [connection for part in parts for connection in part.net_connections("inet")]
    sockets = {connection.laddr for part in parts for connection in part.net_connections("unix")} - {""}
    assert len(sockets) > 10 and all(Path(path).is_relative_to(temporary) for path in sockets)
    assert all(path.stat().st_mode & 0o77 == 0 for path in temporary.iterdir())


@pytest.mark.skipif(os.getuid() != 0, reason="only root may try as another user")
def test_attack_of_another_user_is_refused(interrupted):
    _, temporary, process, _ = interrupted
    parts = [psutil.Process(process.pid), *children(process.pid)]
    sockets = {connection.laddr for part in parts for connection in part.net_connections("unix")} - {""}
    files = [str(path) for path in temporary.rglob("*") if path.is_file()]
    targets = {"sockets": sorted(sockets), "files": files, "processes": [part.pid for part in parts]}
    command = [sys.executable, Path(__file__).with_name("attack.py"), str(NOBODY)]
    done = subprocess.run(command, input=json.dumps(targets), capture_output=True, text=True)
    assert len(sockets) > 10 and any(path.endswith("kernel.json") for path in files)
    assert (done.stdout, done.stderr) == ("tried everything\n", "")


def test_ctrl_c_stops_the_sweep_and_every_kernel_and_leaves_no_files(interrupted, capsys):
    results, temporary, process, interrupt = interrupted
    started = children(process.pid)
    assert interrupt() == "mb: interrupted: what is finished is kept, and the same command continues from there\n"
    assert process.returncode == 130
    assert not psutil.wait_procs(started, timeout=10)[1]
    assert cli.main(["status", "--results-dir", str(results)]) == 0
    assert "2 killed" in capsys.readouterr().out
    assert not list(temporary.iterdir())


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A self-signed certificate and its key, made as docs/sweeps.md does."""
    if not shutil.which("openssl"):
        pytest.skip("no openssl to make a certificate with")
    folder = tmp_path_factory.mktemp("certificate")
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=mb -keyout mb.key -out mb.pem"
    subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    return folder / "mb.pem", folder / "mb.key"


@pytest.fixture(scope="module")
def scheduler(certificate, tmp_path_factory):
    """A scheduler and two workers, started one by one as docs/sweeps.md does; its address and their processes."""
    folder = tmp_path_factory.mktemp("scheduler")
    pem, key = certificate
    closed = ["--tls-ca-file", pem, "--tls-cert", pem, "--tls-key", key]
    closed += ["--no-dashboard", "--dashboard-address", "127.0.0.1:0"]
    no_pages = {f"DASK_DISTRIBUTED__{name}__HTTP__ROUTES": "[]" for name in ("SCHEDULER", "WORKER")}
    options = {"env": environment() | no_pages, "cwd": folder, "stderr": subprocess.DEVNULL}

    def dask(name, *arguments):
        return subprocess.Popen([sys.executable, "-m", f"distributed.cli.dask_{name}", *map(str, arguments)], **options)

    file = folder / "scheduler.json"
    scheduler = ["--host", "tls://127.0.0.1", "--port", 0, "--scheduler-file", file]
    processes = [dask("scheduler", *scheduler, *closed)]
    wait_for(file.exists)
    for _ in range(2):
        processes.append(dask("worker", "--scheduler-file", file, "--nthreads", 1, "--no-nanny", *closed))

    yield json.loads(file.read_text())["address"], processes
    for process in processes:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_workers_started_apart_do_a_sweep_over_tls(sweep, scheduler, certificate):
    results = sweep.folder / "remote"
    pem, key = certificate
    address, _ = scheduler
    options = ["--scheduler", address, "--tls-ca", pem, "--tls-cert", pem, "--tls-key", key]
    status, _, err = sweep.run(results, *options)
    assert address.startswith("tls://127.0.0.1:") and status == 0, err
    hosts = {record.host for key, record in records.read_all(results).items() if key.endswith("/train")}
    assert len(hosts) == 2 and len(ran(results)) == 3 * 6


@pytest.mark.slow
def test_scheduler_and_workers_show_nothing_to_those_without_the_key(sweep, scheduler, certificate):
    processes = scheduler[1]

    def ports():
        found = (c for p in processes for c in psutil.Process(p.pid).net_connections("inet") if c.status == "LISTEN")
        return {connection.laddr.port for connection in found}

    wait_for(lambda: len(ports()) >= len(processes))
    for port, page in itertools.product(ports(), ("status", "info/main/workers.html", "metrics", "health")):
        with pytest.raises(OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/{page}", timeout=5)


@pytest.mark.slow
def test_worker_that_may_not_start_kernels_is_named(tmp_path):
    with (
        LocalCluster(n_workers=1, host="127.0.0.1", dashboard_address="127.0.0.1:0") as cluster,
        pytest.raises(WorkbookError, match=r"below a nanny.* start it with dask worker --no-nanny"),
        remote(Remote(cluster.scheduler_address, insecure=True), tmp_path),
    ):
        pass


@pytest.mark.slow
def test_interrupted_sweep_stops_the_kernels_of_other_workers(sweep, scheduler, certificate, run_ids):
    results = sweep.folder / "remote_interrupted"
    for seed in range(6):
        wish(results, "train", seed, "hang")
    pem, key = certificate
    process = sweep.start(results, "--scheduler", scheduler[0], "--tls-ca", pem, "--tls-cert", pem, "--tls-key", key)
    wait_for(lambda: (results / "ran.txt").exists() and len(ran(results)) == 2)
    assert any(records.is_locked(results, run_id) for run_id in run_ids)
    process.kill()
    process.communicate()
    wait_for(lambda: not any(records.is_locked(results, run_id) for run_id in run_ids))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--scheduler", "tcp://127.0.0.1:1"], "is not encrypted, and whoever reaches it can run anything"),
        (["--scheduler", "tls://127.0.0.1:1"], "--tls-ca: no file"),
        (["--scheduler", "tls://127.0.0.1:1", "--workers", "2"], "--workers is for this machine"),
        (["--workers", "0"], "workers: 0 is too small: the minimum is 1"),
        (["--threads", "0"], "threads: 0 is too small: the minimum is 1"),
        (["--workers", "100000"], "workers: 100000 is too large: the maximum is"),
        (["--threads", "100000"], "--threads 100000: this machine has"),
        (["--time-limit", "0"], "time_limit: 0.0 is too small"),
        (["--time-limit", "nan"], "time_limit: nan is not a finite number"),
        (["--time-limit", "inf"], "time_limit: inf is not a finite number"),
    ],
)
def test_bad_options_are_named(sweep, tmp_path, options, message, capsys):
    assert cli.main(["sweep", str(sweep.file), "--results-dir", str(tmp_path), *options]) == 2
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
