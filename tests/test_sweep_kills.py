"""Nothing is lost: parts of a sweep, and second runs of what is finished, are killed at random moments.

`pytest -m slow tests/test_sweep_kills.py --kills 60` kills more parts of a sweep, in some minutes.
"""

import random
import subprocess
import sys
import time

import killed_again
import psutil
import pytest
from sweeping import children, environment, facts, fork_servers, kernels, ran, wait_for

KINDS = ("sweep", "fork server", "kernel")
SEEDS = 3
TEXT = f"""
defaults: {{dataset: digits, image_size: 32, weights: none, epochs: 4}}
grid: {{variant: [int8_per_channel, int8_per_tensor]}}
seeds: {list(range(SEEDS))}
"""


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def undisturbed(sweep):
    results = sweep.folder / "undisturbed"
    status, _, err = sweep.run(results, "--workers", 2)
    assert status == 0, err
    assert sorted(ran(results)) == sorted(set(ran(results))) and len(ran(results)) == 4 * SEEDS
    return facts(results)


def test_killed_sweeps_end_with_the_results_of_an_undisturbed_one(sweep, undisturbed, request):
    rng = random.Random(0)
    kills_each = request.config.getoption("kills") // len(KINDS)
    kills = [kind for kind in KINDS for _ in range(kills_each)]
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
    assert killed == dict.fromkeys(KINDS, kills_each)


def run_and_kill(sweep, results, kills, killed, rng):
    """Starts a sweep, kills parts of it at random moments as long as there is something to kill, returns its status."""
    process = sweep.start(results, "--workers", 2)
    victims = {"sweep": lambda sweep: [psutil.Process(sweep.pid)], "fork server": fork_servers, "kernel": kernels}
    while kills:
        # Killing what is still starting would show nothing.
        wait_for(lambda: kernels(process) or process.poll() is not None)
        time.sleep(rng.uniform(0, 2))
        found = kernels(process) and victims[kills[0]](process)
        if process.poll() is not None:
            break
        if not found:
            continue
        below = children(process.pid)
        try:
            rng.choice(found).kill()
        except psutil.NoSuchProcess:
            continue  # it has just ended by itself
        killed[kills[0]] += 1
        if kills.pop(0) == "sweep":
            process.communicate()
            assert not psutil.wait_procs(below, timeout=5)[1]  # what it started ends without it
            return None
    process.communicate()
    return process.returncode


def test_finished_runs_are_not_done_again(sweep, undisturbed):
    results = sweep.folder / "undisturbed"
    before = ran(results)
    status, out, _ = sweep.run(results)
    assert status == 0 and ran(results) == before
    assert "train: " not in out


@pytest.mark.parametrize("stage", killed_again.STAGES)
def test_finished_runs_are_whole_however_often_a_second_run_is_killed(stage, tmp_path):
    command = [sys.executable, killed_again.__file__, tmp_path, stage, "15"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True)
    assert done.stdout == f"15 kills of {stage}: whole each time\n", done.stderr
