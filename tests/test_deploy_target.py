"""`mb deploy` as a user types it, and its code on an emulated Cortex-M7."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import mistune
import notebook_cells
import numpy as np
import pytest
from deploy_models import network_of, on_each_core, pointer, run_on_board, shared_library, tflite, write_folder
from PIL import Image

from mbutils import cli, deploy, runs
from mbutils.config import FITS, INTERPOLATIONS, DeployParameters, Preprocessing
from mbutils.data.photographs import prepared
from mbutils.deploy import figures, folder, measure
from mbutils.deploy.render import markdown
from mbutils.device.footprint import footprint
from mbutils.report import tables

missing = deploy.missing_tools()
needs_target = pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")
# Landscape, portrait, square; smaller than the image; a pixel more or less than a square; lines and a single pixel.
FRAMES = [(61, 97), (97, 61), (240, 321), (33, 33), (20, 50), (50, 20), (7, 5)]
FRAMES += [(64, 65), (66, 65), (33, 34), (32, 33), (1, 90), (90, 1), (1, 200), (1, 1)]
needs_cc = pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler: install gcc")


@pytest.fixture
def results(tiny_results, tmp_path):
    return Path(shutil.copytree(tiny_results, tmp_path / "results"))


@pytest.mark.slow
@needs_target
@pytest.mark.parametrize(("size", "most"), [(96, 12_200_000), (224, 62_000_000)])
def test_instructions_and_code_stay_within_their_goals(tmp_path, size, most):
    contract = Preprocessing(size, "rgb", "area")
    write_folder(tmp_path / "c", tflite(0.25, size, 3, 5), contract, tuple("abcde"), count=1)
    measured = measure.measure(tmp_path / "c")
    assert 0 < measured.instructions <= most
    assert measured.portable_instructions > 2 * measured.instructions
    assert 0 < measured.portable_text_bytes < measured.text_bytes <= 8 * 1024
    assert measured.data_bytes == measured.bss_bytes == 0
    assert 100 < measured.stack_bytes < 2048


@pytest.mark.slow
@on_each_core
def test_a_network_passes_on_each_core(tmp_path, core):
    contract = Preprocessing(50, "rgb", "area")
    write_folder(tmp_path / "c", tflite(0.25, 50, 3, 101, "int8_per_tensor"), contract, tuple(map(str, range(101))))
    assert run_on_board(tmp_path / "c", core).endswith("PASS\n")


@pytest.mark.slow
@needs_target
@pytest.mark.parametrize(("core", "most"), [("cortex-m3", 45_000_000), ("cortex-m55", 4_200_000)])
def test_instructions_of_other_cores_stay_within_their_goals(tmp_path, core, most):
    write_folder(tmp_path / "c", tflite(0.25, 96, 3, 5), Preprocessing(96, "rgb", "area"), tuple("abcde"), count=1)
    assert 0 < int(re.search(r"^inference (\d+) ", run_on_board(tmp_path / "c", core), re.MULTILINE)[1]) <= most


@pytest.mark.slow
@needs_target
def test_streamed_layers_pass_on_the_target(tmp_path):
    contract = Preprocessing(50, "rgb", "area")
    names = tuple(f"class {i}" for i in range(101))
    write_folder(tmp_path / "c", tflite(0.25, 50, 3, 101, "int8_per_tensor"), contract, names, 2, streamed_layers=7)
    assert measure.measure(tmp_path / "c").instructions


@needs_cc
def test_deploy_writes_a_folder_that_passes_and_records_its_measurement(results, tmp_path, capsys):
    out = tmp_path / "c"
    assert cli.main(["deploy", "--results-dir", str(results), "--out", str(out), "--vectors", "3"]) == 0
    printed = capsys.readouterr().out
    assert "3 test images on this computer: PASS" in printed and str(out) in printed
    facts = json.loads((out / "deploy.json").read_text())
    assert {path.name for path in out.iterdir()} == {*facts["files"], "deploy.json"}
    result = subprocess.run(["make", "-s", "check"], cwd=out, capture_output=True, text=True)
    assert result.returncode == 0 and result.stdout.splitlines()[-1] == "PASS", result.stderr
    row = runs.results_table(results).set_index("variant").loc["int8_per_channel"]
    assert np.isnan(row["measured_instructions"]) == bool(missing)
    if not missing:
        assert facts["measured"]["instructions"] == row["measured_instructions"]
        assert row["measured_ram_bytes"] == facts["arena_bytes"] + facts["measured"]["stack_bytes"]
    # The same command again replaces what it wrote and keeps the build; edited files it replaces only when told to.
    command = ["deploy", "--results-dir", str(results), "--out", str(out), "--vectors", "1"]
    assert cli.main(command) == 0
    assert json.loads((out / "deploy.json").read_text())["vectors"] == 1 and (out / "build" / "host").is_dir()
    assert folder.generated() == json.loads((out / "deploy.json").read_text())["files"].keys()
    (out / "main.c").write_text("mine")
    assert cli.main(command) == 2 and (out / "main.c").read_text() == "mine"
    assert cli.main([*command, "--force"]) == 0 and (out / "main.c").read_text() != "mine"


def test_measured_sizes_are_in_the_table_of_predicted_ones():
    size = footprint(tflite(0.25, 32, 3, 5))
    recorded = {"measured_ram_bytes": 3 * 1024, "measured_code_bytes": 5632}
    html = tables.costs_of(size, recorded).to_html()
    assert "3.00" in html and "5.50" in html
    assert "3.00" not in tables.costs_of(size).to_html()


@pytest.mark.parametrize(
    ("configuration", "published"), [((0.25, 96, "rgb", 5), [38.63, 63.7]), ((0.25, 96, "rgb", 3), [None, None])]
)
def test_costs_stand_beside_those_of_the_first_and_the_newest_tool(configuration, published):
    model = footprint(tflite(0.25, 96, 3, 5))
    rows = figures.comparison(configuration, model, SimpleNamespace(arena_bytes=37_400), None).set_index("figure")
    activations, ram = rows.loc["activation_ram_bytes"], rows.loc["total_ram_bytes"]
    assert activations["measured"] == 37_400 and activations["predicted_1.0"] == model.activation_ram_bytes
    in_kib = [activations["published_1.0"] / 1024, ram["published_4.1"] / 1024]
    assert in_kib == pytest.approx([np.nan if size is None else size for size in published], abs=0.05, nan_ok=True)
    assert 0.8 < rows.loc["total_flash_bytes", "predicted_4.1"] / 256_000 < 1.2


def test_without_the_tools_the_folder_is_written_and_the_missing_ones_are_named(results, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(measure.shutil, "which", lambda name: None)
    out = tmp_path / "c"
    assert cli.main(["deploy", "--results-dir", str(results), "--out", str(out), "--vectors", "1"]) == 0
    printed = capsys.readouterr().out
    assert "make or cc is missing" in printed and "not measured: make, arm-none-eabi-gcc" in printed
    assert json.loads((out / "deploy.json").read_text())["measured"] is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["no_such_run"], "no run 'no_such_run' in"),
        (["--variant", "int8_per_tensor"], "has no int8_per_tensor model"),
        (["--class-order", "a,b"], "has its own preprocessing and classes: leave out --class-order"),
        (["--photos", "a.jpg"], "has its own test images: leave out --photos"),
        (["--ram-kib", "2"], "2 KiB of RAM are too small by"),
        (["--ram-kib", "2"], ": choose a smaller model"),
        (["--flash-kib", "2"], "2 KiB of flash are too small by"),
        (["--streamed-layers", "40"], "40 layers cannot be streamed: at most the first 27"),
        (["--streamed-layers", "-1"], "streamed_layers: -1 is too small"),
        (["--vectors", "0"], "vectors: 0 is too small"),
        (["--ram-kib", "nan"], "ram_kib: nan is not a finite number"),
        (["/"], "/ is not the folder of a run: give that, or the id of a run"),
        (["."], ". is not the folder of a run"),
        (["HERE/runs"], "runs is not the folder of a run"),
        ([""], "argument MODEL: is empty: leave it out"),
        (["--variant", "int8"], "variant: unknown value 'int8': choose one of int8_per_channel, int8_per_tensor, int4"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(results, tmp_path, capsys, options, message):
    out = tmp_path / "c"
    arguments = [option.replace("HERE", str(results)) for option in options]
    assert cli.main(["deploy", *arguments, "--results-dir", str(results), "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not out.exists() and sorted(path.name for path in tmp_path.iterdir()) == ["results"]


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("", "argument --out: is empty: leave it out"),
        ("/", "/ holds the working directory"),
        ("HERE/file", "file is a file: choose another output folder"),
        ("HERE/a\nb", "out: 'HERE/a\\nb' has a control character"),
        ("HERE/a\0b", "has a control character"),
        ("HERE/a\udcffb", "has a control character, or is no Unicode"),
        ("HERE/" + "a" * 300, "is too long for a path"),
        ("HERE/" + "a" * 250, "File name too long"),
        ("HERE/" + "a/" * 2500, "is too long for a path"),
        ("~nobody_of_this_name/c", "home folder of an unknown user"),
    ],
    ids=lambda text: ascii(text)[:30],
)
def test_bad_output_folders_are_named_and_nothing_is_written(results, tmp_path, capsys, out, message):
    (tmp_path / "file").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    here = str(tmp_path)
    command = ["deploy", "--results-dir", str(results), "--vectors", "1", "--out", out.replace("HERE", here)]
    assert cli.main(command) == 2
    error = capsys.readouterr().err
    assert message.replace("HERE", here) in error and error.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["-c {x} $(id) ä"])
def test_an_output_folder_may_have_any_other_name(results, tmp_path, name):
    assert cli.main(["deploy", "--results-dir", str(results), "--vectors", "1", f"--out={tmp_path / name}"]) == 0
    assert (tmp_path / name / "deploy.json").exists()


def test_a_run_may_be_named_by_its_folder(results, tmp_path, capsys, monkeypatch):
    (run,) = runs.all_runs(results)
    monkeypatch.chdir(run.path)
    for given in (run.path, f"../{run.run_id}/", "."):
        assert cli.main(["deploy", str(given), "--variant", "int8_per_tensor"]) == 2
        assert f"run {run.run_id} has no int8_per_tensor model" in capsys.readouterr().err
    assert cli.main(["deploy", str(run.path), "--results-dir", str(tmp_path)]) == 2
    assert f"is not in {tmp_path}: leave out --results-dir" in capsys.readouterr().err


@needs_cc
def test_class_names_are_shown_as_they_are(tmp_path):
    names = ("a|b", "<script>x</script>", "*x*", "`y`", "[x](y)", "*/ int x; /*", "ends with \\", "two\nlines", "__a__")
    contract = Preprocessing(32, "rgb", "area")
    write_folder(tmp_path / "c", tflite(0.25, 32, 3, len(names)), contract, names, 1)
    assert measure.check_on_host(tmp_path / "c")
    shown = mistune.html(", ".join(map(markdown, names)))
    assert html.unescape(shown) == f"<p>{', '.join(names)}</p>\n".replace("two\nlines", "two lines")
    assert re.findall("<.*?>", shown) == ["<p>", "</p>"]


def test_ram_that_streamed_layers_would_fit_names_how_many(results, capsys):
    (run,) = runs.all_runs(results)
    table = deploy.streaming(network_of(run.path / "int8_per_channel.tflite"))
    best = table.loc[table["arena_bytes"].idxmin()]
    assert best["arena_bytes"] < table["arena_bytes"].iloc[0]
    limit = str(best["arena_bytes"] / 1024)
    assert cli.main(["deploy", "--ram-kib", limit, "--results-dir", str(results)]) == 2
    assert f"{best['streamed_layers']} streamed layers need an arena of" in capsys.readouterr().err


@needs_target
@pytest.mark.parametrize("short", [0, 1, 100])
def test_memory_of_a_target_that_is_too_small_says_by_how_many_bytes(results, tmp_path, capsys, short):
    command = ["deploy", "--results-dir", str(results), "--vectors", "1", "--out", str(tmp_path / "c")]
    assert cli.main(command) == 0
    facts = json.loads((tmp_path / "c" / "deploy.json").read_text())
    size = {name: value for name, value in facts["measured"].items() if name.endswith("_bytes")}
    ram = facts["arena_bytes"] + size["stack_bytes"] + size["data_bytes"] + size["bss_bytes"]
    flash = size["text_bytes"] + size["rodata_bytes"] + size["data_bytes"]
    limits = [f"--ram-kib={(ram - short) / 1024}", f"--flash-kib={(flash - short) / 1024}"]
    capsys.readouterr()
    assert cli.main([*command, *limits, "--out", str(tmp_path / "small")]) == (2 if short else 0)
    error = capsys.readouterr().err
    if short:
        assert f"of RAM are too small by {short:,} bytes (arena {facts['arena_bytes']:,}, stack" in error
        assert f"of flash are too small by {short:,} bytes (code {size['text_bytes']:,}, constants" in error
        assert error.count("\n") == 1 and not (tmp_path / "small").exists()


@needs_cc
@pytest.mark.parametrize("color_mode", ["rgb", "gray"])
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("fit", FITS)
def test_resize_in_c_is_the_preprocessing_of_the_training(tmp_path, fit, interpolation, color_mode):
    contract = Preprocessing(33, color_mode, interpolation, fit)
    for name, text in folder.preprocessing_h(contract).items():
        (tmp_path / name).write_text(text)
    (tmp_path / "resize.c").write_text(
        '#include "preprocess.h"\nvoid resize(const uint8_t *f, int h, int w, int c, uint8_t *i);\n'
        "void resize(const uint8_t *f, int h, int w, int c, uint8_t *i) { preprocess(f, h, w, c, i); }\n"
    )
    library = shared_library(tmp_path, "resize.c")
    for height, width in FRAMES:
        frame = np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(frame).save(tmp_path / "frame.png")
        expected = prepared((tmp_path / "frame.png").read_bytes(), contract)
        guarded = np.full(expected.size + 128, 0xA5, np.uint8)
        found = guarded[64:-64].reshape(expected.shape)
        library.resize(pointer(frame), height, width, 3, pointer(found))
        most = 0 if interpolation == "nearest" else 1
        assert np.abs(found.astype(int) - expected).max() <= most, (height, width)
        assert (guarded[:64] == 0xA5).all() and (guarded[-64:] == 0xA5).all()


@pytest.mark.parametrize(("fit", "said"), [("crop", "the largest square in the middle"), ("pad", "black")])
def test_deployed_folder_says_how_a_frame_becomes_a_square(results, tmp_path, fit, said):
    (run,) = runs.all_runs(results)
    run.update(parameters=run.manifest["parameters"] | {"fit": fit})
    deployed = deploy.deploy(DeployParameters(results_dir=str(results), out=str(tmp_path / "c"), vectors=1))
    assert said in (tmp_path / "c" / "preprocess.h").read_text() and said in (tmp_path / "c" / "README.md").read_text()
    assert deployed.facts["preprocessing"]["fit"] == fit


def test_notebook_writes_the_code_and_shows_the_arena_and_streamed_layers(results, tmp_path):
    options = {"results_dir": str(results), "out": str(tmp_path / "c"), "streamed_layers": 4, "vectors": 2}
    assert notebook_cells.run("deploy", options) == 2
    assert json.loads((tmp_path / "c" / "deploy.json").read_text())["streamed_layers"] == 4
