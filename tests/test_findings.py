"""What stands out about a run, one case at a time; nothing does about a good one."""

import json

import numpy as np
import pandas as pd
import pytest

from mbutils.evaluation import Outcome, findings, outcome
from mbutils.report import tables

NAMES = ("daisy", "roses", "tulips")
DATA = {"n_validation": 300, "n_test": 700, "n_duplicated": 0, "n_excluded": 0, "contradicting_identities": []}
GOOD = {"train": Outcome(1980, 2000, 700, []), "validation": Outcome(264, 300, 105, [])}


def history(*losses):
    return pd.DataFrame({"epoch": range(1, len(losses) + 1), "validation_loss": losses})


def texts(data=DATA, losses=(1.0, 0.6, 0.5, 0.55), parts=GOOD, tests=()):
    return [str(finding) for finding in findings.find(data, history(*losses), parts, dict(tests))]


def scores_of(predicted):
    return np.eye(3, dtype=np.float32)[predicted]


@pytest.mark.parametrize("tests", [(), {"float32": Outcome(620, 700, 240, []), "int8": Outcome(615, 700, 240, [])}])
def test_nothing_stands_out_about_a_good_model(tests):
    assert texts(tests=tests) == []
    assert "Nothing stands out." in tables.findings([]).to_html()


def test_an_outcome_counts_what_is_right_and_names_the_classes_that_never_are():
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2])
    expected = Outcome(correct=4, total=9, largest_class=4, missed=["roses"])  # two tulips are too few to tell
    result = outcome(labels, scores_of([0, 0, 0, 0, 2, 0, 0, 0, 1]), NAMES)
    assert result == expected
    assert Outcome(**json.loads(json.dumps(vars(result)))) == expected


@pytest.mark.parametrize(
    ("correct", "total", "largest", "stands_out"),
    [
        (14, 36, 12, True),
        (20, 36, 12, False),
        (96, 100, 95, True),  # no better than always naming a class that is frequent
        (45, 100, 20, False),
        (0, 10, 5, True),
        (3, 10, 10, False),
        (3, 4, 2, True),  # of so few, chance gets as many right
    ],
)
def test_accuracy_near_chance_is_told_by_an_exact_test(correct, total, largest, stands_out):
    found = findings.of_predictions("test", {"float32": Outcome(correct, total, largest, [])})
    assert bool(found) == stands_out
    if found:
        assert f"{correct} of {total} test images are right in float32 ({correct / total:.1%})" in found[0].text
        assert f"always naming the largest class gets {largest / total:.1%}" in found[0].text


def test_int8_at_chance_is_told_only_where_float32_is_not():
    good, poor = Outcome(80, 100, 30, []), Outcome(30, 100, 30, [])
    (found,) = findings.of_predictions("test", {"float32": good, "int8_per_tensor": poor})
    assert "in int8_per_tensor" in found.text and "calibration_images" in found.way_out
    (found,) = findings.of_predictions("test", {"float32": poor, "int8_per_tensor": poor})
    assert "in float32" in found.text and "train longer" in found.way_out


def test_validation_is_judged_until_the_test_images_are_scored():
    parts = {**GOOD, "train": Outcome(80, 200, 70, []), "validation": Outcome(110, 300, 105, [])}
    (found,) = texts(parts=parts)
    assert "110 of 300 validation images are right (36.7%)" in found
    assert texts(parts=parts, tests={"float32": Outcome(600, 700, 240, [])}) == []


@pytest.mark.parametrize(
    ("train", "validation", "stands_out"),
    [
        ((1980, 2000), (210, 300), True),
        ((1980, 2000), (258, 300), False),  # as after a usual fine-tuning
        ((84, 84), (5, 12), True),
        ((84, 84), (10, 12), False),  # too few validation images to tell
        ((1600, 2000), (280, 300), False),
    ],
)
def test_training_far_above_validation_is_told_beyond_its_interval(train, validation, stands_out):
    parts = {"train": Outcome(*train, 10, []), "validation": Outcome(*validation, 3, [])}
    found = [text for text in texts(parts=parts) if "training images better than others" in text]
    assert bool(found) == stands_out
    if found:
        assert f"{train[0] / train[1]:.1%}" in found[0] and f"{validation[0] / validation[1]:.1%}" in found[0]


@pytest.mark.parametrize(
    ("losses", "stands_out"),
    [
        ((1.0, 0.5, 0.8), True),
        ((1.1, 1.4, 2.2), True),
        ((1.0, 0.5, 0.55), False),
        ((0.2, 0.05, 0.09), False),  # a small loss that doubles says nothing
        ((0.7,), False),
    ],
)
def test_rising_loss_is_told_with_its_minimum_and_its_end(losses, stands_out):
    found = texts(losses=losses)
    assert bool(found) == stands_out
    if found:
        epoch = 1 + int(np.argmin(losses))
        assert f"rose from {min(losses):.2f} in epoch {epoch} to {losses[-1]:.2f}" in found[0]


def test_rising_loss_of_few_images_says_nothing():
    found = texts({**DATA, "n_validation": 12}, losses=(1.0, 0.5, 0.8))
    assert not any("rose" in text for text in found)


@pytest.mark.parametrize(
    ("part", "correct", "total", "interval"),
    [("validation", 9, 12, "95 % interval of 75.0% is 46.8% to 91.1%"), ("validation", 45, 50, "")],
)
def test_few_images_are_told_with_their_interval(part, correct, total, interval):
    data, parts = {**DATA, f"n_{part}": total}, {**GOOD, part: Outcome(correct, total, 5, [])}
    found = texts(data, parts=parts)
    assert bool(found) == bool(interval)
    if found:
        assert f"only {total} {part} images" in found[0] and interval in found[0]
        assert "choice of the answer in the report rests on them" in found[0] and f"raise {part}_fraction" in found[0]


@pytest.mark.parametrize(
    ("tests", "interval"),
    [({}, "of 87.5% is 69.0% to 95.7%"), ({"float32": Outcome(12, 24, 8, [])}, "of 50.0% is 31.4% to 68.6%")],
)
def test_few_test_images_are_told_before_and_after_they_are_scored(tests, interval):
    (found,) = [text for text in texts({**DATA, "n_test": 24}, tests=tests) if "only 24 test images" in text]
    assert interval in found and "test_fraction" in found


def test_classes_that_are_never_right_are_named_up_to_five():
    (found,) = findings.of_predictions("test", {"float32": Outcome(80, 100, 20, ["daisy", "roses"])})
    assert found.text == "No test image of daisy, roses is right in float32."
    (found,) = findings.of_predictions("test", {"": Outcome(80, 100, 20, list("abcdefg"))})
    assert found.text == "No test image of a, b, c, d, e and 2 more is right."


def test_copies_and_contradicting_labels_are_counted():
    found = texts({**DATA, "n_duplicated": 6, "n_excluded": 2, "contradicting_identities": ["a", "b"]})
    assert found[0].startswith("Images that have a copy with another label: 2. Correct the labels")
    assert found[1].startswith("Images that are copies of others: 6. Left out, so that no image is in two parts: 2.")


def test_a_table_has_what_stands_out_and_what_to_do_and_escapes_class_names():
    found = findings.of_predictions("test", {"": Outcome(80, 100, 20, ["<b>"])})
    html = tables.findings(found).to_html()
    assert "what to do" in html and "&lt;b&gt;" in html and "class_weight" in html
    assert "two_runs" in tables.findings_by_run({found[0]: ["one_run", "two_runs"]}).to_html()
