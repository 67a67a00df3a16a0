import os
import re
import shutil
import subprocess
import sys
from dataclasses import fields
from html import unescape
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from stand_ins import Network
from test_records import rewrite

from mbutils import cli, config, runs
from mbutils.config import TrainParameters
from mbutils.report import render, tables

COMMANDS = ("", "sweep", "status", "report", "render", "runs", "runs note", "runs delete")
COMMANDS += ("evaluate", "predict", "footprint", "deploy", "cache")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_reads_well(mb, command, capsys):
    assert mb(*command.split(), "--help") == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: mb") and "==SUPPRESS==" not in text


@pytest.fixture
def notebook(tiny_results, tmp_path):
    (executed,) = tiny_results.glob("runs/*/train.ipynb")
    return Path(shutil.copy(executed, tmp_path / "mine.ipynb"))


def test_render_writes_html_next_to_each_notebook_or_to_a_path(mb, notebook, capsys):
    other = Path(shutil.copy(notebook, notebook.with_stem("other")))
    html = notebook.with_name("b.html")
    assert mb("render", notebook, other) == 0 and mb("render", notebook, "--out", html) == 0
    assert "Train MobileNet" in notebook.with_suffix(".html").read_text() == html.read_text()
    written = [notebook.with_suffix(".html"), other.with_suffix(".html"), html]
    assert capsys.readouterr().out.split() == list(map(str, written))
    assert mb("render", notebook) == 0  # HTML may be replaced


def test_render_never_replaces_a_file_that_is_not_html(mb, notebook, capsys):
    other = Path(shutil.copy(notebook, notebook.with_stem("other")))
    assert mb("render", notebook, "--out", other) == 2
    assert "other.ipynb exists and is not HTML" in capsys.readouterr().err
    assert other.read_bytes() == notebook.read_bytes()


@pytest.mark.parametrize("outputs", [[], [nbformat.v4.new_output("stream", text="12 of them")]])
def test_render_shows_text_about_outputs_only_where_there_are_some(mb, outputs, tmp_path):
    cells = [nbformat.v4.new_markdown_cell(text) for text in ("## Runs", "What a page of them says.", "## End")]
    cells[1].metadata["tags"] = [render.ONLY_WITH_OUTPUT]
    cells.insert(2, nbformat.v4.new_code_cell("show()", outputs=outputs))
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "a.ipynb")
    assert mb("render", tmp_path / "a.ipynb") == 0
    html = (tmp_path / "a.html").read_text()
    assert "Runs" in html and "End" in html
    assert ("What a page of them says." in html) == bool(outputs) == ("12 of them" in html)


def test_render_never_replaces_a_pipe(mb, notebook, capsys):
    os.mkfifo(notebook.with_name("pipe"))
    assert mb("render", notebook, "--out", notebook.with_name("pipe")) == 2
    assert "pipe exists and is not HTML" in capsys.readouterr().err and notebook.with_name("pipe").is_fifo()


def test_version_is_that_of_the_package(mb, capsys):
    assert mb("--version") == 0
    assert re.fullmatch(r"mb \d+\.\d+\.\d+\n", capsys.readouterr().out)


@pytest.mark.parametrize("width", [60, 100, 140])
def test_results_are_no_wider_than_the_terminal(width, tiny_results, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    lines = tables.results_text(runs.results_table(tiny_results)).splitlines()
    assert max(map(len, lines)) <= width
    assert "variant" in lines[0] and ("latency" in lines[0]) == (width == 140)


def test_render_has_one_output_path_for_one_notebook(mb, notebook, capsys):
    assert mb("render", notebook, notebook, "--out", "b.html") == 2
    assert "--out is for one notebook, not 2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        ("text", "is not a notebook"),
        ("[]", "is not a notebook"),
        ('{"nbformat": 4, "nbformat_minor": 5}', "is not a notebook"),
        ('{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [{"cell_type": 3}]}', "is not a notebook"),
        ("\ud800".encode("utf-8", "surrogatepass"), "is not a notebook"),
    ],
)
def test_render_names_a_file_that_is_not_a_notebook(mb, tmp_path, content, message, capsys):
    if content:
        (tmp_path / "a.ipynb").write_bytes(content if isinstance(content, bytes) else content.encode())
    assert mb("render", tmp_path / "a.ipynb") == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("*.html"))


def test_report_without_runs_says_so_and_writes_nothing(mb, tmp_path, capsys):
    assert mb("report", "--results-dir", tmp_path / "empty") == 2
    assert "no finished run in" in capsys.readouterr().err
    assert not (tmp_path / "empty").exists()


def copied(run, run_id):
    """Returns a copy of a run with another id."""
    copy = runs.Run(Path(shutil.copytree(run.path, run.path.with_name(run_id))))
    rewrite(copy.path / "manifest.json", lambda manifest: manifest.update(run_id=run_id))
    return copy


# What is wrong with a run, and how it came to be.
BAD = {
    "manifest.json cannot be read": lambda run: (run.path / "manifest.json").unlink(),
    "it is not readable JSON": lambda run: (run.path / "manifest.json").write_text('{"run_id": '),
    "unknown parameter 'attention'": lambda run: rewrite(
        run.path / "manifest.json", lambda manifest: manifest["parameters"].update(attention=0.5)
    ),
    "it is that of run": lambda run: rewrite(run.path / "manifest.json", lambda m: m.update(run_id="another")),
    "history.csv is missing: run train again": lambda run: (run.path / "history.csv").unlink(),
    "predictions_float32.npz was altered": lambda run: (run.path / "predictions_float32.npz").write_bytes(b"new"),
    "has no predictions_int8_per_channel.npz: run evaluate again": lambda run: rewrite(
        run.path / "manifest.json", lambda manifest: manifest["artefacts"].pop("predictions_int8_per_channel.npz")
    ),
}


def test_report_names_every_bad_run_and_is_made_of_the_good_ones(mb, tiny_results, tmp_path, capsys):
    results = tmp_path / "results"
    shutil.copytree(tiny_results, results)
    (good,) = runs.all_runs(results)
    other = copied(good, "good_too")
    runs.annotate(good, "the <first> of all")
    for number, spoil in enumerate(BAD.values()):
        spoil(copied(other, f"bad_{number}"))
    assert mb("report", "--results-dir", results) == 0
    text, errors = capsys.readouterr()
    assert "int8_per_channel" in text and "float32" in text
    assert text.rstrip().endswith(str(results / "report.html"))
    report = (results / "report.html").read_text()
    for number, (line, reason) in enumerate(zip(errors.splitlines(), BAD, strict=True)):
        assert line.startswith(f"left out: run bad_{number}") and reason in line
        assert line.removeprefix("left out: ") in unescape(report)
    assert set(pd.read_csv(results / "results.csv")["run_id"]) == {good.run_id, other.run_id}
    assert "the &lt;first&gt; of all" in report
    assert mb("status", "--results-dir", results) == 0
    assert capsys.readouterr().err == errors


def test_report_of_a_run_that_was_only_trained_says_what_it_lacks(mb, digits, tmp_path, capsys):
    begun = runs.begin(TrainParameters(dataset="digits", weights="none"), digits, tmp_path)
    runs.finish(begun, Network("weights"), pd.DataFrame({"validation_top1": [0.5], "seconds": [1.0]}))
    assert mb("report", "--results-dir", tmp_path) == 0
    assert "no evaluated run yet" in capsys.readouterr().out
    assert "missing" in (tmp_path / "report.html").read_text()


def test_dry_run_shows_the_plan_with_its_time_and_runs_nothing(mb, tiny_sweep_file, tiny_results, tmp_path, capsys):
    assert mb("sweep", tiny_sweep_file, "--results-dir", tmp_path / "new", "--dry-run") == 0
    prepared, run, total = capsys.readouterr().out.splitlines()
    assert prepared.split() == ["prepare_digits_32_gray_bilinear", "prepare"]
    assert run.split()[1:] == ["train,", "convert_int8_per_channel,", "evaluate"]
    assert "1 run, 4 notebooks to execute: about" in total and "a guess from the sizes" in total
    assert not (tmp_path / "new").exists()
    assert mb("sweep", tiny_sweep_file, "--results-dir", tiny_results, "--dry-run") == 0
    out = capsys.readouterr().out
    assert out.count("(finished)") == 4 and "0 notebooks to execute: nothing to do" in out


def test_plan_of_a_sweep_over_photographs_is_not_drowned_in_start_up_messages(flowers, tmp_path):
    (tmp_path / "flowers.yaml").write_text("defaults: {dataset: tf_flowers}")
    command = [Path(sys.executable).parent / "mb", "sweep", tmp_path / "flowers.yaml", "--dry-run"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.stdout.startswith("prepare_tf_flowers_96_rgb_area  prepare") and result.stderr == ""


def test_results_folder_that_cannot_be_written_is_named(mb, tiny_sweep_file, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert mb("sweep", tiny_sweep_file, "--results-dir", tmp_path / "file") == 2
    assert "cannot write" in capsys.readouterr().err


def test_output_may_be_cut_short_by_its_reader(tflite):
    program = Path(sys.executable).with_name("mb")
    command = f"'{program}' footprint '{tflite}' --json | head -c 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.stdout == "{0\n" and done.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: COMMAND; see mb --help"),
        (["sweep"], "the following arguments are required: FILE; see mb sweep --help"),
        (["footprnt"], "invalid choice: 'footprnt'"),
        (["sweep", "a.yaml", "--seeds", "a"], "'a' is not a list of whole numbers"),
        (["sweep", "a.yaml", "--seeds", ""], "'' is not a list of whole numbers"),
        (["sweep", "a.yaml", "--seeds", "0,,1"], "'0,,1' is not a list of whole numbers"),
        (["sweep", "a.yaml", "--seeds", "0.5"], "'0.5' is not a list of whole numbers"),
        (["sweep", "a.yaml", "--seeds", "1,1"], "'1,1' names a seed twice"),
        (["sweep", "a.yaml", "--seeds", "-1"], "seed: -1 is too small"),
        (["sweep", "a.yaml", "--workers", "two"], "invalid int value: 'two'"),
        (["sweep", "a.yaml", "--results-dir", ""], "argument --results-dir: is empty"),
        (["sweep", "a.yaml", "--results-dir", "a\0b"], "has a control character"),
        (["sweep", "a" * 300], "is too long for a path"),
        (["sweep", "a.yaml\n"], "has a control character"),
        (["report", "--results-dir=--"], "-- is no value of an option"),
        (["render", "."], "argument NOTEBOOK.ipynb: . is a folder: give a file"),
        (["render", ""], "argument NOTEBOOK.ipynb: is empty"),
        (["render", "\udcff.ipynb"], "has a control character, or is no Unicode"),
        (["render", "a.ipynb", "--out", "b\0.html"], "has a control character"),
        (["report", "--results-dir", "~nobody_of_this_name"], "home folder of an unknown user"),
        (["status", "--results-dir", "a/" * 2500], "is too long for a path"),
        (["footprint", ""], "argument MODEL.tflite: is empty"),
        (["footprint", "--image-size", "0"], "image_size: 0 is too small"),
        (["footprint", "--alpha", "nan"], "alpha: nan is not a finite number"),
        (["footprint", "--n-classes", "1"], "n_classes: 1 is too small"),
        (["footprint", "--n-classes", "9" * 5000], "invalid int value"),
        (["footprint", "--color-mode", "grey"], "color_mode: unknown value 'grey': did you mean 'gray'"),
    ],
    ids=lambda value: ascii(" ".join(value))[:50] if isinstance(value, list) else "",
)
def test_bad_options_are_one_line(mb, arguments, message, capsys):
    assert mb(*arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err and captured.err.count("\n") == 1 and captured.out == ""


def options_of(command, capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.main([command, "--help"])
    return set(re.findall(r"--([a-z-]+)", capsys.readouterr().out))


@pytest.mark.parametrize(
    ("command", "kind"), [("deploy", config.DeployParameters), ("footprint", config.ModelParameters)]
)
def test_options_are_the_declared_parameters(command, kind, capsys):
    names = {spec.name.replace("_", "-") for spec in fields(kind)} - {"run-id"}
    assert names <= options_of(command, capsys)
