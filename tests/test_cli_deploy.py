"""The command `mb deploy` on a .tflite from elsewhere: the contract comes from options."""

import json

import keras
import pytest
from deploy_models import images
from foreign_models import CLASSES, classifier, tflite, to_tflite
from PIL import Image
from tflite_models import made_once

from mbutils.deploy import measure

OPTIONS = ("--interpolation", "bilinear", "--class-order", ",".join(CLASSES))


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(tflite("shapes computed"))
    return path


@pytest.fixture
def without_target(monkeypatch):
    """Leaves out the emulated board, which other tests measure on."""
    monkeypatch.setattr(measure, "missing_tools", lambda: ["qemu-system-arm"])


def test_folder_passes_and_records_the_contract(mb, model, tmp_path, without_target, capsys):
    out = tmp_path / "c"
    assert mb("deploy", model, "--out", out, "--vectors", "3", "--fit", "crop", *OPTIONS) == 0
    assert "3 test images on this computer: PASS" in capsys.readouterr().out
    facts = json.loads((out / "deploy.json").read_text())
    assert facts["model"] == "model.tflite" and tuple(facts["class_names"]) == CLASSES
    contract = {"image_size": 32, "color_mode": "rgb", "interpolation": "bilinear", "fit": "crop"}
    assert contract.items() <= facts["preprocessing"].items()
    assert (out / "README.md").read_text().startswith("# model.tflite\n")
    assert "PREPROCESS_BILINEAR" in (out / "preprocess.h").read_text()


def test_channels_that_leave_are_counted(mb, tmp_path, without_target, capsys):
    (tmp_path / "dead.tflite").write_bytes(tflite("dead channels"))
    assert mb("deploy", tmp_path / "dead.tflite", "--out", tmp_path / "c", *OPTIONS) == 0
    printed, facts = capsys.readouterr().out, json.loads((tmp_path / "c" / "deploy.json").read_text())
    assert 0 < facts["constant_channels"] < 240 and facts["macs"] < facts["predicted"]["macs"]
    assert f"channels left out, the same for every image: {facts['constant_channels']}\n" in printed
    assert f"MACs: {facts['macs']:,} instead of {facts['predicted']['macs']:,}\n" in printed
    text = (tmp_path / "c" / "README.md").read_text()
    assert f"left out: {facts['constant_channels']} channels" in text
    assert f"flash: {facts['weights_flash_bytes']:,} bytes" in text


def test_photographs_become_test_images_and_a_file_names_the_classes(mb, model, tmp_path, without_target):
    (tmp_path / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    (tmp_path / "photos").mkdir()
    for number, pixels in enumerate(images(3, (40, 50, 3))):
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.png")
    given = ("--interpolation", "area", "--class-order", tmp_path / "classes.txt", "--photos", tmp_path / "photos")
    assert mb("deploy", model, "--out", tmp_path / "c", *given) == 0
    facts = json.loads((tmp_path / "c" / "deploy.json").read_text())
    assert facts["vectors"] == 3 and tuple(facts["class_names"]) == CLASSES
    assert "are photographs" in (tmp_path / "c" / "README.md").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "is no model of a run: give --out, --interpolation, --class-order; --interpolation is missing"),
        (OPTIONS[:2], "--class-order is missing"),
        (OPTIONS[2:], "--interpolation is missing"),
        ((*OPTIONS[:3], "a,b"), "has 5 classes, --class-order 2"),
        ((*OPTIONS, "--variant", "int8_per_channel"), "is the model itself: leave out --variant"),
        ((*OPTIONS, "--color-mode", "gray"), "takes images of 32x32x3, not 32x32x1"),
        ((*OPTIONS, "--photos", "no_such.jpg"), "cannot read no_such.jpg"),
        ((*OPTIONS, "--streamed-layers", "40"), "40 layers cannot be streamed"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(mb, model, tmp_path, options, message, capsys):
    assert mb("deploy", model, "--out", tmp_path / "c", *options) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not (tmp_path / "c").exists()


def test_the_output_folder_must_be_named(mb, model, capsys):
    assert mb("deploy", model, *OPTIONS) == 2
    assert "--out is missing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("float32", lambda: to_tflite(classifier(), quantized=False), "a float32 model, no tensor is quantized"),
        ("int16", lambda: to_tflite(classifier(), int16=True), "works with INT16"),
        ("two inputs", lambda: to_tflite(two_inputs()), "one image input and one output"),
        ("one score", lambda: to_tflite(one_score()), "gives one score"),
        ("two outputs", lambda: to_tflite(two_outputs()), "one image input and one output"),
    ],
)
def test_other_models_are_refused_by_name(mb, tmp_path, name, make, message, capsys):
    path = tmp_path / "other.tflite"
    path.write_bytes(made_once(f"foreign {name}", make))
    assert mb("deploy", path, "--out", tmp_path / "c", *OPTIONS) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"mb: error: {path}") and message in error and error.count("\n") == 1


def two_inputs():
    model = classifier()
    other = keras.Input((32, 32, 3))
    return keras.Model([model.input, other], model.output + model(other))


def two_outputs():
    model = classifier()
    return keras.Model(model.input, [model.output, model.layers[-2].output])


def one_score():
    model = classifier(softmax=False)
    return keras.Model(model.inputs[0], keras.layers.Dense(1, "sigmoid")(model.layers[-2].output))
