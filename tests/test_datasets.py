import numpy as np
import pandas as pd
import pytest

from mbutils.config import DataParameters
from mbutils.data import datasets, editions, splits
from mbutils.errors import WorkbookError


def test_unknown_dataset_is_named_with_the_nearest():
    with pytest.raises(WorkbookError, match="unknown dataset 'tf_flower': did you mean 'tf_flowers'"):
        datasets.load(DataParameters(dataset="tf_flower"))


def test_digits_have_three_parts_of_the_expected_size(digits):
    counts = digits.counts()
    assert counts.loc["total", "total"] == 1797
    assert counts.loc["total", "test"] == pytest.approx(0.2 * 1797, rel=0.15)
    assert counts.loc["total", "validation"] == pytest.approx(0.1 * 0.8 * 1797, rel=0.2)
    assert (counts[["train", "validation", "test"]] > 0).all(axis=None)


def test_parts_do_not_share_an_image(digits):
    parts_of_identity = digits.examples.groupby("identity")["part"].nunique()
    assert (parts_of_identity == 1).all()


def test_parts_do_not_change_when_images_are_added():
    identities = [f"image {number}" for number in range(500)]
    few, many = (pd.DataFrame({"identity": identities[:n], "pixels": identities[:n]}) for n in (300, 500))
    is_test = np.zeros(500, bool)
    before = splits.assign_parts(few, is_test[:300], 0.2)
    after = splits.assign_parts(many, is_test, 0.2)
    assert before.equals(after[:300])
    assert (after == "validation").mean() == pytest.approx(0.2, abs=0.06)


def test_copies_of_a_test_image_are_excluded_and_other_copies_stay_together():
    identities = ["a", "b", "a", "c", "d", "e"]
    examples = pd.DataFrame({"identity": identities, "pixels": ["a", "b", "a", "c", "c", "c"]})
    parts = splits.assign_parts(examples, np.array([True, False, False, False, False, False]), 0.5)
    assert parts[0] == "test"
    assert parts[2] == "excluded"
    assert parts[3:].nunique() == 1


def dataset_of(identities, labels, parts):
    files = [f"{number}.jpg" for number in range(len(identities))]
    columns = {"file": files, "identity": identities, "pixels": identities, "label": labels, "part": parts}
    examples = pd.DataFrame(columns)
    return datasets.Dataset("made", ("x", "y"), examples, lambda: iter(()))


@pytest.mark.parametrize(
    ("labels", "count", "chosen"),
    [
        ([0, 0, 0, 0, 0, 1, 1, 1], 4, [0, 0, 1, 1]),  # evenly, however the images are ordered
        ([1, 0, 1, 0, 1, 0, 0], 5, [0, 0, 0, 1, 1]),
        ([0, 0, 0, 0, 0, 1], 4, [0, 0, 0, 1]),  # a small class gives what it has
        ([0, 1, 0], 16, [0, 0, 1]),  # all
        (list(range(40)), 4, [0, 10, 20, 30]),  # some of many classes, from all over them
        (list(range(17)), 16, list(range(16))),
        ([], 16, []),
    ],
)
def test_images_are_chosen_from_all_classes(labels, count, chosen):
    made = dataset_of([str(n) for n in range(len(labels) + 1)], [*labels, 99], ["train"] * len(labels) + ["test"])
    positions = made.spread("train", count)
    assert made.labels[positions].tolist() == chosen
    assert len(set(positions)) == len(positions)


def test_every_digit_is_among_the_images_chosen_to_be_shown(digits):
    positions = digits.spread("train", 16)
    assert set(digits.labels[positions]) == set(range(10))
    assert set(positions) <= set(digits.positions("train"))


def test_duplicates_are_reported_with_their_contradictions():
    made = dataset_of(["a", "a", "b", "b", "c"], [0, 1, 0, 0, 1], ["train", "train", "test", "excluded", "train"])
    rows = made.duplicates().set_index("identity")
    assert rows.loc["a", "contradicting"] and not rows.loc["b", "contradicting"]
    assert rows.loc["a", "classes"] == "x, y"
    assert rows.loc["b", "parts"] == "excluded, test"
    assert rows.loc["b", "files"] == "2.jpg, 3.jpg"
    assert "c" not in rows.index


def test_fingerprint_depends_on_the_data_but_not_on_its_order():
    made = dataset_of(["a", "b"], [0, 1], ["train", "test"])
    assert dataset_of(["b", "a"], [1, 0], ["test", "train"]).fingerprint == made.fingerprint
    assert dataset_of(["a", "b"], [1, 1], ["train", "test"]).fingerprint != made.fingerprint
    assert dataset_of(["a", "b"], [0, 1], ["train", "train"]).fingerprint != made.fingerprint


def test_encoded_images_come_in_the_order_asked_for(digits):
    import hashlib

    positions = np.array([5, 0, 1700])
    identities = [hashlib.md5(data).hexdigest() for data in digits.encoded(positions)]
    assert identities == digits.examples["identity"].iloc[positions].tolist()


def test_flowers_test_part_is_the_734_published_images(flowers):
    rows = editions.flowers_test_images()
    test = flowers.examples[flowers.examples["part"] == "test"]
    names = [flowers.class_names[label] for label in test["label"]]
    assert sorted(zip(names, test["identity"], strict=True)) == sorted(zip(rows["label"], rows["md5"], strict=True))


def test_no_flower_of_the_test_part_is_trained_on(flowers):
    examples = flowers.examples
    test = set(examples.loc[examples["part"] == "test", "identity"])
    trained_on = set(examples.loc[examples["part"].isin(["train", "validation"]), "identity"])
    assert not test & trained_on
    assert (examples["part"] == "excluded").sum() == 1
    assert flowers.counts().loc["total", "total"] == 3670


def test_flower_with_two_labels_is_reported(flowers):
    duplicates = flowers.duplicates()
    assert len(duplicates) == 3
    assert duplicates.loc[duplicates["contradicting"], "classes"].tolist() == ["roses, tulips"]


def test_classes_are_split_in_proportion_with_at_least_one_image_each():
    sizes = {0: 100, 1: 10, 2: 3}
    labels = np.repeat(list(sizes), list(sizes.values()))
    examples = pd.DataFrame({"label": labels, "pixels": [f"image {number}" for number in range(len(labels))]})
    parts = splits.split_by_class(examples, {"test": 0.2, "validation": 0.25}, seed=0)
    counts = pd.crosstab(examples["label"], parts)
    assert counts["test"].tolist() == [20, 2, 1]
    assert counts["validation"].tolist() == [20, 2, 1]
    assert counts["train"].tolist() == [60, 6, 1]


def test_split_by_class_does_not_depend_on_the_order_of_the_images():
    examples = pd.DataFrame({"label": [0, 1] * 20, "pixels": [f"image {number % 30}" for number in range(40)]})
    parts = splits.split_by_class(examples, {"test": 0.2}, seed=0)
    backwards = splits.split_by_class(examples[::-1].reset_index(drop=True), {"test": 0.2}, seed=0)
    assert parts.tolist() == backwards[::-1].tolist()


def test_class_weights_make_classes_count_equally_and_average_to_one():
    made = dataset_of(list("abcdefg"), [0, 0, 0, 0, 0, 1, 1], ["train"] * 6 + ["test"])
    weights = made.class_weights()
    assert weights.tolist() == pytest.approx([6 / (2 * 5), 6 / (2 * 1)])
    assert weights[made.labels[made.positions("train")]].mean() == pytest.approx(1)
