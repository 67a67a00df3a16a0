import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
import yaml

from mbutils import config, runs
from mbutils.config import normalize
from mbutils.data import cache, pipeline, preprocessing
from mbutils.errors import WorkbookError
from mbutils.model import distillation, mobilenet, training
from mbutils.model.weights import read_model
from mbutils.runs import teachers

TEACHER = {"dataset": "digits", "image_size": 48, "color_mode": "rgb", "weights": "none", "batch_norm_momentum": 0.0}


@pytest.fixture(scope="module")
def student(digits, tmp_path_factory):
    recipe = tmp_path_factory.mktemp("recipes") / "teacher.yaml"
    recipe.write_text(yaml.dump(TEACHER))
    parameters = config.TrainParameters(
        dataset="digits",
        image_size=32,
        color_mode="gray",
        weights="none",
        epochs=2,
        teacher=str(recipe),
        teacher_views=2,
    )
    return config.suited(parameters, digits.n_train)


@pytest.fixture(scope="module")
def results(student, digits, tmp_path_factory):
    """A results folder that holds the teacher: random weights, normalized so that its scores differ between images."""
    folder = tmp_path_factory.mktemp("results")
    parameters = runs.identify(student, digits).teacher.parameters
    run = runs.begin(parameters, digits, folder)
    network = training.build_model(parameters, digits)
    network(normalize(preprocessing.cached_images(digits, parameters.preprocessing)[:256]), training=True)
    history = {"epoch": 1, "loss": 1.0, "top1": 0.1, "seconds": 1.0, "validation_top1": 0.1}
    runs.finish(run, mobilenet.with_keras_layers(network), pd.DataFrame([history]))
    return folder


@pytest.fixture(scope="module")
def scores(student, digits, results):
    return teachers.teacher_scores(student, digits, results)


def test_teacher_scores_every_view_of_every_training_image(scores, digits):
    assert scores.shape == (2, len(digits.positions("train")), 10)
    assert scores.sum(axis=2) == pytest.approx(1, abs=1e-5)
    assert not np.array_equal(scores[0], scores[1])


@pytest.mark.parametrize("change", [{}, {"mixup": 0.5}, {"rotation": 20.0, "blur": 0.02, "noise": 0.1}])
def test_teacher_sees_the_views_that_its_student_is_trained_on(student, digits, results, change):
    # A student of the teacher's size and colour gets the same images that the teacher scored.
    twin = replace(student, image_size=48, color_mode="rgb", epochs=3, late_epochs=1, **change)
    scores = teachers.teacher_scores(twin, digits, results)
    images = preprocessing.cached_images(digits, twin.preprocessing)
    network = read_model(teachers.find_teacher(twin, digits, results).path / "model.keras")
    for epochs in (range(1), range(2, 3)):  # of crops, of whole images
        for batch, targets in pipeline.training_batches(images, digits, twin, epochs, scores).take(2):
            assert network(batch, training=False).numpy() == pytest.approx(targets.numpy(), abs=1e-4)


def test_scores_are_made_once(student, digits, results, scores, monkeypatch):
    monkeypatch.setattr(distillation, "score_views", None)
    assert np.array_equal(teachers.teacher_scores(student, digits, results), scores)


def test_students_of_any_colour_share_scores_that_one_of_them_makes_while_the_others_wait(student, digits):
    score = Mock(return_value=np.ones((2, 3, 10), np.float32))
    colours = [replace(student, color_mode=color, seed=7) for color in ("gray", "rgb") * 2]
    all_there = threading.Barrier(len(colours))

    def scores_for(parameters):
        all_there.wait()
        return distillation.stored_scores("a", digits, parameters, score)

    with ThreadPoolExecutor(len(colours)) as pool:
        several = list(pool.map(scores_for, colours))
    assert score.call_count == 1 and all(np.array_equal(scores, score()) for scores in several)


@pytest.mark.parametrize("position", [0, 0.5, None])
def test_damaged_scores_are_made_again(student, digits, position):
    made = np.arange(60, dtype=np.float32).reshape(2, 3, 10)
    parameters = replace(student, seed=8)
    distillation.stored_scores(f"{position}", digits, parameters, lambda: made)
    newest = max(cache.folder(cache.TEACHER_SCORES).glob("*.npz"), key=lambda path: path.stat().st_mtime_ns)
    content = bytearray(newest.read_bytes())
    if position is None:
        content = content[:-1]
    else:
        content[int(position * len(content))] ^= 1
    newest.write_bytes(content)
    assert np.array_equal(distillation.stored_scores(f"{position}", digits, parameters, lambda: made + 1), made + 1)


@pytest.mark.parametrize("change", [{"min_crop_area": 0.5}, {"color_jitter": 0.0}, {"mixup": 0.5}, {"noise": 0.1}])
def test_views_that_are_augmented_otherwise_are_scored_again(student, digits, results, scores, change):
    other = teachers.teacher_scores(replace(student, **change), digits, results)
    assert other.shape == scores.shape
    assert not any(np.array_equal(theirs, ours) for theirs, ours in zip(other, scores, strict=True))


OTHER_VIEWS = {
    "min_crop_area": 0.5,
    "horizontal_flip": True,
    "vertical_flip": True,
    "rotation": 10.0,
    "translation": 0.1,
    "zoom_out": 0.1,
    "shear": 0.1,
    "blur": 0.01,
    "noise": 0.1,
    "color_jitter": 0.1,
    "mixup": 0.5,
    "seed": 1,
}


def test_every_parameter_of_the_augmentation_has_scores_of_its_own(student, digits):
    names = [spec.name for spec in fields(config.PrepareParameters)]
    assert list(OTHER_VIEWS) == names[names.index("min_crop_area") :]
    students = [student, *(replace(student, **{name: value}) for name, value in OTHER_VIEWS.items())]
    for number, other in enumerate(students):
        assert distillation.stored_scores("sha", digits, other, lambda number=number: number) == number


@pytest.mark.parametrize("change", [{"teacher_views": 3}, {"late_epochs": 1}])
def test_views_may_be_added(student, digits, results, scores, change):
    *first, added = teachers.teacher_scores(replace(student, **change), digits, results)
    assert np.array_equal(first, scores)
    assert not any(np.array_equal(added, view) for view in scores)


def test_a_student_learns_from_its_teacher(student, digits, scores):
    images = preprocessing.cached_images(digits, student.preprocessing)
    history = training.fit(training.build_model(student, digits), images, digits, student, scores)
    assert history["loss"].iloc[1] < history["loss"].iloc[0]


def test_without_a_teacher_there_are_no_scores(digits, tmp_path):
    assert teachers.teacher_scores(config.TrainParameters(dataset="digits"), digits, tmp_path) is None


def test_teacher_that_is_not_trained_is_named_with_the_way_out(student, digits, tmp_path):
    with pytest.raises(WorkbookError, match=r"no finished run digits_mobilenet_v1_0.25_48_rgb_s0_.*train its recipe"):
        teachers.teacher_scores(student, digits, tmp_path)


def test_cache_that_is_full_is_named_and_keeps_no_half_written_scores(student, digits, results, scores, monkeypatch):
    def full(path, **arrays):
        path.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    monkeypatch.setattr(distillation, "score_views", lambda *arguments: scores)
    with pytest.raises(WorkbookError, match=r"cannot write .*scores_of_a_teacher.*No space left.*set MB_CACHE_DIR"):
        teachers.teacher_scores(replace(student, teacher_views=5), digits, results)
    assert not list(cache.folder(cache.TEACHER_SCORES).glob(".*.npz"))
