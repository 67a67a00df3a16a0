"""Distortions of training images as of a camera that is held otherwise, further away, out of focus, or cheap.

Names and ranges are those of Keras' augmentation layers and of the augmentation of ST's model zoo, but for their units:
degrees, and fractions of the side of the image, so that a distortion looks the same at every size.
"""

import math

from mbutils.backend import tf
from mbutils.config import PrepareParameters

DRAWS = 10  # angle, shift (x and y), zoom, shear (x and y); blur; noise, and the place of its window


def moves_pixels(parameters: PrepareParameters) -> bool:
    """Returns whether images are to be rotated, shifted, zoomed out or sheared."""
    return any((parameters.rotation, parameters.translation, parameters.zoom_out, parameters.shear))


def warp(
    images: tf.Tensor, boxes: tf.Tensor, draws: list[tf.Tensor], parameters: PrepareParameters, image_size: tf.Tensor
) -> tf.Tensor:
    """Cuts boxes out like `tf.image.crop_and_resize`, but shifted, sheared, rotated and larger: resampled only once.

    Beyond the edges, images are reflected.

    Args:
        images: Any type, shape (batch, height, width, channels), height and width equal.
        boxes: Top, left, bottom and right in 0..1, shape (batch, 4). Swapped sides mirror the image.
        draws: Random numbers in [0, 1) for angle, shift (x and y), zoom and shear (x and y), each of shape (batch,).
        parameters: `rotation`, `translation`, `zoom_out` and `shear`.
        image_size: Height and width of the result in pixels.

    Returns:
        float32, shape (batch, image_size, image_size, channels).
    """
    transforms = _transforms(boxes, draws, parameters, tf.shape(images)[1], image_size)
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(images, tf.float32),
        transforms=transforms,
        output_shape=(image_size, image_size),
        fill_value=0.0,
        fill_mode="REFLECT",
        interpolation="BILINEAR",
    )


def _transforms(
    boxes: tf.Tensor, draws: list[tf.Tensor], parameters: PrepareParameters, side: tf.Tensor, image_size: tf.Tensor
) -> tf.Tensor:
    """Returns the eight numbers for each image that map pixels of the result to pixels of the image.

    A point of the result, (x, y) from -0.5 to 0.5, lies in the image at
    `center + zoom * rotation @ shear @ (size * (point + shift))`, with center and size of the box.
    """
    angle, shift_x, shift_y, _, shear_x, shear_y = (2 * draw - 1 for draw in draws)
    angle *= math.radians(parameters.rotation)
    rotation = _matrices(tf.cos(angle), -tf.sin(angle), tf.sin(angle), tf.cos(angle))
    one = tf.ones_like(angle)
    shear = _matrices(one, parameters.shear * shear_x, parameters.shear * shear_y, one)
    zoom = 1 + parameters.zoom_out * draws[3]
    top, left, bottom, right = tf.unstack(boxes, axis=1)
    center, size = tf.stack([left + right, top + bottom], 1) / 2, tf.stack([right - left, bottom - top], 1)
    matrix = zoom[:, None, None] * rotation @ shear * size[:, None]
    # The corners of images and boxes are the centers of pixels, as for `crop_and_resize`.
    last, last_of_result = tf.cast(side - 1, tf.float32), tf.cast(image_size - 1, tf.float32)
    first_point = parameters.translation * tf.stack([shift_x, shift_y], 1) - 0.5
    first = (center + tf.linalg.matvec(matrix, first_point)) * last
    rows = tf.concat([matrix * last / last_of_result, first[:, :, None]], axis=2)
    return tf.pad(tf.reshape(rows, (-1, 6)), [[0, 0], [0, 2]])  # no perspective


def _matrices(*elements: tf.Tensor) -> tf.Tensor:
    """Returns matrices of shape (batch, 2, 2) from their elements, row by row, each of shape (batch,)."""
    return tf.reshape(tf.stack(elements, axis=1), (-1, 2, 2))


def blur(images: tf.Tensor, draw: tf.Tensor, parameters: PrepareParameters) -> tf.Tensor:
    """Blurs each image with a Gaussian whose standard deviation is `draw * blur` of its side.

    Args:
        images: float32, shape (batch, side, side, channels).
        draw: Random numbers in [0, 1), shape (batch,).
        parameters: `blur`.
    """
    places = tf.range(tf.shape(images)[1], dtype=tf.float32)
    side = tf.cast(tf.shape(images)[1], tf.float32)
    deviation = tf.maximum(draw * parameters.blur * side, 1e-3)  # in pixels
    # Each row of a matrix holds the weights of all pixels of a row of the image in one pixel of the result.
    weights = tf.nn.softmax(-0.5 * ((places[:, None] - places) / deviation[:, None, None]) ** 2)
    return tf.einsum("bij,bwjc->bwic", weights, tf.einsum("bij,bjwc->biwc", weights, images))


def noise(
    shape: tf.Tensor, draw: tf.Tensor, places: tuple[tf.Tensor, tf.Tensor], parameters: PrepareParameters
) -> tf.Tensor:
    """Returns Gaussian noise for images in [-1, 1], whose standard deviation is `draw * noise` of that range.

    Each image has another window of one field of noise, like the film grain of AV1: drawing every pixel anew takes ten
    times as long.

    Args:
        shape: Height, width and channels of an image, height and width equal.
        draw: Random numbers in [0, 1), shape (batch,).
        places: Random numbers in [0, 1) that place the windows vertically and horizontally, each of shape (batch,).
        parameters: `noise` and `seed`.

    Returns:
        float32, shape (batch, *shape): the same for an image in any batch.
    """
    side = shape[0]
    field = tf.random.stateless_normal((2 * side, 2 * side, shape[2]), (parameters.seed, 0))
    starts = tf.cast(tf.stack(places, axis=1) * tf.cast(side, tf.float32), tf.int32)
    windows = tf.map_fn(
        lambda start: field[start[0] : start[0] + side, start[1] : start[1] + side],
        starts,
        fn_output_signature=tf.float32,
    )
    return windows * (2 * parameters.noise * draw)[:, None, None, None]
