"""What determines the result of a run, and so its id and the configuration that seeds are grouped by."""

from dataclasses import asdict, replace
from typing import NamedTuple

import pandas as pd
import pytest

from mbutils.config import PROJECT, DataParameters, TrainParameters, read_recipe, suited
from mbutils.data import datasets
from mbutils.errors import WorkbookError
from mbutils.runs import identify, manifest

DEFAULTS = TrainParameters()


class Data(NamedTuple):
    fingerprint: str = "f"
    n_train: int = 3000


DATA = Data()


def run_id(parameters, data=DATA):
    return identify(parameters, data).run_id


def test_run_id_is_readable_and_ends_with_a_hash():
    readable, digest = run_id(replace(DEFAULTS, seed=3)).rsplit("_", 1)
    assert readable == "tf_flowers_mobilenet_v1_0.25_96_rgb_s3"
    assert len(digest) == 8


@pytest.mark.parametrize(
    "change",
    [
        {"alpha": 0.5},
        {"learning_rate": 0.1},
        {"min_crop_area": 0.9},
        {"interpolation": "nearest"},
        {"fit": "crop"},
        {"decoder": "tensorflow"},
        {"class_weight": "balanced"},
        {"early_epochs": 3},
        {"weights": "none"},
    ],
)
def test_what_determines_the_result_changes_run_id_and_configuration(change):
    changed = identify(replace(DEFAULTS, **change), DATA)
    assert changed.run_id != run_id(DEFAULTS)
    assert changed.configuration != identify(DEFAULTS, DATA).configuration


def test_other_data_is_another_run_and_another_configuration():
    here, there = identify(DEFAULTS, DATA), identify(DEFAULTS, Data("other data"))
    assert here.run_id != there.run_id and here.configuration != there.configuration


@pytest.mark.parametrize(
    "change",
    [
        {"results_dir": "elsewhere"},
        {"recipe": "flowers_0.25_96_rgb"},
        {"early_image_size": 128},  # there are no early epochs
        {"teacher_weight": 0.5, "teacher_views": 3, "teacher_features": 1.0},  # there is no teacher
    ],
)
def test_what_changes_nothing_changes_neither(change):
    assert identify(replace(DEFAULTS, **change), DATA).run_id == run_id(DEFAULTS)
    assert identify(replace(DEFAULTS, **change), DATA).configuration == identify(DEFAULTS, DATA).configuration


def test_run_ids_do_not_change_with_new_parameters():
    assert run_id(DEFAULTS) == "tf_flowers_mobilenet_v1_0.25_96_rgb_s0_ad6147a8"


def test_values_that_suit_the_data_are_recorded_and_count_as_if_they_were_set_by_hand():
    used = identify(DEFAULTS, DATA).parameters
    assert used == suited(DEFAULTS, DATA.n_train) and used.batch_size == 64
    assert run_id(replace(DEFAULTS, batch_size=64)) == run_id(DEFAULTS)


def test_seeds_share_a_configuration(recipes):
    teacher = recipes("teacher", "alpha: 0.75")
    for parameters in (DEFAULTS, replace(DEFAULTS, teacher=teacher)):
        first, second = (identify(replace(parameters, seed=seed), DATA) for seed in (0, 1))
        assert first.run_id != second.run_id and first.configuration == second.configuration


def test_own_images_are_known_by_what_is_in_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    here = TrainParameters(dataset="folder", data_dir="my images!")
    assert here.data_dir == str(tmp_path / "my images!")
    assert run_id(here).startswith("folder_my-images-_mobilenet_v1_0.25_96_rgb_s0_")
    moved = replace(here, data_dir="elsewhere/my images!")
    assert identify(moved, DATA).configuration == identify(here, DATA).configuration
    assert run_id(moved) == run_id(here) != run_id(here, Data("g"))


def test_start_weights_are_known_by_what_is_in_their_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.keras").write_bytes(b"weights")
    first = run_id(replace(DEFAULTS, weights="a.keras"))
    assert run_id(replace(DEFAULTS, weights=f"{tmp_path}/./a.keras")) == first
    (tmp_path / "a.keras").write_bytes(b"other weights")
    assert run_id(replace(DEFAULTS, weights="a.keras")) != first


def test_missing_weights_are_named():
    with pytest.raises(WorkbookError, match=r"weights: cannot read gone.keras .*: set imagenet, none, or the path"):
        run_id(replace(DEFAULTS, weights="gone.keras"))


def test_teacher_is_trained_by_its_recipe_on_the_same_data_with_the_same_fit_and_seed(recipes):
    recipe = recipes("teacher", "{alpha: 0.75, image_size: 64, dataset: digits, seed: 7}")
    student = TrainParameters(teacher=recipe, seed=3, validation_fraction=0.2, fit="crop", epochs=99)
    expected = TrainParameters(alpha=0.75, image_size=64, seed=3, validation_fraction=0.2, fit="crop")
    assert identify(student, DATA).teacher.parameters == suited(expected, DATA.n_train)
    assert identify(DEFAULTS, DATA).teacher is None


def test_what_is_in_the_teachers_recipe_changes_run_id_and_configuration(recipes):
    first = identify(TrainParameters(teacher=recipes("teacher", "alpha: 0.75")), DATA)
    second = identify(TrainParameters(teacher=recipes("teacher", "alpha: 0.5")), DATA)
    assert first.run_id != second.run_id and first.configuration != second.configuration


def test_features_of_the_teacher_change_run_id_and_configuration(recipes):
    student = TrainParameters(teacher=recipes("teacher", "alpha: 0.75"))
    first, second = (identify(replace(student, teacher_features=weight), DATA) for weight in (0.0, 2.0))
    assert first.run_id != second.run_id and first.configuration != second.configuration


@pytest.mark.parametrize("name", ["efficientnet_lite0", "EfficientNetV2B0"])
def test_teacher_may_be_the_name_of_a_network(name):
    teacher = identify(TrainParameters(teacher=name, seed=3, validation_fraction=0.2), DATA).teacher
    assert teacher.run_id.startswith(f"tf_flowers_{name.lower()}_224_rgb_s3_")
    assert (teacher.parameters.network, teacher.parameters.validation_fraction) == (name, 0.2)


def test_network_from_a_file_is_known_by_what_is_in_it(tmp_path):
    paths = [tmp_path / "a.keras", tmp_path / "renamed" / "a.keras"]
    paths[1].parent.mkdir()
    for path in paths:
        path.write_bytes(b"network")
    first, renamed = (run_id(TrainParameters(teacher=str(path))) for path in paths)
    assert first == renamed
    paths[0].write_bytes(b"other network")
    assert run_id(TrainParameters(teacher=str(paths[0]))) != first


def test_teacher_may_be_a_run_folder(tmp_path, monkeypatch):
    taught = suited(TrainParameters(alpha=0.75), DATA.n_train)
    (tmp_path / "manifest.json").touch()
    monkeypatch.setattr(manifest, "read", lambda folder: {"parameters": asdict(taught)})
    by_run = identify(TrainParameters(teacher=str(tmp_path)), DATA)
    assert by_run.teacher.run_id == run_id(taught)


def test_teacher_that_is_nothing_of_the_kind_is_named():
    message = "teacher: no recipe or run folder 'efficientnet', and as a network: unknown 'efficientnet': did you mean"
    with pytest.raises(WorkbookError, match=message):
        identify(TrainParameters(teacher="efficientnet"), DATA)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("alhpa: 0.5", "unknown parameter 'alhpa': did you mean 'alpha'"),
        ("teacher: HERE/teacher.yaml", "a recipe cannot teach itself"),
    ],
)
def test_bad_recipe_of_a_teacher_is_refused(recipes, text, message):
    with pytest.raises(WorkbookError, match=message):
        run_id(TrainParameters(teacher=recipes("teacher", text)))


def test_recipes_are_those_of_the_reference_results(flowers):
    reference = set(pd.read_csv(PROJECT / "results" / "reference" / "flowers.csv")["run_id"])
    data = datasets.load(DataParameters(validation_fraction=0.05))
    for name in ("flowers_0.5_224_rgb", "flowers_0.25_224_rgb", "flowers_0.25_96_rgb", "flowers_0.25_96_gray"):
        assert run_id(TrainParameters.from_dict(read_recipe(name)), data) in reference
