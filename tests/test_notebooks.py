"""The notebooks as files, and executed at tiny scale: in this process, through papermill and through `mb sweep`."""

import ast
import json
import os
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import nbformat
import notebook_cells
import numpy as np
import papermill
import pytest
import yaml
from IPython.core.inputtransformer2 import TransformerManager
from PIL import Image

from mbutils import cli, config, evaluation, runs
from mbutils.backend import keras
from mbutils.errors import WorkbookError

NOTEBOOKS = sorted((config.PROJECT / "notebooks").glob("*.ipynb"))
NAMES = [path.stem for path in NOTEBOOKS]
STAGES = ("train", "convert", "evaluate")
EXECUTED = ("train", "convert_int8_per_channel", "evaluate")


def code_cells(name):
    notebook = nbformat.read(config.PROJECT / "notebooks" / f"{name}.ipynb", as_version=4)
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def is_parameters(cell):
    return "parameters" in cell.metadata.get("tags", [])


def test_the_workbook_has_its_notebooks():
    assert {"prepare", "train", "convert", "evaluate", "compare"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_notebook_is_valid_and_without_outputs(name):
    notebook = nbformat.read(config.PROJECT / "notebooks" / f"{name}.ipynb", as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    assert all(not cell.outputs and cell.execution_count is None for cell in code_cells(name))


@pytest.mark.parametrize("name", NAMES)
def test_notebook_is_short_and_defines_nothing(name):
    cells = code_cells(name)
    assert len(cells) <= 16
    for cell in cells:
        statements = list(ast.walk(ast.parse(TransformerManager().transform_cell(cell.source))))
        assert not any(isinstance(s, ast.FunctionDef | ast.ClassDef | ast.While) for s in statements)
        assert is_parameters(cell) or len(cell.source.splitlines()) <= 15


@pytest.mark.parametrize("name", NAMES)
def test_parameters_cell_repeats_the_defaults_and_their_meaning(name):
    (cell,) = (cell for cell in code_cells(name) if is_parameters(cell))
    kind = getattr(config, f"{name.capitalize()}Parameters")
    expected = []
    for spec in fields(kind):
        literal = json.dumps(spec.default) if isinstance(spec.default, str) else repr(spec.default)
        expected += [f"# {spec.metadata['group']}"] if spec.metadata["group"] else []
        expected.append(f"{spec.name}: {spec.type.__name__} = {literal}  # {spec.metadata['help']}")
    assert cell.source.splitlines() == expected


@pytest.mark.parametrize("name", NAMES)
def test_papermill_sees_every_parameter(name):
    seen = papermill.inspect_notebook(config.PROJECT / "notebooks" / f"{name}.ipynb")
    spec = {field.name: field for field in fields(getattr(config, f"{name.capitalize()}Parameters"))}
    assert list(seen) == list(spec)
    assert all(facts["help"] == spec[parameter].metadata["help"] for parameter, facts in seen.items())


def run_papermill(name, folder, *options, **environment):
    """Runs the command as a user would, from a folder that is not the project."""
    command = [Path(sys.executable).parent / "papermill", NOTEBOOKS[0].with_stem(name), "out.ipynb", *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=os.environ | environment)


def test_misspelt_parameter_stops_papermill_at_its_first_cells_and_writes_nothing(tmp_path):
    result = run_papermill("prepare", tmp_path, "-p", "datset", "digits")
    assert result.returncode != 0
    assert "unknown parameter 'datset': did you mean 'dataset'?" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["out.ipynb"]
    executed = [cell for cell in nbformat.read(tmp_path / "out.ipynb", 4).cells if cell.get("execution_count")]
    assert len(executed) <= 5


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("compare", {"ram_kb": 256}, "unknown parameter 'ram_kb': did you mean 'ram_kib'?"),
        ("train", {"alpha": 0.01}, "alpha: 0.01 is too small: the minimum is 0.1"),
        (
            "train",
            {"dataset": "digits", "weights": "gone.keras", "results_dir": "mine"},
            "weights: no file gone.keras: give imagenet, none, or",
        ),
        ("convert", {"calibration_images": "many"}, "calibration_images: expected int, got str 'many'"),
        ("evaluate", {"run_id": "none_such", "results_dir": "mine"}, "no run 'none_such' in"),
        ("explore", {"run_id": "none_such", "results_dir": "mine"}, "no run 'none_such' in"),
    ],
)
def test_bad_parameter_stops_a_notebook_before_it_writes(tmp_path, monkeypatch, name, parameters, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WorkbookError) as caught:
        notebook_cells.run(name, parameters)
    assert message in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_prepare_shows_the_data_and_what_happens_to_it():
    assert notebook_cells.run("prepare", {"dataset": "digits", "image_size": 32}) >= 4


def test_explore_shows_a_test_image_and_leaves_the_results_as_they_are(tiny_results):
    before = sorted(tiny_results.rglob("*"))
    notebook_cells.run("explore", {"results_dir": str(tiny_results), "test_image": 99}, times=2)
    assert sorted(tiny_results.rglob("*")) == before


@pytest.fixture(scope="module")
def run_folder(tiny_results):
    (folder,) = (tiny_results / "runs").glob("[!.]*")
    return folder


def test_sweep_leaves_a_complete_run_folder(run_folder):
    names = {path.name for path in run_folder.iterdir()}
    notebooks = {f"{stage}{suffix}" for stage in EXECUTED for suffix in (".ipynb", ".html")}
    predictions = {"predictions_float32.npz", "predictions_int8_per_channel.npz", "test_images.npz"}
    assert names == {"manifest.json", "history.csv", "model.keras", "int8_per_channel.tflite", *predictions, *notebooks}


def tiny_parameters(name, tiny_sweep_file, results_dir):
    """Returns the parameters of the sweep that a notebook takes."""
    values = yaml.safe_load(tiny_sweep_file.read_text())["defaults"] | {"results_dir": str(results_dir)}
    taken = {spec.name for spec in fields(getattr(config, f"{name.capitalize()}Parameters"))}
    return {key: value for key, value in values.items() if key in taken}


def results_of(run):
    """Returns everything a run computed, without the times it took."""
    history = [line.rpartition(",")[0] for line in (run.path / "history.csv").read_text().splitlines()]
    hashes = {name: facts["sha256"] for name, facts in run.manifest["artefacts"].items()}
    hashes = {name: digest for name, digest in hashes.items() if name.endswith((".tflite", ".npz"))}
    return run.run_id, history, hashes, run.manifest["variants"]


def weights_of(run):
    return keras.models.load_model(run.path / "model.keras").get_weights()


def assert_same_results(run, expected):
    assert results_of(run) == results_of(expected)
    assert all((mine == theirs).all() for mine, theirs in zip(weights_of(run), weights_of(expected), strict=True))


def test_report_can_leave_out_the_test_images(tiny_results):
    drawn, fewer = (
        notebook_cells.run("compare", {"results_dir": str(tiny_results), "test_images": wanted})
        for wanted in (True, False)
    )
    assert drawn - fewer == 4


@pytest.mark.slow
def test_run_from_the_shell_gives_what_it_gives_in_a_sweep(run_folder, tiny_sweep_file, tmp_path):
    """One thread, the same seed: papermill from the shell, against a kernel that a sweep has forked."""
    for name in STAGES:
        parameters = tiny_parameters(name, tiny_sweep_file, "alone")
        options = [part for key, value in parameters.items() for part in ("-p", key, str(value))]
        result = run_papermill(name, tmp_path, *options, CUDA_VISIBLE_DEVICES="-1")
        assert result.returncode == 0, result.stderr
    (run,) = runs.all_runs(tmp_path / "alone")
    assert_same_results(run, runs.Run(run_folder))


def test_cells_run_twice_record_what_they_record_once(run_folder, tiny_sweep_file, tmp_path):
    for name in ("prepare", *STAGES, "compare"):
        notebook_cells.run(name, tiny_parameters(name, tiny_sweep_file, tmp_path), times=2)
    (run,) = runs.all_runs(tmp_path)
    assert_same_results(run, runs.Run(run_folder))
    notebook_cells.run("deploy", {"vectors": 1, "results_dir": str(tmp_path)}, times=2)
    (run,) = runs.all_runs(tmp_path)
    assert "deployment" in run.manifest["variants"]["int8_per_channel"]


def test_saved_model_opens_in_keras_alone_and_carries_no_optimizer(run_folder):
    code = f"import keras; m = keras.models.load_model({str(run_folder / 'model.keras')!r}); print(m.compiled)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "False", result.stderr
    network = keras.models.load_model(run_folder / "model.keras")
    assert (run_folder / "model.keras").stat().st_size < 2 * 4 * network.count_params()


@pytest.mark.parametrize("stage", EXECUTED)
def test_executed_notebook_has_no_noise(run_folder, stage):
    """No warnings, no start-up messages, no signatures: what a saved notebook shows is what its cells ask for."""
    outputs = [o for c in nbformat.read(run_folder / f"{stage}.ipynb", 4).cells for o in c.get("outputs", [])]
    assert [o.text for o in outputs if o.output_type == "stream"] == []
    assert max(len(o.get("data", {}).get("text/plain", "")) for o in outputs) < 5000


def test_train_shows_one_progress_bar_in_its_final_state(run_folder):
    cells = nbformat.read(run_folder / "train.ipynb", 4).cells
    bars = [
        o.data["text/plain"]
        for cell in cells
        for o in cell.get("outputs", [])
        if o.get("data", {}).get("text/plain", "").startswith("train")
    ]
    assert len(bars) == 1
    assert "1/1" in bars[0] and "validation top-1" in bars[0]


@pytest.fixture(scope="module")
def two_classes(tmp_path_factory):
    """A folder of dark and bright images, one image in both classes, and a text file."""
    folder = tmp_path_factory.mktemp("data") / "day or night"
    rng = np.random.default_rng(0)
    for name, low in (("night", 0), ('it\'s "day"', 128)):
        (folder / name).mkdir(parents=True)
        for number in range(30):
            pixels = rng.integers(low, low + 128, (40, 50, 3), np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    shutil.copy(folder / "night" / "0.png", folder / 'it\'s "day"' / "also night.png")
    (folder / "night" / "text.jpg").write_text("not an image")
    return folder


@pytest.mark.slow
def test_own_images_of_two_classes_go_through_every_notebook(two_classes, tiny_sweep_file, tmp_path, capsys):
    sweep = yaml.safe_load(tiny_sweep_file.read_text())
    own = {"dataset": "folder", "data_dir": str(two_classes), "skip_corrupt": True, "class_weight": "balanced"}
    (tmp_path / "own.yaml").write_text(yaml.dump({"defaults": {**sweep["defaults"], **own}}))
    assert cli.main(["sweep", str(tmp_path / "own.yaml"), "--results-dir", str(tmp_path)]) == 0
    (run,) = runs.all_runs(tmp_path)
    manifest, facts = run.manifest, run.manifest["dataset"]
    assert facts["name"] == "folder_day-or-night" and manifest["run_id"].startswith("folder_day-or-night_")
    assert facts["class_names"] == ['it\'s "day"', "night"] and len(facts["contradicting_identities"]) == 1
    assert facts["skipped"] == ["night/text.jpg (not a JPEG, PNG, BMP or WebP image)"]
    predictions = np.load(run.path / "predictions_int8_per_channel.npz")
    macro_recall = evaluation.macro_recall(predictions["labels"], predictions["scores"])
    assert manifest["variants"]["int8_per_channel"]["macro_recall"] == pytest.approx(macro_recall)
    assert "folder_day-or-night" in (tmp_path / "report.html").read_text()
    # Images that change later may have been trained on: a finished run is not scored on them.
    next(iter((two_classes / "night").glob("*.png"))).unlink()
    with pytest.raises(WorkbookError, match=r"are not those that run .* was trained on: put them back, or train again"):
        runs.load_dataset(run)
