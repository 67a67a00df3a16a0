import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mbutils.config import FITS, INTERPOLATIONS, PADDING, Preprocessing, TrainParameters, normalize, suited
from mbutils.data import cache, pipeline, preprocessing
from mbutils.data.dataset import Dataset
from mbutils.data.photographs import prepared
from mbutils.errors import WorkbookError


def encoded(pixels, **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, **{"format": "PNG", **options})
    return buffer.getvalue()


@pytest.fixture
def photograph():
    return np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("image_size", [33, 48, 128])
@pytest.mark.parametrize(("color_mode", "channels"), [("rgb", 3), ("gray", 1)])
def test_preprocessing_gives_the_shape_of_the_contract(photograph, interpolation, image_size, color_mode, channels):
    image = prepared(encoded(photograph), Preprocessing(image_size, color_mode, interpolation))
    assert image.shape == (image_size, image_size, channels)
    assert image.dtype == np.uint8


def test_area_is_the_mean_of_the_covered_pixels(photograph):
    image = prepared(encoded(photograph[:, :60]), Preprocessing(30, "rgb", "area"))
    means = photograph[:, :60].reshape(30, 2, 30, 2, 3).mean(axis=(1, 3))
    assert np.abs(image - means).max() <= 0.5


def test_bilinear_reads_two_by_two_pixels_and_more_with_antialiasing(photograph):
    # At a quarter of the size, the 2x2 pixels in the middle of each 4x4 block.
    square = photograph[:, :60]
    plain = prepared(encoded(square), Preprocessing(15, "rgb", "bilinear"))
    middle = square.reshape(15, 4, 15, 4, 3)[:, 1:3, :, 1:3].mean(axis=(1, 3))
    smooth = prepared(encoded(square), Preprocessing(15, "rgb", "bilinear_antialias"))
    assert np.abs(plain - middle).max() <= 0.5
    assert smooth.std() < 0.8 * plain.std()


@pytest.mark.parametrize(
    ("height", "width", "rows", "columns"),
    [
        (60, 90, slice(0, 60), slice(15, 75)),
        (90, 60, slice(15, 75), slice(0, 60)),
        (60, 61, slice(0, 60), slice(0, 60)),  # what cannot be halved stays out on the right
        (63, 60, slice(1, 61), slice(0, 60)),  # and at the bottom
        (60, 60, slice(0, 60), slice(0, 60)),
    ],
)
def test_crop_is_the_largest_square_in_the_middle(height, width, rows, columns):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image = prepared(encoded(pixels), Preprocessing(60, "rgb", "nearest", "crop"))
    assert np.array_equal(image, pixels[rows, columns])


@pytest.mark.parametrize(
    ("height", "width", "rows", "columns"),
    [
        (20, 40, slice(10, 30), slice(0, 40)),
        (40, 20, slice(0, 40), slice(10, 30)),
        (39, 40, slice(0, 39), slice(0, 40)),  # a single row is added at the bottom
        (40, 37, slice(0, 40), slice(1, 38)),
        (30, 80, slice(12, 27), slice(0, 40)),
        (31, 80, slice(12, 28), slice(0, 40)),  # 15.5 rows are rounded up
        (1, 200, slice(19, 20), slice(0, 40)),  # a line stays a line
        (40, 40, slice(0, 40), slice(0, 40)),
    ],
)
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_pad_is_the_whole_image_in_the_middle_of_black(height, width, rows, columns, interpolation):
    pixels = np.full((height, width, 3), 200, np.uint8)
    image = prepared(encoded(pixels), Preprocessing(40, "rgb", interpolation, "pad"))
    expected = np.full((40, 40, 3), PADDING, np.uint8)
    expected[rows, columns] = 200
    assert np.array_equal(image, expected)


def test_pad_loses_no_pixel_that_needs_no_resizing(photograph):
    image = prepared(encoded(photograph), Preprocessing(90, "rgb", "nearest", "pad"))
    assert np.array_equal(image[15:75], photograph)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_square_images_are_the_same_under_every_fit(photograph, interpolation):
    square = encoded(photograph[:, :60])
    stretched, *others = (prepared(square, Preprocessing(33, "rgb", interpolation, f)) for f in FITS)
    assert all(np.array_equal(stretched, other) for other in others)


def test_gray_is_itu_r_601_luma(photograph):
    image = prepared(encoded(photograph[:60, :60]), Preprocessing(60, "gray", "nearest"))
    luma = photograph[:60, :60] @ np.array([0.299, 0.587, 0.114])
    assert np.abs(image[..., 0] - luma).max() <= 1


def test_cache_holds_every_image_preprocessed_and_is_reused(digits):
    contract = Preprocessing(40, "gray", "bilinear")
    images = preprocessing.cached_images(digits, contract)
    assert images.shape == (1797, 40, 40, 1)
    some = np.array([0, 300, 1796])
    for position, data in zip(some, digits.encoded(some), strict=True):
        assert np.array_equal(images[position], prepared(data, contract))
    path = preprocessing.cache_path(digits, contract)
    built = path.stat().st_ino
    preprocessing.cached_images(digits, contract)
    assert path.stat().st_ino == built


def test_each_fit_has_a_cache_of_its_own_named_after_it_unless_it_stretches(digits, tmp_path, monkeypatch):
    monkeypatch.setenv("MB_CACHE_DIR", str(tmp_path))
    paths = [preprocessing.cache_path(digits, Preprocessing(40, "gray", "bilinear_antialias", fit)) for fit in FITS]
    beginnings = [path.name.rsplit("_", 1)[0].removeprefix("digits_40_gray_bilinear_antialias") for path in paths]
    assert beginnings == ["", "_crop", "_pad"]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert [entry.kind for entry in cache.entries()] == ["images"] * len(FITS)


def made_dataset(*images):
    examples = pd.DataFrame({"identity": [str(hash(i)) for i in images], "label": 0, "part": "train"})
    return Dataset("made", ("rose",), examples, lambda: iter(images))


@pytest.mark.parametrize(
    "damage", [lambda data: b"", lambda data: data[: len(data) // 2], lambda data: b"not an image"]
)
def test_corrupt_image_is_named_and_leaves_no_cache(photograph, damage, tmp_path, monkeypatch):
    monkeypatch.setenv("MB_CACHE_DIR", str(tmp_path))
    good = encoded(photograph)
    with pytest.raises(WorkbookError, match=r"made: image 1 of class rose .* is unreadable .*: remove or replace it"):
        preprocessing.cached_images(made_dataset(good, damage(good)), Preprocessing(32, "rgb", "area"))
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_cache_folder_that_cannot_be_written_is_named(photograph, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("MB_CACHE_DIR", str(tmp_path / "file"))
    with pytest.raises(WorkbookError, match=r"cannot write .* set MB_CACHE_DIR"):
        preprocessing.cached_images(made_dataset(encoded(photograph)), Preprocessing(32, "rgb", "area"))


def test_normalized_pixels_span_minus_one_to_one():
    pixels = np.array([0, 127.5, 255])
    assert normalize(pixels).tolist() == [-1, 0, 1]


def numbered_images(dataset):
    """Images of one colour, which encodes their position: its remainder by 256, and its quotient."""
    numbers = np.arange(len(dataset.examples), dtype=np.uint16)[:, None, None, None]
    colours = np.concatenate([numbers % 256, numbers // 256], axis=3).astype(np.uint8)
    return np.broadcast_to(colours, (len(numbers), 8, 8, 2)).copy()


PLAIN = {"min_crop_area": 1.0, "horizontal_flip": False, "color_jitter": 0.0, "image_size": 32, "label_smoothing": 0.0}


def epochs_of(dataset, count, lesson=None, **parameters):
    """Returns positions and targets of the images of each epoch, in the order in which they are trained on."""
    parameters = suited(TrainParameters(**{**PLAIN, **parameters}), dataset.n_train)
    batches = pipeline.training_batches(numbered_images(dataset), dataset, parameters, range(count), lesson)
    pixels, targets = zip(*batches.as_numpy_iterator(), strict=True)
    colours = np.rint((np.concatenate(pixels)[:, 0, 0] + 1) * 127.5).astype(int)
    positions = colours[:, 0] + 256 * colours[:, 1]
    return positions.reshape(count, -1), np.concatenate(targets).reshape(count, positions.size // count, -1)


def scored(scores):
    """Returns what a teacher says: these scores, and two features that are the negative of the first of them."""
    return scores, -scores[:, :, :2].astype(np.float16)


@pytest.fixture(scope="module")
def whole_batches(digits):
    n_train = len(digits.positions("train"))
    return next(size for size in range(2, n_train) if n_train % size == 0)


def test_an_epoch_gives_each_training_image_once_with_its_label_in_a_new_order(digits, whole_batches):
    positions, targets = epochs_of(digits, 2, batch_size=whole_batches)
    assert sorted(positions[0]) == sorted(positions[1]) == digits.positions("train").tolist()
    assert not np.array_equal(*positions)
    assert np.array_equal(targets.argmax(2), digits.labels[positions])
    assert (targets.max(2) == 1).all()


def test_training_continues_where_it_stopped(digits):
    parameters = suited(TrainParameters(image_size=32), digits.n_train)
    images = numbered_images(digits)
    whole = [x for x, _ in pipeline.training_batches(images, digits, parameters, range(2)).as_numpy_iterator()]
    second = [x for x, _ in pipeline.training_batches(images, digits, parameters, range(1, 2)).as_numpy_iterator()]
    assert len(whole) == 2 * len(second) == 2 * pipeline.steps_per_epoch(digits, parameters)
    assert np.array_equal(whole[len(second) :], second)


def test_label_smoothing_spreads_its_share_over_all_classes(digits):
    _, targets = epochs_of(digits, 1, label_smoothing=0.2)
    assert targets.max(2) == pytest.approx(0.82)
    assert targets.min(2) == pytest.approx(0.02)


def test_balanced_classes_weigh_the_targets_and_so_the_loss(digits, whole_batches):
    positions, targets = epochs_of(digits, 1, batch_size=whole_batches, class_weight="balanced", label_smoothing=0.1)
    weights = digits.class_weights()
    assert weights.std() > 0.01
    assert targets.sum(2) == pytest.approx(weights[digits.labels[positions]])


def test_subset_reads_only_the_images_asked_for(digits):
    images = numbered_images(digits)
    subset = pipeline.Subset(images, np.array([700, 3, 9]))
    assert len(subset) == 3
    assert np.array_equal(subset[1:3], images[[3, 9]])
    assert np.array_equal(subset[np.array([0])], images[[700]])


def test_a_teacher_gives_its_share_of_the_targets_view_by_view(digits, whole_batches):
    train = digits.positions("train")
    # View v of the image at position p scores v + p: not probabilities, but easy to tell apart.
    scores = (np.arange(2)[:, None, None] + train[None, :, None] + np.zeros(10)).astype(np.float32)
    positions, targets = epochs_of(
        digits, 3, scored(scores), batch_size=whole_batches, teacher_weight=0.5, teacher_features=0.0
    )
    labels = np.eye(10)[digits.labels[positions]]
    views = np.array([0, 1, 0])[:, None, None]
    assert targets == pytest.approx(0.5 * labels + 0.5 * (views + positions[:, :, None]))


def test_features_of_the_teacher_stand_behind_the_targets_and_no_weight_changes_them(digits, whole_batches):
    train = digits.positions("train")
    scores = np.broadcast_to(train[None, :, None], (1, len(train), 10)).astype(np.float32)
    more = {"batch_size": whole_batches, "teacher_weight": 0.0, "class_weight": "balanced"}
    positions, targets = epochs_of(digits, 1, scored(scores), **more)
    assert np.array_equal(targets[:, :, 10:], np.repeat(-positions[:, :, None], 2, axis=2))
    assert np.array_equal(targets[:, :, :10], epochs_of(digits, 1, **more)[1])


def test_a_view_of_an_image_is_the_same_whenever_it_returns(digits):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (len(digits.examples), 32, 32, 1), dtype=np.uint8)
    scores = np.tile(np.arange(len(digits.positions("train")), dtype=np.float32)[:, None], (2, 1, 10))
    parameters = suited(TrainParameters(image_size=32, batch_size=1000), digits.n_train)
    batches = pipeline.training_batches(images, digits, parameters, range(3), scored(scores)).as_numpy_iterator()
    first, other, again = ({int(y[0]): x for x, y in zip(*batch, strict=True)} for batch in batches)
    shared = sorted(set(first) & set(other) & set(again))
    assert len(shared) > 100
    assert all(np.array_equal(first[i], again[i]) for i in shared)
    assert not any(np.array_equal(first[i], other[i]) for i in shared)


def test_first_epochs_may_be_on_smaller_images(digits):
    parameters = suited(
        TrainParameters(image_size=48, early_epochs=1, early_image_size=32, batch_size=600), digits.n_train
    )
    batches = pipeline.training_batches(numbered_images(digits), digits, parameters, range(2))
    assert [x.shape[1:3] for x, _ in batches.as_numpy_iterator()] == [(32, 32)] * 2 + [(48, 48)] * 2


@pytest.mark.parametrize("scored_views", [0, 3])
def test_last_epochs_and_fine_tuning_after_them_see_whole_images(digits, scored_views):
    gradient = np.broadcast_to(np.arange(32, dtype=np.uint8)[:, None], (len(digits.examples), 32, 32))[..., None]
    lesson = scored(np.zeros((scored_views, digits.n_train, 10), np.float32)) if scored_views else None
    parameters = suited(
        TrainParameters(**{**PLAIN, "min_crop_area": 0.3}, epochs=3, late_epochs=1, batch_size=1000), digits.n_train
    )
    batches = pipeline.training_batches(gradient, digits, parameters, range(4), lesson)
    heights = [np.ptp(x, axis=(1, 2, 3)) * 127.5 for x, _ in batches.as_numpy_iterator()]
    assert [(height == pytest.approx(31)) for height in heights] == [False, False, True, True]


def test_a_teacher_scores_whole_images_apart(digits, whole_batches):
    scores = (np.arange(5)[:, None, None] + np.zeros((len(digits.positions("train")), 10))).astype(np.float32)
    _, targets = epochs_of(digits, 6, scored(scores), batch_size=whole_batches, epochs=6, late_epochs=2)
    assert targets[:, 0, 0].tolist() == [0, 1, 2, 0, 3, 4]


def test_mixup_mixes_images_and_targets_in_the_same_proportion(digits):
    # Images of one colour, brighter the higher the digit, so that the targets of a mixture predict its colour.
    images = np.broadcast_to((digits.labels * 20).astype(np.uint8)[:, None, None, None], (1797, 8, 8, 1))
    parameters = suited(TrainParameters(**PLAIN, mixup=1.0), digits.n_train)
    mixtures = 0
    for x, targets in pipeline.training_batches(images, digits, parameters, range(1)).as_numpy_iterator():
        assert (x[:, 0, 0, 0] + 1) * 127.5 == pytest.approx(targets @ (np.arange(10) * 20), abs=0.01)
        assert (targets.max(1) >= 0.499).all()
        mixtures += (targets.max(1) < 0.999).sum()
    assert mixtures > 500


def test_batches_carry_the_label_of_each_image(digits):
    images = np.zeros((1797, 1, 1, 1), np.uint8)
    labels = np.concatenate([y.numpy().argmax(1) for _, y in pipeline.ordered_batches(images, digits, "test", 100)])
    assert np.array_equal(labels, digits.labels[digits.positions("test")])


def test_calibration_images_come_from_the_training_part_alone(digits):
    part_of_image = digits.examples["part"].map({"train": 1}).fillna(0).to_numpy(np.uint8)[:, None, None, None]
    chosen = pipeline.calibration_images(part_of_image, digits, 5000, seed=0)
    assert len(chosen) == len(digits.positions("train"))
    assert (chosen == 1).all()
    assert len(pipeline.calibration_images(part_of_image, digits, 7, seed=0)) == 7
