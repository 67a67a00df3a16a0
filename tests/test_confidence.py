"""Which errors are shown, how far scores can be trusted, and the threshold for "unknown"."""

import numpy as np
import pytest

from mbutils.evaluation import confidence, errors
from mbutils.report import plots, tables


def scored(*rows):
    """Returns labels and scores of two classes: (true class, score of class 0)."""
    labels, first = zip(*rows, strict=True)
    first = np.array(first, np.float32)
    return np.array(labels), np.stack([first, 1 - first], axis=1)


# Confidences 0.9 right, 0.8 wrong, 0.7 right, 0.6 wrong.
FOUR = scored((0, 0.9), (1, 0.8), (1, 0.3), (0, 0.4))


def test_the_surest_error_comes_first():
    assert errors.surest_errors(*FOUR).tolist() == [1, 3]


def test_pairs_of_classes_come_with_their_images_the_most_confused_first():
    labels, scores = scored((0, 0.1), (1, 0.9), (0, 0.2), (0, 0.9))
    first, second = errors.confused_pairs(labels, scores)
    assert (first.true, first.predicted, first.positions.tolist()) == (0, 1, [0, 2])
    assert (second.true, second.predicted, second.positions.tolist()) == (1, 0, [1])


def test_a_model_without_errors_confuses_nothing():
    labels, scores = scored((0, 0.9), (1, 0.1))
    assert errors.surest_errors(labels, scores).size == 0
    assert errors.confused_pairs(labels, scores) == []


def test_calibration_counts_every_image_once_and_certainty_in_the_last_tenth():
    table = confidence.calibration(*scored((0, 1.0), (0, 0.95), (1, 0.55), (1, 0.45)))
    assert table["images"].tolist() == [2, 2]
    assert table["low"].tolist() == [0.5, 0.9]
    assert table["top1"].tolist() == [0.5, 1.0]


@pytest.mark.parametrize(
    ("rows", "error"),
    [
        ([(0, 1.0), (1, 0.0)], 0.0),  # sure and right
        ([(1, 1.0), (0, 0.0)], 1.0),  # sure and wrong
        ([(0, 0.75), (0, 0.75), (0, 0.75), (1, 0.75)], 0.0),  # right as often as sure
    ],
)
def test_calibration_error_is_the_distance_of_confidence_and_accuracy(rows, error):
    assert confidence.calibration_error(confidence.calibration(*scored(*rows))) == pytest.approx(error)


def test_coverage_grows_as_the_threshold_falls():
    table = confidence.coverage(*FOUR)
    assert table["min_confidence"].tolist() == pytest.approx([0.9, 0.8, 0.7, 0.6])
    assert table["coverage"].tolist() == [0.25, 0.5, 0.75, 1.0]
    assert table["precision"].tolist() == pytest.approx([1, 1 / 2, 2 / 3, 1 / 2])


@pytest.mark.parametrize(("precision", "expected"), [(0.5, 0.6), (0.6, 0.7), (0.9, 0.9)])
def test_the_threshold_answers_as_many_images_as_the_wished_precision_allows(precision, expected):
    chosen = confidence.threshold(precision, *FOUR)
    assert chosen.min_confidence == pytest.approx(expected)
    assert confidence.measure(chosen.min_confidence, *FOUR) == chosen and chosen.precision >= precision


def test_no_threshold_makes_a_model_right_that_is_wrong_when_it_is_surest():
    assert confidence.threshold(0.99, *scored((1, 0.9), (0, 0.6))) is None


def test_a_threshold_that_answers_no_image_has_no_precision():
    measured = confidence.measure(0.95, *FOUR)
    assert measured.coverage == 0 and np.isnan(measured.precision)


@pytest.mark.parametrize(
    ("chosen", "words"),
    [(confidence.Threshold(0.7, 0.75, 2 / 3), ["0.7", "75.0%", "66.67%"]), (None, ["no confidence is enough"])],
)
def test_table_of_the_threshold_has_validation_and_test(chosen, words):
    html = tables.unknown("int8_per_channel", 0.6, chosen, *FOUR).to_html()
    assert all(word in html for word in words)


def test_a_report_shows_errors_pairs_changes_and_every_class():
    labels, scores = scored((0, 0.9), (0, 0.9), (1, 0.2), (1, 0.9), (1, 0.1))
    int8 = scores.copy()
    int8[1] = int8[1, ::-1]  # now wrong
    shown = errors.shown_in_report(labels, {"float32": scores, "int8_per_channel": int8})
    assert shown.tolist() == [0, 1, 2, 3]  # a class, changed, the other class, wrong


def test_pictures_of_confidence_show_each_variant_and_part():
    figure = plots.reliability({"float32": confidence.calibration(*FOUR)})
    assert "float32, off by" in figure.axes[0].get_legend().get_texts()[1].get_text()
    ax = plots.coverage({"validation": confidence.coverage(*FOUR)}, 0.9, confidence.Threshold(0.9, 0.25, 1.0))
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["validation", "wished: 90%", "chosen"]
