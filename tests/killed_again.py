"""Run as a program: does a stage of a finished run again and again, and kills it at random moments.

After each kill, nothing that was finished may be lost, and the same stage must end well.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
from stand_ins import Network

from mbutils import evaluation, runs  # noqa: F401  (before the first fork: evaluation imports TensorFlow)
from mbutils.config import ConvertParameters, DeployParameters, TrainParameters
from mbutils.data import datasets
from mbutils.deploy import folder as deployed
from mbutils.errors import WorkbookError

VARIANT, VARIANTS = "int8_per_channel", ("float32", "int8_per_channel")
HISTORY = pd.DataFrame({"epoch": [1], "validation_top1": [0.5], "seconds": [1.0]})
LONGEST = 0.3  # seconds to the kill; a stage takes about a tenth


def train(results):
    begun = runs.begin(
        TrainParameters(dataset="digits"), datasets.load(TrainParameters(dataset="digits").data), results
    )
    runs.finish(begun, Network(os.urandom(1_000_000).hex()), HISTORY)


def convert(results):
    runs.save_variant(runs.find(results), VARIANT, os.urandom(300_000), ConvertParameters().conversion)


def evaluate(results):
    run = runs.find(results, next((results / "runs").glob("[!.]*")).name)
    figures = (0.5, 0.4, 0.6, *[0.0] * (len(runs.RECORDED_ACCURACY) - 3))
    accuracies = pd.DataFrame([(name, *figures) for name in VARIANTS], columns=["variant", *runs.RECORDED_ACCURACY])
    scores = dict.fromkeys(VARIANTS, np.random.default_rng().random((700, 10), np.float32))
    runs.save_test_images(run, np.zeros(0, np.int64), np.zeros((0, 8, 8, 3), np.uint8))
    runs.record_evaluation(run, accuracies, np.arange(700).astype(str), np.arange(700) % 10, scores)


def deploy(results):
    run = runs.find(results)
    files = {name: os.urandom(10_000) for name in deployed.generated()}
    deployed.write(run.path / "deploy", files, {"run_id": run.run_id})
    runs.record_deployment(run, DeployParameters(), {})


STAGES = {stage.__name__: stage for stage in (train, convert, evaluate, deploy)}


def damage(run):
    """Returns which artefacts are not those of the manifest."""
    found = []
    for name in run.manifest["artefacts"]:
        try:
            run.artefact(name)
        except WorkbookError:
            found.append(name)
    return found


def is_deployed(run):
    """Returns whether all files of one deployment are there, and the user's own."""
    deployed.check_target(run.path / "deploy")
    there = {path.name for path in (run.path / "deploy").iterdir()}
    return there == {*deployed.generated(), deployed.FACTS, "mine.c"}


def main(results, name, kills):
    for stage in STAGES.values():
        stage(results)
    (only,) = runs.all_runs(results)
    (only.path / "deploy" / "mine.c").write_text("mine")
    rng = random.Random(name)
    for _ in range(kills):
        child = os.fork()
        if child == 0:
            while True:
                STAGES[name](results)
        time.sleep(rng.uniform(0, LONGEST))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert not damage(only) and (name == "train" or is_deployed(only))
        STAGES[name](results)
        assert runs.all_runs(results) == [only] and not damage(only)
    left = [path for path in (results / "runs").rglob(".*") if path.suffix != ".lock"]
    assert not left, left
    print(f"{kills} kills of {name}: whole each time")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
