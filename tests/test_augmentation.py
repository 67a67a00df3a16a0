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


def changed(images, draws=None, image_size=None, **parameters):
    """Augments images by random numbers that are given: 0.5 changes nothing, but 0 for zoom, blur and noise."""
    changes = np.full((len(images), 18), 0.5, np.float32)
    changes[:, [4, 7, 11, 14, 15]] = 0  # no mirroring, zoom, blur or noise
    changes[:, 0] = 1  # whole images
    for column, draw in (draws or {}).items():
        changes[:, COLUMNS[column]] = draw
    parameters = PrepareParameters(**{**NO_AUGMENTATION, **parameters})
    result = augmentation.augment(tf.constant(images), tf.constant(changes), parameters, image_size or images.shape[1])
    return (result.numpy() + 1) * 127.5


COLUMNS = {"left": 3, "flip": 7, "angle": 8, "right": 9, "down": 10, "zoom": 11, "shear": 12, "blur": 14, "noise": 15}
STRONG = {
    "vertical_flip": True,
    "rotation": 180.0,
    "translation": 0.5,
    "zoom_out": 1.0,
    "shear": 0.5,
    "blur": 0.1,
    "noise": 0.5,
}


@pytest.mark.parametrize("distortion", STRONG)
def test_distortion_that_is_drawn_as_nothing_changes_nothing(photograph, distortion):
    same = changed(photograph[None], **{distortion: STRONG[distortion]})[0]
    assert np.abs(same - photograph).max() < 0.01


@pytest.mark.parametrize("distortion", STRONG)
def test_distortions_vary_keep_shape_and_range_and_are_determined_by_seed_and_view(photograph, distortion):
    change = {distortion: STRONG[distortion]}
    batch, result = augmented(photograph, **change)
    assert result.shape == batch.shape and np.abs(result).max() <= 1
    assert len({image.tobytes() for image in result}) >= 2
    assert np.array_equal(result, augmented(photograph, **change)[1])
    assert not np.array_equal(result, augmented(photograph, view=1, **change)[1])
    assert not np.array_equal(result, augmented(photograph, seed=1, **change)[1])


@pytest.mark.parametrize(
    ("draws", "parameters", "expected"),
    [
        ({"flip": 0.7}, {"vertical_flip": True}, np.flipud),
        ({"angle": 1}, {"rotation": 90.0}, np.rot90),
        ({"angle": 0}, {"rotation": 90.0}, lambda image: np.rot90(image, -1)),
        ({"angle": 1}, {"rotation": 180.0}, lambda image: image[::-1, ::-1]),
        ({"angle": 0.75}, {"rotation": 180.0}, np.rot90),
        ({"flip": 0.7, "angle": 1}, {"vertical_flip": True, "rotation": 180.0}, np.fliplr),
    ],
)
def test_rotation_and_vertical_flip_move_every_pixel_to_its_place(photograph, draws, parameters, expected):
    assert np.abs(changed(photograph[None], draws, **parameters)[0] - expected(photograph)).max() < 0.1


def test_translation_shifts_by_a_fraction_of_the_side_and_reflects_beyond_the_edge():
    columns = np.arange(41, dtype=np.uint8)
    images = np.broadcast_to(columns[None, None, :, None], (1, 41, 41, 1))
    shifted = changed(images, {"right": 1}, translation=0.25)[0, 20, :, 0]
    expected = np.concatenate([columns[10:], columns[:-11:-1]])
    assert np.abs(shifted - expected).max() < 0.01


def test_zoom_out_shows_more_around_the_middle():
    columns = np.arange(41, dtype=np.uint8) * 2
    images = np.broadcast_to(columns[None, None, :, None], (1, 41, 41, 1))
    smaller = changed(images, {"zoom": 1.0}, zoom_out=1.0)[0, 20, :, 0]
    assert np.abs(smaller[10:31] - columns[::2]).max() < 0.01


def test_shear_shifts_the_far_edge_by_a_fraction_of_the_side():
    columns = np.arange(41, dtype=np.uint8)
    images = np.broadcast_to(columns[None, None, :, None], (1, 41, 41, 1))
    sheared = changed(images, {"shear": 1.0}, shear=0.5)[0, :, 20, 0]
    assert np.abs(sheared - np.linspace(10, 30, 41)).max() < 0.01


def test_a_warped_crop_that_is_not_distorted_is_the_crop(photograph):
    small = {"min_crop_area": 0.3}
    crops = [augmented(photograph, **small, **warped)[1] for warped in ({}, {"rotation": 1e-4})]
    assert np.abs(crops[0] - crops[1]).max() < 0.01


def test_blur_spreads_a_point_as_a_gaussian_and_keeps_the_light():
    point = np.zeros((1, 61, 61, 1), np.uint8)
    point[0, 30, 30] = 255
    blurred = changed(point, {"blur": 0.5}, blur=0.1)[0, :, :, 0]
    assert blurred.sum() == pytest.approx(255, rel=0.01)
    assert np.average((np.arange(61) - 30) ** 2, weights=blurred.sum(axis=0)) == pytest.approx(3.05**2, rel=0.01)
    assert np.average((np.arange(61) - 30) ** 2, weights=blurred.sum(axis=1)) == pytest.approx(3.05**2, rel=0.01)


def test_noise_is_gaussian_and_its_own_for_each_image_in_any_batch():
    gray = np.full((16, 48, 48, 3), 128, np.uint8)
    parameters = PrepareParameters(**NO_AUGMENTATION, noise=0.1)
    changes = augmentation.draw_view(16, 1, parameters).changes
    noisy = augmentation.augment(tf.constant(gray), changes, parameters, 48).numpy() * 127.5
    strengths = changes[:, COLUMNS["noise"]].numpy() * 0.1 * 255
    assert noisy.std(axis=(1, 2, 3)) == pytest.approx(strengths, rel=0.05)
    assert np.abs(np.corrcoef(noisy.reshape(16, -1)) - np.eye(16)).max() < 0.06
    alone = augmentation.augment(tf.constant(gray[5:6]), changes[5:6], parameters, 48).numpy() * 127.5
    assert np.array_equal(alone[0], noisy[5])


def test_distortions_leave_the_other_changes_as_they_are():
    without, distorted = (augmentation.draw_view(50, 5, PrepareParameters(**change)) for change in ({}, STRONG))
    assert all(np.array_equal(one, other) for one, other in zip(without, distorted, strict=True))


@pytest.mark.parametrize("distorted", [{}, {"rotation": 30.0, "translation": 0.1, "shear": 0.2, "blur": 0.02}])
def test_the_same_view_at_another_size_shows_the_same_crop(distorted):
    gradient = np.linspace(0, 255, 64).astype(np.uint8)
    images = np.broadcast_to(gradient[:, None, None], (64, 64, 3))
    small, large = (augmented(images, image_size=size, min_crop_area=0.2, **distorted)[1] for size in (16, 64))
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
