"""`mbutils.load(RUN).predict(photo)`: finished classifiers on photographs from anywhere."""

import io
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from test_records import rewrite

import mbutils
from mbutils import runs
from mbutils.config import Preprocessing
from mbutils.errors import WorkbookError

CONTRACT = Preprocessing(32, "gray", "bilinear")
DIGITS = tuple("0123456789")


@pytest.fixture(scope="module")
def run(tiny_results):
    return runs.find(tiny_results)


@pytest.fixture(scope="module")
def workbook(run):
    return mbutils.load(run.path)


@pytest.fixture(scope="module")
def photographs(digits, tmp_path_factory):
    """The first five test images as files."""
    folder = tmp_path_factory.mktemp("photographs")
    for number, encoded in enumerate(digits.encoded(digits.positions("test")[:5])):
        (folder / f"{number}.pgm").write_bytes(encoded)
    return sorted(folder.iterdir())


def test_package_is_imported_in_a_moment():
    code = "import sys, mbutils; print(sorted(sys.modules.keys() & {'tensorflow', 'pandas', 'numpy'}))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


@pytest.mark.parametrize("variant", ["float32", "int8_per_channel"])
def test_photograph_gets_the_scores_of_the_evaluation(workbook, run, photographs, variant):
    expected = np.load(run.path / f"predictions_{variant}.npz")["scores"][0]
    scores = workbook.predict(photographs[0])[variant]
    assert np.allclose(scores[list(DIGITS)], expected, atol=1e-6)


def test_table_has_a_row_for_each_class_the_highest_int8_score_first(workbook, photographs):
    table = workbook.predict(photographs[0])
    assert list(table.columns) == ["float32", "int8_per_channel"]
    assert sorted(table.index) == list(DIGITS) and table.index.name == "class"
    assert table["int8_per_channel"].is_monotonic_decreasing


def test_run_that_is_only_trained_has_its_float_model(run, photographs, tmp_path):
    trained = shutil.copytree(run.path, tmp_path / run.run_id)
    rewrite(trained / "manifest.json", lambda manifest: manifest.update(variants={}))
    assert list(mbutils.load(trained).predict(photographs[0]).columns) == ["float32"]


def test_path_bytes_and_pixels_are_the_same_photograph(workbook, photographs):
    path = photographs[0]
    pixels = np.asarray(Image.open(path))
    shapes = [pixels, pixels[..., None], np.stack([pixels] * 3, axis=2)]
    expected = workbook.predict(path)
    for photo in [str(path), path.read_bytes(), *shapes]:
        assert workbook.predict(photo).equals(expected)


@pytest.mark.parametrize("named_by", ["nothing", "id", "folder", "model"])
def test_run_is_named_by_nothing_its_id_its_folder_or_a_model_of_it(run, photographs, named_by):
    name = {"nothing": "", "id": run.run_id, "folder": run.path, "model": run.path / "int8_per_channel.tflite"}
    loaded = mbutils.load(name[named_by], results_dir=str(run.path.parent.parent))
    models = ["int8_per_channel"] if named_by == "model" else ["float32", "int8_per_channel"]
    assert list(loaded.predict(photographs[0]).columns) == models


def test_model_from_elsewhere_takes_its_contract_and_classes(workbook, run, photographs, tmp_path):
    path = shutil.copy(run.path / "int8_per_channel.tflite", tmp_path / "mine.tflite")
    table = mbutils.load(path, CONTRACT, DIGITS).predict(photographs[0])
    assert table["mine.tflite"].equals(workbook.predict(photographs[0])["int8_per_channel"].rename("mine.tflite"))


@pytest.mark.parametrize(
    ("contract", "class_names", "message"),
    [
        (None, (), "takes images of 32x32x1 and gives 10 scores: give contract, how images are prepared for it"),
        (CONTRACT, (), "give contract, how images are prepared for it, and class_names"),
        (CONTRACT, ("a", "b"), "not images of 32x32x1 and 2 class names: change contract or class_names"),
        (Preprocessing(32, "rgb", "area"), DIGITS, "not images of 32x32x3 and 10 class names"),
    ],
)
def test_model_from_elsewhere_needs_its_contract_and_classes(run, tmp_path, contract, class_names, message):
    path = shutil.copy(run.path / "int8_per_channel.tflite", tmp_path / "mine.tflite")
    with pytest.raises(WorkbookError, match=message):
        mbutils.load(path, contract, class_names)


def test_run_refuses_another_contract(run):
    with pytest.raises(WorkbookError, match="has its own preprocessing and classes: leave them out"):
        mbutils.load(run.path, CONTRACT, DIGITS)


def test_unknown_run_is_named_with_the_nearest(run):
    with pytest.raises(WorkbookError, match="no run 'digit' in"):
        mbutils.load("digit", results_dir=str(run.path.parent.parent))


@pytest.mark.parametrize(
    ("photo", "message"),
    [
        ("gone.jpg", "cannot read gone.jpg (No such file or directory): give the path of an image"),
        ("/dev/zero", "cannot read /dev/zero (not a regular file): give the path of an image"),
        (b"text", "the photograph is unreadable (not a JPEG, PNG, BMP or WebP image): choose"),
        (b"", "the photograph is unreadable (an empty file)"),
        (np.zeros((8, 8, 3)), "pixels of type float64 and shape (8, 8, 3) are not an image: give uint8 of shape"),
        (np.zeros((8, 8, 2), np.uint8), "pixels of type uint8 and shape (8, 8, 2) are not an image"),
        (np.zeros((0, 8, 3), np.uint8), "pixels of type uint8 and shape (0, 8, 3) are not an image"),
    ],
)
def test_what_is_no_image_is_refused_in_one_line(workbook, photo, message):
    with pytest.raises(WorkbookError) as caught:
        workbook.predict(photo)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_many_photographs_get_their_scores_and_the_unreadable_are_named(workbook, photographs, tmp_path, batch_size):
    (tmp_path / "text.jpg").write_text("not an image")
    damaged = io.BytesIO()
    Image.fromarray(np.zeros((99, 99), np.uint8)).save(damaged, "JPEG")
    (tmp_path / "cut.jpg").write_bytes(damaged.getvalue()[:300])
    bad = [tmp_path / "text.jpg", tmp_path / "gone.jpg", tmp_path / "cut.jpg"]
    predictions = workbook.predict_files([bad[0], *photographs[:3], *bad[1:], *map(str, photographs[3:])], batch_size)
    assert predictions.files == photographs
    assert list(predictions.unreadable) == bad
    assert all(str(path) in reason and "\n" not in reason for path, reason in predictions.unreadable.items())
    for variant, scores in predictions.scores.items():
        assert scores.shape == (5, 10)
        for row, path in zip(scores, photographs, strict=True):
            assert np.allclose(row, workbook.predict(path)[variant][list(DIGITS)], atol=1e-4)


def test_photographs_of_which_none_is_readable_have_no_scores(workbook, tmp_path):
    predictions = workbook.predict_files([tmp_path / "gone.jpg"])
    assert predictions.files == [] and len(predictions.unreadable) == 1
    assert predictions.scores["float32"].shape == (0, 10)
