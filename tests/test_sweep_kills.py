"""Nothing is lost: sweeps, workers and kernels are killed at random moments, until everything is done all the same."""

import random
import time

import psutil
import pytest
from sweeping import Sweep, children, facts, kernels, ran, workers

KILLS = 21
SEEDS = 4
TEXT = f"""
defaults: {{dataset: digits, image_size: 32, weights: none, epochs: 4}}
grid: {{variant: [int8_per_channel, int8_per_tensor]}}
seeds: {list(range(SEEDS))}
"""


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    made = Sweep(tmp_path_factory.mktemp("killed"), TEXT)
    yield made
    made.close()


@pytest.fixture(scope="module")
def undisturbed(sweep):
    results = sweep.folder / "undisturbed"
    status, _, err = sweep.run(results, "--workers", 2)
    assert status == 0, err
    assert sorted(ran(results)) == sorted(set(ran(results))) and len(ran(results)) == 4 * SEEDS
    return facts(results)


def test_killed_sweeps_end_with_the_results_of_an_undisturbed_one(sweep, undisturbed):
    rng = random.Random(0)
    kills = [kind for kind in ("sweep", "worker", "kernel") for _ in range(KILLS // 3)]
    rng.shuffle(kills)
    killed, folder = dict.fromkeys(kills, 0), 0
    while kills:
        results = sweep.folder / f"killed_{folder}"
        status = run_and_kill(sweep, results, kills, killed, rng)
        if status == 0:
            assert facts(results) == undisturbed
            folder += 1
    while sweep.run(results, "--workers", 2)[0] != 0:
        pass
    assert facts(results) == undisturbed
    assert killed == dict.fromkeys(("sweep", "worker", "kernel"), KILLS // 3)


def run_and_kill(sweep, results, kills, killed, rng):
    """Starts a sweep, kills parts of it at random moments as long as there is something to kill, returns its status."""
    process = sweep.start(results, "--workers", 2)
    while process.poll() is None and kills:
        time.sleep(rng.uniform(0.2, 2.5))
        victims = {"sweep": lambda: [psutil.Process(process.pid)], "worker": workers, "kernel": kernels}
        found = victims["sweep"]() if kills[0] == "sweep" else victims[kills[0]](process)
        if kills[0] == "sweep" and not kernels(process):
            continue  # it is still starting, and killing it then would show nothing
        if found and process.poll() is None:
            below = children(process.pid)
            try:
                rng.choice(found).kill()
            except psutil.NoSuchProcess:
                continue  # it has just ended by itself
            killed[kills[0]] += 1
            if kills.pop(0) == "sweep":
                process.communicate()
                # What it started ends without it.
                assert not psutil.wait_procs(below, timeout=20)[1]
                return None
    process.communicate()
    return process.returncode


def test_finished_runs_are_not_done_again(sweep, undisturbed):
    results = sweep.folder / "undisturbed"
    before = ran(results)
    status, out, _ = sweep.run(results)
    assert status == 0 and ran(results) == before
    assert "train: " not in out
