import hashlib
import json
import os
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mbutils import evaluation, files, runs
from mbutils.config import TrainParameters, suited
from mbutils.errors import WorkbookError
from mbutils.model import mobilenet

PARAMETERS = suited(TrainParameters(dataset="digits", image_size=32, color_mode="gray", weights="none"), n_train=1286)
HISTORY = pd.DataFrame({"epoch": [1, 2], "loss": [2.0, 1.0], "seconds": [1.5, 3.0], "validation_top1": [0.4, 0.6]})


@pytest.fixture(scope="module")
def network():
    return mobilenet.build(0.25, (32, 32, 1), 10)


@pytest.fixture
def begun(digits, tmp_path):
    return runs.begin(PARAMETERS, digits, tmp_path)


@pytest.fixture
def finished(begun, network):
    return runs.finish(begun, network, HISTORY, param_count=network.count_params(), macs=123)


def evaluate(run, digits, drop=0):
    labels = digits.labels[digits.positions("test")]
    right = np.eye(10, dtype=np.float32)[labels]
    wrong = np.roll(right, 1, axis=1)
    int8 = np.where(np.arange(len(labels))[:, None] < drop, wrong, right)
    scores = {"float32": right, "int8_per_channel": int8}
    identities = digits.examples["identity"].to_numpy()[digits.positions("test")]
    runs.save_test_images(run, np.zeros(0, np.int64), np.zeros((0, 32, 32, 1), np.uint8))
    runs.record_evaluation(run, evaluation.accuracy_table(labels, scores), identities, labels, scores)


def test_nothing_is_on_disk_before_a_run_is_finished(begun, network, tmp_path):
    assert not any((tmp_path / "runs").iterdir())
    with pytest.raises(WorkbookError, match="no finished run in"):
        runs.find(tmp_path)
    assert runs.finish(begun, network, HISTORY) == runs.find(tmp_path, begun.run_id)


def test_checkpoint_of_a_training_is_there_until_its_run_is_finished_or_a_month_has_passed(
    begun, network, digits, tmp_path
):
    others = [begun.checkpoint.with_name(f".other_{days}_days_old.checkpoint") for days in (29, 31)]
    for path, days in zip((begun.checkpoint, *others), (0, 29, 31), strict=True):
        path.touch()
        os.utime(path, (time.time() - days * 24 * 3600,) * 2)
    again = runs.begin(PARAMETERS, digits, tmp_path)
    assert [path.exists() for path in (again.checkpoint, *others)] == [True, True, False]
    with files.atomic_write(again.checkpoint) as partial:
        partial.touch()
    partial.touch()  # as one process leaves it that is killed while it writes
    runs.finish(again, network, HISTORY)
    assert [path.exists() for path in (begun.checkpoint, partial, *others)] == [False, False, True, False]


def test_logs_for_tensorboard_have_a_folder_for_each_run(begun, digits, tmp_path):
    wanted = runs.begin(replace(PARAMETERS, tensorboard="logs"), digits, tmp_path)
    assert begun.logs is None and wanted.logs == Path("logs") / begun.run_id
    assert wanted.facts["parameters"] == begun.facts["parameters"]  # a folder of this machine


def test_manifest_records_what_a_run_was_made_of(finished, digits):
    manifest = finished.manifest
    assert finished.parameters == PARAMETERS
    assert manifest["preprocessing"] == asdict(PARAMETERS.preprocessing)
    assert manifest["dataset"]["class_names"] == list(digits.class_names)
    assert manifest["dataset"]["fingerprint"] == digits.fingerprint
    assert {"tensorflow", "keras", "python"} <= manifest["versions"].keys()
    assert manifest["train_seconds"] == 3.0 and manifest["validation_top1"] == 0.6


def test_run_from_before_there_was_a_choice_of_fit_stretched_its_images(finished):
    parameters = {name: value for name, value in finished.manifest["parameters"].items() if name != "fit"}
    finished.update(parameters=parameters)
    assert finished.parameters.fit == "stretch"


def test_artefacts_are_recorded_with_size_and_digest(finished):
    recorded = finished.manifest["artefacts"]
    assert set(recorded) == {"history.csv", "model.keras"}
    for name, facts in recorded.items():
        content = (finished.path / name).read_bytes()
        assert facts == {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}


def test_nothing_but_finished_files_is_in_a_run_folder(finished):
    assert {path.name for path in finished.path.iterdir()} == {"manifest.json", "history.csv", "model.keras"}


def test_interrupted_save_leaves_the_old_file_and_no_partial_one(finished, monkeypatch):
    runs.save_variant(finished, "int8_per_channel", b"model", {})
    before = finished.manifest

    def interrupted(path, content):
        path.write_text("half a fi")
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", interrupted)
    with pytest.raises(KeyboardInterrupt):
        runs.save_variant(finished, "int8_per_channel", b"another", {})
    assert finished.manifest == before
    assert finished.artefact("int8_per_channel.tflite").read_bytes() == b"model"
    assert not list(finished.path.glob(".*"))


def test_training_again_replaces_the_run_as_a_whole_when_it_is_finished(finished, network, digits, tmp_path):
    runs.save_variant(finished, "int8_per_channel", b"model", {})
    again = runs.begin(PARAMETERS, digits, tmp_path)
    assert again.path == finished.path and finished.int8_variants == ["int8_per_channel"]
    runs.finish(again, network, HISTORY)
    assert {path.name for path in finished.path.iterdir()} == {"manifest.json", "history.csv", "model.keras"}


class Killed:
    """A network at whose saving the process is killed, as far as the files go."""

    def save(self, path):
        path.write_text("half a mod")
        raise KeyboardInterrupt


def test_training_again_that_is_killed_leaves_the_run_before_it(finished, digits, tmp_path):
    before = finished.manifest, (finished.path / "model.keras").read_bytes()
    with pytest.raises(KeyboardInterrupt):
        runs.finish(runs.begin(PARAMETERS, digits, tmp_path), Killed(), HISTORY)
    assert (runs.find(tmp_path).manifest, (finished.path / "model.keras").read_bytes()) == before
    assert runs.all_runs(tmp_path) == [finished]


def test_run_whose_replacement_was_killed_is_put_back(finished, tmp_path):
    finished.path.rename(finished.path.with_name(f".{finished.run_id}.replaced"))
    assert runs.all_runs(tmp_path) == [finished]
    assert finished.manifest["run_id"] == finished.run_id


def test_run_records_its_teacher_and_opens_without_the_recipe(digits, network, tmp_path):
    recipe = tmp_path / "teacher.yaml"
    recipe.write_text("{alpha: 0.5, weights: none}")
    student = replace(PARAMETERS, teacher=str(recipe))
    teacher = runs.identify(student, digits).teacher
    run = runs.finish(runs.begin(student, digits, tmp_path), network, HISTORY)
    recipe.unlink()
    assert run.parameters == student
    assert run.manifest["teacher"]["run_id"] == teacher.run_id
    assert run.manifest["teacher"]["parameters"]["alpha"] == 0.5


def test_data_that_was_loaded_with_other_parameters_is_refused(digits, tmp_path):
    with pytest.raises(WorkbookError, match="parameters of the data have changed since it was loaded"):
        runs.begin(replace(PARAMETERS, validation_fraction=0.3), digits, tmp_path)


def test_newest_finished_run_is_found_without_an_id(finished, network, digits, tmp_path):
    begun = runs.begin(replace(PARAMETERS, seed=7), digits, tmp_path)
    assert runs.find(tmp_path) == finished
    assert runs.finish(begun, network, HISTORY) == runs.find(tmp_path)


def test_missing_runs_are_named(finished, tmp_path):
    with pytest.raises(WorkbookError, match=f"no run .*: did you mean '{finished.run_id}'"):
        runs.find(tmp_path, finished.run_id.replace("digits", "digit"))
    with pytest.raises(WorkbookError, match=r"no finished run in .*: run the train notebook first"):
        runs.find(tmp_path / "empty")


def test_results_folder_that_cannot_be_written_is_named(digits, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(WorkbookError, match=r"cannot write in .*: set another results_dir"):
        runs.begin(PARAMETERS, digits, tmp_path / "file")


def test_run_without_int8_model_says_what_to_do(finished):
    with pytest.raises(WorkbookError, match="has no int8 model: run the convert notebook first"):
        _ = finished.int8_variants


def test_results_table_has_a_row_for_each_evaluated_variant(finished, digits, tmp_path):
    assert runs.results_table(tmp_path).empty
    runs.save_variant(finished, "int8_per_channel", b"model", {"calibration_images": 7})
    evaluate(finished, digits, drop=3)
    table = pd.read_csv(runs.write_results(tmp_path)).set_index("variant")
    assert list(table.reset_index()[list(runs.RESULT_COLUMNS)]) == list(runs.RESULT_COLUMNS)
    n_test = len(digits.positions("test"))
    assert table["top1"].to_dict() == pytest.approx({"float32": 1.0, "int8_per_channel": 1 - 3 / n_test})
    row = table.loc["int8_per_channel"]
    assert row["configuration"] == finished.manifest["configuration"]
    assert len(row["conversion"]) == 8 and pd.isna(table.loc["float32", "conversion"])
    assert (row["run_id"], row["n_test"], row["n_classes"], row["alpha"]) == (finished.run_id, n_test, 10, 0.25)
    assert row["tflite_bytes"] == 5 and row["macs"] == 123
    assert row["drop_from_float"] == pytest.approx(3 / n_test)
    assert row["top1_low"] < row["top1"] < row["top1_high"]
    assert pd.isna(table.loc["float32", "tflite_bytes"])


def test_results_have_the_fingerprint_and_the_parameters_that_determine_the_model(finished, digits, tmp_path):
    runs.save_variant(finished, "int8_per_channel", b"model", {"calibration_images": 7})
    evaluate(finished, digits)
    table = runs.results_table(tmp_path).set_index("variant")
    assert set(table["fingerprint"]) == {digits.fingerprint}
    trained, converted = map(json.loads, table["recorded_parameters"][["float32", "int8_per_channel"]])
    assert converted == trained | {"calibration_images": 7}
    assert trained["epochs"] == PARAMETERS.epochs and trained["late_epochs"] == 0
    # Alpha has its own column, the folder determines nothing, and without a teacher its views change nothing.
    assert not {"alpha", "seed", "results_dir", "data_dir", "teacher_views"} & set(trained)


def test_predictions_are_kept_and_hold_no_pickles(finished, digits):
    runs.save_variant(finished, "int8_per_channel", b"model", {})
    evaluate(finished, digits)
    saved = np.load(finished.path / "predictions_int8_per_channel.npz", allow_pickle=False)
    test = digits.positions("test")
    assert saved["identities"].tolist() == digits.examples["identity"].iloc[test].tolist()
    assert np.array_equal(saved["labels"], digits.labels[test])
    assert saved["scores"].shape == (len(test), 10) and saved["scores"].dtype == np.float32


def test_converting_again_forgets_the_evaluation_of_the_earlier_model(finished, digits, tmp_path):
    runs.save_variant(finished, "int8_per_channel", b"model", {})
    evaluate(finished, digits)
    runs.save_variant(finished, "int8_per_channel", b"other model", {})
    assert runs.results_table(tmp_path)["variant"].tolist() == ["float32"]


def test_unfinished_runs_are_listed_with_the_stage_they_lack(finished, digits, tmp_path):
    def missing():
        return runs.unfinished(tmp_path)["missing"].tolist()

    assert missing() == ["convert"]
    runs.save_variant(finished, "int8_per_channel", b"model", {})
    assert missing() == ["evaluate"]
    evaluate(finished, digits)
    assert missing() == []


def test_a_run_that_only_teaches_lacks_nothing(finished, tmp_path):
    with finished.changing() as manifest:
        manifest["parameters"] |= {"network": "efficientnet_lite0", "color_mode": "rgb"}
    assert runs.unfinished(tmp_path).empty


def test_manifest_is_plain_json(finished):
    assert json.loads((finished.path / "manifest.json").read_text())["run_id"] == finished.run_id
