from dataclasses import replace
from pathlib import Path

import pytest

from mbutils.config import PROJECT, ConvertParameters, Preprocessing, TrainParameters, read_recipe, resolve_results_dir
from mbutils.errors import WorkbookError


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"alhpa": 0.5}, "unknown parameter 'alhpa': did you mean 'alpha'?"),
        ({"alpha": 0.01}, "alpha: 0.01 is too small: the least is 0.1"),
        ({"alpha": 3}, "alpha: 3.0 is too large: the most is 2.0"),
        ({"alpha": float("nan")}, "alpha: nan is too small"),
        ({"alpha": "0.5"}, "alpha: expected float, got str '0.5'"),
        ({"learning_rate": "1e-3"}, "write 0.001 instead of 1e-3"),
        ({"image_size": 16}, "image_size: 16 is too small: the least is 32"),
        ({"image_size": 96.0}, "image_size: expected int, got float 96.0"),
        ({"epochs": True}, "epochs: expected int, got bool True"),
        ({"color_mode": "grey"}, "color_mode: unknown value 'grey': did you mean 'gray'?"),
        ({"interpolation": "cubic"}, "interpolation: unknown value 'cubic': choose one of area"),
        ({"weights": None}, "weights: expected str, got NoneType None"),
    ],
)
def test_bad_parameter_is_named_with_the_way_out(values, message):
    with pytest.raises(WorkbookError) as caught:
        TrainParameters.from_dict(values)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


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


def test_parameter_misspelt_by_hand_is_named_and_can_be_mended():
    misspelt, mended = 'run_idd: str = ""\nvariant: str = "int8_per_channel"', 'variant: str = "int8_per_channel"'
    with pytest.raises(WorkbookError, match="did you mean 'run_id'"):
        ConvertParameters.from_notebook(namespace(misspelt, run_idd=""))
    assert ConvertParameters.from_notebook(namespace(misspelt, mended, run_idd="")) == ConvertParameters()


def test_parameter_whose_line_was_deleted_is_named():
    values = namespace('variant: str = "int8_per_channel"')
    del values["run_id"]
    with pytest.raises(WorkbookError, match="parameter 'run_id' is missing"):
        ConvertParameters.from_notebook(values)


def test_variables_of_later_cells_are_not_taken_for_parameters():
    cells = ['variant = "int8_per_channel"', "accuracy = compute()", "note = 3"]
    assert ConvertParameters.from_notebook(namespace(*cells, accuracy=0.9, note=3)) == ConvertParameters()


def test_error_shows_as_one_line_in_a_notebook():
    assert WorkbookError("no such thing")._render_traceback_() == ["WorkbookError: no such thing"]


def test_run_id_is_readable_and_ends_with_a_hash():
    run_id = TrainParameters(alpha=0.25, image_size=96, seed=3).run_id("fingerprint")
    assert run_id.startswith("tf_flowers_mobilenet_v1_0.25_96_rgb_s3_")
    assert len(run_id.rsplit("_", 1)[1]) == 8


@pytest.mark.parametrize(
    "change", [{"alpha": 0.5}, {"learning_rate": 0.1}, {"min_crop_area": 0.9}, {"interpolation": "nearest"}]
)
def test_run_id_depends_on_what_determines_the_result(change):
    parameters = TrainParameters()
    assert replace(parameters, **change).run_id("f") != parameters.run_id("f")
    assert parameters.run_id("f") != parameters.run_id("other data")


def test_neutral_value_leaves_the_run_id_as_it_was_before_the_parameter():
    plain, weighted = TrainParameters().run_id("f"), TrainParameters(class_weight="balanced").run_id("f")
    assert plain == "tf_flowers_mobilenet_v1_0.25_96_rgb_s0_ad6147a8"
    assert weighted != plain


def test_own_images_are_named_by_their_folder_and_known_by_what_is_in_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    here = TrainParameters(dataset="folder", data_dir="my images!")
    assert here.data_dir == str(tmp_path / "my images!")
    assert here.run_id("f").startswith("folder_my-images-_mobilenet_v1_0.25_96_rgb_s0_")
    moved = replace(here, data_dir="elsewhere/my images!")
    assert moved.run_id("f") == here.run_id("f") != here.run_id("g")


def test_run_id_does_not_depend_on_where_results_go():
    assert replace(TrainParameters(), results_dir="elsewhere").run_id("f") == TrainParameters().run_id("f")


@pytest.fixture
def recipes(tmp_path):
    """Writes a recipe and returns its path."""

    def write(name, text):
        path = tmp_path / f"{name}.yaml"
        path.write_text(text.replace("HERE", str(tmp_path)))
        return str(path)

    return write


def test_teacher_is_trained_by_its_recipe_on_the_same_data_and_seed(recipes):
    recipe = recipes("teacher", "{alpha: 0.75, image_size: 64, dataset: digits, seed: 7}")
    student = TrainParameters(teacher=recipe, seed=3, validation_fraction=0.2, epochs=99)
    expected = TrainParameters(alpha=0.75, image_size=64, seed=3, validation_fraction=0.2)
    assert student.teacher_parameters == expected
    assert TrainParameters().teacher_parameters is None


def test_run_id_depends_on_what_is_in_the_teachers_recipe(recipes):
    first = TrainParameters(teacher=recipes("teacher", "alpha: 0.75")).run_id("f")
    assert TrainParameters(teacher=recipes("teacher", "alpha: 0.5")).run_id("f") != first


def test_recipe_is_found_by_its_name():
    assert read_recipe("flowers_0.25_96_gray")["color_mode"] == "gray"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("alhpa: 0.5", "unknown parameter 'alhpa': did you mean 'alpha'"),
        ("- 0.5", "a recipe is a mapping of parameters"),
        ("a: [", "is no YAML file"),
        ("teacher: HERE/teacher.yaml", "a recipe cannot teach itself"),
    ],
)
def test_bad_recipe_of_a_teacher_is_refused(recipes, text, message):
    with pytest.raises(WorkbookError, match=message):
        TrainParameters(teacher=recipes("teacher", text)).run_id("f")


def test_unknown_recipe_is_named_with_the_nearest():
    with pytest.raises(WorkbookError, match=r"no recipe 'flowers_0.25_96_grey' .*did you mean 'flowers_0.25_96_gray'"):
        TrainParameters(teacher="flowers_0.25_96_grey")
    with pytest.raises(WorkbookError, match=r"cannot read .*nowhere.yaml"):
        TrainParameters(teacher="nowhere.yaml")


def test_results_dir_defaults_to_the_project_and_else_counts_from_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert resolve_results_dir("") == PROJECT / "results"
    assert resolve_results_dir("mine") == tmp_path / "mine"
    assert resolve_results_dir("~/mine") == Path.home() / "mine"


@pytest.mark.parametrize(("color_mode", "channels"), [("rgb", 3), ("gray", 1)])
def test_preprocessing_contract_knows_the_shape_of_an_image(color_mode, channels):
    assert Preprocessing(96, color_mode, "area").shape == (96, 96, channels)
