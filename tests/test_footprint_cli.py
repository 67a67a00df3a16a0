"""`mb footprint`, untrained models, and their costs compared with the published ones."""

import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import Mock

import pandas as pd
import pytest
from deploy_models import tflite as mobilenet
from tflite_models import tflite

from mbutils import cli, runs
from mbutils.config import EDITIONS, FIRST_EDITION, ModelParameters
from mbutils.device import costs, published
from mbutils.report import before_training

COST_COLUMNS = [*costs.FOOTPRINT_COLUMNS, *costs.LATENCY_COLUMNS]


@pytest.fixture(scope="session")
def model_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "mobilenet.tflite"
    path.write_bytes(tflite("mobilenet_v1 0.25/224/3"))
    return str(path)


@pytest.fixture(scope="session")
def compared():
    ours = before_training.published_configurations(pd.DataFrame(columns=runs.RESULT_COLUMNS))
    return costs.with_published(ours)


def test_table_has_figures_bands_and_how_far_they_hold(model_path, capsys):
    assert cli.main(["footprint", model_path]) == 0
    lines = capsys.readouterr().out.splitlines()

    def line(start):
        return next(line for line in lines if line.startswith(start)).split()

    assert line("activation RAM")[2:] == ["202.14", "206,992"]
    assert line("weights flash")[2:] == ["214.69", "219,844"]
    assert line("code flash")[-1] == "estimate" and ".." in line("code flash")
    assert line("latency on STM32H747")[-1] == "estimate" and ".." in line("latency on STM32MP157")
    text = "\n".join(lines)
    assert "conv_dw_2 (op 4)" in text
    assert "STM32Cube.AI 7.3.0" in text and "272.96 KiB" in text


def test_other_networks_than_mobilenet_v1_have_a_range_of_activation_ram(tmp_path, capsys):
    path = tmp_path / "resnet32.tflite"
    path.write_bytes(tflite("resnet32"))
    assert cli.main(["footprint", str(path)]) == 0
    text = capsys.readouterr().out
    assert "55.28      56,608   50.26 .. 61.42   estimate" in text
    assert "one of them with shortcuts, they are off by 2.5 and 10 %" in text


def test_json_has_the_columns_of_the_results_table(model_path, capsys):
    assert cli.main(["footprint", model_path, "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert set(COST_COLUMNS) | {"param_count", "macs", "tflite_bytes"} <= set(values)
    assert set(COST_COLUMNS) <= set(runs.RESULT_COLUMNS)
    assert values["activation_ram_bytes"] == 206_992
    assert values["total_ram_bytes_low"] < values["total_ram_bytes"] < values["total_ram_bytes_high"]
    assert values["latency_ms_stm32mp157_low"] < values["latency_ms_stm32mp157"]


def test_a_file_is_sized_without_tensorflow(model_path):
    code = (
        "import sys; from mbutils import cli; cli.main(sys.argv[1:]);"
        "print([m for m in ('tensorflow', 'keras', 'matplotlib') if m in sys.modules])"
    )
    output = subprocess.check_output([sys.executable, "-c", code, "footprint", model_path], text=True)
    assert output.splitlines()[-1] == "[]"


def test_an_edition_gives_the_figures_of_its_tool(model_path, capsys):
    assert cli.main(["footprint", model_path, "--costs-of", "4.1"]) == 0
    text = capsys.readouterr().out
    assert "ST Edge AI Core 4.0.0" in text and "latency on STM32N6" in text
    assert cli.main(["footprint", model_path, "--costs-of", "4.1", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["activation_ram_bytes_low"] <= 277_545 <= values["activation_ram_bytes_high"]
    assert values["total_flash_bytes"] < 270_000


def test_an_unknown_edition_is_answered_with_all_there_are(model_path, capsys):
    assert cli.main(["footprint", model_path, "--costs-of", "4.2"]) == 2
    assert f"costs_of: unknown value '4.2': choose one of {', '.join(EDITIONS)}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give a MODEL.tflite, or one of --alpha"),
        (["{model}", "--alpha", "0.5"], "not both"),
        (["{model}", "--n-classes", "5"], "not both"),
        (["--alpha", "9"], "alpha: 9.0 is too large: the maximum is 2.0"),
        (["--image-size", "8"], "image_size: 8 is too small"),
        (["--n-classes", "1"], "n_classes: 1 is too small"),
        (["no.tflite"], "no.tflite: cannot be read"),
    ],
)
def test_bad_input_is_one_line_and_status_2(arguments, message, model_path, capsys):
    assert cli.main(["footprint", *(argument.format(model=model_path) for argument in arguments)]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and message in captured.err
    assert len(captured.err.splitlines()) == 1


def test_an_untrained_model_is_named_by_options_with_defaults(compared, capsys):
    assert cli.main(["footprint", "--color-mode", "gray", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["activation_ram_bytes"] / 1024 == pytest.approx(38.64, abs=0.005)
    assert values["weights_flash_bytes"] / 1024 == pytest.approx(214.55, abs=0.005)


def test_an_untrained_model_is_converted_once(compared, monkeypatch):
    def fail(*arguments):
        raise AssertionError("converted again")

    monkeypatch.setattr(before_training, "_converted", fail)
    before_training.tflite(ModelParameters(0.25, 96, "gray", 5))
    with pytest.raises(AssertionError):
        before_training.tflite(ModelParameters(0.25, 96, "gray", 6))


def test_untrained_models_are_made_once_and_again_when_damaged(monkeypatch, tmp_path):
    monkeypatch.setenv("MB_CACHE_DIR", str(tmp_path))
    convert = Mock(return_value=b"a model")
    monkeypatch.setattr(before_training, "_converted", convert)
    all_there = threading.Barrier(4)

    def model():
        all_there.wait()
        return before_training.tflite(ModelParameters())

    with ThreadPoolExecutor(4) as pool:
        models = [future.result() for future in [pool.submit(model) for _ in range(4)]]
    assert models == [b"a model"] * 4 and convert.call_count == 1
    (stored,) = tmp_path.rglob("*.tflite.gz")
    for damaged in (stored.read_bytes()[:-1], stored.read_bytes().replace(b"model", b"motel"), b""):
        stored.write_bytes(damaged)
        assert before_training.tflite(ModelParameters()) == b"a model"
    assert convert.call_count == 4


def test_the_untrained_model_costs_what_the_trained_one_does(tiny_results):
    trained = runs.results_table(tiny_results).set_index("variant").loc["int8_per_channel"]
    assert trained[["alpha", "image_size", "color_mode", "n_classes"]].tolist() == [0.25, 32, "gray", 10]
    expected = before_training.row(ModelParameters(0.25, 32, "gray", 10))
    assert trained[COST_COLUMNS].to_dict() == pytest.approx({column: expected[column] for column in COST_COLUMNS})


def test_the_results_table_has_the_accuracy_of_the_int8_model_on_validation(tiny_results):
    run = runs.find(tiny_results)
    table = runs.results_table(tiny_results).set_index("variant")
    assert "validation_top1" in run.manifest["variants"]["int8_per_channel"]
    assert table.loc["float32", "validation_top1"] == run.manifest["validation_top1"]
    n_validation = run.manifest["dataset"]["n_validation"]
    images = table.loc["int8_per_channel", "validation_top1"] * n_validation
    assert images == pytest.approx(round(images))


# Compared with the published.


def test_every_published_cell_is_there_once(compared):
    times = published.flowers(published.latency())
    assert len(compared) == 4 * 6 + (times["edition"] == FIRST_EDITION).sum()
    assert not compared.duplicated(["alpha", "image_size", "color_mode", "column"]).any()
    assert compared["ours"].notna().all()


@pytest.mark.parametrize(
    ("column", "most"),
    [
        ("activation_ram_bytes", 0.0003),
        ("weights_flash_bytes", 0.0001),
        ("runtime_ram_bytes", 0.03),
        ("code_flash_bytes", 0.03),
        ("total_ram_bytes", 0.03),
        ("total_flash_bytes", 0.03),
        ("latency_ms_stm32h747", 0.1),
        ("latency_ms_stm32mp157", 0.1),
    ],
)
def test_differences_from_the_published_are_small(compared, column, most):
    assert compared.loc[compared["column"] == column, "difference"].abs().max() <= most


def test_inconsistent_cells_and_no_others_have_a_note(compared):
    marked = compared[compared["note"] != ""]
    in_kb = marked[marked["note"].str.contains("kB")]
    assert set(in_kb["column"]) == {
        "activation_ram_bytes",
        "weights_flash_bytes",
        "total_ram_bytes",
        "total_flash_bytes",
    }
    assert set(zip(in_kb["alpha"], in_kb["image_size"], in_kb["color_mode"], strict=True)) == {(0.25, 96, "rgb")}
    (outlier,) = marked.drop(in_kb.index).itertuples()
    assert (outlier.column, outlier.color_mode) == ("latency_ms_stm32h747", "gray")


def test_a_run_of_a_published_configuration_is_preferred_to_an_untrained_model(compared):
    row = dict.fromkeys(COST_COLUMNS, 1.0) | {"alpha": 0.25, "image_size": 96, "color_mode": "gray", "n_classes": 5}
    results = pd.DataFrame([row | {"variant": "int8_per_channel", "run_id": "mine"}], columns=runs.RESULT_COLUMNS)
    ours = before_training.published_configurations(results)
    assert ours["source"].tolist().count("untrained") == 3
    assert ours.set_index("source").loc["mine", "total_ram_bytes"] == 1.0


@pytest.mark.parametrize(("alpha", "millions"), [(0.5, 1.34), (1.0, 4.25)])
def test_the_published_parameters_of_alpha_1_are_those_of_alpha_0_5(alpha, millions):
    from mbutils.model import mobilenet

    assert mobilenet.build(alpha, (32, 32, 3), 1000).count_params() / 1e6 == pytest.approx(millions, abs=0.005)


def test_channels_that_are_constant_have_figures_of_their_own(tmp_path, capsys):
    path = tmp_path / "dead.tflite"
    path.write_bytes(mobilenet(0.25, 32, 3, 5, dead=0.3))
    assert cli.main(["footprint", str(path)]) == 0
    text = capsys.readouterr().out
    assert cli.main(["footprint", str(path), "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    alive = values["alive"]
    assert f"{values['constant_channels']:,} channels are the same for every image" in text
    assert f"weights flash {alive['weights_flash_bytes'] / 1024:.2f} KiB, {alive['macs']:,} MACs" in text
    assert values["weights_flash_bytes"] / 1024 == pytest.approx(214.69, abs=0.005)  # those of 7.3.0
    assert alive["activation_ram_bytes"] < values["activation_ram_bytes"]


def test_an_untrained_model_has_no_figures_of_the_kind(capsys):
    assert cli.main(["footprint", "--image-size", "96", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["constant_channels"] == 0 and "alive" not in values
