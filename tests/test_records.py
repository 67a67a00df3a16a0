"""Records that are JSON but wrong: of a run, of a stage, of a progress bar."""

import json
import threading
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
from stand_ins import Network

from mbutils import cli, runs, sweep
from mbutils.config import ConvertParameters, DeployParameters, TrainParameters
from mbutils.errors import WorkbookError
from mbutils.evaluation import Outcome
from mbutils.report import review
from mbutils.runs import teachers
from mbutils.sweep import execution, records
from mbutils.sweep.plan import RENDER

HISTORY = pd.DataFrame({"epoch": [1], "validation_top1": [0.5], "seconds": [1.0]})
VARIANTS = ("float32", "int8_per_channel")
INTERVAL = {"top1": 0.5, "top1_low": 0.4, "top1_high": 0.6}


@pytest.fixture
def run(digits, tmp_path):
    return finished(digits, tmp_path, seed=0)


@pytest.fixture
def other(digits, tmp_path):
    return finished(digits, tmp_path, seed=1)


def finished(digits, results, seed, **parameters):
    """Returns a run that was trained, converted and evaluated, as far as its files go."""
    begun = runs.begin(TrainParameters(dataset="digits", seed=seed, **parameters), digits, results)
    run = runs.finish(begun, Network("a"), HISTORY)
    runs.save_variant(run, "int8_per_channel", b"model", ConvertParameters().conversion)
    runs.save_test_images(run, np.zeros(0, np.int64), np.zeros((0, 8, 8, 3), np.uint8))
    figures = (0.5, 0.4, 0.6, *[0.0] * (len(runs.RECORDED_ACCURACY) - 3))
    accuracies = pd.DataFrame([(name, *figures) for name in VARIANTS], columns=["variant", *runs.RECORDED_ACCURACY])
    scores = dict.fromkeys(VARIANTS, np.eye(10, dtype=np.float32)[:3])
    runs.record_evaluation(run, accuracies, np.array(["a", "b", "c"]), np.arange(3), scores)
    return run


def rewrite(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


WRONG = {
    "it is not readable JSON": lambda m: m.update(note=float("nan")),
    "surrogates not allowed": lambda m: m["dataset"].update(name="\ud800"),
    "null character": lambda m: m["dataset"].update(name="a\0b"),
    "'run_id' is a required property": lambda m: m.clear(),
    "'configuration' is a required property": lambda m: m.pop("configuration"),
    "run_id: it is that of run another": lambda m: m.update(run_id="another"),
    "note: 1 is not of type 'string'": lambda m: m.update(note=1),
    "teacher: 'run_id' is a required property": lambda m: m.update(teacher={}),
    "train_seconds: 'long' is not of type 'number'": lambda m: m.update(train_seconds="long"),
    "alpha: 'wide' is not of type 'number'": lambda m: m.update(alpha="wide"),  # parameters have the right one
    "finished: 'today' does not match": lambda m: m.update(finished="today"),
    "parameters: warmup_epochs: 9 of 1 epochs": lambda m: m["parameters"].update(epochs=1, warmup_epochs=9.0),
    "parameters: unknown parameter 'alhpa'": lambda m: m["parameters"].update(alhpa=0.5),
    "parameters.epochs: None is not of type": lambda m: m["parameters"].update(epochs=None),
    "dataset.n_test: 0 is less than the minimum of 1": lambda m: m["dataset"].update(n_test=0),
    "dataset.n_test: 12.0 is not of type 'integer'": lambda m: m["dataset"].update(n_test=12.0),
    "dataset.n_classes: 11, but class_names has 10": lambda m: m["dataset"].update(n_classes=11),
    "variants.float32.top1: 999 is greater than the maximum of 1": lambda m: m["variants"]["float32"].update(top1=999),
    "variants.float32.top1: 0.5 is outside of its interval": lambda m: m["variants"]["float32"].update(top1_low=0.55),
    "variants.float32: 'top1_low' is a dependency of 'top1'": lambda m: m["variants"]["float32"].pop("top1_low"),
    "variants: .*'float16' was unexpected": lambda m: m["variants"].update(float16={}),
    "variants.float32.outcome: a part of its 3 images": lambda m: m["variants"]["float32"]["outcome"].update(correct=4),
    r"artefacts: 'model\.keras' is a required property": lambda m: m["artefacts"].pop("model.keras"),
    r"artefacts: '\.\./x' does not match": lambda m: m["artefacts"].update({"../x": m["artefacts"]["history.csv"]}),
    r"artefacts.history.csv.sha256: 'ab' does not match": lambda m: m["artefacts"]["history.csv"].update(sha256="ab"),
}


@pytest.mark.parametrize(("message", "change"), WRONG.items(), ids=WRONG)
def test_wrong_manifest_is_named_and_the_other_runs_go_on(run, other, tmp_path, message, change, capsys):
    rewrite(run.path / "manifest.json", change)
    with pytest.raises(WorkbookError, match=message) as caught:
        runs.find(tmp_path, run.run_id)
    line = str(caught.value)
    assert run.run_id in line and "mb runs delete" in line and "\n" not in line
    assert runs.damaged(tmp_path) == {run.run_id: line}
    assert runs.all_runs(tmp_path) == [other] and set(runs.results_table(tmp_path)["run_id"]) == {other.run_id}
    assert runs.find(tmp_path) == other and line in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b"9" * 5000])
def test_manifest_that_is_no_record_is_named(run, tmp_path, content):
    (run.path / "manifest.json").write_bytes(content)
    with pytest.raises(WorkbookError, match=r"no intact run in .*: .*put an intact copy back") as caught:
        runs.find(tmp_path)
    assert "\n" not in str(caught.value)


def test_comparison_without_an_intact_run_is_refused_in_one_line(run, tmp_path):
    with pytest.raises(WorkbookError, match=r"no finished run in .*: run the train notebook first"):
        runs.write_results(tmp_path / "empty")
    truncate(run.path / "history.csv")
    with pytest.raises(WorkbookError, match=r"no intact run in .*: .*history\.csv was altered .*: run train again"):
        runs.write_results(tmp_path)


def test_nothing_is_recorded_that_could_not_be_read_again(run):
    before = run.manifest
    with pytest.raises(WorkbookError, match="machine: 5 is not of type 'string'"):
        run.update(machine=5)
    assert run.manifest == before


def test_facts_of_older_and_newer_versions_are_left_as_they_are(run):
    rewrite(run.path / "manifest.json", lambda m: m.pop("machine") and m.pop("evaluated") and m.update(humidity=0.5))
    assert runs.find(run.path.parent.parent, run.run_id).manifest["humidity"] == 0.5


def truncate(path):
    path.write_bytes(path.read_bytes()[:-2])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


REPORTED = {
    "history.csv": "train",
    "predictions_float32.npz": "evaluate",
    "predictions_int8_per_channel.npz": "evaluate",
    "test_images.npz": "evaluate",
}


@pytest.mark.parametrize("damage", [truncate, flip])
@pytest.mark.parametrize("name", REPORTED)
def test_run_whose_reported_files_were_altered_is_left_out(run, other, tmp_path, name, damage):
    damage(run.path / name)
    line = f"run {run.run_id}: {name} was altered since it was made: run {REPORTED[name]} again"
    assert runs.damaged(tmp_path) == {run.run_id: line}
    assert set(runs.results_table(tmp_path)["run_id"]) == {other.run_id}
    (run.path / name).unlink()
    assert f"{name} is missing: run {REPORTED[name]} again" in runs.damaged(tmp_path)[run.run_id]
    assert runs.find(tmp_path, run.run_id) == run  # so that it can be evaluated again


def test_altered_models_are_not_used(run, digits, tmp_path, monkeypatch):
    from mbutils.deploy import deploy
    from mbutils.runs.classifiers import of_run

    flip(run.path / "int8_per_channel.tflite")
    with pytest.raises(WorkbookError, match=r"int8_per_channel\.tflite was altered .*: run convert again"):
        deploy(DeployParameters(results_dir=str(tmp_path)))
    truncate(run.path / "model.keras")
    for reader in (of_run, lambda run: teachers.teacher_lesson(TrainParameters(teacher="any"), digits, tmp_path)):
        monkeypatch.setattr(teachers, "find_teacher", lambda *arguments: run)
        with pytest.raises(WorkbookError, match=r"model\.keras was altered since it was made: run train again"):
            reader(run)


DONE_AGAIN = {
    "manifest.json": ["train", "convert_int8_per_channel", "evaluate"],
    "model.keras": ["train", "convert_int8_per_channel", "evaluate"],
    "history.csv": ["train", "convert_int8_per_channel", "evaluate"],
    "int8_per_channel.tflite": ["convert_int8_per_channel", "evaluate"],
    "predictions_int8_per_channel.npz": ["evaluate"],
    "test_images.npz": ["evaluate"],
}


@pytest.mark.parametrize("name", DONE_AGAIN)
def test_sweep_does_again_what_was_damaged_and_says_so(run, tmp_path, name, capsys):
    file = tmp_path / "sweep.yaml"
    file.write_text("{defaults: {dataset: digits}, notebooks: [train, convert, evaluate]}")
    plan = sweep.read(file)
    stages = [stage for stage in plan.stages if stage.notebook != RENDER]
    assert all(stage.is_done(tmp_path) for stage in stages) and not execution.damages(plan.stages, tmp_path)
    truncate(run.path / name)
    assert [stage.name for stage in execution.unfinished(plan, tmp_path) if stage in stages] == DONE_AGAIN[name]
    assert cli.main(["sweep", str(file), "--results-dir", str(tmp_path), "--dry-run"]) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("done again: "))
    assert run.run_id in line and name in line


def test_teacher_that_is_damaged_is_named(run, digits, tmp_path, monkeypatch):
    truncate(run.path / "manifest.json")
    monkeypatch.setattr(teachers, "identify", lambda *arguments: Mock(teacher=run))
    with pytest.raises(WorkbookError, match=f"run {run.run_id}: .* is damaged"):
        teachers.find_teacher(TrainParameters(), digits, tmp_path)


def replace_artefact(run, name, content):
    """Puts another file in the place of an artefact, as if it had always been there."""
    (run.path / name).write_bytes(content)
    with run.changing() as manifest:
        manifest["artefacts"][name] = runs.folder.written(run.path / name, lambda path: path.write_bytes(content))


@pytest.mark.parametrize("content", [b"", b"a,b\n1,2\n", b"epoch,validation_top1,seconds\nx,y,z\n", b"\0\xff" * 99])
def test_history_that_is_none_is_named(run, content):
    replace_artefact(run, "history.csv", content)
    with pytest.raises(WorkbookError, match=r"history\.csv is not that of a training: run train again"):
        review.findings(run)


def add_facts(run, number):
    for fact in range(20):
        run.update(**{f"fact_{number}_{fact}": fact})


def test_facts_that_are_added_at_the_same_time_are_all_kept(run):
    several = [threading.Thread(target=add_facts, args=(run, number)) for number in range(4)]
    for thread in several:
        thread.start()
    runs.record_outcomes(run, dict.fromkeys(("train", "validation"), Outcome(1, 2, 1, [])))
    runs.save_variant(run, "int8_per_tensor", b"model", {})
    for thread in several:
        thread.join()
    manifest = run.manifest
    assert sum(name.startswith("fact_") for name in manifest) == 80
    assert "outcomes" in manifest and set(manifest["variants"]) == {*VARIANTS, "int8_per_tensor"}


def test_lock_that_cannot_be_taken_is_named(run, tmp_path):
    lock = tmp_path / "runs" / f".{run.run_id}.lock"
    lock.unlink()
    lock.mkdir()
    with pytest.raises(WorkbookError, match=rf"cannot write .*{lock.name} \(Is a directory\)"):
        run.update(note="a")
    stage_lock = tmp_path / "logs" / run.run_id / ".lock"
    stage_lock.mkdir(parents=True)
    with pytest.raises(WorkbookError, match=r"cannot write .*\.lock \(Is a directory\)"):
        records.lock(tmp_path, run.run_id).acquire()


@pytest.mark.parametrize(
    "content",
    ["", "[]", '{"status": "done"}', '{"status": "finished", "seconds": "long"}', '{"attempts": 1}', '{"tail": 1}'],
)
def test_damaged_record_of_a_stage_counts_as_none_and_is_named(tmp_path, content, capsys):
    records.write(tmp_path, "a/train", records.Record("finished", seconds=3))
    records.write(tmp_path, "b/train", records.Record("finished"))
    (tmp_path / "logs" / "b" / "train.json").write_text(content)
    assert records.read(tmp_path, "b/train") is None and list(records.read_all(tmp_path)) == ["a/train"]
    assert cli.main(["status", "--results-dir", str(tmp_path)]) == 0
    assert "damaged: " in (out := capsys.readouterr().out) and "b/train.json" in out and "1 finished" in out


@pytest.mark.parametrize("content", ["[1]", '{"n": "some"}', '{"what": 1, "unit": "", "n": 1, "total": 1}'])
def test_damaged_progress_is_not_shown(tmp_path, content, capsys):
    records.write(tmp_path, "[red]/train", records.running(1))
    records.path(tmp_path, "[red]/train", ".progress").write_text(content)
    with records.lock(tmp_path, "[red]"):
        assert cli.main(["status", "--results-dir", str(tmp_path)]) == 0
    assert "1 running" in capsys.readouterr().out
