"""`mb runs`: the finished runs of a results folder are listed, noted and deleted."""

import io
import shutil
from pathlib import Path

import pytest
from stand_ins import Network
from test_records import HISTORY, finished, rewrite

from mbutils import files, runs
from mbutils.config import TrainParameters
from mbutils.sweep import records

NOTE = "the one on the demo board: keep it, whatever else goes"


@pytest.fixture
def results(tmp_path):
    return tmp_path / "results"


@pytest.fixture
def pair(digits, results):
    """Two finished runs."""
    return [finished(digits, results, seed) for seed in (0, 1)]


@pytest.fixture
def of_results(mb, results):
    """Runs `mb runs` with some arguments on the results folder."""
    return lambda *arguments: mb("runs", *arguments, "--results-dir", results)


def contents(results):
    """Returns all that is on the disk, without locks."""
    return {path for path in results.rglob("*") if path.suffix != ".lock" and path.name != ".lock"}


def damage(run):
    (run.path / "manifest.json").write_text("{")


def test_list_has_every_run_the_newest_last_with_its_accuracies_and_its_note(of_results, pair, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "200")
    first, second = pair
    first.update(finished="2026-05-04T03:02:01+00:00")
    second.update(finished="2026-05-04T03:02:00+00:00")
    runs.annotate(second, NOTE)
    runs.save_variant(second, "int8_per_tensor", b"model", {})
    assert of_results() == 0
    header, *lines, last = capsys.readouterr().out.splitlines()
    assert header.split()[:4] == ["run", "float32", "int8_per_channel", "int8_per_tensor"]
    rows = [line.split() for line in lines]
    named = ["2026-05-04", "03:02", "digits", "0.25", "96", "rgb"]
    assert rows[0] == [second.run_id, "50.00%", "50.00%", "none", "yet", *named, "1"]
    assert lines[1] == f"    {NOTE}"
    assert rows[2] == [first.run_id, "50.00%", "50.00%", *named, "0"] and last.startswith("2 runs in ")


def test_network_without_a_width_is_listed_without_one(of_results, pair, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "200")
    rewrite(pair[0].path / "manifest.json", lambda m: m["parameters"].update(network="efficientnet_lite0"))
    assert of_results() == 0
    rows = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines()}
    assert ["0.25" in rows[run.run_id] for run in pair] == [False, True]


@pytest.mark.parametrize("width", [50, 60, 80, 100, 150])
def test_list_is_no_wider_than_the_terminal_and_has_whole_ids_and_notes(of_results, pair, width, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(width))
    runs.annotate(pair[0], NOTE)
    assert of_results() == 0
    *table, _ = capsys.readouterr().out.splitlines()
    assert max(map(len, table)) <= width
    assert all(run.run_id in "\n".join(table) for run in pair) and NOTE in " ".join(" ".join(table).split())
    assert ("colour" in table[0]) == (width == 150)


def test_list_of_many_runs_is_in_the_order_of_their_training(of_results, pair, results, capsys):
    for number in range(28):
        run_id = f"digits_copy_{number:02}"
        shutil.copytree(pair[0].path, results / "runs" / run_id)
        time = f"2026-01-{28 - number:02}T00:00"
        rewrite(results / "runs" / run_id / "manifest.json", lambda m, i=run_id, t=time: m.update(run_id=i, finished=t))
    assert of_results() == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 32 and lines[-1].startswith("30 runs in ")
    assert [line.split()[0] for line in lines[1:29]] == [f"digits_copy_{27 - number:02}" for number in range(28)]


def test_damaged_runs_are_named_below_the_list(of_results, pair, capsys):
    damage(pair[0])
    assert of_results() == 0
    out, err = capsys.readouterr()
    assert pair[1].run_id in out and pair[0].run_id not in out
    assert err.startswith(f"left out: run {pair[0].run_id}: ") and "mb runs delete" in err and err.count("\n") == 1


def test_folder_without_runs_is_named(of_results, results, capsys):
    assert of_results() == 2
    assert f"no finished run in {results}: run the train notebook first" in capsys.readouterr().err


def test_note_replaces_the_earlier_one_and_an_empty_one_removes_it(of_results, pair):
    run, before = pair[0], pair[0].manifest
    for text, kept in ((NOTE, {"note": NOTE}), ("  other ", {"note": "other"}), ("", {}), ("", {})):
        assert of_results("note", run.run_id, text) == 0
        assert run.manifest == before | kept


def test_note_outlives_another_training_of_the_run(of_results, pair, digits, results):
    run = pair[0]
    assert of_results("note", run.run_id, NOTE) == 0
    begun = runs.begin(TrainParameters(dataset="digits", seed=0), digits, results)
    assert runs.finish(begun, Network("b"), HISTORY) == run
    assert run.manifest["note"] == NOTE and run.manifest["variants"] == {}


def test_deleted_run_is_gone_with_its_notebooks_and_logs_and_the_other_is_as_it_was(of_results, pair, results, capsys):
    gone, kept = pair
    for run in pair:
        (run.path / "train.ipynb").touch()
        records.write(results, f"{run.run_id}/train", records.running(1))
    (results / "results.csv").touch()
    others = {path for path in contents(results) if gone.run_id not in str(path)}
    assert of_results("delete", gone.run_id, "--yes") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [gone.run_id, "    train.ipynb", f"    logs/{gone.run_id}"]
    assert lines[3] == "deleted 1" and "until mb report" in lines[4]
    assert contents(results) == others and runs.all_runs(results) == [kept]
    assert not list(results.rglob(f"*{gone.run_id}*"))  # not even its lock


@pytest.mark.parametrize(
    ("answer", "is_deleted"), [("y\n", True), ("YES\n", True), ("n\n", False), ("\n", False), ("", False)]
)
def test_on_a_terminal_it_asks(of_results, pair, answer, is_deleted, monkeypatch, capsys):
    terminal = io.StringIO(answer)
    terminal.isatty = lambda: True
    monkeypatch.setattr("sys.stdin", terminal)
    assert of_results("delete", pair[0].run_id, pair[1].run_id, pair[0].run_id) == (not is_deleted)
    out = capsys.readouterr().out
    assert "delete these 2 runs? [y/N] " in out and ("nothing is deleted" in out) == (not is_deleted)
    assert [run.path.exists() for run in pair] == [not is_deleted] * 2


def test_where_nobody_can_be_asked_it_wants_yes(of_results, pair, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert of_results("delete", pair[0].run_id) == 2
    assert "give --yes" in capsys.readouterr().err and pair[0].path.exists()


@pytest.mark.parametrize("lock", ["run", "logs"])
def test_while_a_process_works_on_one_none_is_deleted(of_results, pair, results, lock, capsys):
    first, second = pair
    before = contents(results)
    held = files.lock_of(second.path) if lock == "run" else records.lock(results, second.run_id)
    with held:
        assert of_results("delete", first.run_id, second.run_id, "--yes") == 2
    assert f"a process works on run {second.run_id}: wait for its end, or stop it" in capsys.readouterr().err
    assert contents(results) - before <= {results / "logs", *(run.logs for run in pair)}
    assert runs.all_runs(results) == sorted(pair, key=lambda run: run.path)
    assert of_results("delete", second.run_id, "--yes") == 0


def test_students_of_a_run_are_named_and_stay(of_results, digits, results, recipes, capsys):
    teacher = recipes("teacher", "{dataset: digits, alpha: 0.5, weights: none}")
    student = finished(digits, results, 0, teacher=teacher)
    taught_by = student.manifest["teacher"]["run_id"]
    shutil.copytree(student.path, results / "runs" / taught_by)
    rewrite(results / "runs" / taught_by / "manifest.json", lambda m: m.update(run_id=taught_by, teacher=None))
    assert of_results("delete", taught_by, "--yes") == 0
    assert f"it taught {student.run_id}:" in capsys.readouterr().out
    assert runs.all_runs(results) == [student]


@pytest.mark.parametrize("name", ["damaged", "odd\nname"])
def test_damaged_run_is_deleted_by_the_name_that_is_listed(of_results, pair, name, capsys):
    run = runs.Run(pair[0].path.rename(pair[0].path.with_name(name)))
    damage(run)
    (shown,) = runs.damaged(run.path.parent.parent)
    assert of_results() == 0 and shown in capsys.readouterr().err
    assert of_results("delete", shown, "--yes") == 0
    assert not run.path.exists() and "    model.keras" in capsys.readouterr().out.splitlines()


def test_only_the_link_of_a_run_that_is_a_link_is_removed(of_results, pair, tmp_path):
    elsewhere = pair[0].path.rename(tmp_path / pair[0].run_id)
    pair[0].path.symlink_to(elsewhere)
    before = contents(elsewhere)
    assert of_results("delete", pair[0].run_id, "--yes") == 0
    assert contents(elsewhere) == before and not pair[0].path.is_symlink()


@pytest.mark.parametrize("step", range(4))
def test_killed_deletion_leaves_a_whole_run_or_none(pair, results, step, monkeypatch):
    run, other = pair
    left = iter(range(step))

    def killed_at_a_step(operation):
        def perform(*arguments, **options):
            if next(left, None) is None:
                raise KeyboardInterrupt
            return operation(*arguments, **options)

        return perform

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", killed_at_a_step(Path.rename))
        patched.setattr(shutil, "rmtree", killed_at_a_step(shutil.rmtree))
        with pytest.raises(KeyboardInterrupt):
            runs.delete([run])
    is_whole = step < 2
    assert runs.all_runs(results) == ([run] if is_whole else []) + [other] and not runs.damaged(results)
    assert {path for path in contents(results) if run.run_id in str(path)} == (
        {path for path in contents(results) if run.path in (path, *path.parents)} | ({run.logs} if step == 0 else set())
    )
    if is_whole:
        runs.delete([run])
    assert runs.all_runs(results) == [other]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rm"], "invalid choice: 'rm' (choose from"),
        (["note", "RUN"], "the following arguments are required: TEXT; see mb runs note --help"),
        (["note", "RUN", "two\nlines"], "note: 'two\\nlines' has a control character"),
        (["note", "gone", "text"], "no run 'gone' in"),
        (["note", "../RUN", "text"], "../RUN is a path: give the id of a run, as mb runs lists it"),
        (["delete"], "the following arguments are required: RUN; see mb runs delete --help"),
        (["delete", "RUN", "gone", "--yes"], "no run 'gone' in"),
        (["delete", "", "--yes"], "argument RUN: is empty"),
        (["delete", "..", "--yes"], ".. is a path"),
        (["delete", ".", "--yes"], ". is a path"),
        (["delete", "RUN/", "--yes"], "RUN/ is a path"),
        (["delete", "runs/RUN", "--yes"], "runs/RUN is a path"),
        (["delete", "/", "--yes"], "/ is a path"),
        (["delete", ".RUN.lock", "--yes"], "no run '.RUN.lock' in"),
    ],
)
def test_bad_input_is_named_in_one_line_and_nothing_changes(of_results, pair, results, arguments, message, capsys):
    run_id, before = pair[0].run_id, contents(results)
    assert of_results(*(argument.replace("RUN", run_id) for argument in arguments)) == 2
    captured = capsys.readouterr()
    expected = message if "required" in message or "argument RUN" in message else message.replace("RUN", run_id)
    assert expected in captured.err and captured.err.count("\n") == 1 and captured.out == ""
    assert contents(results) == before


@pytest.mark.parametrize("place", [1, 3])
def test_results_folder_may_be_named_before_the_action_or_after_it(mb, pair, results, place):
    arguments = ["runs", "note", pair[0].run_id, NOTE]
    assert mb(*arguments[:place], "--results-dir", results, *arguments[place:]) == 0
    assert pair[0].manifest["note"] == NOTE
