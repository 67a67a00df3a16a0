import pytest
import yaml

from mbutils import cli, datasets, notebooks, runs, sweep
from mbutils.config import PROJECT, TrainParameters
from mbutils.errors import WorkbookError


def write(folder, text):
    path = folder / "sweep.yaml"
    path.write_text(text)
    return path


def test_grid_is_multiplied_out_over_the_defaults(tmp_path):
    text = "defaults: {dataset: digits, seed: 3}\ngrid: {alpha: [0.25, 0.5], image_size: [32, 48, 64]}"
    configurations = sweep.read(write(tmp_path, text))
    assert len({configuration.run_id for configuration in configurations}) == 6
    assert all(configuration.stages["train"]["seed"] == 3 for configuration in configurations)


def test_single_runs_are_taken_as_they_are_and_multiplied_by_the_grid(tmp_path):
    text = "runs: [{dataset: digits}, {dataset: digits, alpha: 0.5}]"
    assert [c.stages["train"].get("alpha") for c in sweep.read(write(tmp_path, text))] == [None, 0.5]
    configurations = sweep.read(write(tmp_path, text + "\ngrid: {seed: [0, 1, 2]}"))
    assert [c.stages["train"]["seed"] for c in configurations] == [0, 1, 2, 0, 1, 2]


def test_parameters_go_to_each_notebook_that_takes_them(tmp_path):
    text = "defaults: {dataset: digits, batch_size: 16, calibration_images: 9}"
    (configuration,) = sweep.read(write(tmp_path, text))
    assert configuration.stages["train"] == {"dataset": "digits", "batch_size": 16}
    assert configuration.stages["convert"] == {"calibration_images": 9}
    assert configuration.stages["evaluate"] == {"batch_size": 16}


def test_a_run_may_be_the_name_of_a_recipe(tmp_path):
    text = "runs: [flowers_recipe]".replace("flowers_recipe", str(tmp_path / "digits.yaml"))
    (tmp_path / "digits.yaml").write_text("{dataset: digits, alpha: 0.5}")
    configurations = sweep.read(write(tmp_path, text + "\ngrid: {seed: [0, 1]}"))
    assert [c.stages["train"]["alpha"] for c in configurations] == [0.5, 0.5]
    assert [c.stages["train"]["seed"] for c in configurations] == [0, 1]


@pytest.mark.parametrize("listed", [False, True])
def test_teachers_come_before_their_students_listed_or_not(tmp_path, listed):
    teacher, student = tmp_path / "teacher.yaml", tmp_path / "student.yaml"
    teacher.write_text("{dataset: digits, alpha: 0.5}")
    student.write_text(f"{{dataset: digits, alpha: 0.25, teacher: {teacher}}}")
    recipes = [str(student)] + [str(teacher)] * listed
    text = yaml.dump({"runs": recipes, "grid": {"seed": [0, 1]}, "defaults": {"calibration_images": 9}})
    configurations = sweep.read(write(tmp_path, text))
    trained = [(c.stages["train"]["alpha"], c.stages["train"]["seed"]) for c in configurations]
    assert trained == [(0.5, 0), (0.25, 0), (0.5, 1), (0.25, 1)]
    assert all(c.stages["convert"] == {"calibration_images": 9} for c in configurations)
    assert [c.teacher.run_id for c in configurations[1::2]] == [c.run_id for c in configurations[::2]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("defaults: {alhpa: 0.5}", "unknown parameter 'alhpa': did you mean 'alpha'"),
        ("defaults: {dataset: digits}\ngrid: {alpha: [0.25, 7]}", "alpha: 7.0 is too large"),
        ("defaults: {dataset: digit}", "unknown dataset 'digit': did you mean 'digits'"),
        ("defaults: {learning_rate: 1e-3}", "write 0.001 instead of 1e-3"),
        ("defaults: {run_id: a}", "unknown parameter 'run_id'"),
        ("grid: {alpha: 0.5}", r"grid: alpha must be a list of values, such as \[0.5\]"),
        ("grid: {alpha: []}", "grid: alpha must be a list"),
        ("girds: {alpha: [0.5]}", "unknown key 'girds': did you mean 'grid'"),
        ("defaults: [1, 2]", "defaults must be a mapping of parameters"),
        ("runs: {alpha: 0.5}", "runs must be a list of parameters"),
        ("runs: [flowers_0.25_96_grey]", "did you mean 'flowers_0.25_96_gray'"),
        ("runs: [0.5]", "each of runs must be a mapping of parameters"),
        ("just text", "a sweep file has the keys defaults, runs, grid"),
        ("", "a sweep file has the keys defaults, runs, grid"),
        ("a: [", "is no YAML file"),
        ("defaults: !!python/object/apply:os.system ['true']", "is no YAML file"),
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


@pytest.mark.parametrize("path", sorted((PROJECT / "params").glob("*.yaml")), ids=lambda path: path.name)
def test_sweep_files_in_params_are_valid(path, digits, monkeypatch):
    # The data of some is gigabytes; what they say of it is checked all the same.
    monkeypatch.setattr(sweep.datasets, "load", lambda parameters: digits)
    assert sweep.read(path)
    defaults = yaml.safe_load(path.read_text())["defaults"]
    assert defaults.get("dataset", "tf_flowers") in datasets.REGISTRY


@pytest.mark.parametrize("path", sorted((PROJECT / "params" / "runs").glob("*.yaml")), ids=lambda path: path.name)
def test_single_runs_in_params_are_valid(path):
    assert TrainParameters.from_dict(yaml.safe_load(path.read_text()))


def test_finished_stages_are_not_done_again(tiny_sweep_file, tiny_results, monkeypatch):
    monkeypatch.setattr(notebooks, "execute", lambda *arguments: pytest.fail("ran a finished stage"))
    lines = []
    assert sweep.run(sweep.read(tiny_sweep_file), tiny_results, lines.append) == {}
    assert [line.rsplit(": ", 1)[1] for line in lines] == ["already finished"] * 3


def test_other_calibration_is_converted_and_evaluated_but_not_trained_again(tmp_path, tiny_sweep_file, tiny_results):
    text = tiny_sweep_file.read_text().replace("calibration_images: 20", "calibration_images: 30")
    (configuration,) = sweep.read(write(tmp_path, text))
    assert configuration.is_done("train", tiny_results)
    assert not configuration.is_done("convert", tiny_results)


def test_killed_training_is_done_again(tiny_sweep_file, tiny_results, tmp_path, digits):
    (configuration,) = sweep.read(tiny_sweep_file)
    parameters = runs.Run(tiny_results / "runs" / configuration.run_id).parameters
    killed = runs.begin(parameters, digits, tmp_path)
    assert killed.run_id == configuration.run_id
    assert not any(configuration.is_done(stage, tmp_path) for stage in ("train", "convert", "evaluate"))


def test_sweep_goes_on_when_a_configuration_fails_and_says_so(tmp_path, monkeypatch, capsys):
    """One configuration raises in its notebook, the other runs through."""
    done = []

    def execute(name, output, parameters):
        if parameters.get("alpha") == 0.25:
            raise WorkbookError(f"{name}: out of memory")
        done.append(name)

    monkeypatch.setattr(notebooks, "execute", execute)
    monkeypatch.setattr(sweep, "_keep", lambda *arguments: None)
    monkeypatch.setattr(sweep, "report", lambda results_dir: results_dir / "report.html")
    path = write(tmp_path, "defaults: {dataset: digits}\ngrid: {alpha: [0.25, 0.5]}")
    assert cli.main(["sweep", str(path), "--results", str(tmp_path)]) == 1
    assert done == ["train", "convert", "evaluate"]
    captured = capsys.readouterr()
    assert "failed: train: out of memory" in captured.out
    assert captured.err.startswith("failed: digits_mobilenet_v1_0.25_96")
