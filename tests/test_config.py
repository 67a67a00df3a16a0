import math
from dataclasses import fields
from pathlib import Path

import pytest

from mbutils.config import (
    EDITIONS,
    NEWEST_EDITION,
    PROJECT,
    RECIPES,
    Budget,
    CompareParameters,
    ConvertParameters,
    DeployParameters,
    ModelParameters,
    Preprocessing,
    TrainParameters,
    read_recipe,
    resolve_results_dir,
    suited,
)
from mbutils.errors import WorkbookError, nearest


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"alhpa": 0.5}, "unknown parameter 'alhpa': did you mean 'alpha'?"),
        ({"alpha": 0.01}, "alpha: 0.01 is too small: the minimum is 0.1"),
        ({"alpha": 3}, "alpha: 3.0 is too large: the maximum is 2.0"),
        ({"alpha": float("nan")}, "alpha: nan is not a finite number"),
        ({"mixup": math.inf}, "mixup: inf is not a finite number"),
        ({"learning_rate": -math.inf}, "learning_rate: -inf is not a finite number"),
        ({"learning_rate": 0.0}, "learning_rate: 0.0 is too small"),
        ({"seed": 2**32}, "seed: 4294967296 is too large: the maximum is 4294967295"),
        ({"alpha": 0.3}, "no ImageNet weights for alpha 0.3: choose 0.25, 0.5, 0.75, 1.0, or weights none"),
        ({"epochs": 3, "late_epochs": 4}, "late_epochs: 4 of 3 epochs: lower late_epochs, or raise epochs"),
        ({"epochs": 3, "early_epochs": 4}, "early_epochs: 4 of 3 epochs"),
        ({"epochs": 1, "warmup_epochs": 1.5}, "warmup_epochs: 1.5 of 1 epochs"),
        ({"alpha": "0.5"}, "alpha: expected float, got str '0.5'"),
        ({"learning_rate": "1e-3"}, "write 0.001 instead of 1e-3"),
        ({"image_size": 16}, "image_size: 16 is too small: the minimum is 32"),
        ({"image_size": 96.0}, "image_size: expected int, got float 96.0"),
        ({"epochs": True}, "epochs: expected int, got bool True"),
        ({"color_mode": "grey"}, "color_mode: unknown value 'grey': did you mean 'gray'?"),
        ({"interpolation": "cubic"}, "interpolation: unknown value 'cubic': choose one of area"),
        ({"fit": "padded"}, "fit: unknown value 'padded': did you mean 'pad'"),
        ({"fit": "letterbox"}, "fit: unknown value 'letterbox': choose one of stretch, crop, pad"),
        ({"weights": None}, "weights: expected str, got NoneType None"),
    ],
)
def test_bad_parameter_is_named_with_the_way_out(values, message):
    with pytest.raises(WorkbookError) as caught:
        TrainParameters.from_dict(values)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "values",
    [
        {"weights": "none", "alpha": 0.3},
        {"weights": "mine.keras", "alpha": 1.5},
        {"epochs": 3, "early_epochs": 3, "late_epochs": 3, "warmup_epochs": 3},
        {"seed": 2**32 - 1},
        {"class_weight": "balanced"},
    ],
)
def test_unusual_values_are_taken(values):
    assert vars(TrainParameters.from_dict(values)).items() >= values.items()


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (kind, spec.name)
        for kind in (TrainParameters, ConvertParameters, DeployParameters, Budget, ModelParameters)
        for spec in fields(kind)
        if spec.type is float
    ],
)
def test_no_number_is_infinite(kind, name):
    with pytest.raises(WorkbookError, match=f"{name}: inf is not a finite number"):
        kind.from_dict({name: math.inf})


@pytest.mark.parametrize("recipe", sorted(path.stem for path in RECIPES.glob("*.yaml")))
def test_every_recipe_holds_valid_values(recipe):
    assert suited(TrainParameters.from_dict(read_recipe(recipe)), 2000).epochs > 0


def test_edition_that_papermill_takes_for_a_number_is_the_edition():
    assert CompareParameters.from_dict({"edition": 4.0, "costs_of": 2.1}).edition == "4.0"
    assert CompareParameters().edition == NEWEST_EDITION


def test_unknown_edition_is_answered_with_all_there_are():
    with pytest.raises(WorkbookError, match=f"edition: unknown value '4.2': choose one of {', '.join(EDITIONS)}$"):
        CompareParameters(edition="4.2")


def test_whole_number_serves_where_a_float_is_expected():
    assert TrainParameters.from_dict({"alpha": 1}).alpha == 1.0


def namespace(*cells, **values):
    return {"In": ["", *cells], **vars(ConvertParameters()), **values}


def test_notebook_parameters_are_read_from_the_namespace():
    cells = ['run_id: str = ""\nvariant: str = "int8_per_channel"', '# Parameters\nvariant = "int8_per_tensor"']
    parameters = ConvertParameters.from_notebook(namespace(*cells, variant="int8_per_tensor"))
    assert parameters == ConvertParameters(variant="int8_per_tensor")


def test_misspelt_parameter_injected_by_papermill_is_named():
    with pytest.raises(WorkbookError, match="unknown parameter 'runid': did you mean 'run_id'"):
        ConvertParameters.from_notebook(namespace('run_id = ""', '# Parameters\nrunid = "a"', runid="a"))


def test_parameter_whose_line_was_deleted_is_named():
    values = namespace('variant: str = "int8_per_channel"')
    del values["run_id"]
    with pytest.raises(WorkbookError, match="parameter 'run_id' is missing"):
        ConvertParameters.from_notebook(values)


@pytest.mark.parametrize("scratch", ["seed = 4", "variant = 'int8_per_tensor'", "note = 3\naccuracy = compute()"])
def test_a_scratch_cell_neither_adds_a_parameter_nor_switches_off_the_check(scratch):
    injected = '# Parameters\nvariant = "int8_per_channel"\n'
    assert ConvertParameters.from_notebook(namespace(injected, scratch, seed=4, note=3)) == ConvertParameters()
    with pytest.raises(WorkbookError, match="unknown parameter 'runid'"):
        ConvertParameters.from_notebook(namespace('# Parameters\nrunid = "a"\n', scratch, runid="a", seed=4))


def test_error_shows_as_one_line_in_a_notebook():
    assert WorkbookError("no such thing")._render_traceback_() == ["WorkbookError: no such thing"]


def test_recipe_stands_in_for_the_defaults_below_what_is_set_in_the_notebook(recipes):
    recipe = recipes("mine", "{alpha: 0.5, epochs: 7, dropout: 0.3}")
    injected = ["", "# Parameters\ndropout = 0.1\n"]
    cells = {**vars(TrainParameters()), "recipe": recipe, "epochs": 9, "dropout": 0.1, "In": injected}
    expected = TrainParameters(recipe=recipe, alpha=0.5, epochs=9, dropout=0.1)
    assert TrainParameters.from_notebook(cells) == expected


def test_recipe_builds_on_another_and_holds_what_it_changes(recipes):
    recipes("base", "{alpha: 0.5, epochs: 7}")
    assert read_recipe(recipes("mine", "{recipe: HERE/base.yaml, epochs: 9}")) == {"alpha": 0.5, "epochs": 9}


def test_recipe_is_found_by_its_name():
    assert read_recipe("flowers_0.25_96_gray")["color_mode"] == "gray"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- 0.5", "a recipe is a mapping of parameters"),
        ("a: [", "is not a YAML file"),
        ("recipe: HERE/mine.yaml", "a recipe cannot build on itself"),
        ("recipe: HERE/gone.yaml", "cannot read .*gone.yaml"),
    ],
)
def test_bad_recipe_is_refused(recipes, text, message):
    with pytest.raises(WorkbookError, match=message):
        read_recipe(recipes("mine", text))


def test_unknown_recipe_is_named_with_the_nearest():
    with pytest.raises(WorkbookError, match=r"no recipe 'flowers_0.25_96_grey' .*did you mean 'flowers_0.25_96_gray'"):
        read_recipe("flowers_0.25_96_grey")
    with pytest.raises(WorkbookError, match=r"cannot read .*nowhere.yaml"):
        read_recipe("nowhere.yaml")


def test_results_dir_defaults_to_the_project_and_else_counts_from_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert resolve_results_dir("") == PROJECT / "results"
    assert resolve_results_dir("mine") == tmp_path / "mine"
    assert resolve_results_dir("~/mine") == Path.home() / "mine"


@pytest.mark.parametrize(("color_mode", "channels"), [("rgb", 3), ("gray", 1)])
def test_preprocessing_contract_knows_the_shape_of_an_image(color_mode, channels):
    assert Preprocessing(96, color_mode, "area").shape == (96, 96, channels)


@pytest.mark.parametrize("values", [{"batch_norm_statistics": "frozen"}, {"initial_classifier": "probe"}])
def test_what_start_weights_are_needed_for_is_refused_without_them(values):
    with pytest.raises(WorkbookError, match="needs start weights: choose weights other than none"):
        TrainParameters(weights="none", **values)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("run_s3_ab", "did you mean 'run_s3_aa' or 'run_s30_ac' or 'run_s13_ae'?"),
        ("xyz", "choose one of a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11 or 2003 more"),
    ],
)
def test_a_hint_names_a_few_of_many_names(name, hint):
    runs = ["run_s3_aa", "run_s30_ac", "run_s13_ae"]
    assert nearest(name, [f"a{number}" for number in range(2012)] + runs) == hint


@pytest.mark.parametrize(("variant", "expected"), [("int8_per_channel", (3, 0.0001)), ("int4_pointwise", (8, 0.0002))])
def test_fine_tuning_left_open_suits_the_variant(variant, expected):
    parameters = ConvertParameters(variant=variant)
    assert (parameters.qat_epochs, parameters.qat_learning_rate) == expected
    by_hand = ConvertParameters(variant=variant, qat_epochs=0, qat_learning_rate=0.1)
    assert (by_hand.qat_epochs, by_hand.qat_learning_rate) == (0, 0.1)


def test_layers_kept_at_int8_are_pointwise_ones_and_recorded_where_they_count():
    parameters = ConvertParameters(variant="int4_pointwise", int8_layers="conv_pw_1, conv_pw_13")
    assert parameters.kept_at_int8 == ("conv_pw_1", "conv_pw_13")
    assert parameters.conversion["int8_layers"] == "conv_pw_1, conv_pw_13"
    assert "int8_layers" not in ConvertParameters(int8_layers="conv_pw_1").conversion
    with pytest.raises(WorkbookError, match="int8_layers: no pointwise layer 'conv_pw_14': did you mean 'conv_pw_"):
        ConvertParameters(int8_layers="conv_pw_14")
