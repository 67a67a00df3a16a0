"""The command `mb evaluate`: models of runs and from elsewhere, on parts of datasets and on folders of photographs."""

import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageOps
from stand_ins import Network

from mbutils import runs
from mbutils.config import TrainParameters
from mbutils.data import folder
from mbutils.report import tables
from mbutils.runs import classifiers


def test_evaluate_scores_a_model_from_elsewhere_as_its_run_did(mb, tflite, tiny_results, capsys):
    assert mb("evaluate", tflite, "--dataset", "digits", "--interpolation", "bilinear") == 0
    table = runs.results_table(tiny_results).set_index("variant")
    assert f"top-1 {100 * table.loc['int8_per_channel', 'top1']:.2f} % (" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("order", "class_at"), [("0,1,2,3,4,5,6,7,8,9", range(10)), ("9,8,7,6,5,4,3,2,1,0", range(9, -1, -1))]
)
def test_evaluate_takes_the_class_order_of_the_model(mb, tflite, order, class_at, capsys):
    assert mb("evaluate", tflite, "--dataset", "digits", "--interpolation", "bilinear", "--class-order", order) == 0
    predictions = np.load(tflite.with_name("predictions_int8_per_channel.npz"))
    top1 = np.mean(np.array(class_at)[predictions["scores"].argmax(axis=1)] == predictions["labels"])
    assert f"top-1 {100 * top1:.2f} % (" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--dataset", "digit"], "unknown dataset 'digit': did you mean 'digits'"),
        (["--dataset", "digits", "--image-size", "48"], "takes images of 32x32x1, not 48x48x1: leave out --image-size"),
        (["--dataset", "digits", "--color-mode", "rgb"], "takes images of 32x32x1, not 32x32x3"),
        (
            ["--dataset", "digits", "--class-order", "a,b"],
            "has 10 classes, --class-order 2: name all of the model's with --class-order",
        ),
        (["--dataset", "digits", "--batch-size", "0"], "batch_size: 0 is too small"),
        (["--interpolation", "cubic"], "interpolation: unknown value 'cubic': choose one of area"),
        (["--fit", "letterbox"], "fit: unknown value 'letterbox'"),
        (["--dataset", "folder"], "dataset folder needs data_dir"),
        (["--image-size", "0"], "image_size: 0 is too small"),
        (["--class-order", ""], "argument --class-order: is empty"),
        (["--class-order", "a,,b"], "--class-order a,,b: names a class twice, or one is empty"),
        (["--class-order", "a,b,"], "names a class twice, or one is empty"),
        (["--class-order", "a,b,a"], "names a class twice, or one is empty"),
        (["--class-order", "a\nb"], "class_order: 'a\\nb' has a control character"),
        (["--data-dir", ""], "argument --data-dir: is empty"),
        (["--data-dir", "a\0b"], "data_dir: 'a\\x00b' has a control character"),
        (["--data-dir", "~nobody_of_this_name"], "home folder of an unknown user"),
    ],
)
def test_evaluate_names_bad_input(mb, tflite, options, message, capsys):
    assert mb("evaluate", tflite, *options) == 2
    captured = capsys.readouterr()
    assert message in captured.err and captured.out == ""


def test_evaluate_refuses_a_dataset_with_other_classes(mb, tflite, flowers, capsys):
    assert mb("evaluate", tflite, "--dataset", "tf_flowers", "--interpolation", "area") == 2
    assert "has 10 classes, tf_flowers 5" in capsys.readouterr().err


def test_evaluate_refuses_a_file_that_is_not_a_model(mb, tmp_path, capsys):
    (tmp_path / "a.tflite").write_text("not a model")
    assert mb("evaluate", tmp_path / "a.tflite", "--dataset", "digits") == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.fixture
def photographs(digits, tmp_path):
    """Writes digits of the test part into a folder of its own for each class; returns it and their positions there."""

    def write(counts, root="new"):
        written = []
        for name, count in counts.items():
            of_class = np.flatnonzero(digits.labels[digits.positions("test")] == int(name))[:count]
            for position, encoded in zip(of_class, digits.encoded(digits.positions("test")[of_class]), strict=True):
                path = tmp_path / root / name / f"{position}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.open(io.BytesIO(encoded)).save(path)
            written += of_class.tolist()
        return tmp_path / "new", written

    return write


def correct(tflite, variant, positions):
    """Returns how many of the test images at these positions a variant of the tiny run classifies rightly."""
    saved = np.load(tflite.with_name(f"predictions_{variant}.npz"))
    return int((saved["scores"].argmax(axis=1) == saved["labels"])[positions].sum())


@pytest.mark.parametrize("root", ["new", "new/test"])
def test_every_photograph_of_a_folder_is_scored_with_all_models_of_a_run(
    mb, tflite, tiny_results, photographs, root, capsys
):
    path, positions = photographs({"3": 12, "0": 1}, root)
    assert mb("evaluate", tflite.parent.name, "--results-dir", tiny_results, "--data-dir", path, "--part", "all") == 0
    out = capsys.readouterr().out
    assert "folder_new: all 13 images" in out
    for variant in ("float32", "int8_per_channel"):
        right = correct(tflite, variant, positions)
        assert f"{variant}: top-1 {100 * right / 13:.2f} % ({right} of 13 images), 95 % interval" in out
    threes = correct(tflite, "int8_per_channel", positions[:12])
    (line,) = (line.split() for line in out.splitlines() if line.startswith("3 "))
    assert (line[1], line[3]) == ("12", f"{threes / 12:.2%}")


def test_a_folder_that_holds_only_a_test_part_is_scored_as_it_is(mb, tflite, tiny_results, photographs, capsys):
    path, _ = photographs({"3": 2, "0": 1}, "new/test")
    assert mb("evaluate", "--results-dir", tiny_results, "--data-dir", path) == 0
    assert "folder_new: test part, 3 of 3 images\n" in capsys.readouterr().out


def test_a_folder_without_parts_is_split_as_for_a_training_unless_all_of_it_is_asked_for(
    mb, tflite, tiny_results, photographs, capsys
):
    path, _ = photographs({"3": 10, "0": 10})
    assert mb("evaluate", "--results-dir", tiny_results, "--data-dir", path) == 0
    assert "folder_new: test part, 4 of 20 images; --part all scores all 20\n" in capsys.readouterr().out


def test_a_model_from_elsewhere_is_scored_on_some_of_its_classes(mb, tflite, photographs, capsys):
    path, positions = photographs({"3": 12, "0": 4})
    order = ["--class-order", "0,1,2,3,4,5,6,7,8,9", "--interpolation", "bilinear"]
    assert mb("evaluate", tflite, "--data-dir", path, "--part", "all", *order) == 0
    assert f"({correct(tflite, 'int8_per_channel', positions)} of 16 images)" in capsys.readouterr().out


def test_a_model_from_elsewhere_is_scored_on_the_middle_of_wide_photographs(mb, tflite, photographs, capsys):
    path, positions = photographs({str(digit): 8 for digit in range(10)})
    for file in path.rglob("*.png"):
        with Image.open(file) as image:
            ImageOps.expand(image, (image.width, 0), 255).save(file)  # three times as wide
    options = ["--data-dir", path, "--part", "all", "--interpolation", "bilinear", "--fit", "crop"]
    assert mb("evaluate", tflite, *options) == 0
    assert f"({correct(tflite, 'int8_per_channel', positions)} of 80 images)" in capsys.readouterr().out


def test_a_tflite_of_a_run_needs_no_options(mb, tflite, photographs, capsys):
    path, positions = photographs({"3": 12, "0": 1})
    assert mb("evaluate", tflite, "--data-dir", path, "--part", "all") == 0
    out = capsys.readouterr().out
    assert f"int8_per_channel: top-1 {100 * correct(tflite, 'int8_per_channel', positions) / 13:.2f} % (" in out
    assert "float32" not in out


def test_a_run_is_scored_on_its_own_test_part(mb, tflite, tiny_results, capsys):
    assert mb("evaluate", tflite.parent, "--results-dir", tiny_results) == 0
    table = runs.results_table(tiny_results).set_index("variant")
    out = capsys.readouterr().out
    assert all(f"{variant}: top-1 {100 * table.loc[variant, 'top1']:.2f} % (" in out for variant in table.index)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["none_such"], "no run 'none_such' in"),
        (["HERE"], "is not the folder of a run: give that, or the id of a run"),
        (["."], ". is not the folder of a run"),
        (["/"], "/ is not the folder of a run"),
        (["a" * 300], "is too long for a path"),
        (["--skip-corrupt"], "is scored on its own images: leave out --skip-corrupt"),
        (["none_such.tflite"], "none_such.tflite"),
        (["--part", "all"], "--part all is for a folder of photographs: give it with --data-dir"),
        (["--part", "all", "--dataset", "digits"], "--part all is for a folder of photographs"),
        (["--part", "train"], "invalid choice: 'train'"),
        (["--interpolation", "area"], "has its own preprocessing and classes: leave out --interpolation"),
        (["--fit", "stretch"], "leave out --fit"),
        (["--class-order", "a,b"], "leave out --class-order"),
        (["--data-dir", "HERE/gone", "--part", "all"], "does not exist"),
        (["--data-dir", "HERE/empty", "--part", "all"], "holds no images"),
        (["--data-dir", "HERE/file.png", "--part", "all"], "is a file: unpack it"),
        (["--data-dir", "HERE/loose", "--part", "all"], "a.png is not in a class folder"),
        (
            ["--data-dir", "HERE/cats", "--part", "all"],
            "folder_cats: class 'cat' is not one of the model's: choose one",
        ),
        (["--data-dir", "HERE/cats/test", "--dataset", "digits"], "data_dir is for dataset folder, not for digits"),
        (["--data-dir", "HERE/cats", "--part", "validation"], "holds no folder of the validation part"),
    ],
)
def test_evaluate_names_what_is_wrong_with_a_run_or_a_folder(mb, tiny_results, tmp_path, options, message, capsys):
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "file.png", tmp_path / "loose" / "a.png", tmp_path / "cats" / "test" / "cat" / "a.png"):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8)).save(path)
    arguments = [option.replace("HERE", str(tmp_path)) for option in options]
    assert mb("evaluate", *arguments, "--results-dir", tiny_results) == 2
    captured = capsys.readouterr()
    assert message in captured.err and captured.out == ""


def test_unreadable_photographs_stop_the_command_or_are_left_out_and_named(mb, tiny_results, photographs, capsys):
    path, _ = photographs({"3": 2, "0": 1})
    (path / "3" / "broken.png").write_text("no image")
    command = ("evaluate", "--results-dir", tiny_results, "--data-dir", path, "--part", "all")
    assert mb(*command) == 2
    assert "1 of 4 images cannot be read: 3/broken.png" in capsys.readouterr().err
    assert mb(*command, "--skip-corrupt") == 0
    assert "all 3 images; left out as unreadable: 3/broken.png (" in capsys.readouterr().out


HISTORY = pd.DataFrame({"validation_top1": [0.5], "seconds": [1.0]})


def test_photographs_that_a_run_has_learned_from_are_known_by_their_pixels(photographs, tmp_path):
    path, _ = photographs({"3": 10, "0": 10})
    parameters = TrainParameters(dataset="folder", data_dir=str(path), weights="none")
    own = folder.load(parameters)
    run = runs.finish(runs.begin(parameters, own, tmp_path), Network("weights"), HISTORY)
    everything = folder.load_to_score(parameters, "all")
    learned = classifiers.learned_from(run, everything, np.arange(20))
    assert learned.tolist() == (own.examples["part"] != "test").tolist() and learned.sum() == 16
    assert classifiers.learned_from(run, everything, own.positions("test")).sum() == 0
    # The run's own images have changed: what it was trained on is not known any more.
    (path / "3" / "other.png").write_bytes(next((path / "0").iterdir()).read_bytes())
    assert classifiers.learned_from(run, everything, np.arange(20)) is None


def test_images_that_a_run_of_a_dataset_with_a_name_has_learned_from_are_not_looked_for(digits, tmp_path):
    begun = runs.begin(TrainParameters(dataset="digits", weights="none"), digits, tmp_path)
    assert classifiers.learned_from(runs.finish(begun, Network("weights"), HISTORY), digits, np.arange(5)) is None


@pytest.mark.parametrize(
    ("learned", "text"),
    [
        (None, "Whether the run was trained on some of these images is not known."),
        ([False] * 4, "The run was trained on or chosen by none of these images."),
        ([True] * 4, "The run was trained on or chosen by all of these images."),
        ([True, True, True, False], "by 3 of these 4 images. On the others:\nm: top-1 0.00 % (0 of 1 images), 95 % in"),
    ],
)
def test_accuracy_on_photographs_that_the_run_has_not_learned_from_is_told(learned, text):
    scores = {"m": np.eye(2, dtype=np.float32)[[0, 1, 0, 0]]}
    learned = None if learned is None else np.array(learned)
    assert text in tables.learned_text(np.array([0, 1, 0, 1]), scores, learned)
