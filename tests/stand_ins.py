"""Notebooks that stand in for the real ones: they leave the same records and files, in a moment and without TensorFlow.

Run as a program, this is `mb` with the notebooks of a folder that `write_notebooks` wrote. In the results folder,
`ran.txt` lists every notebook executed, and a file `wishes/<notebook>_<seed>` names how one misbehaves.
"""

import errno
import json
import os
import signal
import sys
import time
from dataclasses import fields, replace
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd

from mbutils import cli, config, runs
from mbutils.cli import sweeps
from mbutils.data import datasets
from mbutils.errors import WorkbookError
from mbutils.progress import progress
from mbutils.report import render, selection
from mbutils.search import engine

SECONDS_AN_EPOCH = 0.15
PRELOADED = ("ipykernel.kernelapp", "stand_ins", "sklearn.datasets")
TOP1 = 0.5


def write_notebooks(folder):
    for name in ("prepare", "rung", "train", "convert", "deploy", "evaluate", "compare", "search"):
        parameters = nbformat.v4.new_code_cell("results_dir = ''", metadata={"tags": ["parameters"]})
        work = nbformat.v4.new_code_cell(f"import stand_ins\nstand_ins.{name}(globals())")
        notebook = nbformat.v4.new_notebook(cells=[parameters, work])
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(notebook, folder / f"{name}.ipynb")


def prepare(namespace):
    print("prepared", namespace["image_size"])


def rung(namespace):
    asked = config.TrainParameters.from_dict(namespace["parameters"])
    results, stop = Path(namespace["results_dir"]), namespace["stop"]
    run = runs.begin(asked, datasets.load(asked), results)
    count(run, f"rung {stop}")
    misbehave(run, "rung")
    runs.record_history(results, run.run_id, trained(run, results, stop))


def train(namespace):
    parameters = parameters_in(namespace, config.TrainParameters)
    dataset = datasets.load(parameters)
    run = runs.begin(parameters, dataset, Path(parameters.results_dir))
    count(run, "train")
    history = trained(run, Path(parameters.results_dir), parameters.epochs)
    misbehave(run, "train")
    runs.finish(run, Network(run.run_id), history, param_count=1, macs=1)


def trained(run, results, stop):
    """Returns the history of a training, whose epochs take their time unless they were trained before."""
    first = len(runs.history(results, run.run_id))
    with progress(stop, "train", "epoch", first) as bar:
        for _ in range(first, stop):
            time.sleep(SECONDS_AN_EPOCH)
            bar.set_postfix_str(f"validation top-1 {TOP1:.3f}")
            bar.update()
    return history(run.parameters, stop)


def history(parameters, stop):
    """Wide models of large images are the best, and the others ahead of them in the first epoch."""
    top1 = TOP1 + (parameters.alpha - 0.25) / 2 + (parameters.image_size - 32) / 1000
    epochs = np.arange(1, stop + 1)
    reached = np.where(epochs == 1, (1 - top1) / 4, top1 * epochs / (epochs + 1))
    reached[epochs == parameters.epochs] = top1
    seconds = SECONDS_AN_EPOCH * epochs
    return pd.DataFrame(
        {"epoch": epochs, "validation_top1": reached, "validation_loss": 1 - reached, "seconds": seconds}
    )


class Network:
    def __init__(self, content):
        self.content = content

    def save(self, path):
        path.write_text(self.content)


def convert(namespace):
    parameters = parameters_in(namespace, config.ConvertParameters)
    run = runs.find(Path(parameters.results_dir), parameters.run_id)
    count(run, f"convert {parameters.variant}")
    misbehave(run, "convert")
    content = f"{run.run_id} {parameters.conversion}".encode()
    runs.save_variant(run, parameters.variant, content, parameters.conversion, **dict.fromkeys(selection.COSTS, 1.0))


def deploy(namespace):
    parameters = parameters_in(namespace, config.DeployParameters)
    run = runs.find(Path(parameters.results_dir), parameters.run_id)
    count(run, f"deploy {parameters.variant}")
    runs.record_deployment(run, parameters, dict.fromkeys(runs.MEASURED_COLUMNS, 1))
    if parameters.out:
        Path(parameters.out).mkdir(exist_ok=True)
        facts = {"run_id": run.run_id, "variant": parameters.variant, "files": {}, "ram_kib": parameters.ram_kib}
        (Path(parameters.out) / "deploy.json").write_text(json.dumps(facts))


def evaluate(namespace):
    run = runs.find(Path(namespace["results_dir"]), namespace["run_id"])
    count(run, "evaluate")
    misbehave(run, "evaluate")
    scores = {name: np.eye(3, dtype=np.float32) for name in (runs.FLOAT32, *run.int8_variants)}
    runs.save_test_images(run, np.zeros(0, np.int64), np.zeros((0, 8, 8, 3), np.uint8))
    figures = (TOP1, TOP1 / 2, 2 * TOP1, 0.0, 1.0, 1.0, TOP1)
    accuracies = pd.DataFrame([(name, *figures) for name in scores], columns=["variant", *runs.RECORDED_ACCURACY])
    runs.record_evaluation(run, accuracies, np.array(["a", "b", "c"]), np.arange(3), scores)


def compare(namespace):
    runs.write_results(Path(namespace["results_dir"]))


def search(namespace):
    print("shown", namespace["results_dir"])


def costs(models, parameters):
    """Costs that grow with width and size, in the place of those that compiling takes minutes for."""
    rows = [
        {
            "run_id": model.run_id,
            "variant": "int8_per_channel",
            "alpha": trained.alpha,
            "image_size": trained.image_size,
            "color_mode": trained.color_mode,
            "n_classes": model.n_classes,
            "streamed_layers": 0,
            "measured_ram_bytes": 1024 * trained.image_size,
            "measured_flash_bytes": int(1024 * 800 * trained.alpha),
            "total_ram_bytes": 2048 * trained.image_size,
            "total_flash_bytes": int(1024 * 900 * trained.alpha),
            "latency_ms_stm32h747": trained.alpha * trained.image_size,
        }
        for model, trained in ((model, model.parameters("train")) for model in models)
    ]
    table = pd.DataFrame(rows)
    return table.assign(fits=selection.fits(table, parameters))


def parameters_in(namespace, kind):
    return kind.from_dict({spec.name: namespace[spec.name] for spec in fields(kind) if spec.name in namespace})


def count(run, notebook):
    with (run.path.parent.parent / "ran.txt").open("a") as lines:
        lines.write(f"{notebook} {run.run_id}\n")


def misbehave(run, notebook):
    wish = run.path.parent.parent / "wishes" / f"{notebook}_{run.parameters.seed}"
    what, *once = wish.read_text().split() if wish.exists() else [""]
    if once:
        wish.unlink()
    match what:
        case "raise":
            print("about to fail")
            raise ValueError("as wished")
        case "say":
            raise WorkbookError("no such thing: get one")
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "exit":
            os._exit(3)
        case "hang":
            time.sleep(3600)
        case "fill":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "model.keras")


def main(notebooks, arguments):
    settings_of = sweeps.sweep_settings

    def with_stand_ins(options, plan):
        settings, workers = settings_of(options, plan)
        return replace(settings, notebooks=Path(notebooks), preload=PRELOADED), workers

    settings_for = engine.settings_for

    def with_stand_ins_for(trainings, results_dir):
        settings, workers = settings_for(trainings, results_dir)
        return replace(settings, notebooks=Path(notebooks), preload=PRELOADED), workers

    sweeps.sweep_settings = with_stand_ins
    engine.settings_for, engine.costs, engine.OWN_NOTEBOOKS = with_stand_ins_for, costs, Path(notebooks)
    render.render = lambda notebook, html: html.write_text(notebook.name)
    return cli.main(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
