import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mbutils.config import FITS, INTERPOLATIONS, Preprocessing
from mbutils.data.dataset import Dataset
from mbutils.evaluation import preprocessing_mistakes

RGB, GRAY = Preprocessing(8, "rgb", "area"), Preprocessing(8, "gray", "nearest")
COLORS = ((230, 20, 20), (20, 20, 230))


def encoded(image):
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def dataset_of(images):
    """Ten images of each class, `images` being one of each: all but the last two are test images."""
    labels = [0, 1] * 10
    data = [encoded(images[label]) for label in labels]
    examples = pd.DataFrame({"identity": map(str, range(20)), "label": labels, "part": ["test"] * 18 + ["train"] * 2})
    return Dataset("made", ("red", "blue"), examples, lambda: iter(data))


@pytest.fixture
def reds_and_blues():
    return dataset_of([Image.new("RGB", (20, 16), color) for color in COLORS])


class RedAgainstBlue:
    """Classifies as red what is more red than blue, and counts the images it saw."""

    def __init__(self):
        self.seen = 0

    def predict_on_batch(self, images):
        self.seen += len(images)
        means = images.astype(float).mean(axis=(1, 2))
        return np.stack([means[:, 0], means[:, -1]], axis=1)


def test_table_has_what_each_mistake_costs(reds_and_blues):
    table = preprocessing_mistakes.measure(RedAgainstBlue(), reds_and_blues, RGB, 100).set_index("preprocessing")
    assert table.loc["as trained", "top1"] == 1 and pd.isna(table.loc["as trained", "drop"])
    assert table.loc["BGR instead of RGB", "top1"] == 0 and table.loc["BGR instead of RGB", "agreement"] == 0
    assert table.loc["BGR instead of RGB", "p_value"] < 0.001
    assert table.loc["nearest instead of area", "drop"] == 0  # images of one colour


@pytest.mark.parametrize(("count", "difference"), [(5, "within chance"), (6, "real")])
def test_a_difference_is_real_only_if_there_are_images_enough_to_tell_it_from_chance(reds_and_blues, count, difference):
    table = preprocessing_mistakes.measure(RedAgainstBlue(), reds_and_blues, RGB, count).set_index("preprocessing")
    # All `count` images change sides, which chance does in 2 of 2 ** count cases.
    assert table.loc["BGR instead of RGB", ["drop", "p_value", "difference"]].tolist() == [1, 2 / 2**count, difference]
    assert table.loc["nearest instead of area", "difference"] == "within chance"
    assert pd.isna(table.loc["as trained", "difference"])


def test_only_as_many_test_images_as_asked_are_scored(reds_and_blues):
    model = RedAgainstBlue()
    table = preprocessing_mistakes.measure(model, reds_and_blues, RGB, 5, batch_size=2)
    assert model.seen == 5 * len(table)


def test_another_fit_costs_what_it_shows_and_hides():
    # A square of one colour between two of the other: three times as wide as high.
    images = [Image.new("RGB", (48, 16), color) for color in reversed(COLORS)]
    for image, color in zip(images, COLORS, strict=True):
        image.paste(color, (16, 0, 32, 16))
    contract = replace(RGB, fit="crop")
    table = preprocessing_mistakes.measure(RedAgainstBlue(), dataset_of(images), contract, 100)
    top1 = table.set_index("preprocessing")["top1"]
    assert top1[["as trained", "stretch instead of crop", "pad instead of crop"]].tolist() == [1, 0, 0]


def test_every_other_interpolation_fit_and_decoder_is_tried_and_channels_only_where_there_are_some():
    colour, gray = preprocessing_mistakes.mistakes(RGB), preprocessing_mistakes.mistakes(GRAY)
    assert sum("instead of area" in name for name in colour) == len(INTERPOLATIONS) - 1
    assert sum("instead of nearest" in name for name in gray) == len(INTERPOLATIONS) - 1
    assert sum("instead of stretch" in name for name in colour) == len(FITS) - 1
    assert colour["tensorflow's JPEG decoder instead of pillow"][0] == replace(RGB, decoder="tensorflow")
    assert "BGR instead of RGB" in colour and not any("BGR" in name or "ImageNet" in name for name in gray)


@pytest.mark.parametrize(
    ("name", "pixels", "taken_for"),
    [
        ("0 to 1 instead of -1 to 1", [0, 127, 255], [128, 191, 255]),
        ("0 to 255 instead of -1 to 1", [0, 1, 255], [128, 255, 255]),
        ("uint8 bytes taken for int8", [0, 127, 128, 255], [128, 255, 0, 127]),
    ],
)
def test_wrong_scaling_is_what_an_int8_input_makes_of_it(name, pixels, taken_for):
    _, mistake = preprocessing_mistakes.mistakes(GRAY)[name]
    assert mistake(np.array(pixels, np.uint8)) == pytest.approx(np.array(taken_for), abs=1)
