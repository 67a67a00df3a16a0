import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
import yaml

from mbutils import config, runs
from mbutils.backend import keras
from mbutils.config import normalize
from mbutils.data import cache, pipeline, preprocessing
from mbutils.errors import WorkbookError
from mbutils.model import distillation, training
from mbutils.model.batch_normalization import with_keras_layers
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
    runs.finish(run, with_keras_layers(network), pd.DataFrame([history]))
    return folder


@pytest.fixture(scope="module")
def lesson(student, digits, results):
    return teachers.teacher_lesson(student, digits, results)


def test_teacher_scores_every_view_of_every_training_image(lesson, digits):
    assert lesson.scores.shape == (2, len(digits.positions("train")), 10)
    assert lesson.scores.sum(axis=2) == pytest.approx(1, abs=1e-5)
    assert not np.array_equal(lesson.scores[0], lesson.scores[1])


def test_features_are_uncorrelated_components_whose_variance_is_one_on_average(lesson, digits):
    features = lesson.features.reshape(-1, lesson.features.shape[2]).astype(np.float64)
    assert len(features) == 2 * digits.n_train
    covariance = np.cov(features, rowvar=False)
    assert features.mean(axis=0) == pytest.approx(0, abs=0.05)
    assert np.diag(covariance).mean() == pytest.approx(1, abs=0.02)
    assert np.abs(covariance - np.diag(np.diag(covariance))).max() < 0.05 * np.diag(covariance).max()


def test_features_are_those_that_the_teacher_classifies_and_those_before_its_last_convolution(student, digits, results):
    images = preprocessing.cached_images(digits, replace(student, image_size=48, color_mode="rgb").preprocessing)
    network = read_model(teachers.find_teacher(student, digits, results).path / "model.keras")
    pooled, before = distillation._features(network)
    values = keras.Model(network.input, [pooled, before, network.get_layer("conv_dw_13_relu").output])
    pooled, before, last = values(normalize(images[:2]))
    assert pooled.shape == (2, 256) and before.numpy() == pytest.approx(last.numpy().mean(axis=(1, 2)), abs=1e-5)


@pytest.mark.parametrize("change", [{}, {"mixup": 0.5}, {"rotation": 20.0, "blur": 0.02, "noise": 0.1}])
def test_teacher_sees_the_views_that_its_student_is_trained_on(student, digits, results, change):
    # A student of the teacher's size and colour gets the same images that the teacher scored.
    twin = replace(student, image_size=48, color_mode="rgb", epochs=3, late_epochs=1, **change)
    lesson = teachers.teacher_lesson(twin, digits, results)
    images = preprocessing.cached_images(digits, twin.preprocessing)
    network = read_model(teachers.find_teacher(twin, digits, results).path / "model.keras")
    for epochs in (range(1), range(2, 3)):  # of crops, of whole images
        for batch, targets in pipeline.training_batches(images, digits, twin, epochs, lesson).take(2):
            assert network(batch, training=False).numpy() == pytest.approx(targets[:, :10].numpy(), abs=1e-4)
            assert targets.shape[1] == 10 + lesson.features.shape[2]


def test_lesson_is_made_once(student, digits, results, lesson, monkeypatch):
    monkeypatch.setattr(distillation, "lesson", None)
    again = teachers.teacher_lesson(student, digits, results)
    assert all(np.array_equal(*parts) for parts in zip(again, lesson, strict=True))


def some_lesson(offset=0.0):
    scores = np.arange(60, dtype=np.float32).reshape(2, 3, 10)
    return distillation.Lesson(scores + offset, scores.astype(np.float16) - offset)


def test_students_of_any_colour_share_scores_that_one_of_them_makes_while_the_others_wait(student, digits):
    prepare = Mock(return_value=some_lesson())
    colours = [replace(student, color_mode=color, seed=7) for color in ("gray", "rgb") * 2]
    all_there = threading.Barrier(len(colours))

    def scores_for(parameters):
        all_there.wait()
        return distillation.stored_lesson("a", digits, parameters, prepare).scores

    with ThreadPoolExecutor(len(colours)) as pool:
        several = list(pool.map(scores_for, colours))
    assert prepare.call_count == 1 and all(np.array_equal(scores, some_lesson().scores) for scores in several)


@pytest.mark.parametrize("position", [0, 0.3, None])
def test_damaged_lesson_is_made_again(student, digits, position):
    parameters = replace(student, seed=8)
    distillation.stored_lesson(f"{position}", digits, parameters, some_lesson)
    newest = max(cache.folder(cache.TEACHER_SCORES).glob("*.npz"), key=lambda path: path.stat().st_mtime_ns)
    content = bytearray(newest.read_bytes())
    if position is None:
        content = content[:-1]
    else:
        content[int(position * len(content))] ^= 1
    newest.write_bytes(content)
    again = distillation.stored_lesson(f"{position}", digits, parameters, lambda: some_lesson(1))
    assert np.array_equal(again.scores, some_lesson(1).scores)


@pytest.mark.parametrize("change", [{"min_crop_area": 0.5}, {"color_jitter": 0.0}, {"mixup": 0.5}, {"noise": 0.1}])
def test_views_that_are_augmented_otherwise_are_scored_again(student, digits, results, lesson, change):
    other = teachers.teacher_lesson(replace(student, **change), digits, results).scores
    assert other.shape == lesson.scores.shape
    assert not any(np.array_equal(theirs, ours) for theirs, ours in zip(other, lesson.scores, strict=True))


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
        lesson = distillation.stored_lesson("sha", digits, other, lambda number=number: some_lesson(number))
        assert np.array_equal(lesson.scores, some_lesson(number).scores)


def test_students_that_learn_no_features_share_the_lesson_of_those_that_do(student, digits, results, lesson):
    without = teachers.teacher_lesson(replace(student, teacher_features=0.0), digits, results)
    assert np.array_equal(without.scores, lesson.scores)


@pytest.mark.parametrize("change", [{"teacher_views": 3}, {"late_epochs": 1}])
def test_views_may_be_added(student, digits, results, lesson, change):
    *first, added = teachers.teacher_lesson(replace(student, **change), digits, results).scores
    assert np.array_equal(first, lesson.scores)
    assert not any(np.array_equal(added, view) for view in lesson.scores)


@pytest.mark.parametrize("weight", [0.0, 2.0])
def test_a_student_learns_from_its_teacher(student, digits, lesson, weight):
    images = preprocessing.cached_images(digits, student.preprocessing)
    parameters = replace(student, teacher_features=weight)
    network = training.build_model(parameters, digits)
    history = training.fit(network, images, digits, parameters, lesson)
    assert history["loss"].iloc[1] < history["loss"].iloc[0]
    assert network.output_shape == (None, 10)  # what learned the features is not kept


def test_what_learns_the_features_begins_by_saying_their_mean_and_disturbs_nothing(student, digits, lesson):
    images = preprocessing.cached_images(digits, student.preprocessing)
    losses = []
    for weight in (0.0, 2.0):
        parameters = replace(student, epochs=1, learning_rate=1e-6, batch_norm_momentum=0.9, teacher_features=weight)
        history = training.fit(training.build_model(parameters, digits), images, digits, parameters, lesson)
        losses.append(history["loss"].iloc[0])
    assert losses[1] - losses[0] == pytest.approx(2.0, abs=0.05)  # the weight times a variance of 1


def test_features_change_what_a_student_learns(student, digits, lesson):
    images = preprocessing.cached_images(digits, student.preprocessing)
    kernels = []
    for weight in (0.0, 2.0):
        parameters = replace(student, epochs=1, warmup_epochs=0.0, teacher_features=weight)
        network = training.build_model(parameters, digits)
        training.fit(network, images, digits, parameters, lesson)
        kernels.append(network.get_layer("conv_pw_13").get_weights()[0])
    assert np.abs(kernels[0] - kernels[1]).max() > 1e-3


def test_without_a_teacher_there_is_no_lesson(digits, tmp_path):
    assert teachers.teacher_lesson(config.TrainParameters(dataset="digits"), digits, tmp_path) is None


def test_teacher_that_is_missing_is_trained_first(student, digits, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(distillation, "lesson", lambda *arguments: some_lesson())
    short = tmp_path / "short.yaml"
    short.write_text(yaml.dump(TEACHER | {"epochs": 1, "image_size": 32, "batch_size": 256, "warmup_epochs": 0.0}))
    parameters = replace(student, teacher=str(short))
    teachers.teacher_lesson(parameters, digits, tmp_path)
    (teacher,) = runs.all_runs(tmp_path)
    assert teacher.run_id == runs.identify(parameters, digits).teacher.run_id
    assert f"trains the teacher: {teacher.run_id}" in capsys.readouterr().out
    monkeypatch.setattr(training, "fit", None)
    assert teachers.find_teacher(parameters, digits, tmp_path).run_id == teacher.run_id


def test_cache_that_is_full_is_named_and_keeps_no_half_written_scores(student, digits, results, lesson, monkeypatch):
    def full(path, **arrays):
        path.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    monkeypatch.setattr(distillation, "lesson", lambda *arguments: lesson)
    with pytest.raises(WorkbookError, match=r"cannot write .*scores_of_a_teacher.*No space left.*set MB_CACHE_DIR"):
        teachers.teacher_lesson(replace(student, teacher_views=5), digits, results)
    assert not list(cache.folder(cache.TEACHER_SCORES).glob(".*.npz"))
