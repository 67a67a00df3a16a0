"""The parts of the benchmarks. No test asserts a time."""

import io
import subprocess
import sys

import nbformat
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bench import __main__ as command
from bench import cache_build, cache_read, compare, epoch, step, sweeps
from bench.cases import CASES, Case
from bench.worker import Worker
from mbutils.columns import BENCH, BENCH_SWEEPS, names
from mbutils.config import PROJECT
from mbutils.data import datasets
from mbutils.errors import WorkbookError

ROUNDS = [(30.0, 10.0), (20.0, 10.0), (80.0, 20.0)]


def row(name="a", expected=2.0):
    return {"case": name} | compare.summary(ROUNDS, expected, (3 * 2**20, 2 * 2**20))


def test_summary_is_over_rounds_not_over_means():
    assert tuple(row()) == names(BENCH)
    assert list(row().values()) == ["a", 3, 30.0, 10.0, 3.0, 2.0, 4.0, 2.0, 3 * 2**20, 2 * 2**20, 1.5]


@pytest.mark.parametrize(("expected", "is_reached"), [(3.0, True), (3.1, False), (None, True)])
def test_expected_ratio_is_reached_by_the_median(expected, is_reached):
    assert compare.reached(row(expected=expected)) == is_reached


def test_text_names_the_cases_that_missed():
    lines = compare.text([row("a", 3.0), row("b", 3.1), row("c", None)]).splitlines()
    assert "3.0 reached" in lines[1] and "3.1 MISSED" in lines[2] and "reached" not in lines[3]
    assert all("30 : 10" in line and "2.00 to 4.00" in line for line in lines[1:])


def test_both_sides_work_in_processes_of_their_own():
    case = Case("bench_sides", {"speed": 10}, {"factor": 5}, expected=0.3)
    result = compare.compare("a", case, rounds=2)
    assert result["rounds"] == 2 and result["ratio"] == pytest.approx(20 / 50)
    assert result["ours_peak_memory_bytes"] > 2**20 and result["stock_peak_memory_bytes"] > 2**20


@pytest.mark.parametrize(("side", "message"), [("unavailable", "no data: get some"), ("dying", "exit code 7")])
def test_process_that_cannot_work_is_reported_in_one_line(side, message):
    with pytest.raises(WorkbookError, match=message):
        Worker("bench_sides", side, {})


@pytest.mark.parametrize("side", [step.ours, pytest.param(step.stock, marks=pytest.mark.slow)])
def test_step_trains(side):
    assert side(0.25, 32, batch_size=4, steps_per_round=1)() > 0


def test_both_sides_train_the_same_network():
    networks = [step.mobilenet.build(0.25, (32, 32, 3), 5), step.keras_mobilenet(0.25, 32, 5)]
    assert len({network.count_params() for network in networks}) == 1
    assert len({len(network.trainable_variables) for network in networks}) == 1


@pytest.fixture
def photographs(monkeypatch):
    """A registered dataset of 40 small JPEG images in two classes."""
    rng = np.random.default_rng(0)

    def photograph():
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (40, 48, 3), np.uint8)).save(buffer, format="JPEG")
        return buffer.getvalue()

    encoded = [photograph() for _ in range(40)]
    parts = ["train"] * 30 + ["validation"] * 6 + ["test"] * 4
    examples = pd.DataFrame({"identity": map(str, range(40)), "label": [0, 1] * 20, "part": parts})
    data = datasets.Dataset("photographs", ("a", "b"), examples, lambda: iter(encoded))
    monkeypatch.setitem(datasets.REGISTRY, "photographs", lambda parameters: data)
    monkeypatch.setattr(epoch, "_exported", epoch.export)  # another process would not know this dataset
    return data


@pytest.mark.slow
def test_epochs_train_on_every_side(photographs):
    for side, options in ((epoch.ours, {}), (epoch.stock, {}), (epoch.stock, {"cached": True})):
        assert side(0.25, 32, dataset="photographs", batch_size=8, **options)() > 0


def test_export_holds_the_files_of_each_part_unchanged(photographs):
    folder = epoch.export("photographs")
    assert len(list(folder.glob("train/?/*.jpg"))) == 30 and len(list(folder.glob("validation/?/*.jpg"))) == 6
    assert (folder / "train" / "b" / "3.jpg").read_bytes() == photographs.encoded(np.array([3]))[0]
    assert epoch.export("photographs") == folder


@pytest.mark.parametrize("case", [cache_build, cache_read])
def test_cache_is_built_and_read_and_what_was_built_is_removed(case, monkeypatch, tmp_path):
    monkeypatch.setenv("MB_CACHE_DIR", str(tmp_path))
    for side in (case.ours, case.stock):
        one_round = side(32, count=70, side=48)
        assert one_round() > 0 and one_round() > 0
    assert len(list(tmp_path.rglob("made_*.npy"))) == (case is cache_read)


def bench(*arguments):
    try:
        return command.main([str(argument) for argument in arguments])
    except SystemExit as stop:
        return stop.code


def test_help_names_the_cases(capsys):
    assert bench("--help") == 0
    text = capsys.readouterr().out
    assert all(name in text for name in CASES)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["step_0.25_69"], "unknown case 'step_0.25_69': did you mean 'step_0.25_96'"),
        (["--rounds", 0], "--rounds 0: the least is 1"),
        (["--configurations", 0], "--configurations 0: the least is 1"),
    ],
)
def test_bad_input_is_named(arguments, message, capsys):
    assert bench(*arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err and captured.out == ""


def test_command_writes_what_could_be_measured_and_names_the_rest(monkeypatch, tmp_path, capsys):
    def fake(name, case, rounds):
        if not name.startswith("step"):
            raise WorkbookError("no flowers: get some")
        return row(name, case.expected)

    def no_sweeps(configurations):
        raise WorkbookError("papermill failed: no flowers")

    monkeypatch.setattr(compare, "compare", fake)
    monkeypatch.setattr(sweeps, "measure", no_sweeps)
    assert bench("--results-dir", tmp_path) == 2
    captured = capsys.readouterr()
    assert captured.out.rstrip().endswith(str(tmp_path / "bench.csv"))
    assert "epoch_0.25_96 is not measured: no flowers: get some" in captured.err
    assert "sweeps is not measured: papermill failed: no flowers" in captured.err
    assert pd.read_csv(tmp_path / "bench.csv")["case"].tolist() == ["step_0.25_96", "step_0.25_224", "step_0.5_224"]
    assert bench("step_0.25_96", "--results-dir", tmp_path) == 0


def test_each_ratio_is_printed_as_soon_as_it_is_measured(monkeypatch, tmp_path, capsys):
    before = []

    def fake(name, case, rounds):
        before.append(capsys.readouterr().out)
        return row(name, case.expected)

    monkeypatch.setattr(compare, "compare", fake)
    bench("step_0.25_96", "step_0.5_224", "--results-dir", tmp_path)
    assert before[0] == "" and before[1].startswith("step_0.25_96: ")


def test_ratio_below_the_expected_one_fails(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(compare, "compare", lambda name, case, rounds: row(name, 99.0))
    assert bench("step_0.25_96", "--results-dir", tmp_path) == 1
    assert "MISSED" in capsys.readouterr().out


def test_results_folder_that_cannot_be_written_is_named(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(compare, "compare", lambda name, case, rounds: row(name))
    (tmp_path / "file").touch()
    assert bench("step_0.25_96", "--results-dir", tmp_path / "file") == 2
    assert "cannot write" in capsys.readouterr().err


def test_command_imports_no_tensorflow():
    # A process that it starts begins with its memory, which would count towards that process's peak.
    code = "import sys; from bench import __main__; print('tensorflow' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT)
    assert result.stdout.strip() == "False"


def executed(folder, *cells):
    """Writes an executed notebook of cells (source, seconds)."""
    notebook = nbformat.v4.new_notebook()
    for source, seconds in cells:
        notebook.cells.append(nbformat.v4.new_code_cell(source, metadata={"papermill": {"duration": seconds}}))
    notebook.cells.append(nbformat.v4.new_markdown_cell("text"))
    nbformat.write(notebook, folder / "executed.ipynb")


def sweep_rows(folder, seconds):
    executed(folder, ("from mbutils import runs", 7.0), ("work()", 20.0), ("more()", 12.0))
    row = sweeps._row("mb sweep", 2, 2, 1, seconds, 100.0, folder)
    return [row | {"part_of_loop_expected": 0.6, "overhead_seconds_expected": 15.0}]


def test_overhead_is_all_time_outside_the_cells_of_the_notebooks(tmp_path):
    (row,) = sweep_rows(tmp_path, 30.0)
    assert tuple(row) == names(BENCH_SWEEPS)
    assert row["part_of_loop"] == pytest.approx(0.3)
    assert row["overhead_seconds"] == pytest.approx((30 - 32 / 2) / 2)


@pytest.mark.parametrize(("seconds", "status"), [(30.0, 0), (50.0, 1)])
def test_sweep_with_too_much_overhead_fails(monkeypatch, tmp_path, capsys, seconds, status):
    rows = sweep_rows(tmp_path, seconds)
    monkeypatch.setattr(sweeps, "measure", lambda configurations: rows)
    assert bench("sweeps", "--results-dir", tmp_path) == status
    assert ("MISSED" in capsys.readouterr().out) == bool(status)
    assert pd.read_csv(tmp_path / "bench_sweeps.csv").columns.tolist() == list(names(BENCH_SWEEPS))
