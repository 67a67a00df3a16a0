"""Random changes of training images, whole batches at a time: crops, mirroring, distortions, light, MixUp.

The seed and the number of a view determine it, so that a teacher can score the views that its student will see. Crops,
distortions, shares and partners are independent: each is drawn from a stream of its own.
"""

from typing import NamedTuple

import numpy as np

from mbutils.backend import tf
from mbutils.config import HALF_RANGE, PrepareParameters
from mbutils.data import distortion

_ASPECT_RATIOS = (3 / 4, 4 / 3)
_CHANGES = 7  # crop area, aspect ratio, top and left; mirroring left to right; contrast; brightness
_DISTORTIONS = 1 + distortion.DRAWS  # mirroring top to bottom; distortions
_IS_CROP_AREA = np.arange(_CHANGES) == 0
# Streams of random numbers; the first changes are drawn from that of the seed and the number of the view itself.
_SHARES, _PARTNERS, _DISTORTED = 1, 2, 3


class View(NamedTuple):
    """The random changes of n training images in one view of them.

    Attributes:
        changes: Random numbers for crop, mirroring, contrast, brightness and distortions: uniform in [0, 1), shape
            (n, 18).
        partners: The image that each image is mixed with, 0..n-1: int32, shape (n,).
        shares: The share of each image in its mixture, 0.5..1: float32, shape (n,).
    """

    changes: tf.Tensor
    partners: tf.Tensor
    shares: tf.Tensor


def draw_view(
    count: int, number: int | tf.Tensor, parameters: PrepareParameters, whole: bool | tf.Tensor = False
) -> View:
    """Draws a view of `count` images: always the same for the same number and seed.

    Args:
        count: The number of images.
        number: The number of the view.
        parameters: The seed and MixUp.
        whole: Leave the images whole instead of cropping them.
    """
    seed, stream = (parameters.seed, number), tf.random.experimental.stateless_fold_in
    crops = tf.random.stateless_uniform([count, _CHANGES], seed)
    crops = tf.where(whole & _IS_CROP_AREA, 1.0, crops)  # 1 draws the largest area: the whole image
    distortions = tf.random.stateless_uniform([count, _DISTORTIONS], stream(seed, _DISTORTED))
    changes = tf.concat([crops, distortions], axis=1)
    if not parameters.mixup:
        return View(changes, tf.range(count), tf.ones(count))
    gamma = tf.random.stateless_gamma([2, count], stream(seed, _SHARES), parameters.mixup)
    share = gamma[0] / (gamma[0] + gamma[1])  # Beta(mixup, mixup)
    partners = tf.random.experimental.stateless_shuffle(tf.range(count), stream(seed, _PARTNERS))
    return View(changes, partners, tf.maximum(share, 1 - share))


def augment(images: tf.Tensor, changes: tf.Tensor, parameters: PrepareParameters, image_size: tf.Tensor) -> tf.Tensor:
    """Normalizes and augments a batch: random resized crop, mirroring, distortions, brightness and contrast.

    Args:
        images: uint8, shape (batch, height, width, channels).
        changes: The rows of `View.changes` of these images, shape (batch, 18).
        parameters: The augmentation.
        image_size: Height and width of the result in pixels.

    Returns:
        Normalized images: float32 in [-1, 1], shape (batch, image_size, image_size, channels).
    """
    draws = tf.unstack(changes, axis=1)
    *crop, left_right, contrast, brightness = draws[:_CHANGES]
    top_bottom, *placing, blurring, graininess, down, right = draws[_CHANGES:]
    boxes = _crop_boxes(crop, parameters.min_crop_area)
    # A box with left and right, or top and bottom, swapped is a mirrored crop.
    if parameters.horizontal_flip:
        boxes = tf.where(left_right[:, None] < 0.5, boxes, tf.gather(boxes, [0, 3, 2, 1], axis=1))
    if parameters.vertical_flip:
        boxes = tf.where(top_bottom[:, None] < 0.5, boxes, tf.gather(boxes, [2, 1, 0, 3], axis=1))
    if distortion.moves_pixels(parameters):
        shown = distortion.warp(images, boxes, placing, parameters, image_size)
    else:
        shown = tf.image.crop_and_resize(images, boxes, tf.range(tf.shape(images)[0]), (image_size, image_size))
    if parameters.blur:
        shown = distortion.blur(shown, blurring, parameters)
    jitter = parameters.color_jitter
    contrast, brightness = 1 + jitter * (2 * contrast - 1), jitter * (2 * brightness - 1)
    # One multiplication and one addition normalize the pixels and change contrast and brightness.
    slope, offset = contrast / HALF_RANGE, brightness - contrast
    lit = shown * slope[:, None, None, None] + offset[:, None, None, None]
    if parameters.noise:
        lit += distortion.noise(tf.shape(shown)[1:], graininess, (down, right), parameters)
    return tf.clip_by_value(lit, -1.0, 1.0)


def _crop_boxes(draws: list[tf.Tensor], min_area: float) -> tf.Tensor:
    """Returns random boxes (top, left, bottom, right) in 0..1, shape (batch, 4), like Inception's random crops."""
    area = min_area + (1 - min_area) * draws[0]
    low, high = np.log(_ASPECT_RATIOS)
    # The larger the area, the less its shape can vary: a crop of area 1 is the whole image.
    ratio = tf.exp(tf.clip_by_value(low + (high - low) * draws[1], tf.math.log(area), -tf.math.log(area)))
    height, width = tf.sqrt(area / ratio), tf.sqrt(area * ratio)
    top, left = draws[2] * (1 - height), draws[3] * (1 - width)
    return tf.stack([top, left, top + height, left + width], axis=1)


def mix(values: tf.Tensor, others: tf.Tensor, shares: tf.Tensor) -> tf.Tensor:
    """Mixes images or targets with those of their partners: MixUp (Zhang et al. 2018, arXiv:1710.09412).

    Args:
        values: float32, shape (n, ...).
        others: The values of the partners, same shape.
        shares: The share of each image in its mixture, shape (n,).
    """
    kept = tf.reshape(shares, (-1, *[1] * (len(values.shape) - 1)))
    return values * kept + others * (1 - kept)
