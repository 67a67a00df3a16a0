import io

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from PIL import Image

from mbutils import pipeline
from mbutils.config import INTERPOLATIONS, PrepareParameters, Preprocessing, TrainParameters
from mbutils.datasets import Dataset
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
    image = pipeline.preprocess(encoded(photograph), Preprocessing(image_size, color_mode, interpolation))
    assert image.shape == (image_size, image_size, channels)
    assert image.dtype == np.uint8


def test_area_is_the_mean_of_the_covered_pixels(photograph):
    image = pipeline.preprocess(encoded(photograph[:, :60]), Preprocessing(30, "rgb", "area"))
    means = photograph[:, :60].reshape(30, 2, 30, 2, 3).mean(axis=(1, 3))
    assert np.abs(image - means).max() <= 0.5


def test_bilinear_takes_two_by_two_pixels_and_its_antialiased_form_more(photograph):
    # At a quarter of the size, the 2x2 pixels in the middle of each 4x4 block.
    square = photograph[:, :60]
    plain = pipeline.preprocess(encoded(square), Preprocessing(15, "rgb", "bilinear"))
    middle = square.reshape(15, 4, 15, 4, 3)[:, 1:3, :, 1:3].mean(axis=(1, 3))
    smooth = pipeline.preprocess(encoded(square), Preprocessing(15, "rgb", "bilinear_antialias"))
    assert np.abs(plain - middle).max() <= 0.5
    assert smooth.std() < 0.8 * plain.std()


def test_gray_is_itu_r_601_luma(photograph):
    image = pipeline.preprocess(encoded(photograph[:60, :60]), Preprocessing(60, "gray", "nearest"))
    luma = photograph[:60, :60] @ np.array([0.299, 0.587, 0.114])
    assert np.abs(image[..., 0] - luma).max() <= 1


def test_exif_orientation_is_honoured(photograph):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it rotated by 90 degrees clockwise
    turned = pipeline.preprocess(encoded(photograph, exif=exif), Preprocessing(60, "rgb", "nearest"))
    upright = pipeline.preprocess(encoded(np.rot90(photograph, -1).copy()), Preprocessing(60, "rgb", "nearest"))
    assert np.array_equal(turned, upright)


def test_cache_holds_every_image_preprocessed_and_is_reused(digits):
    contract = Preprocessing(40, "gray", "bilinear")
    images = pipeline.cached_images(digits, contract)
    assert images.shape == (1797, 40, 40, 1)
    some = np.array([0, 300, 1796])
    for position, data in zip(some, digits.encoded(some), strict=True):
        assert np.array_equal(images[position], pipeline.preprocess(data, contract))
    path = pipeline._cache_path(digits, contract)
    built = path.stat().st_mtime_ns
    pipeline.cached_images(digits, contract)
    assert path.stat().st_mtime_ns == built


def made_dataset(*images):
    examples = pd.DataFrame({"identity": [str(hash(i)) for i in images], "label": 0, "part": "train"})
    return Dataset("made", ("rose",), examples, lambda: iter(images))


@pytest.mark.parametrize(
    "damage", [lambda data: b"", lambda data: data[: len(data) // 2], lambda data: b"not an image"]
)
def test_corrupt_image_is_named_and_leaves_no_cache(photograph, damage, tmp_path, monkeypatch):
    monkeypatch.setenv("MB_CACHE_DIR", str(tmp_path))
    good = encoded(photograph)
    with pytest.raises(WorkbookError, match=r"made: image 1 of class rose .* is corrupt .*: remove or replace it"):
        pipeline.cached_images(made_dataset(good, damage(good)), Preprocessing(32, "rgb", "area"))
    assert list(tmp_path.iterdir()) == []


def test_cache_folder_that_cannot_be_written_is_named(photograph, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("MB_CACHE_DIR", str(tmp_path / "file"))
    with pytest.raises(WorkbookError, match=r"cannot write the image cache .* set MB_CACHE_DIR"):
        pipeline.cached_images(made_dataset(encoded(photograph)), Preprocessing(32, "rgb", "area"))


def test_normalized_pixels_span_minus_one_to_one():
    pixels = np.array([0, 127.5, 255])
    assert pipeline.normalize(pixels).tolist() == [-1, 0, 1]
    assert pipeline.normalize(tf.constant(pixels)).numpy().tolist() == [-1, 0, 1]


NO_AUGMENTATION = {"min_crop_area": 1.0, "horizontal_flip": False, "color_jitter": 0.0}


def augmented(photograph, seed=(1, 2), **parameters):
    batch = tf.constant(pipeline.normalize(np.stack([photograph] * 16)))
    return batch, pipeline.augment(batch, seed, PrepareParameters(**{**NO_AUGMENTATION, **parameters}))


def test_augmentation_that_is_switched_off_changes_nothing(photograph):
    batch, result = augmented(photograph)
    assert np.abs(result - batch).max() < 1e-4


def test_flip_mirrors_about_half_of_the_images(photograph):
    batch, result = augmented(photograph, horizontal_flip=True)
    mirrored = [np.abs(image - batch[0, :, ::-1]).max() < 1e-4 for image in result]
    same = [np.abs(image - batch[0]).max() < 1e-4 for image in result]
    assert sum(mirrored) + sum(same) == 16
    assert 2 <= sum(mirrored) <= 14


@pytest.mark.parametrize("change", [{"min_crop_area": 0.3}, {"color_jitter": 0.5}])
def test_augmentation_varies_and_keeps_shape_and_range(photograph, change):
    batch, result = augmented(photograph, **change)
    assert result.shape == batch.shape
    assert np.abs(result).max() <= 1
    assert np.abs(result[0] - result[1]).max() > 0.1


def test_augmentation_is_determined_by_its_seed(photograph):
    first, again, other = (augmented(photograph, seed, min_crop_area=0.3)[1] for seed in [(1, 2), (1, 2), (3, 4)])
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_an_epoch_gives_each_training_image_once_in_a_new_order(digits):
    images = np.arange(1797, dtype=np.uint16)[:, None, None, None]
    images = np.concatenate([images % 256, images // 256], axis=3).astype(np.uint8)
    n_train = len(digits.positions("train"))
    divisor = next(size for size in range(2, n_train) if n_train % size == 0)
    batches = pipeline.training_batches(images, digits, TrainParameters(batch_size=divisor), augmented=False)
    epochs = []
    for _ in range(2):
        pixels = np.concatenate([np.rint((x.numpy() + 1) * 127.5) for x, _ in batches]).astype(int)
        epochs.append(pixels[:, 0, 0, 0] + 256 * pixels[:, 0, 0, 1])
    assert sorted(epochs[0]) == sorted(epochs[1]) == digits.positions("train").tolist()
    assert not np.array_equal(*epochs)


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
