"""The command `mb predict`: runs and models from elsewhere on photographs and folders of them."""

import csv
import io
import json

import numpy as np
import pytest
from PIL import Image

from mbutils.data import photographs

CONTRACT = ("--interpolation", "bilinear")


@pytest.fixture
def folder(digits, tmp_path):
    """Writes the first four test images: 0.png, 1.png, deeper/2.png, deeper/3.png."""
    folder = tmp_path / "photos"
    for number, encoded in enumerate(digits.encoded(digits.positions("test")[:4])):
        path = folder / ("deeper" if number > 1 else "") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.open(io.BytesIO(encoded)).save(path)
    return folder


@pytest.fixture
def scores(tflite):
    """Returns the scores that the evaluation recorded of the first four test images."""
    return lambda variant: np.load(tflite.with_name(f"predictions_{variant}.npz"))["scores"][:4]


def names_of(folder):
    return [str(folder / name) for name in ("0.png", "1.png", "deeper/2.png", "deeper/3.png")]


def test_run_gives_the_top_classes_of_every_photograph_of_a_folder_by_each_model(mb, tflite, folder, scores, capsys):
    assert mb("predict", tflite.parent, folder, "--top", "2") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[::3] == names_of(folder)
    for start, variant in ((1, "float32"), (2, "int8_per_channel")):
        for line, row in zip(lines[start::3], scores(variant), strict=True):
            first, second = np.argsort(-row, kind="stable")[:2]
            assert line.split() == [variant, f"{first}:", f"{row[first]:.3f},", f"{second}:", f"{row[second]:.3f}"]


def test_a_tflite_of_a_run_predicts_alone_with_the_contract_of_the_run(mb, tflite, folder, scores, capsys):
    assert mb("predict", tflite, folder, "--json") == 0
    objects = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [own["path"] for own in objects] == names_of(folder)
    for own, row in zip(objects, scores("int8_per_channel"), strict=True):
        assert list(own["scores"]) == ["int8_per_channel"]
        of_classes = own["scores"]["int8_per_channel"]
        assert list(of_classes.values()) == sorted(of_classes.values(), reverse=True)
        assert np.allclose([of_classes[str(digit)] for digit in range(10)], row)


@pytest.mark.parametrize(
    ("order", "names"), [((), "0123456789"), (("--class-order", "a,b,c,d,e,f,g,h,i,j"), "abcdefghij")]
)
def test_classes_of_a_model_from_elsewhere_are_numbered_unless_named(mb, tflite, folder, scores, order, names, capsys):
    assert mb("predict", tflite, folder, "--csv", "--top", "1", *CONTRACT, *order) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["path"] for row in rows] == names_of(folder)
    assert {row["model"] for row in rows} == {"int8_per_channel.tflite"}
    expected = scores("int8_per_channel")
    assert [row["class"] for row in rows] == [names[best] for best in expected.argmax(axis=1)]
    assert np.allclose([float(row["score"]) for row in rows], expected.max(axis=1), atol=1e-5)


@pytest.mark.parametrize("written", [[], ["--json"], ["--csv"]])
def test_files_that_are_no_images_are_named_and_the_rest_goes_on(mb, tflite, folder, written, capsys):
    (folder / "broken.jpg").write_text("no image")
    (folder / "notes.txt").write_text("is not looked at")
    assert mb("predict", tflite, folder, folder / "gone.png", *written) == 2
    out, errors = capsys.readouterr()
    assert all(name in out for name in names_of(folder)) and "broken" not in out and "notes" not in out + errors
    broken, gone = errors.splitlines()
    assert "broken.jpg is unreadable (not a JPEG" in broken and "cannot read" in gone and "gone.png" in gone


def test_images_of_folders_are_sorted_without_hidden_ones_each_once(folder):
    for name in (".hidden/a.png", ".b.png", "deeper/C.JPG", "deeper/d.heic"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    (folder / "deeper" / "loop").symlink_to(folder)
    found = photographs.find([folder / "deeper" / "3.png", folder])
    names = ["deeper/3.png", "0.png", "1.png", "deeper/2.png", "deeper/C.JPG", "deeper/d.heic"]
    assert [str(path.relative_to(folder)) for path in found] == names


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        ("tflite", [], "the following arguments are required: PHOTO; see mb predict --help"),
        ("tflite", ["EMPTY"], "holds no images: give the path of an image, or of a folder"),
        ("tflite", ["PHOTOS", "--top", "0"], "'0' is not a number of classes, such as 3"),
        ("tflite", ["PHOTOS", "--json", "--csv"], "not allowed with argument --json"),
        ("tflite", ["PHOTOS", "--color-mode", "rgb"], "takes images of 32x32x1, not 32x32x3"),
        ("tflite", ["PHOTOS", "--class-order", "a,b"], "has 10 classes, --class-order 2"),
        ("run", ["PHOTOS", "--fit", "crop"], "has its own preprocessing and classes: leave out --fit"),
        ("none_such", ["PHOTOS"], "no run 'none_such' in"),
        ("none_such.tflite", ["PHOTOS"], "none_such.tflite"),
        ("", ["PHOTOS"], "argument MODEL: is empty"),
    ],
)
def test_predict_names_bad_input(mb, tflite, tiny_results, folder, tmp_path, model, arguments, message, capsys):
    (tmp_path / "empty").mkdir()
    places = {"PHOTOS": folder, "EMPTY": tmp_path / "empty"}
    model = {"tflite": tflite, "run": tflite.parent.name}.get(model, model)
    given = [places.get(argument, argument) for argument in arguments]
    assert mb("predict", model, *given, "--results-dir", tiny_results) == 2
    captured = capsys.readouterr()
    assert message in captured.err and captured.err.count("\n") == 1 and captured.out == ""
