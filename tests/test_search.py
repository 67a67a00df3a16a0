"""A search: what fits, successive halving within a time, and the answer. Trainings are stood in for."""

import json
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import stand_ins

from mbutils import runs
from mbutils.config import SearchParameters
from mbutils.errors import WorkbookError
from mbutils.report import plots, tables
from mbutils.search import answer, costs, halving, journal, space
from mbutils.search.halving import Halving
from mbutils.search.journal import Journal
from mbutils.sweep import records
from mbutils.sweep.plan import RUNG

SPACE = """
defaults: {dataset: digits, weights: none, epochs: 8, warmup_epochs: 0.5}
grid: {alpha: [0.25, 0.5], image_size: [32, 48, 64, 80]}
rungs: [0.25, 0.5, 1]
keep: 0.25
"""
BEST_FIRST = [7, 6, 5, 4, 3, 2, 1, 0]  # positions in the space, by the accuracy of stand_ins.history


@pytest.fixture
def written(tmp_path):
    """Writes a space, and returns the parameters of its search."""

    def write(text=SPACE, **asked):
        (tmp_path / "space.yaml").write_text(text)
        return SearchParameters(space=str(tmp_path / "space.yaml"), results_dir=str(tmp_path / "results"), **asked)

    return write


class Trainings:
    """Does the stages of a search in no time: the histories of `stand_ins`, and the seconds that the rule says."""

    def __init__(self, folder, failing=(), seconds_factor=1.0):
        self.folder, self.failing, self.factor, self.done = folder, failing, seconds_factor, []

    def perform(self, stages, seconds):
        self.seconds = seconds
        for stage in stages:
            if stage.notebook not in (RUNG, "train") or stage.is_done(self.folder):
                continue
            parameters = stage.configuration.parameters("train")
            if (parameters.alpha, parameters.image_size) in self.failing:
                continue
            stop = stage.parameters.get("stop", parameters.epochs)
            self.done.append((parameters.alpha, parameters.image_size, stage.start, stop))
            runs.record_history(self.folder, stage.group, stand_ins.history(parameters, stop))
            took = self.factor * halving.estimates.seconds(stage)
            records.write(self.folder, stage.key, records.Record("finished", seconds=took))

    def epochs(self):
        return {(alpha, size): stop for alpha, size, _, stop in self.done}


def searched(parameters, trainings, fitting=range(8), hours=10.0):
    read = space.read(parameters)
    path = trainings.folder / "searches" / "one.json"
    started = Journal(path, hours, time.monotonic())
    return Halving(read, tuple(fitting), started, trainings.folder, 2, trainings.perform)


def test_the_best_of_each_rung_go_on_and_two_are_trained_to_their_end(written, tmp_path):
    search = searched(written(), Trainings(tmp_path))
    finalists = search.finalists()
    # In the first epoch, the worst are ahead; from the second on, where models are compared, they are not.
    assert search.journal.entered == [list(range(8)), BEST_FIRST[:2], BEST_FIRST[:2]]
    assert [one.parameters("train").image_size for one in finalists] == [80, 64]


def test_a_model_that_goes_on_continues_its_training(written, tmp_path):
    trainings = Trainings(tmp_path)
    searched(written(SPACE.replace("keep: 0.25", "keep: 0.5")), trainings).finalists()
    assert [(start, stop) for alpha, size, start, stop in trainings.done if (alpha, size) == (0.5, 80)] == [
        (0, 2),
        (2, 4),
        (4, 8),
    ]
    assert sorted(trainings.epochs().values()) == [2, 2, 2, 2, 4, 4, 8, 8]


def test_only_what_fits_is_trained(written, tmp_path):
    trainings = Trainings(tmp_path)
    searched(written(), trainings, fitting=(0, 2, 5)).finalists()
    assert set(trainings.epochs()) == {(0.25, 32), (0.25, 64), (0.5, 48)}


def test_a_training_that_fails_goes_no_further(written, tmp_path):
    search = searched(written(), Trainings(tmp_path, failing={(0.5, 80)}))
    search.finalists()
    assert search.journal.entered[1] == [6, 5]


def test_when_every_training_fails_the_error_says_where_to_look(written, tmp_path):
    failing = {(alpha, size) for alpha in (0.25, 0.5) for size in (32, 48, 64, 80)}
    with pytest.raises(WorkbookError, match=r"no training reached rung 1: see mb status"):
        searched(written(), Trainings(tmp_path, failing)).finalists()


def test_models_of_equal_accuracy_are_told_apart_by_their_loss(written, tmp_path, monkeypatch):
    def equal(parameters, stop):
        found = pd.DataFrame({"epoch": range(1, stop + 1), "validation_top1": 0.5, "seconds": 1.0})
        return found.assign(validation_loss=abs(parameters.image_size - 48) + parameters.alpha)

    monkeypatch.setattr(stand_ins, "history", equal)
    search = searched(written(), Trainings(tmp_path))
    search.finalists()
    assert search.journal.entered[1] == [1, 5]


def test_a_model_goes_on_by_its_best_epoch_so_far(written, tmp_path, monkeypatch):
    def bad_in_the_last_epoch(parameters, stop):
        found = history(parameters, stop)
        if (parameters.alpha, parameters.image_size) == (0.5, 80):
            found.loc[stop - 1, ["validation_top1", "validation_loss"]] = 0.0, 9.0
        return found

    history = stand_ins.history
    monkeypatch.setattr(stand_ins, "history", bad_in_the_last_epoch)
    space = SPACE.replace("[0.25, 0.5, 1]", "[0.5, 1]").replace("keep: 0.25", "keep: 0.5")
    search = searched(written(space), Trainings(tmp_path))
    search.finalists()
    assert search.journal.entered[1] == [6, 5, 7, 4]


@pytest.mark.parametrize("killed_after", range(4))
def test_a_search_that_was_killed_goes_on_and_decides_the_same(written, tmp_path, killed_after):
    class Killed(BaseException):
        pass

    trainings, calls = Trainings(tmp_path), []

    def perform(stages, seconds):
        if len(calls) > killed_after:
            raise Killed
        calls.append(stages)
        trainings.perform(stages, seconds)

    with pytest.raises(Killed):
        replace(searched(written(), trainings), perform=perform).finalists()
    search = searched(written(), trainings)
    search.finalists()
    assert search.journal.entered == [list(range(8)), BEST_FIRST[:2], BEST_FIRST[:2]]
    assert len(trainings.done) == len(set(trainings.done)) == 8 + 2 + 2


@pytest.fixture
def no_start(monkeypatch):
    """Stages take no time to begin, so that all of it goes into epochs."""
    monkeypatch.setattr(halving.estimates, "_START_SECONDS", dict.fromkeys(halving.estimates._START_SECONDS, 1e-6))


@pytest.mark.usefixtures("no_start")
def test_with_too_little_time_for_all_epochs_all_models_are_trained_for_fewer(written, tmp_path):
    trainings = Trainings(tmp_path, seconds_factor=100)
    plenty = searched(written(), trainings)
    models = plenty.space.configurations()
    plenty.finalists()
    needed = plenty._seconds(0, BEST_FIRST, models, [100]) / 3600
    other = Trainings(tmp_path / "other", seconds_factor=100)
    search = searched(written(), other, hours=needed)
    finalists = search.finalists()
    assert 0.2 <= search.journal.share < 1
    epochs = finalists[0].parameters("train").epochs
    assert epochs == int(np.ceil(search.journal.share * 8)) and other.epochs()[0.5, 80] == epochs


def test_with_too_little_time_for_a_fifth_of_the_epochs_the_error_says_how_much_it_takes(written, tmp_path):
    with pytest.raises(WorkbookError, match=r"hours: the time is too short for 8 models: .* another [\d.]+ hours"):
        searched(written(), Trainings(tmp_path, seconds_factor=100), hours=0.01).finalists()


def test_fewer_go_on_when_trainings_turn_out_slow(written, tmp_path):
    """Two would be trained to their end, one after the other, and the time is enough for one."""
    search = replace(searched(written(), Trainings(tmp_path)), workers=1)
    models = search.space.configurations()
    search.journal.share, search.journal.entered = 1.0, [list(range(8)), BEST_FIRST[:2]]
    search.perform(search._stages(1, BEST_FIRST[:2], models), 0)
    one, two = (search._seconds(2, BEST_FIRST[:count], models, [1.0]) for count in (1, 2))
    enough_for_one = (one + two) / 2 / halving._MARGIN / 3600
    late = replace(searched(written(), Trainings(tmp_path), hours=enough_for_one), workers=1)
    late.journal.entered = search.journal.entered
    assert late._entrants(2, models) == BEST_FIRST[:1]


def test_the_last_rung_ends_early_enough_for_the_c_code_and_the_page(written, tmp_path):
    trainings = Trainings(tmp_path)
    searched(written(), trainings, hours=1.0).finalists()
    assert 0 < trainings.seconds < 3600 - 50


def test_time_in_which_a_search_was_not_running_is_not_counted(tmp_path, monkeypatch):
    now = [600.0]
    monkeypatch.setattr(journal.time, "monotonic", lambda: now[0])
    Journal(tmp_path / "one.json", 1.0, start=0.0).save()
    now[0] = 100_060.0
    assert Journal(tmp_path / "one.json", 1.0, start=100_000.0).left == 3600 - 660


@pytest.mark.parametrize("content", ["", "[]", '{"seconds": -1, "share": 1, "entered": []}', '{"seconds": 1}'])
def test_a_damaged_journal_is_named(tmp_path, content):
    (tmp_path / "one.json").write_text(content)
    with pytest.raises(WorkbookError, match=r"one.json: .*: remove it, and the search decides again"):
        Journal(tmp_path / "one.json", 1.0, start=0.0)


@pytest.mark.parametrize(
    ("asked", "is_same"),
    [({}, True), ({"out": "elsewhere"}, True), ({"ram_kib": 64.0}, False), ({"hours": 1.0}, False)],
)
def test_a_search_goes_on_only_with_the_same_limits_and_hours(written, tmp_path, asked, is_same):
    paths = []
    for parameters in (written(), written(**asked)):
        read = space.read(parameters)
        paths.append(journal.path_of(tmp_path, parameters, read, read.configurations()))
    assert (paths[0] == paths[1]) == is_same


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a space of models has the keys include, defaults, runs, grid, rungs, keep"),
        ("defaults: {dataset: digits}", "the space is empty: list models under grid or runs"),
        ("grid: {alpha: []}", "grid: alpha must be a list of values"),
        ("seeds: [0, 1]\ngrid: {alpha: [0.25]}", "unknown key 'seeds'"),
        ("grid: {alhpa: [0.25]}", "unknown parameter 'alhpa': did you mean 'alpha'?"),
        ("grid: {alpha: [0.25]}\nrungs: 3", "rungs must be a list of parts of the epochs"),
        (
            "grid: {alpha: [0.25]}\nrungs: [0.5, 0.2, 1]",
            "are not parts of the epochs that rise to 1",
        ),
        ("grid: {alpha: [0.25]}\nrungs: [2, 8, 30]", "are not parts of the epochs that rise to 1"),
        ("grid: {alpha: [0.25]}\nrungs: [0.1, 0.5]", "are not parts of the epochs that rise to 1"),
        ("grid: {alpha: [0.25]}\nrungs: [a, 1]", "are not parts of the epochs that rise to 1"),
        ("grid: {alpha: [0.25]}\nkeep: 4", "keep: 4 is not between 0 and 1"),
        ("grid: {alpha: [0.25]}\nkeep: half", "keep must be a number"),
    ],
)
def test_a_wrong_space_is_named(written, text, message):
    with pytest.raises(WorkbookError, match=rf"space.yaml: .*{message}"):
        space.read(written(text, dataset="digits")).configurations()


def test_a_space_that_is_not_there_is_named():
    with pytest.raises(WorkbookError, match=r"cannot read .*none.yaml .*: give the path of a space of models"):
        space.read(SearchParameters(space="none.yaml"))


def test_the_default_space_has_24_models_of_any_images(tmp_path):
    read = space.read(SearchParameters(dataset="digits"))
    configurations = read.configurations()
    assert len({one.run_id for one in configurations}) == 24
    assert {one.parameters("train").dataset for one in configurations} == {"digits"}
    assert read.rungs[-1] == 1 and [read.going_on(count) for count in (24, 6, 2, 1)] == [6, 2, 2, 1]


@pytest.mark.parametrize("name", ["ram_kib", "flash_kib"])
def test_a_limit_in_bytes_is_refused(name):
    with pytest.raises(WorkbookError, match=f"{name}: 65536 KiB are 64 MiB, .*: 65536 bytes are 64 KiB"):
        SearchParameters(**{name: 65536.0})


def test_limits_that_nothing_fits_say_what_the_nearest_model_needs(written):
    parameters = written(ram_kib=16.0, latency_ms=100.0)
    table = stand_ins.costs(space.read(parameters).configurations(), parameters)
    message = (
        r"none of the 8 models fits: the nearest, alpha 0.25, 32 px, rgb, needs C code: RAM 32.00 KiB, "
        r"latency on STM32H747 8.00 ms: raise the limits, or give a space of smaller models"
    )
    with pytest.raises(WorkbookError, match=message):
        costs.refuse_unfitting(table, parameters)


@pytest.fixture
def found(written, tmp_path):
    """The candidates, histories, and the rows of the results table of a search that has ended."""
    parameters = written(ram_kib=70.0)
    search = searched(parameters, Trainings(tmp_path), fitting=(0, 1, 2, 4, 5, 6))
    models = search.space.configurations()
    table = stand_ins.costs(models, parameters)
    finalists = search.finalists()
    candidates = answer.ranking(table, search, finalists[0].run_id)
    rows = table[table["run_id"].isin([one.run_id for one in finalists])][::-1]
    facts = {"top1": 0.7, "n_test": 100, "validation_top1": [0.75, 0.73]}
    rows = rows.assign(**facts)
    return candidates, answer.histories(candidates, rows, tmp_path), rows


@pytest.mark.parametrize(
    ("accuracies", "losses", "expected"),
    [((0.7, 0.7), (0.8, 0.9), "a"), ((0.7, 0.7), (0.8, 0.8), "b"), ((0.8, 0.7), (0.9, 0.1), "a")],
    ids=["loss", "cost", "accuracy"],
)
def test_the_answer_is_the_most_accurate_model_then_that_of_the_least_loss_then_the_cheapest(
    tmp_path, monkeypatch, accuracies, losses, expected
):
    last_losses = dict(zip("ab", losses, strict=True))
    table = pd.DataFrame({"run_id": ["a", "b"], "variant": "int8_per_channel", "streamed_layers": 0})
    table = table.assign(measured_ram_bytes=1, measured_flash_bytes=1)
    results = table.assign(validation_top1=accuracies, **{cost: [2.0, 1.0] for cost in answer.selection.COSTS})
    monkeypatch.setattr(answer.runs, "results_table", lambda _: results)
    monkeypatch.setattr(
        answer.runs, "history", lambda _, run_id: pd.DataFrame({"validation_loss": [0.0, last_losses[run_id]]})
    )
    found = answer.finished(table, [0, 1], tmp_path, SearchParameters())
    assert found["run_id"].iloc[0] == expected


def test_candidates_are_compared_with_the_answer_at_the_epoch_where_they_stopped(found):
    candidates, _, _ = found
    assert candidates.index.tolist() == [6, 5, 4, 2, 1, 0]
    assert candidates["epoch"].tolist() == [8, 8, 2, 2, 2, 2]
    expected = [0, 0.016, *(2 / 3 * (0.657 - top1) for top1 in (0.625, 0.532, 0.516, 0.5))]
    assert candidates["behind"].tolist() == pytest.approx(expected)


def test_models_worth_their_cost_are_those_that_none_beats_in_all(found):
    candidates, _, _ = found
    front = answer.pareto(candidates)
    assert front.index.tolist() == [0, 4, 1, 5, 2, 6]
    dominated = candidates.assign(behind=candidates["behind"].where(candidates["alpha"] == 0.5, 0.5))
    assert answer.pareto(dominated).index.tolist() == [0, 4, 5, 6]


def test_the_picture_of_halving_has_a_line_up_to_where_each_model_stopped(found):
    ax = plots.halving(found[1])
    ends = sorted(max(line.get_xdata()) for line in ax.lines if len(line.get_xdata()) > 1 and line.get_label())
    assert ends.count(8) == 2
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["1. 0.5 64 px rgb", "2. 0.5 48 px rgb"]


def test_the_answer_is_a_sentence_with_the_next_best_model(found):
    _, _, rows = found
    text = tables.search_answer(rows)
    assert text.startswith("Take **0.5 64 px rgb**, int8_per_channel: it is right on 70% of 100 test images")
    assert "The next best, 0.5 48 px rgb, int8_per_channel, is right on 73.0% of the validation images" in text
    steps = tables.search_answer(rows.assign(streamed_layers=9))
    assert "int8_per_channel, 9 layers in step: it" in steps


def test_tables_show_every_candidate(found):
    candidates, _, rows = found
    assert tables.search_text(candidates, rows).count("int8_per_channel") == 6 + 2
    assert "behind the answer" in repr(tables.worth_their_cost(answer.pareto(candidates)))


@pytest.mark.parametrize("content", ["", "epoch\n1\n", "epoch,validation_top1,validation_loss,seconds\n2,0.5,1,1\n"])
def test_a_damaged_history_counts_as_none(tmp_path, content):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / ".run.history.csv").write_text(content)
    assert runs.history(tmp_path, "run").empty


def test_searches_are_kept_as_json_that_can_be_read(written, tmp_path):
    searched(written(), Trainings(tmp_path)).finalists()
    kept = json.loads((tmp_path / "searches" / "one.json").read_text())
    assert kept["share"] == 1.0 and len(kept["entered"]) == 3
