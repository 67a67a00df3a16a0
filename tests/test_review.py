"""What a report shows of single runs."""

import numpy as np
import pandas as pd
import pytest

from mbutils import runs
from mbutils.config import TrainParameters
from mbutils.evaluation import Outcome
from mbutils.report import labels, pictures, plots, review

LABELS = np.array([0, 1, 2, 1])
FLOAT = np.eye(10, dtype=np.float32)[[0, 1, 2, 5]]  # the last is wrong
INT8 = np.eye(10, dtype=np.float32)[[0, 7, 2, 1]]  # the second is wrong, the last is right
HISTORY = pd.DataFrame(
    {
        "epoch": [1, 2],
        "top1": [0.4, 0.6],
        "validation_loss": [1.0, 1.5],
        "validation_top1": [0.5, 0.7],
        "seconds": [1.0, 2.0],
    }
)


class Network:
    def save(self, path):
        path.write_text("weights")


@pytest.fixture
def evaluated(tmp_path, digits):
    """A results folder with two seeds of a configuration, and its results table."""
    for seed in (0, 1):
        begun = runs.begin(TrainParameters(dataset="digits", seed=seed), digits, tmp_path)
        run = runs.finish(begun, Network(), HISTORY.assign(top1=HISTORY["top1"] + seed / 10))
        runs.save_variant(run, "int8_per_channel", b"model", {})
        accuracies = pd.DataFrame(
            [(name, 0.75, 0.5, 0.9, 0.0, 1.0, 0.5, 0.8) for name in ("float32", "int8_per_channel")],
            columns=["variant", *runs.RECORDED_ACCURACY],
        )
        scores = {"float32": FLOAT, "int8_per_channel": INT8}
        runs.record_evaluation(run, accuracies, np.array(["a", "b", "c", "d"]), LABELS, scores)
        runs.save_test_images(run, np.array([0, 1, 3]), np.full((3, 8, 8, 3), seed, np.uint8))
    return tmp_path, runs.results_table(tmp_path)


def model(table):
    return labels.labelled(table[(table["seed"] == 1) & (table["variant"] == "int8_per_channel")])


def test_histories_are_those_of_every_seed(evaluated):
    folder, table = evaluated
    histories = review.histories(folder, table, model(table))
    assert histories[["seed", "epoch", "top1"]].values.tolist() == [[0, 1, 0.4], [0, 2, 0.6], [1, 1, 0.5], [1, 2, 0.7]]
    (ax,) = plots.curves(histories).axes
    assert len(ax.lines) == 4  # training and validation of two seeds


def test_what_stands_out_about_several_runs_is_said_once_with_their_ids(evaluated):
    folder, table = evaluated
    first, second = (runs.Run(folder / "runs" / run_id) for run_id in table["run_id"].unique())
    runs.record_outcomes(second, {"train": Outcome(99, 100, 12, []), "validation": Outcome(20, 100, 12, [])})
    found = {finding.text: run_ids for finding, run_ids in review.findings_by_run(folder, table).items()}
    assert found["The validation loss rose from 1.00 in epoch 1 to 1.50 at the end."] == [first.run_id, second.run_id]
    (gap,) = (run_ids for text, run_ids in found.items() if text.startswith("It knows its training images better"))
    assert gap == [second.run_id]


def test_confusion_is_that_of_the_run_and_variant(evaluated):
    folder, table = evaluated
    (matrix,) = review.confusions(folder, model(table))
    assert matrix.to_numpy()[1, 7] == 1 and matrix.to_numpy().sum() == 4


def test_images_that_int8_changed_are_shown_with_both_predictions(evaluated):
    folder, table = evaluated
    (changed,) = pictures.changed_by_int8(folder, model(table))
    assert changed.caption == "2 changed"
    assert np.array(changed.images).shape == (2, 8, 8, 3) and np.max(changed.images) == 1  # those of the seed
    assert changed.titles == ["1:\n1 \u2192 7", "1:\n5 \u2192 1"]
    (part,) = plots.picture_rows(["a model"], [changed], columns=3).subfigs
    assert part.get_suptitle() == "a model: 2 changed" and [len(ax.images) for ax in part.axes] == [1, 1, 0]


def test_errors_and_pairs_are_shown_with_the_predicted_class(evaluated):
    folder, table = evaluated
    (wrong,), (pair,) = (show(folder, model(table)) for show in (pictures.surest_errors, pictures.confused))
    assert (wrong.caption, wrong.titles) == ("1 of 4 wrong, the surest first", ["1:\n7 100%"])
    assert (pair.caption, pair.titles) == ("1 taken for 7 (1)", ["1:\n7 100%"])


def test_each_class_has_an_image_as_far_as_the_run_kept_it(evaluated):
    folder, table = evaluated
    (classes,) = pictures.one_of_each_class(folder, model(table))
    assert classes.titles == ["0:\n0 100%", "1:\n7 100%"]  # the run kept none of class 2


def test_a_run_evaluated_by_an_older_workbook_has_captions_and_no_pictures(evaluated):
    folder, table = evaluated
    run = runs.Run(folder / "runs" / model(table)["run_id"].item())
    with run.changing() as manifest:
        del manifest["artefacts"][runs.TEST_IMAGES]
    (changed,) = pictures.changed_by_int8(folder, model(table))
    assert (changed.caption, changed.images) == ("2 changed", [])
    (part,) = plots.picture_rows(["a model"], [changed]).subfigs
    assert not any(ax.images for ax in part.axes)


def test_calibration_is_that_of_float32_and_the_variant(evaluated):
    folder, table = evaluated
    (tables,) = review.calibrations(folder, model(table))
    assert {name: own["top1"].item() for name, own in tables.items()} == {"float32": 0.75, "int8_per_channel": 0.75}


def test_provenance_names_commit_machine_and_data_but_no_host(evaluated):
    import socket

    folder, table = evaluated
    rows = review.provenance(folder, table)
    assert rows["seed"].tolist() == [0, 1]
    assert (rows["git_commit"] == runs.git_commit()).all() and (rows["evaluated_by"] == runs.git_commit()).all()
    assert rows["machine"].str.contains("cores").all() and not rows["machine"].str.contains(socket.gethostname()).any()
    assert rows["data"].str.startswith("digits ").all()
    assert review.made_by(folder, table)["numpy"] == np.__version__
