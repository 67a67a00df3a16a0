import shutil
import signal
import subprocess
import sys

import pandas as pd
import pytest
import yaml
from stand_ins import Network

from mbutils import cli, runs, sweep
from mbutils.config import PROJECT, DeployParameters, TrainParameters, read_recipe
from mbutils.data import datasets
from mbutils.errors import WorkbookError
from mbutils.progress import duration
from mbutils.sweep import estimates, records
from mbutils.sweep.kernels import Kernel
from mbutils.sweep.plan import RENDER


def write(folder, text):
    path = folder / "sweep.yaml"
    path.write_text(text)
    return path


def test_grid_is_multiplied_out_over_the_defaults(tmp_path):
    text = "defaults: {dataset: digits, seed: 3}\ngrid: {alpha: [0.25, 0.5], image_size: [32, 48, 64]}"
    configurations = sweep.read(write(tmp_path, text)).configurations
    assert len({configuration.run_id for configuration in configurations}) == 6
    assert all(configuration.overrides["train"]["seed"] == 3 for configuration in configurations)


def test_single_runs_are_taken_as_they_are_and_multiplied_by_the_grid(tmp_path):
    text = "runs: [{dataset: digits}, {dataset: digits, alpha: 0.5}]"
    assert [c.overrides["train"].get("alpha") for c in sweep.read(write(tmp_path, text)).configurations] == [None, 0.5]
    configurations = sweep.read(write(tmp_path, text + "\ngrid: {seed: [0, 1, 2]}")).configurations
    assert [c.overrides["train"]["seed"] for c in configurations] == [0, 1, 2, 0, 1, 2]


def test_parameters_go_to_each_notebook_that_takes_them(tmp_path):
    text = "defaults: {dataset: digits, batch_size: 16, calibration_images: 9}"
    (configuration,) = sweep.read(write(tmp_path, text)).configurations
    assert configuration.overrides["train"] == {"dataset": "digits", "batch_size": 16}
    assert configuration.overrides["convert"] == {"calibration_images": 9}
    assert configuration.overrides["evaluate"] == {"batch_size": 16}


def test_a_run_may_be_the_name_of_a_recipe(tmp_path):
    text = "runs: [flowers_recipe]".replace("flowers_recipe", str(tmp_path / "digits.yaml"))
    (tmp_path / "digits.yaml").write_text("{dataset: digits, alpha: 0.5}")
    configurations = sweep.read(write(tmp_path, text + "\ngrid: {seed: [0, 1]}")).configurations
    assert [c.overrides["train"]["alpha"] for c in configurations] == [0.5, 0.5]
    assert [c.overrides["train"]["seed"] for c in configurations] == [0, 1]


@pytest.mark.parametrize("listed", [False, True])
def test_teachers_come_before_their_students_listed_or_not(tmp_path, listed):
    teacher, student = tmp_path / "teacher.yaml", tmp_path / "student.yaml"
    teacher.write_text("{dataset: digits, alpha: 0.5}")
    student.write_text(f"{{dataset: digits, alpha: 0.25, teacher: {teacher}}}")
    recipes = [str(student)] + [str(teacher)] * listed
    text = yaml.dump({"runs": recipes, "grid": {"seed": [0, 1]}, "defaults": {"calibration_images": 9}})
    configurations = sweep.read(write(tmp_path, text)).configurations
    trained = [(c.overrides["train"]["alpha"], c.overrides["train"]["seed"]) for c in configurations]
    assert trained == [(0.5, 0), (0.25, 0), (0.5, 1), (0.25, 1)]
    assert all(c.overrides["convert"] == {"calibration_images": 9} for c in configurations)
    assert [c.teacher.run_id for c in configurations[1::2]] == [c.run_id for c in configurations[::2]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("defaults: {alhpa: 0.5}", "unknown parameter 'alhpa': did you mean 'alpha'"),
        ("defaults: {dataset: digits}\ngrid: {alpha: [0.25, 7]}", "alpha: 7.0 is too large"),
        ("defaults: {dataset: digit}", "unknown dataset 'digit': did you mean 'digits'"),
        ("defaults: {learning_rate: 1e-3}", "write 0.001 instead of 1e-3"),
        (
            "defaults: {dataset: digits}\ngrid: {learning_rate: [0.01, .inf]}",
            "learning_rate: inf is not a finite",
        ),
        ("defaults: {dataset: digits, weights: none, late_epochs: 4, epochs: 3}", "late_epochs: 4 of 3 epochs"),
        ("defaults: {dataset: digits, alpha: 0.3}", "no ImageNet weights for alpha 0.3"),
        ("defaults: {dataset: digits, weights: /dev/zero}", "weights: /dev/zero is not a file: set imagenet, none, or"),
        ("defaults: {run_id: a}", "unknown parameter 'run_id'"),
        ("grid: {alpha: 0.5}", r"grid: alpha must be a list of values, such as \[0.5\]"),
        ("grid: {alpha: []}", "grid: alpha must be a list"),
        ("girds: {alpha: [0.5]}", "unknown key 'girds': did you mean 'grid'"),
        ("defaults: [1, 2]", "defaults must be a mapping of parameters"),
        ("runs: {alpha: 0.5}", "runs must be a list of parameters"),
        ("runs: [flowers_0.25_96_grey]", "did you mean 'flowers_0.25_96_gray'"),
        ("runs: [0.5]", "each of runs must be a mapping of parameters"),
        ("just text", "a sweep file has the keys include, defaults, runs, grid"),
        ("", "a sweep file has the keys include, defaults, runs, grid"),
        ("notebooks: [trian]", "notebooks: unknown notebook 'trian': did you mean 'train'"),
        ("seeds: 3", "seeds must be a list of whole numbers"),
        ("defaults: {dataset: digits}\nseeds: [zero]", "seed: expected int, got str 'zero'"),
        ("grid: {seed: [0]}\nseeds: [0, 1]", "both seeds and grid list seeds: remove seed from grid"),
        ("runs: [{seed: 3}]\nseeds: [0, 1]", "both seeds and runs set a seed: remove seed from runs"),
        (
            "defaults: {dataset: digits}\ngrid: {alpha: &v [0.25, 0.5, 0.75], seed: &s [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],"
            " epochs: *s, batch_size: *s, split_seed: *s, image_size: *v}",
            "90,000 configurations, the most is 10,000",
        ),
        ("include: gone.yaml", r"cannot read .*gone.yaml"),
        (
            "defaults: {dataset: digits}\ngrid: {calibration_images: [5, 9]}",
            "is made with .* write two sweep files, and give each a --results-dir of its own",
        ),
        ("a: [", "is not a YAML file"),
        ("defaults: !!python/object/apply:os.system ['true']", "is not a YAML file"),
    ],
)
def test_bad_sweep_file_is_named_with_the_way_out(tmp_path, text, message):
    with pytest.raises(WorkbookError, match=message) as caught:
        sweep.read(write(tmp_path, text))
    assert "sweep.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_sweep_file_is_named(tmp_path):
    with pytest.raises(WorkbookError, match=r"cannot read .*gone.yaml"):
        sweep.read(tmp_path / "gone.yaml")


@pytest.mark.parametrize("path", sorted((PROJECT / "params" / "sweeps").glob("*.yaml")), ids=lambda path: path.name)
def test_sweep_files_in_params_are_valid(path, digits, monkeypatch):
    # The data of some is gigabytes; what they say of it is checked all the same.
    monkeypatch.setattr(datasets, "load", lambda parameters: digits)
    configurations = sweep.read(path).configurations
    assert configurations
    assert {one.parameters("train").dataset for one in configurations} <= set(datasets.REGISTRY)


@pytest.mark.parametrize("path", sorted((PROJECT / "params" / "runs").glob("*.yaml")), ids=lambda path: path.name)
def test_single_runs_in_params_are_valid(path):
    assert TrainParameters.from_dict(read_recipe(path.stem))


def keys(plan):
    """Returns the keys of the stages with readable runs, renderings left out."""
    names = {c.run_id: f"{c.overrides['train'].get('alpha', 0.25)}" for c in plan.configurations}
    return [f"{names.get(s.group, s.group)}/{s.name}" for s in plan.stages if s.notebook != RENDER]


def test_stages_come_after_those_they_need_and_the_cache_is_prepared_once(tmp_path):
    text = "{defaults: {dataset: digits, image_size: 32}, grid: {alpha: [0.25, 0.5]}}"
    plan = sweep.read(write(tmp_path, text))
    assert keys(plan) == [
        "prepare_digits_32_rgb_area/prepare",
        *(f"{alpha}/{name}" for alpha in (0.25, 0.5) for name in ("train", "convert_int8_per_channel", "evaluate")),
    ]
    seen = set()
    for stage in plan.stages:
        assert seen.issuperset(stage.after)
        seen.add(stage.key)


def test_each_fit_is_prepared_apart(tmp_path):
    text = "{defaults: {dataset: digits, image_size: 32}, grid: {fit: [stretch, crop, pad]}, notebooks: [prepare]}"
    assert keys(sweep.read(write(tmp_path, text))) == [
        "prepare_digits_32_rgb_area/prepare",
        "prepare_digits_32_rgb_area_crop/prepare",
        "prepare_digits_32_rgb_area_pad/prepare",
    ]


def test_one_evaluation_follows_the_conversions_to_both_variants(tmp_path):
    text = "{defaults: {dataset: digits}, grid: {variant: [int8_per_channel, int8_per_tensor]}}"
    (evaluate,) = (stage for stage in sweep.read(write(tmp_path, text)).stages if stage.name == "evaluate")
    assert [key.split("/")[1] for key in evaluate.after] == ["convert_int8_per_channel", "convert_int8_per_tensor"]
    assert not evaluate.needs_all


def test_configurations_whose_differences_change_nothing_are_counted(tmp_path, capsys):
    text = "{defaults: {dataset: digits}, grid: {early_epochs: [0, 1], early_image_size: [64, 128]}}"
    plan = sweep.read(write(tmp_path, text))
    assert len(plan.configurations) == 4 and plan.repeated == 1
    assert cli.main(["sweep", str(tmp_path / "sweep.yaml"), "--results-dir", str(tmp_path), "--dry-run"]) == 0
    assert "1 of 4 configurations repeat another one" in capsys.readouterr().out


def test_planning_and_following_a_sweep_imports_neither_tensorflow_nor_matplotlib():
    # Kernels are forked from a process that imports them after choosing the backend of pictures.
    code = (
        "import sys, mbutils.sweep.kernels, mbutils.sweep.display; print({'tensorflow', 'matplotlib'} & {*sys.modules})"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


DEPLOYED = "{defaults: {dataset: digits, streamed_layers: 4}, notebooks: [train, convert, deploy, evaluate]}"


def test_deployment_is_asked_for_by_name_and_comes_before_the_evaluation(tmp_path):
    plan = sweep.read(write(tmp_path, "defaults: {dataset: digits}"))
    assert not any(key.endswith("deploy_int8_per_channel") for key in keys(plan))
    plan = sweep.read(write(tmp_path, DEPLOYED))
    names = ["train", "convert_int8_per_channel", "deploy_int8_per_channel", "evaluate"]
    assert keys(plan) == [f"0.25/{name}" for name in names]
    assert stage(plan, "deploy_int8_per_channel").parameters["streamed_layers"] == 4


def test_a_model_is_deployed_again_when_it_was_converted_again_or_asked_for_otherwise(tmp_path, digits, monkeypatch):
    from mbutils import deploy

    deploys = stage(sweep.read(write(tmp_path, DEPLOYED)), "deploy_int8_per_channel")
    history = pd.DataFrame({"validation_top1": [0.5], "seconds": [1.0]})
    run = runs.finish(runs.begin(TrainParameters(dataset="digits"), digits, tmp_path), Network("weights"), history)
    runs.save_variant(run, "int8_per_channel", b"model", {})
    assert not deploys.is_done(tmp_path)
    runs.record_deployment(run, DeployParameters(streamed_layers=4), {"measured_ram_bytes": 1})
    assert deploys.is_done(tmp_path)
    runs.record_deployment(run, DeployParameters(streamed_layers=0), {"measured_ram_bytes": 1})
    assert not deploys.is_done(tmp_path)
    # Where nothing can be measured, it is done without; where something can, it is measured after all.
    runs.record_deployment(run, DeployParameters(streamed_layers=4), {})
    for missing in (["qemu-system-arm"], []):
        monkeypatch.setattr(deploy, "missing_tools", lambda missing=missing: missing)
        assert deploys.is_done(tmp_path) == bool(missing)
    runs.save_variant(run, "int8_per_channel", b"another", {})
    assert not deploys.is_done(tmp_path)


def test_students_train_after_their_teacher(tmp_path):
    (tmp_path / "teacher.yaml").write_text("{dataset: digits, alpha: 0.5}")
    text = f"defaults: {{dataset: digits, teacher: {tmp_path / 'teacher.yaml'}}}"
    plan = sweep.read(write(tmp_path, text))
    teacher, student = (stage for stage in plan.stages if stage.name == "train")
    assert teacher.key in student.after


def test_network_that_only_teaches_is_neither_converted_nor_evaluated(tmp_path):
    plan = sweep.read(write(tmp_path, "defaults: {dataset: digits, teacher: efficientnet_lite0}"))
    names = {}
    for stage in plan.stages:
        if stage.notebook in ("train", "convert", "evaluate"):
            names.setdefault(stage.group, []).append(stage.notebook)
    teacher, student = names
    assert teacher.startswith("digits_efficientnet_lite0_224_rgb_s0_") and names[teacher] == ["train"]
    assert names[student] == ["train", "convert", "evaluate"]


def test_every_notebook_is_rendered_after_it_was_executed(tmp_path):
    plan = sweep.read(write(tmp_path, "defaults: {dataset: digits}"))
    rendered = {stage.after[0]: stage.kept for stage in plan.stages if stage.notebook == RENDER}
    assert rendered == {s.key: s.kept.replace(".ipynb", ".html") for s in plan.stages if s.notebook != RENDER}


def test_notebooks_choose_what_is_run(tmp_path):
    plan = sweep.read(write(tmp_path, "{defaults: {dataset: digits}, notebooks: [train, evaluate]}"))
    assert keys(plan) == ["0.25/train", "0.25/evaluate"] and not plan.compares


def test_included_parameters_are_below_the_defaults(tmp_path):
    (tmp_path / "base.yaml").write_text("{dataset: digits, alpha: 0.5, epochs: 7}")
    text = "{include: base.yaml, defaults: {epochs: 3}}"
    (configuration,) = sweep.read(write(tmp_path, text)).configurations
    assert configuration.overrides["train"] == {"dataset": "digits", "alpha": 0.5, "epochs": 3}


def test_seeds_multiply_out(tmp_path):
    text = "{defaults: {dataset: digits}, grid: {alpha: [0.25, 0.5]}, seeds: [3, 4]}"
    configurations = sweep.read(write(tmp_path, text)).configurations
    assert [c.overrides["train"]["seed"] for c in configurations] == [3, 4, 3, 4]


def test_seeds_from_the_command_line_replace_those_of_the_file(tmp_path):
    path = write(tmp_path, "{defaults: {dataset: digits}, seeds: [0, 1, 2]}")
    configurations = sweep.read(path, seeds=[5]).configurations
    assert [c.overrides["train"]["seed"] for c in configurations] == [5]


def stage(plan, name):
    return next(stage for stage in plan.stages if stage.name == name)


def test_other_calibration_is_converted_but_not_trained_again(tmp_path, tiny_sweep_file, tiny_results):
    text = tiny_sweep_file.read_text()
    same = sweep.read(write(tmp_path, text))
    assert all(stage.is_done(tiny_results) for stage in same.stages)
    other = sweep.read(write(tmp_path, text.replace("calibration_images: 20", "calibration_images: 30")))
    assert stage(other, "train").is_done(tiny_results)
    assert not stage(other, "convert_int8_per_channel").is_done(tiny_results)


def test_stage_that_ended_before_its_notebook_was_kept_is_done_again(tiny_sweep_file, tiny_results, tmp_path):
    results = tmp_path / "results"
    shutil.copytree(tiny_results, results)
    train = stage(sweep.read(tiny_sweep_file), "train")
    assert train.is_done(results)
    for killed_or_failed in (records.running(attempt=1), records.Record("failed", attempts=1)):
        records.write(results, train.key, killed_or_failed)
        assert not train.is_done(results)
    records.write(results, train.key, records.Record("waiting"))  # as the next sweep records it, to be killed as well
    assert train.is_done(results)
    (results / train.kept).unlink()
    assert not train.is_done(results)


def estimated(folder, text, workers=1):
    return estimates.total(list(sweep.read(write(folder, text)).stages), workers, [])


def test_estimate_grows_with_the_work_and_shrinks_with_the_workers(tmp_path):
    text = "{defaults: {dataset: digits, epochs: 100}, grid: {alpha: [0.25, 0.5]}}"
    once, wider = estimated(tmp_path, text), estimated(tmp_path, text.replace("0.5", "1.0"))
    assert wider > 1.2 * once
    assert once / 2 <= estimated(tmp_path, text, workers=2) < once
    # Of one run, no stage can be done before the one that it needs.
    single = text.replace(", 0.5", "")
    assert estimated(tmp_path, single, workers=8) > 0.9 * estimated(tmp_path, single)


def test_estimate_is_corrected_by_what_stages_took(tmp_path):
    plan = sweep.read(write(tmp_path, "defaults: {dataset: digits}"))
    train = stage(plan, "train")
    assert estimates.measured_factors(list(plan.stages), tmp_path) == []
    taken = records.Record("finished", 1, seconds=3 * estimates.seconds(train))
    records.write(tmp_path, train.key, taken)
    assert estimates.measured_factors(list(plan.stages), tmp_path) == pytest.approx([3])


@pytest.mark.parametrize(("seconds", "text"), [(40.2, "40 s"), (200, "3 min"), (7500, "2 h 05 min")])
def test_durations_read_well(seconds, text):
    assert duration(seconds) == text


def test_a_kernel_that_has_ended_takes_no_signal():
    """Jupyter interrupts a kernel that did not answer in time."""
    ended = subprocess.Popen(["true"])
    ended.wait()
    kernel = object.__new__(Kernel)
    kernel.pid = ended.pid
    kernel.send_signal(signal.SIGINT)
