import numpy as np
import pytest
import tensorflow as tf

from mbutils.config import PrepareParameters, normalize
from mbutils.data import augmentation

NO_AUGMENTATION = {"min_crop_area": 1.0, "horizontal_flip": False, "color_jitter": 0.0}


@pytest.fixture
def photograph():
    return np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)


def augmented(photograph, seed=0, view=0, image_size=48, **parameters):
    batch = np.stack([photograph] * 16)
    parameters = PrepareParameters(**{**NO_AUGMENTATION, "seed": seed, **parameters})
    changes = augmentation.draw_view(16, view, parameters).changes
    return normalize(batch), augmentation.augment(tf.constant(batch), changes, parameters, image_size).numpy()


def test_augmentation_that_is_switched_off_only_normalizes(photograph):
    batch, result = augmented(photograph)
    assert np.abs(result - batch).max() < 1e-4


def test_a_whole_view_is_not_cropped_but_otherwise_augmented(photograph):
    cropping = PrepareParameters(**{**NO_AUGMENTATION, "min_crop_area": 0.3, "color_jitter": 0.1})
    cropped, whole = (augmentation.draw_view(16, 0, cropping, whole).changes for whole in (False, True))
    batch = np.stack([photograph] * 16)
    for image in augmentation.augment(tf.constant(batch), whole, cropping, 48).numpy():
        assert np.corrcoef(image.ravel(), photograph.ravel())[0, 1] > 0.99
    assert np.array_equal(cropped[:, 1:], whole[:, 1:])


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


def test_jitter_changes_contrast_about_middle_gray_and_brightness(photograph):
    batch, result = augmented(photograph // 4 + 96, color_jitter=0.2)
    for image in result:
        slope, offset = np.polyfit(batch[0].ravel(), image.ravel(), 1)
        assert 0.8 <= slope <= 1.2 and -0.2 <= offset <= 0.2
        assert np.abs(batch[0] * slope + offset - image).max() < 1e-4


def test_augmentation_is_determined_by_seed_and_view(photograph):
    first, again = (augmented(photograph, 1, 2, min_crop_area=0.3)[1] for _ in range(2))
    assert np.array_equal(first, again)
    for other in [(1, 3), (2, 2)]:
        assert not np.array_equal(first, augmented(photograph, *other, min_crop_area=0.3)[1])


def test_the_same_view_at_another_size_shows_the_same_crop():
    gradient = np.linspace(0, 255, 64).astype(np.uint8)
    images = np.broadcast_to(gradient[:, None, None], (64, 64, 3))
    small, large = (augmented(images, image_size=size, min_crop_area=0.2)[1] for size in (16, 64))
    assert np.abs(small.mean(axis=(1, 2, 3)) - large.mean(axis=(1, 2, 3))).max() < 0.02


def test_mixup_keeps_the_larger_share_of_each_image():
    view = augmentation.draw_view(1000, 0, PrepareParameters(mixup=0.2))
    assert view.shares.numpy().min() >= 0.5 and view.shares.numpy().max() <= 1
    assert sorted(view.partners.numpy()) == list(range(1000))
    images = np.arange(3, dtype=np.float32)[:, None, None, None]
    mixed = augmentation.mix(tf.constant(images), tf.constant(images[::-1]), tf.constant([0.5, 0.75, 1.0]))
    assert mixed.numpy().ravel().tolist() == [1.0, 1.0, 2.0]


def test_draws_of_a_view_are_independent_of_each_other_and_of_the_order():
    count, parameters = 4000, PrepareParameters(mixup=1.0, seed=3)
    changes, partners, shares = (values.numpy() for values in augmentation.draw_view(count, 5, parameters))
    order = tf.random.experimental.stateless_shuffle(tf.range(count), (3, 5))  # as in `training_batches`
    draws = np.column_stack([changes, partners, shares, order, changes[partners], shares[partners]])
    correlations = np.corrcoef(draws, rowvar=False)
    assert np.abs(correlations - np.eye(len(correlations))).max() < 0.07  # 4.4 standard errors
    assert np.mean(partners == order) < 0.01


def test_mixup_leaves_crops_and_their_changes_as_they_are():
    without, with_mixup = (augmentation.draw_view(50, 5, PrepareParameters(mixup=mixup)) for mixup in (0.0, 0.5))
    assert np.array_equal(without.changes, with_mixup.changes)


def test_a_view_is_the_same_for_the_same_seed_and_number():
    first, again = (augmentation.draw_view(50, tf.constant(5), PrepareParameters(mixup=0.5, seed=3)) for _ in range(2))
    assert all(np.array_equal(one, other) for one, other in zip(first, again, strict=True))
    for seed, number in ((4, 5), (3, 6)):
        other = augmentation.draw_view(50, number, PrepareParameters(mixup=0.5, seed=seed))
        assert not any(np.array_equal(one, another) for one, another in zip(first, other, strict=True))


def test_without_mixup_each_image_keeps_to_itself():
    view = augmentation.draw_view(10, 0, PrepareParameters())
    assert (view.shares.numpy() == 1).all()
