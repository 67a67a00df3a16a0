"""What tasks and models are called: what differs between those shown is in their names."""

import json

import pandas as pd
import pytest

from mbutils.report import labels, plots, selection, tables

ROW = {"dataset": "folder_leaves", "fingerprint": "f", "n_classes": 3, "n_train": 80, "n_test": 20}
ROW |= {"alpha": 0.25, "image_size": 96, "color_mode": "rgb", "variant": "int8_per_channel", "seed": 0}
ROW |= {"run_id": "r", "validation_top1": 0.9, "top1": 0.9, "top1_low": 0.8, "top1_high": 0.95}
PARAMETERS = {"epochs": 30, "weights": "imagenet", "teacher": "", "qat_epochs": 3}


def rows(*changes, **columns):
    """Returns a row of the results for each change of the parameters; each is a configuration."""
    made = [
        {**ROW, "configuration": f"c{number}", "conversion": "", "recorded_parameters": json.dumps(PARAMETERS | change)}
        for number, change in enumerate(changes)
    ]
    return pd.DataFrame(made).assign(**columns)


@pytest.mark.parametrize(
    ("changes", "settings"),
    [
        ([{}], [""]),
        ([{"epochs": 30}, {"epochs": 60}], ["epochs 30", "epochs 60"]),
        (
            [{}, {"epochs": 60}, {"epochs": 60, "fit": "pad"}, {"fit": "crop"}],
            ["epochs 30", "epochs 60", "epochs 60, fit pad", "epochs 30, fit crop"],
        ),
        ([{"teacher": ""}, {"teacher": "/mine/big.yaml"}], ["teacher none", "teacher big.yaml"]),
        ([{"learning_rate": 0.0010}, {"learning_rate": 1e-5}], ["learning_rate 0.001", "learning_rate 1e-05"]),
        # The same name of another file: only the configuration differs.
        ([{"weights": "a/w.keras"}, {"weights": "b/w.keras"}], ["weights w.keras, c0", "weights w.keras, c1"]),
    ],
)
def test_names_have_the_parameters_that_differ_between_the_models_shown(changes, settings):
    named = labels.labelled(rows(*changes))
    assert named["settings"].tolist() == settings
    assert named["model"].tolist() == [f"folder_leaves 0.25 96 px rgb{', ' * bool(text)}{text}" for text in settings]


def test_parameters_of_models_that_size_or_colour_tell_apart_are_not_in_their_names():
    named = labels.labelled(rows({}, {"epochs": 60}, {"epochs": 60}, alpha=[0.25, 0.5, 0.25], image_size=[96, 96, 128]))
    assert named["settings"].tolist() == ["", "", ""]
    shown = tables.parameters(named).data
    assert list(shown) == ["model", "epochs"]
    assert shown["model"].tolist() == named["model"].tolist() and shown["epochs"].tolist() == ["30", "60", "60"]


def test_seeds_and_variants_of_a_model_share_its_name():
    seeds = rows({}, {}, {"epochs": 60}, configuration=["a", "a", "b"], seed=[0, 1, 0])
    trained = ['{"epochs": 30}', '{"epochs": 30}', '{"epochs": 60}']
    variants = seeds.assign(variant="float32", recorded_parameters=trained)
    named = labels.labelled(pd.concat([seeds, variants], ignore_index=True))
    assert named["settings"].tolist() == 2 * ["epochs 30", "epochs 30", "epochs 60"]


def test_conversions_of_a_model_have_names_of_their_own_and_float32_is_drawn_with_each():
    int8 = rows({"qat_epochs": 0}, {"qat_epochs": 3}, configuration="a", conversion=["x", "y"])
    trained = rows({}, configuration="a", variant="float32", recorded_parameters='{"epochs": 30}', conversion=None)
    models = selection.over_seeds(pd.concat([int8, trained], ignore_index=True))
    assert models["settings"].tolist() == ["qat_epochs 0", "qat_epochs 3", ""]
    (ax,) = plots.float_against_int8(models).axes
    assert [text.get_text() for text in ax.get_yticklabels()] == [
        "0.25 96 px rgb, qat_epochs 0",
        "0.25 96 px rgb, qat_epochs 3",
    ]
    points = {drawn.get_label(): len(drawn.get_offsets()) for drawn in ax.collections}
    assert (points["float32"], points["int8_per_channel"]) == (2, 2)


@pytest.mark.parametrize(
    ("columns", "tasks"),
    [
        ({}, ["folder_leaves"] * 3),
        (
            {"fingerprint": ["f", "g", "g"], "n_classes": [3.0, 4.0, 4.0]},
            [f"folder_leaves ({n} classes)" for n in (3, 4, 4)],
        ),
        (
            {"fingerprint": ["f", "g", "h"], "n_classes": [3, 4, 4], "n_train": [80, 90, 91]},
            [
                f"folder_leaves ({facts})"
                for facts in ("3 classes", "4 classes, 90 training images", "4 classes, 91 training images")
            ],
        ),
        (
            {"fingerprint": ["f", "g", "g"], "n_test": [20, 30, 30]},
            [f"folder_leaves ({n} test images)" for n in (20, 30, 30)],
        ),
        ({"fingerprint": ["f", "g", "g"]}, ["folder_leaves (f)", "folder_leaves (g)", "folder_leaves (g)"]),
        ({"fingerprint": ["f", "g", "g"], "dataset": ["digits", "a", "a"]}, ["digits", "a", "a"]),
    ],
)
def test_tasks_on_data_of_one_name_are_told_apart(columns, tasks):
    assert labels.labelled(rows({}, {}, {}, **columns))["task"].tolist() == tasks


def test_models_of_different_tasks_need_no_parameters_in_their_names():
    named = labels.labelled(rows({}, {"epochs": 60}, fingerprint=["f", "g"], n_classes=[3, 4]))
    assert named["model"].tolist() == [f"folder_leaves ({n} classes) 0.25 96 px rgb" for n in (3, 4)]


def test_no_models_need_no_names():
    assert {"task", "settings", "model"} <= set(labels.labelled(rows({}).iloc[:0]))
