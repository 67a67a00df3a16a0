"""Small real image files of every kind, against the pixels that the preprocessing contract promises."""

import struct

import numpy as np
import pytest
from pictures import encoded, png
from PIL import Image

from mbutils.data.decoding import MAX_PIXELS, UnreadableImage, decode

RED, GRAY = (200, 10, 30), 77


def plain(mode, color):
    return Image.new(mode, (6, 4), color)


@pytest.mark.parametrize("kind", ["PNG", "BMP"])
@pytest.mark.parametrize(("mode", "color", "rgb"), [("RGB", RED, RED), ("L", GRAY, (GRAY,) * 3), ("1", 1, (255,) * 3)])
def test_lossless_formats_give_the_exact_pixels(kind, mode, color, rgb):
    pixels = decode(encoded(plain(mode, color), kind))
    assert pixels.shape == (4, 6, 3) and pixels.dtype == np.uint8
    assert (pixels == rgb).all()


@pytest.mark.parametrize(("kind", "options"), [("JPEG", {"quality": 95}), ("WEBP", {"lossless": True})])
def test_lossy_formats_are_read(kind, options):
    assert decode(encoded(plain("RGB", RED), kind, **options))[0, 0] == pytest.approx(RED, abs=3)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
@pytest.mark.parametrize(
    ("alpha", "expected"), [(255, RED), (0, (255, 255, 255)), (51, tuple(round(0.2 * c + 0.8 * 255) for c in RED))]
)
def test_transparent_images_are_blended_with_white(kind, alpha, expected):
    image = plain("RGBA", (*RED, alpha))
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    assert decode(encoded(image, kind, **options))[0, 0] == pytest.approx(expected, abs=1)
    assert decode(encoded(plain("LA", (GRAY, alpha))))[0, 0] == pytest.approx(
        round(alpha / 255 * GRAY + (1 - alpha / 255) * 255), abs=1
    )


def test_palette_images_keep_their_transparent_colour():
    palette = plain("P", 1)
    palette.putpalette([0, 0, 0, *RED])
    assert (decode(encoded(palette)) == RED).all()
    assert (decode(encoded(palette, transparency=1)) == 255).all()


def test_cmyk_is_converted_by_the_formula_of_the_contract():
    c, m, y, k = 0, 120, 200, 50
    expected = [(255 - ink) * (255 - k) / 255 for ink in (c, m, y)]
    pixels = decode(encoded(plain("CMYK", (c, m, y, k)), "JPEG", quality=100))
    assert pixels[0, 0] == pytest.approx(expected, abs=4)


def test_16_bit_samples_keep_their_high_byte_in_gray_and_in_colour():
    samples = np.array([[0, 255, 256, 0x1234, 0xFF00, 0xFFFF]], np.uint16)
    gray = decode(encoded(Image.fromarray(samples)))
    assert gray[0, :, 0].tolist() == [0, 0, 1, 0x12, 0xFF, 0xFF]
    colour = decode(png(1, 1, 16, 2, b"\0" + struct.pack(">HHH", 0x1234, 0xABCD, 0x00FF)))
    assert colour[0, 0].tolist() == [0x12, 0xAB, 0]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "CMYK"])
@pytest.mark.parametrize(
    ("orientation", "turned"),
    [
        (1, lambda p: p),
        (2, np.fliplr),
        (3, lambda p: np.rot90(p, 2)),
        (4, np.flipud),
        (5, lambda p: p.swapaxes(0, 1)),
        (6, lambda p: np.rot90(p, -1)),
        (7, lambda p: np.rot90(p.swapaxes(0, 1), 2)),
        (8, np.rot90),
        (99, lambda p: p),
    ],
)
def test_every_exif_orientation_is_honoured_in_every_mode(mode, orientation, turned):
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (16, 24, 3), np.uint8)).convert(mode)
    kind, options = ("JPEG", {"quality": 95}) if mode == "CMYK" else ("PNG", {})
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright, rotated = (decode(encoded(image, kind, **options, **extra)) for extra in ({}, {"exif": exif}))
    assert np.array_equal(rotated, turned(upright))


def test_damaged_exif_does_not_matter_where_the_pixels_are_sound():
    data = encoded(plain("RGB", RED), "JPEG", exif=b"Exif\0\0nonsense")
    assert decode(data).shape == (4, 6, 3)


def test_gray_is_luma_of_colour_and_has_one_channel():
    pixels = decode(encoded(plain("RGB", RED)), "gray")
    assert pixels.shape == (4, 6, 1)
    assert pixels[0, 0, 0] == pytest.approx(np.dot(RED, [0.299, 0.587, 0.114]), abs=1)


def test_first_frame_of_an_animation_counts():
    frames = [plain("RGB", RED), plain("RGB", (0, 0, 255))]
    data = encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    assert (decode(data) == RED).all()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "an empty file"),
        (b"this is a text", "not a JPEG, PNG, BMP or WebP image"),
        (encoded(plain("RGB", RED), "GIF"), "not a JPEG, PNG, BMP or WebP image"),
        (encoded(plain("RGB", RED), "TIFF"), "not a JPEG, PNG, BMP or WebP image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "not a JPEG, PNG, BMP or WebP image"),
    ],
)
def test_file_that_is_not_an_image_is_refused(data, message):
    with pytest.raises(UnreadableImage, match=message):
        decode(data)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "WEBP"])
def test_truncated_images_are_refused(kind):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    data = encoded(noise, kind)
    with pytest.raises(UnreadableImage):
        decode(data[: len(data) // 2])


def test_damaged_png_is_refused():
    data = bytearray(encoded(Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))))
    data[200:260] = bytes(60)
    with pytest.raises(UnreadableImage, match="damaged"):
        decode(bytes(data))


@pytest.mark.parametrize("side", [12_000, 30_000])
def test_decompression_bomb_is_refused_by_its_header(side):
    bomb = png(side, side, 8, 0, b"")
    with pytest.raises(UnreadableImage, match="more than 128 million pixels"):
        decode(bomb)
    assert MAX_PIXELS > 12_000 * 9_000  # what phones take
